package consensus

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/hashicorp/raft"
)

// streams carries Raft between masters over mutual TLS. It implements
// raft.StreamLayer.
type streams struct {
	net.Listener
	self      raft.ServerAddress
	clientTLS *tls.Config
	dial      func(ctx context.Context, network, address string) (net.Conn, error)
}

func newStreams(c *Config) *streams {
	s := &streams{Listener: c.Listener, self: joinAddress(c.RaftAddress, c.APIAddress), clientTLS: c.ClientTLS, dial: c.Dial}
	if c.ServerTLS != nil {
		s.Listener = tls.NewListener(c.Listener, c.ServerTLS)
	}
	if s.dial == nil {
		s.dial = (&net.Dialer{}).DialContext
	}
	return s
}

type memberAddress raft.ServerAddress

func (a memberAddress) Network() string { return "tcp" }
func (a memberAddress) String() string  { return string(a) }

// Addr is the address that the other masters know this one by.
func (s *streams) Addr() net.Addr { return memberAddress(s.self) }

// Dial implements raft.StreamLayer.
func (s *streams) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return s.connect(ctx, address)
}

func (s *streams) connect(ctx context.Context, address raft.ServerAddress) (net.Conn, error) {
	host, _ := splitAddress(address)
	conn, err := s.dial(ctx, "tcp", host)
	if err != nil || s.clientTLS == nil {
		return conn, err
	}
	cfg := s.clientTLS
	if cfg.ServerName == "" && !cfg.InsecureSkipVerify {
		cfg = cfg.Clone()
		cfg.ServerName, _, _ = net.SplitHostPort(host)
	}
	secured := tls.Client(conn, cfg)
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secured, nil
}
