package ingress

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/berthdev/berth/cluster/object"
)

// seriesKey labels what is counted. There are as many as routes times the
// revisions of their pods; nothing that a client sends becomes a label.
type seriesKey struct {
	ingress, route, service, revision string
	namespace                         string // of the revision; no label
}

var classes = [...]string{"1xx", "2xx", "3xx", "4xx", "5xx"}

// series is the counters of one key, looked up once and not at every request.
type series struct {
	key      seriesKey
	requests [len(classes)]prometheus.Counter
	took     prometheus.Observer
	set      *tally    // nil of what no pod answers
	idle     time.Time // since when no table uses it; under metrics.mu
}

type metrics struct {
	requests *prometheus.CounterVec
	took     *prometheus.HistogramVec
	retries  prometheus.Counter

	mu    sync.Mutex
	known map[seriesKey]*series
	sets  map[setKey]*tally
}

// seriesKept is how long the counters of a revision that is gone can be read.
const seriesKept = 10 * time.Minute

func newMetrics(r prometheus.Registerer, active func() float64) (*metrics, error) {
	labels := []string{"ingress", "route", "service", "revision"}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "berth_ingress_requests_total", Help: "Requests, by ingress, path, service, revision of the pod that answered, and class of the status."}, append(labels, "code")),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "berth_ingress_request_seconds", Help: "From the first byte of a request to the last of its answer.",
			Buckets: object.TrafficBounds()}, labels),
		retries: prometheus.NewCounter(prometheus.CounterOpts{Name: "berth_ingress_retries_total", Help: "Attempts at another pod because one could not be connected to."}),
		known:   map[seriesKey]*series{}, sets: map[setKey]*tally{},
	}
	for _, c := range []prometheus.Collector{m.requests, m.took, m.retries,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "berth_ingress_requests_active", Help: "Requests and streams under way at pods."}, active)} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) series(k seriesKey) *series {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.known[k]
	if s == nil {
		s = &series{key: k, took: m.took.WithLabelValues(k.ingress, k.route, k.service, k.revision), set: m.tally(k)}
		for i, c := range classes {
			s.requests[i] = m.requests.WithLabelValues(k.ingress, k.route, k.service, k.revision, c)
		}
		m.known[k] = s
	}
	return s
}

// retain forgets the series that no table has used for a while.
func (m *metrics) retain(used map[*series]bool, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, s := range m.known {
		switch {
		case used[s]:
			s.idle = time.Time{}
		case s.idle.IsZero():
			s.idle = now
		case now.Sub(s.idle) > seriesKept:
			for _, c := range classes {
				m.requests.DeleteLabelValues(k.ingress, k.route, k.service, k.revision, c)
			}
			m.took.DeleteLabelValues(k.ingress, k.route, k.service, k.revision)
			delete(m.known, k)
			m.release(s.set)
		}
	}
}

func (s *series) observe(status int, took time.Duration, streamed bool) {
	s.requests[min(max(status/100, 1), len(classes))-1].Inc()
	s.took.Observe(took.Seconds())
	if s.set != nil {
		s.set.observe(status, took, streamed)
	}
}
