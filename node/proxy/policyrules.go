package proxy

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"math/bits"
	"net/netip"
	"slices"
	"strings"

	"github.com/berthdev/berth/cluster/object"
)

// Policies live in the mangle table, which a packet passes before the filter table:
// what they drop stays dropped, whatever accepts packets there and in whichever
// order that is repaired. It also passes after the translation of addresses, so
// the rules speak of pods and never of services.
const (
	tablePolicies = "mangle"

	chainPolicy     = "BERTH-POLICY"      // from FORWARD: packets from and to pods
	chainPolicyNode = "BERTH-POLICY-NODE" // from INPUT: packets of pods to their node
	chainPolicyFrom = "BERTH-POLICY-FROM" // by the pod that sends
	chainPolicyTo   = "BERTH-POLICY-TO"   // by the pod that receives
	chainClosedPod  = "BERTH-POLICY-CLOSED"
	prefixPolicy    = chainPolicy + "-" // and a digest: everything else
)

// fanOut is how many entries a chain has at most before it is split by the next
// bits of the address. A thousand peers are three chains of sixteen rules deep.
const fanOut = 16

// guarded is a pod of this node, as its agent knows it.
type guarded struct {
	id      string
	pod     object.Ref
	labels  map[string]string
	ports   []object.ContainerPort
	address netip.Addr
	closed  bool // nothing passes: what holds for it is not known yet
}

// policyBuilder builds the rules of policies and remembers those of profiles that
// stay the same. What it answers is a function of what it is given last.
type policyBuilder struct {
	profiles map[string]*profile
}

// profile is what several policies allow together in one direction: pods under the
// same policies share its chains.
type profile struct {
	policies []*object.PolicyRules
	chain    string
	chains   map[string][]string
}

// build answers the rules that put policies, ordered by Ref, in force for pods.
// Without anything to enforce it is nil.
func (b *policyBuilder) build(pods []guarded, policies []*object.PolicyRules) map[string][]string {
	byNamespace := map[string][]*object.PolicyRules{}
	for _, p := range policies {
		byNamespace[p.Namespace] = append(byNamespace[p.Namespace], p)
	}
	out := map[string][]string{}
	used := map[string]*profile{}
	var from, to []treeEntry
	pods = slices.Clone(pods)
	slices.SortFunc(pods, func(x, y guarded) int {
		return cmp.Or(x.address.Compare(y.address), cmp.Compare(x.id, y.id))
	})
	pods = slices.CompactFunc(pods, func(x, y guarded) bool { return x.address == y.address })
	for i := range pods {
		g := &pods[i]
		if !g.address.Is4() {
			continue
		}
		for _, d := range []struct {
			egress  bool
			entries *[]treeEntry
		}{{true, &from}, {false, &to}} {
			chain := chainClosedPod
			if g.closed {
				out[chainClosedPod] = []string{"-j DROP"}
			} else if p := b.profile(g, byNamespace[g.pod.Namespace], d.egress, used); p == nil {
				continue
			} else {
				chain = p.chain
			}
			// A pod may always reach itself, as it does through a service.
			address := g.address.String() + "/32"
			own := []string{"-s " + address + " -d " + address + " -j RETURN"}
			match := "-s "
			if !d.egress {
				match = "-d "
			}
			own = append(own, match+address+` -m comment --comment "`+commentOf(g.pod)+`" -g `+chain)
			*d.entries = append(*d.entries, treeEntry{netip.PrefixFrom(g.address, 32), own})
		}
	}
	b.profiles = used
	if len(from)+len(to) == 0 {
		return nil
	}
	for _, p := range used {
		maps.Copy(out, p.chains)
	}
	tree(out, chainPolicyFrom, "-s ", from, nil)
	tree(out, chainPolicyTo, "-d ", to, nil)
	baseChains(out)
	return out
}

// baseChains are where all packets enter. A connection is judged by its first
// packet; a pod may always ask the resolver of its node for names.
func baseChains(out map[string][]string) {
	established := "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"
	out[chainPolicy] = []string{established, "-j " + chainPolicyFrom, "-j " + chainPolicyTo}
	out[chainPolicyNode] = []string{established, "-p udp -m udp --dport 53 -j RETURN", "-p tcp -m tcp --dport 53 -j RETURN", "-j " + chainPolicyFrom}
	for _, c := range []string{chainPolicyFrom, chainPolicyTo} {
		if _, ok := out[c]; !ok {
			out[c] = nil
		}
	}
}

func commentOf(r object.Ref) string {
	s := "berth: " + r.Namespace + "/" + r.Name
	if len(s) > 200 { // a comment has 255 bytes
		s = s[:200]
	}
	return s
}

// profile is what holds for a pod in a direction; nil if nothing isolates it.
func (b *policyBuilder) profile(g *guarded, policies []*object.PolicyRules, egress bool, used map[string]*profile) *profile {
	var hold []*object.PolicyRules
	var sets []*object.PolicyRuleSet
	for _, p := range policies {
		set := p.Spec.Ingress
		if egress {
			set = p.Spec.Egress
		}
		if set != nil && object.HasLabels(g.labels, p.Spec.Selector) {
			hold, sets = append(hold, p), append(sets, set)
		}
	}
	if len(hold) == 0 {
		return nil
	}
	key := strings.Builder{}
	fmt.Fprintf(&key, "%v %s", egress, g.pod.Namespace)
	for _, p := range hold {
		key.WriteString(" " + p.Name)
	}
	var named map[string][]int
	if !egress {
		named = namedPorts(sets, g.ports)
		for _, n := range sortedNames(named) {
			fmt.Fprintf(&key, " %s=%v", n, named[n])
		}
	}
	k := key.String()
	if p := used[k]; p != nil {
		return p
	}
	p := b.profiles[k]
	if p == nil || !slices.Equal(p.policies, hold) {
		p = newProfile(k, egress, hold, sets, named)
	}
	used[k] = p
	return p
}

func newProfile(key string, egress bool, hold []*object.PolicyRules, sets []*object.PolicyRuleSet, named map[string][]int) *profile {
	p := &profile{policies: hold, chain: digestChain(key), chains: map[string][]string{}}
	match, direction := "-s ", "ingress"
	if egress {
		match, direction = "-d ", "egress"
	}
	names := make([]string, len(hold))
	for i, h := range hold {
		names[i] = h.Name
	}
	comment := "berth: " + direction + " of " + hold[0].Namespace + "/" + strings.Join(names, ",")
	if len(comment) > 200 {
		comment = comment[:197] + "..."
	}
	end := []string{`-m comment --comment "` + comment + `" -j DROP`}
	var entries []treeEntry
	for _, r := range regions(grantsOf(sets, named)) {
		for _, x := range prefixesOf(r.first, r.last) {
			e := treeEntry{prefix: x}
			where := ""
			if x.Bits() > 0 {
				where = match + x.String() + " "
			}
			for _, ports := range r.ports {
				if ports != "" {
					ports += " "
				}
				e.rules = append(e.rules, where+ports+"-j RETURN")
			}
			entries = append(entries, e)
		}
	}
	tree(p.chains, p.chain, match, entries, end)
	return p
}

func digestChain(key string) string {
	sum := sha256.Sum256([]byte(key))
	return prefixPolicy + hex.EncodeToString(sum[:])[:14] // 27 characters of at most 28
}

// treeEntry is what holds for a range of addresses; entries do not overlap.
type treeEntry struct {
	prefix netip.Prefix
	rules  []string
}

// tree hangs entries, in the order of their addresses, below a chain. It goes from
// chain to chain without coming back (-g), so that RETURN at an entry leaves the
// whole tree, and whoever finds no entry meets end.
func tree(out map[string][]string, chain, match string, entries []treeEntry, end []string) {
	rules := []string{}
	if len(entries) <= fanOut {
		for _, e := range entries {
			rules = append(rules, e.rules...)
		}
		out[chain] = append(rules, end...)
		return
	}
	depth := commonBits(entries[0].prefix, entries[len(entries)-1].prefix) + bits.Len(fanOut-1)
	for len(entries) > 0 {
		e := entries[0]
		if e.prefix.Bits() >= depth {
			branch, _ := e.prefix.Addr().Prefix(min(depth, 32))
			n := 1
			for n < len(entries) && branch.Contains(entries[n].prefix.Addr()) {
				n++
			}
			if n > 1 {
				below := digestChain(chain + " " + branch.String())
				rules = append(rules, match+branch.String()+" -g "+below)
				tree(out, below, match, entries[:n], end)
				entries = entries[n:]
				continue
			}
		}
		rules = append(rules, e.rules...)
		entries = entries[1:]
	}
	out[chain] = append(rules, end...)
}

// commonBits is how many first bits two ranges share.
func commonBits(a, b netip.Prefix) int {
	return min(bits.LeadingZeros32(number(a.Addr())^number(b.Addr())), a.Bits(), b.Bits())
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func address(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

// prefixesOf are the fewest ranges that make up all addresses from first to last.
func prefixesOf(first, last uint32) []netip.Prefix {
	var out []netip.Prefix
	for at := uint64(first); at <= uint64(last); {
		size := 32
		if at != 0 {
			size = bits.TrailingZeros32(uint32(at))
		}
		for at+1<<size-1 > uint64(last) {
			size--
		}
		out = append(out, netip.PrefixFrom(address(uint32(at)), 32-size))
		at += 1 << size
	}
	return out
}
