package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

type noInput struct{}

type statusInput struct {
	Stale bool `query:"stale" doc:"Answer with what this master knows: others than itself and the leader are unknown."`
}

func (s *Server) getStatus(_ context.Context, _ *statusInput) (*answer[object.ClusterStatus], error) {
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
	if err := s.mayBeMember(ctx, m.Name); err != nil {
		return nil, err
	}
	if err := s.Cluster.AddMaster(ctx, m); err != nil {
		return nil, err
	}
	// Keys may have been rotated since it joined, or while it was away.
	ring, err := s.Keys.Export()
	if err == nil {
		err = s.sendKeys(ctx, m, ring)
	}
	if err != nil {
		return nil, err
	}
	s.Log.Info("master added", "name", m.Name, "api", m.API, "raft", m.Raft)
	return &answer[mastersPage]{Body: mastersPage{Items: s.masters()}}, nil
}

// mayBeMember refuses masters that are no members and have not joined of late: a
// certificate outlives a membership.
func (s *Server) mayBeMember(ctx context.Context, name string) error {
	if s.member(name) {
		return nil
	}
	if err := s.Cluster.Barrier(ctx); err != nil {
		return err // what a new leader has not applied yet must not be a refusal
	}
	for t := range state.All[*object.Token](s.Cluster.Snapshot(), object.KindToken) {
		if slices.Contains(t.Spec.Joined, name) && s.Now().Before(t.Spec.Expires.Add(timeToEnrol)) {
			return nil
		}
	}
	return notMember(name)
}

// timeToEnrol is how long after its token's end a master may still become a member.
const timeToEnrol = time.Hour

// member reports whether a master of the name is one of the members. A master
// that does not find itself among them is only being taken in and knows nobody.
func (s *Server) member(name string) bool {
	self, found := false, false
	for _, m := range s.Cluster.Masters() {
		self, found = self || m.Name == s.Name, found || m.Name == name
	}
	return found || !self
}

func notMember(name string) *object.Error {
	return &object.Error{Code: object.CodeForbidden, Message: fmt.Sprintf("master %s is not a member of this cluster: it was removed, or its token expired before it could become one", name),
		Hint: "To take it in again, empty its data directory and start it with a new token (berth token create --role master)."}
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
	_, err := s.propose(ctx, identityOf(ctx).author(), "master "+in.Name+" is removed", func(v *state.Snapshot, c *object.Changeset) error {
		for t := range state.All[*object.Token](v, object.KindToken) {
			if slices.Contains(t.Spec.Joined, in.Name) {
				n := t.Clone().(*object.Token)
				n.Spec.Joined = slices.DeleteFunc(slices.Clone(n.Spec.Joined), func(name string) bool { return name == in.Name })
				c.Update(t, n)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
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
