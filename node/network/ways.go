package network

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/berthdev/berth/cluster/object"
)

// way is how packets travel to the pods of another node.
type way struct {
	node    string
	to      netip.Prefix // the pods' addresses
	via     netip.Addr   // the node's address
	link    int          // where it is; 0 if wrapped
	wrapped bool         // in VXLAN, else as they are
}

// surroundings is what the kernel says of the networks that this machine is in.
type surroundings struct {
	local []netip.Addr // the machine's own addresses
	hops  []hop        // of the main table, without Berth's own; the longest prefix first
}

// hop is a route that somebody else has made.
type hop struct {
	to      netip.Prefix
	link    int
	gateway bool // another machine passes the packets on
	metric  int
}

// order sorts the hops as the kernel prefers them.
func (s *surroundings) order() {
	slices.SortStableFunc(s.hops, func(a, b hop) int {
		return cmp.Or(cmp.Compare(b.to.Bits(), a.to.Bits()), cmp.Compare(a.metric, b.metric))
	})
}

// onLink says at which link an address is that is reached without anybody's help.
func (s *surroundings) onLink(a netip.Addr) (link int, ok bool) {
	for _, h := range s.hops {
		if h.to.Contains(a) {
			return h.link, !h.gateway
		}
	}
	return 0, false
}

// ways plans how to reach the pods of the other nodes, in the order of their
// ranges. Problems are about single nodes; the ways to the others stand.
func ways(self string, v *object.NetworkView, s *surroundings, address func(*object.Node) (netip.Addr, error)) (out []way, problems []error) {
	claimed := map[netip.Prefix]bool{} // by the masters' word
	for _, n := range v.Nodes {
		if p, ok := object.Prefix(n.Spec.PodRange); ok {
			claimed[p] = true
		}
	}
	mode := "auto"
	if v.Network != nil {
		mode = cmp.Or(v.Network.Spec.Mode, mode)
	}
	for _, n := range v.Nodes {
		ranges := n.Ranges()
		if n.Name == self || len(ranges) == 0 {
			continue
		}
		a, err := address(n)
		if err != nil {
			problems = append(problems, fmt.Errorf("node %s: %w", n.Name, err))
			continue
		}
		if slices.Contains(s.local, a) {
			continue // it shares this machine, and its bridge is here
		}
		w := way{node: n.Name, via: a}
		link, near := s.onLink(a)
		switch {
		case mode == "vxlan", mode == "auto" && !near:
			w.wrapped = true
		case near:
			w.link = link
		default:
			problems = append(problems, fmt.Errorf("node %s: %s is not on a network segment with this node, and the network's mode is \"route\"; its pods cannot be reached. Use mode = \"auto\"", n.Name, a))
			continue
		}
		for i, p := range ranges {
			if p.String() != n.Spec.PodRange && (i > 0 || n.Spec.PodRange != "") && claimed[p] {
				continue // it still uses what has been given to another
			}
			w.to = p
			out = append(out, w)
		}
	}
	slices.SortFunc(out, func(a, b way) int {
		return cmp.Or(a.to.Addr().Compare(b.to.Addr()), cmp.Compare(a.to.Bits(), b.to.Bits()))
	})
	return out, problems
}
