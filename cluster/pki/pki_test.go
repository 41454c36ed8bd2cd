package pki

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func at(t time.Time) func() time.Time { return func() time.Time { return t } }

func testCA(t *testing.T, name string, now func() time.Time) *CA {
	t.Helper()
	ca, err := newCA(name, now)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func issued(t *testing.T, ca *CA, name, role string, lifetime time.Duration, addresses ...string) (chain, key []byte) {
	t.Helper()
	key, csr, err := NewRequest(name, addresses...)
	if err != nil {
		t.Fatal(err)
	}
	r, err := ParseRequest(csr)
	if err != nil {
		t.Fatal(err)
	}
	if chain, err = ca.issue(r, name, role, "", lifetime); err != nil {
		t.Fatal(err)
	}
	return chain, key
}

func testIdentity(t *testing.T, ca *CA, name, role string) *Identity {
	t.Helper()
	chain, key := issued(t, ca, name, role, Lifetime(role))
	id, err := NewIdentity(chain, key, ca.CertPEM())
	if err != nil {
		t.Fatal(err)
	}
	id.now = ca.now
	return id
}

// handshake connects two configurations and returns both sides' errors and what
// the server saw.
func handshake(t *testing.T, server, client *tls.Config) (serverErr, clientErr error, seen tls.ConnectionState) {
	t.Helper()
	a, b := net.Pipe()
	s, c := tls.Server(a, server), tls.Client(b, client)
	done := make(chan error, 1)
	go func() {
		err := s.Handshake()
		if err == nil {
			seen = s.ConnectionState()
			_, err = s.Write([]byte("x"))
		}
		_ = a.Close()
		done <- err
	}()
	clientErr = c.Handshake()
	if clientErr == nil { // a server refuses a client's certificate after the client is done
		_, clientErr = io.ReadFull(c, make([]byte, 1))
	}
	_ = b.Close()
	return <-done, clientErr, seen
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestMutualTLS(t *testing.T) {
	ca := testCA(t, "a", at(start))
	m1, m2, n1 := testIdentity(t, ca, "m1", RoleMaster), testIdentity(t, ca, "m2", RoleMaster), testIdentity(t, ca, "n1", RoleNode)
	admin := testIdentity(t, ca, "ann", "admin")
	other := testIdentity(t, testCA(t, "b", at(start)), "m1", RoleMaster)
	later := func(id *Identity, d time.Duration) *Identity {
		c := &Identity{root: id.root, now: at(start.Add(d)), verified: map[[32]byte]bool{}}
		c.current.Store(id.current.Load())
		return c
	}
	for _, c := range []struct {
		name           string
		server, client *tls.Config
		says           string // in the error of whoever found it; empty: it works
	}{
		{"peers", m1.PeerTLS(), m2.PeerTLS(), ""},
		{"a node is no peer", m1.PeerTLS(), n1.ClientTLS(RoleMaster, ""), "expected a master"},
		{"a peer must be a master", n1.MutualTLS(RoleMaster), m1.PeerTLS(), "expected a master"},
		{"agent serves masters", n1.MutualTLS(RoleMaster), m1.ClientTLS(RoleNode, "n1"), ""},
		{"agent serves nobody else", n1.MutualTLS(RoleMaster), admin.ClientTLS(RoleNode, "n1"), "role admin"},
		{"wrong node", n1.MutualTLS(RoleMaster), m1.ClientTLS(RoleNode, "n2"), `expected node "n2"`},
		{"foreign client", m1.PeerTLS(), func() *tls.Config { c := other.PeerTLS(); c.VerifyConnection = nil; return c }(), "another cluster"},
		{"foreign server", other.ServerTLS(), m1.ClientTLS(RoleMaster, ""), "another cluster"},
		{"expired", m1.ServerTLS(), later(admin, 40*24*time.Hour).ClientTLS(RoleMaster, ""), "expired at"},
		{"clock behind", m1.ServerTLS(), later(admin, -time.Hour).ClientTLS(RoleMaster, ""), "clock"},
		{"a person's certificate does not serve", admin.ServerTLS(), m1.ClientTLS("admin", ""), "not meant for this side"},
		{"no certificate where one is needed", m1.PeerTLS(), PinnedTLS(Token{CAHash: ca.Hash()}), "certificate"},
		{"pinned", m1.ServerTLS(), pinnedTLS(Token{CAHash: ca.Hash()}, at(start)), ""},
		{"pinned to another", m1.ServerTLS(), pinnedTLS(Token{CAHash: other.CAHash()}, at(start)), "not of the cluster"},
		{"pinned, expired", m1.ServerTLS(), pinnedTLS(Token{CAHash: ca.Hash()}, at(start.Add(9000*time.Hour))), "expired at"},
	} {
		t.Run(c.name, func(t *testing.T) {
			serverErr, clientErr, _ := handshake(t, c.server, c.client)
			if c.says == "" {
				if serverErr != nil || clientErr != nil {
					t.Fatalf("server: %v, client: %v", serverErr, clientErr)
				}
				return
			}
			if err := errors.Join(serverErr, clientErr); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("server: %v, client: %v", serverErr, clientErr)
			}
		})
	}
}

func TestAuthenticate(t *testing.T) {
	ca := testCA(t, "a", at(start))
	m1, admin := testIdentity(t, ca, "m1", RoleMaster), testIdentity(t, ca, "ann", "admin")
	_, _, seen := handshake(t, m1.ServerTLS(), admin.ClientTLS(RoleMaster, ""))
	for range 2 { // the second time from memory
		name, role, err := m1.Authenticate(seen)
		if name != "ann" || role != "admin" || err != nil {
			t.Fatalf("%s %s %v", name, role, err)
		}
	}
	m1.now = at(start.Add(2 * 365 * 24 * time.Hour)) // remembered, but expired by now
	if _, _, err := m1.Authenticate(seen); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Error(err)
	}
	if name, _, err := m1.Authenticate(tls.ConnectionState{}); name != "" || err != nil {
		t.Error("nobody is somebody")
	}
}

func TestIssue(t *testing.T) {
	ca := testCA(t, "a", at(start))
	chain, _ := issued(t, ca, "n1", RoleNode, time.Hour, "10.0.0.7:7410", "node.example", "[fd00::1]:7410")
	certs, err := parseCerts(chain)
	if err != nil || len(certs) != 2 || Hash(certs[1]) != ca.Hash() {
		t.Fatal("the chain must be leaf and authority", err)
	}
	for _, h := range []string{"n1", "localhost", "127.0.0.1", "10.0.0.7", "node.example", "fd00::1"} {
		if err := certs[0].VerifyHostname(h); err != nil {
			t.Error(err)
		}
	}
	chain, _ = issued(t, ca, "ann", "admin", time.Hour, "m1.example")
	if certs, _ = parseCerts(chain); len(certs[0].DNSNames)+len(certs[0].IPAddresses) != 0 {
		t.Error("a person has addresses")
	}
	for _, bad := range []string{"", "a b", "-x", strings.Repeat("x", 70), "a\nb"} {
		if _, err := ca.Issue(&Request{}, bad, "node"); err == nil {
			t.Errorf("%q is a name", bad)
		}
	}
	for _, bad := range []string{"", "junk", string(ca.CertPEM())} {
		if _, err := ParseRequest([]byte(bad)); err == nil {
			t.Errorf("%q is a request", bad)
		}
	}
}

func TestTokens(t *testing.T) {
	tok := NewToken(strings.Repeat("ab", 32))
	got, err := ParseToken(" " + tok.String() + "\n")
	if err != nil || got != tok {
		t.Fatalf("%+v %v", got, err)
	}
	s := tok.String()
	for _, bad := range []string{"", "a.b.c", s[:len(s)-1], s[1:], s + ".x", strings.Replace(s, ".", "..", 1)} {
		if _, err := ParseToken(bad); err == nil {
			t.Errorf("%q is a token", bad)
		}
	}
}

func TestFiles(t *testing.T) {
	f := Files{Dir: filepath.Join(t.TempDir(), "pki")}
	if f.Joined() {
		t.Error("joined before it began")
	}
	if _, err := f.CA(); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	ca := testCA(t, "a", time.Now)
	chain, key := issued(t, ca, "m1", RoleMaster, time.Hour)
	if err := errors.Join(f.SaveCA(ca), f.SaveIdentity(chain, key)); err != nil {
		t.Fatal(err)
	}
	back, err := f.CA()
	if err != nil || back.Hash() != ca.Hash() {
		t.Fatal(err)
	}
	id, err := f.Identity()
	if err != nil || id.Name() != "m1" || id.Role() != RoleMaster || !f.Joined() {
		t.Fatal(err)
	}
	for _, n := range []string{"ca.crt", "ca.key", "tls.pem"} {
		info, err := os.Stat(filepath.Join(f.Dir, n))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", n, info.Mode(), err)
		}
	}
	if err := os.Chmod(filepath.Join(f.Dir, "ca.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := f.CA(); err == nil || !strings.Contains(err.Error(), "chmod") {
		t.Error(err)
	}
	// A key that belongs to another authority.
	foreign := testCA(t, "b", time.Now)
	k, err := foreign.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseCA(ca.CertPEM(), k); err == nil {
		t.Error("the wrong key was taken")
	}
	if _, err := NewIdentity(chain, key, foreign.CertPEM()); err == nil || !strings.Contains(err.Error(), "another cluster") {
		t.Error(err)
	}
}

func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := testCA(t, "a", time.Now)
		id := testIdentity(t, ca, "n1", RoleNode)
		config := id.ServerTLS() // made before the renewals, in use after them
		first := id.Expires()
		ctx, cancel := context.WithCancel(context.Background())
		var failures, kept atomic.Int32
		ask := func(_ context.Context, csr []byte) ([]byte, error) {
			if failures.Load() < 3 {
				return nil, errors.New("no master answers")
			}
			r, err := ParseRequest(csr)
			if err != nil {
				return nil, err
			}
			return ca.Issue(r, "n1", RoleNode)
		}
		keep := func(chain, key []byte) error { kept.Add(1); return nil }
		done := make(chan error, 1)
		go func() {
			done <- id.Renew(ctx, []string{"10.0.0.1"}, ask, keep, func(err error) {
				failures.Add(1)
				if !strings.Contains(err.Error(), "no master answers") {
					t.Error(err)
				}
			})
		}()
		time.Sleep(10 * 24 * time.Hour) // virtual
		synctest.Wait()
		if kept.Load() != 0 {
			t.Error("renewed too early")
		}
		time.Sleep(19 * 24 * time.Hour)
		synctest.Wait()
		if kept.Load() != 1 || failures.Load() != 3 || !id.Expires().After(first) {
			t.Errorf("kept %d, failures %d", kept.Load(), failures.Load())
		}
		time.Sleep(300 * 24 * time.Hour)
		synctest.Wait()
		if id.Expires().Before(time.Now()) {
			t.Error("expired in spite of renewals")
		}
		c, err := config.GetCertificate(nil)
		if err != nil || !c.Leaf.NotAfter.Equal(id.Expires()) {
			t.Error("connections made now use an old certificate")
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := id.renew(context.Background(), nil, func(_ context.Context, csr []byte) ([]byte, error) {
			r, err := ParseRequest(csr)
			if err != nil {
				return nil, err
			}
			return ca.Issue(r, "somebody", RoleNode)
		}, keep); err == nil {
			t.Error("took somebody else's certificate")
		}
	})
}
