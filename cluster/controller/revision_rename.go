package controller

import (
	"maps"
	"slices"

	"github.com/berthdev/berth/cluster/object"
)

// rename gives an object another name, in one changeset with all that it owns:
// the sets of a deployment, the pods of a set, keep their names, and the containers
// on the nodes do not notice. The status comes along, so a rollout that is under
// way goes on. False means that there is nothing to rename any more.
func (a *apply) rename(from object.Ref, after object.Object) bool {
	was, exists := a.v.Get(from)
	if !exists || was.Head().Stack != a.rev.Spec.Stack || !was.Head().Owner.IsZero() {
		return false
	}
	object.KeepOperational(after, was)
	object.CopyStatus(after, was)
	a.Changes.Create(after)
	to := after.Ref()
	for o := range a.v.Owned(from) {
		switch o.Ref().Kind {
		case object.KindReplicaSet, object.KindPod:
		default:
			continue // is made anew under the new name, and goes with the old one
		}
		next := o.Clone()
		next.Head().Owner = to
		a.Changes.Update(o, next)
	}
	a.Changes.Delete(was)
	a.because("revision %s renames %s to %s", a.rev.Name, from, to.Name)
	return true
}

// formerNames are the names that renamed objects had when the first of several
// revisions found them.
type formerNames map[object.Ref]object.Ref

// add takes a change of the next revision in.
func (f formerNames) add(c *object.RevisionChange) {
	if c.From.IsZero() {
		return
	}
	first := c.From
	if older, ok := f[first]; ok {
		first = older
		delete(f, c.From) // the name is free: another object may have it by now
	}
	f[c.Ref] = first
}

// back makes renames of those pairs of a delete and a create that undo one.
func (f formerNames) back(changes []object.RevisionChange) {
	for _, now := range slices.SortedFunc(maps.Keys(f), object.Ref.Compare) {
		was := f[now]
		gone := slices.IndexFunc(changes, func(c object.RevisionChange) bool { return c.Ref == now && c.Op == object.OpDelete })
		made := slices.IndexFunc(changes, func(c object.RevisionChange) bool { return c.Ref == was && c.Op == object.OpCreate })
		if gone >= 0 && made >= 0 {
			changes[gone].To, changes[made].From = was, now
		}
	}
}
