package ingress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

const requestID = "X-Request-Id"

// statusGone is logged when the client has left before there was an answer; the
// number is nginx's.
const statusGone = 499

// streamAfter is how long a gRPC call is taken for a request that a drain waits
// for; one that goes on longer is a stream.
const streamAfter = time.Second

var errNoPod = errors.New("no pod is ready")

// exchange is one request with its answer. They are used again, so that a request
// allocates none.
type exchange struct {
	s     *Server
	proxy httputil.ReverseProxy
	w     recorder
	r     *http.Request

	began      time.Time
	id         string
	client     netip.Addr
	host, path string // clean
	route      *route
	chosen     *backend
	to         *target // the pod, counted as active
	claim      *claim  // on to, for streams that give it up early
	tried      []*upstream
	err        error
	why        string // of an answer of Berth's own
	logged     line   // its line, kept for its memory
}

// claim is what a drain waits for. It can be settled early, from a timer.
type claim struct {
	up      *upstream
	settled atomic.Bool
	timer   *time.Timer
}

func (c *claim) settle() {
	if c.settled.CompareAndSwap(false, true) {
		c.up.settle()
	}
}

func (s *Server) newExchange() any {
	x := &exchange{s: s}
	x.proxy = httputil.ReverseProxy{
		Rewrite: x.rewrite, Transport: x, ModifyResponse: x.modify, ErrorHandler: x.failed, BufferPool: &s.buffers, ErrorLog: s.quiet,
	}
	return x
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := s.exchanges.Get().(*exchange)
	x.w = recorder{ResponseWriter: w}
	x.r, x.began = r, time.Now()
	// A panic is how the proxy breaks off an answer whose pod has failed half-way:
	// it goes on to the server, but is counted and logged like any other end.
	defer func() {
		v := recover()
		if err, _ := v.(error); v != nil && !errors.Is(err, http.ErrAbortHandler) {
			s.log.Error("a request failed by a defect of Berth", "id", x.id, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		}
		if v != nil && x.err == nil {
			x.err = errors.New("the answer broke off")
		}
		x.end()
		if v != nil {
			panic(http.ErrAbortHandler)
		}
		clear(x.tried)
		*x = exchange{s: x.s, proxy: x.proxy, tried: x.tried[:0], logged: x.logged}
		s.exchanges.Put(x)
	}()
	x.serve()
}

// serve is the order of things: who asks, where to, may they, then the pod.
func (x *exchange) serve() {
	r := x.r
	x.client = x.s.client(r)
	x.id = requestIDOf(r)
	if x.s.acme.challenge(&x.w, r) {
		return
	}
	var ok bool
	x.host = cleanHost(r.Host)
	if x.path, ok = cleanPath(r.URL.Path); !ok {
		x.answer(http.StatusBadRequest, "the path is not one that can be asked for")
		return
	}
	x.route = x.s.table.Load().route(x.host, x.path)
	if x.route == nil {
		x.answer(http.StatusNotFound, "nothing is served here")
		return
	}
	f := x.route.front
	if len(f.allow) > 0 && !contains(f.allow, x.client) || contains(f.deny, x.client) {
		x.answer(http.StatusForbidden, "not from this address")
		return
	}
	if f.limit != nil {
		if wait, ok := f.limit.allow(x.client, x.began); !ok {
			x.w.Header().Set("Retry-After", strconv.Itoa(seconds(wait)))
			x.answer(http.StatusTooManyRequests, "too many requests")
			return
		}
	}
	if f.redirect && r.TLS == nil {
		x.redirect("https://"+x.s.secureHost(r.Host)+r.URL.RequestURI(), http.StatusPermanentRedirect)
		return
	}
	if f.auth != nil && !x.authenticated(f.auth) {
		return
	}
	if to := x.route.to; to != nil {
		x.redirect(strings.NewReplacer("{path}", x.path, "{host}", x.host).Replace(to.To)+query(r), to.Code)
		return
	}
	if f.bodyLimit > 0 {
		if r.ContentLength > f.bodyLimit {
			x.answer(http.StatusRequestEntityTooLarge, "the body is too large")
			return
		}
		r.Body = http.MaxBytesReader(x.w.ResponseWriter, r.Body, f.bodyLimit)
	}
	if f.gzip && r.Header.Get("Upgrade") == "" && !isGRPC(r.Header) {
		x.s.compress(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { x.proxy.ServeHTTP(w, r) })).ServeHTTP(&x.w, r)
		return
	}
	x.proxy.ServeHTTP(&x.w, r)
}

func (x *exchange) authenticated(a *auth) bool {
	if a.users == nil {
		x.answer(http.StatusServiceUnavailable, "the passwords are not there yet")
		return false
	}
	user, password, ok := x.r.BasicAuth()
	if ok && a.verify(user, password) {
		return true
	}
	x.w.Header().Set("WWW-Authenticate", fmt.Sprintf("Basic realm=%q, charset=\"UTF-8\"", a.realm))
	x.answer(http.StatusUnauthorized, "a user and a password are needed")
	return false
}

func query(r *http.Request) string {
	if r.URL.RawQuery == "" {
		return ""
	}
	return "?" + r.URL.RawQuery
}

func (x *exchange) redirect(to string, code int) {
	x.ownHeaders()
	x.w.Header().Set("Location", to)
	x.w.WriteHeader(code)
}

// answer is one of Berth's own, in a line. What is inside the cluster is for the
// log only.
func (x *exchange) answer(code int, why string) {
	x.why = why
	x.ownHeaders()
	h := x.w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	if isGRPC(x.r.Header) {
		x.w.WriteHeader(code) // clients make a status of it
		return
	}
	text := fmt.Sprintf("%d %s: %s (request %s)\n", code, http.StatusText(code), why, x.id)
	h.Set("Content-Length", strconv.Itoa(len(text)))
	x.w.WriteHeader(code)
	_, _ = io.WriteString(&x.w, text) // a client that has left is no mistake
}

func (x *exchange) ownHeaders() {
	h := x.w.Header()
	if x.route != nil {
		respond(h, x.route.front.headers)
		respond(h, x.route.headers)
	}
	h.Set(requestID, x.id)
}

// respond applies rules to the headers that a client sees.
func respond(h http.Header, rules *object.HeaderRules) {
	if rules == nil {
		return
	}
	for _, n := range rules.RemoveResponse {
		h.Del(n)
	}
	for n, v := range rules.Response {
		h.Set(n, v)
	}
}

// rewrite makes the request that the pod sees.
func (x *exchange) rewrite(p *httputil.ProxyRequest) {
	out := p.Out
	if len(x.s.trusted) > 0 && contains(x.s.trusted, peer(x.r)) {
		out.Header["X-Forwarded-For"] = p.In.Header["X-Forwarded-For"]
	}
	p.SetXForwarded()
	out.Header.Set("X-Real-Ip", x.client.String()) // services believe it, so it must not come from the client
	out.Header.Set(requestID, x.id)
	out.URL.Path, out.URL.RawPath = x.route.outward(p.In.URL, x.path)
	out.URL.RawQuery = p.In.URL.RawQuery // as it came: what cannot be parsed is the service's affair
	for _, rules := range [...]*object.HeaderRules{x.route.front.headers, x.route.headers} {
		if rules == nil {
			continue
		}
		for _, n := range rules.RemoveRequest {
			out.Header.Del(n)
		}
		for n, v := range rules.Request {
			if strings.EqualFold(n, "Host") {
				out.Host = v
				continue
			}
			out.Header.Set(n, v)
		}
	}
	if out.Body != nil {
		out.Body = kept{out.Body}
	}
}

// kept is a body that stays open over attempts: a transport closes it when it
// cannot connect. The proxy closes it in the end.
type kept struct{ io.Reader }

func (kept) Close() error { return nil }

// RoundTrip sends the request to a pod, and if that cannot be connected to, to
// another. It is the proxy's transport. A request that a pod may have seen is
// never sent twice.
func (x *exchange) RoundTrip(out *http.Request) (*http.Response, error) {
	var last error
	for attempt := 0; ; attempt++ {
		if err := x.choose(); err != nil {
			if last != nil {
				return nil, last
			}
			return nil, err
		}
		up := x.to.up
		out.URL.Scheme, out.URL.Host = "http", up.key.address
		if up.key.protocol == "https" {
			out.URL.Scheme = "https"
		}
		res, err := up.transport.RoundTrip(out)
		if err == nil {
			return res, nil
		}
		var c *connectError
		if !errors.As(err, &c) || attempt >= x.route.retries || out.Context().Err() != nil {
			return nil, err
		}
		x.tried = append(x.tried, up)
		x.release()
		x.s.metrics.retries.Inc()
		last = err
	}
}

// choose takes a pod. If the one that it picks has left in the meantime, the table
// that the request was routed by is an old one, and it is routed anew.
func (x *exchange) choose() error {
	for {
		b, t := x.route.pick(x.r, x.tried)
		if x.chosen = b; t == nil {
			return errNoPod
		}
		if t.up.acquire() {
			x.to = t
			return nil
		}
		r := x.s.table.Load().route(x.host, x.path)
		if r == nil || r.to != nil {
			return errNoPod
		}
		x.route = r
	}
}

// pick chooses the service, by header or cookie, else the pod that the client
// sticks to, else by weight; and a pod of it.
func (r *route) pick(q *http.Request, tried []*upstream) (*backend, *target) {
	b := r.conditional(q)
	if r.sticky != nil {
		for _, k := range q.CookiesNamed(r.sticky.Cookie) {
			for i := range r.backends {
				c := &r.backends[i]
				if b != nil && c != b || b == nil && c.weight <= 0 {
					continue
				}
				if t := c.named(k.Value, tried); t != nil {
					return c, t
				}
			}
		}
	}
	if b == nil {
		b = r.weighted()
	}
	if b == nil {
		return nil, nil
	}
	return b, b.pick(tried)
}

// weighted deals out turns to the services by weight.
func (r *route) weighted() *backend {
	if len(r.backends) == 1 {
		return &r.backends[0]
	}
	turn := r.turn.next(r.sum)
	for i := range r.backends {
		if turn -= r.backends[i].weight; turn < 0 {
			return &r.backends[i]
		}
	}
	return nil // a redirect has no services
}

// conditional is the service whose header or cookie the request has, or nil.
func (r *route) conditional(q *http.Request) *backend {
	for i := range r.backends {
		b := &r.backends[i]
		if b.header.header(q) || b.cookie.cookie(q) {
			return b
		}
	}
	return nil
}

func (c *condition) header(q *http.Request) bool {
	if c == nil {
		return false
	}
	if strings.EqualFold(c.name, "Host") {
		return c.any || q.Host == c.value
	}
	for _, v := range q.Header.Values(c.name) {
		if c.any || v == c.value {
			return true
		}
	}
	return false
}

func (c *condition) cookie(q *http.Request) bool {
	if c == nil {
		return false
	}
	for _, k := range q.CookiesNamed(c.name) {
		if c.any || k.Value == c.value {
			return true
		}
	}
	return false
}

// release gives the pod back.
func (x *exchange) release() {
	if x.to == nil {
		return
	}
	x.to.up.active.Add(-1)
	if c := x.claim; c != nil {
		if c.timer != nil {
			c.timer.Stop()
		}
		c.settle()
	} else {
		x.to.up.settle()
	}
	x.to, x.claim = nil, nil
}

// modify looks at the pod's answer before the client gets it.
func (x *exchange) modify(res *http.Response) error {
	h := res.Header
	if x.chosen != nil && x.route.sticky != nil {
		x.stick(h)
	}
	respond(h, x.route.front.headers)
	respond(h, x.route.headers)
	h.Set(requestID, x.id)
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols:
		x.w.status = res.StatusCode
		x.stream(0)
	case strings.HasPrefix(h.Get("Content-Type"), "text/event-stream"):
		x.stream(0)
	case isGRPC(h):
		x.stream(streamAfter)
	}
	return nil
}

// stream says that what follows has no end that a drain could wait for, at once
// or after a while: it goes on for as long as the pod lives.
func (x *exchange) stream(after time.Duration) {
	x.claim = &claim{up: x.to.up}
	if after == 0 {
		x.claim.settle()
		return
	}
	x.claim.timer = time.AfterFunc(after, x.claim.settle)
}

// stick tells the client by which cookie it comes back to its pod.
func (x *exchange) stick(h http.Header) {
	s := x.route.sticky
	for _, k := range x.r.CookiesNamed(s.Cookie) {
		if k.Value == x.to.up.cookie {
			return
		}
	}
	c := http.Cookie{Name: s.Cookie, Value: x.to.up.cookie, Path: x.route.path, MaxAge: int(s.TTL.D().Seconds()), HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: x.r.TLS != nil}
	h.Add("Set-Cookie", c.String())
}

func isGRPC(h http.Header) bool { return strings.HasPrefix(h.Get("Content-Type"), "application/grpc") }

// failed answers when no pod has.
func (x *exchange) failed(_ http.ResponseWriter, out *http.Request, err error) {
	x.err = err
	var large *http.MaxBytesError
	var slow net.Error
	switch {
	case errors.As(err, &large):
		x.answer(http.StatusRequestEntityTooLarge, "the body is too large")
	case errors.Is(x.r.Context().Err(), context.Canceled):
		x.w.status = statusGone
	case errors.Is(err, errNoPod):
		if x.chosen != nil && x.chosen.lacks != "" {
			x.err = errors.New(x.chosen.lacks)
		}
		x.answer(http.StatusServiceUnavailable, "no pod is ready")
	case errors.As(err, &slow) && slow.Timeout():
		x.answer(http.StatusGatewayTimeout, "the service took too long")
	default:
		x.answer(http.StatusBadGateway, "the service failed")
	}
}

// end counts and logs the request.
func (x *exchange) end() {
	took := time.Since(x.began)
	counted := x.s.unrouted
	if x.route != nil {
		counted = x.route.none
	}
	if x.to != nil {
		counted = x.to.series
	}
	if x.w.status == 0 {
		x.w.status = http.StatusOK // an empty answer, or a panic before any
	}
	counted.observe(x.w.status, took, x.claim != nil && x.claim.settled.Load())
	x.log(took)
	x.release()
}

// recorder sees status and size of an answer.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *recorder) WriteHeader(code int) {
	if w.status == 0 && code >= 200 {
		w.status = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Flush is for those who know http.Flusher only.
func (w *recorder) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// Unwrap leads http.ResponseController to what else the writer can do.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }
