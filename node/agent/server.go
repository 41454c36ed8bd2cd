package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/common/expfmt"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/node/runtime/container"
)

// Handler is the node's own API. Everything but /healthz is for clients whose
// certificate has the role master or admin:
//
//	GET  /v1/logs/{namespace}/{pod}/{container}?follow&tail=N&previous&since=TIME   text, one line per line
//	POST /v1/images       an OCI or docker archive; answers an object.NodeImages: what was in it
//	GET  /v1/images       an object.NodeImages
//	GET  /v1/forward/{namespace}/{pod}?port=N   an upgrade to object.ForwardProtocol: a stream to the port
//	GET  /metrics         Prometheus text
//	GET  /healthz         200 while the node can take pods, else 503 and why
func (a *Agent) Handler() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /v1/logs/{namespace}/{pod}/{container}", allowed(a.serveLogs))
	m.HandleFunc("POST /v1/images", allowed(a.importImages))
	m.HandleFunc("GET /v1/images", allowed(a.listImages))
	m.HandleFunc("GET /v1/forward/{namespace}/{pod}", allowed(a.serveForward))
	m.HandleFunc("GET /metrics", allowed(a.serveMetrics))
	m.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if why := a.unfit(); why != "" {
			http.Error(w, why, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return m
}

// ownPort is the port of the node's own API; 0 without one.
func (a *Agent) ownPort() int {
	if a.cfg.Listener == nil {
		return 0
	}
	if t, ok := a.cfg.Listener.Addr().(*net.TCPAddr); ok {
		return t.Port
	}
	return 0
}

// serve answers until ctx ends.
func (a *Agent) serve(ctx context.Context) error {
	s := &http.Server{
		Handler: a.Handler(), TLSConfig: a.cfg.TLS, ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.ServeTLS(a.cfg.Listener, "", ""); ctx.Err() == nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// allowed lets masters and admins pass. Certificates have been verified by TLS.
func allowed(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 { // Config.TLS has verified them
			fail(w, &object.Error{Code: object.CodeUnauthorized, Message: "the node wants a client certificate of the cluster", Hint: "Ask a master instead; it asks the node."})
			return
		}
		roles := r.TLS.PeerCertificates[0].Subject.Organization
		if !slices.Contains(roles, "master") && !slices.Contains(roles, "admin") {
			fail(w, &object.Error{Code: object.CodeForbidden, Message: fmt.Sprintf("the role %v may not ask a node", roles), Hint: "Only masters and admins may."})
			return
		}
		next(w, r)
	}
}

var statuses = map[object.Code]int{
	object.CodeInvalid: http.StatusBadRequest, object.CodeNotFound: http.StatusNotFound, object.CodeUnauthorized: http.StatusUnauthorized,
	object.CodeForbidden: http.StatusForbidden, object.CodeUnavailable: http.StatusServiceUnavailable,
}

// fail answers with the one error shape.
func fail(w http.ResponseWriter, err error) {
	var e *object.Error
	var missing *container.NotFoundError
	var away *container.UnavailableError
	var image *container.ImageError
	switch {
	case errors.As(err, &e):
	case errors.As(err, &missing):
		e = object.Errorf(object.CodeNotFound, object.Ref{}, "%w", err)
	case errors.As(err, &away):
		e = object.Errorf(object.CodeUnavailable, object.Ref{}, "%w", err)
	case errors.As(err, &image):
		code := object.CodeInvalid
		if image.Fault == container.ImageNoSpace {
			code = object.CodeUnavailable
		}
		e = object.Errorf(code, object.Ref{}, "%w", err)
		e.Hint = image.Hint
	case isDiskFull(err):
		e = object.Errorf(object.CodeUnavailable, object.Ref{}, "the node's disk is full: %w", err)
	default:
		e = object.Errorf(object.CodeInternal, object.Ref{}, "%w", err)
	}
	status, ok := statuses[e.Code]
	if !ok {
		status = http.StatusInternalServerError
	}
	answer(w, status, map[string]any{"error": e})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that has gone needs no answer
}

// flag reads a query parameter that may stand alone: ?follow or ?follow=true.
func flag(r *http.Request, name string) bool {
	q := r.URL.Query()
	return q.Has(name) && q.Get(name) != "false" && q.Get(name) != "0"
}

func (a *Agent) serveLogs(w http.ResponseWriter, r *http.Request) {
	ref := object.Ref{Kind: object.KindPod, Namespace: r.PathValue("namespace"), Name: r.PathValue("pod")}
	name := r.PathValue("container")
	q := container.LogQuery{Container: name, Follow: flag(r, "follow"), Previous: flag(r, "previous")}
	if s := r.URL.Query().Get("tail"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			fail(w, object.Errorf(object.CodeInvalid, ref, "tail=%s is not a number of lines", s))
			return
		}
		if q.Tail = n; n == 0 {
			q.Tail = -1
		}
	}
	if s := r.URL.Query().Get("since"); s != "" {
		at, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			d, derr := time.ParseDuration(s)
			if derr != nil {
				fail(w, object.Errorf(object.CodeInvalid, ref, "since=%s is neither a time (2026-01-02T15:04:05Z) nor a duration (10m)", s))
				return
			}
			at = time.Now().Add(-d)
		}
		q.Since = at
	}
	a.mu.Lock()
	worker := a.workers[ref]
	a.mu.Unlock()
	if worker == nil {
		fail(w, object.Errorf(object.CodeNotFound, ref, "is not on this node"))
		return
	}
	if worker.runner(name) == nil {
		var names []string
		for _, x := range worker.runners {
			names = append(names, x.c.Name)
		}
		e := object.Errorf(object.CodeNotFound, ref, "has no container %q; it has %v", name, names)
		e.Hint = object.DidYouMean(name, names)
		fail(w, e)
		return
	}
	q.Pod = worker.key
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	out := http.NewResponseController(w)
	begun := false
	for line, err := range a.cfg.Runtime.Logs(r.Context(), q) {
		if err != nil {
			if r.Context().Err() != nil {
				return
			}
			if !begun {
				fail(w, err)
				return
			}
			a.log.Warn("log broke off", "pod", ref.String(), "container", name, "error", err)
			panic(http.ErrAbortHandler) // the reader must not take this for the end
		}
		begun = true
		text := line.Text
		if !line.Partial {
			text += "\n"
		}
		if _, err := w.Write([]byte(text)); err != nil {
			return
		}
		if q.Follow {
			_ = out.Flush()
		}
	}
}

func (a *Agent) importImages(w http.ResponseWriter, r *http.Request) {
	names, err := a.cfg.Runtime.ImportImage(r.Context(), r.Body)
	if err != nil {
		fail(w, err)
		return
	}
	a.log.Info("images imported", "names", names)
	a.arrived()
	out := object.NodeImages{Node: a.cfg.Node}
	for _, name := range names {
		out.Images = append(out.Images, object.Image{Name: name})
	}
	answer(w, http.StatusOK, out)
}

func (a *Agent) listImages(w http.ResponseWriter, r *http.Request) {
	list, err := a.cfg.Runtime.ListImages(r.Context())
	if err != nil {
		fail(w, err)
		return
	}
	out := object.NodeImages{Node: a.cfg.Node}
	for _, i := range list {
		out.Images = append(out.Images, object.Image{Name: i.Name, Digest: i.Digest, Size: object.Bytes(i.Size)})
	}
	answer(w, http.StatusOK, out)
}

func (a *Agent) serveMetrics(w http.ResponseWriter, _ *http.Request) {
	phases := map[object.PodPhase]int{}
	var ready, restarts, containers int
	a.mu.Lock()
	for _, x := range a.workers {
		s := x.current()
		phases[s.Phase]++
		if s.Ready {
			ready++
		}
		for _, c := range s.Containers {
			restarts += c.Restarts
			if c.State == "running" {
				containers++
			}
		}
	}
	a.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	fmt.Fprintf(w, "# HELP berth_node_pods Pods on the node by phase.\n# TYPE berth_node_pods gauge\n")
	for _, p := range []object.PodPhase{object.PodStarting, object.PodRunning, object.PodStopping, object.PodStopped, object.PodSucceeded, object.PodFailed} {
		fmt.Fprintf(w, "berth_node_pods{phase=%q} %d\n", p, phases[p])
	}
	fmt.Fprintf(w, "# HELP berth_node_pods_ready Pods that are ready.\n# TYPE berth_node_pods_ready gauge\nberth_node_pods_ready %d\n", ready)
	fmt.Fprintf(w, "# HELP berth_node_containers_running Containers that run.\n# TYPE berth_node_containers_running gauge\nberth_node_containers_running %d\n", containers)
	fmt.Fprintf(w, "# HELP berth_node_container_restarts Restarts of the containers that are here now.\n# TYPE berth_node_container_restarts gauge\nberth_node_container_restarts %d\n", restarts)
	up := 0
	if a.unfit() == "" {
		up = 1
	}
	fmt.Fprintf(w, "# HELP berth_node_fit Whether the node can take pods.\n# TYPE berth_node_fit gauge\nberth_node_fit %d\n", up)
	if a.cfg.Metrics == nil {
		return
	}
	families, err := a.cfg.Metrics.Gather()
	if err != nil { // what there is all the same is told
		a.log.Warn("metrics of the tools", "error", err)
	}
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(w, f); err != nil {
			return // the reader has gone
		}
	}
}
