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
	for _, c := range []struct {
		what string
		want bool
		plan Plan
	}{
		{"nobody runs it", false, Plan{Changes: []PlannedChange{{Before: web("a", "never").After}}}},
		{"all take what is there", true, Plan{Changes: []PlannedChange{web("a", "never"), web("b", "never", "never")}}},
		{"one asks the registry", false, Plan{Changes: []PlannedChange{web("a", "never"), web("b", "never", "missing")}}},
	} {
		if got := c.plan.PullsNever("web:1"); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}
