package controller

import (
	"maps"
	"slices"
	"testing"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

func signalling(content string) *object.ConfigMap {
	c := configMap("conf", content)
	c.Spec.Reload = object.ReloadSignal
	return c
}

// reads are the contents that the pods read, by pod.
func (w *world) reads() map[string]string {
	out := map[string]string{}
	v := w.view()
	for p := range state.All[*object.Pod](v, object.KindPod) {
		digest := p.Versions(v.Template(p))["config_map/conf"]
		c, ok := state.Find[*object.Content](v, ref(object.KindContent, object.ContentName(ref(object.KindConfigMap, "conf"), digest)))
		if ok {
			out[p.Name] = c.Spec.Data["app.toml"]
		}
	}
	return out
}

func TestReloadSignalGivesRunningPodsTheNewContent(t *testing.T) {
	w := started(t, signalling("a"), web("ok:1", 3, reading("conf")))
	pods := w.livePods("web")["ok:1"]
	all := func(content string, n int) {
		t.Helper()
		have := w.reads()
		for name, c := range have {
			if c != content {
				t.Errorf("%s reads %q, not %q", name, c, content)
			}
		}
		if len(have) != n {
			t.Errorf("%d pods, want %d: %v", len(have), n, have)
		}
	}
	all("a", 3)

	w.awaits(w.commit(one(signalling("b"), web("ok:1", 3, reading("conf")))), object.RevisionHealthy)
	w.settled()
	all("b", 3)
	if now := w.livePods("web")["ok:1"]; !slices.Equal(now, pods) {
		t.Errorf("pods %v, now %v", pods, now)
	}

	// Pods that come later read what the others do.
	w.awaits(w.commit(one(signalling("b"), web("ok:1", 5, reading("conf")))), object.RevisionHealthy)
	w.settled()
	all("b", 5)

	// The way back is one of the same kind, and old contents are swept away.
	w.awaits(w.commit(one(signalling("a"), web("ok:1", 5, reading("conf")))), object.RevisionHealthy)
	w.settled()
	all("a", 5)
	w.until("the content b is swept away", func(v *state.Snapshot) bool { return v.Count(object.KindContent) == 1 })
	for p := range state.All[*object.Pod](w.view(), object.KindPod) {
		if len(p.Spec.Reads) > 0 {
			t.Errorf("%s: %v, although its template has that", p.Name, p.Spec.Reads)
		}
	}
}

func TestReloadSignalReachesBarePodsAndOldVersions(t *testing.T) {
	tool := bare("tool", "ok:1")
	tool.Spec.Pod.Volumes = []object.Volume{{Name: "c", ConfigMap: "conf"}}
	w := started(t, signalling("a"), tool, web("ok:1", 2, reading("conf")))
	// A rollout that hangs half way: pods of both versions are there.
	edit(w, ref(object.KindDeployment, "web"), func(d *object.Deployment) { d.Spec.Pod.Containers[0].Image = "never:2" })
	w.until("a pod of the new version", func(*state.Snapshot) bool { return len(w.livePods("web")["never:2"]) > 0 })
	if n := len(w.reads()); n != 4 {
		t.Fatalf("%d pods read, want the bare one, two old ones and a new one", n)
	}
	edit(w, ref(object.KindConfigMap, "conf"), func(c *object.ConfigMap) { c.Spec.Data = map[string]string{"app.toml": "b"} })
	w.until("every pod reads b", func(*state.Snapshot) bool {
		have := w.reads()
		for _, c := range have {
			if c != "b" {
				return false
			}
		}
		return len(have) == 4
	})
	w.settled()
}

// A content that lacks what a container asks for would break it; what is there works.
func TestReloadSignalKeepsTheOldContentWhileAKeyIsMissing(t *testing.T) {
	w := started(t, signalling("a"), web("ok:1", 1, reading("conf"), func(d *object.Deployment) {
		d.Spec.Pod.Containers[0].Mounts = []object.Mount{{Volume: "c", Path: "/app.toml", File: "app.toml"}}
	}))
	edit(w, ref(object.KindConfigMap, "conf"), func(c *object.ConfigMap) { c.Spec.Data = map[string]string{"other": "b"} })
	w.settle()
	for name, c := range w.reads() {
		if c != "a" {
			t.Errorf("%s reads %q", name, c)
		}
	}
}

// Who follows what it reads by signal does so across the config map's end, too.
func TestReloadSignalReachesPodsOfAConfigMapThatWasMadeAnew(t *testing.T) {
	tool := bare("tool", "ok:1")
	tool.Spec.Pod.Volumes = []object.Volume{{Name: "c", ConfigMap: "conf"}}
	w := started(t, signalling("a"), tool, web("ok:1", 1, reading("conf")))
	gone := object.Changeset{Author: "test"}
	o, _ := w.view().Get(ref(object.KindConfigMap, "conf"))
	gone.Delete(o)
	w.apply(gone)
	w.settle()
	w.put(signalling("b"))
	w.until("both pods read b", func(*state.Snapshot) bool {
		have := w.reads()
		return have["tool"] == "b" && !slices.Contains(slices.Collect(maps.Values(have)), "a") && len(have) == 2
	})
}

// A leader may end between the content and the pods' getting it.
func TestReloadSignalIsCarriedOutByTheNextLeader(t *testing.T) {
	tool := bare("tool", "ok:1")
	tool.Spec.Pod.Volumes = []object.Volume{{Name: "c", ConfigMap: "conf"}}
	w := started(t, signalling("a"), tool)
	edit(w, ref(object.KindConfigMap, "conf"), func(c *object.ConfigMap) { c.Spec.Data = map[string]string{"app.toml": "b"} })
	w.succeed()
	w.until("the pod reads b", func(*state.Snapshot) bool { return w.reads()["tool"] == "b" })
}
