package agent_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/node/agent"
	"github.com/berthdev/berth/node/fake"
	"github.com/berthdev/berth/node/probe"
	"github.com/berthdev/berth/node/runtime/container"
	"github.com/berthdev/berth/node/volume"
)

// crash lets an agent do so many of the things that change its machine, then
// nothing more: what a kill -9 looks like to the machine. What the agent asks for
// afterwards waits for ever. The agent's directory is kept as it was then.
type crash struct {
	mu    sync.Mutex
	left  int    // things that are still done; below 0: it never comes
	after bool   // the last one is done, but its answer does not come back
	at    string // what it died at
	now   func()
	dead  chan struct{} // closed when it comes
	over  chan struct{} // closed at the test's end
}

var errDead = errors.New("dead")

// step does one of these things, unless the agent is dead by then.
func (c *crash) step(what string, do func() error) error {
	c.mu.Lock()
	last := false
	if c.at == "" {
		c.left--
		if last = c.left == 0; last && !c.after {
			c.die(what)
		}
	}
	dead := c.at != ""
	c.mu.Unlock()
	var err error
	if !dead {
		err = do()
	}
	c.mu.Lock()
	if last && c.at == "" {
		c.die(what)
	}
	dead = c.at != ""
	c.mu.Unlock()
	if dead {
		<-c.over
		return errDead
	}
	return err
}

func (c *crash) isDead() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at != ""
}

func (c *crash) die(what string) {
	c.at = what
	c.now()
	close(c.dead)
}

// mortalRuntime and its like are the tools of an agent that may die.
type mortalRuntime struct {
	*fake.Runtime
	c     *crash
	ahead time.Duration // of the clock that ends were noted by
}

func (m mortalRuntime) List(ctx context.Context) ([]container.Status, error) {
	list, err := m.Runtime.List(ctx)
	for i := range list {
		if list[i].State == container.Exited {
			list[i].Finished = list[i].Finished.Add(m.ahead)
		}
	}
	return list, err
}

func (m mortalRuntime) PullImage(ctx context.Context, ref string, auth *container.Auth, policy string) (out container.Image, err error) {
	err = m.c.step("pull", func() (err error) {
		out, err = m.Runtime.PullImage(ctx, ref, auth, policy)
		return err
	})
	return out, err
}

func (m mortalRuntime) StartContainer(ctx context.Context, s container.Spec) (out container.Started, err error) {
	err = m.c.step(fmt.Sprintf("start %s.%d", s.Name, s.Attempt), func() (err error) {
		out, err = m.Runtime.StartContainer(ctx, s)
		return err
	})
	return out, err
}

func (m mortalRuntime) Stop(ctx context.Context, id, signal string, grace time.Duration) error {
	return m.c.step("stop "+id, func() error { return m.Runtime.Stop(ctx, id, signal, grace) })
}

func (m mortalRuntime) Remove(ctx context.Context, id string) error {
	return m.c.step("remove "+id, func() error { return m.Runtime.Remove(ctx, id) })
}

func (m mortalRuntime) RemovePod(ctx context.Context, p container.Pod) error {
	return m.c.step("remove pod", func() error { return m.Runtime.RemovePod(ctx, p) })
}

type mortalSandboxes struct {
	fake.Sandboxes
	c *crash
}

func (m mortalSandboxes) Create(pod, hostname string, shares bool) (out container.Namespaces, err error) {
	err = m.c.step("namespaces", func() (err error) {
		out, err = m.Sandboxes.Create(pod, hostname, shares)
		return err
	})
	return out, err
}

func (m mortalSandboxes) Remove(pod string) error {
	return m.c.step("remove namespaces", func() error { return m.Sandboxes.Remove(pod) })
}

type mortalNetwork struct {
	*addresses
	c *crash
}

func (m mortalNetwork) Attach(pod, ns string) (out netip.Addr, err error) {
	err = m.c.step("attach", func() (err error) {
		out, err = m.addresses.Attach(pod, ns)
		return err
	})
	return out, err
}

func (m mortalNetwork) Detach(pod string) error {
	return m.c.step("detach", func() error { return m.addresses.Detach(pod) })
}

type mortalVolumes struct {
	*volume.Volumes
	c *crash
}

func (m mortalVolumes) Prepare(pod string, v []object.Volume, files map[string]map[string]string) (out map[string]string, err error) {
	err = m.c.step("volumes", func() (err error) {
		out, err = m.Volumes.Prepare(pod, v, files)
		return err
	})
	return out, err
}

func (m mortalVolumes) Remove(pod string) error {
	return m.c.step("remove volumes", func() error { return m.Volumes.Remove(pod) })
}

// mortalMasters are told nothing by a dead agent; telling changes something, too.
type mortalMasters struct {
	*masters
	c *crash
}

func (m mortalMasters) Report(ctx context.Context, r object.Report) (out object.ReportAnswer, err error) {
	if len(r.Pods) == 0 {
		return m.masters.Report(ctx, r)
	}
	err = m.c.step("report "+string(r.Pods[0].Status.Phase), func() (err error) {
		out, err = m.masters.Report(ctx, r)
		return err
	})
	return out, err
}

func (m mortalMasters) WatchPods(ctx context.Context, node string, since uint64, each func(object.WatchEvent) error) error {
	return m.masters.WatchPods(ctx, node, since, func(e object.WatchEvent) error {
		if m.c.isDead() {
			<-m.c.over
			return errDead
		}
		return each(e)
	})
}

// mortal is a machine whose agent may die.
type mortal struct {
	t    *testing.T
	m    *masters
	r    *fake.Runtime
	net  *addresses
	vol  *volume.Volumes
	dir  string // of the agent that runs
	over []func()
	// ahead is how far the clock was ahead before the next agent began.
	ahead time.Duration
}

func newMortal(t *testing.T) *mortal {
	vol, err := volume.Open(filepath.Join(t.TempDir(), "volumes"))
	if err != nil {
		t.Fatal(err)
	}
	script := fake.Script{"init:1": {Exit: time.Second}, "web:1": {Start: 10 * time.Millisecond, Stop: time.Second}, "side:1": {Stop: time.Second}}
	m := &mortal{t: t, m: newMasters(), r: fake.NewRuntime(script), net: &addresses{pods: map[string]netip.Addr{}}, vol: vol, dir: t.TempDir()}
	m.m.put("default/config_map.conf.aaa", map[string]string{"key": "value"})
	return m
}

// start runs an agent that dies at the left-th step; 0: never.
func (m *mortal) start(left int, after bool) *crash {
	m.t.Helper()
	m.r.Attach()
	c := &crash{left: left, after: after, dead: make(chan struct{}), over: make(chan struct{})}
	from, to := m.dir, m.t.TempDir()
	c.now = func() {
		m.dir = to
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			m.t.Error(err)
		}
	}
	a, err := agent.New(agent.Config{
		Node: "n1", Dir: from, Status: object.NodeStatus{CPU: 2000, Memory: 1 << 30}, Masters: mortalMasters{m.m, c}, Runtime: mortalRuntime{m.r, c, m.ahead},
		Sandboxes: mortalSandboxes{fake.Sandboxes{Runtime: m.r}, c}, Network: mortalNetwork{m.net, c}, Volumes: mortalVolumes{m.vol, c}, Prober: probe.New(0),
	})
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	m.over = append(m.over, func() {
		cancel()
		close(c.over)
		if err := <-ended; err != nil {
			m.t.Error(err)
		}
	})
	return c
}

// die waits for the agent's death and starts the next one; false if it goes on
// living for so long that it has come through.
func (m *mortal) die(c *crash) bool {
	select {
	case <-c.dead:
	case <-time.After(5 * time.Minute):
		return false
	}
	m.start(0, false)
	return true
}

func (m *mortal) end() {
	for _, f := range m.over {
		f()
	}
	if err := m.vol.Purge(); err != nil {
		m.t.Error(err)
	}
}

// alive are the containers that run, by name; two of one name are a mistake.
func (m *mortal) alive() map[string]string {
	list, err := m.r.List(context.Background())
	if err != nil {
		m.t.Fatal(err)
	}
	out := map[string]string{}
	for _, s := range list {
		if s.State != container.Running {
			continue
		}
		if other := out[s.Name]; other != "" {
			m.t.Errorf("%s runs twice: %s and %s", s.Name, other, s.ID)
		}
		out[s.Name] = s.ID
	}
	return out
}

func (m *mortal) left() string {
	var left []string
	list, err := m.r.List(context.Background())
	if err != nil {
		m.t.Fatal(err)
	}
	for _, s := range list {
		left = append(left, "container "+s.ID)
	}
	add := func(what string, ids []string, err error) {
		if err != nil {
			m.t.Error(err)
		}
		for _, id := range ids {
			left = append(left, what+" "+id)
		}
	}
	ids, err := fake.Sandboxes{Runtime: m.r}.Pods()
	add("namespaces", ids, err)
	ids, err = m.vol.Pods()
	add("volumes", ids, err)
	if n := m.net.count(); n > 0 {
		left = append(left, fmt.Sprintf("%d addresses", n))
	}
	entries, _ := os.ReadDir(filepath.Join(m.dir, "etc"))
	for _, e := range entries {
		left = append(left, "etc "+e.Name())
	}
	return strings.Join(left, ", ")
}

var mortalPod = object.PodTemplate{
	Reads:   map[string]string{"config_map/conf": "aaa"},
	Volumes: []object.Volume{{Name: "conf", ConfigMap: "conf"}},
	Init:    []object.Container{{Name: "first", Image: "init:1", Pull: "missing"}, {Name: "second", Image: "init:1", Pull: "missing"}},
	Containers: []object.Container{
		{Name: "web", Image: "web:1", Mounts: []object.Mount{{Volume: "conf", Path: "/conf"}}}, {Name: "side", Image: "side:1"},
	},
}

// up brings a pod up and then has the agent die: left steps on, before or after the
// last of them.
func (m *mortal) up(t *testing.T, left int, after bool) (*crash, object.Ref) {
	t.Helper()
	c := m.start(0, false)
	ref := m.m.create("p", mortalPod)
	m.m.wait(t, ref, time.Minute, "ready", ready)
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left, c.after = left, after
	return c, ref
}

// TestAnAgentIsKilledBetweenAnyTwoSteps: whatever an agent was about, the next one
// brings it to its end. Nothing runs twice, what ran goes on, nothing is left.
func TestAnAgentIsKilledBetweenAnyTwoSteps(t *testing.T) {
	phases := map[string]func(t *testing.T, m *mortal, left int, after bool) (died string){
		// A pod comes up.
		"start": func(t *testing.T, m *mortal, left int, after bool) string {
			c := m.start(left, after)
			ref := m.m.create("p", mortalPod)
			var before map[string]string
			select {
			case <-c.dead:
				before = m.alive()
			case <-time.After(5 * time.Minute):
				return ""
			}
			m.start(0, false)
			s := m.m.wait(t, ref, 10*time.Minute, "ready", ready)
			now := m.alive()
			if len(now) != 2 || now["web"] == "" || now["side"] == "" {
				t.Errorf("running: %v", now)
			}
			for name, id := range before {
				if now[name] != "" && now[name] != id {
					t.Errorf("%s was running as %s and runs as %s", name, id, now[name])
				}
			}
			for _, c := range s.Containers {
				if c.State == "running" && now[c.Name] != c.ID {
					t.Errorf("the masters take %s for %s, which is %s", c.Name, c.ID, now[c.Name])
				}
			}
			m.m.stop(ref)
			m.m.wait(t, ref, 10*time.Minute, "stopped", phase(object.PodStopped))
			m.m.remove(ref)
			return c.at
		},
		// A container of a pod that is up ends, and comes again.
		"restart": func(t *testing.T, m *mortal, left int, after bool) string {
			c, ref := m.up(t, left, after)
			before := m.alive()
			m.r.Kill(before["web"], 3, false)
			if !m.die(c) {
				return ""
			}
			m.m.wait(t, ref, 10*time.Minute, "ready again", func(s object.PodStatus) bool {
				return s.Ready && len(s.Containers) == 4 && s.Containers[2].Restarts == 1
			})
			now := m.alive()
			if now["side"] != before["side"] || now["web"] == "" || len(now) != 2 {
				t.Errorf("running: %v, before: %v", now, before)
			}
			m.m.stop(ref)
			m.m.wait(t, ref, 10*time.Minute, "stopped", phase(object.PodStopped))
			m.m.remove(ref)
			return c.at
		},
		// A pod is stopped, and its row goes when it has said so.
		"stop": func(t *testing.T, m *mortal, left int, after bool) string {
			c, ref := m.up(t, left, after)
			m.m.stop(ref)
			if !m.die(c) {
				return ""
			}
			m.m.wait(t, ref, 10*time.Minute, "stopped", phase(object.PodStopped))
			if now := m.alive(); len(now) > 0 {
				t.Errorf("running: %v", now)
			}
			m.m.remove(ref)
			return c.at
		},
		// The row of a pod goes while it runs.
		"removal": func(t *testing.T, m *mortal, left int, after bool) string {
			c, ref := m.up(t, left, after)
			m.m.remove(ref)
			if !m.die(c) {
				return ""
			}
			return c.at
		},
	}
	names := []string{"start", "restart", "stop", "removal"}
	for _, name := range names {
		for _, after := range []bool{false, true} {
			var points []string
			for left := 1; ; left++ {
				died := ""
				ok := t.Run(fmt.Sprintf("%s/%d/after=%v", name, left, after), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						m := newMortal(t)
						defer m.end()
						died = phases[name](t, m, left, after)
						if died == "" {
							return
						}
						for range 120 { // the last row is gone: all else follows by itself
							if synctest.Wait(); m.left() == "" {
								break
							}
							time.Sleep(time.Second)
						}
						if l := m.left(); l != "" {
							t.Errorf("killed at %s; left: %s", died, l)
						}
					})
				})
				if !ok {
					t.Logf("%s: killed at step %d, %q", name, left, died)
				}
				if died == "" {
					break
				}
				points = append(points, died)
			}
			if min := map[string]int{"start": 12, "restart": 2, "stop": 6, "removal": 5}[name]; len(points) < min {
				t.Errorf("%s: killed at %d points only: %q", name, len(points), points)
			}
			if slices.Contains(points, "") {
				t.Errorf("%s: %q", name, points)
			}
		}
	}
}

// TestAfterAReboot: nothing runs, and what init containers did to namespaces and to
// memory is gone, so they do it again; those of a pod that has ended do not.
func TestAfterAReboot(t *testing.T) {
	for restart, again := range map[string]int{"always": 1, "on_failure": 1, "never": 0} {
		t.Run(restart, func(t *testing.T) {
			inBubble(t, fake.Script{"init:1": {Exit: time.Second}}, func(w *world) {
				template := one("web:1")
				template.Restart = restart
				template.Init = []object.Container{{Name: "first", Image: "init:1", Pull: "missing"}}
				ref := w.m.create("p", template)
				s := w.m.wait(t, ref, time.Minute, "ready", ready)
				w.stop()
				w.r.Kill(s.Containers[1].ID, -1, false)
				sandboxes := fake.Sandboxes{Runtime: w.r}
				pods, err := sandboxes.Pods()
				if err != nil || len(pods) != 1 {
					t.Fatalf("namespaces of %v, %v", pods, err)
				}
				if err := sandboxes.Remove(pods[0]); err != nil {
					t.Fatal(err)
				}
				before := w.r.Starts()
				w.start()
				if again > 0 {
					s = w.m.wait(t, ref, 10*time.Minute, "ready again", func(s object.PodStatus) bool { return s.Ready && s.Containers[1].Restarts == 1 })
				} else {
					s = w.m.wait(t, ref, 10*time.Minute, "failed", phase(object.PodFailed))
				}
				if n := w.r.Starts() - before; n != 2*again || s.Containers[0].Restarts != again || s.Containers[0].State != "exited" {
					t.Errorf("%d starts, status %+v", n, s.Containers)
				}
			})
		})
	}
}

// TestAnImageThatDoesNotFit is the node's trouble, not the image's.
func TestAnImageThatDoesNotFit(t *testing.T) {
	inBubble(t, fake.Script{"web:1": {Full: true}}, func(w *world) {
		ref := w.m.create("p", one("web:1"))
		s := w.m.wait(t, ref, time.Minute, "in trouble", reason(object.ReasonNodeResources))
		if !strings.Contains(s.Message, "disk") || !strings.Contains(s.Message, "Make room.") {
			t.Errorf("message %q", s.Message)
		}
		w.r.Behave("web:1", fake.Behavior{})
		w.m.wait(t, ref, 10*time.Minute, "ready", ready)
	})
}

// TestTheClockIsSetBack: a container whose end lies in the future by the clock of
// now is started again after its pause all the same.
func TestTheClockIsSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMortal(t)
		defer m.end()
		c := m.start(0, false)
		ref := m.m.create("p", mortalPod)
		m.m.wait(t, ref, time.Minute, "ready", ready)
		synctest.Wait()
		c.mu.Lock()
		c.left = 1
		c.mu.Unlock()
		m.r.Kill(m.alive()["web"], 3, false)
		m.ahead = 24 * time.Hour
		if !m.die(c) {
			t.Fatal("the agent lives")
		}
		m.m.wait(t, ref, time.Minute, "ready again", func(s object.PodStatus) bool { return s.Ready && s.Containers[2].Restarts == 1 })
	})
}

// TestCrashLoopsLeaveRoom: eighty pods that start again and again, more than the
// node can start, do not keep a good one waiting.
func TestCrashLoopsLeaveRoom(t *testing.T) {
	inBubble(t, fake.Script{"bad:1": {Start: time.Second, Crash: time.Millisecond}, "web:1": {Start: time.Second}}, func(w *world) {
		for i := range 80 {
			w.m.create(fmt.Sprintf("bad-%d", i), one("bad:1"))
		}
		time.Sleep(time.Minute)
		before := w.r.Starts()
		time.Sleep(10 * time.Second)
		if n := w.r.Starts() - before; n < 15 {
			t.Fatalf("%d starts in ten seconds: the node is not busy", n)
		}
		w.m.wait(t, w.m.create("good", one("web:1")), 5*time.Second, "ready", ready)
	})
}
