package api

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

type noInput struct{}

func (s *Server) getStatus(_ context.Context, _ *noInput) (*answer[object.ClusterStatus], error) {
	v, l := s.Cluster.Snapshot(), s.Cluster.Leader()
	out := object.ClusterStatus{
		Cluster: s.Keys.Cluster(), Version: s.Version, Self: s.Name, Leader: l.Name, Index: v.Index(),
		Masters: s.masters(), Nodes: map[string]int{}, Pods: map[string]int{},
	}
	for n := range state.All[*object.Node](v, object.KindNode) {
		out.Nodes[string(n.Status.Condition)]++
	}
	for p := range state.All[*object.Pod](v, object.KindPod) {
		phase := p.Status.Phase
		if phase == "" {
			phase = object.PodPending
		}
		out.Pods[string(phase)]++
	}
	return &answer[object.ClusterStatus]{Body: out}, nil
}

func (s *Server) masters() []object.Master {
	list := s.Cluster.Masters()
	if list == nil {
		list = []object.Master{}
	}
	return list
}

type mastersPage struct {
	Items []object.Master `json:"items"`
}

func (s *Server) getMasters(_ context.Context, _ *struct {
	Stale bool `query:"stale" doc:"Answer with what this master knows, which may be behind."`
}) (*answer[mastersPage], error) {
	return &answer[mastersPage]{Body: mastersPage{Items: s.masters()}}, nil
}

type masterInput struct {
	Body body[object.Master]
}

func (s *Server) postMaster(ctx context.Context, in *masterInput) (*answer[mastersPage], error) {
	m, err := in.Body.get()
	if err != nil {
		return nil, err
	}
	if who := identityOf(ctx); m.Name != who.Name {
		return nil, object.Errorf(object.CodeForbidden, object.Ref{}, "master %s cannot make %q a member", who.Name, m.Name)
	}
	if m.API == "" || m.Raft == "" {
		return nil, &object.Error{Code: object.CodeInvalid, Message: "api and raft must be addresses that the other masters reach"}
	}
	if err := s.Cluster.AddMaster(ctx, m); err != nil {
		return nil, err
	}
	s.Log.Info("master added", "name", m.Name, "api", m.API, "raft", m.Raft)
	return &answer[mastersPage]{Body: mastersPage{Items: s.masters()}}, nil
}

func (s *Server) deleteMaster(ctx context.Context, in *struct {
	Name string `path:"name"`
}) (*answer[mastersPage], error) {
	known := false
	for _, m := range s.Cluster.Masters() {
		known = known || m.Name == in.Name
	}
	if !known {
		return nil, object.Errorf(object.CodeNotFound, object.Ref{}, "there is no master %q", in.Name)
	}
	if err := s.Cluster.RemoveMaster(ctx, in.Name); err != nil {
		return nil, err
	}
	s.Log.Info("master removed", "name", in.Name, "by", identityOf(ctx).Name)
	return &answer[mastersPage]{Body: mastersPage{Items: s.masters()}}, nil
}

// getHealth is for load balancers: 200 while there is a leader.
func (s *Server) getHealth(w http.ResponseWriter, _ *http.Request) {
	l := s.Cluster.Leader()
	if l.Name == "" {
		writeError(w, noLeader(l))
		return
	}
	writeJSON(w, map[string]any{"ok": true, "leader": l.Self})
}

// metrics are the API's own.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	watches  prometheus.Gauge
}

func newMetrics(r *prometheus.Registry) metrics {
	m := metrics{
		registry: r,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "berth_api_requests_total", Help: "Requests answered."}, []string{"method", "route", "status", "forwarded"}),
		seconds:  prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "berth_api_request_seconds", Help: "Time to answer, streams included.", Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 10)}, []string{"route"}),
		watches:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "berth_api_watches", Help: "Watches that are open."}),
	}
	r.MustRegister(m.requests, m.seconds, m.watches)
	return m
}

func (m *metrics) observe(method, route string, q Request) {
	if route == "" {
		route = "none" // whatever was asked for; paths that do not exist must not become labels
	}
	m.requests.WithLabelValues(method, route, strconv.Itoa(q.Status), strconv.FormatBool(q.Forwarded)).Inc()
	m.seconds.WithLabelValues(route).Observe(q.Took.Seconds())
}

func (s *Server) getMetrics(w http.ResponseWriter, r *http.Request) {
	promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{Timeout: 10 * time.Second}).ServeHTTP(w, r)
}
