package planner

import (
	"slices"
	"strings"
	"testing"

	"github.com/berthdev/berth/cluster/object"
)

func labelled(app string) func(*object.Deployment) {
	return func(d *object.Deployment) { d.Spec.Pod.Labels = map[string]string{"app": app} }
}

func moving(r Request, from, to string) Request {
	r.Moves = append(r.Moves, Move{From: object.Ref{Kind: object.KindDeployment, Namespace: "default", Name: from}, To: object.Ref{Kind: object.KindDeployment, Namespace: "default", Name: to},
		Range: &object.Range{File: "main.hcl"}})
	return r
}

func TestDiffMoves(t *testing.T) {
	s := world(t, "shop", deployment("web", "app:1", 3))
	p, diags := Diff(s.Snapshot(), moving(request(deployment("front", "app:1", 3, labelled("web"))), "web", "front"))
	if len(diags) > 0 || len(p.Changes) != 1 {
		t.Fatal(diags, brief(p))
	}
	c := p.Changes[0]
	if !slices.Equal(c.Actions, []string{object.ActionNoOp}) || c.From.Name != "web" || c.Previous != "deployment.web" || c.Before.Ref() != c.Ref || len(c.Fields) > 0 {
		t.Errorf("%+v", c)
	}
	var expected []string
	for _, x := range p.Expect {
		expected = append(expected, x.Ref.Name)
	}
	if !slices.Equal(expected, []string{"front", "web"}) || p.Expect[0].Version != 0 || p.Expect[1].Version == 0 {
		t.Errorf("it must hold that the one is and the other is not: %+v", p.Expect)
	}
	// A move that is done, or was never needed, is nothing.
	done := world(t, "shop", deployment("front", "app:1", 3, labelled("web")))
	if p, diags := Diff(done.Snapshot(), moving(request(deployment("front", "app:1", 3, labelled("web"))), "web", "front")); len(diags) > 0 || !p.Empty() {
		t.Error(diags, brief(p))
	}
	// With another specification it is an update of the one object.
	p, _ = Diff(s.Snapshot(), moving(request(deployment("front", "app:2", 3, labelled("web"))), "web", "front"))
	if len(p.Changes) != 1 || p.Changes[0].Actions[0] != object.ActionUpdate || len(p.Changes[0].Fields) != 1 || p.Changes[0].Fields[0].Effect != "rolls" {
		t.Errorf("%v", brief(p))
	}
	// Of several former names the one that is in force counts.
	p, diags = Diff(s.Snapshot(), moving(moving(request(deployment("front", "app:1", 3, labelled("web"))), "older", "front"), "web", "front"))
	if len(diags) > 0 || len(p.Changes) != 1 || p.Changes[0].From.Name != "web" {
		t.Error(diags, brief(p))
	}
}

func TestDiffRefusesMoves(t *testing.T) {
	both := world(t, "shop", deployment("web", "app:1", 3), deployment("front", "app:1", 1))
	_, diags := Diff(both.Snapshot(), moving(request(deployment("front", "app:1", 3)), "web", "front"))
	if len(diags) != 1 || !strings.Contains(diags[0].Detail, "exists already and belongs to this stack, too") || diags[0].Range == nil {
		t.Error(diags)
	}
	foreign := world(t, "shop", deployment("web", "app:1", 3))
	add(t, foreign, "other", deployment("front", "app:1", 1))
	_, diags = Diff(foreign.Snapshot(), moving(request(deployment("front", "app:1", 3)), "web", "front"))
	if len(diags) == 0 || !strings.Contains(diags[0].Detail+diags[len(diags)-1].Detail, `belongs to stack "other"`) {
		t.Error(diags)
	}
	two := world(t, "shop", deployment("web", "app:1", 3), deployment("older", "app:1", 3))
	_, diags = Diff(two.Snapshot(), moving(moving(request(deployment("front", "app:1", 3)), "older", "front"), "web", "front"))
	if len(diags) != 1 || !strings.Contains(diags[0].Detail, "both exist") {
		t.Error(diags)
	}
}

func TestDiffImportsAndForgets(t *testing.T) {
	s := world(t, "shop", deployment("old", "app:1", 3))
	add(t, s, "", configMap("nobodys", "a"))
	add(t, s, "other", configMap("theirs", "a"))
	r := request(configMap("nobodys", "a"))
	r.Imports = []Import{{Ref: r.Objects[0].Object.Ref()}}
	r.Removals = []Removal{{Ref: object.Ref{Kind: object.KindDeployment, Namespace: "default", Name: "old"}}}
	p, diags := Diff(s.Snapshot(), r)
	if len(diags) > 0 || len(p.Changes) != 2 {
		t.Fatal(diags, brief(p))
	}
	for _, c := range p.Changes {
		after := c.After.Head()
		switch c.Ref.Name {
		case "nobodys":
			if c.Reason != object.ReasonImport || after.Stack != "shop" || c.Actions[0] != object.ActionNoOp {
				t.Errorf("%+v", c)
			}
		default:
			if c.Reason != object.ReasonForget || after.Stack != "" || c.Actions[0] != object.ActionForget {
				t.Errorf("%+v", c)
			}
		}
	}
	r.Removals[0].Destroy = true
	if p, _ := Diff(s.Snapshot(), r); !slices.ContainsFunc(p.Changes, func(c object.PlannedChange) bool { return c.Actions[0] == object.ActionDelete }) {
		t.Error("destroy = true has to destroy", brief(p))
	}
	r = request(configMap("theirs", "a"), configMap("none", "a"))
	r.Imports = []Import{{Ref: r.Objects[0].Object.Ref()}, {Ref: r.Objects[1].Object.Ref()}}
	_, diags = Diff(s.Snapshot(), r)
	var all []string
	for _, d := range diags {
		all = append(all, d.Detail)
	}
	for _, want := range []string{`belongs to stack "other" and cannot be imported into "shop"`, "There is no object config_map/default/none"} {
		if !strings.Contains(strings.Join(all, "\n"), want) {
			t.Errorf("%q is not in %q", want, all)
		}
	}
}

// What data blocks have read belongs to what a plan expects.
func TestDiffExpectsWhatWasRead(t *testing.T) {
	s := world(t, "shop")
	r := request(configMap("a", "a"))
	r.Reads = []object.Expectation{{Ref: object.Ref{Kind: object.KindService, Namespace: "x", Name: "api"}, Version: 7}}
	p, _ := Diff(s.Snapshot(), r)
	if !slices.Contains(p.Expect, r.Reads[0]) {
		t.Errorf("%+v", p.Expect)
	}
}
