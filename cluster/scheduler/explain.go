package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// Verdict is one node's answer to one pod.
type Verdict struct {
	Node   string `json:"node"`
	Fits   bool   `json:"fits"`
	Score  int64  `json:"score,omitempty"`  // in thousandths of a point, where it fits
	Reason string `json:"reason,omitempty"` // the first demand that it fails, where it does not
}

// Explanation is why a pod is, or would be, where it is.
type Explanation struct {
	Pod     object.Ref `json:"pod"`
	Node    string     `json:"node,omitempty"`    // where it is bound
	Best    string     `json:"best,omitempty"`    // where it would be placed now
	Planned string     `json:"planned,omitempty"` // where its running revision planned it
	Summary string     `json:"summary"`           // one sentence
	Nodes   []Verdict  `json:"nodes,omitempty"`   // those that fit first, best first; the others by name
}

// String is the explanation as lines for people: the summary, then a table of
// nodes with their scores in points or their reasons.
func (e Explanation) String() string {
	var b strings.Builder
	b.WriteString(e.Summary + "\n")
	width := 0
	for _, n := range e.Nodes {
		width = max(width, len(n.Node))
	}
	for _, n := range e.Nodes {
		if n.Fits {
			fmt.Fprintf(&b, "  %-*s  fits, score %s\n", width, n.Node, Points(n.Score))
		} else {
			fmt.Fprintf(&b, "  %-*s  %s\n", width, n.Node, n.Reason)
		}
	}
	return b.String()
}

// Points is a score as people read it, in points with three decimals.
func Points(score int64) string {
	sign := ""
	if score < 0 {
		sign, score = "-", -score
	}
	return fmt.Sprintf("%s%d.%03d", sign, score/point, score%point)
}

// Explain asks every node about one pod. A pod that is bound already is looked
// at as if it were not, so that the answer tells why it is where it is. The
// error is CodeNotFound when there is no such pod, CodeInvalid when its template
// is not there. It uses the caches as Place does: not at the same time.
func (s *Scheduler) Explain(v *state.Snapshot, ref object.Ref) (Explanation, error) {
	p, ok := state.Find[*object.Pod](v, ref)
	if !ok {
		return Explanation{}, &object.Error{Code: object.CodeNotFound, Ref: ref, Message: "there is no such pod", Hint: "`berth get pods` lists them."}
	}
	t := v.Template(p)
	if t == nil {
		return Explanation{}, object.Errorf(object.CodeInvalid, ref, "%s", templateless(p))
	}
	s.sync(v)
	k := s.kernel
	c := k.class(p, t)
	if n := k.named(p.Spec.Node); n >= 0 && k.unbind(c, n) {
		defer k.bind(c, n)
	}
	plans := plans{v: v}
	e := Explanation{Pod: ref, Node: p.Spec.Node, Planned: plans.node(p)}
	for n := range k.nodes {
		x := Verdict{Node: k.nodes[n].obj.Name}
		if score := k.total(c, int32(n)); score != none {
			x.Fits, x.Score = true, score
		} else {
			x.Reason = k.reject(c, int32(n)).String()
		}
		e.Nodes = append(e.Nodes, x)
	}
	slices.SortStableFunc(e.Nodes, func(a, b Verdict) int {
		switch {
		case a.Fits != b.Fits:
			if a.Fits {
				return -1
			}
			return 1
		case a.Fits:
			return cmp.Compare(b.Score, a.Score)
		}
		return 0
	})
	if len(e.Nodes) > 0 && e.Nodes[0].Fits {
		e.Best = e.Nodes[0].Node
	}
	if i := slices.IndexFunc(e.Nodes, func(x Verdict) bool { return x.Node == e.Planned }); i >= 0 && e.Nodes[i].Fits {
		e.Best = e.Planned
	}
	fit := 0
	for _, x := range e.Nodes {
		if x.Fits {
			fit++
		}
	}
	switch {
	case fit == 0:
		e.Summary = k.unfit(c)
	case e.Node != "":
		e.Summary = fmt.Sprintf("%d of %d nodes fit; it is bound to %s; placed anew it would go to %s", fit, len(e.Nodes), e.Node, e.Best)
	default:
		e.Summary = fmt.Sprintf("%d of %d nodes fit; it goes to %s", fit, len(e.Nodes), e.Best)
	}
	if e.Planned != "" {
		e.Summary += "; planned on " + e.Planned
	}
	return e, nil
}
