package planner

import (
	"fmt"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// Ten thousand new deployments that ask for no pods yet.
func BenchmarkForecast10000Empty(b *testing.B) {
	c := newCluster(b, 3)
	var objects []object.Object
	for i := range 10_000 {
		objects = append(objects, deployment(fmt.Sprintf("d%05d", i), "web:1", 0, func(d *object.Deployment) {
			d.Spec.Pod.Labels = map[string]string{"app": d.Name, "tier": "bench"}
			d.Spec.Pod.Containers[0].Resources = object.Resources{CPU: 250, Memory: 64 << 20}
		}))
	}
	p, diags := Diff(c.store.Snapshot(), request(objects...))
	if diags.HasErrors() {
		b.Fatal(diags)
	}
	b.ReportAllocs()
	for b.Loop() {
		f := Forecast(c.store.Snapshot().Fork(), &p, c.now, NodeModel{}, object.InOrder)
		if f.Outcome != OutcomeHealthy {
			b.Fatal(f.Outcome, f.Reason)
		}
	}
}

// One change among ten thousand deployments.
func BenchmarkForecastOneOf10000(b *testing.B) {
	c := newCluster(b, 3)
	objects := func(image string) (out []object.Object) {
		for i := range 10_000 {
			use := "web:1"
			if i == 1234 {
				use = image
			}
			out = append(out, deployment(fmt.Sprintf("d%05d", i), use, 0, func(d *object.Deployment) {
				d.Spec.Pod.Labels = map[string]string{"app": d.Name, "tier": "bench"}
			}))
		}
		return out
	}
	c.apply(c.plan(request(objects("web:1")...)), 0)
	p, diags := Diff(c.store.Snapshot(), request(objects("web:2")...))
	if diags.HasErrors() || len(p.Changes) != 1 {
		b.Fatal(diags)
	}
	b.ReportAllocs()
	for b.Loop() {
		f := Forecast(c.store.Snapshot().Fork(), &p, c.now, NodeModel{}, object.InOrder)
		if f.Outcome != OutcomeHealthy {
			b.Fatal(f.Outcome, f.Reason)
		}
	}
}

// A rollout of ten thousand pods on five hundred nodes.
func BenchmarkForecast10000Pods(b *testing.B) {
	c := newCluster(b, 500)
	small := func(d *object.Deployment) {
		d.Spec.Pod.Containers[0].Resources = object.Resources{CPU: 100, Memory: 64 << 20}
	}
	c.apply(c.plan(request(deployment("web", "web:1", 10_000, small))), time.Second)
	p, diags := Diff(c.store.Snapshot(), request(deployment("web", "web:2", 10_000, small)))
	if diags.HasErrors() {
		b.Fatal(diags)
	}
	b.ReportAllocs()
	for b.Loop() {
		f := Forecast(c.store.Snapshot().Fork(), &p, c.now, NodeModel{}, object.InOrder)
		if f.Outcome != OutcomeHealthy || f.Start != 10_000 {
			b.Fatal(f.Outcome, f.Reason, f.Start)
		}
	}
}
