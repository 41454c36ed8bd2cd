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
	heard map[string]time.Time
}

func (b *beats) hear(node string, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.heard[node] = at
}

// begin forgets what was heard in an earlier leadership.
func (b *beats) begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.heard)
}

// judge says which nodes' condition should change: silent for longer than limit,
// counted from since (when this master began to listen), is lost; heard again is
// ready. What a node that can be heard says of itself is its own business.
func (b *beats) judge(v *state.Snapshot, now, since time.Time, limit time.Duration) []object.Changeset {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []object.Changeset
	for n := range state.All[*object.Node](v, object.KindNode) {
		heard, ever := b.heard[n.Name]
		last := heard
		if !ever || last.Before(since) {
			last = since
		}
		if n.CreatedAt.After(last) {
			last = n.CreatedAt
		}
		silent := now.Sub(last) > limit
		lost := n.Status.Condition == object.NodeLost
		c := n.Clone().(*object.Node)
		switch {
		case silent && !lost:
			c.Status.Condition = object.NodeLost
			c.Status.Message = fmt.Sprintf("silent for more than %s", object.Duration(limit))
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
