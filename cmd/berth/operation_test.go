package main

import (
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/clustertest"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
	"github.com/berthdev/berth/planner"
)

// A drain does what its plan says: every pod comes to the node that was named,
// and those that were to leave have left.
func TestPlannedDrainIsWhatHappens(t *testing.T) {
	c := clustertest.Start(t, clustertest.Options{Masters: 1, Nodes: 4, Zones: 2, Check: planner.Check, Plan: forecast})
	k, ctx := c.Client(), t.Context()
	web := &object.Deployment{Meta: object.Meta{Kind: object.KindDeployment, Namespace: "default", Name: "web"}}
	object.SetDefaults(&web.Spec)
	main := object.Container{Name: "web", Image: "app:1"}
	object.SetDefaults(&main)
	web.Spec.Replicas = 9
	web.Spec.Pod.Labels, web.Spec.Pod.Containers = map[string]string{"app": "web"}, []object.Container{main}
	if _, err := c.Apply(ctx, k, "shop", web); err != nil {
		t.Fatal(err)
	}
	settled := func() bool {
		ready := 0
		for p := range state.All[*object.Pod](c.Snapshot(), object.KindPod) {
			if p.Spec.Stop {
				return false
			}
			if p.Status.Ready {
				ready++
			}
		}
		return ready == 9
	}
	c.Eventually("nine pods are ready", settled)
	c.Eventually("the revision is healthy", func() bool {
		r, ok := state.Find[*object.Revision](c.Snapshot(), object.Ref{Kind: object.KindRevision, Name: object.RevisionName("shop", 1)})
		return ok && r.Status.Phase == object.RevisionHealthy
	})
	drain := &object.Plan{Format: object.PlanFormat, Cause: object.OperationDrain,
		Operation: &object.Operation{Name: object.OperationDrain, On: []object.Ref{{Kind: object.KindNode, Name: "n2"}}}}
	p, err := k.Plan(ctx, drain)
	if err != nil {
		t.Fatal(err)
	}
	f := p.Forecast
	if f.Outcome != planner.OutcomeHealthy || f.Start == 0 || f.Start != f.Stop || len(f.Unplaced) != 0 {
		t.Fatalf("%+v", f)
	}
	v, now := c.Snapshot(), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	again := func() string {
		b, err := object.EncodePlan(&object.Plan{Forecast: planner.Forecast(v.Fork(), drain, now, planner.DefaultNodes, nil)}, object.InOrder)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if again() != again() {
		t.Error("two rehearsals of one drain differ")
	}
	if _, err := k.Apply(ctx, object.ApplyRequest{Plan: *p}); err != nil {
		t.Fatal(err)
	}
	c.Eventually("n2 is empty", func() bool {
		for pod := range c.Snapshot().PodsOn("n2") {
			if !pod.Terminal() {
				return false
			}
		}
		return settled()
	})
	for _, x := range f.Placements {
		pod, ok := state.Find[*object.Pod](c.Snapshot(), x.Pod)
		if !ok || pod.Spec.Node != x.Node {
			t.Errorf("%s was to go to %s: %v", x.Pod, x.Node, pod)
		}
	}
	// An old plan, and a question, are refused.
	if _, err := k.Apply(ctx, object.ApplyRequest{Plan: *p}); !object.IsCode(err, object.CodeStale) {
		t.Errorf("the same plan again: %v", err)
	}
	loss, err := k.Plan(ctx, &object.Plan{Format: object.PlanFormat, Cause: object.OperationNodeLoss,
		Operation: &object.Operation{Name: object.OperationNodeLoss, On: []object.Ref{{Kind: object.KindNode, Name: "n1"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if low := loss.Forecast.Lowest; len(low) != 1 || low[0].Ready >= low[0].Want {
		t.Errorf("the loss of a node with pods: %+v", low)
	}
	if _, err := k.Apply(ctx, object.ApplyRequest{Plan: *loss}); !object.IsCode(err, object.CodeInvalid) {
		t.Errorf("a loss was applied: %v", err)
	}
}
