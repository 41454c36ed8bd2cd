package planner

import (
	"fmt"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// Move says that an object of the stack has another name from now on.
type Move struct {
	From, To object.Ref
	Previous string // address of From, for people
	Range    *object.Range
}

// Removal says what becomes of an object that is not desired any more.
type Removal struct {
	Ref     object.Ref
	Destroy bool
	Range   *object.Range
}

// Import asks for an object that is there and belongs to no stack.
type Import struct {
	Ref   object.Ref
	Range *object.Range
}

// refactorings are the moves, removals and imports of a request, as far as the
// state has something to do with them.
type refactorings struct {
	from    map[object.Ref]*Move // by To: what is in force under the old name
	away    map[object.Ref]bool  // by From
	forgets map[object.Ref]bool
	imports map[object.Ref]*Import
}

// refactor holds the request's moves, removals and imports against the state.
func (d *differ) refactor() {
	d.re = refactorings{from: map[object.Ref]*Move{}, away: map[object.Ref]bool{}, forgets: map[object.Ref]bool{}, imports: map[object.Ref]*Import{}}
	if d.r.Destroy {
		return
	}
	say := func(at *object.Range, address, summary, detail string, args ...any) {
		d.diags = append(d.diags, object.Diagnostic{Severity: object.SeverityError, Summary: summary, Detail: fmt.Sprintf(detail, args...), Address: address, Range: at})
	}
	for i := range d.r.Moves {
		m := &d.r.Moves[i]
		if m.Previous == "" {
			m.Previous = m.From.Address()
		}
		x := d.desired[m.To]
		was, there := d.v.Get(m.From)
		if x == nil || d.desired[m.From] != nil || !there || was.Head().Stack != d.r.Stack || !was.Head().Owner.IsZero() {
			continue // done already, or never needed
		}
		if taken, exists := d.v.Get(m.To); exists {
			whose := "belongs to no stack"
			if s := taken.Head().Stack; s == d.r.Stack {
				whose = "belongs to this stack, too"
			} else if s != "" {
				whose = fmt.Sprintf("belongs to stack %q", s)
			}
			say(m.Range, x.Address, "Moved to an existing object", "%s cannot become %s: %s exists already and %s. Choose another name, or take the moved block out: the plan then ends %s and changes what is there.", m.Previous, x.Address, m.To, whose, m.Previous)
			continue
		}
		if first := d.re.from[m.To]; first != nil {
			say(m.Range, x.Address, "Moved to an existing object", "%s cannot become %s, for %s becomes that, and both exist. Let one of them end first, or give it another name.", m.Previous, x.Address, first.Previous)
			continue
		}
		d.re.from[m.To], d.re.away[m.From] = m, true
	}
	for _, x := range d.r.Removals {
		if !x.Destroy && d.desired[x.Ref] == nil {
			d.re.forgets[x.Ref] = true
		}
	}
	for i := range d.r.Imports {
		m := &d.r.Imports[i]
		x := d.desired[m.Ref]
		if x == nil {
			continue
		}
		o, exists := d.v.Get(m.Ref)
		switch {
		case !exists:
			say(m.Range, x.Address, "Nothing to import", "There is no object %s that could be imported as %s. Take the import block out and the plan creates it; what there is shows: berth get %s --all-namespaces", m.Ref, x.Address, m.Ref.Kind)
		case !o.Head().Owner.IsZero():
			say(m.Range, x.Address, "Cannot import", "%s belongs to %s, whose controller made it. Import that instead.", m.Ref, o.Head().Owner)
		case o.Head().Stack == d.r.Stack: // done already
		case o.Head().Stack != "":
			say(m.Range, x.Address, "Import of an owned object", "%s belongs to stack %q and cannot be imported into %q. Let go of it there first, with removed { from = %s  lifecycle { destroy = false } } or: berth state rm --stack %s %s", m.Ref, o.Head().Stack, d.r.Stack, m.Ref.Address(), o.Head().Stack, m.Ref)
		default:
			d.re.imports[m.Ref] = m
		}
	}
}

// current is what is in force of a desired object: under its name, or under the
// one that it had.
func (d *differ) current(ref object.Ref) (object.Object, bool) {
	if o, ok := d.v.Get(ref); ok {
		return o, true
	}
	m := d.re.from[ref]
	if m == nil {
		return nil, false
	}
	o, ok := d.v.Get(m.From)
	if !ok {
		return nil, false
	}
	return object.Renamed(o, ref), true
}

// imported reports whether an import block asks for the object.
func (d *differ) imported(ref object.Ref) bool { return d.re.imports[ref] != nil }

// release plans that an object belongs to no stack any more, and stays.
func (d *differ) release(before object.Object, reason string) {
	ref := before.Ref()
	after := before.Clone()
	m := after.Head()
	m.Stack, m.After, m.PreventDestroy = "", nil, false
	d.put(&object.PlannedChange{
		Ref: ref, Address: ref.Address(), Actions: []string{object.ActionForget}, Reason: reason,
		Before: object.Any{Object: plain(before)}, After: object.Any{Object: plain(after)}, Hidden: object.Compare(before, after).Unchanged(),
	})
}

// Steer plans a change of what a stack owns and of no object's specification: mv,
// rm and import of the command line. v needs the objects that it names.
func Steer(v *state.Snapshot, r Request) (object.Plan, object.Diagnostics) {
	d := differ{v: v, r: r, changes: map[object.Ref]*object.PlannedChange{}, desired: map[object.Ref]*Desired{}}
	p := object.Plan{Format: object.PlanFormat, Version: r.Version, Stack: r.Stack, Cause: r.Cause, Index: v.Index(), OnFailure: "pause", Waves: 1}
	if stack, ok := state.Find[*object.Stack](v, object.Ref{Kind: object.KindStack, Name: r.Stack}); ok {
		p.Base, p.Outputs, p.Source = stack.Spec.Revision, stack.Spec.Outputs, object.Source{}
	}
	keep := func(ref object.Ref, o object.Object) {
		c := o.Clone()
		c.Head().Name = ref.Name
		x := &Desired{Address: ref.Address(), Object: c, DependsOn: o.Head().After}
		d.order = append(d.order, x)
		d.desired[ref] = x
	}
	for _, m := range r.Moves {
		if o, ok := v.Get(m.From); ok {
			keep(m.To, o)
		}
	}
	for _, m := range r.Imports {
		if o, ok := v.Get(m.Ref); ok {
			keep(m.Ref, o)
		}
	}
	d.refactor()
	if d.diags.HasErrors() {
		return p, d.done()
	}
	for _, x := range d.order {
		d.change(x)
	}
	for _, x := range r.Removals {
		if o, ok := v.Get(x.Ref); ok && o.Head().Stack == r.Stack && o.Head().Owner.IsZero() {
			d.release(o, object.ReasonForget)
		}
	}
	for _, c := range d.changes {
		c.Wave = 1
	}
	p.Changes = d.sorted()
	p.Expect = d.expectations()
	return p, d.done()
}
