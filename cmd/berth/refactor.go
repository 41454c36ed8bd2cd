package main

import (
	"slices"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cmd/internal/view"
	"github.com/berthdev/berth/hcl"
	"github.com/berthdev/berth/planner"
)

// read answers data blocks: an object as the masters have it now. Nobody is asked
// before the first data block is evaluated.
func (s *session) read(ref object.Ref) (object.Object, error) {
	cl, err := s.connect()
	if err != nil {
		return nil, err
	}
	o, err := cl.Get(s.ctx, ref)
	return o, s.withNames(cl, ref, err)
}

// refactored puts what a configuration's moved, removed and import blocks say, and
// what its data blocks have read, into a request.
func refactored(r *planner.Request, cfg *hcl.Configuration) {
	for i := range cfg.Moves {
		m := &cfg.Moves[i]
		r.Moves = append(r.Moves, planner.Move{From: m.From, To: m.To, Previous: m.Previous, Range: &m.Range})
	}
	for i := range cfg.Removals {
		x := &cfg.Removals[i]
		r.Removals = append(r.Removals, planner.Removal{Ref: x.Ref, Destroy: x.Destroy, Range: &x.Range})
	}
	for i := range cfg.Imports {
		x := &cfg.Imports[i]
		r.Imports = append(r.Imports, planner.Import{Ref: x.Ref, Range: &x.Range})
	}
	r.Reads = cfg.Reads
}

// conditions holds a sealed plan against the conditions that look at its forecast. A
// failed check is told and travels in the plan, which is sealed anew for it; a
// failed precondition or postcondition ends the command, after the page (if there is
// one) that shows what it is about.
func (s *session) conditions(cl *client.Client, cfg *hcl.Configuration, made, sealed *object.Plan, page *view.Draft) (*object.Plan, error) {
	found := cfg.Judge(sealed)
	if len(found) > 0 && !found.HasErrors() {
		made.Warnings = slices.Concat(made.Warnings, found)
		again, err := cl.Plan(s.ctx, made)
		if err != nil {
			return nil, err
		}
		sealed, found = again, cfg.Judge(again)
	}
	if found.HasErrors() && page != nil {
		page.Finish(s.stdout, sealed)
	}
	if s.diagnose(found) {
		return nil, exitCode(exitError)
	}
	return sealed, nil
}

// movesBack are the moves that undo those of revisions, the newest first.
func movesBack(revisions []*object.Revision, only []object.Ref) []planner.Move {
	was := map[object.Ref]object.Ref{} // by the name now
	var order []object.Ref
	for _, rev := range revisions {
		for _, c := range rev.Spec.Changes {
			if c.From.IsZero() || len(only) > 0 && !slices.Contains(only, c.Ref) {
				continue
			}
			for now, then := range was {
				if then == c.Ref {
					was[now] = c.From
				}
			}
			was[c.Ref] = c.From
			order = append(order, c.Ref)
		}
	}
	slices.SortFunc(order, object.Ref.Compare)
	var out []planner.Move
	for _, now := range slices.Compact(order) {
		out = append(out, planner.Move{From: now, To: was[now]})
	}
	return out
}
