package view

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/berthdev/berth/cluster/object"
)

const (
	nothingToDo = "No changes. Your infrastructure matches the configuration."
	hidden      = "(sensitive value)"
)

// Plan prints a plan for people: the field diff, changes to outputs, the
// forecast and the summary line.
func Plan(w io.Writer, plan *object.Plan, o Options) error {
	return NewDraft(plan, o).Finish(w, plan)
}

// Draft is the part of a plan's page that can be written before the masters have
// rehearsed the plan: all but the forecast and the summary.
type Draft struct {
	o    Options
	text sheaf
}

// sheaf is a text in pieces: that of ten thousand objects is seventeen megabytes,
// which are not to be copied as it grows.
type sheaf [][]byte

// Write begins a new piece when the last one is full.
func (s *sheaf) Write(b []byte) (int, error) {
	last := len(*s) - 1
	if last < 0 || len((*s)[last])+len(b) > cap((*s)[last]) {
		*s = append(*s, make([]byte, 0, max(4096, len(b))))
		last++
	}
	(*s)[last] = append((*s)[last], b...)
	return len(b), nil
}

// NewDraft writes that part.
func NewDraft(plan *object.Plan, o Options) *Draft {
	d := &Draft{o: o}
	p := &printer{Options: o, w: &d.text}
	if plan.Operation != nil {
		return d // all of it is forecast
	}
	if plan.Restore != nil {
		p.restore(plan)
		return d
	}
	if len(plan.Changes) == 0 && len(plan.OutputChanges) == 0 {
		p.line()
		p.line(p.paint("1;32", "No changes."), p.paint(bold, strings.TrimPrefix(nothingToDo, "No changes.")))
		p.line()
		p.line(wrap("Berth has compared your real infrastructure against your configuration and found no differences, so no changes are needed.", o.Width))
		return d
	}
	if len(plan.Changes) > 0 {
		p.legend(plan)
		p.line()
		p.line("Berth will perform the following actions:")
		p.changes(plan.Changes)
	}
	if len(plan.OutputChanges) > 0 {
		p.line()
		p.outputs(plan.OutputChanges)
		if len(plan.Changes) == 0 {
			p.line()
			p.line(wrap("You can apply this plan to save these new output values, without changing any real infrastructure.", o.Width))
		}
	}
	return d
}

// Finish prints the page. The plan is the one of the draft, with its forecast.
func (d *Draft) Finish(w io.Writer, plan *object.Plan) error {
	for _, piece := range d.text {
		if _, err := w.Write(piece); err != nil {
			return err
		}
	}
	rest := bufio.NewWriterSize(w, 64<<10)
	p := &printer{Options: d.o, w: rest}
	if plan.Operation != nil {
		p.operation(plan)
		p.images(plan)
	}
	p.drift(plan)
	if len(plan.Changes) > 0 {
		p.forecast(plan)
		p.images(plan)
		p.line()
		p.line(Summary(plan, d.o))
	}
	return rest.Flush()
}

// Summary is "Plan: 1 to add, 2 to change, 0 to destroy.".
func Summary(plan *object.Plan, o Options) string {
	c := Count(plan)
	imports := ""
	if c.Imported > 0 {
		imports = fmt.Sprintf("%d to import, ", c.Imported)
	}
	return fmt.Sprintf("%s %s%d to add, %d to change, %d to destroy.", o.paint(bold, "Plan:"), imports, c.Added, c.Changed, c.Destroyed)
}

// Counts are the numbers of a summary line; a replacement is an add and a destroy.
type Counts struct{ Added, Changed, Destroyed, Imported int }

// Count sums up a plan.
func Count(plan *object.Plan) Counts {
	var c Counts
	for i := range plan.Changes {
		if plan.Changes[i].Reason == object.ReasonImport {
			c.Imported++
		}
		switch symbol(&plan.Changes[i]) {
		case "+":
			c.Added++
		case "~":
			c.Changed++
		case "-":
			c.Destroyed++
		case "-/+":
			c.Added++
			c.Destroyed++
		}
	}
	return c
}

func symbol(c *object.PlannedChange) string {
	switch {
	case slices.Equal(c.Actions, []string{object.ActionNoOp}):
		return " "
	case slices.Equal(c.Actions, []string{object.ActionForget}):
		return "."
	case c.Replaces():
		return "-/+"
	case slices.Contains(c.Actions, object.ActionCreate):
		return "+"
	case slices.Contains(c.Actions, object.ActionDelete):
		return "-"
	}
	return "~"
}

func (p *printer) symbol(s string) string {
	switch s {
	case "+":
		return p.paint(green, s)
	case "-":
		return p.paint(red, s)
	case "~":
		return p.paint(yellow, s)
	case "-/+":
		return p.paint(red, "-") + "/" + p.paint(green, "+")
	}
	return s
}

func (p *printer) legend(plan *object.Plan) {
	used := map[string]bool{}
	for i := range plan.Changes {
		used[symbol(&plan.Changes[i])] = true
	}
	p.line()
	p.line(wrap("Berth used the masters' state to generate the following execution plan. Resource actions are indicated with the following symbols:", p.Width))
	for _, x := range []struct{ symbol, text string }{{"+", "create"}, {"~", "update in-place"}, {"-", "destroy"}, {"-/+", "destroy and then create replacement"}, {".", "forget"}} {
		if used[x.symbol] {
			p.line(blanks(3-len(x.symbol)), p.symbol(x.symbol), " ", x.text)
		}
	}
}

// changes prints the objects' blocks; of many, several at once. One processor is left
// to what sends the plan to the masters meanwhile.
func (p *printer) changes(list []object.PlannedChange) {
	const some = 128
	parts := make([]bytes.Buffer, (len(list)+some-1)/some)
	var next atomic.Int64
	var g sync.WaitGroup
	for range min(len(parts), max(1, runtime.GOMAXPROCS(0)-1)) {
		g.Go(func() {
			part, size := printer{Options: p.Options, verb: p.verb, source: p.source}, 0
			for i := int(next.Add(1)) - 1; i < len(parts); i = int(next.Add(1)) - 1 {
				part.w = &parts[i]
				parts[i].Grow(size + size/8)
				for j := i * some; j < min((i+1)*some, len(list)); j++ {
					part.line()
					part.change(&list[j])
				}
				size = parts[i].Len() // of the next one, more or less
			}
		})
	}
	g.Wait()
	whole, ok := p.w.(*sheaf)
	for i := range parts {
		if ok {
			*whole = append(*whole, parts[i].Bytes())
		} else {
			p.bytes(parts[i].Bytes())
		}
	}
}

// change prints one object's block.
func (p *printer) change(c *object.PlannedChange) {
	verb, style := "will be updated in-place", plain
	switch s := symbol(c); {
	case c.Reason == object.ReasonImport:
		verb = "will be imported"
	case c.Reason == object.ReasonForget:
		verb = "will no longer be managed by this stack, but will not be destroyed"
	case c.Reason == object.ReasonAdopt:
		verb = "will be adopted into the stack"
	case c.Reason == object.ReasonRelease:
		verb = "will be released from the stack; it stays"
	case s == "+":
		verb = "will be created"
	case s == "-":
		verb, style = "will be destroyed", red
	case s == "-/+":
		verb, style = "must be replaced", red
	}
	if p.verb != nil {
		verb = p.verb(symbol(c))
	}
	if c.Moved() && symbol(c) == " " {
		p.line("  # ", p.paint(bold, c.Previous), " has moved to ", p.paint(bold, c.Address))
	} else {
		p.line("  # ", p.paint(bold, c.Address), " ", p.paint(style, verb))
		if c.Moved() {
			p.line("  # (moved from ", c.Previous, ")")
		}
	}
	switch c.Reason {
	case object.ReasonForget:
		p.line("  # (destroy = false is set in the configuration)")
	case object.ReasonNoConfig:
		p.line("  # (because ", c.Address, " is not in ", cmp.Or(p.source, "configuration"), ")")
	case object.ReasonReads:
		p.line("  # (because something that its pods read changes)")
	}
	if p.whole(c) {
		return
	}
	tree := object.Compare(c.Before.Object, c.After.Object)
	if tree == nil {
		tree = &object.Difference{Form: object.FormBlock, Op: object.OpUpdate, Name: string(c.Ref.Kind), Label: c.Ref.Name, Hidden: c.Hidden}
	}
	b := body{printer: p, whole: tree.Op != object.OpUpdate}
	known := map[string]bool{}
	if !b.whole { // what is new or gone gives no reasons
		b.why, b.news = map[string]object.FieldDiff{}, map[string]bool{}
		newPaths(tree, false, b.news)
	}
	if len(c.Fields) > 0 {
		for _, f := range tree.Fields() {
			known[f.Path] = true
		}
	}
	for _, f := range c.Fields {
		if !b.whole {
			b.why[f.Path] = f
		}
		if !known[f.Path] { // found by the planner beside the configuration: what the pods read
			graft(tree, f)
		}
	}
	s := symbol(c)
	p.line(blanks(3-len(s)), p.symbol(s), " ", string(c.Ref.Kind), " ", quote(c.Ref.Name), " {")
	b.block(tree, 6)
	p.line("    }")
}

// whole prints the block of what is new or gone, as far as nothing else is said of it.
func (p *printer) whole(c *object.PlannedChange) bool {
	w, o := &p.drawing, c.After.Object
	w.symbol, w.tail = "+", ""
	switch {
	case c.Before.IsZero() == c.After.IsZero() || len(c.Fields) > 0:
		return false
	case o == nil:
		w.symbol, w.tail, o = "-", p.paint(dim, " -> null"), c.Before.Object
	}
	w.symbol = p.symbol(w.symbol)
	s := symbol(c)
	w.text = w.text[:0]
	w.add(blanks(3-len(s)), p.symbol(s), " ", string(c.Ref.Kind), " ", quote(c.Ref.Name), " {\n")
	w.object(o, 6)
	w.add("    }\n")
	p.bytes(w.text)
	return true
}

// graft adds a field to the tree, inside the block that its path begins with.
func graft(tree *object.Difference, f object.FieldDiff) {
	leaf := &object.Difference{Name: f.Path, Form: object.FormAttribute, Path: f.Path, Op: f.Op, Before: f.Before, After: f.After, Sensitive: f.Sensitive, Effect: f.Effect}
	name, rest, nested := strings.Cut(f.Path, ".")
	if !nested || strings.ContainsAny(name, "[\"") {
		tree.Parts = append(tree.Parts, leaf)
		return
	}
	leaf.Name = rest
	for _, x := range tree.Parts {
		if x.Form == object.FormBlock && x.Name == name {
			x.Parts = append(x.Parts, leaf)
			return
		}
	}
	tree.Blocks = max(0, tree.Blocks-1) // it was counted as unchanged
	tree.Parts = append(tree.Parts, &object.Difference{Name: name, Form: object.FormBlock, Path: name, Op: object.OpUpdate, Parts: []*object.Difference{leaf}})
}

func (p *printer) outputs(changes map[string]object.OutputChange) {
	p.line("Changes to Outputs:")
	width := 0
	for name := range changes {
		width = max(width, len(name))
	}
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		c := changes[name]
		before, after := value(c.Before), value(c.After)
		if c.Sensitive {
			before, after = hidden, hidden
		}
		switch {
		case slices.Contains(c.Actions, object.ActionCreate):
			p.line("  ", p.symbol("+"), " ", pad(name, width), " = ", after)
		case slices.Contains(c.Actions, object.ActionDelete):
			p.line("  ", p.symbol("-"), " ", pad(name, width), " = ", before, p.paint(dim, " -> null"))
		case c.Sensitive:
			p.line("  ", p.symbol("~"), " ", pad(name, width), " = ", hidden)
		default:
			p.line("  ", p.symbol("~"), " ", pad(name, width), " = ", before, p.paint(yellow, " -> "), after)
		}
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
