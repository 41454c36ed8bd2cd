package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/berthdev/berth/cluster/object"
)

// rejection is why one node does not fit.
type rejection struct {
	what string // "taint dedicated=gpu", "memory"
	free string // of a resource: how much there is; else empty
	n    int64  // the same as a number
	asks string // of a resource: how much is asked for
}

func (r rejection) String() string {
	if r.asks == "" {
		return r.what
	}
	return fmt.Sprintf("%s (asks %s, %s free)", r.what, r.asks, r.free)
}

// brief is what there is, for sentences that speak of one pod: "memory 1.1Gi free".
func (r rejection) brief() string {
	if r.asks == "" {
		return r.what
	}
	return r.what + " " + r.free + " free"
}

// reject is why a node does not fit a class, the zero value if it does. It says
// what score and partScore compute: that they agree is tested.
func (k *kernel) reject(c *class, n int32) rejection {
	s, x := c.shape, &k.nodes[n]
	if why := s.reject(x.obj); why != "" {
		return rejection{what: why}
	}
	for _, p := range s.ports {
		if slices.Contains(x.ports, p) {
			return rejection{what: fmt.Sprintf("host port %d/%s taken", p.port, p.protocol)}
		}
	}
	zone := k.domain("zone")
	near := func(t *tally, inZone bool) bool {
		if inZone {
			return t.in(zone)[zone.of[n]] > 0
		}
		return t.nodes[n] > 0
	}
	for _, w := range c.avoids {
		if w.prefer == 0 && near(w.matched, w.zone) {
			return rejection{what: "avoids " + w.text()}
		}
	}
	for _, t := range c.in {
		if near(t.holders, t.zone) {
			return rejection{what: "avoided by pods that avoid " + t.text()}
		}
	}
	if x.has.Pods > 0 && x.used.Pods >= x.has.Pods {
		return rejection{what: "pod count (full)"}
	}
	if free := max(0, x.has.CPU-x.used.CPU); s.ask.CPU > free {
		return rejection{what: "cpu", asks: s.ask.CPU.String(), free: free.String(), n: int64(free)}
	}
	if free := max(0, x.has.Memory-x.used.Memory); s.ask.Memory > free {
		return rejection{what: "memory", asks: s.ask.Memory.Human(), free: bytesBelow(free, s.ask.Memory), n: int64(free)}
	}
	v := View{Node: x.obj, Used: x.used}
	for _, f := range k.policy.Filters {
		if why := f.Reject(s.ask, v); why != "" {
			return rejection{what: why}
		}
	}
	return rejection{}
}

// bytesBelow is a rounded text of free that does not look like enough.
func bytesBelow(free, ask object.Bytes) string {
	if free.Human() == ask.Human() {
		return free.String()
	}
	return free.Human()
}

// why is the rejection of a planned node; n is -1 when it is gone.
func (k *kernel) why(c *class, n int32) rejection {
	if n < 0 {
		return rejection{what: "it does not exist any more"}
	}
	return k.reject(c, n)
}

// unfit is the whole reason why a class fits nowhere: each node counted under
// the first demand that it fails, the most frequent first. Shapes remember it
// while no node changes.
func (k *kernel) unfit(c *class) string {
	s, end := c.shape, k.base+len(k.log)
	alone := len(c.avoids)+len(c.in) == 0
	if alone && s.unfit != "" && s.unfitAt == end {
		return s.unfit
	}
	text := k.tellApart(c)
	if alone {
		s.unfit, s.unfitAt = text, end
	}
	return text
}

func (k *kernel) tellApart(c *class) string {
	if len(k.nodes) == 0 {
		return "0 of 0 nodes fit: no node has joined"
	}
	type group struct {
		rejection
		nodes int
	}
	var groups []group
	for n := range k.nodes {
		r := k.reject(c, int32(n))
		i := slices.IndexFunc(groups, func(g group) bool { return g.what == r.what })
		if i < 0 {
			groups = append(groups, group{r, 1})
			continue
		}
		groups[i].nodes++
		if r.n > groups[i].n {
			groups[i].rejection = r
		}
	}
	slices.SortFunc(groups, func(a, b group) int {
		return cmp.Or(cmp.Compare(b.nodes, a.nodes), cmp.Compare(a.what, b.what))
	})
	var b strings.Builder
	fmt.Fprintf(&b, "0 of %d nodes fit: ", len(k.nodes))
	for i, g := range groups {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%d %s", g.nodes, g.what)
		if g.asks != "" {
			fmt.Fprintf(&b, " (asks %s, %s free at most)", g.asks, g.free)
		}
	}
	return b.String()
}
