package object

import "iter"

// NetworkPolicySpec says whose packets may reach pods, and where pods may send
// theirs. Policies only allow: what any of them allows passes, and a pod that no
// policy picks, in a namespace that isolates nothing, takes and sends everything.
type NetworkPolicySpec struct {
	Selector map[string]string `json:"selector,omitempty" hcl:"selector" effect:"in_place" doc:"Pods of the same namespace that it holds for; absent: all of them."`
	Isolate  []string          `json:"isolate,omitempty" hcl:"isolate" effect:"in_place" doc:"Directions in which only what a rule allows passes: ingress, egress. Default: those that have rules; ingress if there are none."`
	Ingress  []IngressRule     `json:"ingress,omitempty" hcl:"ingress,block" effect:"in_place" doc:"Who may reach the pods."`
	Egress   []EgressRule      `json:"egress,omitempty" hcl:"egress,block" effect:"in_place" doc:"What the pods may reach."`
}

// IngressRule allows packets from peers to ports.
type IngressRule struct {
	From  []PolicyPeer `json:"from,omitempty" hcl:"from,block" doc:"Who; absent: anybody."`
	Ports []PolicyPort `json:"ports,omitempty" hcl:"port,block" doc:"Which ports of the pods; absent: all."`
}

// EgressRule allows packets to ports of peers.
type EgressRule struct {
	To    []PolicyPeer `json:"to,omitempty" hcl:"to,block" doc:"Whom; absent: anybody."`
	Ports []PolicyPort `json:"ports,omitempty" hcl:"port,block" doc:"Which of their ports; absent: all."`
}

// PolicyPeer is pods, or a range of addresses, or the cluster's nodes. What is said
// of pods narrows: they are those that all of it holds for.
type PolicyPeer struct {
	Selector          map[string]string `json:"selector,omitempty" hcl:"selector" doc:"Pods that carry all these labels; with neither namespaces nor namespace_selector, of the policy's namespace."`
	Namespaces        []string          `json:"namespaces,omitempty" hcl:"namespaces" doc:"Pods of these namespaces."`
	NamespaceSelector map[string]string `json:"namespace_selector,omitempty" hcl:"namespace_selector" doc:"Pods of the namespaces that carry all these labels."`
	CIDR              string            `json:"cidr,omitempty" hcl:"cidr" doc:"A range of addresses instead of pods."`
	Except            []string          `json:"except,omitempty" hcl:"except" doc:"Ranges inside cidr that are left out."`
	Nodes             bool              `json:"nodes,omitempty" hcl:"nodes" doc:"The cluster's nodes themselves instead of pods: their ingress, and callers whose address a node port hides."`
}

// Peers are those of all rules, ingress first.
func (p *NetworkPolicySpec) Peers() iter.Seq[*PolicyPeer] {
	return func(yield func(*PolicyPeer) bool) {
		for i := range p.Ingress {
			for j := range p.Ingress[i].From {
				if !yield(&p.Ingress[i].From[j]) {
					return
				}
			}
		}
		for i := range p.Egress {
			for j := range p.Egress[i].To {
				if !yield(&p.Egress[i].To[j]) {
					return
				}
			}
		}
	}
}

// PolicyPort is a port, or a run of them.
type PolicyPort struct {
	Port     PortRef `json:"port" hcl:"port,required" doc:"Number, or name that the pods give to a port."`
	To       int     `json:"to,omitempty" hcl:"to" doc:"Last port of a run that begins with port."`
	Protocol string  `json:"protocol" hcl:"protocol" default:"tcp" enum:"tcp,udp,sctp" doc:"Transport."`
}

// NetworkPolicy allows packets to and from pods.
type NetworkPolicy struct {
	Meta `json:"meta"`
	Spec NetworkPolicySpec `json:"spec"`
}

func (o *NetworkPolicy) SpecPtr() any   { return &o.Spec }
func (o *NetworkPolicy) StatusPtr() any { return nil }
func (o *NetworkPolicy) Clone() Object  { c := *o; return &c }

// PolicyRulesSpec is a network policy, or the isolation of a namespace, with its
// peers resolved to addresses: what nodes put in force. Each node finds out by
// itself which of its own pods Selector picks: it knows them before their first
// process starts, sooner than the masters could tell.
type PolicyRulesSpec struct {
	Selector map[string]string `json:"selector,omitempty"` // pods of the namespace that it holds for; absent: all
	Ingress  *PolicyRuleSet    `json:"ingress,omitempty"`  // nil: it does not isolate in this direction
	Egress   *PolicyRuleSet    `json:"egress,omitempty"`
}

// PolicyRuleSet is all that is allowed in a direction.
type PolicyRuleSet struct {
	Rules []PolicyRule `json:"rules,omitempty"`
}

// PolicyRule allows packets of peers at ports.
type PolicyRule struct {
	Anybody bool           `json:"anybody,omitempty"`
	Peers   []string       `json:"peers,omitempty"`  // ranges, sorted
	Except  []string       `json:"except,omitempty"` // ranges that are left out of Peers, sorted
	Ports   []ResolvedPort `json:"ports,omitempty"`  // absent: all
}

// ResolvedPort is a run of ports of a protocol. Of ingress, a port with a name is
// the number that the receiving pod gives to it; of egress it stands here as
// numbers, each for those peers alone that give it.
type ResolvedPort struct {
	Protocol  string   `json:"protocol"`
	Name      string   `json:"name,omitempty"` // then without From and To
	From      int      `json:"from,omitempty"`
	To        int      `json:"to,omitempty"`
	Addresses []string `json:"addresses,omitempty"` // only for these receivers, sorted; absent: all
}

// PolicyRules carry the name of their network policy, or NamespaceRules for the
// isolation of the namespace.
type PolicyRules struct {
	Meta `json:"meta"`
	Spec PolicyRulesSpec `json:"spec"`
}

// NamespaceRules names the rules that a namespace's own isolation makes. No
// network policy can have this name.
const NamespaceRules = "namespace.isolation"

func (o *PolicyRules) SpecPtr() any   { return &o.Spec }
func (o *PolicyRules) StatusPtr() any { return nil }
func (o *PolicyRules) Clone() Object  { c := *o; return &c }
