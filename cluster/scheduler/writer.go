package scheduler

import (
	"fmt"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// writer turns what a round decides into changes.
type writer struct {
	Result
	v      *state.Snapshot
	now    time.Time
	events map[object.Ref]bool // written in this round
}

// place binds a pod; elsewhere is why not to the node that its plan had for it.
func (w *writer) place(p *object.Pod, node, elsewhere string) {
	bound := *p
	bound.Spec.Node, bound.Spec.Elsewhere = node, elsewhere
	w.Changes.Update(p, &bound)
	if p.Status.Reason == object.ReasonUnplaceable {
		c := *p
		c.Status.Reason, c.Status.Message, c.Status.Since = "", "", w.now
		w.Changes.UpdateStatus(p, &c)
	}
	w.Placed = append(w.Placed, object.Placement{Pod: p.Ref(), Node: node, Workload: p.Owner})
}

// unplace says why a pod fits nowhere. The status is written only if that is
// news; the event is about the pod's owner, once for all of its pods.
func (w *writer) unplace(p *object.Pod, reason string) {
	w.Unplaced = append(w.Unplaced, object.Unplaced{Pod: p.Ref(), Reason: reason})
	if p.Status.Reason == object.ReasonUnplaceable && p.Status.Message == reason {
		return
	}
	c := *p
	if c.Status.Reason != object.ReasonUnplaceable {
		c.Status.Since = w.now
	}
	c.Status.Reason, c.Status.Message = object.ReasonUnplaceable, reason
	w.Changes.UpdateStatus(p, &c)
	about := p.Owner
	if about.IsZero() {
		about = p.Ref()
	}
	w.event(about, "warning", object.ReasonUnplaceable, "a pod fits on no node: "+reason)
}

func (w *writer) deviate(p *object.Pod, planned, actual, why string) {
	w.event(p.Ref(), "info", "placed_elsewhere", fmt.Sprintf("planned on %s, placed on %s, for %s: %s", planned, actual, planned, why))
}

// event records what happened, or that it happened again.
func (w *writer) event(about object.Ref, level, reason, message string) {
	ref := object.Ref{Kind: object.KindEvent, Namespace: object.EventNamespace(about), Name: object.EventName(about, reason, message)}
	if w.events[ref] {
		return
	}
	if w.events == nil {
		w.events = map[object.Ref]bool{}
	}
	w.events[ref] = true
	if old, ok := state.Find[*object.Event](w.v, ref); ok {
		again := *old
		again.Spec.Count++
		again.Spec.Last = w.now
		w.Changes.Update(old, &again)
		return
	}
	w.Changes.Create(&object.Event{
		Meta: object.Meta{Kind: object.KindEvent, Namespace: ref.Namespace, Name: ref.Name},
		Spec: object.EventSpec{About: about, Level: level, Reason: reason, Message: message, Source: Author, Count: 1, First: w.now, Last: w.now},
	})
}
