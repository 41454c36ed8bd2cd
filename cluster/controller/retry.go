package controller

import (
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/rollout"
)

// again notes that a person wants the version tried again. start, which calls it,
// clears the failure and counts the deadline from now.
func (r *release) again() {
	st, d := &r.status, r.d
	if st.Set != r.name {
		st.Retries, st.Retried = d.Spec.Retries, time.Time{}
		return
	}
	if st.Retries == d.Spec.Retries {
		return
	}
	if st.Reason == object.ReasonAborted {
		st.Canary = nil // its pods are gone: it takes its steps from the first
		st.Since, st.Step = r.now, 0
		st.Lowest, st.LowestAt = st.Ready, r.now
	}
	if c := st.Canary; c != nil && len(c.Checks) > 0 {
		anew := *c
		if anew.Checks = nil; c.Weight == 0 && d.Spec.Update.Strategy == "blue_green" {
			anew = object.CanaryStatus{Set: c.Set} // the connections have to go over once more
		}
		st.Canary = &anew
	}
	st.Retries, st.Retried = d.Spec.Retries, r.now
	r.tell(d.Ref(), levelInfo, "retried", "%s is tried again", r.name)
}

// worn counts the pods of the wanted version that fail since before it was tried
// again. What they say of the version is out of date, and some would wait long in
// their back-off: new ones take their place.
func (r *release) worn() int {
	if r.wanted == nil || r.status.Retried.IsZero() {
		return 0
	}
	n := 0
	for p := range r.v.PodsOf(r.wanted.set.Ref()) {
		if _, failing, _ := verdict(p, r.now); failing && live(p) && r.before(p) && !leaving(r.v, p) {
			n++
		}
	}
	return n
}

// before reports whether a pod is from before the version was tried again.
func (r *release) before(p *object.Pod) bool { return p.CreatedAt.Before(r.status.Retried) }

// discard makes the wanted version smaller by its worn pods: a set gives up first
// what is not available. When they are asked to stop, the rollout makes it larger
// again.
func (r *release) discard(in rollout.Input, worn int) {
	step := rollout.Step{New: min(in.New.Size, max(in.New.Pods-worn, 0))}
	for _, x := range in.Old {
		step.Old = append(step.Old, x.Size)
	}
	if in.Zone != nil {
		step.Zone = max(in.Zone.New-worn, 0)
	}
	r.resize(in, step)
}
