package proxy

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/coreos/go-iptables/iptables"

	"github.com/berthdev/berth/cluster/object"
)

// The chains of host ports, and where they are jumped to from.
const (
	chainHostPort = "BERTH-HOSTPORT" // nat, from PREROUTING and OUTPUT: to the pod
	chainHostMasq = "BERTH-HOSTMASQ" // nat, from POSTROUTING: so that the answer comes back this way
	chainLoopback = "BERTH-LOOPBACK" // filter, from INPUT: what route_localnet must not open
)

// HostPorts forwards ports of the node to pods: for callers from elsewhere, on
// the node (also at 127.0.0.1) and in its pods. The kernel's rules are its memory:
// they serve on while the process is away, and each carries its pod's mark.
// Machines without host ports get no rules at all.
type HostPorts struct {
	Range  netip.Prefix // the pods' addresses on this node
	Bridge string       // the interface behind which the pods are

	mu sync.Mutex
	// want has the rules of each pod by its mark; none for a pod of an earlier
	// process that nobody has claimed or released yet.
	want   map[string][]rule
	loaded bool
}

var hostPortJumps = []rule{
	{"nat", "PREROUTING", []string{"-m", "addrtype", "--dst-type", "LOCAL", "-m", "comment", "--comment", "berth: host ports", "-j", chainHostPort}},
	{"nat", "OUTPUT", []string{"-m", "addrtype", "--dst-type", "LOCAL", "-m", "comment", "--comment", "berth: host ports", "-j", chainHostPort}},
	{"nat", "POSTROUTING", []string{"-m", "comment", "--comment", "berth: host ports", "-j", chainHostMasq}},
	{"filter", "INPUT", []string{"-m", "comment", "--comment", "berth: host ports", "-j", chainLoopback}},
}

// mark tells a pod's rules from others. It is what iptables prints as it is.
func mark(pod string) string {
	if len(pod) > 200 { // a comment has 255 bytes
		pod = fmt.Sprintf("%s-%x", pod[:180], sha256.Sum256([]byte(pod)))[:200]
	}
	return "berth:" + pod
}

// rules lead the host ports among ports to the address.
func (h *HostPorts) rules(pod string, addr netip.Addr, ports []object.ContainerPort) []rule {
	comment := []string{"-m", "comment", "--comment", mark(pod)}
	var out []rule
	for _, p := range ports {
		if p.HostPort == 0 {
			continue
		}
		proto, from, to := cmp.Or(p.Protocol, "tcp"), strconv.Itoa(p.HostPort), strconv.Itoa(p.Port)
		out = append(out, rule{"nat", chainHostPort, slices.Concat([]string{"-p", proto, "-m", proto, "--dport", from}, comment,
			[]string{"-j", "DNAT", "--to-destination", addr.String() + ":" + to})})
		// A pod would answer a neighbour directly, and one on the loopback not at all.
		for _, source := range []string{"127.0.0.0/8", h.Range.Masked().String()} {
			out = append(out, rule{"nat", chainHostMasq, slices.Concat([]string{"-s", source, "-d", addr.String() + "/32", "-p", proto, "-m", proto, "--dport", to,
				"-m", "conntrack", "--ctstate", "DNAT", "--ctorigdstport", from}, comment, []string{"-j", "MASQUERADE"})})
		}
	}
	return out
}

// Forward makes the host ports among ports lead to the pod at the address, and
// no others. It may be repeated; what is right already is left alone.
func (h *HostPorts) Forward(pod string, addr netip.Addr, ports []object.ContainerPort) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	t, err := h.open()
	if err != nil {
		return err
	}
	rules := h.rules(pod, addr, ports)
	if len(rules) == 0 {
		return h.release(t, mark(pod))
	}
	h.want[mark(pod)] = rules
	if err := h.ground(t); err != nil {
		return err
	}
	return h.put(t, mark(pod))
}

// Release takes a pod's ports back. Releasing what has none succeeds.
func (h *HostPorts) Release(pod string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.want[mark(pod)]; h.loaded && !ok {
		return nil
	}
	t, err := h.open()
	if err != nil {
		return err
	}
	return h.release(t, mark(pod))
}

// Retain takes back the ports of all pods but these.
func (h *HostPorts) Retain(pods []string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	t, err := h.open()
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	for _, p := range pods {
		keep[mark(p)] = true
	}
	for _, m := range slices.Sorted(maps.Keys(h.want)) {
		if !keep[m] {
			if err := h.release(t, m); err != nil {
				return err
			}
		}
	}
	return nil
}

// Ensure puts right what somebody else has changed.
func (h *HostPorts) Ensure() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	t, err := h.open()
	if err != nil || len(h.want) == 0 {
		return err
	}
	if err := h.ground(t); err != nil {
		return err
	}
	for _, m := range slices.Sorted(maps.Keys(h.want)) {
		if h.want[m] == nil {
			continue
		}
		if err := h.put(t, m); err != nil {
			return err
		}
	}
	return nil
}

// Purge removes the chains and the jumps into them, and nothing else.
func (h *HostPorts) Purge() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	t, err := openTables()
	if err != nil {
		return err
	}
	if err := removeChains(t, hostPortJumps); err != nil {
		return err
	}
	h.want, h.loaded = map[string][]rule{}, true
	return nil
}

// open reads, the first time, whose rules an earlier process has left.
func (h *HostPorts) open() (*iptables.IPTables, error) {
	t, err := openTables()
	if err != nil || h.loaded {
		return t, err
	}
	h.want = map[string][]rule{}
	for _, chain := range []string{chainHostPort, chainHostMasq} {
		lines, err := listChain(t, "nat", chain)
		if err != nil {
			return nil, err
		}
		for _, l := range lines {
			if m := markOf(l); m != "" {
				h.want[m] = nil
			}
		}
	}
	h.loaded = true
	return t, nil
}

// ground makes what all host ports stand on.
func (h *HostPorts) ground(t *iptables.IPTables) error {
	// Forwarding from the loopback needs route_localnet, which would also let pods
	// reach what the machine offers to itself alone: that is shut first.
	shut := rule{"filter", chainLoopback, []string{"-d", "127.0.0.0/8", "-i", h.Bridge, "-m", "conntrack", "!", "--ctstate", "RELATED,ESTABLISHED", "-j", "DROP"}}
	if err := ensureChain(t, "filter", chainLoopback, []rule{shut}); err != nil {
		return err
	}
	for _, chain := range []string{chainHostPort, chainHostMasq} {
		if ok, err := t.ChainExists("nat", chain); err != nil {
			return fmt.Errorf("iptables: nat %s: %w", chain, err)
		} else if !ok {
			if err := t.NewChain("nat", chain); err != nil {
				return fmt.Errorf("iptables: nat %s: %w", chain, err)
			}
		}
	}
	if err := ensureJumps(t, hostPortJumps); err != nil {
		return err
	}
	path := filepath.Join("/proc/sys/net/ipv4/conf", h.Bridge, "route_localnet")
	if err := os.WriteFile(path, []byte("1"), 0o644); err != nil { //nolint:gosec // a sysctl
		return fmt.Errorf("forwarding from 127.0.0.1: %w", err)
	}
	return nil
}

// put makes a pod's rules be there, once each and no others.
func (h *HostPorts) put(t *iptables.IPTables, mark string) error {
	rules := h.want[mark]
	have, err := marked(t, mark)
	if err != nil {
		return err
	}
	right := len(have) == len(rules)
	for i := 0; right && i < len(rules); i++ {
		if right, err = t.Exists(rules[i].table, rules[i].chain, rules[i].spec...); err != nil {
			return fmt.Errorf("iptables: nat %s: %w", rules[i].chain, err)
		}
	}
	if right {
		return nil
	}
	if err := remove(t, have); err != nil {
		return err
	}
	for _, r := range rules {
		if err := t.Append(r.table, r.chain, r.spec...); err != nil {
			return fmt.Errorf("iptables: nat %s: %w", r.chain, err)
		}
	}
	return nil
}

func (h *HostPorts) release(t *iptables.IPTables, mark string) error {
	have, err := marked(t, mark)
	if err != nil {
		return err
	}
	if err := remove(t, have); err != nil {
		return err
	}
	delete(h.want, mark)
	return nil
}

// marked are the rules that carry a mark, as the kernel has them.
func marked(t *iptables.IPTables, mark string) ([]rule, error) {
	var out []rule
	for _, chain := range []string{chainHostPort, chainHostMasq} {
		lines, err := listChain(t, "nat", chain)
		if err != nil {
			return nil, err
		}
		for _, l := range lines {
			if markOf(l) == mark {
				spec := strings.Fields(strings.ReplaceAll(strings.TrimPrefix(l, "-A "+chain+" "), `"`, "")) // no word of ours has a blank
				out = append(out, rule{"nat", chain, spec})
			}
		}
	}
	return out, nil
}

func remove(t *iptables.IPTables, rules []rule) error {
	for _, r := range rules {
		if err := t.Delete(r.table, r.chain, r.spec...); err != nil {
			return fmt.Errorf("iptables: %s %s: %w", r.table, r.chain, err)
		}
	}
	return nil
}

// markOf is the mark that a line of iptables carries, if it is one of ours.
func markOf(line string) string {
	_, rest, _ := strings.Cut(line, "--comment ")
	word, _, _ := strings.Cut(rest, " ")
	if m := strings.Trim(word, `"`); strings.HasPrefix(m, "berth:") {
		return m
	}
	return ""
}

// listChain is what a chain holds; nothing if there is no such chain.
func listChain(t *iptables.IPTables, table, chain string) ([]string, error) {
	ok, err := t.ChainExists(table, chain)
	if err != nil {
		return nil, fmt.Errorf("iptables: %s %s: %w", table, chain, err)
	}
	if !ok {
		return nil, nil
	}
	lines, err := t.List(table, chain)
	if err != nil {
		return nil, fmt.Errorf("iptables: %s %s: %w", table, chain, err)
	}
	return lines, nil
}
