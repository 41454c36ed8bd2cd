package master

import (
	"context"
	"io"

	"github.com/berthdev/berth/cluster/api"
	"github.com/berthdev/berth/cluster/consensus"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// Cluster shows a master to the API. It implements api.Cluster, whose comments
// are its contract.
type Cluster struct{ m *Master }

var _ api.Cluster = Cluster{}

// Cluster is the master as the API sees it.
func (m *Master) Cluster() Cluster { return Cluster{m} }

// Propose commits a changeset.
func (c Cluster) Propose(ctx context.Context, cs object.Changeset) (uint64, error) {
	if cs.Time.IsZero() {
		cs.Time = c.m.config.Now().UTC()
	}
	return c.m.node.Propose(ctx, cs)
}

// Snapshot is what this master knows now.
func (c Cluster) Snapshot() *state.Snapshot { return c.m.node.Snapshot() }

// Barrier makes the next Snapshot linearizable.
func (c Cluster) Barrier(ctx context.Context) error { return c.m.node.Barrier(ctx) }

// WaitApplied returns when Snapshot has what was committed at an index.
func (c Cluster) WaitApplied(ctx context.Context, index uint64) error {
	return c.m.node.WaitApplied(ctx, index)
}

// Watch begins after an index.
func (c Cluster) Watch(since uint64) (api.Watch, error) {
	w, err := c.m.node.Watch(since)
	if err != nil {
		return nil, err
	}
	return watch{w}, nil
}

type watch struct{ w *consensus.Watcher }

// Next is all that there is, in whole entries.
func (w watch) Next(ctx context.Context) ([]state.Event, error) {
	b, err := w.w.Next(ctx)
	if err != nil {
		return nil, err
	}
	events := b.Events
	shared := true // with the other watchers: copy before appending
	for len(events) < 4096 {
		if b, err = w.w.Poll(); b == nil || err != nil {
			break // an error comes back at the next call
		}
		if shared {
			events, shared = append([]state.Event(nil), events...), false
		}
		events = append(events, b.Events...)
	}
	return events, nil
}

// Close is for the interface's sake: a watcher is only a cursor.
func (w watch) Close() {}

// Leader tells who leads.
func (c Cluster) Leader() api.Leader {
	id, addr, self := c.m.node.Leader()
	return api.Leader{Name: id, API: addr, Self: self}
}

// Masters lists the members.
func (c Cluster) Masters() []object.Master {
	masters, err := c.m.node.Masters()
	if err != nil {
		return nil
	}
	return masters
}

// AddMaster makes a master a member.
func (c Cluster) AddMaster(ctx context.Context, m object.Master) error {
	return c.m.node.AddVoter(ctx, m)
}

// RemoveMaster ends a membership.
func (c Cluster) RemoveMaster(ctx context.Context, name string) error {
	return c.m.node.Remove(ctx, name)
}

// Heartbeat notes that a node has just been heard, and what it has put in force.
func (c Cluster) Heartbeat(node string, applied uint64) {
	c.m.beats.hear(node, applied, c.m.config.Now())
}

// Traffic counts what a node's ingress has answered.
func (c Cluster) Traffic(node string, t *object.Traffic) {
	c.m.traffic.Add(node, t, c.m.config.Now())
}

// Acknowledged waits until every node that proxies has put an index in force.
func (c Cluster) Acknowledged(ctx context.Context, index uint64) []string {
	for {
		waiting, heard := c.m.beats.behind(c.Snapshot(), index)
		if len(waiting) == 0 {
			return nil
		}
		select {
		case <-heard:
		case <-ctx.Done():
			return waiting
		}
	}
}

// Save writes a snapshot of the whole state as of now.
func (c Cluster) Save(ctx context.Context, w io.Writer) error {
	_, err := c.m.node.Save(w, c.id())
	return err
}

// id is the cluster's, as its keyring has it; empty without one.
func (c Cluster) id() string {
	if c.m.config.Keys == nil {
		return ""
	}
	return c.m.config.Keys.Cluster()
}

// Restore replaces the state on all masters.
func (c Cluster) Restore(ctx context.Context, r io.Reader) error {
	_, err := c.m.node.Restore(ctx, r, c.id())
	return err
}
