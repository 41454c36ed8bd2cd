package network

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// podInterface is the name of a pod's interface inside the pod.
const podInterface = "eth0"

// Config describes a node's pod network.
type Config struct {
	// Dir keeps the allocations; it also makes the names of the interfaces
	// unique, so that several nodes can share one machine.
	Dir   string
	Range netip.Prefix // addresses for pods, IPv4
	// Cluster are the ranges of all pods and services: nothing else on this machine
	// may use them. May be empty.
	Cluster []netip.Prefix
	MTU     int // 0: that of the interface with the default route
}

// Network is the pod network of one node. Its methods may be called at once.
type Network struct {
	cfg    Config
	tag    string // of the names of interfaces
	bridge string

	mu      sync.Mutex // guards ipam and pathMTU
	ipam    *allocator
	pathMTU int // largest packet of pods that leaves the node; 0: the link's
	link    int // index of the bridge
	h       *netlink.Handle
}

// Open makes the bridge, or takes over the one that is there, and switches
// forwarding on. It needs CAP_NET_ADMIN.
func Open(c Config) (*Network, error) {
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, err
	}
	c.Dir = dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	ipam, err := openAllocator(filepath.Join(dir, leaseFile), c.Range, time.Now)
	if err != nil {
		return nil, err
	}
	n := &Network{cfg: c, ipam: ipam, tag: Tag(dir)}
	n.bridge = "berth-" + n.tag // 12 characters of at most 15
	if n.h, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	if n.cfg.MTU == 0 {
		n.cfg.MTU = n.defaultMTU()
	}
	if err := n.free(); err != nil {
		n.h.Close()
		return nil, err
	}
	if err := n.ensureBridge(); err != nil {
		n.h.Close()
		return nil, fmt.Errorf("bridge %s: %w", n.bridge, err)
	}
	if err := sysctl("net/ipv4/ip_forward", "1"); err != nil {
		n.h.Close()
		return nil, err
	}
	return n, nil
}

// Tag makes the names of interfaces unique on a machine, from the directory of a
// node's network.
func Tag(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	sum := sha256.Sum256([]byte(dir))
	return hex.EncodeToString(sum[:])[:6]
}

// Close frees what the process holds; the pods keep their network.
func (n *Network) Close() { n.h.Close() }

// Range is the range that pods get their addresses from.
func (n *Network) Range() netip.Prefix { return n.ipam.r }

// Gateway is the node's own address in the pod network.
func (n *Network) Gateway() netip.Addr { return n.ipam.gateway().Addr() }

// Bridge is the name of the bridge.
func (n *Network) Bridge() string { return n.bridge }

// SetPathMTU says how large the packets of pods that are attached from now on may
// be when they leave the node; 0 is what the link takes. Pods on one node always
// reach each other with the link's own size, for a bridge drops in silence what is
// too large for a port; pods that are there already learn of a smaller one from
// the node when they first send a packet that is too large.
func (n *Network) SetPathMTU(mtu int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pathMTU = mtu
}

// defaultMTU is the MTU of the way out; 1500 where there is none.
func (n *Network) defaultMTU() int {
	routes, err := n.h.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return 1500
	}
	for _, r := range routes {
		if r.Dst == nil || r.Dst.IP.IsUnspecified() {
			if l, err := n.h.LinkByIndex(r.LinkIndex); err == nil && l.Attrs().MTU > 0 {
				return l.Attrs().MTU
			}
		}
	}
	return 1500
}

func (n *Network) ensureBridge() error {
	gw := n.ipam.gateway()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = n.bridge, n.cfg.MTU
	// A bridge without an address of its own takes that of a port, and changes
	// it, under the pods' ARP caches, when the port goes.
	attrs.HardwareAddr = mac(gw.Addr())
	err := n.h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	l, err := n.h.LinkByName(n.bridge)
	if err != nil {
		return err
	}
	if _, ok := l.(*netlink.Bridge); !ok {
		return fmt.Errorf("there is an interface of this name that is a %s; remove it", l.Type())
	}
	have, err := n.h.AddrList(l, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	want := ipNet(gw)
	found := false
	for _, a := range have {
		if a.IPNet.String() == want.String() {
			found = true
		} else if err := n.h.AddrDel(l, &a); err != nil { // of a range that the node had before
			return err
		}
	}
	if !found {
		if err := n.h.AddrAdd(l, &netlink.Addr{IPNet: want}); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("address %s: %w", gw, err)
		}
	}
	if err := n.h.LinkSetUp(l); err != nil {
		return err
	}
	n.link = l.Attrs().Index
	return nil
}

// mac derives a hardware address from an IPv4 address, so that an address that
// is used again does not meet stale ARP entries.
func mac(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{0x0a, 0x58, b[0], b[1], b[2], b[3]}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}

// port is the name of the host's end of a pod's veth pair.
func (n *Network) port(pod string) string {
	sum := sha256.Sum256([]byte(n.cfg.Dir + "\x00" + pod))
	return "bv" + n.tag + hex.EncodeToString(sum[:])[:7] // 15 characters
}

// Attach gives the network namespace at path an address, a default route and a
// loopback interface, and returns the address. A pod that is attached already
// keeps what it has.
func (n *Network) Attach(pod, path string) (netip.Addr, error) {
	n.mu.Lock()
	addr, err := n.ipam.take(pod)
	n.mu.Unlock()
	if err != nil {
		return netip.Addr{}, err
	}
	if err := n.attach(n.port(pod), addr, path); err != nil {
		return netip.Addr{}, fmt.Errorf("network of the pod: %w", errors.Join(err, n.Detach(pod)))
	}
	return addr, nil
}

func (n *Network) attach(name string, addr netip.Addr, path string) error {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return fmt.Errorf("namespace %s: %w", path, err)
	}
	defer ns.Close()
	inside, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("namespace %s: %w", path, err)
	}
	defer inside.Close()
	if n.attached(inside, name, addr) {
		return nil
	}
	if l, err := n.h.LinkByName(name); err == nil { // half of an earlier try
		if err := n.h.LinkDel(l); err != nil {
			return err
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, n.cfg.MTU
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: podInterface, PeerNamespace: netlink.NsFd(ns), PeerHardwareAddr: mac(addr)}
	if err := n.h.LinkAdd(veth); err != nil {
		return fmt.Errorf("veth pair: %w", err)
	}
	host, err := n.h.LinkByName(name)
	if err != nil {
		return err
	}
	if err := quiet(n.h, host); err != nil {
		return err
	}
	if err := n.h.LinkSetMasterByIndex(host, n.link); err != nil {
		return fmt.Errorf("joining the bridge: %w", err)
	}
	// A pod that reaches itself through a service comes in by the port that it
	// went out of.
	if err := n.h.LinkSetHairpin(host, true); err != nil {
		return fmt.Errorf("hairpin: %w", err)
	}
	if err := n.h.LinkSetUp(host); err != nil {
		return err
	}
	return n.configure(inside, addr)
}

// quiet keeps the kernel from giving a link an IPv6 address of its own accord when
// it comes up. Pods have IPv4 addresses only, and each such address costs a dozen
// packets (duplicate address detection, group reports, questions for routers)
// that the bridge has to bring to every other pod of the node.
func quiet(h *netlink.Handle, l netlink.Link) error {
	err := h.LinkSetIP6AddrGenMode(l, nl.IN6_ADDR_GEN_MODE_NONE)
	if errors.Is(err, unix.EAFNOSUPPORT) { // a kernel without IPv6 has none to give
		return nil
	}
	return err
}

// configure sets up the pod's side.
func (n *Network) configure(inside *netlink.Handle, addr netip.Addr) error {
	lo, err := inside.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := inside.LinkSetUp(lo); err != nil {
		return err
	}
	eth, err := inside.LinkByName(podInterface)
	if err != nil {
		return err
	}
	if err := quiet(inside, eth); err != nil {
		return err
	}
	own := ipNet(netip.PrefixFrom(addr, n.ipam.r.Bits()))
	if err := inside.AddrAdd(eth, &netlink.Addr{IPNet: own}); err != nil {
		return fmt.Errorf("address %s: %w", addr, err)
	}
	if err := inside.LinkSetUp(eth); err != nil {
		return err
	}
	n.mu.Lock()
	route := &netlink.Route{LinkIndex: eth.Attrs().Index, Gw: n.Gateway().AsSlice(), MTU: n.pathMTU}
	n.mu.Unlock()
	if err := inside.RouteAdd(route); err != nil {
		return fmt.Errorf("default route: %w", err)
	}
	return nil
}

// attached reports whether both ends are as Attach leaves them.
func (n *Network) attached(inside *netlink.Handle, name string, addr netip.Addr) bool {
	host, err := n.h.LinkByName(name)
	if err != nil || host.Attrs().MasterIndex != n.link {
		return false
	}
	eth, err := inside.LinkByName(podInterface)
	if err != nil {
		return false
	}
	have, err := inside.AddrList(eth, netlink.FAMILY_V4)
	return err == nil && slices.ContainsFunc(have, func(a netlink.Addr) bool { return a.IP.Equal(addr.AsSlice()) })
}

// Address is the address that a pod has, if it has one.
func (n *Network) Address(pod string) (netip.Addr, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, ok := n.ipam.byPod[pod]
	return a, ok
}

// Adopt records that a running pod has an address (of an earlier run).
func (n *Network) Adopt(pod string, addr netip.Addr) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.ipam.reserve(pod, addr) {
		return fmt.Errorf("address %s is taken by another pod or not of the range %s", addr, n.ipam.r)
	}
	return n.ipam.save()
}

// Detach gives the pod's address back. The veth pair is the kernel's to delete:
// it goes with the pod's namespace, which costs this process nothing.
func (n *Network) Detach(pod string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.ipam.release(pod) {
		return nil
	}
	return n.ipam.save()
}

// Retain gives back the addresses of all pods but these, and removes ports that
// belong to none of them.
func (n *Network) Retain(pods []string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	ports := map[string]bool{}
	for _, p := range pods {
		ports[n.port(p)] = true
	}
	freed := false
	for pod := range n.ipam.byPod {
		if !slices.Contains(pods, pod) {
			n.ipam.release(pod)
			freed = true
		}
	}
	if err := n.removePorts(func(name string) bool { return !ports[name] }); err != nil {
		return err
	}
	if freed {
		return n.ipam.save()
	}
	return nil
}

func (n *Network) removePorts(which func(name string) bool) error {
	links, err := n.h.LinkList()
	if err != nil {
		return err
	}
	for _, l := range links {
		a := l.Attrs()
		if a.MasterIndex == n.link && l.Type() == "veth" && which(a.Name) {
			if err := n.h.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
				return fmt.Errorf("removing %s: %w", a.Name, err)
			}
		}
	}
	return nil
}

// Purge removes the ports, the bridge and the record of allocations.
func (n *Network) Purge() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.removePorts(func(string) bool { return true }); err != nil {
		return err
	}
	if l, err := n.h.LinkByName(n.bridge); err == nil {
		if err := n.h.LinkDel(l); err != nil {
			return fmt.Errorf("removing bridge %s: %w", n.bridge, err)
		}
	}
	return errors.Join(os.RemoveAll(n.ipam.path), os.RemoveAll(spare(n.ipam.path)))
}
