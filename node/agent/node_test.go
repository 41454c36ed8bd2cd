package agent_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/node/agent"
	"github.com/berthdev/berth/node/network"
	"github.com/berthdev/berth/node/probe"
	"github.com/berthdev/berth/node/proxy"
	"github.com/berthdev/berth/node/runtime"
	"github.com/berthdev/berth/node/runtime/runtimetest"
	"github.com/berthdev/berth/node/volume"
)

// TestMain runs the tests in a network namespace of their own: a real node makes
// a bridge and iptables rules.
func TestMain(m *testing.M) {
	if os.Getuid() != 0 || os.Getenv("BERTH_TEST_NETNS") != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "BERTH_TEST_NETNS=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// node is an agent with real tools.
type node struct {
	t     testing.TB
	m     *masters
	data  string
	state string
	log   *slog.Logger

	rt    *runtime.Runtime
	net   *network.Network
	agent *agent.Agent
	kill  context.CancelFunc
	ended chan error
}

var podRange = netip.MustParsePrefix("10.99.0.0/24")

func newNode(t testing.TB) *node {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a real node needs root")
	}
	if testing.Short() {
		t.Skip("real containers take a while")
	}
	for _, b := range []string{"containerd", "runc", "iptables"} {
		if _, err := exec.LookPath(b); err != nil {
			t.Fatalf("%s is missing: apt-get install containerd runc iptables", b)
		}
	}
	n := &node{t: t, m: newMasters(), data: t.TempDir(), state: "/run/berth-test-agent-" + strconv.Itoa(os.Getpid()), log: slog.New(slog.DiscardHandler)}
	if testing.Verbose() {
		n.log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil { // of the test's own namespace
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		if n.kill != nil {
			n.stop()
		}
		if err := runtime.Purge(context.Background(), n.runtimeConfig()); err != nil {
			t.Error(err)
		}
	})
	n.start()
	if _, err := n.rt.ImportImage(t.Context(), bytes.NewReader(runtimetest.Archive(t, runtimetest.Image))); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *node) runtimeConfig() runtime.Config {
	return runtime.Config{Root: filepath.Join(n.data, "containers"), State: n.state, Logger: n.log}
}

func (n *node) start() {
	n.t.Helper()
	fatal := func(err error) {
		if err != nil {
			n.t.Helper()
			n.t.Fatal(err)
		}
	}
	var err error
	n.rt, err = runtime.Open(n.t.Context(), n.runtimeConfig())
	fatal(err)
	n.net, err = network.Open(network.Config{Dir: filepath.Join(n.data, "network"), Range: podRange})
	fatal(err)
	volumes, err := volume.Open(filepath.Join(n.data, "volumes"))
	fatal(err)
	status, err := agent.Machine(agent.Capacity{}, "test", "127.0.0.1:7410", podRange.String(), nil)
	fatal(err)
	n.agent, err = agent.New(agent.Config{
		Node: "n1", Dir: filepath.Join(n.data, "agent"), Status: status, Masters: n.m, Runtime: n.rt,
		Sandboxes: runtime.Sandboxes{Dir: filepath.Join(n.state, "ns")}, Network: n.net, Volumes: volumes,
		Prober: probe.New(0), Firewall: &proxy.Masquerade{Range: podRange}, HostPorts: &proxy.HostPorts{Range: podRange, Bridge: n.net.Bridge()}, Logger: n.log,
	})
	fatal(err)
	ctx, cancel := context.WithCancel(context.Background())
	n.kill, n.ended = cancel, make(chan error, 1)
	go func() { n.ended <- n.agent.Run(ctx) }()
}

// stop ends the agent and its containerd; the pods go on.
func (n *node) stop() {
	n.t.Helper()
	n.kill()
	n.kill = nil
	if err := <-n.ended; err != nil {
		n.t.Error(err)
	}
	n.close()
}

func (n *node) close() {
	n.t.Helper()
	if err := n.rt.Close(); err != nil {
		n.t.Error(err)
	}
	n.net.Close()
}

func program(name string, args ...string) object.Container {
	return object.Container{Name: name, Image: runtimetest.Image, Args: args, Pull: "missing", StopSignal: "SIGTERM"}
}

// daemons lists the containerd processes of the node.
func (n *node) daemons() []int {
	var out []int
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		args := strings.Split(string(b), "\x00")
		if filepath.Base(args[0]) == "containerd" && strings.Contains(string(b), n.state) {
			out = append(out, pid)
		}
	}
	return out
}

func (n *node) logs(ref object.Ref, containerName string) string {
	n.t.Helper()
	s := n.m.status(ref)
	for _, c := range s.Containers {
		if c.Name == containerName {
			return strings.Join(c.LastLog, "\n")
		}
	}
	return ""
}

const soon = 60 * time.Second

// TestRealNode is one node's life with real containers.
func TestRealNode(t *testing.T) {
	n := newNode(t)
	n.m.put("default/config_map.web.aaa", map[string]string{"app.toml": "a = 1"})
	n.m.put("default/secret.db.bbb", map[string]string{"password": "hunter2"})

	// Two containers that meet on localhost, one of which needs what the init
	// container made; ready when the probe says so.
	period := object.Duration(500 * time.Millisecond)
	web := program("web", "listen", ":8080")
	web.Ports = []object.ContainerPort{{Name: "http", Port: 8080, HostPort: 18080}}
	web.Readiness = &object.Probe{TCP: &object.TCPProbe{Port: "http"}, Period: period, Timeout: object.Duration(time.Second), Success: 1, Failure: 3}
	web.Mounts = []object.Mount{{Volume: "scratch", Path: "/scratch"}}
	peer := program("peer", "wait")
	peer.Mounts = []object.Mount{{Volume: "config", Path: "/etc/app"}, {Volume: "config", Path: "/one.toml", File: "app.toml"},
		{Volume: "secret", Path: "/secret", ReadOnly: true}, {Volume: "scratch", Path: "/scratch"}}
	peer.Env = map[string]object.Text{"PASSWORD": "${secret.db.data.password}"}
	peer.Readiness = &object.Probe{Exec: &object.ExecProbe{Command: []string{"/program", "dial", "127.0.0.1:8080"}}, Period: period, Timeout: object.Duration(2 * time.Second), Success: 1, Failure: 3}
	first := program("first", "write", "/scratch/made", "by init")
	first.Mounts = []object.Mount{{Volume: "scratch", Path: "/scratch"}}
	second := program("second", "read", "/scratch/made")
	second.Mounts = first.Mounts
	main := n.m.create("main", object.PodTemplate{
		Reads: map[string]string{"config_map/web": "aaa", "secret/db": "bbb"},
		Init:  []object.Container{first, second}, Containers: []object.Container{web, peer},
		Volumes: []object.Volume{{Name: "config", ConfigMap: "web"}, {Name: "secret", Secret: "db"}, {Name: "scratch", EmptyDir: &object.EmptyDir{}}},
	})
	s := n.m.wait(t, main, soon, "ready", ready)
	if s.Address == "" || s.Containers[0].ExitCode != 0 || s.Containers[1].ExitCode != 0 {
		t.Errorf("%+v", s)
	}
	peerID, webID := s.Containers[3].ID, s.Containers[2].ID
	inside := func(id string, argv ...string) string {
		t.Helper()
		res, err := n.rt.Exec(t.Context(), id, append([]string{"/program"}, argv...), 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(res.Stdout))
	}
	for _, path := range []string{"/etc/app/app.toml", "/one.toml", "/secret/password"} { // whatever the mounts say
		res, err := n.rt.Exec(t.Context(), peerID, []string{"/program", "write", path, "x"}, 10*time.Second)
		if err != nil || res.ExitCode == 0 || !strings.Contains(string(res.Stderr)+string(res.Stdout), "read-only") {
			t.Errorf("%s can be written: %+v %v", path, res, err)
		}
	}
	for _, tt := range []struct {
		argv []string
		want string
	}{
		{[]string{"read", "/etc/app/app.toml"}, "a = 1"},
		{[]string{"read", "/one.toml"}, "a = 1"},
		{[]string{"read", "/secret/password"}, "hunter2"},
		{[]string{"read", "/scratch/made"}, "by init"},
		{[]string{"env", "PASSWORD"}, "hunter2"},
		{[]string{"hostname"}, "main"},
		{[]string{"dial", s.Address + ":8080"}, "hello"},
	} {
		if got := inside(peerID, tt.argv...); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.argv, got, tt.want)
		}
	}
	if hosts := inside(peerID, "read", "/etc/hosts"); !strings.Contains(hosts, s.Address+" main") {
		t.Errorf("/etc/hosts: %s", hosts)
	}

	n.expectHostPort(t)

	t.Run("a killed process is started again", func(t *testing.T) {
		list, err := n.rt.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range list {
			if c.ID == webID {
				if err := syscall.Kill(c.PID, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
		}
		got := n.m.wait(t, main, soon, "restarted", func(s object.PodStatus) bool { return s.Ready && s.Containers[2].Restarts == 1 })
		if got.Address != s.Address || got.Containers[3].ID != peerID {
			t.Errorf("more than the container changed: %+v", got)
		}
		webID = got.Containers[2].ID
	})

	t.Run("why a pod does not run", func(t *testing.T) {
		crash := n.m.create("crash", object.PodTemplate{Containers: []object.Container{program("c", "read", "/no/such/file")}})
		fat := program("c", "eat")
		fat.Resources.Limits.Memory = 32 << 20
		oom := n.m.create("oom", object.PodTemplate{Containers: []object.Container{fat}})
		absent := program("c", "wait")
		absent.Image, absent.Pull = "berth-test/absent:1", "never"
		image := n.m.create("image", object.PodTemplate{Containers: []object.Container{absent}})

		n.m.wait(t, image, soon, "image_not_found", reason(object.ReasonImageNotFound))
		n.m.wait(t, oom, soon, "oom_killed", func(s object.PodStatus) bool {
			return len(s.Containers) > 0 && s.Containers[0].Reason == object.ReasonOOM
		})
		got := n.m.wait(t, crash, soon, "crash_loop", reason(object.ReasonCrashLoop))
		if !strings.Contains(n.logs(crash, "c"), "no such file") || got.Containers[0].ExitCode != 1 {
			t.Errorf("%+v", got)
		}
		for _, ref := range []object.Ref{crash, oom, image} {
			n.m.stop(ref)
			n.m.wait(t, ref, soon, "stopped", phase(object.PodStopped))
			n.m.remove(ref)
		}
	})

	t.Run("a restarted agent adopts", func(t *testing.T) {
		before := n.m.status(main)
		n.m.setAway(true) // and there is nobody to ask
		n.stop()
		n.start()
		n.m.setAway(false)
		extra := n.m.create("extra", object.PodTemplate{Containers: []object.Container{program("c", "wait")}})
		n.m.wait(t, extra, soon, "ready", ready)
		got := n.m.wait(t, main, soon, "ready", ready)
		if got.Containers[2].ID != before.Containers[2].ID || got.Containers[3].ID != before.Containers[3].ID || got.Address != before.Address {
			t.Errorf("disturbed:\n%+v\n%+v", before, got)
		}
		if out := inside(peerID, "dial", got.Address+":8080"); out != "hello" {
			t.Errorf("the pod answers %q", out)
		}
		n.expectHostPort(t)
	})

	t.Run("containerd is killed", func(t *testing.T) {
		pids := n.daemons()
		if len(pids) != 1 {
			t.Fatalf("containerd processes %v", pids)
		}
		if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		after := n.m.create("after", object.PodTemplate{Containers: []object.Container{program("c", "wait")}})
		n.m.wait(t, after, soon, "ready", ready)
		got := n.m.wait(t, main, soon, "ready", ready)
		if got.Containers[3].ID != peerID || got.Containers[3].Restarts != 0 {
			t.Errorf("disturbed: %+v", got)
		}
	})

	t.Run("a clean end leaves nothing", func(t *testing.T) {
		n.agent.Purge()
		if err := <-n.ended; err != nil {
			t.Fatal(err)
		}
		n.kill()
		n.kill = nil
		if list, err := n.rt.List(t.Context()); err != nil || len(list) > 0 {
			t.Errorf("containers left: %v, %v", list, err)
		}
		if err := n.rt.Purge(t.Context()); err != nil {
			t.Error(err)
		}
		n.net.Close()
		n.expectNothing(t)
	})
}

// expectHostPort calls the pod that claims port 18080 of the node.
func (n *node) expectHostPort(t *testing.T) {
	t.Helper()
	for _, host := range []string{"127.0.0.1", n.net.Gateway().String()} {
		c, err := net.DialTimeout("tcp", host+":18080", 5*time.Second)
		if err != nil {
			t.Error(err)
			continue
		}
		if b, _ := io.ReadAll(c); string(b) != "hello\n" {
			t.Errorf("%s:18080 answers %q", host, b)
		}
		c.Close()
	}
}

// expectNothing looks for what a node may leave behind.
func (n *node) expectNothing(t *testing.T) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, n.data) || strings.Contains(line, n.state) {
			t.Errorf("mount left: %s", line)
		}
	}
	links, err := os.ReadDir("/proc/self/net/dev_snmp6")
	if err == nil {
		for _, l := range links {
			if l.Name() != "lo" && strings.HasPrefix(l.Name(), "b") {
				t.Errorf("interface left: %s", l.Name())
			}
		}
	}
	out, err := exec.Command("sh", "-c", "ip -o link; iptables -S; iptables -t nat -S").CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "BERTH") || strings.Contains(line, "berth") || strings.Contains(line, "veth") || strings.Contains(line, ": bv") {
			t.Errorf("left: %s", line)
		}
	}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		b, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if _, err := strconv.Atoi(e.Name()); err == nil && strings.Contains(string(b), n.state) {
			t.Errorf("process left: %s %q", e.Name(), b)
		}
	}
	for _, p := range []string{"agent/checkpoint.json", "agent/etc", "volumes", "network/addresses.json"} {
		if _, err := os.Stat(filepath.Join(n.data, p)); err == nil {
			t.Errorf("file left: %s", p)
		}
	}
}

// BenchmarkPods is the time from the bind of a pod to its being reported ready,
// one after the other and many at once; the image is there. pods/s is how many
// become ready in a second.
func BenchmarkPods(b *testing.B) {
	for name, wave := range map[string]int{"one": 1, "wave": 30} {
		b.Run(name, func(b *testing.B) {
			n := newNode(b)
			started := 0
			b.ResetTimer() // the node's own start and its image are not the pods'
			for i := 0; i < b.N; i += wave {
				var refs []object.Ref
				for j := range wave {
					refs = append(refs, n.m.create(fmt.Sprintf("p-%d-%d", i, j), object.PodTemplate{Containers: []object.Container{program("c", "wait")}}))
				}
				for _, ref := range refs {
					n.m.wait(b, ref, soon, "ready", ready)
				}
				b.StopTimer()
				started += wave
				for _, ref := range refs {
					n.m.stop(ref)
				}
				for _, ref := range refs {
					n.m.wait(b, ref, soon, "stopped", phase(object.PodStopped))
					n.m.remove(ref)
				}
				b.StartTimer()
			}
			b.StopTimer()
			b.ReportMetric(float64(started)/b.Elapsed().Seconds(), "pods/s")
			n.agent.Purge()
			if err := <-n.ended; err != nil {
				b.Fatal(err)
			}
			n.kill()
			n.kill = nil
			n.close()
		})
	}
}

func TestNoMorePodsThanAddresses(t *testing.T) {
	for r, want := range map[string]int{"10.78.1.0/24": 110, "10.78.1.0/26": 61, "10.78.1.0/28": 13, "": 110} {
		s, err := agent.Machine(agent.Capacity{}, "1", "n1:7410", r, nil)
		if err != nil || s.Pods != want || s.PodRange != r {
			t.Errorf("%q: %d pods, range %q, %v; want %d", r, s.Pods, s.PodRange, err, want)
		}
	}
}
