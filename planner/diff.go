package planner

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// Diff compares what a configuration asks for with what is in force and orders
// the changes in waves. v is what InForce made of the masters' answer to Claims;
// more in it does no harm. Secrets are compared by digest,
// so their values need one. The plan has no forecast yet. With errors among the
// diagnostics the plan must not be used; warnings stand in the plan, too.
func Diff(v *state.Snapshot, r Request) (object.Plan, object.Diagnostics) {
	d := differ{v: v, r: r, changes: map[object.Ref]*object.PlannedChange{}, desired: make(map[object.Ref]*Desired, len(r.Objects)), readBy: map[object.Ref][]*Desired{}, askedBy: map[object.Ref][]string{}}
	return d.plan()
}

type differ struct {
	v       *state.Snapshot
	r       Request
	diags   object.Diagnostics
	order   []*Desired // sorted by reference
	desired map[object.Ref]*Desired
	inForce []object.Object     // declared objects of the stack, sorted by reference
	scope   map[object.Ref]bool // nil: everything
	changes map[object.Ref]*object.PlannedChange
	made    []*object.PlannedChange // the same as they were made: hardly out of order
	re      refactorings
	readBy  map[object.Ref][]*Desired // deployments that read a config map or secret
	askedBy map[object.Ref][]string   // addresses of those whose checks ask with a secret
}

func (d *differ) plan() (object.Plan, object.Diagnostics) {
	p := object.Plan{Format: object.PlanFormat, Version: d.r.Version, Stack: d.r.Stack, Cause: d.r.Cause, Target: d.r.Target, Index: d.v.Index(), Source: d.r.Source, OnFailure: d.r.OnFailure}
	if p.Cause == "" {
		p.Cause = "apply"
		if d.r.Destroy {
			p.Cause = "destroy"
		}
	}
	stack, _ := state.Find[*object.Stack](d.v, object.Ref{Kind: object.KindStack, Name: d.r.Stack})
	if stack != nil {
		p.Base = stack.Spec.Revision
	}
	d.collect()
	d.refactor()
	g := d.graph()
	if cycle := g.cycle(); cycle != nil {
		d.fail(d.desired[cycle[0]], "", "Cycle", "These objects wait for each other: "+strings.Join(addresses(cycle, d.desired), " -> ")+". Break the circle: an object cannot be rolled out after itself.")
		return p, d.done()
	}
	d.scope = d.targets(g)
	if d.diags.HasErrors() {
		return p, d.done()
	}
	for _, x := range d.order {
		if d.covers(x.Object.Ref()) {
			d.change(x)
		}
	}
	d.readers()
	for _, o := range d.inForce {
		if d.desired[o.Ref()] == nil && d.covers(o.Ref()) && !d.re.away[o.Ref()] {
			d.remove(o)
		}
	}
	p.Waves = d.waves(g)
	d.whys()
	p.Changes = d.sorted()
	for i := range p.Changes {
		if x := d.desired[p.Changes[i].Ref]; x != nil && x.encoding != nil && p.Changes[i].After.Object == x.claimed {
			p.Encoded(i, x.encoding)
		}
	}
	if p.OnFailure == "" {
		p.OnFailure = onFailure(p.Changes)
	}
	p.Expect = d.expectations()
	p.Outputs, p.OutputChanges = d.outputs(stack)
	diags := d.done()
	for _, x := range diags {
		if x.Severity == object.SeverityWarning {
			p.Warnings = append(p.Warnings, x)
		}
	}
	return p, diags
}

// sorted are the changes by wave and reference.
func (d *differ) sorted() []object.PlannedChange {
	list := slices.Clone(d.made)
	slices.SortFunc(list, func(a, b *object.PlannedChange) int {
		if a.Wave != b.Wave {
			return a.Wave - b.Wave
		}
		return a.Ref.Compare(b.Ref)
	})
	if len(list) == 0 {
		return nil
	}
	out := make([]object.PlannedChange, len(list))
	for i, c := range list {
		out[i] = *c
	}
	return out
}

func (d *differ) put(c *object.PlannedChange) {
	d.changes[c.Ref] = c
	d.made = append(d.made, c)
}

func (d *differ) done() object.Diagnostics { d.diags.Sort(); return d.diags }

func (d *differ) fail(x *Desired, path, summary, detail string) {
	diag := object.Diagnostic{Severity: object.SeverityError, Summary: summary, Detail: detail, Path: path}
	if x != nil {
		diag.Address, diag.Range = x.Address, x.Range
	}
	d.diags = append(d.diags, diag)
}

func (d *differ) warn(x *Desired, summary, detail string) {
	d.fail(x, "", summary, detail)
	d.diags[len(d.diags)-1].Severity = object.SeverityWarning
}

// collect sorts what is desired and what is in force, and finds double names.
func (d *differ) collect() {
	if !d.r.Destroy {
		for i := range d.r.Objects {
			x := d.r.Objects[i]
			if x.Address == "" {
				x.Address = x.Object.Ref().Address()
			}
			d.order = append(d.order, &x)
		}
	}
	slices.SortStableFunc(d.order, func(a, b *Desired) int {
		if c := a.Object.Ref().Compare(b.Object.Ref()); c != 0 {
			return c
		}
		return strings.Compare(a.Address, b.Address)
	})
	for _, x := range d.order {
		r := x.Object.Ref()
		if first := d.desired[r]; first != nil {
			d.fail(x, "", "Duplicate object", fmt.Sprintf("%s and %s both are %s. Give one of them another name or namespace.", first.Address, x.Address, r))
			continue
		}
		d.desired[r] = x
		if dep, ok := x.Object.(*object.Deployment); ok {
			for _, read := range dep.Spec.Pod.ReadRefs(r.Namespace) {
				d.readBy[read] = append(d.readBy[read], x)
			}
			for _, k := range dep.Credentials() {
				if by := d.askedBy[k.Secret]; len(by) == 0 || by[len(by)-1] != x.Address {
					d.askedBy[k.Secret] = append(by, x.Address)
				}
			}
		}
	}
	for _, k := range object.Kinds() {
		if !k.Declared {
			continue
		}
		for o := range d.v.List(k.Kind, state.OfStack(d.r.Stack)) {
			if o.Head().Owner.IsZero() {
				d.inForce = append(d.inForce, o)
			}
		}
	}
	slices.SortFunc(d.inForce, func(a, b object.Object) int { return a.Ref().Compare(b.Ref()) })
}

// change plans one desired object.
func (d *differ) change(x *Desired) {
	ref := x.Object.Ref()
	deps := dependencies(x)
	for _, dep := range deps {
		if dep.Kind != object.KindConfigMap && dep.Kind != object.KindSecret || d.desired[dep] != nil {
			continue
		}
		if _, exists := d.v.Get(dep); !exists && !onlyAsks(x.Object, dep) {
			d.warn(x, "Reads what does not exist", fmt.Sprintf("%s reads %s, which is neither in this configuration nor on the masters. Its pods cannot start until somebody makes it.", x.Address, dep))
		}
	}
	if s, ok := x.Object.(*object.Secret); ok {
		for _, k := range slices.Sorted(maps.Keys(s.Spec.Data)) {
			if s.Spec.Data[k].Digest == "" {
				d.fail(x, "data["+strconv.Quote(k)+"]", "Value without a digest", "Secrets are compared by digests that only the masters can make; this one has none. Make sure that the masters can be reached and plan again.")
			}
		}
	}
	if in, ok := x.Object.(*object.Ingress); ok {
		d.certificate(x, in)
	}
	before, exists := d.current(ref)
	if exists && before == x.same {
		return // of equal fingerprints; to compare them would find nothing
	}
	c := &object.PlannedChange{Ref: ref, Address: x.Address}
	if m := d.re.from[ref]; m != nil {
		c.From, c.Previous = m.From, m.Previous
	}
	if !exists {
		c.Actions, c.After = []string{object.ActionCreate}, object.Any{Object: x.claim(d.r.Stack, deps)}
		d.put(c)
		return
	}
	after := declare(x, d.r.Stack, deps)
	m := after.Head()
	h := before.Head()
	switch {
	case !h.Owner.IsZero():
		d.fail(x, "", "Name is taken", fmt.Sprintf("%s belongs to %s, whose controller made it. Choose another name for %s.", ref, h.Owner, x.Address))
		return
	case h.Stack != "" && h.Stack != d.r.Stack:
		if d.r.Cause == object.CauseRestore {
			d.fail(x, "", "Belongs to another stack by now", fmt.Sprintf("%s was of stack %q in the snapshot and is of stack %q now. Give it back first (take it out of that stack with a removed block with destroy = false), or restore the other stacks only, with --stack.", ref, d.r.Stack, h.Stack))
			return
		}
		d.fail(x, "", "Claimed by two stacks", fmt.Sprintf("%s belongs to stack %q; stack %q wants it, too. Remove it from one of the two configurations (and apply that one first), or choose another name.", ref, h.Stack, d.r.Stack))
		return
	}
	if p, ok := before.(*object.Pod); ok {
		before = d.v.Expand(p)
	}
	for _, path := range x.Ignore {
		if path == "all" {
			m.Labels, m.Annotations = h.Labels, h.Annotations
			n := before.Clone()
			*n.Head() = *m
			after = n
			m = after.Head()
			break
		}
		if err := object.CopyPath(after, before, path); err != nil {
			d.fail(x, path, "No such attribute to ignore", "ignore_changes names an attribute that does not exist: "+err.Error()+".")
		}
	}
	if ref.Kind == object.KindNode {
		// Machines bring labels of their own, such as their zone: a configuration
		// sets the labels that it names and leaves the others alone.
		m.Labels = object.UnionLabels(m.Labels, h.Labels)
	}
	object.KeepAssigned(after, before)
	diff := object.Compare(before, after)
	fields := diff.Fields()
	if d.r.Target != 0 { // what images were pinned to then comes back, too
		fields = append(fields, object.PinFields(before, after)...)
	}
	replace := slices.ContainsFunc(fields, func(f object.FieldDiff) bool { return f.Effect == "replaces" })
	if !replace {
		object.KeepOperational(after, before)
	}
	adopt := h.Stack == ""
	if len(fields) == 0 && !adopt && !c.Moved() {
		return
	}
	c.Before, c.After = object.Any{Object: plain(before)}, object.Any{Object: plain(after)}
	c.Actions, c.Fields, c.Hidden = []string{object.ActionUpdate}, fields, diff.Unchanged()
	switch {
	case replace:
		c.Actions, c.Reason = []string{object.ActionDelete, object.ActionCreate}, object.ReasonReplaceTemplate
		d.protect(x, before, after)
	case adopt && d.imported(ref):
		c.Reason = object.ReasonImport
	case adopt:
		c.Reason = object.ReasonAdopt
	}
	if len(fields) == 0 && (c.Moved() || c.Reason == object.ReasonImport) {
		c.Actions = []string{object.ActionNoOp}
	}
	d.put(c)
}

// certificate looks at the certificate of an ingress, where the configuration itself
// has the secret: nobody else can see it in plain.
func (d *differ) certificate(x *Desired, in *object.Ingress) {
	if d.r.Now.IsZero() || in.Spec.TLS == nil || in.Spec.TLS.Secret == "" {
		return
	}
	from := d.desired[object.Ref{Kind: object.KindSecret, Namespace: in.Namespace, Name: in.Spec.TLS.Secret}]
	if from == nil {
		return
	}
	secret, ok := from.Object.(*object.Secret)
	if !ok {
		return
	}
	data := make(map[string]string, len(secret.Spec.Data))
	for k, v := range secret.Spec.Data {
		plain, known := v.Reveal()
		if !known {
			return
		}
		data[k] = plain
	}
	for _, found := range object.CheckCertificate(in.Spec.Host, data, d.r.Now) {
		found.Address, found.Range = x.Address, x.Range
		d.diags = append(d.diags, found)
	}
}

// remove plans the end of an object that is not desired any more. Machines and the
// network do not end because a configuration forgets them: they are released.
func (d *differ) remove(before object.Object) {
	ref := before.Ref()
	if p, ok := before.(*object.Pod); ok {
		before = d.v.Expand(p)
	}
	if d.re.forgets[ref] {
		d.release(before, object.ReasonForget)
		return
	}
	c := &object.PlannedChange{Ref: ref, Address: ref.Address(), Before: object.Any{Object: plain(before)}}
	if n, ok := before.(*object.Node); ok {
		after := n.Clone().(*object.Node)
		after.Stack, after.After, after.PreventDestroy, after.Spec.Taints = "", nil, false, nil
		c.Actions, c.Reason, c.After = []string{object.ActionUpdate}, object.ReasonRelease, object.Any{Object: plain(after)}
		c.Fields = object.Compare(before, after).Fields()
		d.put(c)
		return
	}
	if n, ok := before.(*object.Network); ok {
		after := n.Clone().(*object.Network)
		after.Stack, after.After, after.PreventDestroy = "", nil, false
		c.Actions, c.Reason, c.After = []string{object.ActionUpdate}, object.ReasonRelease, object.Any{Object: plain(after)}
		c.Fields = object.Compare(before, after).Fields()
		d.put(c)
		return
	}
	d.protect(&Desired{Address: ref.Address()}, before, nil)
	c.Actions = []string{object.ActionDelete}
	if !d.r.Destroy {
		c.Reason = object.ReasonNoConfig
	}
	d.put(c)
}

// protect refuses to end what is protected, in force or from now on.
func (d *differ) protect(x *Desired, before, after object.Object) {
	if before.Head().PreventDestroy || (after != nil && after.Head().PreventDestroy) {
		d.fail(x, "lifecycle.prevent_destroy", "Object cannot be destroyed", fmt.Sprintf("%s has lifecycle.prevent_destroy set, but the plan calls for it to be destroyed. Set prevent_destroy = false and apply that first, or leave the object out of this plan with --target.", x.Address))
	}
}

// expectations are the versions of what changes and of what that depends on: the
// plan is stale once one of them is another.
func (d *differ) expectations() []object.Expectation {
	out := make([]object.Expectation, 0, len(d.made)+len(d.r.Reads))
	others := map[object.Ref]bool{} // that matter, and do not change
	other := func(r object.Ref) {
		if others[r] || d.changes[r] != nil {
			return
		}
		others[r] = true
		if o, ok := d.v.Get(r); ok {
			out = append(out, object.Expectation{Ref: r, Version: o.Head().Version})
		}
	}
	for _, c := range d.made {
		x := object.Expectation{Ref: c.Ref}
		if o, ok := d.v.Get(c.Ref); ok {
			x.Version = o.Head().Version
		}
		out = append(out, x)
		if c.Moved() {
			other(c.From)
		}
		if x := d.desired[c.Ref]; x != nil {
			for _, dep := range dependencies(x) {
				other(dep)
			}
		}
	}
	for _, x := range d.r.Reads {
		if !others[x.Ref] && d.changes[x.Ref] == nil {
			out = append(out, x)
		}
	}
	slices.SortFunc(out, func(a, b object.Expectation) int { return a.Ref.Compare(b.Ref) })
	return out
}

// plain is an object as plans carry it: no status, no versions, no ciphertexts.
func plain(o object.Object) object.Object {
	c := object.WithoutSealed(o).Clone()
	object.Bare(c)
	return c
}

// outputs are the configuration's outputs and those that differ from the stack's.
func (d *differ) outputs(stack *object.Stack) (map[string]object.Output, map[string]object.OutputChange) {
	now := d.r.Outputs
	if d.r.Destroy {
		now = nil
	}
	if d.r.Destroy && len(d.r.Targets) > 0 && stack != nil {
		return stack.Spec.Outputs, nil
	}
	var was map[string]object.Output
	if stack != nil {
		was = stack.Spec.Outputs
	}
	return now, OutputChanges(was, now)
}

// OutputChanges are the outputs that differ; nil if none does.
func OutputChanges(was, now map[string]object.Output) map[string]object.OutputChange {
	changes := map[string]object.OutputChange{}
	for name, o := range now {
		old, there := was[name]
		if there && old.Sensitive == o.Sensitive && (o.Sensitive || sameJSON(old.Value, o.Value)) {
			continue
		}
		c := object.OutputChange{Actions: []string{object.ActionCreate}, Sensitive: o.Sensitive || old.Sensitive}
		if there {
			c.Actions = []string{object.ActionUpdate}
		}
		if !c.Sensitive {
			c.Before, c.After = old.Value, o.Value
		}
		changes[name] = c
	}
	for name, old := range was {
		if _, there := now[name]; !there {
			c := object.OutputChange{Actions: []string{object.ActionDelete}, Sensitive: old.Sensitive}
			if !old.Sensitive {
				c.Before = old.Value
			}
			changes[name] = c
		}
	}
	if len(changes) == 0 {
		return nil
	}
	return changes
}

func sameJSON(a, b any) bool {
	x, errA := json.Marshal(a)
	y, errB := json.Marshal(b)
	return errA == nil && errB == nil && bytes.Equal(x, y)
}

// onFailure is pause when every deployment that changes asks for it.
func onFailure(changes []object.PlannedChange) string {
	seen := false
	for _, c := range changes {
		if dep, ok := c.After.Object.(*object.Deployment); ok {
			if dep.Spec.Update.OnFailure != "pause" {
				return "revert"
			}
			seen = true
		}
	}
	if seen {
		return "pause"
	}
	return "revert"
}

func addresses(refs []object.Ref, desired map[object.Ref]*Desired) []string {
	out := make([]string, len(refs))
	for i, r := range refs {
		out[i] = r.Address()
		if x := desired[r]; x != nil {
			out[i] = x.Address
		}
	}
	return out
}

// covers reports whether the plan may touch an object.
func (d *differ) covers(r object.Ref) bool { return d.scope == nil || d.scope[r] }

// targets is what the plan may touch: everything (nil), or the targets with what
// they depend on; of a destroy, the targets with what depends on them.
func (d *differ) targets(g graph) map[object.Ref]bool {
	if len(d.r.Targets) == 0 {
		return nil
	}
	addresses := make([]string, len(g.order))
	for i, r := range g.order {
		addresses[i] = r.Address()
		if x := d.desired[r]; x != nil {
			addresses[i] = x.Address
		}
	}
	if d.r.Cause != "undo" { // going back with one deployment leaves nothing undone
		d.warn(nil, "Resource targeting is in effect", "The plan does not cover all that the configuration asks for. Plan again without --target when this is done.")
	}
	scope := map[object.Ref]bool{}
	var todo []int
	for _, t := range d.r.Targets {
		found := false
		for i, r := range g.order {
			if address := addresses[i]; t == address || t == r.Address() || t == r.String() || strings.HasPrefix(address, t+"[") || strings.HasPrefix(t, "module.") && strings.HasPrefix(address, t+".") {
				found, scope[r] = true, true
				todo = append(todo, i)
			}
		}
		if !found {
			d.fail(nil, "", "No such target", strings.TrimSpace(fmt.Sprintf("--target %s names nothing in this stack. %s", t, object.DidYouMean(t, slices.Sorted(slices.Values(addresses))))))
		}
	}
	next := g.deps
	if d.r.Destroy {
		next = g.dependents()
	}
	for len(todo) > 0 {
		i := todo[0]
		todo = todo[1:]
		for _, n := range next[i] {
			if r := g.order[n]; !scope[r] {
				scope[r] = true
				todo = append(todo, n)
			}
		}
	}
	return scope
}
