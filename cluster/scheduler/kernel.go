package scheduler

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// point is the inner unit of scores: thousandths of a point.
const point = 1000

// The kernel finds the exact best node without looking at every node.
//
//	class   pods that are placed alike: one set, one template, one ask, one set of labels
//	shape   what classes have in common when only set and labels differ: asks,
//	        constraints, ports, spread. It owns the trees.
//	demand  the part of a shape that depends on node objects alone
//
// A shape keeps, for each part of its partition (usually: each zone), a
// tournament tree over the scores of the part's nodes. Each bind and unbind
// appends the node to one shared log; a shape re-scores only the nodes in the
// part of the log that it has not read. At any time the trees are laid out for
// one class of the shape; for another class the nodes on which either has a
// count of its own are re-scored. The best node is the maximum over parts of
// root + part term, ties to the lowest node index.
//
// That is right because score(n, class) reads only node n, what is bound to it
// and the class's counts on it; part terms are constant inside a part; numbers
// are integers. TestKernelEqualsNaive holds it against a plain loop.
type kernel struct {
	policy *Policy
	opaque bool
	nodes  []node // ordered by name

	classes   map[classKey]*class
	classesBy map[pair][]*class
	count     int // of classes
	sets      map[object.Ref]*tally
	shapes    map[string]*shape
	demands   map[string]*demand
	domains   map[string]*domain
	parts     map[string]*partition
	terms     map[termKey]*term
	termsBy   map[pair][]*term

	log   []int32 // nodes touched, oldest first
	base  int     // position of log[0]
	round uint64
	cells int // in trees and static tables, against maxCells
}

// maxCells bounds the memory of all trees and tables, at 8 bytes each.
const maxCells = 1 << 23

// node begins with what score reads, in one cache line.
type node struct {
	used state.Usage
	has  state.Usage
	// cpu and memory are shares per unit, in thousandths << 32, so that scoring
	// does not divide; memory in KiB.
	cpu, memory int64

	obj     *object.Node
	tenancy *state.Tenancy // that used, ports and pods were read at
	ports   []hostPort
	pods    []*class
}

type hostPort struct {
	protocol string
	port     int
}

type classKey struct {
	set    object.Ref // the owner, or the pod itself if it has none
	tmpl   *object.PodTemplate
	cpu    object.CPU
	memory object.Bytes
}

type class struct {
	key       classKey
	next      *class // same key, other labels or limits
	namespace string
	within    string // where alone it may be placed: the key of its pods' limit
	template  string
	labels    map[string]string
	shape     *shape
	set       *tally  // pods of the same owner
	avoids    []wish  // what it keeps away from
	in        []*term // terms that speak of it
	live      int     // bound pods
	queue     []*object.Pod
}

type shape struct {
	*demand
	ask        Ask
	ports      []hostPort
	spreadNode int64 // thousandths lost for each pod of the set on the node
	spread     []domainWeight
	partition  *partition
	trees      forest // nil when not built
	laid       *class // whose counts are in the trees
	read       int    // position in the log
	round      uint64 // last use
	unfit      string // why it fits nowhere, as of unfitAt in the log
	unfitAt    int
}

type domainWeight struct {
	d      *domain
	weight int64 // thousandths lost for each pod of the set in the domain
}

func newKernel(p *Policy, nodes []*object.Node) *kernel {
	k := &kernel{
		policy: p, opaque: p.opaque(), nodes: make([]node, len(nodes)),
		classes: map[classKey]*class{}, classesBy: map[pair][]*class{}, sets: map[object.Ref]*tally{},
		shapes: map[string]*shape{}, demands: map[string]*demand{}, domains: map[string]*domain{}, parts: map[string]*partition{},
		terms: map[termKey]*term{}, termsBy: map[pair][]*term{}, round: 1,
	}
	for i, n := range nodes {
		k.nodes[i].put(n)
	}
	return k
}

func (n *node) put(o *object.Node) {
	n.obj = o
	n.has = state.Usage{CPU: o.Status.CPU, Memory: o.Status.Memory, Pods: o.Status.Pods}
	n.cpu, n.memory = reciprocal(int64(o.Status.CPU)), reciprocal(int64(o.Status.Memory)>>10)
}

func reciprocal(capacity int64) int64 {
	if capacity <= 0 {
		return 0
	}
	return 1000 << 32 / capacity
}

// domain returns the partition of the nodes by an attribute.
func (k *kernel) domain(key string) *domain {
	if d := k.domains[key]; d != nil {
		return d
	}
	d := &domain{key: key, values: map[string]int32{"": 0}, of: make([]int32, len(k.nodes))}
	for i := range k.nodes {
		v, _ := k.nodes[i].obj.Attribute(key)
		x, ok := d.values[v]
		if !ok {
			x = int32(len(d.values))
			d.values[v] = x
		}
		d.of[i] = x
	}
	k.domains[key] = d
	return d
}

// class returns the class of a pod, making it if need be.
func (k *kernel) class(p *object.Pod, t *object.PodTemplate) *class {
	set := p.Owner
	if set.IsZero() {
		set = p.Ref()
	}
	key := classKey{set, t, p.Spec.CPU, p.Spec.Memory}
	limit := p.Spec.Within
	if p.Spec.Node != "" {
		limit = nil // it said where to begin, not where to stay
	}
	within, head := limit.Key(), k.classes[key]
	for c := head; c != nil; c = c.next {
		if c.namespace == p.Namespace && c.within == within && maps.Equal(c.labels, p.Labels) {
			return c
		}
	}
	c := &class{key: key, next: head, namespace: p.Namespace, within: within, template: p.Spec.Template, labels: p.Labels, set: k.sets[set]}
	if c.set == nil {
		c.set = newTally()
		k.sets[set] = c.set
	}
	c.shape = k.shape(c, t, limit)
	for i := range t.Avoid {
		a := &t.Avoid[i]
		c.avoids = append(c.avoids, wish{k.term(c.namespace, a), min(max(int64(a.Prefer), 0), MaxPoints) * point})
	}
	for _, by := range pairsOf(c) {
		for _, t := range k.termsBy[by] {
			if t.matches(c) {
				c.in = append(c.in, t)
			}
		}
		k.classesBy[by] = append(k.classesBy[by], c)
	}
	k.classes[key] = c
	k.count++
	return c
}

// shape returns the shared shape of a class.
func (k *kernel) shape(c *class, t *object.PodTemplate, limit *object.Within) *shape {
	s := &shape{
		demand: k.demand(t, limit),
		ask:    Ask{Namespace: c.namespace, CPU: c.key.cpu, Memory: c.key.memory, Template: t},
	}
	for _, containers := range [][]object.Container{t.Init, t.Containers} {
		for i := range containers {
			for _, p := range containers[i].Ports {
				if p.HostPort != 0 {
					s.ports = append(s.ports, hostPort{cmp.Or(p.Protocol, "tcp"), p.HostPort})
				}
			}
		}
	}
	// Every partition has the zone, for other pods' wishes may speak of zones.
	keys := []string{"zone"}
	if len(t.Spread) == 0 {
		s.spreadNode = int64(k.policy.SpreadNode) * point
		s.spread = []domainWeight{{k.domain("zone"), int64(k.policy.SpreadZone) * point}}
	}
	for _, x := range t.Spread {
		w := min(max(int64(x.Weight), 0), MaxPoints) * point
		if x.Over == "node" {
			s.spreadNode += w
			continue
		}
		s.spread = append(s.spread, domainWeight{k.domain(x.Over), w})
		if !slices.Contains(keys, x.Over) {
			keys = append(keys, x.Over)
		}
	}
	var key strings.Builder
	fmt.Fprintf(&key, "%p %d %d %v %d", s.demand, s.ask.CPU, s.ask.Memory, s.ports, s.spreadNode)
	for _, x := range s.spread {
		fmt.Fprintf(&key, " %q %d", x.d.key, x.weight)
	}
	if k.opaque {
		fmt.Fprintf(&key, " %p %q", t, c.namespace)
	}
	if old := k.shapes[key.String()]; old != nil {
		return old
	}
	by := fmt.Sprintf("%q", keys)
	if s.partition = k.parts[by]; s.partition == nil {
		domains := make([]*domain, len(keys))
		for i, x := range keys {
			domains[i] = k.domain(x)
		}
		s.partition = newPartition(len(k.nodes), domains)
		k.parts[by] = s.partition
	}
	k.shapes[key.String()] = s
	return s
}

// bind counts a pod of the class at a node.
func (k *kernel) bind(c *class, n int32) {
	x := &k.nodes[n]
	x.used.CPU += c.key.cpu
	x.used.Memory += c.key.memory
	x.used.Pods++
	x.pods = append(x.pods, c)
	x.ports = append(x.ports, c.shape.ports...)
	k.tally(c, n, 1)
}

// unbind takes one pod of the class from a node; false if there is none.
func (k *kernel) unbind(c *class, n int32) bool {
	x := &k.nodes[n]
	i := slices.Index(x.pods, c)
	if i < 0 {
		return false
	}
	x.pods = slices.Delete(x.pods, i, i+1)
	x.used.CPU -= c.key.cpu
	x.used.Memory -= c.key.memory
	x.used.Pods--
	for _, p := range c.shape.ports {
		if j := slices.Index(x.ports, p); j >= 0 {
			x.ports = slices.Delete(x.ports, j, j+1)
		}
	}
	k.tally(c, n, -1)
	return true
}

func (k *kernel) tally(c *class, n, delta int32) {
	c.live += int(delta)
	c.set.add(n, delta)
	for _, t := range c.in {
		t.matched.add(n, delta)
	}
	for _, w := range c.avoids {
		if w.prefer == 0 {
			w.holders.add(n, delta)
		}
	}
	k.touch(n)
}

// touch tells every shape that a node's scores may have changed.
func (k *kernel) touch(n int32) {
	if len(k.log) > 4*len(k.nodes)+16 {
		k.base += len(k.log)
		k.log = k.log[:0]
	}
	k.log = append(k.log, n)
}

// score is what a node is worth to a class, part terms left out, or none.
func (k *kernel) score(c *class, n int32) int64 {
	s, x := c.shape, &k.nodes[n]
	score := s.static[n]
	if score == none {
		return none
	}
	cpu, memory := x.used.CPU+s.ask.CPU, x.used.Memory+s.ask.Memory
	if (cpu > x.has.CPU && s.ask.CPU > 0) || (memory > x.has.Memory && s.ask.Memory > 0) || (x.has.Pods > 0 && x.used.Pods >= x.has.Pods) {
		return none
	}
	for _, p := range s.ports {
		if slices.Contains(x.ports, p) {
			return none
		}
	}
	used := min(1000, (int64(cpu)*x.cpu>>32+int64(memory>>10)*x.memory>>32)/2)
	score += int64(k.policy.Free)*(1000-used) + int64(k.policy.Pack)*used
	if s.spreadNode != 0 {
		score -= s.spreadNode * int64(c.set.nodes[n])
	}
	for _, w := range c.avoids {
		if w.zone {
			continue
		}
		if m := w.matched.nodes[n]; m > 0 {
			if w.prefer == 0 {
				return none
			}
			score -= w.prefer * int64(m)
		}
	}
	for _, t := range c.in {
		if !t.zone && t.holders.nodes[n] > 0 {
			return none
		}
	}
	if k.opaque {
		v := View{Node: x.obj, Used: x.used}
		for _, f := range k.policy.Filters {
			if f.Reject(s.ask, v) != "" {
				return none
			}
		}
		for _, f := range k.policy.Scores {
			score += min(max(f.Points(s.ask, v), -MaxPoints), MaxPoints) * point
		}
	}
	return score
}

// partScore is the term that the nodes of a part have in common, or none.
func (k *kernel) partScore(c *class, p *part) int64 {
	n := p.nodes[0]
	var score int64
	for _, x := range c.shape.spread {
		score -= x.weight * int64(c.set.in(x.d)[x.d.of[n]])
	}
	if len(c.avoids)+len(c.in) == 0 {
		return score
	}
	zone := k.domain("zone")
	for _, w := range c.avoids {
		if !w.zone {
			continue
		}
		if m := w.matched.in(zone)[zone.of[n]]; m > 0 {
			if w.prefer == 0 {
				return none
			}
			score -= w.prefer * int64(m)
		}
	}
	for _, t := range c.in {
		if t.zone && t.holders.in(zone)[zone.of[n]] > 0 {
			return none
		}
	}
	return score
}

// total is the whole score of a node, or none: what best maximises.
func (k *kernel) total(c *class, n int32) int64 {
	k.static(c.shape)
	local := k.score(c, n)
	common := k.partScore(c, &c.shape.partition.parts[c.shape.partition.part[n]])
	if local == none || common == none {
		return none
	}
	return local + common
}

// best is the node with the highest score, the lowest of them, or -1.
func (k *kernel) best(c *class) (int32, int64) {
	s := c.shape
	k.lay(c)
	node, high := int32(-1), int64(none)
	for i := range s.partition.parts {
		p := &s.partition.parts[i]
		root := s.trees[p.offset+1]
		if root == none {
			continue
		}
		common := k.partScore(c, p)
		if common == none || root+common < high {
			continue
		}
		n := s.trees.first(p)
		if root+common > high || n < node {
			node, high = n, root+common
		}
	}
	return node, high
}

// lay brings the trees of the class's shape up to date, for that class.
func (k *kernel) lay(c *class) {
	s := c.shape
	k.static(s)
	end := k.base + len(k.log)
	if s.trees == nil || s.read < k.base {
		k.rebuild(c)
		return
	}
	work := end - s.read
	if s.laid != c {
		work += k.counts(s.laid) + k.counts(c)
	}
	if work > len(k.nodes)/4+8 {
		k.rebuild(c)
		return
	}
	if s.laid != c {
		k.relay(c, s.laid)
		k.relay(c, c)
		s.laid = c
	}
	for _, n := range k.log[s.read-k.base:] {
		s.trees.set(s.partition, n, k.score(c, n))
	}
	s.read = end
}

// counts bounds the number of nodes whose score for the class differs from the
// score for one that has no pods and no wishes.
func (k *kernel) counts(c *class) int {
	n := len(c.set.nodes)
	for _, w := range c.avoids {
		n += len(w.matched.nodes)
	}
	for _, t := range c.in {
		n += len(t.holders.nodes)
	}
	return n
}

// relay re-scores for class c the nodes on which class of has counts.
func (k *kernel) relay(c, of *class) {
	s := c.shape
	again := func(nodes map[int32]int32) {
		for n := range nodes { // any order: each leaf is set to what it is
			s.trees.set(s.partition, n, k.score(c, n))
		}
	}
	again(of.set.nodes)
	for _, w := range of.avoids {
		if !w.zone {
			again(w.matched.nodes)
		}
	}
	for _, t := range of.in {
		if !t.zone {
			again(t.holders.nodes)
		}
	}
}

func (k *kernel) rebuild(c *class) {
	s := c.shape
	if s.trees == nil {
		k.room(s.partition.cells, s)
		s.trees = s.partition.forest()
	}
	for i := range s.partition.parts {
		p := &s.partition.parts[i]
		leaves := s.trees[p.offset+p.size:]
		for j, n := range p.nodes {
			leaves[j] = k.score(c, n)
		}
	}
	s.trees.build(s.partition)
	s.laid, s.read = c, k.base+len(k.log)
}

// static makes the demand's table of the shape, if it has none.
func (k *kernel) static(s *shape) {
	s.round, s.demand.round = k.round, k.round
	if s.static != nil {
		return
	}
	k.room(len(k.nodes), s)
	s.static = make([]int64, len(k.nodes))
	for i := range k.nodes {
		s.static[i] = s.eval(k.nodes[i].obj)
	}
}

// room makes room for more cells by dropping those of idle shapes, or if that is
// not enough of all but one: they are made again when they are needed.
func (k *kernel) room(cells int, keep *shape) {
	for _, all := range []bool{false, true} {
		if k.cells+cells <= maxCells {
			break
		}
		for _, s := range k.shapes {
			if s != keep && s.trees != nil && (all || s.round < k.round) {
				k.cells -= len(s.trees)
				s.partition.spare = append(s.partition.spare, s.trees)
				s.trees = nil
			}
		}
		for _, d := range k.demands {
			if d != keep.demand && d.static != nil && (all || d.round < k.round) {
				k.cells -= len(d.static)
				d.static = nil
			}
		}
	}
	k.cells += cells
}

// replace takes a new version of a node object; false if the node is in another
// domain now, so that the kernel must be made anew.
func (k *kernel) replace(n int32, o *object.Node) bool {
	for key, d := range k.domains {
		v, _ := o.Attribute(key)
		if x, ok := d.values[v]; !ok || x != d.of[n] {
			return false
		}
	}
	k.nodes[n].put(o)
	for _, d := range k.demands {
		if d.static != nil {
			d.static[n] = d.eval(o)
		}
	}
	k.touch(n)
	return true
}
