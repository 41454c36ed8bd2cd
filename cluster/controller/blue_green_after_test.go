package controller

import (
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// after is a blue-green update with these checks after the switch.
func after(checks ...object.Check) func(*object.BlueGreen) {
	return func(b *object.BlueGreen) { b.ChecksAfter = checks }
}

// over reports whether all connections go to the version that is wanted.
func over(v *state.Snapshot, w *world) bool {
	c := w.deployment("web").Status.Canary
	return c != nil && c.Step == 1 && c.Weight == 100
}

func (w *world) reaches(image string) {
	w.t.Helper()
	if to := w.reached("web"); len(to) != 1 || to[image] != 4 {
		w.t.Fatalf("the service leads to %v, not to %s:\n%s", to, image, w.dump())
	}
}

// A version is proven when the checks after the switch have passed; so long, and as
// long as keep says, the old pods stay.
func TestChecksAfterTheSwitchThatPass(t *testing.T) {
	for _, keep := range []int{5, 600} {
		flags := blueGreen(after(asked("slo"), asked("restarts", signal("restarts", "== 0"))), func(b *object.BlueGreen) { b.Keep = seconds(keep) })
		w := started(t, service("web"), web("ok:1", 4, flags))
		w.neverBelow("web", 4)
		n := w.commit(one(service("web"), web("ok:2", 4, flags)))
		w.until("it has switched", func(v *state.Snapshot) bool { return over(v, w) })
		began := w.now
		w.answer("slo", object.ResultPassed)
		w.succeed() // a new leader goes on with the next measurement
		w.reaches("ok:2")
		if st := w.deployment("web").Status; st.Proven == st.Set || st.Phase != object.RolloutProgressing || w.revision(n).Status.Phase == object.RevisionHealthy {
			t.Fatalf("it is taken for proven: %+v", st)
		}
		w.answer("slo", object.ResultPassed)
		if pods := w.livePods("web"); len(pods["ok:1"]) != 4 {
			t.Fatalf("keep %d: the old pods are gone before the checks have passed: %v", keep, pods)
		}
		w.answer("slo", object.ResultPassed)
		w.awaits(n, object.RevisionHealthy)
		w.reaches("ok:2")
		w.until("the old pods go", func(*state.Snapshot) bool { return len(w.livePods("web")["ok:1"]) == 0 })
		if took := w.now.Sub(began); took < max(30*time.Second, time.Duration(keep)*time.Second) || took > time.Minute+time.Duration(keep)*time.Second {
			t.Errorf("keep %d: the old pods stay for %s", keep, took)
		}
		w.settled()
	}
}

// The way back, to a version that served before, has no checks.
func TestNoChecksOnTheWayBack(t *testing.T) {
	flags := blueGreen(after(asked("slo", func(c *object.Check) { c.Count = 1 })))
	w := started(t, service("web"), web("ok:1", 4, flags))
	n := w.commit(one(service("web"), web("ok:2", 4, flags)))
	w.answer("slo", object.ResultPassed)
	w.awaits(n, object.RevisionHealthy)
	began := w.now
	w.awaits(w.commit(one(service("web"), web("ok:1", 4, flags))), object.RevisionHealthy)
	if took := w.now.Sub(began); took > time.Second {
		t.Errorf("the way back took %s", took)
	}
	w.reaches("ok:1")
	w.rest(11 * time.Minute)
	w.settled()
}

// What fails after the switch gives the connections back in the entry that says so,
// and no pod is started for it.
func TestFailureAfterTheSwitchGoesBackAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		image  string
		fail   func(w *world)
		reason string
	}{
		"a check": {"ok:2", func(w *world) {
			w.answer("slo", object.ResultPassed)
			w.answer("slo", object.ResultFailed)
		}, object.ReasonCheck},
		"a pod": {"breaks:2", func(w *world) { w.answer("slo", object.ResultPassed) }, object.ReasonCrashLoop},
	} {
		t.Run(name, func(t *testing.T) {
			flags := blueGreen(after(asked("slo")))
			w := started(t, service("web"), web("ok:1", 4, flags))
			n := w.commit(one(service("web"), web(c.image, 4, flags)))
			w.until("it has switched", func(v *state.Snapshot) bool { return over(v, w) })
			births := w.view().Count(object.KindPod)
			w.watch = func(v *state.Snapshot) {
				d, _ := state.Find[*object.Deployment](v, ref(object.KindDeployment, "web"))
				if d.Status.Phase == object.RolloutFailed && d.Status.Canary.Weight != 0 {
					t.Fatalf("it has failed, and the connections stay: %+v", d.Status.Canary)
				}
				if v.Count(object.KindPod) > births {
					t.Fatal("pods are started for the way back")
				}
			}
			c.fail(w)
			w.awaits(n, object.RevisionReverted)
			if why := w.revision(n).Status.Reason; why != c.reason {
				t.Errorf("it was put back because of %s", why)
			}
			w.reaches("ok:1")
			w.rest(15 * time.Minute)
			if pods := w.livePods("web"); len(pods) != 1 || len(pods["ok:1"]) != 4 {
				t.Errorf("%v", pods)
			}
			w.settled()
		})
	}
}

// Where a person is to decide, the connections go back all the same, and the pods stay.
func TestFailureAfterTheSwitchWaitsForAPerson(t *testing.T) {
	const promote, retry, abort = "promote", "retry", "abort"
	for _, then := range []string{promote, retry, abort} {
		t.Run(then, func(t *testing.T) {
			flags := blueGreen(after(asked("slo", func(c *object.Check) { c.Count = 1 })))
			paused := func(d *object.Deployment) { flags(d); d.Spec.Update.OnFailure = "pause" }
			w := started(t, service("web"), web("ok:1", 4, paused))
			w.neverBelow("web", 4)
			n := w.commit(one(service("web"), web("ok:2", 4, paused)))
			w.answer("slo", object.ResultFailed)
			w.awaits(n, object.RevisionPaused)
			w.rest(time.Hour)
			w.reaches("ok:1")
			if pods := w.livePods("web"); len(pods["ok:1"]) != 4 || len(pods["ok:2"]) != 4 {
				t.Fatalf("not all pods stay: %v", pods)
			}
			if m := w.deployment("web").Status.Message; !strings.Contains(m, "check slo after the switch") {
				t.Errorf("message %q", m)
			}
			image, end := "ok:2", object.RevisionHealthy
			switch then {
			case promote:
				edit(w, ref(object.KindDeployment, "web"), func(d *object.Deployment) { d.Spec.Promoted = d.Status.Canary.Token() })
			case retry:
				w.retry("web")
				w.until("it has switched again", func(v *state.Snapshot) bool { return over(v, w) })
				w.answer("slo", object.ResultPassed)
			case abort:
				edit(w, ref(object.KindDeployment, "web"), func(d *object.Deployment) { d.Spec.Aborted = d.Status.Set })
				image, end = "ok:1", object.RevisionReverted
			}
			w.awaits(n, end)
			w.reaches(image)
			w.rest(15 * time.Minute)
			if pods := w.livePods("web"); len(pods) != 1 || len(pods[image]) != 4 {
				t.Errorf("%v", pods)
			}
			w.settled()
		})
	}
}

// A source that tells nothing pauses, and the connections stay where they are.
func TestSilenceAfterTheSwitch(t *testing.T) {
	flags := blueGreen(after(asked("slo", func(c *object.Check) { c.Count = 1 })))
	w := started(t, service("web"), web("ok:1", 4, flags))
	n := w.commit(one(service("web"), web("ok:2", 4, flags)))
	w.answer("slo", object.ResultInconclusive)
	w.answer("slo", object.ResultInconclusive)
	w.awaits(n, object.RevisionPaused)
	w.reaches("ok:2")
	w.answer("slo", object.ResultPassed)
	w.awaits(n, object.RevisionHealthy)
	w.reaches("ok:2")
}

// A version that is replaced before it is proven has no connection from then on: the
// one before has, until the next one is there.
func TestReplacedAfterTheSwitch(t *testing.T) {
	flags := blueGreen(after(asked("slo", func(c *object.Check) { c.Count = 1 })))
	w := started(t, service("web"), web("ok:1", 4, flags))
	w.neverBelow("web", 4)
	first := w.commit(one(service("web"), web("ok:2", 4, flags)))
	w.until("it has switched", func(v *state.Snapshot) bool { return over(v, w) })
	n := w.commit(one(service("web"), web("ok:3", 4, flags)))
	w.until("the third version is wanted", func(*state.Snapshot) bool { return w.deployment("web").Status.Observed == w.deployment("web").Version })
	w.settle()
	w.reaches("ok:1")
	w.answer("slo", object.ResultPassed)
	w.awaits(n, object.RevisionHealthy)
	w.reaches("ok:3")
	if p := w.revision(first).Status.Phase; p != object.RevisionSuperseded {
		t.Errorf("the revision before is %s", p)
	}
	w.rest(15 * time.Minute)
	if pods := w.livePods("web"); len(pods) != 1 || len(pods["ok:3"]) != 4 {
		t.Errorf("%v", pods)
	}
	w.settled()
}
