package ingress

import (
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/berthdev/berth/cluster/object"
)

func TestWhoMayAsk(t *testing.T) {
	w := newWorld(t)
	w.service("web", map[string]string{"web-1-0": pod(t, "web-1-0")})
	denied, allowed, limited := simple("denied", to("/", "web")), simple("allowed", to("/", "web")), simple("limited", to("/", "web"))
	denied.Deny, denied.Allow = []string{"127.0.0.1"}, []string{"127.0.0.0/8"}
	allowed.Allow = []string{"10.0.0.0/8"}
	limited.RateLimit = &object.RateLimit{Requests: 2, Per: object.Duration(time.Hour), Burst: 3}
	w.ingress("denied", denied)
	w.ingress("allowed", allowed)
	w.ingress("limited", limited)
	w.apply()
	w.get("denied", "/").want(t, 403, "")
	w.get("allowed", "/").want(t, 403, "")
	for range 3 {
		w.get("limited", "/").want(t, 200, "")
	}
	a := w.get("limited", "/")
	if a.want(t, 429, ""); a.Header.Get("Retry-After") != "1800" {
		t.Errorf("Retry-After: %q", a.Header.Get("Retry-After"))
	}
	// Another change of the ingress does not forget who asked how often.
	limited.Headers = &object.HeaderRules{Response: map[string]string{"X": "y"}}
	w.ingress("limited", limited)
	w.apply()
	w.get("limited", "/").want(t, 429, "")
	limited.RateLimit = &object.RateLimit{Requests: 5, Per: object.Duration(time.Hour)}
	w.ingress("limited", limited)
	w.apply()
	w.get("limited", "/").want(t, 200, "")
}

func TestRateLimitHasBoundedMemory(t *testing.T) {
	l := newLimiter(object.RateLimit{Requests: 1, Per: object.Duration(time.Second)})
	now := time.Unix(1000, 0)
	for i := range 3 * clientsKept {
		if _, ok := l.allow(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now); !ok {
			t.Fatal("a client that has never asked is refused")
		}
	}
	if n := l.clients.Len(); n != clientsKept {
		t.Errorf("%d clients are kept", n)
	}
	// One client with many addresses is one client.
	if _, ok := l.allow(netip.MustParseAddr("2001:db8:1:2::1"), now); !ok {
		t.Error("first refused")
	}
	if _, ok := l.allow(netip.MustParseAddr("2001:db8:1:2:ffff::2"), now); ok {
		t.Error("another address of the same /64 has an allowance of its own")
	}
	if wait, ok := l.allow(netip.MustParseAddr("2001:db8:1:2::1"), now); ok || wait != time.Second {
		t.Errorf("%v %v", wait, ok)
	}
	if _, ok := l.allow(netip.MustParseAddr("2001:db8:1:2::1"), now.Add(time.Second)); !ok {
		t.Error("refused after the wait")
	}
}

func TestBasicAuth(t *testing.T) {
	w := newWorld(t)
	w.service("web", map[string]string{"web-1-0": pod(t, "web-1-0")})
	spec := simple("h", to("/", "web"))
	spec.BasicAuth = &object.BasicAuth{Secret: "users", Realm: "The \"shop\""}
	w.ingress("shop", spec)
	w.apply()
	as := func(user, password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(user, password) }
	}
	// Before the secret has come nobody gets in, not even with an empty password.
	w.get("h", "/", as("", "")).want(t, 503, "")
	hash, err := bcrypt.GenerateFromPassword([]byte("hunter2"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	w.reads("shop", "users", map[string]string{"eve": string(hash), "bob": "plain"})
	w.apply()
	waitFor(t, "the secret", func() bool { return w.get("h", "/").StatusCode == 401 })
	a := w.get("h", "/")
	if got := a.Header.Get("WWW-Authenticate"); got != `Basic realm="The \"shop\"", charset="UTF-8"` {
		t.Errorf("%s", got)
	}
	for range 3 { // the second time from memory
		w.get("h", "/", as("eve", "hunter2")).want(t, 200, "")
		w.get("h", "/", as("bob", "plain")).want(t, 200, "")
		w.get("h", "/", as("eve", "hunter3")).want(t, 401, "")
		w.get("h", "/", as("eve", string(hash))).want(t, 401, "")
		w.get("h", "/", as("bob", "hunter2")).want(t, 401, "")
		w.get("h", "/", as("mallory", "hunter2")).want(t, 401, "")
		w.get("h", "/", as("", "")).want(t, 401, "")
	}
	// A new password is in force once it has come, and the old one no more.
	w.reads("shop", "users", map[string]string{"bob": "new"})
	w.apply()
	waitFor(t, "the new secret", func() bool { return w.get("h", "/", as("bob", "new")).StatusCode == 200 })
	w.get("h", "/", as("bob", "plain")).want(t, 401, "")
	w.get("h", "/", as("eve", "hunter2")).want(t, 401, "")
}

func TestBodyLimit(t *testing.T) {
	w := newWorld(t)
	w.service("web", map[string]string{"web-1-0": pod(t, "web-1-0")})
	spec := simple("h", to("/", "web"))
	spec.BodyLimit = 1000
	w.ingress("shop", spec)
	w.apply()
	post := func(body io.Reader) answer {
		r, err := http.NewRequest("POST", "http://"+w.plain()+"/", body)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "h"
		return w.do(w.client, r)
	}
	if s := post(strings.NewReader(strings.Repeat("x", 1000))).saw(t); s.Body != 1000 {
		t.Errorf("%d", s.Body)
	}
	post(strings.NewReader(strings.Repeat("x", 1001))).want(t, 413, "too large")
	post(io.MultiReader(strings.NewReader(strings.Repeat("x", 1001)))).want(t, 413, "too large") // without a length
}
