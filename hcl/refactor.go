package hcl

import (
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/berthdev/berth/cluster/object"
)

// Move says that an object has another name from now on.
type Move struct {
	From, To object.Ref
	Previous string // address of From as the block writes it
	Range    object.Range
}

// Removal says what becomes of an object that is not declared any more.
type Removal struct {
	Ref     object.Ref
	Destroy bool
	Range   object.Range
}

// Import asks for an object that is there and belongs to no stack.
type Import struct {
	Ref   object.Ref
	Range object.Range
}

// refactoring is a moved, removed or import block.
type refactoring struct {
	kind     string
	blk      *block
	from, to *target
	destroy  bool
	ns, id   *attribute
}

// target is the address of an object or module as such a block names it.
type target struct {
	at     hcl.Range
	text   string
	calls  []targetStep
	object *targetStep // nil: a whole module
	info   object.KindInfo
}

type targetStep struct {
	name   string
	at     hcl.Range
	keyed  bool
	index  string // behind an address: ["eu"], [0]
	suffix string // behind a name
}

// fixedNames are kinds whose objects cannot have another name, and why.
var fixedNames = map[object.Kind]string{
	object.KindPod:       "a pod's name is what its node and the processes in it know it by",
	object.KindNamespace: "all that is in a namespace is known by it",
	object.KindNode:      "a node's name is its machine's",
	object.KindNetwork:   "there is one network only",
}

func (r *run) readRefactoring(k *block) {
	src := k.body.src
	if len(k.labels) > 0 {
		r.wrong(src, k.head, "Superfluous name", "A %s block has no name: write %s { … }.", k.kind, k.kind)
	}
	x := &refactoring{kind: k.kind, blk: k, destroy: true}
	needed := map[string][]string{"moved": {"from", "to"}, "removed": {"from"}, "import": {"to"}}[k.kind]
	known := append([]string{}, needed...)
	switch k.kind {
	case "removed":
		known = append(known, "namespace")
	case "import":
		known = append(known, "id")
	}
	before := len(r.diags)
	for i := range k.body.attrs {
		a := &k.body.attrs[i]
		switch {
		case !slices.Contains(known, a.name):
			r.wrong(src, a.nameAt, "Unknown attribute", "A %s block has no attribute %q.%s", k.kind, a.name, hint(a.name, known, "There are: "+strings.Join(known, ", ")+"."))
		case a.name == "from":
			x.from = r.target(src, a)
		case a.name == "to":
			x.to = r.target(src, a)
		case a.name == "namespace":
			x.ns = a
		case a.name == "id":
			x.id = a
		}
	}
	for _, name := range needed {
		if k.body.attr(name) == nil {
			r.wrong(src, k.head, "Missing attribute", "The attribute %q is needed here: %s = deployment.web.", name, name)
		}
	}
	for i := range k.body.blocks {
		b := &k.body.blocks[i]
		if k.kind != "removed" || b.kind != "lifecycle" {
			r.wrong(src, b.head, "Unknown block", "A %s block has no block %q.", k.kind, b.kind)
			continue
		}
		for j := range b.body.attrs {
			if a := &b.body.attrs[j]; a.name == "destroy" {
				x.destroy = constant(r, src, a, cty.Bool, cty.Value.True)
			} else {
				r.wrong(src, a.nameAt, "Unknown attribute", "The lifecycle of what is removed has no attribute %q.%s", a.name, hint(a.name, []string{"destroy"}, "There is destroy."))
			}
		}
		for j := range b.body.blocks {
			r.wrong(src, b.body.blocks[j].head, "Unknown block", "The lifecycle of what is removed has the line destroy = … only.")
		}
	}
	if !r.diags[before:].HasErrors() {
		r.refactorings = append(r.refactorings, x)
	}
}

// target reads the address of an object: deployment.web, deployment.web["eu"],
// module.site["eu"].deployment.web, module.site.
func (r *run) target(src *source, a *attribute) *target {
	e, diags := a.expression(src)
	if diags.HasErrors() {
		r.add(diags)
		return nil
	}
	tr, diags := hcl.AbsTraversalForExpr(e)
	if diags.HasErrors() {
		r.wrong(src, a.exprAt, "Wrong address", "Name an object without quotes and calculation: %s = deployment.web, deployment.web[\"eu\"] or module.site.deployment.web.", a.name)
		return nil
	}
	t := &target{at: src.rng(a.exprAt), text: writtenTraversal(tr)}
	i := 0
	take := func() *targetStep {
		name, at, ok := step(tr, i)
		if _, attr := tr[min(i, len(tr)-1)].(hcl.TraverseAttr); !ok || !attr {
			return nil
		}
		s := &targetStep{name: name, at: at}
		i++
		if i < len(tr) {
			if x, ok := tr[i].(hcl.TraverseIndex); ok {
				i++
				s.keyed = true
				if x.Key.Type() == cty.String {
					s.index, s.suffix = "["+strconv.Quote(x.Key.AsString())+"]", "-"+x.Key.AsString()
				} else {
					n := x.Key.AsBigFloat().Text('f', -1)
					s.index, s.suffix = "["+n+"]", "-"+n
				}
			}
		}
		return s
	}
	incomplete := func() *target {
		r.wrong(src, a.exprAt, "Wrong address", "%s is not the address of an object or module: name it whole, as deployment.web, deployment.web[\"eu\"] or module.site.deployment.web.", t.text)
		return nil
	}
	for i < len(tr) {
		kind := tr.RootName()
		at := tr[0].SourceRange()
		if i > 0 {
			s, attr := tr[i].(hcl.TraverseAttr)
			if !attr {
				return incomplete()
			}
			kind, at = s.Name, s.SrcRange
		}
		i++
		if kind == "module" {
			s := take()
			if s == nil {
				return incomplete()
			}
			t.calls = append(t.calls, *s)
			continue
		}
		info, ok := object.Info(object.Kind(kind))
		if !ok || !info.Declared {
			what := hint(kind, r.roots(), "")
			if kind == "data" {
				what = " What data blocks read belongs to somebody else."
			}
			r.diags = append(r.diags, wrong(at, "Wrong address", "%q is not a kind of object.%s", kind, what))
			return nil
		}
		t.info = info
		if t.object = take(); t.object == nil || i < len(tr) {
			return incomplete()
		}
	}
	return t
}

// find is the declaration that a target names, with the run that has it; nil if
// there is none. Of a module without a key any instance serves: names do not
// depend on it.
func (r *run) find(t *target) (*run, *declaration) {
	at := r
	for _, s := range t.calls {
		c := at.calls[s.name]
		if c == nil {
			return nil, nil
		}
		var next *run
		for _, m := range c.children {
			if !s.keyed || m.prefix == c.address+s.index+"." {
				next = m
				break
			}
		}
		if at = next; at == nil {
			return nil, nil
		}
	}
	if t.object == nil {
		return at, nil
	}
	return at, at.byKind[t.info.Kind][t.object.name]
}

// absent says that a target is not declared, with what was meant perhaps.
func (r *run) absent(t *target) *hcl.Diagnostic {
	at := r
	for _, s := range t.calls {
		c := at.calls[s.name]
		if c == nil {
			return wrong(s.at, "No such module", "There is no module %q in this configuration.%s", s.name, hint(s.name, keys(at.calls), ""))
		}
		var next *run
		var have []string
		for _, m := range c.children {
			have = append(have, strings.TrimSuffix(strings.TrimPrefix(m.prefix, c.address), "."))
			if !s.keyed || have[len(have)-1] == s.index {
				next = m
			}
		}
		if next == nil {
			return wrong(s.at, "No such module", "module.%s has no instance %s.%s", s.name, s.index, hint(s.index, have, ""))
		}
		at = next
	}
	names := keys(at.byKind[t.info.Kind])
	return wrong(t.object.at, "No such object", "There is no %s %q in this configuration, and the new name has to be declared.%s", t.info.Kind, t.object.name, hint(t.object.name, names, ""))
}

// has are the instances of a declaration that a target stands for.
func (d *declaration) has(t *target) []*instance {
	var out []*instance
	for _, in := range d.instances {
		if !t.object.keyed || in.index == t.object.index {
			out = append(out, in)
		}
	}
	return out
}

// refactor resolves the blocks of a directory when all its objects are known.
func (r *run) refactor() {
	froms, tos := map[string]*refactoring{}, map[string]*refactoring{}
	for _, x := range r.refactorings {
		if x.kind == "import" {
			continue
		}
		if first := froms[x.from.text]; first != nil {
			r.diags = append(r.diags, wrong(x.from.at, "Said twice", "What becomes of %s is said already, at %s:%d. Take one of the blocks out.", x.from.text, first.blk.body.src.name, first.blk.body.src.lineOf(first.blk.head.start)))
			continue
		}
		froms[x.from.text] = x
		if x.to == nil {
			continue
		}
		if first := tos[x.to.text]; first != nil {
			r.diags = append(r.diags, wrong(x.to.at, "Said twice", "%s has %s moved to it already, at %s:%d. One object can come from one only.", x.to.text, first.from.text, first.blk.body.src.name, first.blk.body.src.lineOf(first.blk.head.start)))
			continue
		}
		tos[x.to.text] = x
	}
	for _, x := range r.refactorings {
		switch x.kind {
		case "moved":
			r.move(x, froms)
		case "removed":
			r.forget(x)
		case "import":
			r.adopt(x)
		}
	}
}

// declaredStill reports what is to be gone and is declared all the same.
func (r *run) declaredStill(x *refactoring, cure string) bool {
	at, d := r.find(x.from)
	if at == nil || d == nil && x.from.object != nil {
		return false
	}
	if x.from.object == nil { // a module
		if len(x.from.calls) == 0 {
			return false
		}
		r.diags = append(r.diags, wrong(x.from.at, "Declared still", "%s is declared still, at %s:%d. %s", x.from.text, at.from.src.name, at.from.src.lineOf(at.from.at.start), cure))
		return true
	}
	if d.failed {
		return true // told
	}
	for _, in := range d.has(x.from) {
		if d.repeated() && !x.from.object.keyed && x.to != nil && x.to.object != nil && x.to.object.keyed {
			continue // deployment.web has become deployment.web["eu"]
		}
		r.diags = append(r.diags, wrong(x.from.at, "Declared still", "%s is declared still, at %s:%d. %s", in.address, d.src.name, d.src.lineOf(d.at.start), cure))
		return true
	}
	return false
}

func (r *run) move(x *refactoring, froms map[string]*refactoring) {
	if (x.from.object == nil) != (x.to.object == nil) {
		r.diags = append(r.diags, wrong(x.to.at, "Wrong move", "%s is a %s and %s is not: both are objects, or both are modules.", x.from.text, x.from.what(), x.to.text))
		return
	}
	if x.from.object != nil {
		if x.from.info.Kind != x.to.info.Kind {
			r.diags = append(r.diags, wrong(x.to.at, "Wrong move", "%s cannot become %s: the kind of an object stays.", x.from.text, x.to.text))
			return
		}
		if why := fixedNames[x.to.info.Kind]; why != "" && x.from.object.name+x.from.object.suffix != x.to.object.name+x.to.object.suffix {
			r.diags = append(r.diags, wrong(x.from.at, "Wrong move", "A %s cannot be renamed: %s. Keep the name, or take the moved block out: the plan then ends the old one and makes the new.", x.to.info.Kind, why))
			return
		}
	}
	if r.declaredStill(x, "Rename that block to what it has moved to, or take the moved block out.") {
		return
	}
	// What has moved on since is found where it is now.
	to, steps := x.to, 0
	for {
		at, d := r.find(to)
		if at != nil && (d != nil || to.object == nil) {
			break
		}
		next := froms[to.text]
		if next == nil || next.kind != "moved" {
			if next != nil {
				return // removed since
			}
			r.diags = append(r.diags, r.absent(to))
			return
		}
		if steps++; steps > len(froms) {
			r.diags = append(r.diags, wrong(x.from.at, "Moved in a circle", "%s has moved to %s, which by other moved blocks leads back. Take one of them out.", x.from.text, x.to.text))
			return
		}
		to = next.to
	}
	if x.from.object == nil || to.object == nil {
		return // objects are not named after their modules: nothing becomes of them
	}
	_, d := r.find(to)
	if d.failed {
		return
	}
	found := d.has(to)
	if len(found) == 0 {
		var have []string
		for _, in := range d.instances {
			have = append(have, in.index)
		}
		if to.object.keyed {
			r.diags = append(r.diags, wrong(to.at, "No such object", "%s has no instance %s.%s", d.address, to.object.index, hint(to.object.index, have, "")))
		}
		return
	}
	single := x.from.object.keyed || to.object.keyed
	if single && len(found) > 1 {
		r.diags = append(r.diags, wrong(to.at, "Which one?", "%s is several objects: say which of them %s has become, %s[%s].", d.address, x.from.text, to.text, d.exampleKey()))
		return
	}
	at := rangeOf(x.blk.body.src.rng(x.blk.head))
	for _, in := range found {
		m := Move{From: in.object.Ref(), To: in.object.Ref(), Previous: r.prefix + x.from.text, Range: at}
		m.From.Name = x.from.object.name + x.from.object.suffix
		if !single {
			m.From.Name += in.suffix
			m.Previous += in.index
		}
		if m.From != m.To {
			r.moves = append(r.moves, m)
		}
	}
}

func (t *target) what() string {
	if t.object == nil {
		return "module"
	}
	return string(t.info.Kind)
}

func (r *run) forget(x *refactoring) {
	if x.from.object == nil {
		r.diags = append(r.diags, wrong(x.from.at, "Wrong address", "%s is a module; name the objects of it one by one: %s.deployment.web.", x.from.text, x.from.text))
		return
	}
	if r.declaredStill(x, "Take that block out, or this one.") {
		return
	}
	ref := object.Ref{Kind: x.from.info.Kind, Name: x.from.object.name + x.from.object.suffix}
	if x.from.info.Namespaced {
		ref.Namespace = r.namespace
	}
	if x.ns != nil {
		text, ok := r.textOf(x, x.ns)
		switch {
		case !ok:
			return
		case !x.from.info.Namespaced:
			r.wrong(x.blk.body.src, x.ns.nameAt, "No namespace here", "A %s belongs to no namespace; take the attribute out.", ref.Kind)
			return
		}
		ref.Namespace = text
	}
	r.removals = append(r.removals, Removal{Ref: ref, Destroy: x.destroy, Range: rangeOf(x.blk.body.src.rng(x.blk.head))})
}

func (r *run) adopt(x *refactoring) {
	if x.to.object == nil {
		r.diags = append(r.diags, wrong(x.to.at, "Wrong address", "%s is a module; import objects one by one: %s.deployment.web.", x.to.text, x.to.text))
		return
	}
	at, d := r.find(x.to)
	if at == nil || d == nil {
		r.diags = append(r.diags, r.absent(x.to))
		return
	}
	if d.failed {
		return
	}
	found := d.has(x.to)
	if len(found) != 1 {
		r.diags = append(r.diags, wrong(x.to.at, "Which one?", "%s is %s: import them one by one, %s[%s].", d.address, counted(len(found), "object"), x.to.text, d.exampleKey()))
		return
	}
	ref := found[0].object.Ref()
	if x.id != nil {
		text, ok := r.textOf(x, x.id)
		if !ok {
			return
		}
		if !named(ref, text) {
			r.wrong(x.blk.body.src, x.id.exprAt, "Another object", "%s is the object %s, and id names %q. An object keeps its name and namespace when it is imported: name the block as the object is named.", x.to.text, ref, text)
			return
		}
	}
	r.imports = append(r.imports, Import{Ref: ref, Range: rangeOf(x.blk.body.src.rng(x.blk.head))})
}

// named reports whether an id names an object: kind/namespace/name, or less.
func named(ref object.Ref, id string) bool {
	return id == ref.String() || id == ref.Name || ref.Namespace != "" && id == ref.Namespace+"/"+ref.Name || id == string(ref.Kind)+"/"+ref.Name
}

func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// textOf evaluates a text that may mention anything of the directory.
func (r *run) textOf(x *refactoring, a *attribute) (string, bool) {
	src := x.blk.body.src
	n := &node{address: r.prefix + x.kind, src: src}
	var ms []mention
	for _, t := range a.traversals() {
		ms = append(ms, mention{traversal: t})
	}
	r.link(n, ms, rules{})
	r.add(n.diags)
	if n.diags.HasErrors() || n.lost(r) {
		return "", false
	}
	v, diags := a.value(r.context(&n.scope))
	if r.add(diags); diags.HasErrors() {
		return "", false
	}
	v, diags = plainly(v, src.rng(a.exprAt), a.name)
	if r.add(diags); diags.HasErrors() {
		return "", false
	}
	text, err := convert.Convert(v, cty.String)
	if err != nil || text.IsNull() {
		r.wrong(src, a.exprAt, "Wrong "+a.name, "%s is a text, not %s.", a.name, describe(v))
		return "", false
	}
	return text.AsString(), text.IsKnown()
}

// refactored gathers what the blocks of a configuration and its modules say.
// Instances of a module that say the same of one object say it once.
func (r *run) refactored(c *Configuration) {
	c.Moves = append(c.Moves, r.moves...)
	c.Removals = append(c.Removals, r.removals...)
	c.Imports = append(c.Imports, r.imports...)
	for _, name := range keys(r.calls) {
		for _, m := range r.calls[name].children {
			m.refactored(c)
		}
	}
	if r.parent != nil {
		return
	}
	known := map[object.Ref]Move{}
	c.Moves = slices.DeleteFunc(c.Moves, func(m Move) bool {
		first, again := known[m.From]
		if again && first.To != m.To {
			at := hcl.Range{Filename: m.Range.File, Start: hcl.Pos{Line: m.Range.Start.Line, Column: m.Range.Start.Column, Byte: m.Range.Start.Byte},
				End: hcl.Pos{Line: m.Range.End.Line, Column: m.Range.End.Column, Byte: m.Range.End.Byte}}
			r.diags = append(r.diags, wrong(at, "Moved twice", "%s has moved to %s already, by %s:%d. One object can become one only.", m.Previous, first.To.Address(), first.Range.File, first.Range.Start.Line))
		}
		known[m.From] = m
		return again
	})
}
