package dns

import (
	"math/rand/v2"
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"github.com/berthdev/berth/cluster/object"
)

const (
	clusterDomain = object.ClusterDomain + "."
	// serverName is the name server that the cluster's domain names as its own.
	serverName = "ns.dns." + clusterDomain

	// Who caches an answer misses changes for so long. A service keeps its address
	// for life; pods come and go, and what is not there yet may be soon.
	stableTTL = 5
	movingTTL = 1

	// maxAliases is how many external services may lead to one another.
	maxAliases = 8
)

// reply is the part of an answer that depends on the name.
type reply struct {
	rcode         int
	answer        []dns.RR
	ns            []dns.RR
	extra         []dns.RR
	alias         string // the answer goes on with this name
	authoritative bool
	authenticated bool
	why           string // for people, when there is no answer
	source        source
}

func failure(s source, why string) reply {
	return reply{rcode: dns.RcodeServerFailure, why: why, source: s}
}

// lookup answers from the zone; ok is false when the name is not the cluster's,
// so that others have to be asked. Owner is the name as the client wrote it.
func (z *zone) lookup(owner string, qtype uint16, self []netip.Addr) (r reply, ok bool) {
	name := strings.ToLower(owner)
	if name == clusterDomain || strings.HasSuffix(name, "."+clusterDomain) {
		r = z.clusterName(owner, strings.TrimSuffix(strings.TrimSuffix(name, clusterDomain), "."), qtype, self)
		r.source = fromCluster
	} else if r, ok = z.reverseName(owner, name, qtype); ok {
		r.source = fromReverse
	} else {
		return reply{}, false
	}
	r.authoritative = r.rcode != dns.RcodeServerFailure
	return r, true
}

// clusterName answers for a name below the cluster's domain; rest is what stands
// before that.
func (z *zone) clusterName(owner, rest string, qtype uint16, self []netip.Addr) reply {
	switch rest {
	case "":
		return z.apex(owner, qtype)
	case "dns", "svc":
		return z.nothing(clusterDomain)
	case "ns.dns":
		return z.addresses(owner, qtype, stableTTL, self...)
	}
	// Escaped characters, as in `a\.b`, are in no name of ours.
	labels := strings.Split(rest, ".")
	n := len(labels)
	if labels[n-1] != "svc" || strings.Contains(rest, `\`) {
		return z.unknown(clusterDomain)
	}
	if n == 2 {
		if z.hasNamespace(labels[0]) {
			return z.nothing(clusterDomain)
		}
		return z.unknown(clusterDomain)
	}
	s := z.service(labels[n-2], labels[n-3])
	switch {
	case s == nil:
	case n == 3:
		return z.serviceName(s, owner, qtype)
	case n == 4 && strings.HasPrefix(labels[0], "_"):
		if s.speaks(labels[0][1:]) {
			return z.nothing(clusterDomain)
		}
	case n == 4:
		if p, ok := s.pod(labels[0]); ok {
			return z.addresses(owner, qtype, movingTTL, p.address)
		}
	case n == 5 && strings.HasPrefix(labels[0], "_") && strings.HasPrefix(labels[1], "_"):
		if p, ok := s.port(labels[0][1:], labels[1][1:]); ok {
			return z.portName(s, p, owner, qtype)
		}
	}
	return z.unknown(clusterDomain)
}

// speaks reports whether a port of the service has the protocol.
func (s *service) speaks(protocol string) bool {
	for i := range s.object.Spec.Ports {
		if s.object.Spec.Ports[i].Protocol == protocol {
			return true
		}
	}
	return false
}

func (s *service) port(name, protocol string) (*object.ServicePort, bool) {
	for i := range s.object.Spec.Ports {
		if p := &s.object.Spec.Ports[i]; p.Name == name && p.Protocol == protocol {
			return p, true
		}
	}
	return nil, false
}

func (z *zone) apex(owner string, qtype uint16) reply {
	switch qtype {
	case dns.TypeSOA:
		return reply{answer: []dns.RR{z.soa(owner)}}
	case dns.TypeNS:
		return reply{answer: []dns.RR{&dns.NS{Hdr: header(owner, dns.TypeNS, stableTTL), Ns: serverName}}}
	case dns.TypeANY:
		return reply{answer: []dns.RR{z.soa(owner), &dns.NS{Hdr: header(owner, dns.TypeNS, stableTTL), Ns: serverName}}}
	}
	return z.nothing(clusterDomain)
}

func (z *zone) serviceName(s *service, owner string, qtype uint16) reply {
	if s.object.Spec.Type == "external" {
		return z.externalName(s, owner, qtype)
	}
	if s.address.IsValid() {
		return z.addresses(owner, qtype, stableTTL, s.address)
	}
	// In no order: whoever takes the first address spreads over all pods, and so
	// do those that a dead first pod leaves to the second.
	all := make([]netip.Addr, len(s.serving))
	for i, p := range s.serving {
		all[i] = p.address
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return z.addresses(owner, qtype, movingTTL, all...)
}

func (z *zone) externalName(s *service, owner string, qtype uint16) reply {
	if s.address.IsValid() {
		return z.addresses(owner, qtype, stableTTL, s.address)
	}
	if s.outside == "" {
		return failure(fromCluster, "the external_name of the service is no name that can be asked for")
	}
	r := reply{answer: []dns.RR{&dns.CNAME{Hdr: header(owner, dns.TypeCNAME, stableTTL), Target: s.outside}}}
	if qtype != dns.TypeCNAME && qtype != dns.TypeANY {
		r.alias = s.outside
	}
	return r
}

// portName answers where a named port of a service is: at its address, or at
// each of its pods.
func (z *zone) portName(s *service, p *object.ServicePort, owner string, qtype uint16) reply {
	if qtype != dns.TypeSRV && qtype != dns.TypeANY {
		return z.nothing(clusterDomain)
	}
	var r reply
	add := func(target string, a netip.Addr, port int, weight uint16, ttl uint32) {
		r.answer = append(r.answer, &dns.SRV{Hdr: header(owner, dns.TypeSRV, ttl), Weight: weight, Port: uint16(port), Target: target})
		if a.IsValid() {
			r.extra = append(r.extra, addressRecord(target, a, ttl))
		}
	}
	switch {
	case s.address.IsValid():
		add(s.host, s.address, p.Port, 1, stableTTL)
	case s.outside != "":
		add(s.outside, netip.Addr{}, p.Port, 1, stableTTL)
	default:
		for _, i := range rand.Perm(len(s.serving)) {
			pod := s.serving[i]
			if port := pod.ports[p.Name]; port > 0 { // else it does not listen there
				add(s.podHost(pod), pod.address, port, pod.weight, movingTTL)
			}
		}
	}
	if len(r.answer) == 0 {
		return z.nothing(clusterDomain)
	}
	return r
}

// reverseName answers for the names of addresses of the cluster.
func (z *zone) reverseName(owner, name string, qtype uint16) (r reply, ok bool) {
	at, ok := parseArpa(name)
	if !ok {
		return reply{}, false
	}
	apex, own := z.owns(at.prefix)
	if at.prefix.Bits() < 32 {
		if own {
			return z.nothing(apex), true // some address may be below it
		}
		return reply{}, false
	}
	hosts := z.reverse.hosts(at.prefix.Addr())
	if !own {
		apex = name
	}
	switch {
	case len(hosts) == 0 && !own:
		return reply{}, false
	case len(hosts) == 0 || at.below:
		return z.unknown(apex), true
	case qtype != dns.TypePTR && qtype != dns.TypeANY:
		return z.nothing(apex), true
	}
	for _, h := range hosts {
		r.answer = append(r.answer, &dns.PTR{Hdr: header(owner, dns.TypePTR, movingTTL), Ptr: h})
	}
	return r, true
}

// addresses answers with those addresses that are of the type asked for.
func (z *zone) addresses(owner string, qtype uint16, ttl uint32, all ...netip.Addr) reply {
	var r reply
	for _, a := range all {
		if qtype == dns.TypeANY || qtype == dns.TypeA && a.Is4() || qtype == dns.TypeAAAA && a.Is6() {
			r.answer = append(r.answer, addressRecord(owner, a, ttl))
		}
	}
	if len(r.answer) == 0 {
		return z.nothing(clusterDomain)
	}
	return r
}

func addressRecord(owner string, a netip.Addr, ttl uint32) dns.RR {
	if a.Is4() {
		return &dns.A{Hdr: header(owner, dns.TypeA, ttl), A: a.AsSlice()}
	}
	return &dns.AAAA{Hdr: header(owner, dns.TypeAAAA, ttl), AAAA: a.AsSlice()}
}

// nothing says that the name is there and has no such record.
func (z *zone) nothing(apex string) reply { return reply{ns: []dns.RR{z.soa(apex)}} }

// unknown says that there is no such name; before the masters have told which
// names there are, nobody can say so.
func (z *zone) unknown(apex string) reply {
	if !z.told {
		return failure(fromCluster, "the masters have not told this node yet what there is")
	}
	return reply{rcode: dns.RcodeNameError, ns: []dns.RR{z.soa(apex)}}
}

// soa says how long an answer that something is not there holds, too.
func (z *zone) soa(owner string) dns.RR {
	return &dns.SOA{
		Hdr: header(owner, dns.TypeSOA, movingTTL), Ns: serverName, Mbox: "hostmaster." + clusterDomain,
		Serial: uint32(z.index), Refresh: 3600, Retry: 600, Expire: 86400, Minttl: movingTTL,
	}
}

func header(owner string, rrtype uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}
