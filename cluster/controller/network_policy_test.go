package controller

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

var policyNamespaces = []string{"default", "shop", "tools"}

func drawLabels(t *rapid.T, what string) map[string]string {
	out := map[string]string{}
	for _, k := range []string{"app", "tier"} {
		if v := rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, what+" "+k); v != "" {
			out[k] = v
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func drawPeer(t *rapid.T) object.PolicyPeer {
	switch rapid.IntRange(0, 6).Draw(t, "peer") {
	case 0:
		return object.PolicyPeer{CIDR: rapid.SampledFrom([]string{"10.0.0.0/8", "10.0.0.0/28", "0.0.0.0/0", "10.0.0.3"}).Draw(t, "cidr")}
	case 1:
		return object.PolicyPeer{CIDR: "10.0.0.0/27", Except: []string{"10.0.0.4/30", "10.0.0.9"}}
	case 2:
		return object.PolicyPeer{Nodes: true}
	case 3:
		return object.PolicyPeer{Selector: drawLabels(t, "peer"), NamespaceSelector: map[string]string{"team": rapid.SampledFrom([]string{"x", "y"}).Draw(t, "team")}}
	case 4:
		return object.PolicyPeer{Selector: drawLabels(t, "peer"), Namespaces: rapid.SliceOfNDistinct(rapid.SampledFrom(policyNamespaces), 1, 2, rapid.ID).Draw(t, "namespaces")}
	}
	l := drawLabels(t, "peer")
	if l == nil {
		l = map[string]string{"app": "a"}
	}
	return object.PolicyPeer{Selector: l}
}

func drawPorts(t *rapid.T) []object.PolicyPort {
	return rapid.SliceOfN(rapid.SampledFrom([]object.PolicyPort{
		{Port: "80", Protocol: "tcp"}, {Port: "http", Protocol: "tcp"}, {Port: "dns", Protocol: "udp"}, {Port: "8000", To: 8080, Protocol: "tcp"}, {Port: "53", Protocol: "udp"},
	}), 0, 2).Draw(t, "ports")
}

func drawPolicy(t *rapid.T, ref object.Ref) *object.NetworkPolicy {
	p := &object.NetworkPolicy{Meta: object.Meta{Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name}, Spec: object.NetworkPolicySpec{Selector: drawLabels(t, "selector")}}
	p.Spec.Isolate = rapid.SampledFrom([][]string{nil, nil, {"ingress"}, {"egress"}, {"ingress", "egress"}}).Draw(t, "isolate")
	for range rapid.IntRange(0, 2).Draw(t, "ingress") {
		r := object.IngressRule{Ports: drawPorts(t)}
		for range rapid.IntRange(0, 2).Draw(t, "from") {
			r.From = append(r.From, drawPeer(t))
		}
		p.Spec.Ingress = append(p.Spec.Ingress, r)
	}
	for range rapid.IntRange(0, 2).Draw(t, "egress") {
		r := object.EgressRule{Ports: drawPorts(t)}
		for range rapid.IntRange(0, 2).Draw(t, "to") {
			r.To = append(r.To, drawPeer(t))
		}
		p.Spec.Egress = append(p.Spec.Egress, r)
	}
	return p
}

// rulesAllow reads PolicyRules as a node would, one rule after the other.
func rulesAllow(v *state.Snapshot, from, to object.Party, protocol string, port int) bool {
	direction := func(x, other object.Party, rules func(*object.PolicyRulesSpec) *object.PolicyRuleSet) bool {
		isolated := false
		for r := range state.All[*object.PolicyRules](v, object.KindPolicyRules, state.InNamespace(x.Namespace)) {
			set := rules(&r.Spec)
			if x.Namespace == "" || set == nil || !object.HasLabels(x.Labels, r.Spec.Selector) {
				continue
			}
			isolated = true
			for _, rule := range set.Rules {
				if !rule.Anybody && (!inRanges(rule.Peers, other.Addresses) || inRanges(rule.Except, other.Addresses)) {
					continue
				}
				if len(rule.Ports) == 0 || slices.ContainsFunc(rule.Ports, func(p object.ResolvedPort) bool {
					if p.Protocol != protocol || len(p.Addresses) > 0 && !inRanges(p.Addresses, to.Addresses) {
						return false
					}
					if p.Name != "" {
						return slices.ContainsFunc(to.Ports, func(c object.ContainerPort) bool {
							return c.Name == p.Name && c.Port == port && c.Transport() == protocol
						})
					}
					return p.From <= port && port <= p.To
				}) {
					return true
				}
			}
		}
		return !isolated
	}
	return direction(from, to, func(s *object.PolicyRulesSpec) *object.PolicyRuleSet { return s.Egress }) &&
		direction(to, from, func(s *object.PolicyRulesSpec) *object.PolicyRuleSet { return s.Ingress })
}

func inRanges(list []string, x netip.Prefix) bool {
	return slices.ContainsFunc(list, func(s string) bool {
		p, ok := object.Prefix(s)
		return ok && p.Contains(x.Addr())
	})
}

// policyWorld is policies, namespaces, pods and nodes that change at random.
type policyWorld struct {
	*world
	made int // pods
}

func newPolicyWorld(t fataler) *policyWorld {
	w := &policyWorld{world: newWorld(t, 0)}
	w.queue = NewQueue([]Controller{networkPolicies{}})
	for name, port := range map[string]int{"low": 80, "high": 8080} {
		w.put(&object.Template{Meta: object.Meta{Kind: object.KindTemplate, Namespace: "default", Name: name}, Spec: object.PodTemplate{Containers: []object.Container{
			{Name: "c", Ports: []object.ContainerPort{{Name: "http", Port: port, Protocol: "tcp"}, {Name: "dns", Port: 53, Protocol: "udp"}}}}}})
	}
	for _, ns := range policyNamespaces[1:] {
		for _, name := range []string{"low", "high"} {
			tmpl, _ := state.Find[*object.Template](w.view(), object.Ref{Kind: object.KindTemplate, Namespace: "default", Name: name})
			c := tmpl.Clone().(*object.Template)
			c.Namespace = ns
			w.put(c)
		}
	}
	return w
}

func (w *policyWorld) step(t *rapid.T) {
	ns := rapid.SampledFrom(policyNamespaces).Draw(t, "namespace")
	pick := func(k object.Kind) object.Object {
		all := slices.Collect(w.view().List(k))
		if len(all) == 0 {
			return nil
		}
		return rapid.SampledFrom(all).Draw(t, "which")
	}
	switch rapid.IntRange(0, 9).Draw(t, "step") {
	case 0, 1:
		w.put(drawPolicy(t, object.Ref{Kind: object.KindNetworkPolicy, Namespace: ns, Name: rapid.SampledFrom([]string{"p", "q"}).Draw(t, "name")}))
	case 2:
		if o := pick(object.KindNetworkPolicy); o != nil {
			w.apply(object.Changeset{Author: "test", Changes: []object.Change{{Op: object.OpDelete, Ref: o.Ref(), Prior: o.Head().Version}}})
		}
	case 3:
		o := &object.Namespace{Meta: object.Meta{Kind: object.KindNamespace, Name: ns}}
		if team := rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "team"); team != "" {
			o.Labels = map[string]string{"team": team}
		}
		o.Spec.Isolate = rapid.SampledFrom([][]string{nil, nil, {"ingress"}, {"egress"}}).Draw(t, "isolate")
		w.put(o)
	case 4:
		name := fmt.Sprintf("n%d", rapid.IntRange(1, 2).Draw(t, "node"))
		o := &object.Node{Meta: object.Meta{Kind: object.KindNode, Name: name}, Spec: object.NodeSpec{PodRange: "10.0." + name[1:] + ".0/24"}}
		w.put(o)
		old, _ := state.Find[*object.Node](w.view(), o.Ref())
		n := old.Clone().(*object.Node)
		n.Status.Address = fmt.Sprintf("192.0.2.%d:7443", rapid.IntRange(1, 3).Draw(t, "address"))
		var c object.Changeset
		c.UpdateStatus(old, n)
		w.apply(c)
	case 5:
		if o := pick(object.KindPod); o != nil { // it ends, or is lost
			n := o.Clone().(*object.Pod)
			n.Status.Phase = rapid.SampledFrom([]object.PodPhase{object.PodStopped, object.PodLost, object.PodRunning}).Draw(t, "phase")
			var c object.Changeset
			c.UpdateStatus(o, n)
			if !c.Empty() {
				w.apply(c)
			}
		}
	case 6:
		if o := pick(object.KindPod); o != nil {
			w.apply(object.Changeset{Author: "test", Changes: []object.Change{{Op: object.OpDelete, Ref: o.Ref(), Prior: o.Head().Version}}})
		}
	default:
		if w.made > 20 {
			return
		}
		w.made++
		p := &object.Pod{Meta: object.Meta{Kind: object.KindPod, Namespace: ns, Name: fmt.Sprintf("p%d", w.made), Labels: drawLabels(t, "pod")},
			Spec: object.PodSpec{Template: rapid.SampledFrom([]string{"low", "high"}).Draw(t, "template"), Node: "n1"}}
		w.put(p)
		old, _ := state.Find[*object.Pod](w.view(), p.Ref())
		n := old.Clone().(*object.Pod)
		n.Status.Address, n.Status.Phase = fmt.Sprintf("10.0.0.%d", w.made), object.PodRunning
		var c object.Changeset
		c.UpdateStatus(old, n)
		w.apply(c)
	}
}

// parties are all who could call somebody.
func (w *policyWorld) parties() []object.Party {
	one := func(s string) netip.Prefix { p, _ := object.Prefix(s); return p }
	out := []object.Party{{Addresses: one("203.0.113.9")}}
	for n := range state.All[*object.Node](w.view(), object.KindNode) {
		for _, a := range nodeAddresses(n) {
			out = append(out, object.Party{Node: true, Addresses: one(a.String())})
		}
	}
	for p := range state.All[*object.Pod](w.view(), object.KindPod) {
		if addressed(p) != (location{}) {
			out = append(out, object.Party{Namespace: p.Namespace, Pod: p.Name, Labels: p.Labels, Addresses: one(p.Status.Address), Ports: w.view().Template(p).PortsOf()})
		}
	}
	return out
}

// Whatever happens in whatever order, the rules say what the policies mean, and
// what wakes the controller is all that it depends on.
func TestPolicyRulesMeanThePolicies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newPolicyWorld(t)
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			w.step(t)
			if rapid.Bool().Draw(t, "rest") {
				w.reconcile()
			}
		}
		w.reconcile()
		v := w.view()
		for r := range state.All[*object.PolicyRules](v, object.KindPolicyRules) {
			res, err := networkPolicies{}.Reconcile(v, r.Ref(), w.now)
			if err != nil || !res.Changes.Empty() {
				t.Fatalf("%s is not settled: %v %+v", r.Ref(), err, res.Changes)
			}
		}
		set := object.PolicySet{Namespaces: map[string]*object.Namespace{}}
		for p := range state.All[*object.NetworkPolicy](v, object.KindNetworkPolicy) {
			set.Policies = append(set.Policies, p)
		}
		for n := range state.All[*object.Namespace](v, object.KindNamespace) {
			set.Namespaces[n.Name] = n
		}
		parties := w.parties()
		for _, from := range parties {
			for _, to := range parties {
				if from.Pod != "" && from.Pod == to.Pod {
					continue
				}
				for _, at := range []struct {
					protocol string
					port     int
				}{{"tcp", 80}, {"tcp", 8080}, {"tcp", 8001}, {"tcp", 9000}, {"udp", 53}} {
					want := set.Allows(from, to, at.protocol, at.port)
					if got := rulesAllow(v, from, to, at.protocol, at.port); got != want.Allowed {
						t.Fatalf("%+v -> %+v %s/%d: the rules say %v, the policies %+v", from, to, at.protocol, at.port, got, want)
					}
				}
			}
		}
	})
}

// Pods that nobody asks for wake nothing; of those that somebody does, only that policy.
func TestPodsWakeOnlyTheirPolicies(t *testing.T) {
	w := newPolicyWorld(t)
	policy := func(ns, name, app string) {
		w.put(&object.NetworkPolicy{Meta: object.Meta{Kind: object.KindNetworkPolicy, Namespace: ns, Name: name}, Spec: object.NetworkPolicySpec{
			Ingress: []object.IngressRule{{From: []object.PolicyPeer{{Selector: map[string]string{"app": app}}}}}}})
	}
	for i := range 50 {
		policy("shop", fmt.Sprintf("p%d", i), fmt.Sprintf("a%d", i))
	}
	w.put(&object.Namespace{Meta: object.Meta{Kind: object.KindNamespace, Name: "shop"}, Spec: object.NamespaceSpec{Isolate: []string{"ingress"}}})
	w.reconcile()
	start := func(name, app string) {
		p := &object.Pod{Meta: object.Meta{Kind: object.KindPod, Namespace: "shop", Name: name, Labels: map[string]string{"app": app}}, Spec: object.PodSpec{Node: "n1", Template: "low"}}
		w.put(p)
		old, _ := state.Find[*object.Pod](w.view(), p.Ref())
		n := old.Clone().(*object.Pod)
		n.Status.Address = "10.0.0.7"
		var c object.Changeset
		c.UpdateStatus(old, n)
		w.apply(c)
	}
	start("other", "none")
	if n := w.queue.Len(); n != 0 {
		t.Errorf("a pod that nobody asks for wakes %d", n)
	}
	start("seven", "a7")
	if n := w.queue.Len(); n != 1 {
		t.Errorf("a pod that one policy asks for wakes %d", n)
	}
	w.reconcile()
	old, _ := state.Find[*object.Pod](w.view(), object.Ref{Kind: object.KindPod, Namespace: "shop", Name: "seven"})
	n := old.Clone().(*object.Pod)
	n.Status.Ready = true
	var c object.Changeset
	c.UpdateStatus(old, n)
	w.apply(c)
	if n := w.queue.Len(); n != 0 {
		t.Errorf("readiness wakes %d", n)
	}
}

// A wave of pods among the peers of a policy is not one version of it for each.
func TestLargeRulesRest(t *testing.T) {
	w := newPolicyWorld(t)
	w.put(&object.NetworkPolicy{Meta: object.Meta{Kind: object.KindNetworkPolicy, Namespace: "shop", Name: "p"}, Spec: object.NetworkPolicySpec{
		Ingress: []object.IngressRule{{From: []object.PolicyPeer{{Namespaces: []string{"shop"}}}}}}})
	versions := map[uint64]bool{}
	key := rulesOf("shop", "p")
	for i := range 1000 {
		p := &object.Pod{Meta: object.Meta{Kind: object.KindPod, Namespace: "shop", Name: fmt.Sprintf("p%d", i)}, Spec: object.PodSpec{Node: "n1", Template: "low"}, Status: object.PodStatus{Address: fmt.Sprintf("10.0.%d.%d", i/250, i%250)}}
		w.put(p)
		w.reconcile()
		r, _ := state.Find[*object.PolicyRules](w.view(), key)
		versions[r.Version] = true
		w.now = w.now.Add(time.Millisecond)
	}
	w.now = w.now.Add(time.Second)
	w.reconcile()
	r, _ := state.Find[*object.PolicyRules](w.view(), key)
	if n := len(r.Spec.Ingress.Rules[0].Peers); n != 1000 {
		t.Errorf("%d peers at the end", n)
	}
	if n := len(versions); n > rulesLarge+10 {
		t.Errorf("%d versions for 1000 pods", n)
	}
}
