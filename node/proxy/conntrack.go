package proxy

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const conntrackDir = "/proc/sys/net/netfilter/"

// Conntrack is how many connections the kernel follows, and how many it can. At
// the maximum it drops the packets of new ones, of services and all others. Zeros
// mean that it does not follow any.
func Conntrack() (used, max int, err error) {
	return conntrackAt(conntrackDir)
}

func conntrackAt(dir string) (used, max int, err error) {
	for name, n := range map[string]*int{"nf_conntrack_count": &used, "nf_conntrack_max": &max} {
		b, err := os.ReadFile(dir + name)
		if errors.Is(err, fs.ErrNotExist) {
			return 0, 0, nil
		}
		if err == nil {
			*n, err = strconv.Atoi(strings.TrimSpace(string(b)))
		}
		if err != nil {
			return 0, 0, fmt.Errorf("connections that the kernel follows: %w", err)
		}
	}
	return used, max, nil
}

// stale picks flows of UDP that lead to pods which are no longer behind the
// service. UDP has no end of a connection: while the caller goes on sending from
// one port, the kernel would send on to the pod that is gone.
type stale struct {
	virtual   map[netip.AddrPort]map[netip.AddrPort]bool // the pods that may be behind an address
	nodePorts map[uint16]map[netip.AddrPort]bool
	services  netip.Prefix        // if valid: no flow goes to another address in it
	node      map[netip.Addr]bool // addresses of this node
}

// staleFlows is what to look for after the changes of several Applies, in order.
func staleFlows(applies [][]change) *stale {
	s := &stale{virtual: map[netip.AddrPort]map[netip.AddrPort]bool{}, nodePorts: map[uint16]map[netip.AddrPort]bool{}}
	note := func(p *part, before bool) {
		if p == nil {
			return
		}
		for _, f := range p.flows {
			if f.protocol != unix.IPPROTO_UDP {
				continue
			}
			var pods map[netip.AddrPort]bool
			if !before {
				pods = f.pods()
			}
			s.virtual[netip.AddrPortFrom(f.addr, f.port)] = pods
			if f.nodePort != 0 {
				s.nodePorts[f.nodePort] = pods
			}
		}
	}
	for _, changes := range applies {
		for _, c := range changes { // an address may go from one service to another
			note(c.before, true)
		}
		for _, c := range changes {
			note(c.after, false)
		}
	}
	return s
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (s *stale) MatchConntrackFlow(f *netlink.ConntrackFlow) bool {
	if f.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	to, ok := addrPort(f.Forward.DstIP, f.Forward.DstPort)
	if !ok {
		return false
	}
	pods, ours := s.virtual[to]
	if !ours && s.node[to.Addr()] {
		pods, ours = s.nodePorts[to.Port()]
	}
	if !ours {
		return s.services.IsValid() && s.services.Contains(to.Addr())
	}
	from, ok := addrPort(f.Reverse.SrcIP, f.Reverse.SrcPort)
	return ok && !pods[from]
}

func addrPort(ip net.IP, port uint16) (netip.AddrPort, bool) {
	a, ok := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap(), port), ok
}

// forget deletes the stale flows; the next packet of each begins a new one.
func (s *stale) forget() error {
	if len(s.virtual) == 0 && !s.services.IsValid() {
		return nil
	}
	if len(s.nodePorts) > 0 {
		node, err := ownAddresses()
		if err != nil {
			return err
		}
		s.node = node
	}
	// An interrupted dump has seen flows come and go; those of before the change it has.
	_, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, s)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("UDP flows to pods that left a service: %w", err)
	}
	return nil
}

// ownAddresses are those of this node.
func ownAddresses() (map[netip.Addr]bool, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	own := map[netip.Addr]bool{}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if at, ok := addrPort(n.IP, 0); ok {
				own[at.Addr()] = true
			}
		}
	}
	return own, nil
}
