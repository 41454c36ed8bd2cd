package api

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

func forwarded(r *http.Request) bool { return r.Header.Get(forwardedHeader) != "" }

func noLeader(l Leader) error {
	e := &object.Error{Code: object.CodeNoLeader, Message: "the masters have no leader just now", Hint: "Try again in a moment; if it lasts, check that a majority of the masters is running."}
	if l.Name != "" {
		e.Message = "the leader changes just now; " + l.Name + " seems to lead"
	}
	return e
}

// forward passes a request on to the leader, saying for whom. Nobody as who
// leaves it to the leader to find out from the Authorization header.
func (s *Server) forward(w http.ResponseWriter, r *http.Request, l Leader, who Identity) error {
	if l.API == "" || l.Self {
		return noLeader(l)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "https", Host: l.API})
			p.Out.Header.Set(forwardedHeader, s.Name)
			p.Out.Header.Del(identityHeader)
			p.Out.Header.Del(sessionHeader)
			if who.Role != "" {
				p.Out.Header.Set(identityHeader, string(who.Role)+"/"+who.Name)
				p.Out.Header.Set(sessionHeader, who.session.String())
				p.Out.Header.Del("Authorization")
			}
		},
		Transport:     s.transport(object.RoleMaster, l.Name),
		FlushInterval: -1,
		ModifyResponse: func(r *http.Response) error {
			r.Header.Set(object.LeaderHeader, l.API)
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, p *http.Request, err error) {
			if r.Context().Err() != nil {
				return // the client has gone
			}
			s.Log.Debug("forwarding to the leader failed", "leader", l.Name, "error", err)
			if cause := context.Cause(p.Context()); cause != nil {
				err = cause
			}
			writeError(w, s.lost(r, l, err))
		},
	}
	ctx, stop := s.whileLeading(r.Context(), l)
	defer stop()
	proxy.ServeHTTP(w, r.WithContext(ctx))
	return nil
}

// leaderEvery is how often a request that waits for the leader makes sure that
// it still is.
const leaderEvery = 250 * time.Millisecond

var errReplaced = errors.New("another master leads")

// whileLeading ends when another master leads: one that lost its power does not
// close its connections, and who waits for it would wait for minutes.
func (s *Server) whileLeading(ctx context.Context, l Leader) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		t := time.NewTicker(leaderEvery)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				if now := s.Cluster.Leader(); now.Name != "" && now.Name != l.Name {
					cancel(errReplaced)
					return
				}
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}

// lost is the error for a request that the leader did not answer. Reads may be
// repeated freely; of a write nobody knows.
func (s *Server) lost(r *http.Request, l Leader, err error) error {
	if r.Method == http.MethodGet || strings.HasSuffix(r.URL.Path, comparePath) || dialFailed(err) {
		e := object.Errorf(object.CodeNoLeader, object.Ref{}, "the leader %s cannot be reached: %w", l.Name, err)
		e.Hint = "Try again in a moment; the other masters elect a new one."
		return e
	}
	return object.Errorf(object.CodeTimeout, object.Ref{}, "the leader %s was lost in the middle of the request, which may or may not have been carried out: %w", l.Name, err)
}

// transports keeps connections to fellow masters; those to nodes are rare and
// not kept.
type transports struct {
	mu   sync.Mutex
	byID map[string]*http.Transport
}

var dialer = net.Dialer{Timeout: 3 * time.Second, KeepAlive: 15 * time.Second}

// dialFailed reports that a request never left.
func dialFailed(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

func newTransport(t *tls.Config) *http.Transport {
	return &http.Transport{
		TLSClientConfig:     t,
		DialContext:         dialer.DialContext,
		TLSHandshakeTimeout: 5 * time.Second,
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     90 * time.Second,
		TLSNextProto:        map[string]func(string, *tls.Conn) http.RoundTripper{},
	}
}

func (s *Server) transport(role object.Role, name string) http.RoundTripper {
	s.transports.mu.Lock()
	defer s.transports.mu.Unlock()
	id := string(role) + "/" + name
	t := s.transports.byID[id]
	if t == nil {
		t = newTransport(s.Identity.ClientTLS(string(role), name))
		if s.transports.byID == nil {
			s.transports.byID = map[string]*http.Transport{}
		}
		s.transports.byID[id] = t
	}
	return t
}
