package planner

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"github.com/berthdev/berth/cluster/controller"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// Check looks at a plan with the whole cluster before it: it chooses addresses and
// node ports that services leave open, and finds what does not go together with
// what others have. Diff cannot, for it sees one stack only. Equal inputs give
// equal answers. Of a rebalance it chooses the pods. With errors among the diagnostics the plan must not be applied.
func Check(v *state.Snapshot, p *object.Plan) ([]object.Assignment, object.Diagnostics) {
	if p.Operation != nil {
		return moves(v, p.Operation), nil
	}
	c := &check{after: overlay{v: v, changed: make(map[object.Ref]object.Object, len(p.Changes))}, addresses: make(map[object.Ref]string, len(p.Changes))}
	for i := range p.Changes {
		x := &p.Changes[i]
		c.after.changed[x.Ref] = x.After.Object
		if x.Moved() {
			c.after.changed[x.From] = nil
		}
		c.addresses[x.Ref] = x.Address
	}
	c.network(v)
	assigned := c.services(v, p)
	c.selections(p)
	c.ingresses(p)
	c.credentials(p)
	c.diags.Sort()
	return assigned, c.diags
}

type check struct {
	after     overlay
	addresses map[object.Ref]string // of what the plan changes
	diags     object.Diagnostics
}

func (c *check) say(severity object.Severity, r object.Ref, path, summary, detail string, args ...any) {
	address := c.addresses[r]
	if address == "" {
		address = r.Address()
	}
	c.diags = append(c.diags, object.Diagnostic{Severity: severity, Summary: summary, Detail: fmt.Sprintf(detail, args...), Address: address, Path: path})
}

func (c *check) fail(r object.Ref, path, summary, detail string, args ...any) {
	c.say(object.SeverityError, r, path, summary, detail, args...)
}

func (c *check) warn(r object.Ref, path, summary, detail string, args ...any) {
	c.say(object.SeverityWarning, r, path, summary, detail, args...)
}

// add takes what was found about an object elsewhere.
func (c *check) add(r object.Ref, found object.Diagnostics) {
	for _, d := range found {
		c.say(d.Severity, r, d.Path, d.Summary, "%s", d.Detail)
	}
}

// overlay is a state as it will be when a plan has been carried out.
type overlay struct {
	v       *state.Snapshot
	changed map[object.Ref]object.Object // nil: gone
}

// get is an object as it will be; nil if it will not be there.
func (o overlay) get(r object.Ref) object.Object {
	if x, planned := o.changed[r]; planned {
		return x
	}
	x, _ := o.v.Get(r)
	return x
}

// all yields the objects of a kind as they will be: those of the state in their
// order, then the new ones in theirs.
func (o overlay) all(k object.Kind) iter.Seq[object.Object] {
	return func(yield func(object.Object) bool) {
		for x := range o.v.List(k) {
			if now, planned := o.changed[x.Ref()]; planned {
				if x = now; x == nil {
					continue
				}
			}
			if !yield(x) {
				return
			}
		}
		var fresh []object.Object
		for r, x := range o.changed {
			if r.Kind != k || x == nil {
				continue
			}
			if _, there := o.v.Get(r); !there {
				fresh = append(fresh, x)
			}
		}
		slices.SortFunc(fresh, func(a, b object.Object) int { return a.Ref().Compare(b.Ref()) })
		for _, x := range fresh {
			if !yield(x) {
				return
			}
		}
	}
}

var networkRef = object.Ref{Kind: object.KindNetwork, Name: object.NetworkName}

// network refuses ranges that would leave somebody out, and the network's end.
func (c *check) network(v *state.Snapshot) {
	if n, ok := state.Find[*object.Network](v, networkRef); ok && n.Status.Waiting > 0 {
		c.warn(networkRef, "pods", "No pod ranges are left", "Nodes that have no addresses for pods, and so take none: %d. The pods' range %s is given out; make it larger, or remove nodes that are no more.", n.Status.Waiting, n.Spec.Pods)
	}
	now, planned := c.after.changed[networkRef]
	if !planned {
		return
	}
	n, ok := now.(*object.Network)
	if !ok {
		return // it is released, see differ.remove
	}
	var nodes []*object.Node
	for x := range state.All[*object.Node](v, object.KindNode) {
		nodes = append(nodes, x)
	}
	c.add(networkRef, n.Spec.KeepsNodes(nodes))
	services, okServices := object.Prefix(n.Spec.Services)
	for x := range c.after.all(object.KindService) {
		s := x.(*object.Service)
		a, err := netip.ParseAddr(s.Spec.Address)
		if okServices && err == nil && s.Spec.Virtual() && !services.Contains(a) {
			c.fail(networkRef, "services", "Range leaves a service out", "Service %s has the address %s, which is not of %s. Choose a range that holds those of all services.", s.Ref(), a, services)
			break
		}
	}
}

// services finds claims that others have, and chooses what is left open.
func (c *check) services(v *state.Snapshot, p *object.Plan) []object.Assignment {
	allot := controller.NewAllotment(v)
	n, _ := c.after.get(networkRef).(*object.Network)
	var space netip.Prefix
	if n != nil {
		allot.Within(n)
		space, _ = object.Prefix(n.Spec.Services)
	}
	hosts := c.hostPorts(p)
	var touched []*object.Service
	for i := range p.Changes {
		x := &p.Changes[i]
		if x.Ref.Kind == object.KindService {
			allot.End(x.Ref)
			if x.Moved() {
				allot.End(x.From)
			}
			if s, ok := x.After.Object.(*object.Service); ok {
				touched = append(touched, s)
			}
		}
	}
	slices.SortFunc(touched, func(a, b *object.Service) int { return a.Ref().Compare(b.Ref()) })
	for _, s := range touched { // what is said comes before what is chosen
		r := s.Ref()
		for _, claim := range s.Spec.Claims() {
			if other := allot.Claim(claim, r); !other.IsZero() {
				c.fail(r, "", "Claimed twice", "%s is %s's already. Choose another one, or leave it out: then a free one is chosen.", capital(claimText(claim)), other)
			}
			if who := hosts[claim]; !who.IsZero() {
				c.fail(r, "", "Node port is taken", "Pods of %s claim %s on their nodes, as a host_port. Choose another one for either of them.", who, claimText(claim))
			}
		}
		if a, err := netip.ParseAddr(s.Spec.Address); err == nil && space.IsValid() && !space.Contains(a) {
			c.fail(r, "address", "Address outside the range", "%s is not of the services' range %s. Choose one out of it, or leave it out: then a free one is chosen.", a, space)
		}
		if first, last, ok := portRange(n); ok && s.Spec.Type == "node_port" {
			for _, sp := range s.Spec.Ports {
				if sp.NodePort != 0 && (sp.NodePort < first || sp.NodePort > last) {
					c.fail(r, fmt.Sprintf("port[%q].node_port", sp.Name), "Node port outside the range", "%d is not of the node ports %d-%d of the network. Choose one out of them, or leave it out: then a free one is chosen.", sp.NodePort, first, last)
				}
			}
		}
	}
	var out []object.Assignment
	for _, s := range touched {
		a, err := allot.Fill(s)
		if err != nil {
			c.fail(s.Ref(), "", "Nothing left to choose from", "%s.", capital(err.Error()))
			continue
		}
		if a != nil {
			out = append(out, *a)
			c.after.changed[a.Ref] = a.To(s)
		}
	}
	return out
}

func portRange(n *object.Network) (first, last int, ok bool) {
	if n == nil {
		return 0, 0, false
	}
	return n.Spec.PortRange()
}

// claimText is a claim in words.
func claimText(claim string) string {
	if _, err := netip.ParseAddr(claim); err == nil {
		return "the address " + claim
	}
	return "the node port " + claim
}

// hostPorts are the ports that workloads claim on their nodes, as
// object.NodePortClaim writes them, by who claims them. Only plans that touch node
// ports need it.
func (c *check) hostPorts(p *object.Plan) map[string]object.Ref {
	if !slices.ContainsFunc(p.Changes, func(x object.PlannedChange) bool {
		s, ok := x.After.Object.(*object.Service)
		return ok && s.Spec.Type == "node_port"
	}) {
		return nil
	}
	out := map[string]object.Ref{}
	for _, k := range []object.Kind{object.KindDeployment, object.KindReplicaSet} {
		for o := range c.after.all(k) {
			t := object.TemplateOf(o)
			if !o.Head().Owner.IsZero() || t == nil {
				continue
			}
			for i := range t.Containers {
				for _, port := range t.Containers[i].Ports {
					if port.HostPort != 0 {
						out[object.NodePortClaim(port.Protocol, port.HostPort)] = o.Ref()
					}
				}
			}
		}
	}
	return out
}

// selections warn of services that lead nowhere.
func (c *check) selections(p *object.Plan) {
	var workloads map[string][]*object.PodTemplate // by namespace
	for i := range p.Changes {
		s, ok := p.Changes[i].After.Object.(*object.Service)
		if !ok || s.Spec.Type == "external" {
			continue
		}
		if workloads == nil {
			workloads = c.templates()
		}
		var picked []*object.PodTemplate
		for _, t := range workloads[s.Namespace] {
			if object.HasLabels(t.Labels, s.Spec.Selector) {
				picked = append(picked, t)
			}
		}
		if len(picked) == 0 {
			c.warn(s.Ref(), "selector", "Selects nothing", "No pods of namespace %q carry these labels, neither now nor after this plan. Connections to the service will be refused until some do.", s.Namespace)
			continue
		}
		for _, sp := range s.Spec.Ports {
			if _, number := sp.Target.Number(); number || sp.Target == "" {
				continue
			}
			if !slices.ContainsFunc(picked, func(t *object.PodTemplate) bool { return hasPort(t, string(sp.Target)) }) {
				c.warn(s.Ref(), fmt.Sprintf("port[%q].target", sp.Name), "No such port", "None of the pods that the service selects has a port named %q. Connections to it will be refused.", sp.Target)
			}
		}
	}
}

// ingresses finds ingresses that lead nowhere, and paths that two of them claim.
func (c *check) ingresses(p *object.Plan) {
	touched := map[object.Ref]bool{}
	for i := range p.Changes {
		o, ok := p.Changes[i].After.Object.(*object.Ingress)
		if !ok {
			continue
		}
		touched[o.Ref()] = true
		c.add(o.Ref(), object.CheckDestinations(o, func(r object.Ref) *object.Service {
			s, _ := c.after.get(r).(*object.Service)
			return s
		}))
	}
	if len(touched) == 0 {
		return
	}
	var all []*object.Ingress
	for o := range c.after.all(object.KindIngress) {
		all = append(all, o.(*object.Ingress))
	}
	for _, x := range object.IngressConflicts(all) {
		if touched[x.First] || touched[x.Second] {
			c.add(x.Second, object.Diagnostics{x.Diagnostic()})
		}
	}
}

// templates are what pods run when the plan has been carried out, by namespace.
func (c *check) templates() map[string][]*object.PodTemplate {
	out := map[string][]*object.PodTemplate{}
	for _, k := range []object.Kind{object.KindDeployment, object.KindReplicaSet, object.KindPod} {
		for o := range c.after.all(k) {
			if !o.Head().Owner.IsZero() {
				continue // its owner speaks for it
			}
			t := object.TemplateOf(o)
			if pod, ok := o.(*object.Pod); ok && t == nil {
				t = c.after.v.Template(pod)
			}
			if t == nil {
				continue
			}
			if k == object.KindPod && len(o.Head().Labels) > 0 {
				labelled := *t
				labelled.Labels = o.Head().Labels
				t = &labelled
			}
			out[o.Head().Namespace] = append(out[o.Head().Namespace], t)
		}
	}
	return out
}

func hasPort(t *object.PodTemplate, name string) bool {
	for i := range t.Containers {
		if slices.ContainsFunc(t.Containers[i].Ports, func(p object.ContainerPort) bool { return p.Name == name }) {
			return true
		}
	}
	return false
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return string(s[0]-'a'+'A') + s[1:]
}
