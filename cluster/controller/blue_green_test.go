package controller

import (
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

func blueGreen(change ...func(*object.BlueGreen)) func(*object.Deployment) {
	return func(d *object.Deployment) {
		d.Spec.Pod.Labels = map[string]string{"app": "web"}
		d.Spec.Update.Strategy = "blue_green"
		d.Spec.Update.BlueGreen = &object.BlueGreen{Keep: object.Duration(10 * time.Minute)}
		for _, f := range change {
			f(d.Spec.Update.BlueGreen)
		}
	}
}

func preview() *object.Service {
	s := service("web")
	s.Name, s.Spec.Preview = "preview", true
	return s
}

// reached counts the ready pods that a service leads connections to, by image.
func (w *world) reached(service string) map[string]int {
	weights, _ := w.shares(service)
	e, _ := state.Find[*object.Endpoints](w.view(), ref(object.KindEndpoints, service))
	out := map[string]int{}
	for _, x := range e.Spec.Ready {
		if len(weights) > 0 && weights[x.Share] == 0 {
			continue
		}
		out[w.view().Template(w.pod(x.Pod)).Containers[0].Image]++
	}
	return out
}

func TestBlueGreenSwitchesAtOnce(t *testing.T) {
	flags := blueGreen(func(b *object.BlueGreen) { b.After = object.Duration(30 * time.Second) })
	w := started(t, service("web"), preview(), web("ok:1", 4, flags))
	w.neverBelow("web", 4)
	keep := w.watch
	w.watch = func(v *state.Snapshot) {
		keep(v)
		if to := w.reached("web"); len(to) > 1 {
			t.Fatalf("connections go to both versions: %v", to)
		}
	}
	began := w.now
	n := w.commit(one(service("web"), preview(), web("ok:2", 4, flags)))
	w.until("all new pods are there", func(*state.Snapshot) bool { return w.reached("preview")["ok:2"] == 4 })
	if to := w.reached("web"); to["ok:1"] != 4 || w.revision(n).Status.Phase == object.RevisionHealthy {
		t.Errorf("the service leads to %v", to)
	}
	w.awaits(n, object.RevisionHealthy)
	if took := w.now.Sub(began); took < 30*time.Second || took > time.Minute {
		t.Errorf("it switched after %s", took)
	}
	if to := w.reached("web"); to["ok:2"] != 4 {
		t.Errorf("the service leads to %v", to)
	}
	if pods := w.livePods("web"); len(pods["ok:1"]) != 4 || len(pods["ok:2"]) != 4 {
		t.Errorf("the old pods do not stay: %v", pods)
	}
	w.rest(11 * time.Minute)
	if pods := w.livePods("web"); len(pods["ok:1"]) != 0 || len(pods["ok:2"]) != 4 {
		t.Errorf("the old pods stay for ever: %v", pods)
	}
	if w.deployment("web").Status.Canary != nil {
		t.Errorf("it has not ended: %+v", w.deployment("web").Status)
	}
	w.settled()
}

func TestBlueGreenGoesBackAtOnce(t *testing.T) {
	manual := blueGreen(func(b *object.BlueGreen) { b.Manual = true })
	w := started(t, service("web"), web("ok:1", 4, manual))
	blue := w.livePods("web")["ok:1"]
	n := w.commit(one(service("web"), web("ok:2", 4, manual)))
	w.until("it waits", func(*state.Snapshot) bool { c := w.deployment("web").Status.Canary; return c != nil && c.Waits })
	edit(w, ref(object.KindDeployment, "web"), func(d *object.Deployment) { d.Spec.Promoted = d.Status.Canary.Token() })
	w.awaits(n, object.RevisionHealthy)
	began, births := w.now, w.view().Count(object.KindPod)
	w.awaits(w.commit(one(service("web"), web("ok:1", 4, manual))), object.RevisionHealthy)
	if took := w.now.Sub(began); took > time.Second {
		t.Errorf("the way back took %s", took)
	}
	if to := w.reached("web"); to["ok:1"] != 4 || w.view().Count(object.KindPod) != births {
		t.Errorf("the service leads to %v, and there are %d pods in place of %d", to, w.view().Count(object.KindPod), births)
	}
	w.rest(11 * time.Minute)
	if pods := w.livePods("web"); len(pods) != 1 || len(pods["ok:1"]) != 4 || pods["ok:1"][0] != blue[0] {
		t.Errorf("other pods: %v", pods)
	}
	w.settled()
}

func TestBlueGreenWaitsForAPerson(t *testing.T) {
	manual := blueGreen(func(b *object.BlueGreen) { b.Manual = true })
	for _, abort := range []bool{false, true} {
		w := started(t, service("web"), web("ok:1", 4, manual))
		w.neverBelow("web", 4)
		n := w.commit(one(service("web"), web("ok:2", 4, manual)))
		w.until("it waits", func(*state.Snapshot) bool {
			c := w.deployment("web").Status.Canary
			return c != nil && c.Waits
		})
		w.rest(time.Hour)
		if to := w.reached("web"); to["ok:1"] != 4 || len(to) != 1 {
			t.Fatalf("nobody promoted it, and the service leads to %v", to)
		}
		edit(w, ref(object.KindDeployment, "web"), func(d *object.Deployment) {
			if abort {
				d.Spec.Aborted = d.Status.Set
			} else {
				d.Spec.Promoted = d.Status.Canary.Token()
			}
		})
		end, image := object.RevisionHealthy, "ok:2"
		if abort {
			end, image = object.RevisionReverted, "ok:1"
		}
		w.awaits(n, end)
		if to := w.reached("web"); to[image] != 4 || len(to) != 1 {
			t.Errorf("abort %v: the service leads to %v", abort, to)
		}
		w.rest(15 * time.Minute)
		if pods := w.livePods("web"); len(pods) != 1 || len(pods[image]) != 4 {
			t.Errorf("abort %v: %v", abort, pods)
		}
		w.settled()
	}
}

func TestBlueGreenThatBreaksGetsNoConnection(t *testing.T) {
	w := started(t, service("web"), web("ok:1", 4, blueGreen()))
	w.neverBelow("web", 4)
	w.watch = func(*state.Snapshot) {
		if to := w.reached("web"); len(to) != 1 || to["ok:1"] != 4 {
			t.Fatalf("the service leads to %v", to)
		}
	}
	n := w.commit(one(service("web"), web("crash:2", 4, blueGreen())))
	w.awaits(n, object.RevisionReverted)
	// A version that is replaced before it had a connection has none afterwards.
	third := w.commit(one(service("web"), web("never:3", 4, blueGreen())))
	w.rest(20 * time.Second)
	w.commit(one(service("web"), web("never:4", 4, blueGreen())))
	w.rest(10 * time.Second)
	if w.revision(third).Status.Phase == object.RevisionHealthy {
		t.Error("it is healthy")
	}
}

// Whoever is replaced while it waits has no connection, and its pods go first: those of
// the version before serve until the next one is there.
func TestReplacedWhileItWaits(t *testing.T) {
	manual := blueGreen(func(b *object.BlueGreen) { b.Manual = true })
	canary := func(d *object.Deployment) {
		d.Spec.Update.Strategy = "canary"
		d.Spec.Update.Steps = []object.CanaryStep{{Name: "half", Weight: 50, Manual: true}}
	}
	for name, flags := range map[string]func(*object.Deployment){"blue-green": manual, "canary": canary} {
		t.Run(name, func(t *testing.T) {
			w := started(t, service("web"), web("ok:1", 4, flags))
			w.neverBelow("web", 4)
			w.commit(one(service("web"), web("ok:2", 4, flags)))
			w.until("it waits", func(*state.Snapshot) bool { c := w.deployment("web").Status.Canary; return c != nil && c.Waits })
			before := len(w.livePods("web")["ok:1"])
			keep := w.watch
			w.watch = func(v *state.Snapshot) {
				keep(v)
				if w.deployment("web").Status.Proven != w.deployment("web").Status.Set && len(w.livePods("web")["ok:1"]) < min(before, 4-len(w.livePods("web")["ok:3"])) {
					t.Fatalf("pods of the version that serves go first:\n%s", w.dump())
				}
			}
			n := w.commit(one(service("web"), web("ok:3", 4, flags)))
			w.until("the next one waits", func(*state.Snapshot) bool {
				c := w.deployment("web").Status.Canary
				return c != nil && c.Waits && c.Set == w.deployment("web").Status.Set && len(w.livePods("web")["ok:3"]) > 0
			})
			if to := w.reached("web"); to["ok:2"] > 0 || to["ok:1"] < before {
				t.Errorf("the service leads to %v", to)
			}
			edit(w, ref(object.KindDeployment, "web"), func(d *object.Deployment) { d.Spec.Promoted = d.Status.Canary.Token() })
			w.awaits(n, object.RevisionHealthy)
			w.rest(15 * time.Minute)
			if pods := w.livePods("web"); len(pods) != 1 || len(pods["ok:3"]) != 4 {
				t.Errorf("%v", pods)
			}
			w.settled()
		})
	}
}

func TestRollingPausesAtItsSteps(t *testing.T) {
	points := func(d *object.Deployment) {
		quarter, half := object.Amount{}, object.Amount{}
		_ = quarter.UnmarshalText([]byte("25%"))
		_ = half.UnmarshalText([]byte("50%"))
		d.Spec.Update.Steps = []object.CanaryStep{{Name: "quarter", Scale: quarter, Pause: object.Duration(5 * time.Minute)}, {Name: "half", Scale: half, Manual: true}}
	}
	w := started(t, service("web"), web("ok:1", 8, points))
	w.neverBelow("web", 8)
	n := w.commit(one(service("web"), web("ok:2", 8, points)))
	w.rest(2 * time.Minute)
	if pods := w.livePods("web"); len(pods["ok:2"]) != 2 || len(pods["ok:1"]) != 6 {
		t.Errorf("at a quarter: %d new, %d old", len(pods["ok:2"]), len(pods["ok:1"]))
	}
	if weights, _ := w.shares("web"); len(weights) != 0 {
		t.Errorf("a rolling update has no weights: %v", weights)
	}
	w.rest(40 * time.Minute)
	if pods := w.livePods("web"); len(pods["ok:2"]) != 4 || len(pods["ok:1"]) != 4 {
		t.Errorf("at the half: %d new, %d old", len(pods["ok:2"]), len(pods["ok:1"]))
	}
	edit(w, ref(object.KindDeployment, "web"), func(d *object.Deployment) { d.Spec.Promoted = d.Status.Canary.Token() })
	w.awaits(n, object.RevisionHealthy)
	if pods := w.livePods("web"); len(pods["ok:2"]) != 8 || len(pods) != 1 {
		t.Errorf("in the end: %v", pods)
	}
	w.settled()
}
