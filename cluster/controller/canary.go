package controller

import (
	"fmt"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/rollout"
)

// steps leads a rollout that does not go straight on: a canary, a rolling update
// with pauses or zone by zone, a blue-green one.
func (r *release) steps(in *rollout.Input) {
	switch u := &r.d.Spec.Update; {
	case u.Strategy == "blue_green":
		r.blueGreen(in)
	case u.By != "":
		r.zones(in)
	case u.Strategy == "canary", len(u.Steps) > 0:
		r.canary(in)
	default:
		r.status.Canary = r.left()
	}
}

// canary leads the rollout through its steps: pods first, then the connections,
// then the checks and the pause. The way back to a version that was stable last has no steps, and
// neither has the way to the first version. One that has failed stays at its step.
func (r *release) canary(in *rollout.Input) {
	st, u := &r.status, r.d.Spec.Update
	if st.Proven == "" || st.Set != r.name || r.name == st.Proven {
		st.Canary = r.left()
		return
	}
	if r.d.Spec.Paused {
		return
	}
	if r.proven() == nil { // its last pods are gone: the checks beside the steps are what is left
		if st.Canary != nil && st.Canary.Set == r.name {
			c := *st.Canary
			r.checkBeside(&c)
			st.Canary = &c
		}
		return
	}
	if st.Canary == nil || st.Canary.Set != r.name {
		st.Canary = &object.CanaryStatus{Set: r.name}
	}
	weighs := u.Strategy == "canary"
	c := *st.Canary
	judged, over := r.checkBeside(&c)
	for c.Step < len(u.Steps) {
		s := u.Steps[c.Step]
		in.Canary, in.Target, in.Hold = true, target(u.Steps[:c.Step+1], in.Want), !weighs
		if !judged {
			break
		}
		if c.Since.IsZero() {
			if in.New.Available < min(in.Target, in.Want) {
				break
			}
			what := fmt.Sprintf("%d of %d pods are of %s", in.Target, in.Want, r.name)
			if c.Since = r.now; weighs {
				c.Weight = max(c.Weight, s.Weight)
				what = fmt.Sprintf("%s gets %d%% of the connections", r.name, c.Weight)
			}
			r.tell(r.d.Ref(), levelInfo, "canary", "step %d of %d: %s", c.Step+1, len(u.Steps), what)
		}
		if !over {
			passed := r.check(&c, s.Name, s.Checks, false)
			if end := c.Since.Add(s.Pause.D()); r.now.Before(end) {
				r.wake(end)
				break
			}
			if !passed || r.found.finding != nil {
				break
			}
			if c.Waits = s.Manual; c.Waits {
				break
			}
		}
		c.Checks = beside(c.Checks)
		c.Step++
		c.Since, c.Waits, st.Progress, over = time.Time{}, false, r.now, false
		in.Canary, in.Hold = false, false
	}
	if c.Step == len(u.Steps) && weighs {
		// The rest rolls pod by pod, and the weight goes with the pods.
		c.Weight = max(c.Weight, r.percent(r.wanted))
	}
	st.Canary = &c
}

// left is what remains of a canary whose version has been left: its weight goes down
// with its pods. Without a weight each of them would count like any other pod.
func (r *release) left() *object.CanaryStatus {
	c := r.status.Canary
	if c == nil || c.Set == r.name || c.Zones > 0 { // by zones no version has a weight
		return nil
	}
	for _, x := range r.versions {
		if x.set.Name == c.Set && x.counts.Pods > 0 {
			return &object.CanaryStatus{Set: c.Set, Step: c.Step, Weight: min(c.Weight, r.percent(x))}
		}
	}
	return nil
}

// percent is the version's part of the pods that are available; 0 of none.
func (r *release) percent(of *version) int {
	all := 0
	for _, x := range r.versions {
		all += x.counts.Available
	}
	if all == 0 || of == nil {
		return 0
	}
	return of.counts.Available * 100 / all
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
	if c := st.Canary; c != nil && (c.Step < len(r.d.Spec.Update.Steps) || r.d.Spec.Update.Strategy == "blue_green") {
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
	if step := rollout.Next(again); step.Changed || r.displaced(step) {
		r.resize(again, step)
	}
}
