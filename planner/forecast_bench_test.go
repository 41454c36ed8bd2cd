package planner

import (
	"fmt"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// benchForecast rehearses a plan of the objects again and again; it has to start so
// many pods.
func benchForecast(b *testing.B, c *cluster, starts int, objects ...object.Object) {
	b.Helper()
	p, diags := Diff(c.store.Snapshot(), request(objects...))
	if diags.HasErrors() || len(p.Changes) == 0 {
		b.Fatal(len(p.Changes), diags)
	}
	b.ReportAllocs()
	for b.Loop() {
		f := Forecast(c.store.Snapshot().Fork(), &p, c.now, NodeModel{}, object.InOrder)
		if f.Outcome != OutcomeHealthy || f.Start != starts {
			b.Fatal(f.Outcome, f.Reason, f.Start, len(f.Unplaced))
		}
	}
}

// tenThousand deployments with so many pods each that ask for little; odd runs
// another image than the others.
func tenThousand(replicas int, odd string) (out []object.Object) {
	for i := range 10_000 {
		image := "web:1"
		if i == 1234 {
			image = odd
		}
		out = append(out, deployment(fmt.Sprintf("web-%d", i), image, replicas, func(d *object.Deployment) {
			d.Spec.Pod.Labels = map[string]string{"app": d.Name, "tier": "bench"}
			d.Spec.Pod.Containers[0].Resources = object.Resources{CPU: 50, Memory: 16 << 20}
		}))
	}
	return out
}

// A rollout of a thousand pods.
func BenchmarkForecast1000Pods(b *testing.B) {
	c := newCluster(b, 100)
	c.apply(c.plan(request(deployment("web", "web:1", 1000))), time.Second)
	benchForecast(b, c, 1000, deployment("web", "web:2", 1000))
}

// A rollout of ten thousand pods on five hundred nodes.
func BenchmarkForecast10000Pods(b *testing.B) {
	c := newCluster(b, 500)
	small := func(d *object.Deployment) {
		d.Spec.Pod.Containers[0].Resources = object.Resources{CPU: 100, Memory: 64 << 20}
	}
	c.apply(c.plan(request(deployment("web", "web:1", 10_000, small))), time.Second)
	benchForecast(b, c, 10_000, deployment("web", "web:2", 10_000, small))
}

// Ten thousand new deployments on two hundred and fifty nodes, as a first plan has
// them.
func BenchmarkForecast10000Deployments(b *testing.B) {
	benchForecast(b, newCluster(b, 250), 10_000, tenThousand(1, "web:1")...)
}

// Ten thousand new deployments that ask for no pods yet.
func BenchmarkForecast10000Empty(b *testing.B) {
	benchForecast(b, newCluster(b, 3), 0, tenThousand(0, "web:1")...)
}

// One change among ten thousand deployments.
func BenchmarkForecastOneOf10000(b *testing.B) {
	c := newCluster(b, 3)
	c.apply(c.plan(request(tenThousand(0, "web:1")...)), 0)
	benchForecast(b, c, 0, tenThousand(0, "web:2")...)
}
