package ingress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// TestDrain waits for requests to pods that have left, and for no others.
func TestDrain(t *testing.T) {
	w := newWorld(t)
	entered, gate := make(chan string, 10), make(chan struct{})
	slow := func(name string) string {
		s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			entered <- name
			<-gate
			fmt.Fprint(rw, name)
		}))
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	pods := map[string]string{"web-1-0": slow("web-1-0"), "web-1-1": slow("web-1-1")}
	w.service("web", pods)
	w.ingress("shop", simple("h", to("/", "web")))
	w.apply()
	answers := make(chan answer, 2)
	for range 2 {
		go func() { answers <- w.get("h", "/") }()
		<-entered
	}
	if err := w.s.Drain(t.Context()); err != nil {
		t.Fatalf("nobody has left: %v", err)
	}
	gone := pods["web-1-0"]
	delete(pods, "web-1-0")
	w.service("web", pods)
	w.apply()
	short, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	err := w.s.Drain(short)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "shop/web-1-0") {
		t.Fatalf("%v", err)
	}
	close(gate)
	for range 2 {
		(<-answers).want(t, 200, "web-1-")
	}
	if err := w.s.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Connections to the pod that left are closed as soon as they are idle.
	waitFor(t, "the connection's end", func() bool { return established(t, gone) == 0 })
	if established(t, pods["web-1-1"]) == 0 {
		t.Error("the connection to the pod that stayed is closed, too")
	}
	if _, err := w.s.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if len(w.s.leaving) != 0 || len(w.s.upstreams) != 1 {
		t.Errorf("%d leaving, %d kept", len(w.s.leaving), len(w.s.upstreams))
	}
}

// soaker is a pod whose server ends at once when it is told, whatever it is doing:
// every request that reaches it then is lost.
type soaker struct {
	name     string
	server   *http.Server
	listener net.Listener
	active   atomic.Int64
}

func newSoaker(t *testing.T, name string) *soaker {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &soaker{name: name, listener: l}
	p.server = &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		p.active.Add(1)
		defer p.active.Add(-1)
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(rw, name, " ", strings.Repeat("x", len(r.URL.Path)))
	})}
	go p.server.Serve(l)
	t.Cleanup(func() { p.server.Close() })
	return p
}

// TestNoRequestIsLost swaps tables and pods under load: whatever changes, and
// although pods end without grace as soon as the ingress has drained them, every
// request is answered by a pod that was there for it.
func TestNoRequestIsLost(t *testing.T) {
	requests, clients := 20_000, 16
	if testing.Short() {
		requests = 5_000
	}
	w := newWorld(t, func(c *Config) { c.Access = io.Discard })
	pods := map[string]*soaker{}
	generation := 0
	add := func() {
		name := fmt.Sprintf("web-%d-0", generation)
		generation++
		pods[name] = newSoaker(t, name)
	}
	declare := func() {
		at := map[string]string{}
		for n, p := range pods {
			at[n] = p.listener.Addr().String()
		}
		w.service("web", at)
	}
	spec := simple("h", object.IngressPath{Path: "/", Service: "web", Sticky: &object.Sticky{Cookie: "berth"}})
	for range 4 {
		add()
	}
	declare()
	w.ingress("shop", spec)
	w.apply()

	var left, lost, done atomic.Int64
	left.Store(int64(requests))
	var first atomic.Value
	var load sync.WaitGroup
	for c := range clients {
		load.Go(func() {
			tr := &http.Transport{MaxIdleConnsPerHost: 1, DisableKeepAlives: c%4 == 3} // a quarter with new connections
			defer tr.CloseIdleConnections()
			client := http.Client{Transport: tr}
			for n := 0; left.Add(-1) >= 0; n++ {
				path := "/" + strings.Repeat("p", n%50)
				var body io.Reader
				method := "GET"
				if n%3 == 0 { // those that must not be sent twice
					method, body = "POST", io.MultiReader(strings.NewReader(strings.Repeat("b", n%5000)))
				}
				r, err := http.NewRequest(method, "http://"+w.plain()+path, body)
				if err != nil {
					panic(err)
				}
				r.Host = "h"
				res, err := client.Do(r)
				var b []byte
				if err == nil {
					b, err = io.ReadAll(res.Body)
					res.Body.Close()
					if err == nil && (res.StatusCode != 200 || !strings.HasSuffix(string(b), " "+strings.Repeat("x", len(path)))) {
						err = fmt.Errorf("status %d: %s", res.StatusCode, b)
					}
				}
				if err != nil {
					lost.Add(1)
					first.CompareAndSwap(nil, fmt.Sprintf("%s %s: %v", method, path, err))
				}
				done.Add(1)
			}
		})
	}
	ended := make(chan struct{})
	go func() { load.Wait(); close(ended) }()
	swaps := 0
	for running := true; running; swaps++ {
		for target := int64(swaps * 40); running && done.Load() < target; {
			select {
			case <-ended:
				running = false
			case <-time.After(time.Millisecond):
			}
		}
		var gone *soaker
		if swaps%2 == 0 { // a pod comes, and the oldest leaves
			add()
			oldest := fmt.Sprintf("web-%d-0", generation-5)
			gone = pods[oldest]
			delete(pods, oldest)
			declare()
		} else { // another change of the ingress
			spec.Headers = &object.HeaderRules{Response: map[string]string{"X-Swap": fmt.Sprint(swaps)}}
			w.ingress("shop", spec)
		}
		w.apply()
		if err := w.s.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if gone != nil {
			gone.server.Close() // SIGTERM to a server that ends at once
		}
	}
	if lost.Load() != 0 {
		t.Errorf("%d of %d requests lost over %d swaps; the first: %v", lost.Load(), done.Load(), swaps, first.Load())
	}
	if done.Load() != int64(requests) {
		t.Errorf("%d requests", done.Load())
	}
	t.Logf("%d requests, %d swaps, %d lost", done.Load(), swaps, lost.Load())
}

// established counts connections to an address that are not closed.
func established(t *testing.T, address string) int {
	t.Helper()
	n, err := connections(address)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
