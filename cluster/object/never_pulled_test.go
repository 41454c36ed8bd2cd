package object_test

import (
	"testing"

	"github.com/berthdev/berth/cluster/object"
)

func TestNeverPulledIsWhatEveryContainerSays(t *testing.T) {
	runs := func(containers ...object.Container) object.PlannedChange {
		d := &object.Deployment{Meta: object.Meta{Kind: object.KindDeployment, Namespace: "shop", Name: "web"}}
		d.Spec.Pod.Init, d.Spec.Pod.Containers = containers[:1], containers[1:]
		return object.PlannedChange{After: object.Any{Object: d}}
	}
	own := object.Container{Image: "own:1", Pull: "never"}
	ask := object.Container{Image: "own:1", Pull: "missing"}
	other := object.Container{Image: "other:1", Pull: "missing"}
	gone := object.PlannedChange{Before: runs(own).After}
	for name, tt := range map[string]struct {
		changes []object.PlannedChange
		want    bool
	}{
		"all":           {[]object.PlannedChange{runs(own, other), runs(own, own)}, true},
		"one may":       {[]object.PlannedChange{runs(own, own), runs(other, ask)}, false},
		"nothing does":  {[]object.PlannedChange{runs(other)}, false},
		"what is ended": {[]object.PlannedChange{gone}, false},
	} {
		p := object.Plan{Changes: tt.changes}
		if got := p.NeverPulled("own:1"); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
