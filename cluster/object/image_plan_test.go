package object

import (
	"slices"
	"testing"
)

// Images are found wherever pods come from: init and other containers, and the pods
// that checks run, of a whole update, of a step and before a switch.
func TestImagesOfPlans(t *testing.T) {
	template := func(images ...string) PodTemplate {
		var p PodTemplate
		for i, image := range images {
			if c := (Container{Name: image, Image: image}); i == 0 && len(images) > 1 {
				p.Init = append(p.Init, c)
			} else {
				p.Containers = append(p.Containers, c)
			}
		}
		return p
	}
	check := func(image string) []Check {
		return []Check{{Name: "x"}, {Name: image, Run: &RunSource{Pod: template(image)}}}
	}
	d := &Deployment{Meta: Meta{Kind: KindDeployment, Name: "a"}}
	d.Spec.Pod = template("init", "web", "web", "at@sha256:1")
	d.Spec.Update.Checks = check("check")
	d.Spec.Update.Steps = []CanaryStep{{Checks: check("step")}}
	d.Spec.Update.BlueGreen = &BlueGreen{Checks: check("switch")}
	before := &Deployment{Meta: d.Meta}
	before.Spec.Pod = template("init", "web")
	all := []string{"at@sha256:1", "check", "init", "step", "switch", "web"}
	for _, image := range all {
		if !Runs(d, image) {
			t.Errorf("%s is not found", image)
		}
	}
	none := &ConfigMap{Meta: Meta{Kind: KindConfigMap, Name: "a"}}
	if Runs(d, "other") || Runs(nil, "web") || Runs(none, "web") || Runs(before, "check") {
		t.Error("found where it is not")
	}
	p := &Plan{Changes: []PlannedChange{{After: Any{none}}, {Before: Any{before}, After: Any{d}}, {Before: Any{d}}}}
	if got := p.ImagesToPin(); !slices.Equal(got, all[1:]) {
		t.Errorf("to pin: %q", got)
	}
	d.Spec.Pod.Containers[0].Pull, d.Spec.Pod.Containers[1].Pull = "never", "never"
	if !p.PullsNever("web") || p.PullsNever("init") || p.PullsNever("other") {
		t.Error("pulled otherwise")
	}
}
