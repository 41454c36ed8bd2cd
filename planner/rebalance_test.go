package planner

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/controller"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/scheduler"
	"github.com/berthdev/berth/cluster/state"
)

// rebalance plans one as the masters do.
func (c *cluster) rebalance(most int) *object.Plan {
	v := c.store.Snapshot()
	p := &object.Plan{Format: object.PlanFormat, Cause: object.OperationRebalance, Operation: &object.Operation{Name: object.OperationRebalance, Most: most}}
	assigned, diags := Check(v, p)
	if diags.HasErrors() {
		c.t.Fatal(diags)
	}
	for _, a := range assigned {
		p.Operation.On = append(p.Operation.On, a.Ref)
	}
	p.Forecast = Forecast(v.Fork(), p, c.now, NodeModel{}, object.InOrder)
	return p
}

// carryOutOperation writes an operation and runs the control plane until nothing
// more happens; saw is shown every state.
func (c *cluster) carryOutOperation(o *object.Operation, saw func(*state.Snapshot)) {
	c.t.Helper()
	q, s := controller.NewQueue(controller.All()), scheduler.New(scheduler.SpreadPolicy())
	f := &fate{startup: func() time.Duration { return 700 * time.Millisecond }, lives: map[object.Ref]*podLife{}, dead: map[string]bool{}}
	began := c.now
	q.Seed(c.store.Snapshot())
	write := func(x object.Changeset) {
		x.Time = c.now
		events, err := c.store.Apply(c.store.Snapshot().Index()+1, x)
		if err != nil {
			return
		}
		q.Observe(c.store.Snapshot(), events)
		saw(c.store.Snapshot())
	}
	x, err := o.Changeset(c.store.Snapshot().Get, c.now)
	if err != nil {
		c.t.Fatal(err)
	}
	x.Author = "test"
	write(x)
	for range 100_000 {
		if ctl, key, ok := q.Next(c.now); ok {
			res, err := ctl.Reconcile(c.store.Snapshot(), key, c.now)
			if err != nil {
				c.t.Fatal(err)
			}
			if !res.Changes.Empty() {
				res.Changes.Author = "controller/" + ctl.Name()
				write(res.Changes)
			}
			q.WakeAt(ctl, key, res.Wake)
			continue
		}
		if res := s.Place(c.store.Snapshot(), c.now, 0); !res.Changes.Empty() {
			write(res.Changes)
			continue
		}
		report, next := f.report(c.store.Snapshot(), c.now)
		if !report.Empty() {
			write(report)
			continue
		}
		if wake, ok := q.NextWake(); ok {
			next = earliest(next, wake)
		}
		if next.IsZero() || next.Sub(began) > time.Hour {
			return
		}
		c.now = latest(next, c.now)
	}
	c.t.Fatal("the operation does not end")
}

func sized(d *object.Deployment, cpu object.CPU, memory object.Bytes) *object.Deployment {
	d.Spec.Pod.Containers[0].Resources = object.Resources{CPU: cpu, Memory: memory}
	return d
}

func spreadOfUse(use []object.NodeUse, of func(object.NodeUse) object.Use) int {
	low, high := 1<<30, 0
	for _, x := range use {
		low, high = min(low, of(x).CPU), max(high, of(x).CPU)
	}
	return high - low
}

func before(x object.NodeUse) object.Use { return x.Before }
func after(x object.NodeUse) object.Use  { return x.After }

// A node that has joined takes its part, no workload falls below what it wants
// meanwhile, and what happens is what the plan says.
func TestRebalanceFillsANewNode(t *testing.T) {
	c := newCluster(t, 2)
	if rev := c.apply(c.plan(request(sized(deployment("web", "web:1", 6), 500, 1<<30), sized(deployment("api", "api:1", 4), 500, 1<<30))), 0); rev.Status.Phase != object.RevisionHealthy {
		t.Fatalf("%+v", rev.Status)
	}
	add(t, c.store, "", node("node-3"))
	p := c.rebalance(100)
	f := p.Forecast
	if n := len(p.Operation.On); n < 2 || n > 4 || f.Start != n || f.Stop != n || f.Outcome != OutcomeHealthy || len(f.Unplaced) > 0 {
		t.Fatalf("moves %v: %d start, %d stop, %s %s", p.Operation.On, f.Start, f.Stop, f.Outcome, f.Reason)
	}
	for _, a := range f.Lowest {
		if a.Ready < a.Want {
			t.Errorf("%s falls to %d of %d", a.Workload, a.Ready, a.Want)
		}
	}
	if was, is := spreadOfUse(f.Use, before), spreadOfUse(f.Use, after); was < 60 || is > 15 {
		t.Errorf("cpu is %d points apart before and %d after: %+v", was, is, f.Use)
	}
	if again := c.rebalance(100); !reflect.DeepEqual(again, p) {
		t.Error("two plans of one state differ")
	}
	if one := c.rebalance(1); len(one.Operation.On) != 1 || one.Operation.On[0] != p.Operation.On[0] {
		t.Errorf("at most one: %v", one.Operation.On)
	}
	c.carryOutOperation(p.Operation, func(v *state.Snapshot) {
		ready := map[string]int{}
		for pod := range state.All[*object.Pod](v, object.KindPod) {
			if counts(pod) {
				ready[pod.Labels["app"]]++
			}
		}
		if ready["web"] < 6 || ready["api"] < 4 {
			t.Fatalf("ready: %v", ready)
		}
	})
	v := c.store.Snapshot()
	for _, x := range f.Placements {
		if pod, ok := state.Find[*object.Pod](v, x.Pod); !ok || pod.Spec.Node != x.Node {
			t.Errorf("%s was to go to %s", x.Pod, x.Node)
		}
	}
	for _, x := range f.Use {
		if n, _ := state.Find[*object.Node](v, object.Ref{Kind: object.KindNode, Name: x.Node}); useOf(v, n) != x.After {
			t.Errorf("%s is used as %+v, the plan said %+v", x.Node, useOf(v, n), x.After)
		}
	}
	if idle := c.rebalance(100); len(idle.Operation.On) != 0 || !idle.Empty() || idle.Forecast.Outcome != OutcomeHealthy || len(idle.Forecast.Steps) != 0 {
		t.Errorf("afterwards there is still something to move: %v", idle.Operation.On)
	}
}

// What is busy or has no set stays where it is.
func TestRebalanceLeavesAloneWhatIsBusy(t *testing.T) {
	c := newCluster(t, 1)
	bare := &object.Pod{Meta: object.Meta{Kind: object.KindPod, Namespace: "default", Name: "bare"}, Spec: object.PodSpec{Pod: &object.PodTemplate{Containers: []object.Container{{Name: "a", Image: "a:1", Resources: object.Resources{CPU: 1000}}}}}}
	c.apply(c.plan(request(sized(deployment("web", "web:1", 2), 1000, 0), bare)), 0)
	add(t, c.store, "", node("node-2"))
	if on := c.rebalance(5).Operation.On; len(on) != 1 || on[0].Name == "bare" {
		t.Fatalf("moves %v", on)
	}
	d, _ := state.Find[*object.Deployment](c.store.Snapshot(), object.Ref{Kind: object.KindDeployment, Namespace: "default", Name: "web"})
	rolling := d.Clone().(*object.Deployment)
	rolling.Status.Phase = object.RolloutProgressing
	x := object.Changeset{Author: "test", Time: c.now}
	x.UpdateStatus(d, rolling)
	if _, err := c.store.Apply(c.store.Snapshot().Index()+1, x); err != nil {
		t.Fatal(err)
	}
	if on := c.rebalance(5).Operation.On; len(on) != 0 {
		t.Errorf("moves %v of a rollout under way", on)
	}
	o := object.Operation{Name: object.OperationRebalance, On: []object.Ref{{Kind: object.KindPod, Namespace: "default", Name: "bare"}}}
	if _, err := o.Changeset(c.store.Snapshot().Get, c.now); object.CodeOf(err) != object.CodeInvalid {
		t.Errorf("a bare pod was moved: %v", err)
	}
}

// In random clusters no rebalance moves more than it may, or a ready pod before its
// replacement is ready, and the use is not less even after it.
func TestRebalanceNeverMakesItWorse(t *testing.T) {
	moved := 0
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 7))
		c := newCluster(t, 2+r.IntN(3))
		var list []object.Object
		for i := range 1 + r.IntN(4) {
			list = append(list, sized(deployment(fmt.Sprintf("d%d", i), "a:1", 1+r.IntN(5)), object.CPU(100*r.IntN(5)), object.Bytes(r.IntN(4))<<28))
		}
		if rev := c.apply(c.plan(request(list...)), 0); rev.Status.Phase != object.RevisionHealthy {
			t.Fatalf("seed %d: %+v", seed, rev.Status)
		}
		for i := range r.IntN(3) {
			add(t, c.store, "", node(fmt.Sprintf("new-%d", i)))
		}
		most := 1 + r.IntN(6)
		p := c.rebalance(most)
		f := p.Forecast
		if len(p.Operation.On) > most || f.Start != len(p.Operation.On) || f.Stop != f.Start || f.Outcome != OutcomeHealthy {
			t.Errorf("seed %d: at most %d, moves %v: %d start, %d stop, %s %s", seed, most, p.Operation.On, f.Start, f.Stop, f.Outcome, f.Reason)
		}
		for _, a := range f.Lowest {
			if a.Ready < a.Want {
				t.Errorf("seed %d: %s falls to %d of %d", seed, a.Workload, a.Ready, a.Want)
			}
		}
		cost := func(of func(object.NodeUse) object.Use) (sum int) {
			for _, x := range f.Use {
				u := of(x)
				pods := u.Pods * 100 * 100 / 110 // rounded less than to percents
				sum += u.CPU*u.CPU*10000 + u.Memory*u.Memory*10000 + pods*pods
			}
			return sum / 10000
		}
		if was, is := cost(before), cost(after); is > was+was/50+1 { // percents are rounded up
			t.Errorf("seed %d: less even: %d, was %d: %+v", seed, is, was, f.Use)
		}
		moved += f.Start
	}
	if moved < 60 {
		t.Errorf("only %d pods moved: this proves little", moved)
	}
}
