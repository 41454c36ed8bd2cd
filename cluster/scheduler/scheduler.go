package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// Author is who writes the scheduler's changesets.
const Author = "scheduler"

// Result is what one round of scheduling comes to.
type Result struct {
	// Changes binds pods (Spec.Node), tells pods that fit nowhere why (Status.Reason
	// and Message, written only when they change) and records events.
	Changes  object.Changeset
	Placed   []object.Placement // in the order of placing
	Unplaced []object.Unplaced  // the same order
	// Explained are the pods that somebody asked about, as the nodes were when it was
	// their turn.
	Explained []object.Explanation
}

// Scheduler places pods. It keeps caches from call to call; they never change an
// answer: a fresh Scheduler gives the same. One goroutine at a time may use it;
// making another is cheap.
type Scheduler struct {
	// Explains says which pods Place is to explain; optional.
	Explains func(pod object.Ref) bool

	policy Policy
	kernel *kernel
	last   *state.Snapshot // that the kernel is in step with, but for stale
	stale  []int32         // nodes to read again: where the last round bound pods, where a template is missing
	live   int             // classes with bound pods, when last counted
}

// New returns a scheduler that follows the policy.
func New(p Policy) *Scheduler { return &Scheduler{policy: p.bounded()} }

// Place binds up to limit of the pods that wait for a node (0 or less: all of
// them), those of high priority first, then by set and name. A pod whose stack
// has a running revision, or of late an operation, that planned a node for it goes
// there if that node still passes every filter. The changeset is stamped with now; nothing is
// written: the caller proposes Changes and, refused or not, calls Place again
// with a newer snapshot.
func (s *Scheduler) Place(v *state.Snapshot, now time.Time, limit int) Result {
	w := writer{v: v, now: now, Result: Result{Changes: object.Changeset{Author: Author, Reason: "a node for each waiting pod", Time: now}}}
	if v.PendingCount() == 0 {
		return w.Result
	}
	s.sync(v)
	k := s.kernel
	plans := plans{v: v, now: now}
	classes, lost := s.queue(v)
	for _, p := range lost {
		w.unplace(p, templateless(p))
	}
	for _, c := range classes {
		reason := ""
		for _, p := range c.queue {
			if limit > 0 && len(w.Placed) >= limit {
				break
			}
			if s.Explains != nil && s.Explains(p.Ref()) {
				w.Explained = append(w.Explained, k.explain(c, p.Ref(), "", plans.node(p)))
			}
			if reason != "" { // the round only takes room away: who did not fit will not fit
				w.unplace(p, reason)
				continue
			}
			planned, elsewhere := plans.node(p), ""
			n := k.named(planned)
			if n < 0 || k.total(c, n) == none {
				var instead rejection
				if planned != "" {
					instead = k.why(c, n)
				}
				if n, _ = k.best(c); n < 0 {
					reason = k.unfit(c)
					w.unplace(p, reason)
					continue
				}
				if planned != "" {
					w.deviate(p, planned, k.nodes[n].obj.Name, instead.String())
					elsewhere = instead.brief()
				}
			}
			k.bind(c, n)
			s.stale = append(s.stale, n)
			w.place(p, k.nodes[n].obj.Name, elsewhere)
		}
	}
	for _, c := range classes {
		c.queue = nil
	}
	s.tidy()
	return w.Result
}

// queue puts the waiting pods into the order in which they are placed, by class;
// lost are those whose template is not there. A declared pod that still carries
// its template has not been let in yet: its asks are not counted, and the pod
// controller says what it waits for.
func (s *Scheduler) queue(v *state.Snapshot) (classes []*class, lost []*object.Pod) {
	for p := range v.Pending() {
		if p.Spec.Pod != nil && p.Spec.Template == "" {
			continue
		}
		t := v.Template(p)
		if t == nil {
			lost = append(lost, p)
			continue
		}
		c := s.kernel.class(p, t)
		if len(c.queue) == 0 {
			classes = append(classes, c)
		}
		c.queue = append(c.queue, p)
	}
	slices.SortFunc(classes, func(a, b *class) int {
		if c := cmp.Compare(b.key.tmpl.Priority, a.key.tmpl.Priority); c != 0 {
			return c
		}
		if c := a.key.set.Compare(b.key.set); c != 0 {
			return c
		}
		return cmp.Or(cmp.Compare(a.template, b.template), a.queue[0].Ref().Compare(b.queue[0].Ref()))
	})
	return classes, lost
}

func templateless(p *object.Pod) string {
	return fmt.Sprintf("its template %q does not exist; delete the pod so that its owner makes it again", p.Spec.Template)
}

// named is the index of the node of that name, or -1.
func (k *kernel) named(name string) int32 {
	if name == "" {
		return -1
	}
	i, ok := slices.BinarySearchFunc(k.nodes, name, func(n node, name string) int { return cmp.Compare(n.obj.Name, name) })
	if !ok {
		return -1
	}
	return int32(i)
}

// plans finds the node that a pod's revision, or an operation on its stack, planned
// for it.
type plans struct {
	v       *state.Snapshot
	now     time.Time // zero: those of operations do not matter
	byStack map[string]map[string]string
}

func (p *plans) node(pod *object.Pod) string {
	if pod.Stack == "" {
		return ""
	}
	placements, ok := p.byStack[pod.Stack]
	if !ok {
		placements = p.of(pod.Stack)
		if p.byStack == nil {
			p.byStack = map[string]map[string]string{}
		}
		p.byStack[pod.Stack] = placements
	}
	if len(placements) == 0 {
		return ""
	}
	return placements[pod.Namespace+"/"+pod.Name]
}

// of is what is planned for a stack's pods at this moment.
func (p *plans) of(stack string) map[string]string {
	if r := running(p.v, stack); r != nil {
		return r.Spec.Placements
	}
	s, ok := state.Find[*object.Stack](p.v, object.Ref{Kind: object.KindStack, Name: stack})
	if !ok || p.now.IsZero() || !p.now.Before(s.Status.PlacedUntil) {
		return nil
	}
	return s.Status.Placements
}

// running is the stack's newest running revision, or nil. Below a final one
// there is none: a newer apply ends those before it.
func running(v *state.Snapshot, stack string) *object.Revision {
	s, ok := state.Find[*object.Stack](v, object.Ref{Kind: object.KindStack, Name: stack})
	if !ok {
		return nil
	}
	for n := s.Spec.Revision; n > 0; n-- {
		r, ok := state.Find[*object.Revision](v, object.Ref{Kind: object.KindRevision, Name: object.RevisionName(stack, n)})
		if !ok || r.Status.Phase.Final() {
			return nil
		}
		if r.Status.Phase == object.RevisionRunning || r.Status.Phase == "" {
			return r
		}
	}
	return nil
}
