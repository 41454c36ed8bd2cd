package master

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/berthdev/berth/cluster/consensus"
	"github.com/berthdev/berth/cluster/object"
)

// metrics is what the loops count.
type metrics struct {
	reconciles *prometheus.CounterVec // by controller
	failures   *prometheus.CounterVec // by controller
	proposals  *prometheus.CounterVec // by author and result
	placed     prometheus.Counter
	unplaced   prometheus.Gauge
	rounds     prometheus.Histogram
	queue      prometheus.Gauge
}

func newMetrics(r *prometheus.Registry, node *consensus.Node) metrics {
	m := metrics{
		reconciles: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "berth_reconciles_total", Help: "Keys reconciled, by controller."}, []string{"controller"}),
		failures:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "berth_reconcile_failures_total", Help: "Reconciles that ended in an error, by controller."}, []string{"controller"}),
		proposals:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "berth_proposals_total", Help: "Changesets of controllers and scheduler, by author and result (ok or an error code)."}, []string{"author", "result"}),
		placed:     prometheus.NewCounter(prometheus.CounterOpts{Name: "berth_pods_placed_total", Help: "Pods given a node by this master."}),
		unplaced:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "berth_pods_unplaced", Help: "Pods that fit on no node, at the last round of the scheduler."}),
		rounds:     prometheus.NewHistogram(prometheus.HistogramOpts{Name: "berth_scheduler_round_seconds", Help: "Duration of a round of the scheduler.", Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9)}),
		queue:      prometheus.NewGauge(prometheus.GaugeOpts{Name: "berth_queue_length", Help: "Keys that wait for a controller."}),
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	r.MustRegister(m.reconciles, m.failures, m.proposals, m.placed, m.unplaced, m.rounds, m.queue,
		gauge("berth_leader", "1 on the master that leads.", func() float64 {
			if node.Leading() {
				return 1
			}
			return 0
		}),
		gauge("berth_index", "Raft index of this master's state.", func() float64 { return float64(node.Snapshot().Index()) }),
		gauge("berth_term", "Raft term.", func() float64 { return float64(node.Term()) }),
		gauge("berth_nodes", "Nodes known.", func() float64 { return float64(node.Snapshot().Count(object.KindNode)) }),
		gauge("berth_pods", "Pods known.", func() float64 { return float64(node.Snapshot().Count(object.KindPod)) }),
		planTruth{node.Snapshot},
		gauge("berth_pods_pending", "Pods that wait for a node.", func() float64 { return float64(node.Snapshot().PendingCount()) }),
	)
	return m
}
