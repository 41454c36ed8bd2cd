package scheduler

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

var t0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// world is a store that tests write into.
type world struct {
	fail  func(format string, args ...any)
	store *state.Store
	index uint64
}

func newWorld(t interface {
	Fatalf(string, ...any)
}, objects ...object.Object) *world {
	w := &world{fail: t.Fatalf, store: state.New()}
	w.create(objects...)
	return w
}

func (w *world) apply(c object.Changeset) {
	w.index++
	if _, err := w.store.Apply(w.index, c); err != nil {
		w.fail("apply: %v", err)
	}
}

func (w *world) create(objects ...object.Object) {
	c := object.Changeset{Author: "test", Time: t0}
	for _, o := range objects {
		c.Create(o)
	}
	w.apply(c)
}

func (w *world) v() *state.Snapshot { return w.store.Snapshot() }

func (w *world) pod(name string) *object.Pod {
	p, ok := state.Find[*object.Pod](w.v(), podRef(name))
	if !ok {
		w.fail("there is no pod %s", name)
	}
	return p
}

func podRef(name string) object.Ref {
	return object.Ref{Kind: object.KindPod, Namespace: "default", Name: name}
}

func template(name string, t object.PodTemplate) *object.Template {
	return &object.Template{Meta: object.Meta{Kind: object.KindTemplate, Namespace: "default", Name: name}, Spec: t}
}

// places is the outcome of a round as "pod>node" words.
func places(r Result) string {
	var out []string
	for _, p := range r.Placed {
		out = append(out, p.Pod.Name+">"+p.Node)
	}
	return strings.Join(out, " ")
}

func gib(n float64) object.Bytes { return object.Bytes(n * (1 << 30)) }

func TestReasons(t *testing.T) {
	with := func(n *object.Node, f func(*object.Node)) *object.Node { f(n); return n }
	gpu := func(name string) *object.Node {
		return with(testNode(name, "a", 8000, gib(64)), func(n *object.Node) {
			n.Spec.Taints = []object.Taint{{Key: "dedicated", Value: "gpu", Effect: "no_schedule"}}
		})
	}
	small := []object.Object{testNode("n1", "a", 8000, gib(1)), testNode("n2", "a", 8000, gib(1.1)), testNode("n3", "b", 8000, gib(0.5))}
	for _, x := range []struct {
		name  string
		nodes []object.Object
		tmpl  object.PodTemplate
		cpu   object.CPU
		mem   object.Bytes
		more  []object.Object
		want  string
	}{
		{name: "none", want: "0 of 0 nodes fit: no node has joined"},
		{name: "memory and taint", nodes: append(small, gpu("n4"), gpu("n5")), mem: gib(2),
			want: "0 of 5 nodes fit: 3 memory (asks 2Gi, 1.1Gi free at most), 2 taint dedicated=gpu"},
		{name: "rounding never looks like enough", nodes: []object.Object{testNode("n1", "a", 1000, gib(2)-1)}, mem: gib(2),
			want: "0 of 1 nodes fit: 1 memory (asks 2Gi, 2147483647B free at most)"},
		{name: "cpu", nodes: []object.Object{testNode("n1", "a", 500, gib(2)), testNode("n2", "a", 1500, gib(2))}, cpu: 2000,
			want: "0 of 2 nodes fit: 2 cpu (asks 2, 1500m free at most)"},
		{name: "conditions", nodes: []object.Object{
			with(testNode("n1", "", 1, 1), func(n *object.Node) { n.Status.Condition = object.NodeLost }),
			with(testNode("n2", "", 1, 1), func(n *object.Node) { n.Status.Condition = "" }),
			with(testNode("n3", "", 1, 1), func(n *object.Node) { n.Spec.Unschedulable = true }),
			with(testNode("n4", "", 1, 1), func(n *object.Node) { n.Spec.Drain, n.Spec.Unschedulable = true, true }),
		}, want: "0 of 4 nodes fit: 1 node cordoned, 1 node draining, 1 node lost, 1 node not ready"},
		{name: "constraint", nodes: []object.Object{testNode("n1", "a", 1, 1)},
			tmpl: object.PodTemplate{Constraints: []object.Constraint{{Attribute: "disk", Operator: "in", Values: []string{"ssd", "nvme"}}}},
			want: "0 of 1 nodes fit: 1 constraint disk in ssd|nvme"},
		{name: "bad constraint", nodes: []object.Object{testNode("n1", "a", 1, 1)},
			tmpl: object.PodTemplate{Constraints: []object.Constraint{{Attribute: "zone", Operator: "regexp", Value: "("}}},
			want: "0 of 1 nodes fit: 1 constraint zone regexp ( (not a regular expression)"},
		{name: "pod count", nodes: []object.Object{with(testNode("n1", "a", 1, 1), func(n *object.Node) { n.Status.Pods = 1 })},
			more: []object.Object{bound(testPod("o", "o-0", nil, 0, 0), "n1"), template("o", object.PodTemplate{})},
			want: "0 of 1 nodes fit: 1 pod count (full)"},
		{name: "host port", nodes: []object.Object{testNode("n1", "a", 1, 1)},
			tmpl: object.PodTemplate{Containers: []object.Container{{Ports: []object.ContainerPort{{HostPort: 80, Protocol: "tcp"}}}}},
			more: []object.Object{bound(testPod("o", "o-0", nil, 0, 0), "n1"), template("o", object.PodTemplate{Containers: []object.Container{{Ports: []object.ContainerPort{{HostPort: 80, Protocol: "tcp"}}}}})},
			want: "0 of 1 nodes fit: 1 host port 80/tcp taken"},
		{name: "avoid", nodes: []object.Object{testNode("n1", "a", 1, 1), testNode("n2", "a", 1, 1)},
			tmpl: object.PodTemplate{Avoid: []object.Avoid{{Labels: map[string]string{"app": "db"}, Over: "zone"}}},
			more: []object.Object{bound(testPod("o", "o-0", map[string]string{"app": "db"}, 0, 0), "n1"), template("o", object.PodTemplate{})},
			want: "0 of 2 nodes fit: 2 avoids app=db in its zone"},
		{name: "avoided", nodes: []object.Object{testNode("n1", "a", 1, 1)},
			more: []object.Object{bound(testPod("o", "o-0", nil, 0, 0), "n1"), template("o", object.PodTemplate{Avoid: []object.Avoid{{Labels: map[string]string{"app": "web"}, Over: "node"}}})},
			want: "0 of 1 nodes fit: 1 avoided by pods that avoid app=web"},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld(t, append(x.nodes, x.more...)...)
			w.create(template("web", x.tmpl), testPod("web", "web-0", map[string]string{"app": "web"}, x.cpu, x.mem))
			s := New(SpreadPolicy())
			r := s.Place(w.v(), t0, 0)
			if len(r.Unplaced) != 1 || r.Unplaced[0].Reason != x.want {
				t.Fatalf("got  %q\nwant %q", r.Unplaced, x.want)
			}
			e, err := s.Explain(w.v(), podRef("web-0"))
			if err != nil || e.Summary != x.want {
				t.Errorf("explained as %q, %v", e.Summary, err)
			}
			w.apply(r.Changes)
			if p := w.pod("web-0"); p.Status.Reason != object.ReasonUnplaceable || p.Status.Message != x.want || !p.Status.Since.Equal(t0) {
				t.Errorf("status %+v", p.Status)
			}
			if w.v().Count(object.KindEvent) != 1 {
				t.Errorf("%d events", w.v().Count(object.KindEvent))
			}
			if again := s.Place(w.v(), t0.Add(time.Minute), 0); !again.Changes.Empty() || len(again.Unplaced) != 1 {
				t.Errorf("the second round writes what is not news: %+v", again.Changes.Changes)
			}
		})
	}
}

func bound(p *object.Pod, node string) *object.Pod {
	p.Spec.Node = node
	return p
}

func TestAlikeAsksWithUnlikeReasons(t *testing.T) {
	w := newWorld(t, testNode("n1", "a", 1000, gib(1)), template("any", object.PodTemplate{}),
		template("shy", object.PodTemplate{Avoid: []object.Avoid{{Labels: map[string]string{"app": "web"}, Over: "node"}}}),
		bound(testPod("shy", "shy-0", nil, 0, 0), "n1"),
		testPod("any", "a-0", map[string]string{"app": "api"}, 0, gib(2)),
		testPod("any", "w-0", map[string]string{"app": "web"}, 0, gib(2)))
	r := New(SpreadPolicy()).Place(w.v(), t0, 0)
	want := []object.Unplaced{
		{Pod: podRef("a-0"), Reason: "0 of 1 nodes fit: 1 memory (asks 2Gi, 1Gi free at most)"},
		{Pod: podRef("w-0"), Reason: "0 of 1 nodes fit: 1 avoided by pods that avoid app=web"},
	}
	if !reflect.DeepEqual(r.Unplaced, want) {
		t.Errorf("%q", r.Unplaced)
	}
}

func TestUnplaceableIsClearedByBinding(t *testing.T) {
	w := newWorld(t, template("web", object.PodTemplate{}), testPod("web", "web-0", nil, 100, gib(1)))
	s := New(SpreadPolicy())
	w.apply(s.Place(w.v(), t0, 0).Changes)
	w.create(testNode("n1", "a", 1000, gib(2)))
	w.apply(s.Place(w.v(), t0, 0).Changes)
	if p := w.pod("web-0"); p.Spec.Node != "n1" || p.Status.Reason != "" || p.Status.Message != "" {
		t.Errorf("node %q, status %+v", p.Spec.Node, p.Status)
	}
}

func TestConstraints(t *testing.T) {
	n := testNode("n1", "eu-1", 1, 1)
	n.Labels["gen"] = "9"
	n.Status.Attributes = map[string]string{"kernel": "6.1.0-13-amd64", "zone": "not this one", "berth": "0.2.0-rc1"}
	for _, x := range []struct {
		attribute, op, value string
		values               []string
		want                 bool
	}{
		{"zone", "=", "eu-1", nil, true}, {"zone", "", "eu-1", nil, true}, {"zone", "=", "eu-2", nil, false}, {"none", "=", "", nil, false},
		{"node", "=", "n1", nil, true},
		{"zone", "!=", "eu-2", nil, true}, {"zone", "!=", "eu-1", nil, false}, {"none", "!=", "x", nil, true},
		{"zone", "in", "", []string{"eu-1", "eu-2"}, true}, {"zone", "in", "eu-1", nil, true}, {"none", "in", "", []string{"x"}, false},
		{"zone", "not_in", "", []string{"eu-2"}, true}, {"zone", "not_in", "", []string{"eu-1"}, false}, {"none", "not_in", "", []string{"x"}, true},
		{"gen", "<", "10", nil, true}, {"gen", ">", "10", nil, false}, {"gen", ">", "8.5", nil, true}, {"zone", "<", "eu-2", nil, true}, {"none", "<", "5", nil, false},
		{"zone", "exists", "", nil, true}, {"none", "exists", "", nil, false}, {"zone", "not_exists", "", nil, false}, {"none", "not_exists", "", nil, true},
		{"zone", "regexp", "^eu-[0-9]$", nil, true}, {"zone", "regexp", "^us", nil, false}, {"zone", "regexp", "(", nil, false},
		{"kernel", "version", ">= 5.10", nil, true}, {"kernel", "version", ">= 6.2", nil, false}, {"kernel", "version", "~> 6.0", nil, true},
		{"berth", "version", ">= 0.2.0-rc2", nil, false}, {"zone", "version", ">= 1", nil, false}, {"kernel", "version", "new", nil, false},
		{"zone", "like", "eu", nil, false},
	} {
		m := newMatcher(object.Constraint{Attribute: x.attribute, Operator: x.op, Value: x.value, Values: x.values})
		if got := m.match(n); got != x.want {
			t.Errorf("%s: %v", m.text, got)
		}
	}
}

func TestTolerations(t *testing.T) {
	for _, x := range []struct {
		tol  object.Toleration
		want bool
	}{
		{object.Toleration{}, true}, {object.Toleration{Key: "k"}, true}, {object.Toleration{Key: "k", Value: "v"}, true},
		{object.Toleration{Key: "k", Value: "w"}, false}, {object.Toleration{Key: "j"}, false},
		{object.Toleration{Effect: "no_execute"}, false}, {object.Toleration{Effect: "no_schedule"}, true},
	} {
		d := demand{tolerations: []object.Toleration{x.tol}}
		if got := d.tolerates(object.Taint{Key: "k", Value: "v", Effect: "no_schedule"}); got != x.want {
			t.Errorf("%+v: %v", x.tol, got)
		}
	}
}

func TestWhere(t *testing.T) {
	nodes := []object.Object{testNode("n1", "a", 4000, gib(8)), testNode("n2", "a", 4000, gib(8)), testNode("n3", "b", 4000, gib(8)), testNode("n4", "b", 4000, gib(8))}
	set := func(set string, n int) (out []object.Object) {
		for i := range n {
			out = append(out, testPod(set, fmt.Sprintf("%s-%d", set, i), map[string]string{"app": set}, 100, gib(0.1)))
		}
		return out
	}
	for _, x := range []struct {
		name   string
		policy Policy
		tmpl   object.PodTemplate
		pods   []object.Object
		want   string
	}{
		{"zones, then nodes", SpreadPolicy(), object.PodTemplate{}, set("web", 6), "web-0>n1 web-1>n3 web-2>n2 web-3>n4 web-4>n1 web-5>n3"},
		{"packed", PackPolicy(), object.PodTemplate{}, set("web", 4), "web-0>n1 web-1>n1 web-2>n1 web-3>n1"},
		{"packed, but spread over zones", PackPolicy(), object.PodTemplate{Spread: []object.Spread{{Over: "zone", Weight: 100}}}, set("web", 4), "web-0>n1 web-1>n3 web-2>n1 web-3>n3"},
		{"preferred", SpreadPolicy(), object.PodTemplate{Constraints: []object.Constraint{{Attribute: "node", Value: "n4", Prefer: 1000}}}, set("web", 2), "web-0>n4 web-1>n4"},
		{"never two on a node", SpreadPolicy(), object.PodTemplate{Avoid: []object.Avoid{{Labels: map[string]string{"app": "web"}, Over: "node"}}}, set("web", 5), "web-0>n1 web-1>n3 web-2>n2 web-3>n4"},
		{"never two in a zone", SpreadPolicy(), object.PodTemplate{Avoid: []object.Avoid{{Labels: map[string]string{"app": "web"}, Over: "zone"}}}, set("web", 3), "web-0>n1 web-1>n3"},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld(t, nodes...)
			w.create(template("web", x.tmpl))
			w.create(x.pods...)
			r := New(x.policy).Place(w.v(), t0, 0)
			if got := places(r); got != x.want {
				t.Errorf("got  %s\nwant %s", got, x.want)
			}
			w.apply(r.Changes)
		})
	}
}

func TestOrderAndLimit(t *testing.T) {
	w := newWorld(t, testNode("n1", "a", 4000, gib(8)), template("low", object.PodTemplate{}), template("high", object.PodTemplate{Priority: 5}),
		testPod("low", "a-0", nil, 0, 0), testPod("low", "a-1", nil, 0, 0), testPod("high", "z-0", nil, 0, 0), testPod("high", "z-1", nil, 0, 0))
	s := New(SpreadPolicy())
	for _, want := range []string{"z-0>n1 z-1>n1 a-0>n1", "a-1>n1", ""} {
		r := s.Place(w.v(), t0, 3)
		if got := places(r); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
		w.apply(r.Changes)
	}
}

func TestThePlanIsFollowed(t *testing.T) {
	pods := []object.Object{testPod("web", "web-0", nil, 1000, 0), testPod("web", "web-1", nil, 1000, 0), testPod("web", "web-2", nil, 1000, 0)}
	for _, p := range pods {
		p.Head().Stack = "shop"
	}
	revision := func(n int, phase object.RevisionPhase, placements map[string]string) *object.Revision {
		r := &object.Revision{Meta: object.Meta{Kind: object.KindRevision, Name: object.RevisionName("shop", n)}}
		r.Spec.Placements, r.Status.Phase = placements, phase
		return r
	}
	w := newWorld(t, testNode("n1", "a", 4000, gib(8)), testNode("n2", "b", 1500, gib(8)), template("web", object.PodTemplate{}),
		&object.Stack{Meta: object.Meta{Kind: object.KindStack, Name: "shop"}, Spec: object.StackSpec{Revision: 2}},
		revision(1, object.RevisionRunning, map[string]string{"default/web-0": "n1"}),
		revision(2, "", map[string]string{"default/web-0": "n2", "default/web-1": "n2", "default/web-2": "gone"}))
	w.create(pods...)
	r := New(SpreadPolicy()).Place(w.v(), t0, 0)
	if got, want := places(r), "web-0>n2 web-1>n1 web-2>n1"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	w.apply(r.Changes)
	var messages []string
	for e := range state.All[*object.Event](w.v(), object.KindEvent) {
		messages = append(messages, e.Spec.About.Name+": "+e.Spec.Message)
	}
	want := []string{
		"web-1: planned on n2, placed on n1, for n2: cpu (asks 1, 500m free)",
		"web-2: planned on gone, placed on n1, for gone: it does not exist any more",
	}
	if !reflect.DeepEqual(messages, want) {
		t.Errorf("events %q", messages)
	}
}

// What the plan of an operation said holds for a while, and never against a revision
// that is under way.
func TestTheLatestOperationIsFollowed(t *testing.T) {
	for name, c := range map[string]struct {
		at    time.Duration
		phase object.RevisionPhase
		want  string
	}{
		"in time":              {0, object.RevisionHealthy, "web-0>n2"},
		"later":                {time.Hour, object.RevisionHealthy, "web-0>n1"},
		"a revision under way": {0, object.RevisionRunning, "web-0>n1"},
	} {
		pod := testPod("web", "web-0", nil, 1000, 0)
		pod.Stack = "shop"
		r := &object.Revision{Meta: object.Meta{Kind: object.KindRevision, Name: object.RevisionName("shop", 1)}}
		r.Status.Phase = c.phase
		stack := &object.Stack{Meta: object.Meta{Kind: object.KindStack, Name: "shop"}, Spec: object.StackSpec{Revision: 1}}
		stack.Status.Placements, stack.Status.PlacedUntil = map[string]string{"default/web-0": "n2"}, t0.Add(time.Minute)
		w := newWorld(t, testNode("n1", "a", 4000, gib(8)), testNode("n2", "b", 1500, gib(8)), template("web", object.PodTemplate{}), stack, r)
		w.create(pod)
		if got := places(New(SpreadPolicy()).Place(w.v(), t0.Add(c.at), 0)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestExplain(t *testing.T) {
	full := testNode("n3", "b", 50, gib(8))
	full.Spec.Unschedulable, full.Spec.Taints = true, []object.Taint{{Key: "gpu", Effect: "no_schedule"}}
	w := newWorld(t, testNode("n1", "a", 4000, gib(8)), testNode("n2", "b", 4000, gib(8)), full, template("web", object.PodTemplate{}),
		testPod("web", "web-0", nil, 100, 0), bound(testPod("web", "web-1", nil, 100, 0), "n1"))
	s := New(SpreadPolicy())
	for range 2 { // looking changes nothing
		e, err := s.Explain(w.v(), podRef("web-0"))
		if err != nil {
			t.Fatal(err)
		}
		want := object.Explanation{Pod: podRef("web-0"), Best: "n2", Summary: "2 of 3 nodes fit; it goes to n2", Candidates: []object.Candidate{
			{Node: "n2", Fits: true, Score: 49_400, Parts: []object.ScorePart{{What: "free", Points: 49_400, Detail: "with it cpu 100m of 4, memory 0B of 8Gi"}}},
			{Node: "n1", Fits: true, Score: -251_250, Parts: []object.ScorePart{
				{What: "free", Points: 48_750, Detail: "with it cpu 200m of 4, memory 0B of 8Gi"},
				{What: "spread over zone", Points: -200_000, Detail: "1 pod of its set in a"},
				{What: "spread over node", Points: -100_000, Detail: "1 pod of its set on it"},
			}},
			{Node: "n3", Fails: []string{"node cordoned", "taint gpu", "cpu (asks 100m, 50m free)"}},
		}}
		if !reflect.DeepEqual(e, want) {
			t.Errorf("got\n%+v\nwant\n%+v", e, want)
		}
		e, err = s.Explain(w.v(), podRef("web-1"))
		if want := "2 of 3 nodes fit; it is bound to n1; placed anew it would go to n1"; err != nil || e.Summary != want {
			t.Errorf("%q, %v", e.Summary, err)
		}
	}
	if _, err := s.Explain(w.v(), podRef("web-9")); object.CodeOf(err) != object.CodeNotFound {
		t.Errorf("no such pod: %v", err)
	}
}

type onlyEven struct{}

func (onlyEven) Name() string { return "even" }
func (onlyEven) Reject(a Ask, n View) string {
	if (n.Used.Pods+len(n.Node.Name))%2 == 1 {
		return "odd"
	}
	return ""
}

type byName struct{}

func (byName) Name() string               { return "last name" }
func (byName) Points(a Ask, n View) int64 { return int64(n.Node.Name[1]) * 1_000 }

func TestPlugins(t *testing.T) {
	p := PackPolicy()
	p.Filters, p.Scores = []Filter{onlyEven{}}, []Score{byName{}}
	w := newWorld(t, testNode("n1", "a", 4000, gib(8)), testNode("n2", "a", 4000, gib(8)), template("web", object.PodTemplate{}),
		testPod("web", "web-0", nil, 0, 0), testPod("web", "web-1", nil, 0, 0), testPod("web", "web-2", nil, 0, 0))
	r := New(p).Place(w.v(), t0, 0)
	if got := places(r); got != "web-0>n2 web-1>n1" || r.Unplaced[0].Reason != "0 of 2 nodes fit: 2 odd" {
		t.Errorf("%s; %v", got, r.Unplaced)
	}
}

func TestMissingTemplate(t *testing.T) {
	w := newWorld(t, testNode("n1", "a", 4000, gib(8)), testPod("web", "web-0", nil, 0, 0))
	r := New(SpreadPolicy()).Place(w.v(), t0, 0)
	if len(r.Unplaced) != 1 || !strings.Contains(r.Unplaced[0].Reason, `template "web" does not exist`) {
		t.Errorf("%v", r.Unplaced)
	}
}

// TestNotLetIn: a declared pod is placed only after the pod controller has given
// it a row's form.
func TestNotLetIn(t *testing.T) {
	p := testPod("", "bare", nil, 0, 0)
	p.Owner, p.Spec.Pod = object.Ref{}, &object.PodTemplate{}
	w := newWorld(t, testNode("n1", "a", 4000, gib(8)), p)
	if r := New(SpreadPolicy()).Place(w.v(), t0, 0); !r.Changes.Empty() || len(r.Placed)+len(r.Unplaced) > 0 {
		t.Errorf("%+v", r)
	}
}

// TestTemplateComesLater: bound pods whose template is missing are read again.
func TestTemplateComesLater(t *testing.T) {
	port := object.PodTemplate{Containers: []object.Container{{Ports: []object.ContainerPort{{HostPort: 80, Protocol: "tcp"}}}}}
	w := newWorld(t, testNode("n1", "a", 4000, gib(8)), template("b", port),
		bound(testPod("a", "a-0", nil, 0, 0), "n1"), testPod("b", "b-0", nil, 0, 0))
	s := New(SpreadPolicy())
	if r := s.Place(w.v(), t0, 0); len(r.Placed) != 1 {
		t.Fatalf("%+v", r)
	}
	w.create(template("a", port))
	if r := s.Place(w.v(), t0, 0); len(r.Unplaced) != 1 {
		t.Fatalf("%+v", r)
	}
}

// TestCachesNeverShow drives one scheduler through a random history, on forks
// and back, with changes lost and nodes changing below it, and holds each of its
// rounds and explanations against those of a fresh one.
func TestCachesNeverShow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := drawPolicy(t)
		w := newWorld(t)
		for i := range rapid.IntRange(1, 6).Draw(t, "nodes") {
			w.create(drawNode(t, i))
		}
		var templates []*object.Template
		for i := range 3 {
			templates = append(templates, template(fmt.Sprint("set", i), *drawTemplate(t)))
			w.create(templates[i])
		}
		s, made := New(policy), 0
		pick := func(kind object.Kind) (object.Object, bool) {
			n := w.v().Count(kind)
			if n == 0 {
				return nil, false
			}
			i := rapid.IntRange(0, n-1).Draw(t, "which")
			for o := range w.v().List(kind) {
				if i == 0 {
					return o, true
				}
				i--
			}
			return nil, false
		}
		change := func(o object.Object, part object.Part, f func(object.Object)) {
			c, after := object.Changeset{Author: "test", Time: t0}, o.Clone()
			f(after)
			if part == object.PartStatus {
				c.UpdateStatus(o, after)
			} else {
				c.Update(o, after)
			}
			w.apply(c)
		}
		place := func(*rapid.T) {
			if p, ok := pick(object.KindPod); ok {
				a, errA := s.Explain(w.v(), p.Ref())
				b, errB := New(policy).Explain(w.v(), p.Ref())
				if !reflect.DeepEqual(a, b) || fmt.Sprint(errA) != fmt.Sprint(errB) {
					t.Fatalf("explained as\n%v\nand afresh as\n%v", a, b)
				}
			}
			limit := rapid.IntRange(0, 5).Draw(t, "limit")
			got, want := s.Place(w.v(), t0, limit), New(policy).Place(w.v(), t0, limit)
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("with caches:\n%v %v\nafresh:\n%v %v", places(got), got.Unplaced, places(want), want.Unplaced)
			}
			if rapid.IntRange(0, 3).Draw(t, "lost") > 0 {
				w.apply(got.Changes)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(*rapid.T) {},
			"create pods": func(t *rapid.T) {
				set := rapid.IntRange(0, 2).Draw(t, "set")
				for range rapid.IntRange(1, 4).Draw(t, "pods") {
					made++
					p := testPod(fmt.Sprint("set", set), fmt.Sprintf("p%03d", made), map[string]string{"app": []string{"x", "y", "z"}[set]}, object.CPU(set*400), object.Bytes(set)<<28)
					if rapid.IntRange(0, 9).Draw(t, "bare") == 0 {
						p.Owner = object.Ref{}
					}
					w.create(p)
				}
			},
			"place":  place,
			"place2": place,
			"delete or make a template": func(t *rapid.T) {
				o := rapid.SampledFrom(templates).Draw(t, "template")
				old, ok := w.v().Get(o.Ref())
				if !ok {
					w.create(o)
					return
				}
				for p := range state.All[*object.Pod](w.v(), object.KindPod) {
					if p.Spec.Template == o.Name && p.Spec.Node != "" {
						return // nobody deletes one that is in use
					}
				}
				c := object.Changeset{Author: "test", Time: t0}
				c.Delete(old)
				w.apply(c)
			},
			"delete a pod": func(*rapid.T) {
				if o, ok := pick(object.KindPod); ok {
					c := object.Changeset{Author: "test", Time: t0}
					c.Delete(o)
					w.apply(c)
				}
			},
			"end or relabel a pod": func(t *rapid.T) {
				if o, ok := pick(object.KindPod); ok {
					if rapid.Bool().Draw(t, "end") {
						change(o, object.PartStatus, func(o object.Object) { o.(*object.Pod).Status.Phase = object.PodFailed })
					} else {
						change(o, object.PartSpec, func(o object.Object) { o.Head().Labels = map[string]string{"app": "x"} })
					}
				}
			},
			"change a node": func(t *rapid.T) {
				o, ok := pick(object.KindNode)
				if !ok {
					return
				}
				fresh := drawNode(t, 0)
				fresh.Name = o.Head().Name
				switch rapid.IntRange(0, 4).Draw(t, "how") {
				case 0:
					change(o, object.PartStatus, func(o object.Object) { o.(*object.Node).Status.Condition = object.NodeLost })
				case 1:
					change(o, object.PartSpec, func(o object.Object) { o.(*object.Node).Spec.Unschedulable = !o.(*object.Node).Spec.Unschedulable })
				case 2:
					change(o, object.PartSpec, func(o object.Object) { *o.Head() = fresh.Meta })
				case 3:
					change(o, object.PartStatus, func(o object.Object) { o.(*object.Node).Status = fresh.Status })
				default:
					c := object.Changeset{Author: "test", Time: t0}
					c.Delete(o)
					w.apply(c)
				}
			},
			"create a node": func(t *rapid.T) {
				n := drawNode(t, rapid.IntRange(0, 9).Draw(t, "name"))
				if _, ok := w.v().Get(n.Ref()); !ok {
					w.create(n)
				}
			},
			"look at a fork": func(t *rapid.T) {
				kept := *w
				w.store = w.v().Fork()
				place(t)
				place(t)
				if rapid.Bool().Draw(t, "stay") {
					return
				}
				*w = kept
			},
		})
	})
}

// TestTidy sees that classes which nobody uses are forgotten.
func TestTidy(t *testing.T) {
	w := newWorld(t, testNode("n1", "a", 1000, gib(1)), template("any", object.PodTemplate{}))
	s := New(SpreadPolicy())
	for range 3 {
		c := object.Changeset{Author: "test", Time: t0}
		for i := range 2_000 {
			p := testPod("any", fmt.Sprintf("p-%d-%d", w.index, i), nil, 2000, 0)
			p.Owner.Name = p.Name
			c.Create(p)
		}
		w.apply(c)
		s.Place(w.v(), t0, 0)
		gone := object.Changeset{Author: "test", Time: t0}
		for p := range w.v().Pending() {
			gone.Delete(p)
		}
		w.apply(gone)
	}
	w.create(testPod("any", "last", nil, 2000, 0))
	s.Place(w.v(), t0, 0)
	if s.kernel.count != 1 {
		t.Errorf("%d classes are remembered for one pod", s.kernel.count)
	}
}
