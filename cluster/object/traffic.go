package object

import (
	"fmt"
	"time"
)

// Traffic is what a node's ingress has answered since the node's last report that
// had any. It is kept in the leader's memory only.
type Traffic struct {
	// Until names the report: one whose answer was lost is sent again as it was, and
	// counts once.
	Until time.Time    `json:"until"`
	Sets  []SetTraffic `json:"sets"`
}

// SetTraffic is the requests that pods of one replica set have answered.
type SetTraffic struct {
	Namespace string `json:"namespace"`
	Set       string `json:"set"`
	Requests  uint64 `json:"requests"`
	Errors    uint64 `json:"errors,omitempty"` // answered with 5xx
	// Took counts requests by time, in the order of TrafficBounds, with those that
	// took longer at the end. Streams are in none.
	Took []uint64 `json:"took,omitempty"`
}

// TrafficBounds are the upper bounds, in seconds, by which ingresses count how long
// requests take.
func TrafficBounds() []float64 {
	return []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
}

// Add counts another set's traffic, too.
func (t *SetTraffic) Add(x SetTraffic) {
	t.Requests += x.Requests
	t.Errors += x.Errors
	for i, n := range x.Took {
		for len(t.Took) <= i {
			t.Took = append(t.Took, 0)
		}
		t.Took[i] += n
	}
}

// Since is what was counted after before; counters never fall.
func (t SetTraffic) Since(before SetTraffic) SetTraffic {
	out := SetTraffic{Namespace: t.Namespace, Set: t.Set, Requests: t.Requests - before.Requests, Errors: t.Errors - before.Errors}
	for i, n := range t.Took {
		if i < len(before.Took) {
			n -= before.Took[i]
		}
		out.Took = append(out.Took, n)
	}
	return out
}

// Signal is the value of a metric; an error says why there is none.
func (t SetTraffic) Signal(s *SignalSource) (Reading, error) {
	if t.Requests < uint64(max(s.MinRequests, 1)) {
		return Reading{}, fmt.Errorf("the ingresses have seen %d requests to %s, %d are needed", t.Requests, t.Set, max(s.MinRequests, 1))
	}
	share := 0.0
	switch s.Metric {
	case SignalErrorRate:
		rate := float64(t.Errors) / float64(t.Requests)
		return Reading{Number: rate, Words: fmt.Sprintf("%.3g%% of %d requests", rate*100, t.Requests)}, nil
	case SignalLatencyP50:
		share = .5
	case SignalLatencyP90:
		share = .9
	default:
		share = .99
	}
	seconds, ok := t.quantile(share)
	if !ok {
		return Reading{}, fmt.Errorf("no request to %s had an end that could be timed", t.Set)
	}
	return Reading{Number: seconds, Words: fmt.Sprintf("%s of %d requests", time.Duration(seconds*float64(time.Second)).Round(100*time.Microsecond), t.Requests)}, nil
}

// quantile is the time that so large a share of the requests took at most, evenly
// between the bounds around it; what took longer than the last bound counts as twice
// that.
func (t SetTraffic) quantile(share float64) (float64, bool) {
	bounds := TrafficBounds()
	all := uint64(0)
	for _, n := range t.Took {
		all += n
	}
	if all == 0 || len(t.Took) > len(bounds)+1 {
		return 0, false
	}
	rank, below := share*float64(all), uint64(0)
	for i, n := range t.Took {
		if n == 0 || float64(below+n) < rank {
			below += n
			continue
		}
		if i == len(bounds) {
			break
		}
		low := 0.0
		if i > 0 {
			low = bounds[i-1]
		}
		return low + (bounds[i]-low)*(rank-float64(below))/float64(n), true
	}
	return 2 * bounds[len(bounds)-1], true
}
