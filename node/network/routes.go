package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/cluster/object"
)

// routeProtocol marks routes as Berth's. The kernel has no meaning for the number,
// and the registries of iproute2 and FRR do not use it.
const routeProtocol = 98

// routeMetric leaves the first place to routes of the machine's owner; one that
// hides ours is told of, not replaced.
const routeMetric = 98

const (
	resolveTimeout = time.Second
	resolvedFor    = time.Minute
)

// RoutesConfig says for whom routes are made.
type RoutesConfig struct {
	Node    string       // this node
	Address netip.Addr   // its own address among the nodes
	Range   netip.Prefix // addresses of its pods
	// Source is the node's address in its pods' range: what the node itself sends
	// to pods elsewhere comes from there, so that the answer takes the same way
	// back. It also tells this node's routes from those of another on the machine.
	// Not valid: whatever the kernel chooses (CNI plugins made the bridge).
	Source netip.Addr
	Tag    string // makes the name of the VXLAN device unique
	Port   int    // of VXLAN, UDP; 0: 8472
	// PathMTU hears the largest packet that reaches every pod; 0: what the link
	// takes. May be nil.
	PathMTU func(int)
}

// Routes keeps the ways to the pods of the other nodes: routes where they are on a
// segment with this one, VXLAN where they are not. Apply and Ensure are not called
// at once; Check may be at any time.
type Routes struct {
	cfg RoutesConfig
	h   *netlink.Handle

	view     *object.NetworkView // applied last
	resolved map[string]resolved

	mu       sync.Mutex
	mismatch error // what Check says
}

type resolved struct {
	addr netip.Addr
	at   time.Time
}

// OpenRoutes makes ready; nothing changes before Apply. Routes that an earlier
// process made stay in force until then. It needs CAP_NET_ADMIN.
func OpenRoutes(c RoutesConfig) (*Routes, error) {
	if c.Port == 0 {
		c.Port = vxlanPort
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	return &Routes{cfg: c, h: h, resolved: map[string]resolved{}}, nil
}

// Close frees what the process holds; the routes stay.
func (r *Routes) Close() { r.h.Close() }

// Apply makes the routes be as the view wants them. Without a change of a node or
// of the network it costs a comparison of pointers.
func (r *Routes) Apply(ctx context.Context, v *object.NetworkView) error {
	if r.view != nil && r.view.Network == v.Network && slices.Equal(r.view.Nodes, v.Nodes) {
		return nil
	}
	r.judge(v)
	_, _, err := r.settle(ctx, v)
	if err == nil {
		r.view = v
	}
	return err
}

// Ensure mends what somebody else has changed, and follows changes of the
// machine's own links.
func (r *Routes) Ensure(ctx context.Context) ([]string, error) {
	if r.view == nil {
		return nil, nil
	}
	mended, problems, err := r.settle(ctx, r.view)
	return mended, errors.Join(append(problems, err)...)
}

// Check says that this node has another range in force than the masters have
// given it: it serves the pods that it has and should get no more.
func (r *Routes) Check() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mismatch
}

func (r *Routes) judge(v *object.NetworkView) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mismatch = nil
	for _, n := range v.Nodes {
		if p, ok := object.Prefix(n.Spec.PodRange); n.Name == r.cfg.Node && ok && p != r.cfg.Range.Masked() {
			r.mismatch = fmt.Errorf("the masters have given this node the pod range %s, but its pods have addresses of %s; they are served on. Drain the node and restart it to change over", p, r.cfg.Range)
		}
	}
}

// settle compares what is with what should be and changes what differs: first what
// routes lead to, then routes, and then goes what no route leads to any more.
func (r *Routes) settle(ctx context.Context, v *object.NetworkView) (mended []string, problems []error, err error) {
	kernel, err := r.read()
	if err != nil {
		return nil, nil, err
	}
	want, problems := ways(r.cfg.Node, v, &kernel.surroundings, func(n *object.Node) (netip.Addr, error) { return r.address(ctx, n) })
	problems = append(problems, kernel.hidden(want)...)

	wrapped := slices.DeleteFunc(slices.Clone(want), func(w way) bool { return !w.wrapped })
	t := tunnel{r: r}
	if v.Network != nil && v.Network.Spec.Mode != "route" && len(want) > 0 {
		// Also when no way of this node needs it: the other side may see it otherwise.
		made, err := t.open()
		if err != nil && len(wrapped) > 0 {
			return nil, problems, err
		}
		mended = append(mended, made...)
	}
	if len(wrapped) > 0 {
		done, err := t.point(wrapped)
		mended = append(mended, done...)
		if err != nil {
			return mended, problems, err
		}
	}
	mtu := 0
	if v.Network != nil {
		mtu = v.Network.Spec.MTU
	}
	done, err := r.route(kernel, want, &t, mtu)
	mended = append(mended, done...)
	if err != nil {
		return mended, problems, err
	}
	if len(wrapped) == 0 && (len(want) == 0 || v.Network == nil || v.Network.Spec.Mode == "route") {
		err = t.remove()
	} else if t.link != nil {
		err = t.forget(wrapped)
	}
	if r.cfg.PathMTU != nil {
		if len(wrapped) > 0 && (mtu == 0 || mtu > t.mtu()) {
			mtu = t.mtu()
		}
		r.cfg.PathMTU(mtu)
	}
	return mended, problems, err
}

// address is where a node is. Names are resolved, and remembered for a while.
func (r *Routes) address(ctx context.Context, n *object.Node) (netip.Addr, error) {
	host, _, err := net.SplitHostPort(n.Status.Address)
	if err != nil {
		host = n.Status.Address
	}
	if host == "" {
		return netip.Addr{}, errors.New("it has not said where it is")
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap(), nil
	}
	had, ok := r.resolved[host]
	if ok && time.Since(had.at) < resolvedFor {
		return had.addr, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
	if err == nil && len(found) > 0 {
		slices.SortFunc(found, netip.Addr.Compare)
		had = resolved{found[0].Unmap(), time.Now()}
		r.resolved[host] = had
	} else if !ok {
		return netip.Addr{}, fmt.Errorf("its address %s cannot be resolved: %w; start it with --advertise ADDRESS", host, err)
	}
	return had.addr, nil
}

// table is what the kernel has.
type table struct {
	surroundings
	own     []netlink.Route // Berth's, of this node
	foreign []netlink.Route
}

func (r *Routes) read() (*table, error) {
	routes, err := r.h.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("reading the routes: %w", err)
	}
	addrs, err := r.h.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("reading the addresses: %w", err)
	}
	t := &table{}
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			t.local = append(t.local, ip.Unmap())
		}
	}
	for _, x := range routes {
		if x.Protocol == routeProtocol {
			if r.owns(x) {
				t.own = append(t.own, x)
			}
			continue
		}
		t.foreign = append(t.foreign, x)
		if x.Type == unix.RTN_UNICAST {
			t.hops = append(t.hops, hop{to: prefix(x.Dst), link: x.LinkIndex, gateway: x.Gw != nil || x.Via != nil || len(x.MultiPath) > 0, metric: x.Priority})
		}
	}
	t.order()
	return t, nil
}

func (r *Routes) owns(x netlink.Route) bool {
	return x.Protocol == routeProtocol && (!r.cfg.Source.IsValid() || x.Src.Equal(r.cfg.Source.AsSlice()))
}

// hidden finds routes of others that lead packets for pods elsewhere.
func (t *table) hidden(want []way) (problems []error) {
	for _, x := range t.foreign {
		p := prefix(x.Dst)
		i := slices.IndexFunc(want, func(w way) bool { return w.to.Contains(p.Addr()) && w.to.Bits() <= p.Bits() })
		if i >= 0 && (p.Bits() > want[i].to.Bits() || x.Priority < routeMetric) {
			problems = append(problems, fmt.Errorf("a route to %s that is not Berth's hides the pods of node %s; remove it: ip route del %s", p, want[i].node, p))
		}
	}
	return problems
}

// prefix is a route's destination; none is the default route.
func prefix(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	a, _ := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), ones)
}

// route makes the routes of the ways, and removes those of no way.
func (r *Routes) route(t *table, want []way, via *tunnel, mtu int) (mended []string, err error) {
	have := map[netip.Prefix]netlink.Route{}
	for _, x := range t.own {
		have[prefix(x.Dst)] = x
	}
	for _, w := range want {
		x := netlink.Route{Dst: ipNet(w.to), Protocol: routeProtocol, Priority: routeMetric, Table: unix.RT_TABLE_MAIN, MTU: mtu}
		if r.cfg.Source.IsValid() {
			x.Src = r.cfg.Source.AsSlice()
		}
		if w.wrapped {
			// The next hop is the first address of the range, which nobody has: a
			// name for the other end of the tunnel.
			x.LinkIndex, x.Gw, x.Flags = via.link.Attrs().Index, w.to.Addr().AsSlice(), unix.RTNH_F_ONLINK
			if mtu > via.mtu() {
				x.MTU = 0
			}
		} else {
			x.LinkIndex, x.Gw = w.link, w.via.AsSlice()
		}
		old, ok := have[w.to]
		delete(have, w.to)
		if ok && old.LinkIndex == x.LinkIndex && old.Gw.Equal(x.Gw) && old.MTU == x.MTU && old.Flags&unix.RTNH_F_ONLINK == x.Flags && old.Priority == x.Priority {
			continue
		}
		if err := r.h.RouteReplace(&x); err != nil {
			return mended, fmt.Errorf("route to %s (node %s, %s): %w", w.to, w.node, w.via, err)
		}
		mended = append(mended, fmt.Sprintf("route to %s (node %s)", w.to, w.node))
	}
	for _, x := range have {
		if err := r.h.RouteDel(&x); err != nil && !errors.Is(err, unix.ESRCH) {
			return mended, fmt.Errorf("removing the route to %s: %w", x.Dst, err)
		}
	}
	return mended, nil
}

// Purge removes this node's routes and its VXLAN device.
func (r *Routes) Purge() error {
	t, err := r.read()
	if err != nil {
		return err
	}
	if _, err := r.route(t, nil, nil, 0); err != nil {
		return err
	}
	r.view = nil
	return (&tunnel{r: r}).remove()
}
