package ingress

import (
	"slices"
	"sync/atomic"
)

// rotor deals out turns by weight, exactly: in a row of as many turns as the
// weights sum up to, each gets its weight, well mixed. It outlives tables.
type rotor struct{ n atomic.Uint64 }

// next is a number below sum; in sum calls each comes once. Neighbouring calls are
// a golden section apart, so that a weight's turns do not come in a row.
func (r *rotor) next(sum int) int {
	if sum <= 1 {
		return 0
	}
	return int((r.n.Add(1) - 1) % uint64(sum) * uint64(stride(sum)) % uint64(sum))
}

// stride is about 0.618 of sum, and without a common divisor.
func stride(sum int) int {
	for s := max(1, sum*618/1000); ; s++ {
		if gcd(s, sum) == 1 {
			return s
		}
	}
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// target is a pod among those of a path, with what is counted about it there.
type target struct {
	up *upstream
	*series
}

// share is a part of a service's pods with a weight; a service without shares has
// one of all.
type share struct {
	weight  int
	targets []target
}

// pool is the pods behind a port of a service.
type pool struct {
	service string
	lacks   string // why there can be none, in words
	shares  []share
	turn    *rotor // of shares
	start   *rotor // of targets
}

// pick chooses a pod: the share by weight, the part of shares with nobody left
// falling to the others; then, in it, who has the fewest requests under way, ties
// going round. With pods that are equally fast this deals out exactly equal parts;
// a slow one gets fewer. Pods in tried are passed over. nil: there is none.
func (p *pool) pick(tried []*upstream) *target {
	sum, last := 0, -1
	for i := range p.shares {
		if s := &p.shares[i]; s.weight > 0 && s.open(tried) {
			sum += s.weight
			last = i
		}
	}
	if last < 0 {
		return nil
	}
	chosen := last
	if sum > p.shares[last].weight { // several
		turn := p.turn.next(sum)
		for i := range p.shares {
			s := &p.shares[i]
			if s.weight <= 0 || !s.open(tried) {
				continue
			}
			if turn -= s.weight; turn < 0 {
				chosen = i
				break
			}
		}
	}
	return p.shares[chosen].least(p.start, tried)
}

func (s *share) open(tried []*upstream) bool {
	if len(tried) == 0 {
		return len(s.targets) > 0
	}
	return slices.ContainsFunc(s.targets, func(t target) bool { return !slices.Contains(tried, t.up) })
}

func (s *share) least(start *rotor, tried []*upstream) *target {
	n := len(s.targets)
	at := 0
	if n > 1 {
		at = int((start.n.Add(1) - 1) % uint64(n))
	}
	var best *target
	var fewest int64
	for range n {
		t := &s.targets[at]
		if at++; at == n {
			at = 0
		}
		if len(tried) > 0 && slices.Contains(tried, t.up) {
			continue
		}
		if busy := t.up.active.Load(); best == nil || busy < fewest {
			if best, fewest = t, busy; busy == 0 {
				break
			}
		}
	}
	return best
}

// named finds the pod that a sticky cookie means. Pods whose share weighs nothing
// are not found: their clients are meant to move on.
func (p *pool) named(cookie string, tried []*upstream) *target {
	for i := range p.shares {
		if p.shares[i].weight <= 0 {
			continue
		}
		for j := range p.shares[i].targets {
			if t := &p.shares[i].targets[j]; t.up.cookie == cookie && !slices.Contains(tried, t.up) {
				return t
			}
		}
	}
	return nil
}

// backend is one of the services of a path.
type backend struct {
	*pool
	weight         int
	header, cookie *condition
}

// condition is NAME or NAME=VALUE.
type condition struct {
	name, value string
	any         bool
}
