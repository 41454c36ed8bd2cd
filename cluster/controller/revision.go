package controller

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// revisions carry out what was applied, wave by wave: the next wave opens when
// the objects of the last are healthy. What fails is put back as a new revision.
type revisions struct{}

func (revisions) Name() string { return "revision" }

func (revisions) Inputs() []Input {
	// Objects that are declared wake the revision that is being carried out; so
	// does the end of what they owned, for which deletes wait.
	declared := func(v *state.Snapshot, e state.Event) []object.Ref {
		m := latest(e).Head()
		if m.Stack == "" || e.After != nil && !m.Owner.IsZero() {
			return nil
		}
		if s, ok := state.Find[*object.Stack](v, object.Ref{Kind: object.KindStack, Name: m.Stack}); ok {
			return []object.Ref{revisionRef(m.Stack, s.Spec.Revision)}
		}
		return nil
	}
	return []Input{
		{Kind: object.KindRevision, Keys: func(_ *state.Snapshot, e state.Event) []object.Ref {
			r := latest(e).(*object.Revision)
			keys := []object.Ref{e.Ref}
			if r.Spec.Cause == causeRevert {
				keys = append(keys, revisionRef(r.Spec.Stack, r.Spec.Parent))
			}
			return keys
		}},
		{Kind: object.KindStack, Keys: func(_ *state.Snapshot, e state.Event) []object.Ref {
			var keys []object.Ref
			if s, ok := e.After.(*object.Stack); ok && s.Spec.Revision > 0 {
				keys = append(keys, revisionRef(s.Name, s.Spec.Revision))
				if old, ok := e.Before.(*object.Stack); ok && old.Spec.Revision > 0 && old.Spec.Revision != s.Spec.Revision {
					keys = append(keys, revisionRef(s.Name, old.Spec.Revision))
				}
			}
			return keys
		}},
		{Kind: object.KindDeployment, Keys: declared},
		{Kind: object.KindReplicaSet, Keys: declared},
		{Kind: object.KindPod, Keys: declared},
	}
}

func (revisions) Outputs() []object.Kind {
	out := []object.Kind{object.KindRevision, object.KindStack, object.KindEvent, object.KindTemplate, object.KindContent}
	for _, k := range object.Kinds() {
		if k.Declared {
			out = append(out, k.Kind)
		}
	}
	return out
}

const (
	causeRevert = "revert"
	onPause     = "pause"
)

func revisionRef(stack string, n int) object.Ref {
	return object.Ref{Kind: object.KindRevision, Name: object.RevisionName(stack, n)}
}

// apply is one look at a revision.
type apply struct {
	*work
	rev    *object.Revision
	stack  *object.Stack
	status object.RevisionStatus
}

func (revisions) Reconcile(v *state.Snapshot, key object.Ref, now time.Time) (Result, error) {
	w := begin("revision", v, now)
	rev, ok := state.Find[*object.Revision](v, key)
	if !ok || rev.Status.Phase.Final() {
		return w.done()
	}
	a := &apply{work: w, rev: rev, status: rev.Status}
	a.stack, ok = state.Find[*object.Stack](v, object.Ref{Kind: object.KindStack, Name: rev.Spec.Stack})
	switch {
	case rev.Status.Phase == object.RevisionReverting:
		a.follow()
	case !ok:
		a.end(object.RevisionFailed, "stack "+rev.Spec.Stack+" does not exist")
	case a.stack.Spec.Revision > rev.Spec.Number:
		a.end(object.RevisionSuperseded, fmt.Sprintf("revision %d took over", a.stack.Spec.Revision))
		w.tell(key, levelInfo, "superseded", "revision %d took over", a.stack.Spec.Revision)
	default:
		a.proceed()
	}
	if !reflect.DeepEqual(a.status, rev.Status) {
		after := rev.Clone().(*object.Revision)
		after.Status = a.status
		w.Changes.UpdateStatus(rev, after)
	}
	if a.stack != nil && !w.Changes.Empty() && !wrote(&w.Changes, a.stack.Ref()) {
		w.expect(a.stack) // a newer apply ends this one's right to write
	}
	return w.done()
}

// wrote reports whether the changeset replaces the spec of an object, which makes
// an expectation about it needless.
func wrote(c *object.Changeset, r object.Ref) bool {
	return slices.ContainsFunc(c.Changes, func(x object.Change) bool { return x.Ref == r && x.Part == object.PartSpec })
}

func (a *apply) end(p object.RevisionPhase, message string) {
	a.because("revision %s is %s", a.rev.Name, p)
	a.status.Phase, a.status.Ended = p, a.now
	if message != "" {
		if a.status.Message != "" {
			message = a.status.Message + "; " + message
		}
		a.status.Message = message
	}
}

// after is the next wave that has changes, 0 if none has.
func (a *apply) after(wave int) int {
	next := 0
	for i := range a.rev.Spec.Changes {
		if n := a.rev.Spec.Changes[i].Wave; n > wave && (next == 0 || n < next) {
			next = n
		}
	}
	return next
}

// last is the number of the last wave that has changes.
func (a *apply) last() int {
	n := 0
	for i := range a.rev.Spec.Changes {
		n = max(n, a.rev.Spec.Changes[i].Wave)
	}
	return n
}

func (a *apply) wave(n int) []*object.RevisionChange {
	var out []*object.RevisionChange
	for i := range a.rev.Spec.Changes {
		if c := &a.rev.Spec.Changes[i]; c.Wave == n {
			out = append(out, c)
		}
	}
	return out
}

// proceed does what the open wave still needs, or opens the next one.
func (a *apply) proceed() {
	st := &a.status
	if st.Phase == "" {
		st.Phase = object.RevisionRunning
	}
	a.measure()
	g := a.inherited()
	if st.Wave > 0 {
		if held := a.write(a.wave(st.Wave)); held != nil {
			g = heldBy(held)
		} else if own := a.gate(a.wave(st.Wave)); own.kind >= g.kind {
			g = own
		}
	}
	// The first wave opens whatever was left behind: it may be the cure.
	if st.Wave > 0 || a.last() == 0 {
		switch g.kind {
		case gateFailed, gatePaused:
			a.fail(g)
			return
		case gateWaits:
			a.recover()
			return
		}
		a.recover()
	}
	next := a.after(st.Wave)
	if next == 0 {
		a.finish()
		return
	}
	a.because("revision %s opens wave %d of %d", a.rev.Name, next, a.last())
	st.Wave, st.Since = next, a.now
	if held := a.write(a.wave(next)); held != nil {
		a.fail(heldBy(held))
	}
}

// recover ends a pause whose reason is gone.
func (a *apply) recover() {
	if st := &a.status; st.Phase == object.RevisionPaused {
		st.Phase = object.RevisionRunning
		st.Object, st.Reason, st.Message, st.LastLog = object.Ref{}, "", "", nil
		a.because("revision %s goes on", a.rev.Name)
	}
}

// write carries out those changes of a wave that have not been yet. A pod that
// is made anew has to end first: its change is carried out by a later call. An
// error means that a change cannot be carried out at all, and nothing was written.
func (a *apply) write(changes []*object.RevisionChange) *object.Error {
	opened := openedOf(a.status.Opened, changes)
	mark, claimed := len(a.Changes.Changes), maps.Clone(a.claimed)
	done := slices.Clip(a.status.Opened)
	for _, c := range changes {
		if opened(c.Ref) {
			continue
		}
		ok, err := a.change(c)
		if err != nil {
			a.Changes.Changes, a.claimed = a.Changes.Changes[:mark], claimed
			return err
		}
		if ok {
			done = append(done, c.Ref)
		}
	}
	a.status.Opened = done
	if len(a.Changes.Changes) > mark {
		a.because("revision %s, wave %d", a.rev.Name, a.status.Wave)
	}
	return nil
}

// change carries out one change; false means that it has to wait.
func (a *apply) change(c *object.RevisionChange) (bool, *object.Error) {
	now, exists := a.v.Get(c.Ref)
	stack := a.rev.Spec.Stack
	if !c.To.IsZero() {
		return true, nil // what makes the new one ends the old one
	}
	if exists {
		m := now.Head()
		switch {
		case !m.Owner.IsZero():
			return false, object.Errorf(object.CodeConflict, c.Ref, "belongs to %s by now; choose another name", m.Owner)
		case m.Stack != "" && m.Stack != stack && c.Op == object.OpDelete:
			return true, nil // somebody else's by now
		case m.Stack != "" && m.Stack != stack:
			return false, object.Errorf(object.CodeConflict, c.Ref, "belongs to stack %s by now; remove it from one of the two configurations", m.Stack)
		}
	}
	if c.Op == object.OpDelete {
		if exists {
			a.remove(now)
		}
		return true, nil
	}
	if c.After.IsZero() {
		return false, object.Errorf(object.CodeInvalid, c.Ref, "revision %s does not say what it should be", a.rev.Name)
	}
	if c.After.Ref() != c.Ref {
		return false, object.Errorf(object.CodeInvalid, c.Ref, "revision %s says that it should be %s", a.rev.Name, c.After.Ref())
	}
	after := c.After.Clone()
	if s := after.StatusPtr(); s != nil {
		reflect.ValueOf(s).Elem().SetZero()
	}
	if p, ok := after.(*object.Pod); ok {
		old, _ := now.(*object.Pod)
		return a.declarePod(old, p), nil
	}
	if !exists {
		if !c.From.IsZero() && a.rename(c.From, after) {
			return true, nil
		}
		a.Changes.Create(after)
		return true, nil
	}
	object.KeepOperational(after, now)
	if d, ok := after.(*object.Deployment); ok && a.rev.Spec.Cause == causeRevert {
		d.Spec.Aborted = "" // it is given up; who applies the version again means it
	}
	// A deployment is written even if it stays as it is: what it reads has changed
	// then, and its status has to speak of this moment, not of the one before.
	if c.Ref.Kind == object.KindDeployment || !object.Equal(now, after) || !object.SamePins(now, after) || now.Head().Stack != after.Head().Stack || !slices.Equal(now.Head().After, after.Head().After) {
		a.Changes.Update(now, after)
	}
	return true, nil
}

func (a *apply) remove(now object.Object) {
	switch x := now.(type) {
	case *object.Pod:
		a.stop(x, "removed by revision "+a.rev.Name)
	case *object.Node: // a machine does not end because a configuration forgets it
		n := x.Clone().(*object.Node)
		n.Stack, n.After, n.PreventDestroy = "", nil, false
		a.Changes.Update(x, n)
	default:
		a.Changes.Delete(now)
	}
}

// declarePod makes a declared pod, or makes it anew if what it runs is another.
func (a *apply) declarePod(old, want *object.Pod) bool {
	row := &object.Pod{Meta: want.Meta}
	if want.Spec.Pod != nil {
		t := *want.Spec.Pod
		t.Reads = nil
		row.Spec.Pod = &t
	}
	if old != nil {
		have := a.v.Expand(old)
		same := row.Clone().(*object.Pod)
		same.Labels, same.Annotations, same.PreventDestroy = have.Labels, have.Annotations, have.PreventDestroy
		switch {
		case old.Spec.Stop:
			return false
		case have.Spec.Pod == nil || row.Spec.Pod == nil || !object.Equal(have, same) || !object.SamePins(have, row):
			a.stop(old, "replaced by revision "+a.rev.Name)
			return false
		}
		after := old.Clone().(*object.Pod)
		after.Meta = row.Meta
		if !object.Equal(have, row) || old.Stack != row.Stack || !slices.Equal(old.After, row.After) {
			a.Changes.Update(old, after)
		}
		return true
	}
	row.Status = object.PodStatus{Phase: object.PodPending, Since: a.now}
	if row.Spec.Pod != nil {
		if r, held := a.row(row); held == nil {
			row = r // else the pod controller goes on trying, and says why
		}
	}
	a.Changes.Create(row)
	return true
}

// finish ends a revision whose last wave is healthy.
func (a *apply) finish() {
	st := &a.status
	st.Kept, st.Deviations = a.deviations()
	a.end(object.RevisionHealthy, "")
	status := a.stack.Status
	status.Healthy = a.rev.Spec.Number
	if !a.now.Before(status.PlacedUntil) { // nobody reads them any more, and they may be thousands
		status.Placements, status.PlacedUntil = nil, time.Time{}
	}
	setStatus(a.work, a.stack, &a.stack.Status, &status)
	a.tell(a.rev.Ref(), levelInfo, "healthy", "%s of %s is complete: %s", a.rev.Spec.Cause, a.rev.Spec.Stack, plural(len(a.rev.Spec.Changes), "change"))
}
