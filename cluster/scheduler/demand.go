package scheduler

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/go-version"

	"github.com/berthdev/berth/cluster/object"
)

// demand is the part of an ask that speaks of the node alone, not of what is
// bound to it: condition, taints, constraints. Its answers are kept per node
// until the node object changes.
type demand struct {
	matchers    []matcher
	tolerations []object.Toleration
	taint       int64   // thousandths lost for a prefer_no_schedule taint
	static      []int64 // by node; nil when not computed
	round       uint64  // last use
}

// eval is the node's static score, or none.
func (d *demand) eval(n *object.Node) int64 {
	if d.reject(n) != "" {
		return none
	}
	var score int64
	for i := range d.matchers {
		if m := &d.matchers[i]; m.prefer > 0 && m.match(n) {
			score += m.prefer * point
		}
	}
	for _, t := range n.Spec.Taints {
		if t.Effect == "prefer_no_schedule" && !d.tolerates(t) {
			score -= d.taint
		}
	}
	return score
}

// reject is why the node will not do whatever is bound to it; "" when it will.
func (d *demand) reject(n *object.Node) (why string) {
	d.rejections(n, func(r string) bool { why = r; return false })
	return why
}

// rejections says each reason why the node will not do, until yield has enough.
func (d *demand) rejections(n *object.Node, yield func(string) bool) bool {
	switch n.Status.Condition {
	case object.NodeReady:
	case object.NodeLost:
		if !yield("node lost") {
			return false
		}
	default:
		if !yield("node not ready") {
			return false
		}
	}
	if n.Spec.Drain {
		if !yield("node draining") {
			return false
		}
	} else if n.Spec.Unschedulable && !yield("node cordoned") {
		return false
	}
	for _, t := range n.Spec.Taints {
		if t.Effect != "prefer_no_schedule" && !d.tolerates(t) && !yield("taint "+taintText(t)) {
			return false
		}
	}
	for i := range d.matchers {
		if m := &d.matchers[i]; m.prefer <= 0 && !m.match(n) && !yield(m.text) {
			return false
		}
	}
	return true
}

func (d *demand) tolerates(t object.Taint) bool { return object.Tolerated(d.tolerations, t) }

func taintText(t object.Taint) string {
	if t.Value == "" {
		return t.Key
	}
	return t.Key + "=" + t.Value
}

// matcher is a constraint made ready. The arms of match answer whether the node
// passes; a constraint that makes no sense passes nowhere and its text says why.
type matcher struct {
	prefer int64
	text   string
	match  func(*object.Node) bool
}

func newMatcher(c object.Constraint) matcher {
	m := matcher{prefer: min(int64(c.Prefer), MaxPoints)}
	op := cmp.Or(c.Operator, "=")
	values := c.Values
	if len(values) == 0 && c.Value != "" {
		values = []string{c.Value}
	}
	has := func(n *object.Node, ok func(string) bool) bool {
		v, there := n.Attribute(c.Attribute)
		return there && ok(v)
	}
	m.text = "constraint " + c.Attribute + " " + op + " " + c.Value
	wrong := func(why string) {
		m.text += " (" + why + ")"
		m.match = func(*object.Node) bool { return false }
	}
	switch op {
	case "=":
		m.match = func(n *object.Node) bool { return has(n, func(v string) bool { return v == c.Value }) }
	case "!=":
		m.match = func(n *object.Node) bool { return !has(n, func(v string) bool { return v == c.Value }) }
	case "in":
		m.text = "constraint " + c.Attribute + " in " + strings.Join(values, "|")
		m.match = func(n *object.Node) bool { return has(n, func(v string) bool { return slices.Contains(values, v) }) }
	case "not_in":
		m.text = "constraint " + c.Attribute + " not in " + strings.Join(values, "|")
		m.match = func(n *object.Node) bool { return !has(n, func(v string) bool { return slices.Contains(values, v) }) }
	case "<":
		m.match = func(n *object.Node) bool { return has(n, func(v string) bool { return compare(v, c.Value) < 0 }) }
	case ">":
		m.match = func(n *object.Node) bool { return has(n, func(v string) bool { return compare(v, c.Value) > 0 }) }
	case "exists":
		m.text = "constraint " + c.Attribute + " exists"
		m.match = func(n *object.Node) bool { return has(n, func(string) bool { return true }) }
	case "not_exists":
		m.text = "constraint " + c.Attribute + " not exists"
		m.match = func(n *object.Node) bool { return !has(n, func(string) bool { return true }) }
	case "regexp":
		re, err := regexp.Compile(c.Value)
		if err != nil {
			wrong("not a regular expression")
			break
		}
		m.match = func(n *object.Node) bool { return has(n, re.MatchString) }
	case "version":
		want, err := version.NewConstraint(c.Value)
		if err != nil {
			wrong("not a version constraint; write for example \">= 1.2, < 2\"")
			break
		}
		pre := slices.ContainsFunc(want, (*version.Constraint).Prerelease)
		m.match = func(n *object.Node) bool {
			return has(n, func(v string) bool {
				got, err := version.NewVersion(v)
				if err != nil {
					return false
				}
				// "6.1.0-13-amd64" is a kernel, not a pre-release of 6.1.0: what follows
				// the numbers counts only where the constraint names such a suffix.
				if !pre {
					got = got.Core()
				}
				return want.Check(got)
			})
		}
	default:
		wrong("no such operator")
	}
	return m
}

// compare orders numbers by value and everything else as text.
func compare(a, b string) int {
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	if errX == nil && errY == nil {
		return cmp.Compare(x, y)
	}
	return cmp.Compare(a, b)
}

// quoted is an unambiguous key of a label map.
func quoted(labels map[string]string) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(&b, "%q=%q,", k, labels[k])
	}
	return b.String()
}

// demand returns the shared demand of a template, and of a limit or nil.
func (k *kernel) demand(t *object.PodTemplate, limit *object.Within) *demand {
	key := limit.Key()
	if len(t.Constraints)+len(t.Tolerations) > 0 {
		key += fmt.Sprintf(" %#v %#v", t.Constraints, t.Tolerations)
	}
	if d := k.demands[key]; d != nil {
		return d
	}
	d := &demand{tolerations: t.Tolerations, taint: int64(k.policy.Taint) * point}
	if limit != nil {
		d.matchers = append(d.matchers, matcher{text: "not in " + limit.String(), match: limit.Admits})
	}
	for _, c := range t.Constraints {
		d.matchers = append(d.matchers, newMatcher(c))
	}
	k.demands[key] = d
	return d
}
