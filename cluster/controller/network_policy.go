package controller

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// networkPolicies turn network policies, and the isolation of namespaces, into
// rules about addresses. A key is the address of the rules.
//
// The rules name whom a policy lets in or out, not the pods that it holds for:
// each node knows its own. So a pod that comes or goes costs the policies that
// have it among their peers, and nothing where nobody asks for it.
type networkPolicies struct{}

const (
	// rulesLarge is how many addresses make rules large, and rulesPause how long
	// large rules rest between two versions: with a wave of pods they are sent to
	// all nodes a few times, not once for each pod.
	rulesLarge = 256
	rulesPause = 250 * time.Millisecond
)

func (networkPolicies) Name() string { return "network_policy" }

func rulesOf(namespace, policy string) object.Ref {
	return object.Ref{Kind: object.KindPolicyRules, Namespace: namespace, Name: policy}
}

func (networkPolicies) Inputs() []Input {
	return []Input{
		{Kind: object.KindNetworkPolicy, Keys: func(_ *state.Snapshot, e state.Event) []object.Ref {
			return []object.Ref{rulesOf(e.Ref.Namespace, e.Ref.Name)}
		}},
		{Kind: object.KindNamespace, Keys: func(v *state.Snapshot, e state.Event) []object.Ref {
			before, _ := e.Before.(*object.Namespace)
			after, _ := e.After.(*object.Namespace)
			var keys []object.Ref
			if !slices.Equal(isolated(before), isolated(after)) {
				keys = append(keys, rulesOf(e.Ref.Name, object.NamespaceRules))
			}
			if before != nil && after != nil && maps.Equal(before.Labels, after.Labels) {
				return keys
			}
			return append(keys, policiesWith(v, func(q *object.PolicyPeer) bool {
				return len(q.NamespaceSelector) > 0 && q.Covers("", e.Ref.Name, before) != q.Covers("", e.Ref.Name, after)
			})...)
		}},
		{Kind: object.KindPod, Keys: func(v *state.Snapshot, e state.Event) []object.Ref {
			before, _ := e.Before.(*object.Pod)
			after, _ := e.After.(*object.Pod)
			if addressed(before) == addressed(after) && (before == nil || after == nil || maps.Equal(before.Labels, after.Labels)) {
				return nil
			}
			var keys []object.Ref
			for _, p := range []*object.Pod{before, after} {
				if addressed(p) == (location{}) {
					continue
				}
				for policy := range v.PoliciesAbout(p.Namespace, p.Labels) {
					if key := rulesOf(policy.Namespace, policy.Name); !slices.Contains(keys, key) && picks(v, policy, p) {
						keys = append(keys, key)
					}
				}
			}
			return keys
		}},
		{Kind: object.KindNode, Keys: func(v *state.Snapshot, e state.Event) []object.Ref {
			before, _ := e.Before.(*object.Node)
			after, _ := e.After.(*object.Node)
			if slices.Equal(nodeAddresses(before), nodeAddresses(after)) {
				return nil
			}
			return policiesWith(v, func(q *object.PolicyPeer) bool { return q.Nodes })
		}},
	}
}

func (networkPolicies) Outputs() []object.Kind { return []object.Kind{object.KindPolicyRules} }

func isolated(ns *object.Namespace) []string {
	if ns == nil {
		return nil
	}
	return ns.Spec.Isolate
}

// policiesWith are the rules of the policies that have such a peer.
func policiesWith(v *state.Snapshot, such func(*object.PolicyPeer) bool) []object.Ref {
	var keys []object.Ref
	for p := range state.All[*object.NetworkPolicy](v, object.KindNetworkPolicy) {
		for q := range p.Spec.Peers() {
			if such(q) {
				keys = append(keys, rulesOf(p.Namespace, p.Name))
				break
			}
		}
	}
	return keys
}

// picks reports whether a pod is among the peers of a policy.
func picks(v *state.Snapshot, policy *object.NetworkPolicy, p *object.Pod) bool {
	ns, _ := state.Find[*object.Namespace](v, object.Ref{Kind: object.KindNamespace, Name: p.Namespace})
	for q := range policy.Spec.Peers() {
		if q.CIDR == "" && !q.Nodes && object.HasLabels(p.Labels, q.Selector) && q.Covers(policy.Namespace, p.Namespace, ns) {
			return true
		}
	}
	return false
}

// location is all of a pod that rules about it depend on, besides its labels.
type location struct {
	created           uint64
	address, template string
}

// addressed is where packets of a pod come from; the zero location is nowhere. A
// pod that is stopping still ends its work, and one on a lost node may live on.
func addressed(p *object.Pod) location {
	if p == nil || p.Status.Address == "" || p.Terminal() && p.Status.Phase != object.PodLost {
		return location{}
	}
	return location{p.Created, p.Status.Address, p.Spec.Template}
}

// nodeAddresses are those that packets of a node itself may come from: its own,
// and what it has in the range of its pods.
func nodeAddresses(n *object.Node) []netip.Addr {
	if n == nil {
		return nil
	}
	var out []netip.Addr
	if a, err := netip.ParseAddrPort(n.Status.Address); err == nil {
		out = append(out, a.Addr().Unmap())
	}
	if r, err := netip.ParsePrefix(n.Spec.PodRange); err == nil {
		out = append(out, r.Masked().Addr(), r.Masked().Addr().Next())
	}
	return out
}

func (networkPolicies) Reconcile(v *state.Snapshot, key object.Ref, now time.Time) (Result, error) {
	w := begin("network_policy", v, now)
	have, exists := state.Find[*object.PolicyRules](v, key)
	want := &object.PolicyRules{Meta: object.Meta{Kind: object.KindPolicyRules, Namespace: key.Namespace, Name: key.Name}}
	var of object.Object
	if key.Name == object.NamespaceRules {
		ns, ok := state.Find[*object.Namespace](v, object.Ref{Kind: object.KindNamespace, Name: key.Namespace})
		if ok && len(ns.Spec.Isolate) > 0 {
			of = ns
			if slices.Contains(ns.Spec.Isolate, "ingress") {
				want.Spec.Ingress = &object.PolicyRuleSet{}
			}
			if slices.Contains(ns.Spec.Isolate, "egress") {
				want.Spec.Egress = &object.PolicyRuleSet{}
			}
		}
	} else if p, ok := state.Find[*object.NetworkPolicy](v, object.Ref{Kind: object.KindNetworkPolicy, Namespace: key.Namespace, Name: key.Name}); ok {
		of, want.Spec = p, resolvePolicy(v, p)
	}
	if of == nil {
		if exists {
			w.because("nothing isolates by the name of %s any more", key.Name)
			w.Changes.Delete(have)
		}
		return w.done()
	}
	want.Stack, want.Owner = of.Head().Stack, of.Ref()
	w.because("peers of %s", of.Ref().Address())
	switch {
	case !exists:
		w.Changes.Create(want)
	case reflect.DeepEqual(have.Spec, want.Spec) && have.Stack == want.Stack && have.Owner == want.Owner:
	case now.Before(have.ChangedAt.Add(rulesPause)) && addressesIn(&have.Spec) > rulesLarge && of.Head().Version < have.Version:
		w.wake(have.ChangedAt.Add(rulesPause))
	default:
		w.Changes.Update(have, want)
	}
	return w.done()
}

func addressesIn(s *object.PolicyRulesSpec) int {
	n := 0
	for _, set := range []*object.PolicyRuleSet{s.Ingress, s.Egress} {
		if set != nil {
			for i := range set.Rules {
				n += len(set.Rules[i].Peers)
			}
		}
	}
	return n
}

func resolvePolicy(v *state.Snapshot, p *object.NetworkPolicy) object.PolicyRulesSpec {
	spec := object.PolicyRulesSpec{Selector: p.Spec.Selector}
	if p.Spec.Isolates("ingress") {
		spec.Ingress = &object.PolicyRuleSet{}
		for _, r := range p.Spec.Ingress {
			var ports []object.ResolvedPort
			for _, x := range r.Ports {
				if n, ok := x.Port.Number(); ok {
					ports = append(ports, object.ResolvedPort{Protocol: x.Protocol, From: n, To: max(n, x.To)})
				} else {
					ports = append(ports, object.ResolvedPort{Protocol: x.Protocol, Name: string(x.Port)})
				}
			}
			spec.Ingress.Rules = append(spec.Ingress.Rules, rulesFor(resolvePeers(v, p, r.From), ports)...)
		}
	}
	if p.Spec.Isolates("egress") {
		spec.Egress = &object.PolicyRuleSet{}
		for _, r := range p.Spec.Egress {
			peers := resolvePeers(v, p, r.To)
			ports, none := egressPorts(v, r.Ports, peers)
			if !none {
				spec.Egress.Rules = append(spec.Egress.Rules, rulesFor(peers, ports)...)
			}
		}
	}
	return spec
}

// resolvedPeers is who a rule speaks of.
type resolvedPeers struct {
	anybody bool
	pods    []*object.Pod
	ranges  []string            // of nodes, and of cidr without except
	cut     []object.PolicyPeer // of cidr with except
}

func resolvePeers(v *state.Snapshot, p *object.NetworkPolicy, peers []object.PolicyPeer) resolvedPeers {
	r := resolvedPeers{anybody: len(peers) == 0}
	for _, q := range peers {
		switch {
		case q.Nodes:
			for n := range state.All[*object.Node](v, object.KindNode) {
				for _, a := range nodeAddresses(n) {
					r.ranges = append(r.ranges, a.String())
				}
			}
		case q.CIDR != "" && len(q.Except) == 0:
			r.ranges = append(r.ranges, q.CIDR)
		case q.CIDR != "":
			r.cut = append(r.cut, q)
		default:
			for _, ns := range namespacesOf(v, p, &q) {
				r.pods = slices.AppendSeq(r.pods, podsIn(v, ns, q.Selector))
			}
		}
	}
	return r
}

// namespacesOf are those that a peer of pods means.
func namespacesOf(v *state.Snapshot, p *object.NetworkPolicy, q *object.PolicyPeer) []string {
	find := func(name string) *object.Namespace {
		ns, _ := state.Find[*object.Namespace](v, object.Ref{Kind: object.KindNamespace, Name: name})
		return ns
	}
	candidates := q.Namespaces
	switch {
	case len(candidates) > 0:
	case len(q.NamespaceSelector) == 0:
		candidates = []string{p.Namespace}
	default:
		for ns := range state.All[*object.Namespace](v, object.KindNamespace, state.WithLabels(q.NamespaceSelector)) {
			candidates = append(candidates, ns.Name)
		}
	}
	return slices.DeleteFunc(slices.Clone(candidates), func(name string) bool { return !q.Covers(p.Namespace, name, find(name)) })
}

// podsIn yields the pods of a namespace that have addresses and carry the labels.
func podsIn(v *state.Snapshot, namespace string, labels map[string]string) func(func(*object.Pod) bool) {
	all := v.PodsWith(namespace, labels)
	if len(labels) == 0 {
		all = state.All[*object.Pod](v, object.KindPod, state.InNamespace(namespace))
	}
	return func(yield func(*object.Pod) bool) {
		for p := range all {
			if addressed(p) != (location{}) && !yield(p) {
				return
			}
		}
	}
}

// egressPorts resolves names by the pods that have them; none means that there
// were ports, and nobody has any of them.
func egressPorts(v *state.Snapshot, ports []object.PolicyPort, peers resolvedPeers) (out []object.ResolvedPort, none bool) {
	for _, x := range ports {
		if n, ok := x.Port.Number(); ok {
			out = append(out, object.ResolvedPort{Protocol: x.Protocol, From: n, To: max(n, x.To)})
			continue
		}
		by := map[int][]string{}
		for _, p := range peers.pods {
			for _, c := range v.Template(p).PortsOf() {
				if c.Name == string(x.Port) && c.Transport() == x.Protocol {
					by[c.Port] = append(by[c.Port], p.Status.Address)
				}
			}
		}
		for _, n := range slices.Sorted(maps.Keys(by)) {
			out = append(out, object.ResolvedPort{Protocol: x.Protocol, From: n, To: n, Addresses: sortedRanges(by[n])})
		}
	}
	return out, len(ports) > 0 && len(out) == 0
}

// rulesFor are the rules of resolved peers: one, and one more for each range with
// a hole in it.
func rulesFor(peers resolvedPeers, ports []object.ResolvedPort) []object.PolicyRule {
	if peers.anybody {
		return []object.PolicyRule{{Anybody: true, Ports: ports}}
	}
	list := slices.Clone(peers.ranges)
	for _, p := range peers.pods {
		list = append(list, p.Status.Address)
	}
	var out []object.PolicyRule
	if list = sortedRanges(list); len(list) > 0 {
		out = append(out, object.PolicyRule{Peers: list, Ports: ports})
	}
	for _, q := range peers.cut {
		out = append(out, object.PolicyRule{Peers: []string{q.CIDR}, Except: sortedRanges(q.Except), Ports: ports})
	}
	return out
}

// sortedRanges orders addresses and ranges by number, each once.
func sortedRanges(list []string) []string {
	type item struct {
		p netip.Prefix
		s string
	}
	items := make([]item, 0, len(list))
	for _, s := range list {
		if p, ok := object.Prefix(s); ok {
			items = append(items, item{p, s})
		}
	}
	slices.SortFunc(items, func(a, b item) int { return a.p.Compare(b.p) })
	items = slices.CompactFunc(items, func(a, b item) bool { return a.p == b.p })
	out := make([]string, len(items))
	for i, x := range items {
		out[i] = x.s
	}
	return out
}
