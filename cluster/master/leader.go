package master

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berthdev/berth/cluster/consensus"
	"github.com/berthdev/berth/cluster/controller"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/scheduler"
	"github.com/berthdev/berth/cluster/state"
)

const (
	maxUnderWay  = 1024 // changesets of controllers that wait for their commit
	turn         = 256  // keys reconciled before newer events are looked at
	bindingBatch = 512  // changes of one changeset of the scheduler
	firstDelay   = 10 * time.Millisecond
	lastDelay    = 5 * time.Second
	lookAgain    = 20 * time.Millisecond // while the events cannot be followed
)

// leader is the one loop of a leadership: events in, decisions of the pure parts
// out as proposals. It is used by one goroutine; commits come back through a
// channel. Nothing in it has to survive.
type leader struct {
	m       *Master
	node    *consensus.Node
	queue   *controller.Queue
	watcher *consensus.Watcher
	since   time.Time // of this leadership
	byName  map[string]controller.Controller

	underWay map[task]bool // one changeset at most for each key; true: look again after it
	failures map[task]int
	results  mailbox

	scheduler *scheduler.Scheduler
	pods      bool // something changed that the scheduler should look at
	binding   int  // its changesets under way
	retry     time.Time

	judged    time.Time    // when the heartbeats were last looked at
	requested queueRequest // to be answered, if it has a reply
	checks    *checks
}

// task is a key of a controller, or of one of the leader's own duties.
type task struct {
	owner string
	key   object.Ref
}

type result struct {
	task task
	err  error
}

// mailbox takes results from consensus without ever making it wait.
type mailbox struct {
	mu    sync.Mutex
	items []result
	wake  chan struct{} // has an element when items may have
}

func (b *mailbox) put(r result) {
	b.mu.Lock()
	b.items = append(b.items, r)
	b.mu.Unlock()
	b.nudge()
}

// nudge has the loop look, at what came here or to another place.
func (b *mailbox) nudge() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *mailbox) take() []result {
	b.mu.Lock()
	defer b.mu.Unlock()
	items := b.items
	b.items = nil
	return items
}

const (
	dutyNodes = "nodes"
	dutyBind  = "scheduler"
	dutyTell  = "events"
	dutyFound = "network"
)

func newLeader(m *Master) *leader {
	l := &leader{
		m: m, node: m.node, since: m.config.Now(), byName: map[string]controller.Controller{},
		underWay: map[task]bool{}, failures: map[task]int{}, results: mailbox{wake: make(chan struct{}, 1)},
		scheduler: scheduler.New(m.config.Policy), checks: newChecks(&m.traffic),
	}
	for _, c := range m.config.Controllers {
		l.byName[c.Name()] = c
	}
	m.beats.begin()
	return l
}

// run leads until ctx ends. Changesets that are under way then end by themselves.
func (l *leader) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer l.checks.close()
	for ctx.Err() == nil {
		now := l.m.config.Now()
		v, err := l.observe()
		if err != nil {
			l.m.log.Error("the event log cannot be followed", "error", err) // only while a restore is under way
			l.watcher = nil
		} else {
			l.reconcile(ctx, v, now)
			l.schedule(v, now)
			l.judge(v, now)
			l.found(v, now)
			l.answer(ctx)
			l.analyse(ctx, v, now)
		}
		if l.busy() {
			continue
		}
		timer.Reset(l.pause(now))
		var ready, broken <-chan struct{}
		if l.watcher != nil {
			ready, broken = l.watcher.Ready(), l.watcher.Broken()
		}
		select {
		case <-ctx.Done():
		case <-ready:
		case <-broken:
			l.watcher = nil
		case <-l.results.wake: // observe takes them
		case l.requested = <-l.m.queueRequests: // answered after observe
		case <-timer.C:
		}
	}
}

// observe takes in what has happened. The snapshot it returns has at least all
// the events that the queue has been told of, so that no wake-up is for nothing
// and none is lost.
func (l *leader) observe() (*state.Snapshot, error) {
	if l.watcher == nil {
		v := l.node.Snapshot()
		w, err := l.node.Watch(v.Index())
		if err != nil {
			return nil, err
		}
		l.watcher, l.queue, l.pods = w, controller.NewQueue(l.m.config.Controllers), true
		if safely(func() { l.queue.Seed(v) }) != nil {
			l.seedSingly(v)
		}
		for d := range v.List(object.KindDeployment) {
			l.checks.follow(d, d.Ref())
		}
	}
	var events []state.Event
	for {
		b, err := l.watcher.Poll()
		if object.IsCode(err, object.CodeGone) {
			l.watcher = nil // a restore, or too slow: begin anew from the state
			return l.observe()
		}
		if err != nil {
			return nil, err
		}
		if b == nil {
			break
		}
		events = append(events, b.Events...)
	}
	for _, r := range l.results.take() {
		l.finish(r, l.m.config.Now())
	}
	v := l.node.Snapshot()
	l.wake(v, events)
	l.followChecks(events)
	l.pods = l.pods || slices.ContainsFunc(events, concernsScheduler)
	return v, nil
}

// wake lets the queue see events. A mapping from an event to keys that panics
// loses that one event's wake-ups, not those of the others.
func (l *leader) wake(v *state.Snapshot, events []state.Event) {
	for i := range events {
		if err := safely(func() { l.queue.Observe(v, events[i:i+1]) }); err != nil {
			l.m.metrics.failures.WithLabelValues("queue").Inc()
			l.m.log.Error("an event cannot be told to the controllers", "key", events[i].Ref.String(), "op", events[i].Op, "error", err)
		}
	}
}

// seedSingly fills a queue that some object keeps from being seeded at once.
func (l *leader) seedSingly(v *state.Snapshot) {
	for _, info := range object.Kinds() {
		for o := range v.List(info.Kind) {
			l.wake(v, []state.Event{{Index: v.Index(), Op: object.OpCreate, Ref: o.Ref(), After: o}})
		}
	}
}

// safely turns a panic into an error that says where it came from.
func safely(do func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v, at %s", p, origin())
		}
	}()
	do()
	return nil
}

// origin is the place that panicked, for a deferred function that recovers.
func origin() string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	panicked := false
	for {
		f, more := frames.Next()
		switch {
		case strings.HasPrefix(f.Function, "runtime."):
			panicked = true
		case panicked:
			return fmt.Sprintf("%s:%d", filepath.Base(f.File), f.Line)
		}
		if !more {
			return "an unknown place"
		}
	}
}

// concernsScheduler reports whether an event may let a waiting pod be placed: a
// new pod, room that came free, a node that changed.
func concernsScheduler(e state.Event) bool {
	switch e.Ref.Kind {
	case object.KindPod:
		if e.Part != object.PartStatus {
			return true
		}
		p, ok := e.After.(*object.Pod)
		return ok && p.Terminal()
	case object.KindNode, object.KindTemplate:
		return true
	}
	return false
}

func (l *leader) busy() bool {
	return l.queue != nil && l.watcher != nil && l.queue.Len() > 0 && len(l.underWay) < maxUnderWay
}

// pause is how long the loop may sleep when nothing happens.
func (l *leader) pause(now time.Time) time.Duration {
	d := min(time.Second, l.m.config.NodeTimeout/10)
	if l.watcher == nil {
		d = lookAgain
	}
	if l.queue != nil {
		if at, ok := l.queue.NextWake(); ok {
			d = min(d, at.Sub(now))
		}
	}
	if at := l.checks.next; !at.IsZero() {
		d = min(d, at.Sub(now))
	}
	if !l.retry.IsZero() {
		d = min(d, l.retry.Sub(now))
	}
	return max(d, 0)
}

// reconcile lets the controllers look at the keys whose turn it is.
func (l *leader) reconcile(ctx context.Context, v *state.Snapshot, now time.Time) {
	for range turn {
		if len(l.underWay) >= maxUnderWay || ctx.Err() != nil {
			break
		}
		c, key, ok := l.queue.Next(now)
		if !ok {
			break
		}
		t := task{c.Name(), key}
		if _, under := l.underWay[t]; under {
			l.underWay[t] = true
			continue
		}
		l.m.metrics.reconciles.WithLabelValues(c.Name()).Inc()
		r, err := reconcileSafely(c, v, key, now)
		if err == nil {
			err = allowed(c, &r.Changes)
		}
		if err != nil {
			l.m.metrics.failures.WithLabelValues(c.Name()).Inc()
			l.m.log.Error("a controller failed", "controller", c.Name(), "key", key.String(), "error", err)
			if l.failures[t] == 0 { // once; it may go on failing for days
				l.tell(v, c.Name(), key, err, now)
			}
			l.queue.WakeAt(c, key, now.Add(l.delay(t)))
			continue
		}
		l.queue.WakeAt(c, key, r.Wake)
		if r.Changes.Empty() {
			delete(l.failures, t)
			continue
		}
		l.propose(t, r.Changes, "controller/"+c.Name(), now)
	}
	l.m.metrics.queue.Set(float64(l.queue.Len()))
}

// reconcileSafely keeps a defect in one controller from stopping the others.
func reconcileSafely(c controller.Controller, v *state.Snapshot, key object.Ref, now time.Time) (r controller.Result, err error) {
	if defect := safely(func() { r, err = c.Reconcile(v, key, now) }); defect != nil {
		return controller.Result{}, defect
	}
	return r, err
}

// tell records that a controller fails on a key, where people look for what
// happened to the object. One event at most is under way for each key.
func (l *leader) tell(v *state.Snapshot, owner string, key object.Ref, problem error, now time.Time) {
	if key.Kind == "" || key.Name == "" {
		return // a key of all the objects of a namespace; the log has it
	}
	t := task{dutyTell, key}
	if _, under := l.underWay[t]; under {
		return
	}
	author := "controller/" + owner
	cs := object.Changeset{Author: author, Reason: "the controller failed"}
	state.Tell(v, &cs, key, object.EventSpec{Level: "warning", Reason: "controller_failed", Source: author, Last: now,
		Message: fmt.Sprintf("the %s controller fails on it and tries again: %v. What was written last may be wrong; the leading master's log has more", owner, problem)})
	l.propose(t, cs, author, now)
}

func allowed(c controller.Controller, cs *object.Changeset) error {
	outputs := c.Outputs()
	for _, x := range cs.Changes {
		if !slices.Contains(outputs, x.Ref.Kind) {
			return fmt.Errorf("it may not write a %s (%s)", x.Ref.Kind, x.Ref)
		}
	}
	return nil
}

// propose sends a changeset on its way; finish hears of it.
func (l *leader) propose(t task, cs object.Changeset, author string, now time.Time) {
	if cs.Author == "" {
		cs.Author = author
	}
	if cs.Time.IsZero() {
		cs.Time = now
	}
	l.underWay[t] = false
	l.node.ProposeAsync(cs, func(_ uint64, err error) { l.results.put(result{t, err}) })
}

// finish notes how a changeset ended and looks at its key again: with success
// because there may be more to do, else because somebody was faster.
func (l *leader) finish(r result, now time.Time) {
	again := l.underWay[r.task]
	delete(l.underWay, r.task)
	code := "ok"
	if r.err != nil {
		code = string(object.CodeOf(r.err))
	}
	l.m.metrics.proposals.WithLabelValues(r.task.owner, code).Inc()
	c := l.byName[r.task.owner]
	switch {
	case r.task.owner == dutyBind:
		l.binding--
		if r.err != nil {
			l.pods = true
			l.retry = now.Add(l.delay(r.task))
		} else {
			delete(l.failures, r.task)
		}
	case c == nil: // the leader's own duties look again by themselves
	case r.err == nil:
		delete(l.failures, r.task)
		l.queue.WakeAt(c, r.task.key, now)
	case again && l.failures[r.task] == 0:
		l.failures[r.task]++
		l.queue.WakeAt(c, r.task.key, now)
	default:
		l.queue.WakeAt(c, r.task.key, now.Add(l.delay(r.task)))
	}
	var e *object.Error
	if r.err != nil && !(errors.As(r.err, &e) && e.Code == object.CodeConflict) {
		l.m.log.Debug("a changeset was not committed", "author", r.task.owner, "key", r.task.key.String(), "error", r.err)
	}
}

// delay doubles with each failure in a row of one key.
func (l *leader) delay(t task) time.Duration {
	n := l.failures[t]
	l.failures[t] = n + 1
	return min(firstDelay<<min(n, 20), lastDelay)
}

// schedule gives waiting pods a node. The bindings go out in independent
// changesets, so that one pod that changed in between costs one batch; the next
// round waits for all of them, because it has to see what they took.
func (l *leader) schedule(v *state.Snapshot, now time.Time) {
	if !l.pods || l.binding > 0 || now.Before(l.retry) {
		return
	}
	l.pods, l.retry = false, time.Time{}
	if v.PendingCount() == 0 {
		l.m.metrics.unplaced.Set(0)
		return
	}
	began := time.Now()
	var r scheduler.Result
	if err := safely(func() { r = l.scheduler.Place(v, now, 0) }); err != nil {
		// What it remembers may be half changed: a fresh one knows the same.
		l.m.metrics.failures.WithLabelValues(dutyBind).Inc()
		l.m.log.Error("the scheduler failed", "pending", v.PendingCount(), "error", err)
		l.scheduler = scheduler.New(l.m.config.Policy)
		l.pods, l.retry = true, now.Add(l.delay(task{owner: dutyBind}))
		return
	}
	delete(l.failures, task{owner: dutyBind})
	l.m.metrics.rounds.Observe(time.Since(began).Seconds())
	l.m.metrics.placed.Add(float64(len(r.Placed)))
	l.m.metrics.unplaced.Set(float64(len(r.Unplaced)))
	for i, cs := range split(r.Changes, bindingBatch) {
		l.binding++
		l.propose(task{dutyBind, object.Ref{Name: fmt.Sprint(i)}}, cs, scheduler.Author, now)
	}
}

// split cuts a changeset of independent changes into several. Changes of one
// object stay together.
func split(c object.Changeset, size int) []object.Changeset {
	batchOf := map[object.Ref]int{}
	var out []object.Changeset
	for _, x := range c.Changes {
		i, known := batchOf[x.Ref]
		if !known {
			i = len(out) - 1
			if i < 0 || len(out[i].Changes) >= size {
				out = append(out, object.Changeset{Author: c.Author, Reason: c.Reason, Time: c.Time, Expect: c.Expect})
				i++
			}
			batchOf[x.Ref] = i
		}
		out[i].Changes = append(out[i].Changes, x)
	}
	return out
}

// judge changes the conditions of nodes that fell silent or came back.
func (l *leader) judge(v *state.Snapshot, now time.Time) {
	if now.Sub(l.judged) < min(time.Second, l.m.config.NodeTimeout/10) {
		return
	}
	l.judged = now
	for _, cs := range l.m.beats.judge(v, now, l.since, l.m.config.NodeTimeout, l.m.config.Heartbeat) {
		t := task{dutyNodes, cs.Changes[0].Ref}
		if _, under := l.underWay[t]; !under {
			l.propose(t, cs, "master", now)
		}
	}
}

// found makes the network of a cluster that has none: one that was just founded,
// or comes from a time without. It stands here and not in a controller because
// what it is made of is known to the founder's command line only.
func (l *leader) found(v *state.Snapshot, now time.Time) {
	n := l.m.config.Network
	if n == nil {
		return
	}
	t := task{dutyFound, n.Ref()}
	_, under := l.underWay[t]
	if _, ok := v.Get(n.Ref()); ok || under {
		return
	}
	cs := object.Changeset{Author: "master", Reason: "a cluster has a network"}
	cs.Create(n)
	l.propose(t, cs, "master", now)
}
