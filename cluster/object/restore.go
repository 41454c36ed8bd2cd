package object

import (
	"slices"
	"time"
)

// CauseRestore is the cause of revisions that put stacks back to what they were in a
// cluster snapshot.
const CauseRestore = "restore"

// Restore makes a plan one of several stacks: each goes back to what a snapshot of
// the cluster has of it. They are committed together, each as its next revision, and
// then roll by themselves. The plan's Changes are those of all of them, stack after
// stack, in the order of Stacks.
type Restore struct {
	Snapshot RestoredFrom    `json:"snapshot"`
	Stacks   []RestoredStack `json:"stacks"`
}

// RestoredFrom tells a cluster snapshot from others.
type RestoredFrom struct {
	File    string    `json:"file"` // where it was read, and where its sealed values are read from again
	Cluster string    `json:"cluster"`
	Index   uint64    `json:"index"`
	Time    time.Time `json:"time"`
}

// RestoredStack is what a Plan says of its one stack.
type RestoredStack struct {
	Stack         string                  `json:"stack"`
	Base          int                     `json:"base"`             // its revision when planned; 0: it does not exist
	Target        int                     `json:"target,omitempty"` // its revision in the snapshot; 0: it was not there
	Waves         int                     `json:"waves"`
	Source        Source                  `json:"source,omitzero"`
	OnFailure     string                  `json:"on_failure,omitempty"`
	Outputs       map[string]Output       `json:"outputs,omitempty"`
	OutputChanges map[string]OutputChange `json:"output_changes,omitempty"`
}

// SealedValue is a ciphertext out of a snapshot. The masters take it only for the
// key of the secret that it was made for.
type SealedValue struct {
	At    SecretAt  `json:"at"`
	Value Sensitive `json:"value"`
}

// Stack is the stack that a change is one of.
func (c *PlannedChange) Stack() string {
	if !c.After.IsZero() && c.After.Head().Stack != "" {
		return c.After.Head().Stack
	}
	if !c.Before.IsZero() {
		return c.Before.Head().Stack // it ends, or the stack lets go of it
	}
	return ""
}

// Stacks are the names of the stacks that a plan is of, in its order.
func (p *Plan) Stacks() []string {
	if p.Restore == nil {
		if p.Stack == "" {
			return nil // of an operation
		}
		return []string{p.Stack}
	}
	out := make([]string, len(p.Restore.Stacks))
	for i := range p.Restore.Stacks {
		out[i] = p.Restore.Stacks[i].Stack
	}
	return out
}

// Parts are the plans of single stacks that a plan consists of; it itself, unless it
// restores. What a part has of the forecast is what its revision keeps: placements
// and the lowest readiness of workloads that it changes. What a plan expects of
// objects stays with the whole.
func (p *Plan) Parts() []*Plan {
	if p.Restore == nil {
		return []*Plan{p}
	}
	out := make([]*Plan, len(p.Restore.Stacks))
	for i := range p.Restore.Stacks {
		x := &p.Restore.Stacks[i]
		part := *p
		part.Restore, part.Expect, part.Changes, part.received = nil, nil, nil, nil // what came is by number of change
		part.Stack, part.Base, part.Target, part.Waves, part.Source, part.OnFailure = x.Stack, x.Base, x.Target, x.Waves, x.Source, x.OnFailure
		part.Outputs, part.OutputChanges = x.Outputs, x.OutputChanges
		changed := map[Ref]bool{}
		for j := range p.Changes {
			if c := &p.Changes[j]; c.Stack() == x.Stack {
				part.Changes = append(part.Changes, *c)
				changed[c.Ref] = true
			}
		}
		part.Forecast.Lowest = slices.DeleteFunc(slices.Clone(p.Forecast.Lowest), func(a Availability) bool { return !changed[a.Workload] })
		part.Forecast.Placements = slices.DeleteFunc(slices.Clone(p.Forecast.Placements), func(a Placement) bool { return !changed[a.Workload] })
		out[i] = &part
	}
	return out
}

// Commit is the one changeset by which a plan becomes the next revision of each of
// its stacks, and which revisions those are. get is the state that it is made for: it
// says, too, which images are pinned already.
func Commit(p *Plan, get func(Ref) (Object, bool), author string, at time.Time) (c Changeset, made []Applied) {
	for _, part := range p.Parts() {
		part = part.withPins(get)
		o, _ := get(Ref{Kind: KindStack, Name: part.Stack})
		stack, _ := o.(*Stack)
		a := Applied{Stack: part.Stack, Number: 1}
		if stack != nil {
			a.Number = stack.Spec.Revision + 1
		}
		for { // revisions of a stack that was destroyed may still be there
			a.Revision = Ref{Kind: KindRevision, Name: RevisionName(part.Stack, a.Number)}
			if _, taken := get(a.Revision); !taken {
				break
			}
			a.Number++
		}
		one := CommitPlan(part, stack, a.Number, author, at)
		if made = append(made, a); len(made) > 1 {
			one.Changes = append(c.Changes, one.Changes...)
			one.Reason = CauseRestore + " of " + count(len(made), "stack")
		}
		c = one
	}
	c.Expect = p.Expect
	return c, made
}
