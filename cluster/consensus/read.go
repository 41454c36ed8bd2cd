package consensus

import (
	"context"
	"errors"
	"sync"

	"github.com/hashicorp/raft"
)

// reads joins concurrent Barriers: everyone who asks while a round is on its way
// shares the next one.
type reads struct {
	mu      sync.Mutex
	running bool
	next    *round
}

type round struct {
	done chan struct{}
	err  error
}

// Barrier returns when this master's Snapshot has everything that was committed
// before the call, so that a read of it is linearizable. Only the leader can do
// it; others answer CodeNoLeader.
func (n *Node) Barrier(ctx context.Context) error {
	if err := n.waitLeading(ctx); err != nil {
		return err
	}
	n.reads.mu.Lock()
	if n.reads.next == nil {
		n.reads.next = &round{done: make(chan struct{})}
	}
	r := n.reads.next
	if !n.reads.running {
		n.reads.running = true
		go n.runReads()
	}
	n.reads.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return timeout(ctx, "")
	case <-n.closing:
		return errClosed()
	}
}

func (n *Node) runReads() {
	for {
		n.reads.mu.Lock()
		r := n.reads.next
		n.reads.next = nil
		if r == nil {
			n.reads.running = false
			n.reads.mu.Unlock()
			return
		}
		n.reads.mu.Unlock()
		r.err = n.readIndex()
		close(r.done)
	}
}

// readIndex is Raft's read: note the commit index, make sure that this master
// still leads, wait until what was noted is applied.
func (n *Node) readIndex() error {
	term, leading := n.ledTerm()
	index := n.raft.CommitIndex()
	switch err := n.await(n.raft.VerifyLeader()); {
	case errors.Is(err, raft.ErrLeadershipLost):
		return n.notLeader() // nothing was to happen: another master can answer
	case err != nil:
		return n.translate(err)
	}
	if !leading || n.raft.CurrentTerm() != term {
		return n.notLeader() // it led, lost and leads again: in between its commit index may have lagged
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*n.config.ElectionTimeout)
	defer cancel()
	return n.WaitApplied(ctx, n.lastCommand(index))
}

// lastCommand is the index of the last entry at or below index that the FSM gets
// to see: an election or a change of members does not reach it.
func (n *Node) lastCommand(index uint64) uint64 {
	for applied := n.fsm.applied.get(); index > applied; index-- {
		var l raft.Log
		if err := n.log.GetLog(index, &l); err != nil {
			return 0 // compacted, so it was applied before
		}
		if l.Type == raft.LogCommand {
			return index
		}
	}
	return 0
}
