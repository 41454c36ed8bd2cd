package controller

import (
	"slices"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// rehome lets go of pods that still wait for a node where the set makes pods no
// more; others are made in their place.
func (w *work) rehome(rs *object.ReplicaSet, n *census) {
	into := rs.Spec.Into
	n.staying = slices.DeleteFunc(n.staying, func(p *object.Pod) bool {
		limit := p.Spec.Within
		if p.Spec.Node != "" || into == nil && limit == nil || into != nil && (limit.Equal(into.Here()) || limit.Equal(into.Wide())) {
			return false
		}
		w.because("%s makes pods elsewhere now", rs.Name)
		w.stop(p, "made elsewhere")
		return true
	})
}

// toGo is how many pods the set lacks in the zone whose turn it is.
func (w *work) toGo(rs *object.ReplicaSet, n *census) int {
	into := rs.Spec.Into
	if into == nil {
		return 0
	}
	here := into.Here()
	there := 0
	for _, p := range slices.Concat(n.staying, n.resting) {
		if p.Spec.Node == "" && p.Spec.Within.Equal(here) || w.stands(p, here) {
			there++
		}
	}
	return into.Pods - there
}

// within is the limit of the next pod that a set makes; here counts down.
func within(rs *object.ReplicaSet, here *int) *object.Within {
	if rs.Spec.Into == nil {
		return nil
	}
	if *here--; *here >= 0 {
		return rs.Spec.Into.Here()
	}
	return rs.Spec.Into.Wide()
}

// stands reports whether a pod is on a node that the limit admits.
func (w *work) stands(p *object.Pod, limit *object.Within) bool {
	node, ok := state.Find[*object.Node](w.v, object.Ref{Kind: object.KindNode, Name: p.Spec.Node})
	return ok && limit.Admits(node)
}

// givenUp are the pods that a set with too many gives up: the least wanted, and
// while an update goes zone by zone only those of the zone, or without a node.
func (w *work) givenUp(rs *object.ReplicaSet, n *census, extra int) []*object.Pod {
	pods := leastWanted(n.staying)
	if o := rs.Spec.OutOf; o != nil {
		zone := &object.Within{By: o.By, In: []string{o.In}}
		pods = slices.DeleteFunc(pods, func(p *object.Pod) bool { return p.Spec.Node != "" && !w.stands(p, zone) })
	}
	return pods[:min(extra, len(pods))]
}
