package controller

import (
	"cmp"
	"slices"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// measure notes the lowest readiness of the workloads of which the plan promised
// one, from when the revision has opened them.
func (a *apply) measure() {
	for _, p := range a.rev.Spec.Promise {
		seen := object.Availability{Workload: p.Workload}
		switch x := a.object(p.Workload).(type) {
		case *object.Deployment:
			if x.Status.Observed != x.Version || x.Status.LowestAt.Before(a.rev.Spec.Time) {
				continue
			}
			seen.Ready, seen.Want, seen.At = x.Status.Lowest, x.Spec.Replicas, object.Duration(x.Status.LowestAt.Sub(a.rev.Spec.Time))
		case *object.ReplicaSet:
			if x.Status.Observed != x.Version {
				continue
			}
			seen.Ready, seen.Want, seen.At = x.Status.Ready, x.Spec.Replicas, object.Duration(a.now.Sub(a.rev.Spec.Time))
		case *object.Pod:
			if seen.Want, seen.At = 1, object.Duration(a.now.Sub(a.rev.Spec.Time)); x.Status.Ready && live(x) {
				seen.Ready = 1
			}
		default:
			continue
		}
		low := a.status.Lowest
		i, ok := slices.BinarySearchFunc(low, p.Workload, func(x object.Availability, r object.Ref) int { return x.Workload.Compare(r) })
		switch {
		case !ok:
			a.status.Lowest = slices.Insert(slices.Clone(low), i, seen)
		case seen.Ready < low[i].Ready:
			a.status.Lowest = slices.Clone(low) // the old one is the snapshot's
			a.status.Lowest[i] = seen
		}
	}
}

// object is what is in force, nil if it does not exist.
func (a *apply) object(r object.Ref) object.Object {
	o, _ := a.v.Get(r)
	return o
}

// deviations compares where pods are with where the plan had them.
func (a *apply) deviations() (kept int, out []object.Deviation) {
	for _, name := range sortedKeys(a.rev.Spec.Placements) {
		planned := a.rev.Spec.Placements[name]
		r, err := object.ParseRef(string(object.KindPod) + "/" + name)
		if err != nil {
			continue
		}
		p, ok := state.Find[*object.Pod](a.v, r)
		switch {
		case !ok:
			out = append(out, object.Deviation{Pod: name, Planned: planned, Why: "it is not there any more"})
		case p.Spec.Node == planned:
			kept++
		default:
			out = append(out, object.Deviation{Pod: name, Planned: planned, Actual: p.Spec.Node, Why: cmp.Or(p.Spec.Elsewhere, whyNot(a.v, planned))})
		}
	}
	return kept, out
}

func whyNot(v *state.Snapshot, node string) string {
	n, ok := state.Find[*object.Node](v, object.Ref{Kind: object.KindNode, Name: node})
	switch {
	case !ok:
		return "the planned node is gone"
	case n.Status.Condition == object.NodeLost:
		return "the planned node is lost"
	case n.Status.Condition == object.NodeNotReady:
		return "the planned node is not ready"
	case n.Spec.Drain:
		return "the planned node is being drained"
	case n.Spec.Unschedulable:
		return "the planned node is cordoned"
	}
	return "it did not fit there when it was placed"
}
