package scheduler

import (
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// Result is what one round of scheduling comes to.
type Result struct {
	// Changes binds pods (Spec.Node), tells pods that fit nowhere why (Status.Reason
	// and Message, written only when they change) and records events.
	Changes  object.Changeset
	Placed   []object.Placement // in the order of placing
	Unplaced []object.Unplaced  // the same order
}

// Scheduler places pods. It keeps caches from call to call; they never change an
// answer: a fresh Scheduler gives the same. One goroutine at a time may use it;
// making another is cheap.
type Scheduler struct {
	policy Policy
}

// New returns a scheduler that follows the policy.
func New(p Policy) *Scheduler { return &Scheduler{policy: p.bounded()} }

// Place binds up to limit of the pods that wait for a node (0 or less: all of
// them), those of high priority first, then by class and name. A pod whose stack
// has a running revision that planned a node for it goes there if that node
// still passes every filter. The changeset is stamped with now; nothing is
// written: the caller proposes Changes and, refused or not, calls Place again
// with a newer snapshot.
func (s *Scheduler) Place(v *state.Snapshot, now time.Time, limit int) Result {
	return Result{}
}
