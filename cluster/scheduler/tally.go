package scheduler

import (
	"maps"
	"slices"
	"strings"

	"github.com/berthdev/berth/cluster/object"
)

// tally counts pods by node and, for the domains that somebody asked about, by
// domain value.
type tally struct {
	nodes map[int32]int32
	by    []domainTally
}

type domainTally struct {
	d *domain
	n []int32 // by value
}

func newTally() *tally { return &tally{nodes: map[int32]int32{}} }

func (t *tally) add(n, delta int32) {
	if c := t.nodes[n] + delta; c == 0 {
		delete(t.nodes, n)
	} else {
		t.nodes[n] = c
	}
	for i := range t.by {
		t.by[i].n[t.by[i].d.of[n]] += delta
	}
}

// in is the count by value of a domain, kept up to date from the first call on.
func (t *tally) in(d *domain) []int32 {
	for i := range t.by {
		if t.by[i].d == d {
			return t.by[i].n
		}
	}
	n := make([]int32, len(d.values))
	for node, c := range t.nodes {
		n[d.of[node]] += c
	}
	t.by = append(t.by, domainTally{d, n})
	return n
}

// term is a selector that some pods avoid: "keep away from app=db in namespace
// shop, by node". Matched counts the pods it speaks of, holders the pods that
// never want to be near those. Both are needed: a pod that avoids nobody must
// still keep away from one that avoids it.
type term struct {
	namespace string
	labels    map[string]string
	zone      bool // not to share a zone, else a node
	matched   *tally
	holders   *tally
}

type termKey struct {
	namespace, labels string
	zone              bool
}

// wish is a class's attitude to a term.
type wish struct {
	*term
	prefer int64 // 0: never; else points lost for each pod
}

// text is the term as reasons spell it.
func (t *term) text() string {
	s := labelText(t.labels)
	if t.zone {
		s += " in its zone"
	}
	return s
}

func labelText(labels map[string]string) string {
	var b strings.Builder
	for i, k := range slices.Sorted(maps.Keys(labels)) {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(k + "=" + labels[k])
	}
	return b.String()
}

// pair is one label within a namespace. Terms are found by their first label,
// classes by each of theirs, so that neither looks at all of the other.
type pair struct{ namespace, key, value string }

func (t *term) first() pair {
	for _, k := range slices.Sorted(maps.Keys(t.labels)) {
		return pair{t.namespace, k, t.labels[k]}
	}
	return pair{namespace: t.namespace}
}

func (t *term) matches(c *class) bool {
	return t.namespace == c.namespace && object.HasLabels(c.labels, t.labels)
}

// pairsOf are the keys under which terms that speak of a class may be found.
func pairsOf(c *class) []pair {
	out := make([]pair, 1, len(c.labels)+1)
	out[0] = pair{namespace: c.namespace}
	for k, v := range c.labels {
		out = append(out, pair{c.namespace, k, v})
	}
	return out
}

// term returns the term for an avoid of a namespace's pods; a new one is counted
// from the pods that are bound already.
func (k *kernel) term(namespace string, a *object.Avoid) *term {
	key := termKey{namespace, quoted(a.Labels), a.Over == "zone"}
	if t := k.terms[key]; t != nil {
		return t
	}
	t := &term{namespace: namespace, labels: a.Labels, zone: key.zone, matched: newTally(), holders: newTally()}
	k.terms[key] = t
	k.termsBy[t.first()] = append(k.termsBy[t.first()], t)
	for _, c := range k.classesBy[t.first()] {
		if !t.matches(c) {
			continue
		}
		c.in = append(c.in, t)
		if c.live == 0 {
			continue
		}
		for n := range c.set.nodes {
			for _, p := range k.nodes[n].pods {
				if p == c {
					t.matched.add(n, 1)
				}
			}
		}
	}
	return t
}
