package object

import (
	"net/netip"
	"slices"
)

// Party is one end of a connection, as network policies see it.
type Party struct {
	Namespace string            // of the pods; empty: it is no pod
	Pod       string            // name of the pod; empty: any of some equal pods
	Labels    map[string]string // of the pods
	Node      bool              // it is a node of the cluster
	Addresses netip.Prefix      // where it may be: a single address if that is known
	Ports     []ContainerPort   // of the pods, for names
}

// PolicySet answers what network policies mean, slowly and plainly: it goes
// through all of them for each question. What nodes put in force comes another
// way, from PolicyRules; tests hold the two against each other.
type PolicySet struct {
	Policies   []*NetworkPolicy
	Namespaces map[string]*Namespace // by name; one without an object has no labels and isolates nothing
}

// Verdict says whether packets pass, and by whose word: of the policy that allows
// them, or that isolates an end without anybody allowing them, or of the
// namespace that does; zero if nothing isolates either end.
type Verdict struct {
	Allowed bool
	By      Ref
	At      string // "ingress" or "egress": the direction that By speaks of
}

// Allows judges a new connection from one party to a port of another.
func (s *PolicySet) Allows(from, to Party, protocol string, port int) Verdict {
	if from.Pod != "" && from.Namespace == to.Namespace && from.Pod == to.Pod {
		return Verdict{Allowed: true} // its own packets, though they come by way of a service
	}
	out := s.judge(from, "egress", func(p *NetworkPolicy) bool {
		return slices.ContainsFunc(p.Spec.Egress, func(r EgressRule) bool {
			if len(r.To) == 0 {
				return anyPort(r.Ports, nil, protocol, port)
			}
			return slices.ContainsFunc(r.To, func(q PolicyPeer) bool {
				names := to.Ports
				if q.CIDR != "" || q.Nodes {
					names = nil // only pods that a rule picks give names to ports
				}
				return s.fits(p, &q, to) && anyPort(r.Ports, names, protocol, port)
			})
		})
	})
	if !out.Allowed {
		return out
	}
	in := s.judge(to, "ingress", func(p *NetworkPolicy) bool {
		return slices.ContainsFunc(p.Spec.Ingress, func(r IngressRule) bool {
			here := len(r.From) == 0 || slices.ContainsFunc(r.From, func(q PolicyPeer) bool { return s.fits(p, &q, from) })
			return here && anyPort(r.Ports, to.Ports, protocol, port)
		})
	})
	if in.Allowed && in.By.IsZero() {
		return out
	}
	return in
}

// judge asks the policies that hold for a party in a direction.
func (s *PolicySet) judge(x Party, direction string, allows func(*NetworkPolicy) bool) Verdict {
	if x.Namespace == "" {
		return Verdict{Allowed: true}
	}
	var isolated Ref
	if ns := s.Namespaces[x.Namespace]; ns != nil && slices.Contains(ns.Spec.Isolate, direction) {
		isolated = ns.Ref()
	}
	for _, p := range s.Policies {
		if p.Namespace != x.Namespace || !HasLabels(x.Labels, p.Spec.Selector) || !p.Spec.Isolates(direction) {
			continue
		}
		if allows(p) {
			return Verdict{true, p.Ref(), direction}
		}
		if isolated.IsZero() {
			isolated = p.Ref()
		}
	}
	if isolated.IsZero() {
		return Verdict{Allowed: true}
	}
	return Verdict{false, isolated, direction}
}

// fits reports whether a party is a peer. One that may be at many addresses is in
// a range only if all of them are.
func (s *PolicySet) fits(p *NetworkPolicy, q *PolicyPeer, x Party) bool {
	switch {
	case q.Nodes:
		return x.Node
	case q.CIDR != "":
		all, ok := Prefix(q.CIDR)
		if !ok || !x.Addresses.IsValid() || !all.Contains(x.Addresses.Addr()) || all.Bits() > x.Addresses.Bits() {
			return false
		}
		return !slices.ContainsFunc(q.Except, func(e string) bool {
			out, ok := Prefix(e)
			return ok && out.Overlaps(x.Addresses)
		})
	case x.Namespace == "":
		return false
	}
	return q.Covers(p.Namespace, x.Namespace, s.Namespaces[x.Namespace]) && HasLabels(x.Labels, q.Selector)
}

// Covers reports whether a peer of pods means pods of a namespace; policy is the
// namespace of the policy, and o may be nil.
func (q *PolicyPeer) Covers(policy, namespace string, o *Namespace) bool {
	if len(q.Namespaces) == 0 && len(q.NamespaceSelector) == 0 {
		return namespace == policy
	}
	if len(q.Namespaces) > 0 && !slices.Contains(q.Namespaces, namespace) {
		return false
	}
	return len(q.NamespaceSelector) == 0 || o != nil && HasLabels(o.Labels, q.NamespaceSelector)
}

func anyPort(ports []PolicyPort, names []ContainerPort, protocol string, port int) bool {
	return len(ports) == 0 || slices.ContainsFunc(ports, func(p PolicyPort) bool {
		if p.Protocol != protocol {
			return false
		}
		if n, number := p.Port.Number(); number {
			return n <= port && port <= max(n, p.To)
		}
		return slices.ContainsFunc(names, func(c ContainerPort) bool {
			return c.Name == string(p.Port) && c.Port == port && c.Transport() == protocol
		})
	})
}

// Transport is the protocol of the port.
func (p *ContainerPort) Transport() string {
	if p.Protocol == "" {
		return "tcp"
	}
	return p.Protocol
}

// PortsOf are the ports of a template's containers.
func (t *PodTemplate) PortsOf() []ContainerPort {
	if t == nil {
		return nil
	}
	var out []ContainerPort
	for i := range t.Containers {
		out = append(out, t.Containers[i].Ports...)
	}
	return out
}
