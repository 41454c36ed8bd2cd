package ingress

import (
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
)

// peer is who is at the other end of the connection.
func peer(r *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap()
}

// client is who asks: the peer, or, behind proxies that are trusted, the last
// address that such a proxy says it was asked from.
func (s *Server) client(r *http.Request) netip.Addr {
	at := peer(r)
	if len(s.trusted) == 0 {
		return at
	}
	chain := strings.Split(strings.Join(r.Header["X-Forwarded-For"], ","), ",")
	for i := len(chain) - 1; i >= 0 && contains(s.trusted, at); i-- {
		a, err := netip.ParseAddr(strings.TrimSpace(chain[i]))
		if err != nil {
			break
		}
		at = a.Unmap()
	}
	return at
}

// requestIDOf keeps the id that the request came with, if it is one that can stand
// in a log, or makes one.
func requestIDOf(r *http.Request) string {
	id := r.Header.Get(requestID)
	if id != "" && len(id) <= 128 && strings.IndexFunc(id, func(c rune) bool { return c <= ' ' || c > '~' || c == '"' || c == '\\' }) < 0 {
		return id
	}
	var b [32]byte
	const digits = "0123456789abcdef"
	for i := 0; i < len(b); i += 16 {
		for n, j := rand.Uint64(), 0; j < 16; j++ {
			b[i+j] = digits[n&15]
			n >>= 4
		}
	}
	return string(b[:])
}

// secureHost is where a plain request is sent to: the same host, at the port of
// HTTPS unless that is the usual one.
func (s *Server) secureHost(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
		if strings.Contains(h, ":") {
			host = "[" + h + "]"
		}
	}
	if port := s.securePort(); port != 443 {
		host += ":" + strconv.Itoa(port)
	}
	return host
}
