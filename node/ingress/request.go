package ingress

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
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

// log writes the request's line. The query is not in it: it is where tokens are.
func (x *exchange) log(took time.Duration, pod string) {
	if x.s.access == nil {
		return
	}
	var space [18]slog.Attr
	a := append(space[:0],
		slog.String("id", x.id), slog.String("client", x.client.String()), slog.String("method", x.r.Method), slog.String("host", x.r.Host),
		slog.String("path", x.r.URL.Path), slog.String("protocol", x.r.Proto), slog.Bool("tls", x.r.TLS != nil), slog.Int("status", x.w.status),
		slog.Int64("bytes_in", max(x.r.ContentLength, 0)), slog.Int64("bytes_out", x.w.bytes), slog.Float64("seconds", float64(took.Microseconds())/1e6))
	if x.route != nil {
		a = append(a, slog.String("ingress", x.route.front.name), slog.String("route", x.route.label))
	}
	if x.chosen != nil {
		a = append(a, slog.String("service", x.chosen.service))
	}
	if pod != "" {
		a = append(a, slog.String("pod", pod), slog.String("upstream", x.to.up.key.address))
	}
	if len(x.tried) > 0 {
		a = append(a, slog.Int("retries", len(x.tried)))
	}
	switch {
	case x.err != nil:
		a = append(a, slog.String("error", x.err.Error()))
	case x.why != "":
		a = append(a, slog.String("error", x.why))
	}
	x.s.access.LogAttrs(context.Background(), slog.LevelInfo, "", a...)
}
