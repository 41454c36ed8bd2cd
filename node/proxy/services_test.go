package proxy

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/berthdev/berth/cluster/object"
)

// site is a node (the test's own network namespace) with two pods, another node
// with one, and a machine outside of the cluster.
type site struct {
	node            *place
	pods            []*place // 10.77.1.2, 10.77.1.3
	far             *place   // 10.77.2.2, behind 198.51.100.2
	outside         *place   // 192.0.2.2
	services        *Services
	view            *object.NetworkView
	before, machine string
}

func newSite(t testing.TB) *site {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("iptables needs root")
	}
	for _, tool := range []string{"iptables", "ip", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(tool + " is not installed")
		}
	}
	if err := netlink.ConntrackTableFlush(netlink.ConntrackTable); err != nil { // of an earlier test
		t.Fatal(err)
	}
	s := &site{pods: []*place{newPlace(t), newPlace(t)}, far: newPlace(t), outside: newPlace(t)}
	s.node.sh(t, `ip link set lo up; echo 0 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables
		ip link add br0 type bridge; ip addr add 10.77.1.1/24 dev br0; ip link set br0 up`)
	t.Cleanup(func() { s.node.sh(t, "for l in p0 p1 out far br0; do ip link del $l 2>/dev/null || true; done") }) // namespaces end later than tests
	for i, p := range s.pods {
		s.node.sh(t, fmt.Sprintf("ip link add p%[1]d type veth peer name eth0 netns %[2]d; ip link set p%[1]d master br0 up; ip link set p%[1]d type bridge_slave hairpin on", i, p.tid))
		p.sh(t, fmt.Sprintf("ip link set lo up; ip addr add 10.77.1.%d/24 dev eth0; ip link set eth0 up; ip route add default via 10.77.1.1", i+2))
	}
	s.node.sh(t, fmt.Sprintf("ip link add out type veth peer name eth0 netns %d; ip addr add 192.0.2.1/24 dev out; ip link set out up", s.outside.tid))
	s.outside.sh(t, "ip link set lo up; ip addr add 192.0.2.2/24 dev eth0; ip link set eth0 up")
	s.node.sh(t, fmt.Sprintf("ip link add far type veth peer name eth0 netns %d; ip addr add 198.51.100.1/24 dev far; ip link set far up; ip route add 10.77.2.0/24 via 198.51.100.2", s.far.tid))
	s.far.sh(t, "ip link set lo up; ip addr add 198.51.100.2/24 dev eth0; ip addr add 10.77.2.2/32 dev lo; ip link set eth0 up; ip route add 10.77.1.0/24 via 198.51.100.1 src 10.77.2.2")
	s.before = save(t)
	masquerade := &Masquerade{Range: netip.MustParsePrefix("10.77.1.0/24"), Keep: []netip.Prefix{netip.MustParsePrefix("10.77.0.0/16")}}
	if err := masquerade.Ensure(); err != nil {
		t.Fatal(err)
	}
	s.machine = save(t)
	t.Cleanup(func() {
		if err := s.services.Purge(); err != nil {
			t.Error(err)
		}
		if after := save(t); after != s.machine {
			t.Errorf("Purge left\n%s\ninstead of\n%s", after, s.machine)
		}
		if out, _ := exec.Command("ip", "route", "show", "proto", "67").Output(); len(out) > 0 {
			t.Errorf("Purge left routes: %s", out)
		}
		if err := masquerade.Purge(); err != nil {
			t.Error(err)
		}
	})
	s.view = &object.NetworkView{Network: &object.Network{Spec: object.NetworkSpec{Pods: "10.77.0.0/16", NodeBits: 24, Services: "10.79.0.0/16"}}}
	for i := range 2 {
		n := &object.Node{Meta: object.Meta{Kind: object.KindNode, Name: fmt.Sprintf("n%d", i+1)}}
		n.Spec.PodRange = fmt.Sprintf("10.77.%d.0/24", i+1)
		s.view.Nodes = append(s.view.Nodes, n)
	}
	s.services = newServices()
	return s
}

func newServices() *Services { return &Services{Node: "n1", Bridge: "br0"} }

// answer serves "NAME CALLER" on TCP, echoing lines after it, and on UDP.
func (p *place) answer(t testing.TB, name, addr string) {
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
			go func() {
				defer c.Close()
				fmt.Fprintf(c, "%s %s\n", name, c.RemoteAddr().(*net.TCPAddr).IP)
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	go func() {
		b := make([]byte, 100)
		for {
			_, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = fmt.Fprintf(asWriter{u, from}, "%s %s\n", name, from.(*net.UDPAddr).IP)
		}
	}()
}

type asWriter struct {
	c  net.PacketConn
	to net.Addr
}

func (w asWriter) Write(b []byte) (int, error) { return w.c.WriteTo(b, w.to) }

func (p *place) dial(network, addr string) (c net.Conn, err error) {
	dial := func() { c, err = net.DialTimeout(network, addr, patience) }
	if p != nil {
		p.do(dial)
	} else {
		dial()
	}
	return c, err
}

// patience is how long the tests wait for an answer. What is dropped has none: each
// such question costs as much.
const patience = 5 * time.Second

// ask answers who serves there and whom it sees, or what went wrong.
func (p *place) ask(network, addr string) string {
	c, err := p.dial(network, addr)
	if err != nil {
		return reason(err)
	}
	defer c.Close()
	return question(c)
}

func question(c net.Conn) string {
	_ = c.SetDeadline(time.Now().Add(patience))
	if c.LocalAddr().Network() == "udp" {
		_, _ = c.Write([]byte("who?"))
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return reason(err)
	}
	return strings.TrimSpace(line)
}

func reason(err error) string {
	for _, r := range []string{"connection refused", "timeout", "no route to host", "network is unreachable"} {
		if strings.Contains(err.Error(), r) {
			return r
		}
	}
	return err.Error()
}

// spread counts who answers n connections.
func (p *place) spread(network, addr string, n int) map[string]int {
	count := map[string]int{}
	for range n {
		who, _, _ := strings.Cut(p.ask(network, addr), " ")
		count[who]++
	}
	return count
}

// fair checks counts against parts with chi-squared; 1 in a million goes wrong by chance.
func fair(t *testing.T, what string, count map[string]int, parts map[string]float64) {
	t.Helper()
	n, x2 := 0, 0.0
	for who, c := range count {
		if n += c; parts[who] == 0 {
			t.Errorf("%s: %d were answered by %q", what, c, who)
			return
		}
	}
	for who, p := range parts {
		d := float64(count[who]) - p*float64(n)
		x2 += d * d / (p * float64(n))
	}
	limit := map[int]float64{2: 23.9, 3: 27.6, 4: 30.7}[len(parts)]
	if x2 > limit || math.IsNaN(x2) {
		t.Errorf("%s: %v of %d, want the parts %v (chi-squared %.1f)", what, count, n, parts, x2)
	}
}

// apply puts one service per name in force; ready lists its pods.
func (s *site) apply(t testing.TB, services []*object.Service, endpoints []*object.Endpoints) {
	t.Helper()
	v := *s.view
	v.Services, v.Endpoints = services, endpoints
	if err := s.services.Apply(t.Context(), &v); err != nil {
		t.Fatal(err)
	}
}

var (
	portHTTP = object.ServicePort{Name: "http", Port: 80, Protocol: "tcp"}
	portDNS  = object.ServicePort{Name: "dns", Port: 53, Protocol: "udp"}
	numbers  = map[string]int{"http": 8080, "dns": 8080}
	podA     = endpoint("web-a", "n1", "10.77.1.2", numbers)
	podB     = endpoint("web-b", "n1", "10.77.1.3", numbers)
	podFar   = endpoint("web-far", "n2", "10.77.2.2", numbers)
)

// web is a service with two ports at 10.79.0.5, and node ports 30080 and 30053.
func web() *object.Service {
	a, b := portHTTP, portDNS
	a.NodePort, b.NodePort = 30080, 30053
	return newService("web", "10.79.0.5", a, b)
}

func (s *site) serveAll(t testing.TB) {
	s.pods[0].answer(t, "a", "10.77.1.2:8080")
	s.pods[1].answer(t, "b", "10.77.1.3:8080")
	s.far.answer(t, "far", "10.77.2.2:8080")
}

func TestServices(t *testing.T) {
	s := newSite(t)
	s.serveAll(t)
	check := func(what string, from *place, network, addr string, want ...string) {
		t.Helper()
		if got := from.ask(network, addr); !slices.Contains(want, got) {
			t.Errorf("%s: %s %s: %q, want %q", what, network, addr, got, want)
		}
	}
	one := func(pods ...object.Endpoint) {
		t.Helper()
		s.apply(t, []*object.Service{web()}, []*object.Endpoints{newEndpoints("web", pods...)})
	}
	both := map[string]string{"tcp": ":80", "udp": ":53"}

	one(podA)
	for network, port := range both {
		nodePort := map[string]string{"tcp": ":30080", "udp": ":30053"}[network]
		check("a neighbour", s.pods[1], network, "10.79.0.5"+port, "a 10.77.1.3")
		check("the pod itself", s.pods[0], network, "10.79.0.5"+port, "a 10.77.1.1")
		check("the node", s.node, network, "10.79.0.5"+port, "a 10.77.1.1")
		check("another node's pod by a node port", s.far, network, "198.51.100.1"+nodePort, "a 198.51.100.2", "a 10.77.2.2")
		check("the world, to a pod of this node", s.outside, network, "192.0.2.1"+nodePort, "a 192.0.2.2")
		check("a neighbour by a node port", s.pods[1], network, "192.0.2.1"+nodePort, "a 10.77.1.3")
		check("the pod itself by a node port", s.pods[0], network, "192.0.2.1"+nodePort, "a 10.77.1.1")
		check("the node by a node port", s.node, network, "192.0.2.1"+nodePort, "a 192.0.2.1")
		check("the node by a node port at 127.0.0.1", s.node, network, "127.0.0.1"+nodePort, "connection refused")
	}
	check("a port that the service has not", s.pods[1], "tcp", "10.79.0.5:81", "connection refused")
	check("a port that the service has not", s.node, "tcp", "10.79.0.5:81", "connection refused")
	check("an address that no service has", s.pods[1], "tcp", "10.79.7.7:80", "connection refused")
	check("an address that no service has", s.pods[1], "udp", "10.79.7.7:80", "connection refused")

	one(podFar)
	for network, port := range both {
		nodePort := map[string]string{"tcp": ":30080", "udp": ":30053"}[network]
		check("a pod, to another node", s.pods[1], network, "10.79.0.5"+port, "far 10.77.1.3")
		check("the node, to another node", s.node, network, "10.79.0.5"+port, "far 10.77.1.1")
		check("the world, to another node", s.outside, network, "192.0.2.1"+nodePort, "far 198.51.100.1")
		check("a pod by a node port, to another node", s.pods[1], network, "192.0.2.1"+nodePort, "far 10.77.1.3")
		check("the node by a node port, to another node", s.node, network, "192.0.2.1"+nodePort, "far 198.51.100.1")
	}

	// A machine whose owner lets nothing pass that is not named.
	s.node.sh(t, "iptables -P FORWARD DROP")
	check("the world, to another node, through a closed machine", s.outside, "tcp", "192.0.2.1:30080", "far 198.51.100.1")
	check("a pod, to another node, through a closed machine", s.pods[0], "tcp", "10.79.0.5:80", "far 10.77.1.2")
	check("the world, to a pod's own address", s.outside, "tcp", "198.51.100.2:8080", "network is unreachable")
	s.node.sh(t, "iptables -P FORWARD ACCEPT")

	one()
	for network, port := range both {
		nodePort := map[string]string{"tcp": ":30080", "udp": ":30053"}[network]
		for name, from := range map[string]*place{"pod": s.pods[1], "node": s.node} {
			check("without pods, a "+name, from, network, "10.79.0.5"+port, "connection refused")
		}
		check("without pods, the world", s.outside, network, "192.0.2.1"+nodePort, "connection refused")
	}

	// The world meets pods of this node alone, the cluster all of them.
	one(podA, podB, podFar)
	const n = 2000
	fair(t, "three pods", s.pods[0].spread("tcp", "10.79.0.5:80", n), map[string]float64{"a": 1. / 3, "b": 1. / 3, "far": 1. / 3})
	fair(t, "three pods, udp", s.node.spread("udp", "10.79.0.5:53", n), map[string]float64{"a": 1. / 3, "b": 1. / 3, "far": 1. / 3})
	fair(t, "node port", s.outside.spread("tcp", "192.0.2.1:30080", n), map[string]float64{"a": .5, "b": .5})

	canary := web()
	canary.Spec.Shares = []object.ServiceShare{{Name: "stable", Weight: 95}, {Name: "canary", Weight: 5}}
	shares := []object.Endpoint{shared(podA, "stable"), shared(podB, "canary"), shared(podFar, "stable")}
	s.apply(t, []*object.Service{canary}, []*object.Endpoints{newEndpoints("web", shares...)})
	fair(t, "canary of 5 %", s.outside.spread("tcp", "192.0.2.1:30080", n), map[string]float64{"a": .95, "b": .05})
	fair(t, "canary of 5 %", s.pods[0].spread("tcp", "10.79.0.5:80", n), map[string]float64{"a": .475, "b": .05, "far": .475})
	s.apply(t, []*object.Service{canary}, []*object.Endpoints{newEndpoints("web", shares[1])})
	fair(t, "canary alone", s.pods[0].spread("tcp", "10.79.0.5:80", 50), map[string]float64{"b": 1})
}

// TestServiceKinds: services that get no rules, ports by name, protocols.
func TestServiceKinds(t *testing.T) {
	s := newSite(t)
	s.serveAll(t)
	headless := newService("headless", "", portHTTP)
	headless.Spec.Type = "headless"
	external := newService("outward", "", portHTTP)
	external.Spec.Type, external.Spec.ExternalName = "external", "db.example"
	links := newService("links", "10.79.0.9", portHTTP, object.ServicePort{Name: "link", Port: 2905, Protocol: "sctp"})
	late := newService("unaddressed", "", portHTTP)
	s.apply(t, nil, nil)
	empty := save(t)
	s.apply(t, []*object.Service{headless, external, late}, []*object.Endpoints{newEndpoints("headless", podA), newEndpoints("unaddressed", podA)})
	if got := save(t); got != empty {
		t.Errorf("services without an address got rules:\n%s", got)
	}
	a, b := podA, podB
	a.Ports, b.Ports = map[string]int{"http": 8080, "link": 2905}, map[string]int{"link": 2905}
	s.apply(t, []*object.Service{links}, []*object.Endpoints{newEndpoints("links", a, b)})
	fair(t, "a port that one pod has", s.pods[1].spread("tcp", "10.79.0.9:80", 30), map[string]float64{"a": 1})
	if got := save(t); len(s.services.Problems()) == 0 && strings.Count(got, "-p sctp") != 3 { // where the kernel has it
		t.Errorf("rules of sctp:\n%s", got)
	}
	// A kernel that has not: the other ports work, and it is said.
	s.services = newServices()
	s.services.k, _ = openKernel()
	s.services.k.can["-p sctp -m sctp --dport 1 -j DNAT --to-destination 192.0.2.1:1"] = false
	s.apply(t, []*object.Service{links}, []*object.Endpoints{newEndpoints("links", a, b)})
	fair(t, "without sctp", s.pods[1].spread("tcp", "10.79.0.9:80", 30), map[string]float64{"a": 1})
	if got := save(t); strings.Contains(got, "-p sctp") {
		t.Errorf("rules of sctp, which the kernel has not:\n%s", got)
	}
	if p := s.services.Problems(); len(p) != 1 || !strings.Contains(p[0], `service shop/links: port "link" is of sctp`) {
		t.Errorf("problems: %q", p)
	}
	if ok, err := s.services.k.supports(t.Context(), "-m nonsense -j DNAT"); ok || err != nil {
		t.Errorf("nonsense is supported: %t, %v", ok, err)
	}
}

func TestServiceAffinity(t *testing.T) {
	s := newSite(t)
	s.serveAll(t)
	svc := web()
	svc.Spec.Affinity, svc.Spec.AffinityTimeout = "client_ip", object.Duration(2*time.Second)
	pods := []object.Endpoint{podA, podB, podFar}
	s.apply(t, []*object.Service{svc}, []*object.Endpoints{newEndpoints("web", pods...)})
	who := map[string]string{}
	for _, from := range []struct {
		name string
		*place
	}{{"a", s.pods[0]}, {"b", s.pods[1]}} {
		count := from.spread("tcp", "10.79.0.5:80", 40)
		for n := range from.spread("udp", "10.79.0.5:53", 5) { // the other port, the same pod
			count[n]++
		}
		if len(count) != 1 {
			t.Errorf("client %s met %v", from.name, count)
		}
		for n := range count {
			who[from.name] = n
		}
	}
	// Its pod leaves: another one takes over, and stays.
	pods = slices.DeleteFunc(pods, func(e object.Endpoint) bool { return e.Pod == "web-"+who["a"] })
	s.apply(t, []*object.Service{svc}, []*object.Endpoints{newEndpoints("web", pods...)})
	count := s.pods[0].spread("tcp", "10.79.0.5:80", 40)
	if len(count) != 1 || count[who["a"]] > 0 {
		t.Errorf("after %s left, its client met %v", who["a"], count)
	}
	// Time runs out for a client that does not come: it meets another, sooner or later.
	met := map[string]bool{}
	for deadline := time.Now().Add(60 * time.Second); len(met) < 2 && time.Now().Before(deadline); {
		n, _, _ := strings.Cut(s.pods[0].ask("tcp", "10.79.0.5:80"), " ")
		met[n] = true
		if len(met) < 2 {
			<-time.After(3100 * time.Millisecond) // the time-out is what is tested
		}
	}
	if len(met) < 2 {
		t.Errorf("long after the time-out the client still met %v alone", met)
	}
}

// TestServiceDrain: what is established lives on when its pod leaves; nothing new
// reaches the pod, also not by a flow of UDP that goes on.
func TestServiceDrain(t *testing.T) {
	s := newSite(t)
	s.serveAll(t)
	svc := web()
	s.apply(t, []*object.Service{svc}, []*object.Endpoints{newEndpoints("web", podA)})
	var kept []net.Conn
	for _, c := range []struct {
		from *place
		addr string
	}{{s.pods[1], "10.79.0.5:80"}, {s.node, "10.79.0.5:80"}, {s.outside, "192.0.2.1:30080"}, {s.pods[0], "10.79.0.5:80"}} {
		conn, err := c.from.dial("tcp", c.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if got := question(conn); !strings.HasPrefix(got, "a ") {
			t.Fatalf("%s: %s", c.addr, got)
		}
		kept = append(kept, conn)
	}
	var flows []net.Conn
	for _, c := range []struct {
		from *place
		addr string
	}{{s.pods[1], "10.79.0.5:53"}, {s.node, "10.79.0.5:53"}, {s.outside, "192.0.2.1:30053"}} {
		conn, err := c.from.dial("udp", c.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if got := question(conn); !strings.HasPrefix(got, "a ") {
			t.Fatalf("%s: %s", c.addr, got)
		}
		flows = append(flows, conn)
	}
	echo := func(when string) {
		t.Helper()
		for i, c := range kept {
			_ = c.SetDeadline(time.Now().Add(patience))
			b := make([]byte, 4)
			if _, err := c.Write([]byte("ping")); err != nil {
				t.Errorf("%s: connection %d: %v", when, i, err)
			} else if _, err := io.ReadFull(c, b); err != nil {
				t.Errorf("%s: connection %d: %v", when, i, err)
			}
		}
	}
	for _, next := range [][]object.Endpoint{{podB}, {podFar}, {}} {
		s.apply(t, []*object.Service{svc}, []*object.Endpoints{newEndpoints("web", next...)})
		echo("after the pod left")
		want := "connection refused"
		if len(next) > 0 {
			want = strings.TrimPrefix(next[0].Pod, "web-") + " "
		}
		for i, c := range flows {
			if got := question(c); !strings.HasPrefix(got, want) {
				t.Errorf("flow %d of UDP: %q, want %q", i, got, want)
			}
		}
	}
	s.apply(t, nil, nil)
	echo("after the service is gone")
}

// TestServiceChangeUnderLoad: no connection is lost while pods come and go in the
// rules, one table being changed at a time.
func TestServiceChangeUnderLoad(t *testing.T) {
	s := newSite(t)
	s.serveAll(t)
	other := newService("other", "10.79.0.6", portHTTP)
	sets := [][]object.Endpoint{{podA, podB}, {podFar}, {podB, podFar}, {podA}}
	s.apply(t, []*object.Service{web()}, []*object.Endpoints{newEndpoints("web", sets[0]...)})
	type result struct {
		asked int
		wrong []string
	}
	results, done := make(chan result), make(chan struct{})
	callers := []struct {
		from *place
		addr string
	}{{s.pods[0], "10.79.0.5:80"}, {s.outside, "192.0.2.1:30080"}, {s.node, "10.79.0.5:80"}}
	for _, c := range callers {
		go func() {
			var r result
			for {
				select {
				case <-done:
					results <- r
					return
				default:
				}
				r.asked++
				if got := c.from.ask("tcp", c.addr); !strings.Contains(got, " ") || strings.Contains(got, "refused") {
					r.wrong = append(r.wrong, c.addr+": "+got)
				}
			}
		}()
	}
	const changes = 30
	for i := range changes {
		services, endpoints := []*object.Service{web()}, []*object.Endpoints{newEndpoints("web", sets[i%len(sets)]...)}
		if i%3 == 0 { // neighbours in the same bucket come and go, too
			services, endpoints = slices.Insert(services, 0, other), slices.Insert(endpoints, 0, newEndpoints("other", podA))
		}
		if i%10 == 0 { // the process is another one
			s.services = newServices()
		}
		s.apply(t, services, endpoints)
	}
	close(done)
	asked := 0
	for range callers {
		r := <-results
		if asked += r.asked; len(r.wrong) > 0 || r.asked < changes {
			t.Errorf("%d of %d connections were lost: %v", len(r.wrong), r.asked, r.wrong[:min(len(r.wrong), 3)])
		}
	}
	t.Logf("%d connections, %d changes", asked, changes)
}

// TestStaleFlows: which flows of UDP end with a change.
func TestStaleFlows(t *testing.T) {
	build := func(pods ...object.Endpoint) *part { return testLayout.part(web(), newEndpoints("web", pods...)) }
	if s := staleFlows([][]change{{{before: testLayout.part(newService("web", "10.79.0.5", portHTTP), newEndpoints("web", podA)), after: &part{}}}}); len(s.virtual) > 0 {
		t.Errorf("a service without UDP: %v", s)
	}
	s := staleFlows([][]change{{{before: build(podA, podB), after: build(podB)}}})
	s.node = map[netip.Addr]bool{netip.MustParseAddr("192.0.2.1"): true}
	gone := staleFlows([][]change{{{after: build(podA)}}, {{before: build(podA)}}})
	moved := staleFlows([][]change{{{before: nil, after: build(podB)}, {before: build(podA)}}})
	first := staleFlows([][]change{{{after: build(podB)}}})
	first.services = testLayout.services
	for _, c := range []struct {
		s        *stale
		protocol uint8
		to, pod  string
		want     bool
	}{
		{s, 17, "10.79.0.5:53", "10.77.1.2:8080", true},
		{s, 17, "10.79.0.5:53", "10.77.1.3:8080", false},
		{s, 17, "10.79.0.5:53", "10.79.0.5:53", true}, // begun before there was a service
		{s, 6, "10.79.0.5:53", "10.77.1.2:8080", false},
		{s, 17, "10.79.0.5:54", "10.77.1.2:8080", false},
		{s, 17, "10.79.0.6:53", "10.77.1.2:8080", false},
		{s, 17, "192.0.2.1:30053", "10.77.1.2:8080", true},
		{s, 17, "192.0.2.1:30053", "10.77.1.3:8080", false},
		{s, 17, "203.0.113.7:30053", "203.0.113.7:30053", false}, // somebody else's port
		{gone, 17, "10.79.0.5:53", "10.77.1.2:8080", true},
		{moved, 17, "10.79.0.5:53", "10.77.1.3:8080", false},
		{moved, 17, "10.79.0.5:53", "10.77.1.2:8080", true},
		{first, 17, "10.79.0.5:53", "10.77.1.3:8080", false},
		{first, 17, "10.79.0.6:53", "10.77.1.3:8080", true},
		{first, 17, "192.0.2.9:53", "192.0.2.9:53", false},
	} {
		to, pod := netip.MustParseAddrPort(c.to), netip.MustParseAddrPort(c.pod)
		f := &netlink.ConntrackFlow{Forward: netlink.IPTuple{Protocol: c.protocol, DstIP: to.Addr().AsSlice(), DstPort: to.Port()},
			Reverse: netlink.IPTuple{Protocol: c.protocol, SrcIP: pod.Addr().AsSlice(), SrcPort: pod.Port()}}
		if got := c.s.MatchConntrackFlow(f); got != c.want {
			t.Errorf("protocol %d to %s behind %s: stale: %t", c.protocol, c.to, c.pod, got)
		}
	}
}
