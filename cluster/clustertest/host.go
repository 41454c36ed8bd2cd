package clustertest

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
)

// host is a loopback address for one cluster alone, with ports that nobody is
// given by chance: a master that is lost or restarted leaves its ports for a
// while, and on a shared address, or from the range of the kernel's own choices,
// another cluster's master or a client's connection might take them meanwhile.
type host struct {
	address string
	next    int // port; 0: any free one
}

// firstPort is below the range that Linux takes ports from by itself.
const firstPort = 17400

// hosts counts the addresses that this process has tried.
var hosts atomic.Uint32

// ownHost finds an address and keeps it until the test ends. Where the whole of
// 127.0.0.0/8 is not at hand (it is on Linux), all share 127.0.0.1.
func ownHost(t testing.TB) *host {
	t.Helper()
	for range 100 {
		pid, n := os.Getpid(), hosts.Add(1)
		address := fmt.Sprintf("127.%d.%d.%d", 1+pid/256%254, pid%256, 1+n%254)
		l, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(firstPort))) // who listens here has the address
		if err == nil {
			t.Cleanup(func() { l.Close() })
			return &host{address: address, next: firstPort + 1}
		}
	}
	return &host{address: "127.0.0.1"}
}

// free is an address that nobody listens at.
func (h *host) free() (string, error) {
	if h.next > 0 {
		h.next++
		return net.JoinHostPort(h.address, strconv.Itoa(h.next-1)), nil
	}
	l, err := net.Listen("tcp", net.JoinHostPort(h.address, "0"))
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
