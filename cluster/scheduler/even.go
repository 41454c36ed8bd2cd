package scheduler

import (
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// whole is a whole node in the shares that Even counts in, and tolerance how far
// above the mean a node may be before pods are moved off it.
const (
	whole     = 100_000
	tolerance = whole / 20
)

// amounts are cpu, memory in KiB, and pods.
type amounts [3]int64

func amountsOf(u state.Usage) amounts {
	return amounts{int64(u.CPU), int64(u.Memory >> 10), int64(u.Pods)}
}

// uneven is what an uneven use costs on one node: the sum of the squared shares,
// so that the sum over nodes is least when all are used alike.
func uneven(used, has amounts) int64 {
	var sum int64
	for i := range used {
		if has[i] > 0 {
			share := used[i] * whole / has[i]
			sum += share * share
		}
	}
	return sum
}

func (a amounts) plus(b amounts, sign int64) amounts {
	for i := range a {
		a[i] += sign * b[i]
	}
	return a
}

// Even says which of the pods that may be moved, most of them at most, would make
// nodes more evenly used if another of their set replaced them, and where that
// would go: each time the one that does most for it. A replacement starts before
// the pod that it replaces ends, so each is placed with all of those still there.
// Only nodes that take pods count, and pods leave only those that are more than a
// twentieth above the mean in cpu, memory or number of pods. Nothing is written,
// and equal snapshots give equal answers.
func (s *Scheduler) Even(v *state.Snapshot, most int, may func(*object.Pod) bool) []object.Placement {
	s.sync(v)
	k := s.kernel
	e := evening{k: k, used: make([]amounts, len(k.nodes)), has: make([]amounts, len(k.nodes)), open: make([]bool, len(k.nodes)), groups: make([][]*group, len(k.nodes))}
	for n := range k.nodes {
		x := &k.nodes[n]
		if e.open[n] = x.obj.Status.Condition == object.NodeReady && !x.obj.Spec.Unschedulable && !x.obj.Spec.Drain; !e.open[n] {
			continue
		}
		e.used[n], e.has[n] = amountsOf(x.used), amountsOf(x.has)
		byClass := map[*class]*group{}
		for p := range v.PodsOn(x.obj.Name) {
			t := v.Template(p)
			if t == nil || !may(p) {
				continue
			}
			c := k.class(p, t)
			if byClass[c] == nil {
				byClass[c] = &group{class: c, asks: amounts{int64(p.Spec.CPU), int64(p.Spec.Memory >> 10), 1}}
				e.groups[n] = append(e.groups[n], byClass[c])
			}
			byClass[c].pods = append(byClass[c].pods, p.Ref())
		}
	}
	var out []object.Placement
	for len(out) < most {
		from, g, to := e.next()
		if g == nil {
			break
		}
		out = append(out, object.Placement{Pod: g.pods[0], Node: k.nodes[to].obj.Name, Workload: g.class.key.set})
		g.pods = g.pods[1:]
		e.used[from], e.used[to] = e.used[from].plus(g.asks, -1), e.used[to].plus(g.asks, 1)
		k.bind(g.class, to)
	}
	s.kernel = nil // it has replacements bound that the snapshot does not know
	return out
}

// group is the pods of a node that are alike and may be moved, in their order.
type group struct {
	class *class
	asks  amounts
	pods  []object.Ref
}

// evening is nodes with their use as it would be after the moves so far.
type evening struct {
	k         *kernel
	used, has []amounts
	open      []bool
	groups    [][]*group
}

// next is the move that makes the use most even, or a nil group if none does.
func (e *evening) next() (from int32, best *group, to int32) {
	mean := e.mean()
	targets := map[*class]int32{}
	var most int64
	for n := range e.groups {
		if !e.above(n, mean) {
			continue
		}
		for _, g := range e.groups[n] {
			if len(g.pods) == 0 {
				continue
			}
			b, known := targets[g.class]
			if !known {
				b, _ = e.k.best(g.class)
				targets[g.class] = b
			}
			if b < 0 || int(b) == n || !e.open[b] {
				continue
			}
			gain := uneven(e.used[n], e.has[n]) + uneven(e.used[b], e.has[b]) -
				uneven(e.used[n].plus(g.asks, -1), e.has[n]) - uneven(e.used[b].plus(g.asks, 1), e.has[b])
			if gain > most {
				from, best, to, most = int32(n), g, b, gain
			}
		}
	}
	return from, best, to
}

// mean is the share of all nodes together that is used.
func (e *evening) mean() (mean amounts) {
	var used, has amounts
	for n := range e.open {
		if e.open[n] {
			used, has = used.plus(e.used[n], 1), has.plus(e.has[n], 1)
		}
	}
	for i := range mean {
		for has[i] > 1<<40 { // a large cluster's memory, by whole, is too much for 64 bits
			used[i], has[i] = used[i]/2, has[i]/2
		}
		if has[i] > 0 {
			mean[i] = used[i] * whole / has[i]
		}
	}
	return mean
}

// above reports whether a node is more used than the mean by more than is tolerated.
func (e *evening) above(n int, mean amounts) bool {
	if !e.open[n] {
		return false
	}
	for i := range mean {
		if e.has[n][i] > 0 && e.used[n][i]*whole/e.has[n][i] > mean[i]+tolerance {
			return true
		}
	}
	return false
}
