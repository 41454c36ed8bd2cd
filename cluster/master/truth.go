package master

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// planTruth tells of each stack how true the plan of its newest measured revision
// was. It reads the state when it is asked, so that every master says the same and
// none forgets what was before it started.
type planTruth struct{ view func() *state.Snapshot }

var (
	planHeld       = prometheus.NewDesc("berth_plan_held", "1 if the stack's newest complete revision went as its plan said: every placement, and no workload less ready than promised.", []string{"stack"}, nil)
	planPlacements = prometheus.NewDesc("berth_plan_placements", "Pods of that revision that are where the plan had them (held), and elsewhere (missed).", []string{"stack", "result"}, nil)
	planPromises   = prometheus.NewDesc("berth_plan_promises", "Workloads of that revision of which at least as many pods stayed ready as the plan promised (held), and fewer (missed).", []string{"stack", "result"}, nil)
)

// Describe names what Collect gives.
func (planTruth) Describe(out chan<- *prometheus.Desc) {
	out <- planHeld
	out <- planPlacements
	out <- planPromises
}

// Collect reads the revisions.
func (t planTruth) Collect(out chan<- prometheus.Metric) {
	newest := map[string]*object.Revision{}
	for r := range state.All[*object.Revision](t.view(), object.KindRevision) {
		if old := newest[r.Spec.Stack]; r.Measured() && (old == nil || old.Spec.Number < r.Spec.Number) {
			newest[r.Spec.Stack] = r
		}
	}
	for stack, r := range newest {
		held := 0.0
		if r.Held() {
			held = 1
		}
		gauge := func(d *prometheus.Desc, value float64, labels ...string) {
			out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, append([]string{stack}, labels...)...)
		}
		gauge(planHeld, held)
		gauge(planPlacements, float64(r.Status.Kept), "held")
		gauge(planPlacements, float64(len(r.Status.Deviations)), "missed")
		missed := len(r.Broken())
		gauge(planPromises, float64(len(r.Status.Lowest)-missed), "held")
		gauge(planPromises, float64(missed), "missed")
	}
}
