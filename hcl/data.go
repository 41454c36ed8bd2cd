package hcl

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/berthdev/berth/cluster/object"
)

// datum is one data block: objects that somebody else declares, read as they are
// when the plan is made.
type datum struct {
	node
	info        object.KindInfo
	name        string
	blk         *block
	each, count *attribute
	reps        []repetition
	values      []cty.Value
}

// reader keeps what data blocks have read: the same object is asked for once,
// however many modules read it.
type reader struct {
	sync.Mutex
	found map[object.Ref]reading
}

type reading struct {
	object object.Object
	err    error
	by     hcl.Range
}

var datumAttributes = []string{"count", "depends_on", "enabled", "for_each", "name", "namespace"}

func (r *run) readData(k *block) {
	src := k.body.src
	if len(k.labels) != 2 {
		r.wrong(src, k.head, "Wrong number of names", "A data block names a kind and itself: data \"service\" \"api\" { … }.")
		return
	}
	info, ok := object.Info(object.Kind(k.labels[0]))
	if !ok || !info.Declared {
		var kinds []string
		for _, i := range object.Kinds() {
			if i.Declared {
				kinds = append(kinds, string(i.Kind))
			}
		}
		r.wrong(src, k.labelsAt[0], "No such kind", "%q is not a kind of object that can be read.%s", k.labels[0], hint(k.labels[0], kinds, "There are: "+strings.Join(kinds, ", ")+"."))
		return
	}
	name := k.labels[1]
	if !hclsyntax.ValidIdentifier(name) {
		r.wrong(src, k.labelsAt[1], "Wrong name", "The name of a data block begins with a letter and has letters, digits, underscores and hyphens. The object's own name can be another: name = \"…\".")
		return
	}
	if before := r.data[info.Kind][name]; before != nil {
		r.duplicate(k, before.blk, "data \""+string(info.Kind)+"\" \""+name+"\"")
		return
	}
	d := &datum{info: info, name: name, blk: k, each: k.body.attr("for_each"), count: k.body.attr("count")}
	d.node = node{address: r.prefix + d.local(), src: src, at: k.head, body: &k.body}
	for i := range k.body.attrs {
		if a := &k.body.attrs[i]; !slices.Contains(datumAttributes, a.name) {
			r.wrong(src, a.nameAt, "Unknown attribute", "A data block has no attribute %q.%s", a.name, hint(a.name, datumAttributes, "There are: "+strings.Join(datumAttributes, ", ")+"."))
		} else if a.name == "namespace" && !info.Namespaced {
			r.wrong(src, a.nameAt, "No namespace here", "A %s belongs to no namespace; take the attribute out.", info.Kind)
		}
	}
	for i := range k.body.blocks {
		b := &k.body.blocks[i]
		if b.kind != "lifecycle" {
			r.wrong(src, b.head, "Unknown block", "A data block has no block %q.%s", b.kind, hint(b.kind, []string{"lifecycle"}, "There is lifecycle."))
			continue
		}
		for j := range b.body.attrs {
			r.wrong(src, b.body.attrs[j].nameAt, "Unknown attribute", "What is read has no lifecycle of its own: the block may have precondition and postcondition only.")
		}
		for j := range b.body.blocks {
			if x := &b.body.blocks[j]; !isCondition(x.kind) {
				r.wrong(src, x.head, "Unknown block", "lifecycle has no block %q here.%s", x.kind, hint(x.kind, []string{"precondition", "postcondition"}, "There are precondition and postcondition."))
			}
		}
	}
	d.eval = func(*node) { r.evaluateData(d) }
	if r.data[info.Kind] == nil {
		r.data[info.Kind] = map[string]*datum{}
	}
	r.data[info.Kind][name] = d
	r.readings = append(r.readings, d)
	r.readLifecycle(k, "data", condition{datum: d}, d.address)
}

func (d *datum) local() string { return "data." + string(d.info.Kind) + "." + d.name }

func (d *datum) repeated() bool { return d.each != nil || d.count != nil }

// evaluateData reads the objects. Without masters to ask, as in validate, their
// values are unknown, and so is what depends on them.
func (r *run) evaluateData(d *datum) {
	if d.failed {
		return
	}
	ctx := r.context(&d.scope)
	work := &decoder{address: d.address, broken: d.broken}
	d.reps = expand(d.blk, d.each, d.count, ctx, work)
	unknown := len(work.bad) > 0
	d.values = make([]cty.Value, len(d.reps))
	for i, rep := range d.reps {
		ref := object.Ref{Kind: d.info.Kind, Name: d.name + rep.suffix}
		if d.info.Namespaced {
			ref.Namespace = r.namespace
		}
		here, sure := rep.context(ctx), true
		at := d.src.rng(d.at)
		for _, part := range []struct {
			name string
			to   *string
		}{{"name", &ref.Name}, {"namespace", &ref.Namespace}} {
			a := d.blk.body.attr(part.name)
			if a == nil {
				continue
			}
			if part.name == "name" {
				at = d.src.rng(a.exprAt)
			}
			v, ok := work.eval(d.src, a, here, &path{step: part.name})
			if !ok {
				sure = false
				continue
			}
			v, diags := plainly(v, d.src.rng(a.exprAt), part.name)
			text, err := convert.Convert(v, cty.String)
			switch {
			case diags.HasErrors():
				work.report(diags, nil)
				sure = false
			case err != nil || text.IsNull():
				work.fail(d.src, a.exprAt, nil, "Wrong "+part.name, "%s is a text, not %s.", part.name, describe(v))
				sure = false
			case !text.IsKnown():
				sure = false
			default:
				*part.to = text.AsString()
			}
		}
		d.values[i] = cty.DynamicVal
		if !sure || r.opts.Read == nil {
			unknown = true
			continue
		}
		if d.values[i] = cty.DynamicVal; ref.Name == "" {
			work.fail(d.src, d.at, nil, "Wrong name", "The name of an object is not empty.")
			continue
		}
		o, err := r.lib.reader.read(r.opts.Read, ref, at)
		if err != nil {
			work.report(hcl.Diagnostics{missing(at, ref, err)}, nil)
			continue
		}
		d.values[i] = readValue(o)
	}
	d.diags = append(d.diags, work.diags...)
	if d.failed = work.diags.HasErrors(); d.failed {
		return
	}
	switch {
	case unknown:
		d.value = cty.DynamicVal
	case d.each != nil:
		m := make(map[string]cty.Value, len(d.reps))
		for i, rep := range d.reps {
			m[rep.key.AsString()] = d.values[i]
		}
		d.value = cty.ObjectVal(m)
	case d.count != nil:
		d.value = cty.TupleVal(d.values)
	case len(d.values) == 1:
		d.value = d.values[0]
	default: // enabled = false
		d.value = cty.NullVal(cty.DynamicPseudoType)
	}
}

// missing is the error for what cannot be read.
func missing(at hcl.Range, ref object.Ref, err error) *hcl.Diagnostic {
	var own *object.Error
	if !errors.As(err, &own) || own.Code != object.CodeNotFound {
		return wrong(at, "Cannot read an object", "Reading %s failed: %v.", ref, err)
	}
	where := ""
	if ref.Namespace != "" {
		where = " in the namespace \"" + ref.Namespace + "\""
	}
	cure := own.Hint
	if cure == "" {
		cure = "Somebody has to apply it first; see: berth get " + string(ref.Kind) + " --all-namespaces"
		if ref.Namespace == "" {
			cure = "Somebody has to make it first; see: berth get " + string(ref.Kind)
		}
	}
	return wrong(at, "No such object", "There is no %s named %q%s. %s", ref.Kind, ref.Name, where, cure)
}

// read asks once for each object.
func (x *reader) read(ask func(object.Ref) (object.Object, error), ref object.Ref, by hcl.Range) (object.Object, error) {
	x.Lock()
	defer x.Unlock()
	if have, ok := x.found[ref]; ok {
		return have.object, have.err
	}
	if x.found == nil {
		x.found = map[object.Ref]reading{}
	}
	o, err := ask(ref)
	x.found[ref] = reading{o, err, by}
	return o, err
}

// readValue is what references to an object that was read see: as those to a
// declared one, with its stack and status.
func readValue(o object.Object) cty.Value {
	vals := valueOf(o).AsValueMap()
	vals["stack"], vals["status"] = cty.StringVal(o.Head().Stack), cty.EmptyObjectVal
	if st := o.StatusPtr(); st != nil {
		if text, err := json.Marshal(st); err == nil {
			if t, err := ctyjson.ImpliedType(text); err == nil {
				if v, err := ctyjson.Unmarshal(text, t); err == nil {
					vals["status"] = v
				}
			}
		}
	}
	return cty.ObjectVal(vals)
}

// resolveData resolves data.KIND.NAME.
func (r *run) resolveData(n *node, t hcl.Traversal) *hcl.Diagnostic {
	at := t.SourceRange()
	kind, kindAt, named := step(t, 1)
	if !named {
		return wrong(at, "Incomplete reference", "Name what is read: data.KIND.NAME.")
	}
	byName := r.data[object.Kind(kind)]
	if byName == nil {
		var kinds []string
		for k := range r.data {
			kinds = append(kinds, string(k))
		}
		slices.Sort(kinds)
		return wrong(kindAt, "No such data", "No data block reads a %q.%s", kind, hint(kind, kinds, "Write one: data \""+kind+"\" \"NAME\" { … }."))
	}
	name, nameAt, named := step(t, 2)
	if !named {
		return wrong(at, "Incomplete reference", "Name what is read: data.%s.NAME.", kind)
	}
	d := byName[name]
	if d == nil {
		return wrong(nameAt, "No such data", "There is no data %q %q in this configuration.%s", kind, name, hint(name, keys(byName), "Write it: data \""+kind+"\" \""+name+"\" { … }."))
	}
	n.scope.data = append(n.scope.data, d)
	n.edges = append(n.edges, edge{to: &d.node, at: at})
	next := 3
	names := append([]string{"stack", "status"}, attributesOf(d.info)...)
	if d.repeated() {
		if len(t) > 3 {
			if _, index := t[3].(hcl.TraverseIndex); !index {
				if a, attrAt, ok := step(t, 3); ok && slices.Contains(names, a) {
					key := "0"
					if d.each != nil {
						key = `"key"`
					}
					return wrong(attrAt, "Which one?", "%s is several: say which one, %s[%s].%s.", d.local(), d.local(), key, a)
				}
				return nil
			}
		}
		next = 4
	}
	if a, attrAt, ok := step(t, next); ok && !slices.Contains(names, a) {
		return wrong(attrAt, "No such attribute", "A %s has no attribute %q.%s", kind, a, hint(a, names, "There are: "+strings.Join(names, ", ")+"."))
	}
	return nil
}

// valueOfData is what references to a data block see.
func (d *datum) valueOf() cty.Value {
	if d.failed || d.value == cty.NilVal {
		return cty.DynamicVal
	}
	return d.value
}

// expectations are the versions of what was read: a plan made of them is stale
// once one is another. What is both read and declared is a mistake.
func (r *run) expectations(owners map[object.Ref]*declaration) []object.Expectation {
	var out []object.Expectation
	for ref, x := range r.lib.reader.found {
		if x.err != nil {
			continue
		}
		if d := owners[ref]; d != nil {
			r.diags = append(r.diags, wrong(x.by, "Read and declared", "%s is declared in this configuration, at %s:%d. Refer to it as %s: what a data block reads is as it was before the plan.", ref, d.src.name, d.src.lineOf(d.at.start), d.address))
			continue
		}
		out = append(out, object.Expectation{Ref: ref, Version: x.object.Head().Version})
	}
	slices.SortFunc(out, func(a, b object.Expectation) int { return a.Ref.Compare(b.Ref) })
	return out
}
