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
	index      uint64
	told       bool // the masters have told: what is not here is nowhere
	services   map[serviceKey]*service
	namespaces map[string]bool // that have services
	reverse    reverse
	ranges     []netip.Prefix // addresses that are the cluster's own
}

type serviceKey struct{ namespace, name string }

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
	n := &zone{
		index: v.Index, told: v.Network != nil, services: make(map[serviceKey]*service, len(v.Services)),
		namespaces: map[string]bool{}, reverse: z.reverse,
	}
	if v.Network != nil {
		for _, text := range []string{v.Network.Spec.Pods, v.Network.Spec.Services} {
			if p, err := netip.ParsePrefix(text); err == nil {
				n.ranges = append(n.ranges, p.Masked())
			}
		}
	}
	edit := reverseEdit{r: &n.reverse}
	endpoints := v.Endpoints
	kept := 0 // services of z that are in n, too, changed or not
	for _, svc := range v.Services {
		k := serviceKey{svc.Namespace, svc.Name}
		n.namespaces[svc.Namespace] = true
		// Both lists are ordered by namespace and name.
		for len(endpoints) > 0 && before(endpoints[0], svc) {
			endpoints = endpoints[1:]
		}
		var eps *object.Endpoints
		if len(endpoints) > 0 && endpoints[0].Namespace == svc.Namespace && endpoints[0].Name == svc.Name {
			eps = endpoints[0]
		}
		old := z.services[k]
		if old != nil {
			kept++
			if old.object == svc && old.endpoints == eps {
				n.services[k] = old
				continue
			}
			edit.forget(old)
		}
		s, bad := newService(svc, eps)
		notes = append(notes, bad...)
		n.services[k] = s
		edit.learn(s)
	}
	if kept < len(z.services) {
		for k, old := range z.services {
			if n.services[k] == nil {
				edit.forget(old)
			}
		}
	}
	return n, notes
}

func before(e *object.Endpoints, s *object.Service) bool {
	return cmp.Or(cmp.Compare(e.Namespace, s.Namespace), cmp.Compare(e.Name, s.Name)) < 0
}

func newService(svc *object.Service, eps *object.Endpoints) (s *service, notes []string) {
	s = &service{object: svc, endpoints: eps, host: svc.Host() + "."}
	read := func(what, text string) netip.Addr {
		a, err := netip.ParseAddr(text)
		if err != nil {
			notes = append(notes, fmt.Sprintf("service %s/%s: %s has the address %q, which is none", svc.Namespace, svc.Name, what, text))
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
		s.address = read("it", svc.Spec.Address)
	}
	if eps == nil {
		return s, notes
	}
	s.pods = make([]pod, 0, len(eps.Spec.Ready)+len(eps.Spec.NotReady))
	add := func(list []object.Endpoint, ready bool) {
		for _, e := range list {
			if a := read("pod "+e.Pod, e.Address); a.IsValid() {
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
	shares := s.object.Spec.Shares
	weight, count, sum := map[string]int{}, map[string]int{}, 0
	for i := range s.pods {
		if p := &s.pods[i]; p.ready {
			count[p.share]++
		}
	}
	for _, share := range shares {
		if count[share.Name] > 0 {
			weight[share.Name] = share.Weight
			sum += share.Weight
		}
	}
	for i := range s.pods {
		p := &s.pods[i]
		switch {
		case !p.ready:
			continue
		case len(shares) == 0:
			p.weight = 1
		case weight[p.share] > 0:
			p.weight = uint16(max(1, 65535*weight[p.share]/sum/count[p.share]))
		default:
			continue
		}
		s.serving = append(s.serving, p)
	}
}
