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

	"github.com/berthdev/berth/node/network"
)

// netnsDir is where iproute2 keeps named namespaces, so that `ip netns` sees
// ours too.
const netnsDir = "/run/netns"

func (c *Cluster) netns(host string) string { return c.File.Name + "-" + host }

// ensureSegment makes the switch that the hosts of a segment hang on; its address
// is this machine's own among them.
func (c *Cluster) ensureSegment(s segment) error {
	link, err := netlink.LinkByName(s.bridge)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		la := netlink.NewLinkAttrs()
		la.Name = s.bridge
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: la}); err != nil {
			return fmt.Errorf("making the bridge %s: %w", s.bridge, err)
		}
		link, err = netlink.LinkByName(s.bridge)
	}
	if err != nil {
		return fmt.Errorf("looking for the bridge %s: %w", s.bridge, err)
	}
	if err := addAddress(link, netip.PrefixFrom(s.gateway(), s.subnet.Bits())); err != nil {
		return err
	}
	if s.zone != "" && c.File.Latency > 0 {
		if err := delay(link, c.File.Latency); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(link)
}

// RangesAreFree refuses ranges that this machine already uses or reaches, before
// anything is made.
func (c *Cluster) RangesAreFree() error {
	if _, err := netlink.LinkByName(c.File.Bridge); !errors.As(err, new(netlink.LinkNotFoundError)) {
		return err // it was made, and what uses them is our own
	}
	for _, x := range []struct{ r, flag string }{{c.File.Subnet, "subnet"}, {c.File.Pods, "pods"}, {c.File.Services, "services"}} {
		p, err := netip.ParsePrefix(x.r)
		if err != nil {
			continue // a cluster from before there were services
		}
		if err := network.InUse(p); err != nil {
			return fmt.Errorf("%w; choose another with --%s", err, x.flag)
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
	s := c.segmentOf(h)
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(h.Address).To4(), Mask: net.CIDRMask(s.subnet.Bits(), 32)}}
	if err := inside.AddrReplace(eth, addr); err != nil {
		return err
	}
	if err := inside.LinkSetUp(eth); err != nil {
		return err
	}
	if err := inside.RouteReplace(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: s.gateway().AsSlice()}); err != nil {
		return fmt.Errorf("giving %s its default route: %w", h.Name, err)
	}
	return nil
}

// Routes lets the person's own shell reach pods by their addresses, and services
// through a node that runs. They end with the bridges.
func (c *Cluster) Routes() error {
	through := func(h *Host, to string) error {
		bridge, err := netlink.LinkByName(c.segmentOf(h).bridge)
		if err != nil {
			return err
		}
		_, dst, err := net.ParseCIDR(to)
		if err != nil {
			return err
		}
		if err := netlink.RouteReplace(&netlink.Route{LinkIndex: bridge.Attrs().Index, Dst: dst, Gw: net.ParseIP(h.Address).To4()}); err != nil {
			return fmt.Errorf("a route to %s by %s: %w", to, h.Name, err)
		}
		return nil
	}
	var door *Host
	for _, h := range c.File.Hosts {
		if h.Role != RoleNode || h.PodRange == "" {
			continue
		}
		if err := through(h, h.PodRange); err != nil {
			return err
		}
		if door == nil && !h.Stopped && h.Process.Alive() {
			door = h
		}
	}
	if door == nil || c.File.Services == "" {
		return nil // nobody could take the packets
	}
	return through(door, c.File.Services)
}

// plug puts one end of a new cable into the bridge and the other into the host.
func (c *Cluster) plug(h *Host, ns netns.NsHandle) error {
	at := c.segmentOf(h).bridge
	bridge, err := netlink.LinkByName(at)
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
		return fmt.Errorf("plugging %s into %s: %w", h.Name, at, err)
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

func (c *Cluster) removeBridge(name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return err
	}
	return netlink.LinkDel(link)
}
