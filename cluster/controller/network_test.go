package controller

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

func networkRef() object.Ref {
	return object.Ref{Kind: object.KindNetwork, Name: object.NetworkName}
}

func founded(s object.NetworkSpec) *object.Network {
	n, err := object.FoundNetwork(s)
	if err != nil {
		panic(err)
	}
	return n
}

// newNetwork is a world without nodes that has a network.
func newNetwork(t fataler, pods string, bits int) *world {
	w := newWorld(t, 0)
	w.put(founded(object.NetworkSpec{Pods: pods, NodeBits: bits}))
	return w
}

func (w *world) join(names ...string) {
	w.t.Helper()
	for _, n := range names {
		w.put(&object.Node{Meta: object.Meta{Kind: object.KindNode, Name: n}, Status: object.NodeStatus{Condition: object.NodeReady}})
	}
	w.settle()
}

func (w *world) leave(name string) {
	w.t.Helper()
	w.remove(name)
	w.settle()
}

func (w *world) remove(name string) {
	w.t.Helper()
	o, ok := w.view().Get(object.Ref{Kind: object.KindNode, Name: name})
	if !ok {
		w.t.Fatalf("no node %s", name)
	}
	c := object.Changeset{Author: "test"}
	c.Delete(o)
	w.apply(c)
}

// succeed lets another leader take over, who has seen nothing happen.
func (w *world) succeed() {
	w.queue = NewQueue(All())
	w.queue.Seed(w.view())
}

func (w *world) rangeOf(name string) string {
	n, _ := state.Find[*object.Node](w.view(), object.Ref{Kind: object.KindNode, Name: name})
	return n.Spec.PodRange
}

func (w *world) network() *object.Network {
	n, _ := state.Find[*object.Network](w.view(), networkRef())
	return n
}

func (w *world) events(reason string) (out []*object.Event) {
	for e := range state.All[*object.Event](w.view(), object.KindEvent) {
		if e.Spec.Reason == reason {
			out = append(out, e)
		}
	}
	return out
}

func TestRangesOfNodes(t *testing.T) {
	w := newNetwork(t, "10.1.0.0/22", 24)
	w.join("a", "b", "c")
	for name, want := range map[string]string{"a": "10.1.0.0/24", "b": "10.1.1.0/24", "c": "10.1.2.0/24"} {
		if got := w.rangeOf(name); got != want {
			t.Errorf("%s has %s, want %s", name, got, want)
		}
	}
	if got := w.network().Status.Allotted; !slices.Equal(got, []string{"10.1.0.0/23", "10.1.2.0/24"}) {
		t.Errorf("account: %v", got)
	}

	// A range that came free rests, though it is the lowest.
	w.leave("b")
	if h := w.network().Status.Held; len(h) != 1 || h[0].Range != "10.1.1.0/24" || !h[0].Until.Equal(w.now.Add(rangeHold)) {
		t.Fatalf("held: %+v", h)
	}
	w.join("d")
	if got := w.rangeOf("d"); got != "10.1.3.0/24" {
		t.Errorf("d has %s", got)
	}
	// None is left: it is told, once, and the wait ends with the hold.
	w.join("e")
	w.join("f")
	if got := w.rangeOf("e"); got != "" || w.network().Status.Waiting != 2 {
		t.Fatalf("e has %q; status %+v", got, w.network().Status)
	}
	if e := w.events("no_pod_range"); len(e) != 2 || e[0].Spec.Count != 1 || e[0].Spec.Level != levelWarning ||
		!strings.Contains(e[0].Spec.Message, "no pod range is left for it: all /24 of 10.1.0.0/22 are taken or held") {
		t.Errorf("events: %+v", e)
	}
	w.rest(rangeHold - time.Second)
	if got := w.rangeOf("e"); got != "" {
		t.Errorf("e has %s before the hold ended", got)
	}
	w.rest(2 * time.Second)
	if got := w.rangeOf("e"); got != "10.1.1.0/24" {
		t.Errorf("e has %q after the hold", got)
	}
	// A larger range for all.
	edit(w, networkRef(), func(n *object.Network) { n.Spec.Pods = "10.1.0.0/21" })
	w.settle()
	if got := w.rangeOf("f"); got != "10.1.4.0/24" || w.network().Status.Waiting != 0 {
		t.Errorf("f has %q; status %+v", got, w.network().Status)
	}
	w.settled()
}

// TestRangesThatNodesBring: clusters from before the masters gave out ranges.
func TestRangesThatNodesBring(t *testing.T) {
	w := newWorld(t, 0)
	bring := func(name, r string) {
		w.put(&object.Node{Meta: object.Meta{Kind: object.KindNode, Name: name}, Status: object.NodeStatus{Condition: object.NodeReady, PodRange: r}})
	}
	bring("a", "10.1.1.0/24")
	bring("b", "10.1.1.0/24") // the same: only one can keep it
	bring("c", "10.9.0.0/24") // elsewhere
	bring("d", "10.1.0.0/25") // of another size
	w.settle()
	w.put(founded(object.NetworkSpec{Pods: "10.1.0.0/16"}))
	w.settle()
	for name, want := range map[string]string{"a": "10.1.1.0/24", "b": "10.1.2.0/24", "c": "10.1.3.0/24", "d": "10.1.0.0/25"} {
		if got := w.rangeOf(name); got != want {
			t.Errorf("%s has %s, want %s", name, got, want)
		}
	}
	// A node that comes back with what it had need not wait for the hold.
	w.leave("a")
	bring("a", "10.1.1.0/24")
	w.settle()
	if got := w.rangeOf("a"); got != "10.1.1.0/24" || len(w.network().Status.Held) != 0 {
		t.Errorf("a is back with %s; held %v", got, w.network().Status.Held)
	}
	w.settled()
}

// TestRangesAreExact: nodes come and go in any order, leaders change. No range is
// two nodes', none is lost, and after the hold all are back.
func TestRangesAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const room = 8
		w := newNetwork(t, "10.1.0.0/25", 28)
		left := map[string]time.Time{} // when a range last came free
		w.watch = func(v *state.Snapshot) {
			owner := map[string]string{}
			for n := range state.All[*object.Node](v, object.KindNode) {
				if r := n.Spec.PodRange; r != "" {
					if other := owner[r]; other != "" {
						w.t.Fatalf("%s is of %s and %s", r, other, n.Name)
					}
					owner[r] = n.Name
					if p := netip.MustParsePrefix(r); p.Bits() != 28 || !netip.MustParsePrefix("10.1.0.0/25").Contains(p.Addr()) {
						w.t.Fatalf("%s has %s", n.Name, r)
					}
				}
			}
		}
		has := map[string]string{}
		for i := range rapid.IntRange(1, 50).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0, 1:
				w.join(fmt.Sprintf("n%02d", i))
			case 2:
				if names := sortedKeys(has); len(names) > 0 {
					name := rapid.SampledFrom(names).Draw(t, "leaves")
					if has[name] != "" {
						left[has[name]] = w.now
					}
					w.remove(name)
					if rapid.Bool().Draw(t, "unseen") {
						w.succeed()
					}
				}
			case 3:
				w.rest(time.Duration(rapid.IntRange(1, 90).Draw(t, "seconds")) * time.Second)
			case 4:
				w.succeed()
			}
			w.settle()
			before := has
			has = map[string]string{}
			allotted := 0
			for n := range state.All[*object.Node](w.view(), object.KindNode) {
				has[n.Name] = n.Spec.PodRange
				if n.Spec.PodRange == "" {
					continue
				}
				allotted++
				if was := before[n.Name]; was != "" && was != n.Spec.PodRange {
					t.Fatalf("%s had %s, has %s", n.Name, was, n.Spec.PodRange)
				}
				if gone, ok := left[n.Spec.PodRange]; ok && before[n.Name] == "" && w.now.Sub(gone) < rangeHold {
					t.Fatalf("%s was given away %s after it came free", n.Spec.PodRange, w.now.Sub(gone))
				}
			}
			held := 0
			for _, h := range w.network().Status.Held {
				held += 1 << (28 - netip.MustParsePrefix(h.Range).Bits())
			}
			if waiting := len(has) - allotted; waiting > 0 && allotted+held < room {
				t.Fatalf("%d allotted, %d held, %d wait: %d are lost", allotted, held, waiting, room-allotted-held)
			}
		}
		for name := range has {
			w.leave(name)
		}
		w.rest(2 * rangeHold)
		if s := w.network().Status; len(s.Allotted)+len(s.Held)+s.Waiting != 0 {
			t.Fatalf("not all are back: %+v", s)
		}
		for i := range room {
			w.join(fmt.Sprintf("x%d", i))
		}
		if s := w.network().Status; !slices.Equal(s.Allotted, []string{"10.1.0.0/25"}) || s.Waiting != 0 {
			t.Fatalf("not all could be given again: %+v", s)
		}
	})
}

func BenchmarkRanges(b *testing.B) {
	store := state.New()
	c := object.Changeset{Author: "test", Time: epoch}
	c.Create(founded(object.NetworkSpec{Pods: "10.0.0.0/8"}))
	for i := range 5000 {
		c.Create(&object.Node{Meta: object.Meta{Kind: object.KindNode, Name: fmt.Sprintf("n%04d", i)}})
	}
	if _, err := store.Apply(1, c); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		r, err := networks{}.Reconcile(store.Snapshot(), networkRef(), epoch)
		if err != nil || len(r.Changes.Changes) != 5001 {
			b.Fatalf("%d changes, %v", len(r.Changes.Changes), err)
		}
	}
}
