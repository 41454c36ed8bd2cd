package planner

import (
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// A plan that is carried out ends as forecast, its old pods are gone, and planning
// again finds nothing to do.
func TestCarry(t *testing.T) {
	c := newCluster(t, 3)
	for i, objects := range [][]object.Object{
		{deployment("web", "web:1", 4), service("web")},
		{deployment("web", "web:2", 4), service("web")},
	} {
		p := c.plan(request(objects...))
		end := Carry(c.store, &p, c.now, NodeModel{}, object.InOrder)
		if end.Outcome != OutcomeHealthy || end.At.Before(c.now.Add(p.Forecast.Duration.D())) {
			t.Fatalf("%d: %+v, forecast %s", i, end, p.Forecast.Duration)
		}
		c.now = end.At
		v := c.store.Snapshot()
		pods := 0
		for pod := range state.All[*object.Pod](v, object.KindPod) {
			if pods++; !pod.Status.Ready || pod.Spec.Stop {
				t.Errorf("%d: %s is %+v", i, pod.Name, pod.Status)
			}
			if on := placements(p)[pod.Name]; on != pod.Spec.Node {
				t.Errorf("%d: %s is on %s, not on %s", i, pod.Name, pod.Spec.Node, on)
			}
		}
		if pods != 4 {
			t.Errorf("%d: there are %d pods", i, pods)
		}
		if again := c.plan(request(objects...)); !again.Empty() {
			t.Errorf("%d: there is something left: %v", i, brief(again))
		}
	}
	lost := object.Plan{Operation: &object.Operation{Name: object.OperationNodeLoss, On: []object.Ref{{Kind: object.KindNode, Name: "node-1"}}}}
	if end := Carry(c.store, &lost, c.now, NodeModel{}, object.InOrder); end.Outcome != OutcomeHealthy {
		t.Fatalf("%+v", end)
	}
	ready := 0
	for pod := range state.All[*object.Pod](c.store.Snapshot(), object.KindPod) {
		if pod.Status.Ready && !pod.Spec.Stop && pod.Spec.Node != "node-1" {
			ready++
		}
	}
	if ready != 4 {
		t.Errorf("%d pods are ready without node-1", ready)
	}
}

// What cannot be is put back: the store ends with what was there before.
func TestCarryPutsBack(t *testing.T) {
	c := newCluster(t, 2)
	small := deployment("web", "web:1", 2)
	p := c.plan(request(small))
	c.now = Carry(c.store, &p, c.now, NodeModel{}, object.InOrder).At
	p = c.plan(request(deployment("web", "web:2", 2, func(d *object.Deployment) { d.Spec.Pod.Containers[0].Resources.Memory = 100 << 30 })))
	end := Carry(c.store, &p, c.now, NodeModel{}, object.InOrder)
	if end.Outcome != OutcomeFailed || end.Reason == "" || end.At.Sub(c.now) < time.Second {
		t.Fatalf("%+v", end)
	}
	c.now = end.At
	if again := c.plan(request(small)); !again.Empty() {
		t.Errorf("it was not put back: %v", brief(again))
	}
}
