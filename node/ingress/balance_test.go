package ingress

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/berthdev/berth/cluster/object"
)

// refused is an address that nobody listens at, another one for each n. A port that
// was somebody's a moment ago would not do: another test may get it.
func refused(n int) string { return fmt.Sprintf("127.0.0.%d:1", n) }

func TestRetriesAtAnotherPod(t *testing.T) {
	w := newWorld(t)
	good := pod(t, "web-1-0")
	w.service("web", map[string]string{"web-1-0": good, "web-1-1": refused(1), "web-1-2": refused(2)})
	w.ingress("shop", simple("h", object.IngressPath{Path: "/", Service: "web", Retries: 2}, object.IngressPath{Path: "/once", Service: "web"}))
	w.apply()
	for range 12 {
		if s := w.get("h", "/").saw(t); s.Pod != "web-1-0" {
			t.Fatal(s.Pod)
		}
		// A body is sent whole, although the first attempts failed.
		r, err := http.NewRequest("POST", "http://"+w.plain()+"/", io.MultiReader(strings.NewReader(strings.Repeat("x", 50000))))
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "h"
		if s := w.do(w.client, r).saw(t); s.Body != 50000 {
			t.Fatalf("%+v", s)
		}
	}
	codes := map[int]int{}
	for range 12 {
		codes[w.get("h", "/once").StatusCode]++
	}
	if codes[200] != 4 || codes[502] != 8 {
		t.Errorf("without retries: %v", codes)
	}
	if n := testutil.ToFloat64(w.s.metrics.retries); n == 0 {
		t.Error("no retry is counted")
	}
	// Nobody left to try: the failure is told.
	w.service("web", map[string]string{"web-1-1": refused(1)})
	w.apply()
	w.get("h", "/").want(t, 502, "")
}

func TestBackends(t *testing.T) {
	w := newWorld(t)
	w.service("old", map[string]string{"old-1-0": pod(t, "old")})
	w.service("new", map[string]string{"new-1-0": pod(t, "new")})
	w.service("beta", map[string]string{"beta-1-0": pod(t, "beta")})
	w.ingress("shop", simple("h", object.IngressPath{Path: "/", Backends: []object.IngressBackend{
		{Service: "old", Weight: 95}, {Service: "new", Weight: 5, Cookie: "try=new"}, {Service: "beta", Header: "X-Beta"},
	}}))
	w.apply()
	got := map[string]int{}
	for range 200 {
		got[w.get("h", "/").saw(t).Pod]++
	}
	if got["old"] != 190 || got["new"] != 10 || got["beta"] != 0 {
		t.Errorf("95 to 5: %v", got)
	}
	for range 5 {
		if p := w.get("h", "/", func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "try", Value: "new"}) }).saw(t).Pod; p != "new" {
			t.Error(p)
		}
		if p := w.get("h", "/", func(r *http.Request) { r.Header.Set("X-Beta", "anything") }).saw(t).Pod; p != "beta" {
			t.Error(p)
		}
	}
}

// TestShares: the weights of a service's sets hold at the ingress, too, those of a
// canary under way before its own.
func TestShares(t *testing.T) {
	own := func(s *object.Service, _ *object.Endpoints) {
		s.Spec.Shares = []object.ServiceShare{{Name: "stable", Weight: 95}, {Name: "canary", Weight: 5}}
	}
	underWay := func(_ *object.Service, e *object.Endpoints) {
		e.Spec.Shares = []object.EndpointShare{{Name: "stable", Weight: 95}, {Name: "canary", Weight: 5}}
	}
	for name, split := range map[string]func(*object.Service, *object.Endpoints){"own": own, "of a canary": underWay} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.service("web", map[string]string{"web-1-0": pod(t, "a"), "web-1-1": pod(t, "a"), "web-2-0": pod(t, "b"), "web-3-0": pod(t, "none")})
			w.services["web"] = w.services["web"].Clone().(*object.Service)
			split(w.services["web"], w.endpoints["web"])
			for i, share := range []string{"stable", "stable", "canary", ""} {
				w.endpoints["web"].Spec.Ready[i].Share = share
			}
			w.ingress("shop", simple("h", to("/", "web")))
			w.apply()
			got := map[string]int{}
			for range 200 {
				got[w.get("h", "/").saw(t).Pod]++
			}
			if got["a"] != 190 || got["b"] != 10 {
				t.Errorf("%v", got)
			}
		})
	}
}

func TestStickyCookie(t *testing.T) {
	w := newWorld(t)
	pods := map[string]string{}
	for i := range 4 {
		n := fmt.Sprintf("web-1-%d", i)
		pods[n] = pod(t, n)
	}
	w.service("web", pods)
	w.ingress("shop", simple("h", object.IngressPath{Path: "/app", Service: "web", Sticky: &object.Sticky{Cookie: "berth", TTL: object.Duration(time.Minute)}}))
	w.apply()
	first := w.get("h", "/app")
	mine := first.saw(t).Pod
	cookies := first.Cookies()
	if len(cookies) != 1 || cookies[0].Name != "berth" || cookies[0].Path != "/app" || cookies[0].MaxAge != 60 || !cookies[0].HttpOnly || strings.Contains(cookies[0].Value, "web") {
		t.Fatalf("%v", cookies)
	}
	with := func(r *http.Request) { r.AddCookie(cookies[0]) }
	for range 10 {
		a := w.get("h", "/app", with)
		if p := a.saw(t).Pod; p != mine || len(a.Cookies()) != 0 {
			t.Fatalf("%s, not %s; %v", p, mine, a.Cookies())
		}
	}
	// The pod leaves: the client gets another, and its cookie.
	delete(pods, mine)
	w.service("web", pods)
	w.apply()
	a := w.get("h", "/app", with)
	if p := a.saw(t).Pod; p == mine || len(a.Cookies()) != 1 {
		t.Errorf("%s %v", p, a.Cookies())
	}
}
