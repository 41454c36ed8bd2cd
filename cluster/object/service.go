package object

import "strconv"

// ClusterDomain ends the DNS names of services.
const ClusterDomain = "cluster.local"

// ServiceSpec is one name for the pods that a selector picks.
type ServiceSpec struct {
	Selector        map[string]string `json:"selector,omitempty" hcl:"selector" effect:"in_place" doc:"Pods of the same namespace that carry all these labels; every type but external needs it."`
	Ports           []ServicePort     `json:"ports,omitempty" hcl:"port,block" effect:"in_place" doc:"Ports of the service."`
	Type            string            `json:"type" hcl:"type" default:"cluster" enum:"cluster,node_port,headless,external" effect:"in_place" doc:"cluster: an address inside the cluster; node_port: also a port on every node; headless: the pods' own addresses; external: another name for a host outside."`
	Address         string            `json:"address,omitempty" hcl:"address" effect:"in_place" doc:"Virtual address out of the network's service range. The masters choose one, at plan time, for a service that names none, and keep it."`
	ExternalName    string            `json:"external_name,omitempty" hcl:"external_name" effect:"in_place" doc:"The host that a service of type external stands for."`
	Affinity        string            `json:"affinity" hcl:"affinity" default:"none" enum:"none,client_ip" effect:"in_place" doc:"client_ip: a client stays with its pod."`
	AffinityTimeout Duration          `json:"affinity_timeout,omitempty" hcl:"affinity_timeout" effect:"in_place" doc:"How long after its last connection a client stays with its pod; default: 3h."`
	Preview         bool              `json:"preview,omitempty" hcl:"preview" effect:"in_place" doc:"Leads to the newest version of its deployments only, as soon as its pods are ready: to look at what a canary or a blue-green update brings."`
	Shares          []ServiceShare    `json:"shares,omitempty" hcl:"share,block" effect:"in_place" doc:"Shares of the connections for sets of pods, as of a canary. Pods that are in no share get none, once there is one."`
}

// ServiceShare is the part of a service's connections that a set of its pods gets.
type ServiceShare struct {
	Name     string            `json:"name" hcl:"name,label" doc:"Name of the share."`
	Selector map[string]string `json:"selector" hcl:"selector,required" doc:"Those of the service's pods that carry all these labels, too. A pod counts for the first share that it fits."`
	Weight   int               `json:"weight" hcl:"weight,required" doc:"Its part of the sum of all weights, 0 to 10000. The part of a share without a ready pod falls to the others."`
}

// ServicePort leads from a port of the service to one of the pods.
type ServicePort struct {
	Name     string  `json:"name" hcl:"name,label" doc:"Name of the port."`
	Port     int     `json:"port" hcl:"port,required" doc:"Number at the service, 1 to 65535."`
	Target   PortRef `json:"target,omitempty" hcl:"target" doc:"Port of the pods by name or number; default: the same number."`
	Protocol string  `json:"protocol" hcl:"protocol" default:"tcp" enum:"tcp,udp,sctp" doc:"Transport."`
	NodePort int     `json:"node_port,omitempty" hcl:"node_port" doc:"Port on every node, for type node_port. The masters choose one, at plan time, for a port that names none, and keep it."`
}

// Service is one name for the ready pods that its selector picks.
type Service struct {
	Meta `json:"meta"`
	Spec ServiceSpec `json:"spec"`
}

func (o *Service) SpecPtr() any   { return &o.Spec }
func (o *Service) StatusPtr() any { return nil }
func (o *Service) Clone() Object  { c := *o; return &c }

// Virtual reports whether the service has an address of its own.
func (s *ServiceSpec) Virtual() bool { return s.Type == "cluster" || s.Type == "node_port" }

// Claims are what no other service may have: the virtual address, and the node
// ports as PROTOCOL/PORT.
func (s *ServiceSpec) Claims() []string {
	if !s.Virtual() {
		return nil
	}
	var out []string
	if s.Address != "" {
		out = append(out, s.Address)
	}
	if s.Type == "node_port" {
		for _, p := range s.Ports {
			if p.NodePort != 0 {
				out = append(out, NodePortClaim(p.Protocol, p.NodePort))
			}
		}
	}
	return out
}

// NodePortClaim is how Claims writes a node port.
func NodePortClaim(protocol string, port int) string { return protocol + "/" + strconv.Itoa(port) }

// Host is the DNS name of the service.
func (o *Service) Host() string {
	return o.Name + "." + o.Namespace + ".svc." + ClusterDomain
}

// EndpointsSpec lists where a service leads, ordered by pod name.
type EndpointsSpec struct {
	// Shares are those of a canary under way, in place of the service's own.
	Shares   []EndpointShare `json:"shares,omitempty"`
	Ready    []Endpoint      `json:"ready,omitempty"`
	NotReady []Endpoint      `json:"not_ready,omitempty"`
	// Leaving are pods that are stopping: nothing new is led to them, what they have
	// goes on. One that is in no list is gone.
	Leaving []Endpoint `json:"leaving,omitempty"`
}

// EndpointShare is the part of the connections for the endpoints of that share.
type EndpointShare struct {
	Name   string `json:"name"`
	Weight int    `json:"weight"`
}

// SharesIn are the shares by which the service's connections are divided now:
// those of a canary if its endpoints have them, or its own.
func (s *ServiceSpec) SharesIn(e *Endpoints) []ServiceShare {
	if e == nil || len(e.Spec.Shares) == 0 {
		return s.Shares
	}
	out := make([]ServiceShare, len(e.Spec.Shares))
	for i, x := range e.Spec.Shares {
		out[i] = ServiceShare{Name: x.Name, Weight: x.Weight}
	}
	return out
}

// Endpoint is one pod behind a service.
type Endpoint struct {
	Pod     string         `json:"pod"`
	Node    string         `json:"node"`
	Address string         `json:"address"`
	Share   string         `json:"share,omitempty"` // the service's share that it counts for
	Ports   map[string]int `json:"ports,omitempty"` // by the service port's name
}

// Endpoints carries the name of its service.
type Endpoints struct {
	Meta `json:"meta"`
	Spec EndpointsSpec `json:"spec"`
}

func (o *Endpoints) SpecPtr() any   { return &o.Spec }
func (o *Endpoints) StatusPtr() any { return nil }
func (o *Endpoints) Clone() Object  { c := *o; return &c }
