package controller

import (
	"fmt"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/rollout"
	"github.com/berthdev/berth/cluster/state"
)

const (
	// promisePatience is how long a step may be held back before the rollout is
	// paused: a pod that is not ready for a moment is no reason to call a person.
	promisePatience = 10 * time.Second
	// promiseRetry is when a set looks again at pods that it must not stop: no event
	// tells it of the other sets' pods.
	promiseRetry = time.Second
)

// promised is how many pods of a deployment must stay ready by the plan that is
// being carried out, and the revision that says so; nil if nothing was promised.
// What puts a revision back promises nothing.
func promised(v *state.Snapshot, d *object.Deployment) (least int, by *object.Revision) {
	if d.Stack == "" {
		return 0, nil
	}
	s, ok := state.Find[*object.Stack](v, object.Ref{Kind: object.KindStack, Name: d.Stack})
	if !ok {
		return 0, nil
	}
	rev, ok := state.Find[*object.Revision](v, revisionRef(d.Stack, s.Spec.Revision))
	if !ok || rev.Status.Phase.Final() || rev.Status.Phase == object.RevisionReverting || d.Spec.Released == rev.Name {
		return 0, nil
	}
	p, ok := rev.Spec.Promised(d.Ref())
	if !ok {
		return 0, nil
	}
	return p.Least(d.Spec.Replicas), rev
}

// mayStop is how many ready pods of a set may be stopped. Sets of one deployment
// may be looked at side by side: what may go is shared out in their order, to each
// as much as it has too many at most, so that together they never stop more than
// the promise leaves. That each set stops no more than it has too many is its own care.
func (w *work) mayStop(rs *object.ReplicaSet) (n int, limited bool) {
	d, ok := state.Find[*object.Deployment](w.v, rs.Owner)
	if !ok {
		return 0, false
	}
	least, by := promised(w.v, d)
	if by == nil {
		return 0, false
	}
	total, before := 0, 0
	for o := range w.v.Owned(d.Ref()) {
		x, ok := o.(*object.ReplicaSet)
		if !ok {
			continue
		}
		ready := 0
		for p := range w.v.PodsOf(x.Ref()) {
			if live(p) && p.Status.Ready {
				ready++
			}
		}
		total += ready
		if x.Name < rs.Name {
			before += max(0, ready-x.Spec.Replicas)
		}
	}
	return max(0, total-least-before), true
}

// spare reports whether a pod that is one too many may go now, and counts it.
func (w *work) spare(rs *object.ReplicaSet, n *census, p *object.Pod) bool {
	if !p.Status.Ready || !live(p) {
		return true
	}
	if !n.counted {
		n.counted = true
		n.mayStop, n.limited = w.mayStop(rs)
	}
	if !n.limited {
		return true
	}
	if n.mayStop--; n.mayStop < 0 {
		w.wakeIn(promiseRetry)
		return false
	}
	return true
}

// keep gives the step that the promise allows in place of the one that the
// deployment's own limits allow, and whether even that has to wait.
func (r *release) keep(in rollout.Input, step rollout.Step) (rollout.Step, bool) {
	least, by := promised(r.v, r.d)
	if by == nil || r.kept(step, least) {
		return step, false
	}
	in.Unavailable = max(0, in.Want-least)
	if in.Surge == 0 && in.Unavailable == 0 {
		return step, true // there is no step that stops nothing first
	}
	step = rollout.Next(in)
	return step, !r.kept(step, least)
}

// kept reports whether a step leaves as many pods ready as were promised, or takes
// none of those that are.
func (r *release) kept(step rollout.Step, least int) bool {
	return r.after(step) >= min(least, r.status.Ready)
}

// after is how many of the pods that are ready now a step leaves.
func (r *release) after(step rollout.Step) int {
	left, i := 0, 0
	for _, x := range r.versions {
		size := step.New
		if x != r.wanted {
			size = step.Old[i]
			i++
		}
		left += min(x.ready, size)
	}
	return left
}

// held waits while a step would break the promise, and after some time says so.
func (r *release) held(step rollout.Step) {
	st := &r.status
	least, by := promised(r.v, r.d)
	if st.HeldSince.IsZero() || st.HeldBy != by.Name {
		st.HeldSince, st.HeldBy = r.now, by.Name
	}
	if end := st.HeldSince.Add(promisePatience); r.now.Before(end) {
		r.wake(end)
		return
	}
	st.Phase, st.Reason = object.RolloutPaused, object.ReasonPromise
	st.Message = fmt.Sprintf("the next step would leave %d of %d ready, and the plan of revision %d promised %d; it goes on by itself when more are ready", r.after(step), r.d.Spec.Replicas, by.Spec.Number, least)
	r.because("%s is paused: %s", r.d.Name, st.Message)
	r.tell(r.d.Ref(), levelWarning, "rollout_paused", "%s", st.Message)
}
