package controller

import (
	"slices"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

func stepped(d *object.Deployment) {
	d.Spec.Pod.Labels = map[string]string{"app": "web"}
	d.Spec.Update.Strategy = "canary"
	d.Spec.Update.Steps = []object.CanaryStep{
		{Name: "try", Weight: 5, Pause: object.Duration(3 * time.Minute)},
		{Name: "half", Weight: 50, Manual: true},
	}
}

func onFailurePause(d *object.Deployment) { d.Spec.Update.OnFailure = "pause" }

// halfway brings a canary to the pause of its second step.
func halfway(t *testing.T, change ...func(*object.Deployment)) (w *world, revision int) {
	w = started(t, service("web"), web("ok:1", 4, append(change, stepped)...))
	w.neverBelow("web", 4)
	revision = w.commit(one(service("web"), web("ok:2", 4, append(change, stepped)...)))
	w.until("the pause for a person", func(*state.Snapshot) bool {
		c := w.deployment("web").Status.Canary
		return c != nil && c.Waits
	})
	return w, revision
}

func (w *world) shares(service string) (weights, pods map[string]int) {
	e, _ := state.Find[*object.Endpoints](w.view(), ref(object.KindEndpoints, service))
	weights, pods = map[string]int{}, map[string]int{}
	for _, s := range e.Spec.Shares {
		weights[s.Name] = s.Weight
	}
	for _, x := range e.Spec.Ready {
		pods[x.Share]++
	}
	return weights, pods
}

func TestCanarySteps(t *testing.T) {
	w := started(t, service("web"), web("ok:1", 4, stepped))
	if c := w.deployment("web").Status.Canary; c != nil {
		t.Fatalf("the first version has no steps: %+v", c)
	}
	w.neverBelow("web", 4)
	weight, begin := 0, w.now
	keep := w.watch
	w.watch = func(v *state.Snapshot) {
		keep(v)
		if d, _ := state.Find[*object.Deployment](v, ref(object.KindDeployment, "web")); d.Status.Canary != nil {
			if d.Status.Canary.Weight < weight {
				t.Fatalf("the weight fell from %d to %d", weight, d.Status.Canary.Weight)
			}
			weight = d.Status.Canary.Weight
		}
	}
	n := w.commit(one(service("web"), web("ok:2", 4, stepped)))
	w.until("the first weight", func(*state.Snapshot) bool { return weight == 5 })
	w.settle()
	set := w.deployment("web").Status.Set
	if weights, pods := w.shares("web"); weights[set] != 5 || weights[stableShare] != 95 || pods[set] != 1 || pods[stableShare] != 4 {
		t.Errorf("first step: weights %v, pods %v", weights, pods)
	}
	w.until("the second weight", func(*state.Snapshot) bool { return weight == 50 })
	if took := w.now.Sub(begin); took < 3*time.Minute || took > 4*time.Minute {
		t.Errorf("the second step came after %s", took)
	}
	w.rest(3 * time.Hour)
	if d := w.deployment("web"); !d.Status.Canary.Waits || d.Status.Phase != object.RolloutProgressing {
		t.Fatalf("nobody promoted it: %+v", d.Status)
	}
	if weights, pods := w.shares("web"); weights[set] != 50 || pods[set] != 2 || pods[stableShare] != 3 {
		t.Errorf("second step: weights %v, pods %v", weights, pods)
	}
	edit(w, ref(object.KindDeployment, "web"), func(d *object.Deployment) { d.Spec.Promoted = d.Status.Canary.Token() })
	w.awaits(n, object.RevisionHealthy)
	if pods := w.livePods("web"); len(pods) != 1 || len(pods["ok:2"]) != 4 {
		t.Errorf("pods: %v", pods)
	}
	w.settle()
	if weights, _ := w.shares("web"); len(weights) != 0 || w.deployment("web").Status.Canary != nil {
		t.Errorf("something is left of the canary: %v", weights)
	}
	// The way back has no steps.
	begin, w.watch = w.now, keep
	w.awaits(w.commit(one(service("web"), web("ok:1", 4, stepped))), object.RevisionHealthy)
	if took := w.now.Sub(begin); took > 2*time.Minute {
		t.Errorf("the way back took %s", took)
	}
}

func TestCanaryAborted(t *testing.T) {
	for name, change := range map[string][]func(*object.Deployment){"revert": nil, "pause": {onFailurePause}} {
		t.Run(name, func(t *testing.T) {
			w, n := halfway(t, change...)
			old := w.livePods("web")["ok:1"]
			edit(w, ref(object.KindDeployment, "web"), func(d *object.Deployment) { d.Spec.Aborted = d.Status.Set })
			w.awaits(n, object.RevisionReverted)
			w.settled()
			if st := w.revision(n).Status; st.Reason != object.ReasonAborted {
				t.Errorf("status: %+v", st)
			}
			pods := w.livePods("web")
			if len(pods) != 1 || len(pods["ok:1"]) != 4 {
				t.Fatalf("pods: %v", pods)
			}
			for _, p := range old {
				if !slices.Contains(pods["ok:1"], p) {
					t.Errorf("%s was not kept", p)
				}
			}
			if weights, _ := w.shares("web"); len(weights) != 0 {
				t.Errorf("shares: %v", weights)
			}
		})
	}
}

func TestCanaryThatBreaksIsPutBack(t *testing.T) {
	w := started(t, service("web"), web("ok:1", 4, stepped))
	w.neverBelow("web", 4)
	w.awaits(w.commit(one(service("web"), web("crash:2", 4, stepped))), object.RevisionReverted)
	w.settled()
	if pods := w.livePods("web"); len(pods) != 1 || len(pods["ok:1"]) != 4 {
		t.Errorf("pods: %v", pods)
	}
}

// What fits nowhere for a while goes on at the step where it was.
func TestCanaryThatFindsRoomKeepsItsStep(t *testing.T) {
	roomy := func(d *object.Deployment) { d.Spec.Update.Surge = object.Amount{N: 4} }
	w := started(t, service("web"), web("ok:1", 4, stepped, onFailurePause, roomy))
	w.full = true
	n := w.commit(one(service("web"), web("ok:2", 4, stepped, onFailurePause, roomy)))
	w.awaits(n, object.RevisionPaused)
	if st := w.deployment("web").Status; st.Reason != object.ReasonUnplaceable {
		t.Fatalf("status: %+v", st)
	}
	w.full = false
	most := 0
	w.watch = func(*state.Snapshot) { most = max(most, len(w.livePods("web")["ok:2"])) }
	w.until("the first weight", func(*state.Snapshot) bool {
		c := w.deployment("web").Status.Canary
		return c != nil && c.Weight == 5
	})
	w.settle()
	if most != 1 {
		t.Errorf("the first step had %d pods", most)
	}
}

// A version that is left must not get more connections than it had, however many of
// the pods are its own.
func TestCanaryGoesBackWithoutMoreWeight(t *testing.T) {
	many := func(d *object.Deployment) { stepped(d); d.Spec.Update.Steps[0].Scale = object.Amount{N: 3} }
	w := started(t, service("web"), web("ok:1", 4, many))
	w.commit(one(service("web"), web("ok:2", 4, many)))
	w.until("the first weight", func(*state.Snapshot) bool {
		c := w.deployment("web").Status.Canary
		return c != nil && c.Weight == 5
	})
	w.settle()
	left := w.deployment("web").Status.Set
	w.watch = func(v *state.Snapshot) {
		e, _ := state.Find[*object.Endpoints](v, ref(object.KindEndpoints, "web"))
		for _, x := range e.Spec.Ready {
			p, ok := state.Find[*object.Pod](v, ref(object.KindPod, x.Pod))
			if !ok || p.Owner.Name != left {
				continue
			}
			if weights, _ := w.shares("web"); weights[left] > 5 || x.Share != left {
				t.Fatalf("the version that is left has the share %q of %v", x.Share, weights)
			}
		}
	}
	w.awaits(w.commit(one(service("web"), web("ok:1", 4, many))), object.RevisionHealthy)
	w.settled()
	if weights, _ := w.shares("web"); len(weights) != 0 || len(w.livePods("web")) != 1 {
		t.Errorf("shares %v, pods %v", weights, w.livePods("web"))
	}
}
