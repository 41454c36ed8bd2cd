package object

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

// PolicyPeer is pods, or a range of addresses.
type PolicyPeer struct {
	Selector          map[string]string `json:"selector,omitempty" hcl:"selector" doc:"Pods that carry all these labels; with neither namespaces nor namespace_selector, of the policy's namespace."`
	Namespaces        []string          `json:"namespaces,omitempty" hcl:"namespaces" doc:"Pods of these namespaces."`
	NamespaceSelector map[string]string `json:"namespace_selector,omitempty" hcl:"namespace_selector" doc:"Pods of the namespaces that carry all these labels."`
	CIDR              string            `json:"cidr,omitempty" hcl:"cidr" doc:"A range of addresses instead of pods."`
	Except            []string          `json:"except,omitempty" hcl:"except" doc:"Ranges inside cidr that are left out."`
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
// selectors resolved to addresses: what nodes put in force.
type PolicyRulesSpec struct {
	Pods    []PolicyPod    `json:"pods,omitempty"`    // that it holds for, ordered by name
	Ingress *PolicyRuleSet `json:"ingress,omitempty"` // nil: it does not isolate in this direction
	Egress  *PolicyRuleSet `json:"egress,omitempty"`
}

// PolicyPod is a pod that a policy holds for.
type PolicyPod struct {
	Pod     string `json:"pod"`
	Node    string `json:"node"`
	Address string `json:"address"`
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

// ResolvedPort is a run of ports of a protocol; of one with a name, those numbers
// that the pods in Addresses give to it.
type ResolvedPort struct {
	Protocol  string   `json:"protocol"`
	From      int      `json:"from"`
	To        int      `json:"to"`
	Addresses []string `json:"addresses,omitempty"` // only for these receivers; absent: all
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
