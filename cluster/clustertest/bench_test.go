package clustertest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/controller"
	"github.com/berthdev/berth/cluster/object"
)

// BenchmarkPlace10kPods: 10,000 pods are created in one changeset, placed onto
// 5,000 nodes and bound, all committed through three masters with their logs on
// disk. bind-s is the time from the commit of the pods to that of the last
// binding, total-s begins with the proposal of the pods.
func BenchmarkPlace10kPods(b *testing.B) {
	const nodes, pods = 5000, 10_000
	for b.Loop() {
		b.StopTimer()
		c := Start(b, Options{NoAPI: true, Disk: true, NodeTimeout: time.Hour, ElectionTimeout: time.Second, Controllers: []controller.Controller{}})
		ctx := context.Background()
		setup := object.Changeset{Author: "bench"}
		for i := range nodes {
			setup.Create(&object.Node{Meta: object.Meta{Kind: object.KindNode, Name: fmt.Sprintf("n%04d", i), Labels: map[string]string{"zone": fmt.Sprintf("z%d", i%5)}},
				Status: object.NodeStatus{Condition: object.NodeReady, CPU: 16_000, Memory: 64 << 30, Pods: 250}})
		}
		tmpl := deployment("web", "web:1", 1).Spec.Pod
		setup.Create(&object.Template{Meta: object.Meta{Kind: object.KindTemplate, Namespace: "default", Name: object.Digest(tmpl)}, Spec: tmpl})
		if _, err := c.Propose(ctx, setup); err != nil {
			b.Fatal(err)
		}
		cpu, memory := tmpl.Asks()
		work := object.Changeset{Author: "bench"}
		for i := range pods {
			work.Create(&object.Pod{Meta: object.Meta{Kind: object.KindPod, Namespace: "default", Name: fmt.Sprintf("web-%05d", i), Labels: tmpl.Labels,
				Owner: object.Ref{Kind: object.KindReplicaSet, Namespace: "default", Name: "web"}},
				Spec: object.PodSpec{Template: object.Digest(tmpl), Ordinal: i, CPU: cpu, Memory: memory}})
		}
		leader := c.Master(c.Leader())
		b.StartTimer()
		began := time.Now()
		if _, err := c.Propose(ctx, work); err != nil {
			b.Fatal(err)
		}
		created := time.Now()
		c.Eventually("all are bound", func() bool { return leader.Snapshot().PendingCount() == 0 })
		b.ReportMetric(time.Since(created).Seconds(), "bind-s")
		b.ReportMetric(time.Since(began).Seconds(), "total-s")
		b.StopTimer()
		c.close()
		b.StartTimer()
	}
}
