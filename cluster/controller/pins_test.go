package controller

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

var (
	oldBytes = "sha256:" + strings.Repeat("a", 64)
	newBytes = "sha256:" + strings.Repeat("b", 64)
)

func pinned(image, digest string) func(*object.Deployment) {
	return func(d *object.Deployment) { d.Spec.Pod.Images = map[string]string{image: digest} }
}

// contents counts a deployment's pods by the content that they run.
func (w *world) contents(deployment string) map[string]int {
	out := map[string]int{}
	for o := range w.view().Owned(ref(object.KindDeployment, deployment)) {
		for p := range w.view().PodsOf(o.Ref()) {
			if live(p) {
				for _, digest := range w.view().Template(p).Images {
					out[digest]++
				}
			}
		}
	}
	return out
}

// A set is pinned when it is made: pods that come later run the same bytes. Another pin
// is another version, and the way back finds the set of before.
func TestSetsArePinnedForLife(t *testing.T) {
	w := started(t, web("ok:1", 3, pinned("ok:1", oldBytes)))
	first := w.deployment("web").Status.Set
	w.awaits(w.commit(one(web("ok:1", 5, pinned("ok:1", oldBytes)))), object.RevisionHealthy)
	if got := w.contents("web"); !maps.Equal(got, map[string]int{oldBytes: 5}) {
		t.Errorf("after a scale: %v", got)
	}
	w.neverBelow("web", 5)
	w.awaits(w.commit(one(web("ok:1", 5, pinned("ok:1", newBytes)))), object.RevisionHealthy)
	second := w.deployment("web").Status.Set
	if got := w.contents("web"); second == first || !maps.Equal(got, map[string]int{newBytes: 5}) {
		t.Errorf("pinned anew: %s after %s, %v", second, first, got)
	}
	for set, digest := range map[string]string{first: oldBytes, second: newBytes} {
		rs, ok := state.Find[*object.ReplicaSet](w.view(), ref(object.KindReplicaSet, set))
		if !ok || rs.Spec.Pod.Images["ok:1"] != digest {
			t.Errorf("set %s is pinned to %v, want %s", set, rs.Spec.Pod.Images, digest)
		}
	}
	w.awaits(w.commit(one(web("ok:1", 5, pinned("ok:1", oldBytes)))), object.RevisionHealthy)
	if got := w.contents("web"); w.deployment("web").Status.Set != first || !maps.Equal(got, map[string]int{oldBytes: 5}) {
		t.Errorf("back: %s, %v", w.deployment("web").Status.Set, got)
	}
	w.settled()
}

// What people do by hand survives an apply; the pins are the apply's own.
func TestAnApplyPinsPastWhatIsInForce(t *testing.T) {
	w := started(t, web("ok:1", 2, pinned("ok:1", newBytes)))
	d := w.deployment("web")
	paused := d.Clone().(*object.Deployment)
	paused.Spec.Restarted = w.now
	c := object.Changeset{Author: "ann", Time: w.now}
	c.Update(d, paused)
	w.apply(c)
	w.awaits(w.commit(one(web("ok:2", 2, pinned("ok:2", oldBytes)))), object.RevisionHealthy)
	d = w.deployment("web")
	if !maps.Equal(d.Spec.Pod.Images, map[string]string{"ok:2": oldBytes}) || d.Spec.Restarted.IsZero() {
		t.Errorf("pinned to %v, restarted %s", d.Spec.Pod.Images, d.Spec.Restarted)
	}
}

// A set that was made unpinned is the wanted version all the same when its pods run what
// is pinned by now: the way back touches none of them, and pods that come are pinned.
func TestAnUnpinnedSetIsTakenBack(t *testing.T) {
	for _, c := range []struct {
		what, content string
		same          bool
	}{{"the same content", oldBytes, true}, {"another", newBytes, false}} {
		t.Run(c.what, func(t *testing.T) {
			w := started(t, web("ok:1", 4))
			first, pods := w.deployment("web").Status.Set, w.livePods("web")["ok:1"]
			for p := range w.view().PodsOf(ref(object.KindReplicaSet, first)) {
				after := p.Clone().(*object.Pod)
				after.Status.Containers = []object.ContainerStatus{{Name: "main", State: "running", Image: "docker.io/library/ok@" + c.content}}
				x := object.Changeset{Author: "node/n1", Time: w.now}
				x.UpdateStatus(p, after)
				w.apply(x)
			}
			n := w.commit(one(web("never:1", 4, func(d *object.Deployment) { d.Spec.Update.ProgressDeadline = 0 })))
			w.rest(10 * time.Second)
			if phase := w.revision(n).Status.Phase; phase != object.RevisionRunning {
				t.Fatalf("the revision in between is %s", phase)
			}
			w.awaits(w.commit(one(web("ok:1", 5, pinned("ok:1", oldBytes)))), object.RevisionHealthy)
			w.rest(time.Minute) // what is stopped takes its grace
			set := w.deployment("web").Status.Set
			if (set == first) != c.same {
				t.Fatalf("%s after %s", set, first)
			}
			rs, _ := state.Find[*object.ReplicaSet](w.view(), ref(object.KindReplicaSet, set))
			if rs.Spec.Pod.Images["ok:1"] != oldBytes {
				t.Errorf("the set makes pods of %v", rs.Spec.Pod.Images)
			}
			for _, name := range pods {
				if _, there := w.view().Get(ref(object.KindPod, name)); there != c.same {
					t.Errorf("pod %s is there: %v", name, there)
				}
			}
			if got := w.contents("web"); c.same && got[oldBytes] != 1 || !c.same && got[oldBytes] != 5 {
				t.Errorf("pinned pods: %v", got)
			}
			w.settled()
		})
	}
}

// A revision that fails is put back to the bytes of before, and pods that run them are
// left alone.
func TestRevertBringsPinsBack(t *testing.T) {
	w := started(t, web("ok:1", 4, pinned("ok:1", oldBytes)))
	pods := w.livePods("web")["ok:1"]
	w.neverBelow("web", 4)
	n := w.commit(one(web("missing:1", 4, pinned("missing:1", newBytes))))
	w.awaits(n, object.RevisionReverted)
	if got := w.contents("web"); !maps.Equal(got, map[string]int{oldBytes: 4}) {
		t.Errorf("after the revert: %v", got)
	}
	for _, name := range pods {
		if _, ok := w.view().Get(ref(object.KindPod, name)); !ok {
			t.Errorf("pod %s was touched", name)
		}
	}
}

// A pod of its own is made anew for other bytes, and for nothing else about its pins.
func TestDeclaredPodsArePinned(t *testing.T) {
	pod := func(digest string, annotation string) *object.Pod {
		p := &object.Pod{Meta: object.Meta{Kind: object.KindPod, Namespace: "default", Name: "one", Stack: "shop", Annotations: map[string]string{"a": annotation}}}
		t := web("ok:1", 1).Spec.Pod
		t.Images = map[string]string{"ok:1": digest}
		p.Spec.Pod = &t
		return p
	}
	w := started(t, pod(oldBytes, "x"))
	get := func() *object.Pod {
		p, _ := state.Find[*object.Pod](w.view(), ref(object.KindPod, "one"))
		return p
	}
	first := get().Created
	w.awaits(w.commit(one(pod(oldBytes, "y"))), object.RevisionHealthy)
	if p := get(); p.Created != first || p.Annotations["a"] != "y" {
		t.Error("it was made anew for an annotation")
	}
	stack, _ := state.Find[*object.Stack](w.view(), ref(object.KindStack, "shop"))
	p := &object.Plan{Stack: "shop", Waves: 1, Target: 1, Changes: []object.PlannedChange{{Ref: get().Ref(), Wave: 1, Before: object.Any{Object: w.view().Expand(get())}, After: object.Any{Object: pod(newBytes, "y")}}}}
	w.apply(object.CommitPlan(p, stack, 3, "ann", w.now))
	w.awaits(3, object.RevisionHealthy)
	if p := get(); p.Created == first || w.view().Template(p).Images["ok:1"] != newBytes {
		t.Errorf("it still runs %v", w.view().Template(p).Images)
	}
}
