package ingress

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// What the masters judge a version by: each set's requests, errors and times, over
// real sockets.
func TestTrafficBySet(t *testing.T) {
	w := newWorld(t)
	pod := func(status int, slow time.Duration) string {
		s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(slow):
			case <-r.Context().Done():
			}
			rw.WriteHeader(status)
		}))
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	w.service("old", map[string]string{"web-1-0": pod(200, 0), "web-1-1": pod(404, 0)})
	w.service("new", map[string]string{"web-2-0": pod(500, 120*time.Millisecond)})
	w.service("dead", map[string]string{"web-3-0": refused(1)})
	for name := range w.services {
		w.ingresses[name] = &object.Ingress{Meta: meta(object.KindIngress, name), Spec: object.IngressSpec{Host: name + ".test", Paths: []object.IngressPath{{Path: "/", Service: name, Port: "http"}}}}
	}
	w.apply()
	for _, x := range []struct {
		host string
		n    int
	}{{"old.test", 6}, {"new.test", 3}, {"dead.test", 2}, {"nowhere.test", 4}} {
		for range x.n {
			q, _ := http.NewRequest(http.MethodGet, "http://"+w.plain(), nil)
			q.Host = x.host
			a, err := w.client.Do(q)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, a.Body)
			a.Body.Close()
		}
	}
	sets := map[string]object.SetTraffic{}
	for _, x := range w.s.Traffic() {
		if x.Namespace != "shop" {
			t.Errorf("namespace %q", x.Namespace)
		}
		sets[x.Set] = x
	}
	if x := sets["web-1"]; x.Requests != 6 || x.Errors != 0 {
		t.Errorf("old: %+v", x)
	}
	x := sets["web-2"]
	if x.Requests != 3 || x.Errors != 3 {
		t.Errorf("new: %+v", x)
	}
	if r, err := x.Signal(&object.SignalSource{Metric: object.SignalLatencyP50}); err != nil || r.Number < .1 {
		t.Errorf("new: %+v, %v", r, err)
	}
	if x := sets["web-3"]; x.Requests != 2 || x.Errors != 2 {
		t.Errorf("one that cannot be connected to: %+v", x)
	}
	if len(sets) != 3 {
		t.Errorf("sets: %v", sets)
	}
}
