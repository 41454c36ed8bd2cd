package ingress

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/gzhttp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/berthdev/berth/cluster/object"
)

// Config is what a Server is made of.
type Config struct {
	HTTP, HTTPS []string // addresses to listen at, such as ":80"; none: not at all
	// Dir keeps accounts and certificates of authorities over restarts, with the
	// keys that were made here; it should be on a disk.
	Dir string
	// Memory keeps the secrets of ingresses for a restart while masters are away.
	// A file system in memory is mounted there. Empty: they are not kept.
	Memory  string
	Secrets Secrets
	// Access gets a line of JSON for each request; nil: there is no access log.
	Access   io.Writer
	Registry prometheus.Registerer // nil: metrics are not exposed
	// Trusted are proxies in front, whose X-Forwarded-For is believed.
	Trusted []netip.Prefix
	// Authorities are trusted as certificate authorities' own servers, beside the
	// machine's; for an ACME server of one's own.
	Authorities *x509.CertPool
	Logger      *slog.Logger
}

// Secrets gets what ingresses read from the masters.
type Secrets interface {
	// IngressSecrets are the present secrets of an ingress, in plain.
	IngressSecrets(ctx context.Context, namespace, name string) (object.IngressSecrets, error)
}

// Server is the entrance. It serves from Open to Close; before the first Apply
// everything is answered 404.
type Server struct {
	cfg       Config
	log       *slog.Logger
	quiet     *log.Logger
	access    *lines // nil: there is no access log
	trusted   []netip.Prefix
	metrics   *metrics
	unrouted  *series
	compress  func(http.Handler) http.HandlerFunc
	buffers   buffers
	exchanges sync.Pool
	table     atomic.Pointer[table]
	acme      *authorities
	vault     *vault

	cancel context.CancelFunc
	ended  sync.WaitGroup

	mu        sync.Mutex // of building tables
	upstreams map[upstreamKey]*upstream
	leaving   map[*upstream]bool
	told      map[string]bool // what the log has said to be lacking
	begun     bool            // there has been a view

	doorsMu sync.Mutex
	doors   []*door
	closed  bool
}

// Open makes a server and begins to listen. Addresses that are taken are no
// error here: Ensure tries again, and says what is wrong.
func Open(cfg Config) (*Server, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, log: cfg.Logger, trusted: cfg.Trusted, upstreams: map[upstreamKey]*upstream{}, leaving: map[*upstream]bool{}, told: map[string]bool{}}
	s.quiet = slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug)
	s.exchanges.New = s.newExchange
	if cfg.Registry == nil {
		s.cfg.Registry = prometheus.NewRegistry()
	}
	var err error
	if s.metrics, err = newMetrics(s.cfg.Registry, s.active); err != nil {
		return nil, fmt.Errorf("metrics of the ingress: %w", err)
	}
	s.unrouted = s.metrics.series(seriesKey{})
	wrap, err := gzhttp.NewWrapper(gzhttp.MinSize(1024), gzhttp.ContentTypeFilter(compressible))
	if err != nil {
		return nil, err
	}
	s.compress = wrap
	if cfg.Access != nil {
		s.access = &lines{w: cfg.Access}
	}
	if s.vault, err = openVault(cfg.Secrets, cfg.Memory, s.log, s.rebuild); err != nil {
		return nil, err
	}
	plain := ""
	if len(cfg.HTTP) > 0 {
		plain = cfg.HTTP[0]
	}
	s.acme = newAuthorities(cfg.Dir, plain, cfg.Authorities, s.log)
	s.table.Store(emptyTable())
	for _, a := range cfg.HTTP {
		s.doors = append(s.doors, &door{address: a})
	}
	for _, a := range cfg.HTTPS {
		s.doors = append(s.doors, &door{address: a, secure: true})
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.ended.Go(func() { s.vault.run(ctx) })
	if s.access != nil {
		s.ended.Go(func() { s.access.run(ctx) })
	}
	if _, err := s.openDoors(); err != nil {
		s.log.Warn("the ingress does not listen everywhere yet", "error", err)
	}
	return s, nil
}

// Apply puts a view in force. It takes nothing from the network: secrets that have
// changed follow as soon as the masters have told them.
func (s *Server) Apply(ctx context.Context, v *object.NetworkView) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun = true
	s.vault.want(v.Ingresses)
	s.swap(v)
	return nil
}

// rebuild puts secrets that have come in force.
func (s *Server) rebuild() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.begun { // else the first view will find them
		s.swap(s.table.Load().view)
	}
}

// swap replaces the table, and lets go of the pods that are in the old one only.
// s.mu is held.
func (s *Server) swap(v *object.NetworkView) {
	before := s.table.Load()
	after := build(v, s.vault.secrets(), before, s)
	for _, c := range after.came {
		for _, u := range c.upstreams {
			u.users++
		}
	}
	s.table.Store(after)
	for _, c := range after.went {
		for _, u := range c.upstreams {
			if u.users--; u.users == 0 {
				delete(s.upstreams, u.key)
				s.leaving[u] = true
				u.retire()
			}
		}
	}
	s.acme.manage(after.acme)
	s.tell(after.lacks)
}

// tell logs what has begun to lack, and what does not any more.
func (s *Server) tell(lacks []string) {
	now := make(map[string]bool, len(lacks))
	for _, l := range lacks {
		if now[l] = true; !s.told[l] {
			s.log.Warn("the ingress lacks something", "what", l)
		}
	}
	s.told = now
}

// Lacks says in words what of the last view cannot be served, and why: hosts
// without certificate, paths without service.
func (s *Server) Lacks() []string { return s.table.Load().lacks }

// upstream is the one of a key, while a table is made: s.mu is held.
func (s *Server) upstream(k upstreamKey) *upstream {
	u := s.upstreams[k]
	if u == nil {
		u = newUpstream(k)
		s.upstreams[k] = u
	}
	return u
}

func (s *Server) series(k seriesKey) *series { return s.metrics.series(k) }

func (s *Server) active() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var n int64
	for _, u := range s.upstreams {
		n += u.active.Load()
	}
	for u := range s.leaving {
		n += u.active.Load()
	}
	return float64(n)
}

// Drain waits until no request is under way to a pod that had left by the last
// Apply. Websockets and streams are not waited for: they live until their pod's
// grace ends.
func (s *Server) Drain(ctx context.Context) error {
	s.mu.Lock()
	waiting := make([]*upstream, 0, len(s.leaving))
	for u := range s.leaving {
		waiting = append(waiting, u)
	}
	s.mu.Unlock()
	for _, u := range waiting {
		select {
		case <-u.drained:
		case <-ctx.Done():
			return fmt.Errorf("requests to %s at %s are still under way: %w", u.key.pod, u.key.address, ctx.Err())
		}
	}
	return nil
}

// Ensure listens where it could not, asks for secrets that have not come, and
// forgets what is long gone.
func (s *Server) Ensure(context.Context) ([]string, error) {
	mended, err := s.openDoors()
	s.mu.Lock()
	defer s.mu.Unlock()
	for u := range s.leaving {
		if u.transport.CloseIdleConnections(); u.active.Load() == 0 {
			delete(s.leaving, u)
		}
	}
	used := map[*series]bool{s.unrouted: true}
	for _, c := range s.table.Load().list {
		for _, r := range c.routes {
			used[r.none] = true
			for _, b := range r.backends {
				for _, sh := range b.shares {
					for _, t := range sh.targets {
						used[t.series] = true
					}
				}
			}
		}
	}
	s.metrics.retain(used, time.Now())
	s.vault.ask()
	return mended, err
}

// Close stops listening, waits for requests until ctx ends, and lets everything
// go. Certificates of authorities stay for the next start, and so do secrets, in
// memory.
func (s *Server) Close(ctx context.Context) error {
	err := s.closeDoors(ctx)
	s.cancel()
	s.ended.Wait()
	s.acme.stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.upstreams {
		u.transport.CloseIdleConnections()
	}
	for u := range s.leaving {
		u.transport.CloseIdleConnections()
	}
	return err
}

// Purge closes the server at once and removes all that it keeps on this machine.
func (s *Server) Purge() error {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.Close(now) // that requests were broken off is what was asked for
	if err := s.vault.purge(); err != nil {
		return err
	}
	if s.cfg.Dir == "" {
		return nil
	}
	return os.RemoveAll(s.cfg.Dir)
}

// buffers are those through which bodies are copied.
type buffers struct{ pool sync.Pool }

const bufferSize = 32 << 10

func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return p[:]
	}
	return make([]byte, bufferSize)
}

func (b *buffers) Put(p []byte) { b.pool.Put((*[bufferSize]byte)(p)) }
