package controller

import (
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// pods gives declared pods their row's form: the template stored once and
// referred to, its asks copied, the versions of what it reads pinned. Until then
// it does not wait for a node. A declared pod is never replaced by itself; when
// its node is lost, the node controller only marks it.
type pods struct{}

func (pods) Name() string { return "pod" }

func (pods) Inputs() []Input {
	return append(reloads(func(v *state.Snapshot, read object.Ref) []object.Ref {
		var keys []object.Ref
		for t := range v.Readers(read, object.KindTemplate) {
			for p := range v.PodsFrom(t) {
				if p.Owner.IsZero() {
					keys = append(keys, p.Ref())
				}
			}
		}
		return keys
	}), Input{Kind: object.KindPod, Keys: func(_ *state.Snapshot, e state.Event) []object.Ref {
		if p, ok := e.After.(*object.Pod); ok && p.Spec.Pod != nil {
			return []object.Ref{e.Ref}
		}
		return nil
	}})
}

func (pods) Outputs() []object.Kind {
	return []object.Kind{object.KindPod, object.KindTemplate, object.KindContent, object.KindEvent, object.KindNamespace}
}

func (pods) Reconcile(v *state.Snapshot, key object.Ref, now time.Time) (Result, error) {
	w := begin("pod", v, now)
	p, ok := state.Find[*object.Pod](v, key)
	if !ok || p.Spec.Stop {
		return w.done()
	}
	if p.Spec.Pod == nil {
		if t := v.Template(p); t != nil && p.Owner.IsZero() {
			w.refresh(key, t, []*object.Pod{p})
		}
		return w.done()
	}
	after, held := w.row(p)
	if held != nil {
		w.wakeIn(retryDelay)
		if p.Status.Reason != held.reason || p.Status.Message != held.message {
			after.Status = object.PodStatus{Phase: object.PodPending, Reason: held.reason, Message: held.message, Since: now}
			w.Changes.UpdateStatus(p, after)
		}
		return w.done()
	}
	w.because("%s is made ready to be placed", p.Name)
	w.Changes.Update(p, after)
	if p.Status.Reason == object.ReasonConfig || p.Status.Reason == reasonQuota {
		after.Status = object.PodStatus{Phase: object.PodPending, Since: now}
		w.Changes.UpdateStatus(p, after)
	}
	return w.done()
}

// row is a declared pod as the state keeps it, its template interned; with a
// failure it is unchanged.
func (w *work) row(p *object.Pod) (*object.Pod, *failure) {
	after := p.Clone().(*object.Pod)
	t := *p.Spec.Pod
	r, held := resolve(w.v, p.Namespace, &t)
	if held != nil {
		return after, held
	}
	t.Reads = r.pinned
	cpu, memory := t.Asks()
	if _, held := w.quotaRoom(p.Namespace, cpu, memory, 1); held != nil {
		return after, held
	}
	w.claim(p.Namespace, cpu, memory, 1)
	w.pin(r)
	after.Spec.Template, after.Spec.Pod = w.intern(p.Namespace, &t), nil
	after.Spec.CPU, after.Spec.Memory = cpu, memory
	if len(after.Labels) == 0 {
		after.Labels = t.Labels
	}
	return after, nil
}
