package scheduler

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// explained is how many of the best nodes have the parts of their scores told.
const explained = 3

// Explain asks every node about one pod. A pod that is bound already is looked
// at as if it were not, so that the answer tells why it is where it is. The
// error is CodeNotFound when there is no such pod, CodeInvalid when its template
// is not there. It uses the caches as Place does: not at the same time.
func (s *Scheduler) Explain(v *state.Snapshot, ref object.Ref) (object.Explanation, error) {
	p, ok := state.Find[*object.Pod](v, ref)
	if !ok {
		return object.Explanation{}, &object.Error{Code: object.CodeNotFound, Ref: ref, Message: "there is no such pod", Hint: "`berth get pods` lists them."}
	}
	t := v.Template(p)
	if t == nil {
		return object.Explanation{}, object.Errorf(object.CodeInvalid, ref, "%s", templateless(p))
	}
	s.sync(v)
	k := s.kernel
	c := k.class(p, t)
	if n := k.named(p.Spec.Node); n >= 0 && k.unbind(c, n) {
		defer k.bind(c, n)
	}
	plans := plans{v: v}
	return k.explain(c, ref, p.Spec.Node, plans.node(p)), nil
}

// explain asks every node about one pod of a class as things are now. It is much
// dearer than best, and for people who ask.
func (k *kernel) explain(c *class, pod object.Ref, node, planned string) object.Explanation {
	e := object.Explanation{Pod: pod, Node: node, Planned: planned}
	fit := 0
	for i := range k.nodes {
		n := int32(i)
		x := object.Candidate{Node: k.nodes[n].obj.Name}
		if score := k.total(c, n); score != none {
			x.Fits, x.Score = true, object.Points(score)
			fit++
		} else {
			k.rejections(c, n, func(r rejection) bool { x.Fails = append(x.Fails, r.String()); return true })
		}
		e.Candidates = append(e.Candidates, x)
	}
	slices.SortStableFunc(e.Candidates, func(a, b object.Candidate) int {
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
	for i := range e.Candidates[:fit] {
		if x := &e.Candidates[i]; i < explained || x.Node == node || x.Node == planned {
			x.Parts = k.scoreParts(c, k.named(x.Node))
		}
	}
	if fit > 0 {
		e.Best = e.Candidates[0].Node
	}
	if slices.ContainsFunc(e.Candidates[:fit], func(x object.Candidate) bool { return x.Node == planned }) {
		e.Best = planned
	}
	switch {
	case fit == 0:
		e.Summary = k.unfit(c)
	case node != "":
		e.Summary = fmt.Sprintf("%d of %d nodes fit; it is bound to %s; placed anew it would go to %s", fit, len(e.Candidates), node, e.Best)
	default:
		e.Summary = fmt.Sprintf("%d of %d nodes fit; it goes to %s", fit, len(e.Candidates), e.Best)
	}
	if planned != "" {
		e.Summary += "; planned on " + planned
	}
	return e
}

// scoreParts is what the total of a node that fits is made of, without what adds
// nothing. It says what score, partScore and eval compute; that the sum is the
// same is tested. Those are called for every node and stay free of it.
func (k *kernel) scoreParts(c *class, n int32) []object.ScorePart {
	s, x := c.shape, &k.nodes[n]
	var parts []object.ScorePart
	add := func(points int64, what, detail string, args ...any) {
		if points != 0 {
			parts = append(parts, object.ScorePart{What: what, Points: object.Points(points), Detail: fmt.Sprintf(detail, args...)})
		}
	}
	cpu, memory := x.used.CPU+s.ask.CPU, x.used.Memory+s.ask.Memory
	used := min(1000, (int64(cpu)*x.cpu>>32+int64(memory>>10)*x.memory>>32)/2)
	room := fmt.Sprintf("with it cpu %s of %s, memory %s of %s", cpu, x.has.CPU, memory.Human(), x.has.Memory.Human())
	add(int64(k.policy.Free)*(1000-used), "free", "%s", room)
	add(int64(k.policy.Pack)*used, "pack", "%s", room)
	for _, d := range s.spread {
		count := c.set.in(d.d)[d.d.of[n]]
		value, _ := x.obj.Attribute(d.d.key)
		add(-d.weight*int64(count), "spread over "+d.d.key, "%s of its set in %s", counted(count), cmp.Or(value, "none"))
	}
	add(-s.spreadNode*int64(c.set.nodes[n]), "spread over node", "%s of its set on it", counted(c.set.nodes[n]))
	zone := k.domain("zone")
	for _, w := range c.avoids {
		count := w.matched.nodes[n]
		if w.zone {
			count = w.matched.in(zone)[zone.of[n]]
		}
		add(-w.prefer*int64(count), "avoids "+w.text(), "%s", counted(count))
	}
	for i := range s.matchers {
		if m := &s.matchers[i]; m.prefer > 0 && m.match(x.obj) {
			add(m.prefer*point, m.text, "")
		}
	}
	for _, t := range x.obj.Spec.Taints {
		if t.Effect == "prefer_no_schedule" && !s.tolerates(t) {
			add(-s.taint, "taint "+taintText(t), "")
		}
	}
	v := View{Node: x.obj, Used: x.used}
	for _, f := range k.policy.Scores {
		add(min(max(f.Points(s.ask, v), -MaxPoints), MaxPoints)*point, f.Name(), "")
	}
	return parts
}

func counted(n int32) string {
	if n == 1 {
		return "1 pod"
	}
	return fmt.Sprintf("%d pods", n)
}
