package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/consensus"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
	"github.com/berthdev/berth/planner"
)

// PlanRestoreCmd is `berth plan restore`.
type PlanRestoreCmd struct {
	Snapshot string   `arg:"" complete:"file" help:"A file that berth snapshot save wrote."`
	Stack    []string `complete:"stack" placeholder:"NAME" help:"Only this stack; can be given several times. Default: all, those that have come since included."`
	GuardFlags
	PinFlag
	PlanOutput
	ExplainFlag
}

// Help says what a restore is, see help.
func (PlanRestoreCmd) Help() string {
	return "What the stacks declare goes back to what the snapshot has of them, by a new revision of each, all in one entry. " +
		"Objects of no stack, tokens, nodes and the history stay as they are: berth snapshot restore replaces those, too."
}

// Run plans each stack as it was, and has the masters rehearse all of it together.
func (c *PlanRestoreCmd) Run(s *session) error {
	file, err := filepath.Abs(c.Snapshot)
	if err != nil {
		return err
	}
	backup, then, err := readSnapshot(file)
	if err != nil {
		return err
	}
	cl, err := s.connect()
	if err != nil {
		return err
	}
	status, err := cl.Status(s.ctx)
	if err != nil {
		return err
	}
	if backup.Cluster != status.Cluster { // the masters say it again
		return &object.Error{Code: object.CodeInvalid, Message: fmt.Sprintf("the file %s is a snapshot of cluster %s, but this is cluster %s", c.Snapshot, backup.Cluster, status.Cluster),
			Hint: "Check the context. What another cluster had comes here by its configurations: berth -C DIR apply"}
	}
	stacks, err := s.stacksToRestore(cl, then, c.Stack)
	if err != nil {
		return err
	}
	s.lifetime, s.pin, s.asked = c.Expire, c.PinImages, c.asked()
	p, err := s.planRestore(cl, object.RestoredFrom{File: file, Cluster: backup.Cluster, Index: backup.Index, Time: backup.Time}, then, stacks, c.GuardFlags)
	if err != nil {
		return err
	}
	return s.deliver(p, c.PlanOutput, nil)
}

// readSnapshot reads a saved cluster whole.
func readSnapshot(file string) (consensus.Backup, *state.Snapshot, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		err = &object.Error{Code: object.CodeNotFound, Message: "there is no snapshot " + file, Hint: "berth snapshot save FILE writes one."}
	}
	if err != nil {
		return consensus.Backup{}, nil, err
	}
	defer f.Close()
	return consensus.ReadBackup(f, os.TempDir())
}

// stacksToRestore are the stacks that were or are, or those asked for, in the order
// of their names.
func (s *session) stacksToRestore(cl *client.Client, then *state.Snapshot, asked []string) ([]*object.Stack, error) {
	now, err := client.List[*object.Stack](s.ctx, cl, object.KindStack, client.ListOptions{})
	if err != nil {
		return nil, err
	}
	all := map[string]*object.Stack{} // as it is now
	for x := range state.All[*object.Stack](then, object.KindStack) {
		all[x.Name] = &object.Stack{Meta: object.Meta{Kind: object.KindStack, Name: x.Name}}
	}
	for _, x := range now {
		all[x.Name] = x
	}
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range asked {
		if all[name] == nil {
			return nil, &object.Error{Code: object.CodeNotFound, Message: fmt.Sprintf("neither the cluster nor the snapshot has a stack %q", name), Hint: among(name, names)}
		}
	}
	var out []*object.Stack
	for _, name := range names {
		if len(asked) == 0 || slices.Contains(asked, name) {
			out = append(out, all[name])
		}
	}
	return out, nil
}

// planRestore plans the stacks as they were in a former state.
func (s *session) planRestore(cl *client.Client, from object.RestoredFrom, then *state.Snapshot, stacks []*object.Stack, g GuardFlags) (*object.Plan, error) {
	var parts []object.Plan
	var found object.Diagnostics
	for _, stack := range stacks {
		former := planner.FormerOf(then, stack.Name)
		r := planner.Request{Version: version, Stack: stack.Name, Cause: object.CauseRestore, Target: former.Number, Outputs: former.Outputs, Source: former.Source, Objects: former.Desires()}
		if stack.Created != 0 && stack.Created == former.Created {
			var err error
			if r.Moves, err = s.movesSince(cl, stack.Name, former); err != nil {
				return nil, err
			}
		}
		v, err := fetch(s.ctx, cl, r, nil)
		if err != nil {
			return nil, err
		}
		p, diags := planner.Diff(v, r)
		if former.Left > 0 {
			w := object.Diagnostic{Severity: object.SeverityWarning, Summary: "A failed revision is left out", Address: stack.Name,
				Detail: fmt.Sprintf("Revision %d of %s had failed when the snapshot was taken, and waited for a person. The stack goes back to what it was before it.", former.Left, stack.Name)}
			p.Warnings = append(p.Warnings, w)
			diags = append(diags, w)
		}
		found = append(found, diags...)
		parts = append(parts, p)
	}
	if s.diagnose(found) {
		return nil, exitCode(exitError)
	}
	p := planner.Restore(from, parts)
	sealed, err := s.sealed(cl, &p, g)
	if err == nil {
		s.diagnose(sealed.Warnings[len(p.Warnings):])
	}
	return sealed, err
}

// movesSince are the moves that give objects of a stack back the names that they had
// at a former time, as far as the revisions since are kept.
func (s *session) movesSince(cl *client.Client, stack string, former planner.Former) ([]planner.Move, error) {
	past, err := s.pastOf(cl, stack)
	if object.IsCode(err, object.CodeNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	newer := slices.DeleteFunc(past.revisions, func(r *object.Revision) bool { return r.Spec.Number <= former.Number })
	return movesBack(newer, nil), nil
}

// sealedValues are the ciphertexts that a plan writes, out of the snapshot that it
// restores. A snapshot that is not there any more gives none: the masters may still
// hold them, and say so if they do not.
func sealedValues(p *object.Plan) ([]object.SealedValue, error) {
	want := p.Sensitives()
	if len(want) == 0 {
		return nil, nil
	}
	backup, then, err := readSnapshot(p.Restore.Snapshot.File)
	if object.IsCode(err, object.CodeNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if backup.Cluster != p.Restore.Snapshot.Cluster || backup.Index != p.Restore.Snapshot.Index || !backup.Time.Equal(p.Restore.Snapshot.Time) {
		return nil, &object.Error{Code: object.CodeStale, Message: p.Restore.Snapshot.File + " is another snapshot than the one that the plan was made from", Hint: "Plan again."}
	}
	var out []object.SealedValue
	for _, x := range p.Restore.Stacks {
		former := planner.FormerOf(then, x.Stack).Objects
		for i := range p.Changes {
			c := &p.Changes[i]
			secret, ok := former[c.Ref].(*object.Secret)
			if !ok || c.Stack() != x.Stack {
				continue
			}
			for _, key := range slices.Sorted(maps.Keys(secret.Spec.Data)) {
				if value := secret.Spec.Data[key]; slices.Contains(want, value.Digest) {
					out = append(out, object.SealedValue{At: object.SecretAt{Ref: c.Ref, Key: key}, Value: value})
				}
			}
		}
	}
	return out, nil
}

// commitRestore applies a plan of several stacks and follows one after the other:
// they roll at the same time, each by itself.
func (s *session) commitRestore(cl *client.Client, r object.ApplyRequest, detach, asJSON bool) error {
	applied, err := cl.Apply(s.ctx, r)
	if err != nil {
		return err
	}
	if detach {
		if asJSON {
			return s.json(applyResult{Changed: true, Applied: &applied})
		}
		for _, a := range applied.Restored {
			s.committed(a)
		}
		return nil
	}
	var results []applyResult
	var failed []string
	for _, a := range applied.Restored {
		if !asJSON {
			fmt.Fprintf(s.stdout, "\nStack %s, revision %d:\n", a.Stack, a.Number)
		}
		result, err := s.see(cl, a, false, asJSON)
		if err != nil {
			return err
		}
		if results = append(results, result); result.failed() {
			failed = append(failed, a.Stack)
		}
	}
	if asJSON {
		if err := s.json(applyResult{Changed: true, Applied: &applied, Stacks: results}); err != nil {
			return err
		}
	}
	if len(failed) > 0 {
		if len(failed) < len(results) && !asJSON {
			fmt.Fprintf(s.stderr, "\nNot restored: %s. The other stacks are; each goes its own way.\n", strings.Join(failed, ", "))
		}
		return exitCode(exitFailed)
	}
	return nil
}
