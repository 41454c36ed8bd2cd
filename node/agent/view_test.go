package agent_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/node/agent"
	"github.com/berthdev/berth/node/fake"
)

// tool is a NetworkTool that notes what it is given.
type tool struct {
	mu      sync.Mutex
	views   []*object.NetworkView
	fail    error
	mended  []string
	broken  error // what Ensure says
	purged  bool
	drained chan struct{} // Drain waits for it
}

func (x *tool) Apply(_ context.Context, v *object.NetworkView) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.views = append(x.views, v)
	return x.fail
}

func (x *tool) Ensure(context.Context) ([]string, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	m := x.mended
	x.mended = nil
	return m, x.broken
}

func (x *tool) Purge() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.purged = true
	return nil
}

func (x *tool) Drain(ctx context.Context) error {
	select {
	case <-x.drained:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (x *tool) last() *object.NetworkView {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.views) == 0 {
		return nil
	}
	return x.views[len(x.views)-1]
}

func (x *tool) set(f func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	f()
}

func inNetwork(t *testing.T, f func(w *world, x *tool)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		x := &tool{drained: make(chan struct{})}
		f(newWorld(t, nil, agent.NamedTool{Name: "services", NetworkTool: x}), x)
	})
}

func service(name string, version uint64) *object.Service {
	return &object.Service{Meta: object.Meta{Kind: object.KindService, Namespace: "default", Name: name, Created: 1, Version: version}}
}

func endpoints(name string, version uint64, pods ...string) *object.Endpoints {
	e := &object.Endpoints{Meta: object.Meta{Kind: object.KindEndpoints, Namespace: "default", Name: name, Created: 1, Version: version}}
	for _, p := range pods {
		e.Spec.Ready = append(e.Spec.Ready, object.Endpoint{Pod: p, Address: "10.0.0.1"})
	}
	return e
}

// told sends objects as lines of one entry.
func (m *masters) told(op object.WatchOp, index uint64, objects ...object.Object) {
	for _, o := range objects {
		m.network <- object.WatchEvent{Op: object.WatchUpdate, Ref: o.Ref(), Object: object.Any{Object: o}}
	}
	m.network <- object.WatchEvent{Op: op, Index: index}
	synctest.Wait()
}

func (m *masters) lastReport() object.Report {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.report
}

func TestToolsGetWholeViewsInOrder(t *testing.T) {
	inNetwork(t, func(w *world, x *tool) {
		w.m.told(object.WatchSynced, 5, service("b", 2), service("a", 3))
		v := x.last()
		if v == nil || v.Index != 5 || len(v.Services) != 2 || v.Services[0].Name != "a" {
			t.Fatalf("%+v", v)
		}
		before := v.Services[0]
		w.m.told(object.WatchBookmark, 6, service("c", 6), service("b", 6))
		if v2 := x.last(); v2.Index != 6 || len(v2.Services) != 3 || v2.Services[0] != before || v2.Services[1].Version != 6 {
			t.Errorf("%+v", v2)
		}
		if len(v.Services) != 2 || v.Services[1].Version != 2 {
			t.Error("a view that was handed out has changed")
		}
		n := len(x.views)
		w.m.told(object.WatchBookmark, 7)
		if len(x.views) != n {
			t.Error("a view without news was applied")
		}
	})
}

// What is told anew after a break ends what is no longer told.
func TestAFreshWatchSweeps(t *testing.T) {
	inNetwork(t, func(w *world, x *tool) {
		w.m.told(object.WatchSynced, 5, service("a", 3), service("b", 3))
		w.stop()
		w.start()
		synctest.Wait()
		w.m.told(object.WatchSynced, 9, service("a", 3))
		v := x.last()
		if len(v.Services) != 1 || v.Services[0].Name != "a" {
			t.Errorf("%+v", v.Services)
		}
	})
}

func TestTheLastViewServesWhileMastersAreAway(t *testing.T) {
	inNetwork(t, func(w *world, x *tool) {
		w.m.told(object.WatchSynced, 5, service("a", 3), endpoints("a", 4, "p"))
		w.stop()
		w.m.setAway(true)
		x.set(func() { x.views = nil })
		w.start()
		synctest.Wait()
		v := x.last()
		if v == nil || len(v.Services) != 1 || len(v.Endpoints) != 1 || v.Endpoints[0].Spec.Ready[0].Pod != "p" {
			t.Fatalf("%+v", v)
		}
	})
}

func TestWhatIsInForceIsAcknowledgedWhenTheDrainIsOver(t *testing.T) {
	inNetwork(t, func(w *world, x *tool) {
		w.m.told(object.WatchSynced, 5, endpoints("a", 4, "p", "q"))
		w.m.told(object.WatchBookmark, 6, endpoints("a", 6, "q"))
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if got := w.m.lastReport().Applied; got >= 6 {
			t.Fatalf("%d is acknowledged while requests are under way", got)
		}
		close(x.drained)
		time.Sleep(100 * time.Millisecond) // reports gather for a moment
		synctest.Wait()
		if got := w.m.lastReport().Applied; got != 6 {
			t.Errorf("acknowledged: %d, want 6 at once", got)
		}
	})
}

// Whoever waits for 6 is content with 8: it must not come before 6 has been drained.
func TestALaterIndexDoesNotOvertakeADrain(t *testing.T) {
	inNetwork(t, func(w *world, x *tool) {
		w.m.told(object.WatchSynced, 5, endpoints("a", 4, "p", "q"))
		w.m.told(object.WatchBookmark, 6, endpoints("a", 6, "q"))
		w.m.told(object.WatchBookmark, 7)
		w.m.told(object.WatchBookmark, 8, service("b", 8))
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if got := w.m.lastReport().Applied; got >= 6 {
			t.Fatalf("%d is acknowledged while requests are under way", got)
		}
		close(x.drained)
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if got := w.m.lastReport().Applied; got != 8 {
			t.Errorf("acknowledged: %d, want 8 at once", got)
		}
	})
}

func TestADrainThatDoesNotEndHoldsForASecond(t *testing.T) {
	inNetwork(t, func(w *world, _ *tool) {
		w.m.told(object.WatchSynced, 5, endpoints("a", 4, "p"))
		w.m.told(object.WatchBookmark, 6, endpoints("a", 6))
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if got := w.m.lastReport().Applied; got != 6 {
			t.Errorf("acknowledged: %d, want 6", got)
		}
	})
}

func TestAToolThatFailsIsToldAndTriedAgain(t *testing.T) {
	inNetwork(t, func(w *world, x *tool) {
		x.set(func() { x.fail = errors.New("iptables: no") })
		w.m.told(object.WatchSynced, 5, service("a", 3))
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		w.m.mu.Lock()
		told := slices.ContainsFunc(w.m.events, func(e object.NodeEvent) bool {
			return e.Reason == "network_failed" && e.Message == "services: iptables: no"
		})
		w.m.mu.Unlock()
		if !told || w.m.lastReport().Applied != 0 {
			t.Errorf("told %v, acknowledged %d", told, w.m.lastReport().Applied)
		}
		x.set(func() { x.fail = nil })
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if got := w.m.lastReport().Applied; got != 5 {
			t.Errorf("acknowledged: %d, want 5", got)
		}
	})
}

func TestWhatAToolMendedIsToldOnce(t *testing.T) {
	inNetwork(t, func(w *world, x *tool) {
		x.set(func() { x.mended = []string{"3 rules of chain BERTH-SERVICES were gone"} })
		time.Sleep(12 * time.Second)
		synctest.Wait()
		w.m.mu.Lock()
		defer w.m.mu.Unlock()
		want := []object.NodeEvent{{Reason: "network_mended", Warning: true, Message: "services: 3 rules of chain BERTH-SERVICES were gone"}}
		if !slices.Equal(w.m.events, want) {
			t.Errorf("%+v", w.m.events)
		}
	})
}

// What lasts is told once, and again when it comes back.
func TestTroubleThatLastsIsToldOnce(t *testing.T) {
	inNetwork(t, func(w *world, x *tool) {
		for _, err := range []error{errors.New("no way to n3"), nil, errors.New("no way to n3")} {
			x.set(func() { x.broken = err })
			time.Sleep(20 * time.Second)
			synctest.Wait()
		}
		w.m.mu.Lock()
		defer w.m.mu.Unlock()
		told := object.NodeEvent{Reason: "network_failed", Warning: true, Message: "services: no way to n3"}
		if want := []object.NodeEvent{told, told}; !slices.Equal(w.m.events, want) {
			t.Errorf("%+v", w.m.events)
		}
	})
}

// The stop signal waits until every node has taken the pod out, one second at most.
func TestAPodIsStoppedWhenItHasLeftEverywhere(t *testing.T) {
	inNetwork(t, func(w *world, x *tool) {
		ref := w.m.create("p", one("web:1"))
		w.m.wait(t, ref, time.Minute, "ready", ready)
		w.m.stop(ref)
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		if len(w.running()) != 1 {
			t.Fatal("stopped before the others had acknowledged")
		}
		close(w.m.left)
		synctest.Wait()
		w.m.wait(t, ref, time.Minute, "stopped", phase(object.PodStopped))
		if want := []object.Ref{ref}; !slices.Equal(w.m.asked, want) {
			t.Errorf("asked for %v", w.m.asked)
		}
		w.m.left = make(chan struct{})
		slow := w.m.create("slow", one("web:1"))
		w.m.wait(t, slow, time.Minute, "ready", ready)
		w.m.stop(slow)
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if len(w.running()) != 0 {
			t.Error("a node that does not acknowledge holds a pod for more than a second")
		}
	})
}

// One that is not ready any more may still be led to: not every node may have heard of it.
func TestAPodThatWasReadyLeavesLikeOneThatIs(t *testing.T) {
	inNetwork(t, func(w *world, x *tool) {
		w.r.Behave("web:1", fake.Behavior{Crash: time.Minute})
		ref := w.m.create("p", one("web:1"))
		w.m.wait(t, ref, time.Minute, "ready", ready)
		w.m.wait(t, ref, 2*time.Minute, "not ready", func(s object.PodStatus) bool { return !s.Ready })
		w.m.stop(ref)
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		if s := w.m.past(ref); s[len(s)-1].Phase != object.PodStopping {
			t.Errorf("%+v: gone before the others had acknowledged", s[len(s)-1])
		}
		close(w.m.left)
		w.m.wait(t, ref, time.Minute, "stopped", phase(object.PodStopped))
	})
}

func TestPurgeTakesTheToolsAlong(t *testing.T) {
	inNetwork(t, func(w *world, x *tool) {
		w.m.told(object.WatchSynced, 5, service("a", 3))
		w.agent.Purge()
		if err := <-w.ended; err != nil {
			t.Fatal(err)
		}
		w.kill = nil
		if !x.purged {
			t.Error("the tool was not purged")
		}
	})
}

// A pod is left to what it is answering, for two seconds at most.
func TestAPodIsStoppedWhenNobodyIsConnectedAnyMore(t *testing.T) {
	inNetwork(t, func(w *world, x *tool) {
		close(w.m.left)
		for _, c := range []struct {
			open   time.Duration // how long connections are open
			within time.Duration
		}{{0, 50 * time.Millisecond}, {time.Second, 1100 * time.Millisecond}, {time.Minute, 2100 * time.Millisecond}} {
			ref := w.m.create("p", one("web:1"))
			w.m.wait(t, ref, time.Minute, "ready", ready)
			until := time.Now().Add(c.open)
			w.connections.Store(&until)
			began := time.Now()
			w.m.stop(ref)
			w.m.wait(t, ref, time.Minute, "stopped", phase(object.PodStopped))
			if took := time.Since(began); took < min(c.open, quiet) || took > c.within {
				t.Errorf("connections for %s: stopped after %s", c.open, took)
			}
			w.m.remove(ref)
			synctest.Wait()
		}
	})
}

const quiet = 2 * time.Second // as the worker has it
