package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
	"github.com/berthdev/berth/cmd/internal/view"
	"github.com/berthdev/berth/planner"
)

// ShowCmd is `berth show`: of a file or the stack, or of a revision.
type ShowCmd struct {
	File     ShowFileCmd     `cmd:"" default:"withargs" help:"A saved plan, or the stack as the masters hold it."`
	Revision ShowRevisionCmd `cmd:"" help:"What a revision of the stack changed, and what became of it."`
}

// RevisionFormat chooses how revisions are printed.
type RevisionFormat struct {
	JSONFlag
	Format string `enum:"text,json,markdown" default:"text" help:"How to print it: ${enum}."`
}

func (f RevisionFormat) format() string {
	if f.JSON {
		return "json"
	}
	return f.Format
}

// ShowRevisionCmd is `berth show revision`.
type ShowRevisionCmd struct {
	Number int    `arg:"" help:"The revision; see: berth history"`
	Stack  string `complete:"stack" placeholder:"NAME" help:"The stack; default: that of the configuration here."`
	RevisionFormat
}

// Run shows one revision as its plan was shown, and how true that was.
func (c *ShowRevisionCmd) Run(s *session) error {
	past, err := s.past(c.Stack)
	if err != nil {
		return err
	}
	i, err := past.index(c.Number)
	if err != nil {
		return err
	}
	r := view.Past{Revision: past.revisions[i], Changes: changesOf(past.revisions[i])}
	return s.printRevision(c.format(), r.Text, r.Markdown, r.JSON)
}

func (s *session) printRevision(format string, text func(io.Writer, view.Options) error, markdown, json func(io.Writer) error) error {
	switch format {
	case "json":
		return json(s.stdout)
	case "markdown":
		return markdown(s.stdout)
	}
	return text(s.stdout, s.style(s.stdout))
}

// changesOf is what a revision changed, as its plan had it.
func changesOf(rev *object.Revision) []object.PlannedChange {
	before, after, addresses := map[object.Ref]object.Object{}, map[object.Ref]object.Object{}, map[object.Ref]string{}
	wave := map[object.Ref]int{}
	for i := range rev.Spec.Changes {
		c := &rev.Spec.Changes[i]
		if !c.Before.IsZero() {
			before[c.Ref] = c.Before.Object
		}
		if !c.After.IsZero() {
			after[c.Ref] = c.After.Object
		}
		addresses[c.Ref], wave[c.Ref] = c.Address, c.Wave
	}
	list := planner.Between(before, after, addresses)
	for i := range list {
		list[i].Wave = wave[list[i].Ref]
	}
	return list
}

// index finds a revision by its number.
func (p past) index(number int) (int, error) {
	i := slices.IndexFunc(p.revisions, func(r *object.Revision) bool { return r.Spec.Number == number })
	if i < 0 {
		return 0, &object.Error{Code: object.CodeNotFound, Message: fmt.Sprintf("the stack %s has no revision %d, or no longer", p.stack, number),
			Hint: fmt.Sprintf("Those kept are %d to %d.", p.revisions[len(p.revisions)-1].Spec.Number, p.revisions[0].Spec.Number)}
	}
	return i, nil
}

// DiffCmd is `berth diff`.
type DiffCmd struct {
	From             int    `arg:"" help:"A revision of the stack; see: berth history"`
	To               int    `arg:"" optional:"" help:"Another; default: what is in force now, changes past the stack included."`
	Stack            string `complete:"stack" placeholder:"NAME" help:"The stack; default: that of the configuration here."`
	DetailedExitcode bool   `help:"Exit with 0: no difference, 1: error, 2: differences."`
	RevisionFormat
}

// Run shows by what the stack's objects differ from one revision to another.
func (c *DiffCmd) Run(s *session) error {
	past, err := s.past(c.Stack)
	if err != nil {
		return err
	}
	v, err := fetch(s.ctx, past.client, planner.Request{Stack: past.stack}, nil)
	if err != nil {
		return err
	}
	now := planner.Declared(v, past.stack)
	addresses := map[object.Ref]string{}
	for _, rev := range past.revisions {
		for i := range rev.Spec.Changes {
			if x := &rev.Spec.Changes[i]; addresses[x.Ref] == "" {
				addresses[x.Ref] = x.Address
			}
		}
	}
	side := func(number int) (map[object.Ref]object.Object, map[string]object.Output, error) {
		if number == 0 {
			stack, ok := state.Find[*object.Stack](v, object.Ref{Kind: object.KindStack, Name: past.stack})
			if !ok {
				return now, nil, nil
			}
			return now, stack.Spec.Outputs, nil
		}
		i, err := past.index(number)
		if err != nil {
			return nil, nil, err
		}
		return planner.AsOf(now, past.revisions[:i]), past.revisions[i].Spec.Outputs, nil
	}
	before, was, err := side(c.From)
	if err != nil {
		return err
	}
	after, is, err := side(c.To)
	if err != nil {
		return err
	}
	d := view.Between{Stack: past.stack, From: c.From, To: c.To, Changes: planner.Between(before, after, addresses), Outputs: planner.OutputChanges(was, is)}
	if err := s.printRevision(c.format(), d.Text, d.Markdown, d.JSON); err != nil {
		return err
	}
	if c.DetailedExitcode && len(d.Changes)+len(d.Outputs) > 0 {
		return exitCode(exitChanges)
	}
	return nil
}
