package controller

import (
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/rollout"
)

// blueGreen brings all pods of a version up beside those of the one before, without
// a connection, then leads all connections to them in one entry, and keeps the old
// pods for some time: so long the way back is another such entry and no more. The
// step in the status is 0 before the connections went over and 1 after.
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
	next = object.CanaryStatus{Set: r.name, Step: 1, Weight: 100, Since: r.now}
	in.Keep = true
	r.tell(r.d.Ref(), levelInfo, "switched", "all connections go to %s; %s stays for %s", r.name, st.Proven, sw.Keep)
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
