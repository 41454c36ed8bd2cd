package analysis

import (
	"sync"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// forgetSets is how long a set's traffic is kept after its last request.
const forgetSets = time.Hour

// Traffic sums up what the nodes' ingresses have told since this master leads. Its
// methods may be called at once.
type Traffic struct {
	mu    sync.Mutex
	until map[string]time.Time // by node: the newest report
	sets  map[setKey]*sum
	swept time.Time
}

type setKey struct{ namespace, set string }

type sum struct {
	object.SetTraffic
	last time.Time
}

// Reset forgets everything: of another leadership.
func (t *Traffic) Reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.until, t.sets = map[string]time.Time{}, map[setKey]*sum{}
}

// Add counts a node's report, unless it is one that has been counted.
func (t *Traffic) Add(node string, r *object.Traffic, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sets == nil {
		t.until, t.sets = map[string]time.Time{}, map[setKey]*sum{}
	}
	if !r.Until.After(t.until[node]) {
		return
	}
	t.until[node] = r.Until
	for _, x := range r.Sets {
		if len(x.Took) > len(object.TrafficBounds())+1 {
			continue // of a version with other bounds
		}
		k := setKey{x.Namespace, x.Set}
		s := t.sets[k]
		if s == nil {
			s = &sum{SetTraffic: object.SetTraffic{Namespace: x.Namespace, Set: x.Set}}
			t.sets[k] = s
		}
		s.Add(x)
		s.last = now
	}
	if now.Sub(t.swept) > time.Minute {
		t.swept = now
		for k, s := range t.sets {
			if now.Sub(s.last) > forgetSets {
				delete(t.sets, k)
			}
		}
	}
}

// Of is all that has been counted of a set; it shares nothing with what is counted later.
func (t *Traffic) Of(namespace, set string) object.SetTraffic {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := object.SetTraffic{Namespace: namespace, Set: set}
	if s := t.sets[setKey{namespace, set}]; s != nil {
		out.Add(s.SetTraffic)
	}
	return out
}
