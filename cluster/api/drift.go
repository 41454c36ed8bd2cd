package api

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// changedFields are the fields in which an object is not as a plan saw it: by what
// it remembers of edits, by what the plan says that it was, else by the revision
// that wrote it.
func changedFields(v *state.Snapshot, p *object.Plan, x object.Expectation, o object.Object) []object.FieldDiff {
	var out []object.FieldDiff
	for i := range p.Changes {
		if c := &p.Changes[i]; c.Ref == x.Ref && !c.Before.IsZero() && tells(c.Before.Object) {
			out = object.Compare(c.Before.Object, expand(v, o)).Fields()
		}
	}
	for _, e := range o.Head().Edits {
		if e.Index > x.Version && !slices.ContainsFunc(out, func(f object.FieldDiff) bool { return f.Path == e.Path }) {
			out = append(out, object.FieldDiff{Path: e.Path, Op: object.OpUpdate, Before: text(e.Before), After: text(e.After), Sensitive: e.Sensitive})
		}
	}
	if len(out) > 0 {
		return out
	}
	if rev := writer(v, o); rev != nil {
		for _, c := range rev.Spec.Changes {
			if c.Ref == x.Ref && !c.Before.IsZero() && !c.After.IsZero() {
				return object.Compare(c.Before.Object, c.After.Object).Fields()
			}
		}
	}
	return nil
}

// tells reports whether a side of a plan says enough to be compared: a
// planner's has no digests.
func tells(o object.Object) bool {
	s, ok := o.(*object.Secret)
	if !ok {
		return true
	}
	for _, v := range s.Spec.Data {
		if v.Digest == "" {
			return false
		}
	}
	return true
}

func expand(v *state.Snapshot, o object.Object) object.Object {
	if p, ok := o.(*object.Pod); ok {
		return v.Expand(p)
	}
	return o
}

// text is the value of an Edit, which may have been cut short.
func text(s string) any {
	if s == "" {
		return nil
	}
	var v any
	if json.Unmarshal([]byte(s), &v) != nil {
		return s
	}
	return v
}

// said writes the first of some fields: ": replicas 4 -> 6, paused".
func said(fields []object.FieldDiff) string {
	const most = 3
	var out []string
	for i, f := range fields {
		if i == most {
			out = append(out, fmt.Sprintf("and %d more", len(fields)-most))
			break
		}
		s := f.Path
		b, errB := json.Marshal(f.Before)
		a, errA := json.Marshal(f.After)
		if !f.Sensitive && errA == nil && errB == nil && len(a)+len(b) <= 120 {
			s += " " + string(b) + " -> " + string(a)
		}
		out = append(out, s)
	}
	if len(out) == 0 {
		return ""
	}
	return ": " + strings.Join(out, ", ")
}

// writer is the revision that wrote an object last, if one did.
func writer(v *state.Snapshot, o object.Object) *object.Revision {
	m := o.Head()
	if m.ChangedBy != object.RevisionAuthor {
		return nil
	}
	var last *object.Revision
	for rev := range state.All[*object.Revision](v, object.KindRevision, state.OfStack(m.Stack)) {
		if (last == nil || rev.Spec.Number > last.Spec.Number) && slices.ContainsFunc(rev.Spec.Changes, func(c object.RevisionChange) bool { return c.Ref == o.Ref() }) {
			last = rev
		}
	}
	return last
}

// drift is what of a plan's stacks was changed past them.
func drift(v *state.Snapshot, p *object.Plan) []object.Drift {
	var out []object.Drift
	for _, part := range p.Parts() {
		out = append(out, driftOf(v, part)...)
	}
	return out
}

func driftOf(v *state.Snapshot, p *object.Plan) []object.Drift {
	var edited []object.Object
	for _, info := range object.Kinds() {
		if !info.Declared {
			continue
		}
		for o := range v.List(info.Kind, state.OfStack(p.Stack)) {
			if len(o.Head().Edits) > 0 && o.Head().Owner.IsZero() {
				edited = append(edited, o)
			}
		}
	}
	all := slices.Collect(state.All[*object.Revision](v, object.KindRevision, state.OfStack(p.Stack)))
	slices.SortFunc(all, func(a, b *object.Revision) int { return b.Spec.Number - a.Spec.Number })
	newest := p.Time
	if len(all) > 0 {
		newest = all[0].Spec.Time
	}
	var back []*object.Revision
	for _, rev := range all {
		if rev.Spec.Cause != "rollback" && rev.Spec.Cause != "undo" && rev.Spec.Cause != object.CauseRestore {
			if rev.Spec.Cause == "revert" || rev.Status.Phase == object.RevisionReverted {
				continue // as if it had not been
			}
			break
		}
		back = append(back, rev)
	}
	var deleted []object.Drift
	if stack, ok := state.Find[*object.Stack](v, object.Ref{Kind: object.KindStack, Name: p.Stack}); ok {
		deleted = stack.Spec.Deleted
	}
	return p.Drifted(edited, deleted, newest, back)
}

// remember notes with its stack that somebody ends a declared object past it.
func remember(v *state.Snapshot, c *object.Changeset, gone object.Object) {
	m := gone.Head()
	if m.Stack == "" || !m.Owner.IsZero() {
		return
	}
	stack, ok := state.Find[*object.Stack](v, object.Ref{Kind: object.KindStack, Name: m.Stack})
	if !ok {
		return
	}
	for i := range c.Changes { // of an earlier end in the same changeset
		if x, ok := c.Changes[i].Object.Object.(*object.Stack); ok && x.Name == stack.Name {
			c.Changes[i].Object.Object = x.Remember(gone, c.Author, c.Reason, c.Time)
			return
		}
	}
	c.Update(stack, stack.Remember(gone, c.Author, c.Reason, c.Time))
}

// ender is the note of who deleted an object past its stack, if one is there.
func ender(v *state.Snapshot, stack string, r object.Ref) *object.Drift {
	s, ok := state.Find[*object.Stack](v, object.Ref{Kind: object.KindStack, Name: stack})
	if !ok {
		return nil
	}
	for i := range s.Spec.Deleted {
		if s.Spec.Deleted[i].Ref == r {
			return &s.Spec.Deleted[i]
		}
	}
	return nil
}
