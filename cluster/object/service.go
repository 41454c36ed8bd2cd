package object

// ClusterDomain ends the DNS names of services.
const ClusterDomain = "cluster.local"

// ServiceSpec is one name for the pods that a selector picks.
type ServiceSpec struct {
	Selector map[string]string `json:"selector" hcl:"selector,required" effect:"in_place" doc:"Pods of the same namespace that carry all these labels."`
	Ports    []ServicePort     `json:"ports,omitempty" hcl:"port,block" effect:"in_place" doc:"Ports of the service."`
	Type     string            `json:"type" hcl:"type" default:"cluster" enum:"cluster,node_port,headless" effect:"in_place" doc:"cluster: an address inside the cluster; node_port: also a port on every node; headless: the pods' own addresses."`
	Affinity string            `json:"affinity" hcl:"affinity" default:"none" enum:"none,client_ip" effect:"in_place" doc:"client_ip: a client stays with its pod."`
}

// ServicePort leads from a port of the service to one of the pods.
type ServicePort struct {
	Name     string  `json:"name" hcl:"name,label" doc:"Name of the port."`
	Port     int     `json:"port" hcl:"port,required" doc:"Number at the service, 1 to 65535."`
	Target   PortRef `json:"target,omitempty" hcl:"target" doc:"Port of the pods by name or number; default: the same number."`
	Protocol string  `json:"protocol" hcl:"protocol" default:"tcp" enum:"tcp,udp,sctp" doc:"Transport."`
	NodePort int     `json:"node_port,omitempty" hcl:"node_port" doc:"Port on every node, for type node_port."`
}

// Service is one name for the ready pods that its selector picks.
type Service struct {
	Meta `json:"meta"`
	Spec ServiceSpec `json:"spec"`
}

func (o *Service) SpecPtr() any   { return &o.Spec }
func (o *Service) StatusPtr() any { return nil }
func (o *Service) Clone() Object  { c := *o; return &c }

// Host is the DNS name of the service.
func (o *Service) Host() string {
	return o.Name + "." + o.Namespace + ".svc." + ClusterDomain
}

// EndpointsSpec lists where a service leads, ordered by pod name.
type EndpointsSpec struct {
	Ready    []Endpoint `json:"ready,omitempty"`
	NotReady []Endpoint `json:"not_ready,omitempty"`
}

// Endpoint is one pod behind a service.
type Endpoint struct {
	Pod     string         `json:"pod"`
	Node    string         `json:"node"`
	Address string         `json:"address"`
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
