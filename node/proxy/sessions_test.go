package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/cluster/object"
)

// from dials with a source port of its own and hangs up without form, so that the
// port can be used again at once.
func (p *place) from(port int, addr string) (string, error) {
	var c net.Conn
	var err error
	p.do(func() {
		d := net.Dialer{LocalAddr: &net.TCPAddr{Port: port}, Timeout: 300 * time.Millisecond} // before the kernel tries again
		c, err = d.Dial("tcp", addr)
	})
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.(*net.TCPConn).SetLinger(0)
	return question(c), nil
}

// leading counts the node's connections that lead to a pod, by state.
func leading(t *testing.T, pod string) map[uint8]int {
	t.Helper()
	flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	if err != nil {
		t.Fatal(err)
	}
	n := map[uint8]int{}
	for _, f := range flows {
		from, _ := addrPort(f.Reverse.SrcIP, f.Reverse.SrcPort)
		to, _ := addrPort(f.Forward.DstIP, f.Forward.DstPort)
		if info, ok := f.ProtoInfo.(*netlink.ProtoInfoTCP); ok && from.String() == pod && to != from {
			n[info.State]++
		}
	}
	return n
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not come about that %s", what)
		}
	}
}

// TestSourcePortsComeAgain: a pod goes for good, and leaves behind connections in all
// states. Whoever uses their ports again reaches another pod.
func TestSourcePortsComeAgain(t *testing.T) {
	s := newSite(t)
	s.serveAll(t)
	s.pods[0].serve(t, "10.77.1.2:9090")
	s.far.serve(t, "10.77.2.2:9090")
	once := newService("once", "10.79.0.6", portHTTP) // its server hangs up first
	short := map[string]int{"http": 9090}
	services := []*object.Service{once, web()}
	apply := func(ready, leaving []object.Endpoint) {
		t.Helper()
		with := func(name string, change func(object.Endpoint) object.Endpoint) *object.Endpoints {
			e := newEndpoints(name)
			for _, x := range ready {
				e.Spec.Ready = append(e.Spec.Ready, change(x))
			}
			for _, x := range leaving {
				e.Spec.Leaving = append(e.Spec.Leaving, change(x))
			}
			return e
		}
		s.apply(t, services, []*object.Endpoints{
			with("once", func(e object.Endpoint) object.Endpoint { e.Ports = short; return e }),
			with("web", func(e object.Endpoint) object.Endpoint { return e }),
		})
	}
	client := s.pods[1]
	client.sh(t, "echo 1 > /proc/sys/net/ipv4/tcp_orphan_retries") // it gives a dead pod up soon
	apply([]object.Endpoint{podFar}, nil)

	// Ended in due form.
	ended := []int{41000, 41001, 41002}
	for _, port := range ended {
		var err error
		client.do(func() {
			var c net.Conn
			d := net.Dialer{LocalAddr: &net.TCPAddr{Port: port}}
			if c, err = d.Dial("tcp", "10.79.0.6:80"); err == nil {
				_, err = io.ReadAll(c)
				c.Close()
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	until(t, "what ended is known to have", func() bool { return leading(t, "10.77.2.2:9090")[tcpTimeWait] == len(ended) })
	// Open, and forgotten by a caller who could not tell the pod so.
	open := []int{42000, 42001, 42002}
	var conns []*net.TCPConn
	for _, port := range open {
		var c net.Conn
		var err error
		client.do(func() {
			d := net.Dialer{LocalAddr: &net.TCPAddr{Port: port}}
			c, err = d.Dial("tcp", "10.79.0.5:80")
		})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got := question(c); !strings.HasPrefix(got, "far ") {
			t.Fatal(got)
		}
		conns = append(conns, c.(*net.TCPConn))
	}
	s.far.sh(t, "ip addr del 10.77.2.2/32 dev lo; echo 1 > /proc/sys/net/ipv4/ip_forward; ip route add unreachable 10.77.2.2/32")
	for _, c := range conns[:2] {
		c.Close()
	}
	until(t, "the caller has given up", func() bool {
		busy := false
		client.do(func() {
			b, err := os.ReadFile("/proc/thread-self/net/tcp")
			busy = err != nil || strings.Contains(string(b), fmt.Sprintf(":%04X ", open[0])) || strings.Contains(string(b), fmt.Sprintf(":%04X ", open[1]))
		})
		return !busy
	})
	// The pod is dead, but nobody knows yet.
	var unanswered []int
	for port := 43000; port < 43005; port++ {
		if got, err := client.from(port, "10.79.0.5:80"); err == nil {
			t.Fatalf("%s answers from a pod that is dead", got)
		}
		unanswered = append(unanswered, port)
	}
	for port := 43000; port < 43005; port++ {
		if got, err := s.outside.from(port, "192.0.2.1:30080"); err == nil {
			t.Fatalf("%s answers from a pod that is dead", got)
		}
	}
	closing := func(n map[uint8]int) int { return n[4] + n[5] + n[6] } // the kernel takes an end said twice for both
	before := leading(t, "10.77.2.2:8080")
	if before[tcpSynSent] != 10 || closing(before) != 2 || before[3] != 1 {
		t.Fatalf("the kernel knows other connections than the test is about: %v", before)
	}
	try := func(what string, ports []int, addr string, from *place) {
		t.Helper()
		for _, port := range ports {
			if got, err := from.from(port, addr); err != nil || got == "" {
				t.Errorf("%s, from port %d: %q %v", what, port, got, err)
			}
		}
	}

	// It leaves: what it has not answered goes elsewhere, what it may yet answer stays.
	apply([]object.Endpoint{podA}, []object.Endpoint{podFar})
	if err := s.services.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := leading(t, "10.77.2.2:8080"); after[tcpSynSent] != 0 || closing(after) != 2 || after[3] != 1 {
		t.Errorf("of %v these are known when the pod left: %v", before, after)
	}
	try("once not answered", unanswered, "10.79.0.5:80", client)
	try("once not answered, by a node port", unanswered, "192.0.2.1:30080", s.outside)
	if k := s.services.sessions.next(time.Now().Add(-goneTime), true, layout{}, nil); k != nil {
		t.Errorf("still looking: %v", k)
	}

	// It is gone, and nothing leads there.
	apply([]object.Endpoint{podA}, nil)
	until(t, "connections are looked for", func() bool {
		if _, err := s.services.Ensure(t.Context()); err != nil {
			t.Fatal(err)
		}
		return len(s.services.sessions.gone) == 0
	})
	if after := leading(t, "10.77.2.2:8080"); len(after) > 0 { // none of them had ended in due form
		t.Errorf("of %v these are known when the pod is gone: %v", before, after)
	}
	conns[2].SetLinger(0)
	conns[2].Close()
	try("once open", open, "10.79.0.5:80", client)
	try("once ended", ended, "10.79.0.6:80", client)
}

// TestAPodResets: a pod ends while callers have connections open, which it resets.
// They use the ports again at once, and reach another pod.
func TestAPodResets(t *testing.T) {
	s := newSite(t)
	s.serveAll(t)
	var l net.Listener
	var err error
	s.far.do(func() { l, err = net.Listen("tcp", "10.77.2.2:9090") })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := func(e object.Endpoint) object.Endpoint { e.Ports = map[string]int{"http": 9090}; return e }
	apply := func(spec object.EndpointsSpec) {
		t.Helper()
		e := newEndpoints("web")
		e.Spec = spec
		s.apply(t, []*object.Service{web()}, []*object.Endpoints{e})
		if err := s.services.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	apply(object.EndpointsSpec{Ready: []object.Endpoint{at(podFar)}})
	type caller struct {
		from *place
		addr string
	}
	callers := []caller{{s.pods[1], "10.79.0.5:80"}, {s.outside, "192.0.2.1:30080"}}
	var kept, served []net.Conn
	for i, c := range callers {
		var conn net.Conn
		c.from.do(func() {
			d := net.Dialer{LocalAddr: &net.TCPAddr{Port: 41000 + i}, Timeout: 5 * time.Second}
			conn, err = d.Dial("tcp", c.addr)
		})
		if err != nil {
			t.Fatal(err)
		}
		in, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		kept, served = append(kept, conn), append(served, in)
	}
	apply(object.EndpointsSpec{Ready: []object.Endpoint{podA}, Leaving: []object.Endpoint{at(podFar)}})
	for i, in := range served {
		_ = in.(*net.TCPConn).SetLinger(0)
		in.Close()
		if _, err := kept[i].Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			t.Fatalf("the caller has not been reset: %v", err)
		}
		kept[i].Close()
	}
	for i, c := range callers {
		if got, err := c.from.from(41000+i, c.addr); err != nil || !strings.HasPrefix(got, "a ") {
			t.Errorf("%s from the same port: %q %v", c.addr, got, err)
		}
	}
}

// TestHalfClosed: what a caller has asked for, and said that it will not ask for more,
// arrives although the pod leaves.
func TestHalfClosed(t *testing.T) {
	s := newSite(t)
	goOn, asked := make(chan bool), make(chan bool)
	var l net.Listener
	var err error
	s.pods[0].do(func() { l, err = net.Listen("tcp", "10.77.1.2:8080") })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.Copy(io.Discard, c)
		asked <- true
		<-goOn
		_, _ = io.WriteString(c, "all of it")
	}()
	s.apply(t, []*object.Service{web()}, []*object.Endpoints{newEndpoints("web", podA)})
	c, err := s.pods[1].dial("tcp", "10.79.0.5:80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	<-asked
	eps := newEndpoints("web")
	eps.Spec.Leaving = []object.Endpoint{podA}
	s.apply(t, []*object.Service{web()}, []*object.Endpoints{eps})
	s.services.sessions.began = s.services.sessions.began.Add(-goneTime) // all that an earlier process may have left is looked for, too
	if err := errors.Join(s.services.Drain(t.Context()), func() error { _, err := s.services.Ensure(t.Context()); return err }()); err != nil {
		t.Fatal(err)
	}
	if !s.services.sessions.begun {
		t.Error("nothing was looked for")
	}
	goOn <- true
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if b, err := io.ReadAll(c); err != nil || string(b) != "all of it" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestSessions: which connections end, after which changes.
func TestSessions(t *testing.T) {
	build := func(ready []object.Endpoint, leaving ...object.Endpoint) *part {
		eps := newEndpoints("web", ready...)
		eps.Spec.Leaving = leaving
		return testLayout.part(web(), eps)
	}
	pods := func(p ...object.Endpoint) []object.Endpoint { return p }
	ab, b := build(pods(podA, podB)), build(pods(podB))
	leaving := build(pods(podB), podA)
	const syn, established, finWait, a, virtual, node = 1, 3, 4, "10.77.1.2:8080", "10.79.0.5:80", "192.0.2.1:30080"
	now := time.Unix(1000, 0)
	for _, c := range []struct {
		name    string
		applies [][]change
		later   time.Duration
		state   uint8
		by, pod string
		seen    bool // whether it was met before
		want    bool
	}{
		{"unanswered for the first time", [][]change{{{ab, leaving}}}, 0, syn, virtual, a, false, false},
		{"unanswered", [][]change{{{ab, leaving}}}, 0, syn, virtual, a, true, true},
		{"unanswered, by a node port", [][]change{{{ab, leaving}}}, 0, syn, node, a, true, true},
		{"unanswered by one that stays", [][]change{{{ab, leaving}}}, 0, syn, virtual, "10.77.1.3:8080", true, false},
		{"another service's", [][]change{{{ab, leaving}}}, 0, syn, "10.79.0.6:80", a, true, false},
		{"another machine's node port", [][]change{{{ab, leaving}}}, 0, syn, "192.0.2.9:30080", a, true, false},
		{"answered", [][]change{{{ab, leaving}}}, time.Hour, 2, virtual, a, true, false},
		{"established", [][]change{{{ab, leaving}}}, time.Hour, established, virtual, a, true, false},
		{"half closed", [][]change{{{ab, leaving}}}, time.Hour, finWait, virtual, a, true, false},
		{"established, just gone", [][]change{{{ab, leaving}}, {{leaving, b}}}, goneTime - 1, established, virtual, a, false, false},
		{"established, gone", [][]change{{{ab, leaving}}, {{leaving, b}}}, goneTime, established, virtual, a, false, true},
		{"gone at once", [][]change{{{ab, b}}}, goneTime, finWait, node, a, false, true},
		{"ended in due form", [][]change{{{ab, b}}}, goneTime, tcpTimeWait, virtual, a, false, false},
		{"gone and back", [][]change{{{ab, b}}, {{b, ab}}}, goneTime, syn, virtual, a, true, false},
		{"gone and back, noted twice", [][]change{{{ab, b}}, {{b, ab}}, {{ab, b}}, {{b, ab}}}, goneTime, established, virtual, a, true, false},
		{"gone and back, leaving", [][]change{{{ab, b}}, {{b, leaving}}}, goneTime, established, virtual, a, true, false},
		{"the service is no more", [][]change{{{ab, nil}}}, goneTime, established, virtual, a, true, false},
		{"the service is no more, unanswered", [][]change{{{ab, nil}}}, goneTime, syn, virtual, a, true, true},
		{"the address is another service's", [][]change{{{nil, b}, {ab, nil}}}, goneTime, established, virtual, a, true, true},
	} {
		var s sessions
		for _, changes := range c.applies {
			s.note(changes, now)
		}
		s.begun = true
		from, by, pod := netip.MustParseAddrPort("192.0.2.7:40000"), netip.MustParseAddrPort(c.by), netip.MustParseAddrPort(c.pod)
		if c.seen {
			w := way{by, pod}
			if c.by == node {
				w.by = netip.AddrPortFrom(netip.Addr{}, by.Port())
			}
			s.seen = map[caller]bool{{from, w}: true}
		}
		got := false
		if k := s.next(now.Add(c.later), true, testLayout, nil); k != nil {
			k.own = map[netip.Addr]bool{netip.MustParseAddr("192.0.2.1"): true}
			got = k.ends(&connection{protocol: unix.IPPROTO_TCP, state: c.state, from: from, to: by, pod: pod})
		}
		if got != c.want {
			t.Errorf("%s: ends: %t", c.name, got)
		}
	}
	// What an earlier process left.
	var s sessions
	s.note([]change{{nil, leaving}}, now)
	if k := s.next(now, true, testLayout, nil); k != nil {
		t.Errorf("looked at once: %v", k)
	}
	k := s.next(now.Add(goneTime), true, testLayout, []remembered{{part: leaving}})
	for pod, want := range map[string]bool{a: false, "10.77.1.3:8080": false, "10.77.9.9:8080": true, "192.0.2.78:80": false} {
		c := connection{protocol: unix.IPPROTO_TCP, state: established, to: netip.MustParseAddrPort(virtual), pod: netip.MustParseAddrPort(pod)}
		if got := k.ends(&c); got != want {
			t.Errorf("left by an earlier process, to %s: ends: %t", pod, got)
		}
	}
	s.settle(k)
	if k := s.next(now.Add(goneTime), true, testLayout, nil); k != nil {
		t.Errorf("looked twice: %v", k)
	}
}

// BenchmarkSessionsDrain is what a change that makes a pod leave adds to its
// acknowledgement, with 60,000 connections in the kernel's table.
func BenchmarkSessionsDrain(b *testing.B) {
	s := newSite(b)
	services := []*object.Service{web()}
	sets := [][]object.Endpoint{{podA, podB}, {podB}}
	for i := range 60000 {
		from := net.IPv4(192, 0, byte(2+i>>15), 7).To4()
		port := uint16(20000 + i&0x7fff)
		f := &netlink.ConntrackFlow{FamilyType: unix.AF_INET, TimeOut: 600, ProtoInfo: &netlink.ProtoInfoTCP{State: tcpTimeWait},
			Forward: netlink.IPTuple{SrcIP: from, DstIP: net.IPv4(10, 79, 0, 5).To4(), SrcPort: port, DstPort: 80, Protocol: unix.IPPROTO_TCP},
			Reverse: netlink.IPTuple{SrcIP: net.IPv4(10, 77, 1, 2).To4(), DstIP: from, SrcPort: 8080, DstPort: port, Protocol: unix.IPPROTO_TCP}}
		if err := netlink.ConntrackCreate(netlink.ConntrackTable, unix.AF_INET, f); err != nil {
			b.Fatal(err)
		}
	}
	n := 0
	for b.Loop() {
		b.StopTimer()
		for range 2 {
			s.apply(b, services, []*object.Endpoints{newEndpoints("web", sets[n%2]...)})
			n++
		}
		b.StartTimer()
		if err := s.services.Drain(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
