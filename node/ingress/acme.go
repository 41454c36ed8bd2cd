package ingress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"sync"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/berthdev/berth/cluster/object"
)

// authorities get certificates by ACME and renew them. Accounts and keys are made
// on this machine and stay in its directory, as the node's own key does; they are
// no secrets of the cluster.
type authorities struct {
	log     *slog.Logger
	storage certmagic.Storage // nil: there is no directory
	roots   *x509.CertPool
	host    string // where the server listens for plain requests
	port    int
	cache   *certmagic.Cache
	ctx     context.Context
	cancel  context.CancelFunc

	mu      sync.Mutex
	hosts   map[string]object.ACME
	configs map[object.ACME]*certmagic.Config
	issuers map[object.ACME]*certmagic.ACMEIssuer
}

func newAuthorities(dir, plain string, roots *x509.CertPool, log *slog.Logger) *authorities {
	a := &authorities{log: log, roots: roots, hosts: map[string]object.ACME{}, configs: map[object.ACME]*certmagic.Config{}, issuers: map[object.ACME]*certmagic.ACMEIssuer{}}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	if host, port, err := net.SplitHostPort(plain); err == nil {
		a.host = host
		a.port, _ = net.LookupPort("tcp", port) // 0: the usual one
	}
	if dir != "" {
		a.storage = &certmagic.FileStorage{Path: filepath.Join(dir, "acme")}
	}
	return a
}

// manage makes sure that exactly these hosts get certificates, in the background.
func (a *authorities) manage(hosts map[string]object.ACME) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if maps.Equal(a.hosts, hosts) || a.ctx.Err() != nil {
		return
	}
	if a.storage == nil {
		a.log.Error("certificates of authorities need a directory that the ingress has not been given")
		return
	}
	if a.cache == nil {
		a.cache = certmagic.NewCache(certmagic.CacheOptions{GetConfigForCert: a.configOf, Logger: zap.NewNop()})
	}
	for host, how := range a.hosts {
		if now, ok := hosts[host]; !ok || now != how {
			a.cache.RemoveManaged([]certmagic.SubjectIssuer{{Subject: host}})
		}
	}
	for host, how := range hosts {
		if was, ok := a.hosts[host]; ok && was == how {
			continue
		}
		if err := a.config(how).ManageAsync(a.ctx, []string{host}); err != nil {
			a.log.Error("no certificate", "host", host, "authority", how.Directory, "error", err)
		}
	}
	a.hosts = maps.Clone(hosts)
}

// config is the account at an authority. a.mu is held.
func (a *authorities) config(how object.ACME) *certmagic.Config {
	if c := a.configs[how]; c != nil {
		return c
	}
	c := certmagic.New(a.cache, certmagic.Config{Storage: a.storage, Logger: zap.NewNop(), OnEvent: a.event})
	issuer := certmagic.NewACMEIssuer(c, certmagic.ACMEIssuer{
		CA: how.Directory, TestCA: how.Directory, Email: how.Email, Agreed: true, TrustedRoots: a.roots, Logger: zap.NewNop(),
		// The server answers challenges at its own address; certmagic finds that
		// taken and opens none of its own.
		DisableTLSALPNChallenge: true, ListenHost: a.host, AltHTTPPort: a.port,
	})
	c.Issuers = []certmagic.Issuer{issuer}
	a.configs[how], a.issuers[how] = c, issuer
	return c
}

// configOf is how a certificate in the cache is renewed.
func (a *authorities) configOf(c certmagic.Certificate) (*certmagic.Config, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, n := range c.Names {
		if how, ok := a.hosts[n]; ok {
			return a.config(how), nil
		}
	}
	return nil, fmt.Errorf("%v is not served any more", c.Names)
}

// event tells the log how it goes.
func (a *authorities) event(_ context.Context, what string, data map[string]any) error {
	switch what {
	case "cert_obtained":
		a.log.Info("got a certificate", "host", data["identifier"], "renewal", data["renewal"])
	case "cert_failed":
		a.log.Error("no certificate: the authority must reach this host's port 80, where the ingress answers it; it is tried again", "host", data["identifier"], "error", data["error"])
	}
	return nil
}

// certificate is that of a host, for a handshake.
func (a *authorities) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	a.mu.Lock()
	how, ok := a.hosts[cleanHost(hello.ServerName)]
	c := a.configs[how]
	a.mu.Unlock()
	if !ok || c == nil {
		return nil, errors.New("no authority gives a certificate for this host")
	}
	return c.GetCertificate(hello)
}

// challenge answers an authority that wants to see that the host is here, if that
// is what the request is.
func (a *authorities) challenge(w http.ResponseWriter, r *http.Request) bool {
	if r.TLS != nil || !certmagic.LooksLikeHTTPChallenge(r) {
		return false
	}
	a.mu.Lock()
	issuer := a.issuers[a.hosts[cleanHost(r.Host)]]
	a.mu.Unlock()
	return issuer != nil && issuer.HandleHTTPChallenge(w, r)
}

func (a *authorities) stop() {
	a.cancel()
	a.mu.Lock()
	cache := a.cache
	a.cache, a.hosts = nil, nil
	a.mu.Unlock()
	if cache != nil {
		cache.Stop()
	}
}
