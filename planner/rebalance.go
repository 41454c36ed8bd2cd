package planner

import (
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/scheduler"
	"github.com/berthdev/berth/cluster/state"
)

// moves chooses the pods that a rebalance moves. Only pods of sets at full
// strength, with no rollout under way, may: the others have enough to do.
func moves(v *state.Snapshot, o *object.Operation) []object.Assignment {
	if o.Name != object.OperationRebalance {
		return nil
	}
	calm := map[object.Ref]bool{}
	may := func(p *object.Pod) bool {
		if p.Owner.Kind != object.KindReplicaSet || !counts(p) || p.Spec.Move {
			return false
		}
		ok, known := calm[p.Owner]
		if !known {
			ok = isCalm(v, p.Owner)
			calm[p.Owner] = ok
		}
		return ok
	}
	var out []object.Assignment
	for _, x := range scheduler.New(scheduler.SpreadPolicy()).Even(v, o.Most, may) {
		out = append(out, object.Assignment{Ref: x.Pod})
	}
	return out
}

// isCalm reports whether a set has all its pods ready and none too many, and its
// deployment, if it has one, is not on its way.
func isCalm(v *state.Snapshot, set object.Ref) bool {
	rs, ok := state.Find[*object.ReplicaSet](v, set)
	if !ok || rs.Status.Ready != rs.Spec.Replicas || rs.Status.Total != rs.Spec.Replicas {
		return false
	}
	if rs.Owner.IsZero() {
		return true
	}
	d, ok := state.Find[*object.Deployment](v, rs.Owner)
	return ok && d.Status.Phase == object.RolloutStable
}

// useBefore is the use of every node when a rebalance begins.
func useBefore(v *state.Snapshot) []object.NodeUse {
	var out []object.NodeUse
	for n := range state.All[*object.Node](v, object.KindNode) {
		out = append(out, object.NodeUse{Node: n.Name, Before: useOf(v, n)})
	}
	return out
}

// measure adds the use of every node in the end.
func (b *logbook) measure(o *object.Operation, v *state.Snapshot) {
	if o.Name != object.OperationRebalance {
		return
	}
	for i := range b.use {
		if n, ok := state.Find[*object.Node](v, object.Ref{Kind: object.KindNode, Name: b.use[i].Node}); ok {
			b.use[i].After = useOf(v, n)
		}
	}
}

func useOf(v *state.Snapshot, n *object.Node) object.Use {
	u := v.UsageOf(n.Name)
	return object.Use{CPU: percent(u.CPU, n.Status.CPU), Memory: percent(u.Memory, n.Status.Memory), Pods: u.Pods}
}
