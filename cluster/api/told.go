package api

import (
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// teller adds events to the changeset of the report that they are about: the
// ends of containers that nobody asked for and what keeps pods and nodes from
// being well. What goes as it should is told by the controllers, a rollout at a
// time, so that ten thousand pods may start without ten thousand events.
type teller struct {
	v      *state.Snapshot
	c      *object.Changeset
	source string
	now    time.Time
}

func (t *teller) tell(about object.Ref, level, reason, message string) {
	state.Tell(t.v, t.c, about, object.EventSpec{Level: level, Reason: reason, Message: message, Source: t.source, Last: t.now})
}

func (t *teller) node(before, after *object.Node) {
	was, is := before.Status.Condition, after.Status.Condition
	switch {
	case was == is:
	case is == object.NodeReady:
		t.tell(after.Ref(), "info", "node_ready", "it is ready again")
	default:
		t.tell(after.Ref(), "warning", "node_not_ready", after.Status.Message)
	}
}

func (t *teller) pod(before, after *object.Pod) {
	if after.Spec.Stop {
		return
	}
	was, is := &before.Status, &after.Status
	said := map[string]bool{}
	for i := range is.Containers {
		x := &is.Containers[i]
		if x.State != "exited" || x.Reason == "" || x.Reason == object.ReasonCompleted || x.Finished.Equal(finished(was, x.Name)) {
			continue
		}
		said[x.Reason] = true
		t.tell(after.Ref(), "warning", x.Reason, "container "+x.Name+": "+x.Message)
	}
	if is.Reason != "" && is.Reason != was.Reason && !said[is.Reason] {
		t.tell(after.Ref(), "warning", is.Reason, is.Message)
	}
	if was.Ready && !is.Ready && is.Phase == object.PodRunning && len(said) == 0 {
		for _, x := range is.Containers {
			if x.State == "running" && !x.Ready && x.Message != "" { // without, it is just about to end
				t.tell(after.Ref(), "warning", "not_ready", "container "+x.Name+": "+x.Message)
			}
		}
	}
	if is.Phase == object.PodSucceeded && was.Phase != is.Phase {
		t.tell(after.Ref(), "info", "succeeded", "every container ended with exit code 0")
	}
}

// finished is when a container was last known to have ended.
func finished(s *object.PodStatus, container string) time.Time {
	for _, x := range s.Containers {
		if x.Name == container && x.State == "exited" {
			return x.Finished
		}
	}
	return time.Time{}
}

// maxSkew is how far a node's clock may be off before that is told: certificates,
// schedules and the times in statuses depend on it.
const maxSkew = 5 * time.Second

// report tells what the node itself tells, and that its clock is off, once an hour.
func (t *teller) report(node string, r *object.Report) {
	about := object.Ref{Kind: object.KindNode, Name: node}
	for _, e := range r.Events {
		level := "info"
		if e.Warning {
			level = "warning"
		}
		t.tell(about, level, e.Reason, e.Message)
	}
	if r.Time.IsZero() || t.now.Sub(r.Time).Abs() <= maxSkew {
		return
	}
	const reason = "clock_off"
	message := "the node's clock differs from the leading master's by more than " + object.Duration(maxSkew).String() + "; run a time service on both"
	e, told := state.Find[*object.Event](t.v, object.Ref{Kind: object.KindEvent, Namespace: object.EventNamespace(about), Name: object.EventName(about, reason, message)})
	if !told || t.now.Sub(e.Spec.Last) > time.Hour {
		t.tell(about, "warning", reason, message)
	}
}
