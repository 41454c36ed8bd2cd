package scheduler

import (
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// Filter is a further demand on nodes, after the built-in ones.
//
// Contract: Reject is a pure function of its two arguments. It must not keep
// state between calls, look at a clock or at other nodes, and it must not change
// what it is given; it is called from one goroutine, in no particular order, and
// as often as the scheduler likes. It answers "" if the node will do, else the
// reason in a few words that are equal for nodes that fail in the same way, such
// as `volume db is elsewhere`: reasons are counted by their text.
type Filter interface {
	Name() string
	Reject(a Ask, n View) string
}

// Score is a further wish, added to the built-in ones.
//
// Contract: as Filter's. Points may depend on the one node it is given and on
// nothing else. It cannot see the other nodes, so a score that is normalised
// over all of them cannot be written: that is deliberate, for the kernel
// re-scores only nodes that changed. Points are cut to ±MaxPoints.
type Score interface {
	Name() string
	Points(a Ask, n View) int64
}

// Ask is what a plug-in sees of the pods to be placed. It is shared: read only.
type Ask struct {
	Namespace string
	CPU       object.CPU
	Memory    object.Bytes
	Template  *object.PodTemplate
}

// View is what a plug-in sees of a node. It is shared: read only.
type View struct {
	Node *object.Node
	Used state.Usage // by the pods bound to it, those of this very round included
}

// MaxPoints bounds every weight of a Policy and every answer of a Score, so that
// sums cannot overflow.
const MaxPoints = 1_000_000

// Policy says how to choose among the nodes that fit. Weights are in points, the
// unit of a constraint's or an avoid's prefer; inside, scores are counted in
// thousandths of a point, in integers only.
type Policy struct {
	Name string

	// SpreadZone and SpreadNode are lost for each pod of the same set in the zone
	// and on the node, where a template has no spread of its own.
	SpreadZone int
	SpreadNode int
	// Free is won by an empty node and falls to 0 as cpu and memory fill; Pack is
	// the contrary. They decide between sets and among equal nodes.
	Free int
	Pack int
	// Taint is lost for each prefer_no_schedule taint that is not tolerated.
	Taint int

	Filters []Filter
	Scores  []Score
}

// SpreadPolicy is the default: over zones, then nodes, then to where most is free.
func SpreadPolicy() Policy {
	return Policy{Name: "spread", SpreadZone: 200, SpreadNode: 100, Free: 50, Taint: 500}
}

// PackPolicy fills nodes before it opens others, so that few are in use. What a
// template says of spreading still counts.
func PackPolicy() Policy {
	return Policy{Name: "pack", Pack: 200, Taint: 500}
}

// bounded is the policy with its weights cut to what sums can bear.
func (p Policy) bounded() Policy {
	for _, w := range []*int{&p.SpreadZone, &p.SpreadNode, &p.Free, &p.Pack, &p.Taint} {
		*w = max(0, min(*w, MaxPoints))
	}
	return p
}

// opaque reports whether plug-ins may look at anything in a template, so that
// pods of different templates are never alike to the policy.
func (p *Policy) opaque() bool { return len(p.Filters)+len(p.Scores) > 0 }
