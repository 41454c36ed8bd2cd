package dns

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// reverse finds names by address. It is split by the last byte of the address, so
// that a change copies the few parts that it touches, not the names of 50,000 pods.
type reverse [256]map[netip.Addr][]claim

// claim is a name of an address: that of a service, or of one of its pods.
type claim struct {
	service *service
	pod     *pod // nil: the service itself
}

func (c claim) host() string {
	if c.pod == nil {
		return c.service.host
	}
	return c.service.podHost(c.pod)
}

func part(a netip.Addr) byte { return a.As16()[15] }

// hosts are the names of an address, in order.
func (r *reverse) hosts(a netip.Addr) []string {
	var out []string
	for _, c := range r[part(a)][a] {
		out = append(out, c.host())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// reverseEdit changes a copy of a published reverse; parts are copied when they
// are written into for the first time.
type reverseEdit struct {
	r   *reverse
	own [256]bool
}

func (e *reverseEdit) part(a netip.Addr) map[netip.Addr][]claim {
	i := part(a)
	if !e.own[i] {
		e.own[i] = true
		if e.r[i] == nil {
			e.r[i] = map[netip.Addr][]claim{}
		} else {
			e.r[i] = maps.Clone(e.r[i])
		}
	}
	return e.r[i]
}

// learn enters the addresses of a service and its pods.
func (e *reverseEdit) learn(s *service) {
	add := func(a netip.Addr, c claim) {
		m := e.part(a)
		m[a] = append(slices.Clip(m[a]), c) // clipped: the list may be another zone's, too
	}
	if s.object.Spec.Virtual() && s.address.IsValid() {
		add(s.address, claim{service: s})
	}
	for i := range s.pods {
		add(s.pods[i].address, claim{s, &s.pods[i]})
	}
}

// forget takes them out again.
func (e *reverseEdit) forget(s *service) {
	remove := func(a netip.Addr) {
		m := e.part(a)
		var left []claim
		for _, c := range m[a] {
			if c.service != s {
				left = append(left, c)
			}
		}
		if len(left) > 0 {
			m[a] = left
		} else {
			delete(m, a)
		}
	}
	if s.object.Spec.Virtual() && s.address.IsValid() {
		remove(s.address)
	}
	for i := range s.pods {
		remove(s.pods[i].address)
	}
}

const arpa = ".in-addr.arpa."

// arpaName is what a name below in-addr.arpa stands for.
type arpaName struct {
	prefix netip.Prefix // of all addresses whose names end in it; /32: one address
	below  bool         // the name has more labels than an address has
}

// parseArpa reads the name of an address, or of all addresses that begin alike.
func parseArpa(name string) (arpaName, bool) {
	text, ok := strings.CutSuffix(name, arpa)
	if !ok {
		return arpaName{}, false
	}
	labels := strings.Split(text, ".")
	out := arpaName{below: len(labels) > 4}
	if out.below {
		labels = labels[len(labels)-4:]
	}
	var octets [4]byte
	for i, l := range labels {
		n, err := strconv.ParseUint(l, 10, 8)
		if err != nil || len(l) > 1 && l[0] == '0' {
			return arpaName{}, false
		}
		octets[len(labels)-1-i] = byte(n)
	}
	out.prefix = netip.PrefixFrom(netip.AddrFrom4(octets), 8*len(labels))
	return out, true
}

// owns reports whether all addresses of a prefix are the cluster's, and so are
// their names; apex is the name under which the cluster answers for them.
func (z *zone) owns(p netip.Prefix) (apex string, ok bool) {
	for _, r := range z.ranges {
		if r.Bits() <= p.Bits() && r.Contains(p.Addr()) {
			octets := p.Addr().As4()
			var labels []string
			for i := (r.Bits() + 7) / 8; i > 0; i-- {
				labels = append(labels, strconv.Itoa(int(octets[i-1])))
			}
			return strings.Join(labels, ".") + arpa, true
		}
	}
	return "", false
}
