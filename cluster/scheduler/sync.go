package scheduler

import (
	"iter"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// nothing stands in for the template of a bound pod whose template is gone: what
// the row says of cpu and memory still counts.
var nothing = &object.PodTemplate{}

// sync brings the kernel in step with a snapshot, of whatever store: it re-reads
// the nodes whose object or tenancy is another, and begins anew when nodes came,
// went or moved to another zone.
func (s *Scheduler) sync(v *state.Snapshot) {
	if s.kernel == nil {
		s.reset(v)
		return
	}
	k := s.kernel
	k.round++
	for _, n := range s.stale {
		k.nodes[n].tenancy = unknown
	}
	if len(s.stale) == 0 && v.SameNodes(s.last) {
		s.last = v
		return
	}
	s.stale, s.last = s.stale[:0], v
	i := 0
	for o := range state.All[*object.Node](v, object.KindNode) {
		if i == len(k.nodes) || k.nodes[i].obj.Name != o.Name || (k.nodes[i].obj != o && !k.replace(int32(i), o)) {
			s.reset(v)
			return
		}
		i++
	}
	if i != len(k.nodes) {
		s.reset(v)
		return
	}
	s.reread(v)
}

// unknown is the tenancy of a node that has to be read again.
var unknown = new(state.Tenancy)

func (s *Scheduler) reset(v *state.Snapshot) {
	var nodes []*object.Node
	for n := range state.All[*object.Node](v, object.KindNode) {
		nodes = append(nodes, n)
	}
	s.kernel, s.last, s.stale = newKernel(&s.policy, nodes), v, s.stale[:0]
	s.reread(v)
}

// reread walks nodes and tenancies side by side, both ordered by name, and reads
// the pods of the nodes where they differ from what the kernel knows.
func (s *Scheduler) reread(v *state.Snapshot) {
	k := s.kernel
	next, stop := iter.Pull2(v.Tenancies())
	defer stop()
	name, tenancy, more := next()
	for i := range k.nodes {
		n := &k.nodes[i]
		for more && name < n.obj.Name { // pods on a node that is gone
			name, tenancy, more = next()
		}
		var now *state.Tenancy
		if more && name == n.obj.Name {
			now = tenancy
		}
		if n.tenancy == now {
			continue
		}
		n.tenancy = now
		for len(n.pods) > 0 {
			k.unbind(n.pods[len(n.pods)-1], int32(i))
		}
		if now == nil {
			continue
		}
		for p := range v.PodsOn(n.obj.Name) {
			if p.Terminal() {
				continue
			}
			t := v.Template(p)
			if t == nil {
				t = nothing
			}
			k.bind(k.class(p, t), int32(i))
		}
	}
}

// tidy forgets everything once the classes that nobody uses outnumber the
// others: the next round reads the snapshot afresh, which gives the same answers.
func (s *Scheduler) tidy() {
	k := s.kernel
	if k.count < 2*s.live+4096 {
		return
	}
	s.live = 0
	for _, c := range k.classes {
		for ; c != nil; c = c.next {
			if c.live > 0 {
				s.live++
			}
		}
	}
	if k.count >= 2*s.live+4096 {
		s.kernel = nil
	}
}
