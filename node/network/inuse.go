package network

import (
	"fmt"
	"net/netip"
	"regexp"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ownLink matches the names of the bridges and VXLAN devices of nodes.
var ownLink = regexp.MustCompile(`^berthx?-[0-9a-f]{6}$`)

// RangeInUse is a range that this machine uses for something else already.
type RangeInUse struct {
	Range netip.Prefix
	By    string // what uses it
}

func (e *RangeInUse) Error() string {
	return fmt.Sprintf("the range %s is in use on this machine: %s", e.Range, e.By)
}

// free makes sure that nothing else has the ranges that the node is to use.
func (n *Network) free() error {
	return inUse(n.h, append([]netip.Prefix{n.ipam.r}, n.cfg.Cluster...))
}

// InUse finds an address or a route of this machine that lies in one of the
// ranges, or that one of them lies in, and answers *RangeInUse. What Berth itself
// made does not count, nor does the default route.
func InUse(ranges ...netip.Prefix) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	defer h.Close()
	return inUse(h, ranges)
}

func inUse(h *netlink.Handle, ranges []netip.Prefix) error {
	links, err := h.LinkList()
	if err != nil {
		return fmt.Errorf("reading the links: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	own := func(link int) bool { return ownLink.MatchString(names[link]) }
	find := func(p netip.Prefix, by string) error {
		for _, r := range ranges {
			if r.Overlaps(p) {
				return &RangeInUse{Range: r, By: by}
			}
		}
		return nil
	}
	addrs, err := h.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("reading the addresses: %w", err)
	}
	for _, a := range addrs {
		if own(a.LinkIndex) {
			continue
		}
		if err := find(prefix(a.IPNet).Masked(), fmt.Sprintf("%s has the address %s", names[a.LinkIndex], a.IPNet)); err != nil {
			return err
		}
	}
	routes, err := h.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("reading the routes: %w", err)
	}
	for _, x := range routes {
		p := prefix(x.Dst)
		if x.Protocol == routeProtocol || own(x.LinkIndex) || p.Bits() == 0 {
			continue
		}
		way := names[x.LinkIndex]
		if x.Gw != nil {
			way = x.Gw.String() + " at " + way
		}
		if err := find(p, fmt.Sprintf("there is a route to %s by %s", p, way)); err != nil {
			return err
		}
	}
	return nil
}
