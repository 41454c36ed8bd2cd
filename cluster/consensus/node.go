package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// Node is this master's part of the cluster.
type Node struct {
	config    Config
	raft      *raft.Raft
	fsm       *fsm
	log       raft.LogStore
	guard     *guard
	transport raft.Transport
	streams   *streams // nil in memory
	closeFile func() error
	peers     peerHealth
	reads     reads

	proposals chan *proposal
	slots     chan struct{} // entries that may be in flight
	closing   chan struct{}
	stopped   chan struct{} // raft has ended
	closeOnce sync.Once
	closeErr  error
	done      sync.WaitGroup

	failed   chan struct{}
	failure  error
	failOnce sync.Once

	mu          sync.Mutex
	leading     bool          // and everything of earlier terms is applied
	term        uint64        // in which it leads
	established chan struct{} // closed when leading becomes true, new after it
	leadership  chan Leadership
}

// Leadership is a change in who leads.
type Leadership struct {
	Leading bool   // this master leads, and has applied everything before its term
	Term    uint64 // of this leadership
}

// Open starts this master's Raft. It returns when what the storage holds has
// been read, not when a leader is known. A damaged log is an error that names
// the file and what to do.
func Open(config Config) (*Node, error) {
	if err := config.complete(); err != nil {
		return nil, err
	}
	stores, snapshots, closeFile, err := openStorage(&config)
	if err != nil {
		return nil, err
	}
	where := config.Storage.dir
	if where == "" {
		where = "memory"
	}
	n := &Node{
		config: config, closeFile: closeFile,
		proposals: make(chan *proposal, 4096), slots: make(chan struct{}, entriesInFlight), closing: make(chan struct{}), stopped: make(chan struct{}),
		failed: make(chan struct{}), established: make(chan struct{}), leadership: make(chan Leadership, 1),
	}
	n.fsm = newFSM(config.History, n.fail)
	n.guard = &guard{logStore: stores, where: where, fault: config.fault, closing: make(chan struct{}), report: func(err error) {
		config.Logger.Error("the Raft log cannot be written", "where", where, "error", err)
	}}
	if n.log, err = raft.NewLogCache(256, n.guard); err != nil {
		return nil, errors.Join(err, closeFile())
	}
	if config.Network != nil {
		n.transport = config.Network.join(config.ID, joinAddress(config.RaftAddress, config.APIAddress))
	} else {
		n.streams = newStreams(&config)
		n.transport = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream: n.streams, MaxPool: 3, Timeout: 10 * config.ElectionTimeout, Logger: newLogger(config.Logger),
		})
	}
	if err := n.start(snapshots); err != nil {
		n.closeTransport()
		return nil, errors.Join(err, closeFile())
	}
	return n, nil
}

func (n *Node) start(snapshots raft.SnapshotStore) error {
	rc := n.config.raft()
	notify := make(chan bool, 16)
	rc.NotifyCh = notify
	if len(n.config.Bootstrap) > 0 {
		var members raft.Configuration
		for _, s := range n.config.Bootstrap {
			members.Servers = append(members.Servers, raft.Server{ID: raft.ServerID(s.Name), Address: joinAddress(s.Raft, s.API)})
		}
		err := raft.BootstrapCluster(rc, n.log, n.guard, snapshots, n.transport, members)
		if err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
			return fmt.Errorf("the cluster cannot be founded: %w", err)
		}
	}
	var err error
	if n.raft, err = raft.NewRaft(rc, n.fsm, n.log, n.guard, snapshots, n.transport); err != nil {
		return fmt.Errorf("raft cannot start from what the storage holds: %w", err)
	}
	n.peers.observe(n)
	inFlight := make(chan flight, entriesInFlight)
	n.done.Go(func() { n.followLeadership(notify) })
	n.done.Go(func() { n.collect(inFlight) })
	n.done.Go(func() { n.complete(inFlight) })
	return nil
}

func (n *Node) fail(err error) {
	n.failOnce.Do(func() {
		n.failure = err
		close(n.failed)
		n.config.Logger.Error("this master cannot go on", "error", err)
	})
}

// Failed is closed when this master must be stopped because it cannot read the
// log; Failure then says why.
func (n *Node) Failed() <-chan struct{} { return n.failed }

// Failure is why Failed was closed.
func (n *Node) Failure() error {
	select {
	case <-n.failed:
		return n.failure
	default:
		return nil
	}
}

// followLeadership turns raft's word into ours: a leader leads when it has
// applied everything that earlier leaders committed.
func (n *Node) followLeadership(notify <-chan bool) {
	var round sync.WaitGroup
	cancel := func() {}
	defer func() { cancel(); round.Wait() }()
	for {
		select {
		case <-n.closing:
			return
		case leader := <-notify:
			cancel()
			round.Wait()
			n.setLeading(false, 0)
			if !leader {
				continue
			}
			ctx, stop := context.WithCancel(context.Background())
			cancel = stop
			round.Go(func() { n.establish(ctx) })
		}
	}
}

func (n *Node) establish(ctx context.Context) {
	term := n.raft.CurrentTerm()
	barrier := make(chan error, 1)
	go func() { barrier <- n.raft.Barrier(0).Error() }()
	select {
	case err := <-barrier:
		if err == nil && n.raft.State() == raft.Leader && n.raft.CurrentTerm() == term {
			n.setLeading(true, term)
		}
	case <-ctx.Done():
	case <-n.closing:
	}
}

func (n *Node) setLeading(leading bool, term uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.leading == leading && n.term == term {
		return
	}
	if n.leading = leading; leading {
		close(n.established)
	} else if n.term != 0 {
		n.established = make(chan struct{})
	}
	n.term = term
	select {
	case <-n.leadership: // nobody has taken the last one: this one replaces it
	default:
	}
	n.leadership <- Leadership{leading, term}
}

// Leaderships delivers the newest change of this master's leadership; changes
// that nobody took in time are replaced by later ones (compare Term). It has one
// reader.
func (n *Node) Leaderships() <-chan Leadership { return n.leadership }

// Leading reports whether this master leads and has applied everything before
// its term.
func (n *Node) Leading() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.leading
}

// ledTerm is the term in which this master has established itself as the leader.
func (n *Node) ledTerm() (term uint64, leading bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.term, n.leading
}

// waitLeading waits until a master that raft calls the leader has established
// itself, and fails at once where it is not.
func (n *Node) waitLeading(ctx context.Context) error {
	for {
		if n.raft.State() != raft.Leader {
			return n.notLeader()
		}
		n.mu.Lock()
		leading, established := n.leading, n.established
		n.mu.Unlock()
		if leading {
			return nil
		}
		select {
		case <-established:
		case <-time.After(n.config.ElectionTimeout / 10):
		case <-ctx.Done():
			return timeout(ctx, "")
		case <-n.closing:
			return errClosed()
		}
	}
}

// Leader names the leading master and its API's address. Both are empty while
// there is none; self tells whether it is this one.
func (n *Node) Leader() (id, apiAddress string, self bool) {
	address, server := n.raft.LeaderWithID()
	_, apiAddress = splitAddress(address)
	return string(server), apiAddress, string(server) == n.config.ID
}

// ID is this master's name.
func (n *Node) ID() string { return n.config.ID }

// Term is Raft's current term.
func (n *Node) Term() uint64 { return n.raft.CurrentTerm() }

// Snapshot is the state as this master has it, which on a follower may lag. It
// costs nothing.
func (n *Node) Snapshot() *state.Snapshot { return n.fsm.store.Load().Snapshot() }

// Watch follows the events after an index, normally that of a Snapshot. The
// error has CodeGone when those events are no longer kept.
func (n *Node) Watch(since uint64) (*Watcher, error) { return n.fsm.events.watch(since) }

// WaitApplied waits until this master has applied the log up to an index.
func (n *Node) WaitApplied(ctx context.Context, index uint64) error {
	if err := n.fsm.applied.wait(ctx, index); err != nil {
		return timeout(ctx, "this master lags behind the others")
	}
	return nil
}

// Close stops this master's Raft: it hands leadership over first if it has it.
// Proposals that are under way end with an error.
func (n *Node) Close() error {
	n.closeOnce.Do(func() {
		if n.raft.State() == raft.Leader && n.voters() > 1 {
			select {
			case <-futureDone(n.raft.LeadershipTransfer()):
			case <-time.After(2 * n.config.ElectionTimeout):
			}
		}
		n.closeErr = n.shutdown()
	})
	return n.closeErr
}

// Kill stops this master's Raft as if its process had died: no hand-over.
func (n *Node) Kill() error {
	n.closeOnce.Do(func() { n.closeErr = n.shutdown() })
	return n.closeErr
}

func (n *Node) shutdown() error {
	close(n.closing)
	n.closeTransport()
	n.guard.close()
	err := n.raft.Shutdown().Error()
	close(n.stopped)
	n.done.Wait()
	return errors.Join(err, n.closeFile())
}

func (n *Node) closeTransport() {
	if n.config.Network != nil {
		n.config.Network.leave(n.config.ID)
	}
	if c, ok := n.transport.(raft.WithClose); ok {
		c.Close()
	}
}

// await is f.Error(), except that it ends when raft has ended: what lies in
// raft's buffers then is never answered.
func (n *Node) await(f raft.Future) error {
	select {
	case err := <-futureDone(f):
		return err
	case <-n.stopped:
		return raft.ErrRaftShutdown
	}
}

func futureDone(f raft.Future) <-chan error {
	c := make(chan error, 1)
	go func() { c <- f.Error() }()
	return c
}

func errClosed() error {
	return &object.Error{Code: object.CodeUnavailable, Message: "this master is shutting down", Hint: "Ask another master."}
}

// timeout is the error of a context that ended; what it waited for may still happen.
func timeout(ctx context.Context, why string) error {
	msg := "the masters took too long"
	if errors.Is(context.Cause(ctx), context.Canceled) {
		msg = "the request was given up"
	}
	if why != "" {
		msg += ": " + why
	}
	return &object.Error{Code: object.CodeTimeout, Message: msg, Hint: "It may or may not have happened: look before you repeat it."}
}
