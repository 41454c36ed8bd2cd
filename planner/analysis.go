package planner

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// checked notes the checks of a deployment that begin, and that it has some which
// nobody measures here: the forecast assumes that they pass.
func (r *rehearsal) checked(v *state.Snapshot, d *object.Deployment, before *object.Deployment) {
	r.note(d)
	if c := d.Status.Canary; c != nil && r.log.concerns(d.Stack) {
		for i := range c.Checks {
			s := &c.Checks[i]
			if check := d.Spec.Update.Check(s.Step, s.Name); check != nil && !has(before, s) {
				r.log.check(v, d, check, s, r.now, "")
				r.told[beginning{d.Ref(), s.Step, s.Name, s.Since.UnixNano()}] = true
			}
		}
	}
}

// note notes whether a deployment has checks under way that nobody measures here.
func (r *rehearsal) note(d *object.Deployment) {
	delete(r.checks, d.Ref())
	for _, p := range d.Pending() {
		if p.Check.Networked() {
			r.checks[d.Ref()] = true
		}
	}
}

// underWay notes what rollouts wait for when the rehearsal begins, as their next
// steps are noted when they come to them.
func (r *rehearsal) underWay(v *state.Snapshot) {
	for d := range state.All[*object.Deployment](v, object.KindDeployment) {
		if c := d.Status.Canary; c != nil {
			r.note(d)
			r.inherits = r.inherits || len(d.Pending()) > 0
			if c.Waits && r.log.concerns(d.Stack) {
				r.waits = append(r.waits, d.Ref())
			}
		}
	}
}

// beginning is a check that began, of one attempt.
type beginning struct {
	of         object.Ref
	step, name string
	since      int64
}

// inherit notes, once all have seen what the plan wrote, the checks that began before
// the rehearsal and go on in it: the forecast assumes no less of them than of others.
// Those of a version that the plan replaces are over by then.
func (r *rehearsal) inherit() {
	if !r.inherits {
		return
	}
	r.inherits = false
	v := r.fork.Snapshot()
	for d := range state.All[*object.Deployment](v, object.KindDeployment) {
		if !r.log.concerns(d.Stack) {
			continue
		}
		for _, p := range d.Pending() {
			if !r.told[beginning{d.Ref(), p.Step, p.Name, p.Since.UnixNano()}] {
				r.log.check(v, d, p.Check, &p.CheckStatus, r.now, soFar(&p.CheckStatus))
			}
		}
	}
}

// soFar is what a check has told already.
func soFar(s *object.CheckStatus) string {
	out := fmt.Sprintf(", %d taken by now", s.Passed+s.Failed)
	if s.Times == 1 {
		out = ", under way"
	}
	if s.Inconclusive > 0 {
		out += fmt.Sprintf(", the last %d told nothing", s.Inconclusive)
	}
	return out
}

// silent reports whether a revision is paused since a check tells nothing: in a
// rehearsal it will.
func silent(rev *object.Revision) bool {
	return rev.Status.Phase == object.RevisionPaused && rev.Status.Reason == object.ReasonInconclusive
}

// has reports whether a deployment had begun the check already.
func has(d *object.Deployment, s *object.CheckStatus) bool {
	if d == nil || d.Status.Canary == nil {
		return false
	}
	for _, x := range d.Status.Canary.Checks {
		if x.Name == s.Name && x.Step == s.Step && x.Since.Equal(s.Since) {
			return true
		}
	}
	return false
}

// passes is when a check that nobody measures here will have passed, or have told what
// it has to; zero for one that has.
func passes(p object.Pending) time.Time {
	left := 1 - p.Runs
	if p.Times > 0 {
		left = p.Times - p.Passed - p.Failed
	}
	if left <= 0 {
		return time.Time{}
	}
	return p.Due(p.Check).Add(time.Duration(left-1) * p.Check.Interval.D())
}

// nextCheck is when a check passes next.
func (r *rehearsal) nextCheck() (next time.Time, ok bool) {
	v := r.fork.Snapshot()
	for ref := range r.checks {
		d, there := state.Find[*object.Deployment](v, ref)
		if !there {
			continue
		}
		for _, p := range d.Pending() {
			if at := passes(p); p.Check.Networked() && !at.IsZero() && (!ok || at.Before(next)) {
				next, ok = at, true
			}
		}
	}
	return next, ok
}

// pass lets the checks pass whose time has come.
func (r *rehearsal) pass() {
	v := r.fork.Snapshot()
	for _, ref := range sortedRefs(r.checks) {
		d, ok := state.Find[*object.Deployment](v, ref)
		if !ok {
			delete(r.checks, ref)
			continue
		}
		st, some := d.Status, false
		for _, p := range d.Pending() {
			at := passes(p)
			if !p.Check.Networked() || at.IsZero() || at.After(r.now) {
				continue
			}
			p.Check, some = assumed(p.Check), true
			for n := max(1, p.Times-p.Passed-p.Failed); n > 0; n-- {
				next := d.Clone().(*object.Deployment)
				next.Status = st
				st = *next.Measured(p, object.Measurement{At: r.now, Result: object.ResultPassed})
			}
		}
		if some {
			c := object.Changeset{Author: "forecast", Time: r.now}
			c.SetStatus(d, &st)
			_ = r.apply(c) // nobody else writes in between
		}
	}
}

// assumed is a check without a limit: what failed before the rehearsal stays counted.
func assumed(c *object.Check) *object.Check {
	x := *c
	x.FailureLimit = max(x.FailureLimit, x.Count)
	return &x
}

// length is how long the checks of a step or of a switch take.
func length(checks []object.Check) time.Duration {
	var longest time.Duration
	for i := range checks {
		c := &checks[i]
		took := time.Duration(c.Times(false)) * c.Interval.D()
		if c.Run != nil {
			took += time.Duration(c.Times(false)) * c.Run.Timeout.D()
		}
		longest = max(longest, took)
	}
	return longest
}

// check notes a check that begins, or goes on and has told this much, and what the
// forecast makes of it.
func (b *logbook) check(v *state.Snapshot, d *object.Deployment, c *object.Check, s *object.CheckStatus, now time.Time, soFar string) {
	how := fmt.Sprintf("%d measurements, one each %s", s.Times, c.Interval)
	switch {
	case s.Times == 0:
		how = fmt.Sprintf("one measurement each %s until %s is complete", c.Interval, d.Name)
	case c.Run != nil && s.Times == 1:
		how = "one run"
	case s.Times == 1:
		how = fmt.Sprintf("one measurement after %s", c.Interval)
	}
	w := b.workload(v, d.Ref())
	b.steps = append(b.steps, object.ForecastStep{
		At: object.Duration(now.Sub(b.from)), Wave: b.waveOf(d.Ref()), Op: object.StepCheck, Ref: d.Ref(), Workload: d.Ref(), Ready: w.ready, Want: w.want,
		Note: fmt.Sprintf("goes on if check %s passes: %s%s (the forecast assumes: it does)", s.Name, how, soFar),
	})
}

func sortedRefs(set map[object.Ref]bool) []object.Ref {
	return slices.SortedFunc(maps.Keys(set), object.Ref.Compare)
}
