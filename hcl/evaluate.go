package hcl

import (
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/berthdev/berth/cluster/object"
)

// declaration is one block of a kind: any number of objects.
type declaration struct {
	node
	run       *run
	info      object.KindInfo
	name      string
	blk       *block
	each      *attribute // for_each
	count     *attribute
	instances []*instance
	made      cty.Value // as references see it; NilVal until somebody asks
	after     []*node
}

// instance is one object of a declaration.
type instance struct {
	repetition
	address string
	object  object.Object
	ignore  []string
	diags   hcl.Diagnostics
}

// local is the declaration as its own module writes it.
func (d *declaration) local() string { return string(d.info.Kind) + "." + d.name }

func (d *declaration) repeated() bool { return d.each != nil || d.count != nil }

func (d *declaration) mode() string {
	if d.each != nil {
		return "for_each"
	}
	return "count"
}

func (d *declaration) exampleKey() string {
	if d.each != nil {
		return `"key"`
	}
	return "0"
}

func (d *declaration) allOf(attr string) string {
	if d.each != nil {
		return "values(" + d.local() + ")[*]." + attr
	}
	return d.local() + "[*]." + attr
}

// metaAttributes belong to every object block, whatever its kind.
var metaAttributes = []string{"count", "for_each", "enabled", "depends_on", "namespace", "labels", "annotations", "lifecycle"}

// metaFor says which attributes the kind's own struct does not see: a bare pod
// keeps its labels and annotations, which are its template's too.
func metaFor(p *plan) func(string) bool {
	return func(name string) bool { return slices.Contains(metaAttributes, name) && p.byName[name] == nil }
}

// evaluate makes the objects of a declaration; all that it refers to is there.
func (r *run) evaluate(d *declaration) {
	ctx := r.context(&d.scope)
	work := &decoder{address: d.address, broken: d.broken}
	reps := expand(d.blk, d.each, d.count, ctx, work)
	d.instances = make([]*instance, len(reps))
	for i, rep := range reps {
		d.instances[i] = &instance{repetition: rep, address: d.address + rep.index, object: r.fresh(d, d.name+rep.suffix)}
	}
	d.diags = append(d.diags, work.diags...)
	if len(work.diags) > 0 || len(work.bad) > 0 {
		d.failed = true
	}
	each := func(i int) { r.instantiate(d, d.instances[i], ctx) }
	if len(d.instances) < 64 {
		for i := range d.instances {
			each(i)
		}
	} else {
		parallel(len(d.instances), each)
	}
	for _, in := range d.instances {
		d.diags = append(d.diags, in.diags...)
		if in.diags.HasErrors() {
			d.failed = true
		}
	}
}

// repetition is one of the things that a block with count, for_each or neither makes.
type repetition struct {
	key    cty.Value // NilVal, a number or a text
	value  cty.Value // each.value
	index  string    // behind an address: [0], ["eu"]
	suffix string    // behind a name: -0, -eu
}

// context adds each or count.
func (p repetition) context(ctx *hcl.EvalContext) *hcl.EvalContext {
	if p.key == cty.NilVal {
		return ctx
	}
	child := ctx.NewChild()
	if p.key.Type() == cty.String {
		child.Variables = map[string]cty.Value{"each": cty.ObjectVal(map[string]cty.Value{"key": p.key, "value": p.value})}
	} else {
		child.Variables = map[string]cty.Value{"count": cty.ObjectVal(map[string]cty.Value{"index": p.key})}
	}
	return child
}

// expand finds out what a block makes.
func expand(k *block, each, count *attribute, ctx *hcl.EvalContext, work *decoder) []repetition {
	b, src := &k.body, k.body.src
	if a := b.attr("enabled"); a != nil {
		if v, ok := work.decisive(src, a, ctx, cty.Bool, "enabled"); !ok || v.False() {
			return nil
		}
	}
	if each != nil && count != nil {
		work.fail(src, count.nameAt, nil, "Both count and for_each", "A block has either count or for_each.")
		return nil
	}
	switch {
	case count != nil:
		v, ok := work.decisive(src, count, ctx, cty.Number, "count")
		if !ok {
			return nil
		}
		n, acc := v.AsBigFloat().Int64()
		if acc != 0 || n < 0 || n > 1_000_000 {
			work.fail(src, count.exprAt, nil, "Wrong count", "count is a whole number from 0 to 1000000.")
			return nil
		}
		out := make([]repetition, 0, n)
		for i := range n {
			key := strconv.FormatInt(i, 10)
			out = append(out, repetition{key: cty.NumberIntVal(i), index: "[" + key + "]", suffix: "-" + key})
		}
		return out
	case each != nil:
		return expandEach(src, each, ctx, work)
	}
	return []repetition{{}}
}

func expandEach(src *source, each *attribute, ctx *hcl.EvalContext, work *decoder) []repetition {
	at := each.exprAt
	v, ok := work.decisive(src, each, ctx, cty.DynamicPseudoType, "for_each")
	if !ok {
		return nil
	}
	t := v.Type()
	if !t.IsMapType() && !t.IsObjectType() && !t.IsSetType() {
		extra := ""
		if t.IsTupleType() || t.IsListType() {
			extra = " Make a set of the list: toset(…)."
		}
		work.fail(src, at, nil, "Wrong for_each", "for_each is a map or a set of texts, not %s.%s", describe(v), extra)
		return nil
	}
	out := make([]repetition, 0, v.LengthInt())
	for it := v.ElementIterator(); it.Next(); {
		k, e := it.Element()
		if t.IsSetType() {
			k = e
		}
		if k.IsNull() || k.Type() != cty.String {
			work.fail(src, at, nil, "Wrong for_each", "A set for for_each holds texts, not %s.", describe(k))
			return nil
		}
		key := k.AsString()
		out = append(out, repetition{key: k, value: e, index: "[" + strconv.Quote(key) + "]", suffix: "-" + key})
	}
	return out
}

// decisive evaluates an attribute that decides which objects there are.
func (w *decoder) decisive(src *source, a *attribute, ctx *hcl.EvalContext, t cty.Type, what string) (cty.Value, bool) {
	v, ok := w.eval(src, a, ctx, &path{step: what})
	if !ok {
		return v, false
	}
	at := src.rng(a.exprAt)
	if what == "for_each" { // the values may be sensitive, the keys may not
		m := v
		if v.IsMarked() { // of a set whenever one of its elements is
			var diags hcl.Diagnostics
			if m, diags = plainly(v, at, what); diags.HasErrors() {
				w.report(diags, nil)
				return v, false
			}
		}
		v = m
	} else {
		var diags hcl.Diagnostics
		if v, diags = plainly(v, at, what); diags.HasErrors() {
			w.report(diags, nil)
			return v, false
		}
	}
	c, err := convert.Convert(v, t)
	switch {
	case err != nil:
		w.fail(src, a.exprAt, nil, "Wrong "+what, "%s is %s, not %s.", what, map[cty.Type]string{cty.Bool: "true or false", cty.Number: "a number"}[t], describe(v))
	case c.IsNull():
		w.fail(src, a.exprAt, nil, "Wrong "+what, "%s may not be null.", what)
	case !c.IsKnown():
		w.bad = append(w.bad, what)
	default:
		return c, true
	}
	return v, false
}

func (r *run) fresh(d *declaration, name string) object.Object {
	o := d.info.New()
	m := o.Head()
	m.Name, m.Stack = name, r.stack
	if d.info.Namespaced {
		m.Namespace = r.namespace
	}
	return o
}

// instantiate fills one object. It may run beside other calls.
func (r *run) instantiate(d *declaration, in *instance, ctx *hcl.EvalContext) {
	ctx = in.context(ctx)
	work := &decoder{address: in.address, broken: d.broken}
	spec := reflect.ValueOf(in.object.SpecPtr()).Elem()
	skip := metaFor(planOf(spec.Type()))
	r.meta(d, in, ctx, work, skip)
	work.ns = in.object.Head().Namespace
	work.structure(&d.blk.body, spec, ctx, nil, d.blk.head, skip)
	if p, ok := in.object.(*object.Pod); ok && p.Spec.Pod != nil {
		p.Labels, p.Annotations = p.Spec.Pod.Labels, p.Spec.Pod.Annotations
	}
	in.diags = slices.Concat(work.diags, judge(d, in, work.bad))
}

// meta fills what every object has.
func (r *run) meta(d *declaration, in *instance, ctx *hcl.EvalContext, work *decoder, skip func(string) bool) {
	m, b, src := in.object.Head(), &d.blk.body, d.src
	for i := range b.attrs {
		a := &b.attrs[i]
		if !skip(a.name) {
			continue
		}
		at := &path{step: a.name}
		switch a.name {
		case "lifecycle":
			work.fail(src, a.nameAt, at, "A block is needed", "lifecycle is a block: write lifecycle { … } without an equals sign.")
		case "namespace":
			if !d.info.Namespaced {
				work.fail(src, a.nameAt, at, "No namespace here", "A %s belongs to no namespace; take the attribute out.", d.info.Kind)
				continue
			}
			if v, ok := work.eval(src, a, ctx, at); ok && !v.IsNull() {
				work.value(reflect.ValueOf(&m.Namespace).Elem(), formString, v, nil, src, a.exprAt, at)
			}
		case "labels", "annotations":
			dst := &m.Labels
			if a.name == "annotations" {
				dst = &m.Annotations
			}
			if v, ok := work.eval(src, a, ctx, at); ok && !v.IsNull() {
				work.value(reflect.ValueOf(dst).Elem(), formMap, v, nil, src, a.exprAt, at)
			}
		}
	}
	seen := false
	for i := range b.blocks {
		k := &b.blocks[i]
		if k.kind != "lifecycle" {
			continue
		}
		if seen {
			work.fail(src, k.head, &path{step: "lifecycle"}, "Duplicate block", "There may be only one lifecycle block here.")
			continue
		}
		seen = true
		r.lifecycle(d, in, k, ctx, work)
	}
}

func (r *run) lifecycle(d *declaration, in *instance, k *block, ctx *hcl.EvalContext, work *decoder) {
	src := d.src
	for i := range k.body.attrs {
		a := &k.body.attrs[i]
		at := &path{&path{step: "lifecycle"}, a.name}
		switch a.name {
		case "prevent_destroy":
			if v, ok := work.eval(src, a, ctx, at); ok && !v.IsNull() {
				work.value(reflect.ValueOf(&in.object.Head().PreventDestroy).Elem(), formBool, v, nil, src, a.exprAt, at)
			}
		case "ignore_changes":
			in.ignore = work.ignored(src, a, in.object, at)
		default:
			work.fail(src, a.nameAt, at, "Unknown attribute", "lifecycle has no attribute %q.%s", a.name, hint(a.name, []string{"prevent_destroy", "ignore_changes"}, "There are prevent_destroy and ignore_changes."))
		}
	}
	for i := range k.body.blocks {
		b := &k.body.blocks[i]
		at := &path{&path{step: "lifecycle"}, b.kind}
		if isCondition(b.kind) {
			continue // see readLifecycle
		}
		work.fail(src, b.head, at, "Unknown block", "lifecycle has no block %q.%s", b.kind, hint(b.kind, []string{"precondition", "postcondition"}, "There are precondition and postcondition."))
	}
}

// ignored reads ignore_changes as field paths.
func (w *decoder) ignored(src *source, a *attribute, o object.Object, at *path) []string {
	e, diags := a.expression(src)
	if diags.HasErrors() {
		w.report(diags, at)
		return nil
	}
	if hcl.ExprAsKeyword(e) == "all" {
		return []string{"all"}
	}
	list, diags := hcl.ExprList(e)
	if diags.HasErrors() {
		w.fail(src, a.exprAt, at, "Wrong ignore_changes", "ignore_changes is a list of attributes, [replicas, pod.container[\"web\"].image], or the word all.")
		return nil
	}
	var out []string
	for _, item := range list {
		t, diags := hcl.AbsTraversalForExpr(item)
		if diags.HasErrors() {
			w.fail(src, spanOf(item.Range()), at, "Wrong ignore_changes", "Write the attribute as it is nested in the block, without quotes: pod.container[\"web\"].image.")
			continue
		}
		if text, ok := w.fieldPath(src, t, o, at); ok {
			out = append(out, text)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// fieldPath writes a traversal as the diff writes paths and checks that its
// fields exist.
func (w *decoder) fieldPath(src *source, t hcl.Traversal, o object.Object, at *path) (string, bool) {
	var out strings.Builder
	typ := reflect.TypeOf(o.SpecPtr()).Elem()
	for i, s := range t {
		var name string
		switch s := s.(type) {
		case hcl.TraverseRoot:
			name = s.Name
		case hcl.TraverseAttr:
			name = s.Name
		case hcl.TraverseIndex:
			if s.Key.Type() == cty.String {
				out.WriteString("[" + strconv.Quote(s.Key.AsString()) + "]")
			} else {
				n, _ := s.Key.AsBigFloat().Int64()
				out.WriteString("[" + strconv.FormatInt(n, 10) + "]")
			}
			continue
		default:
			w.fail(src, spanOf(t.SourceRange()), at, "Wrong ignore_changes", "Name single attributes.")
			return "", false
		}
		if i == 0 && (name == "labels" || name == "annotations") {
			typ = nil
		} else if typ != nil {
			p := planOf(typ)
			f := p.byName[name]
			if f == nil {
				w.fail(src, spanOf(t.SourceRange()), at, "Unknown attribute", "There is no attribute %q to ignore.%s", name, p.suggest(name, false))
				return "", false
			}
			typ = f.elem // nil below an attribute
		} else {
			out.WriteString("[" + strconv.Quote(name) + "]") // data.key is data["key"]
			continue
		}
		if i > 0 {
			out.WriteByte('.')
		}
		out.WriteString(name)
	}
	return out.String(), true
}

// dependsOn reads depends_on of any block into objects and modules.
func (r *run) dependsOn(n *node, b *body) []*node {
	a := b.attr("depends_on")
	if a == nil {
		return nil
	}
	e, diags := a.expression(n.src)
	n.diags = append(n.diags, diags...)
	if diags.HasErrors() {
		return nil
	}
	list, diags := hcl.ExprList(e)
	if diags.HasErrors() {
		n.diags = append(n.diags, wrong(n.src.rng(a.exprAt), "Wrong depends_on", "depends_on is a list of objects: [deployment.db]."))
		return nil
	}
	var out []*node
	for _, item := range list {
		t, diags := hcl.AbsTraversalForExpr(item)
		if diags.HasErrors() {
			n.diags = append(n.diags, wrong(item.Range(), "Wrong depends_on", "Name objects without quotes and calculation: [deployment.db]."))
			continue
		}
		probe := &node{src: n.src}
		if d := r.resolve(probe, t, rules{}); d != nil {
			n.diags = append(n.diags, d)
			continue
		}
		if len(probe.scope.decls) == 0 && len(probe.scope.calls) == 0 {
			n.diags = append(n.diags, wrong(item.Range(), "Wrong depends_on", "%s is not an object; depends_on lists objects: [deployment.db].", hclsyntaxText(t)))
			continue
		}
		for _, d := range probe.scope.decls {
			out = append(out, &d.node)
		}
		for _, c := range probe.scope.calls {
			out = append(out, &c.node)
		}
		n.edges = append(n.edges, probe.edges...)
	}
	return out
}

// hclsyntaxText is a traversal as it is written, as far as names go.
func hclsyntaxText(t hcl.Traversal) string {
	s := t.RootName()
	for i := 1; i < len(t); i++ {
		name, _, ok := step(t, i)
		if !ok {
			break
		}
		if hclsyntax.ValidIdentifier(name) {
			s += "." + name
		} else {
			s += "[" + strconv.Quote(name) + "]"
		}
	}
	return s
}
