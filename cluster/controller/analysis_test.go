package controller

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

func seconds(n int) object.Duration { return object.Duration(time.Duration(n) * time.Second) }

// asked is a check whose answers a test gives in the leading master's place.
func asked(name string, change ...func(*object.Check)) object.Check {
	c := object.Check{Name: name, Interval: seconds(10), Count: 3, InconclusiveLimit: 1, HTTP: &object.HTTPSource{URL: "http://there"}}
	for _, f := range change {
		f(&c)
	}
	return c
}

func signal(metric string, success object.Condition) func(*object.Check) {
	return func(c *object.Check) {
		c.HTTP, c.Signal, c.SuccessCondition = nil, &object.SignalSource{Metric: metric}, success
	}
}

func runs(image string) func(*object.Check) {
	return func(c *object.Check) {
		t := template(image)
		t.Labels = nil
		c.HTTP, c.Count, c.Run = nil, 1, &object.RunSource{Pod: t, Timeout: seconds(60)}
	}
}

// checked is a canary with these checks in its only step, or beside it.
func checked(beside bool, checks ...object.Check) func(*object.Deployment) {
	return func(d *object.Deployment) {
		d.Spec.Update.Strategy = "canary"
		d.Spec.Update.Steps = []object.CanaryStep{{Name: "try", Weight: 10}}
		if beside {
			d.Spec.Update.Steps[0].Pause = seconds(60)
			d.Spec.Update.Checks = checks
		} else {
			d.Spec.Update.Steps[0].Checks = checks
		}
	}
}

func blueGreenChecked(checks ...object.Check) func(*object.Deployment) {
	return func(d *object.Deployment) {
		d.Spec.Update.Strategy = "blue_green"
		d.Spec.Update.BlueGreen = &object.BlueGreen{Keep: seconds(30), Checks: checks}
	}
}

// answer lets time pass until a measurement of the check is due, and gives it.
func (w *world) answer(name string, result object.CheckResult) {
	w.t.Helper()
	var p object.Pending
	var d *object.Deployment
	find := func() bool {
		d = w.deployment("web")
		for _, p = range d.Pending() {
			if p.Name == name {
				return true
			}
		}
		return false
	}
	w.until("check "+name+" is asked", func(*state.Snapshot) bool { return find() })
	if due := p.Due(p.Check); w.now.Before(due) {
		w.rest(due.Sub(w.now))
		if !find() {
			w.t.Fatalf("%s is not asked any more:\n%s", name, w.dump())
		}
	}
	w.record(d, p, object.Measurement{Result: result, Message: "it says " + string(result)})
}

// record writes a measurement as the leading master does.
func (w *world) record(d *object.Deployment, p object.Pending, m object.Measurement) {
	w.t.Helper()
	m.At = w.now
	var c object.Changeset
	c.SetStatus(d, d.Measured(p, m))
	c.Author = "master"
	w.apply(c)
}

func TestStepGoesOnWhenItsChecksHavePassed(t *testing.T) {
	w := started(t, service("web"), web("ok:1", 4, checked(false, asked("slo"))))
	w.neverBelow("web", 4)
	n := w.commit(one(service("web"), web("ok:2", 4, checked(false, asked("slo")))))
	for range 2 {
		w.answer("slo", object.ResultPassed)
	}
	w.rest(time.Hour) // nobody measures: nothing passes by itself
	d := w.deployment("web")
	if c := d.Status.Canary; c == nil || c.Step != 0 || c.Weight != 10 || len(c.Checks) != 1 || c.Checks[0].Passed != 2 || d.Status.Phase != object.RolloutProgressing {
		t.Fatalf("status: %+v", d.Status)
	}
	w.answer("slo", object.ResultPassed)
	w.awaits(n, object.RevisionHealthy)
	w.settled()
}

func TestFailedCheckFailsTheRollout(t *testing.T) {
	cases := map[string]func(*object.Deployment){
		"of a step":         checked(false, asked("slo", func(c *object.Check) { c.FailureLimit = 1 })),
		"beside the steps":  checked(true, asked("slo", func(c *object.Check) { c.FailureLimit = 1; c.Count = 0 })),
		"before the switch": blueGreenChecked(asked("slo", func(c *object.Check) { c.FailureLimit = 1 })),
		"of a pause in a rollout": func(d *object.Deployment) {
			checked(false, asked("slo", func(c *object.Check) { c.FailureLimit = 1 }))(d)
			d.Spec.Update.Strategy = "rolling"
			d.Spec.Update.Steps[0].Weight, d.Spec.Update.Steps[0].Scale = 0, object.Amount{N: 1}
		},
	}
	for name, how := range cases {
		t.Run(name, func(t *testing.T) {
			w := started(t, service("web"), web("ok:1", 4, how))
			w.neverBelow("web", 4)
			n := w.commit(one(service("web"), web("ok:2", 4, how)))
			w.answer("slo", object.ResultFailed)
			w.settle()
			if st := w.deployment("web").Status; st.Reason != "" {
				t.Fatalf("one may fail: %+v", st)
			}
			w.answer("slo", object.ResultFailed)
			w.awaits(n, object.RevisionReverted)
			w.settled()
			if st := w.revision(n).Status; st.Reason != object.ReasonCheck || !strings.Contains(st.Message, "it says failed") {
				t.Errorf("status: %+v", st)
			}
			if pods := w.livePods("web"); len(pods) != 1 || len(pods["ok:1"]) != 4 {
				t.Errorf("pods: %v", pods)
			}
		})
	}
}

// With on_failure = "pause" a person has the last word: try again, or step over.
func TestFailedCheckWaitsForAPerson(t *testing.T) {
	for _, beside := range []bool{false, true} {
		for _, by := range []string{"retry", "promote"} {
			t.Run(by, func(t *testing.T) {
				how := checked(beside, asked("slo"))
				w := started(t, web("ok:1", 4, how, onFailurePause))
				n := w.commit(one(web("ok:2", 4, how, onFailurePause)))
				w.answer("slo", object.ResultFailed)
				w.awaits(n, object.RevisionPaused)
				w.settled()
				if by == "retry" {
					w.retry("web")
				} else {
					if !w.deployment("web").Status.Canary.Stalled() {
						t.Fatal("nobody can step over it")
					}
					edit(w, ref(object.KindDeployment, "web"), func(d *object.Deployment) { d.Spec.Promoted = d.Status.Canary.Token() })
				}
				w.until("it goes on", func(*state.Snapshot) bool {
					return w.revision(n).Status.Phase == object.RevisionRunning || w.revision(n).Status.Phase == object.RevisionHealthy
				})
				for range 3 {
					if w.settle(); len(w.deployment("web").Pending()) > 0 {
						w.answer("slo", object.ResultPassed)
					}
				}
				w.awaits(n, object.RevisionHealthy)
			})
		}
	}
}

// A source that tells nothing is no success: the rollout is paused, and goes on by
// itself when the source is back.
func TestInconclusiveCheckPauses(t *testing.T) {
	for name, how := range map[string]func(*object.Deployment){"step": checked(false, asked("slo")), "beside": checked(true, asked("slo")), "blue_green": blueGreenChecked(asked("slo"))} {
		t.Run(name, func(t *testing.T) {
			w := started(t, service("web"), web("ok:1", 4, how))
			n := w.commit(one(service("web"), web("ok:2", 4, how)))
			w.answer("slo", object.ResultInconclusive)
			w.settle()
			if st := w.deployment("web").Status; st.Phase != object.RolloutProgressing {
				t.Fatalf("one is put up with: %+v", st)
			}
			w.answer("slo", object.ResultInconclusive)
			w.awaits(n, object.RevisionPaused)
			w.rest(10 * time.Hour)
			st := w.deployment("web").Status
			if st.Phase != object.RolloutPaused || st.Reason != object.ReasonInconclusive || !strings.Contains(st.Message, "it says inconclusive") {
				t.Fatalf("status: %+v", st)
			}
			w.answer("slo", object.ResultInconclusive) // it is asked on
			for range 3 {
				w.answer("slo", object.ResultPassed)
			}
			w.awaits(n, object.RevisionHealthy)
		})
	}
}

func TestInconclusiveCheckCanBeTriedAgain(t *testing.T) {
	how := checked(false, asked("slo"))
	w := started(t, web("ok:1", 4, how))
	n := w.commit(one(web("ok:2", 4, how)))
	w.answer("slo", object.ResultInconclusive)
	w.answer("slo", object.ResultInconclusive)
	w.awaits(n, object.RevisionPaused)
	w.retry("web")
	w.settle()
	if st := w.deployment("web").Status; st.Phase != object.RolloutProgressing || st.Canary.Checks[0].Inconclusive != 0 {
		t.Fatalf("status: %+v", st)
	}
	for range 3 {
		w.answer("slo", object.ResultPassed)
	}
	w.awaits(n, object.RevisionHealthy)
}

// What the state answers, the controller measures itself.
func TestSignalsOfTheState(t *testing.T) {
	ready := checked(false, asked("ready", signal(object.SignalReadiness, ">= 100%")))
	w := started(t, web("ok:1", 4, ready))
	w.awaits(w.commit(one(web("ok:2", 4, ready))), object.RevisionHealthy)
	w.settled()

	calm := checked(true, asked("calm", signal(object.SignalRestarts, "== 0"), func(c *object.Check) { c.Count, c.Interval = 0, seconds(1) }))
	w = started(t, web("ok:1", 4, calm))
	n := w.commit(one(web("ok:2", 4, calm)))
	w.until("the check has begun", func(*state.Snapshot) bool { return len(w.deployment("web").Pending()) == 1 })
	for p := range w.view().PodsOf(ref(object.KindReplicaSet, w.deployment("web").Status.Set)) {
		q := p.Clone().(*object.Pod)
		q.Status.Containers = []object.ContainerStatus{p.Status.Containers[0]}
		q.Status.Containers[0].Restarts = 1 // less than what counts as a crash loop
		var c object.Changeset
		c.UpdateStatus(p, q)
		w.apply(c)
		break
	}
	w.reconcile()
	w.now = w.now.Add(time.Second)
	w.reconcile()
	w.awaits(n, object.RevisionReverted)
	if st := w.revision(n).Status; st.Reason != object.ReasonCheck || !strings.Contains(st.Message, "1 restart is not == 0") {
		t.Errorf("status: %+v", st)
	}
}

// A rollout does not end before a check beside it has told something.
func TestCheckBesideIsHeardBeforeTheEnd(t *testing.T) {
	how := checked(true, asked("slo", func(c *object.Check) { c.Count, c.Interval = 0, seconds(600) }))
	w := started(t, web("ok:1", 4, how))
	n := w.commit(one(web("ok:2", 4, how)))
	w.rest(9 * time.Minute)
	if st := w.deployment("web").Status; len(w.livePods("web")) != 1 || st.Phase != object.RolloutProgressing {
		t.Fatalf("status: %+v, pods %v", st, w.livePods("web"))
	}
	w.answer("slo", object.ResultPassed)
	w.awaits(n, object.RevisionHealthy)
	w.settled()
}

// A run's pod is none of the deployment's own, and goes when it has told.
func TestRun(t *testing.T) {
	for _, x := range []struct {
		image string
		phase object.RevisionPhase
		why   string
	}{
		{"done:0", object.RevisionHealthy, ""},
		{"exit:3", object.RevisionReverted, "exited with 3"},
		{"missing:1", object.RevisionPaused, "no such image"},
		{"never:1", object.RevisionReverted, "did not end within 1m"},
	} {
		t.Run(x.image, func(t *testing.T) {
			how := checked(false, asked("smoke", runs(x.image)))
			w := started(t, service("web"), web("ok:1", 4, how))
			w.neverBelow("web", 4)
			n := w.commit(one(service("web"), web("ok:2", 4, how)))
			w.until("the pod is there", func(v *state.Snapshot) bool {
				for p := range v.PodsOf(ref(object.KindDeployment, "web")) {
					if env := v.Template(p); env != nil {
						if d := w.deployment("web"); string(env.Containers[0].Env["BERTH_SET"]) != d.Status.Set || string(env.Containers[0].Env["BERTH_STABLE"]) != d.Status.Proven {
							t.Fatalf("environment: %v", env.Containers[0].Env)
						}
						return true
					}
				}
				return false
			})
			w.awaits(n, x.phase)
			if st := w.revision(n).Status; !strings.Contains(st.Message, x.why) {
				t.Errorf("status: %+v", st)
			}
			if x.phase != object.RevisionPaused {
				w.settled()
				for p := range w.view().PodsOf(ref(object.KindDeployment, "web")) {
					t.Errorf("%s is left", p.Name)
				}
			}
		})
	}
}

// Whatever the sources answer, a step ends only after as many answers as it asks
// for, and the rollout fails exactly when more failed than may.
func TestChecksCountRight(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		count, limit := rapid.IntRange(1, 4).Draw(rt, "count"), rapid.IntRange(0, 2).Draw(rt, "limit")
		if limit >= count {
			limit = count - 1
		}
		how := checked(false, asked("slo", func(c *object.Check) { c.Count, c.FailureLimit = count, limit }))
		w := started(rt, web("ok:1", 2, how))
		n := w.commit(one(web("ok:2", 2, how)))
		told, failed := 0, 0
		for told < count && failed <= limit {
			if w.revision(n).Status.Phase.Final() {
				rt.Fatalf("it is %s after %d of %d answers, %d failed", w.revision(n).Status.Phase, told, count, failed)
			}
			switch r := rapid.SampledFrom([]object.CheckResult{object.ResultPassed, object.ResultFailed, object.ResultInconclusive}).Draw(rt, "result"); r {
			case object.ResultFailed:
				told, failed = told+1, failed+1
				w.answer("slo", r)
			case object.ResultPassed:
				told++
				w.answer("slo", r)
			default:
				w.answer("slo", r)
			}
		}
		want := object.RevisionHealthy
		if failed > limit {
			want = object.RevisionReverted
		}
		w.awaits(n, want)
	})
}
