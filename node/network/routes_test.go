package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/cluster/object"
)

func TestWays(t *testing.T) {
	s := &surroundings{local: []netip.Addr{netip.MustParseAddr("192.0.2.11")}, hops: []hop{
		{to: netip.MustParsePrefix("0.0.0.0/0"), link: 2, gateway: true},
		{to: netip.MustParsePrefix("192.0.2.128/25"), link: 3, gateway: true}, // more exact than the segment
		{to: netip.MustParsePrefix("192.0.2.0/24"), link: 2},
	}}
	s.order()
	node := func(name, address, given, inForce string) *object.Node {
		return &object.Node{Meta: object.Meta{Name: name}, Spec: object.NodeSpec{PodRange: given}, Status: object.NodeStatus{Address: address, PodRange: inForce}}
	}
	v := &object.NetworkView{Nodes: []*object.Node{
		node("self", "192.0.2.11:7410", "10.77.1.0/24", "10.77.1.0/24"),
		node("twin", "192.0.2.11:7411", "10.77.9.0/24", ""), // on the same machine
		node("near", "192.0.2.12:7410", "10.77.2.0/24", "10.77.2.0/24"),
		node("far", "192.0.2.200:7410", "10.77.3.0/24", "10.77.3.0/24"),
		node("new", "198.51.100.1:7410", "10.77.4.0/24", ""),              // has not put it in force yet
		node("moved", "192.0.2.13:7410", "10.77.5.0/24", "10.77.66.0/24"), // still uses another
		node("thief", "192.0.2.14:7410", "10.77.6.0/24", "10.77.2.0/24"),  // still uses what is near's now
		node("none", "192.0.2.15:7410", "", ""),
		node("mute", "", "10.77.7.0/24", ""),
	}}
	address := func(n *object.Node) (netip.Addr, error) {
		host, _, err := net.SplitHostPort(n.Status.Address)
		if err != nil {
			return netip.Addr{}, err
		}
		return netip.ParseAddr(host)
	}
	show := func(ws []way) (out []string) {
		for _, w := range ws {
			out = append(out, fmt.Sprintf("%s %s %s %d %v", w.node, w.to, w.via, w.link, w.wrapped))
		}
		return out
	}
	for mode, want := range map[string][]string{
		"auto": {"near 10.77.2.0/24 192.0.2.12 2 false", "far 10.77.3.0/24 192.0.2.200 0 true", "new 10.77.4.0/24 198.51.100.1 0 true",
			"moved 10.77.5.0/24 192.0.2.13 2 false", "thief 10.77.6.0/24 192.0.2.14 2 false", "moved 10.77.66.0/24 192.0.2.13 2 false"},
		"route": {"near 10.77.2.0/24 192.0.2.12 2 false", "moved 10.77.5.0/24 192.0.2.13 2 false", "thief 10.77.6.0/24 192.0.2.14 2 false", "moved 10.77.66.0/24 192.0.2.13 2 false"},
		"vxlan": {"near 10.77.2.0/24 192.0.2.12 0 true", "far 10.77.3.0/24 192.0.2.200 0 true", "new 10.77.4.0/24 198.51.100.1 0 true",
			"moved 10.77.5.0/24 192.0.2.13 0 true", "thief 10.77.6.0/24 192.0.2.14 0 true", "moved 10.77.66.0/24 192.0.2.13 0 true"},
	} {
		v.Network = &object.Network{Spec: object.NetworkSpec{Mode: mode}}
		got, problems := ways("self", v, s, address)
		if !slices.Equal(show(got), want) {
			t.Errorf("%s:\n%s\nwant\n%s", mode, strings.Join(show(got), "\n"), strings.Join(want, "\n"))
		}
		wantProblems := 1 // mute
		if mode == "route" {
			wantProblems = 3 // far and new cannot be reached so
		}
		if len(problems) != wantProblems {
			t.Errorf("%s: %v", mode, problems)
		}
	}
}

func TestPodsReachEachOtherAcrossNodes(t *testing.T) {
	for mode, reachable := range map[string]map[[2]string]bool{ // true: as it is; false: wrapped
		"auto":  {{"n1", "n2"}: true, {"n2", "n1"}: true, {"n1", "n3"}: false, {"n3", "n1"}: false, {"n2", "n3"}: false},
		"vxlan": {{"n1", "n2"}: false, {"n2", "n1"}: false, {"n1", "n3"}: false, {"n3", "n1"}: false, {"n2", "n3"}: false},
		"route": {{"n1", "n2"}: true, {"n2", "n1"}: true},
	} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			l.spec.Mode = mode
			before := map[string][]string{}
			for name, n := range l.nodes {
				before[name] = n.foreign()
			}
			l.tell("n1", "n2", "n3")
			pods, came := map[string]*labPod{}, map[string]<-chan string{}
			for name, n := range l.nodes {
				pods[name] = n.pod("p")
				came[name] = pods[name].serve()
			}
			for way, plain := range reachable {
				from, to := pods[way[0]], pods[way[1]]
				if err := from.reach(to); err != nil {
					t.Errorf("%s to %s: %v", way[0], way[1], err)
					continue
				}
				if who := <-came[way[1]]; who != from.addr.String() {
					t.Errorf("%s sees %s as %s, want %s", way[1], way[0], who, from.addr)
				}
				routes, err := l.handle(l.nodes[way[0]].path).RouteGet(to.addr.AsSlice())
				if err != nil {
					t.Fatal(err)
				}
				link, err := l.handle(l.nodes[way[0]].path).LinkByIndex(routes[0].LinkIndex)
				if err != nil || (link.Type() == "vxlan") == plain {
					t.Errorf("%s to %s leaves by %s %s, %v", way[0], way[1], link.Type(), link.Attrs().Name, err)
				}
			}
			for name, n := range l.nodes {
				mended, err := n.ensure()
				if len(mended) > 0 || (err != nil) != (mode == "route") {
					t.Errorf("%s: mended %v, %v", name, mended, err)
				}
				if err != nil && !strings.Contains(err.Error(), `Use mode = "auto"`) {
					t.Errorf("%s: %v", name, err)
				}
				// Nothing is left, and nothing of others was touched.
				if err := errors.Join(n.routes.Purge(), n.routes.Purge()); err != nil {
					t.Fatal(err)
				}
				if after := n.foreign(); !slices.Equal(after, before[name]) {
					t.Errorf("%s had the routes %v, now %v", name, before[name], after)
				}
				table, err := n.routes.read()
				if err != nil || len(table.own) != 0 {
					t.Errorf("%s: routes %v are left, %v", name, table.own, err)
				}
				links, err := l.handle(n.path).LinkList()
				if err != nil {
					t.Fatal(err)
				}
				for _, x := range links {
					if x.Type() == "vxlan" {
						t.Errorf("%s: %s is left", name, x.Attrs().Name)
					}
				}
			}
		})
	}
}

func TestNodesJoinAndLeave(t *testing.T) {
	l := newLab(t)
	l.tell("n1", "n2")
	one, three := l.nodes["n1"].pod("p"), l.nodes["n3"].pod("p")
	three.serve()
	if c, err := one.dial(three, 300*time.Millisecond); err == nil {
		c.Close()
		t.Fatal("n3 is no node yet, and its pod can be reached")
	}
	l.tell("n1", "n2", "n3")
	if err := one.reach(three); err != nil {
		t.Fatal(err)
	}
	l.tell("n1", "n2")
	if c, err := one.dial(three, 300*time.Millisecond); err == nil {
		c.Close()
		t.Fatal("n3 is no node any more, and its pod can be reached")
	}
	r := l.nodes["n1"].routes
	tun := tunnel{r: r}
	within(t, l.nodes["n1"].path, func() (err error) {
		_, err = tun.open()
		return err
	})
	for _, family := range []int{unix.AF_INET, unix.AF_BRIDGE} {
		left, err := r.h.NeighList(tun.link.Attrs().Index, family)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range left {
			if n.State&netlink.NUD_PERMANENT != 0 && n.IP != nil {
				t.Errorf("left at the VXLAN device: %s", n.String())
			}
		}
	}
	// Whoever has the range now, and wherever he is.
	l.nodes["n2"].r, l.nodes["n3"].r = l.nodes["n3"].r, l.nodes["n2"].r
	if err := r.Apply(t.Context(), l.view("n1", "n2", "n3")); err != nil {
		t.Fatal(err)
	}
	routes, err := r.h.RouteGet(net.ParseIP("10.77.3.5"))
	if err != nil || !routes[0].Gw.Equal(l.nodes["n2"].address.AsSlice()) {
		t.Errorf("10.77.3.0/24 is n2's now, and its packets go to %v, %v", routes, err)
	}
}

// TestRestartKeepsFlows: the agent ends and another takes over while pods of two
// nodes talk, and not one route is taken away or changed meanwhile.
func TestRestartKeepsFlows(t *testing.T) {
	l := newLab(t)
	all := []string{"n1", "n2", "n3"}
	l.tell(all...)
	one, two, three := l.nodes["n1"].pod("p"), l.nodes["n2"].pod("p"), l.nodes["n3"].pod("p")
	two.serve()
	three.serve()
	var conns []net.Conn
	for _, to := range []*labPod{two, three} {
		c, err := one.dial(to, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	changes := make(chan netlink.RouteUpdate, 100)
	stop := make(chan struct{})
	defer close(stop)
	within(t, l.nodes["n1"].path, func() error { return netlink.RouteSubscribe(changes, stop) })
	beat := func() {
		t.Helper()
		for _, c := range conns {
			c.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := c.Write([]byte("beat")); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Read(make([]byte, 4)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 3 {
		beat()
		for _, name := range all {
			l.nodes[name].stop()
		}
		beat() // nobody is there
		for _, name := range all {
			l.nodes[name].start()
		}
		beat()
		if got, err := l.nodes["n1"].net.Attach("p", one.path); err != nil || got != one.addr {
			t.Fatalf("the pod is attached anew: %s, %v", got, err)
		}
		l.tell(all...)
		beat()
	}
	for len(changes) > 0 {
		if c := <-changes; c.Protocol == routeProtocol {
			t.Errorf("a route was touched: %v", c)
		}
	}
}

func TestWhatIsDeletedByHandIsMended(t *testing.T) {
	l := newLab(t)
	l.tell("n1", "n2", "n3")
	one, two, three := l.nodes["n1"].pod("p"), l.nodes["n2"].pod("p"), l.nodes["n3"].pod("p")
	two.serve()
	three.serve()
	r := l.nodes["n1"].routes
	h := l.handle(l.nodes["n1"].path)
	device := func() netlink.Link {
		x, err := h.LinkByName((&tunnel{r: r}).name())
		l.must(err)
		return x
	}
	entries := func(family int) {
		list, err := h.NeighList(device().Attrs().Index, family)
		l.must(err)
		for _, n := range list {
			if n.State&netlink.NUD_PERMANENT != 0 && n.IP != nil {
				l.must(h.NeighDel(&n))
			}
		}
	}
	for _, x := range []struct {
		what   string
		damage func()
		mended string
	}{
		{"route", func() { l.must(h.RouteDel(&netlink.Route{Dst: ipNet(two.lab.nodes["n2"].r)})) }, "route to 10.77.2.0/24 (node n2)"},
		{"neighbours", func() { entries(unix.AF_INET) }, "to node n3"},
		{"forwarding", func() { entries(unix.AF_BRIDGE) }, "to node n3"},
		{"device down", func() { l.must(h.LinkSetDown(device())) }, "was down"},
		{"device gone", func() { l.must(h.LinkDel(device())) }, "VXLAN device berthx-"},
	} {
		x.damage()
		mended, err := l.nodes["n1"].ensure()
		if err != nil || !strings.Contains(strings.Join(mended, "; "), x.mended) {
			t.Errorf("%s: mended %q, %v", x.what, mended, err)
		}
		if err := errors.Join(one.reach(two), one.reach(three)); err != nil {
			t.Errorf("%s: %v", x.what, err)
		}
		if again, err := l.nodes["n1"].ensure(); len(again) > 0 || err != nil {
			t.Errorf("%s: mended again: %q, %v", x.what, again, err)
		}
	}
	// A route of somebody else's that is in the way is his; it is told of.
	l.must(h.RouteAdd(&netlink.Route{Dst: ipNet(netip.MustParsePrefix("10.77.2.128/25")), Gw: net.ParseIP("192.0.2.1"), Protocol: unix.RTPROT_STATIC}))
	if mended, err := l.nodes["n1"].ensure(); err == nil || len(mended) > 0 || !strings.Contains(err.Error(), "a route to 10.77.2.128/25 that is not Berth's hides the pods of node n2") {
		t.Errorf("a foreign route: mended %q, %v", mended, err)
	}
}

// TestMasqueradedPacketsComeBackWrapped: a node sends something on for a stranger,
// as it does with connections to services.
func TestMasqueradedPacketsComeBackWrapped(t *testing.T) {
	if _, err := exec.LookPath("iptables"); err != nil {
		t.Skip("iptables is not installed")
	}
	l := newLab(t)
	l.tell("n1", "n2", "n3")
	three := l.nodes["n3"].pod("p")
	came := three.serve()
	within(t, l.nodes["n1"].path, func() error {
		out, err := exec.Command("iptables", "-t", "nat", "-A", "POSTROUTING", "-d", "10.77.0.0/16", "-j", "MASQUERADE").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	// The stranger is on n1's segment and sends by way of n1.
	stranger := &labPod{lab: l, path: l.router}
	l.must(l.handle(l.router).RouteAdd(&netlink.Route{Dst: ipNet(l.nodes["n3"].r), Gw: l.nodes["n1"].address.AsSlice()}))
	if err := stranger.reach(three); err != nil {
		t.Fatal(err)
	}
	if who, want := <-came, l.nodes["n1"].net.Gateway().String(); who != want {
		t.Errorf("the pod sees %s, want %s, to which it answers through the tunnel", who, want)
	}
}

// TestFullPackets: what fits passes whole, what does not is told to the sender.
func TestFullPackets(t *testing.T) {
	l := newLab(t)
	old := l.nodes["n1"].pod("old") // from before the network was known
	l.tell("n1", "n2", "n3")
	young := l.nodes["n1"].pod("young")
	two, three := l.nodes["n2"].pod("p"), l.nodes["n3"].pod("p")
	at2, at3 := two.receive(), three.receive()
	for name, from := range map[string]*labPod{"old": old, "young": young} {
		if err := from.datagram(three, 1450); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if size := <-at3; size != 1450 {
			t.Errorf("%s: a packet of %d arrived, want 1450", name, size)
		}
		var err error
		for range 100 { // the old one has to run into it once
			if err = from.datagram(three, 1451); err != nil {
				break
			}
		}
		if !errors.Is(err, unix.EMSGSIZE) {
			t.Errorf("%s: a packet that is too large: %v", name, err)
		}
	}
	if err := old.datagram(two, 1500); err != nil { // not wrapped
		t.Fatal(err)
	}
	if size := <-at2; size != 1500 {
		t.Errorf("a packet of %d arrived, want 1500", size)
	}
	three.serve()
	if err := errors.Join(old.reach(three), young.reach(three)); err != nil {
		t.Error(err)
	}
	// The network's own limit.
	l.spec.MTU = 1400
	l.tell("n1", "n2", "n3")
	small := l.nodes["n1"].pod("small")
	if err := small.datagram(two, 1401); !errors.Is(err, unix.EMSGSIZE) {
		t.Errorf("over the network's mtu: %v", err)
	}
	if err := small.datagram(two, 1400); err != nil {
		t.Error(err)
	}
}

func TestAnotherRangeInForceIsTold(t *testing.T) {
	l := newLab(t)
	l.tell("n1", "n2")
	r := l.nodes["n1"].routes
	if err := r.Check(); err != nil {
		t.Fatal(err)
	}
	v := l.view("n1", "n2")
	v.Nodes[0].Spec.PodRange = "10.77.50.0/24"
	if err := r.Apply(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	if err := r.Check(); err == nil || !strings.Contains(err.Error(), "given this node the pod range 10.77.50.0/24, but its pods have addresses of 10.77.1.0/24") {
		t.Errorf("Check: %v", err)
	}
}

func TestARangeInUse(t *testing.T) {
	l := newLab(t)
	for name, x := range map[string]struct{ r, others, says string }{
		"address":  {"192.0.2.64/26", "10.9.0.0/16", "the range 192.0.2.64/26 is in use on this machine: eth0 has the address 192.0.2.11/24"},
		"services": {"10.9.0.0/24", "192.0.0.0/16", "the range 192.0.0.0/16 is in use"},
		"route":    {"203.0.113.0/24", "10.9.0.0/16", "there is a route to 203.0.112.0/20 by 192.0.2.1 at eth0"},
	} {
		var err error
		within(t, l.nodes["n1"].path, func() error {
			if name == "route" {
				l.must(netlink.RouteAdd(&netlink.Route{Dst: ipNet(netip.MustParsePrefix("203.0.112.0/20")), Gw: net.ParseIP("192.0.2.1")}))
			}
			_, err = Open(Config{Dir: t.TempDir(), Range: netip.MustParsePrefix(x.r), Cluster: []netip.Prefix{netip.MustParsePrefix(x.others)}})
			return nil
		})
		var used *RangeInUse
		if !errors.As(err, &used) || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAttachAndDetachLeaveNothing: some hundreds of pods in a range of 61 addresses.
func TestAttachAndDetachLeaveNothing(t *testing.T) {
	dir := t.TempDir()
	n := openNetwork(t, dir)
	defer n.Purge()
	for i := range 300 {
		pod := fmt.Sprint("p", i)
		path, end := pinNamespace(t)
		if _, err := n.Attach(pod, path); err != nil {
			t.Fatal(err)
		}
		if err := n.Detach(pod); err != nil {
			t.Fatal(err)
		}
		end()
	}
	if err := n.Retain(nil); err != nil {
		t.Fatal(err)
	}
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Attrs().MasterIndex == n.link {
			t.Errorf("%s is left", l.Attrs().Name)
		}
	}
	if len(n.ipam.byPod)+len(n.ipam.used) > 0 {
		t.Errorf("addresses are left: %v %v", n.ipam.byPod, n.ipam.used)
	}
}

func BenchmarkApplyUnchanged(b *testing.B) {
	r := &Routes{}
	v := &object.NetworkView{Network: &object.Network{}}
	for range 5000 {
		v.Nodes = append(v.Nodes, &object.Node{})
	}
	r.view = v
	w := *v
	w.Nodes = slices.Clone(v.Nodes)
	for b.Loop() {
		if err := r.Apply(context.Background(), &w); err != nil {
			b.Fatal(err)
		}
	}
}
