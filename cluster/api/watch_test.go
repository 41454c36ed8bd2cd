package api_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/pki"
)

var errDone = errors.New("done")

// collect watches until enough says so and returns the lines, bookmarks left out.
func collect(t *testing.T, c *client.Client, o client.WatchOptions, enough func([]object.WatchEvent) bool) []object.WatchEvent {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var got []object.WatchEvent
	err := c.Watch(ctx, o, func(e object.WatchEvent) error {
		if e.Op == object.WatchBookmark {
			return nil
		}
		got = append(got, e)
		if enough(got) {
			return errDone
		}
		return nil
	})
	if !errors.Is(err, errDone) {
		t.Fatalf("%v after %v", err, lines(got))
	}
	return got
}

func lines(events []object.WatchEvent) []string {
	var out []string
	for _, e := range events {
		s := string(e.Op)
		if !e.Ref.IsZero() {
			s += " " + e.Ref.Name
		}
		out = append(out, s)
	}
	return out
}

func TestWatch(t *testing.T) {
	w := newWorld(t, "m1", "m2")
	w.write(configMap("default", "a", nil), configMap("other", "b", nil))
	c := w.admin()
	changed := false
	got := collect(t, c, client.WatchOptions{Kinds: []object.Kind{object.KindConfigMap}, Namespace: "default"}, func(got []object.WatchEvent) bool {
		if got[len(got)-1].Op == object.WatchSynced && !changed {
			changed = true
			w.write(configMap("default", "c", nil), configMap("other", "d", nil))
			a := w.get(configMap("default", "a", nil).Ref())
			n := configMap("default", "a", map[string]string{"x": "y"})
			cs := object.Changeset{}
			cs.Update(a, n)
			w.propose(cs)
			cs = object.Changeset{}
			cs.Delete(w.get(n.Ref()))
			w.propose(cs)
		}
		return len(got) == 5
	})
	if want := []string{"create a", "synced", "create c", "update a", "delete a"}; !slices.Equal(lines(got), want) {
		t.Fatalf("got %v", lines(got))
	}
	// From the index of the synced line the same follows.
	again := collect(t, c, client.WatchOptions{Kinds: []object.Kind{object.KindConfigMap}, Namespace: "default", Since: got[1].Index}, func(got []object.WatchEvent) bool { return len(got) == 3 })
	if want := []string{"create c", "update a", "delete a"}; !slices.Equal(lines(again), want) {
		t.Errorf("got %v", lines(again))
	}
}

func TestWatchByLabel(t *testing.T) {
	w := newWorld(t, "m1")
	m := configMap("default", "a", nil)
	m.Labels = map[string]string{"app": "shop"}
	w.write(m)
	moved := false
	got := collect(t, w.admin(), client.WatchOptions{Labels: map[string]string{"app": "shop"}}, func(got []object.WatchEvent) bool {
		if got[len(got)-1].Op == object.WatchSynced && !moved {
			moved = true
			n := m.Clone().(*object.ConfigMap)
			n.Labels = nil
			c := object.Changeset{}
			c.Update(w.get(m.Ref()), n)
			w.propose(c)
		}
		return len(got) == 3
	})
	// What goes out of sight is deleted to the watcher.
	if want := []string{"create a", "synced", "delete a"}; !slices.Equal(lines(got), want) {
		t.Errorf("got %v", lines(got))
	}
}

func TestWatchBeginsAgainWhenTooOld(t *testing.T) {
	w := newWorld(t, "m1")
	w.write(configMap("default", "a", nil))
	for i := range 5 {
		w.write(configMap("default", fmt.Sprintf("b%d", i), nil))
	}
	w.shared.mu.Lock()
	w.shared.oldest = 4
	w.shared.mu.Unlock()
	o := client.WatchOptions{Kinds: []object.Kind{object.KindConfigMap}, Since: 1}
	got := collect(t, w.admin(), o, func(got []object.WatchEvent) bool { return got[len(got)-1].Op == object.WatchSynced })
	if want := []string{"reset", "create a", "create b0", "create b1", "create b2", "create b3", "create b4", "synced"}; !slices.Equal(lines(got), want) {
		t.Errorf("got %v", lines(got))
	}
	// A node is told instead, and begins again itself.
	err := w.as("n1", "node").WatchPods(context.Background(), "n1", 1, func(object.WatchEvent) error { return nil })
	wantCode(t, err, object.CodeGone)
}

func TestWatchPodsOfANode(t *testing.T) {
	w, _, _ := secretWorld(t)
	bound := false
	var got []object.WatchEvent
	err := w.as("n1", "node").WatchPods(context.Background(), "n1", 0, func(e object.WatchEvent) error {
		got = append(got, e)
		switch e.Op {
		case object.WatchSynced:
			if !bound {
				bound = true
				p := w.get(object.Ref{Kind: object.KindPod, Namespace: "default", Name: "web-0"}).(*object.Pod)
				n := p.Clone().(*object.Pod)
				n.Spec.Stop = true
				c := object.Changeset{}
				c.Update(p, n)
				w.propose(c)
			}
		case object.WatchUpdate:
			return errDone
		}
		return nil
	})
	if !errors.Is(err, errDone) {
		t.Fatal(err)
	}
	got = slices.DeleteFunc(got, func(e object.WatchEvent) bool { return e.Op == object.WatchBookmark })
	if want := []string{"create web-0", "synced", "update web-0"}; !slices.Equal(lines(got), want) {
		t.Fatalf("got %v", lines(got))
	}
	p := got[2].Object.Object.(*object.Pod)
	if p.Spec.Pod == nil || !p.Spec.Stop {
		t.Errorf("not whole: %+v", p.Spec)
	}
	if got[0].Index != 0 || got[2].Index != got[1].Index {
		t.Errorf("indexes from which to resume: %d %d %d", got[0].Index, got[1].Index, got[2].Index)
	}
}

func TestWaitFor(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	ref := configMap("default", "late", nil).Ref()
	first := true
	o, err := w.admin().WaitFor(ctx, ref, func(o object.Object) (bool, error) {
		if first {
			first = false
			if o != nil {
				t.Error("it should not be there yet")
			}
			w.write(configMap("default", "late", nil))
		}
		return o != nil, nil
	})
	if err != nil || o == nil {
		t.Fatalf("%v %v", o, err)
	}
}

// A follower that lags must not begin a watch in the past: `berth node drain`
// took the pods of before for those of now, and said that it was done.
func TestWatchAtAFollowerCatchesUpFirst(t *testing.T) {
	w := newWorld(t, "m1", "m2")
	w.write(configMap("default", "a", nil))
	c := w.at(client.Config{Addrs: w.addrs[1:], TLS: w.identity("ops", "admin").ClientTLS(pki.RoleMaster, "")})
	synced := func(got []object.WatchEvent) bool { return got[len(got)-1].Op == object.WatchSynced }
	o := client.WatchOptions{Kinds: []object.Kind{object.KindConfigMap}}
	collect(t, c, o, synced)
	if want := []string{"m2"}; !slices.Equal(w.shared.waited, want) {
		t.Errorf("caught up: %v, want %v", w.shared.waited, want)
	}
	o.Stale = true
	collect(t, c, o, synced)
	if len(w.shared.waited) != 1 {
		t.Errorf("a stale watch waited too: %v", w.shared.waited)
	}
}
