package agent_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/node/fake"
)

// ask calls the node's API as a client of a role; "" is one without certificate.
func (w *world) ask(role, method, path, body string) (int, string) {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if role != "" {
		c := &x509.Certificate{Subject: pkix.Name{CommonName: "someone", Organization: []string{role}}}
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}, VerifiedChains: [][]*x509.Certificate{{c}}}
	}
	rec := httptest.NewRecorder()
	w.agent.Handler().ServeHTTP(rec, r)
	b, _ := io.ReadAll(rec.Body)
	return rec.Code, string(b)
}

// A pod that waits to ask for its image again, for minutes perhaps, comes up when
// somebody brings the image.
func TestAnImportedImageIsNotWaitedFor(t *testing.T) {
	inBubble(t, fake.Script{"web:new": {Missing: true}}, func(w *world) {
		ref := w.m.create("p", one("web:new"))
		w.m.wait(t, ref, time.Minute, "image_not_found", reason(object.ReasonImageNotFound))
		time.Sleep(11 * time.Minute) // the waits are 5 minutes by now
		if status, body := w.ask("master", "POST", "/v1/images", "web:new"); status != http.StatusOK {
			t.Fatal(status, body)
		}
		w.m.wait(t, ref, time.Second, "ready", ready)
	})
}

func TestNodeAPI(t *testing.T) {
	inBubble(t, fake.Script{"web": {Log: []string{"one", "two", "three"}}}, func(w *world) {
		ref := w.m.create("p", one("web"))
		w.m.wait(t, ref, time.Minute, "ready", ready)
		for _, tt := range []struct {
			role, method, path, body string
			status                   int
			want                     string
		}{
			{"master", "GET", "/v1/logs/default/p/web", "", 200, "one\ntwo\nthree\n"},
			{"admin", "GET", "/v1/logs/default/p/web?tail=1", "", 200, "three\n"},
			{"admin", "GET", "/v1/logs/default/p/web?tail=many", "", 400, "not a number of lines"},
			{"admin", "GET", "/v1/logs/default/p/web?since=yesterday", "", 400, "neither a time"},
			{"admin", "GET", "/v1/logs/default/p/web?previous", "", 404, "does not exist on this node"},
			{"admin", "GET", "/v1/logs/default/p/wbe", "", 404, `has no container`},
			{"admin", "GET", "/v1/logs/default/q/web", "", 404, "is not on this node"},
			{"", "GET", "/v1/logs/default/p/web", "", 401, "client certificate"},
			{"node", "GET", "/v1/logs/default/p/web", "", 403, "may not ask a node"},
			{"planner", "POST", "/v1/images", "x", 403, "forbidden"},
			{"master", "POST", "/v1/images", "shop:1", 200, `"shop:1"`},
			{"master", "POST", "/v1/images", "", 400, "It is empty."},
			{"master", "GET", "/v1/images", "", 200, "shop:1"},
			{"master", "GET", "/metrics", "", 200, `berth_node_pods{phase="running"} 1`},
			{"master", "GET", "/metrics", "", 200, "a_tools_own_total 7"},
			{"master", "GET", "/v1/forward/default/p?port=http", "", 400, "is not a port"},
			{"master", "GET", "/v1/forward/default/q?port=80", "", 404, "is not on this node"},
			{"node", "GET", "/v1/forward/default/p?port=80", "", 403, "may not ask a node"},
			{"", "GET", "/healthz", "", 200, "ok"},
		} {
			status, body := w.ask(tt.role, tt.method, tt.path, tt.body)
			if status != tt.status || !strings.Contains(body, tt.want) {
				t.Errorf("%s %s %s as %q: %d %s", tt.method, tt.path, tt.body, tt.role, status, body)
			}
		}
		w.r.Break(true)
		synctest.Wait()
		if status, body := w.ask("", "GET", "/healthz", ""); status != http.StatusServiceUnavailable || !strings.Contains(body, "containerd does not answer") {
			t.Errorf("%d %s", status, body)
		}
		w.r.Break(false)
	})
}
