package planner

import (
	"fmt"
	"slices"
	"time"

	"github.com/berthdev/berth/cluster/controller"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/scheduler"
	"github.com/berthdev/berth/cluster/state"
)

// Outcomes of a forecast.
const (
	OutcomeHealthy    = "healthy"    // the revision ends well
	OutcomeFailed     = "failed"     // it fails and is put back, or waits for a person
	OutcomeUnfinished = "unfinished" // the look-ahead ends before the revision does
)

// maxSteps bounds the work of one rehearsal: reconciliations and rounds of
// scheduling together. A thousand-pod rollout takes a few hundred.
const maxSteps = 1_000_000

// Forecast rehearses the plan on a fork of the masters' state, which it uses up:
// the plan is committed as an apply would commit it, then the masters' own
// controllers and scheduler run in virtual time from `from` on, against modelled
// nodes, until the revision has ended, the model's deadline has passed or
// nothing more would happen. Equal inputs give equal forecasts, whatever each is:
// keys of one snapshot are reconciled in its order or beside one another.
func Forecast(fork *state.Store, p *object.Plan, from time.Time, m NodeModel, each object.Each) object.Forecast {
	return ForecastFrom(nil, fork, p, from, m, each)
}

// ForecastFrom is Forecast for who knows what waits on the state, and which alarms
// are set: a queue that is in step with it, which the rehearsal uses up. Without
// one, each key of the state is looked at once, as a new leader does it, and all
// that have settled say so.
func ForecastFrom(queue *controller.Queue, fork *state.Store, p *object.Plan, from time.Time, m NodeModel, each object.Each) object.Forecast {
	r := newRehearsal(queue, fork, p, from, m, each)
	r.asks(p)
	if p.Operation != nil || p.Cause == object.CauseWrite {
		if p.Operation != nil {
			r.operate(p.Operation)
		} else {
			r.write(p)
		}
		f := r.log.forecast(r.outcome, r.reason, from.Add(r.log.last))
		f.Starts = r.nodes.past.list()
		return f
	}
	before := fork.Snapshot()
	r.run(p)
	f := r.log.forecast(r.outcome, r.reason, r.now)
	f.Starts = r.nodes.past.list()
	reachability(before, p, &f)
	return f
}

func newRehearsal(queue *controller.Queue, fork *state.Store, p *object.Plan, from time.Time, m NodeModel, each object.Each) *rehearsal {
	m = m.withDefaults()
	if queue == nil {
		queue = controller.NewQueue(controller.All())
		queue.Seed(fork.Snapshot())
	}
	queue.Postpone("revision") // it looks at all that was changed
	r := &rehearsal{
		fork: fork, queue: queue, scheduler: scheduler.New(scheduler.SpreadPolicy()), nodes: newFleet(m, from, p.Images), each: each,
		from: from, now: from, deadline: from.Add(m.Deadline + pauses(fork.Snapshot(), p)),
		checks: map[object.Ref]bool{}, told: map[beginning]bool{}, log: newLogbook(fork.Snapshot(), p, from),
	}
	r.underWay(fork.Snapshot())
	return r
}

// rehearsal is a run of the control plane in virtual time.
type rehearsal struct {
	fork      *state.Store
	queue     *controller.Queue
	scheduler *scheduler.Scheduler
	nodes     *fleet
	each      object.Each
	revisions []object.Ref
	waits     []object.Ref        // deployments that the plan concerns and that wait for a person
	checks    map[object.Ref]bool // deployments with checks that nobody measures here
	told      map[beginning]bool  // checks that are in the log
	inherits  bool                // checks of earlier rollouts are still to be noted
	from, now time.Time
	deadline  time.Time
	steps     int
	log       *logbook
	failed    bool // the revision is given up: what follows puts it back and is not forecast
	through   bool // what puts it back is carried out, too; see Carry
	outcome   string
	reason    string
	refused   int // keys that lost to another of the same entry and look again one by one

	turns []turn // reconcile's own, whose memory is used again
	batch []object.Changeset
}

// turn is a key that is reconciled.
type turn struct {
	controller controller.Controller
	key        object.Ref
	result     controller.Result
	err        error
}

func (r *rehearsal) run(p *object.Plan) {
	if !r.begin(p) {
		return
	}
	for {
		if !r.settle() {
			r.outcome, r.reason = OutcomeUnfinished, fmt.Sprintf("the controllers did not come to rest within %d steps", maxSteps)
			return
		}
		r.inherit()
		if r.ended() {
			return
		}
		if r.promote() {
			continue
		}
		next, ok := r.next()
		if !ok {
			r.outcome, r.reason = OutcomeUnfinished, "nothing more would happen; "+r.waiting()
			return
		}
		if next.After(r.deadline) {
			r.outcome, r.reason = OutcomeUnfinished, fmt.Sprintf("not done after %s; %s", object.Duration(r.deadline.Sub(r.from)), r.waiting())
			return
		}
		r.now = next
		r.report()
	}
}

// begin commits the plan; false if that cannot be.
func (r *rehearsal) begin(p *object.Plan) bool {
	v := r.fork.Snapshot()
	r.nodes.adopt(v)
	c, made := object.Commit(p, v.Get, "forecast", r.now)
	for _, a := range made {
		r.revisions = append(r.revisions, a.Revision)
	}
	if err := r.apply(c); err != nil {
		r.outcome, r.reason = OutcomeFailed, "the plan could not be committed: "+err.Error()
		return false
	}
	return true
}

// settle lets controllers and scheduler work until neither has anything to do at
// this moment, or the revision is given up; false when they do not come to rest.
func (r *rehearsal) settle() bool {
	for {
		for r.queue.Len() > 0 || r.due() {
			if r.steps > maxSteps {
				return false
			}
			if r.reconcile(); r.failed {
				return true
			}
		}
		v := r.fork.Snapshot()
		if v.PendingCount() == 0 {
			return true
		}
		if r.steps++; r.steps > maxSteps {
			return false
		}
		res := r.scheduler.Place(v, r.now, 0)
		r.log.unplaced(v, res.Unplaced)
		r.log.explain(res.Explained, r.now)
		if res.Changes.Empty() {
			return true
		}
		events, errs := r.fork.ApplyOwned(v.Index()+1, []object.Changeset{stamped(res.Changes, "scheduler", r.now)})
		if r.observe(events); errs[0] != nil {
			return true // nobody else writes in between, so this would repeat itself
		}
	}
}

// together is how many keys are reconciled on one snapshot and written as one
// entry, as the masters group what they commit: publishing a state costs more
// than a reconciliation.
const together = 4096

// few keys are done before another processor has begun.
const few = 64

func (r *rehearsal) due() bool {
	t, ok := r.queue.NextWake()
	return ok && !t.After(r.now)
}

// reconcile serves the next keys. What is refused, because an earlier change of
// the same entry was in its way, looks again at once; for as many keys as were
// refused the entries then have one change each, so that what stands in line for
// one object gets through without looking again and again.
func (r *rehearsal) reconcile() {
	v := r.fork.Snapshot()
	turns, batch := r.turns[:0], r.batch[:0]
	defer func() {
		clear(turns) // what is written is the fork's
		clear(batch)
		r.turns, r.batch = turns, batch
	}()
	most := together
	if r.refused > 0 {
		r.refused--
		most = 1
	}
	for len(turns) < most && (len(turns) == 0 || !r.queue.Rested()) {
		c, key, ok := r.queue.Next(r.now)
		if !ok {
			break
		}
		turns = append(turns, turn{controller: c, key: key})
	}
	r.steps += len(turns)
	each := r.each
	if len(turns) < few {
		each = object.InOrder
	}
	_ = each(len(turns), func(i int) error { // errors are the turns' own
		t := &turns[i]
		t.result, t.err = t.controller.Reconcile(v, t.key, r.now)
		return nil
	})
	writers := turns[:0] // in place: one behind the reading
	for _, t := range turns {
		switch {
		case t.err != nil:
			r.queue.WakeAt(t.controller, t.key, r.now.Add(time.Second)) // as the masters' loop does: later again
			continue
		case !t.result.Wake.IsZero() && !t.result.Wake.After(r.now):
			t.result.Wake = r.now.Add(time.Nanosecond) // virtual time has to move on
		}
		if t.result.Changes.Empty() {
			r.queue.WakeAt(t.controller, t.key, t.result.Wake)
			continue
		}
		writers = append(writers, t)
		batch = append(batch, stamped(t.result.Changes, "controller/"+t.controller.Name(), r.now))
	}
	if len(batch) == 0 {
		return
	}
	events, errs := r.fork.ApplyOwned(v.Index()+1, batch)
	v = r.fork.Snapshot()
	_ = each(2, func(i int) error { // the two share nothing that either writes
		if i == 0 {
			r.notice(v, events)
		} else {
			r.wake(v, writers, batch, events, errs)
		}
		return nil
	})
}

// wake lets the controllers see what one entry wrote: a changeset of each writer.
func (r *rehearsal) wake(v *state.Snapshot, writers []turn, batch []object.Changeset, events []state.Event, errs []error) {
	for i, t := range writers {
		wake := t.result.Wake
		if errs[i] != nil {
			wake = r.now
			r.refused++
		} else {
			own := events[:len(batch[i].Changes)] // one for each change
			events = events[len(own):]
			if t.result.Done {
				r.queue.ObserveDone(v, own, t.controller, t.key)
			} else {
				r.queue.Observe(v, own)
			}
		}
		r.queue.WakeAt(t.controller, t.key, wake)
	}
}

func stamped(c object.Changeset, author string, now time.Time) object.Changeset {
	if c.Author == "" {
		c.Author = author
	}
	c.Time = now
	return c
}

// apply writes to the fork and lets everybody see it.
func (r *rehearsal) apply(c object.Changeset) error {
	events, err := r.fork.Apply(r.fork.Snapshot().Index()+1, c)
	if err == nil {
		r.observe(events)
	}
	return err
}

func (r *rehearsal) observe(events []state.Event) {
	v := r.fork.Snapshot()
	r.notice(v, events)
	r.queue.Observe(v, events)
}

// notice lets all but the controllers see what was written.
func (r *rehearsal) notice(v *state.Snapshot, events []state.Event) {
	for _, e := range events {
		if rev, ok := e.After.(*object.Revision); ok && slices.Contains(r.revisions, e.Ref) {
			switch rev.Status.Phase {
			case object.RevisionPaused, object.RevisionReverting, object.RevisionReverted, object.RevisionFailed:
				r.failed = !r.through && !silent(rev)
			}
		}
		if dep, ok := e.After.(*object.Deployment); ok && r.log.concerns(dep.Stack) && dep.Status.Canary != nil && dep.Status.Canary.Waits {
			r.waits = append(r.waits, e.Ref)
		}
		if dep, ok := e.After.(*object.Deployment); ok && dep.Status.Canary != nil {
			before, _ := e.Before.(*object.Deployment)
			r.checked(v, dep, before)
		}
		after, ok := e.After.(*object.Pod)
		if !ok || after.Spec.Node == "" {
			continue
		}
		before, _ := e.Before.(*object.Pod)
		if before == nil || before.Spec.Node == "" {
			r.nodes.start(v, after, r.now)
		}
		if after.Spec.Stop && !after.Terminal() && (before == nil || !before.Spec.Stop) {
			r.nodes.stop(v, after, r.now)
		}
	}
	r.log.record(v, events, r.now)
}

// promote does what a person will be asked for, at once, and notes it; false if
// nobody waits.
func (r *rehearsal) promote() bool {
	waits := r.waits
	r.waits = nil
	some := false
	for _, ref := range waits {
		d, ok := state.Find[*object.Deployment](r.fork.Snapshot(), ref)
		if !ok || d.Status.Canary == nil || !d.Status.Canary.Waits || d.Spec.Promoted == d.Status.Canary.Token() {
			continue
		}
		next := d.Clone().(*object.Deployment)
		next.Spec.Promoted = d.Status.Canary.Token()
		c := object.Changeset{Author: "forecast", Time: r.now}
		c.Update(d, next)
		r.log.pause(next, r.now)
		some = r.apply(c) == nil || some
	}
	return some
}

// pauses are how long the plan's canaries stay at their steps, and others between
// zones: so much longer a rehearsal looks ahead.
func pauses(v *state.Snapshot, p *object.Plan) time.Duration {
	var sum time.Duration
	for i := range p.Changes {
		if d, ok := p.Changes[i].After.Object.(*object.Deployment); ok {
			for _, s := range d.Spec.Update.Steps {
				sum += s.Pause.D() + length(s.Checks)
			}
			if u := d.Spec.Update; u.Strategy == "blue_green" {
				sum += u.Switch().After.D() + length(u.Switch().Checks) + length(u.Switch().ChecksAfter)
			} else if pause := u.Turns().Pause.D(); u.By != "" && pause > 0 {
				sum += pause * time.Duration(zones(v, u.By))
			}
			sum += length(d.Spec.Update.Checks)
		}
	}
	return sum
}

// zones are how many values an attribute has among the nodes.
func zones(v *state.Snapshot, by string) int {
	seen := map[string]bool{}
	for n := range state.All[*object.Node](v, object.KindNode) {
		if z, _ := n.Attribute(by); z != "" {
			seen[z] = true
		}
	}
	return len(seen)
}

// report lets the nodes say what has happened by now, and checks pass.
func (r *rehearsal) report() {
	r.pass()
	batch := r.nodes.report(r.fork.Snapshot(), r.now)
	if len(batch) == 0 {
		return
	}
	events, _ := r.fork.ApplyOwned(r.fork.Snapshot().Index()+1, batch)
	r.observe(events)
}

// next is when something happens next.
func (r *rehearsal) next() (time.Time, bool) {
	a, okA := r.queue.NextWake()
	b, okB := r.nodes.next()
	if c, ok := r.nextCheck(); ok && (!okB || c.Before(b)) {
		b, okB = c, true
	}
	switch {
	case okA && (!okB || a.Before(b)):
		return latest(a, r.now), true
	case okB:
		return latest(b, r.now), true
	}
	return time.Time{}, false
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// ended reports whether all revisions have come to an end, or one has failed, and
// notes which.
func (r *rehearsal) ended() bool {
	for _, ref := range r.revisions {
		if !r.endedOne(ref) {
			return false
		}
		if r.outcome != OutcomeHealthy {
			return true
		}
	}
	return true
}

func (r *rehearsal) endedOne(ref object.Ref) bool {
	rev, ok := state.Find[*object.Revision](r.fork.Snapshot(), ref)
	if !ok {
		r.outcome, r.reason = OutcomeFailed, "the revision is gone"
		return true
	}
	switch rev.Status.Phase {
	case object.RevisionHealthy:
		r.outcome = OutcomeHealthy
	case object.RevisionPaused, object.RevisionReverting, object.RevisionReverted, object.RevisionFailed, object.RevisionSuperseded:
		if silent(rev) {
			return false
		}
		r.outcome, r.reason = OutcomeFailed, rev.Status.Message
		if r.reason == "" {
			r.reason = rev.Status.Reason
		}
		if !rev.Status.Object.IsZero() {
			r.reason = rev.Status.Object.Address() + ": " + r.reason
		}
	default:
		return false
	}
	return true
}

// waiting says what the revision still waits for.
func (r *rehearsal) waiting() string {
	var rev *object.Revision
	for _, ref := range r.revisions {
		x, ok := state.Find[*object.Revision](r.fork.Snapshot(), ref)
		if !ok {
			return "the revision is gone"
		}
		if rev == nil || rev.Status.Phase == object.RevisionHealthy {
			rev = x
		}
	}
	s := fmt.Sprintf("wave %d of %d is not healthy", rev.Status.Wave, rev.Spec.Waves)
	if len(r.revisions) > 1 {
		s = rev.Spec.Stack + ": " + s
	}
	var open []string
	for _, c := range rev.Spec.Changes {
		if dep, ok := state.Find[*object.Deployment](r.fork.Snapshot(), c.Ref); ok && c.Wave == rev.Status.Wave && dep.Status.Phase != object.RolloutStable {
			open = append(open, fmt.Sprintf("%s is %s", c.Ref.Address(), dep.Status.Phase))
		}
	}
	slices.Sort(open)
	for _, o := range open {
		s += ", " + o
	}
	return s
}
