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
	"github.com/berthdev/berth/cluster/state"
)

// zonedWorld has nodes a1, a2, b1, … : so many in each of the zones a, b, c; and of
// the name "-" nodes without one.
func zonedWorld(t fataler, zones string, each int) *world {
	w := newWorld(t, 0)
	for _, z := range zones {
		for i := range each {
			n := &object.Node{Meta: object.Meta{Kind: object.KindNode, Name: fmt.Sprintf("%c%d", z, i+1)}, Status: object.NodeStatus{Condition: object.NodeReady}}
			if z == '-' {
				n.Name = fmt.Sprintf("x%d", i+1)
			} else {
				n.Labels = map[string]string{"zone": string(z)}
			}
			w.put(n)
		}
	}
	return w
}

func byZone(order ...string) func(*object.Deployment) {
	return func(d *object.Deployment) {
		d.Spec.Update.By = "zone"
		if len(order) > 0 {
			d.Spec.Update.Zones = &object.Zones{Order: order}
		}
	}
}

func budget(surge, unavailable int) func(*object.Deployment) {
	return func(d *object.Deployment) {
		d.Spec.Update.Surge, d.Spec.Update.Unavailable = object.Amount{N: surge}, object.Amount{N: unavailable}
	}
}

func startedIn(t fataler, w *world, objects ...object.Object) *world {
	w.awaits(w.commit(objects), object.RevisionHealthy)
	return w
}

// zonePods are a zone's live pods: of the image that is named, of others, and those
// of any that are ready.
type zonePods struct{ new, old, ready int }

func (w *world) byZone(v *state.Snapshot, image string) map[string]zonePods {
	out := map[string]zonePods{}
	for p := range state.All[*object.Pod](v, object.KindPod) {
		n, ok := state.Find[*object.Node](v, object.Ref{Kind: object.KindNode, Name: p.Spec.Node})
		if !ok || !live(p) {
			continue
		}
		x := out[n.Labels["zone"]]
		if v.Template(p).Containers[0].Image == image {
			x.new++
		} else {
			x.old++
		}
		if p.Status.Ready {
			x.ready++
		}
		out[n.Labels["zone"]] = x
	}
	return out
}

// oneZone fails the test when pods of two zones are down or in the making at once, or a zone
// is touched before its turn; it answers the zones in the order in which they were.
func (w *world) oneZone(image string) *[]string {
	was, before := w.byZone(w.view(), image), w.watch
	var turns []string
	w.watch = func(v *state.Snapshot) {
		if before != nil {
			before(v)
		}
		now := w.byZone(v, image)
		var mixed []string
		for _, z := range sortedKeys(was) {
			x := now[z]
			if x.new > 0 && !slices.Contains(turns, z) {
				turns = append(turns, z)
			}
			if whole := x.ready >= was[z].ready; !whole || x.old > 0 && x.new > 0 {
				mixed = append(mixed, z)
			}
		}
		if len(mixed) > 1 {
			w.t.Fatalf("the zones %v are under way at once: %v\n%s", mixed, now, w.dump())
		}
	}
	return &turns
}

func TestZonesOneAfterTheOther(t *testing.T) {
	for name, x := range map[string]struct {
		change []func(*object.Deployment)
		want   []string
	}{
		"surge":       {[]func(*object.Deployment){byZone(), budget(1, 0)}, []string{"a", "b", "c"}},
		"unavailable": {[]func(*object.Deployment){byZone("c"), budget(0, 2)}, []string{"c", "a", "b"}},
		"both":        {[]func(*object.Deployment){byZone("b", "a"), budget(3, 3)}, []string{"b", "a", "c"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := startedIn(t, zonedWorld(t, "abc", 2), web("ok:1", 6, x.change...))
			turns := w.oneZone("ok:2")
			w.awaits(w.commit(one(web("ok:2", 6, x.change...))), object.RevisionHealthy)
			if !slices.Equal(*turns, x.want) {
				t.Errorf("zones in the order %v", *turns)
			}
			for z, p := range w.byZone(w.view(), "ok:2") {
				if p != (zonePods{2, 0, 2}) {
					t.Errorf("zone %s: %+v", z, p)
				}
			}
			w.watch = nil
			w.settled()
			for o := range w.view().List(object.KindReplicaSet) {
				if rs := o.(*object.ReplicaSet); rs.Spec.Into != nil || rs.Spec.OutOf != nil && rs.Spec.Replicas > 0 {
					t.Errorf("%s keeps to a zone: %+v %+v", rs.Name, rs.Spec.Into, rs.Spec.OutOf)
				}
			}
		})
	}
}

// A version that fails in the first zone is put back before another is touched.
func TestZoneThatFails(t *testing.T) {
	for _, image := range []string{"crash:2", "missing:2", "never:2"} {
		t.Run(image, func(t *testing.T) {
			w := startedIn(t, zonedWorld(t, "abc", 2), web("ok:1", 6, byZone("b")))
			w.neverBelow("web", 6)
			turns := w.oneZone(image)
			w.awaits(w.commit(one(web(image, 6, byZone("b")))), object.RevisionReverted)
			w.settled()
			if !slices.Equal(*turns, []string{"b"}) {
				t.Errorf("zones: %v", *turns)
			}
			if pods := w.livePods("web"); len(pods) != 1 || len(pods["ok:1"]) != 6 {
				t.Errorf("pods: %v", pods)
			}
		})
	}
}

func TestZonesWait(t *testing.T) {
	paused := func(d *object.Deployment) {
		d.Spec.Update.By, d.Spec.Update.Zones = "zone", &object.Zones{Pause: object.Duration(5 * time.Minute), Manual: true}
	}
	// halfway is in the first pause; no pod of another zone is touched in it.
	halfway := func(t *testing.T) (*world, int) {
		w := startedIn(t, zonedWorld(t, "abc", 2), web("ok:1", 6, paused))
		w.oneZone("ok:2")
		begin := w.now
		n := w.commit(one(web("ok:2", 6, paused)))
		w.until("the pause for a person", func(*state.Snapshot) bool {
			c := w.deployment("web").Status.Canary
			return c != nil && c.Waits
		})
		if took := w.now.Sub(begin); took < 5*time.Minute || took > 6*time.Minute {
			t.Errorf("it waits for a person after %s", took)
		}
		w.rest(3 * time.Hour)
		if c := w.deployment("web").Status.Canary; c.Zone != "a" || c.Step != 0 || c.Zones != 3 {
			t.Errorf("status: %+v", c)
		}
		if now := w.byZone(w.view(), "ok:2"); now["a"].old != 0 || now["b"].new+now["c"].new != 0 {
			t.Errorf("pods: %v", now)
		}
		return w, n
	}
	promote := func(w *world) {
		edit(w, ref(object.KindDeployment, "web"), func(d *object.Deployment) { d.Spec.Promoted = d.Status.Canary.Token() })
	}

	t.Run("promoted", func(t *testing.T) {
		w, n := halfway(t)
		promote(w)
		w.until("the pause after the second zone", func(*state.Snapshot) bool {
			c := w.deployment("web").Status.Canary
			return c.Waits && c.Zone == "b"
		})
		promote(w)
		w.awaits(n, object.RevisionHealthy) // nothing follows the last zone
		// The way back has no zones, and no pauses.
		begin := w.now
		w.watch = nil
		w.awaits(w.commit(one(web("ok:1", 6, paused))), object.RevisionHealthy)
		if took := w.now.Sub(begin); took > 2*time.Minute {
			t.Errorf("the way back took %s", took)
		}
	})
	t.Run("aborted", func(t *testing.T) {
		w, n := halfway(t)
		kept := w.livePods("web")["ok:1"]
		edit(w, ref(object.KindDeployment, "web"), func(d *object.Deployment) { d.Spec.Aborted = d.Status.Set })
		w.awaits(n, object.RevisionReverted)
		w.settled()
		pods := w.livePods("web")
		if len(pods) != 1 || len(pods["ok:1"]) != 6 {
			t.Fatalf("pods: %v", pods)
		}
		for _, p := range kept {
			if !slices.Contains(pods["ok:1"], p) {
				t.Errorf("%s was not kept", p)
			}
		}
	})
	t.Run("a pod is lost", func(t *testing.T) {
		w, _ := halfway(t)
		w.watch = nil
		w.lose("a1", true)
		w.until("another pod in the zone", func(v *state.Snapshot) bool {
			now := w.byZone(v, "ok:2")
			return now["a"].new == 2 && now["a"].ready == 2
		})
		w.settle()
		if c := w.deployment("web").Status.Canary; c.Waits || c.Since.IsZero() {
			t.Errorf("it does not wait anew: %+v", c)
		}
		w.rest(time.Hour)
		if d := w.deployment("web"); !d.Status.Canary.Waits || d.Status.Reason != "" {
			t.Errorf("status: %+v", d.Status)
		}
	})
	t.Run("paused and scaled", func(t *testing.T) {
		w, n := halfway(t)
		w.watch = nil
		edit(w, ref(object.KindDeployment, "web"), func(d *object.Deployment) { d.Spec.Paused = true })
		w.settle()
		edit(w, ref(object.KindDeployment, "web"), func(d *object.Deployment) { d.Spec.Replicas = 3 })
		w.rest(time.Hour)
		edit(w, ref(object.KindDeployment, "web"), func(d *object.Deployment) { d.Spec.Replicas = 9 })
		w.rest(time.Hour)
		if d := w.deployment("web"); d.Status.Ready < 9 || d.Status.Phase != object.RolloutPaused {
			t.Errorf("status: %+v", d.Status)
		}
		edit(w, ref(object.KindDeployment, "web"), func(d *object.Deployment) { d.Spec.Paused = false })
		w.through(n)
		if pods := w.livePods("web"); len(pods) != 1 || len(pods["ok:2"]) != 9 {
			t.Errorf("pods: %v", pods)
		}
	})
}

// through lets a revision go on to its end; whoever is asked says yes.
func (w *world) through(n int) {
	w.t.Helper()
	for range 10 {
		w.rest(6 * time.Minute)
		if w.revision(n).Status.Phase == object.RevisionHealthy {
			return
		}
		if c := w.deployment("web").Status.Canary; c != nil && c.Waits {
			edit(w, ref(object.KindDeployment, "web"), func(d *object.Deployment) { d.Spec.Promoted = c.Token() })
		}
	}
	w.t.Fatalf("revision %d is not healthy after an hour: %s", n, w.dump())
}

// A zone without room for the new pods is no reason to put them elsewhere.
func TestZoneWithoutRoom(t *testing.T) {
	w := startedIn(t, zonedWorld(t, "abc", 1), web("ok:1", 6, byZone()))
	w.room = map[string]int{"a1": 2}
	w.neverBelow("web", 6)
	turns := w.oneZone("ok:2")
	n := w.commit(one(web("ok:2", 6, byZone())))
	w.awaits(n, object.RevisionReverted)
	w.settled()
	if st := w.revision(n).Status; st.Reason != object.ReasonUnplaceable || !strings.Contains(st.Message, "not in zone a") {
		t.Errorf("status: %+v", st)
	}
	if len(*turns) > 0 || len(w.livePods("web")) != 1 {
		t.Errorf("zones %v, pods %v", *turns, w.livePods("web"))
	}
}

// Zones, and pods without one, come and go in the middle of it.
func TestZonesThatVanish(t *testing.T) {
	during := func(t *testing.T, zone string, replicas int, zones string, each int, do func(*world)) *world {
		w := startedIn(t, zonedWorld(t, zones, each), web("ok:1", replicas, byZone(), budget(1, 0)))
		n := w.commit(one(web("ok:2", replicas, byZone(), budget(1, 0))))
		w.until("the turn of "+zone, func(v *state.Snapshot) bool {
			c := w.deployment("web").Status.Canary
			return c != nil && c.Zone == zone
		})
		do(w)
		w.awaits(n, object.RevisionHealthy)
		if pods := w.livePods("web"); len(pods) != 1 || len(pods["ok:2"]) != replicas {
			t.Errorf("pods: %v", pods)
		}
		w.settled()
		return w
	}
	for _, zone := range []string{"a", "b", "c"} {
		for _, lost := range []string{"a", "b", "c"} {
			t.Run("lost "+lost+" at the turn of "+zone, func(t *testing.T) {
				during(t, zone, 6, "abc", 2, func(w *world) { w.lose(lost+"1", true); w.lose(lost+"2", true) })
			})
		}
		t.Run("cordoned at its turn "+zone, func(t *testing.T) {
			during(t, zone, 6, "abc", 1, func(w *world) {
				edit(w, object.Ref{Kind: object.KindNode, Name: zone + "1"}, func(n *object.Node) { n.Spec.Unschedulable = true })
			})
		})
		t.Run("drained at its turn "+zone, func(t *testing.T) {
			during(t, zone, 6, "abc", 2, func(w *world) {
				edit(w, object.Ref{Kind: object.KindNode, Name: zone + "1"}, func(n *object.Node) { n.Spec.Drain, n.Spec.Unschedulable = true, true })
			})
		})
	}
	t.Run("pods in no zone", func(t *testing.T) {
		w := during(t, "a", 8, "ab-", 1, func(*world) {})
		if now := w.byZone(w.view(), "ok:2"); now[""].new < 1 {
			t.Errorf("pods: %v", now)
		}
	})
	t.Run("a zone joins", func(t *testing.T) {
		during(t, "b", 6, "ab", 1, func(w *world) {
			w.put(&object.Node{Meta: object.Meta{Kind: object.KindNode, Name: "c1", Labels: map[string]string{"zone": "c"}}, Status: object.NodeStatus{Condition: object.NodeReady}})
		})
	})
	t.Run("scaled", func(t *testing.T) {
		for _, n := range []int{2, 12} {
			w := startedIn(t, zonedWorld(t, "abc", 2), web("ok:1", 6, byZone()))
			w.awaits(w.commit(one(web("ok:2", n, byZone()))), object.RevisionHealthy) // together with the version
			for z, p := range w.byZone(w.view(), "ok:2") {
				if p.new > (n+2)/3+1 {
					t.Errorf("scaled to %d: zone %s has %+v", n, z, p)
				}
			}
			r := w.commit(one(web("ok:3", n, byZone())))
			w.until("the second zone", func(*state.Snapshot) bool {
				c := w.deployment("web").Status.Canary
				return c != nil && c.Step == 1
			})
			edit(w, ref(object.KindDeployment, "web"), func(d *object.Deployment) { d.Spec.Replicas = 7 })
			w.awaits(r, object.RevisionHealthy)
			w.settled()
			if pods := w.livePods("web"); len(pods) != 1 || len(pods["ok:3"]) != 7 {
				t.Errorf("pods: %v", pods)
			}
		}
	})
}

// A new leader goes on in the middle of a zone, and comes to the same end.
func TestZonesOutliveLeaders(t *testing.T) {
	end := func(change bool) string {
		w := startedIn(t, zonedWorld(t, "abc", 2), web("ok:1", 6, byZone("b")))
		turns := w.oneZone("ok:2")
		if change {
			watch := w.watch
			w.watch = func(v *state.Snapshot) {
				watch(v)
				w.queue = NewQueue(All())
				w.queue.Seed(v)
			}
		}
		w.awaits(w.commit(one(web("ok:2", 6, byZone("b")))), object.RevisionHealthy)
		return fmt.Sprint(*turns, w.byZone(w.view(), "ok:2"), w.livePods("web"))
	}
	if a, b := end(false), end(true); a != b {
		t.Errorf("another end after changes of the leader:\n%s\n%s", a, b)
	}
}

// TestRandomZones: whatever happens to nodes and versions meanwhile, and whatever
// people do, it ends in the desired state; and as long as no node is lost and
// nothing is scaled, pods of one zone at most are down or in the making.
func TestRandomZones(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		zones := rapid.SampledFrom([]string{"a", "ab", "abc", "ab-"}).Draw(t, "zones")
		each := rapid.IntRange(1, 2).Draw(t, "nodes in each")
		want := rapid.IntRange(1, 9).Draw(t, "replicas")
		surge, missing := rapid.IntRange(0, 3).Draw(t, "surge"), rapid.IntRange(0, 3).Draw(t, "unavailable")
		if surge+missing == 0 {
			surge = 1
		}
		calm := rapid.Bool().Draw(t, "calm")
		config := func(d *object.Deployment) {
			byZone("b")(d)
			budget(surge, missing)(d)
			d.Spec.Update.Zones.Manual = false
			d.Spec.Update.Zones.Pause = object.Duration(5 * time.Second)
		}
		w := startedIn(t, zonedWorld(t, zones, each), web("ok:1", want, config))
		number, restarted := 0, false
		images := []string{"ok", "ok", "ok", "crash", "missing", "once"}
		for step := range rapid.IntRange(1, 8).Draw(t, "steps") {
			switch do := rapid.IntRange(0, 11).Draw(t, "do"); {
			case do < 3:
				name := fmt.Sprintf("%s:%d", rapid.SampledFrom(images).Draw(t, "image"), step+2)
				w.watch = nil
				if calm {
					w.settled() // the one before has ended: only then each zone is whole
					w.oneZone(name)
					if !strings.HasPrefix(name, "ok") {
						w.watch = nil // what is put back is put back everywhere at once
					}
				}
				number, restarted = w.commit(one(web(name, want, config))), false
			case do < 5:
				w.rest(time.Duration(rapid.IntRange(1, 30).Draw(t, "seconds")) * time.Second)
			case do == 5:
				w.queue = NewQueue(All())
				w.queue.Seed(w.view())
			case calm:
			case do == 6:
				n := fmt.Sprintf("a%d", 1+rapid.IntRange(0, each-1).Draw(t, "node"))
				if zones != "a" {
					w.lose(n, !w.dead[n])
				}
			case do == 7:
				edit(w, object.Ref{Kind: object.KindNode, Name: "a1"}, func(n *object.Node) {
					n.Spec.Unschedulable = !n.Spec.Unschedulable
					n.Spec.Drain = n.Spec.Unschedulable && rapid.Bool().Draw(t, "drain")
				})
			case do == 8:
				want = rapid.IntRange(1, 9).Draw(t, "other replicas")
				edit(w, ref(object.KindDeployment, "web"), func(d *object.Deployment) { d.Spec.Replicas = want })
			case do == 9:
				edit(w, ref(object.KindDeployment, "web"), func(d *object.Deployment) { d.Spec.Paused = !d.Spec.Paused })
			case do == 10:
				edit(w, ref(object.KindDeployment, "web"), func(d *object.Deployment) { d.Spec.Aborted = d.Status.Set })
			case do == 11:
				edit(w, ref(object.KindDeployment, "web"), func(d *object.Deployment) { d.Restart(w.now) })
				restarted = true
			}
		}
		for _, n := range slices.Sorted(maps.Keys(w.dead)) {
			if w.dead[n] {
				w.lose(n, false)
			}
		}
		for n := range state.All[*object.Node](w.view(), object.KindNode) {
			if n.Spec.Unschedulable {
				edit(w, n.Ref(), func(n *object.Node) { n.Spec.Unschedulable, n.Spec.Drain = false, false })
			}
		}
		if w.deployment("web").Spec.Paused {
			edit(w, ref(object.KindDeployment, "web"), func(d *object.Deployment) { d.Spec.Paused = false })
		}
		w.settled()
		d := w.deployment("web")
		pods := w.livePods("web")
		image := d.Spec.Pod.Containers[0].Image
		// A restart that a person aborts has no revision to put it back: the pods are the old ones, and it stays told.
		ended := d.Status.Phase == object.RolloutStable || restarted && d.Status.Phase == object.RolloutFailed && d.Spec.Aborted == d.Status.Set
		if !ended || len(pods) != 1 || len(pods[image]) != d.Spec.Replicas || !strings.HasPrefix(image, "o") {
			t.Fatalf("did not end well, with %s (revision %d): %v\n%s", image, number, pods, w.dump())
		}
	})
}
