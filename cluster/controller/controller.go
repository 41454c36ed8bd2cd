package controller

import (
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// Controller brings one kind of object nearer to what is wanted.
//
// An implementation has no state of its own and its methods may be called by
// any number of goroutines at once, on different snapshots. Reconciling a key
// twice on the same snapshot at the same time gives equal bytes, and
// reconciling a settled key gives an empty changeset.
type Controller interface {
	// Name is the kind it looks after, or the task if it is not about one kind.
	Name() string
	// Inputs lists what wakes it.
	Inputs() []Input
	// Outputs lists the kinds it may write. Whoever carries out a Result refuses
	// changes of other kinds.
	Outputs() []object.Kind
	// Reconcile answers what should be done for the key at this moment. A key
	// whose object does not exist (any more) is not an error.
	Reconcile(v *state.Snapshot, key object.Ref, now time.Time) (Result, error)
}

// Input is a kind of object whose changes wake a controller.
type Input struct {
	Kind object.Kind
	// Keys says which keys of the controller a change of such an object touches.
	// v is the state after the change. Seeding passes every object as a create.
	Keys func(v *state.Snapshot, e state.Event) []object.Ref
}

// Result is what should be done.
type Result struct {
	Changes object.Changeset
	// Wake is when the key should be reconciled again even if nothing changes;
	// zero means never.
	Wake time.Time
	// Done promises that the key is settled once the changes are committed, if nobody
	// else has written in between: they need not wake it. False promises nothing.
	Done bool
}

// All lists every controller, in the order in which docs/controllers.md draws them.
func All() []Controller {
	return []Controller{revisions{}, deployments{}, replicaSets{}, pods{}, services{}, endpoints{}, ingresses{}, networkPolicies{}, nodes{}, networks{}, garbage{}}
}
