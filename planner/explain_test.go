package planner

import (
	"reflect"
	"testing"

	"github.com/berthdev/berth/cluster/object"
)

// Whatever pod is asked about, the explanation's best node is where the forecast
// puts it, its score is the highest, and the forecast is the same without asking.
func TestExplanationsAreOfTheForecast(t *testing.T) {
	c := newCluster(t, 5)
	c.apply(c.plan(request(deployment("web", "web:1", 4))), 0)
	p := c.plan(request(deployment("web", "web:2", 4), deployment("api", "api:1", 7)))
	if len(p.Forecast.Placements) != 11 {
		t.Fatalf("%d placements", len(p.Forecast.Placements))
	}
	later := false
	for _, x := range p.Forecast.Placements {
		p.Explanation = &object.Explanation{Asked: x.Pod.Name}
		f := Forecast(c.store.Snapshot().Fork(), &p, c.now, NodeModel{}, object.InOrder)
		if len(f.Explained) != 1 {
			t.Fatalf("%s: %d explanations", x.Pod, len(f.Explained))
		}
		e := f.Explained[0]
		if e.Pod != x.Pod || e.Best != x.Node || len(e.Candidates) != 5 || e.Candidates[0].Node != x.Node || len(e.Candidates[0].Parts) == 0 {
			t.Errorf("%s goes to %s, explained as %+v", x.Pod, x.Node, e)
		}
		later = later || e.At > 0
		if f.Explained = nil; !reflect.DeepEqual(f, p.Forecast) {
			t.Errorf("%s: asking changes the forecast", x.Pod)
		}
	}
	if !later {
		t.Error("every pod is placed at once: the rollout has steps")
	}
	p.Explanation = &object.Explanation{Asked: "other/" + p.Forecast.Placements[0].Pod.Name}
	if f := Forecast(c.store.Snapshot().Fork(), &p, c.now, NodeModel{}, object.InOrder); len(f.Explained) != 0 {
		t.Errorf("a pod of another namespace is explained: %+v", f.Explained)
	}
}

// A pod that fits nowhere has everything that is wrong told, of every node.
func TestUnplacedPodsAreExplained(t *testing.T) {
	c := newCluster(t, 2)
	huge := deployment("huge", "app:1", 1)
	huge.Spec.Pod.Containers[0].Resources = object.Resources{CPU: 64_000, Memory: 64 << 30}
	p := c.plan(request(huge))
	if len(p.Forecast.Unplaced) != 1 {
		t.Fatalf("%+v", p.Forecast)
	}
	p.Explanation = &object.Explanation{Asked: p.Forecast.Unplaced[0].Pod.Name}
	f := Forecast(c.store.Snapshot().Fork(), &p, c.now, NodeModel{}, object.InOrder)
	if len(f.Explained) != 1 || f.Explained[0].Best != "" || f.Explained[0].Summary != p.Forecast.Unplaced[0].Reason {
		t.Fatalf("%+v", f.Explained)
	}
	want := []string{"cpu (asks 64, 4 free)", "memory (asks 64Gi, 8Gi free)"}
	for _, x := range f.Explained[0].Candidates {
		if x.Fits || !reflect.DeepEqual(x.Fails, want) {
			t.Errorf("%+v", x)
		}
	}
}
