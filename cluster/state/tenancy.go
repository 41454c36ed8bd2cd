package state

import (
	"iter"
	"maps"

	"github.com/berthdev/berth/cluster/object"
)

// Tenancy stands for the pods that are bound to a node and have not ended: equal
// pointers mean the same node, and that none of them came, went, or changed its
// ask, owner, template or labels, across snapshots and forks alike. The scheduler re-reads a node's pods
// only when its tenancy is another.
type Tenancy struct{ _ byte } // not empty: two of them must have two addresses

// Tenancies yields the nodes that have pods bound, ordered by name.
func (v *Snapshot) Tenancies() iter.Seq2[string, *Tenancy] {
	return func(yield func(string, *Tenancy) bool) {
		v.idx.usage.Scan(func(u nodeUsage) bool { return yield(u.node, u.tenancy) })
	}
}

// SameTenancies reports whether surely the same pods are bound to the same nodes
// in both snapshots. O(1); false means that one has to look.
func (v *Snapshot) SameTenancies(o *Snapshot) bool { return v.idx.usage == o.idx.usage }

// SameObjects reports whether surely both snapshots hold the same objects of a
// kind. O(1); false means that one has to look.
func (v *Snapshot) SameObjects(o *Snapshot, k object.Kind) bool { return v.table(k) == o.table(k) }

// regrouped reports whether a bound pod counts as another's replica or has other
// labels, while its ask is what it was.
func regrouped(before, after *object.Pod) bool {
	return before != nil && after != nil && (before.Owner != after.Owner || before.Spec.Template != after.Spec.Template ||
		before.Spec.Pod != after.Spec.Pod || !maps.Equal(before.Labels, after.Labels))
}
