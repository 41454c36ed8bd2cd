package ingress

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/procfs"

	"github.com/berthdev/berth/cluster/object"
)

// door is an address to listen at.
type door struct {
	address  string
	secure   bool
	server   *http.Server
	listener net.Listener // nil while it is not open
	failed   bool         // the last attempt did
}

// openDoors listens wherever it does not yet.
func (s *Server) openDoors() (mended []string, err error) {
	s.doorsMu.Lock()
	defer s.doorsMu.Unlock()
	if s.closed {
		return nil, nil
	}
	var all []error
	for _, d := range s.doors {
		if d.listener != nil {
			continue
		}
		l, err := net.Listen("tcp", d.address)
		if err != nil {
			d.failed = true
			all = append(all, explain(d.address, err))
			continue
		}
		if d.failed {
			d.failed = false
			mended = append(mended, "the ingress listens at "+d.address+" now")
		}
		d.listener, d.server = l, s.newServer(d.secure)
		s.ended.Go(func() { s.serveDoor(d, d.server, l) })
	}
	return mended, errors.Join(all...)
}

func (s *Server) serveDoor(d *door, server *http.Server, l net.Listener) {
	var err error
	if d.secure {
		err = server.ServeTLS(l, "", "")
	} else {
		err = server.Serve(l)
	}
	s.doorsMu.Lock()
	defer s.doorsMu.Unlock()
	if d.listener == l {
		d.listener = nil // Ensure opens it again, unless the server is closed
	}
	if !errors.Is(err, http.ErrServerClosed) {
		d.failed = true
		s.log.Warn("the ingress stopped listening", "address", d.address, "error", err)
	}
}

func (s *Server) newServer(secure bool) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	h := &http.Server{
		Handler: s, Protocols: protocols, ErrorLog: s.quiet,
		// Bodies and answers may take their time; who opens a connection and says
		// nothing may not.
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
	}
	if secure {
		protocols.SetHTTP2(true)
		h.TLSConfig = &tls.Config{GetCertificate: s.certificate, NextProtos: []string{"h2", "http/1.1"}}
	} else {
		protocols.SetUnencryptedHTTP2(true)
	}
	return h
}

func (s *Server) closeDoors(ctx context.Context) error {
	s.doorsMu.Lock()
	s.closed = true
	var servers []*http.Server
	for _, d := range s.doors {
		if d.server != nil {
			servers = append(servers, d.server)
		}
	}
	s.doorsMu.Unlock()
	var all []error
	for _, h := range servers {
		if err := h.Shutdown(ctx); err != nil {
			all = append(all, err, h.Close())
		}
	}
	return errors.Join(all...)
}

// Addresses are where the server listens now.
func (s *Server) Addresses() (plain, secure []net.Addr) {
	s.doorsMu.Lock()
	defer s.doorsMu.Unlock()
	for _, d := range s.doors {
		switch {
		case d.listener == nil:
		case d.secure:
			secure = append(secure, d.listener.Addr())
		default:
			plain = append(plain, d.listener.Addr())
		}
	}
	return plain, secure
}

// securePort is where plain requests are redirected to.
func (s *Server) securePort() int {
	if _, secure := s.Addresses(); len(secure) > 0 {
		return secure[0].(*net.TCPAddr).Port
	}
	return 443
}

// certificate is what a TLS handshake asks for.
func (s *Server) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	t, host := s.table.Load(), cleanHost(hello.ServerName)
	if c := t.certificate(host); c != nil && host != "" {
		return c, nil
	}
	if _, ok := t.acme[host]; ok {
		return s.acme.certificate(hello)
	}
	if host == "" { // a client that says no name can mean only one
		var only *tls.Certificate
		for _, s := range t.sites {
			if s.cert != nil && only != nil {
				return nil, errors.New("the client names no host, and there are several certificates")
			}
			only = cmp.Or(s.cert, only)
		}
		if only != nil {
			return only, nil
		}
	}
	return nil, fmt.Errorf("no certificate for host %q", host)
}

// explain says who has a port, and what to do.
func explain(address string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		e := object.Errorf(object.CodeUnavailable, object.Ref{}, "the ingress cannot listen at %s: it is taken by %s", address, holder(address))
		e.Hint = "Stop what listens there, or choose other addresses for the ingress; it tries again by itself."
		return e
	case errors.Is(err, fs.ErrPermission):
		e := object.Errorf(object.CodeForbidden, object.Ref{}, "the ingress cannot listen at %s: %w", address, err)
		e.Hint = "Ports below 1024 need root, or the capability CAP_NET_BIND_SERVICE."
		return e
	}
	return fmt.Errorf("the ingress cannot listen at %s: %w", address, err)
}

// holder names the process that listens at the port of an address.
func holder(address string) string {
	const unknown = "another process"
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return unknown
	}
	port, err := net.LookupPort("tcp", text)
	if err != nil {
		return unknown
	}
	proc, err := procfs.NewDefaultFS()
	if err != nil {
		return unknown
	}
	sockets := map[string]bool{}
	const listening = 10     // TCP_LISTEN
	four, _ := proc.NetTCP() //nolint:staticcheck // its successor needs a netlink of its own, and /proc is read for the processes all the same
	for _, l := range four {
		if l.St == listening && l.LocalPort == uint64(port) {
			sockets[fmt.Sprintf("socket:[%d]", l.Inode)] = true
		}
	}
	six, _ := proc.NetTCP6() //nolint:staticcheck // as above
	for _, l := range six {
		if l.St == listening && l.LocalPort == uint64(port) {
			sockets[fmt.Sprintf("socket:[%d]", l.Inode)] = true
		}
	}
	all, _ := proc.AllProcs()
	for _, p := range all {
		files, err := p.FileDescriptorTargets()
		if err != nil {
			continue // another user's, or gone
		}
		for _, f := range files {
			if sockets[f] {
				name, _ := p.Comm()
				return strings.TrimSpace(fmt.Sprintf("%s (process %d)", name, p.PID))
			}
		}
	}
	return unknown
}
