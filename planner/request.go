package planner

import (
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// Desired is one object that a configuration asks for.
type Desired struct {
	Address   string // deployment.web, service.api["eu"]; Ref.Address when empty
	Object    object.Object
	DependsOn []object.Ref // references and depends_on
	Ignore    []string     // ignore_changes: attribute paths such as replicas or pod.labels; "all"
	Range     *object.Range

	deps  []object.Ref  // see dependencies
	known bool          // deps have been found
	same  object.Object // the one in force, if the masters said that it is as desired

	claimed  object.Object // as the stack would create it, see claim
	encoding []byte        // of that, if Claims made it
}

// Request is what to plan.
type Request struct {
	Stack     string
	Cause     string // apply (default), destroy, rollback, undo
	Target    int    // of a rollback or undo: the revision gone back to
	Version   string // of berth, for the plan's header
	Objects   []Desired
	Outputs   map[string]object.Output
	Source    object.Source
	Targets   []string // addresses or references; only these and what they depend on. Empty: everything
	Moves     []Move
	Removals  []Removal
	Imports   []Import
	Reads     []object.Expectation // of other stacks: the plan is stale once they change
	Destroy   bool                 // plan the end of every object of the stack
	OnFailure string               // revert (default) or pause
	// Now is when the plan is made; certificates are held against it. Zero: they are
	// not looked at.
	Now time.Time
}
