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
//
// The order is what iptables-nft is quickest with. It keeps a sorted list of the chains
// that it has met and looks for the chain of every rule from its beginning, so chains
// come from behind, each with its rules. Those that lead to others wait for these.
func (have ruleSet) script(want ruleSet) (text []byte, written []string) {
	var b bytes.Buffer
	for _, table := range scripted {
		var changed, gone []string
		stay := 0
		for name, rules := range want[table] {
			old, ok := have[table][name]
			if !ok || !sameRules(old, rules) {
				changed = append(changed, name)
			}
			if ok {
				stay++
			}
		}
		if stay < len(have[table]) {
			for name := range have[table] {
				if _, ok := want[table][name]; !ok {
					gone = append(gone, name)
				}
			}
		}
		if len(changed)+len(gone) == 0 {
			continue
		}
		slices.Sort(changed)
		slices.Sort(gone)
		declared := slices.Concat(changed, gone)
		slices.SortFunc(declared, func(a, b string) int { return strings.Compare(b, a) })
		var waiting []string
		b.WriteString("*" + table + "\n")
		fill := func(name string) {
			for _, r := range want[table][name] {
				b.WriteString("-A " + name + " " + r + "\n")
			}
		}
		for _, name := range declared {
			b.WriteString(":" + name + " - [0:0]\n") // makes the chain, or empties it
			if slices.ContainsFunc(want[table][name], leadsOn) {
				waiting = append(waiting, name)
			} else {
				fill(name)
			}
		}
		for _, name := range waiting {
			fill(name)
		}
		for _, name := range gone {
			b.WriteString("-X " + name + "\n")
		}
		b.WriteString("COMMIT\n")
		written = append(append(written, changed...), gone...)
	}
	return b.Bytes(), written
}

// leadsOn reports whether a rule leads to a chain of Berth.
func leadsOn(rule string) bool {
	return strings.Contains(rule, "-j BERTH-") || strings.Contains(rule, "-g BERTH-")
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
