package view

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// Result is how an apply ended.
type Result struct {
	Revision *object.Revision // in a final phase, or paused
	Outputs  map[string]object.Output
	Destroy  bool
}

// Applied prints how an apply ended: Terraform's sentence and the outputs, or
// what failed, why, and its last lines; then how true the plan was.
func Applied(w io.Writer, r Result, o Options) error {
	p := &printer{Options: o, w: w}
	rev := r.Revision
	if rev.Status.Phase != object.RevisionHealthy {
		p.failure(rev)
		return p.err
	}
	p.line()
	n := countRevision(rev)
	what := fmt.Sprintf("Apply complete! Resources: %d added, %d changed, %d destroyed.", n.Added, n.Changed, n.Destroyed)
	if r.Destroy {
		what = fmt.Sprintf("Destroy complete! Resources: %d destroyed.", n.Destroyed)
	}
	p.line(p.paint("1;32", what))
	p.truth(rev)
	if len(r.Outputs) > 0 {
		p.line()
		p.line(p.paint(bold, "Outputs:"))
		p.line()
		if p.err == nil {
			return Outputs(w, r.Outputs, o)
		}
	}
	return p.err
}

func countRevision(rev *object.Revision) Counts {
	plan := object.Plan{}
	for _, c := range rev.Spec.Changes {
		if !c.To.IsZero() {
			continue // counts with what it has become
		}
		x := object.PlannedChange{Ref: c.Ref, Before: c.Before, After: c.After}
		switch {
		case c.Owns:
			x.Actions = []string{object.ActionNoOp}
		case !c.From.IsZero():
			x.Actions = []string{object.ActionUpdate}
		case c.Op == object.OpCreate:
			x.Actions = []string{object.ActionCreate}
		case c.Op == object.OpDelete:
			x.Actions = []string{object.ActionDelete}
		default:
			x.Actions = []string{object.ActionUpdate}
			if object.Remade(c) {
				x.Actions = []string{object.ActionDelete, object.ActionCreate}
			}
		}
		plan.Changes = append(plan.Changes, x)
	}
	return Count(&plan)
}

// OperationApplied prints how an operation ended: truth is what came of its plan, in
// the form of a revision's.
func OperationApplied(w io.Writer, op *object.Operation, truth *object.Revision, o Options) error {
	p := &printer{Options: o, w: w}
	if st := truth.Status; st.Phase == object.RevisionFailed {
		p.diagnostic(object.Diagnostic{Severity: object.SeverityError, Summary: operationTitle(op) + " failed", Address: st.Object.Address(), Detail: st.Message})
		return p.err
	}
	p.line()
	p.line(p.paint("1;32", "Apply complete! "+operationTitle(op)+"."))
	p.truth(truth)
	return p.err
}

// truth says how the forecast compares with what happened: "12 of 12 placements,
// lowest ready 4/4 as planned, 16s of 15s".
func (p *printer) truth(rev *object.Revision) {
	if !rev.Measured() {
		return
	}
	var parts []string
	moved := rev.Status.Deviations
	if total := rev.Status.Kept + len(moved); total > 0 {
		parts = append(parts, fmt.Sprintf("%d of %d placements", rev.Status.Kept, total))
	}
	var kept, missed []string
	for _, promised := range rev.Spec.Promise {
		seen, ok := rev.Status.LowestOf(promised.Workload)
		if !ok {
			continue
		}
		name := ""
		if len(rev.Spec.Promise) > 1 {
			name = promised.Workload.Name + " "
		}
		if seen.Ready >= promised.Least(seen.Want) {
			kept = append(kept, fmt.Sprintf("%s%d/%d", name, seen.Ready, seen.Want))
		} else {
			missed = append(missed, fmt.Sprintf("%s%d/%d where %d/%d was planned", name, seen.Ready, seen.Want, promised.Ready, promised.Want))
		}
	}
	if len(kept) > 0 {
		parts = append(parts, "lowest ready "+strings.Join(kept, ", ")+" as planned")
	}
	if len(missed) > 0 {
		parts = append(parts, "lowest ready "+strings.Join(missed, ", "))
	}
	if !rev.Status.Ended.IsZero() && rev.Spec.Duration > 0 {
		parts = append(parts, fmt.Sprintf("%s of %s", short(rev.Status.Ended.Sub(rev.Spec.Time)), roundUp(rev.Spec.Duration.D())))
	}
	if len(parts) == 0 {
		return
	}
	word := "The plan held: "
	if !rev.Held() {
		word = "The plan did not hold: "
	}
	p.line()
	p.line(word, strings.Join(parts, ", "), ".")
	for i, d := range moved {
		if i == 10 {
			p.line("  … and ", plural(len(moved)-10, "more pod"))
			break
		}
		why := ""
		if d.Why != "" {
			why = ": " + d.Why
		}
		where := "is not on " + d.Planned
		if d.Actual != "" {
			where = "went to " + d.Actual + " instead of " + d.Planned
		}
		p.line("  ", d.Pod, " ", where, why)
	}
}

// truthInBrief is truth for a column: "held", "10/12 placed, web 2/4 ready".
func truthInBrief(rev *object.Revision) string {
	switch {
	case !rev.Measured():
		return ""
	case rev.Held():
		return "held"
	}
	var parts []string
	if n := len(rev.Status.Deviations); n > 0 {
		parts = append(parts, fmt.Sprintf("%d/%d placed", rev.Status.Kept, rev.Status.Kept+n))
	}
	for _, seen := range rev.Broken() {
		parts = append(parts, fmt.Sprintf("%s %d/%d ready", seen.Workload.Name, seen.Ready, seen.Want))
	}
	return strings.Join(parts, ", ")
}

// failure prints what failed a revision and what became of it.
func (p *printer) failure(rev *object.Revision) {
	st := rev.Status
	d := object.Diagnostic{Severity: object.SeverityError, Summary: "Rollout failed"}
	if !st.Object.IsZero() {
		d.Address = st.Object.Address()
	}
	detail := st.Message
	if detail == "" {
		detail = st.Reason
	}
	if detail != "" && !strings.HasSuffix(detail, ".") {
		detail += "."
	}
	took := ""
	if !st.Ended.IsZero() {
		took = " after " + short(st.Ended.Sub(rev.Spec.Time))
	}
	switch st.Phase {
	case object.RevisionReverted:
		d.Summary = fmt.Sprintf("Revision %d of %s failed and was reverted", rev.Spec.Number, rev.Spec.Stack)
		detail += fmt.Sprintf("\nRevision %d put everything back%s. Nothing of this apply is in force.", st.RevertedBy, took)
	case object.RevisionReverting:
		d.Summary = fmt.Sprintf("Revision %d of %s failed and is being reverted", rev.Spec.Number, rev.Spec.Stack)
	case object.RevisionPaused:
		d.Summary = fmt.Sprintf("Revision %d of %s failed and is paused", rev.Spec.Number, rev.Spec.Stack)
		if st.Reason == object.ReasonPromise {
			d.Summary = fmt.Sprintf("Revision %d of %s is paused, to keep what its plan promised", rev.Spec.Number, rev.Spec.Stack)
			detail += fmt.Sprintf("\nWatch it with: berth rollout status --stack %s\nGo on all the same with: berth rollout resume %s", rev.Spec.Stack, st.Object.Name)
			break
		}
		if st.Reason == object.ReasonInconclusive {
			d.Summary = fmt.Sprintf("Revision %d of %s is paused: a check tells nothing", rev.Spec.Number, rev.Spec.Stack)
			detail += fmt.Sprintf("\nWatch it with: berth rollout status --stack %s\nStep over the check with: berth rollout promote %s, or give the version up with: berth rollout abort %[2]s", rev.Spec.Stack, st.Object.Name)
			break
		}
		detail += "\nIt waits for a person, as on_failure = \"pause\" asks. Apply a correction, or put it back with: berth rollback"
	case object.RevisionSuperseded:
		d.Summary = fmt.Sprintf("Revision %d of %s was superseded by a later apply", rev.Spec.Number, rev.Spec.Stack)
		d.Severity = object.SeverityWarning
	case object.RevisionFailed:
		d.Summary = fmt.Sprintf("Revision %d of %s failed and could not be reverted", rev.Spec.Number, rev.Spec.Stack)
	}
	d.Detail = strings.TrimSpace(detail)
	p.diagnostic(d)
	if len(st.LastLog) > 0 {
		p.line()
		p.line("Its last lines:")
		p.log(st.LastLog)
	}
}

// Detached says that a rollout goes on without its watcher, and how to see it.
func Detached(w io.Writer, stack string, number int, o Options) error {
	p := &printer{Options: o, w: w}
	p.line()
	p.line(wrap(fmt.Sprintf("The rollout of %s, revision %d, goes on on the masters. Watch it with: berth rollout status --stack %s", stack, number, stack), o.Width))
	return p.err
}

// RolloutStatus prints where deployments are, one line each.
func RolloutStatus(w io.Writer, list []*object.Deployment, now time.Time, o Options) error {
	p := &printer{Options: o, w: w}
	for _, d := range list {
		_, text := deploymentState(d, stateOpen)
		if text = strings.TrimSuffix(text, ", paused"); text != "" { // the phase says it
			text = ", " + text
		}
		since := ""
		if !d.Status.Since.IsZero() && d.Status.Phase == object.RolloutProgressing {
			since = ", for " + short(now.Sub(d.Status.Since))
		}
		p.line(d.Ref().Address(), ": ", p.paint(mood(string(d.Status.Phase)), string(d.Status.Phase)), since, text)
	}
	return p.err
}
