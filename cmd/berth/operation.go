package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cmd/internal/view"
)

// PlanCmd is `berth plan`: of the configuration, or of an operation.
type PlanCmd struct {
	Stack    PlanStackCmd    `cmd:"" default:"withargs" help:"What the configuration here changes."`
	Drain    PlanDrainCmd    `cmd:"" help:"What draining a node moves, and where to."`
	NodeLoss PlanNodeLossCmd `cmd:"" help:"What happens if nodes are lost. It only answers; nothing of it can be applied."`
	Restart  PlanRestartCmd  `cmd:"" help:"What restarting a deployment moves."`
	Scale    PlanScaleCmd    `cmd:"" help:"What other numbers of pods do."`
	Rollback PlanRollbackCmd `cmd:"" help:"What putting the stack back to an earlier revision does."`
}

// Help tells where the flags of the command without an operation are.
func (PlanCmd) Help() string {
	return "Without a command it is berth plan stack, and takes its flags: --out, --json, --destroy, --detailed-exitcode, --target, --var and others. See: berth plan stack --help"
}

// OperationFlags are common to the plans of operations that can be applied.
type OperationFlags struct {
	JSONFlag
	Out              string `placeholder:"FILE" type:"path" help:"Save the plan; berth apply FILE does exactly that."`
	DetailedExitcode bool   `help:"Exit with 0: no changes, 1: error, 2: changes."`
}

// PlanDrainCmd is `berth plan drain`.
type PlanDrainCmd struct {
	NodeArg
	OperationFlags
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
	return s.planOperation(cl, object.Operation{Name: object.OperationDrain, On: refs}, c.OperationFlags)
}

// PlanNodeLossCmd is `berth plan node-loss`.
type PlanNodeLossCmd struct {
	Nodes string `arg:"" complete:"node" help:"A node, or zone=Z for all nodes of a zone."`
	JSONFlag
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
	return s.planOperation(cl, object.Operation{Name: object.OperationNodeLoss, On: refs}, OperationFlags{JSONFlag: c.JSONFlag, DetailedExitcode: c.DetailedExitcode})
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
	OperationFlags
}

// Run rehearses what berth rollout restart does.
func (c *PlanRestartCmd) Run(s *session) error {
	cl, err := s.connect()
	if err != nil {
		return err
	}
	ref, err := s.knownWorkload(cl, c.WorkloadArg)
	if err != nil {
		return err
	}
	return s.planOperation(cl, object.Operation{Name: object.OperationRestart, On: []object.Ref{ref}}, c.OperationFlags)
}

// PlanScaleCmd is `berth plan scale`.
type PlanScaleCmd struct {
	NamespaceFlags
	Scale []string `arg:"" name:"workload=n" help:"Deployments with their numbers of pods: web=6 api=3."`
	OperationFlags
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
	return s.planOperation(cl, o, c.OperationFlags)
}

// knownWorkload is a deployment that exists.
func (s *session) knownWorkload(cl *client.Client, w WorkloadArg) (object.Ref, error) {
	ref, err := s.workload(w)
	if err != nil {
		return ref, err
	}
	all, err := client.List[*object.Deployment](s.ctx, cl, object.KindDeployment, client.ListOptions{Namespace: ref.Namespace})
	if err != nil {
		return ref, err
	}
	var there []string
	for _, d := range all {
		if d.Ref() == ref {
			return ref, nil
		}
		there = append(there, d.Name)
	}
	e := &object.Error{Code: object.CodeNotFound, Ref: ref, Message: "does not exist", Hint: "The namespace " + ref.Namespace + " has no deployments."}
	if len(there) > 0 {
		e.Hint = among(ref.Name, there)
	}
	return ref, e
}

// PlanRollbackCmd is `berth plan rollback`.
type PlanRollbackCmd struct {
	Number int    `arg:"" help:"The revision to go back to."`
	Stack  string `complete:"stack" placeholder:"NAME" help:"The stack; default: that of the configuration here."`
	OperationFlags
}

// Run plans what berth rollback commits.
func (c *PlanRollbackCmd) Run(s *session) error {
	stack, err := s.stack(c.Stack)
	if err != nil {
		return err
	}
	cl, err := s.connect()
	if err != nil {
		return err
	}
	all, err := s.revisions(cl, stack)
	if err != nil {
		return err
	}
	p, err := s.planBack(cl, stack, all, c.Number, "rollback", nil)
	if err != nil {
		return err
	}
	return s.showOperation(p, c.OperationFlags)
}

func (s *session) planOperation(cl *client.Client, o object.Operation, f OperationFlags) error {
	p, err := cl.Plan(s.ctx, &object.Plan{Format: object.PlanFormat, Cause: o.Name, Operation: &o})
	if err != nil {
		return err
	}
	return s.showOperation(p, f)
}

// showOperation prints a sealed plan, saves it where asked to, and exits as plan does.
func (s *session) showOperation(p *object.Plan, f OperationFlags) error {
	if f.Out != "" {
		if err := writePlan(f.Out, p); err != nil {
			return err
		}
	}
	if f.JSON {
		if err := view.PlanJSON(s.stdout, p); err != nil {
			return err
		}
	} else {
		if err := view.Plan(s.stdout, p, s.style(s.stdout)); err != nil {
			return err
		}
		if f.Out != "" && !p.Empty() {
			s.saved(f.Out)
		}
	}
	switch {
	case len(p.Forecast.Unplaced) > 0:
		return exitCode(exitUnplaceable)
	case f.DetailedExitcode && !p.Empty():
		return exitCode(exitChanges)
	}
	return nil
}

func (s *session) saved(file string) {
	fmt.Fprintf(s.stdout, "\nSaved the plan to: %s\n\nTo perform exactly these actions, run:\n    berth apply %q\n", file, file)
}

// commitOperation applies a plan of an operation and says how to follow it.
func (s *session) commitOperation(cl *client.Client, r object.ApplyRequest, asJSON bool) error {
	applied, err := cl.Apply(s.ctx, r)
	if err != nil {
		return err
	}
	if asJSON {
		return s.json(applyResult{Changed: true, Applied: &applied})
	}
	o := r.Plan.Operation
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
	return nil
}
