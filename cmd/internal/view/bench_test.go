package view

import (
	"fmt"
	"testing"

	"github.com/berthdev/berth/cluster/object"
)

// BenchmarkDraft10000New writes the page of ten thousand new deployments.
func BenchmarkDraft10000New(b *testing.B) {
	p := &object.Plan{Stack: "bench"}
	for i := range 10_000 {
		name := fmt.Sprintf("d%05d", i)
		d := &object.Deployment{Meta: object.Meta{Kind: object.KindDeployment, Namespace: "default", Name: name}}
		d.Spec.Pod.Labels = map[string]string{"app": name, "tier": "bench"}
		d.Spec.Pod.Containers = []object.Container{{Name: "web", Image: "registry.example/shop/web:1", Command: []string{"/web", "serve"},
			Env: map[string]object.Text{"MODE": "bench", "NAME": object.Text(name)}, Ports: []object.ContainerPort{{Name: "http", Port: 8080}}}}
		object.SetDefaults(d)
		p.Changes = append(p.Changes, object.PlannedChange{Address: "deployment." + name, Ref: d.Ref(), Actions: []string{object.ActionCreate}, After: object.Any{Object: d}})
	}
	b.ReportAllocs()
	for b.Loop() {
		size := 0
		for _, piece := range NewDraft(p, Options{}).text {
			size += len(piece)
		}
		if size < 1_000_000 {
			b.Fatal("the page is too short")
		}
	}
}
