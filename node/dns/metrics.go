package dns

import (
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// source is where an answer came from.
type source string

const (
	fromCluster  source = "cluster"
	fromReverse  source = "reverse"
	fromUpstream source = "upstream"
	fromNowhere  source = "refused"
)

// metrics is what the server counts.
type metrics struct {
	queries  *prometheus.CounterVec // by source and rcode
	hits     prometheus.Counter
	misses   prometheus.Counter
	failures *prometheus.CounterVec // by name server
	services prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		queries:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "berth_dns_queries_total", Help: "Queries answered, by where the answer came from and its code."}, []string{"source", "rcode"}),
		hits:     prometheus.NewCounter(prometheus.CounterOpts{Name: "berth_dns_cache_hits_total", Help: "Names outside the cluster answered from the cache."}),
		misses:   prometheus.NewCounter(prometheus.CounterOpts{Name: "berth_dns_cache_misses_total", Help: "Names outside the cluster that a name server had to be asked for."}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "berth_dns_upstream_failures_total", Help: "Questions to name servers outside that got no usable answer, by server."}, []string{"server"}),
		services: prometheus.NewGauge(prometheus.GaugeOpts{Name: "berth_dns_services", Help: "Services whose names are known."}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.queries, m.hits, m.misses, m.failures, m.services} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) answered(s source, rcode int) {
	m.queries.WithLabelValues(string(s), dns.RcodeToString[rcode]).Inc()
}
