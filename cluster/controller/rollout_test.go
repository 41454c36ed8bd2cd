package controller

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// neverBelow fails the test when a deployment has fewer ready pods than allowed,
// from now on.
func (w *world) neverBelow(name string, least int) {
	w.watch = func(v *state.Snapshot) {
		ready := 0
		for o := range v.Owned(ref(object.KindDeployment, name)) {
			for p := range v.PodsOf(o.Ref()) {
				if live(p) && p.Status.Ready {
					ready++
				}
			}
		}
		if ready < least {
			w.t.Fatalf("%s has %d ready pods, at least %d were promised:\n%s", name, ready, least, w.dump())
		}
	}
}

func started(t fataler, objects ...object.Object) *world {
	w := newWorld(t, 3)
	w.awaits(w.commit(objects), object.RevisionHealthy)
	return w
}

func TestRollingUpdate(t *testing.T) {
	w := started(t, web("ok:1", 4))
	before := w.deployment("web").Status.Set
	w.neverBelow("web", 4)
	n := w.commit(one(web("ok:2", 4)))
	w.awaits(n, object.RevisionHealthy)
	if pods := w.livePods("web"); len(pods) != 1 || len(pods["ok:2"]) != 4 {
		t.Errorf("pods: %v", pods)
	}
	st := w.deployment("web").Status
	if st.Phase != object.RolloutStable || st.Previous != before || st.Step < 4 || st.Lowest < 4 || st.Updated != 4 || st.Available != 4 {
		t.Errorf("status: %+v, previous set %s", st, before)
	}
	if s, _ := state.Find[*object.Stack](w.view(), ref(object.KindStack, "shop")); s.Status.Healthy != n {
		t.Errorf("healthy revision %d, want %d", s.Status.Healthy, n)
	}
	w.settled()
	if n := w.view().Count(object.KindTemplate); n != 1 {
		t.Errorf("%d templates are left, want 1", n)
	}
}

func TestMinReadyTime(t *testing.T) {
	w := newWorld(t, 3)
	slow := func(d *object.Deployment) { d.Spec.Update.MinReadyTime = object.Duration(20 * time.Second) }
	n := w.commit(one(web("ok:1", 2, slow)))
	w.awaits(n, object.RevisionHealthy)
	if took := w.now.Sub(epoch); took < 23*time.Second || took > 30*time.Second {
		t.Errorf("took %s", took)
	}
}

// reverts expects that a change of web to a bad version is put back whole, with
// every good pod kept.
func reverts(t *testing.T, reason, message string, log []string, within time.Duration, bad ...func(*object.Deployment)) {
	t.Helper()
	w := started(t, configMap("conf", "a"), web("ok:1", 4, reading("conf")))
	pods := w.livePods("web")
	begin := w.now
	w.neverBelow("web", 4)
	n := w.commit(one(configMap("conf", "b")), one(web("ok:1", 4, append([]func(*object.Deployment){reading("conf")}, bad...)...), web("ok:1", 1, named("extra"))))
	w.awaits(n, object.RevisionReverted)
	st := w.revision(n).Status
	if st.Reason != reason || !strings.Contains(st.Message, message) || st.Object != ref(object.KindDeployment, "web") || !slices.Equal(st.LastLog, log) {
		t.Errorf("status: %+v", st)
	}
	if took := w.now.Sub(begin); took > within {
		t.Errorf("took %s, more than %s", took, within)
	}
	back := w.revision(st.RevertedBy)
	if back.Spec.Cause != causeRevert || back.Spec.Target != 1 || back.Status.Phase != object.RevisionHealthy {
		t.Errorf("revert: %+v %+v", back.Spec, back.Status)
	}
	if after := w.livePods("web"); len(after) != 1 || !slices.Equal(after["ok:1"], pods["ok:1"]) {
		t.Errorf("healthy pods were not kept: %v, now %v", pods, after)
	}
	if w.deployment("extra") != nil {
		t.Error("what was created is still there")
	}
	if c, _ := state.Find[*object.ConfigMap](w.view(), ref(object.KindConfigMap, "conf")); c.Spec.Data["app.toml"] != "a" {
		t.Errorf("config map: %v", c.Spec.Data)
	}
	w.settled()
}

func image(s string) func(*object.Deployment) {
	return func(d *object.Deployment) { d.Spec.Pod.Containers[0].Image = s }
}

func TestImageNotFoundReverts(t *testing.T) {
	reverts(t, object.ReasonImageNotFound, "no such image: missing:2", nil, 15*time.Second, image("missing:2"))
}

func TestCrashLoopReverts(t *testing.T) {
	reverts(t, object.ReasonCrashLoop, "container main: exited with 1 (restarted 2 times)", []string{"panic: no database"}, 15*time.Second, image("crash:2"))
}

func TestDeadlineReverts(t *testing.T) {
	reverts(t, ReasonDeadline, "no progress for 2m: 0 of 4 pods available; pod web-", nil, 3*time.Minute, image("never:2"))
}

func TestMissingConfigReverts(t *testing.T) {
	reverts(t, object.ReasonConfig, "config_map/nope does not exist", nil, 15*time.Second, reading("nope"))
}

func TestOneCrashIsTolerated(t *testing.T) {
	w := started(t, web("ok:1", 2))
	w.awaits(w.commit(one(web("once:2", 2))), object.RevisionHealthy)
}

func TestUnplaceableReverts(t *testing.T) {
	w := started(t, web("ok:1", 2))
	w.full = true
	n := w.commit(one(web("ok:2", 2)))
	w.awaits(n, object.RevisionReverted)
	if st := w.revision(n).Status; st.Reason != object.ReasonUnplaceable || !strings.Contains(st.Message, "0 nodes fit") {
		t.Errorf("status: %+v", st)
	}
}

func TestFirstApplyThatFailsLeavesNothing(t *testing.T) {
	w := newWorld(t, 1)
	n := w.commit(one(configMap("conf", "a")), one(web("missing:1", 2)))
	w.awaits(n, object.RevisionReverted)
	w.settled()
	for _, k := range []object.Kind{object.KindConfigMap, object.KindDeployment, object.KindReplicaSet, object.KindPod, object.KindTemplate, object.KindContent} {
		if n := w.view().Count(k); n != 0 {
			t.Errorf("%d objects of kind %s are left", n, k)
		}
	}
}

func TestOnFailurePause(t *testing.T) {
	w := started(t, web("ok:1", 4))
	pause := func(d *object.Deployment) { d.Spec.Update.OnFailure = onPause }
	n := w.commit(one(web("missing:2", 4, pause)))
	w.awaits(n, object.RevisionPaused)
	w.settled()
	if st := w.deployment("web").Status; st.Phase != object.RolloutPaused || st.Reason != object.ReasonImageNotFound {
		t.Errorf("status: %+v", st)
	}
	// A person mends it by hand; the revision goes on.
	edit(w, ref(object.KindDeployment, "web"), func(d *object.Deployment) { d.Spec.Pod = template("ok:3") })
	w.awaits(n, object.RevisionHealthy)
}

func TestPauseResume(t *testing.T) {
	w := started(t, web("ok:1", 4))
	n := w.commit(one(web("ok:2", 4)))
	w.until("the first new pod", func(*state.Snapshot) bool { return len(w.livePods("web")["ok:2"]) == 1 })
	web := ref(object.KindDeployment, "web")
	edit(w, web, func(d *object.Deployment) { d.Spec.Paused = true })
	w.settled()
	if pods := w.livePods("web"); len(pods["ok:2"]) != 1 || len(pods["ok:1"]) != 4 || w.deployment("web").Status.Phase != object.RolloutPaused {
		t.Errorf("not paused: %v %+v", pods, w.deployment("web").Status)
	}
	edit(w, web, func(d *object.Deployment) { d.Spec.Replicas = 8 })
	w.settled()
	if pods := w.livePods("web"); len(pods["ok:2"])+len(pods["ok:1"]) != 10 || len(pods["ok:2"]) != 2 {
		t.Errorf("not scaled in proportion: %v", pods)
	}
	edit(w, web, func(d *object.Deployment) { d.Spec.Paused = false })
	w.awaits(n, object.RevisionHealthy)
	if pods := w.livePods("web"); len(pods) != 1 || len(pods["ok:2"]) != 8 {
		t.Errorf("pods: %v", pods)
	}
	w.settled()
}

func TestUndoKeepsOldPods(t *testing.T) {
	w := started(t, web("ok:1", 4))
	old := w.livePods("web")["ok:1"]
	w.commit(one(web("ok:2", 4)))
	w.until("half way", func(*state.Snapshot) bool { return len(w.livePods("web")["ok:2"]) == 2 })
	kept := w.livePods("web")["ok:1"]
	w.awaits(w.commit(one(web("ok:1", 4))), object.RevisionHealthy)
	now := w.livePods("web")["ok:1"]
	for _, name := range kept {
		if !slices.Contains(now, name) {
			t.Errorf("%s was restarted; at first %v, then %v, now %v", name, old, kept, now)
		}
	}
	w.settled()
}

func TestScaleInTheMiddle(t *testing.T) {
	w := started(t, web("ok:1", 8))
	w.commit(one(web("ok:2", 8)))
	w.until("the first new pods", func(*state.Snapshot) bool { return w.deployment("web").Status.Updated >= 2 })
	w.neverBelow("web", 4)
	edit(w, ref(object.KindDeployment, "web"), func(d *object.Deployment) { d.Spec.Replicas = 4 })
	w.until("the end", func(*state.Snapshot) bool { return w.deployment("web").Status.Phase == object.RolloutStable })
	if pods := w.livePods("web"); len(pods) != 1 || len(pods["ok:2"]) != 4 {
		t.Errorf("pods: %v", pods)
	}
	w.settled()
}

func TestRecreate(t *testing.T) {
	recreate := func(d *object.Deployment) { d.Spec.Update.Strategy = "recreate" }
	w := started(t, web("ok:1", 3, recreate))
	w.watch = func(v *state.Snapshot) {
		images := map[string]bool{}
		for p := range state.All[*object.Pod](v, object.KindPod) {
			if !p.Terminal() {
				images[v.Template(p).Containers[0].Image] = true
			}
		}
		if len(images) > 1 {
			w.t.Fatalf("two versions at once: %v", images)
		}
	}
	w.awaits(w.commit(one(web("ok:2", 3, recreate))), object.RevisionHealthy)
}

func TestConfigChangeRollsReaders(t *testing.T) {
	w := started(t, configMap("conf", "a"), web("ok:1", 2, reading("conf")), web("ok:1", 2, named("other")))
	set, other := w.deployment("web").Status.Set, w.livePods("other")
	w.neverBelow("web", 2)
	w.awaits(w.commit(one(configMap("conf", "b")), one(web("ok:1", 2, reading("conf")), web("ok:1", 2, named("other")))), object.RevisionHealthy)
	if st := w.deployment("web").Status; st.Set == set || st.Phase != object.RolloutStable {
		t.Errorf("the revision did not wait for who reads: %+v", st)
	}
	if now := w.livePods("other"); !slices.Equal(now["ok:1"], other["ok:1"]) {
		t.Errorf("who does not read rolled: %v, now %v", other, now)
	}
	w.settled()
	// The history still reads the old content.
	if n := w.view().Count(object.KindContent); n != 2 {
		t.Errorf("%d contents, want 2", n)
	}
}

func TestBadConfigReverts(t *testing.T) {
	w := started(t, configMap("conf", "a"), web("ok:1", 3, reading("conf")))
	pods := w.livePods("web")["ok:1"]
	w.neverBelow("web", 3)
	n := w.commit(one(configMap("conf", "crash")), one(web("ok:1", 3, reading("conf"))))
	w.awaits(n, object.RevisionReverted)
	if now := w.livePods("web")["ok:1"]; !slices.Equal(now, pods) {
		t.Errorf("pods %v, now %v", pods, now)
	}
	w.settled()
}

func TestReloadNoneRollsNobody(t *testing.T) {
	quiet := func(content string) *object.ConfigMap {
		c := configMap("conf", content)
		c.Spec.Reload = "none"
		return c
	}
	w := started(t, quiet("a"), web("ok:1", 2, reading("conf")))
	set := w.deployment("web").Status.Set
	w.awaits(w.commit(one(quiet("b"), web("ok:1", 2, reading("conf")))), object.RevisionHealthy)
	w.settled()
	if now := w.deployment("web").Status.Set; now != set {
		t.Errorf("rolled from %s to %s", set, now)
	}
}

func TestRestart(t *testing.T) {
	w := started(t, web("ok:1", 3))
	before := w.livePods("web")["ok:1"]
	w.neverBelow("web", 3)
	edit(w, ref(object.KindDeployment, "web"), func(d *object.Deployment) { d.Spec.Restarted = w.now })
	w.until("new pods", func(*state.Snapshot) bool {
		pods := w.livePods("web")["ok:1"]
		return w.deployment("web").Status.Phase == object.RolloutStable && !slices.ContainsFunc(pods, func(n string) bool { return slices.Contains(before, n) })
	})
	w.settled()
}

func TestHistory(t *testing.T) {
	short := func(d *object.Deployment) { d.Spec.History = 2 }
	w := started(t, web("ok:1", 1, short))
	for _, image := range []string{"ok:2", "ok:3", "ok:4", "ok:5"} {
		w.awaits(w.commit(one(web(image, 1, short))), object.RevisionHealthy)
	}
	w.settled()
	if n := w.view().Count(object.KindReplicaSet); n != 3 {
		t.Errorf("%d replica sets, want the wanted one and 2", n)
	}
}

// Where an operation's plan had pods is of no use once its time is over, and does not
// stay in the stack for ever.
func TestARevisionClearsThePlacementsOfAnOperationThatIsOver(t *testing.T) {
	for name, until := range map[string]time.Duration{"over": 0, "not yet": time.Hour} {
		w := started(t, web("ok:1", 2))
		stack := w.revision(1).Spec.Stack
		was := w.stack(stack)
		next := was.Clone().(*object.Stack)
		next.Status.Placements, next.Status.PlacedUntil = map[string]string{"default/web-0": "n1"}, w.now.Add(until)
		c := object.Changeset{Author: "test"}
		c.UpdateStatus(was, next)
		w.apply(c)
		w.awaits(w.commit(one(web("ok:2", 2))), object.RevisionHealthy)
		if left := len(w.stack(stack).Status.Placements); (left > 0) != (until > 0) {
			t.Errorf("%s: %d are left", name, left)
		}
	}
}
