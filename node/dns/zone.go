package dns

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/miekg/dns"

	"github.com/berthdev/berth/cluster/object"
)

// zone is all names of the cluster at one index. It is not written into once it
// is published; the next one shares with it what has not changed.
type zone struct {
	index    uint64
	told     bool       // the masters have told: what is not here is nowhere
	services []*service // by namespace and name
	reverse  reverse
	ranges   []netip.Prefix // addresses that are the cluster's own
}

// service is what is answered for one service.
type service struct {
	object    *object.Service
	endpoints *object.Endpoints // nil: none yet
	host      string            // its name, with the last dot
	address   netip.Addr        // virtual, or that of an external service that names one; the zero Addr: none
	outside   string            // what an external service stands for, with the last dot
	pods      []pod             // all, by name
	serving   []*pod            // ready, and their share of the connections is not nothing
}

type pod struct {
	name    string
	address netip.Addr
	ready   bool
	share   string
	weight  uint16         // for SRV records
	ports   map[string]int // by the service port's name
}

func (s *service) podHost(p *pod) string { return p.name + "." + s.host }

// pod finds a pod of the service by name.
func (s *service) pod(name string) (*pod, bool) {
	i, ok := slices.BinarySearchFunc(s.pods, name, func(p pod, name string) int { return cmp.Compare(p.name, name) })
	if !ok {
		return nil, false
	}
	return &s.pods[i], true
}

// emptyZone is what is known before the first view: nothing, not even what there
// is not.
func emptyZone() *zone { return &zone{} }

// next is the zone of a view. Services whose objects are the same as before are
// taken over, so a small change costs little. The notes are of what cannot be
// read in the objects that are new; it is left out of the answers.
func (z *zone) next(v *object.NetworkView) (next *zone, notes []string) {
	n := &zone{index: v.Index, told: v.Network != nil, services: make([]*service, 0, len(v.Services)), reverse: z.reverse}
	if v.Network != nil {
		for _, text := range []string{v.Network.Spec.Pods, v.Network.Spec.Services} {
			if p, err := netip.ParsePrefix(text); err == nil {
				n.ranges = append(n.ranges, p.Masked())
			}
		}
	}
	// All three lists are ordered by namespace and name.
	edit, old, endpoints := reverseEdit{r: &n.reverse}, z.services, v.Endpoints
	for _, svc := range v.Services {
		if len(old) > 0 && len(endpoints) > 0 && old[0].object == svc && old[0].endpoints == endpoints[0] {
			n.services = append(n.services, old[0]) // as most are, without looking into them
			old, endpoints = old[1:], endpoints[1:]
			continue
		}
		for len(old) > 0 && compare(&old[0].object.Meta, svc.Namespace, svc.Name) < 0 {
			edit.forget(old[0])
			old = old[1:]
		}
		for len(endpoints) > 0 && compare(&endpoints[0].Meta, svc.Namespace, svc.Name) < 0 {
			endpoints = endpoints[1:]
		}
		var eps *object.Endpoints
		if len(endpoints) > 0 && compare(&endpoints[0].Meta, svc.Namespace, svc.Name) == 0 {
			eps, endpoints = endpoints[0], endpoints[1:]
		}
		if len(old) > 0 && compare(&old[0].object.Meta, svc.Namespace, svc.Name) == 0 {
			was := old[0]
			old = old[1:]
			if was.object == svc && was.endpoints == eps {
				n.services = append(n.services, was)
				continue
			}
			edit.forget(was)
		}
		s, bad := newService(svc, eps)
		notes = append(notes, bad...)
		n.services = append(n.services, s)
		edit.learn(s)
	}
	for _, s := range old {
		edit.forget(s)
	}
	return n, notes
}

// compare orders an object among namespaces and names.
func compare(m *object.Meta, namespace, name string) int {
	return cmp.Or(cmp.Compare(m.Namespace, namespace), cmp.Compare(m.Name, name))
}

// service finds a service; nil if there is none.
func (z *zone) service(namespace, name string) *service {
	i, ok := slices.BinarySearchFunc(z.services, name, func(s *service, name string) int { return compare(&s.object.Meta, namespace, name) })
	if !ok {
		return nil
	}
	return z.services[i]
}

// hasNamespace reports whether a namespace has services.
func (z *zone) hasNamespace(name string) bool {
	_, ok := slices.BinarySearchFunc(z.services, name, func(s *service, name string) int { return cmp.Compare(s.object.Namespace, name) })
	return ok
}

func newService(svc *object.Service, eps *object.Endpoints) (s *service, notes []string) {
	s = &service{object: svc, endpoints: eps, host: svc.Host() + "."}
	read := func(pod, text string) netip.Addr {
		a, err := netip.ParseAddr(text)
		if err != nil {
			notes = append(notes, fmt.Sprintf("service %s/%s: the address %q of %s is none", svc.Namespace, svc.Name, text, cmp.Or(pod, "the service")))
		}
		return a.Unmap()
	}
	if svc.Spec.Type == "external" {
		// Digits and dots look like a host, too.
		if a, err := netip.ParseAddr(svc.Spec.ExternalName); err == nil {
			s.address = a.Unmap()
		} else if _, ok := dns.IsDomainName(svc.Spec.ExternalName); ok { // not too long
			s.outside = dns.Fqdn(svc.Spec.ExternalName)
		} else {
			notes = append(notes, fmt.Sprintf("service %s/%s: external_name %q is no name", svc.Namespace, svc.Name, svc.Spec.ExternalName))
		}
		return s, notes
	}
	if svc.Spec.Virtual() && svc.Spec.Address != "" {
		s.address = read("", svc.Spec.Address)
	}
	if eps == nil {
		return s, notes
	}
	s.pods = make([]pod, 0, len(eps.Spec.Ready)+len(eps.Spec.NotReady))
	add := func(list []object.Endpoint, ready bool) {
		for _, e := range list {
			if a := read(e.Pod, e.Address); a.IsValid() {
				s.pods = append(s.pods, pod{name: e.Pod, address: a, ready: ready, share: e.Share, ports: e.Ports})
			}
		}
	}
	add(eps.Spec.Ready, true)
	add(eps.Spec.NotReady, false)
	slices.SortFunc(s.pods, func(a, b pod) int { return cmp.Compare(a.name, b.name) })
	s.weigh()
	return s, notes
}

// weigh finds out which pods answer for the service, and their weights. Without
// shares all ready pods weigh the same; with shares those of one share divide its
// weight, as the connections to a virtual address are divided.
func (s *service) weigh() {
	s.serving = make([]*pod, 0, len(s.endpoints.Spec.Ready))
	shares := s.object.Spec.SharesIn(s.endpoints)
	if len(shares) == 0 {
		for i := range s.pods {
			if p := &s.pods[i]; p.ready {
				p.weight = 1
				s.serving = append(s.serving, p)
			}
		}
		return
	}
	weight, count, sum := map[string]int{}, map[string]int{}, 0
	for i := range s.pods {
		if p := &s.pods[i]; p.ready {
			count[p.share]++
		}
	}
	for _, share := range shares {
		if count[share.Name] > 0 { // the part of one without pods falls to the others
			weight[share.Name] = share.Weight
			sum += share.Weight
		}
	}
	for i := range s.pods {
		if p := &s.pods[i]; p.ready && weight[p.share] > 0 {
			p.weight = uint16(max(1, 65535*weight[p.share]/sum/count[p.share]))
			s.serving = append(s.serving, p)
		}
	}
}
