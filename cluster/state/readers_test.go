package state

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/cluster/object"
)

// Who reads what, as the index has it, is what a look at every template finds.
func TestReaders(t *testing.T) {
	kinds := []object.Kind{object.KindDeployment, object.KindReplicaSet, object.KindTemplate}
	names, spaces := []string{"a", "b", "c"}, []string{"default", "shop"}
	rapid.Check(t, func(t *rapid.T) {
		s := New()
		for i := range rapid.IntRange(1, 40).Draw(t, "writes") {
			pod := object.PodTemplate{Grace: object.Duration(i)} // something else changes, too
			for _, n := range rapid.SliceOfDistinct(rapid.SampledFrom(names), rapid.ID).Draw(t, "reads") {
				if rapid.Bool().Draw(t, "config") {
					pod.Volumes = append(pod.Volumes, object.Volume{Name: n, ConfigMap: n})
				} else {
					pod.Containers = append(pod.Containers, object.Container{Name: n, Env: map[string]object.Text{"X": object.Text("${secret." + n + ".data.k}")}})
				}
			}
			k := rapid.SampledFrom(kinds).Draw(t, "kind")
			meta := object.Meta{Kind: k, Namespace: rapid.SampledFrom(spaces).Draw(t, "namespace"), Name: rapid.SampledFrom(names).Draw(t, "name")}
			var o object.Object
			switch k {
			case object.KindDeployment:
				o = &object.Deployment{Meta: meta, Spec: object.DeploymentSpec{Pod: pod}}
			case object.KindReplicaSet:
				o = &object.ReplicaSet{Meta: meta, Spec: object.ReplicaSetSpec{Pod: pod}}
			default:
				o = &object.Template{Meta: meta, Spec: pod}
			}
			var c object.Changeset
			was, there := s.Snapshot().Get(o.Head().Ref())
			switch what := rapid.SampledFrom([]string{"write", "write", "status", "delete"}).Draw(t, "what"); {
			case !there:
				c.Create(o)
			case what == "delete":
				c.Delete(was)
			case what == "status" && k != object.KindTemplate:
				c.UpdateStatus(was, was.Clone())
			default:
				c.Update(was, o)
			}
			if _, err := s.Apply(s.Snapshot().Index()+1, c); err != nil {
				t.Fatal(err)
			}
			if rapid.IntRange(0, 9).Draw(t, "fork") == 0 {
				s = s.Snapshot().Fork()
			}
		}
		v := s.Snapshot()
		for _, reads := range []object.Kind{object.KindConfigMap, object.KindSecret} {
			for _, ns := range spaces {
				for _, n := range names {
					read := object.Ref{Kind: reads, Namespace: ns, Name: n}
					for _, k := range kinds {
						var want []object.Ref
						for o := range v.List(k, InNamespace(ns)) {
							if slices.Contains(readMarks(o), read) {
								want = append(want, o.Head().Ref())
							}
						}
						if got := slices.Collect(v.Readers(read, k)); !slices.Equal(got, want) {
							t.Fatalf("%s is read by %v, not %v", read, want, got)
						}
					}
				}
			}
		}
	})
}

// The pods of a template are found without a look at others.
func TestPodsFrom(t *testing.T) {
	s := New()
	var c object.Changeset
	for i := range 6 {
		c.Create(&object.Pod{Meta: object.Meta{Kind: object.KindPod, Namespace: "default", Name: fmt.Sprint("p", i)}, Spec: object.PodSpec{Template: fmt.Sprint("t", i%2)}})
	}
	if _, err := s.Apply(1, c); err != nil {
		t.Fatal(err)
	}
	var got []string
	for p := range s.Snapshot().PodsFrom(object.Ref{Kind: object.KindTemplate, Namespace: "default", Name: "t1"}) {
		got = append(got, p.Name)
	}
	if want := []string{"p1", "p3", "p5"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
