package view

import (
	"encoding/json"
	"io"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// restored is a plan of two stacks: one goes back, the other had not been there.
func restored() *object.Plan {
	conf := func(text string) object.Any {
		return object.Any{Object: &object.ConfigMap{Meta: object.Meta{Kind: object.KindConfigMap, Namespace: "shop", Name: "web", Stack: "shop"},
			Spec: object.ConfigMapSpec{Reload: "restart", Data: map[string]string{"greeting": text}}}}
	}
	ref := object.Ref{Kind: object.KindConfigMap, Namespace: "shop", Name: "web"}
	late := object.Ref{Kind: object.KindConfigMap, Namespace: "late", Name: "x"}
	return &object.Plan{
		Format: object.PlanFormat, Cause: object.CauseRestore, Waves: 1, Time: time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC),
		Restore: &object.Restore{
			Snapshot: object.RestoredFrom{File: "/backup/monday.snap", Cluster: "c1", Index: 812, Time: time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)},
			Stacks: []object.RestoredStack{
				{Stack: "late", Base: 1, Waves: 1},
				{Stack: "shop", Base: 9, Target: 7, Waves: 1, OutputChanges: map[string]object.OutputChange{"url": {Actions: []string{object.ActionUpdate}, Before: "b", After: "a"}}},
			},
		},
		Changes: []object.PlannedChange{
			{Ref: late, Address: "config_map.x", Actions: []string{object.ActionDelete}, Reason: object.ReasonNoConfig, Wave: 1,
				Before: object.Any{Object: &object.ConfigMap{Meta: object.Meta{Kind: object.KindConfigMap, Namespace: "late", Name: "x", Stack: "late"}}}},
			{Ref: ref, Address: "config_map.web", Actions: []string{object.ActionUpdate}, Wave: 1, Before: conf("now"), After: conf("then")},
		},
		Forecast: object.Forecast{Outcome: "healthy", Duration: object.Duration(3 * time.Second), Start: 1, Stop: 1, Unchanged: 4,
			Lowest: []object.Availability{{Workload: object.Ref{Kind: object.KindDeployment, Namespace: "shop", Name: "web"}, Ready: 3, Want: 3}}},
	}
}

func TestRestore(t *testing.T) {
	golden(t, "restore.txt", func(w io.Writer) error { return Plan(w, restored(), Options{}) })
	golden(t, "restore.md", func(w io.Writer) error { return Markdown(w, restored()) })
	golden(t, "restore.json", func(w io.Writer) error { return PlanJSON(w, restored()) })
	golden(t, "restore-annotations.txt", func(w io.Writer) error { return PlanAnnotations(w, restored()) })
	none := restored()
	none.Changes, none.Restore.Stacks = nil, nil
	golden(t, "restore-none.txt", func(w io.Writer) error { return Plan(w, none, Options{}) })
	var schema struct {
		Properties map[string]any `json:"properties"`
	}
	if err := json.Unmarshal(PlanSchema(), &schema); err != nil || schema.Properties["restore"] == nil {
		t.Errorf("the schema does not know it: %v", err)
	}
}
