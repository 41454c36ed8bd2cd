package agent_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// guard notes what the agent tells it, and how many containers ran then.
type guard struct {
	w *world

	mu   sync.Mutex
	fail int // that many times
	held map[string]string
	said []string
}

func (g *guard) Guard(id string, p *object.Pod, address netip.Addr, running bool) error {
	all, err := g.w.r.List(context.Background())
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fail > 0 {
		g.fail--
		return errors.New("iptables is busy")
	}
	if err == nil && !running && len(all) > 0 {
		g.said = append(g.said, "too late: "+id)
	}
	g.held[id] = fmt.Sprintf("%s %s app=%s", p.Name, address, p.Labels["app"])
	g.said = append(g.said, fmt.Sprintf("%s running=%v", p.Name, running))
	return nil
}

func (g *guard) Release(id string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.held, id)
	return nil
}

func (g *guard) Retain(ids []string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	maps.DeleteFunc(g.held, func(id, _ string) bool { return !slices.Contains(ids, id) })
	return nil
}

func (g *guard) now() (held, said string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strings.Join(slices.Sorted(maps.Values(g.held)), "; "), strings.Join(g.said, "; ")
}

// A pod is held to network policies before anything of it runs, or does not run;
// new labels are told; the next agent tells of what runs before it does anything.
func TestPodsAreHeldToPoliciesBeforeTheyRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.stop()
		g := &guard{w: w, fail: 2, held: map[string]string{}}
		w.guard = g
		w.start()
		ref := w.m.create("p", one("web:1"))
		w.m.wait(t, ref, time.Minute, "ready", ready)
		if held, said := g.now(); held != "p 10.88.0.1 app=" || said != "p running=false" {
			t.Fatalf("held %q, said %q", held, said)
		}
		w.m.relabel(ref, map[string]string{"app": "db"})
		synctest.Wait()
		if held, said := g.now(); held != "p 10.88.0.1 app=db" || said != "p running=false; p running=true" {
			t.Errorf("held %q, said %q", held, said)
		}
		time.Sleep(2 * time.Second)
		w.stop()
		g.held, g.said = map[string]string{}, nil
		w.start()
		synctest.Wait()
		held, said := g.now()
		if held != "p 10.88.0.1 app=db" || !strings.HasPrefix(said, "p running=true") || strings.Contains(said, "false") {
			t.Errorf("after a restart: held %q, said %q", held, said)
		}
		w.m.stop(ref)
		w.m.wait(t, ref, time.Minute, "stopped", phase(object.PodStopped))
		w.m.remove(ref)
		synctest.Wait()
		if held, _ := g.now(); held != "" {
			t.Errorf("still held: %s", held)
		}
	})
}
