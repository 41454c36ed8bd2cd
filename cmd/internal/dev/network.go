//go:build linux

package dev

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// netnsDir is where iproute2 keeps named namespaces, so that `ip netns` sees
// ours too.
const netnsDir = "/run/netns"

func (c *Cluster) netns(host string) string { return c.File.Name + "-" + host }

// ensureBridge makes the switch that the hosts hang on; its address is this
// machine's own among them.
func (c *Cluster) ensureBridge() error {
	link, err := netlink.LinkByName(c.File.Bridge)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		if err := c.subnetIsFree(); err != nil {
			return err
		}
		la := netlink.NewLinkAttrs()
		la.Name = c.File.Bridge
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: la}); err != nil {
			return fmt.Errorf("making the bridge %s: %w", c.File.Bridge, err)
		}
		link, err = netlink.LinkByName(c.File.Bridge)
	}
	if err != nil {
		return fmt.Errorf("looking for the bridge %s: %w", c.File.Bridge, err)
	}
	subnet, err := netip.ParsePrefix(c.File.Subnet)
	if err != nil {
		return err
	}
	if err := addAddress(link, netip.PrefixFrom(subnet.Addr().Next(), subnet.Bits())); err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

// subnetIsFree refuses a range that this machine already uses or reaches.
func (c *Cluster) subnetIsFree() error {
	want := netip.MustParsePrefix(c.File.Subnet)
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	for _, l := range links {
		addrs, err := netlink.AddrList(l, netlink.FAMILY_V4)
		if err != nil {
			return err
		}
		for _, a := range addrs {
			ip, _ := netip.AddrFromSlice(a.IP.To4())
			ones, _ := a.Mask.Size()
			if netip.PrefixFrom(ip, ones).Overlaps(want) {
				return fmt.Errorf("the range %s is in use on this machine (%s has %s); choose another with --subnet", want, l.Attrs().Name, a.IPNet)
			}
		}
	}
	return nil
}

func addAddress(link netlink.Link, p netip.Prefix) error {
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}}
	if err := netlink.AddrReplace(link, addr); err != nil {
		return fmt.Errorf("giving %s the address %s: %w", link.Attrs().Name, p, err)
	}
	return nil
}

// ensureHost makes a host: a network namespace, a cable to the bridge, an
// address and a way out through the bridge.
func (c *Cluster) ensureHost(h *Host) error {
	name := c.netns(h.Name)
	if _, err := os.Stat(filepath.Join(netnsDir, name)); err != nil {
		if err := newNamed(name); err != nil {
			return fmt.Errorf("making the network namespace %s: %w", name, err)
		}
	}
	ns, err := netns.GetFromName(name)
	if err != nil {
		return fmt.Errorf("opening the network namespace %s: %w", name, err)
	}
	defer ns.Close()
	inside, err := netlink.NewHandleAt(ns)
	if err != nil {
		return err
	}
	defer inside.Close()
	eth, err := inside.LinkByName("eth0")
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		if err := c.plug(h, ns); err != nil {
			return err
		}
		eth, err = inside.LinkByName("eth0")
	}
	if err != nil {
		return err
	}
	lo, err := inside.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := inside.LinkSetUp(lo); err != nil {
		return err
	}
	subnet := netip.MustParsePrefix(c.File.Subnet)
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(h.Address).To4(), Mask: net.CIDRMask(subnet.Bits(), 32)}}
	if err := inside.AddrReplace(eth, addr); err != nil {
		return err
	}
	if err := inside.LinkSetUp(eth); err != nil {
		return err
	}
	gw := net.IP(subnet.Addr().Next().AsSlice())
	if err := inside.RouteReplace(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: gw}); err != nil {
		return fmt.Errorf("giving %s its default route: %w", h.Name, err)
	}
	if h.PodRange == "" {
		return nil
	}
	// The person's own shell reaches pods by their addresses.
	bridge, err := netlink.LinkByName(c.File.Bridge)
	if err != nil {
		return err
	}
	_, dst, err := net.ParseCIDR(h.PodRange)
	if err != nil {
		return err
	}
	return netlink.RouteReplace(&netlink.Route{LinkIndex: bridge.Attrs().Index, Dst: dst, Gw: net.ParseIP(h.Address).To4()})
}

// plug puts one end of a new cable into the bridge and the other into the host.
func (c *Cluster) plug(h *Host, ns netns.NsHandle) error {
	bridge, err := netlink.LinkByName(c.File.Bridge)
	if err != nil {
		return err
	}
	la := netlink.NewLinkAttrs()
	la.Name = c.cable(h)
	la.MasterIndex = bridge.Attrs().Index
	if old, err := netlink.LinkByName(la.Name); err == nil {
		if err := netlink.LinkDel(old); err != nil {
			return err
		}
	}
	veth := &netlink.Veth{LinkAttrs: la, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(ns))}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("plugging %s into %s: %w", h.Name, c.File.Bridge, err)
	}
	return netlink.LinkSetUp(veth)
}

// cable is the name of the host's interface at the bridge.
func (c *Cluster) cable(h *Host) string { return c.File.Bridge + "-" + h.Name }

// newNamed makes a named network namespace without moving the caller into it.
func newNamed(name string) error {
	errc := make(chan error, 1)
	go func() {
		// The thread is thrown away with the goroutine: it stays locked.
		runtime.LockOSThread()
		ns, err := netns.NewNamed(name)
		if err == nil {
			err = ns.Close()
		}
		errc <- err
	}()
	return <-errc
}

// removeHost takes the host's network away; its cable goes with the namespace.
func (c *Cluster) removeHost(h *Host) error {
	if link, err := netlink.LinkByName(c.cable(h)); err == nil {
		if err := netlink.LinkDel(link); err != nil {
			return err
		}
	}
	if err := netns.DeleteNamed(c.netns(h.Name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the network namespace %s: %w", c.netns(h.Name), err)
	}
	return nil
}

func (c *Cluster) removeBridge() error {
	link, err := netlink.LinkByName(c.File.Bridge)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return err
	}
	return netlink.LinkDel(link)
}
