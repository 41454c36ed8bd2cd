package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cmd/internal/view"
)

// commitOperation applies a plan of an operation, follows it to its end and says
// how true the plan was.
func (s *session) commitOperation(cl *client.Client, r object.ApplyRequest, detach, asJSON bool) error {
	began := time.Now()
	applied, err := cl.Apply(s.ctx, r)
	if err != nil {
		return err
	}
	result := applyResult{Changed: true, Applied: &applied}
	if detach {
		if asJSON {
			return s.json(result)
		}
		s.committedOperation(r.Plan.Operation)
		return nil
	}
	end := object.RevisionStatus{Phase: object.RevisionHealthy}
	ctx, cancel := context.WithTimeout(s.ctx, r.Plan.Forecast.Duration.D()+overtime)
	defer cancel()
	for _, on := range r.Plan.Operation.On {
		failed, err := s.arrival(ctx, cl, on, asJSON)
		if s.ctx.Err() != nil {
			if on.Kind != object.KindNode { // a drain has said so, and how to end it
				fmt.Fprintf(s.stderr, "\nInterrupted. What was applied goes on on the masters.\n")
			}
			return exitCode(exitError)
		}
		if err != nil {
			return err
		}
		if failed != nil {
			end.Phase, end.Object, end.Reason, end.Message = object.RevisionFailed, on, failed.Status.Reason, failed.Status.Message
		}
	}
	took := object.Duration(time.Since(began).Round(100 * time.Millisecond))
	truth, err := s.operationTruth(cl, &r.Plan, end, took)
	if err != nil {
		return err
	}
	if result.Status, result.Duration = &truth.Status, took; asJSON {
		err = s.json(result)
	} else {
		err = view.OperationApplied(s.stdout, r.Plan.Operation, truth, s.style(s.stdout))
	}
	if err == nil && end.Phase == object.RevisionFailed {
		err = exitCode(exitFailed)
	}
	return err
}

// overtime is how much longer than planned pods may need to leave their nodes: their
// replacements may fit nowhere. Rollouts have deadlines of their own.
const overtime = 5 * time.Minute

// arrival waits until what an operation is on has come to where the operation leads
// it: a node has nothing left that could go elsewhere, a deployment is rolled out, a
// pod is gone. It answers with a deployment whose rollout has failed.
func (s *session) arrival(ctx context.Context, cl *client.Client, on object.Ref, quiet bool) (failed *object.Deployment, err error) {
	switch on.Kind {
	case object.KindNode:
		return nil, s.awaitDrained(ctx, cl, on.Name, quiet)
	case object.KindDeployment:
		d, err := s.rollout(cl, on, quiet, false)
		if err != nil || d.Status.Phase != object.RolloutFailed {
			return nil, err
		}
		return d, nil
	default:
		_, err := cl.WaitFor(ctx, on, func(o object.Object) (bool, error) {
			p, there := o.(*object.Pod)
			return !there || p.Terminal(), nil
		})
		if ctx.Err() != nil && s.ctx.Err() == nil {
			err = &object.Error{Code: object.CodeTimeout, Ref: on, Message: "is still on its node, though it should have moved " + object.Duration(overtime).String() + " ago",
				Hint: "Its replacement may fit nowhere: berth get pods -A, and berth why POD."}
		}
		return nil, err
	}
}

// operationTruth compares where pods are with where the plan had them, in the form
// in which revisions tell it of theirs: an operation has none.
func (s *session) operationTruth(cl *client.Client, p *object.Plan, end object.RevisionStatus, took object.Duration) (*object.Revision, error) {
	out := &object.Revision{Status: end}
	out.Spec.Time = time.Now().Add(-took.D())
	out.Spec.Duration = p.Forecast.Duration
	out.Spec.Placements = map[string]string{}
	out.Status.Ended = out.Spec.Time.Add(took.D())
	pods, err := client.List[*object.Pod](s.ctx, cl, object.KindPod, client.ListOptions{Rows: true})
	if err != nil {
		return nil, err
	}
	at := make(map[object.Ref]string, len(pods))
	for _, pod := range pods {
		at[pod.Ref()] = pod.Spec.Node
	}
	for _, x := range p.Forecast.Placements {
		name := x.Pod.Namespace + "/" + x.Pod.Name
		out.Spec.Placements[name] = x.Node
		if at[x.Pod] == x.Node {
			out.Status.Kept++
			continue
		}
		d := object.Deviation{Pod: name, Planned: x.Node, Actual: at[x.Pod]}
		if d.Actual == "" {
			d.Why = "it is not there any more"
		}
		out.Status.Deviations = append(out.Status.Deviations, d)
	}
	slices.SortFunc(out.Status.Deviations, func(a, b object.Deviation) int { return cmp.Compare(a.Pod, b.Pod) })
	return out, nil
}

// committedOperation says how to follow an operation that nobody waits for.
func (s *session) committedOperation(o *object.Operation) {
	if o.Name == object.OperationRebalance {
		fmt.Fprintf(s.stdout, "To move: %s. Each is stopped when its replacement elsewhere works. Follow it with: berth get pods -A\n", plural(len(o.On), "pod"))
		return
	}
	for i, ref := range o.On {
		switch o.Name {
		case object.OperationDrain:
			fmt.Fprintf(s.stdout, "%s is being drained. Follow it with: berth node drain %s\n", ref.Name, ref.Name)
		case object.OperationRestart:
			fmt.Fprintf(s.stdout, "%s restarts step by step. Follow it with: berth rollout status -n %s %s\n", ref, ref.Namespace, ref.Name)
		case object.OperationScale:
			fmt.Fprintf(s.stdout, "%s gets %s. Follow it with: berth rollout status -n %s %s\n", ref, plural(o.Replicas[i], "pod"), ref.Namespace, ref.Name)
		}
	}
}
