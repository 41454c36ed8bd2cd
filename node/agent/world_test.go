package agent_test

import (
	"context"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/node/agent"
	"github.com/berthdev/berth/node/fake"
	"github.com/berthdev/berth/node/probe"
	"github.com/berthdev/berth/node/runtime/container"
	"github.com/berthdev/berth/node/volume"
)

// addresses is a network without packets.
type addresses struct {
	mu   sync.Mutex
	next byte
	pods map[string]netip.Addr
}

func (n *addresses) Attach(pod, _ string) (netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a, ok := n.pods[pod]; ok {
		return a, nil
	}
	n.next++
	n.pods[pod] = netip.AddrFrom4([4]byte{10, 88, 0, n.next})
	return n.pods[pod], nil
}

func (n *addresses) Address(pod string) (netip.Addr, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, ok := n.pods[pod]
	return a, ok
}

func (n *addresses) Detach(pod string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.pods, pod)
	return nil
}

func (n *addresses) Retain(pods []string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	maps.DeleteFunc(n.pods, func(p string, _ netip.Addr) bool { return !slices.Contains(pods, p) })
	return nil
}

func (n *addresses) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.pods)
}

func (n *addresses) Purge() error { return n.Retain(nil) }

// world is a machine with a fake runtime, and the masters of its agent.
type world struct {
	t   *testing.T
	m   *masters
	r   *fake.Runtime
	net *addresses
	dir string
	vol *volume.Volumes

	tools []agent.NamedTool
	guard agent.Guard
	// connections says until when pods have some.
	connections atomic.Pointer[time.Time]
	// trouble is of the machine.
	trouble  atomic.Pointer[error]
	resolver func() netip.Addr
	agent    *agent.Agent
	kill     context.CancelFunc
	ended    chan error
}

func newWorld(t *testing.T, s fake.Script, tools ...agent.NamedTool) *world {
	t.Helper()
	dir := t.TempDir()
	vol, err := volume.Open(filepath.Join(dir, "volumes"))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, m: newMasters(), r: fake.NewRuntime(s), net: &addresses{pods: map[string]netip.Addr{}}, dir: dir, vol: vol, tools: tools}
	w.start()
	t.Cleanup(func() {
		w.stop()
		if err := vol.Purge(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) connected(string) (int, error) {
	if until := w.connections.Load(); until != nil && time.Now().Before(*until) {
		return 1, nil
	}
	return 0, nil
}

func (w *world) check() error {
	if err := w.trouble.Load(); err != nil {
		return *err
	}
	return nil
}

func (w *world) start() {
	w.t.Helper()
	w.r.Attach()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "a_tools_own_total"})
	counter.Add(7)
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(counter)
	a, err := agent.New(agent.Config{
		Node: "n1", Dir: filepath.Join(w.dir, "agent"), Labels: map[string]string{"zone": "a"}, Status: object.NodeStatus{CPU: 2000, Memory: 1 << 30},
		Masters: w.m, Runtime: w.r, Sandboxes: fake.Sandboxes{Runtime: w.r}, Network: w.net, Volumes: w.vol, Prober: probe.New(0), Tools: w.tools, Guard: w.guard, Connections: w.connected, Check: w.check, Resolver: w.resolver, Resolvers: []string{"192.0.2.53"}, Metrics: metrics,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.agent, w.kill, w.ended = a, cancel, make(chan error, 1)
	go func() { w.ended <- a.Run(ctx) }()
}

// stop ends the agent and leaves the pods.
func (w *world) stop() {
	w.t.Helper()
	if w.kill == nil {
		return
	}
	w.kill()
	if err := <-w.ended; err != nil {
		w.t.Error(err)
	}
	w.kill = nil
}

func (w *world) running() []container.Status {
	w.t.Helper()
	list, err := w.r.List(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return slices.DeleteFunc(list, func(s container.Status) bool { return s.State != container.Running })
}

// inBubble runs a test in virtual time.
func inBubble(t *testing.T, s fake.Script, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(newWorld(t, s)) })
}

func one(image string) object.PodTemplate {
	return object.PodTemplate{Containers: []object.Container{{Name: "web", Image: image}}}
}
