package api

import (
	"context"
	"io"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// Cluster is the running master as the API needs it. Every method may be called
// by any number of goroutines.
type Cluster interface {
	// Propose commits a changeset and returns the index of its entry when
	// Snapshot shows it here. Errors are *object.Error: those of state.Apply,
	// CodeNoLeader on a master that does not lead, CodeTimeout when it may or may
	// not have happened.
	Propose(ctx context.Context, c object.Changeset) (uint64, error)

	// Snapshot is what this master knows now; on a follower it may be behind.
	Snapshot() *state.Snapshot

	// Barrier returns when Snapshot holds everything that was acknowledged
	// anywhere before the call. CodeNoLeader on a master that does not lead.
	Barrier(ctx context.Context) error

	// WaitApplied returns when Snapshot holds the log up to an index.
	WaitApplied(ctx context.Context, index uint64) error

	// Watch begins after an index. CodeGone when that is too old; an index ahead
	// of Snapshot is waited for.
	Watch(since uint64) (Watch, error)

	// Leader tells who leads; a zero Name means that nobody is known to.
	Leader() Leader

	// Masters lists the members, ordered by name.
	Masters() []object.Master

	// AddMaster makes a master a member, or corrects its addresses; RemoveMaster
	// ends a membership. Leader only.
	AddMaster(ctx context.Context, m object.Master) error
	RemoveMaster(ctx context.Context, name string) error

	// Heartbeat notes, on the leader, that a node has just been heard, and the index
	// that its proxies have put in force; see object.Report.
	Heartbeat(node string, applied uint64)

	// Traffic counts, on the leader, what a node's ingress has answered; a report that
	// comes twice counts once.
	Traffic(node string, t *object.Traffic)

	// Acknowledged returns when every node that proxies has put an index in force, or
	// ctx ends; then it names those that have not, in order. Leader only.
	Acknowledged(ctx context.Context, index uint64) []string

	// Save writes a snapshot of the whole state; Restore replaces the state by
	// one, on all masters. Restore is for the leader only.
	Save(ctx context.Context, w io.Writer) error
	Restore(ctx context.Context, r io.Reader) error
}

// Watch is a cursor in the log of events. One goroutine at a time may use it.
type Watch interface {
	// Next blocks until there is something after the cursor and returns all that
	// there is, in order, whole entries only. CodeGone: it lagged too far behind.
	Next(ctx context.Context) ([]state.Event, error)
	Close()
}

// Leader is the master that leads.
type Leader struct {
	Name string
	API  string // host:port of its API
	Self bool   // it is this one
}

// CheckFunc chooses what a plan leaves to the masters, and says what in it does not
// go together with the rest of the cluster. It must not keep or change the snapshot
// or the plan. cmd/berth makes it of package planner.
type CheckFunc func(v *state.Snapshot, p *object.Plan) ([]object.Assignment, object.Diagnostics)

// PlanFunc rehearses a plan on a snapshot: what will happen when it is applied at
// now. It must not keep or change the snapshot or the plan. cmd/berth makes it of
// package planner.
type PlanFunc func(ctx context.Context, v *state.Snapshot, p *object.Plan, now time.Time) (object.Forecast, error)
