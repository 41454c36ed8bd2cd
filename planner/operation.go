package planner

import (
	"fmt"
	"slices"
	"strings"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// operate rehearses an operation: what it writes is written to the fork, and the
// control plane runs until nothing more would happen. A node that is lost is
// marked before the nodes are modelled, for it reports nothing any more.
func (r *rehearsal) operate(o *object.Operation) {
	c, err := o.Changeset(r.fork.Snapshot().Get, r.from)
	r.wrote(c, err, o)
}

// write rehearses a write of objects that is of no stack's revision, as operate does.
func (r *rehearsal) write(p *object.Plan) {
	v := r.fork.Snapshot()
	var c object.Changeset
	for i := range p.Changes {
		x := &p.Changes[i]
		was, there := v.Get(x.Ref)
		switch {
		case x.After.IsZero() && there:
			c.Delete(was)
		case x.After.IsZero():
		case there:
			c.Update(was, x.After.Object)
		default:
			c.Create(x.After.Object)
		}
	}
	r.wrote(c, nil, &object.Operation{Name: object.CauseWrite})
}

func (r *rehearsal) wrote(c object.Changeset, err error, o *object.Operation) {
	if err == nil && !c.Empty() {
		err = r.apply(stamped(c, "forecast", r.now))
	}
	if err != nil {
		r.outcome, r.reason = OutcomeFailed, err.Error()
		return
	}
	r.nodes.adopt(r.fork.Snapshot())
	if r.toRest() {
		r.rest(o)
	}
}

// toRest lets time pass until nothing more would happen, or the look-ahead ends;
// false if that is not reached.
func (r *rehearsal) toRest() bool {
	for r.settle() {
		r.inherit()
		if r.promote() {
			continue
		}
		next, ok := r.next()
		if !ok || next.After(r.deadline) {
			return true
		}
		r.now = next
		r.report()
	}
	r.outcome, r.reason = OutcomeUnfinished, fmt.Sprintf("the controllers did not come to rest within %d steps", maxSteps)
	return false
}

// rest judges how things stand in the end.
func (r *rehearsal) rest(o *object.Operation) {
	r.outcome = OutcomeHealthy
	r.log.measure(o, r.fork.Snapshot())
	var short []string
	for ref, w := range r.log.workloads {
		if w.watched && !w.gone && w.ready < w.want {
			short = append(short, fmt.Sprintf("%s ends with %d of %d ready", ref.Address(), w.ready, w.want))
		}
	}
	if len(short) > 0 {
		slices.Sort(short)
		r.outcome, r.reason = OutcomeUnfinished, strings.Join(short, ", ")
	}
	if o.Name != object.OperationDrain {
		return
	}
	for _, n := range o.On {
		for p := range r.fork.Snapshot().PodsOn(n.Name) {
			if !p.Terminal() && !p.Spec.Stop {
				r.log.stays = append(r.log.stays, object.Placement{Pod: p.Ref(), Node: n.Name})
			}
		}
	}
	slices.SortFunc(r.log.stays, func(x, y object.Placement) int { return x.Pod.Compare(y.Pod) })
}

// waitingPods are those that are placed nowhere when an operation begins: that
// they fit nowhere is not its doing.
func waitingPods(v *state.Snapshot) map[object.Ref]bool {
	out := map[object.Ref]bool{}
	for p := range state.All[*object.Pod](v, object.KindPod) {
		if p.Spec.Node == "" && !p.Spec.Stop && !p.Terminal() {
			out[p.Ref()] = true
		}
	}
	return out
}
