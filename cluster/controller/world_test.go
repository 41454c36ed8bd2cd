package controller

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/rollout"
	"github.com/berthdev/berth/cluster/state"
)

func service(name string) *object.Service {
	return &object.Service{Meta: object.Meta{Kind: object.KindService, Namespace: "default", Name: name, Stack: "shop"},
		Spec: object.ServiceSpec{Selector: map[string]string{"app": name}, Ports: []object.ServicePort{{Name: "http", Port: 80, Target: "http"}}}}
}

func bare(name, image string) *object.Pod {
	t := template(image)
	t.Labels = map[string]string{"app": name}
	return &object.Pod{Meta: object.Meta{Kind: object.KindPod, Namespace: "default", Name: name, Stack: "shop", Labels: t.Labels}, Spec: object.PodSpec{Pod: &t}}
}

func (w *world) pod(name string) *object.Pod {
	p, _ := state.Find[*object.Pod](w.view(), ref(object.KindPod, name))
	return p
}

func TestWavesOpenInOrder(t *testing.T) {
	w := newWorld(t, 3)
	w.watch = func(v *state.Snapshot) {
		_, second := v.Get(ref(object.KindDeployment, "front"))
		if d, ok := state.Find[*object.Deployment](v, ref(object.KindDeployment, "db")); second && (!ok || d.Status.Phase != object.RolloutStable) {
			w.t.Fatalf("the second wave opened before the first was healthy")
		}
	}
	n := w.commit(one(configMap("conf", "a"), web("ok:1", 2, named("db"))), one(service("front"), web("ok:1", 2, named("front"))))
	w.awaits(n, object.RevisionHealthy)
	if w.revision(n).Status.Wave != 2 {
		t.Errorf("status: %+v", w.revision(n).Status)
	}
}

func TestDeletesComeLastInTheirOrder(t *testing.T) {
	w := started(t, configMap("conf", "a"), web("ok:1", 2, reading("conf")), service("web"), bare("tool", "ok:1"))
	var order []string
	w.watch = func(v *state.Snapshot) {
		for _, r := range []object.Ref{ref(object.KindService, "web"), ref(object.KindPod, "tool"), ref(object.KindDeployment, "web"), ref(object.KindConfigMap, "conf")} {
			if _, ok := v.Get(r); !ok && !slices.Contains(order, r.Address()) {
				order = append(order, r.Address())
				if r.Kind == object.KindConfigMap && v.Count(object.KindPod) != 1 { // new's pod
					w.t.Fatalf("the config map went while its readers' pods were there")
				}
			}
		}
	}
	n := w.commit(one(web("ok:1", 1, named("new"))))
	w.awaits(n, object.RevisionHealthy)
	if want := []string{"service.web", "pod.tool", "deployment.web", "config_map.conf"}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
	w.settled()
	if n := w.view().Count(object.KindReplicaSet); n != 1 {
		t.Errorf("%d replica sets are left", n)
	}
	if n := w.view().Count(object.KindEndpoints); n != 0 {
		t.Errorf("%d endpoints are left", n)
	}
	if n := w.view().Count(object.KindContent); n != 0 {
		t.Errorf("%d contents are left", n)
	}
}

func TestSupersededBaseIsTheHealthyOne(t *testing.T) {
	w := started(t, configMap("conf", "a"), web("ok:1", 3, reading("conf")))
	pods := w.livePods("web")["ok:1"]
	// 2 opens its first wave and hangs in its second; 3 takes over and fails.
	second := w.commit(one(configMap("conf", "b"), configMap("more", "x")), one(web("never:2", 3, reading("conf"))))
	w.until("the second wave", func(*state.Snapshot) bool { return w.revision(second).Status.Wave == 2 })
	third := w.commit(one(configMap("conf", "b"), configMap("more", "x")), one(web("missing:3", 3, reading("conf"))))
	w.awaits(third, object.RevisionReverted)
	if p := w.revision(second).Status.Phase; p != object.RevisionSuperseded {
		t.Errorf("revision 2 is %s", p)
	}
	w.settled()
	if now := w.livePods("web"); len(now) != 1 || !slices.Equal(now["ok:1"], pods) {
		t.Errorf("not back at revision 1: %v", now)
	}
	c, _ := state.Find[*object.ConfigMap](w.view(), ref(object.KindConfigMap, "conf"))
	if _, more := w.view().Get(ref(object.KindConfigMap, "more")); more || c.Spec.Data["app.toml"] != "a" {
		t.Errorf("config maps are not those of revision 1: %v, more: %v", c.Spec.Data, more)
	}
	if s, _ := state.Find[*object.Stack](w.view(), ref(object.KindStack, "shop")); s.Spec.Revision != 4 || s.Status.Healthy != 4 {
		t.Errorf("stack: %+v %+v", s.Spec, s.Status)
	}
}

func TestPlacementsAreComparedWithThePlan(t *testing.T) {
	w := newWorld(t, 2)
	w.commit(one(web("ok:1", 2)))
	edit(w, revisionRef("shop", 1), func(r *object.Revision) { r.Spec.Placements = map[string]string{"default/gone-0": "n1"} })
	w.awaits(1, object.RevisionHealthy)
	if st := w.revision(1).Status; st.Kept != 0 || len(st.Deviations) != 1 || st.Deviations[0].Planned != "n1" || st.Deviations[0].Why == "" {
		t.Errorf("status: %+v", st)
	}
}

func TestNodeLostAndBack(t *testing.T) {
	w := started(t, web("ok:1", 6), bare("tool", "ok:1"))
	lone := w.pod("tool").Spec.Node
	w.dead[lone] = true
	w.setNode(lone, object.NodeLost)
	w.until("replacements", func(v *state.Snapshot) bool {
		n := 0
		for _, name := range w.livePods("web")["ok:1"] {
			if p := w.pod(name); p.Status.Ready && p.Spec.Node != lone {
				n++
			}
		}
		return n == 6
	})
	if p := w.pod("tool"); p == nil || p.Status.Phase != object.PodLost || p.Spec.Stop {
		t.Errorf("the bare pod is not just marked: %+v", p)
	}
	w.settled()
	if n := w.view().Count(object.KindPod); n != 7 {
		t.Errorf("%d pods, want 7: rows of lost pods go", n)
	}
	w.dead[lone] = false
	w.setNode(lone, object.NodeReady)
	w.until("the bare pod is itself again", func(*state.Snapshot) bool { return w.pod("tool").Status.Ready })
	w.settled()
}

func TestDrainStartsReplacementsFirst(t *testing.T) {
	w := started(t, web("ok:1", 6))
	w.neverBelow("web", 6)
	edit(w, object.Ref{Kind: object.KindNode, Name: "n1"}, func(n *object.Node) { n.Spec.Drain, n.Spec.Unschedulable = true, true })
	w.until("an empty node", func(v *state.Snapshot) bool { return v.UsageOf("n1").Pods == 0 })
	w.settled()
	if pods := w.livePods("web")["ok:1"]; len(pods) != 6 {
		t.Errorf("pods: %v", pods)
	}
}

func TestDrainWithoutRoomKeepsThePods(t *testing.T) {
	w := started(t, web("ok:1", 3), bare("tool", "ok:1"))
	w.full = true
	w.neverBelow("web", 3)
	for i := range 3 {
		edit(w, object.Ref{Kind: object.KindNode, Name: fmt.Sprintf("n%d", i+1)}, func(n *object.Node) { n.Spec.Drain = true })
	}
	w.settled()
	for i := range 3 {
		edit(w, object.Ref{Kind: object.KindNode, Name: fmt.Sprintf("n%d", i+1)}, func(n *object.Node) { n.Spec.Drain = false })
	}
	w.settled()
	if n := w.view().Count(object.KindPod); n != 4 || w.deployment("web").Status.Phase != object.RolloutStable {
		t.Errorf("%d pods, want 4\n%s", n, w.dump())
	}
}

func TestTaintEvicts(t *testing.T) {
	w := started(t, web("ok:1", 3))
	edit(w, object.Ref{Kind: object.KindNode, Name: "n1"}, func(n *object.Node) {
		n.Spec.Taints = []object.Taint{{Key: "broken", Effect: "no_execute"}}
	})
	w.settled()
	if n := w.view().UsageOf("n1").Pods; n != 0 {
		t.Errorf("%d pods are still there", n)
	}
}

func TestBarePods(t *testing.T) {
	w := started(t, bare("tool", "ok:1"))
	p := w.pod("tool")
	if p.Spec.Pod != nil || p.Spec.Template == "" || w.view().Template(p).Containers[0].Image != "ok:1" {
		t.Fatalf("not interned: %+v", p.Spec)
	}
	w.awaits(w.commit(one(bare("tool", "ok:2"))), object.RevisionHealthy)
	now := w.pod("tool")
	if now.Created == p.Created || w.view().Template(now).Containers[0].Image != "ok:2" {
		t.Errorf("not made anew: %+v", now)
	}
	n := w.commit(one(bare("tool", "missing:3")))
	w.awaits(n, object.RevisionReverted)
	if image := w.view().Template(w.pod("tool")).Containers[0].Image; image != "ok:2" || !w.pod("tool").Status.Ready {
		t.Errorf("not put back: %s", image)
	}
	w.settled()
}

func TestReplicaSets(t *testing.T) {
	w := newWorld(t, 2)
	rs := &object.ReplicaSet{Meta: object.Meta{Kind: object.KindReplicaSet, Namespace: "default", Name: "solo", Stack: "shop"}, Spec: object.ReplicaSetSpec{Replicas: 3, Pod: template("ok:1")}}
	w.awaits(w.commit(one(rs)), object.RevisionHealthy)
	edit(w, rs.Ref(), func(rs *object.ReplicaSet) { rs.Spec.Replicas = 2 })
	w.settled()
	// Two of the three shared n1: one of those is given up.
	if a, b := w.view().UsageOf("n1").Pods, w.view().UsageOf("n2").Pods; a != 1 || b != 1 {
		t.Errorf("pods on the nodes: %d, %d", a, b)
	}
	n := w.commit(one(rs, func() object.Object {
		bad := rs.Clone().(*object.ReplicaSet)
		bad.Name, bad.Spec.Pod = "bad", template("missing:1")
		return bad
	}()))
	w.awaits(n, object.RevisionReverted)
}

func TestEndpoints(t *testing.T) {
	w := started(t, service("web"), web("ok:1", 2))
	eps := func() object.EndpointsSpec {
		e, _ := state.Find[*object.Endpoints](w.view(), ref(object.KindEndpoints, "web"))
		return e.Spec
	}
	if s := eps(); len(s.Ready) != 2 || s.Ready[0].Ports["http"] != 8080 || s.Ready[0].Address == "" || s.Ready[0].Node == "" {
		t.Fatalf("endpoints: %+v", s)
	}
	// Pods that stop get nothing new, but are listed until they are gone.
	leaving := map[string]bool{}
	w.watch = func(v *state.Snapshot) {
		for _, e := range eps().Leaving {
			leaving[e.Pod] = true
			if p := w.pod(e.Pod); e.Address == "" || e.Ports["http"] != 8080 || p != nil && !p.Spec.Stop {
				t.Errorf("leaving: %+v", e)
			}
		}
	}
	w.commit(one(service("web")))
	w.until("no endpoints", func(*state.Snapshot) bool { return len(eps().Ready)+len(eps().NotReady)+len(eps().Leaving) == 0 })
	if len(leaving) != 2 {
		t.Errorf("%v were leaving, want both pods", leaving)
	}
}

// TestEndpointsShares: a pod counts for the first share that it fits, and for
// another one as soon as the service says so.
func TestEndpointsShares(t *testing.T) {
	labelled := func(name, track string) func(*object.Deployment) {
		return func(d *object.Deployment) {
			d.Name, d.Spec.Pod.Labels = name, map[string]string{"app": "web", "track": track}
		}
	}
	shares := func(list ...object.ServiceShare) *object.Service {
		svc := service("web")
		svc.Spec.Shares = list
		return svc
	}
	stable := object.ServiceShare{Name: "stable", Selector: map[string]string{"track": "stable"}, Weight: 95}
	canary := object.ServiceShare{Name: "canary", Selector: map[string]string{"track": "canary"}, Weight: 5}
	rest := object.ServiceShare{Name: "rest", Selector: map[string]string{"app": "web"}, Weight: 1}
	deployments := []object.Object{web("ok:1", 2, labelled("web", "stable")), web("ok:1", 1, labelled("web-canary", "canary")), web("ok:1", 1, labelled("web-old", "old"))}
	w := started(t, append([]object.Object{shares(stable, canary)}, deployments...)...)
	count := func() map[string]int {
		e, _ := state.Find[*object.Endpoints](w.view(), ref(object.KindEndpoints, "web"))
		out := map[string]int{}
		for _, e := range e.Spec.Ready {
			out[e.Share]++
		}
		return out
	}
	expect := func(want map[string]int) {
		t.Helper()
		w.until(fmt.Sprint("shares of ", want), func(*state.Snapshot) bool { return maps.Equal(count(), want) })
	}
	expect(map[string]int{"stable": 2, "canary": 1, "": 1})
	w.commit(append([]object.Object{shares(stable, rest, canary)}, deployments...))
	expect(map[string]int{"stable": 2, "rest": 2})
	w.commit(append([]object.Object{shares()}, deployments...))
	expect(map[string]int{"": 4})
}

// TestEndpointsExternal: a service that leads outside has none, and none are left
// of the time when it led to pods.
func TestEndpointsExternal(t *testing.T) {
	w := started(t, service("web"), web("ok:1", 2))
	external := service("web")
	external.Spec = object.ServiceSpec{Type: "external", ExternalName: "db.example"}
	w.commit(one(external, web("ok:1", 2)))
	w.until("no endpoints", func(v *state.Snapshot) bool { return v.Count(object.KindEndpoints) == 0 })
	w.commit(one(service("web"), web("ok:1", 2)))
	w.until("endpoints again", func(v *state.Snapshot) bool {
		e, ok := state.Find[*object.Endpoints](v, ref(object.KindEndpoints, "web"))
		return ok && len(e.Spec.Ready) == 2
	})
	w = started(t, external)
	if n := w.view().Count(object.KindEndpoints); n != 0 {
		t.Errorf("an external service got %d endpoints", n)
	}
}

func TestQuota(t *testing.T) {
	w := newWorld(t, 2)
	w.put(&object.Namespace{Meta: object.Meta{Kind: object.KindNamespace, Name: "default"}, Spec: object.NamespaceSpec{Quota: &object.Quota{Pods: 3}}})
	n := w.commit(one(web("ok:1", 5)))
	w.awaits(n, object.RevisionReverted)
	if st := w.revision(n).Status; !strings.Contains(st.Message, "the quota of namespace default leaves room for 0 of 2 pods: 3 of 3 pods are in use") {
		t.Errorf("status: %+v", st)
	}
}

func TestGarbage(t *testing.T) {
	w := started(t, web("ok:1", 1))
	w.put(&object.Token{Meta: object.Meta{Kind: object.KindToken, Name: "t"}, Spec: object.TokenSpec{Expires: w.now.Add(time.Hour)}})
	for i := range 60 {
		w.awaits(w.commit(one(web(fmt.Sprintf("ok:%d", i+2), 1))), object.RevisionHealthy)
	}
	w.rest(2 * time.Hour)
	if n := w.view().Count(object.KindRevision); n != 50 {
		t.Errorf("%d revisions", n)
	}
	if n := w.view().Count(object.KindToken); n != 1 { // its bearer is to be told that it expired
		t.Errorf("%d tokens an hour after its end", n)
	}
	if n := w.view().Count(object.KindEvent); n != 0 {
		t.Errorf("%d events", n)
	}
	if n := w.view().Count(object.KindTemplate); n != 1 {
		t.Errorf("%d templates", n)
	}
	w.rest(object.TokenKept)
	if n := w.view().Count(object.KindToken); n != 0 {
		t.Errorf("%d tokens long after their end", n)
	}
	w.settled()
}

// TestLeaderChange hands over to a new leader after every single changeset and
// expects the very same end.
func TestLeaderChange(t *testing.T) {
	end := func(change bool) string {
		w := started(t, configMap("conf", "a"), web("ok:1", 4, reading("conf")))
		w.neverBelow("web", 4)
		if change {
			watch := w.watch
			w.watch = func(v *state.Snapshot) {
				watch(v)
				w.queue = NewQueue(All())
				w.queue.Seed(v)
			}
		}
		w.awaits(w.commit(one(configMap("conf", "b")), one(web("ok:2", 4, reading("conf")))), object.RevisionHealthy)
		w.awaits(w.commit(one(configMap("conf", "b")), one(web("crash:3", 4, reading("conf")))), object.RevisionReverted)
		if change {
			w.watch = nil
		}
		w.settled()
		return fmt.Sprintf("%v %v %s", w.livePods("web"), w.deployment("web").Status.Set, w.revision(3).Status.Reason)
	}
	if a, b := end(false), end(true); a != b {
		t.Errorf("another end after changes of the leader:\n%s\n%s", a, b)
	}
}

func TestRandomWorlds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		script := rapid.SliceOfN(rapid.IntRange(0, 1<<20), 3, 14).Draw(t, "script")
		first := play(t, script)
		if second := play(t, script); first != second {
			t.Fatalf("two equal runs differ")
		}
	})
}

// lose makes a node fall silent, or come back.
func (w *world) lose(node string, lost bool) {
	condition := object.NodeReady
	if lost {
		condition = object.NodeLost
	}
	w.dead[node] = lost
	w.setNode(node, condition)
}

// actions is how many kinds of steps a script has.
const actions = 8

// play runs a script of changes and failures and answers the digest of the end.
func play(t *rapid.T, script []int) string {
	w := newWorld(t, 3)
	surge := func(d *object.Deployment) {
		d.Spec.Update.Surge, d.Spec.Update.Unavailable = object.Amount{N: script[0] % 3}, object.Amount{N: script[1] % 2}
		d.Spec.Update.ProgressDeadline = object.Duration(30 * time.Second)
	}
	want := 2 + script[2]%5
	least := want - script[1]%2
	contents := []string{"a", "b", "crash", "c"}
	images := []string{"ok:1", "ok:2", "missing:3", "crash:4", "never:5", "once:6"}
	has := func(action int) bool {
		return slices.ContainsFunc(script[3:], func(x int) bool { return x%actions == action })
	}
	conf, app := "a", web("ok:0", want, surge, reading("conf"))
	apply := func() int { return w.commit(one(configMap("conf", conf)), one(app, service("web"))) }
	w.awaits(apply(), object.RevisionHealthy)
	if !has(6) { // what a lost node takes with it nobody can promise
		w.neverBelow("web", least)
	}
	if !has(4) { // a drain has its own surplus
		surge, _ := rollout.Limits(want, script[0]%3, script[1]%2)
		low := w.watch
		w.watch = func(v *state.Snapshot) {
			if low != nil {
				low(v)
			}
			if n := len(slices.Concat(slices.Collect(maps.Values(w.livePods("web")))...)); n > want+surge {
				w.t.Fatalf("%d pods, at most %d were promised:\n%s", n, want+surge, w.dump())
			}
		}
	}
	for _, x := range script[3:] {
		arg := x / actions
		name := fmt.Sprintf("n%d", 1+arg%2) // one node always takes pods
		switch x % actions {
		case 0, 1, 2:
			app = web(images[arg%len(images)], want, surge, reading("conf"))
			apply()
		case 3:
			w.rest(time.Duration(arg%40) * time.Second)
		case 4:
			edit(w, object.Ref{Kind: object.KindNode, Name: name}, func(n *object.Node) { n.Spec.Drain = !n.Spec.Drain })
		case 5:
			w.queue = NewQueue(All())
			w.queue.Seed(w.view())
		case 6:
			w.lose(name, !w.dead[name])
		case 7:
			conf = contents[arg%len(contents)]
			apply()
		}
	}
	for _, name := range sortedKeys(w.dead) {
		if w.dead[name] {
			w.lose(name, false)
		}
	}
	for n := range state.All[*object.Node](w.view(), object.KindNode) {
		if n.Spec.Drain {
			edit(w, n.Ref(), func(n *object.Node) { n.Spec.Drain = false })
		}
	}
	w.settled()
	d := w.deployment("web")
	if d.Status.Phase != object.RolloutStable || d.Status.Available != want || !strings.HasPrefix(d.Spec.Pod.Containers[0].Image, "o") {
		t.Fatalf("did not end well, with %s: %s", d.Spec.Pod.Containers[0].Image, w.dump())
	}
	if n := w.view().Count(object.KindPod); n != want {
		t.Fatalf("%d pods, want %d: %s", n, want, w.dump())
	}
	last, _ := state.Find[*object.Stack](w.view(), ref(object.KindStack, "shop"))
	if r := w.revision(last.Spec.Revision); r.Status.Phase != object.RevisionHealthy {
		t.Fatalf("the last revision is %s: %s", r.Status.Phase, w.dump())
	}
	var all []object.Object
	for _, k := range object.Kinds() {
		all = slices.AppendSeq(all, w.view().List(k.Kind))
	}
	return object.Digest(all)
}
