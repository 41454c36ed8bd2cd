package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cmd/internal/view"
)

// ApplyCmd is `berth apply`.
type ApplyCmd struct {
	PlanFlags
	JSONFlag
	Plan          string `arg:"" optional:"" type:"path" help:"A saved plan; without one, plan now and ask."`
	AutoApprove   bool   `help:"Do not ask."`
	Detach        bool   `help:"Return as soon as it is committed."`
	AllowUnplaced bool   `help:"Go on though some pods fit nowhere yet."`
	Destroy       bool   `help:"Remove everything that the stack declares."`
}

// Run applies and, unless detached, follows the rollout to its end.
func (c *ApplyCmd) Run(s *session) error {
	var p *object.Plan
	var secrets map[string]string
	var cl *client.Client
	var page *view.Draft
	var err error
	if c.Plan != "" {
		if len(c.Target) > 0 || c.Destroy {
			return &object.Error{Code: object.CodeInvalid, Message: "a saved plan is applied as it is", Hint: "Give --target and --destroy to berth plan."}
		}
		p, secrets, cl, err = s.savedPlan(c.Plan, c.VariableFlags)
	} else {
		var made *planned
		if made, err = s.plan(c.PlanFlags, c.Destroy, !c.JSON); err == nil {
			p, secrets, cl, page = made.plan, made.secrets, made.client, made.page
		}
	}
	if err != nil {
		return err
	}
	switch {
	case page != nil:
		page.Finish(s.stdout, p)
	case !c.JSON && p.Empty():
		view.Plan(s.stdout, p, s.style(s.stdout))
	}
	if p.Empty() {
		if rev := s.underWay(cl, p.Stack); rev != nil && !c.Detach {
			if !c.JSON {
				fmt.Fprintf(s.stdout, "\nRevision %d, by %s, is still to be carried out. Following it.\n", rev.Spec.Number, rev.Spec.Author)
			}
			return s.watched(cl, object.Applied{Stack: p.Stack, Number: rev.Spec.Number, Revision: rev.Ref()}, rev.Spec.Cause == "destroy", c.JSON, false)
		}
		if c.JSON {
			return s.json(applyResult{Changed: false})
		}
		fmt.Fprint(s.stdout, "\nApply complete! Resources: 0 added, 0 changed, 0 destroyed.\n")
		return nil
	}
	if err := object.Broken(p.Broken); err != nil {
		return err
	}
	if err := s.judged(p); err != nil {
		return err
	}
	if c.Plan == "" { // a saved one may have been made in a window that is over
		if err := object.Refuses(p.Freezes, s.flags.OverrideFreeze); err != nil {
			return err
		}
	}
	if len(p.Forecast.Unplaced) > 0 && !c.AllowUnplaced {
		return &object.Error{Code: object.CodeUnplaceable, Message: fmt.Sprintf("%s would fit on no node: %s", plural(len(p.Forecast.Unplaced), "pod"), p.Forecast.Unplaced[0].Reason),
			Hint: "Ask for less, add nodes, or go on all the same with --allow-unplaced."}
	}
	if c.Plan == "" && !c.AutoApprove {
		question := fmt.Sprintf("Do you want to perform these actions on the stack %s?", p.Stack)
		detail := "Berth will perform the actions described above."
		if c.Destroy {
			question, detail = fmt.Sprintf("Do you really want to destroy all of the stack %s?", p.Stack), "There is no undo."
		}
		if err := s.confirm(question, detail); err != nil {
			return err
		}
	}
	var more object.Guards // those of a plan made just now are in it
	if c.Plan != "" {
		more = c.guards()
	}
	if p.Operation != nil {
		return s.commitOperation(cl, object.ApplyRequest{Plan: *p, AllowUnplaced: c.AllowUnplaced, Guards: more}, c.Detach, c.JSON)
	}
	if p.Restore != nil {
		sealed, err := sealedValues(p)
		if err != nil {
			return err
		}
		return s.commitRestore(cl, object.ApplyRequest{Plan: *p, Sealed: sealed, AllowUnplaced: c.AllowUnplaced, Guards: more}, c.Detach, c.JSON)
	}
	return s.commit(cl, object.ApplyRequest{Plan: *p, Secrets: needed(p, secrets), AllowUnplaced: c.AllowUnplaced, Guards: more}, c.Detach, c.JSON)
}

// needed is the part of the secrets that the plan writes.
func needed(p *object.Plan, secrets map[string]string) map[string]string {
	out := map[string]string{}
	for _, digest := range p.Sensitives() {
		if v, ok := secrets[digest]; ok {
			out[digest] = v
		}
	}
	return out
}

// savedPlan reads a plan file. A plan holds no secret: the values it writes are
// read again from the configuration, and must be those it was made with.
func (s *session) savedPlan(file string, vars VariableFlags) (*object.Plan, map[string]string, *client.Client, error) {
	p, err := readPlan(file)
	if err != nil {
		return nil, nil, nil, err
	}
	cl, err := s.connect()
	if err != nil {
		return nil, nil, nil, err
	}
	secrets := map[string]string{}
	// On the way back the masters have the values themselves.
	if want := p.Sensitives(); len(want) > 0 && p.Target == 0 && p.Restore == nil {
		if s.flags.Chdir == "." && p.Source.Directory != "" {
			s.flags.Chdir = p.Source.Directory
		}
		cfg, err := s.load(vars)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("the plan writes secrets, which no plan file holds, so their values are read from %s again: %w", s.flags.Chdir, err)
		}
		values, err := digestSecrets(s.ctx, cl, cfg)
		if err != nil {
			return nil, nil, nil, err
		}
		secrets = values.plain
		for _, digest := range want {
			if _, ok := secrets[digest]; !ok {
				return nil, nil, nil, &object.Error{Code: object.CodeStale, Message: "the configuration in " + s.flags.Chdir + " has other secret values than those the plan was made with",
					Hint: "Give the same variables as to berth plan, or plan again."}
			}
		}
	}
	return p, secrets, cl, nil
}

// applyResult is what apply prints for machines, at its end.
type applyResult struct {
	Changed  bool                   `json:"changed"`
	Applied  *object.Applied        `json:"applied,omitempty"`
	Status   *object.RevisionStatus `json:"status,omitempty"`
	Duration object.Duration        `json:"duration,omitempty"`
	Stacks   []applyResult          `json:"stacks,omitempty"` // of a plan of several
}

// commit applies a plan and follows it.
func (s *session) commit(cl *client.Client, r object.ApplyRequest, detach, asJSON bool) error {
	applied, err := cl.Apply(s.ctx, r)
	if err != nil {
		return err
	}
	if detach {
		if asJSON {
			return s.json(applyResult{Changed: true, Applied: &applied})
		}
		s.committed(applied)
		return nil
	}
	destroy := r.Plan.Cause == "destroy"
	r = object.ApplyRequest{} // it may be large, and is committed
	return s.watched(cl, applied, destroy, asJSON, true)
}

// underWay is the newest revision of the stack if it has not come to its end: who
// applies the same once more, after a job that was killed, wants to know how that
// ends. A mistake in asking is none of apply's. An operation or a restore with nothing
// to do is of no stack, and all revisions are others'.
func (s *session) underWay(cl *client.Client, stack string) *object.Revision {
	if stack == "" {
		return nil
	}
	past, err := s.pastOf(cl, stack)
	if err != nil || past.revisions[0].Status.Phase.Final() {
		return nil
	}
	return past.revisions[0]
}

// watched follows a revision to its end and exits as it ended; changed is for
// machines.
func (s *session) watched(cl *client.Client, applied object.Applied, destroy, asJSON, changed bool) error {
	clientMemory() // it may take hours, and does little
	result, err := s.see(cl, applied, destroy, asJSON)
	if err != nil {
		return err
	}
	if result.Changed = changed; asJSON {
		if err := s.json(result); err != nil {
			return err
		}
	}
	if result.failed() {
		return exitCode(exitFailed)
	}
	return nil
}

// committed says how to follow a revision that nobody waits for.
func (s *session) committed(a object.Applied) {
	fmt.Fprintf(s.stdout, "Committed as revision %d of %s. Follow it with: berth rollout status --stack %s\n", a.Number, a.Stack, a.Stack)
}

// failed reports whether the revision is neither complete nor taken over by another.
func (r applyResult) failed() bool {
	return r.Status.Phase != object.RevisionHealthy && r.Status.Phase != object.RevisionSuperseded
}

// see follows a revision and, unless it is quiet, prints how it ended.
func (s *session) see(cl *client.Client, applied object.Applied, destroy, quiet bool) (applyResult, error) {
	began := time.Now()
	rev, err := s.follow(cl, applied, quiet)
	if err != nil {
		return applyResult{}, err
	}
	took := object.Duration(time.Since(began).Round(time.Second))
	if !quiet {
		err = view.Applied(s.stdout, view.Result{Revision: rev, Outputs: rev.Spec.Outputs, Destroy: destroy}, s.style(s.stdout))
	}
	return applyResult{Changed: true, Applied: &applied, Status: &rev.Status, Duration: took}, err
}

// settled reports whether there is nothing left to wait for.
func settled(p object.RevisionPhase) bool { return p.Final() || p == object.RevisionPaused }

// errSettled ends a watch.
var errSettled = errors.New("settled")

// drawEvery bounds how often progress is drawn, and drawShare how much of the
// time that may take: a revision of ten thousand objects changes more often than
// anybody can look, and the masters may be on this machine.
const (
	drawEvery = 100 * time.Millisecond
	drawShare = 10 // one part in ten
)

// follow shows a revision's progress until it has ended, been put back, or waits
// for a person; it returns how it ended, without the objects that it changed.
// Ctrl-C leaves the revision running on the masters and says so.
func (s *session) follow(cl *client.Client, at object.Applied, quiet bool) (*object.Revision, error) {
	f := follower{out: s.stdout, ref: at.Revision, objects: map[object.Ref]object.Object{}}
	if quiet {
		f.out = io.Discard
	}
	f.progress = view.NewProgress(f.out, s.style(f.out))
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	events := make(chan object.WatchEvent, 256)
	ended := make(chan error, 1)
	kinds := []object.Kind{object.KindRevision, object.KindDeployment, object.KindReplicaSet, object.KindPod}
	go func() {
		ended <- cl.Watch(ctx, client.WatchOptions{Kinds: kinds, Stack: at.Stack, Rows: true}, func(e object.WatchEvent) error {
			select {
			case events <- e:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	tick := time.NewTicker(drawEvery)
	defer tick.Stop()
	var drawn time.Time
	pause := drawEvery
	fresh := false // something has been seen since
	for {
		select {
		case e := <-events:
			f.see(e)
			fresh = true
		case <-tick.C:
		case err := <-ended:
			if s.ctx.Err() != nil {
				fmt.Fprintln(s.stderr)
				if err := view.Detached(s.stderr, at.Stack, at.Number, s.style(s.stderr)); err != nil {
					return nil, err
				}
				return nil, exitCode(exitError)
			}
			return nil, err
		}
		over := f.rev != nil && settled(f.rev.Status.Phase)
		now := time.Now()
		since := now.Sub(drawn)
		if !f.synced || f.rev == nil || !over && since < max(time.Second, pause) && !(fresh && since >= pause) {
			continue
		}
		if err := f.draw(now); err != nil {
			return nil, err
		}
		drawn, fresh = time.Now(), false
		pause = max(drawEvery, drawShare*drawn.Sub(now))
		if over {
			return f.rev, nil
		}
	}
}

// follower is what a watch has told of a stack.
type follower struct {
	out      io.Writer
	progress *view.Progress
	ref      object.Ref
	rev      *object.Revision // nil until it has been seen
	synced   bool
	objects  map[object.Ref]object.Object
}

func (f *follower) see(e object.WatchEvent) {
	switch e.Op {
	case object.WatchReset:
		clear(f.objects)
		f.synced = false
		return
	case object.WatchSynced:
		f.synced = true
		return
	case object.WatchDelete:
		delete(f.objects, e.Ref)
		return
	}
	switch o := e.Object.Object.(type) {
	case nil:
	case *object.Revision:
		if o.Ref() == f.ref {
			f.rev = o
		}
	default:
		f.objects[e.Ref] = o
	}
}

func (f *follower) draw(now time.Time) error {
	r := view.Rollout{Revision: f.rev, Now: now}
	for _, o := range f.objects {
		r.Objects = append(r.Objects, o)
	}
	return f.progress.Update(r)
}

// DestroyCmd is `berth destroy`.
type DestroyCmd struct {
	PlanFlags
	JSONFlag
	AutoApprove bool `help:"Do not ask."`
	Detach      bool `help:"Return as soon as it is committed."`
}

// Run is apply --destroy.
func (c *DestroyCmd) Run(s *session) error {
	return (&ApplyCmd{PlanFlags: c.PlanFlags, JSONFlag: c.JSONFlag, AutoApprove: c.AutoApprove, Detach: c.Detach, Destroy: true}).Run(s)
}

// HistoryCmd is `berth history`.
type HistoryCmd struct {
	JSONFlag
	Stack string `complete:"stack" placeholder:"NAME" help:"The stack; default: that of the configuration here."`
}

// past is a stack and its revisions, the newest first.
type past struct {
	stack     string
	revisions []*object.Revision
	client    *client.Client
}

// past reads the revisions of the stack that a command names; default: that of the
// configuration here.
func (s *session) past(named string) (past, error) {
	stack, err := s.stack(named)
	if err != nil {
		return past{}, err
	}
	cl, err := s.connect()
	if err != nil {
		return past{}, err
	}
	return s.pastOf(cl, stack)
}

func (s *session) pastOf(cl *client.Client, stack string) (past, error) {
	all, err := client.List[*object.Revision](s.ctx, cl, object.KindRevision, client.ListOptions{Stack: stack})
	if err != nil {
		return past{}, err
	}
	if len(all) == 0 {
		return past{}, &object.Error{Code: object.CodeNotFound, Message: "the stack " + stack + " has no revision", Hint: "berth apply makes the first."}
	}
	slices.SortFunc(all, func(a, b *object.Revision) int { return b.Spec.Number - a.Spec.Number })
	return past{stack, all, cl}, nil
}

// Run lists the revisions with how true their plans were.
func (c *HistoryCmd) Run(s *session) error {
	past, err := s.past(c.Stack)
	if err != nil {
		return err
	}
	if c.JSON {
		return s.json(past.revisions)
	}
	return view.History(s.stdout, past.revisions, s.style(s.stdout))
}

// RollbackCmd is `berth rollback`.
type RollbackCmd struct {
	JSONFlag
	Number        int    `arg:"" optional:"" help:"The revision to go back to; default: the last healthy one before the newest."`
	Stack         string `complete:"stack" placeholder:"NAME" help:"The stack; default: that of the configuration here."`
	AutoApprove   bool   `help:"Do not ask."`
	Detach        bool   `help:"Return as soon as it is committed."`
	AllowUnplaced bool   `help:"Go on though some pods fit nowhere yet."`
	GuardFlags
	PinFlag
}

// Run asks the masters for the plan back, shows it and applies it.
func (c *RollbackCmd) Run(s *session) error {
	past, err := s.past(c.Stack)
	if err != nil {
		return err
	}
	number := c.Number
	if number == 0 {
		for _, r := range past.revisions[1:] {
			if r.Status.Phase == object.RevisionHealthy {
				number = r.Spec.Number
				break
			}
		}
		if number == 0 {
			return &object.Error{Code: object.CodeNotFound, Message: "no earlier revision of " + past.stack + " was healthy", Hint: "See: berth history"}
		}
	}
	s.pin = c.PinImages
	p, err := s.planBack(past, number, "rollback", nil, c.GuardFlags)
	if err != nil {
		return err
	}
	if !c.JSON {
		view.Plan(s.stdout, p, s.style(s.stdout))
	}
	if p.Empty() {
		return nil
	}
	if err := object.Broken(p.Broken); err != nil {
		return err
	}
	if err := object.Refuses(p.Freezes, s.flags.OverrideFreeze); err != nil {
		return err
	}
	if !c.AutoApprove {
		if err := s.confirm(fmt.Sprintf("Put the stack %s back to revision %d?", past.stack, number), "Configuration, secrets and services included."); err != nil {
			return err
		}
	}
	return s.commit(past.client, object.ApplyRequest{Plan: *p, AllowUnplaced: c.AllowUnplaced}, c.Detach, c.JSON)
}
