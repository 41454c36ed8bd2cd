package hcl

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/berthdev/berth/cluster/object"
)

// condition is a precondition, a postcondition or an assertion of a check: what
// must be so, and what to say when it is not. It is evaluated after everything
// else of its directory, so it can look at all of it and orders nothing. One that
// looks at the forecast waits until there is one.
type condition struct {
	node
	blk     *block
	title   string // of the diagnostic when it fails
	warns   bool   // a check: its failure is a warning
	decl    *declaration
	datum   *datum
	cond    *attribute
	message *attribute
	each    bool
	count   bool
	self    bool // a postcondition: self is the object
	sides   bool // an assertion of a test: its failure shows both sides of a comparison
}

// pending is a condition that waits for the forecast.
type pending struct {
	*condition
	run     *run
	ctx     *hcl.EvalContext
	address string
}

// readCondition reads the block of a condition. One that lacks a part is kept: its
// references are looked at all the same.
func (r *run) readCondition(k *block, c *condition, address string) {
	src := k.body.src
	c.blk = k
	c.node.address, c.node.src, c.node.at, c.node.body = address, src, k.head, &k.body
	if len(k.labels) > 0 {
		r.wrong(src, k.head, "Superfluous name", "A %s block has no name: write %s { … }.", k.kind, k.kind)
	}
	known := []string{"condition", "error_message"}
	for i := range k.body.attrs {
		switch a := &k.body.attrs[i]; a.name {
		case "condition":
			c.cond = a
		case "error_message":
			c.message = a
		default:
			r.wrong(src, a.nameAt, "Unknown attribute", "No attribute %q belongs into a block %s.%s", a.name, k.kind, hint(a.name, known, "There are condition and error_message."))
		}
	}
	for i := range k.body.blocks {
		r.wrong(src, k.body.blocks[i].head, "Unknown block", "A %s block has lines condition = … and error_message = … only.", k.kind)
	}
	for _, name := range known {
		if k.body.attr(name) == nil {
			r.wrong(src, k.head, "Missing attribute", "The attribute %q is needed here.", name)
		}
	}
	r.conditions = append(r.conditions, c)
}

// isCondition says which blocks a lifecycle block may have.
func isCondition(kind string) bool { return kind == "precondition" || kind == "postcondition" }

// readLifecycle finds the conditions of an object or of what is read.
func (r *run) readLifecycle(k *block, what string, c condition, address string) {
	for i := range k.body.blocks {
		l := &k.body.blocks[i]
		if l.kind != "lifecycle" {
			continue
		}
		for j := range l.body.blocks {
			b := &l.body.blocks[j]
			if !isCondition(b.kind) {
				continue // the lifecycle's reader says so
			}
			x := c
			x.title, x.self = capital(what)+" "+b.kind+" failed", b.kind == "postcondition"
			x.each, x.count = k.body.attr("for_each") != nil, k.body.attr("count") != nil
			r.readCondition(b, &x, address)
		}
	}
}

// readCheck reads a check block: assertions whose failure warns.
func (r *run) readCheck(k *block) {
	if !r.named(k, "check") {
		return
	}
	name, src := k.labels[0], k.body.src
	if before := r.checks[name]; before != nil {
		r.duplicate(k, before, "check \""+name+"\"")
		return
	}
	r.checks[name] = k
	for i := range k.body.attrs {
		a := &k.body.attrs[i]
		r.wrong(src, a.nameAt, "Unknown attribute", "A check block has blocks assert { … } only, not the attribute %q.", a.name)
	}
	n := 0
	for i := range k.body.blocks {
		b := &k.body.blocks[i]
		switch b.kind {
		case "assert":
			n++
			r.readCondition(b, &condition{title: "Check block assertion failed", warns: true}, r.prefix+"check."+name)
		case "data":
			r.wrong(src, b.head, "Unknown block", "A check block has no data of its own; put the data block beside it and refer to data.%s.", strings.Join(b.labels, "."))
		default:
			r.wrong(src, b.head, "Unknown block", "A check block has no block %q.%s", b.kind, hint(b.kind, []string{"assert"}, "There is assert."))
		}
	}
	if n == 0 {
		r.wrong(src, k.head, "Missing block", "A check needs a block assert { condition = … error_message = … }.")
	}
}

// judgeConditions evaluates the conditions of a directory, all but those that look
// at the forecast: of these it finds what can be found without one.
func (r *run) judgeConditions() {
	for _, c := range r.conditions {
		r.link(&c.node, mentionsOf(c.body, nil, nil), rules{each: c.each, count: c.count, self: c.self, plan: true})
		r.add(c.diags) // once for each instance of a module, and told once
		bad := c.diags.HasErrors()
		for _, t := range slices.Concat(c.cond.traversals(), c.message.traversals()) {
			if d := r.foresees(t); d != nil {
				r.diags = append(r.diags, d)
				bad = true
			}
		}
		if bad || c.cond == nil || c.message == nil || c.lost(r) {
			continue
		}
		ctx := r.context(&c.scope)
		judge := func(ctx *hcl.EvalContext, address string) {
			if c.scope.plan {
				unknown := ctx.NewChild()
				unknown.Variables = map[string]cty.Value{"plan": cty.DynamicVal}
				r.add(c.judge(unknown, address))
				r.pending = append(r.pending, pending{c, r, ctx, address})
				return
			}
			r.add(c.judge(ctx, address))
		}
		switch {
		case c.decl != nil:
			if c.decl.failed {
				continue
			}
			for _, in := range c.decl.instances {
				judge(c.with(in.context(ctx), func() cty.Value { return valueOf(in.object) }), in.address)
			}
		case c.datum != nil:
			if c.datum.failed {
				continue
			}
			for i, rep := range c.datum.reps {
				judge(c.with(rep.context(ctx), func() cty.Value { return c.datum.values[i] }), c.datum.address+rep.index)
			}
		default:
			judge(ctx, c.address)
		}
	}
}

// with adds self to what a postcondition sees.
func (c *condition) with(ctx *hcl.EvalContext, self func() cty.Value) *hcl.EvalContext {
	if !c.self {
		return ctx
	}
	child := ctx.NewChild()
	child.Variables = map[string]cty.Value{"self": self()}
	return child
}

// judge evaluates a condition; what it depends on and is not known is no failure.
func (c *condition) judge(ctx *hcl.EvalContext, address string) hcl.Diagnostics {
	say := func(summary, detail string) hcl.Diagnostics {
		d := wrong(c.src.rng(c.cond.exprAt), summary, "%s", detail)
		d.Extra = about{address: address}
		if c.warns {
			d.Severity = hcl.DiagWarning
		}
		return hcl.Diagnostics{d}
	}
	v, diags := c.cond.value(ctx)
	if diags.HasErrors() {
		return diags
	}
	v, marks := v.Unmark()
	ok, err := convert.Convert(v, cty.Bool)
	if err != nil || ok.IsNull() {
		d := say("Wrong condition", fmt.Sprintf("A condition is true or false, not %s.", describe(v)))
		d[0].Severity = hcl.DiagError
		return d
	}
	if !ok.IsKnown() || ok.True() {
		return nil
	}
	msg, diags := c.message.value(ctx)
	if diags.HasErrors() {
		return diags
	}
	detail := "The condition does not hold; its message is not shown because it holds a sensitive value."
	if !msg.ContainsMarked() {
		text, err := convert.Convert(msg, cty.String)
		if err != nil || text.IsNull() {
			d := wrong(c.src.rng(c.message.exprAt), "Wrong error_message", "An error_message is a text, not %s.", describe(msg))
			return hcl.Diagnostics{d}
		}
		if text.IsKnown() {
			detail = text.AsString()
		}
	}
	if len(marks) == 0 {
		found := c.found(ctx)
		if c.sides {
			found = append(c.bothSides(ctx), found...)
		}
		if len(found) > 0 {
			detail += "\n\n" + strings.Join(found, "\n")
		}
	}
	return say(c.title, detail)
}

// found lists what the single values in a condition are.
func (c *condition) found(ctx *hcl.EvalContext) []string {
	var out []string
	for _, t := range c.cond.traversals() {
		v, diags := t.TraverseAbs(ctx)
		if diags.HasErrors() || v.ContainsMarked() || !v.IsWhollyKnown() || v.IsNull() || !v.Type().IsPrimitiveType() {
			continue
		}
		text, err := convert.Convert(v, cty.String)
		if err != nil {
			continue
		}
		shown := text.AsString()
		if v.Type() == cty.String {
			shown = fmt.Sprintf("%q", shown)
		}
		line := "  " + writtenTraversal(t) + " is " + shown
		if !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	return out
}

// writtenTraversal is a reference as people write it.
func writtenTraversal(t hcl.Traversal) string {
	var b strings.Builder
	for _, s := range t {
		switch s := s.(type) {
		case hcl.TraverseRoot:
			b.WriteString(s.Name)
		case hcl.TraverseAttr:
			b.WriteString("." + s.Name)
		case hcl.TraverseIndex:
			if s.Key.Type() == cty.String {
				fmt.Fprintf(&b, "[%q]", s.Key.AsString())
			} else {
				fmt.Fprintf(&b, "[%s]", s.Key.AsBigFloat().Text('f', -1))
			}
		}
	}
	return b.String()
}

// traversals are the references in an attribute.
func (a *attribute) traversals() []hcl.Traversal {
	if a == nil || a.expr == nil {
		return nil
	}
	return a.expr.Variables()
}

// Judge evaluates the conditions that look at the forecast of the plan that the
// configuration became. Errors mean that the plan must not be applied; warnings
// are failed checks.
func (c *Configuration) Judge(p *object.Plan) object.Diagnostics {
	var out hcl.Diagnostics
	seen := map[*run]cty.Value{}
	for _, x := range c.pending {
		v, ok := seen[x.run]
		if !ok {
			v = x.run.foreseen(p)
			seen[x.run] = v
		}
		ctx := x.ctx.NewChild()
		ctx.Variables = map[string]cty.Value{"plan": v}
		out = append(out, x.judge(ctx, x.address)...)
	}
	diags := fromHCL(out, c.Files)
	diags.Sort()
	return diags
}

// waiting are the conditions of a run and its modules that wait for the forecast.
func (r *run) waiting() []pending {
	out := r.pending
	for _, name := range keys(r.calls) {
		for _, m := range r.calls[name].children {
			out = append(out, m.waiting()...)
		}
	}
	return out
}
