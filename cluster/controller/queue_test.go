package controller

import (
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// echo is a controller that is woken by config maps under its own name.
type echo string

func (e echo) Name() string         { return string(e) }
func (echo) Outputs() []object.Kind { return nil }
func (echo) Inputs() []Input        { return []Input{{Kind: object.KindConfigMap, Keys: self}} }
func (echo) Reconcile(*state.Snapshot, object.Ref, time.Time) (Result, error) {
	return Result{}, nil
}

func TestQueue(t *testing.T) {
	a, b := echo("a"), echo("b")
	q := NewQueue([]Controller{a, b})
	s := state.New()
	put := func(name string) []state.Event {
		var c object.Changeset
		c.Create(configMap(name, ""))
		events, err := s.Apply(s.Snapshot().Index()+1, c)
		if err != nil {
			t.Fatal(err)
		}
		return events
	}
	next := func(now time.Time) string {
		c, key, ok := q.Next(now)
		if !ok {
			return ""
		}
		return c.Name() + " " + key.Name
	}
	expect := func(now time.Time, want ...string) {
		t.Helper()
		for _, x := range append(want, "") {
			if got := next(now); got != x {
				t.Fatalf("got %q, want %q", got, x)
			}
		}
	}
	x := put("x")
	q.Observe(s.Snapshot(), x)
	q.Observe(s.Snapshot(), x) // waits once
	q.Observe(s.Snapshot(), put("y"))
	expect(epoch, "a x", "b x", "a y", "b y")

	x1 := ref(object.KindConfigMap, "x")
	q.WakeAt(a, x1, epoch.Add(time.Minute))
	q.WakeAt(a, x1, epoch.Add(time.Second)) // replaces
	q.WakeAt(b, x1, epoch.Add(time.Second))
	q.WakeAt(b, x1, time.Time{}) // drops
	if at, ok := q.NextWake(); !ok || !at.Equal(epoch.Add(time.Second)) {
		t.Fatalf("next wake %v %v", at, ok)
	}
	expect(epoch)
	expect(epoch.Add(time.Second), "a x")
	if _, ok := q.NextWake(); ok {
		t.Fatal("an alarm is left")
	}

	// Serving a key drops its alarm: the coming Reconcile sets a new one.
	q.WakeAt(a, x1, epoch.Add(time.Minute))
	q.Observe(s.Snapshot(), x)
	expect(epoch, "a x", "b x")
	expect(epoch.Add(time.Hour))

	fresh := NewQueue([]Controller{a})
	fresh.Seed(s.Snapshot())
	if fresh.Len() != 2 {
		t.Fatalf("seeded %d keys", fresh.Len())
	}
}

func TestLeastWanted(t *testing.T) {
	pod := func(name, node string, ready bool, created uint64, ordinal int) *object.Pod {
		p := &object.Pod{Meta: object.Meta{Kind: object.KindPod, Name: name, Created: created}}
		p.Spec.Node, p.Spec.Ordinal, p.Status.Ready = node, ordinal, ready
		return p
	}
	pods := []*object.Pod{
		pod("old", "n1", true, 1, 0), pod("crowded", "n2", true, 5, 1), pod("crowd", "n2", true, 5, 2),
		pod("alone", "n3", true, 5, 3), pod("unready", "n1", false, 1, 4), pod("unbound", "", false, 1, 5), pod("young", "n1", true, 9, 6),
	}
	want := []string{"unbound", "unready", "young", "crowd", "alone", "crowded", "old"}
	for i, p := range leastWanted(pods) {
		if p.Name != want[i] {
			t.Errorf("place %d: %s, want %s", i, p.Name, want[i])
		}
	}
}

// BenchmarkRollout1000 rolls a deployment of a thousand pods, the binder and the
// nodes of the tests included.
func BenchmarkRollout1000(b *testing.B) {
	for b.Loop() {
		w := newWorld(b, 50)
		w.awaits(w.commit(one(web("ok:1", 1000))), object.RevisionHealthy)
		w.awaits(w.commit(one(web("ok:2", 1000))), object.RevisionHealthy)
	}
}

// BenchmarkDeployments10000 makes ten thousand deployments of one pod.
func BenchmarkDeployments10000(b *testing.B) {
	var objects []object.Object
	for i := range 10_000 {
		objects = append(objects, web("ok:1", 1, named("web"+time.Duration(i).String())))
	}
	b.ResetTimer()
	for b.Loop() {
		w := newWorld(b, 100)
		w.commit(objects)
		w.reconcile()
	}
}
