package controller

import (
	"fmt"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// nodes see to the pods of nodes that are lost, gone or tainted. Moving pods off a
// node that is being drained is the replica sets' business, for they know when the
// replacements work. That a node is lost is said by the masters, who hear its
// heartbeats; this controller says what follows.
type nodes struct{}

func (nodes) Name() string { return "node" }

func (nodes) Inputs() []Input {
	return []Input{
		{Kind: object.KindNode, Keys: self},
		{Kind: object.KindPod, Keys: func(v *state.Snapshot, e state.Event) []object.Ref {
			// A binding may cross the loss, taint or drain of its node; all else is
			// told by the node.
			p, ok := e.After.(*object.Pod)
			if !ok || p.Spec.Node == "" || p.Terminal() {
				return nil
			}
			key := object.Ref{Kind: object.KindNode, Name: p.Spec.Node}
			if n, ok := state.Find[*object.Node](v, key); ok && n.Status.Condition != object.NodeLost {
				before, _ := e.Before.(*object.Pod)
				if before != nil && before.Spec.Node == p.Spec.Node || !n.Spec.Drain && len(n.Spec.Taints) == 0 {
					return nil
				}
			}
			return []object.Ref{key}
		}},
	}
}

func (nodes) Outputs() []object.Kind { return []object.Kind{object.KindPod, object.KindEvent} }

func (nodes) Reconcile(v *state.Snapshot, key object.Ref, now time.Time) (Result, error) {
	w := begin("node", v, now)
	n, ok := state.Find[*object.Node](v, key)
	switch {
	case !ok:
		w.lose(key, "the node was removed")
	case n.Status.Condition == object.NodeLost:
		w.lose(key, "the node does not answer")
	default:
		w.evict(n)
		if n.Spec.Drain {
			w.nameStayers(n)
		}
	}
	return w.done()
}

// lose marks the node's pods as lost. Those of a set stop counting at once and
// are replaced; a declared pod is only marked, and is itself again if the node
// comes back with it.
func (w *work) lose(node object.Ref, why string) {
	marked := 0
	for p := range w.v.PodsOn(node.Name) {
		if p.Terminal() {
			continue
		}
		marked++
		after := p.Clone().(*object.Pod)
		after.Status.Phase, after.Status.Ready, after.Status.ReadySince = object.PodLost, false, time.Time{}
		after.Status.Reason, after.Status.Message, after.Status.Since = object.ReasonNodeLost, fmt.Sprintf("node %s: %s", node.Name, why), w.now
		w.Changes.UpdateStatus(p, after)
		if !p.Owner.IsZero() && !p.Spec.Stop {
			stopped := p.Clone().(*object.Pod)
			stopped.Spec.Stop, stopped.Spec.StopWhy = true, "node "+node.Name+" is lost"
			w.Changes.Update(p, stopped)
		}
	}
	if marked > 0 {
		w.because("node %s is lost", node.Name)
		w.tell(node, levelWarning, "node_lost", "%s: %s with it", why, plural(marked, "pod"))
	}
}

// evict stops pods that do not tolerate a no_execute taint of their node.
func (w *work) evict(n *object.Node) {
	var taints []object.Taint
	for _, t := range n.Spec.Taints {
		if t.Effect == "no_execute" {
			taints = append(taints, t)
		}
	}
	if len(taints) == 0 {
		return
	}
	evicted := 0
	for p := range w.v.PodsOn(n.Name) {
		if p.Spec.Stop || p.Terminal() {
			continue
		}
		t := w.v.Template(p)
		for _, taint := range taints {
			if t == nil || !object.Tolerated(t.Tolerations, taint) {
				w.stop(p, fmt.Sprintf("node %s has the taint %s", n.Name, taint.Key))
				evicted++
				break
			}
		}
	}
	if evicted > 0 {
		w.because("node %s has a taint that %s do not tolerate", n.Name, plural(evicted, "pod"))
		w.tell(n.Ref(), levelInfo, "evicted", "%s do not tolerate its taints", plural(evicted, "pod"))
	}
}

// nameStayers tells once which pods a drain cannot move: nobody would start a
// declared pod again.
func (w *work) nameStayers(n *object.Node) {
	for p := range w.v.PodsOn(n.Name) {
		if !p.Owner.IsZero() || !live(p) {
			continue
		}
		const reason = "not_drained"
		message := fmt.Sprintf("stays on node %s, which is drained: no set would start it elsewhere. Delete it or make it a deployment", n.Name)
		if _, told := w.v.Get(object.Ref{Kind: object.KindEvent, Namespace: p.Namespace, Name: object.EventName(p.Ref(), reason, message)}); !told {
			w.because("node %s is drained", n.Name)
			w.tell(p.Ref(), levelWarning, reason, "%s", message)
		}
	}
}
