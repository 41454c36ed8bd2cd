package proxy

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/cluster/object"
)

// place is a thread in a network namespace of its own, on which functions run.
type place struct {
	tid  int
	jobs chan func()
}

func newPlace(t testing.TB) *place {
	t.Helper()
	p := &place{jobs: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		p.tid = unix.Gettid()
		ready <- err
		for job := range p.jobs {
			job()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(p.jobs) })
	return p
}

func (p *place) do(f func()) {
	done := make(chan struct{})
	p.jobs <- func() { f(); close(done) }
	<-done
}

// sh runs a command in the place, or in the test's own namespace without one.
func (p *place) sh(t testing.TB, script string) {
	t.Helper()
	if p != nil {
		script = fmt.Sprintf("nsenter --net=/proc/%d/task/%d/ns/net sh -ec '%s'", os.Getpid(), p.tid, script)
	}
	if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
}

// serve answers on TCP and UDP with the caller's address.
func (p *place) serve(t testing.TB, addr string) {
	t.Helper()
	var l net.Listener
	var u net.PacketConn
	var err error
	p.do(func() {
		if l, err = net.Listen("tcp", addr); err == nil {
			u, err = net.ListenPacket("udp", addr)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); u.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, c.RemoteAddr())
			c.Close()
		}
	}()
	go func() {
		b := make([]byte, 100)
		for {
			_, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = u.WriteTo([]byte(from.String()), from)
		}
	}()
}

// call asks whom the server sees; empty if nothing answers.
func (p *place) call(network, addr string) string {
	var c net.Conn
	var err error
	dial := func() { c, err = net.DialTimeout(network, addr, patience) }
	if p != nil {
		p.do(dial)
	} else {
		dial()
	}
	if err != nil {
		return ""
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if network == "udp" {
		_, _ = c.Write([]byte("who am I?"))
		b := make([]byte, 100)
		n, _ := c.Read(b)
		return string(b[:n])
	}
	b, _ := io.ReadAll(c)
	return string(b)
}

// TestHostPorts calls a pod by a port of its node from another machine, from the
// node, from a neighbour and from the pod itself.
func TestHostPorts(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("iptables needs root")
	}
	for _, tool := range []string{"iptables", "ip", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(tool + " is not installed")
		}
	}
	var node *place // the test's own namespace
	pod, neighbour, outside := newPlace(t), newPlace(t), newPlace(t)
	node.sh(t, `ip link set lo up; echo 1 > /proc/sys/net/ipv4/ip_forward
		ip link add br0 type bridge; ip addr add 10.77.1.1/24 dev br0; ip link set br0 up`)
	t.Cleanup(func() { node.sh(t, "for l in p0 p1 out br0; do ip link del $l 2>/dev/null || true; done") }) // namespaces end later than tests
	for i, p := range []*place{pod, neighbour} {
		node.sh(t, fmt.Sprintf("ip link add p%[1]d type veth peer name eth0 netns %[2]d; ip link set p%[1]d master br0 up; ip link set p%[1]d type bridge_slave hairpin on", i, p.tid))
		p.sh(t, fmt.Sprintf("ip link set lo up; ip addr add 10.77.1.%d/24 dev eth0; ip link set eth0 up; ip route add default via 10.77.1.1", i+2))
	}
	node.sh(t, fmt.Sprintf("ip link add out type veth peer name eth0 netns %d; ip addr add 192.0.2.1/24 dev out; ip link set out up", outside.tid))
	outside.sh(t, "ip link set lo up; ip addr add 192.0.2.2/24 dev eth0; ip link set eth0 up; ip route add default via 192.0.2.1")
	pod.serve(t, "10.77.1.2:8080")
	private, err := net.Listen("tcp", "127.0.0.1:9999") // what the machine offers to itself alone
	if err != nil {
		t.Fatal(err)
	}
	defer private.Close()

	before := save(t)
	masquerade := &Masquerade{Range: netip.MustParsePrefix("10.77.1.0/24")}
	if err := masquerade.Ensure(); err != nil {
		t.Fatal(err)
	}
	without := save(t)
	newHostPorts := func() *HostPorts { return &HostPorts{Range: netip.MustParsePrefix("10.77.1.0/24"), Bridge: "br0"} }
	h := newHostPorts()
	if err := h.Ensure(); err != nil {
		t.Fatal(err)
	}
	if after := save(t); after != without {
		t.Errorf("a machine without host ports got rules:\n%s", after)
	}
	addr := netip.MustParseAddr("10.77.1.2")
	ports := []object.ContainerPort{{Name: "a", Port: 8080, HostPort: 18080}, {Name: "b", Port: 8080, HostPort: 18081, Protocol: "udp"}, {Name: "c", Port: 8081}}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(h.Forward("default.web-0.12", addr, ports))
	first := save(t)
	reached := func(where string) {
		t.Helper()
		for _, c := range []struct {
			from       *place
			name, addr string
			seen       string // as whom the pod sees the caller
		}{
			{outside, "another machine", "192.0.2.1", "192.0.2.2"},
			{node, "the node by its address", "192.0.2.1", "10.77.1.1"},
			{node, "the node by 127.0.0.1", "127.0.0.1", "10.77.1.1"},
			{neighbour, "a neighbour", "192.0.2.1", "10.77.1.1"},
			{pod, "the pod itself", "10.77.1.1", "10.77.1.1"},
		} {
			for network, port := range map[string]string{"tcp": "18080", "udp": "18081"} {
				saw, _, _ := strings.Cut(c.from.call(network, c.addr+":"+port), ":")
				if saw == "" || c.from != node && saw != c.seen {
					t.Errorf("%s: %s %s from %s: the pod saw %q, want %q", where, network, c.addr, c.name, saw, c.seen)
				}
			}
		}
	}
	reached("at first")
	if got := neighbour.call("tcp", "10.77.1.2:8080"); !strings.HasPrefix(got, "10.77.1.3:") {
		t.Errorf("a call that is of no host port was seen from %q", got)
	}
	// route_localnet opens nothing: a packet for 127.0.0.1 that a pod sends out by its interface.
	neighbour.sh(t, "ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.0/8 via 10.77.1.1 src 10.77.1.3; echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet; ip route del local 127.0.0.0/8 table local 2>/dev/null || true")
	dialed := make(chan error, 1)
	neighbour.do(func() {
		c, err := net.DialTimeout("tcp", "127.0.0.1:9999", 300*time.Millisecond)
		if err == nil {
			c.Close()
		}
		dialed <- err
	})
	if err := <-dialed; err == nil {
		t.Error("a pod reaches what the node offers at 127.0.0.1 alone")
	}

	must(h.Forward("default.web-0.12", addr, ports))
	must(h.Ensure())
	if again := save(t); again != first {
		t.Errorf("repeated, the rules changed\n%s\nto\n%s", first, again)
	}
	// Somebody flushes everything.
	node.sh(t, "iptables -t nat -F; iptables -F INPUT")
	must(masquerade.Ensure())
	must(h.Ensure())
	reached("after a flush")

	// The process ends; another one claims one pod and knows nothing of the other.
	must(h.Forward("default.other.13", netip.MustParseAddr("10.77.1.9"), []object.ContainerPort{{Port: 1, HostPort: 19090}}))
	h = newHostPorts()
	must(h.Ensure())
	if !strings.Contains(save(t), "--dport 19090") {
		t.Error("a new process threw away what it did not know yet")
	}
	must(h.Forward("default.web-0.12", addr, ports))
	must(h.Retain([]string{"default.web-0.12"}))
	if s := save(t); strings.Contains(s, "19090") {
		t.Errorf("rules of a pod that is gone stayed:\n%s", s)
	}
	reached("after a restart")

	// Gone with the pod, and from a process that never saw it.
	for range 2 {
		must(newHostPorts().Release("default.web-0.12"))
	}
	if got := outside.call("tcp", "192.0.2.1:18080"); got != "" {
		t.Errorf("the released port still leads to %s", got)
	}
	must(h.Release("default.web-0.12"))
	for range 2 {
		must(h.Purge())
	}
	must(masquerade.Purge())
	if after := save(t); after != before {
		t.Errorf("Purge left\n%s\ninstead of\n%s", after, before)
	}
}

func TestHostPortMark(t *testing.T) {
	long := strings.Repeat("n", 300)
	for _, pod := range []string{"default.web-0.12", long + "1", long + "2"} {
		m := mark(pod)
		if len(m) > 255 || markOf(`-A X --comment "`+m+`" -j Y`) != m {
			t.Errorf("%s: mark %s", pod, m)
		}
	}
	if mark(long+"1") == mark(long+"2") {
		t.Error("two pods with one mark")
	}
	if slices.Contains([]string{markOf("-N BERTH-HOSTPORT"), markOf(`-A X -m comment --comment "somebody's" -j Y`)}, mark("")) {
		t.Error("a foreign rule taken for ours")
	}
}
