package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
)

// PlanCmd is `berth plan`: of the configuration, or of an operation.
type PlanCmd struct {
	Stack     PlanStackCmd     `cmd:"" default:"withargs" help:"What the configuration here changes."`
	Drain     PlanDrainCmd     `cmd:"" help:"What draining a node moves, and where to."`
	NodeLoss  PlanNodeLossCmd  `cmd:"" help:"What happens if nodes are lost. It only answers; nothing of it can be applied."`
	Restart   PlanRestartCmd   `cmd:"" help:"What restarting a deployment moves."`
	Scale     PlanScaleCmd     `cmd:"" help:"What other numbers of pods do."`
	Rebalance PlanRebalanceCmd `cmd:"" help:"Which pods to move so that nodes are evenly used."`
	Rollback  PlanRollbackCmd  `cmd:"" help:"What putting the stack back to an earlier revision does."`
	Restore   PlanRestoreCmd   `cmd:"" help:"What putting all stacks back to a snapshot of the cluster does."`
}

// Help says what the flags in it are for, see help.
func (PlanCmd) Help() string {
	return "Without a command it plans what the configuration here changes; the flags are for that. Each command has its own."
}

// PlanDrainCmd is `berth plan drain`.
type PlanDrainCmd struct {
	NodeArg
	GuardFlags
	PlanOutput
	ExplainFlag
}

// Run rehearses what berth node drain does.
func (c *PlanDrainCmd) Run(s *session) error {
	cl, err := s.connect()
	if err != nil {
		return err
	}
	refs, err := s.namedNodes(cl, c.Node)
	if err != nil {
		return err
	}
	s.asked = c.asked()
	return s.planOperation(cl, object.Operation{Name: object.OperationDrain, On: refs}, c.PlanOutput, c.GuardFlags)
}

// PlanNodeLossCmd is `berth plan node-loss`.
type PlanNodeLossCmd struct {
	Nodes string `arg:"" complete:"node" help:"A node, or zone=Z for all nodes of a zone."`
	PlanFormat
	ExplainFlag
	DetailedExitcode bool `help:"Exit with 0: no changes, 1: error, 2: changes."`
}

// Run rehearses what follows when the masters give the nodes up.
func (c *PlanNodeLossCmd) Run(s *session) error {
	cl, err := s.connect()
	if err != nil {
		return err
	}
	refs, err := s.namedNodes(cl, c.Nodes)
	if err != nil {
		return err
	}
	s.asked = c.asked()
	return s.planOperation(cl, object.Operation{Name: object.OperationNodeLoss, On: refs}, PlanOutput{PlanFormat: c.PlanFormat, DetailedExitcode: c.DetailedExitcode}, GuardFlags{})
}

// namedNodes are the node of that name, or with zone=Z those of a zone that are
// not lost already.
func (s *session) namedNodes(cl *client.Client, what string) ([]object.Ref, error) {
	nodes, err := client.List[*object.Node](s.ctx, cl, object.KindNode, client.ListOptions{})
	if err != nil {
		return nil, err
	}
	zone, byZone := strings.CutPrefix(what, "zone=")
	var refs []object.Ref
	var there []string
	for _, n := range nodes {
		if byZone {
			if z := n.Labels["zone"]; z != "" && !slices.Contains(there, z) {
				there = append(there, z)
			}
			if n.Labels["zone"] == zone && n.Status.Condition != object.NodeLost {
				refs = append(refs, n.Ref())
			}
			continue
		}
		there = append(there, n.Name)
		if n.Name == what {
			refs = append(refs, n.Ref())
		}
	}
	if len(refs) > 0 {
		return refs, nil
	}
	slices.Sort(there)
	if byZone {
		if slices.Contains(there, zone) {
			return nil, &object.Error{Code: object.CodeInvalid, Message: fmt.Sprintf("every node of zone %q is lost already", zone)}
		}
		e := &object.Error{Code: object.CodeNotFound, Message: fmt.Sprintf("no node is in zone %q", zone), Hint: "No node has a label zone."}
		if len(there) > 0 {
			e.Hint = among(zone, there)
		}
		return nil, e
	}
	return nil, &object.Error{Code: object.CodeNotFound, Ref: object.Ref{Kind: object.KindNode, Name: what}, Message: "does not exist", Hint: among(what, there)}
}

// among is "Did you mean …?" or what there is.
func among(word string, there []string) string {
	if s := object.DidYouMean(word, there); s != "" {
		return s
	}
	if len(there) > 10 {
		there = append(slices.Clone(there[:10]), "…")
	}
	return "There are: " + strings.Join(there, ", ") + "."
}

// PlanRestartCmd is `berth plan restart`.
type PlanRestartCmd struct {
	WorkloadArg
	GuardFlags
	PinFlag
	PlanOutput
}

// Help says what becomes of pinned images, see help.
func (PlanRestartCmd) Help() string { return restartPins }

const restartPins = "The new pods run what the tags of their images stand for now: they are pinned anew, to what their registries say, or the nodes where no registry knows. " +
	"What nobody can say stays pinned as it is."

// Run rehearses what berth rollout restart does.
func (c *PlanRestartCmd) Run(s *session) error {
	cl, d, err := s.deployment(c.WorkloadArg)
	if err != nil {
		return err
	}
	ref := d.Ref()
	s.pin = c.PinImages
	o := object.Operation{Name: object.OperationRestart, On: []object.Ref{ref}}
	p := &object.Plan{Format: object.PlanFormat, Cause: o.Name, Operation: &o}
	o.Pins, p.Images = s.pinAnew(cl, d)
	return s.planned(cl, p, c.PlanOutput, c.GuardFlags)
}

// PlanScaleCmd is `berth plan scale`.
type PlanScaleCmd struct {
	NamespaceFlags
	ExplainFlag
	Scale []string `arg:"" name:"workload=n" help:"Deployments with their numbers of pods: web=6 api=3."`
	GuardFlags
	PlanOutput
}

// Run rehearses other numbers of replicas.
func (c *PlanScaleCmd) Run(s *session) error {
	cl, err := s.connect()
	if err != nil {
		return err
	}
	o := object.Operation{Name: object.OperationScale}
	for _, x := range c.Scale {
		name, number, _ := strings.Cut(x, "=")
		n, err := strconv.Atoi(number)
		if err != nil || n < 0 {
			return &object.Error{Code: object.CodeInvalid, Message: fmt.Sprintf("%q does not say how many pods", x), Hint: "Write it as NAME=NUMBER: web=6"}
		}
		ref, err := s.knownWorkload(cl, WorkloadArg{NamespaceFlags: c.NamespaceFlags, Workload: name})
		if err != nil {
			return err
		}
		o.On, o.Replicas = append(o.On, ref), append(o.Replicas, n)
	}
	s.asked = c.asked()
	return s.planOperation(cl, o, c.PlanOutput, c.GuardFlags)
}

// knownWorkload is a deployment that exists.
func (s *session) knownWorkload(cl *client.Client, w WorkloadArg) (object.Ref, error) {
	ref, err := s.workload(w)
	if err != nil {
		return ref, err
	}
	_, err = cl.Get(s.ctx, ref)
	return ref, s.withNames(cl, ref, err)
}

// withNames adds to the error that an object does not exist which ones do.
func (s *session) withNames(cl *client.Client, ref object.Ref, err error) error {
	var e *object.Error
	if !object.IsCode(err, object.CodeNotFound) || !errors.As(err, &e) || e.Hint != "" {
		return err
	}
	page, listErr := cl.List(s.ctx, ref.Kind, client.ListOptions{Namespace: ref.Namespace})
	if listErr != nil {
		return err // the first error matters
	}
	there := make([]string, 0, len(page.Items))
	for _, o := range page.Items {
		there = append(there, o.Head().Name)
	}
	if e.Hint = among(ref.Name, there); len(there) == 0 {
		e.Hint = "There is no " + string(ref.Kind) + "."
		if ref.Namespace != "" {
			e.Hint = "There is no " + string(ref.Kind) + " in namespace " + ref.Namespace + "."
		}
	}
	return e
}

// PlanRollbackCmd is `berth plan rollback`.
type PlanRollbackCmd struct {
	Number int    `arg:"" help:"The revision to go back to."`
	Stack  string `complete:"stack" placeholder:"NAME" help:"The stack; default: that of the configuration here."`
	GuardFlags
	PinFlag
	PlanOutput
	ExplainFlag
}

// Run plans what berth rollback commits.
func (c *PlanRollbackCmd) Run(s *session) error {
	past, err := s.past(c.Stack)
	if err != nil {
		return err
	}
	s.lifetime, s.pin, s.asked = c.Expire, c.PinImages, c.asked()
	p, err := s.planBack(past, c.Number, "rollback", nil, c.GuardFlags)
	if err != nil {
		return err
	}
	return s.deliver(p, c.PlanOutput, nil)
}

func (s *session) planOperation(cl *client.Client, o object.Operation, f PlanOutput, g GuardFlags) error {
	return s.planned(cl, &object.Plan{Format: object.PlanFormat, Cause: o.Name, Operation: &o}, f, g)
}

// planned has the masters rehearse and seal the plan of an operation, and delivers it.
func (s *session) planned(cl *client.Client, p *object.Plan, f PlanOutput, g GuardFlags) error {
	s.lifetime = f.Expire
	p, err := s.sealed(cl, p, g)
	if err != nil {
		return err
	}
	s.diagnose(p.Warnings)
	return s.deliver(p, f, nil)
}
