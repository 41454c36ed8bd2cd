package ingress

import (
	"cmp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// setKey names a replica set, or a bare pod.
type setKey struct{ namespace, set string }

var bounds = object.TrafficBounds()

// tally counts what the pods of one set have answered, over all routes: what the
// masters judge a new version by.
type tally struct {
	key    setKey
	users  int // series; under metrics.mu
	all    atomic.Uint64
	errors atomic.Uint64
	took   []atomic.Uint64 // by bounds, and one more
}

// tally is that of a series' set; nil without one. m.mu is held.
func (m *metrics) tally(k seriesKey) *tally {
	if k.revision == "" {
		return nil
	}
	key := setKey{k.namespace, k.revision}
	t := m.sets[key]
	if t == nil {
		t = &tally{key: key, took: make([]atomic.Uint64, len(bounds)+1)}
		m.sets[key] = t
	}
	t.users++
	return t
}

// release lets a tally go with the last series of its set. m.mu is held.
func (m *metrics) release(t *tally) {
	if t == nil {
		return
	}
	if t.users--; t.users == 0 {
		delete(m.sets, t.key)
	}
}

// observe counts a request. A client that left before it was answered says nothing
// about the pod; how long a stream lasts says nothing about its speed.
func (t *tally) observe(status int, took time.Duration, streamed bool) {
	if status == statusGone {
		return
	}
	t.all.Add(1)
	if status >= 500 {
		t.errors.Add(1)
	}
	if !streamed {
		i, _ := slices.BinarySearch(bounds, took.Seconds())
		t.took[i].Add(1)
	}
}

// Traffic is what each set's pods have answered since the server was opened, in order
// of namespace and name. Counters of a set never fall until it is forgotten.
func (s *Server) Traffic() []object.SetTraffic {
	s.metrics.mu.Lock()
	defer s.metrics.mu.Unlock()
	out := make([]object.SetTraffic, 0, len(s.metrics.sets))
	for k, t := range s.metrics.sets {
		x := object.SetTraffic{Namespace: k.namespace, Set: k.set, Requests: t.all.Load(), Errors: t.errors.Load(), Took: make([]uint64, len(t.took))}
		for i := range t.took {
			x.Took[i] = t.took[i].Load()
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b object.SetTraffic) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Set, b.Set))
	})
	return out
}
