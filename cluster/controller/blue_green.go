package controller

import (
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/rollout"
)

// blueGreen brings all pods of a version up beside those of the one before, without
// a connection, then leads all connections to them in one entry, and keeps the old
// pods for some time: so long the way back is another such entry and no more. The
// step in the status is 0 before the connections went over and 1 after. With checks
// after that, the version is not proven, and the old pods stay, until they have passed.
func (r *release) blueGreen(in *rollout.Input) {
	st, sw := &r.status, r.d.Spec.Update.Switch()
	if st.Proven == "" || r.wanted == nil && r.d.Spec.Paused {
		return // the first version has nobody to take over from
	}
	c := st.Canary
	if r.name == st.Proven {
		r.afterwards(in, sw)
		return
	}
	if st.Set != r.name || r.proven() == nil || r.d.Spec.Paused {
		return
	}
	in.Surge, in.Unavailable = in.Want, 0
	in.Canary, in.Target = true, in.Want
	next := object.CanaryStatus{Set: r.name}
	if c != nil && c.Set == r.name {
		next = *c
	}
	st.Canary = &next
	if next.Step == 1 && (next.Weight > 0 || len(next.Checks) > 0) {
		r.switched(in, &next, sw)
		return
	}
	if in.New.Available < in.Want || st.Reason != "" && !stoppedByCheck(st.Reason) {
		next.Since, next.Waits, next.Checks = time.Time{}, false, nil
		return
	}
	if next.Since.IsZero() {
		next.Since = r.now
	}
	if next.Step == 0 && r.d.Spec.Promoted != next.Token() { // else it has served before, or a person knows better
		passed := r.check(&next, "", sw.Checks, false)
		if end := next.Since.Add(sw.After.D()); r.now.Before(end) {
			r.wake(end)
			return
		}
		if !passed {
			return
		}
		if next.Waits = sw.Manual; next.Waits {
			return
		}
	}
	served := next.Step == 1
	next = object.CanaryStatus{Set: r.name, Step: 1, Weight: 100, Since: r.now}
	in.Keep = true
	r.tell(r.d.Ref(), levelInfo, "switched", "all connections go to %s; %s stays for %s", r.name, st.Proven, sw.Keep)
	if !served && len(sw.ChecksAfter) > 0 {
		r.switched(in, &next, sw)
	}
}

// switched is for a version that got the connections and has to pass checks before it
// is proven. One that fails gives them back in the entry that says so: the old pods are
// all there. What follows is for on_failure to say, as ever; a person who promotes the
// version has it serve all the same.
func (r *release) switched(in *rollout.Input, c *object.CanaryStatus, sw object.BlueGreen) {
	st := &r.status
	in.Keep = true
	if r.d.Spec.Promoted == c.Token() {
		if c.Weight == 0 {
			c.Since, st.Progress = r.now, r.now
			r.tell(r.d.Ref(), levelInfo, "switched", "all connections go to %s again", r.name)
		}
		c.Weight, c.Checks, r.found.over = 100, nil, true
		return
	}
	before, passed := c.Stalled() || len(c.Checks) == 0, false
	if st.Reason == "" || stoppedByCheck(st.Reason) {
		passed = r.check(c, object.AfterSwitch, sw.ChecksAfter, false)
	}
	broken := r.broken()
	failed := r.found.finding != nil && r.found.finding.reason == object.ReasonCheck || broken != nil && broken.reason != object.ReasonUnplaceable
	if failed && c.Weight > 0 {
		c.Weight = 0
		r.tell(r.d.Ref(), levelWarning, "switched_back", "all connections go back to %s", st.Proven)
	}
	r.found.over = passed && c.Weight > 0
	r.found.open = !r.found.over
	if r.found.over && before {
		st.Progress = r.now // from now on it is the pods that are waited for, if for anything
	}
}

// afterwards is for the version that has the connections: the one before stays for
// some time, and the connections are with this one until no other pod is left.
func (r *release) afterwards(in *rollout.Input, sw object.BlueGreen) {
	st := &r.status
	others := false
	for _, x := range r.versions {
		others = others || x != r.wanted && (x.counts.Size > 0 || x.counts.Pods > 0)
	}
	c := st.Canary
	switch {
	case !others:
		st.Canary = nil
		return
	case c == nil:
		return
	case c.Set != r.name: // given up before it had a connection: the next version is this one again
		if c.Weight > 0 {
			st.Canary = &object.CanaryStatus{Set: r.name, Step: 1, Weight: 100, Since: r.now}
		}
		return
	}
	if end := c.Since.Add(sw.Keep.D()); r.now.Before(end) {
		in.Keep = true
		r.wake(end)
		return
	}
	in.Surge = in.Want // all of them may go
}
