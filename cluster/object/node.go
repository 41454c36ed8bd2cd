package object

import "time"

// NodeSpec is what people say of a machine.
type NodeSpec struct {
	Taints        []Taint `json:"taints,omitempty" hcl:"taint,block" effect:"in_place" doc:"Keep pods away that do not tolerate it."`
	Unschedulable bool    `json:"unschedulable,omitempty" hcl:"-"` // cordoned
	Drain         bool    `json:"drain,omitempty" hcl:"-"`         // its pods are to move elsewhere
	PodRange      string  `json:"pod_range,omitempty" hcl:"-"`     // addresses for its pods, allotted by the masters
}

// Taint keeps pods away from a node.
type Taint struct {
	Key    string `json:"key" hcl:"key,label" doc:"The taint's key."`
	Value  string `json:"value,omitempty" hcl:"value" doc:"The taint's value."`
	Effect string `json:"effect" hcl:"effect" default:"no_schedule" enum:"no_schedule,prefer_no_schedule,no_execute" doc:"no_schedule: no new pods; prefer_no_schedule: only if need be; no_execute: running pods leave too."`
}

// NodeCondition is how the masters see a node.
type NodeCondition string

// The conditions of a node.
const (
	NodeReady    NodeCondition = "ready"
	NodeNotReady NodeCondition = "not_ready" // it says itself that it cannot run pods; Message says why
	NodeLost     NodeCondition = "lost"      // silent for longer than the limit
)

// NodeStatus is what a node says of itself, and the masters' verdict.
type NodeStatus struct {
	Condition  NodeCondition     `json:"condition,omitempty"`
	Since      time.Time         `json:"since,omitzero"` // of Condition
	Message    string            `json:"message,omitempty"`
	Address    string            `json:"address,omitempty"`    // host:port of the agent's API
	CPU        CPU               `json:"cpu,omitempty"`        // for pods
	Memory     Bytes             `json:"memory,omitempty"`     // for pods
	Pods       int               `json:"pods,omitempty"`       // the most pods it takes
	Attributes map[string]string `json:"attributes,omitempty"` // os, arch, kernel, containerd, berth, …
	PodRange   string            `json:"pod_range,omitempty"`  // addresses its pods get, as the node has put it in force
	Version    string            `json:"version,omitempty"`    // of berth
}

// Node is a machine that runs pods. Its labels are Meta.Labels; "zone" among
// them is what spreading over zones means.
type Node struct {
	Meta   `json:"meta"`
	Spec   NodeSpec   `json:"spec,omitzero"`
	Status NodeStatus `json:"status,omitzero"`
}

func (o *Node) SpecPtr() any   { return &o.Spec }
func (o *Node) StatusPtr() any { return &o.Status }
func (o *Node) Clone() Object  { c := *o; return &c }

// ReservedLabels begin the labels that say what a node may do. Nodes do not give
// them to themselves: they come from an administrator, or from the token by which
// the node joined.
const ReservedLabels = "berth/"

// LabelIngress, with the value "true", makes a node an ingress node: it may read
// the certificates and passwords of every ingress.
const LabelIngress = ReservedLabels + "ingress"

// ServesIngress reports whether the node may read what ingresses need.
func (o *Node) ServesIngress() bool { return o.Labels[LabelIngress] == "true" }

// Attribute is a label or attribute of the node, labels first; "node" is its name.
func (o *Node) Attribute(name string) (string, bool) {
	if name == "node" {
		return o.Name, true
	}
	if v, ok := o.Labels[name]; ok {
		return v, true
	}
	v, ok := o.Status.Attributes[name]
	return v, ok
}

// NamespaceSpec limits what the objects of a namespace may use together.
type NamespaceSpec struct {
	Quota   *Quota   `json:"quota,omitempty" hcl:"quota,block" effect:"in_place" doc:"The most that all pods of the namespace may ask for together."`
	Isolate []string `json:"isolate,omitempty" hcl:"isolate" effect:"in_place" doc:"Directions in which its pods' packets pass only where a network_policy allows it: ingress, egress."`
}

// Quota is a limit on asks; 0 means no limit.
type Quota struct {
	CPU    CPU   `json:"cpu,omitempty" hcl:"cpu" doc:"Processor time."`
	Memory Bytes `json:"memory,omitempty" hcl:"memory" doc:"Memory."`
	Pods   int   `json:"pods,omitempty" hcl:"pods" doc:"Pods."`
}

// Namespace is a room for names.
type Namespace struct {
	Meta   `json:"meta"`
	Spec   NamespaceSpec   `json:"spec,omitzero"`
	Status NamespaceStatus `json:"status,omitzero"`
}

// NamespaceStatus guards the quota.
type NamespaceStatus struct {
	// Admissions counts the changesets that let pods in under the quota. Each of
	// them raises it, so that two that saw the same room exclude one another.
	Admissions uint64 `json:"admissions,omitempty"`
}

func (o *Namespace) SpecPtr() any   { return &o.Spec }
func (o *Namespace) StatusPtr() any { return &o.Status }
func (o *Namespace) Clone() Object  { c := *o; return &c }
