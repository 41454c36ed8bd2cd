package hcl

import (
	"encoding"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/berthdev/berth/cluster/object"
)

// plan is how a struct type is filled, made once per type from its tags.
type plan struct {
	fields   []*fieldPlan // attributes and blocks, those of remain structs included
	byName   map[string]*fieldPlan
	remains  []*fieldPlan
	defaults reflect.Value // the struct as object.SetDefaults leaves it
	label    []int         // index of the label field, nil without one
}

type fieldPlan struct {
	name     string
	index    []int // from the struct; a remain pointer on the way has been made
	typ      reflect.Type
	elem     reflect.Type // of a block: the struct
	block    bool
	many     bool // a block that may be repeated
	required bool
	form     form
}

// form is how a value becomes a field.
type form uint8

const (
	formOther form = iota // no configuration field has it
	formString
	formText
	formSensitive
	formUnit
	formInt
	formBool
	formMap
	formSlice
)

var (
	textType        = reflect.TypeFor[object.Text]()
	sensitiveType   = reflect.TypeFor[object.Sensitive]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
	numberSetter    = reflect.TypeFor[object.NumberSetter]()
)

func formOf(t reflect.Type) form {
	ptr := reflect.PointerTo(t)
	switch {
	case t == textType:
		return formText
	case t == sensitiveType:
		return formSensitive
	case ptr.Implements(textUnmarshaler) || ptr.Implements(numberSetter):
		return formUnit
	}
	switch t.Kind() {
	case reflect.String:
		return formString
	case reflect.Int, reflect.Int64:
		return formInt
	case reflect.Bool:
		return formBool
	case reflect.Map:
		return formMap
	case reflect.Slice:
		return formSlice
	}
	return formOther
}

var plans sync.Map // reflect.Type -> *plan

func planOf(t reflect.Type) *plan {
	if p, ok := plans.Load(t); ok {
		return p.(*plan)
	}
	p := &plan{byName: map[string]*fieldPlan{}}
	fresh := reflect.New(t)
	object.SetDefaults(fresh.Interface())
	p.defaults = fresh.Elem()
	for _, f := range object.Fields(t) {
		fp := &fieldPlan{name: f.Name, index: []int{f.Index}, typ: f.Type, required: f.Required, block: f.Block, form: formOf(f.Type)}
		switch {
		case f.Internal:
			continue
		case f.Label:
			p.label = fp.index
			continue
		case f.Remain:
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			p.remains = append(p.remains, fp)
			for _, sub := range planOf(inner).fields {
				s := *sub
				s.index = append([]int{f.Index}, sub.index...)
				p.fields = append(p.fields, &s)
			}
			continue
		case f.Block:
			fp.elem = f.Type
			if fp.elem.Kind() == reflect.Slice {
				fp.many, fp.elem = true, fp.elem.Elem()
			}
			if fp.elem.Kind() == reflect.Pointer {
				fp.elem = fp.elem.Elem()
			}
		}
		p.fields = append(p.fields, fp)
	}
	for _, f := range p.fields {
		p.byName[f.name] = f
	}
	actual, _ := plans.LoadOrStore(t, p)
	return actual.(*plan)
}

// path is where in an object the decoder is; its text is made when needed.
type path struct {
	up   *path
	step string
}

func (p *path) String() string {
	if p == nil {
		return ""
	}
	up := p.up.String()
	if up == "" || strings.HasPrefix(p.step, "[") {
		return up + p.step
	}
	return up + "." + p.step
}

// decoder fills one object.
type decoder struct {
	diags   hcl.Diagnostics
	bad     []string // paths that hold no value because of a mistake that has been, or need not be, reported
	address string
	ns      string // of the object, for references to secrets
	broken  []span // references that have been reported
}

// eval evaluates an attribute; not ok means that there is nothing to use and
// that the reason has been reported.
func (d *decoder) eval(src *source, a *attribute, ctx *hcl.EvalContext, at *path) (cty.Value, bool) {
	for _, b := range d.broken {
		if a.exprAt.start <= b.start && b.end <= a.exprAt.end {
			if diags := unknownFunctions(a.expr, ctx); diags.HasErrors() {
				d.report(diags, at)
			} else {
				d.bad = append(d.bad, at.String())
			}
			return cty.DynamicVal, false
		}
	}
	v, diags := a.value(ctx)
	if diags.HasErrors() {
		d.report(diags, at)
		return cty.DynamicVal, false
	}
	return v, true
}

func (d *decoder) fail(src *source, at span, p *path, summary, detail string, args ...any) {
	d.report(hcl.Diagnostics{wrong(src.rng(at), summary, detail, args...)}, p)
}

// report adds diagnostics about a path; the path's value is not to be judged again.
func (d *decoder) report(diags hcl.Diagnostics, p *path) {
	text := p.String()
	for _, x := range diags {
		if x.Extra == nil {
			x.Extra = about{d.address, text}
		}
	}
	d.diags = append(d.diags, diags...)
	d.bad = append(d.bad, text)
}

// structure fills a struct from a body. skip names attributes and blocks that
// belong to someone else (count, lifecycle); it may be nil.
func (d *decoder) structure(b *body, v reflect.Value, ctx *hcl.EvalContext, at *path, place span, skip func(string) bool) {
	p := planOf(v.Type())
	v.Set(p.defaults)
	for _, r := range p.remains {
		if f := v.FieldByIndex(r.index); f.Kind() == reflect.Pointer {
			f.Set(reflect.New(r.typ.Elem()))
			f.Elem().Set(planOf(r.typ.Elem()).defaults)
		}
	}
	d.body(b, p, v, ctx, at, skip)
	for _, f := range p.fields {
		if !f.required {
			continue
		}
		if f.block && !hasBlock(b, f.name) {
			d.fail(b.src, place, &path{at, f.name}, "Missing block", "A block %q is needed here.", f.name)
		} else if !f.block && b.attr(f.name) == nil {
			d.fail(b.src, place, &path{at, f.name}, "Missing attribute", "The attribute %q is needed here.", f.name)
		}
	}
}

func hasBlock(b *body, kind string) bool {
	return slices.ContainsFunc(b.blocks, func(x block) bool {
		return x.kind == kind || (x.kind == "dynamic" && len(x.labels) == 1 && x.labels[0] == kind)
	})
}

func (d *decoder) body(b *body, p *plan, v reflect.Value, ctx *hcl.EvalContext, at *path, skip func(string) bool) {
	for i := range b.attrs {
		a := &b.attrs[i]
		if skip != nil && skip(a.name) {
			continue
		}
		f := p.byName[a.name]
		switch {
		case f == nil:
			d.fail(b.src, a.nameAt, &path{at, a.name}, "Unknown attribute", "There is no attribute %q here.%s", a.name, p.suggest(a.name, false))
		case f.block:
			d.fail(b.src, a.nameAt, &path{at, a.name}, "A block is needed", "%q is a block: write %s { … } without an equals sign.", a.name, a.name)
		case a.expr == nil && direct(v.FieldByIndex(f.index), f.form, a):
		default:
			fp := &path{at, a.name}
			val, ok := d.eval(b.src, a, ctx, fp)
			if !ok {
				continue
			}
			if val.IsNull() && !val.IsMarked() {
				if f.required {
					d.fail(b.src, a.exprAt, fp, "Missing value", "The attribute %q is needed here, and this is null.", a.name)
				}
				continue
			}
			d.value(v.FieldByIndex(f.index), f.form, val, nil, b.src, a.exprAt, fp)
		}
	}
	var counts map[string]int
	if len(b.blocks) > 0 {
		counts = map[string]int{}
	}
	for i := range b.blocks {
		k := &b.blocks[i]
		if skip != nil && skip(k.kind) {
			continue
		}
		if k.kind == "dynamic" {
			d.dynamic(b, k, p, v, ctx, at, counts)
			continue
		}
		f := p.byName[k.kind]
		switch {
		case f == nil:
			d.fail(b.src, k.head, &path{at, k.kind}, "Unknown block", "There is no block %q here.%s", k.kind, p.suggest(k.kind, true))
		case !f.block:
			d.fail(b.src, k.head, &path{at, k.kind}, "An attribute is needed", "%q is an attribute: write %s = … with an equals sign.", k.kind, k.kind)
		default:
			d.block(b.src, k, f, k.labels, v, ctx, at, counts)
		}
	}
}

// suggest is " Did you mean …" or, failing that, what there is.
func (p *plan) suggest(word string, block bool) string {
	var same, all []string
	for _, f := range p.fields {
		if f.block == block {
			same = append(same, f.name)
		}
		all = append(all, f.name)
	}
	if s := object.DidYouMean(word, all); s != "" {
		return " " + s
	}
	if len(same) == 0 {
		return ""
	}
	return " There are: " + strings.Join(same, ", ") + "."
}

// block fills one nested block.
func (d *decoder) block(src *source, k *block, f *fieldPlan, labels []string, v reflect.Value, ctx *hcl.EvalContext, at *path, counts map[string]int) {
	p := planOf(f.elem)
	want := 0
	if p.label != nil {
		want = 1
	}
	dst := v.FieldByIndex(f.index)
	n := counts[f.name]
	counts[f.name]++
	if f.many {
		n = dst.Len()
	}
	var step string
	switch {
	case len(labels) != want && want == 1:
		d.fail(src, k.head, &path{at, f.name}, "Missing name", "A %s block has exactly one name: %s \"NAME\" { … }.", f.name, f.name)
		return
	case len(labels) != want:
		d.fail(src, k.head, &path{at, f.name}, "Superfluous name", "A %s block has no name: write %s { … }.", f.name, f.name)
		return
	case want == 1:
		step = f.name + "[" + strconv.Quote(labels[0]) + "]"
	case f.many:
		step = f.name + "[" + strconv.Itoa(n) + "]"
	default:
		step = f.name
	}
	here := &path{at, step}
	switch {
	case f.many:
		dst.Grow(1)
		dst.SetLen(n + 1)
		dst = dst.Index(n)
	case n > 0:
		d.fail(src, k.head, here, "Duplicate block", "There may be only one %s block here.", f.name)
		return
	}
	if dst.Kind() == reflect.Pointer {
		dst.Set(reflect.New(f.elem))
		dst = dst.Elem()
	}
	d.structure(&k.body, dst, ctx, here, k.head, nil)
	if want == 1 {
		dst.FieldByIndex(p.label).SetString(labels[0])
	}
}

// dynamic repeats a block for each element of a collection.
func (d *decoder) dynamic(b *body, k *block, p *plan, v reflect.Value, ctx *hcl.EvalContext, at *path, counts map[string]int) {
	dyn, ok := d.readDynamic(b.src, k, p, at)
	if !ok {
		return
	}
	here := &path{at, dyn.field.name}
	coll, good := d.eval(b.src, dyn.forEach, ctx, here)
	if !good {
		return
	}
	coll, marks := coll.Unmark()
	switch {
	case len(marks) > 0:
		d.fail(b.src, dyn.forEach.exprAt, here, "Sensitive for_each", "A sensitive value cannot decide which blocks there are, for they are shown.")
		return
	case !coll.IsKnown():
		d.bad = append(d.bad, here.String())
		return
	case coll.IsNull() || !coll.CanIterateElements():
		d.fail(b.src, dyn.forEach.exprAt, here, "Wrong for_each", "A dynamic block needs a list, a set or a map, not %s.", describe(coll))
		return
	}
	for it := coll.ElementIterator(); it.Next(); {
		key, val := it.Element()
		if coll.Type().IsSetType() {
			key = val
		}
		child := ctx.NewChild()
		child.Variables = map[string]cty.Value{dyn.iterator: cty.ObjectVal(map[string]cty.Value{"key": key, "value": val})}
		var labels []string
		if dyn.labels != nil {
			var good bool
			if labels, good = d.dynamicLabels(b.src, dyn.labels, child, here); !good {
				continue
			}
		}
		d.block(b.src, &block{kind: dyn.field.name, head: k.head, body: dyn.content.body}, dyn.field, labels, v, child, at, counts)
	}
}

// dynamicParts are the pieces of a dynamic block.
type dynamicParts struct {
	field    *fieldPlan
	iterator string
	forEach  *attribute
	labels   *attribute
	content  *block
}

func (d *decoder) readDynamic(src *source, k *block, p *plan, at *path) (dynamicParts, bool) {
	var dyn dynamicParts
	if len(k.labels) != 1 {
		d.fail(src, k.head, at, "Missing name", "A dynamic block names the block that it repeats: dynamic \"port\" { … }.")
		return dyn, false
	}
	name := k.labels[0]
	if dyn.field = p.byName[name]; dyn.field == nil || !dyn.field.block {
		d.fail(src, k.labelsAt[0], &path{at, name}, "Unknown block", "There is no block %q here.%s", name, p.suggest(name, true))
		return dyn, false
	}
	here, good := &path{at, name}, true
	dyn.iterator = iteratorOf(k)
	for i := range k.body.attrs {
		switch a := &k.body.attrs[i]; a.name {
		case "for_each":
			dyn.forEach = a
		case "labels":
			dyn.labels = a
		case "iterator":
		default:
			d.fail(src, a.nameAt, here, "Unknown attribute", "A dynamic block has the attributes for_each, iterator and labels, not %q.", a.name)
			good = false
		}
	}
	for i := range k.body.blocks {
		if c := &k.body.blocks[i]; c.kind == "content" && dyn.content == nil {
			dyn.content = c
		} else {
			d.fail(src, c.head, here, "Unknown block", "A dynamic block has exactly one block, content.")
			good = false
		}
	}
	if dyn.forEach == nil {
		d.fail(src, k.head, here, "Missing attribute", "A dynamic block needs for_each.")
		good = false
	}
	if dyn.content == nil {
		d.fail(src, k.head, here, "Missing block", "A dynamic block needs a content block: what is repeated.")
		good = false
	}
	return dyn, good
}

// iteratorOf is the name that a dynamic block's content knows its element by.
func iteratorOf(k *block) string {
	if a := k.body.attr("iterator"); a != nil {
		if e, diags := a.expression(k.body.src); !diags.HasErrors() {
			if word := hcl.ExprAsKeyword(e); word != "" {
				return word
			}
		}
	}
	if len(k.labels) == 1 {
		return k.labels[0]
	}
	return ""
}

func (d *decoder) dynamicLabels(src *source, a *attribute, ctx *hcl.EvalContext, at *path) ([]string, bool) {
	v, ok := d.eval(src, a, ctx, at)
	if !ok {
		return nil, false
	}
	if !v.IsWhollyKnown() {
		d.bad = append(d.bad, at.String())
		return nil, false
	}
	var labels []string
	if v.ContainsMarked() || v.IsNull() || !v.CanIterateElements() {
		d.fail(src, a.exprAt, at, "Wrong labels", "labels is a list of texts that are not sensitive, such as [port.key].")
		return nil, false
	}
	for it := v.ElementIterator(); it.Next(); {
		_, e := it.Element()
		s, err := convert.Convert(e, cty.String)
		if err != nil || s.IsNull() {
			d.fail(src, a.exprAt, at, "Wrong labels", "labels is a list of texts, such as [port.key].")
			return nil, false
		}
		labels = append(labels, s.AsString())
	}
	return labels, true
}
