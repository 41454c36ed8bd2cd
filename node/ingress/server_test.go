package ingress

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/berthdev/berth/cluster/object"
)

func simple(host string, paths ...object.IngressPath) object.IngressSpec {
	return object.IngressSpec{Host: host, Paths: paths}
}

func to(p, service string) object.IngressPath { return object.IngressPath{Path: p, Service: service} }

func TestLeadsToPods(t *testing.T) {
	w := newWorld(t)
	w.get("shop.example", "/").want(t, 404, "nothing is served here")
	w.service("web", map[string]string{"web-1-0": pod(t, "web-1-0"), "web-1-1": pod(t, "web-1-1")})
	w.ingress("shop", simple("shop.example", to("/", "web")))
	w.apply()
	got := map[string]int{}
	for range 40 {
		s := w.get("shop.example", "/a/b?x=1;y&z").saw(t)
		got[s.Pod]++
		if s.Path != "/a/b" || s.Query != "x=1;y&z" || s.Host != "shop.example" {
			t.Fatalf("%+v", s)
		}
		h := s.Headers
		if h.Get("X-Forwarded-For") != "127.0.0.1" || h.Get("X-Forwarded-Host") != "shop.example" || h.Get("X-Forwarded-Proto") != "http" || len(h.Get("X-Request-Id")) != 32 {
			t.Fatalf("%v", h)
		}
	}
	if got["web-1-0"] != 20 || got["web-1-1"] != 20 {
		t.Errorf("not equal parts: %v", got)
	}
	w.get("other.example", "/").want(t, 404, "")
	w.get("shop.example", "/a/../b").want(t, 400, "") // the client of the test does not resolve it

	// Without ready pods there is 503, and nothing of the cluster is told.
	w.service("web", nil)
	w.apply()
	a := w.get("shop.example", "/")
	a.want(t, 503, "no pod is ready")
	if strings.Contains(a.body, "web") {
		t.Errorf("the answer tells of the inside: %s", a.body)
	}
}

func TestForwardedHeaders(t *testing.T) {
	lie := func(r *http.Request) {
		r.Header.Set("X-Forwarded-For", "9.9.9.9, 10.1.1.1")
		r.Header.Set("X-Forwarded-Proto", "https")
		r.Header.Set("X-Real-Ip", "9.9.9.9")
		r.Header.Set("X-Request-Id", "my-id.7")
	}
	w := newWorld(t)
	w.service("web", map[string]string{"web-1-0": pod(t, "web-1-0")})
	w.ingress("shop", simple("", to("/", "web")))
	w.apply()
	a := w.get("x", "/", lie)
	if h := a.saw(t).Headers; h.Get("X-Forwarded-For") != "127.0.0.1" || h.Get("X-Forwarded-Proto") != "http" || h.Get("X-Real-Ip") != "127.0.0.1" || h.Get("X-Request-Id") != "my-id.7" {
		t.Errorf("a client is believed: %v", h)
	}
	if a.Header.Get("X-Request-Id") != "my-id.7" {
		t.Errorf("the id is not told: %v", a.Header)
	}
	if id := w.get("x", "/", func(r *http.Request) { r.Header["X-Request-Id"] = []string{"a \"b\""} }).saw(t).Headers.Get("X-Request-Id"); len(id) != 32 {
		t.Errorf("a bad id is kept: %q", id)
	}

	// Behind a proxy that is trusted, the client is who that proxy says.
	w = newWorld(t, func(c *Config) { c.Trusted = []netip.Prefix{mustPrefix("127.0.0.0/8"), mustPrefix("10.0.0.0/8")} })
	w.service("web", map[string]string{"web-1-0": pod(t, "web-1-0")})
	spec := simple("", to("/", "web"))
	spec.Deny = []string{"9.9.9.9"}
	w.ingress("shop", spec)
	w.apply()
	w.get("x", "/", lie).want(t, 403, "")
	if h := w.get("x", "/", func(r *http.Request) { r.Header.Set("X-Forwarded-For", "9.9.9.9, 8.8.8.8") }).saw(t).Headers; h.Get("X-Forwarded-For") != "9.9.9.9, 8.8.8.8, 127.0.0.1" {
		t.Errorf("%v", h)
	}
}

func TestPathsHeadersRedirects(t *testing.T) {
	w := newWorld(t)
	w.service("web", map[string]string{"web-1-0": pod(t, "web-1-0")})
	spec := simple("h",
		object.IngressPath{Path: "/api", Service: "web", StripPrefix: true, Headers: &object.HeaderRules{
			Request: map[string]string{"X-Set": "path", "Host": "inner.example"}, RemoveRequest: []string{"X-Secret"}, Response: map[string]string{"X-Out": "path"}, RemoveResponse: []string{"X-Pod"}}},
		object.IngressPath{Path: "/v1", Service: "web", Rewrite: "/v2"},
		object.IngressPath{Path: "/old", Redirect: &object.Redirect{To: "https://{host}/new{path}", Code: 301}},
		object.IngressPath{Path: "/one", Match: "exact", Service: "web"},
	)
	spec.Headers = &object.HeaderRules{Request: map[string]string{"X-Set": "ingress", "X-All": "yes"}, Response: map[string]string{"Strict-Transport-Security": "max-age=60"}}
	w.ingress("shop", spec)
	w.apply()
	a := w.get("h", "/api/x%2Fy", func(r *http.Request) { r.Header.Set("X-Secret", "s") })
	s := a.saw(t)
	if s.Raw != "/x%2Fy" || s.Host != "inner.example" || s.Headers.Get("X-Set") != "path" || s.Headers.Get("X-All") != "yes" || s.Headers.Get("X-Secret") != "" {
		t.Errorf("%+v", s)
	}
	if a.Header.Get("X-Out") != "path" || a.Header.Get("X-Pod") != "" || a.Header.Get("Strict-Transport-Security") != "max-age=60" {
		t.Errorf("%v", a.Header)
	}
	if p := w.get("h", "/v1/x").saw(t).Path; p != "/v2/x" {
		t.Errorf("rewritten to %s", p)
	}
	a = w.get("h", "/old/x?q=1")
	if a.want(t, 301, ""); a.Header.Get("Location") != "https://h/new/old/x?q=1" {
		t.Errorf("%v", a.Header)
	}
	if a = w.get("h", "//evil.example/..;"); a.StatusCode != 404 {
		t.Errorf("%d", a.StatusCode)
	}
	w.get("h", "/one").want(t, 200, "")
	if a = w.get("h", "/one/more"); a.StatusCode != 404 || a.Header.Get("Strict-Transport-Security") != "" {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
}

func TestTimeouts(t *testing.T) {
	w := newWorld(t)
	gate := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" { // only the first byte has to be in time
			rw.WriteHeader(200)
			_ = http.NewResponseController(rw).Flush()
		}
		<-gate
		fmt.Fprint(rw, "late")
	}))
	t.Cleanup(slow.Close)
	w.service("slow", map[string]string{"slow-1-0": slow.Listener.Addr().String()})
	w.ingress("shop", simple("h", object.IngressPath{Path: "/", Service: "slow", Timeout: object.Duration(100 * time.Millisecond)}))
	w.apply()
	w.get("h", "/").want(t, 504, "too long")
	done := make(chan answer)
	go func() { done <- w.get("h", "/body") }()
	w.get("h", "/").want(t, 504, "too long") // meanwhile the time of the first byte is over
	close(gate)
	(<-done).want(t, 200, "late")

	// A pod that breaks off is 502.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = bufio.NewReader(c).ReadString('\n')
			c.Close()
		}
	}()
	w.service("slow", map[string]string{"slow-1-0": l.Addr().String()})
	w.apply()
	w.get("h", "/").want(t, 502, "")
}

func TestGzip(t *testing.T) {
	w := newWorld(t)
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", r.URL.Query().Get("type"))
		fmt.Fprint(rw, strings.Repeat("compress me ", 500))
	}))
	t.Cleanup(s.Close)
	w.service("web", map[string]string{"web-1-0": s.Listener.Addr().String()})
	spec := simple("h", to("/", "web"))
	spec.Gzip = true
	w.ingress("shop", spec)
	w.apply()
	takes := func(r *http.Request) { r.Header.Set("Accept-Encoding", "gzip") }
	a := w.get("h", "/?type=text/plain", takes)
	if a.Header.Get("Content-Encoding") != "gzip" || len(a.body) > 1000 {
		t.Fatalf("%v, %d bytes", a.Header, len(a.body))
	}
	z, err := gzip.NewReader(strings.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(z); err != nil || len(b) != 6000 {
		t.Fatalf("%d %v", len(b), err)
	}
	for _, kind := range []string{"image/png", "application/grpc", "text/event-stream"} {
		if a := w.get("h", "/?type="+kind, takes); a.Header.Get("Content-Encoding") != "" || len(a.body) != 6000 {
			t.Errorf("%s: %v", kind, a.Header)
		}
	}
	if a := w.get("h", "/?type=text/plain", func(r *http.Request) { r.Header.Set("Accept-Encoding", "identity") }); a.Header.Get("Content-Encoding") != "" {
		t.Errorf("%v", a.Header)
	}
}

func echo(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(rw, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			kind, b, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if err := c.Write(r.Context(), kind, append([]byte("echo "), b...)); err != nil {
				return
			}
		}
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// TestWebsockets live on over changes, and over the leaving of their own pod.
func TestWebsockets(t *testing.T) {
	w := newWorld(t)
	w.service("ws", map[string]string{"ws-1-0": echo(t)})
	spec := simple("h", to("/", "ws"))
	spec.Gzip = true
	w.ingress("shop", spec)
	w.apply()
	ctx := t.Context()
	c, _, err := websocket.Dial(ctx, "ws://"+w.plain()+"/chat", &websocket.DialOptions{Host: "h"}) //nolint:bodyclose // what is left of it is c
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	say := func(text string) {
		t.Helper()
		if err := c.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if _, b, err := c.Read(ctx); err != nil || string(b) != "echo "+text {
			t.Fatalf("%q %v", b, err)
		}
	}
	say("one")
	spec.Headers = &object.HeaderRules{Response: map[string]string{"X": "y"}}
	w.ingress("shop", spec)
	w.apply()
	say("two")
	w.service("ws", nil)
	w.apply()
	if err := w.s.Drain(ctx); err != nil { // does not wait for websockets
		t.Fatal(err)
	}
	say("three")
	delete(w.ingresses, "shop")
	w.apply()
	if _, err := w.s.Ensure(ctx); err != nil {
		t.Fatal(err)
	}
	say("four")
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the line of the websocket", func() bool { return strings.Contains(w.access.String(), `"status":101`) })
}

// TestStreamsAreFlushed: each event arrives before the next is made.
func TestStreamsAreFlushed(t *testing.T) {
	w := newWorld(t)
	next := make(chan string)
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream")
		for m := range next {
			fmt.Fprintf(rw, "data: %s\n\n", m)
			_ = http.NewResponseController(rw).Flush()
		}
	}))
	t.Cleanup(s.Close)
	w.service("sse", map[string]string{"sse-1-0": s.Listener.Addr().String()})
	spec := simple("h", to("/", "sse"))
	spec.Gzip = true
	w.ingress("shop", spec)
	w.apply()
	r, err := http.NewRequest("GET", "http://"+w.plain()+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "h"
	first := make(chan *http.Response)
	go func() {
		res, err := w.client.Do(r) //nolint:bodyclose // by who gets it
		if err != nil {
			t.Error(err)
		}
		first <- res
	}()
	next <- "0"
	res := <-first
	if res == nil {
		t.FailNow()
	}
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	for i := range 3 {
		if i > 0 {
			next <- fmt.Sprint(i)
		}
		line, err := lines.ReadString('\n')
		if err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("%q %v", line, err)
		}
		_, _ = lines.ReadString('\n')
	}
	// A stream is not waited for when its pod leaves.
	w.service("sse", nil)
	w.apply()
	if err := w.s.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(next)
}

// TestBrokenOff: an answer that ends half-way ends half-way for the client, too, and
// the log says so.
func TestBrokenOff(t *testing.T) {
	w := newWorld(t)
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(rw, "half")
	}))
	t.Cleanup(s.Close)
	w.service("web", map[string]string{"web-1-0": s.Listener.Addr().String()})
	w.ingress("shop", simple("", to("/", "web")))
	w.apply()
	if res, err := w.client.Get("http://" + w.plain() + "/"); err == nil { // else not even the head got through
		defer res.Body.Close()
		if b, err := io.ReadAll(res.Body); err == nil {
			t.Errorf("the client took %q for the whole", b)
		}
	}
	waitFor(t, "its line", func() bool { return strings.Contains(w.access.String(), `"error":"the answer broke off"`) })
	if n := w.s.active(); n != 0 {
		t.Errorf("%v requests are still counted as active", n)
	}
}

func TestAccessLog(t *testing.T) {
	w := newWorld(t)
	address := pod(t, "web-1-0")
	w.service("web", map[string]string{"web-1-0": address})
	w.ingress("shop", simple("h", to("/api", "web")))
	w.apply()
	w.get("h", "/api/x?token=secret", func(r *http.Request) { r.Header.Set("X-Request-Id", "abc") }).want(t, 200, "")
	w.get("h", "/other").want(t, 404, "")
	waitFor(t, "two lines", func() bool { return strings.Count(w.access.String(), "\n") == 2 })
	text := w.access.String()
	if strings.Contains(text, "secret") {
		t.Errorf("the query is logged: %s", text)
	}
	var lines []map[string]any
	for l := range strings.Lines(text) {
		var m map[string]any
		if err := json.Unmarshal([]byte(l), &m); err != nil {
			t.Fatalf("%v: %s", err, l)
		}
		lines = append(lines, m)
	}
	for k, want := range map[string]any{"id": "abc", "client": "127.0.0.1", "method": "GET", "host": "h", "path": "/api/x", "protocol": "HTTP/1.1", "tls": false, "status": 200.0,
		"ingress": "shop/shop", "route": "/api", "service": "web", "pod": "shop/web-1-0", "upstream": address} {
		if lines[0][k] != want {
			t.Errorf("%s is %v, want %v", k, lines[0][k], want)
		}
	}
	if n, ok := lines[0]["bytes_out"].(float64); !ok || n < 100 {
		t.Errorf("bytes_out: %v", lines[0]["bytes_out"])
	}
	if n, ok := lines[0]["seconds"].(float64); !ok || n <= 0 {
		t.Errorf("seconds: %v", lines[0]["seconds"])
	}
	if lines[1]["status"] != 404.0 || lines[1]["pod"] != nil || lines[1]["error"] != "nothing is served here" {
		t.Errorf("%v", lines[1])
	}
}

func TestMetrics(t *testing.T) {
	w := newWorld(t)
	w.service("web", map[string]string{"web-7f9c-0": pod(t, "x"), "web-51aa-0": refused(1)})
	w.ingress("shop", simple("h", object.IngressPath{Path: "/api", Service: "web"}))
	w.apply()
	for range 4 {
		w.get("h", "/api")
	}
	for i := range 50 {
		w.get(fmt.Sprintf("made-up-%d", i), fmt.Sprintf("/%d", i))
	}
	waitFor(t, "counts", func() bool { return testutil.ToFloat64(w.s.unrouted.requests[3]) == 50 })
	want := `
# HELP berth_ingress_requests_total Requests, by ingress, path, service, revision of the pod that answered, and class of the status.
# TYPE berth_ingress_requests_total counter
`
	for _, c := range []struct {
		labels string
		counts [5]int
	}{
		{`ingress="",revision="",route="",service=""`, [5]int{0, 0, 0, 50, 0}},
		{`ingress="shop/shop",revision="",route="/api",service=""`, [5]int{}},
		{`ingress="shop/shop",revision="web-51aa",route="/api",service="web"`, [5]int{0, 0, 0, 0, 2}},
		{`ingress="shop/shop",revision="web-7f9c",route="/api",service="web"`, [5]int{0, 2, 0, 0, 0}},
	} {
		for i, n := range c.counts {
			want += fmt.Sprintf("berth_ingress_requests_total{code=\"%dxx\",%s} %d\n", i+1, c.labels, n)
		}
	}
	if err := testutil.GatherAndCompare(w.registry, strings.NewReader(want), "berth_ingress_requests_total"); err != nil {
		t.Error(err)
	}
	// Counters of a revision that is gone go after a while.
	w.service("web", map[string]string{"web-7f9c-0": pod(t, "x")})
	w.apply()
	if _, err := w.s.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	used := map[*series]bool{}
	for _, s := range w.s.metrics.known {
		used[s] = s.idle.IsZero()
	}
	w.s.metrics.retain(used, time.Now().Add(2*seriesKept))
	var b bytes.Buffer
	families, err := w.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		fmt.Fprintln(&b, f.String())
	}
	if s := b.String(); strings.Contains(s, "web-51aa") || !strings.Contains(s, "web-7f9c") {
		t.Errorf("%s", s)
	}
}

// TestPortTaken: a taken port is an error that says who has it, and mends itself.
func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:17301") // not of the range from which the kernel would give it to others
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	w := newWorld(t, func(c *Config) { c.HTTP = []string{"127.0.0.1:0", address} })
	w.service("web", map[string]string{"web-1-0": pod(t, "x")})
	w.ingress("shop", simple("", to("/", "web")))
	w.apply() // no error: the rest works
	w.get("h", "/").want(t, 200, "")
	for range 2 {
		mended, err := w.s.Ensure(t.Context())
		if err == nil || !strings.Contains(err.Error(), address) || !strings.Contains(err.Error(), fmt.Sprintf("(process %d)", os.Getpid())) || len(mended) != 0 {
			t.Fatalf("%v %v", mended, err)
		}
	}
	l.Close()
	mended, err := w.s.Ensure(t.Context())
	if err != nil || len(mended) != 1 || !strings.Contains(mended[0], address) {
		t.Fatalf("%v %v", mended, err)
	}
	res, err := w.client.Get("http://" + address + "/")
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("%v %v", res, err)
	}
	res.Body.Close()
}
