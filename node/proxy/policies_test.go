package proxy

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/cluster/controller"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// machine is a node: a network namespace with a bridge, and the tools at work in it.
type testNode struct {
	*place
	name     string
	policies *Policies
	services *Services
}

// arena is two nodes with six pods each, and a host outside.
type arena struct {
	t       *testing.T
	nodes   []*testNode
	outside *place
	pods    []*testPod
	set     object.PolicySet
	nodeObj []*object.Node
	index   uint64
}

type testPod struct {
	*place
	pod  *object.Pod
	addr netip.Addr
	node *testNode
}

func skipWithoutRoot(t testing.TB) {
	if os.Getuid() != 0 {
		t.Skip("iptables needs root")
	}
	for _, tool := range []string{"iptables", "iptables-restore", "ip", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(tool + " is not installed")
		}
	}
}

// in runs a function where a place is, and fails the test with its error.
func (a *arena) in(p *place, f func() error) {
	a.t.Helper()
	var err error
	p.do(func() { err = f() })
	if err != nil {
		a.t.Fatal(err)
	}
}

func newArena(t *testing.T) *arena {
	skipWithoutRoot(t)
	a := &arena{t: t, outside: newPlace(t)}
	a.outside.sh(t, "ip link set lo up; ip link add sw type bridge; ip addr add 192.0.2.254/24 dev sw; ip link set sw up")
	for i := range 2 {
		n := &testNode{place: newPlace(t), name: fmt.Sprintf("n%d", i+1), policies: &Policies{}}
		n.services = &Services{Node: n.name, Bridge: "br0", Range: netip.MustParsePrefix(fmt.Sprintf("10.77.%d.0/24", i+1))}
		a.nodes = append(a.nodes, n)
		a.nodeObj = append(a.nodeObj, &object.Node{Meta: object.Meta{Kind: object.KindNode, Name: n.name},
			Spec: object.NodeSpec{PodRange: fmt.Sprintf("10.77.%d.0/24", i+1)}, Status: object.NodeStatus{Address: fmt.Sprintf("192.0.2.%d:7443", i+1)}})
		n.sh(t, fmt.Sprintf(`ip link set lo up; echo 1 > /proc/sys/net/ipv4/ip_forward
			ip link add br0 type bridge; ip addr add 10.77.%[1]d.1/24 dev br0; ip link set br0 up
			ip link add out type veth peer name n%[1]d netns %[2]d; ip addr add 192.0.2.%[1]d/24 dev out; ip link set out up
			ip route add 10.77.%[3]d.0/24 via 192.0.2.%[3]d; ip route add default via 192.0.2.254`, i+1, a.outside.tid, 2-i))
		a.outside.sh(t, fmt.Sprintf("ip link set n%[1]d master sw up; ip route add 10.77.%[1]d.0/24 via 192.0.2.%[1]d", i+1))
		a.in(n.place, (&Masquerade{Range: n.services.Range, Keep: []netip.Prefix{netip.MustParsePrefix("10.77.0.0/16")}}).Ensure)
	}
	for i := range 12 {
		ns, n := []string{"default", "shop", "tools"}[i/4], a.nodes[i%2]
		p := &testPod{place: newPlace(t), node: n, addr: netip.AddrFrom4([4]byte{10, 77, byte(i%2 + 1), byte(i + 2)})}
		port := []int{80, 8080}[i/2%2]
		p.pod = &object.Pod{Meta: object.Meta{Kind: object.KindPod, Namespace: ns, Name: fmt.Sprintf("p%d", i%4), Labels: map[string]string{"app": []string{"web", "db"}[i/2%2], "i": fmt.Sprint(i % 4)}},
			Spec: object.PodSpec{Node: n.name, Pod: &object.PodTemplate{Containers: []object.Container{{Name: "c", Ports: []object.ContainerPort{
				{Name: "http", Port: port, Protocol: "tcp"}, {Name: "dns", Port: 5353, Protocol: "udp"}}}}}},
			Status: object.PodStatus{Phase: object.PodRunning, Address: p.addr.String()}}
		n.sh(t, fmt.Sprintf("ip link add v%[1]d type veth peer name eth0 netns %[2]d; ip link set v%[1]d master br0 up; ip link set v%[1]d type bridge_slave hairpin on", i, p.tid))
		p.sh(t, fmt.Sprintf("ip link set lo up; ip addr add %s/24 dev eth0; ip link set eth0 up; ip route add default via 10.77.%d.1", p.addr, i%2+1))
		for _, x := range matrixPorts {
			p.serve(t, fmt.Sprintf("%s:%d", p.addr, x.port))
		}
		a.pods = append(a.pods, p)
	}
	for _, n := range a.nodes {
		n.serve(t, fmt.Sprintf("%s:53", n.services.Range.Addr().Next()))
		n.serve(t, fmt.Sprintf("%s:9", n.services.Range.Addr().Next()))
	}
	a.outside.serve(t, "192.0.2.254:80")
	a.outside.serve(t, "192.0.2.254:5353")
	return a
}

var matrixPorts = []struct {
	protocol string
	port     int
}{{"tcp", 80}, {"tcp", 8080}, {"udp", 5353}}

func (a *arena) guard() {
	for _, p := range a.pods {
		a.in(p.node.place, func() error {
			return p.node.policies.Guard(p.pod.Namespace+"."+p.pod.Name+".1", p.pod, p.addr, false)
		})
	}
}

// put makes policies and namespaces be in force, by way of the masters' controller
// and the nodes' tool.
func (a *arena) put(objects ...object.Object) {
	a.t.Helper()
	store := state.New()
	c := object.Changeset{Author: "test"}
	a.set = object.PolicySet{Namespaces: map[string]*object.Namespace{}}
	for _, n := range a.nodeObj {
		c.Create(n)
	}
	for _, p := range a.pods {
		c.Create(p.pod)
	}
	for _, o := range objects {
		c.Create(o)
		switch o := o.(type) {
		case *object.NetworkPolicy:
			a.set.Policies = append(a.set.Policies, o)
		case *object.Namespace:
			a.set.Namespaces[o.Name] = o
		}
	}
	if _, err := store.Apply(1, c); err != nil {
		a.t.Fatal(err)
	}
	q := controller.NewQueue(slices.DeleteFunc(controller.All(), func(c controller.Controller) bool { return c.Name() != "network_policy" }))
	q.Seed(store.Snapshot())
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for {
		ctl, key, ok := q.Next(now)
		if !ok {
			break
		}
		res, err := ctl.Reconcile(store.Snapshot(), key, now)
		if err != nil {
			a.t.Fatal(err)
		}
		events, err := store.Apply(store.Snapshot().Index()+1, res.Changes)
		if err != nil {
			a.t.Fatal(err)
		}
		q.Observe(store.Snapshot(), events)
	}
	a.index++
	v := a.view()
	v.Policies = slices.Collect(state.All[*object.PolicyRules](store.Snapshot(), object.KindPolicyRules))
	for _, n := range a.nodes {
		a.in(n.place, func() error { return n.policies.Apply(context.Background(), v) })
	}
}

func (a *arena) view() *object.NetworkView {
	return &object.NetworkView{Index: a.index, Nodes: a.nodeObj, Network: &object.Network{Meta: object.Meta{Kind: object.KindNetwork, Name: object.NetworkName},
		Spec: object.NetworkSpec{Pods: "10.77.0.0/16", Services: "10.79.0.0/16"}}}
}

// attempt is a connection that was begun.
type attempt struct {
	from, to string
	protocol string
	fd       int
	want     bool
	why      object.Verdict
	ok       bool
}

// try begins a connection without waiting for it.
func (a *arena) try(from *place, to netip.AddrPort, protocol string, x attempt) *attempt {
	a.t.Helper()
	x.protocol = protocol
	x.to = fmt.Sprintf("%s/%s %s", protocol, to, x.to)
	a.in(from, func() error {
		kind := unix.SOCK_STREAM
		if protocol == "udp" {
			kind = unix.SOCK_DGRAM
		}
		var err error
		if x.fd, err = unix.Socket(unix.AF_INET, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		err = unix.Connect(x.fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
		if err == nil && protocol == "udp" {
			_, err = unix.Write(x.fd, []byte("?"))
		}
		if err == unix.EINPROGRESS {
			err = nil
		}
		return err
	})
	return &x
}

// settle waits until everything that should get through has, and then as long
// again as it takes to be sure that nothing else does.
func (a *arena) settle(what string, list []*attempt) {
	a.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	var quiet time.Time
	for {
		fds := make([]unix.PollFd, 0, len(list))
		var open []*attempt
		missing := 0
		for _, x := range list {
			if x.ok {
				continue
			}
			if x.want {
				missing++
			}
			event := int16(unix.POLLOUT)
			if x.protocol == "udp" {
				event = unix.POLLIN
			}
			fds, open = append(fds, unix.PollFd{Fd: int32(x.fd), Events: event}), append(open, x)
		}
		now := time.Now()
		if missing == 0 && quiet.IsZero() {
			quiet = now.Add(400 * time.Millisecond)
		}
		if now.After(deadline) || !quiet.IsZero() && now.After(quiet) {
			break
		}
		if _, err := unix.Poll(fds, 50); err != nil && err != unix.EINTR {
			a.t.Fatal(err)
		}
		for i, f := range fds {
			if f.Revents == 0 {
				continue
			}
			n, err := unix.GetsockoptInt(open[i].fd, unix.SOL_SOCKET, unix.SO_ERROR)
			open[i].ok = err == nil && n == 0
			if !open[i].ok && !open[i].want {
				a.t.Errorf("%s: %s -> %s: error %d: it should be dropped without a word", what, open[i].from, open[i].to, n)
			}
		}
	}
	allowed := 0
	for _, x := range list {
		unix.Close(x.fd)
		if x.ok != x.want {
			a.t.Errorf("%s: %s -> %s: packets pass: %v, policies: %+v", what, x.from, x.to, x.ok, x.why)
		}
		if x.want {
			allowed++
		}
	}
	a.t.Logf("%s: %d connections, %d allowed", what, len(list), allowed)
}

func (a *arena) party(p *testPod) object.Party {
	return object.Party{Namespace: p.pod.Namespace, Pod: p.pod.Name, Labels: p.pod.Labels, Addresses: netip.PrefixFrom(p.addr, 32), Ports: p.pod.Spec.Pod.PortsOf()}
}

// compare holds packets between all against what the policies say.
func (a *arena) compare(what string) {
	a.t.Helper()
	type end struct {
		*place
		name  string
		party object.Party
		node  *testNode // that it is on, or is
		addr  netip.Addr
	}
	var ends []end
	for _, p := range a.pods {
		ends = append(ends, end{p.place, p.pod.Namespace + "/" + p.pod.Name, a.party(p), p.node, p.addr})
	}
	host := netip.MustParseAddr("192.0.2.254")
	ends = append(ends, end{a.outside, "outside", object.Party{Addresses: netip.PrefixFrom(host, 32)}, nil, host})
	for i, n := range a.nodes {
		addr := netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", i+1))
		ends = append(ends, end{n.place, n.name, object.Party{Node: true, Addresses: netip.PrefixFrom(addr, 32)}, n, addr})
	}
	var list []*attempt
	for _, from := range ends {
		for _, to := range ends {
			if to.party.Node || from.party.Namespace == "" && to.party.Namespace == "" {
				continue
			}
			for _, at := range matrixPorts {
				if to.party.Namespace == "" && at.port == 8080 {
					continue
				}
				v := a.set.Allows(from.party, to.party, at.protocol, at.port)
				if from.party.Node && from.node == to.node {
					v = object.Verdict{Allowed: true} // a node always reaches its own pods
				}
				list = append(list, a.try(from.place, netip.AddrPortFrom(to.addr, uint16(at.port)), at.protocol, attempt{from: from.name, to: to.name, want: v.Allowed, why: v}))
			}
		}
	}
	a.settle(what, list)
}

func newPolicy(ns, name string, spec object.NetworkPolicySpec) *object.NetworkPolicy {
	return &object.NetworkPolicy{Meta: object.Meta{Kind: object.KindNetworkPolicy, Namespace: ns, Name: name}, Spec: spec}
}

func newNamespace(name, team string, isolate ...string) *object.Namespace {
	return &object.Namespace{Meta: object.Meta{Kind: object.KindNamespace, Name: name, Labels: map[string]string{"team": team}}, Spec: object.NamespaceSpec{Isolate: isolate}}
}

// TestPolicyMatrix sends packets between twelve pods of three namespaces on two
// nodes, the nodes themselves and a host outside, under one set of policies after
// the other, and compares what gets through with what the policies mean.
func TestPolicyMatrix(t *testing.T) {
	a := newArena(t)
	a.guard()
	a.settle("before the masters have told anything", []*attempt{
		a.try(a.pods[0].place, netip.AddrPortFrom(a.pods[2].addr, 80), "tcp", attempt{from: "a pod", to: "a pod"}),
		a.try(a.nodes[0].place, netip.AddrPortFrom(a.pods[0].addr, 80), "tcp", attempt{from: "the node", to: "its pod", want: true}),
	})
	web, db := map[string]string{"app": "web"}, map[string]string{"app": "db"}
	port := func(p, protocol string) []object.PolicyPort {
		return []object.PolicyPort{{Port: object.PortRef(p), Protocol: protocol}}
	}
	for _, c := range []struct {
		name    string
		objects []object.Object
	}{
		{"no policy", nil},
		{"default deny of a namespace, both ways", []object.Object{newNamespace("shop", "a", "ingress", "egress")}},
		{"default deny by a policy without rules", []object.Object{newPolicy("shop", "deny", object.NetworkPolicySpec{})}},
		{"by pod selector and port", []object.Object{newPolicy("shop", "db", object.NetworkPolicySpec{Selector: db, Ingress: []object.IngressRule{
			{From: []object.PolicyPeer{{Selector: web}}, Ports: port("8080", "tcp")}}})}},
		{"by names of ports, both ways", []object.Object{
			newPolicy("shop", "in", object.NetworkPolicySpec{Ingress: []object.IngressRule{{From: []object.PolicyPeer{{Namespaces: []string{"default"}}}, Ports: port("http", "tcp")}, {Ports: port("dns", "udp")}}}),
			newPolicy("tools", "out", object.NetworkPolicySpec{Egress: []object.EgressRule{{To: []object.PolicyPeer{{Namespaces: []string{"default", "shop"}}}, Ports: port("http", "tcp")}}}),
		}},
		{"by namespace selector, alone and with pods", []object.Object{newNamespace("default", "a"), newNamespace("shop", "b"), newNamespace("tools", "b"),
			newPolicy("default", "in", object.NetworkPolicySpec{Ingress: []object.IngressRule{{From: []object.PolicyPeer{{NamespaceSelector: map[string]string{"team": "b"}, Selector: db}}}}}),
			newPolicy("shop", "in", object.NetworkPolicySpec{Selector: web, Ingress: []object.IngressRule{{From: []object.PolicyPeer{{NamespaceSelector: map[string]string{"team": "b"}}}}}}),
		}},
		{"ranges with holes, both ways", []object.Object{
			newPolicy("shop", "in", object.NetworkPolicySpec{Ingress: []object.IngressRule{{From: []object.PolicyPeer{{CIDR: "10.77.0.0/16", Except: []string{"10.77.1.0/29", "10.77.2.5"}}}}}}),
			newPolicy("tools", "out", object.NetworkPolicySpec{Egress: []object.EgressRule{{To: []object.PolicyPeer{{CIDR: "0.0.0.0/0", Except: []string{"10.77.1.0/24"}}}}}}),
		}},
		{"policies add up, and namespaces with them", []object.Object{newNamespace("shop", "a", "ingress"),
			newPolicy("shop", "a", object.NetworkPolicySpec{Selector: web, Ingress: []object.IngressRule{{From: []object.PolicyPeer{{Selector: db}}, Ports: port("80", "tcp")}}}),
			newPolicy("shop", "b", object.NetworkPolicySpec{Selector: web, Ingress: []object.IngressRule{{From: []object.PolicyPeer{{Namespaces: []string{"tools"}}}, Ports: []object.PolicyPort{{Port: "8000", To: 8100, Protocol: "tcp"}}}}}),
			newPolicy("shop", "c", object.NetworkPolicySpec{Selector: map[string]string{"i": "1"}, Ingress: []object.IngressRule{{Ports: port("5353", "udp")}}}),
		}},
		{"egress to some, ingress from others", []object.Object{
			newPolicy("default", "out", object.NetworkPolicySpec{Selector: web, Egress: []object.EgressRule{{To: []object.PolicyPeer{{Namespaces: []string{"shop"}, Selector: db}}}, {To: []object.PolicyPeer{{CIDR: "192.0.2.254"}}}}}),
			newPolicy("shop", "in", object.NetworkPolicySpec{Selector: db, Ingress: []object.IngressRule{{From: []object.PolicyPeer{{Namespaces: []string{"default"}, Selector: map[string]string{"i": "0"}}}}}}),
		}},
		{"the nodes and the world outside", []object.Object{newNamespace("shop", "a", "ingress"),
			newPolicy("shop", "nodes", object.NetworkPolicySpec{Selector: web, Ingress: []object.IngressRule{{From: []object.PolicyPeer{{Nodes: true}}, Ports: port("http", "tcp")}}}),
			newPolicy("shop", "world", object.NetworkPolicySpec{Selector: db, Ingress: []object.IngressRule{{From: []object.PolicyPeer{{CIDR: "192.0.2.254"}}}}}),
		}},
		{"egress isolated with nothing allowed", []object.Object{newPolicy("tools", "none", object.NetworkPolicySpec{Isolate: []string{"egress"}})}},
		{"no policy again", nil},
	} {
		a.put(c.objects...)
		a.compare(c.name)
	}

	// What a policy is about is the pods, though one calls a service; a pod reaches
	// itself by way of one; a pod asks its node for names and nothing else of it.
	a.put(newNamespace("shop", "a", "ingress", "egress"), newPolicy("shop", "pair", object.NetworkPolicySpec{Selector: map[string]string{"i": "0"},
		Egress: []object.EgressRule{{To: []object.PolicyPeer{{Selector: map[string]string{"i": "1"}}}}}, Isolate: []string{"egress"}}),
		newPolicy("shop", "pair2", object.NetworkPolicySpec{Selector: map[string]string{"i": "1"}, Ingress: []object.IngressRule{{From: []object.PolicyPeer{{Selector: map[string]string{"i": "0"}}}}}}))
	v := a.view()
	for i, p := range a.pods[4:8] { // of shop
		name := fmt.Sprintf("s%d", i)
		svc := newService(name, fmt.Sprintf("10.79.0.%d", i+1), object.ServicePort{Name: "http", Port: 80, Protocol: "tcp"})
		v.Services = append(v.Services, svc)
		v.Endpoints = append(v.Endpoints, newEndpoints(name, endpoint(p.pod.Name, p.node.name, p.addr.String(), map[string]int{"http": 8080})))
	}
	for _, n := range a.nodes {
		a.in(n.place, func() error { return n.services.Apply(context.Background(), v) })
	}
	vip := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 79, 0, byte(i + 1)}), 80)
	}
	gateway := func(p *testPod, port uint16) netip.AddrPort {
		return netip.AddrPortFrom(p.node.services.Range.Addr().Next(), port)
	}
	p0, p1 := a.pods[4], a.pods[5]
	a.settle("by way of services", []*attempt{
		a.try(p0.place, vip(1), "tcp", attempt{from: "p0", to: "p1", want: true}),
		a.try(p0.place, vip(0), "tcp", attempt{from: "p0", to: "itself", want: true}),
		a.try(p1.place, vip(1), "tcp", attempt{from: "p1", to: "itself", want: true}),
		a.try(p0.place, vip(2), "tcp", attempt{from: "p0", to: "p2 of its node"}),
		a.try(p1.place, vip(0), "tcp", attempt{from: "p1", to: "p0"}),
		a.try(a.pods[0].place, vip(1), "tcp", attempt{from: "default/p0", to: "p1"}),
		a.try(p0.place, gateway(p0, 53), "udp", attempt{from: "p0", to: "the resolver", want: true}),
		a.try(p0.place, gateway(p0, 53), "tcp", attempt{from: "p0", to: "the resolver", want: true}),
		a.try(p0.place, gateway(p0, 9), "tcp", attempt{from: "p0", to: "its node"}),
		a.try(a.pods[0].place, gateway(a.pods[0], 9), "tcp", attempt{from: "default/p0", to: "its node", want: true}),
	})
}

func saveMangle(t testing.TB, p *place) string {
	t.Helper()
	var out []byte
	var err error
	p.do(func() { out, err = exec.Command("iptables", "-t", "mangle", "-S").CombinedOutput() })
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// TestPoliciesLife: a new pod is held from its first packet; rules that are meddled
// with are repaired, and said to be; another process takes over without a change;
// nothing is left behind, and nobody else's rules are touched.
func TestPoliciesLife(t *testing.T) {
	a := newArena(t)
	n, ctx := a.nodes[0], context.Background()
	n.sh(t, "iptables -t mangle -A FORWARD -s 192.0.2.77 -j DROP; iptables -t mangle -N OWNER; iptables -t mangle -A INPUT -j OWNER")
	before := saveMangle(t, n.place)
	rules := newRules("shop", object.NamespaceRules, object.PolicyRulesSpec{Ingress: &object.PolicyRuleSet{}})
	v := a.view()
	a.in(n.place, func() error { return n.policies.Apply(ctx, v) })
	guard := func(p *Policies, x *testPod, running bool) {
		t.Helper()
		a.in(n.place, func() error { return p.Guard(x.pod.Namespace+"."+x.pod.Name+".1", x.pod, x.addr, running) })
	}
	guard(n.policies, a.pods[0], false)
	if s := saveMangle(t, n.place); s != before {
		t.Errorf("a machine where nothing is isolated got rules:\n%s", s)
	}
	v = a.view()
	v.Policies = []*object.PolicyRules{rules}
	a.in(n.place, func() error { return n.policies.Apply(ctx, v) })
	shop, caller := a.pods[4], a.pods[0]
	reach := func(what string, want bool) {
		t.Helper()
		a.settle(what, []*attempt{a.try(caller.place, netip.AddrPortFrom(shop.addr, 80), "tcp", attempt{from: "default/p0", to: "shop/p0", want: want})})
	}
	reach("a pod that nobody has told of", true)
	guard(n.policies, shop, false)
	reach("a pod of an isolated namespace", false)
	first := saveMangle(t, n.place)

	ensure := func(p *Policies) (mended []string) {
		t.Helper()
		a.in(n.place, func() (err error) { mended, err = p.Ensure(ctx); return err })
		return mended
	}
	if m := ensure(n.policies); m != nil {
		t.Errorf("mended what nobody has broken: %q", m)
	}
	for _, c := range []struct{ harm, word string }{
		{"iptables -t mangle -D FORWARD 1", "FORWARD"},
		{"iptables -t mangle -F BERTH-POLICY-TO", "BERTH-POLICY-TO"},
		{"iptables -t mangle -F", "policy"},
		{"iptables -t mangle -F; iptables -t mangle -X", "policy shop/namespace.isolation"},
		{"iptables -t mangle -I BERTH-POLICY 1 -j ACCEPT", "chain BERTH-POLICY"},
		{"echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables", "bridge-nf-call-iptables"},
	} {
		n.sh(t, c.harm)
		mended := ensure(n.policies)
		if !strings.Contains(strings.Join(mended, "; "), c.word) {
			t.Errorf("after %q it says %q", c.harm, mended)
		}
		reach("after "+c.harm, false)
		for range 2 {
			if m := ensure(n.policies); m != nil {
				t.Errorf("after %q it goes on mending: %q", c.harm, m)
			}
		}
	}
	// The owner's rules went with their flush; ours are as they were.
	n.sh(t, "iptables -t mangle -A FORWARD -s 192.0.2.77 -j DROP; iptables -t mangle -N OWNER; iptables -t mangle -A INPUT -j OWNER")
	ensure(n.policies)
	if s := saveMangle(t, n.place); !sameLines(s, first) {
		t.Errorf("repaired it is\n%s\ninstead of\n%s", s, first)
	}

	// Another process: what runs is told as running, and nothing changes by it; a
	// new pod is closed until there is a view.
	p := &Policies{}
	guard(p, shop, true)
	guard(p, a.pods[0], true)
	if s := saveMangle(t, n.place); !sameLines(s, first) {
		t.Errorf("the next process made it\n%s", s)
	}
	a.in(n.place, func() error { return p.Apply(ctx, &object.NetworkView{}) })
	fresh := a.pods[2] // of the same node, in default
	guard(p, fresh, false)
	a.settle("a new pod before the first view", []*attempt{a.try(caller.place, netip.AddrPortFrom(fresh.addr, 80), "tcp", attempt{from: "default/p0", to: "default/p2"})})
	a.in(n.place, func() error { return p.Apply(ctx, v) })
	a.settle("a new pod after the first view", []*attempt{a.try(caller.place, netip.AddrPortFrom(fresh.addr, 80), "tcp", attempt{from: "default/p0", to: "default/p2", want: true})})
	reach("after a restart", false)

	// The pod goes, and another gets its address.
	a.in(n.place, func() error { return p.Release("shop.p0.1") })
	reach("the pod is gone, its address is nobody's", true)
	guard(p, shop, false)
	a.in(n.place, func() error { return p.Retain([]string{"default.p0.1"}) })
	reach("none but one is retained", true)

	for range 2 {
		a.in(n.place, p.Purge)
		if after := saveMangle(t, n.place); after != before {
			t.Errorf("Purge left\n%s\ninstead of\n%s", after, before)
		}
	}
}

func sameLines(a, b string) bool {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}
