package planner

import (
	"maps"
	"slices"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// AsOf is what a stack declared when one of its revisions had been carried out: what
// it declares now, less what later revisions did. newer are those, the newest first.
// Objects are what revisions keep, with statuses and versions of any time.
func AsOf(now map[object.Ref]object.Object, newer []*object.Revision) map[object.Ref]object.Object {
	out := maps.Clone(now)
	for _, rev := range newer { // the oldest comes last and wins
		for i := range rev.Spec.Changes {
			c := &rev.Spec.Changes[i]
			if c.Before.IsZero() {
				delete(out, c.Ref)
			} else {
				out[c.Ref] = c.Before.Object
			}
		}
	}
	return out
}

// PinnedAsOf gives what a stack declared at the time of a revision the contents that
// its images were pinned to by then. Who restarts a deployment pins them anew, and no
// revision tells of it: the last one that wrote the object does. older are that
// revision and those before it, the newest first.
func PinnedAsOf(then map[object.Ref]object.Object, older []*object.Revision) {
	settled := map[object.Ref]bool{}
	for _, rev := range older {
		for i := range rev.Spec.Changes {
			c := &rev.Spec.Changes[i]
			if then[c.Ref] == nil || settled[c.Ref] {
				continue
			}
			settled[c.Ref] = true
			then[c.Ref] = object.Repinned(then[c.Ref], c.After.Object)
		}
	}
}

// Declared are the objects that a stack's configuration declares.
func Declared(v *state.Snapshot, stack string) map[object.Ref]object.Object {
	out := map[object.Ref]object.Object{}
	for _, info := range object.Kinds() {
		if !info.Declared {
			continue
		}
		for o := range v.List(info.Kind, state.OfStack(stack)) {
			if !o.Head().Owner.IsZero() {
				continue
			}
			if p, ok := o.(*object.Pod); ok {
				o = v.Expand(p)
			}
			out[o.Ref()] = o
		}
	}
	return out
}

// Between lists by what two sets of declared objects differ, as changes that lead
// from one to the other. addresses are those of a configuration, where they are not
// the references'.
func Between(before, after map[object.Ref]object.Object, addresses map[object.Ref]string) []object.PlannedChange {
	refs := slices.Collect(maps.Keys(before))
	for r := range after {
		if before[r] == nil {
			refs = append(refs, r)
		}
	}
	slices.SortFunc(refs, object.Ref.Compare)
	var out []object.PlannedChange
	for _, r := range refs {
		b, a := before[r], after[r]
		c := object.PlannedChange{Ref: r, Address: addresses[r]}
		if c.Address == "" {
			c.Address = r.Address()
		}
		if b != nil {
			c.Before = object.Any{Object: plain(b)}
		}
		if a != nil {
			c.After = object.Any{Object: plain(a)}
		}
		switch {
		case b == nil:
			c.Actions = []string{object.ActionCreate}
		case a == nil:
			c.Actions = []string{object.ActionDelete}
		default:
			if masked(b) && masked(a) {
				continue // who may not read digests cannot tell
			}
			diff := object.Compare(b, a)
			fields := append(diff.Fields(), object.PinFields(b, a)...)
			if len(fields) == 0 {
				continue
			}
			c.Actions, c.Fields, c.Hidden = []string{object.ActionUpdate}, fields, diff.Unchanged()
			if object.Remade(object.RevisionChange{Op: object.OpUpdate, Ref: r, Before: c.Before, After: c.After}) {
				c.Actions = []string{object.ActionDelete, object.ActionCreate}
			}
		}
		out = append(out, c)
	}
	return out
}

// masked reports whether an object is a secret without digests.
func masked(o object.Object) bool {
	s, ok := o.(*object.Secret)
	if !ok {
		return false
	}
	for _, v := range s.Spec.Data {
		if v.Digest == "" {
			return true
		}
	}
	return false
}
