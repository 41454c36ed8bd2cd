package agent

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// gather is how long a report waits for company after the first change, so that
// fifty pods that start together are one entry of the masters' log.
const gather = 15 * time.Millisecond

// reporter sends statuses to the masters in batches, one request at a time, and
// a heartbeat when there is nothing to tell. What cannot be delivered is kept
// and only ever replaced by something newer.
type reporter struct {
	node    string
	labels  map[string]string
	masters Masters
	log     *slog.Logger

	mu      sync.Mutex
	pods    map[object.Ref]*reportEntry
	status  *object.NodeStatus // to be sent
	last    *object.NodeStatus // sent
	applied uint64             // see object.Report
	events  []object.NodeEvent
	wake    chan struct{}
	first   bool
	silence error // of the last request
}

// reportEntry is a status on its way, and who waits for its arrival.
type reportEntry struct {
	report  object.PodReport
	waiters []chan struct{}
}

func newReporter(node string, labels map[string]string, m Masters, log *slog.Logger) *reporter {
	return &reporter{node: node, labels: labels, masters: m, log: log,
		pods: map[object.Ref]*reportEntry{}, wake: make(chan struct{}, 1), first: true}
}

// put queues a pod's status. The channel is closed when the masters have it, or
// a later one.
func (r *reporter) put(p object.PodReport) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.pods[p.Ref]
	if e == nil {
		e = &reportEntry{}
		r.pods[p.Ref] = e
	}
	done := make(chan struct{})
	e.report = p
	e.waiters = append(e.waiters, done)
	r.kick()
	return done
}

// forget drops what is queued for a pod that is gone.
func (r *reporter) forget(ref object.Ref, created uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.pods[ref]; e != nil && e.report.Created == created {
		e.release()
		delete(r.pods, ref)
	}
}

// pending reports whether something about the pod is on its way.
func (r *reporter) pending(ref object.Ref) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pods[ref] != nil
}

// setStatus queues the node's own status if it differs from the last.
func (r *reporter) setStatus(s object.NodeStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	have := r.last
	if r.status != nil {
		have = r.status
	}
	if have != nil && have.Condition == s.Condition && have.Message == s.Message && have.Address == s.Address &&
		have.CPU == s.CPU && have.Memory == s.Memory && have.Pods == s.Pods && maps.Equal(have.Attributes, s.Attributes) {
		return
	}
	r.status = &s
	r.kick()
}

// unwell reports whether the node has said that it is not ready.
func (r *reporter) unwell() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	have := r.last
	if r.status != nil {
		have = r.status
	}
	return have != nil && have.Condition != object.NodeReady
}

// setApplied notes what the node's proxies have put in force, and tells it at once
// when somebody may be waiting for it.
func (r *reporter) setApplied(index uint64, urgent bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.applied = max(r.applied, index)
	if urgent {
		r.kick()
	}
}

// eventsKept bounds what is told while the masters are away.
const eventsKept = 64

// tell queues something that a person should know; what is queued already is not
// told twice.
func (r *reporter) tell(e object.NodeEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.Contains(r.events, e) || len(r.events) >= eventsKept {
		return
	}
	r.events = append(r.events, e)
	r.kick()
}

func (r *reporter) kick() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (e *reportEntry) release() {
	for _, w := range e.waiters {
		close(w)
	}
	e.waiters = nil
}

// run sends until ctx ends, then once more what is left: the ends of pods when
// the node was emptied.
func (r *reporter) run(ctx context.Context) {
	defer r.sendLast(ctx)
	heartbeat := 5 * time.Second
	retry := backoff{first: 250 * time.Millisecond, most: 5 * time.Second}
	for {
		answer, err := r.send(ctx)
		wait := heartbeat
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			wait = retry.next()
		} else {
			retry.reset()
			if d := answer.Heartbeat.D(); d > 0 {
				heartbeat, wait = d, d
			}
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		case <-r.wakeUnless(err):
			t.Stop()
			if !sleep(ctx, gather) {
				return
			}
		}
	}
}

func (r *reporter) sendLast(ctx context.Context) {
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if _, err := r.send(last); err != nil {
		r.log.Debug("last report", "error", err)
	}
}

// wakeUnless is the wake-up channel, except after a failure, when only time helps.
func (r *reporter) wakeUnless(err error) <-chan struct{} {
	if err != nil {
		return nil
	}
	return r.wake
}

func (r *reporter) send(ctx context.Context) (object.ReportAnswer, error) {
	r.mu.Lock()
	report := object.Report{Node: r.node, Status: r.status, Applied: r.applied, Time: now(), Events: r.events}
	if r.first {
		report.Labels = r.labels
		if report.Status == nil {
			report.Status = r.last
		}
	}
	sent := r.pods
	r.pods = map[object.Ref]*reportEntry{}
	status := r.status
	r.status = nil
	r.mu.Unlock()

	for _, ref := range slices.SortedFunc(maps.Keys(sent), object.Ref.Compare) {
		report.Pods = append(report.Pods, sent[ref].report)
	}
	answer, err := r.masters.Report(ctx, report)

	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		for _, e := range sent {
			e.release()
		}
		r.first = false
		r.events = r.events[len(report.Events):]
		if status != nil {
			r.last = status
		}
		if r.silence != nil {
			r.log.Info("the masters answer again")
			if r.status == nil { // they may have judged the node by its silence
				r.status = r.last
				r.kick()
			}
		}
		r.silence = nil
		return answer, nil
	}
	if r.silence == nil && ctx.Err() == nil {
		r.log.Warn("the masters cannot be told; pods go on as they are", "error", err)
	}
	r.silence = err
	if status != nil && r.status == nil {
		r.status = status
	}
	for ref, e := range sent {
		if newer := r.pods[ref]; newer != nil {
			newer.waiters = append(newer.waiters, e.waiters...)
		} else {
			r.pods[ref] = e
		}
	}
	return answer, err
}
