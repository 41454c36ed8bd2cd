package api

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/oidc"
	"github.com/berthdev/berth/cluster/pki"
	"github.com/berthdev/berth/cluster/seal"
)

// Config is what an API server is made of. All fields but those marked optional
// are needed.
type Config struct {
	Name     string // this master's
	Version  string // of berth
	Cluster  Cluster
	Check    CheckFunc // optional
	Plan     PlanFunc
	Policies Policies // optional
	CA       *pki.CA
	Identity *pki.Identity
	Keys     *seal.Keyring

	// Heartbeat is how often nodes are told to report; default 5 s.
	Heartbeat time.Duration
	// Bookmark is the longest silence of a watch; default 10 s.
	Bookmark time.Duration
	// Spool is the directory for image archives on their way to the nodes; default
	// the system's for temporary files.
	Spool string
	// Metrics is served at /metrics, with the API's own added; optional.
	Metrics *prometheus.Registry
	// Log takes what a person running the master should know; optional.
	Log *slog.Logger
	// OnRequest is called after each request; optional.
	OnRequest func(Request)
	// Now is the clock; default time.Now.
	Now func() time.Time
	// Each goes through the changes of a plan; default object.InOrder.
	Each object.Each
}

// Request is one request that has been answered, for logs.
type Request struct {
	Method, Path string
	Who          Identity
	Status       int
	Bytes        int64
	Took         time.Duration
	Forwarded    bool // the leader answered
}

// Server is the API of one master.
type Server struct {
	Config
	mux     *http.ServeMux
	routes  map[string]access // by the mux's pattern
	doc     huma.API
	openapi []byte
	metrics metrics
	lines   lineCache
	prints  fingerprints
	tokens  *oidc.Verifier

	transports transports
	closing    chan struct{} // closed when Serve ends: streams end too
	once       sync.Once
}

// New makes a server. It serves nothing yet.
func New(c Config) (*Server, error) {
	if c.Cluster == nil || c.CA == nil || c.Identity == nil || c.Keys == nil || c.Plan == nil {
		return nil, errors.New("api: Cluster, Plan, CA, Identity and Keys are needed")
	}
	if c.Heartbeat <= 0 {
		c.Heartbeat = 5 * time.Second
	}
	if c.Bookmark <= 0 {
		c.Bookmark = 10 * time.Second
	}
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Each == nil {
		c.Each = object.InOrder
	}
	s := &Server{Config: c, mux: http.NewServeMux(), routes: map[string]access{}, tokens: oidc.New(c.Now), closing: make(chan struct{})}
	s.metrics = newMetrics(c.Metrics)
	if err := s.register(); err != nil {
		return nil, err
	}
	return s, nil
}

// Serve answers on a plain TCP listener, with TLS on top, until ctx ends; then it
// finishes what is being answered, for up to ten seconds.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       3 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug), // scanners and broken handshakes
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(tls.NewListener(l, s.Identity.ServerTLS())) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	s.once.Do(func() { close(s.closing) }) // streams would hold Shutdown back
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := srv.Shutdown(stop); err != nil {
		return srv.Close()
	}
	return nil
}
