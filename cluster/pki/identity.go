package pki

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// protocols keeps connections at HTTP/1.1, on which thousands of watch streams
// cost a seventh of what they cost on HTTP/2.
var protocols = []string{"http/1.1"}

// Identity is a certificate with its key, and the authority it trusts. What it
// hands out follows Install: connections made after a renewal use the new
// certificate, nothing has to be restarted. It may be used by any number of
// goroutines.
type Identity struct {
	root    *x509.Certificate
	current atomic.Pointer[tls.Certificate]
	now     func() time.Time

	mu       sync.Mutex
	verified map[[32]byte]bool // fingerprints whose chain has been checked
}

// NewIdentity makes an identity of a chain (leaf, then authority), the leaf's key
// and the authority, all in PEM. An expired certificate is accepted: it may be
// what a machine finds on its disk, and it is refused, with reasons, where it is
// shown.
func NewIdentity(chainPEM, keyPEM, caPEM []byte) (*Identity, error) {
	roots, err := parseCerts(caPEM)
	if err != nil {
		return nil, fmt.Errorf("the CA certificate: %w", err)
	}
	i := &Identity{root: roots[0], now: time.Now, verified: map[[32]byte]bool{}}
	if err := i.Install(chainPEM, keyPEM); err != nil {
		return nil, err
	}
	return i, nil
}

// Install replaces the certificate and key.
func (i *Identity) Install(chainPEM, keyPEM []byte) error {
	c, err := tls.X509KeyPair(chainPEM, keyPEM)
	if err != nil {
		return fmt.Errorf("the certificate and its key: %w", err)
	}
	if c.Leaf == nil {
		if c.Leaf, err = x509.ParseCertificate(c.Certificate[0]); err != nil {
			return err
		}
	}
	if err := c.Leaf.CheckSignatureFrom(i.root); err != nil {
		return explain(err, c.Leaf, i.root, i.now())
	}
	if len(c.Certificate) == 1 {
		c.Certificate = append(c.Certificate, i.root.Raw) // who pins the authority has to see it
	}
	i.current.Store(&c)
	return nil
}

// Name is the certificate's name.
func (i *Identity) Name() string { return i.current.Load().Leaf.Subject.CommonName }

// Role is the certificate's role.
func (i *Identity) Role() string { return roleOf(i.current.Load().Leaf) }

// Expires is when the certificate in use ends.
func (i *Identity) Expires() time.Time { return i.current.Load().Leaf.NotAfter }

// CAHash is what tokens of this cluster pin.
func (i *Identity) CAHash() string { return Hash(i.root) }

func (i *Identity) base() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: protocols,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return i.current.Load(), nil
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return i.current.Load(), nil
		},
	}
}

// ServerTLS is for the masters' API. It asks for a client's certificate but lets
// everyone finish the handshake: some routes need none, and only an HTTP answer
// can tell a client what is wrong with the one it has. Who serves with it calls
// Authenticate on each request.
func (i *Identity) ServerTLS() *tls.Config {
	c := i.base()
	c.ClientAuth = tls.RequestClientCert
	return c
}

// Authenticate tells who is at the other end of a connection that ServerTLS took.
// Without a certificate name and role are empty. Errors are of type *Problem.
func (i *Identity) Authenticate(s tls.ConnectionState) (name, role string, err error) {
	if len(s.PeerCertificates) == 0 {
		return "", "", nil
	}
	leaf, now := s.PeerCertificates[0], i.now()
	key := sha256.Sum256(leaf.Raw)
	i.mu.Lock()
	known := i.verified[key]
	i.mu.Unlock()
	// A chain that was good stays good, but for its dates.
	if !known || now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		if _, err := verify(s, i.root, x509.ExtKeyUsageClientAuth, now); err != nil {
			return "", "", err
		}
		i.mu.Lock()
		if len(i.verified) >= 1<<14 {
			clear(i.verified)
		}
		i.verified[key] = true
		i.mu.Unlock()
	}
	return leaf.Subject.CommonName, roleOf(leaf), nil
}

// MutualTLS is for a server that serves only the given roles: a node's agent
// serves masters. Others fail in the handshake.
func (i *Identity) MutualTLS(roles ...string) *tls.Config {
	c := i.base()
	c.ClientAuth = tls.RequireAnyClientCert
	c.VerifyConnection = func(s tls.ConnectionState) error {
		leaf, err := verify(s, i.root, x509.ExtKeyUsageClientAuth, i.now())
		if err != nil {
			return err
		}
		for _, r := range roles {
			if roleOf(leaf) == r {
				return nil
			}
		}
		return &Problem{Message: fmt.Sprintf("role %s of %q is not served here", roleOf(leaf), leaf.Subject.CommonName)}
	}
	return c
}

// PeerTLS is for both ends of connections between masters.
func (i *Identity) PeerTLS() *tls.Config {
	c := i.MutualTLS(RoleMaster)
	check := func(s tls.ConnectionState) error {
		leaf, err := verify(s, i.root, x509.ExtKeyUsageServerAuth, i.now())
		if err != nil {
			return err
		}
		return expect(leaf, RoleMaster, "")
	}
	c.InsecureSkipVerify = true // check does it, by role instead of host name
	c.VerifyConnection = check  // masters' certificates are good for both sides
	return c
}

// ClientTLS is for connections to a member of the cluster by role and, unless
// name is empty, by name. Host names play no part: a certificate says who
// somebody is, wherever they are.
func (i *Identity) ClientTLS(role, name string) *tls.Config {
	c := i.base()
	c.InsecureSkipVerify = true // VerifyConnection does it, by role instead of host name
	c.VerifyConnection = func(s tls.ConnectionState) error {
		leaf, err := verify(s, i.root, x509.ExtKeyUsageServerAuth, i.now())
		if err != nil {
			return err
		}
		return expect(leaf, role, name)
	}
	return c
}

// renewAt is when two thirds of a certificate's life are over.
func renewAt(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) * 2 / 3)
}

// Renew asks for a new certificate of a new key whenever two thirds of the old
// one's life are over, installs it and hands it to keep, which stores it. It
// returns when ctx ends. A failed attempt is told to failed and repeated after a
// minute, then more slowly, up to an hour.
func (i *Identity) Renew(ctx context.Context, addresses []string, ask func(ctx context.Context, csrPEM []byte) (chainPEM []byte, err error), keep func(chainPEM, keyPEM []byte) error, failed func(error)) error {
	const slowest = time.Hour
	delay := time.Minute
	wait := i.untilRenewal()
	for {
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
		if err := i.renew(ctx, addresses, ask, keep); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			failed(fmt.Errorf("renewing the certificate of %q, which expires at %s: %w", i.Name(), i.Expires().UTC().Format(time.RFC3339), err))
			wait = delay + rand.N(delay/4)
			delay = min(delay*2, slowest)
			continue
		}
		delay, wait = time.Minute, i.untilRenewal()
	}
}

// untilRenewal spreads the renewals of machines that joined together over a
// twentieth of a certificate's life.
func (i *Identity) untilRenewal() time.Duration {
	leaf := i.current.Load().Leaf
	spread := leaf.NotAfter.Sub(leaf.NotBefore)/20 + 1
	return max(renewAt(leaf).Sub(i.now())+rand.N(spread), 0)
}

func (i *Identity) renew(ctx context.Context, addresses []string, ask func(context.Context, []byte) ([]byte, error), keep func([]byte, []byte) error) error {
	key, csr, err := NewRequest(i.Name(), addresses...)
	if err != nil {
		return err
	}
	chain, err := ask(ctx, csr)
	if err != nil {
		return err
	}
	certs, err := parseCerts(chain)
	if err != nil {
		return err
	}
	if certs[0].Subject.CommonName != i.Name() || roleOf(certs[0]) != i.Role() {
		return errors.New("the new certificate is somebody else's")
	}
	if err := i.Install(chain, key); err != nil {
		return err
	}
	return keep(chain, key)
}
