package consensus

import (
	"context"
	"crypto/rand"
	"errors"
	"syscall"
	"time"

	"github.com/hashicorp/raft"

	"github.com/berthdev/berth/cluster/object"
)

// entriesInFlight bounds the entries that wait for their commit. While they do,
// further changesets gather and go together into the next entry.
const entriesInFlight = 4

type proposal struct {
	data []byte
	done func(index uint64, err error)
}

// flight is an entry that waits for its commit.
type flight struct {
	future    raft.ApplyFuture
	proposals []*proposal
}

// Propose commits one changeset and returns the index at which it became so.
// This master's Snapshot has it then. A changeset that does not hold is refused
// with the *object.Error of state.Apply. CodeNoLeader: nothing was written, ask
// the leader. CodeTimeout: it may or may not have been written.
//
// Calls from many goroutines are committed together.
func (n *Node) Propose(ctx context.Context, c object.Changeset) (uint64, error) {
	type answer struct {
		index uint64
		err   error
	}
	got := make(chan answer, 1)
	n.ProposeAsync(c, func(index uint64, err error) { got <- answer{index, err} })
	select {
	case a := <-got:
		return a.index, a.err
	case <-ctx.Done():
		return 0, timeout(ctx, "the changeset was sent, but its commit was not seen")
	}
}

// ProposeAsync is Propose for callers with many changesets under way. done is
// called once, possibly before ProposeAsync returns, and must not block.
func (n *Node) ProposeAsync(c object.Changeset, done func(index uint64, err error)) {
	if err := n.mayPropose(); err != nil {
		done(0, err)
		return
	}
	if c.Time.IsZero() {
		c.Time = time.Now().UTC()
	}
	data, err := encodeChangeset(&c)
	if err != nil {
		done(0, object.Errorf(object.CodeInvalid, object.Ref{}, "the changeset cannot be encoded: %w", err))
		return
	}
	if len(data) > maxStaged {
		done(0, errTooLarge(len(data)))
		return
	}
	if len(data) > n.config.MaxEntry {
		go n.proposeInParts(data, done)
		return
	}
	n.enqueue(&proposal{data, done})
}

// enqueue hands a proposal to collect, or refuses it when the node closes.
func (n *Node) enqueue(p *proposal) {
	select {
	case n.proposals <- p:
		select {
		case <-n.closing:
			n.refuseQueued() // collect may have looked for the last time before
		default:
		}
	case <-n.closing:
		p.done(0, errClosed())
	}
}

func (n *Node) mayPropose() error {
	select {
	case <-n.closing:
		return errClosed()
	case <-n.failed:
		return object.Errorf(object.CodeUnavailable, object.Ref{}, "this master cannot go on: %w", n.failure)
	default:
	}
	if err := n.guard.failing(); err != nil {
		return err
	}
	if n.raft.State() != raft.Leader {
		return n.notLeader()
	}
	return nil
}

// collect gathers proposals into entries.
func (n *Node) collect(inFlight chan<- flight) {
	defer close(inFlight)
	var next *proposal // did not fit into the last entry
	for {
		var f flight
		if next == nil {
			select {
			case next = <-n.proposals:
			case <-n.closing:
				n.refuseQueued()
				return
			}
		}
		n.slots <- struct{}{} // meanwhile more gather
		size := len(next.data)
		f.proposals = append(f.proposals, next)
		next = nil
	gather:
		for len(f.proposals) < 4096 {
			select {
			case p := <-n.proposals:
				if size += len(p.data); size > n.config.MaxEntry {
					next = p
					break gather
				}
				f.proposals = append(f.proposals, p)
			default:
				break gather
			}
		}
		raw := make([][]byte, len(f.proposals))
		for i, p := range f.proposals {
			raw[i] = p.data
		}
		f.future = n.raft.Apply(batchEntry(raw), 0)
		inFlight <- f
	}
}

func (n *Node) refuseQueued() {
	for {
		select {
		case p := <-n.proposals:
			p.done(0, errClosed())
		default:
			return
		}
	}
}

// complete tells proposers what became of their changesets.
func (n *Node) complete(inFlight <-chan flight) {
	for f := range inFlight {
		err := n.await(f.future)
		<-n.slots
		var results []outcome
		if err == nil {
			results, _ = f.future.Response().([]outcome)
		}
		for i, p := range f.proposals {
			switch {
			case err != nil:
				p.done(0, n.translate(err))
			case i < len(results):
				p.done(results[i].index, results[i].err)
			default:
				p.done(0, object.Errorf(object.CodeUnavailable, object.Ref{}, "this master cannot go on: %w", n.Failure()))
			}
		}
	}
}

// proposeInParts stages a large changeset and makes it visible with one entry.
func (n *Node) proposeInParts(data []byte, done func(uint64, error)) {
	var id stageID
	rand.Read(id[:]) // never fails
	apply := func(entry []byte) error {
		_, err := n.applyOne(entry)
		return err
	}
	var parts [][]byte
	for rest := data; len(rest) > 0; {
		size := min(len(rest), n.config.MaxEntry)
		parts = append(parts, rest[:size])
		rest = rest[size:]
	}
	for start := 0; start < len(parts); start += entriesInFlight {
		window := parts[start:min(len(parts), start+entriesInFlight)]
		errs := make(chan error, len(window))
		for i, p := range window {
			go func() { errs <- apply(partEntry(id, start+i, p)) }()
		}
		var err error
		for range window {
			err = errors.Join(err, <-errs)
		}
		if err != nil {
			go func() { _ = apply(stageEntry(whatDrop, id, 0)) }() // to be kind; it expires anyway
			var first *object.Error
			if errors.As(err, &first) && first.Code == object.CodeTimeout {
				first = &object.Error{Code: object.CodeNoLeader, Message: "the leader changed while a large changeset was being sent; nothing of it was written", Hint: "Send it again."}
			}
			done(0, first)
			return
		}
	}
	done(n.applyOne(stageEntry(whatCommit, id, len(parts))))
}

// applyOne commits an entry of its own.
func (n *Node) applyOne(entry []byte) (uint64, error) {
	f := n.raft.Apply(entry, 0)
	if err := n.await(f); err != nil {
		return 0, n.translate(err)
	}
	r, _ := f.Response().([]outcome)
	if len(r) == 0 {
		return 0, object.Errorf(object.CodeUnavailable, object.Ref{}, "this master cannot go on: %w", n.Failure())
	}
	return r[0].index, r[0].err
}

func (n *Node) notLeader() error {
	id, _, self := n.Leader()
	e := &object.Error{Code: object.CodeNoLeader, Message: "the masters have no leader just now", Hint: "Try again in a few seconds; if it stays so, fewer than half of the masters are running (berth master list)."}
	if id != "" && !self {
		e.Message, e.Hint = "this master does not lead; "+id+" does", "Ask "+id+", or try again."
	}
	return e
}

// translate gives raft's errors our codes.
func (n *Node) translate(err error) error {
	var already *object.Error
	switch {
	case errors.As(err, &already):
		return err
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return n.notLeader()
	case errors.Is(err, raft.ErrLeadershipLost):
		return &object.Error{Code: object.CodeTimeout, Message: "this master lost the leadership before the commit was seen", Hint: "It may or may not have happened: look before you repeat it."}
	case errors.Is(err, raft.ErrRaftShutdown):
		return errClosed()
	case errors.Is(err, raft.ErrAbortedByRestore):
		return &object.Error{Code: object.CodeUnavailable, Message: "the cluster is being restored from a snapshot", Hint: "Look at the restored state, then try again."}
	case errors.Is(err, syscall.ENOSPC), n.guard.failing() != nil:
		return storageError(n.guard.where, err)
	}
	return object.Errorf(object.CodeUnavailable, object.Ref{}, "the masters could not commit: %w", err)
}
