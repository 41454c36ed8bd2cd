package object

import (
	"cmp"
	"net/netip"
	"time"
)

// NetworkName is the name of the one network that a cluster has.
const NetworkName = "cluster"

// What a cluster is founded with unless its founder says otherwise.
const (
	PodsDefault      = "10.78.0.0/16"
	NodeBitsDefault  = 24
	ServicesDefault  = "10.79.0.0/16"
	NodePortsDefault = "30000-32767"
)

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

// NetworkStatus is the account of the ranges that nodes have and had.
type NetworkStatus struct {
	// Allotted is what nodes have, put together to the fewest ranges. What is in it
	// and no node's any more is of a node that was removed.
	Allotted []string    `json:"allotted,omitempty"`
	Held     []HeldRange `json:"held,omitempty"`
	Waiting  int         `json:"waiting,omitempty"` // nodes that no range is left for
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

// FoundNetwork is the network that a cluster is founded with: defaults take the
// place of what is left open. The error says what in it cannot be.
func FoundNetwork(n NetworkSpec) (*Network, error) {
	n.Mode = cmp.Or(n.Mode, "auto")
	n.Pods, n.NodeBits = cmp.Or(n.Pods, PodsDefault), cmp.Or(n.NodeBits, NodeBitsDefault)
	n.Services, n.NodePorts = cmp.Or(n.Services, ServicesDefault), cmp.Or(n.NodePorts, NodePortsDefault)
	o := &Network{Meta: Meta{Kind: KindNetwork, Name: NetworkName}, Spec: n}
	if diags := Validate(o); diags.HasErrors() {
		return nil, &Error{Code: CodeInvalid, Message: "the network cannot be so: " + diags[0].Detail, Hint: "Choose others with --pods, --node-bits, --services and --node-ports.", Diagnostics: diags}
	}
	return o, nil
}

// PodPool is the range that nodes' ranges are cut from, and the length of their
// prefix; false if the network does not say, or not rightly.
func (n *NetworkSpec) PodPool() (pool netip.Prefix, bits int, ok bool) {
	pool, ok = Prefix(n.Pods)
	return pool, n.NodeBits, ok && n.NodeBits >= pool.Bits() && n.NodeBits <= pool.Addr().BitLen()
}

// ServicePool is the range of the services' addresses.
func (n *NetworkSpec) ServicePool() (netip.Prefix, bool) { return Prefix(n.Services) }

// KeepsNodes says for which nodes' ranges a network would have no place: what
// they have cannot be taken from them while their pods run. It is empty for a
// change that can be made.
func (n *NetworkSpec) KeepsNodes(nodes []*Node) Diagnostics {
	var out Diagnostics
	pool, ok := Prefix(n.Pods)
	services, hasServices := n.ServicePool()
	for _, x := range nodes {
		r, given := Prefix(x.Spec.PodRange)
		if !given {
			continue
		}
		if ok && (!pool.Contains(r.Addr()) || r.Bits() < pool.Bits()) {
			out.Errorf("pods", "Node left out", "The pods' range %s leaves out node %s, which has %s. Choose a range that contains it, or drain and remove the node first.", pool, x.Name, r)
		}
		if hasServices && services.Overlaps(r) {
			out.Errorf("services", "Ranges overlap", "The services' range %s shares addresses with the pods of node %s, which has %s.", services, x.Name, r)
		}
	}
	return out
}

// Ranges are the ranges whose packets go to a node: what the masters have
// allotted to it and, as long as it has another in force, that one too.
func (o *Node) Ranges() []netip.Prefix {
	var out []netip.Prefix
	for _, s := range []string{o.Spec.PodRange, o.Status.PodRange} {
		if p, err := netip.ParsePrefix(s); err == nil && (len(out) == 0 || out[0] != p.Masked()) {
			out = append(out, p.Masked())
		}
	}
	return out
}

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
