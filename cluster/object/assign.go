package object

import (
	"cmp"
	"maps"
	"slices"
)

// Assignment is what the masters chose for a service that left it open, or a pod
// that they chose for a rebalance.
type Assignment struct {
	Ref       Ref            `json:"ref"`
	Address   string         `json:"address,omitempty"`
	NodePorts map[string]int `json:"node_ports,omitempty"` // by the port's name
}

// Assign puts choices into the plan's objects and notes them in Assigned. The
// objects themselves stay as they were: others may hold them.
func (p *Plan) Assign(list []Assignment) {
	p.Assigned = list
	if len(list) == 0 {
		return
	}
	by := make(map[Ref]*Assignment, len(list))
	for i := range list {
		by[list[i].Ref] = &list[i]
	}
	p.Changes = slices.Clone(p.Changes)
	for i := range p.Changes {
		c := &p.Changes[i]
		svc, ok := c.After.Object.(*Service)
		if a := by[c.Ref]; ok && a != nil {
			c.After.Object = a.To(svc)
		}
	}
}

// To is the service with the choices.
func (a *Assignment) To(s *Service) *Service {
	out := s.Clone().(*Service)
	if a.Address != "" {
		out.Spec.Address = a.Address
	}
	if len(a.NodePorts) > 0 {
		out.Spec.Ports = slices.Clone(out.Spec.Ports)
		for i := range out.Spec.Ports {
			if n := a.NodePorts[out.Spec.Ports[i].Name]; n != 0 {
				out.Spec.Ports[i].NodePort = n
			}
		}
	}
	return out
}

// Equal reports whether two assignments say the same.
func (a *Assignment) Equal(b *Assignment) bool {
	return a.Ref == b.Ref && a.Address == b.Address && maps.Equal(a.NodePorts, b.NodePorts)
}

// KeepAssigned copies what the masters chose for the object in force, and what its
// founding settled, into a desired object that leaves it open.
func KeepAssigned(desired, inForce Object) {
	switch x := desired.(type) {
	case *Service:
		now, ok := inForce.(*Service)
		if !ok {
			return
		}
		if x.Spec.Address == "" && x.Spec.Virtual() {
			x.Spec.Address = now.Spec.Address
		}
		if x.Spec.Type != "node_port" {
			return
		}
		x.Spec.Ports = slices.Clone(x.Spec.Ports)
		for i := range x.Spec.Ports {
			p := &x.Spec.Ports[i]
			for _, had := range now.Spec.Ports {
				if p.NodePort == 0 && had.Name == p.Name && had.Protocol == p.Protocol {
					p.NodePort = had.NodePort
				}
			}
		}
	case *Network:
		if now, ok := inForce.(*Network); ok {
			x.Spec.Pods = cmp.Or(x.Spec.Pods, now.Spec.Pods)
			x.Spec.NodeBits = cmp.Or(x.Spec.NodeBits, now.Spec.NodeBits)
			x.Spec.Services = cmp.Or(x.Spec.Services, now.Spec.Services)
			x.Spec.NodePorts = cmp.Or(x.Spec.NodePorts, now.Spec.NodePorts)
		}
	}
}
