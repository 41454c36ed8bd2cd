//go:build linux

package dev

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// mostSplit is how many zones can have a segment of their own: they share the
// upper half of the subnet's first 256 addresses.
const mostSplit = 4

// segment is hosts on one switch. Between segments this machine is the router.
type segment struct {
	bridge string
	subnet netip.Prefix
	zone   string // the one that has it for itself; empty: everybody else
}

func (s segment) gateway() netip.Addr { return s.subnet.Addr().Next() }

// segments are the network's parts, the one of the masters first.
func (c *Cluster) segments() []segment {
	subnet := netip.MustParsePrefix(c.File.Subnet)
	if len(c.File.Split) == 0 {
		return []segment{{bridge: c.File.Bridge, subnet: subnet}}
	}
	out := []segment{{bridge: c.File.Bridge, subnet: netip.PrefixFrom(subnet.Addr(), 25)}}
	for i, zone := range c.File.Split {
		b := subnet.Addr().As4()
		b[3] += byte(128 + 32*i)
		out = append(out, segment{bridge: c.File.Bridge + "-z" + strconv.Itoa(i+1), subnet: netip.PrefixFrom(netip.AddrFrom4(b), 27), zone: zone})
	}
	return out
}

func (c *Cluster) segmentOf(h *Host) segment {
	all := c.segments()
	if i := slices.IndexFunc(all, func(s segment) bool { return s.zone != "" && s.zone == h.Zone }); i >= 0 && h.Role == RoleNode {
		return all[i]
	}
	return all[0]
}

// address is the next free one for a host in its segment: masters from 11 on,
// nodes from 101 on, and nodes of a zone with its own segment from its first.
func (c *Cluster) address(h *Host) (netip.Addr, error) {
	s := c.segmentOf(h)
	taken := map[string]bool{}
	for _, other := range c.File.Hosts {
		taken[other.Address] = true
	}
	first, last := 11, 91
	switch {
	case s.zone != "":
		first, last = 2, 30
	case h.Role == RoleNode && len(c.File.Split) > 0:
		first, last = 101, 126
	case h.Role == RoleNode:
		first, last = 101, 181
	}
	for i := first; i <= last; i++ {
		b := s.subnet.Addr().As4()
		b[3] += byte(i)
		if a := netip.AddrFrom4(b); !taken[a.String()] {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%s has no room: a network segment takes at most %d %ss", s.subnet, last-first+1, h.Role)
}

// delay makes packets take a while that leave by a link.
func delay(link netlink.Link, d time.Duration) error {
	q := netlink.NewNetem(netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		netlink.NetemQdiscAttrs{Latency: uint32(d.Microseconds())})
	if err := netlink.QdiscReplace(q); err != nil {
		return fmt.Errorf("delaying what goes to %s: %w", link.Attrs().Name, err)
	}
	return nil
}

// CanDelay tries, in a network namespace that is gone afterwards, whether this
// kernel can make packets late.
func CanDelay() error {
	errc := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine, and the namespace with it
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			errc <- err
			return
		}
		lo, err := netlink.LinkByName("lo")
		if err == nil {
			err = delay(lo, time.Millisecond)
		}
		errc <- err
	}()
	err := <-errc
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		return errors.New("this kernel cannot delay packets: it has no netem (CONFIG_NET_SCH_NETEM); leave --latency out")
	}
	return err
}
