package object

import (
	"slices"
	"strconv"
	"strings"
)

// Zones is how a rolling update goes from zone to zone.
type Zones struct {
	Order  []string `json:"order,omitempty" hcl:"order" doc:"Zones that come first, in this order; the others follow in the order of their names."`
	Pause  Duration `json:"pause,omitempty" hcl:"pause" doc:"How long all new pods have to stay available, without a break, before the next zone begins."`
	Manual bool     `json:"manual,omitempty" hcl:"manual" doc:"The next zone begins when somebody says: berth rollout promote. With pause as well: not before that."`
}

// Turns is how an update by zones goes from one to the next.
func (u *Update) Turns() Zones {
	if u.Zones != nil {
		return *u.Zones
	}
	return Zones{}
}

func (u *Update) checkZones(c *checker, at *step) {
	here := at.to("zones")
	switch {
	case u.By == "" && u.Zones != nil:
		c.fail(here, "Superfluous block", "zones { … } says how an update goes from zone to zone. Write by = \"zone\" beside it, or another label of the nodes.")
	case u.By == "":
	case u.Strategy != "rolling":
		c.fail(at.to("by"), "Superfluous attribute", "A %s update does not go zone by zone: by belongs to strategy = \"rolling\".", u.Strategy)
	case len(u.Steps) > 0:
		c.fail(at.to("step"), "Superfluous block", "An update by %s pauses between zones: write zones { pause = \"10m\" } or zones { manual = true } in place of step blocks.", u.By)
	}
	for i, z := range u.Turns().Order {
		switch {
		case z == "":
			c.fail(here.to("order"), "Empty name", "Zone %d of order has no name.", i+1)
		case slices.Contains(u.Zones.Order[:i], z):
			c.fail(here.to("order"), "Duplicate name", "The zone %q comes twice.", z)
		}
	}
}

// Within limits the nodes of one pod beyond what its template asks for, until it
// is placed.
type Within struct {
	By string   `json:"by"` // a label or attribute of nodes
	In []string `json:"in"` // its values that will do
}

// Admits reports whether the node will do.
func (w *Within) Admits(n *Node) bool {
	v, ok := n.Attribute(w.By)
	return ok && slices.Contains(w.In, v)
}

// Equal reports whether both allow the same; nil allows every node.
func (w *Within) Equal(x *Within) bool {
	if w == nil || x == nil {
		return w == x
	}
	return w.By == x.By && slices.Equal(w.In, x.In)
}

// Key is the same for equal limits and for no others; of nil it is empty.
func (w *Within) Key() string {
	if w == nil {
		return ""
	}
	b := strconv.AppendQuote(nil, w.By)
	for _, v := range w.In {
		b = strconv.AppendQuote(b, v)
	}
	return string(b)
}

// String is "zone a" or "zone a|b".
func (w *Within) String() string { return w.By + " " + strings.Join(w.In, "|") }

// Into says where a replica set makes pods while its version takes over one zone
// after the other.
type Into struct {
	By   string   `json:"by"`             // a label or attribute of nodes
	In   string   `json:"in"`             // the zone whose turn it is
	Pods int      `json:"pods"`           // how many pods it is to have there
	Also []string `json:"also,omitempty"` // zones that had their turn: pods beyond Pods may go there, too
}

// Here is the limit of the pods of the zone whose turn it is.
func (x *Into) Here() *Within { return &Within{By: x.By, In: []string{x.In}} }

// Wide is the limit of all other pods.
func (x *Into) Wide() *Within {
	if slices.Contains(x.Also, x.In) {
		return &Within{By: x.By, In: x.Also}
	}
	return &Within{By: x.By, In: append(slices.Clone(x.Also), x.In)}
}

// Equal reports whether both say the same.
func (x *Into) Equal(y *Into) bool {
	if x == nil || y == nil {
		return x == y
	}
	return x.By == y.By && x.In == y.In && x.Pods == y.Pods && slices.Equal(x.Also, y.Also)
}

// OutOf says where a replica set gives pods up while another version takes over
// one zone after the other: there and nowhere else.
type OutOf struct {
	By string `json:"by"` // a label or attribute of nodes
	In string `json:"in"` // the zone whose turn it is
}
