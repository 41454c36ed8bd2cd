package planner

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/cluster/controller"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// rest lets the controllers do all that they want to do at this moment, and returns
// their queue as a leader has it then.
func (c *cluster) rest() *controller.Queue {
	c.t.Helper()
	q := controller.NewQueue(controller.All())
	q.Seed(c.store.Snapshot())
	for range 100_000 {
		ctl, key, ok := q.Next(c.now)
		if !ok {
			return q
		}
		v := c.store.Snapshot()
		res, err := ctl.Reconcile(v, key, c.now)
		if err != nil {
			c.t.Fatal(err)
		}
		if !res.Changes.Empty() {
			events, err := c.store.Apply(v.Index()+1, stamped(res.Changes, "controller/"+ctl.Name(), c.now))
			if err == nil {
				q.Observe(c.store.Snapshot(), events)
			}
		}
		q.WakeAt(ctl, key, res.Wake)
	}
	c.t.Fatal("the controllers do not come to rest")
	return nil
}

// A rehearsal that begins with the leader's queue comes to what one comes to that
// looks at every key: in the middle of rollouts, too, whatever they are. Neither
// changes the state that it forks, nor the plan.
func TestForecastFromTheLeadersQueue(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := newCluster(t, rapid.IntRange(1, 4).Draw(rt, "nodes"))
		draw := func(step int) []object.Object {
			n := func(low, high int, what string) int {
				return rapid.IntRange(low, high).Draw(rt, fmt.Sprint(what, step))
			}
			objects := []object.Object{configMap("conf", fmt.Sprint(n(0, 1, "conf"))), service("web")}
			for i := range n(1, 3, "deployments") {
				objects = append(objects, deployment([]string{"web", "api", "job"}[i], fmt.Sprint("web:", n(1, 2, "image")), n(0, 4, "replicas"), func(d *object.Deployment) {
					d.Spec.Update.Strategy = rapid.SampledFrom([]string{"rolling", "recreate", "canary", "blue_green"}).Draw(rt, "strategy")
					if d.Spec.Update.Strategy == "canary" {
						d.Spec.Update.Steps = []object.CanaryStep{{Name: "try", Weight: 20, Pause: object.Duration(time.Minute)}, {Name: "half", Weight: 50}}
					}
					if n(0, 1, "reads") == 1 {
						reading("conf")(d)
					}
					if n(0, 5, "large") == 0 {
						d.Spec.Pod.Containers[0].Resources.Memory = 100 << 30
					}
				}))
			}
			if n(0, 1, "pod") == 1 {
				objects = append(objects, barePod("once", fmt.Sprint("a:", n(1, 2, "pod image"))))
			}
			return objects
		}
		for step := range rapid.IntRange(0, 2).Draw(rt, "applies") {
			p, diags := Diff(c.store.Snapshot(), request(draw(step)...))
			if diags.HasErrors() {
				rt.Fatal(diags)
			}
			limit := time.Duration(rapid.IntRange(0, 200).Draw(rt, "limit")) * time.Second
			c.carryOut(p, &fate{startup: func() time.Duration { return time.Second }, limit: limit + 1})
		}
		q := c.rest()
		v := c.store.Snapshot()
		p, diags := Diff(v, request(draw(9)...))
		if diags.HasErrors() {
			rt.Fatal(diags)
		}
		before, plan := whole(rt, v), mustEncode(rt, &p)
		want := Forecast(v.Fork(), &p, c.now, NodeModel{}, object.InOrder)
		got := ForecastFrom(q.Clone(), v.Fork(), &p, c.now, NodeModel{}, object.InOrder)
		if !reflect.DeepEqual(got, want) {
			rt.Fatalf("with the leader's queue:\n%+v\nwith every key:\n%+v", got, want)
		}
		if !bytes.Equal(whole(rt, v), before) || !bytes.Equal(mustEncode(rt, &p), plan) {
			rt.Fatal("a rehearsal changed what it began with")
		}
	})
}

func whole(t *rapid.T, v *state.Snapshot) []byte {
	var b bytes.Buffer
	if err := state.Encode(&b, v, object.InOrder); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func mustEncode(t *rapid.T, p *object.Plan) []byte {
	b, err := object.EncodePlan(p, object.InOrder)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
