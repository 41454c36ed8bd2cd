package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// bodyTime is how long a body may take to arrive and an answer to leave, except
// for streams.
const bodyTime = 5 * time.Minute

// ServeHTTP answers one request: who is it, may they, is it for the leader, then
// the route's own handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := s.Now()
	rec := &recorder{ResponseWriter: w}
	q := &Request{Method: r.Method, Path: r.URL.Path}
	pattern := ""
	defer func() {
		if v := recover(); v != nil {
			if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(v)
			}
			s.Log.Error("a request failed by a defect of Berth", "method", r.Method, "path", r.URL.Path, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			if rec.status == 0 {
				writeError(rec, object.Errorf(object.CodeInternal, object.Ref{}, "the master failed on this request; its log has the details"))
			}
		}
		q.Status, q.Bytes, q.Took = rec.status, rec.bytes, s.Now().Sub(began)
		s.metrics.observe(r.Method, pattern, *q)
		if s.OnRequest != nil {
			s.OnRequest(*q)
		}
	}()
	_, pattern = s.mux.Handler(r)
	a, ok := s.routes[pattern]
	if !ok {
		writeError(rec, s.noRoute(r))
		return
	}
	if err := s.serve(rec, r, pattern, a, q); err != nil {
		writeError(rec, err)
	}
}

func (s *Server) serve(w *recorder, r *http.Request, pattern string, a access, q *Request) error {
	// Deadlines come before everything: a connection may have those of its last
	// request. Test recorders have none; a real connection has.
	c := http.NewResponseController(w)
	var deadline time.Time
	if !a.stream {
		deadline = time.Now().Add(bodyTime)
	}
	_ = c.SetReadDeadline(deadline)
	_ = c.SetWriteDeadline(deadline)
	r.Body = announced{http.MaxBytesReader(w, r.Body, a.limit), r.ContentLength}
	leader := s.Cluster.Leader()
	who, err := s.identify(r)
	if errors.Is(err, errUnknownToken) && !leader.Self && leader.API != "" && !forwarded(r) {
		q.Forwarded = true
		return s.forward(w, r, leader, Identity{}) // it may be newer than what this master knows
	}
	q.Who = who
	if err != nil && !a.public {
		return err
	}
	if a.direct && forwarded(r) {
		return &object.Error{Code: object.CodeForbidden, Message: pattern + " is answered by the master that was asked, and passed on by none"}
	}
	if !a.public {
		if who.Role == "" {
			return &object.Error{Code: object.CodeUnauthorized, Message: "this needs a client certificate or a token", Hint: "Present a certificate of this cluster, or set BERTH_TOKEN (Authorization: Bearer …)."}
		}
		if !slices.Contains(a.roles, who.Role) {
			return forbidden(who, pattern, a)
		}
		if who.Role == object.RoleMaster && !a.enrols && !s.member(who.Name) {
			return notMember(who.Name)
		}
	}
	stale := r.URL.Query().Get("stale") == "true"
	if a.leader == needView && !leader.Self && leader.API != "" && !forwarded(r) && !stale {
		q.Forwarded = true
		return s.forward(w, r, leader, who)
	}
	if a.leader == needLeader || (a.leader == needReads && !stale) {
		if !leader.Self {
			if forwarded(r) {
				return noLeader(leader)
			}
			q.Forwarded = true
			return s.forward(w, r, leader, who)
		}
		if a.leader == needReads {
			if err := s.Cluster.Barrier(r.Context()); err != nil {
				return err
			}
		}
	}
	ctx := context.WithValue(r.Context(), identityKey{}, who)
	ctx = context.WithValue(ctx, thawKey{}, r.Header.Get(object.FreezeHeader))
	s.mux.ServeHTTP(w, r.WithContext(context.WithValue(ctx, overrideKey{}, r.Header.Get(object.OverrideHeader))))
	return nil
}

// announced is a body whose size is known beforehand, -1: is not. Who reads it into a
// buffer has it grow once, and not again and again up to the ten megabytes of a plan.
type announced struct {
	io.ReadCloser
	size int64
}

// mostAnnounced is how far a sender is believed before anything has come.
const mostAnnounced = 32 << 20

// WriteTo makes room and copies.
func (a announced) WriteTo(w io.Writer) (int64, error) {
	if b, ok := w.(*bytes.Buffer); ok && a.size > 0 {
		b.Grow(int(min(a.size, mostAnnounced)) + bytes.MinRead) // a buffer wants room for more before it sees the end
	}
	return io.Copy(w, a.ReadCloser)
}

func forbidden(who Identity, pattern string, a access) error {
	roles := make([]string, len(a.roles))
	for i, x := range a.roles {
		roles[i] = string(x)
	}
	return &object.Error{
		Code:    object.CodeForbidden,
		Message: fmt.Sprintf("not allowed: %s has role %s, but %s needs %s", who.Name, who.Role, pattern, strings.Join(roles, " or ")),
		Hint:    "Use a certificate or token of such a role.",
	}
}

// noRoute explains a path or method that does not exist.
func (s *Server) noRoute(r *http.Request) error {
	for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		if m == r.Method {
			continue
		}
		other := r.Clone(r.Context())
		other.Method = m
		if _, p := s.mux.Handler(other); p != "" {
			return &object.Error{Code: object.CodeNotFound, Message: fmt.Sprintf("there is no %s %s", r.Method, r.URL.Path), Hint: "There is " + p + "."}
		}
	}
	var plurals []string
	for _, k := range object.Kinds() {
		plurals = append(plurals, k.Plural)
	}
	e := &object.Error{Code: object.CodeNotFound, Message: fmt.Sprintf("there is no %s %s", r.Method, r.URL.Path)}
	for part := range strings.SplitSeq(strings.TrimPrefix(r.URL.Path, "/v1/"), "/") {
		if !slices.Contains(plurals, part) && e.Hint == "" {
			e.Hint = object.DidYouMean(part, plurals)
		}
	}
	if e.Hint == "" {
		e.Hint = "GET /openapi.json lists what there is."
	}
	return e
}

// recorder notes what was answered. Unwrap lets http.ResponseController flush
// and set deadlines on the writer below.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}
