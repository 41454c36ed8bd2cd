package planner

import (
	"maps"
	"slices"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// Former is what a stack was to be at the time of a former state.
type Former struct {
	Number  int // the revision that it stands for; 0: there was no such stack
	Objects map[object.Ref]object.Object
	Outputs map[string]object.Output
	Source  object.Source
	Created uint64 // when the stack began: another one of the same name has another
	Left    int    // a revision that had failed and waited for a person: it is left out
}

// FormerOf reads it. A revision that was under way counts as carried out: nobody had
// given it up. One that had failed counts as put back, and is named.
func FormerOf(v *state.Snapshot, stack string) Former {
	s, ok := state.Find[*object.Stack](v, object.Ref{Kind: object.KindStack, Name: stack})
	if !ok {
		return Former{}
	}
	f := Former{Number: s.Spec.Revision, Objects: Declared(v, stack), Outputs: s.Spec.Outputs, Created: s.Created}
	newest, ok := state.Find[*object.Revision](v, object.Ref{Kind: object.KindRevision, Name: object.RevisionName(stack, s.Spec.Revision)})
	if !ok {
		return f
	}
	f.Source = newest.Spec.Source
	switch newest.Status.Phase {
	case object.RevisionRunning, "":
		f.Objects = maps.Clone(f.Objects)
		for i := range newest.Spec.Changes {
			if c := &newest.Spec.Changes[i]; c.After.IsZero() {
				delete(f.Objects, c.Ref)
			} else if c.After.Head().Stack != stack {
				delete(f.Objects, c.Ref) // it lets go of it
			} else {
				f.Objects[c.Ref] = c.After.Object
			}
		}
	case object.RevisionPaused, object.RevisionReverting:
		f.Left = f.Number
		f.Objects = AsOf(f.Objects, []*object.Revision{newest})
		f.Number = newest.Spec.Parent
		f.Source, f.Outputs = object.Source{}, nil
		if parent, ok := state.Find[*object.Revision](v, object.Ref{Kind: object.KindRevision, Name: object.RevisionName(stack, f.Number)}); ok {
			f.Source, f.Outputs = parent.Spec.Source, parent.Spec.Outputs
		}
	}
	return f
}

// Desires are the former objects as a Request has them, in the order of references.
func (f Former) Desires() []Desired {
	refs := slices.SortedFunc(maps.Keys(f.Objects), object.Ref.Compare)
	out := make([]Desired, len(refs))
	for i, r := range refs {
		out[i] = Desired{Object: f.Objects[r], DependsOn: f.Objects[r].Head().After}
	}
	return out
}

// Restore joins the plans of single stacks to one. Stacks of which nothing changes
// are left out.
func Restore(from object.RestoredFrom, parts []object.Plan) object.Plan {
	p := object.Plan{Format: object.PlanFormat, Cause: object.CauseRestore, Restore: &object.Restore{Snapshot: from, Stacks: []object.RestoredStack{}}}
	expect := map[object.Ref]object.Expectation{}
	for i := range parts {
		x := &parts[i]
		p.Version = x.Version
		if x.Empty() {
			continue
		}
		p.Index, p.Waves = max(p.Index, x.Index), max(p.Waves, x.Waves)
		p.Restore.Stacks = append(p.Restore.Stacks, object.RestoredStack{
			Stack: x.Stack, Base: x.Base, Target: x.Target, Waves: x.Waves, Source: x.Source, OnFailure: x.OnFailure, Outputs: x.Outputs, OutputChanges: x.OutputChanges,
		})
		p.Changes = append(p.Changes, x.Changes...)
		p.Warnings = append(p.Warnings, x.Warnings...)
		for _, e := range x.Expect {
			expect[e.Ref] = e
		}
	}
	for _, r := range slices.SortedFunc(maps.Keys(expect), object.Ref.Compare) {
		p.Expect = append(p.Expect, expect[r])
	}
	return p
}
