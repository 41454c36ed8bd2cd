package network

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// The states of TCP sockets, as the kernel numbers them (include/net/tcp_states.h).
const (
	tcpEstablished = 1
	tcpSynRecv     = 3
	tcpListen      = 10
)

// Connections counts the TCP connections that somebody has open to a port at which
// the network namespace at path listens, those that wait to be accepted included.
// Those that it has opened itself, and those inside it, do not count.
func Connections(path string) (int, error) {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return 0, fmt.Errorf("namespace %s: %w", path, err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_INET_DIAG)
	if err != nil {
		return 0, fmt.Errorf("namespace %s: %w", path, err)
	}
	defer h.Close()
	listens := map[uint16]bool{}
	var open []*netlink.Socket
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		sockets, err := h.SocketDiagTCP(family)
		if err != nil {
			return 0, fmt.Errorf("sockets of namespace %s: %w", path, err)
		}
		for _, s := range sockets {
			switch s.State {
			case tcpListen:
				listens[s.ID.SourcePort] = true
			case tcpEstablished, tcpSynRecv:
				open = append(open, s)
			}
		}
	}
	n := 0
	for _, s := range open {
		if listens[s.ID.SourcePort] && !s.ID.Destination.IsLoopback() {
			n++
		}
	}
	return n, nil
}
