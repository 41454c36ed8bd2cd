package object

import "time"

// NetworkName is the name of the one network that a cluster has.
const NetworkName = "cluster"

// NodePortsDefault are the node ports of services that name none.
const NodePortsDefault = "30000-32767"

// NetworkSpec is what all nodes have to agree upon.
type NetworkSpec struct {
	Mode      string   `json:"mode" hcl:"mode" default:"auto" enum:"auto,route,vxlan" effect:"in_place" doc:"How packets travel between nodes. route: as they are, for nodes that share a network segment; vxlan: wrapped; auto: route where both nodes are on one segment, else vxlan."`
	Pods      string   `json:"pods,omitempty" hcl:"pods" effect:"in_place" doc:"Range that nodes get their pods' addresses from. It can grow, but not leave a node out. Default: as the cluster was founded."`
	NodeBits  int      `json:"node_bits,omitempty" hcl:"node_bits" effect:"in_place" doc:"Length of the prefix of a node's range: 24 makes room for 253 pods. Default: as the cluster was founded."`
	Services  string   `json:"services,omitempty" hcl:"services" effect:"in_place" doc:"Range of the services' virtual addresses. It can grow, but not leave a service out. Default: as the cluster was founded."`
	NodePorts string   `json:"node_ports,omitempty" hcl:"node_ports" effect:"in_place" doc:"Ports that services of type node_port get on every node, as FIRST-LAST. Default: as the cluster was founded."`
	MTU       int      `json:"mtu,omitempty" hcl:"mtu" effect:"in_place" doc:"Largest packet of a pod, in bytes. Default: what the node's own link takes, less the wrapping."`
	CNI       string   `json:"cni,omitempty" hcl:"cni" effect:"in_place" doc:"Directory on every node with a CNI configuration; its plugins then attach pods instead of Berth."`
	Upstream  []string `json:"upstream,omitempty" hcl:"upstream" effect:"in_place" doc:"Name servers for names outside the cluster, as ADDRESS or ADDRESS:PORT. Default: those of the node."`
}

// NetworkStatus is the account of ranges that may not be given out again yet.
type NetworkStatus struct {
	Held []HeldRange `json:"held,omitempty"`
}

// HeldRange was a node's that is no more; packets to its pods may still be under way.
type HeldRange struct {
	Range string    `json:"range"`
	Until time.Time `json:"until"`
}

// Network is the network of pods and services; there is one, named NetworkName,
// made when the cluster is founded.
type Network struct {
	Meta   `json:"meta"`
	Spec   NetworkSpec   `json:"spec,omitzero"`
	Status NetworkStatus `json:"status,omitzero"`
}

func (o *Network) SpecPtr() any   { return &o.Spec }
func (o *Network) StatusPtr() any { return &o.Status }
func (o *Network) Clone() Object  { c := *o; return &c }

// NetworkView is what a node has to know of the cluster's network at one index.
// The lists are ordered by Ref; objects that did not change keep their pointers
// from view to view. Nobody may write into it.
type NetworkView struct {
	Index     uint64
	Network   *Network // nil before the masters have told
	Nodes     []*Node
	Services  []*Service
	Endpoints []*Endpoints
	Ingresses []*Ingress
	Policies  []*PolicyRules
}
