package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cmd/internal/view"
	"github.com/berthdev/berth/planner"
)

// RolloutCmd groups what steers a rollout.
type RolloutCmd struct {
	Status  RolloutStatusCmd  `cmd:"" help:"Follow a rollout to its end."`
	Pause   RolloutPauseCmd   `cmd:"" help:"Take no further step."`
	Resume  RolloutResumeCmd  `cmd:"" help:"Go on."`
	Promote RolloutPromoteCmd `cmd:"" help:"End the pause of a canary's step, or step over a check."`
	Retry   RolloutRetryCmd   `cmd:"" help:"Try a version again that failed or was given up."`
	Abort   RolloutAbortCmd   `cmd:"" help:"Give the new version up and go back to the one before."`
	Undo    RolloutUndoCmd    `cmd:"" help:"Go back to the version before."`
	Restart RolloutRestartCmd `cmd:"" help:"Replace all pods, step by step."`
	History RolloutHistoryCmd `cmd:"" help:"List the versions kept."`
}

// WorkloadArg names a deployment: web, deployment/web, deployment.web.
type WorkloadArg struct {
	NamespaceFlags
	Workload string `arg:"" complete:"deployment" help:"The deployment: web or deployment/web."`
}

func (s *session) workload(w WorkloadArg) (object.Ref, error) {
	r, err := s.reference(w.Workload, w.NamespaceFlags, object.KindDeployment)
	if err == nil && r.Kind != object.KindDeployment {
		err = &object.Error{Code: object.CodeInvalid, Message: fmt.Sprintf("a %s has no rollout", r.Kind), Hint: "Only deployments roll."}
	}
	return r, err
}

// RolloutStatusCmd is `berth rollout status`.
type RolloutStatusCmd struct {
	JSONFlag
	NamespaceFlags
	Workload string `arg:"" optional:"" complete:"deployment" help:"A deployment; default: the stack's newest revision."`
	Stack    string `complete:"stack" placeholder:"NAME" help:"The stack; default: that of the configuration here."`
	NoWait   bool   `help:"Show how far it is and return."`
}

// Run follows the newest revision of a stack, or one deployment.
func (c *RolloutStatusCmd) Run(s *session) error {
	cl, err := s.connect()
	if err != nil {
		return err
	}
	if c.Workload == "" {
		stack, err := s.stack(c.Stack)
		if err != nil {
			return err
		}
		past, err := s.pastOf(cl, stack)
		if err != nil {
			return err
		}
		rev := past.revisions[0]
		if !c.NoWait && !settled(rev.Status.Phase) {
			if rev, err = s.follow(cl, object.Applied{Stack: stack, Number: rev.Spec.Number, Revision: rev.Ref()}, c.JSON); err != nil {
				return err
			}
		}
		if c.JSON {
			return s.json(rev)
		}
		if err := view.History(s.stdout, []*object.Revision{rev}, s.style(s.stdout)); err != nil {
			return err
		}
		if p := rev.Status.Phase; settled(p) && p != object.RevisionHealthy && p != object.RevisionSuperseded {
			return exitCode(exitFailed)
		}
		return nil
	}
	ref, err := s.workload(WorkloadArg{c.NamespaceFlags, c.Workload})
	if err != nil {
		return err
	}
	d, err := s.rollout(cl, ref, c.JSON, c.NoWait)
	if err != nil {
		return err
	}
	if c.JSON {
		return s.json(d)
	}
	if d.Status.Phase == object.RolloutFailed {
		return exitCode(exitFailed)
	}
	return nil
}

// rollout shows how far a deployment is, each time that it gets further, until it
// is where it is to be or cannot go on; with once it returns after the first look.
func (s *session) rollout(cl *client.Client, ref object.Ref, quiet, once bool) (*object.Deployment, error) {
	seen := object.DeploymentStatus{}
	o, err := cl.WaitFor(s.ctx, ref, func(o object.Object) (bool, error) {
		d, ok := o.(*object.Deployment)
		if !ok {
			return false, object.Errorf(object.CodeNotFound, ref, "does not exist")
		}
		if !reflect.DeepEqual(d.Status, seen) && !quiet {
			seen = d.Status
			if err := view.RolloutStatus(s.stdout, []*object.Deployment{d}, time.Now(), s.style(s.stdout)); err != nil {
				return false, err
			}
		}
		ended := d.Status.Observed == d.Version && d.Status.Phase != object.RolloutProgressing
		return ended || once, nil
	})
	if err != nil {
		return nil, err
	}
	return o.(*object.Deployment), nil
}

// RolloutPauseCmd is `berth rollout pause`.
type RolloutPauseCmd struct{ WorkloadArg }

// Run sets the operational field that stops the rollout.
func (c *RolloutPauseCmd) Run(s *session) error {
	return s.operate(c.WorkloadArg, "paused", func(d *object.Deployment) error { d.Spec.Paused = true; return nil })
}

// RolloutResumeCmd is `berth rollout resume`.
type RolloutResumeCmd struct{ WorkloadArg }

// Run takes the pause away, or the promise that holds the rollout.
func (c *RolloutResumeCmd) Run(s *session) error {
	return s.operate(c.WorkloadArg, "goes on", func(d *object.Deployment) error {
		d.Spec.Paused = false
		if d.Status.Reason == object.ReasonInconclusive {
			return d.Retry() // its checks begin anew
		}
		if d.Status.HeldBy != "" {
			d.Spec.Released = d.Status.HeldBy
		}
		return nil
	})
}

// deployment connects and finds the deployment that a person means; of one that is
// not there it says which names are near.
func (s *session) deployment(a WorkloadArg) (*client.Client, *object.Deployment, error) {
	ref, err := s.workload(a)
	if err != nil {
		return nil, nil, err
	}
	cl, err := s.connect()
	if err != nil {
		return nil, nil, err
	}
	d, err := client.Get[*object.Deployment](s.ctx, cl, ref)
	if err != nil {
		return nil, nil, s.withNames(cl, ref, err)
	}
	return cl, d, nil
}

// RolloutRestartCmd is `berth rollout restart`.
type RolloutRestartCmd struct {
	WorkloadArg
	PinFlag
}

// Help says what becomes of pinned images, see help.
func (RolloutRestartCmd) Help() string { return restartPins }

// Run makes a new version of the same template, with its images pinned anew.
func (c *RolloutRestartCmd) Run(s *session) error {
	cl, d, err := s.deployment(c.WorkloadArg)
	if err != nil {
		return err
	}
	s.pin = c.PinImages
	pins, images := s.pinAnew(cl, d)
	if err := s.operate(c.WorkloadArg, "restarts step by step; follow it with: berth rollout status "+c.Workload, func(d *object.Deployment) error {
		d.Restart(time.Now())
		d.Repin(pins)
		return nil
	}); err != nil {
		return err
	}
	return view.PinnedAnew(s.stdout, images, s.style(s.stdout))
}

// RolloutPromoteCmd is `berth rollout promote`.
type RolloutPromoteCmd struct{ WorkloadArg }

// Run ends the pause that the canary is at, and no later one; a check that has not
// passed is stepped over.
func (c *RolloutPromoteCmd) Run(s *session) error {
	return s.operate(c.WorkloadArg, "goes on to the next step", func(d *object.Deployment) error {
		if x := d.Status.Canary; x.Stalled() {
			d.Spec.Promoted = x.Token()
			return nil
		}
		return &object.Error{Code: object.CodeInvalid, Ref: d.Ref(), Message: "waits for nobody", Hint: "See how far it is with: berth rollout status --no-wait " + d.Named()}
	})
}

// RolloutAbortCmd is `berth rollout abort`.
type RolloutAbortCmd struct{ WorkloadArg }

// Run gives the version up that is being rolled out.
func (c *RolloutAbortCmd) Run(s *session) error {
	return s.operate(c.WorkloadArg, "goes back to the version before", func(d *object.Deployment) error {
		st := d.Status
		if st.Phase == object.RolloutStable || st.Proven == "" || st.Set == st.Proven {
			return &object.Error{Code: object.CodeInvalid, Ref: d.Ref(), Message: "has no new version under way", Hint: "Go back from a complete rollout with: berth rollout undo " + d.Named()}
		}
		d.Spec.Aborted, d.Spec.Paused = st.Set, false
		return nil
	})
}

// RolloutRetryCmd is `berth rollout retry`.
type RolloutRetryCmd struct{ WorkloadArg }

// Run clears the failure; a paused revision goes on by that.
func (c *RolloutRetryCmd) Run(s *session) error {
	ref, err := s.workload(c.WorkloadArg)
	if err != nil {
		return err
	}
	d := object.Deployment{Meta: object.Meta{Namespace: ref.Namespace, Name: ref.Name}}
	return s.operate(c.WorkloadArg, "is tried again; follow it with: berth rollout status "+d.Named(), (*object.Deployment).Retry)
}

// operate changes a deployment's operational fields.
func (s *session) operate(w WorkloadArg, done string, change func(*object.Deployment) error) error {
	ref, err := s.workload(w)
	if err != nil {
		return err
	}
	cl, err := s.connect()
	if err != nil {
		return err
	}
	if _, err := client.Update(s.ctx, cl, ref, change); err != nil {
		return s.withNames(cl, ref, err)
	}
	fmt.Fprintf(s.stdout, "%s %s\n", ref, done)
	return nil
}

// RolloutUndoCmd is `berth rollout undo`.
type RolloutUndoCmd struct {
	WorkloadArg
	JSONFlag
	To     int  `placeholder:"N" help:"Revision of the stack whose version to go back to; default: the one before."`
	Detach bool `help:"Return as soon as it is committed."`
}

// Run commits a revision that puts one deployment back to what it was.
func (c *RolloutUndoCmd) Run(s *session) error {
	cl, d, err := s.deployment(c.WorkloadArg)
	if err != nil {
		return err
	}
	ref := d.Ref()
	if d.Stack == "" {
		return &object.Error{Code: object.CodeInvalid, Ref: ref, Message: "belongs to no stack, so no former version is recorded", Hint: "Write its former specification with the API."}
	}
	past, err := s.pastOf(cl, d.Stack)
	if err != nil {
		return err
	}
	number := c.To
	if number == 0 {
		if number = versionBefore(past.revisions, ref); number == 0 {
			return object.Errorf(object.CodeNotFound, ref, "has no version before this one")
		}
	}
	p, err := s.planBack(past, number, "undo", []object.Ref{ref}, GuardFlags{})
	if err != nil {
		return err
	}
	if p.Empty() {
		fmt.Fprintf(s.stdout, "%s is as it was in revision %d already.\n", ref, number)
		return nil
	}
	if !c.JSON {
		view.Plan(s.stdout, p, s.style(s.stdout))
	}
	return s.commit(cl, object.ApplyRequest{Plan: *p}, c.Detach, c.JSON)
}

// versionBefore is the newest revision before the one that gave the object its
// present specification. Revisions that failed and were put back do not count.
func versionBefore(newestFirst []*object.Revision, ref object.Ref) int {
	seen := false
	for _, r := range newestFirst {
		if r.Status.Phase != object.RevisionHealthy && seen {
			continue
		}
		touches := slices.ContainsFunc(r.Spec.Changes, func(c object.RevisionChange) bool { return c.Ref == ref })
		switch {
		case seen:
			return r.Spec.Number
		case touches && r.Spec.Cause != "revert" && r.Status.Phase != object.RevisionReverted:
			seen = true
		}
	}
	return 0
}

// RolloutHistoryCmd is `berth rollout history`.
type RolloutHistoryCmd struct {
	WorkloadArg
	JSONFlag
}

// Run lists the replica sets of a deployment, one a version.
func (c *RolloutHistoryCmd) Run(s *session) error {
	cl, d, err := s.deployment(c.WorkloadArg)
	if err != nil {
		return err
	}
	ref := d.Ref()
	sets, err := client.List[*object.ReplicaSet](s.ctx, cl, object.KindReplicaSet, client.ListOptions{Namespace: ref.Namespace})
	if err != nil {
		return err
	}
	sets = slices.DeleteFunc(sets, func(r *object.ReplicaSet) bool { return r.Owner != ref })
	slices.SortFunc(sets, func(a, b *object.ReplicaSet) int {
		if a.Created != b.Created {
			return int(b.Created) - int(a.Created)
		}
		return strings.Compare(a.Name, b.Name)
	})
	if c.JSON {
		return s.json(sets)
	}
	list := make([]object.Object, len(sets))
	for i, set := range sets {
		list[i] = set
	}
	fmt.Fprintf(s.stdout, "%s runs %s.\n\n", ref, d.Status.Set)
	return view.Table(s.stdout, object.KindReplicaSet, list, false, time.Now(), s.tableStyle(true))
}

// planBack plans a stack, or only some of its objects, as they were when a
// revision had become healthy: of each object that was touched since, what it
// was before the first such change.
func (s *session) planBack(of past, number int, cause string, only []object.Ref, g GuardFlags) (*object.Plan, error) {
	target, err := of.index(number)
	if err != nil {
		return nil, err
	}
	if phase := of.revisions[target].Status.Phase; phase != object.RevisionHealthy {
		return nil, &object.Error{Code: object.CodeInvalid, Message: fmt.Sprintf("revision %d of %s is %s", number, of.stack, phase),
			Hint: "Choose one that became healthy; see: berth history"}
	}
	r := planner.Request{Version: version, Stack: of.stack, Cause: cause, Target: number, Outputs: of.revisions[target].Spec.Outputs, Source: of.revisions[target].Spec.Source}
	for _, ref := range only {
		r.Targets = append(r.Targets, ref.String())
	}
	v, err := fetch(s.ctx, of.client, r, nil)
	if err != nil {
		return nil, err
	}
	r.Moves = movesBack(of.revisions[:target], only)
	now := planner.Declared(v, of.stack)
	want := planner.AsOf(now, of.revisions[:target])
	planner.PinnedAsOf(want, of.revisions[target:])
	if len(only) > 0 {
		then := want
		want = now
		for _, ref := range only {
			if want[ref] = then[ref]; want[ref] == nil {
				delete(want, ref)
			}
		}
	}
	refs := make([]object.Ref, 0, len(want))
	for ref := range want {
		refs = append(refs, ref)
	}
	slices.SortFunc(refs, object.Ref.Compare)
	for _, ref := range refs {
		r.Objects = append(r.Objects, planner.Desired{Object: want[ref], DependsOn: want[ref].Head().After})
	}
	// What the stack has let go of since is there, and has to be seen to be taken back.
	if slices.ContainsFunc(refs, func(ref object.Ref) bool { _, seen := v.Get(ref); return !seen }) {
		if v, err = fetch(s.ctx, of.client, r, nil); err != nil {
			return nil, err
		}
	}
	p, diags := planner.Diff(v, r)
	if s.diagnose(diags) {
		return nil, exitCode(exitError)
	}
	sealed, err := s.sealed(of.client, &p, g)
	if err == nil {
		s.diagnose(sealed.Warnings[len(p.Warnings):])
	}
	return sealed, err
}
