package controller

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// services give services that have none a virtual address and node ports. Those of
// a plan have them already: the leader chooses when it rehearses, with the same
// Allotment. What was claimed twice nevertheless, by two plans that were made at
// the same time, the younger service gives up for another.
type services struct{}

func (services) Name() string { return "service" }

func (services) Inputs() []Input {
	return []Input{
		{Kind: object.KindService, Keys: self},
		{Kind: object.KindNetwork, Keys: func(v *state.Snapshot, _ state.Event) []object.Ref {
			var keys []object.Ref
			for s := range state.All[*object.Service](v, object.KindService) {
				if open(s) {
					keys = append(keys, s.Ref()) // there may be room now
				}
			}
			return keys
		}},
	}
}

func (services) Outputs() []object.Kind { return []object.Kind{object.KindService, object.KindEvent} }

// open reports whether something is left for the masters to choose.
func open(s *object.Service) bool {
	if !s.Spec.Virtual() {
		return false
	}
	if s.Spec.Address == "" {
		return true
	}
	if s.Spec.Type == "node_port" {
		for _, p := range s.Spec.Ports {
			if p.NodePort == 0 {
				return true
			}
		}
	}
	return false
}

func (services) Reconcile(v *state.Snapshot, key object.Ref, now time.Time) (Result, error) {
	w := begin("service", v, now)
	s, ok := state.Find[*object.Service](v, key)
	if !ok {
		return w.done()
	}
	wanted := w.withoutTaken(s)
	a := NewAllotment(v)
	chosen, err := a.Fill(wanted)
	if err != nil {
		const reason = "no_address"
		if _, told := v.Get(object.Ref{Kind: object.KindEvent, Namespace: key.Namespace, Name: object.EventName(key, reason, err.Error())}); !told {
			w.because("service %s gets no address", key.Name)
			w.tell(key, levelWarning, reason, "%s", err)
		}
	}
	if chosen == nil {
		return w.done()
	}
	w.because("service %s gets what it left open", key.Name)
	w.Changes.Update(s, chosen.To(wanted))
	return w.done()
}

// withoutTaken is the service without claims that an older service has, too.
func (w *work) withoutTaken(s *object.Service) *object.Service {
	out := s
	for _, claim := range s.Spec.Claims() {
		older := false
		for o := range w.v.ServicesClaiming(claim) {
			older = older || o.Created < s.Created || o.Created == s.Created && o.Ref().Compare(s.Ref()) < 0
		}
		if !older {
			continue
		}
		c := out.Clone().(*object.Service)
		if claim == c.Spec.Address {
			c.Spec.Address = ""
		}
		c.Spec.Ports = append([]object.ServicePort(nil), c.Spec.Ports...)
		for i, p := range c.Spec.Ports {
			if object.NodePortClaim(p.Protocol, p.NodePort) == claim {
				c.Spec.Ports[i].NodePort = 0
			}
		}
		w.tell(s.Ref(), levelWarning, "claimed_twice", "%s is another service's, too; this one, being younger, gets another", claim)
		out = c
	}
	return out
}

// Allotment chooses virtual addresses and node ports that nobody has. Its choices
// follow from the service's name, so that equal states give equal choices and a
// service that is made anew tends to get what it had.
type Allotment struct {
	v      *state.Snapshot
	space  netip.Prefix
	ports  [2]int
	taken  map[string]object.Ref // by this allotment
	ending map[object.Ref]bool   // services whose claims count no more
	known  bool                  // there is a network; before that, nothing can be chosen
	err    error
}

// NewAllotment begins on a state.
func NewAllotment(v *state.Snapshot) *Allotment {
	a := &Allotment{v: v, taken: map[string]object.Ref{}, ending: map[object.Ref]bool{}}
	if n, ok := state.Find[*object.Network](v, object.Ref{Kind: object.KindNetwork, Name: object.NetworkName}); ok {
		a.Within(n)
	}
	return a
}

// Within makes the allotment choose out of another network's ranges.
func (a *Allotment) Within(n *object.Network) {
	a.known, a.err = true, nil
	if a.space, _ = object.Prefix(n.Spec.Services); !a.space.IsValid() {
		a.err = fmt.Errorf("the network has no range for services; set services = … of network %q", object.NetworkName)
	}
	a.ports[0], a.ports[1], _ = n.Spec.PortRange()
}

// End says that a service ends, or changes: what it has in the state counts no more.
func (a *Allotment) End(r object.Ref) { a.ending[r] = true }

// Claim notes that a service has something from now on. The answer is who else has
// it; the zero Ref: nobody.
func (a *Allotment) Claim(claim string, r object.Ref) object.Ref {
	if other := a.holder(claim, r); !other.IsZero() {
		return other
	}
	a.taken[claim] = r
	return object.Ref{}
}

func (a *Allotment) holder(claim string, but object.Ref) object.Ref {
	if r, ok := a.taken[claim]; ok && r != but {
		return r
	}
	for s := range a.v.ServicesClaiming(claim) {
		if r := s.Ref(); r != but && !a.ending[r] {
			return r
		}
	}
	return object.Ref{}
}

// Fill chooses what the service leaves open; nil if that is nothing. The error says
// why something could not be chosen; the rest is chosen nevertheless.
func (a *Allotment) Fill(s *object.Service) (*object.Assignment, error) {
	if !open(s) || !a.known {
		return nil, nil
	}
	if a.err != nil {
		return nil, a.err
	}
	out := &object.Assignment{Ref: s.Ref()}
	var failed error
	seed := fnv.New64a()
	seed.Write([]byte(s.Namespace + "/" + s.Name)) // never fails, see hash.Hash
	if s.Spec.Address == "" {
		if out.Address = a.address(s.Ref(), seed.Sum64()); out.Address == "" {
			failed = fmt.Errorf("no address is left in the services' range %s; make it larger (services = … of network %q)", a.space, object.NetworkName)
		}
	}
	if s.Spec.Type == "node_port" {
		for _, p := range s.Spec.Ports {
			if p.NodePort != 0 {
				continue
			}
			seed.Write([]byte("\x00" + p.Name))
			n := a.port(p.Protocol, s.Ref(), seed.Sum64())
			if n == 0 {
				failed = fmt.Errorf("no %s node port is left between %d and %d; make the range larger (node_ports = … of network %q)", p.Protocol, a.ports[0], a.ports[1], object.NetworkName)
				continue
			}
			if out.NodePorts == nil {
				out.NodePorts = map[string]int{}
			}
			out.NodePorts[p.Name] = n
		}
	}
	if out.Address == "" && out.NodePorts == nil {
		return nil, failed
	}
	return out, failed
}

// address is the first free one from where the seed points to; the first and the
// last of the range are left out.
func (a *Allotment) address(r object.Ref, seed uint64) string {
	first := a.space.Masked().Addr().As4()
	base := uint32(first[0])<<24 | uint32(first[1])<<16 | uint32(first[2])<<8 | uint32(first[3])
	usable := uint64(1)<<(32-a.space.Bits()) - 2
	for i := range usable {
		n := base + 1 + uint32((seed+i)%usable)
		text := netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}).String()
		if a.Claim(text, r).IsZero() {
			return text
		}
	}
	return ""
}

func (a *Allotment) port(protocol string, r object.Ref, seed uint64) int {
	room := uint64(a.ports[1] - a.ports[0] + 1)
	for i := range room {
		n := a.ports[0] + int((seed+i)%room)
		if a.Claim(object.NodePortClaim(protocol, n), r).IsZero() {
			return n
		}
	}
	return 0
}
