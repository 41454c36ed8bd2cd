package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// getLogs passes a log on from the agent of the pod's node.
func (s *Server) getLogs(w http.ResponseWriter, r *http.Request) {
	s.toNode(w, r, func(v *state.Snapshot, p *object.Pod, q url.Values) (string, error) {
		container, err := pickContainer(v.Template(p), p.Ref(), q.Get("container"))
		q.Del("container")
		return "/v1/logs/" + p.Namespace + "/" + p.Name + "/" + container, err
	})
}

// getForward makes the connection a stream to a port of the pod: an upgrade to
// object.ForwardProtocol.
func (s *Server) getForward(w http.ResponseWriter, r *http.Request) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), object.ForwardProtocol) {
		writeError(w, &object.Error{Code: object.CodeInvalid, Message: "this is a stream of bytes, not a page", Hint: "Ask for an upgrade: Connection: Upgrade, Upgrade: " + object.ForwardProtocol + "; berth port-forward does."})
		return
	}
	s.toNode(w, r, func(_ *state.Snapshot, p *object.Pod, _ url.Values) (string, error) {
		return "/v1/forward/" + p.Namespace + "/" + p.Name, nil
	})
}

// toNode passes a request about a pod on to the agent of its node, whose
// certificate must be that node's. path is the path there; it may change the query.
func (s *Server) toNode(w http.ResponseWriter, r *http.Request, path func(*state.Snapshot, *object.Pod, url.Values) (string, error)) {
	v := s.Cluster.Snapshot()
	ref := object.Ref{Kind: object.KindPod, Namespace: r.PathValue("namespace"), Name: r.PathValue("name")}
	p, ok := state.Find[*object.Pod](v, ref)
	if l := s.Cluster.Leader(); (!ok || p.Spec.Node == "") && !l.Self && l.API != "" && !forwarded(r) {
		if err := s.forward(w, r, l, identityOf(r.Context())); err != nil { // it may be newer than what this master knows
			writeError(w, err)
		}
		return
	}
	if !ok {
		writeError(w, notFound(v, ref))
		return
	}
	q := r.URL.Query()
	at, err := path(v, p, q)
	if err != nil {
		writeError(w, err)
		return
	}
	if p.Spec.Node == "" {
		e := object.Errorf(object.CodeUnavailable, ref, "is not on any node yet")
		e.Hint = p.Status.Message
		writeError(w, e)
		return
	}
	address, err := agentOf(v, p.Spec.Node)
	if err != nil {
		writeError(w, err)
		return
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(out *httputil.ProxyRequest) {
			out.Out.URL = &url.URL{Scheme: "https", Host: address, Path: at, RawQuery: q.Encode()}
			out.Out.Host = address
			out.Out.Header = http.Header{} // nothing of the client's is for the node
			if up := out.In.Header.Get("Upgrade"); up != "" {
				out.Out.Header.Set("Connection", "Upgrade")
				out.Out.Header.Set("Upgrade", up)
			}
		},
		Transport:     s.transport(object.RoleNode, p.Spec.Node),
		FlushInterval: -1,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil {
				writeError(w, object.Errorf(object.CodeUnavailable, object.Ref{Kind: object.KindNode, Name: p.Spec.Node}, "the agent at %s does not answer: %w", address, err))
			}
		},
	}
	ctx, stop := s.untilClosing(r.Context())
	defer stop()
	proxy.ServeHTTP(w, r.WithContext(ctx))
	var ended *object.Error
	if errors.As(context.Cause(ctx), &ended) {
		panic(http.ErrAbortHandler) // the client must not take half a log for a whole one
	}
}

// untilClosing ends streams when the server ends, or when who asked for them would
// not be let in any more; the context's cause says so then.
func (s *Server) untilClosing(ctx context.Context) (context.Context, context.CancelFunc) {
	who := identityOf(ctx)
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		t := time.NewTicker(who.lookEvery())
		defer t.Stop()
		for {
			select {
			case <-s.closing:
				cancel(nil)
				return
			case <-ctx.Done():
				return
			case <-t.C:
				if err := s.welcome(who); err != nil {
					cancel(err)
					return
				}
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}

// pickContainer is the container asked for, or the pod's first.
func pickContainer(t *object.PodTemplate, pod object.Ref, asked string) (string, error) {
	if t == nil || len(t.Containers) == 0 {
		return "", object.Errorf(object.CodeInternal, pod, "its template is missing")
	}
	if asked == "" {
		return t.Containers[0].Name, nil
	}
	var names []string
	for _, list := range [][]object.Container{t.Containers, t.Init} {
		for i := range list {
			if list[i].Name == asked {
				return asked, nil
			}
			names = append(names, list[i].Name)
		}
	}
	e := object.Errorf(object.CodeNotFound, pod, "has no container %q", asked)
	if e.Hint = object.DidYouMean(asked, names); e.Hint == "" {
		e.Hint = fmt.Sprintf("It has %q.", names)
	}
	return "", e
}

// agentOf is the address of a node's agent.
func agentOf(v *state.Snapshot, node string) (string, error) {
	ref := object.Ref{Kind: object.KindNode, Name: node}
	n, ok := state.Find[*object.Node](v, ref)
	switch {
	case !ok:
		return "", object.Errorf(object.CodeNotFound, ref, "does not exist")
	case n.Status.Condition == object.NodeLost:
		return "", object.Errorf(object.CodeUnavailable, ref, "is lost since %s", n.Status.Since.UTC().Format("15:04:05 MST"))
	case n.Status.Address == "":
		return "", object.Errorf(object.CodeUnavailable, ref, "has not told the address of its agent")
	}
	return n.Status.Address, nil
}

// uploads bounds how many nodes take an archive at the same time.
const uploads = 8

// postImages keeps an archive on disk until every ready node has it.
func (s *Server) postImages(w http.ResponseWriter, r *http.Request) {
	f, err := os.CreateTemp(s.Spool, "berth-image-*")
	if err != nil {
		writeError(w, object.Errorf(object.CodeUnavailable, object.Ref{}, "this master cannot keep the archive: %w", err))
		return
	}
	defer func() {
		_ = f.Close()           // it was only read since
		_ = os.Remove(f.Name()) // the system clears what is left
	}()
	size, err := io.Copy(f, r.Body)
	if err != nil {
		writeError(w, fmt.Errorf("taking in the archive: %w", err))
		return
	}
	if size == 0 {
		writeError(w, &object.Error{Code: object.CodeInvalid, Message: "the body is empty", Hint: "Send an OCI or docker archive."})
		return
	}
	s.fanOut(w, r, func(ctx context.Context, address string) (*http.Request, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+address+"/v1/images", io.NopCloser(io.NewSectionReader(f, 0, size)))
		if err != nil {
			return nil, err
		}
		req.ContentLength = size
		req.Header.Set("Content-Type", "application/x-tar")
		return req, nil
	})
}

func (s *Server) getImages(w http.ResponseWriter, r *http.Request) {
	s.fanOut(w, r, func(ctx context.Context, address string) (*http.Request, error) {
		return http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+"/v1/images", nil)
	})
}

// fanOut asks every ready node the same and answers with what each said, ordered
// by name; a node's failure is in its own item.
func (s *Server) fanOut(w http.ResponseWriter, r *http.Request, request func(ctx context.Context, address string) (*http.Request, error)) {
	ctx, stop := s.untilClosing(r.Context())
	defer stop()
	// A node that a follower has not heard of yet would be left out in silence.
	if err := s.catchUp(ctx); err != nil {
		writeError(w, err)
		return
	}
	v := s.Cluster.Snapshot()
	page := object.ImagesPage{Items: []object.NodeImages{}}
	for n := range state.All[*object.Node](v, object.KindNode) {
		if n.Status.Condition == object.NodeReady {
			page.Items = append(page.Items, object.NodeImages{Node: n.Name})
		}
	}
	if len(page.Items) == 0 && r.Method == http.MethodPost {
		writeError(w, &object.Error{Code: object.CodeUnavailable, Message: "no node is ready", Hint: "berth node list shows the nodes."})
		return
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, uploads)
	for i := range page.Items {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			item := &page.Items[i]
			if err := s.askNode(ctx, v, item, request); err != nil {
				item.Error = fail(err).Err
			}
		})
	}
	wg.Wait()
	slices.SortFunc(page.Items, func(a, b object.NodeImages) int {
		if a.Node < b.Node {
			return -1
		}
		return 1
	})
	writeJSON(w, page)
}

func (s *Server) askNode(ctx context.Context, v *state.Snapshot, item *object.NodeImages, request func(context.Context, string) (*http.Request, error)) error {
	ref := object.Ref{Kind: object.KindNode, Name: item.Node}
	address, err := agentOf(v, item.Node)
	if err != nil {
		return err
	}
	req, err := request(ctx, address)
	if err != nil {
		return err
	}
	resp, err := s.transport(object.RoleNode, item.Node).RoundTrip(req)
	if err != nil {
		return object.Errorf(object.CodeUnavailable, ref, "the agent at %s does not answer: %w", address, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, largeBody))
	if err != nil {
		return object.Errorf(object.CodeUnavailable, ref, "the agent's answer broke off: %w", err)
	}
	if resp.StatusCode >= 300 {
		var f failure
		if json.Unmarshal(b, &f) == nil && f.Err != nil {
			return f.Err
		}
		return object.Errorf(object.CodeUnavailable, ref, "the agent answered %s", resp.Status)
	}
	var got object.NodeImages
	if err := json.Unmarshal(b, &got); err != nil {
		return object.Errorf(object.CodeUnavailable, ref, "the agent's answer cannot be read: %w", err)
	}
	item.Images = got.Images
	return nil
}

// getSnapshot streams the whole state.
func (s *Server) getSnapshot(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	c := &counter{w: w}
	if err := s.Cluster.Save(r.Context(), c); err != nil {
		if c.n == 0 {
			writeError(w, err)
			return
		}
		s.Log.Error("saving a snapshot for a client failed half way", "error", err)
		panic(http.ErrAbortHandler) // the client must not take half a file for a whole one
	}
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// putSnapshot replaces the whole state.
func (s *Server) putSnapshot(w http.ResponseWriter, r *http.Request) {
	if err := s.Cluster.Restore(r.Context(), r.Body); err != nil {
		writeError(w, err)
		return
	}
	s.Log.Warn("the state was replaced by a snapshot", "who", identityOf(r.Context()).Name)
	writeJSON(w, object.Written{Index: s.Cluster.Snapshot().Index()})
}
