package controller

import (
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// TestStrangeWrites gives the controllers what nobody should write and an admin
// could: none may panic, hang or stop the others.
func TestStrangeWrites(t *testing.T) {
	w := started(t, configMap("conf", "a"), web("ok:1", 2, reading("conf")), service("web"))
	meta := func(k object.Kind, name string) object.Meta {
		r := ref(k, name)
		return object.Meta{Kind: k, Namespace: r.Namespace, Name: name}
	}
	w.put(&object.Content{Meta: meta(object.KindContent, "x"), Spec: object.ContentSpec{Of: ref(object.KindConfigMap, "a-long-name")}})
	w.put(&object.Content{Meta: meta(object.KindContent, "y")})
	w.put(&object.Template{Meta: meta(object.KindTemplate, "z")})
	w.put(&object.Pod{Meta: meta(object.KindPod, "no-template"), Spec: object.PodSpec{Template: "nowhere"}})
	w.put(&object.Pod{Meta: meta(object.KindPod, "no-node"), Spec: object.PodSpec{Template: "z", Node: "nowhere"}})
	w.put(&object.Pod{Meta: meta(object.KindPod, "empty"), Spec: object.PodSpec{Pod: &object.PodTemplate{}}})
	w.put(&object.ReplicaSet{Meta: meta(object.KindReplicaSet, "negative"), Spec: object.ReplicaSetSpec{Replicas: -5}})
	w.put(&object.Deployment{Meta: meta(object.KindDeployment, "negative"), Spec: object.DeploymentSpec{Replicas: -5, History: -1}})
	w.put(&object.Service{Meta: meta(object.KindService, "all")})
	w.put(&object.Event{Meta: meta(object.KindEvent, "e")})
	w.put(&object.Token{Meta: meta(object.KindToken, "t")})
	orphan := meta(object.KindReplicaSet, "orphan")
	orphan.Owner = object.Ref{Kind: "nothing", Name: "?"}
	w.put(&object.ReplicaSet{Meta: orphan})

	// Revisions that contradict themselves, and waves and numbers that no loop
	// should count up to.
	const far = 1 << 60
	for i, changes := range [][]object.RevisionChange{
		{{Ref: ref(object.KindDeployment, "web"), Op: object.OpUpdate, Wave: 1, After: object.Any{Object: configMap("conf", "b")}}},
		{{Ref: ref(object.KindDeployment, "web"), Op: object.OpUpdate, Wave: 1}},
		{{Ref: object.Ref{Kind: "nothing"}, Wave: -far}, {Ref: ref(object.KindPod, "gone"), Op: object.OpDelete, Wave: far}},
		nil,
	} {
		name := "odd" + string(rune('a'+i))
		s := &object.Stack{Meta: meta(object.KindStack, name), Spec: object.StackSpec{Revision: far}}
		w.put(s)
		w.put(&object.Revision{Meta: object.Meta{Kind: object.KindRevision, Name: object.RevisionName(name, far), Stack: name}, Spec: object.RevisionSpec{Stack: name, Number: far, Changes: changes, Parent: -far}})
	}
	w.rest(5 * time.Minute)

	if n := w.view().Count(object.KindContent); n != 1 {
		t.Errorf("%d contents are left, want the one that is read", n)
	}
	n := w.commit(one(configMap("conf", "a"), web("ok:2", 2, reading("conf")), service("web")))
	w.awaits(n, object.RevisionHealthy)
}

// TestFailedBeforeItStartedIsNotReplacedAtOnce: a pod that never ran has no time
// of a start, which is not the same as having run since the beginning of time.
func TestFailedBeforeItStartedIsNotReplacedAtOnce(t *testing.T) {
	for _, c := range []struct {
		name    string
		started time.Duration // before its end; negative: never
		waits   bool
	}{{"never started", -1, true}, {"short life", time.Second, true}, {"long life", time.Hour, false}} {
		w := newWorld(t, 1)
		rs := &object.ReplicaSet{Meta: object.Meta{Kind: object.KindReplicaSet, Namespace: "default", Name: "solo"}, Spec: object.ReplicaSetSpec{Replicas: 1, Pod: template("ok:1")}}
		w.put(rs)
		w.until("it runs", func(*state.Snapshot) bool { p := w.pod("solo-0"); return p != nil && p.Status.Ready })
		w.dead["n1"] = true // the node of the test says no more
		p := w.pod("solo-0")
		q := p.Clone().(*object.Pod)
		q.Status = object.PodStatus{Phase: object.PodFailed, Since: w.now}
		if c.started >= 0 {
			q.Status.Started = w.now.Add(-c.started)
		}
		var cs object.Changeset
		cs.UpdateStatus(p, q)
		w.apply(cs)
		w.settle()
		if got := w.pod("solo-0") != nil; got != c.waits {
			t.Errorf("%s: waits %v, want %v", c.name, got, c.waits)
		}
		w.rest(replaceDelay)
		w.settle()
		if w.pod("solo-0") != nil {
			t.Errorf("%s: not replaced after the delay", c.name)
		}
	}
}

func quota(w *world, pods int) {
	w.put(&object.Namespace{Meta: object.Meta{Kind: object.KindNamespace, Name: "default"}, Spec: object.NamespaceSpec{Quota: &object.Quota{Pods: pods}}})
}

// admitted counts the pods that have been let in.
func admitted(v *state.Snapshot) int {
	n := 0
	for p := range state.All[*object.Pod](v, object.KindPod) {
		if (!p.Terminal() || p.Returns()) && p.Spec.Template != "" {
			n++
		}
	}
	return n
}

// TestQuotaHoldsInOneWave declares more pods in one wave than the quota allows.
func TestQuotaHoldsInOneWave(t *testing.T) {
	w := newWorld(t, 2)
	quota(w, 2)
	w.watch = func(v *state.Snapshot) {
		if n := admitted(v); n > 2 {
			w.t.Fatalf("%d pods were let in, 2 are allowed", n)
		}
	}
	n := w.commit(one(bare("a", "ok:1"), bare("b", "ok:1"), bare("c", "ok:1"), bare("d", "ok:1")))
	w.until("two of them run", func(*state.Snapshot) bool { return admitted(w.view()) == 2 })
	w.awaits(n, object.RevisionReverted)
	if m := w.revision(n).Status.Message; !strings.Contains(m, "quota") {
		t.Errorf("message: %q", m)
	}
}

// TestQuotaHoldsBetweenSets lets two sets see the same room, as in one round of
// the masters' loop: the second changeset is refused, and asked for again finds
// no room.
func TestQuotaHoldsBetweenSets(t *testing.T) {
	w := newWorld(t, 2)
	quota(w, 3)
	for _, name := range []string{"one", "two"} {
		w.put(&object.ReplicaSet{Meta: object.Meta{Kind: object.KindReplicaSet, Namespace: "default", Name: name}, Spec: object.ReplicaSetSpec{Replicas: 2, Pod: template("ok:" + name)}})
	}
	v := w.view()
	var results []Result
	for _, name := range []string{"one", "two"} {
		r, err := replicaSets{}.Reconcile(v, ref(object.KindReplicaSet, name), w.now)
		if err != nil {
			t.Fatal(err)
		}
		results = append(results, r)
	}
	w.apply(results[0].Changes)
	if err := w.try(results[1].Changes); !object.IsCode(err, object.CodeConflict) {
		t.Fatalf("the second set's changeset: %v, want a conflict", err)
	}
	w.settle()
	if n := admitted(w.view()); n != 3 {
		t.Errorf("%d pods were let in, want 3", n)
	}
}

// TestPreviousAfterPause applies a new version to a paused deployment: resumed,
// its status has to name the version that it comes from.
func TestPreviousAfterPause(t *testing.T) {
	w := started(t, web("ok:1", 2))
	key := ref(object.KindDeployment, "web")
	proven := w.deployment("web").Status.Set
	edit(w, key, func(d *object.Deployment) { d.Spec.Paused = true })
	w.settled()
	edit(w, key, func(d *object.Deployment) { d.Spec.Pod = template("ok:2") })
	w.settled()
	if st := w.deployment("web").Status; st.Phase != object.RolloutPaused || st.Set != proven {
		t.Fatalf("paused: %+v", st)
	}
	edit(w, key, func(d *object.Deployment) { d.Spec.Paused = false })
	w.until("the new version", func(*state.Snapshot) bool { return w.deployment("web").Status.Phase == object.RolloutStable })
	if st := w.deployment("web").Status; st.Previous != proven || st.Proven != st.Set || st.Set == proven {
		t.Errorf("previous %q, want %q: %+v", st.Previous, proven, st)
	}
	// A version that was never stable is none to go back to.
	proven = w.deployment("web").Status.Set
	edit(w, key, func(d *object.Deployment) { d.Spec.Pod = template("never:3") })
	w.until("it rolls", func(*state.Snapshot) bool {
		return w.deployment("web").Status.Step > 0 && w.deployment("web").Status.Set != proven
	})
	edit(w, key, func(d *object.Deployment) { d.Spec.Pod = template("ok:4") })
	w.until("the newest version", func(*state.Snapshot) bool { return w.deployment("web").Status.Phase == object.RolloutStable })
	if st := w.deployment("web").Status; st.Previous != proven {
		t.Errorf("previous %q, want %q", st.Previous, proven)
	}
}

// TestNotReadyNodeKeepsItsPods: a node that says that its disk is full gets no
// new pods, and those that run there go on.
func TestNotReadyNodeKeepsItsPods(t *testing.T) {
	w := started(t, web("ok:1", 6), bare("tool", "ok:1"))
	before := w.view().UsageOf("n1").Pods
	w.setNode("n1", object.NodeNotReady)
	w.settled()
	if n := w.view().UsageOf("n1").Pods; n != before || before == 0 {
		t.Errorf("%d pods are on n1, %d were", n, before)
	}
	w.neverBelow("web", 6)
	edit(w, ref(object.KindDeployment, "web"), func(d *object.Deployment) { d.Spec.Replicas = 12 })
	w.settled()
	if n := w.view().UsageOf("n1").Pods; n != before {
		t.Errorf("%d pods are on n1, %d were before it was full", n, before)
	}
}

// TestRegistrySecretWithoutKeys says at once what the secret lacks.
func TestRegistrySecretWithoutKeys(t *testing.T) {
	secret := &object.Secret{Meta: object.Meta{Kind: object.KindSecret, Namespace: "default", Name: "registry", Stack: "shop"},
		Spec: object.SecretSpec{Data: map[string]object.Sensitive{"username": {Digest: "u"}}, Reload: "restart"}}
	w := newWorld(t, 1)
	n := w.commit(one(secret), one(web("ok:1", 1, func(d *object.Deployment) { d.Spec.Pod.Credentials = "registry" })))
	w.awaits(n, object.RevisionReverted)
	if st := w.revision(n).Status; st.Reason != object.ReasonConfig || !strings.Contains(st.Message, `registry_secret: secret/registry has no key "password"`) {
		t.Errorf("status: %+v", st)
	}
}
