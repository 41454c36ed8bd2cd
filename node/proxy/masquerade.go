package proxy

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/coreos/go-iptables/iptables"

	"github.com/berthdev/berth/cluster/object"
)

// The chains that belong to Berth, and where they are jumped to from.
const (
	chainMasquerade = "BERTH-MASQ"    // nat, from POSTROUTING
	chainForward    = "BERTH-FORWARD" // filter, from FORWARD
)

// Masquerade lets pods reach the world behind the node's address, and lets their
// packets pass where the machine's own policy would drop them.
type Masquerade struct {
	Range netip.Prefix   // the pods' addresses on this node
	Keep  []netip.Prefix // destinations that see the pods' own addresses: all pods, and services (see Following)

	mu sync.Mutex
}

// rule is one line of one of our chains.
type rule struct {
	table, chain string
	spec         []string
}

// rules is what the chains hold, in order.
func (m *Masquerade) rules() []rule {
	r := m.Range.Masked().String()
	var out []rule
	for _, k := range append([]netip.Prefix{m.Range}, m.Keep...) {
		out = append(out, rule{"nat", chainMasquerade, []string{"-s", r, "-d", k.Masked().String(), "-j", "RETURN"}})
	}
	return append(out,
		// Multicast is not routed; rewriting it breaks what stays on the bridge.
		rule{"nat", chainMasquerade, []string{"-s", r, "-d", "224.0.0.0/4", "-j", "RETURN"}},
		rule{"nat", chainMasquerade, []string{"-s", r, "-j", "MASQUERADE"}},
		rule{"filter", chainForward, []string{"-s", r, "-j", "ACCEPT"}},
		rule{"filter", chainForward, []string{"-d", r, "-j", "ACCEPT"}},
	)
}

var jumps = []rule{
	{"nat", "POSTROUTING", []string{"-m", "comment", "--comment", "berth: pods", "-j", chainMasquerade}},
	{"filter", "FORWARD", []string{"-m", "comment", "--comment", "berth: pods", "-j", chainForward}},
}

func openTables() (*iptables.IPTables, error) {
	t, err := iptables.New(iptables.IPFamily(iptables.ProtocolIPv4), iptables.Timeout(5))
	if err != nil {
		return nil, fmt.Errorf("iptables cannot be used (%w); install it: apt-get install iptables", err)
	}
	return t, nil
}

// Ensure makes the chains be as they should; what is right already is left
// alone, so it may be repeated at any time.
func (m *Masquerade) Ensure() error {
	_, err := m.mend()
	return err
}

// mend is Ensure; it says what it changed.
func (m *Masquerade) mend() (mended []string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, err := openTables()
	if err != nil {
		return nil, err
	}
	want := map[[2]string][]rule{}
	var chains [][2]string
	for _, r := range m.rules() {
		k := [2]string{r.table, r.chain}
		if want[k] == nil {
			chains = append(chains, k)
		}
		want[k] = append(want[k], r)
	}
	for _, k := range chains {
		right, err := chainIs(t, k[0], k[1], want[k])
		if err != nil {
			return mended, err
		}
		if right {
			continue
		}
		if err := ensureChain(t, k[0], k[1], want[k]); err != nil {
			return mended, err
		}
		mended = append(mended, fmt.Sprintf("rules of chain %s (%s)", k[1], k[0]))
	}
	for _, j := range jumps {
		if ok, err := t.Exists(j.table, j.chain, j.spec...); err != nil {
			return mended, fmt.Errorf("iptables: %s %s: %w", j.table, j.chain, err)
		} else if ok {
			continue
		}
		if err := ensureJumps(t, []rule{j}); err != nil {
			return mended, err
		}
		mended = append(mended, fmt.Sprintf("jump from %s (%s)", j.chain, j.table))
	}
	return mended, nil
}

// Following is a Masquerade that keeps to the ranges of the cluster's network, as
// they grow.
type Following struct{ *Masquerade }

// Apply lets pods be seen with their own addresses by the pods and services of
// the view.
func (f Following) Apply(_ context.Context, v *object.NetworkView) error {
	if v.Network == nil || !f.keep(ClusterRanges(&v.Network.Spec)) {
		return nil
	}
	return f.Masquerade.Ensure()
}

// Ensure puts right what somebody has changed.
func (f Following) Ensure(context.Context) ([]string, error) { return f.mend() }

// ClusterRanges are the ranges of all pods and of all services.
func ClusterRanges(n *object.NetworkSpec) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range []string{n.Pods, n.Services} {
		if p, ok := object.Prefix(s); ok {
			out = append(out, p)
		}
	}
	return out
}

// keep sets Keep and reports whether that is a change.
func (m *Masquerade) keep(ranges []netip.Prefix) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.Equal(m.Keep, ranges) {
		return false
	}
	m.Keep = ranges
	return true
}

// ensureJumps puts jumps that are missing first in their chains: a policy of the
// machine's owner that drops comes later.
func ensureJumps(t *iptables.IPTables, jumps []rule) error {
	for _, j := range jumps {
		if ok, err := t.Exists(j.table, j.chain, j.spec...); err != nil {
			return fmt.Errorf("iptables: %s %s: %w", j.table, j.chain, err)
		} else if ok {
			continue
		}
		if err := t.Insert(j.table, j.chain, 1, j.spec...); err != nil {
			return fmt.Errorf("iptables: %s %s: %w", j.table, j.chain, err)
		}
	}
	return nil
}

// chainIs reports whether a chain has these rules and no others.
func chainIs(t *iptables.IPTables, table, chain string, want []rule) (bool, error) {
	exists, err := t.ChainExists(table, chain)
	if err != nil {
		return false, fmt.Errorf("iptables: %s %s: %w", table, chain, err)
	}
	if !exists {
		return false, nil
	}
	have, err := t.List(table, chain)
	if err != nil {
		return false, fmt.Errorf("iptables: %s %s: %w", table, chain, err)
	}
	lines := []string{"-N " + chain}
	for _, r := range want {
		lines = append(lines, "-A "+chain+" "+strings.Join(r.spec, " "))
	}
	return slices.Equal(have, lines), nil
}

func ensureChain(t *iptables.IPTables, table, chain string, want []rule) error {
	if right, err := chainIs(t, table, chain, want); right || err != nil {
		return err
	}
	if err := t.ClearChain(table, chain); err != nil { // makes it if need be
		return fmt.Errorf("iptables: %s %s: %w", table, chain, err)
	}
	for _, r := range want {
		if err := t.Append(table, chain, r.spec...); err != nil {
			return fmt.Errorf("iptables: %s %s: %w", table, chain, err)
		}
	}
	return nil
}

// Purge removes our chains and the jumps into them, and nothing else.
func (m *Masquerade) Purge() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, err := openTables()
	if err != nil {
		return err
	}
	return removeChains(t, jumps)
}

// removeChains removes jumps, then the chains that they lead to.
func removeChains(t *iptables.IPTables, jumps []rule) error {
	for _, j := range jumps {
		for {
			ok, err := t.Exists(j.table, j.chain, j.spec...)
			if err != nil || !ok {
				break // no such rule, or no chain to jump to: both are what we want
			}
			if err := t.Delete(j.table, j.chain, j.spec...); err != nil {
				return fmt.Errorf("iptables: %s %s: %w", j.table, j.chain, err)
			}
		}
	}
	for _, j := range jumps {
		own := j.spec[len(j.spec)-1]
		if ok, err := t.ChainExists(j.table, own); err != nil {
			return fmt.Errorf("iptables: %s %s: %w", j.table, own, err)
		} else if ok {
			if err := t.ClearAndDeleteChain(j.table, own); err != nil {
				return fmt.Errorf("iptables: %s %s: %w", j.table, own, err)
			}
		}
	}
	return nil
}
