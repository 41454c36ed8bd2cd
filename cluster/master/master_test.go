package master

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/consensus"
	"github.com/berthdev/berth/cluster/controller"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// mirror copies every config map "in-x" to "out-x", one step at a time.
type mirror struct {
	name     string
	outputs  []object.Kind
	underWay sync.Map // key -> version of out that the last change was made from
	twice    atomic.Int64
	mischief func(key object.Ref) // may panic
}

func (m *mirror) Name() string           { return m.name }
func (m *mirror) Outputs() []object.Kind { return m.outputs }
func (m *mirror) Inputs() []controller.Input {
	return []controller.Input{{Kind: object.KindConfigMap, Keys: func(_ *state.Snapshot, e state.Event) []object.Ref {
		_, x, _ := strings.Cut(e.Ref.Name, "-")
		return []object.Ref{configMap("in-"+x, "").Ref()}
	}}}
}

func (m *mirror) Reconcile(v *state.Snapshot, key object.Ref, now time.Time) (controller.Result, error) {
	var r controller.Result
	if m.mischief != nil {
		m.mischief(key)
	}
	in, ok := state.Find[*object.ConfigMap](v, key)
	if !ok {
		return r, nil
	}
	want := configMap("out-"+strings.TrimPrefix(key.Name, "in-"), in.Spec.Data["v"])
	have, ok := state.Find[*object.ConfigMap](v, want.Ref())
	switch {
	case !ok:
		r.Changes.Create(want)
	case have.Spec.Data["v"] != want.Spec.Data["v"]:
		// A second change of the same version means that two were under way.
		if last, _ := m.underWay.Swap(key, have.Version); last == have.Version {
			m.twice.Add(1)
		}
		r.Changes.Update(have, want)
	}
	return r, nil
}

func configMap(name, value string) *object.ConfigMap {
	return &object.ConfigMap{Meta: object.Meta{Kind: object.KindConfigMap, Namespace: "default", Name: name}, Spec: object.ConfigMapSpec{Data: map[string]string{"v": value}}}
}

func value(v *state.Snapshot, name string) string {
	o, ok := state.Find[*object.ConfigMap](v, configMap(name, "").Ref())
	if !ok {
		return ""
	}
	return o.Spec.Data["v"]
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("still not so: %s", what)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func startMaster(t *testing.T, adjust func(*Config)) *Master {
	t.Helper()
	c := Config{Controllers: []controller.Controller{}, Consensus: consensus.Config{
		ID: "m1", RaftAddress: "m1:7401", APIAddress: "m1:7400", Storage: consensus.Memory(), Network: consensus.NewNetwork(),
		Bootstrap: []object.Master{{Name: "m1", Raft: "m1:7401", API: "m1:7400"}}, ElectionTimeout: 50 * time.Millisecond,
	}}
	adjust(&c)
	m, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	eventually(t, "it leads", m.Leading)
	return m
}

// put writes until it is not in conflict with anybody.
func put(ctx context.Context, m *Master, name, val string) error {
	for {
		cs := object.Changeset{Author: "test"}
		o, ok := state.Find[*object.ConfigMap](m.node.Snapshot(), configMap(name, "").Ref())
		if ok {
			cs.Update(o, configMap(name, val))
		} else {
			cs.Create(configMap(name, val))
		}
		if _, err := m.node.Propose(ctx, cs); !object.IsCode(err, object.CodeConflict) && !object.IsCode(err, object.CodeExists) {
			return err
		}
	}
}

// Whatever is written, and whoever interferes, in the end every output is as its
// input: no wake-up was lost.
func TestNoWakeupIsLost(t *testing.T) {
	c := &mirror{name: "mirror", outputs: []object.Kind{object.KindConfigMap}}
	m := startMaster(t, func(cfg *Config) { cfg.Controllers = []controller.Controller{c} })
	ctx := t.Context()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 60 {
				name := fmt.Sprintf("in-%d", rand.IntN(10))
				if w == 0 { // the spoiler
					name = "out" + strings.TrimPrefix(name, "in")
				}
				if err := put(ctx, m, name, fmt.Sprint(w, i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	eventually(t, "every output is as its input", func() bool {
		v := m.node.Snapshot()
		for i := range 10 {
			in := value(v, fmt.Sprintf("in-%d", i))
			if in != "" && in != value(v, fmt.Sprintf("out-%d", i)) {
				return false
			}
		}
		return true
	})
}

// Two changesets for one key are never under way at once: nobody else writes the
// outputs, so none of them can be in conflict.
func TestOneChangesetForAKey(t *testing.T) {
	c := &mirror{name: "mirror", outputs: []object.Kind{object.KindConfigMap}}
	m := startMaster(t, func(cfg *Config) { cfg.Controllers = []controller.Controller{c} })
	for i := range 200 {
		if err := put(t.Context(), m, fmt.Sprintf("in-%d", i%3), fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "it has settled", func() bool { return value(m.node.Snapshot(), "out-1") == "199" })
	if n := c.twice.Load(); n > 0 {
		t.Errorf("%d times two changesets were under way for one key", n)
	}
}

// A controller that panics, fails or writes what it may not does no harm to the
// others, and is asked again.
func TestBadControllers(t *testing.T) {
	var calls atomic.Int64
	good := &mirror{name: "good", outputs: []object.Kind{object.KindConfigMap}}
	flaky := &mirror{name: "flaky", outputs: []object.Kind{object.KindConfigMap}, mischief: func(object.Ref) {
		if calls.Add(1) <= 3 {
			panic(errors.New("a defect"))
		}
	}}
	forbidden := &mirror{name: "forbidden", outputs: []object.Kind{object.KindPod}}
	m := startMaster(t, func(cfg *Config) { cfg.Controllers = []controller.Controller{forbidden, flaky} })
	if err := put(t.Context(), m, "in-a", "1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the flaky controller is asked until it works", func() bool { return value(m.node.Snapshot(), "out-a") == "1" })
	if o, _ := state.Find[*object.ConfigMap](m.node.Snapshot(), configMap("out-a", "").Ref()); o.ChangedBy != "controller/flaky" {
		t.Errorf("it was written by %s", o.ChangedBy)
	}
	if err := allowed(good, &object.Changeset{Changes: []object.Change{{Ref: object.Ref{Kind: object.KindPod}}}}); err == nil {
		t.Error("a kind that is no output was let through")
	}
}

// TestPanicIsTold: a controller that panics on a key is asked again after a
// growing pause, the others go on, and an event at the object says which
// controller fails and where.
func TestPanicIsTold(t *testing.T) {
	var calls atomic.Int64
	bad := &mirror{name: "bad", outputs: []object.Kind{object.KindConfigMap}, mischief: func(key object.Ref) {
		if key.Name == "in-bad" {
			calls.Add(1)
			var none []int
			_ = none[len(key.Name)]
		}
	}}
	m := startMaster(t, func(cfg *Config) { cfg.Controllers = []controller.Controller{bad} })
	for _, name := range []string{"in-bad", "in-good"} {
		if err := put(t.Context(), m, name, "1"); err != nil {
			t.Fatal(err)
		}
	}
	var told *object.Event
	eventually(t, "it is told and tried again", func() bool {
		for e := range state.All[*object.Event](m.node.Snapshot(), object.KindEvent) {
			told = e
		}
		return told != nil && calls.Load() > 2 && value(m.node.Snapshot(), "out-good") == "1"
	})
	if s := told.Spec; s.About != configMap("in-bad", "").Ref() || s.Reason != "controller_failed" || s.Level != "warning" ||
		!strings.Contains(s.Message, "index out of range") || !strings.Contains(s.Message, "master_test.go:") {
		t.Errorf("event: %+v", s)
	}
	if n := m.node.Snapshot().Count(object.KindEvent); n != 1 {
		t.Errorf("%d events", n)
	}
}

// brittle panics while it is told of an event about one object.
type brittle struct{ mirror }

func (b *brittle) Inputs() []controller.Input {
	in := b.mirror.Inputs()
	keys := in[0].Keys
	in[0].Keys = func(v *state.Snapshot, e state.Event) []object.Ref {
		if e.Ref.Name == "in-bad" {
			panic("a defect")
		}
		return keys(v, e)
	}
	return in
}

// TestPanicOverAnEvent: a mapping from events to keys that panics, at the
// beginning of a leadership or later, costs nobody else a wake-up.
func TestPanicOverAnEvent(t *testing.T) {
	c := &brittle{mirror{name: "brittle", outputs: []object.Kind{object.KindConfigMap}}}
	m := startMaster(t, func(cfg *Config) { cfg.Controllers = []controller.Controller{c} })
	for _, name := range []string{"in-a", "in-bad", "in-z"} {
		if err := put(t.Context(), m, name, "1"); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the others are served", func() bool {
		v := m.node.Snapshot()
		return value(v, "out-a") == "1" && value(v, "out-z") == "1"
	})
	l := newLeader(m)
	if _, err := l.observe(); err != nil { // as a new leader does
		t.Fatal(err)
	}
	if n := l.queue.Len(); n != 2 {
		t.Errorf("%d keys wait for the new leader, want 2", n)
	}
}

// TestRefusedChangesetsAreMadeAgain: whatever a changeset is refused with, its
// key is looked at again with a pause that grows.
func TestRefusedChangesetsAreMadeAgain(t *testing.T) {
	c := &mirror{name: "mirror", outputs: []object.Kind{object.KindConfigMap}}
	m := startMaster(t, func(cfg *Config) { cfg.Controllers = []controller.Controller{c} })
	for _, code := range []object.Code{object.CodeConflict, object.CodeExists, object.CodeNotFound, object.CodeInvalid, object.CodeNoLeader} {
		l := newLeader(m)
		l.queue = controller.NewQueue(m.config.Controllers)
		key := configMap("in-x", "").Ref()
		tk := task{c.Name(), key}
		now := time.Now()
		for i, pause := range []time.Duration{firstDelay, 2 * firstDelay, 4 * firstDelay} {
			l.underWay[tk] = false
			l.finish(result{tk, object.Errorf(code, key, "refused")}, now)
			if at, ok := l.queue.NextWake(); !ok || at.Sub(now) != pause {
				t.Errorf("%s, time %d: looks again after %s (%v), want %s", code, i+1, at.Sub(now), ok, pause)
			}
		}
		l.underWay[tk] = true // something happened to it meanwhile
		l.finish(result{tk, nil}, now)
		if at, ok := l.queue.NextWake(); !ok || at.After(now) || l.failures[tk] != 0 {
			t.Errorf("%s: not well after a success", code)
		}
	}
}

// alarm writes a config map when its time has come, and not before.
type alarm struct{ at time.Time }

func (a *alarm) Name() string           { return "alarm" }
func (a *alarm) Outputs() []object.Kind { return []object.Kind{object.KindConfigMap} }
func (a *alarm) Inputs() []controller.Input {
	return []controller.Input{{Kind: object.KindNamespace, Keys: func(_ *state.Snapshot, e state.Event) []object.Ref { return []object.Ref{e.Ref} }}}
}
func (a *alarm) Reconcile(v *state.Snapshot, key object.Ref, now time.Time) (controller.Result, error) {
	var r controller.Result
	if now.Before(a.at) {
		r.Wake = a.at
	} else if value(v, "rang") == "" {
		r.Changes.Create(configMap("rang", now.Format(time.RFC3339Nano)))
	}
	return r, nil
}

func TestAlarms(t *testing.T) {
	a := &alarm{at: time.Now().Add(200 * time.Millisecond)}
	m := startMaster(t, func(cfg *Config) { cfg.Controllers = []controller.Controller{a} })
	cs := object.Changeset{Author: "test"}
	cs.Create(&object.Namespace{Meta: object.Meta{Kind: object.KindNamespace, Name: "x"}})
	if _, err := m.node.Propose(t.Context(), cs); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the alarm rang", func() bool { return value(m.node.Snapshot(), "rang") != "" })
	if at, _ := time.Parse(time.RFC3339Nano, value(m.node.Snapshot(), "rang")); at.Before(a.at) {
		t.Errorf("it rang at %s, before %s", at, a.at)
	}
}

func TestJudge(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	const limit = 30 * time.Second
	for _, c := range []struct {
		name      string
		condition object.NodeCondition
		since     int // of the condition
		heard     int // -1: never
		leads     int // since
		now       int
		want      object.NodeCondition // empty: no change
	}{
		{"heard just now", object.NodeReady, 0, 100, 0, 101, ""},
		{"silent at the limit", object.NodeReady, 0, 100, 0, 130, ""},
		{"silent beyond it", object.NodeReady, 0, 100, 0, 131, object.NodeLost},
		{"not ready and silent", object.NodeNotReady, 0, 100, 0, 131, object.NodeLost},
		{"a new leader waits", object.NodeReady, 0, -1, 120, 140, ""},
		{"a new leader that heard nothing", object.NodeReady, 0, -1, 120, 151, object.NodeLost},
		{"lost stays lost in silence", object.NodeLost, 131, 100, 0, 200, ""},
		{"lost and heard again", object.NodeLost, 131, 199, 0, 200, object.NodeReady},
		{"lost, heard before that", object.NodeLost, 131, 110, 0, 132, ""},
		{"lost under another leader, nothing heard", object.NodeLost, 131, -1, 190, 200, ""},
		{"not ready and heard", object.NodeNotReady, 0, 199, 0, 200, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := state.Load(1, []object.Object{&object.Node{Meta: object.Meta{Kind: object.KindNode, Name: "n", CreatedAt: start}, Status: object.NodeStatus{Condition: c.condition, Since: at(c.since)}}}).Snapshot()
			b := beats{heard: map[string]beat{}}
			if c.heard >= 0 {
				b.hear("n", 0, at(c.heard))
			}
			got := b.judge(v, at(c.now), at(c.leads), limit, limit/6)
			if (len(got) == 0) != (c.want == "") {
				t.Fatalf("%+v", got)
			}
			if len(got) > 0 {
				if s := got[0].Changes[0].Object.Object.(*object.Node).Status; s.Condition != c.want || !s.Since.Equal(at(c.now)) {
					t.Fatalf("%+v", s)
				}
			}
		})
	}
}

// A zone that loses its power is lost in one judgement, although each of its nodes was
// last heard at another time; nodes that are merely late are not lost with it.
func TestJudgeTogether(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
	heard := map[string]float64{"a1": 100, "a2": 104.5, "late": 106, "well": 129, "back": 105}
	var nodes []object.Object
	b := beats{heard: map[string]beat{}}
	for name, s := range heard {
		n := &object.Node{Meta: object.Meta{Kind: object.KindNode, Name: name, CreatedAt: start}, Status: object.NodeStatus{Condition: object.NodeReady, Since: start}}
		if name == "back" { // it was lost, and was heard again not long ago
			n.Status.Condition = object.NodeLost
		}
		nodes = append(nodes, n)
		b.hear(name, 0, at(s))
	}
	v := state.Load(1, nodes).Snapshot()
	judged := func(now float64, each time.Duration) map[string]object.NodeCondition {
		out := map[string]object.NodeCondition{}
		for _, c := range b.judge(v, at(now), start, 30*time.Second, each) {
			n := c.Changes[0].Object.Object.(*object.Node)
			out[n.Name] = n.Status.Condition
		}
		return out
	}
	for _, c := range []struct {
		now  float64
		each time.Duration
		want map[string]object.NodeCondition
	}{
		{130, 5 * time.Second, map[string]object.NodeCondition{"back": object.NodeReady}},
		{130.1, 5 * time.Second, map[string]object.NodeCondition{"a1": object.NodeLost, "a2": object.NodeLost, "back": object.NodeReady}},
		{130.1, 10 * time.Second, map[string]object.NodeCondition{"a1": object.NodeLost, "back": object.NodeReady}}, // too seldom to tell
	} {
		if got := judged(c.now, c.each); !maps.Equal(got, c.want) {
			t.Errorf("at %g, heard each %s: %v, want %v", c.now, c.each, got, c.want)
		}
	}
}

func TestSplitKeepsAnObjectsChangesTogether(t *testing.T) {
	var c object.Changeset
	for i := range 25 {
		o := configMap(fmt.Sprint(i%20), "")
		c.Update(o, o)
	}
	where := map[object.Ref]int{}
	n := 0
	for i, part := range split(c, 7) {
		for _, x := range part.Changes {
			n++
			if at, known := where[x.Ref]; known && at != i {
				t.Errorf("%s is in two parts", x.Ref)
			}
			where[x.Ref] = i
		}
	}
	if n != 25 {
		t.Errorf("%d of 25 changes", n)
	}
}

func TestTheFirstLeaderMakesTheNetwork(t *testing.T) {
	n, err := object.FoundNetwork(object.NetworkSpec{Pods: "10.9.0.0/16"})
	if err != nil {
		t.Fatal(err)
	}
	m := startMaster(t, func(c *Config) { c.Network, c.Controllers = n, nil })
	find := func() (*object.Network, bool) { return state.Find[*object.Network](m.node.Snapshot(), n.Ref()) }
	eventually(t, "there is a network", func() bool { _, ok := find(); return ok })
	if have, _ := find(); have.Spec.Pods != "10.9.0.0/16" || have.Spec.Services != object.ServicesDefault || have.Spec.NodeBits != 24 || have.Spec.Mode != "auto" {
		t.Errorf("network: %+v", have.Spec)
	}
	cs := object.Changeset{Author: "test"}
	cs.Create(&object.Node{Meta: object.Meta{Kind: object.KindNode, Name: "n1"}})
	if _, err := m.node.Propose(t.Context(), cs); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node has a range", func() bool {
		x, ok := state.Find[*object.Node](m.node.Snapshot(), object.Ref{Kind: object.KindNode, Name: "n1"})
		return ok && x.Spec.PodRange == "10.9.0.0/24"
	})
}
