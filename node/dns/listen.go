package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/netutil"
	"golang.org/x/sys/unix"
)

const (
	// receiveBuffer holds a burst of some 20,000 queries until it is read; the
	// kernel counts about 800 bytes for each and grants twice what is asked for. Its
	// default holds 250.
	receiveBuffer = 8 << 20
	maxTCP        = 512 // connections at once at one address
	closeTime     = 2 * time.Second
)

// socket answers at one address, over UDP and TCP.
type socket struct {
	addr    netip.AddrPort // with the port that was given out, if none was asked for
	servers []*dns.Server
	over    chan struct{} // has an element when a server has ended
}

// listen answers queries at an address with h.
func listen(at netip.AddrPort, h dns.Handler) (*socket, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { enlarge(int(fd)) })
	}}
	packets, err := config.ListenPacket(context.Background(), "udp", at.String())
	if err != nil {
		return nil, cannotListen(at, "udp", err)
	}
	bound := packets.LocalAddr().(*net.UDPAddr).AddrPort()
	bound = netip.AddrPortFrom(bound.Addr().Unmap(), bound.Port())
	stream, err := net.Listen("tcp", bound.String())
	if err != nil {
		packets.Close()
		return nil, cannotListen(at, "tcp", err)
	}
	x := &socket{addr: bound, over: make(chan struct{}, 2), servers: []*dns.Server{
		{PacketConn: packets, Handler: h, UDPSize: safeSize},
		{Listener: netutil.LimitListener(stream, maxTCP), Handler: h, ReadTimeout: 2 * time.Second, IdleTimeout: func() time.Duration { return 5 * time.Second }},
	}}
	for _, s := range x.servers {
		up := make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		ended := make(chan error, 1)
		go func() {
			ended <- s.ActivateAndServe()
			x.over <- struct{}{}
		}()
		select {
		case <-up:
		case err := <-ended:
			x.close()
			packets.Close()
			stream.Close()
			return nil, cannotListen(at, "udp", err)
		}
	}
	return x, nil
}

// enlarge makes room for bursts: beyond the system's limit where that is allowed.
func enlarge(fd int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
}

func (x *socket) ended() bool { return len(x.over) > 0 }

func (x *socket) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	for _, s := range x.servers {
		_ = s.ShutdownContext(ctx) // one that has ended already says so
	}
}

func cannotListen(at netip.AddrPort, network string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("pods cannot ask for names: port %d/%s of %s is taken by another process; stop it, or keep it off this address", at.Port(), network, at.Addr())
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("pods cannot ask for names: this machine has no address %s (yet)", at.Addr())
	}
	return fmt.Errorf("pods cannot ask for names at %s/%s: %w", at, network, err)
}
