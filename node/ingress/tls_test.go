package ingress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"

	"github.com/berthdev/berth/cluster/object"
)

func secureSpec(host, secret string, redirect bool, paths ...object.IngressPath) object.IngressSpec {
	s := simple(host, paths...)
	s.TLS = &object.IngressTLS{Secret: secret, Redirect: redirect}
	return s
}

// served is the serial number of the certificate that a handshake is given.
func (w *world) served(host string, a *authority) (string, error) {
	c, err := tls.Dial("tcp", w.secure(), &tls.Config{RootCAs: a.pool, ServerName: host})
	if err != nil {
		return "", err
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

func TestTLS(t *testing.T) {
	w, a := newWorld(t), newAuthority(t)
	w.service("web", map[string]string{"web-1-0": pod(t, "x")})
	w.ingress("shop", secureSpec("shop.example", "tls", true, to("/", "web")))
	w.ingress("wild", secureSpec("*.shop.example", "tls", false, to("/", "web")))
	w.ingress("plain", simple("plain.example", to("/", "web")))
	w.apply()
	// Without certificate: the handshake fails, plain hosts are served, and it is told.
	if _, err := w.served("shop.example", a); err == nil {
		t.Error("a handshake without certificate")
	}
	w.get("plain.example", "/").want(t, 200, "")
	if l := strings.Join(w.s.Lacks(), "\n"); !strings.Contains(l, "no certificate for shop.example: secret \"tls\" does not exist") {
		t.Errorf("%s", l)
	}
	w.reads("shop", "tls", a.issue(t, "shop.example"))
	w.reads("wild", "tls", a.issue(t, "*.shop.example"))
	w.apply()
	waitFor(t, "certificates", func() bool { return len(w.s.Lacks()) == 0 })
	one, err := w.served("shop.example", a)
	if err != nil {
		t.Fatal(err)
	}
	if two, err := w.served("a.shop.example", a); err != nil || two == one {
		t.Errorf("%v", err)
	}
	if _, err := w.served("a.b.shop.example", a); err == nil {
		t.Error("a wildcard for two labels")
	}
	for _, h2 := range []bool{true, false} {
		c := w.tlsClient(a, h2)
		r, err := http.NewRequest("GET", "https://shop.example/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		x := w.do(c, r)
		if s := x.saw(t); s.Headers.Get("X-Forwarded-Proto") != "https" || s.Path != "/x" || x.ProtoMajor == 2 != h2 || s.Proto != "HTTP/1.1" {
			t.Errorf("h2 %v: %s, %+v", h2, x.Proto, s)
		}
	}
	// Plain requests are redirected, to the port that TLS is at, where that is asked for.
	_, port, _ := net.SplitHostPort(w.secure())
	x := w.get("shop.example:8080", "/a?b=c")
	if x.want(t, 308, ""); x.Header.Get("Location") != "https://shop.example:"+port+"/a?b=c" {
		t.Errorf("%v", x.Header)
	}
	w.get("b.shop.example", "/").want(t, 200, "")

	// A new certificate is in force without a connection being lost.
	w.reads("shop", "tls", a.issue(t, "shop.example"))
	w.apply()
	waitFor(t, "the new certificate", func() bool { now, err := w.served("shop.example", a); return err == nil && now != one })
	// One that is no key pair leaves the host without, and says so.
	bad := a.issue(t, "shop.example")
	bad[object.TLSKey] = a.issue(t, "shop.example")[object.TLSKey]
	w.reads("shop", "tls", bad)
	w.apply()
	waitFor(t, "the complaint", func() bool {
		return strings.Contains(strings.Join(w.s.Lacks(), "\n"), "secret \"tls\" is not a key pair")
	})
}

// TestMastersAway: secrets survive a restart in memory, and never reach a disk.
func TestMastersAway(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting tmpfs needs root")
	}
	dir, a := t.TempDir()+"/memory", newAuthority(t)
	t.Cleanup(func() { _ = (&vault{dir: dir}).purge() })
	memory := func(c *Config) { c.Memory = dir }
	w := newWorld(t, memory)
	w.service("web", map[string]string{"web-1-0": pod(t, "x")})
	w.ingress("shop", secureSpec("shop.example", "tls", false, to("/", "web")))
	w.reads("shop", "tls", a.issue(t, "shop.example"))
	w.apply()
	waitFor(t, "the certificate", func() bool { return len(w.s.Lacks()) == 0 })
	one, err := w.served("shop.example", a)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}

	next := newWorld(t, memory)
	next.secrets.err = errors.New("nobody answers")
	next.services, next.endpoints, next.ingresses = w.services, w.endpoints, w.ingresses
	next.ingress("late", secureSpec("late.example", "tls", false, to("/", "web")))
	late := next.ingresses["late"].Clone().(*object.Ingress)
	late.Status.Secrets = map[string]string{"tls": "digest"}
	next.ingresses["late"] = late
	next.apply()
	if two, err := next.served("shop.example", a); err != nil || two != one {
		t.Fatalf("%v: %s, not %s", err, two, one)
	}
	next.get("late.example", "/").want(t, 200, "")
	if l := next.s.Lacks(); len(l) != 1 || !strings.Contains(l[0], "no certificate for late.example: secret \"tls\" has not come from the masters yet") {
		t.Errorf("%v", l)
	}
	// What is gone is forgotten, there, too.
	delete(next.ingresses, "shop")
	next.apply()
	if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
		t.Errorf("%v %v", files, err)
	}
	if err := next.s.Purge(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

// TestSecretsAreAskedForOnce: what is current is not asked for again; what is not
// is, with pauses.
func TestSecretsAreAskedForOnce(t *testing.T) {
	w, a := newWorld(t), newAuthority(t)
	w.ingress("shop", secureSpec("shop.example", "tls", false, to("/", "web")))
	w.reads("shop", "tls", a.issue(t, "shop.example"))
	w.apply()
	waitFor(t, "the certificate", func() bool { _, err := w.served("shop.example", a); return err == nil })
	for range 20 {
		w.apply()
		if _, err := w.s.Ensure(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.secrets.mu.Lock()
	asked := w.secrets.asked
	w.secrets.mu.Unlock()
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	v := w.s.vault
	v.mu.Lock()
	v.wanted[w.ingresses["shop"].Ref()] = map[string]string{"tls": "newer"}
	v.mu.Unlock()
	if due, _ := v.stale(time.Now()); len(due) != 1 {
		t.Fatal("a newer version is not asked for")
	}
	v.fetch(t.Context(), w.ingresses["shop"].Ref())
	if due, next := v.stale(time.Now()); len(due) != 0 || next.IsZero() {
		t.Errorf("asked again at once: %v %v", due, next)
	}
	if due, _ := v.stale(time.Now().Add(2 * lastWait)); len(due) != 1 {
		t.Error("never asked again")
	}
}

// TestACME gets a certificate from Let's Encrypt's own test server, Pebble, which
// looks the host up and asks it for the proof.
func TestACME(t *testing.T) {
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	t.Setenv("PEBBLE_WFE_NONCEREJECT", "0")
	// The name server that the authority asks: every host is here.
	resolver, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	names := &dns.Server{Listener: resolver, Handler: dns.HandlerFunc(func(rw dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(127, 0, 0, 1)})
		}
		_ = rw.WriteMsg(m)
	})}
	ready := make(chan struct{})
	names.NotifyStartedFunc = func() { close(ready) }
	go names.ActivateAndServe()
	<-ready
	t.Cleanup(func() { _ = names.Shutdown() })

	// The authority has to know the ingress' port: one that the kernel gives nobody by chance.
	const free = "127.0.0.1:17302"
	dir := t.TempDir()
	trusted := x509.NewCertPool()
	open := func() *world {
		return newWorld(t, func(c *Config) { c.HTTP, c.Dir, c.Authorities = []string{free}, dir, trusted })
	}
	_, port, _ := net.SplitHostPort(free)
	number, _ := net.LookupPort("tcp", port)
	quiet := log.New(t.Output(), "pebble ", 0)
	store := db.NewMemoryStore()
	authority := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {}})
	checker := va.New(quiet, number, 1, false, resolver.Addr().String(), store)
	front := wfe.New(quiet, store, checker, authority, []string{"pebble.test"}, false, false, 1, 1)
	orders := make(chan struct{}, 100)
	server := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/order-plz" {
			orders <- struct{}{}
		}
		front.Handler().ServeHTTP(rw, r)
	}))
	t.Cleanup(server.Close)
	trusted.AddCert(server.Certificate())

	w := open()
	w.service("web", map[string]string{"web-1-0": pod(t, "x")})
	spec := simple("shop.example", to("/", "web"))
	spec.TLS = &object.IngressTLS{Redirect: true, ACME: &object.ACME{Email: "ops@shop.example", Directory: server.URL + wfe.DirectoryPath}}
	w.ingress("shop", spec)
	w.apply()
	fetch := func(w *world) (*x509.Certificate, error) {
		d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, ServerName: "shop.example"}}
		c, err := d.DialContext(context.Background(), "tcp", w.secure())
		if err != nil {
			return nil, err
		}
		defer c.Close()
		return c.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
	}
	var got *x509.Certificate
	waitFor(t, "a certificate from the authority", func() bool { var err error; got, err = fetch(w); return err == nil })
	if err := got.VerifyHostname("shop.example"); err != nil || !strings.Contains(got.Issuer.CommonName, "Pebble") {
		t.Fatalf("%v, by %s", err, got.Issuer)
	}
	w.get("shop.example", "/.well-known/acme-challenge/abc").want(t, 308, "") // no challenge of ours

	// After a restart the same certificate is served, and no other asked for.
	ordered := len(orders)
	if err := w.s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := open()
	again.services, again.endpoints, again.ingresses = w.services, w.endpoints, w.ingresses
	again.apply()
	var same *x509.Certificate
	waitFor(t, "the certificate after the restart", func() bool { var err error; same, err = fetch(again); return err == nil })
	if !same.Equal(got) || len(orders) != ordered || ordered == 0 {
		t.Errorf("another certificate: %v, %d orders, then %d", same.SerialNumber, ordered, len(orders))
	}
}
