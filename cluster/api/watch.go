package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// watching is one watch request.
type watching struct {
	who       Identity
	kinds     []object.Kind // none: all
	namespace string
	name      string
	since     uint64
	sel       Selection
	match     func(object.Object) bool
}

func parseWatch(who Identity, r *http.Request) (*watching, error) {
	q := r.URL.Query()
	w := &watching{
		who: who, namespace: q.Get("namespace"), name: q.Get("name"),
		sel: Selection{Stack: q.Get("stack"), Labels: q.Get("labels"), Node: q.Get("node"), Expand: q.Get("expand")},
	}
	for k := range strings.SplitSeq(q.Get("kinds"), ",") {
		if k == "" {
			continue
		}
		kind, err := object.ParseKind(k)
		if err != nil {
			return nil, err
		}
		w.kinds = append(w.kinds, kind)
	}
	if v := q.Get("since"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			return nil, &object.Error{Code: object.CodeInvalid, Message: "since: " + strconv.Quote(v) + " is not an index"}
		}
		w.since = n
	}
	if w.sel.Node != "" && len(w.kinds) == 0 {
		w.kinds = []object.Kind{object.KindPod}
	}
	switch who.Role {
	case object.RoleNode:
		if len(w.kinds) == 0 {
			w.kinds = append([]object.Kind{object.KindPod}, nodeKinds...)
		}
		for _, k := range w.kinds {
			if k != object.KindPod && !slices.Contains(nodeKinds, k) {
				return nil, &object.Error{Code: object.CodeForbidden, Message: "a node may not watch " + string(k)}
			}
		}
	case object.RolePlanner, object.RoleMaster:
		if slices.Contains(w.kinds, object.KindToken) {
			return nil, &object.Error{Code: object.CodeForbidden, Message: "role " + string(who.Role) + " may not watch tokens"}
		}
		if len(w.kinds) == 0 {
			for _, k := range object.Kinds() {
				if k.Kind != object.KindToken {
					w.kinds = append(w.kinds, k.Kind)
				}
			}
		}
	}
	var err error
	w.match, err = w.sel.predicate(who)
	return w, err
}

func (w *watching) wants(r object.Ref, o object.Object) bool {
	return o != nil && (len(w.kinds) == 0 || slices.Contains(w.kinds, r.Kind)) &&
		(w.namespace == "" || r.Namespace == w.namespace) && (w.name == "" || r.Name == w.name) && w.match(o)
}

// watch streams events as lines of JSON. Whatever is pending goes out with one
// flush.
func (s *Server) watch(rw http.ResponseWriter, r *http.Request) {
	w, err := parseWatch(identityOf(r.Context()), r)
	if err != nil {
		writeError(rw, err)
		return
	}
	ctx, stop := s.untilClosing(r.Context())
	defer stop()
	if w.since == 0 && r.URL.Query().Get("stale") != "true" {
		if err := s.catchUp(ctx); err != nil {
			writeError(rw, err)
			return
		}
	}
	v := s.Cluster.Snapshot()
	from := w.since
	if from == 0 {
		from = v.Index()
	}
	log, err := s.Cluster.Watch(from)
	if err != nil {
		writeError(rw, err)
		return
	}
	defer log.Close()
	s.metrics.watches.Inc()
	defer s.metrics.watches.Dec()

	rw.Header().Set("Content-Type", "application/x-ndjson")
	rw.WriteHeader(http.StatusOK)
	out := &lineWriter{w: rw, c: http.NewResponseController(rw)}
	if w.since == 0 {
		s.snapshotLines(out, w, v)
	}
	if err := out.flush(); err != nil {
		return
	}
	s.follow(ctx, out, w, log, from)
}

// snapshotLines writes the objects that exist, then "synced".
func (s *Server) snapshotLines(out *lineWriter, w *watching, v *state.Snapshot) {
	emit := func(o object.Object) bool {
		if w.wants(o.Ref(), o) {
			out.line(s.lines.encode(w, v, object.WatchEvent{Index: v.Index(), Op: object.WatchCreate, Ref: o.Ref(), Object: object.Any{Object: o}}))
		}
		return out.err == nil
	}
	kinds := w.kinds
	if len(kinds) == 0 {
		for _, k := range object.Kinds() {
			kinds = append(kinds, k.Kind)
		}
	}
	for _, k := range kinds {
		if k == object.KindPod && w.who.Role == object.RoleNode {
			for p := range v.PodsOn(w.who.Name) {
				if !emit(p) {
					return
				}
			}
			continue
		}
		for o := range v.List(k, state.InNamespace(w.namespace)) {
			if !emit(o) {
				return
			}
		}
	}
	out.value(object.WatchEvent{Index: v.Index(), Op: object.WatchSynced})
}

// follow writes what happens after an index until the client or the log ends.
func (s *Server) follow(ctx context.Context, out *lineWriter, w *watching, log Watch, from uint64) {
	type batch struct {
		events []state.Event
		err    error
	}
	// Next cannot be waited for together with a timer, so it has a goroutine; the
	// channel has no room, so that what is pending piles up in the log, which
	// hands it over at once.
	next := make(chan batch)
	go func() {
		for {
			events, err := log.Next(ctx)
			select {
			case next <- batch{events, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	at := from // the last entry that was looked at, whole
	idle := time.NewTicker(s.Bookmark)
	defer idle.Stop()
	for {
		select {
		case <-ctx.Done():
			var ended *object.Error
			if errors.As(context.Cause(ctx), &ended) {
				out.value(object.WatchEvent{Index: at, Op: object.WatchError, Error: ended})
				_ = out.flush() // the client may be gone
				return
			}
			select {
			case <-s.closing:
				out.value(object.WatchEvent{Index: at, Op: object.WatchError, Error: &object.Error{Code: object.CodeUnavailable, Message: "this master stops", Hint: "Watch at another one."}})
				_ = out.flush() // the client may be gone
			default:
			}
			return
		case <-idle.C:
			out.value(object.WatchEvent{Index: at, Op: object.WatchBookmark})
		case b := <-next:
			v, any := s.Cluster.Snapshot(), false
			for _, e := range b.events {
				if e.Index <= from {
					continue
				}
				at = e.Index
				if line := s.eventLine(w, v, e); line != nil {
					out.line(line)
					any = true
				}
			}
			if any {
				// One entry may be many lines: this says that they are all there.
				out.value(object.WatchEvent{Index: at, Op: object.WatchBookmark})
			}
			if b.err != nil && ctx.Err() == nil {
				out.value(object.WatchEvent{Index: at, Op: object.WatchError, Error: fail(b.err).Err})
				_ = out.flush() // the client may be gone
				return
			}
		}
		if out.flush() != nil {
			return
		}
	}
}

// eventLine is one event as this watch sees it; nil when it does not. An object
// that comes into or goes out of its sight is created or deleted to it.
func (s *Server) eventLine(w *watching, v *state.Snapshot, e state.Event) []byte {
	was, is := w.wants(e.Ref, e.Before), w.wants(e.Ref, e.After)
	line := object.WatchEvent{Index: e.Index, Ref: e.Ref}
	switch {
	case is && was:
		line.Op = object.WatchUpdate
	case is:
		line.Op = object.WatchCreate
	case was:
		line.Op = object.WatchDelete
		b, err := json.Marshal(line)
		if err != nil {
			return nil
		}
		return b
	default:
		return nil
	}
	line.Object.Object = e.After
	return s.lines.encode(w, v, line)
}

// lineWriter buffers lines until flush and keeps the first error.
type lineWriter struct {
	w   http.ResponseWriter
	c   *http.ResponseController
	buf bytes.Buffer
	err error
}

const lineBuffer = 256 << 10

func (l *lineWriter) line(b []byte) {
	l.buf.Write(b)
	l.buf.WriteByte('\n')
	if l.buf.Len() >= lineBuffer {
		_ = l.flush() // kept in err
	}
}

func (l *lineWriter) value(e object.WatchEvent) {
	b, err := json.Marshal(e)
	if err != nil {
		l.err = err
		return
	}
	l.line(b)
}

// writeTime cuts off a client that does not read.
const writeTime = 30 * time.Second

func (l *lineWriter) flush() error {
	if l.err != nil {
		return l.err
	}
	if l.buf.Len() > 0 {
		_ = l.c.SetWriteDeadline(time.Now().Add(writeTime)) // test recorders have none
		_, l.err = l.w.Write(l.buf.Bytes())
		l.buf.Reset()
	}
	if l.err == nil {
		l.err = l.c.Flush()
	}
	return l.err
}

// lineCache keeps the newest encoded lines, so that an event is encoded once for
// all watches that see it alike and not once for each of thousands.
type lineCache struct {
	mu   sync.Mutex
	have map[lineKey][]byte
	ring [1024]lineKey
	at   int
}

// lineKey names an encoded line. The object's identity is enough: objects in the
// state never change.
type lineKey struct {
	object object.Object
	op     object.WatchOp
	index  uint64
	view   int
}

func (c *lineCache) encode(w *watching, v *state.Snapshot, e object.WatchEvent) []byte {
	k := lineKey{object: e.Object.Object, op: e.Op, index: e.Index}
	if w.sel.Expand == "false" {
		k.view |= 1
	}
	if w.who.Role == object.RolePlanner {
		k.view |= 2
	}
	c.mu.Lock()
	b := c.have[k]
	c.mu.Unlock()
	if b != nil {
		return b
	}
	e.Object.Object = w.sel.present(w.who, v, e.Object.Object)
	b, err := json.Marshal(e)
	if err != nil {
		b, _ = json.Marshal(object.WatchEvent{Index: e.Index, Op: object.WatchError, Error: fail(err).Err}) // plain texts always encode
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.have == nil {
		c.have = make(map[lineKey][]byte, len(c.ring))
	}
	delete(c.have, c.ring[c.at])
	c.ring[c.at] = k
	c.have[k] = b
	c.at = (c.at + 1) % len(c.ring)
	return b
}
