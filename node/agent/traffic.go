package agent

import (
	"slices"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// traffic makes reports of an ingress's counters: what has been added since the last
// report that the masters have. One that may or may not have arrived is sent again as
// it was, and what came since waits for the next.
type traffic struct {
	counters func() []object.SetTraffic
	sent     map[trafficKey]object.SetTraffic // counters when the last report was made
	underWay *object.Traffic
}

type trafficKey struct{ namespace, set string }

// next is the report to send now; nil if nothing has been answered.
func (t *traffic) next(now time.Time) *object.Traffic {
	if t.underWay != nil {
		return t.underWay
	}
	r := &object.Traffic{Until: now}
	is := make(map[trafficKey]object.SetTraffic)
	for _, x := range t.counters() {
		k := trafficKey{x.Namespace, x.Set}
		is[k] = x
		was := t.sent[k]
		if was.Requests > x.Requests { // forgotten in between, and begun anew
			was = object.SetTraffic{}
		}
		if d := x.Since(was); d.Requests > 0 {
			if !slices.ContainsFunc(d.Took, func(n uint64) bool { return n > 0 }) {
				d.Took = nil
			}
			r.Sets = append(r.Sets, d)
		}
	}
	t.sent = is
	if len(r.Sets) == 0 {
		return nil
	}
	t.underWay = r
	return r
}

// delivered says that the masters have the report.
func (t *traffic) delivered() {
	if t != nil {
		t.underWay = nil
	}
}
