package network

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	vxlanPort = 8472 // what the kernel has always used, and firewalls know
	vxlanID   = 98
	// What wrapping adds: the inner Ethernet header, VXLAN, UDP and IP.
	wrapping4 = 14 + 8 + 8 + 20
	wrapping6 = 14 + 8 + 8 + 40
)

// tunnel is the VXLAN device of a node. It learns nothing and floods nothing: for
// every other node it is told the hardware address (derived from the node's name,
// so that nobody has to announce it) and where that is.
type tunnel struct {
	r    *Routes
	link netlink.Link // nil until open
}

func (t *tunnel) name() string { return "berthx-" + t.r.cfg.Tag }

// hardware is the hardware address of a node's end of the tunnels.
func hardware(node string) net.HardwareAddr {
	sum := sha256.Sum256([]byte("berth/vxlan\x00" + node))
	return append(net.HardwareAddr{0x0a}, sum[:5]...) // locally administered, of one station
}

func (t *tunnel) mtu() int { return t.link.Attrs().MTU }

// room is the largest packet that can be wrapped.
func (t *tunnel) room() (int, error) {
	over := wrapping4
	if t.r.cfg.Address.Is6() {
		over = wrapping6
	}
	addrs, err := t.r.h.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return 0, err
	}
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && ip.Unmap() == t.r.cfg.Address {
			l, err := t.r.h.LinkByIndex(a.LinkIndex)
			if err != nil {
				return 0, err
			}
			return l.Attrs().MTU - over, nil
		}
	}
	return 0, fmt.Errorf("this machine does not have the address %s, by which other nodes would reach it; give one that it has with --advertise", t.r.cfg.Address)
}

// open makes the device, or takes over the one that is there, and puts right what
// is not as it should be.
func (t *tunnel) open() (mended []string, err error) {
	h := t.r.h
	mtu, err := t.room()
	if err != nil {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = t.name(), mtu, hardware(t.r.cfg.Node)
	want := &netlink.Vxlan{LinkAttrs: attrs, VxlanId: vxlanID, SrcAddr: t.r.cfg.Address.AsSlice(), Port: t.r.cfg.Port}
	l, err := h.LinkByName(t.name())
	if have, ok := l.(*netlink.Vxlan); err == nil && (!ok || have.VxlanId != want.VxlanId || have.Port != want.Port || !have.SrcAddr.Equal(want.SrcAddr) || have.Learning) {
		if !ok {
			return nil, fmt.Errorf("there is an interface %s that is a %s; remove it", t.name(), l.Type())
		}
		if err := h.LinkDel(l); err != nil {
			return nil, fmt.Errorf("VXLAN device %s: %w", t.name(), err)
		}
		err = netlink.LinkNotFoundError{}
	}
	if err != nil {
		if err := h.LinkAdd(want); err != nil {
			return nil, fmt.Errorf("VXLAN device %s: %w", t.name(), explain(err, t.r.cfg.Port))
		}
		mended = append(mended, "VXLAN device "+t.name())
		// Answers may come by another link than they would leave by.
		if err := sysctl("net/ipv4/conf/"+t.name()+"/rp_filter", "2"); err != nil {
			return nil, err
		}
		if l, err = h.LinkByName(t.name()); err != nil {
			return nil, err
		}
	}
	a := l.Attrs()
	if a.MTU != mtu {
		if err := h.LinkSetMTU(l, mtu); err != nil {
			return nil, fmt.Errorf("VXLAN device %s: MTU %d: %w", t.name(), mtu, err)
		}
	}
	if !bytes.Equal(a.HardwareAddr, attrs.HardwareAddr) {
		if err := h.LinkSetHardwareAddr(l, attrs.HardwareAddr); err != nil {
			return nil, fmt.Errorf("VXLAN device %s: %w", t.name(), err)
		}
	}
	if a.Flags&net.FlagUp == 0 {
		if err := h.LinkSetUp(l); err != nil {
			return nil, fmt.Errorf("VXLAN device %s: %w", t.name(), err)
		}
		if len(mended) == 0 {
			mended = append(mended, "VXLAN device "+t.name()+" was down")
		}
	}
	if t.link, err = h.LinkByName(t.name()); err != nil {
		return mended, err
	}
	return mended, t.claim()
}

// claim gives the device the node's address in its pods' range, for what is
// masqueraded when it leaves by the device: the kernel then takes an address of
// the device, and with one of another link the answer would come back unwrapped,
// by a way that need not exist.
func (t *tunnel) claim() error {
	if !t.r.cfg.Source.Is4() {
		return nil
	}
	have, err := t.r.h.AddrList(t.link, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	want := ipNet(netip.PrefixFrom(t.r.cfg.Source, 32))
	for _, a := range have {
		if a.IPNet.String() == want.String() {
			return nil
		}
		if err := t.r.h.AddrDel(t.link, &a); err != nil { // of a range that the node had before
			return fmt.Errorf("VXLAN device %s: removing %s: %w", t.name(), a.IPNet, err)
		}
	}
	if err := t.r.h.AddrAdd(t.link, &netlink.Addr{IPNet: want}); err != nil {
		return fmt.Errorf("VXLAN device %s: address %s: %w", t.name(), t.r.cfg.Source, err)
	}
	return nil
}

func explain(err error, port int) error {
	switch {
	case errors.Is(err, unix.EEXIST), errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("something else on this machine uses VXLAN at UDP port %d: %w", port, err)
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("this kernel has no VXLAN; use mode = \"route\" on one segment: %w", err)
	}
	return err
}

func sysctl(name, value string) error {
	if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0o644); err != nil { //nolint:gosec // a sysctl
		return fmt.Errorf("setting %s: %w", name, err)
	}
	return nil
}

// entries are the neighbours and forwarding entries that lead to the ends of the
// ways, by what they are looked up with.
func (t *tunnel) entries(wrapped []way) (neighbours, forward map[string]netlink.Neigh) {
	neighbours, forward = map[string]netlink.Neigh{}, map[string]netlink.Neigh{}
	index := t.link.Attrs().Index
	for _, w := range wrapped {
		mac := hardware(w.node)
		neighbours[w.to.Addr().String()] = netlink.Neigh{LinkIndex: index, Family: unix.AF_INET, State: netlink.NUD_PERMANENT, IP: w.to.Addr().AsSlice(), HardwareAddr: mac}
		forward[mac.String()] = netlink.Neigh{LinkIndex: index, Family: unix.AF_BRIDGE, State: netlink.NUD_PERMANENT, Flags: netlink.NTF_SELF, IP: w.via.AsSlice(), HardwareAddr: mac}
	}
	return neighbours, forward
}

// point makes the entries that are missing.
func (t *tunnel) point(wrapped []way) (mended []string, err error) {
	neighbours, forward := t.entries(wrapped)
	for _, x := range []struct {
		family int
		want   map[string]netlink.Neigh
		key    func(netlink.Neigh) string
	}{{unix.AF_INET, neighbours, byIP}, {unix.AF_BRIDGE, forward, byMAC}} {
		have, err := t.r.h.NeighList(t.link.Attrs().Index, x.family)
		if err != nil {
			return mended, fmt.Errorf("reading the neighbours of %s: %w", t.name(), err)
		}
		for _, n := range have {
			if w, ok := x.want[x.key(n)]; ok && n.IP.Equal(w.IP) && bytes.Equal(n.HardwareAddr, w.HardwareAddr) && n.State&netlink.NUD_PERMANENT != 0 {
				delete(x.want, x.key(n))
			}
		}
		for _, w := range wrapped {
			for _, key := range []string{w.to.Addr().String(), hardware(w.node).String()} {
				n, missing := x.want[key]
				if !missing {
					continue
				}
				if err := t.r.h.NeighSet(&n); err != nil {
					return mended, fmt.Errorf("pointing %s to node %s at %s: %w", t.name(), w.node, w.via, err)
				}
				delete(x.want, key)
				mended = append(mended, fmt.Sprintf("way through %s to node %s", t.name(), w.node))
			}
		}
	}
	return mended, nil
}

func byIP(n netlink.Neigh) string  { return n.IP.String() }
func byMAC(n netlink.Neigh) string { return n.HardwareAddr.String() }

// forget removes the entries of nodes that nothing leads to any more. Everything
// at the device is ours.
func (t *tunnel) forget(wrapped []way) error {
	neighbours, forward := t.entries(wrapped)
	for _, family := range []int{unix.AF_INET, unix.AF_BRIDGE} {
		have, err := t.r.h.NeighList(t.link.Attrs().Index, family)
		if err != nil {
			return err
		}
		for _, n := range have {
			_, isNeighbour := neighbours[byIP(n)]
			_, isForward := forward[byMAC(n)]
			if n.State&netlink.NUD_PERMANENT == 0 || family == unix.AF_INET && isNeighbour || family == unix.AF_BRIDGE && isForward || n.IP == nil {
				continue
			}
			if err := t.r.h.NeighDel(&n); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("%s: forgetting %s: %w", t.name(), n.IP, err)
			}
		}
	}
	return nil
}

// remove takes the device away.
func (t *tunnel) remove() error {
	l, err := t.r.h.LinkByName(t.name())
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := t.r.h.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("removing %s: %w", t.name(), err)
	}
	return nil
}
