package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/berthdev/berth/node/runtime/container"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

const retryPause = 200 * time.Millisecond

// monitor is one container that the runtime holds. Its fields below mu change
// only under mu.
type monitor struct {
	id     string
	signal string // that asks it to end
	ended  chan struct{}

	mu      sync.Mutex
	status  container.Status
	digest  string
	task    containerd.Task
	process *specs.Process // of its spec, read when a command is first run in it
}

func (m *monitor) snapshot() container.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status
}

func (r *Runtime) monitor(id string) *monitor {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.monitors[id]
}

// podLock makes one change at a time to a pod's containers, for they share a
// shim, which comes with the first and goes with the last. users is kept under
// Runtime.mu.
type podLock struct {
	ch    chan struct{}
	users int
}

func (r *Runtime) lockPod(ctx context.Context, p container.Pod) (unlock func(), err error) {
	r.mu.Lock()
	l := r.pods[p]
	if l == nil {
		l = &podLock{ch: make(chan struct{}, 1)}
		r.pods[p] = l
	}
	l.users++
	r.mu.Unlock()
	leave := func() {
		r.mu.Lock()
		if l.users--; l.users == 0 {
			delete(r.pods, p)
		}
		r.mu.Unlock()
	}
	select {
	case l.ch <- struct{}{}:
		return func() { <-l.ch; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

// adopt takes over the containers that are there.
func (r *Runtime) adopt(ctx context.Context) error {
	list, err := r.client.Containers(r.ns(ctx))
	if err != nil {
		return r.unavailable(err)
	}
	for _, c := range list {
		if err := r.adoptOne(ctx, c); err != nil {
			return fmt.Errorf("take over container %s: %w", c.ID(), err)
		}
	}
	return r.forgetErased(ctx)
}

// forgetErased removes what a crash left of containers that it had half erased, or
// had not got to making. Nobody makes one now: a private containerd is ours alone,
// and in a foreign one a record says which are.
func (r *Runtime) forgetErased(ctx context.Context) error {
	ctx = r.ns(ctx)
	ids, err := r.records.all()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if r.monitor(id) != nil {
			continue
		}
		if err := r.client.SnapshotService(r.snapshotter).Remove(ctx, id); err != nil && !errdefs.IsNotFound(err) {
			return r.unavailable(err)
		}
		if err := r.records.remove(id); err != nil {
			return err
		}
	}
	if r.daemon == nil {
		return nil
	}
	_, err = r.collectSnapshots(ctx, 0)
	return r.unavailable(err)
}

func (r *Runtime) adoptOne(ctx context.Context, c containerd.Container) error {
	info, err := c.Info(r.ns(ctx), containerd.WithoutRefreshedMetadata)
	if err != nil {
		return err
	}
	status, ours := r.statusOf(c.ID(), info.Labels)
	if !ours {
		return nil
	}
	m := &monitor{id: c.ID(), signal: info.Labels[labelSignal], status: status, ended: make(chan struct{})}
	rec, started := r.records.load(m.id)
	r.mu.Lock()
	r.monitors[m.id] = m
	r.mu.Unlock()
	if !started { // a crash while it was being made
		close(m.ended)
		return nil
	}
	m.status.Started, m.status.PID, m.digest = rec.Started, rec.PID, rec.Digest
	if rec.Exited {
		// The task may still be there, and the log may not be complete.
		if task, err := c.Task(r.ns(ctx), nil); err == nil {
			m.task = task
		}
		r.work.Go(func() { r.settle(m, rec, false) })
		m.apply(rec)
		return nil
	}
	task, err := c.Task(r.ns(ctx), nil)
	if errdefs.IsNotFound(err) { // the machine has been restarted, or its shim was killed
		r.lost(m, false)
		return nil
	}
	if err != nil {
		return r.unavailable(err)
	}
	m.task = task
	ts, err := task.Status(r.ns(ctx))
	if err != nil {
		return r.unavailable(err)
	}
	switch ts.Status {
	case containerd.Stopped:
		r.end(m, int(ts.ExitStatus), ts.ExitTime, false)
		return nil
	case containerd.Created:
		if !rec.Direct { // a crash before it was started
			close(m.ended)
			return nil
		}
		if err := r.finishStart(ctx, m.id, rec.PID); err != nil {
			r.log.Warn("interrupted start not finished", "container", m.id, "error", err)
		}
	}
	m.status.State = container.Running
	r.findBundles(rec.PID)
	if err := r.logs.collect(r.logs.attemptDir(status.Pod, status.Name, status.Attempt)); err != nil {
		r.log.Error("log not collected", "container", m.id, "error", err)
	}
	exits, err := task.Wait(r.ns(r.ctx))
	if err != nil {
		return r.unavailable(err)
	}
	r.work.Go(func() { r.watch(m, exits) })
	return nil
}

// watch waits for the end of a container, through restarts of containerd.
func (r *Runtime) watch(m *monitor, exits <-chan containerd.ExitStatus) {
	ctx := r.ns(r.ctx)
	for {
		status, ok := <-exits
		if ok && status.Error() == nil {
			r.end(m, int(status.ExitCode()), status.ExitTime(), true)
			return
		}
		// Not the container has ended but the connection.
		r.listen(m.id)
		for {
			select {
			case <-r.ctx.Done():
				return
			case <-time.After(retryPause):
			}
			again, gone, err := r.reattach(ctx, m)
			if gone {
				r.lost(m, true)
				return
			}
			if err == nil {
				exits = again
				break
			}
		}
	}
}

// reattach subscribes anew after containerd was away. gone means that there is
// no such task any more.
func (r *Runtime) reattach(ctx context.Context, m *monitor) (exits <-chan containerd.ExitStatus, gone bool, err error) {
	c, err := r.client.LoadContainer(ctx, m.id)
	if err != nil {
		return nil, errdefs.IsNotFound(err), err
	}
	task, err := c.Task(ctx, nil)
	if err != nil {
		return nil, errdefs.IsNotFound(err), err
	}
	exits, err = task.Wait(ctx)
	if err != nil {
		return nil, errdefs.IsNotFound(err), err
	}
	m.mu.Lock()
	m.task = task
	m.mu.Unlock()
	return exits, false, nil
}

// end records how a container ended, before anything is cleaned away, and then
// settles it.
func (r *Runtime) end(m *monitor, code int, at time.Time, announce bool) {
	m.mu.Lock()
	rec := record{PID: m.status.PID, Digest: m.digest, Started: m.status.Started}
	m.mu.Unlock()
	if at.IsZero() {
		at = time.Now()
	}
	rec.Exited, rec.ExitCode, rec.Finished = true, code, at
	rec.OOM = code != 0 && r.cgroups.oomKills(m.id) > 0
	if err := r.records.save(m.id, rec); err != nil {
		r.log.Error("end of container not recorded", "container", m.id, "error", err)
	}
	if announce {
		r.settle(m, rec, true)
		return
	}
	m.apply(rec) // List shall show it at once
	r.work.Go(func() { r.settle(m, rec, false) })
}

func (m *monitor) apply(rec record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status.State, m.status.PID = container.Exited, 0
	m.status.ExitCode, m.status.Finished, m.status.OOM = rec.ExitCode, rec.Finished, rec.OOM
}

// settle gives back what an ended container held, completes its log and tells
// about the end.
func (r *Runtime) settle(m *monitor, rec record, announce bool) {
	s := m.snapshot()
	for {
		err := r.deleteTask(r.ctx, m, s.Pod)
		if err == nil {
			break
		}
		if r.ctx.Err() == nil {
			r.log.Warn("ended container not cleaned away; trying again", "container", m.id, "error", err)
		}
		select {
		case <-r.ctx.Done():
			return // the next Open goes on from the record
		case <-time.After(retryPause):
		}
	}
	if err := r.logs.finish(r.logs.attemptDir(s.Pod, s.Name, s.Attempt)); err != nil {
		r.log.Error("log not completed", "container", m.id, "error", err)
	}
	m.apply(rec)
	close(m.ended)
	if announce {
		r.events.push(container.Event{ID: m.id, Pod: s.Pod, Name: s.Name, Attempt: s.Attempt,
			ExitCode: rec.ExitCode, OOM: rec.OOM, Time: rec.Finished})
	}
}

// deleteTask returns when the shim has written all output of the container.
func (r *Runtime) deleteTask(ctx context.Context, m *monitor, p container.Pod) error {
	m.mu.Lock()
	task := m.task
	m.mu.Unlock()
	if task == nil {
		return nil
	}
	unlock, err := r.lockPod(ctx, p)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := task.Delete(r.ns(ctx), containerd.WithProcessKill); err != nil && !errdefs.IsNotFound(err) {
		return r.unavailable(err)
	}
	return nil
}

// List tells of every container, running or ended, by pod, name and attempt. It
// works also while containerd is away.
func (r *Runtime) List(context.Context) ([]container.Status, error) {
	r.mu.Lock()
	monitors := make([]*monitor, 0, len(r.monitors))
	for _, m := range r.monitors {
		monitors = append(monitors, m)
	}
	r.mu.Unlock()
	out := make([]container.Status, 0, len(monitors))
	for _, m := range monitors {
		out = append(out, m.snapshot())
	}
	slices.SortFunc(out, func(a, b container.Status) int {
		return cmp.Or(cmp.Compare(a.Pod.String(), b.Pod.String()), cmp.Compare(a.Pod.Created, b.Pod.Created),
			cmp.Compare(a.Name, b.Name), cmp.Compare(a.Attempt, b.Attempt))
	})
	return out, nil
}

// unavailable makes errors of a containerd that is away into the typed one, and
// leaves others alone.
func (r *Runtime) unavailable(err error) error {
	var u *container.UnavailableError
	if err == nil || errors.As(err, &u) {
		return err
	}
	// Some of the client's calls answer with the connection's own words.
	if native := errgrpc.ToNative(err); !errdefs.IsUnavailable(native) && !errdefs.IsDeadlineExceeded(native) {
		return err
	}
	u = &container.UnavailableError{Message: "containerd does not answer at " + r.cfg.address(), Err: err}
	if r.daemon != nil {
		u.Hint = "it is being started again; its log is " + r.cfg.daemonLog()
	} else {
		u.Hint = "start it, or let the node run its own by leaving out --containerd-socket"
	}
	return u
}

// eventQueue holds events until they are read, however long that takes.
type eventQueue struct {
	out  chan container.Event
	wake chan struct{}
	stop chan struct{}
	done chan struct{}

	mu    sync.Mutex
	queue []container.Event
}

func newEventQueue() *eventQueue {
	q := &eventQueue{out: make(chan container.Event), wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	go q.run()
	return q
}

func (q *eventQueue) push(e container.Event) {
	q.mu.Lock()
	q.queue = append(q.queue, e)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *eventQueue) run() {
	defer close(q.done)
	defer close(q.out)
	for {
		q.mu.Lock()
		batch := q.queue
		q.queue = nil
		q.mu.Unlock()
		for _, e := range batch {
			select {
			case q.out <- e:
			case <-q.stop:
				return
			}
		}
		if len(batch) > 0 {
			continue
		}
		select {
		case <-q.wake:
		case <-q.stop:
			return
		}
	}
}

func (q *eventQueue) close() {
	close(q.stop)
	<-q.done
}
