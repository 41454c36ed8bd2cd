package planner

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

const (
	// reachLines is how many changes of reachability a plan lists.
	reachLines = 50
	// reachPairs bounds the work: so many pairs of callers and services that policies
	// cannot tell apart from others are judged. A thousand applications that each
	// have a policy of their own stay below it.
	reachPairs = 1_500_000
)

// outsideAddress stands for the Internet: an address of no cluster, asked for https.
var outsideAddress = netip.MustParsePrefix("93.184.216.34/32")

const outsidePort = 443

// reachability finds out what a plan's policies, labels, namespaces and services
// make reachable or unreachable. Plans that change nothing of that cost nothing.
//
// Callers that no selector tells apart are judged once. Of two ends whose labels,
// namespaces and policies stay what they are, nothing can have changed.
func reachability(v *state.Snapshot, p *object.Plan, f *object.Forecast) {
	after := overlay{v: v, changed: make(map[object.Ref]object.Object, len(p.Changes))}
	for i := range p.Changes {
		after.changed[p.Changes[i].Ref] = p.Changes[i].After.Object
	}
	if !reachable(after, p) {
		return
	}
	r := &reach{keys: map[string]bool{}}
	r.was, r.is = newReachWorld(overlay{v: v}), newReachWorld(after)
	for _, w := range []*reachWorld{r.was, r.is} {
		for _, policy := range w.set.Policies {
			for k := range policy.Spec.Selector {
				r.keys[k] = true
			}
			for q := range policy.Spec.Peers() {
				for k := range q.Selector {
					r.keys[k] = true
				}
			}
		}
	}
	for _, w := range []*reachWorld{r.was, r.is} {
		w.fill(r.keys)
	}
	r.compare(f)
}

// reachable reports whether a plan can change who reaches whom: cheaply, by what
// it changes.
func reachable(after overlay, p *object.Plan) bool {
	some := false
	for i := range p.Changes {
		c := &p.Changes[i]
		switch c.Ref.Kind {
		case object.KindNetworkPolicy:
			return true
		case object.KindNamespace:
			if !sameNamespace(asNamespace(c.Before.Object), asNamespace(c.After.Object)) {
				return true
			}
		case object.KindDeployment, object.KindReplicaSet, object.KindPod:
			some = some || !sameParty(c.Before.Object, c.After.Object)
		case object.KindService, object.KindIngress:
			some = some || len(c.Fields) > 0 || c.Before.Object == nil || c.After.Object == nil
		}
	}
	if !some {
		return false
	}
	if after.v.Count(object.KindNetworkPolicy) > 0 {
		return true
	}
	for o := range after.all(object.KindNamespace) {
		if len(o.(*object.Namespace).Spec.Isolate) > 0 {
			return true
		}
	}
	return false
}

func asNamespace(o object.Object) *object.Namespace {
	ns, _ := o.(*object.Namespace)
	if ns == nil {
		return &object.Namespace{}
	}
	return ns
}

func sameNamespace(a, b *object.Namespace) bool {
	return a == b || maps.Equal(a.Labels, b.Labels) && slices.Equal(a.Spec.Isolate, b.Spec.Isolate)
}

// sameParty reports whether a workload is the same to policies and services.
func sameParty(a, b object.Object) bool {
	if a == nil || b == nil {
		return false
	}
	return maps.Equal(labelsOf(a), labelsOf(b)) && slices.Equal(object.TemplateOf(a).PortsOf(), object.TemplateOf(b).PortsOf())
}

// labelsOf are those that the pods of a workload carry.
func labelsOf(o object.Object) map[string]string {
	if p, ok := o.(*object.Pod); ok && len(p.Labels) > 0 {
		return p.Labels
	}
	if t := object.TemplateOf(o); t != nil {
		return t.Labels
	}
	return o.Head().Labels
}

// reachClass is parties that policies cannot tell apart.
type reachClass struct {
	name    string // equal in both worlds for what has equal labels and ports
	party   object.Party
	space   *object.Namespace
	in, out []*object.NetworkPolicy // that hold for it
}

func (c *reachClass) same(o *reachClass) bool {
	return c == o || c != nil && o != nil && c.name == o.name && sameNamespace(c.space, o.space) && slices.Equal(c.in, o.in) && slices.Equal(c.out, o.out)
}

// reachWorld is who is there at one time.
type reachWorld struct {
	o         overlay
	set       object.PolicySet
	policies  map[string][]*object.NetworkPolicy // by namespace and first label of the selector
	pods      netip.Prefix
	classes   map[string]*reachClass
	workloads map[object.Ref]*reachClass
	targets   map[reachTarget]*reachPlace
}

// mark is a selector's first label in a namespace, under which to look it up.
func mark(namespace string, selector map[string]string) string {
	if len(selector) == 0 {
		return namespace
	}
	k := slices.Min(slices.Collect(maps.Keys(selector)))
	return namespace + "\x00" + k + "\x00" + selector[k]
}

// marks are those under which selectors that pick these labels may stand.
func marks(namespace string, labels map[string]string) []string {
	out := []string{namespace}
	for k, v := range labels {
		out = append(out, namespace+"\x00"+k+"\x00"+v)
	}
	return out
}

// reachTarget is a port of a service, or the world outside.
type reachTarget struct {
	to       object.Ref
	port     int
	protocol string
}

// reachPlace is where a target leads to.
type reachPlace struct {
	backends []reachBackend
	outside  bool // callers from outside come as who they are
	nodes    bool // callers come from nodes
	key      string
}

type reachBackend struct {
	class *reachClass
	port  int
}

func newReachWorld(o overlay) *reachWorld {
	w := &reachWorld{o: o, policies: map[string][]*object.NetworkPolicy{}, classes: map[string]*reachClass{}, workloads: map[object.Ref]*reachClass{},
		targets: map[reachTarget]*reachPlace{}, set: object.PolicySet{Namespaces: map[string]*object.Namespace{}}}
	for x := range o.all(object.KindNetworkPolicy) {
		p := x.(*object.NetworkPolicy)
		w.set.Policies = append(w.set.Policies, p)
		m := mark(p.Namespace, p.Spec.Selector)
		w.policies[m] = append(w.policies[m], p)
	}
	for x := range o.all(object.KindNamespace) {
		w.set.Namespaces[x.Head().Name] = x.(*object.Namespace)
	}
	if n, ok := o.get(networkRef).(*object.Network); ok {
		w.pods, _ = object.Prefix(n.Spec.Pods)
	}
	return w
}

// fill gathers workloads and what services lead to; keys are the labels that any
// policy asks for.
func (w *reachWorld) fill(keys map[string]bool) {
	sorted := slices.Sorted(maps.Keys(keys))
	byMark := map[string][]object.Object{}
	for _, k := range []object.Kind{object.KindDeployment, object.KindReplicaSet, object.KindPod} {
		for o := range w.o.all(k) {
			if !o.Head().Owner.IsZero() {
				continue // its owner speaks for it
			}
			if p, ok := o.(*object.Pod); ok {
				o = w.o.v.Expand(p)
			}
			ns := o.Head().Namespace
			for _, m := range marks(ns, labelsOf(o)) {
				byMark[m] = append(byMark[m], o)
			}
			w.workloads[o.Ref()] = w.class(sorted, object.Party{Namespace: ns, Labels: labelsOf(o), Addresses: w.pods, Ports: object.TemplateOf(o).PortsOf()})
		}
	}
	outside := w.class(nil, object.Party{Addresses: outsideAddress})
	w.workloads[object.ReachOutside] = outside
	w.workloads[object.ReachNodes] = w.class(nil, object.Party{Node: true, Addresses: w.nodes()})
	w.target(reachTarget{object.ReachOutside, outsidePort, "tcp"}, &reachPlace{backends: []reachBackend{{outside, outsidePort}}})
	entered := map[object.Ref]bool{}
	for x := range w.o.all(object.KindIngress) {
		i := x.(*object.Ingress)
		for _, path := range i.Spec.Paths {
			names := []string{path.Service}
			for _, b := range path.Backends {
				names = append(names, b.Service)
			}
			for _, n := range names {
				entered[object.Ref{Kind: object.KindService, Namespace: i.Namespace, Name: n}] = true
			}
		}
	}
	for x := range w.o.all(object.KindService) {
		s := x.(*object.Service)
		for _, sp := range s.Spec.Ports {
			place := &reachPlace{outside: s.Spec.Type == "node_port"}
			place.nodes = place.outside || entered[s.Ref()]
			for _, o := range byMark[mark(s.Namespace, s.Spec.Selector)] {
				if len(s.Spec.Selector) == 0 || !object.HasLabels(labelsOf(o), s.Spec.Selector) {
					continue
				}
				if n := targetPort(&sp, object.TemplateOf(o)); n != 0 {
					place.backends = append(place.backends, reachBackend{w.workloads[o.Ref()], n})
				}
			}
			if len(place.backends) > 0 {
				w.target(reachTarget{s.Ref(), sp.Port, sp.Protocol}, place)
			}
		}
	}
}

func (w *reachWorld) target(t reachTarget, place *reachPlace) {
	slices.SortFunc(place.backends, func(a, b reachBackend) int {
		return cmp.Or(cmp.Compare(a.class.name, b.class.name), cmp.Compare(a.port, b.port))
	})
	place.backends = slices.Compact(place.backends)
	var b strings.Builder
	fmt.Fprintf(&b, "%s %v %v", t.protocol, place.outside, place.nodes)
	for _, x := range place.backends {
		fmt.Fprintf(&b, "\x00%s\x00%d", x.class.name, x.port)
	}
	place.key = b.String()
	w.targets[t] = place
}

// targetPort is the number that a service's port has at a pod; 0 if the pod has none.
func targetPort(sp *object.ServicePort, t *object.PodTemplate) int {
	if sp.Target == "" {
		return sp.Port
	}
	if n, ok := sp.Target.Number(); ok {
		return n
	}
	for _, c := range t.PortsOf() {
		if c.Name == string(sp.Target) {
			return c.Port
		}
	}
	return 0
}

// nodes is the smallest range that has the addresses of all nodes.
func (w *reachWorld) nodes() netip.Prefix {
	var all netip.Prefix
	for x := range w.o.all(object.KindNode) {
		a, err := netip.ParseAddrPort(x.(*object.Node).Status.Address)
		if err != nil {
			continue
		}
		addr := a.Addr().Unmap()
		if !all.IsValid() {
			all = netip.PrefixFrom(addr, addr.BitLen())
		}
		for addr.Is4() == all.Addr().Is4() && !all.Contains(addr) {
			all, _ = all.Addr().Prefix(all.Bits() - 1)
		}
	}
	return all
}

// class is the class of a party; it is made when it is asked for first.
func (w *reachWorld) class(keys []string, p object.Party) *reachClass {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %v %s", p.Namespace, p.Node, p.Addresses)
	for _, k := range keys {
		if v, ok := p.Labels[k]; ok {
			b.WriteString(" " + k + "=" + v)
		}
	}
	for _, c := range p.Ports {
		fmt.Fprintf(&b, " %s:%d/%s", c.Name, c.Port, c.Transport())
	}
	name := b.String()
	if c := w.classes[name]; c != nil {
		return c
	}
	c := &reachClass{name: name, party: p, space: asNamespace(nil)}
	w.classes[name] = c
	if p.Namespace == "" {
		return c
	}
	if ns := w.set.Namespaces[p.Namespace]; ns != nil {
		c.space = ns
	}
	var hold []*object.NetworkPolicy
	for _, m := range marks(p.Namespace, p.Labels) {
		for _, policy := range w.policies[m] {
			if object.HasLabels(p.Labels, policy.Spec.Selector) {
				hold = append(hold, policy)
			}
		}
	}
	slices.SortFunc(hold, func(a, b *object.NetworkPolicy) int { return a.Ref().Compare(b.Ref()) })
	for _, policy := range hold {
		if policy.Spec.Isolates("ingress") {
			c.in = append(c.in, policy)
		}
		if policy.Spec.Isolates("egress") {
			c.out = append(c.out, policy)
		}
	}
	return c
}

// judge answers for all backends together: whoever is led to any of them must get
// through.
func (w *reachWorld) judge(from *reachClass, to *reachPlace, protocol string) object.Verdict {
	var last object.Verdict
	for _, b := range to.backends {
		set := object.PolicySet{Policies: from.out, Namespaces: w.set.Namespaces}
		if len(b.class.in) > 0 {
			set.Policies = slices.Concat(from.out, b.class.in)
		}
		v := set.Allows(from.party, b.class.party, protocol, b.port)
		if last = v; !v.Allowed {
			return v
		}
	}
	return last
}

// reach compares two worlds.
type reach struct {
	keys    map[string]bool
	was, is *reachWorld
}

type callers struct {
	refs    []object.Ref
	was, is *reachClass
	still   bool // nothing has changed about them
}

type places struct {
	targets []reachTarget
	was, is *reachPlace
	still   bool
}

// found is a change between some callers and some targets.
type found struct {
	places *places
	isNew  bool
	now    object.Verdict
}

func (x *found) because() string {
	switch {
	case !x.now.Allowed:
		return fmt.Sprintf("%s isolates %s, and nothing allows it", x.now.By.Address(), x.now.At)
	case x.now.By.IsZero():
		return "nothing isolates them any more"
	}
	return x.now.By.Address() + " allows it"
}

func (r *reach) compare(f *object.Forecast) {
	from, to := r.callers(), r.places()
	changes := map[*callers][]found{}
	total, pairs := 0, 0
	for _, c := range from {
		for _, t := range to {
			if c.still && t.still || !t.takes(c) {
				continue
			}
			if pairs++; pairs > reachPairs {
				f.ReachCut = true
				break
			}
			x, changed := r.judge(c, t)
			if !changed {
				continue
			}
			total += len(c.refs) * len(t.targets)
			// Callers come in the order of their first members: those of the first lines
			// are enough for the list.
			if len(changes) < reachLines || changes[c] != nil {
				changes[c] = append(changes[c], x)
			}
		}
	}
	groups := map[object.Ref]*callers{}
	for c := range changes {
		for _, ref := range c.refs {
			groups[ref] = c
		}
	}
	for _, ref := range slices.SortedFunc(maps.Keys(groups), object.Ref.Compare) {
		var lines []object.ReachChange
		for _, x := range changes[groups[ref]] {
			for _, t := range x.places.targets {
				lines = append(lines, object.ReachChange{From: ref, To: t.to, Port: t.port, Protocol: t.protocol, Allowed: x.now.Allowed, New: x.isNew, Because: x.because()})
			}
		}
		slices.SortFunc(lines, func(a, b object.ReachChange) int {
			return cmp.Or(a.To.Compare(b.To), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
		})
		f.Reach = append(f.Reach, lines[:min(len(lines), reachLines-len(f.Reach))]...)
		if len(f.Reach) == reachLines {
			break
		}
	}
	f.ReachMore = total - len(f.Reach)
}

func (p *reachPlace) same(o *reachPlace) bool {
	return p != nil && o != nil && p.key == o.key && slices.EqualFunc(p.backends, o.backends, func(a, b reachBackend) bool { return a.class.same(b.class) })
}

// takes reports whether such callers come to a target at all.
func (t *places) takes(c *callers) bool {
	switch c.refs[0] {
	case object.ReachOutside:
		return t.is != nil && t.is.outside
	case object.ReachNodes:
		return t.is != nil && t.is.nodes
	}
	return true
}

// judge compares before and after. What is new is compared with how it would be
// without policies, within its namespace: there a surprise is worth a line.
func (r *reach) judge(c *callers, t *places) (found, bool) {
	if c.is == nil || t.is == nil {
		return found{}, false
	}
	protocol := t.targets[0].protocol
	x := found{places: t, isNew: c.was == nil || t.was == nil}
	before := object.Verdict{Allowed: true}
	if !x.isNew {
		before = r.was.judge(c.was, t.was, protocol)
	} else if a, b := c.is.party.Namespace, t.is.backends[0].class.party.Namespace; a != "" && b != "" && a != b {
		return found{}, false
	}
	x.now = r.is.judge(c.is, t.is, protocol)
	return x, before.Allowed != x.now.Allowed
}

// callers are the workloads of both times, by class.
func (r *reach) callers() []*callers {
	return grouped(r.was.workloads, r.is.workloads, object.Ref.Compare,
		func(ref object.Ref, was, is *reachClass) string {
			key := ""
			if ref == object.ReachOutside || ref == object.ReachNodes {
				key = ref.Name
			}
			for _, c := range []*reachClass{was, is} {
				key += "\x01"
				if c != nil {
					key += c.name
				}
			}
			return key
		},
		func(refs []object.Ref, was, is *reachClass) *callers { return &callers{refs, was, is, was.same(is)} })
}

// places are the targets of both times, by where they lead.
func (r *reach) places() []*places {
	return grouped(r.was.targets, r.is.targets, func(a, b reachTarget) int {
		return cmp.Or(a.to.Compare(b.to), cmp.Compare(a.port, b.port), cmp.Compare(a.protocol, b.protocol))
	},
		func(_ reachTarget, was, is *reachPlace) string {
			key := ""
			for _, p := range []*reachPlace{was, is} {
				key += "\x01"
				if p != nil {
					key += p.key
				}
			}
			return key
		},
		func(targets []reachTarget, was, is *reachPlace) *places {
			return &places{targets, was, is, was.same(is)}
		})
}

// grouped puts together what has the same key, in a fixed order.
func grouped[K comparable, V any, G any](was, is map[K]*V, order func(a, b K) int, key func(k K, was, is *V) string, group func(members []K, was, is *V) G) []G {
	all := maps.Clone(is)
	for k := range was {
		if _, ok := all[k]; !ok {
			all[k] = nil
		}
	}
	members := map[string][]K{}
	var keys []string
	for _, k := range slices.SortedFunc(maps.Keys(all), order) {
		s := key(k, was[k], is[k])
		if members[s] == nil {
			keys = append(keys, s)
		}
		members[s] = append(members[s], k)
	}
	var out []G
	for _, s := range keys {
		first := members[s][0]
		out = append(out, group(members[s], was[first], is[first]))
	}
	return out
}
