package object

import "testing"

func TestPullsNever(t *testing.T) {
	web := func(name string, pull ...string) PlannedChange {
		d := &Deployment{Meta: Meta{Kind: KindDeployment, Namespace: "default", Name: name}}
		for _, p := range pull {
			d.Spec.Pod.Containers = append(d.Spec.Pod.Containers, Container{Image: "web:1", Pull: p})
		}
		return PlannedChange{Ref: d.Ref(), After: Any{Object: d}}
	}
	checked := func(c PlannedChange, pull string) PlannedChange {
		run := &RunSource{Pod: PodTemplate{Containers: []Container{{Image: "web:1", Pull: pull}}}}
		c.After.Object.(*Deployment).Spec.Update.Checks = []Check{{Name: "smoke", Run: run}}
		return c
	}
	for _, c := range []struct {
		what string
		want bool
		plan Plan
	}{
		{"nobody runs it", false, Plan{Changes: []PlannedChange{{Before: web("a", "never").After}}}},
		{"all take what is there", true, Plan{Changes: []PlannedChange{web("a", "never"), web("b", "never", "never")}}},
		{"a check's run asks the registry", false, Plan{Changes: []PlannedChange{checked(web("a", "never"), "missing")}}},
		{"only a check's run takes it", true, Plan{Changes: []PlannedChange{checked(web("a"), "never")}}},
		{"one asks the registry", false, Plan{Changes: []PlannedChange{web("a", "never"), web("b", "never", "missing")}}},
	} {
		if got := c.plan.PullsNever("web:1"); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}
