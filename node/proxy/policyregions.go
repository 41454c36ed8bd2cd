package proxy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/berthdev/berth/cluster/object"
)

// span is a run of addresses, or of ports of a protocol.
type span struct{ first, last uint32 }

// grant is addresses that may use ports.
type grant struct {
	addresses []span
	all       bool // ports
	ports     []portSpan
}

type portSpan struct {
	protocol string
	span
}

// region is a run of addresses at which the same ports are allowed, as matches of
// iptables; an empty match is every packet.
type region struct {
	span
	ports []string
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// namedPorts are the numbers that a receiving pod gives to the names in the rules,
// by "protocol/name".
func namedPorts(sets []*object.PolicyRuleSet, ports []object.ContainerPort) map[string][]int {
	out := map[string][]int{}
	for _, set := range sets {
		for i := range set.Rules {
			for _, p := range set.Rules[i].Ports {
				if p.Name == "" {
					continue
				}
				key := p.Protocol + "/" + p.Name
				out[key] = nil
				for _, c := range ports {
					if c.Name == p.Name && c.Transport() == p.Protocol {
						out[key] = append(out[key], c.Port)
					}
				}
			}
		}
	}
	return out
}

// grantsOf are all that rules allow.
func grantsOf(sets []*object.PolicyRuleSet, named map[string][]int) []grant {
	var out []grant
	for _, set := range sets {
		for i := range set.Rules {
			r := &set.Rules[i]
			where := []span{{0, 1<<32 - 1}}
			if !r.Anybody {
				where = minus(spansOf(r.Peers), spansOf(r.Except))
			}
			if len(r.Ports) == 0 {
				out = append(out, grant{addresses: where, all: true})
				continue
			}
			g := grant{addresses: where}
			for _, p := range r.Ports {
				switch {
				case p.Name != "":
					for _, n := range named[p.Protocol+"/"+p.Name] {
						g.ports = append(g.ports, portSpan{p.Protocol, span{uint32(n), uint32(n)}})
					}
				case len(p.Addresses) > 0:
					only := minus(spansOf(p.Addresses), minus([]span{{0, 1<<32 - 1}}, where))
					out = append(out, grant{addresses: only, ports: []portSpan{{p.Protocol, span{uint32(p.From), uint32(p.To)}}}})
				default:
					g.ports = append(g.ports, portSpan{p.Protocol, span{uint32(p.From), uint32(p.To)}})
				}
			}
			if len(g.ports) > 0 {
				out = append(out, g)
			}
		}
	}
	return out
}

// spansOf reads ranges of IPv4 and joins those that touch.
func spansOf(list []string) []span {
	var out []span
	for _, s := range list {
		if p, ok := object.Prefix(s); ok && p.Addr().Is4() {
			first := number(p.Addr())
			out = append(out, span{first, first | uint32(uint64(1)<<(32-p.Bits())-1)})
		}
	}
	return joined(out)
}

// joined orders spans and joins those that overlap or touch.
func joined(list []span) []span {
	slices.SortFunc(list, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	var out []span
	for _, s := range list {
		if n := len(out); n > 0 && uint64(s.first) <= uint64(out[n-1].last)+1 {
			out[n-1].last = max(out[n-1].last, s.last)
			continue
		}
		out = append(out, s)
	}
	return out
}

// minus is what is left of joined spans without others, both in order.
func minus(from, without []span) []span {
	var out []span
	for _, s := range from {
		at := uint64(s.first)
		for len(without) > 0 && uint64(without[0].last) < at {
			without = without[1:]
		}
		for _, w := range without {
			if w.first > s.last {
				break
			}
			if uint64(w.first) > at {
				out = append(out, span{uint32(at), w.first - 1})
			}
			at = max(at, uint64(w.last)+1)
		}
		if at <= uint64(s.last) {
			out = append(out, span{uint32(at), s.last})
		}
	}
	return out
}

// regions cuts the addresses at which anything is granted into runs that have the
// same ports. So each packet finds its answer at one place, however many rules
// speak of its sender.
func regions(grants []grant) []region {
	type edge struct {
		at    uint64
		grant int
		by    int
	}
	var edges []edge
	for i, g := range grants {
		for _, s := range g.addresses {
			edges = append(edges, edge{uint64(s.first), i, 1}, edge{uint64(s.last) + 1, i, -1})
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Compare(a.at, b.at) })
	var out []region
	var active []int // grants, sorted
	known := map[string][]string{}
	for i := 0; i < len(edges); {
		at := edges[i].at
		for ; i < len(edges) && edges[i].at == at; i++ {
			j, found := slices.BinarySearch(active, edges[i].grant)
			switch {
			case edges[i].by > 0: // the spans of a grant do not touch, so it is not active yet
				active = slices.Insert(active, j, edges[i].grant)
			case found:
				active = slices.Delete(active, j, j+1)
			}
		}
		if len(active) == 0 {
			continue
		}
		key := fmt.Sprint(active)
		ports, ok := known[key]
		if !ok {
			ports = portMatches(grants, active)
			known[key] = ports
		}
		if len(ports) == 0 {
			continue
		}
		next := region{span{uint32(at), uint32(edges[i].at - 1)}, ports}
		if n := len(out); n > 0 && uint64(out[n-1].last)+1 == at && slices.Equal(out[n-1].ports, ports) {
			out[n-1].last = next.last
			continue
		}
		out = append(out, next)
	}
	return out
}

// portMatches are the ports of grants together, as few matches as can be.
func portMatches(grants []grant, active []int) []string {
	by := map[string][]span{}
	for _, i := range active {
		if grants[i].all {
			return []string{""}
		}
		for _, p := range grants[i].ports {
			by[p.protocol] = append(by[p.protocol], p.span)
		}
	}
	var out []string
	for _, protocol := range sortedNames(by) {
		var words []string
		slots := 0
		flush := func() {
			if len(words) > 0 {
				out = append(out, "-p "+protocol+" -m multiport --dports "+strings.Join(words, ","))
			}
			words, slots = nil, 0
		}
		for _, s := range joined(by[protocol]) {
			word, need := fmt.Sprint(s.first), 1
			if s.last > s.first {
				word, need = fmt.Sprintf("%d:%d", s.first, s.last), 2
			}
			if slots+need > 15 { // the most that multiport takes
				flush()
			}
			words, slots = append(words, word), slots+need
		}
		flush()
	}
	return out
}
