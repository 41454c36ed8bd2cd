package controller

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// analysis is what the checks of a rollout say at this look.
type analysis struct {
	finding *failure // what stops the rollout: a check that failed, else one that cannot tell
	runs    []string // pods of checks that are wanted now
	open    bool     // a check beside the steps, or after a switch, has not told what it has to before the end
	over    bool     // those after a switch have
}

// stoppedByCheck reports whether the rollout stands because of a check: then the
// checks say when that is over.
func stoppedByCheck(reason string) bool {
	return reason == object.ReasonCheck || reason == object.ReasonInconclusive
}

// check begins the checks of a step, of a switch, or with step "" those beside the
// steps or before a switch, and takes the measurements that the state answers. It reports whether all
// have passed. Measurements that need the network are put into the status by the
// leading master.
func (r *release) check(c *object.CanaryStatus, step string, checks []object.Check, beside bool) (passed bool) {
	passed = true
	for i := range checks {
		check := &checks[i]
		at := slices.IndexFunc(c.Checks, func(s object.CheckStatus) bool { return s.Step == step && s.Name == check.Name })
		var s object.CheckStatus
		if at >= 0 {
			s = c.Checks[at]
		} else {
			s = object.CheckStatus{Name: check.Name, Step: step, Phase: object.CheckRunning, Since: r.now, Base: r.restarts()}
		}
		s.Times = check.Times(beside)
		if s.Open() && !check.Networked() {
			r.measure(check, &s)
		}
		if at >= 0 {
			if s != c.Checks[at] {
				c.Checks = slices.Clone(c.Checks) // the old one is the snapshot's
				c.Checks[at] = s
			}
		} else {
			c.Checks = append(slices.Clone(c.Checks), s)
		}
		passed = passed && s.Phase == object.CheckPassed
		if beside && s.Phase != object.CheckPassed && (s.Times > 0 || s.Runs == 0 || s.Inconclusive > 0) {
			r.found.open = true // no source is taken for well because it was never heard
		}
		r.conclude(check, &s)
	}
	return passed
}

// conclude notes a check that stops the rollout.
func (r *release) conclude(check *object.Check, s *object.CheckStatus) {
	where := "check " + s.Name
	switch {
	case s.Step == object.AfterSwitch && r.d.Spec.Update.Strategy == "blue_green":
		where += " after the switch"
	case s.Step != "":
		where += " of step " + s.Step
	}
	switch {
	case s.Phase == object.CheckFailed:
		r.found.finding = &failure{reason: object.ReasonCheck, message: fmt.Sprintf("%s: %s (%s failed, %d may)", where, s.Message, plural(s.Failed, "measurement"), check.FailureLimit)}
	case s.Phase == object.CheckInconclusive && r.found.finding == nil:
		r.found.finding = &failure{reason: object.ReasonInconclusive, message: fmt.Sprintf("%s tells nothing: %s; the rollout goes on by itself when it does", where, s.Message)}
	}
}

// measure takes a measurement that the state answers, if one is due.
func (r *release) measure(check *object.Check, s *object.CheckStatus) {
	due := s.Due(check)
	if r.now.Before(due) {
		r.wake(due)
		return
	}
	var m object.Measurement
	switch {
	case check.Run != nil:
		var over bool
		if m, over = r.run(check, s); !over {
			return
		}
	case r.wanted == nil || r.wanted.counts.Size == 0:
		m = object.Inconclusive("there is no pod of the new version")
	case check.Signal.Metric == object.SignalReadiness:
		size := r.wanted.counts.Size
		share := float64(r.wanted.ready) / float64(size)
		m = check.Judge(object.Reading{Number: share, Words: fmt.Sprintf("%d of %s ready", r.wanted.ready, plural(size, "pod"))})
	default:
		n := max(0, r.restarts()-s.Base)
		m = check.Judge(object.Reading{Number: float64(n), Words: plural(n, "restart")})
	}
	m.At = r.now
	s.Record(check, m)
	if s.Open() {
		r.wake(s.Due(check))
	}
}

// restarts counts those of the wanted version's containers.
func (r *release) restarts() int {
	n := 0
	if r.wanted != nil {
		for p := range r.v.PodsOf(r.wanted.set.Ref()) {
			for i := range p.Status.Containers {
				n += p.Status.Containers[i].Restarts
			}
		}
	}
	return n
}

// runName is the pod of a check's measurement, and within the length of a name.
func (r *release) runName(s *object.CheckStatus) string {
	step := s.Step
	if step != "" {
		step += "-"
	}
	name := r.name + "-" + step + s.Name + "-" + strconv.Itoa(s.Runs+1)
	if len(name) > 63 {
		name = r.name[:min(len(r.name), 54)] + "-" + object.Digest(name)[:8]
	}
	return name
}

// run has a pod run to its end and says what came of it; not over: it goes on.
func (r *release) run(check *object.Check, s *object.CheckStatus) (m object.Measurement, over bool) {
	ref := object.Ref{Kind: object.KindPod, Namespace: r.d.Namespace, Name: r.runName(s)}
	p, ok := state.Find[*object.Pod](r.v, ref)
	if ok && (p.Spec.Stop || p.Owner != r.d.Ref() || p.CreatedAt.Before(s.Since)) {
		if p.Owner != r.d.Ref() {
			return object.Inconclusive("there is another pod %s already", p.Name), true
		}
		return m, false // of an earlier attempt; its end wakes this deployment
	}
	r.found.runs = append(r.found.runs, ref.Name)
	if !ok {
		r.launch(check, ref)
		return m, false
	}
	limit := check.Run.Timeout.D()
	switch p.Status.Phase {
	case object.PodSucceeded:
		return object.Measurement{Result: object.ResultPassed, Value: "exit code 0"}, true
	case object.PodLost, object.PodStopped:
		return object.Inconclusive("pod %s is %s", p.Name, p.Status.Phase), true
	case object.PodFailed:
		told := story(p)
		if b := blame(p); b == nil || b.ExitCode == 0 {
			return object.Inconclusive("%s", told.message), true
		}
		return object.Measurement{Result: object.ResultFailed, Value: "exit code " + strconv.Itoa(blame(p).ExitCode), Message: told.message}, true
	}
	if f, failing, later := verdict(p, r.now); failing {
		return object.Inconclusive("%s", f.message), true
	} else {
		r.wake(later)
	}
	since, started := p.CreatedAt, !p.Status.Started.IsZero()
	if started {
		since = p.Status.Started
	}
	if end := since.Add(limit); r.now.Before(end) {
		r.wake(end)
		return m, false
	}
	if started {
		return object.Measurement{Result: object.ResultFailed, Message: fmt.Sprintf("pod %s did not end within %s", p.Name, check.Run.Timeout)}, true
	}
	return object.Inconclusive("pod %s did not start within %s: %s", p.Name, check.Run.Timeout, story(p).message), true
}

// launch makes the pod of one measurement.
func (r *release) launch(check *object.Check, ref object.Ref) {
	t := check.Run.Pod
	t.Restart = "never"
	t.Containers = slices.Clone(t.Containers)
	for i := range t.Containers {
		env := make(map[string]object.Text, len(t.Containers[i].Env)+2)
		env["BERTH_SET"], env["BERTH_STABLE"] = object.Text(r.name), object.Text(r.status.Proven)
		for k, v := range t.Containers[i].Env {
			env[k] = v
		}
		t.Containers[i].Env = env
	}
	r.because("%s runs check %s", r.d.Name, check.Name)
	r.Changes.Create(&object.Pod{
		Meta:   object.Meta{Kind: object.KindPod, Namespace: ref.Namespace, Name: ref.Name, Labels: t.Labels, Stack: r.d.Stack, Owner: r.d.Ref()},
		Spec:   object.PodSpec{Pod: &t},
		Status: object.PodStatus{Phase: object.PodPending, Since: r.now},
	})
}

// sweep ends the pods of checks that nobody waits for any more.
func (r *release) sweep() {
	for _, p := range r.checkers {
		if !slices.Contains(r.found.runs, p.Name) {
			r.stop(p, "its check needs it no more")
		}
	}
}

// unknown pauses the rollout because of a check that tells nothing.
func (r *release) unknown(f *failure) {
	st := &r.status
	st.Phase, st.Reason, st.Message, st.LastLog = object.RolloutPaused, f.reason, f.message, nil
	r.because("%s is paused: %s", r.d.Name, f.reason)
	r.tell(r.d.Ref(), levelWarning, "rollout_paused", "%s", f.message)
}

// cleared reports whether what the checks said when they stopped the rollout holds no
// more: another verdict, a pod that shows more, or none.
func (r *release) cleared() bool {
	st := &r.status
	return stoppedByCheck(st.Reason) && (r.found.finding == nil || r.found.finding.reason != st.Reason || st.Reason == object.ReasonInconclusive && r.broken() != nil)
}

// checkBeside runs the checks beside the steps, from when the first of these has been
// reached. judged: nothing but checks has stopped the rollout; over: a person goes on
// whatever the checks say.
func (r *release) checkBeside(c *object.CanaryStatus) (judged, over bool) {
	u := &r.d.Spec.Update
	judged = r.status.Reason == "" || stoppedByCheck(r.status.Reason)
	over = r.d.Spec.Promoted == c.Token()
	if judged && (c.Step > 0 || !c.Since.IsZero()) {
		if over {
			c.Checks = r.steppedOver(c.Checks, c.Step >= len(u.Steps))
		}
		r.check(c, "", u.Checks, true)
	}
	return judged, over
}

// beside are the checks that go on when a step is done.
func beside(checks []object.CheckStatus) []object.CheckStatus {
	var out []object.CheckStatus
	for _, s := range checks {
		if s.Step == "" {
			out = append(out, s)
		}
	}
	return out
}

// steppedOver is for the checks beside the steps when a person goes on all the same:
// those that stop the rollout begin anew, or after the last step count as passed.
func (r *release) steppedOver(checks []object.CheckStatus, last bool) []object.CheckStatus {
	checks = slices.Clone(checks)
	for i, s := range checks {
		switch {
		case s.Step != "" || s.Phase == object.CheckPassed:
		case last:
			checks[i].Phase = object.CheckPassed
		case s.Phase != object.CheckRunning:
			checks[i] = object.CheckStatus{Name: s.Name, Phase: object.CheckRunning, Since: r.now, Base: r.restarts()}
		}
	}
	return checks
}
