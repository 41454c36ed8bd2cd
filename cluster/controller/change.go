package controller

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// work collects what one Reconcile wants done.
type work struct {
	v       *state.Snapshot
	now     time.Time
	claimed map[string]state.Usage // by namespace: pods let in by this changeset
	Result
}

func begin(name string, v *state.Snapshot, now time.Time) *work {
	w := &work{v: v, now: now}
	w.Changes.Author, w.Changes.Time = "controller/"+name, now
	return w
}

// because gives the reason of the changeset; the first one stands.
func (w *work) because(format string, args ...any) {
	if w.Changes.Reason == "" {
		w.Changes.Reason = fmt.Sprintf(format, args...)
	}
}

// wake asks for another look at t, or earlier if that was asked for.
func (w *work) wake(t time.Time) {
	if !t.IsZero() && (w.Wake.IsZero() || t.Before(w.Wake)) {
		w.Wake = t
	}
}

// wakeIn asks for another look after d.
func (w *work) wakeIn(d time.Duration) { w.wake(w.now.Add(d)) }

// expect makes the changes conditional on an object staying as it was seen.
func (w *work) expect(o object.Object) {
	w.Changes.Expect = append(w.Changes.Expect, object.Expectation{Ref: o.Ref(), Version: o.Head().Version})
}

// onlyStatus reports whether nothing is written but an object's status, and events.
func (w *work) onlyStatus(r object.Ref) bool {
	return !slices.ContainsFunc(w.Changes.Changes, func(c object.Change) bool {
		return c.Ref.Kind != object.KindEvent && (c.Ref != r || c.Part != object.PartStatus)
	})
}

// done is the result. Without changes no condition is worth a write.
func (w *work) done() (Result, error) {
	if w.Changes.Empty() {
		w.Changes = object.Changeset{}
	}
	return w.Result, nil
}

// setStatus writes a status, of the type of o's, if it says something else.
func setStatus[T any](w *work, o object.Object, was, is *T) {
	if reflect.DeepEqual(was, is) { // most looks find nothing to tell
		return
	}
	w.Changes.SetStatus(o, is)
}

const (
	levelInfo    = "info"
	levelWarning = "warning"
)

// tell records an event.
func (w *work) tell(about object.Ref, level, reason, format string, args ...any) {
	state.Tell(w.v, &w.Changes, about, object.EventSpec{Level: level, Reason: reason, Message: fmt.Sprintf(format, args...), Source: w.Changes.Author, Last: w.now})
}

// stop asks for the end of a pod; one that no node has seen simply goes.
func (w *work) stop(p *object.Pod, why string) {
	if p.Spec.Stop {
		return
	}
	if p.Spec.Node == "" {
		w.Changes.Delete(p)
		return
	}
	c := p.Clone().(*object.Pod)
	c.Spec.Stop, c.Spec.StopWhy = true, why
	w.Changes.Update(p, c)
}

// self is the Keys of a controller that is woken by its own kind.
func self(_ *state.Snapshot, e state.Event) []object.Ref { return []object.Ref{e.Ref} }

// latest is the object of an event: after it, or before it if it was deleted.
func latest(e state.Event) object.Object {
	if e.After != nil {
		return e.After
	}
	return e.Before
}

// sortedKeys are the keys of a map in order, for ranges whose order shows.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// plural is "1 pod", "2 pods".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
