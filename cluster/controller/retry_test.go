package controller

import (
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/rollout"
	"github.com/berthdev/berth/cluster/state"
)

// retry is what berth rollout retry writes.
func (w *world) retry(name string) {
	w.t.Helper()
	edit(w, ref(object.KindDeployment, name), func(d *object.Deployment) {
		if err := d.Retry(); err != nil {
			w.t.Fatalf("%v", err)
		}
	})
}

// A revision that waits for a person goes on with new pods in place of those that
// failed; the version is the same and no ready pod is touched meanwhile.
func TestRetryLetsAPausedRevisionGoOn(t *testing.T) {
	for _, bad := range []string{"missing:2", "crash:2", "never:2"} {
		t.Run(bad, func(t *testing.T) {
			w := started(t, web("ok:1", 4))
			w.neverBelow("web", 4)
			n := w.commit(one(web(bad, 4, onFailurePause)))
			w.awaits(n, object.RevisionPaused)
			w.settled()
			set, worn := w.deployment("web").Status.Set, w.livePods("web")[bad]
			w.mended = w.now
			w.settled()
			if st := w.deployment("web").Status; st.Phase != object.RolloutPaused || len(worn) == 0 {
				t.Fatalf("went on by itself: %+v, pods %v", st, worn)
			}
			if bad == "never:2" { // it shows nothing that new pods would cure: the old ones get their time again
				w.mended = epoch
			}
			w.retry("web")
			w.awaits(n, object.RevisionHealthy)
			st := w.deployment("web").Status
			if st.Set != set || st.Reason != "" || !st.Retried.IsZero() || st.Phase != object.RolloutStable {
				t.Errorf("status: %+v, want the set %s", st, set)
			}
			if pods := w.livePods("web"); len(pods) != 1 || len(pods[bad]) != 4 {
				t.Errorf("pods: %v", pods)
			}
			w.settled()
		})
	}
}

// What fails again is told again, with a deadline that counts from the retry.
func TestRetryThatFailsAgain(t *testing.T) {
	w := started(t, web("ok:1", 4))
	n := w.commit(one(web("never:2", 4, onFailurePause)))
	w.awaits(n, object.RevisionPaused)
	for range 2 {
		begin := w.now
		w.retry("web")
		w.until("it goes on", func(*state.Snapshot) bool { return w.revision(n).Status.Phase == object.RevisionRunning })
		w.awaits(n, object.RevisionPaused)
		if took := w.now.Sub(begin); took != web("ok:1", 1).Spec.Update.ProgressDeadline.D() {
			t.Errorf("failed again after %s", took)
		}
		if st := w.deployment("web").Status; st.Reason != ReasonDeadline {
			t.Errorf("status: %+v", st)
		}
	}
	if err := w.deployment("web").Clone().(*object.Deployment).Retry(); err != nil {
		t.Error(err)
	}
}

// Without a revision under way nothing puts a failure back.
func TestRetryPastAStack(t *testing.T) {
	w := started(t, web("ok:1", 4))
	w.neverBelow("web", 4)
	r := ref(object.KindDeployment, "web")
	if err := w.deployment("web").Clone().(*object.Deployment).Retry(); !object.IsCode(err, object.CodeInvalid) {
		t.Errorf("there was nothing to retry: %v", err)
	}
	edit(w, r, func(d *object.Deployment) { d.Spec.Pod = template("crash:2") })
	w.until("it fails", func(*state.Snapshot) bool { return w.deployment("web").Status.Phase == object.RolloutFailed })
	w.settled()
	w.mended = w.now
	w.retry("web")
	w.until("it is stable", func(*state.Snapshot) bool { return w.deployment("web").Status.Phase == object.RolloutStable })
	if pods := w.livePods("web"); len(pods) != 1 || len(pods["crash:2"]) != 4 {
		t.Errorf("pods: %v", pods)
	}
}

func TestRetryOfWhatWasAborted(t *testing.T) {
	w := started(t, web("ok:1", 4))
	w.neverBelow("web", 4)
	r := ref(object.KindDeployment, "web")
	edit(w, r, func(d *object.Deployment) {
		d.Spec.Pod = template("ok:2")
		d.Spec.Update.Strategy, d.Spec.Update.Steps = "canary", []object.CanaryStep{{Name: "a", Weight: 25}, {Name: "b", Weight: 50, Manual: true}}
	})
	w.until("the second step", func(*state.Snapshot) bool {
		c := w.deployment("web").Status.Canary
		return c != nil && c.Waits
	})
	edit(w, r, func(d *object.Deployment) { d.Spec.Aborted = d.Status.Set })
	w.until("it is given up", func(*state.Snapshot) bool { return len(w.livePods("web")["ok:2"]) == 0 })
	w.settled()
	w.retry("web")
	var steps []int
	w.until("the second step again", func(*state.Snapshot) bool {
		c := w.deployment("web").Status.Canary
		if c == nil {
			return false
		}
		if !slices.Contains(steps, c.Step) {
			steps = append(steps, c.Step)
		}
		return c.Waits
	})
	if !slices.Equal(steps, []int{0, 1}) {
		t.Errorf("steps: %v", steps)
	}
	edit(w, r, func(d *object.Deployment) { d.Spec.Promoted = d.Status.Canary.Token() })
	w.until("it is stable", func(*state.Snapshot) bool { return w.deployment("web").Status.Phase == object.RolloutStable })
	if pods := w.livePods("web"); len(pods) != 1 || len(pods["ok:2"]) != 4 {
		t.Errorf("pods: %v", pods)
	}
}

// A version that was given up once can be applied again: the mark went with the
// revision that put it back.
func TestAbortedVersionCanBeAppliedAgain(t *testing.T) {
	w := started(t, web("ok:1", 4))
	n := w.commit(one(web("never:2", 4)))
	w.until("a new pod", func(*state.Snapshot) bool { return len(w.livePods("web")["never:2"]) > 0 })
	edit(w, ref(object.KindDeployment, "web"), func(d *object.Deployment) { d.Spec.Aborted = d.Status.Set })
	w.awaits(n, object.RevisionReverted)
	w.settled()
	w.mended = w.now
	w.awaits(w.commit(one(web("never:2", 4))), object.RevisionHealthy)
}

// Whenever it is tried again, the limits of the update hold, and once nothing is
// wrong any more a last try brings the same version up.
func TestRetryKeepsTheLimits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want, surge, missing := rapid.IntRange(1, 6).Draw(t, "want"), rapid.IntRange(0, 2).Draw(t, "surge"), rapid.IntRange(0, 2).Draw(t, "unavailable")
		shape := func(d *object.Deployment) {
			d.Spec.Update.Surge, d.Spec.Update.Unavailable = object.Amount{N: surge}, object.Amount{N: missing}
			d.Spec.Update.ProgressDeadline, d.Spec.Update.OnFailure = object.Duration(30*time.Second), "pause"
		}
		w := newWorld(t, 3)
		w.awaits(w.commit(one(web("ok:1", want, shape))), object.RevisionHealthy)
		most, least := rollout.Limits(want, surge, missing)
		most, least = want+most, want-least
		w.neverBelow("web", least)
		low := w.watch
		w.watch = func(v *state.Snapshot) {
			low(v)
			if n := len(slices.Concat(slices.Collect(maps.Values(w.livePods("web")))...)); n > most {
				w.t.Fatalf("%d pods, at most %d are allowed:\n%s", n, most, w.dump())
			}
		}
		bad := rapid.SampledFrom([]string{"missing:2", "crash:2", "never:2"}).Draw(t, "bad")
		n := w.commit(one(web(bad, want, shape)))
		try := func() {
			if w.deployment("web").Clone().(*object.Deployment).Retry() == nil {
				w.retry("web")
			}
		}
		for _, x := range rapid.SliceOfN(rapid.IntRange(0, 60), 0, 12).Draw(t, "script") {
			if x%3 == 0 {
				try()
			}
			w.rest(time.Duration(x) * time.Second)
		}
		w.settled()
		w.mended = w.now
		if bad == "never:2" {
			w.mended = epoch
		}
		try()
		w.awaits(n, object.RevisionHealthy)
		w.settled()
		if pods := w.livePods("web"); len(pods) != 1 || len(pods[bad]) != want {
			t.Fatalf("pods: %v", pods)
		}
	})
}
