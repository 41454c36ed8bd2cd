package view

import (
	"strings"

	"github.com/berthdev/berth/cluster/object"
)

// body prints what stands inside a block of a plan.
type body struct {
	*printer
	why   map[string]object.FieldDiff // by path
	news  map[string]bool             // paths inside blocks that are new or gone as a whole
	whole bool                        // the object is new or gone: no field needs a reason
}

var symbols = map[object.Op]string{object.OpCreate: "+", object.OpUpdate: "~", object.OpDelete: "-"}

// block prints the attributes, then the blocks inside, then what is hidden.
// indent is the column of the symbols; names begin two further right.
func (b *body) block(d *object.Difference, indent int) {
	isBlock := func(x *object.Difference) bool { return x.Form == object.FormBlock }
	width := 0
	for _, x := range d.Parts {
		if !isBlock(x) {
			width = max(width, len([]rune(b.name(x))))
		}
	}
	n := 0
	for _, x := range d.Parts {
		if !isBlock(x) {
			b.attribute(x, indent, width, "")
			n++
		}
	}
	b.unchanged(d.Hidden, "attribute", indent)
	n += d.Hidden
	for _, x := range d.Parts {
		if !isBlock(x) {
			continue
		}
		if n > 0 {
			b.line()
		}
		n++
		b.line(blanks(indent), b.symbol(symbols[x.Op]), " ", header(x), " {", b.note(x))
		b.block(x, indent+4)
		b.line(blanks(indent+2), "}")
	}
	if d.Blocks > 0 {
		if n > 0 {
			b.line()
		}
		b.unchanged(d.Blocks, "block", indent)
	}
}

func header(d *object.Difference) string {
	if d.Label != "" {
		return d.Name + " " + quote(d.Label)
	}
	return d.Name
}

func (b *body) name(d *object.Difference) string {
	if d.Form == object.FormOrder {
		return d.Name + " order"
	}
	return d.Name
}

func (b *body) unchanged(n int, noun string, indent int) {
	if n > 0 {
		b.line(blanks(indent+2), b.paint(dim, "# ("+plural(n, "unchanged "+noun)+" hidden)"))
	}
}

// attribute prints a value, map or list; end follows its last character.
func (b *body) attribute(d *object.Difference, indent, width int, end string) {
	lead := blanks(indent) + b.symbol(symbols[d.Op]) + " "
	name := lead + pad(b.name(d), width) + " = "
	switch d.Form {
	case object.FormMap:
		b.line(name, "{", b.note(d))
		inner := 0
		for _, x := range d.Parts {
			inner = max(inner, len([]rune(quote(x.Name))))
		}
		for _, x := range d.Parts {
			e := *x
			e.Name = quote(x.Name)
			b.element(&e, indent+4, inner)
		}
		b.unchanged(d.Hidden, "element", indent+4)
		b.line(blanks(indent+2), "}")
	case object.FormList:
		b.line(name, "[", b.note(d))
		b.unchanged(d.Hidden, "element", indent+4)
		for _, x := range d.Parts {
			b.line(blanks(indent+4), b.symbol(symbols[x.Op]), " ", b.change1(x), ",")
		}
		b.line(blanks(indent+2), "]")
	default:
		b.value(d, name, indent, b.note(d)+end)
	}
}

// element is a key of a map; the reason stands at the map.
func (b *body) element(d *object.Difference, indent, width int) {
	lead := blanks(indent) + b.symbol(symbols[d.Op]) + " " + pad(d.Name, width) + " = "
	b.value(d, lead, indent, "")
}

// value prints one value after its name; texts of several lines line by line.
func (b *body) value(d *object.Difference, name string, indent int, note string) {
	before, okB := d.Before.(string)
	after, okA := d.After.(string)
	if !d.Sensitive && (okB && strings.Contains(before, "\n") || okA && strings.Contains(after, "\n")) {
		b.line(name, "<<-EOT", note)
		for _, l := range lineDiff(before, after) {
			text := l.text
			switch {
			case l.op == " " && l.skip > 0:
				text = b.paint(dim, "# ("+plural(l.skip, "unchanged line")+" hidden)")
				b.line(blanks(indent+6), text)
				continue
			case l.op == " " || d.Op == object.OpCreate || d.Op == object.OpDelete:
				b.line(strings.TrimRight(blanks(indent+6)+text, " "))
				continue
			}
			b.line(strings.TrimRight(blanks(indent+4)+b.symbol(l.op)+" "+text, " "))
		}
		tail := ""
		if d.Op == object.OpDelete {
			tail = b.paint(dim, " -> null")
		}
		b.line(blanks(indent+2), "EOT", tail)
		return
	}
	b.line(name, b.change1(d), note)
}

// change1 is "a" -> "b" on one line.
func (b *body) change1(d *object.Difference) string {
	if d.Sensitive {
		return hidden
	}
	switch d.Op {
	case object.OpCreate:
		return value(d.After)
	case object.OpDelete:
		return value(d.Before) + b.paint(dim, " -> null")
	}
	return value(d.Before) + b.paint(yellow, " -> ") + value(d.After)
}

// note says why a change matters; of a map, list or block, its first field's reason.
func (b *body) note(d *object.Difference) string {
	if b.whole || (d.Form == object.FormBlock && d.Op == object.OpUpdate) {
		return ""
	}
	for _, f := range (&object.Difference{Parts: []*object.Difference{d}}).Fields() {
		w, ok := b.why[f.Path]
		switch {
		case !ok:
		case w.Replaces:
			return b.paint(red, " # forces replacement")
		case w.Why != "" && !b.inNew(d):
			return b.paint(dim, " # "+w.Why)
		}
	}
	return ""
}

// inNew reports whether the value stands in a block that is new or gone as a
// whole, where the block's own line has the reason.
func (b *body) inNew(d *object.Difference) bool {
	return d.Form != object.FormBlock && b.news[d.Path]
}

// textLine is a line of a text's diff.
type textLine struct {
	op   string // " ", "-", "+"
	text string
	skip int // this many unchanged lines are left out here
}

// lineDiff compares texts line by line (longest common subsequence), with two
// lines of context. Very long texts are shown as wholly replaced.
func lineDiff(before, after string) []textLine {
	a, c := splitLines(before), splitLines(after)
	var out []textLine
	if before == "" || after == "" || len(a)*len(c) > 4_000_000 {
		for _, l := range a {
			out = append(out, textLine{op: "-", text: l})
		}
		for _, l := range c {
			out = append(out, textLine{op: "+", text: l})
		}
		return out
	}
	common := make([][]int32, len(a)+1)
	for i := range common {
		common[i] = make([]int32, len(c)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(c) - 1; j >= 0; j-- {
			if a[i] == c[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	for i, j := 0, 0; i < len(a) || j < len(c); {
		switch {
		case i < len(a) && j < len(c) && a[i] == c[j]:
			out = append(out, textLine{op: " ", text: a[i]})
			i, j = i+1, j+1
		case j == len(c) || (i < len(a) && common[i+1][j] >= common[i][j+1]):
			out = append(out, textLine{op: "-", text: a[i]})
			i++
		default:
			out = append(out, textLine{op: "+", text: c[j]})
			j++
		}
	}
	return context(out, 2)
}

// context leaves out unchanged lines further than n from a change.
func context(lines []textLine, n int) []textLine {
	near := make([]bool, len(lines))
	for i, l := range lines {
		if l.op != " " {
			for k := max(0, i-n); k <= min(len(lines)-1, i+n); k++ {
				near[k] = true
			}
		}
	}
	var out []textLine
	for i := 0; i < len(lines); i++ {
		if near[i] {
			out = append(out, lines[i])
			continue
		}
		j := i
		for j < len(lines) && !near[j] {
			j++
		}
		if j-i == 1 {
			out = append(out, lines[i])
		} else {
			out = append(out, textLine{op: " ", skip: j - i})
		}
		i = j - 1
	}
	return out
}

func splitLines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

// newPaths lists the paths inside blocks that are new or gone as a whole.
func newPaths(d *object.Difference, inside bool, out map[string]bool) {
	for _, x := range d.Parts {
		in := inside
		if x.Form == object.FormBlock && x.Op != object.OpUpdate {
			in = true
		}
		if in && x.Form != object.FormBlock {
			out[x.Path] = true
		}
		newPaths(x, in, out)
	}
}
