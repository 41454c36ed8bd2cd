package controller

import (
	"fmt"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// fail notes why the open wave failed and puts the whole revision back, unless a
// person is to decide or the revision itself is one that puts back.
func (a *apply) fail(g gate) {
	st := &a.status
	first := st.Phase != object.RevisionPaused
	st.Object, st.Reason, st.Message, st.LastLog = g.object, g.reason, g.message, g.log
	if a.rev.Spec.Cause != causeRevert && g.reason != object.ReasonAborted && (g.kind == gatePaused || a.rev.Spec.OnFailure == onPause) {
		if first {
			st.Phase = object.RevisionPaused
			a.because("revision %s is paused: %s", a.rev.Name, g.reason)
			how := "failed"
			if g.reason == object.ReasonPromise || g.reason == object.ReasonInconclusive {
				how = "is paused"
			}
			a.tell(a.rev.Ref(), levelWarning, "paused", "%s %s (%s): %s", g.object, how, g.reason, g.message)
		}
		return
	}
	a.tell(a.rev.Ref(), levelWarning, "failed", "%s failed (%s): %s", g.object, g.reason, g.message)
	if a.rev.Spec.Cause == causeRevert {
		a.end(object.RevisionFailed, "")
		return
	}
	back := a.inverse()
	if len(back) == 0 {
		a.end(object.RevisionReverted, "")
		return
	}
	number, target := a.stack.Spec.Revision+1, a.stack.Status.Healthy
	rev := &object.Revision{
		Meta: object.Meta{Kind: object.KindRevision, Name: object.RevisionName(a.stack.Name, number), Stack: a.stack.Name},
		Spec: object.RevisionSpec{
			Stack: a.stack.Name, Number: number, Parent: a.rev.Spec.Number, Cause: causeRevert, Target: target,
			Author: a.Changes.Author, Time: a.now, Changes: back, Waves: 1,
		},
		Status: object.RevisionStatus{Phase: object.RevisionRunning},
	}
	if old, ok := state.Find[*object.Revision](a.v, revisionRef(a.stack.Name, target)); ok {
		rev.Spec.Source, rev.Spec.Outputs = old.Spec.Source, old.Spec.Outputs
	}
	a.because("revision %s failed (%s) and is put back", a.rev.Name, g.reason)
	a.Changes.Create(rev)
	stack := a.stack.Clone().(*object.Stack)
	stack.Spec.Revision, stack.Spec.Outputs = number, rev.Spec.Outputs
	a.Changes.Update(a.stack, stack)
	st.Phase, st.RevertedBy = object.RevisionReverting, number
	a.tell(rev.Ref(), levelInfo, "reverting", "puts %s back", a.rev.Name)
}

// inverse lists the changes that lead back to the last healthy revision from
// whatever is in force. The base of an object is what the first unhealthy
// revision found: if this revision took over from one that was half open, its own
// idea of "before" was never healthy. Everything is put back in one wave: a
// config map and its readers must change together, or healthy pods would roll.
func (a *apply) inverse() []object.RevisionChange {
	base := map[object.Ref]object.Any{}
	former := formerNames{}
	var order []object.Ref
	for _, r := range a.revisionsSince(a.stack.Status.Healthy, a.rev.Spec.Number) {
		open := r.Status.Wave
		if r.Name == a.rev.Name {
			open = a.rev.Status.Wave // not a wave that could not even be opened
		}
		for i := range r.Spec.Changes {
			c := &r.Spec.Changes[i]
			if c.Wave <= open {
				former.add(c)
			}
			if _, known := base[c.Ref]; !known && c.Wave <= open {
				base[c.Ref] = c.Before
				order = append(order, c.Ref)
			}
		}
	}
	var out []object.RevisionChange
	for _, ref := range order {
		was := base[ref]
		now, exists := a.v.Get(ref)
		if p, ok := now.(*object.Pod); ok {
			now = a.v.Expand(p)
		}
		c := object.RevisionChange{Ref: ref, Wave: 1, After: was}
		if exists {
			c.Before = object.Any{Object: now}
		}
		switch {
		case was.IsZero() && !exists:
			continue
		case was.IsZero():
			c.Op = object.OpDelete
		case !exists:
			c.Op = object.OpCreate
		case ref.Kind != object.KindDeployment && object.Equal(was.Object, now) && object.SamePins(was.Object, now) && now.Head().Stack == was.Head().Stack && !stopping(now):
			continue
		default:
			c.Op = object.OpUpdate
		}
		out = append(out, c)
	}
	former.back(out)
	return out
}

func stopping(o object.Object) bool {
	p, ok := o.(*object.Pod)
	return ok && p.Spec.Stop
}

// follow waits for the revision that puts this one back.
func (a *apply) follow() {
	back, ok := state.Find[*object.Revision](a.v, revisionRef(a.rev.Spec.Stack, a.status.RevertedBy))
	switch {
	case !ok:
		a.end(object.RevisionFailed, "the revision that was to put it back is gone")
	case back.Status.Phase == object.RevisionHealthy:
		a.end(object.RevisionReverted, "")
		a.tell(a.rev.Ref(), levelInfo, "reverted", "was put back by revision %d", back.Spec.Number)
	case back.Status.Phase == object.RevisionSuperseded:
		a.end(object.RevisionFailed, fmt.Sprintf("a newer apply took over before revision %d had put it back", back.Spec.Number))
	case back.Status.Phase == object.RevisionFailed:
		a.end(object.RevisionFailed, fmt.Sprintf("revision %d could not put it back: %s", back.Spec.Number, back.Status.Message))
	}
}
