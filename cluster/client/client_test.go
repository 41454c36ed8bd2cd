package client

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/pki"
)

// cluster makes identities of one authority.
type cluster struct {
	*testing.T
	ca *pki.CA
}

func newCluster(t *testing.T, name string) cluster {
	t.Helper()
	ca, err := pki.NewCA(name)
	if err != nil {
		t.Fatal(err)
	}
	return cluster{t, ca}
}

func (c cluster) identity(name, role string) *pki.Identity {
	c.Helper()
	key, csr, err := pki.NewRequest(name)
	if err != nil {
		c.Fatal(err)
	}
	r, err := pki.ParseRequest(csr)
	if err != nil {
		c.Fatal(err)
	}
	chain, err := c.ca.Issue(r, name, role)
	if err != nil {
		c.Fatal(err)
	}
	id, err := pki.NewIdentity(chain, key, c.ca.CertPEM())
	if err != nil {
		c.Fatal(err)
	}
	return id
}

// serve is a master of one certificate that answers every request with {}.
func (c cluster) serve(conf *tls.Config, answer http.HandlerFunc) (addr string) {
	return c.late(conf, answer, 0)
}

// late is a master that ends so many connections before it is there: at an address
// that nobody else can have meanwhile.
func (c cluster) late(conf *tls.Config, answer http.HandlerFunc, after int32) (addr string) {
	s := httptest.NewUnstartedServer(answer)
	l := &hesitant{Listener: s.Listener}
	l.left.Store(after)
	s.Listener = tls.NewListener(l, conf)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes that fail are what is tested
	s.Start()
	c.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

type hesitant struct {
	net.Listener
	left atomic.Int32
}

func (h *hesitant) Accept() (net.Conn, error) {
	for {
		conn, err := h.Listener.Accept()
		if err != nil || h.left.Add(-1) < 0 {
			return conn, err
		}
		_ = conn.Close()
	}
}

func TestMastersThatWillNotDo(t *testing.T) {
	ours, others := newCluster(t, "ours"), newCluster(t, "others")
	var asked atomic.Int32
	answer := func(w http.ResponseWriter, _ *http.Request) { asked.Add(1); _, _ = w.Write([]byte("{}")) }
	good := ours.serve(ours.identity("m1", pki.RoleMaster).ServerTLS(), answer)
	foreign := ours.serve(others.identity("x1", pki.RoleMaster).ServerTLS(), answer)
	foreign2 := ours.serve(others.identity("x2", pki.RoleMaster).ServerTLS(), answer)
	node := ours.serve(ours.identity("n1", pki.RoleNode).MutualTLS(pki.RoleMaster), answer)
	away := ours.late(ours.identity("m3", pki.RoleMaster).ServerTLS(), answer, math.MaxInt32)
	// One that lets nobody in of our cluster, before it has read anything.
	refuses := ours.identity("m2", pki.RoleMaster).ServerTLS()
	refuses.VerifyConnection = func(tls.ConnectionState) error { return &pki.Problem{Message: "who are you?"} }
	picky := ours.serve(refuses, answer)

	const patient = time.Hour // a test that waits for it has failed
	for _, c := range []struct {
		name     string
		addrs    []string
		patience time.Duration
		code     object.Code // empty: it is answered
		says     []string
	}{
		{"one of another cluster first", []string{foreign, good}, patient, "", nil},
		{"one of another cluster last", []string{good, foreign}, patient, "", nil},
		{"several of others", []string{foreign, node, foreign2, good}, patient, "", nil},
		{"one that refuses us", []string{picky, good}, patient, "", nil},
		{"one of another cluster and one that is away", []string{foreign, away, good}, patient, "", nil},
		{"none but one of another cluster", []string{foreign}, patient, object.CodeUnauthorized, []string{foreign, `master "x1"`, "another cluster"}},
		{"none but such as will not do", []string{foreign, node, foreign2}, patient, object.CodeUnauthorized,
			[]string{"none of 3 masters will do", foreign + ": ", `"x1" was issued by another cluster`, `"x2" was issued by another cluster`, node + ": "}},
		{"one of another cluster and one that stays away", []string{foreign, away}, -1, object.CodeUnavailable,
			[]string{"none of 2 masters could answer", away + " cannot be reached", foreign + ": ", "another cluster"}},
		{"one that stays away", []string{away}, -1, object.CodeUnavailable, []string{away + " cannot be reached"}},
	} {
		for first := range c.addrs { // whichever it begins with
			k, err := New(Config{Addrs: c.addrs, TLS: ours.identity("ann", "admin").ClientTLS(pki.RoleMaster, ""), Patience: c.patience})
			if err != nil {
				t.Fatal(err)
			}
			k.next.Store(uint32(first))
			asked.Store(0)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			_, err = k.Status(ctx)
			cancel()
			k.Close()
			if c.code == "" {
				if err != nil || asked.Load() != 1 {
					t.Errorf("%s, first %d: %v, asked %d times", c.name, first, err, asked.Load())
				}
				continue
			}
			if object.CodeOf(err) != c.code || asked.Load() != 0 {
				t.Errorf("%s, first %d: %s: %v", c.name, first, object.CodeOf(err), err)
				continue
			}
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%s, first %d: %q is not in %q", c.name, first, s, err.Error())
				}
			}
			if e := err.(*object.Error); e.Hint == "" {
				t.Errorf("%s: no hint", c.name)
			}
		}
	}
}

// As long as one master may yet answer, the others that will not do end nothing.
func TestAMasterThatComesBackIsWaitedFor(t *testing.T) {
	ours, others := newCluster(t, "ours"), newCluster(t, "others")
	answer := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) }
	foreign := ours.serve(others.identity("x1", pki.RoleMaster).ServerTLS(), answer)
	back := ours.late(ours.identity("m1", pki.RoleMaster).ServerTLS(), answer, 3)
	k, err := New(Config{Addrs: []string{foreign, back}, TLS: ours.identity("ann", "admin").ClientTLS(pki.RoleMaster, ""), Patience: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if _, err := k.Status(t.Context()); err != nil {
		t.Error(err)
	}
}

// A request that must not be sent twice goes on from a master that will not do, to
// which it was never sent, and not from one to which it may have been.
func TestOnceGoesOnFromTheHandshakeOnly(t *testing.T) {
	ours, others := newCluster(t, "ours"), newCluster(t, "others")
	var asked, broke atomic.Int32
	good := ours.serve(ours.identity("m1", pki.RoleMaster).ServerTLS(), func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = w.Write([]byte("{}"))
	})
	foreign := ours.serve(others.identity("x1", pki.RoleMaster).ServerTLS(), func(http.ResponseWriter, *http.Request) { t.Error("a foreign master was asked") })
	breaks := ours.serve(ours.identity("m2", pki.RoleMaster).ServerTLS(), func(http.ResponseWriter, *http.Request) {
		broke.Add(1)
		panic(http.ErrAbortHandler)
	})
	ask := func(first uint32, addrs ...string) error {
		k, err := New(Config{Addrs: addrs, TLS: ours.identity("ann", "admin").ClientTLS(pki.RoleMaster, ""), Patience: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		k.next.Store(first)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, err = k.RotateKeys(ctx)
		return err
	}
	if err := ask(0, foreign, good); err != nil || asked.Load() != 1 {
		t.Errorf("%v, asked %d times", err, asked.Load())
	}
	if err := ask(0, foreign, breaks, good); object.CodeOf(err) != object.CodeTimeout || broke.Load() != 1 || asked.Load() != 1 {
		t.Errorf("%s: %v; %d broke, asked %d times", object.CodeOf(err), err, broke.Load(), asked.Load())
	}
}

// A master whose certificate has expired is one that will not do.
func TestExpiredMaster(t *testing.T) {
	ours := newCluster(t, "ours")
	answer := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) }
	good := ours.serve(ours.identity("m1", pki.RoleMaster).ServerTLS(), answer)
	stale := ours.serve(ours.identity("m2", pki.RoleMaster).ServerTLS(), answer)
	conf := ours.identity("ann", "admin").ClientTLS(pki.RoleMaster, "")
	verify := conf.VerifyConnection
	conf.VerifyConnection = func(s tls.ConnectionState) error {
		if s.PeerCertificates[0].Subject.CommonName == "m2" {
			return &pki.Problem{Message: `the certificate of master "m2" expired`, Hint: "join again"} // pki's tests make real ones
		}
		return verify(s)
	}
	for first := range uint32(2) {
		k, err := New(Config{Addrs: []string{stale, good}, TLS: conf, Patience: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		k.next.Store(first)
		if _, err := k.Status(t.Context()); err != nil {
			t.Error(err)
		}
		k.Close()
	}
}
