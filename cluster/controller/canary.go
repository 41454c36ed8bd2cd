package controller

import (
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/rollout"
)

// canary leads the rollout through its steps: pods first, then the connections,
// then the pause. The way back to a version that was stable last has no steps, and
// neither has the way to the first version.
func (r *release) canary(in *rollout.Input) {
	st, u := &r.status, r.d.Spec.Update
	stepped := u.Strategy == "canary" && st.Proven != "" && st.Set == r.name && r.name != st.Proven
	// What may end by itself is no end of the steps.
	given := st.Reason != "" && st.Reason != object.ReasonPromise && st.Reason != object.ReasonUnplaceable
	if old := r.proven(); !stepped || old == nil || r.d.Spec.Paused || given {
		if !stepped {
			st.Canary = nil
		}
		return
	}
	if st.Canary == nil || st.Canary.Set != r.name {
		st.Canary = &object.CanaryStatus{Set: r.name}
	}
	c := *st.Canary
	for c.Step < len(u.Steps) {
		s := u.Steps[c.Step]
		in.Canary, in.Target = true, target(u.Steps[:c.Step+1], in.Want)
		if c.Since.IsZero() {
			if in.New.Available < min(in.Target, in.Want) {
				break
			}
			c.Since, c.Weight = r.now, max(c.Weight, s.Weight)
			r.tell(r.d.Ref(), levelInfo, "canary", "step %d of %d: %s gets %d%% of the connections", c.Step+1, len(u.Steps), r.name, c.Weight)
		}
		if end := c.Since.Add(s.Pause.D()); r.now.Before(end) {
			r.wake(end)
			break
		}
		if c.Waits = s.Manual && r.d.Spec.Promoted != c.Token(); c.Waits {
			break
		}
		c.Step++
		c.Since, st.Progress = time.Time{}, r.now
		in.Canary = false
	}
	if c.Step == len(u.Steps) && in.Want > 0 {
		// The rest rolls pod by pod, and the weight goes with the pods.
		all := in.New.Available
		for _, s := range in.Old {
			all += s.Available
		}
		if all > 0 {
			c.Weight = max(c.Weight, in.New.Available*100/all)
		}
	}
	st.Canary = &c
}

// target is how many pods the last of the steps has; steps never take any away.
func target(steps []object.CanaryStep, want int) int {
	n := 1
	for _, s := range steps {
		pods := (want*s.Weight + 99) / 100
		if s.Scale != (object.Amount{}) {
			pods = s.Scale.Of(want, true)
		}
		n = max(n, pods)
	}
	return min(n, want)
}

// proven is the version that was stable last, if it still has pods.
func (r *release) proven() *version {
	for _, x := range r.versions {
		if x.set.Name == r.status.Proven && x.counts.Size > 0 {
			return x
		}
	}
	return nil
}

func (r *release) aborted() bool {
	return r.wanted != nil && r.d.Spec.Aborted == r.name && r.name != r.status.Proven && r.proven() != nil
}

// back leads from a version that a person gave up to the one that was stable
// before, whatever the configuration says of failures: a revision that is under
// way is put back, too.
func (r *release) back(in rollout.Input) {
	st := &r.status
	if c := st.Canary; c != nil && c.Step < len(r.d.Spec.Update.Steps) {
		st.Canary = &object.CanaryStatus{Set: r.name, Step: c.Step} // its pods get no connection from now on
	} else {
		st.Canary = nil // too few old pods may be left to take all of them at once
	}
	if st.Reason != object.ReasonAborted {
		r.fail(&failure{reason: object.ReasonAborted, message: "was aborted by hand; its pods go back to " + st.Proven})
	}
	st.Phase = object.RolloutFailed
	r.wanted, r.name = r.proven(), st.Proven
	again := r.input()
	again.Paused, again.Scaled = false, false
	if step := rollout.Next(again); step.Changed {
		r.resize(again, step)
	}
}
