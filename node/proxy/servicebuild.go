package proxy

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/berthdev/berth/cluster/object"
)

// builder builds rule sets and remembers the parts of services that stay the same.
// What it answers is a function of what it is given last: the memory only saves time.
type builder struct {
	layout   layout
	memo     []remembered // ordered as the services were
	problems []string
}

type remembered struct {
	svc  *object.Service
	eps  *object.Endpoints
	part *part
}

// change is a service whose part is new; before or after is nil when it came or went.
type change struct{ before, after *part }

// build answers the rules for the services, both lists being ordered by Ref, and
// which parts changed since the last call.
func (b *builder) build(l layout, services []*object.Service, endpoints []*object.Endpoints) (ruleSet, []change) {
	old := b.memo
	anew := l != b.layout
	b.layout, b.memo, b.problems = l, make([]remembered, 0, len(services)), nil
	var changes []change
	for _, svc := range services {
		for len(old) > 0 && byName(&old[0].svc.Meta, &svc.Meta) < 0 {
			changes = append(changes, change{before: old[0].part})
			old = old[1:]
		}
		for len(endpoints) > 0 && byName(&endpoints[0].Meta, &svc.Meta) < 0 {
			endpoints = endpoints[1:]
		}
		now := remembered{svc: svc}
		if len(endpoints) > 0 && byName(&endpoints[0].Meta, &svc.Meta) == 0 {
			now.eps = endpoints[0]
		}
		var before *part
		if len(old) > 0 && byName(&old[0].svc.Meta, &svc.Meta) == 0 {
			before = old[0].part
			if !anew && old[0].svc == svc && old[0].eps == now.eps {
				now.part = before
			}
			old = old[1:]
		}
		if now.part == nil {
			now.part = l.part(svc, now.eps)
			changes = append(changes, change{before, now.part})
		}
		b.memo = append(b.memo, now)
	}
	for _, o := range old {
		changes = append(changes, change{before: o.part})
	}
	return b.assemble(), changes
}

func byName(a, b *object.Meta) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

// assemble joins the parts.
func (b *builder) assemble() ruleSet {
	l, out := b.layout, newRuleSet()
	nat, filter := make(map[string][]string, len(b.memo)*5/4+16), out["filter"]
	out["nat"] = nat
	for _, c := range []string{chainServices, chainPorts, chainSelf} {
		nat[c] = nil
	}
	n := len(b.memo)
	virtual, local := make([]entry, 0, n), make([]netip.Addr, 0, n)
	var ports, closed []entry
	var outside []netip.Addr
	for _, m := range b.memo {
		for c, rules := range m.part.chains {
			nat[c] = rules
		}
		virtual = append(virtual, m.part.virtual...)
		ports = append(ports, m.part.ports...)
		closed = append(closed, m.part.closed...)
		local = append(local, m.part.local...)
		if a := m.part.addr; a.IsValid() && !l.services.Contains(a) {
			outside = append(outside, a)
		}
		b.problems = append(b.problems, m.part.problems...)
	}
	b.addressTree(nat, b.claim(virtual))
	b.portTree(nat, b.claim(ports))
	if len(nat[chainPorts]) > 0 {
		// Not at 127.0.0.1: what is bound there is the machine's own, and packets with
		// that address may not leave it.
		nat[chainServices] = append(nat[chainServices], "! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j "+chainPorts)
	}
	slices.SortFunc(local, netip.Addr.Compare)
	for _, a := range slices.Compact(local) {
		nat[chainSelf] = append(nat[chainSelf], fmt.Sprintf("-s %[1]s/32 -d %[1]s/32 -j MASQUERADE", a))
	}
	nat[chainMasq] = l.masquerades()
	filter[chainReject] = l.rejects(outside)
	filter[chainPass], filter[chainClosed] = l.passes(), nil
	for _, e := range b.claim(closed) {
		filter[chainClosed] = append(filter[chainClosed], e.rule)
	}
	return out
}

// claim orders entries and drops those whose place an earlier service has.
func (b *builder) claim(entries []entry) []entry {
	place := func(x, y entry) int {
		return cmp.Or(x.addr.Compare(y.addr), cmp.Compare(x.protocol, y.protocol), cmp.Compare(x.port, y.port))
	}
	slices.SortStableFunc(entries, place) // services come in order, so the first stays the first
	kept := entries[:0]
	for _, e := range entries {
		if n := len(kept); n > 0 && place(kept[n-1], e) == 0 {
			what := fmt.Sprintf("node port %d", e.port)
			if e.addr.IsValid() {
				what = fmt.Sprintf("port %d at %s", e.port, e.addr)
			}
			b.problems = append(b.problems, fmt.Sprintf("service %s/%s: %s (%s) belongs to service %s/%s already, which keeps it; give one of them another",
				e.service.Namespace, e.service.Name, what, e.protocol, kept[n-1].service.Namespace, kept[n-1].service.Name))
			continue
		}
		kept = append(kept, e)
	}
	return kept
}

// addressTree hangs the ordered entries below chainServices.
func (b *builder) addressTree(nat map[string][]string, entries []entry) {
	type bucket struct {
		prefix netip.Prefix
		chain  string
	}
	levels := b.layout.addressLevels()
	open := make([]bucket, len(levels))
	for _, e := range entries {
		parent := chainServices
		for i, bits := range levels {
			if p, _ := e.addr.Prefix(bits); p != open[i].prefix {
				a := p.Addr().As4()
				open[i] = bucket{p, fmt.Sprintf("%s%08x-%d", prefixAddresses, binary.BigEndian.Uint32(a[:]), bits)}
				nat[parent] = append(nat[parent], "-d "+p.String()+" -j "+open[i].chain)
			}
			parent = open[i].chain
		}
		nat[parent] = append(nat[parent], e.rule)
	}
}

// portTree hangs the ordered entries below chainPorts, by runs of 32 ports.
func (b *builder) portTree(nat map[string][]string, entries []entry) {
	last := ""
	for _, e := range entries {
		first := e.port &^ (1<<bucketBits - 1)
		chain := fmt.Sprintf("%s%s-%d", prefixNodePorts, e.protocol, first)
		if chain != last {
			nat[chainPorts] = append(nat[chainPorts], fmt.Sprintf("-p %[1]s -m %[1]s --dport %[2]d:%[3]d -j %[4]s", e.protocol, first, first|(1<<bucketBits-1), chain))
			last = chain
		}
		nat[chain] = append(nat[chain], e.rule)
	}
}

// masquerades are for connections whose answers would miss this node, where they
// must be translated back: a pod that reaches itself, and callers that are no pods
// (the world, the node) and were led to a pod of another node.
func (l layout) masquerades() []string {
	var out []string
	if l.own.IsValid() {
		out = append(out, fmt.Sprintf("-s %[1]s -d %[1]s -m conntrack --ctstate DNAT -j %[2]s", l.own, chainSelf), fmt.Sprintf("-d %s -j RETURN", l.own))
	} else {
		out = append(out, "-m conntrack --ctstate DNAT -j "+chainSelf)
	}
	if l.pods.IsValid() {
		out = append(out, fmt.Sprintf("! -s %[1]s -d %[1]s -m conntrack --ctstate DNAT -j MASQUERADE", l.pods))
	}
	return out
}

// passes let connections through that come to a node port and were led to a pod of
// another node, where the machine's own policy would drop them. Those of this node's
// pods are for others to judge.
func (l layout) passes() []string {
	if !l.own.IsValid() || !l.pods.IsValid() {
		return nil
	}
	return []string{
		fmt.Sprintf("-s %s -j RETURN", l.own),
		fmt.Sprintf("-d %s -j RETURN", l.own),
		fmt.Sprintf("-d %s -m conntrack --ctstate DNAT -j ACCEPT", l.pods),
		fmt.Sprintf("-s %s -m conntrack --ctstate DNAT -j ACCEPT", l.pods),
	}
}

// rejects answer what is still on its way to a virtual address after the
// translation: there is no such service or port, or no pod is ready.
func (l layout) rejects(outside []netip.Addr) []string {
	var ranges []netip.Prefix
	if l.services.IsValid() {
		ranges = append(ranges, l.services)
	}
	for _, a := range outside {
		ranges = append(ranges, netip.PrefixFrom(a, 32))
	}
	slices.SortFunc(ranges, netip.Prefix.Compare)
	var out []string
	for _, r := range slices.Compact(ranges) {
		for _, protocol := range []string{"tcp", ""} {
			match := ""
			if protocol != "" {
				match = " -p " + protocol
			}
			out = append(out, fmt.Sprintf("-d %s%s -j REJECT --reject-with %s", r, match, refusal(protocol)))
		}
	}
	return out
}
