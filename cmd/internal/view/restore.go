package view

import (
	"fmt"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

const nothingToRestore = "No changes. The stacks are as the snapshot has them."

// restoreTitle names a plan that restores stacks out of a snapshot.
func restoreTitle(r *object.Restore) string {
	what := plural(len(r.Stacks), "stack")
	if len(r.Stacks) == 1 {
		what = r.Stacks[0].Stack
	}
	return fmt.Sprintf("Restore of %s, as of %s (index %d)", what, r.Snapshot.Time.UTC().Format(time.RFC3339), r.Snapshot.Index)
}

// restore prints the changes of a plan that restores, stack after stack.
func (p *printer) restore(plan *object.Plan) {
	if plan.Empty() {
		p.line()
		p.line(p.paint("1;32", "No changes."), p.paint(bold, nothingToRestore[len("No changes."):]))
		return
	}
	if len(plan.Changes) > 0 {
		p.legend(plan)
	}
	p.line()
	p.line(p.paint(bold, restoreTitle(plan.Restore)), ", from ", plan.Restore.Snapshot.File, ":")
	p.line()
	p.stacks(plan)
	p.source = "the snapshot"
	for _, part := range plan.Parts() {
		if len(part.Changes) > 0 {
			p.line()
			p.line("Stack ", p.paint(bold, part.Stack), ":")
			p.changes(part.Changes)
		}
		if len(part.OutputChanges) > 0 {
			p.line()
			p.outputs(part.OutputChanges)
		}
	}
}

// stacks lists where each stack goes back to and what that changes, in a line each.
func (p *printer) stacks(plan *object.Plan) {
	name := 0
	for _, s := range plan.Restore.Stacks {
		name = max(name, len(s.Stack))
	}
	for _, part := range plan.Parts() {
		to := fmt.Sprintf("back to revision %d", part.Target)
		switch {
		case part.Target == 0:
			to = "was not there, and ends"
		case part.Base == 0:
			to = fmt.Sprintf("made anew as of revision %d", part.Target)
		}
		n := Count(part)
		p.line("  ", pad(part.Stack, name), "  ", to, fmt.Sprintf(": %d to add, %d to change, %d to destroy", n.Added, n.Changed, n.Destroyed))
	}
}

type jsonRestore struct {
	Snapshot object.RestoredFrom `json:"snapshot"`
	Stacks   []jsonRestored      `json:"stacks"`
}

type jsonRestored struct {
	Stack    string                `json:"stack"`
	Revision int                   `json:"revision"`
	Target   int                   `json:"target,omitempty"`
	Waves    int                   `json:"waves"`
	Summary  jsonSummary           `json:"summary"`
	Outputs  map[string]jsonOutput `json:"output_changes,omitempty"`
}

func restoreJSON(plan *object.Plan) *jsonRestore {
	if plan.Restore == nil {
		return nil
	}
	out := &jsonRestore{Snapshot: plan.Restore.Snapshot, Stacks: []jsonRestored{}}
	for _, part := range plan.Parts() {
		n := Count(part)
		out.Stacks = append(out.Stacks, jsonRestored{part.Stack, part.Base + 1, part.Target, part.Waves, jsonSummary{n.Added, n.Changed, n.Destroyed}, outputsJSON(part.OutputChanges)})
	}
	return out
}
