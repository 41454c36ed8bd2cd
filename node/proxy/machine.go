package proxy

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routeProtocol marks the route that is ours; the numbers above 4 are free for
// whoever makes routes.
const routeProtocol netlink.RouteProtocol = 67

const (
	sysctlForward = "/proc/sys/net/ipv4/ip_forward"
	sysctlBridge  = "/proc/sys/net/bridge/bridge-nf-call-iptables"
	sysctlReset   = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close"
)

// sysctl is a setting of the machine that services need.
type sysctl struct {
	path, value, otherwise string
}

func (s *Services) sysctls() []sysctl {
	list := []sysctl{
		{sysctlForward, "1", "packets for pods are dropped"},
		{sysctlBridge, "1", "pods cannot reach pods of the same node through a service"},
		// A pod that ends resets the connections that are still open, and the kernel would
		// remember them for ten seconds more. It lets a caller take a port again that it has
		// reset itself (nf_conntrack_tcp_packet, "attempt to reopen"), but not one that the
		// pod has: its next connection would be led to the pod that is gone.
		{sysctlReset, "0", "a caller whose connection a pod has reset may be led there again"},
	}
	if _, err := os.Stat("/proc/sys/net/ipv4/conf/" + s.Bridge + "/send_redirects"); s.Bridge != "" && err == nil {
		// A packet for a service leaves by the bridge that it came from. The kernel would
		// tell the pod of a shorter way, which there is not, and count that against the
		// refusals that it may send. Other interfaces keep their own switch.
		for _, of := range []string{"all", s.Bridge} {
			list = append(list, sysctl{"/proc/sys/net/ipv4/conf/" + of + "/send_redirects", "0", "pods are told of shorter ways to services, which do not work"})
		}
	}
	return list
}

// machine puts right what services need of the node besides rules. It says what it
// had to put right although it had been so, and what it cannot.
func (s *Services) machine() (mended, problems []string) {
	for _, c := range s.sysctls() {
		changed, err := c.set()
		if err != nil {
			problems = append(problems, fmt.Sprintf("%s cannot be set to %s, so %s: %v", c.path, c.value, c.otherwise, err))
		} else if changed && s.settled[c.path] {
			mended = append(mended, fmt.Sprintf("%s was not %s, so that %s", c.path, c.value, c.otherwise))
		}
		if s.settled == nil {
			s.settled = map[string]bool{}
		}
		s.settled[c.path] = err == nil
	}
	changed, err := s.route()
	if err != nil {
		problems = append(problems, fmt.Sprintf("the node itself may not reach services: the route to %s by %s cannot be made: %v", s.builder.layout.services, s.Bridge, err))
	} else if changed && s.routed {
		mended = append(mended, fmt.Sprintf("the route to the services, %s by %s, was gone", s.builder.layout.services, s.Bridge))
	}
	s.routed = s.routed || changed
	return mended, problems
}

// set writes the value, unless it is there.
func (c sysctl) set() (changed bool, err error) {
	b, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) && c.path == sysctlBridge {
		if out, e := exec.Command("modprobe", "br_netfilter").CombinedOutput(); e != nil {
			return false, fmt.Errorf("modprobe br_netfilter: %w: %s", e, strings.TrimSpace(string(out)))
		}
		b, err = os.ReadFile(c.path)
	}
	if err != nil || strings.TrimSpace(string(b)) == c.value {
		return false, err
	}
	return true, os.WriteFile(c.path, []byte(c.value), 0o644) //nolint:gosec // a sysctl
}

// route makes the node itself call services from its address among the pods, which
// every pod of the cluster can answer; without it a node that has no default route
// could not call them at all. The packets are translated before they take it.
func (s *Services) route() (changed bool, err error) {
	services := s.builder.layout.services
	if s.Bridge == "" || !services.IsValid() {
		return false, nil
	}
	link, err := netlink.LinkByName(s.Bridge)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return false, nil // the network makes it; Ensure comes again
	} else if err != nil {
		return false, err
	}
	addrs, err := netlink.AddrList(link, unix.AF_INET)
	if err != nil || len(addrs) == 0 || link.Attrs().Flags&unix.IFF_UP == 0 {
		return false, err
	}
	dst := prefixNet(services)
	routes, err := netlink.RouteListFiltered(unix.AF_INET, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return false, err
	}
	for _, r := range routes {
		same := r.Dst != nil && r.Dst.String() == dst.String()
		switch {
		case same && (r.Protocol != routeProtocol || r.LinkIndex == link.Attrs().Index && r.Src.Equal(addrs[0].IP)):
			return false, nil // somebody's own, or ours and right
		case r.Protocol == routeProtocol && !same: // of a range that has changed
			if err := netlink.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
				return false, err
			}
		}
	}
	return true, netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst, Src: addrs[0].IP,
		Scope: netlink.SCOPE_LINK, Protocol: routeProtocol, Table: unix.RT_TABLE_MAIN})
}

// removeServiceRoutes removes the routes that are ours.
func removeServiceRoutes() error {
	routes, err := netlink.RouteListFiltered(unix.AF_INET, &netlink.Route{Protocol: routeProtocol}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return fmt.Errorf("routes to services: %w", err)
	}
	for _, r := range routes {
		if err := netlink.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("route to %s: %w", r.Dst, err)
		}
	}
	return nil
}

func prefixNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
