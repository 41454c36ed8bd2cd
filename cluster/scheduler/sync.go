package scheduler

import (
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
	last, whole := s.last, len(s.stale) == 0
	s.last, s.stale = v, s.stale[:0]
	if !v.SameObjects(last, object.KindNode) && !s.renode(v) {
		s.reset(v)
		return
	}
	if !whole || !v.SameTenancies(last) {
		s.reread(v)
	}
}

// renode takes over node objects that changed; false if the kernel has to be
// made anew.
func (s *Scheduler) renode(v *state.Snapshot) bool {
	k, i := s.kernel, 0
	for o := range state.All[*object.Node](v, object.KindNode) {
		if i == len(k.nodes) || (k.nodes[i].obj != o && (k.nodes[i].obj.Name != o.Name || !k.replace(int32(i), o))) {
			return false
		}
		i++
	}
	return i == len(k.nodes)
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
// the pods of the nodes where they differ from what the kernel knows. Names are
// looked at only there: a tenancy belongs to one node.
func (s *Scheduler) reread(v *state.Snapshot) {
	nodes, i := s.kernel.nodes, 0
	for name, tenancy := range v.Tenancies() {
		for i < len(nodes) && nodes[i].tenancy != tenancy && nodes[i].obj.Name < name {
			s.read(v, int32(i), nil)
			i++
		}
		if i < len(nodes) && (nodes[i].tenancy == tenancy || nodes[i].obj.Name == name) { // else the node is gone
			s.read(v, int32(i), tenancy)
			i++
		}
	}
	for ; i < len(nodes); i++ {
		s.read(v, int32(i), nil)
	}
}

// read makes what the kernel knows of a node's pods what the snapshot says.
func (s *Scheduler) read(v *state.Snapshot, i int32, tenancy *state.Tenancy) {
	k := s.kernel
	n := &k.nodes[i]
	if n.tenancy == tenancy {
		return
	}
	n.tenancy = tenancy
	for len(n.pods) > 0 {
		k.unbind(n.pods[len(n.pods)-1], i)
	}
	if tenancy == nil {
		return
	}
	for p := range v.PodsOn(n.obj.Name) {
		if p.Terminal() && !p.Returns() {
			continue
		}
		t := v.Template(p)
		if t == nil {
			t = nothing
			s.stale = append(s.stale, i)
		}
		k.bind(k.class(p, t), i)
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
