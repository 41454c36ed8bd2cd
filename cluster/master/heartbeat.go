package master

import (
	"fmt"
	"sync"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// beats is when each node was last heard. It lives in the leader's memory: five
// thousand nodes that report every five seconds must not be a thousand entries
// in the log each second.
type beats struct {
	mu    sync.Mutex
	heard map[string]beat
	next  chan struct{} // closed, and made anew, when a node has acknowledged more
}

// beat is the last report of a node.
type beat struct {
	at      time.Time
	applied uint64 // see object.Report
}

func (b *beats) hear(node string, applied uint64, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	more := applied != b.heard[node].applied
	b.heard[node] = beat{at, applied}
	if more && b.next != nil {
		close(b.next)
		b.next = nil
	}
}

// begin forgets what was heard in an earlier leadership.
func (b *beats) begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.heard)
}

// behind names the nodes that proxy and have not put an index in force, in order,
// and a channel that is closed when one of them has told more. A lost node is not
// waited for: nobody can tell what it does. One that has not been heard since this
// master leads may proxy.
func (b *beats) behind(v *state.Snapshot, index uint64) ([]string, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for n := range state.All[*object.Node](v, object.KindNode) {
		x, ever := b.heard[n.Name]
		if n.Status.Condition == object.NodeLost || ever && x.applied == 0 || x.applied >= index {
			continue
		}
		out = append(out, n.Name)
	}
	if b.next == nil {
		b.next = make(chan struct{})
	}
	return out, b.next
}

// judge says which nodes' condition should change: silent for longer than limit,
// counted from since (when this master began to listen), is lost; heard again is
// ready. Nodes that fell together are lost together: when one is, so are those that have
// been silent for no more than a heartbeat (each) less, lest its pods be placed on them
// and wait there once more. What a node that can be heard says of itself is its own business.
func (b *beats) judge(v *state.Snapshot, now, since time.Time, limit, each time.Duration) []object.Changeset {
	b.mu.Lock()
	defer b.mu.Unlock()
	silence := func(n *object.Node) time.Duration {
		last := since
		if x, ever := b.heard[n.Name]; ever && x.at.After(last) {
			last = x.at
		}
		if n.CreatedAt.After(last) {
			last = n.CreatedAt
		}
		return now.Sub(last)
	}
	together := limit
	if limit >= 4*each { // so that whoever is just late is none of them
		for n := range state.All[*object.Node](v, object.KindNode) {
			if n.Status.Condition != object.NodeLost && silence(n) > limit {
				together = limit - each
			}
		}
	}
	var out []object.Changeset
	for n := range state.All[*object.Node](v, object.KindNode) {
		x, ever := b.heard[n.Name]
		heard := x.at
		lost := n.Status.Condition == object.NodeLost
		silent := silence(n) > together
		if lost {
			silent = silence(n) > limit
		}
		c := n.Clone().(*object.Node)
		switch {
		case silent && !lost:
			c.Status.Condition = object.NodeLost
			c.Status.Message = fmt.Sprintf("silent for more than %s", object.Duration(together))
		case ever && !silent && lost && heard.After(n.Status.Since):
			c.Status.Condition, c.Status.Message = object.NodeReady, ""
		default:
			continue
		}
		c.Status.Since = now
		cs := object.Changeset{Author: "master", Reason: fmt.Sprintf("node %s is %s", n.Name, c.Status.Condition), Time: now}
		cs.UpdateStatus(n, c)
		if !silent {
			state.Tell(v, &cs, n.Ref(), object.EventSpec{Level: "info", Reason: "node_ready", Message: "it can be heard again", Source: "master", Last: now})
		}
		out = append(out, cs)
	}
	return out
}
