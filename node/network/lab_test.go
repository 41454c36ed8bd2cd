package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/cluster/object"
)

// lab is three machines: n1 and n2 on one segment, n3 behind a router.
type lab struct {
	t      testing.TB
	router string // path of its namespace
	nodes  map[string]*labNode
	spec   object.NetworkSpec
	index  uint64
}

type labNode struct {
	lab     *lab
	name    string
	path    string // of its namespace
	dir     string
	address netip.Addr
	r       netip.Prefix
	net     *Network
	routes  *Routes
}

func newLab(t testing.TB) *lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	l := &lab{t: t, nodes: map[string]*labNode{}, spec: object.NetworkSpec{Mode: "auto", Pods: "10.77.0.0/16", NodeBits: 24, Services: "10.78.0.0/16"}}
	l.router, _ = pinNamespace(t)
	rh := l.handle(l.router)
	within(t, l.router, func() error { return sysctl("net/ipv4/ip_forward", "1") })
	for segment, gateway := range map[string]string{"segA": "192.0.2.1/24", "segB": "198.51.100.1/24"} {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = segment
		l.must(rh.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
		l.address(rh, segment, gateway)
	}
	within(t, l.router, func() error { // the segments are switches, which do not look into packets
		if err := sysctl("net/bridge/bridge-nf-call-iptables", "0"); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
	for i, x := range []struct{ name, segment, address, gateway string }{
		{"n1", "segA", "192.0.2.11/24", "192.0.2.1"}, {"n2", "segA", "192.0.2.12/24", "192.0.2.1"}, {"n3", "segB", "198.51.100.13/24", "198.51.100.1"},
	} {
		path, _ := pinNamespace(t)
		n := &labNode{lab: l, name: x.name, path: path, dir: filepath.Join(t.TempDir(), x.name), address: netip.MustParsePrefix(x.address).Addr(),
			r: netip.MustParsePrefix(fmt.Sprintf("10.77.%d.0/24", i+1))}
		l.nodes[x.name] = n
		ns, err := netns.GetFromPath(path)
		l.must(err)
		attrs := netlink.NewLinkAttrs()
		attrs.Name = x.name
		l.must(rh.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns)}))
		l.must(ns.Close())
		port, err := rh.LinkByName(x.name)
		l.must(err)
		segment, err := rh.LinkByName(x.segment)
		l.must(err)
		l.must(rh.LinkSetMaster(port, segment))
		l.must(rh.LinkSetUp(port))
		h := l.handle(path)
		lo, err := h.LinkByName("lo")
		l.must(err)
		l.must(h.LinkSetUp(lo))
		l.address(h, "eth0", x.address)
		l.must(h.RouteAdd(&netlink.Route{Gw: net.ParseIP(x.gateway)}))
		n.start()
	}
	t.Cleanup(func() {
		for _, n := range l.nodes {
			n.stop()
		}
	})
	return l
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) handle(path string) *netlink.Handle {
	l.t.Helper()
	ns, err := netns.GetFromPath(path)
	l.must(err)
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	l.must(err)
	l.t.Cleanup(h.Close)
	return h
}

func (l *lab) address(h *netlink.Handle, link, address string) {
	l.t.Helper()
	x, err := h.LinkByName(link)
	l.must(err)
	a, err := netlink.ParseAddr(address)
	l.must(err)
	l.must(h.AddrAdd(x, a))
	l.must(h.LinkSetUp(x))
}

// start is the node's process; stop leaves everything in force.
func (n *labNode) start() {
	n.lab.t.Helper()
	within(n.lab.t, n.path, func() (err error) {
		if n.net, err = Open(Config{Dir: n.dir, Range: n.r, Cluster: []netip.Prefix{netip.MustParsePrefix("10.77.0.0/16"), netip.MustParsePrefix("10.78.0.0/16")}}); err != nil {
			return err
		}
		n.routes, err = OpenRoutes(RoutesConfig{Node: n.name, Address: n.address, Range: n.r, Source: n.net.Gateway(), Tag: Tag(n.dir), PathMTU: n.net.SetPathMTU})
		return err
	})
}

func (n *labNode) stop() {
	if n.net != nil {
		n.net.Close()
		n.routes.Close()
		n.net, n.routes = nil, nil
	}
}

// view is what the masters tell when these are the nodes.
func (l *lab) view(names ...string) *object.NetworkView {
	l.index++
	v := &object.NetworkView{Index: l.index, Network: &object.Network{Meta: object.Meta{Kind: object.KindNetwork, Name: object.NetworkName}, Spec: l.spec}}
	for _, name := range names {
		n := l.nodes[name]
		v.Nodes = append(v.Nodes, &object.Node{Meta: object.Meta{Kind: object.KindNode, Name: name}, Spec: object.NodeSpec{PodRange: n.r.String()},
			Status: object.NodeStatus{Address: n.address.String() + ":7410", PodRange: n.r.String()}})
	}
	return v
}

// tell gives a view of these nodes to each of them.
func (l *lab) tell(names ...string) {
	l.t.Helper()
	v := l.view(names...)
	for _, name := range names {
		within(l.t, l.nodes[name].path, func() error { return l.nodes[name].routes.Apply(context.Background(), v) })
	}
}

func (n *labNode) ensure() (mended []string, err error) {
	within(n.lab.t, n.path, func() error {
		mended, err = n.routes.Ensure(context.Background())
		return nil
	})
	return mended, err
}

type labPod struct {
	lab  *lab
	path string
	addr netip.Addr
}

func (n *labNode) pod(name string) *labPod {
	n.lab.t.Helper()
	path, _ := pinNamespace(n.lab.t)
	addr, err := n.net.Attach(name, path)
	n.lab.must(err)
	return &labPod{n.lab, path, addr}
}

// serve echoes what it is sent at port 80 and tells who came.
func (p *labPod) serve() <-chan string {
	p.lab.t.Helper()
	var l net.Listener
	within(p.lab.t, p.path, func() (err error) {
		l, err = net.Listen("tcp4", netip.AddrPortFrom(p.addr, 80).String())
		return err
	})
	p.lab.t.Cleanup(func() { l.Close() })
	came := make(chan string, 1000)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			came <- host
			go func() {
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	return came
}

// dial connects from the pod; it takes as long as the kernel has somewhere to go.
func (p *labPod) dial(to *labPod, patience time.Duration) (c net.Conn, err error) {
	within(p.lab.t, p.path, func() error {
		c, err = net.DialTimeout("tcp4", netip.AddrPortFrom(to.addr, 80).String(), patience)
		return nil
	})
	return c, err
}

// reach sends a megabyte there and back.
func (p *labPod) reach(to *labPod) error {
	c, err := p.dial(to, 10*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	const size = 1 << 20
	go c.Write(make([]byte, size))
	n, err := io.CopyN(io.Discard, c, size)
	if err != nil {
		return fmt.Errorf("%d bytes came back: %w", n, err)
	}
	return nil
}

// table is the routes of a node, without Berth's, as text.
func (n *labNode) foreign() []string {
	n.lab.t.Helper()
	routes, err := n.lab.handle(n.path).RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	n.lab.must(err)
	var out []string
	for _, r := range routes {
		if r.Protocol != routeProtocol {
			out = append(out, r.String())
		}
	}
	slices.Sort(out)
	return out
}

// datagram sends a packet of a size, whole or not at all.
func (p *labPod) datagram(to *labPod, size int) error {
	var err error
	within(p.lab.t, p.path, func() error {
		var c net.Conn
		if c, err = net.Dial("udp4", netip.AddrPortFrom(to.addr, 9).String()); err != nil {
			return nil
		}
		defer c.Close()
		raw, _ := c.(*net.UDPConn).SyscallConn()
		raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
		})
		if err == nil {
			_, err = c.Write(make([]byte, size-28))
		}
		return nil
	})
	return err
}

// receive tells the sizes of the packets that come to port 9.
func (p *labPod) receive() <-chan int {
	p.lab.t.Helper()
	var c net.PacketConn
	within(p.lab.t, p.path, func() (err error) {
		c, err = net.ListenPacket("udp4", netip.AddrPortFrom(p.addr, 9).String())
		return err
	})
	p.lab.t.Cleanup(func() { c.Close() })
	sizes := make(chan int, 1000)
	go func() {
		b := make([]byte, 65536)
		for {
			n, _, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			sizes <- n + 28
		}
	}()
	return sizes
}
