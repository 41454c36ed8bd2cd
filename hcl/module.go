package hcl

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// call is one module block: any number of instances, each a run of its own with
// the values of its inputs. A module is evaluated as one thing, after all that
// its block mentions; which objects an input came from is remembered for each
// input, so that waves are ordered as if there were no modules.
type call struct {
	node
	name        string
	blk         *block
	dir         *directory
	each, count *attribute
	inputs      []*input
	base        []*node // what decides how many there are: every object comes after it
	after       []*node // depends_on
	children    []*run
	made        cty.Value
}

// input is one argument of a module block.
type input struct {
	attr *attribute
	node // what it mentions
}

var callAttributes = []string{"source", "count", "for_each", "enabled", "depends_on"}

func (c *call) repeated() bool { return c.each != nil || c.count != nil }

func (c *call) local() string { return "module." + c.name }

func (r *run) readModule(k *block) {
	if !r.named(k, "module") {
		return
	}
	src, name := k.body.src, k.labels[0]
	if before := r.calls[name]; before != nil {
		r.duplicate(k, before.blk, "module \""+name+"\"")
		return
	}
	if !hclsyntax.ValidIdentifier(name) {
		r.wrong(src, k.labelsAt[0], "Wrong name", "A module's name begins with a letter and has letters, digits, underscores and hyphens.")
		return
	}
	for i := range k.body.blocks {
		b := &k.body.blocks[i]
		if b.kind == "providers" {
			r.wrong(src, b.head, "Unknown block", "Berth needs no providers; its kinds are built in.")
			continue
		}
		r.wrong(src, b.head, "Unknown block", "A module block has lines NAME = VALUE only, not the block %q.", b.kind)
	}
	c := &call{name: name, blk: k, each: k.body.attr("for_each"), count: k.body.attr("count")}
	c.node = node{address: r.prefix + c.local(), src: src, at: k.head, body: &k.body, call: c}
	c.eval = func(*node) { r.evaluateCall(c) }
	if r.home != nil {
		c.dir = r.home.sources[k]
	}
	r.calls[name] = c
}

// connectCall resolves what a module block mentions, input by input.
func (r *run) connectCall(c *call) {
	if c.dir == nil { // Identify does not open modules, and Load stopped
		return
	}
	allow := rules{each: c.each != nil, count: c.count != nil}
	for i := range c.blk.body.attrs {
		a := &c.blk.body.attrs[i]
		meta := slices.Contains(callAttributes, a.name)
		switch {
		case a.name == "source" || a.name == "depends_on":
			continue
		case meta:
		case c.dir.variables[a.name] == nil && a.name == "providers":
			c.diags = append(c.diags, wrong(c.src.rng(a.nameAt), "No such input", "Berth needs no providers; its kinds are built in."))
			continue
		case c.dir.variables[a.name] == nil:
			c.diags = append(c.diags, wrong(c.src.rng(a.nameAt), "No such input", "The module in %s has no variable %q.%s", c.dir.rel, a.name,
				hint(a.name, slices.Concat(keys(c.dir.variables), callAttributes), "Declare it there: variable \""+a.name+"\" { … }.")))
			continue
		}
		in := &input{attr: a, node: node{src: c.src, address: c.address + "." + a.name}}
		if a.expr != nil {
			var ms []mention
			for _, t := range a.expr.Variables() {
				ms = append(ms, mention{traversal: t})
			}
			rules := allow
			if meta {
				rules.each, rules.count = false, false
			}
			r.link(&in.node, ms, rules)
		}
		c.diags = append(c.diags, in.diags...)
		c.edges = append(c.edges, in.edges...)
		c.scope.add(&in.scope)
		if meta {
			c.base = append(c.base, &in.node)
		} else {
			c.inputs = append(c.inputs, in)
		}
	}
	c.scope.compact()
	c.after = r.dependsOn(&c.node, c.body)
}

// evaluateCall makes the instances of a module.
func (r *run) evaluateCall(c *call) {
	before := len(c.diags)
	defer func() { c.failed = c.failed || c.diags[before:].HasErrors() || c.diags.HasErrors() }()
	if c.dir == nil || slices.ContainsFunc(c.base, func(n *node) bool { return n.lost(r) }) {
		c.failed = true
		return
	}
	ctx := r.context(&c.scope)
	work := &decoder{address: c.address}
	reps := expand(c.blk, c.each, c.count, ctx, work)
	c.diags = append(c.diags, work.diags...)
	if len(work.bad) > 0 {
		c.failed = true
	}
	for _, n := range append(slices.Clone(c.base), nodesOf(c.inputs)...) {
		r.gather(n)
	}
	c.children = make([]*run, len(reps))
	parallel(len(reps), func(i int) {
		c.children[i] = r.instance(c, reps[i], ctx)
		c.children[i].evaluateModule(c.dir)
	})
	for _, m := range c.children {
		c.diags = append(c.diags, m.diags...)
	}
	if slices.ContainsFunc(c.inputs, func(in *input) bool { return in.lost(r) }) {
		c.failed = true // has been reported
	}
}

func nodesOf(inputs []*input) []*node {
	out := make([]*node, len(inputs))
	for i, in := range inputs {
		out[i] = &in.node
	}
	return out
}

// lost reports whether something that a node mentions has failed.
func (n *node) lost(r *run) bool {
	return n.failed || slices.ContainsFunc(n.edges, func(e edge) bool { return e.to.failed }) ||
		slices.ContainsFunc(n.scope.vars, func(v string) bool { return r.variables[v].failed })
}

// instance is a run with the inputs of one instance of a module.
func (r *run) instance(c *call, rep repetition, ctx *hcl.EvalContext) *run {
	m := newRun(r.dir, Options{Version: r.opts.Version, Now: r.opts.Now, Read: r.opts.Read})
	m.parent, m.from, m.lib, m.home, m.root = r, c, r.lib, c.dir, r.root
	m.stack, m.namespace = r.stack, r.namespace
	m.prefix = c.address + rep.index + "."
	if c.each != nil {
		m.key = rep.key.AsString()
	}
	m.paths = r.pathsFor(c.dir)
	m.after = slices.Concat(r.after, c.after)
	m.base = r.base
	for _, n := range c.base {
		m.base = slices.Concat(m.base, n.objects)
	}
	ctx = rep.context(ctx)
	for _, in := range c.inputs {
		g := given{objects: in.objects}
		if !in.lost(r) {
			v, diags := in.attr.value(ctx)
			if m.diags = append(m.diags, diags...); !diags.HasErrors() {
				at := c.src.rng(in.attr.exprAt)
				g.value, g.at = v, &at
			}
		}
		m.given[in.attr.name] = g
	}
	return m
}

// evaluateModule does for one instance what load does for the configuration.
func (r *run) evaluateModule(d *directory) {
	for i := range d.bodies {
		r.collect(&d.bodies[i])
	}
	r.berth()
	for _, name := range keys(r.variables) {
		r.settleInput(r.variables[name])
	}
	for _, name := range keys(r.variables) {
		r.validate(r.variables[name])
	}
	r.connect()
	r.evaluateAll()
	r.judgeConditions()
	r.refactor()
}

// settleInput gives a module's variable its value.
func (r *run) settleInput(v *variable) {
	src := v.blk.body.src
	g, ok := r.given[v.name]
	v.objects = g.objects
	switch {
	case v.failed:
	case ok && g.value == cty.NilVal:
		v.failed = true // reported
	case ok && g.value.IsNull() && !v.nullable && v.def != cty.NilVal:
		v.value = v.def
	case ok:
		val, problem := v.convertInput(g.value)
		if problem != "" {
			r.diags = append(r.diags, wrong(*g.at, "Wrong value for an input", "The value for variable %q of %s does not fit: %s.%s", v.name, strings.TrimSuffix(r.prefix, "."), problem, r.wayTo(v)))
			v.failed = true
		}
		v.value = val
	case v.def != cty.NilVal:
		v.value = v.def
	default:
		k := r.from.blk
		r.diags = append(r.diags, wrong(k.body.src.rng(k.head), "Missing input", "%s needs %q, which has no default (%s:%d). Write %s = … into this block.",
			r.from.local(), v.name, src.name, src.lineOf(v.blk.head.start), v.name))
		v.failed = true
	}
	if v.failed {
		v.value = cty.DynamicVal
	} else if v.sensitive {
		v.value = v.value.Mark(sensitiveMark{})
	}
}

// convertInput is convert for a value that may be sensitive.
func (v *variable) convertInput(val cty.Value) (cty.Value, string) {
	val, marks := val.Unmark()
	if !val.ContainsMarked() {
		out, problem := v.convert(val)
		return out.WithMarks(marks), problem
	}
	plain, paths := val.UnmarkDeepWithPaths()
	out, problem := v.convert(plain)
	if problem != "" {
		return out, problem
	}
	for _, p := range paths {
		if _, err := p.Path.Apply(out); err != nil { // into a set, say: then all of it is
			for _, p := range paths {
				out = out.WithMarks(p.Marks)
			}
			return out.WithMarks(marks), ""
		}
	}
	return out.MarkWithPaths(paths).WithMarks(marks), ""
}

// wayTo says through which module blocks a value came to a variable.
func (r *run) wayTo(v *variable) string {
	if r.parent == nil {
		return ""
	}
	src := v.blk.body.src
	lines := []string{fmt.Sprintf("  variable %q at %s:%d", v.name, src.name, src.lineOf(v.blk.head.start))}
	for m := r; m.parent != nil; m = m.parent {
		lines = append(lines, "  "+calledAt(m.from.blk))
	}
	slices.Reverse(lines)
	return "\nThe whole way:\n" + strings.Join(lines, "\n")
}

// resolveModule resolves module.NAME.OUTPUT.
func (r *run) resolveModule(n *node, t hcl.Traversal) *hcl.Diagnostic {
	at := t.SourceRange()
	name, nameAt, named := step(t, 1)
	if !named {
		return wrong(at, "Incomplete reference", "Name the module: module.NAME.OUTPUT.")
	}
	c := r.calls[name]
	if c == nil {
		return wrong(nameAt, "No such module", "There is no module %q in this configuration.%s", name, hint(name, keys(r.calls), "Declare it: module \""+name+"\" { … }."))
	}
	e := edge{to: &c.node, at: at}
	n.scope.calls = append(n.scope.calls, c)
	next := 2
	if c.repeated() {
		next = 3
		if len(t) > 2 {
			if _, index := t[2].(hcl.TraverseIndex); !index {
				if o, outAt, ok := step(t, 2); ok && c.dir != nil && c.dir.outputs[o] != nil {
					key, mode, all := `"key"`, "for_each", "values("+c.local()+")[*]."+o
					if c.each == nil {
						key, mode, all = "0", "count", c.local()+"[*]."+o
					}
					return wrong(outAt, "Which one?", "%s has %s: say which one, %s[%s].%s, or all of them, %s.", c.local(), mode, c.local(), key, o, all)
				}
				next = len(t)
			}
		}
	}
	if o, outAt, ok := step(t, next); ok && c.dir != nil {
		if c.dir.outputs[o] == nil {
			return wrong(outAt, "No such output", "The module in %s has no output %q.%s", c.dir.rel, o, hint(o, keys(c.dir.outputs), "Declare it there: output \""+o+"\" { value = … }."))
		}
		e.output = o
	}
	n.edges = append(n.edges, e)
	return nil
}

// valueOfCall is what references to a module see: its outputs.
func (r *run) valueOfCall(c *call) cty.Value {
	if c.failed {
		return cty.DynamicVal
	}
	if c.made != cty.NilVal {
		return c.made
	}
	values := make([]cty.Value, len(c.children))
	for i, m := range c.children {
		outs := make(map[string]cty.Value, len(m.outputs))
		for name, o := range m.outputs {
			outs[name] = o.value
		}
		values[i] = cty.ObjectVal(outs)
	}
	switch {
	case c.each != nil:
		m := make(map[string]cty.Value, len(values))
		for i, v := range values {
			m[c.children[i].key] = v
		}
		c.made = cty.ObjectVal(m)
	case c.count != nil:
		c.made = cty.TupleVal(values)
	case len(values) == 1:
		c.made = values[0]
	default: // enabled = false
		c.made = cty.NullVal(cty.DynamicPseudoType)
	}
	return c.made
}

// answers are the objects that an output of a module came from; of all outputs
// without a name.
func (c *call) answers(output string) []*declaration {
	var out []*declaration
	for _, m := range c.children {
		for _, name := range keys(m.outputs) {
			if output == "" || output == name {
				out = append(out, m.outputs[name].objects...)
			}
		}
	}
	return out
}

// declarations are all blocks of objects, those of modules behind the module's own.
func (r *run) declarations() []*declaration {
	if len(r.calls) == 0 {
		return r.order
	}
	out := slices.Clone(r.order)
	for _, name := range keys(r.calls) {
		for _, m := range r.calls[name].children {
			out = append(out, m.declarations()...)
		}
	}
	return out
}

// within are the declarations that a node of depends_on stands for.
func (n *node) within() []*declaration {
	switch {
	case n.decl != nil:
		return []*declaration{n.decl}
	case n.call != nil:
		var out []*declaration
		for _, m := range n.call.children {
			out = append(out, m.declarations()...)
		}
		return out
	}
	return nil
}

// gather finds the objects that a node refers to, through locals, inputs and
// outputs too.
func (r *run) gather(n *node) {
	if len(n.edges) == 0 && len(n.scope.vars) == 0 {
		return
	}
	seen := map[*declaration]bool{}
	add := func(ds []*declaration) {
		for _, d := range ds {
			if !seen[d] {
				seen[d] = true
				n.objects = append(n.objects, d)
			}
		}
	}
	for _, e := range n.edges {
		switch {
		case e.to.decl != nil:
			add([]*declaration{e.to.decl})
		case e.to.call != nil:
			add(e.to.call.answers(e.output))
		default:
			add(e.to.objects)
		}
	}
	for _, v := range n.scope.vars {
		add(r.variables[v].objects)
	}
}
