package proxy

import (
	"bytes"
	"maps"
	"slices"
	"strings"
)

// ruleSet is what chains hold: by table and chain, the rules in order, in the
// very words in which iptables-save prints them after "-A CHAIN ".
type ruleSet map[string]map[string][]string

// tables are those that the services use, in the order in which they are written:
// an address leads somewhere before the filter stops to refuse it.
var tables = []string{"nat", "filter"}

// scripted are all tables that Berth writes by scripts, in their order.
var scripted = append(tables[:len(tables):len(tables)], tablePolicies)

func newRuleSet() ruleSet {
	s := ruleSet{}
	for _, t := range tables {
		s[t] = map[string][]string{}
	}
	return s
}

// script turns what is there into what is wanted, as input for iptables-restore
// --noflush, and says which chains it writes. Each table is one transaction: a packet
// meets the old rules or the new ones. Chains that are right are not mentioned.
func (have ruleSet) script(want ruleSet) (text []byte, written []string) {
	var b bytes.Buffer
	for _, table := range scripted {
		var changed, gone []string
		for name, rules := range want[table] {
			if old, ok := have[table][name]; !ok || !sameRules(old, rules) {
				changed = append(changed, name)
			}
		}
		for name := range have[table] {
			if _, ok := want[table][name]; !ok {
				gone = append(gone, name)
			}
		}
		if len(changed)+len(gone) == 0 {
			continue
		}
		slices.Sort(changed)
		slices.Sort(gone)
		b.WriteString("*" + table + "\n")
		// This makes the chains, or empties them. iptables-nft keeps a sorted list and is
		// a fifth faster with thousands of chains when they come from behind.
		declared := slices.Concat(changed, gone)
		slices.SortFunc(declared, func(a, b string) int { return strings.Compare(b, a) })
		for _, name := range declared {
			b.WriteString(":" + name + " - [0:0]\n")
		}
		for _, name := range changed {
			for _, r := range want[table][name] {
				b.WriteString("-A " + name + " " + r + "\n")
			}
		}
		for _, name := range gone {
			b.WriteString("-X " + name + "\n")
		}
		b.WriteString("COMMIT\n")
		written = append(append(written, changed...), gone...)
	}
	return b.Bytes(), written
}

// sameRules compares by identity first: rules of services that did not change are
// the same strings.
func sameRules(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	return len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b)
}

// parseRules reads the output of iptables-save for one table. It keeps the chains
// that are ours, and of the others, in order, the rules that jump to Berth's.
func (s ruleSet) parse(table string, out []byte, ours func(chain string) bool) (jumps []string) {
	chains := s[table]
	for line := range bytes.Lines(out) {
		line = bytes.TrimRight(line, "\n")
		switch {
		case bytes.HasPrefix(line, []byte(":")):
			name, _, _ := strings.Cut(string(line[1:]), " ")
			if ours(name) {
				chains[name] = chains[name][:len(chains[name]):len(chains[name])]
			}
		case bytes.HasPrefix(line, []byte("-A ")):
			name, rest, _ := bytes.Cut(line[3:], []byte(" "))
			if ours(string(name)) {
				chains[string(name)] = append(chains[string(name)], string(rest))
			} else if bytes.Contains(rest, []byte("-j BERTH-")) {
				jumps = append(jumps, strings.ReplaceAll(string(line), `"`, ""))
			}
		}
	}
	return jumps
}

// clone is a copy whose chains can be replaced.
func (s ruleSet) clone() ruleSet {
	c := ruleSet{}
	for t, chains := range s {
		c[t] = maps.Clone(chains)
	}
	return c
}
