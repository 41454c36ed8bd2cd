package master

import (
	"context"
	"time"

	"github.com/berthdev/berth/cluster/controller"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// queueRequest is for the leader's queue as it is at an index.
type queueRequest struct {
	index uint64
	reply chan *controller.Queue
}

// queuePatience is how long a rehearsal waits for the leader's queue: looking at
// every key of a large state takes about as long.
const queuePatience = 100 * time.Millisecond

// rehearse is the API's PlanFunc.
func (m *Master) rehearse(ctx context.Context, v *state.Snapshot, p *object.Plan, now time.Time) (object.Forecast, error) {
	return m.config.Plan(ctx, v, m.waiting(ctx, v.Index()), p, now)
}

// waiting is what the leader's queue holds at an index, for somebody else to use
// up; nil if this master does not lead, is busy, or is beyond that index.
func (m *Master) waiting(ctx context.Context, index uint64) *controller.Queue {
	ctx, cancel := context.WithTimeout(ctx, queuePatience)
	defer cancel()
	a := queueRequest{index, make(chan *controller.Queue, 1)}
	select {
	case m.queueRequests <- a:
	case <-ctx.Done():
		return nil
	}
	select {
	case q := <-a.reply:
		return q
	case <-ctx.Done():
		return nil
	}
}

// answer hands out a copy of the queue when that is exact: it has been told of all
// that the asked snapshot holds and of nothing after it, nothing that a controller
// wants written is under way, and no key waits. What is left is the alarms.
func (l *leader) answer(ctx context.Context) {
	a := l.requested
	if a.reply == nil {
		return
	}
	l.requested = queueRequest{}
	var q *controller.Queue
	defer func() { a.reply <- q }()
	ctx, cancel := context.WithTimeout(ctx, queuePatience)
	defer cancel()
	if l.node.WaitApplied(ctx, a.index) != nil { // then its events are there to be seen, too
		return
	}
	v, err := l.observe()
	if err != nil || v.Index() != a.index || l.queue.Len() > 0 || len(l.underWay) > 0 {
		return
	}
	q = l.queue.Clone()
}
