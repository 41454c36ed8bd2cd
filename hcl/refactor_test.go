package hcl

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// written makes a configuration of files and returns its directory.
func written(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const settings = "berth { stack = \"shop\" }\n"

func deploymentNamed(name, lines string) string {
	return "deployment \"" + name + "\" {\n" + lines + "  pod {\n    container \"web\" { image = \"web:1\" }\n  }\n}\n"
}

func TestMoves(t *testing.T) {
	for _, test := range []struct {
		name, src string
		want      []string
	}{
		{"plain", deploymentNamed("front", "") + "moved {\n  from = deployment.web\n  to   = deployment.front\n}\n", []string{"web front deployment.web"}},
		{"into a key", deploymentNamed("web", "for_each = toset([\"eu\", \"us\"])\n") + "moved {\n  from = deployment.web\n  to   = deployment.web[\"eu\"]\n}\n", []string{"web web-eu deployment.web"}},
		{"out of a number", deploymentNamed("web", "") + "moved {\n  from = deployment.web[0]\n  to   = deployment.web\n}\n", []string{"web-0 web deployment.web[0]"}},
		{"key by key", deploymentNamed("front", "for_each = toset([\"eu\", \"us\"])\n") + "moved {\n  from = deployment.web\n  to   = deployment.front\n}\n",
			[]string{`web-eu front-eu deployment.web["eu"]`, `web-us front-us deployment.web["us"]`}},
		{"over several", deploymentNamed("c", "") + "moved {\n  from = deployment.a\n  to   = deployment.b\n}\nmoved {\n  from = deployment.b\n  to   = deployment.c\n}\n",
			[]string{"a c deployment.a", "b c deployment.b"}},
		{"into a module, by a new name", "module \"site\" { source = \"./site\" }\nmoved {\n  from = deployment.web\n  to   = module.site.deployment.in\n}\n", []string{"web in deployment.web"}},
		{"inside a module", "module \"site\" { source = \"./moved\" }\n", []string{"old in module.site.deployment.old"}},
		{"between modules, by the same name", "module \"site\" { source = \"./site\" }\nmoved {\n  from = module.old\n  to   = module.site\n}\nmoved {\n  from = module.other.deployment.in\n  to   = module.site.deployment.in\n}\n", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := written(t, map[string]string{
				"main.hcl": settings + test.src, "site/main.hcl": deploymentNamed("in", ""),
				"moved/main.hcl": deploymentNamed("in", "") + "moved {\n  from = deployment.old\n  to   = deployment.in\n}\n",
			})
			cfg, diags := Load(dir, Options{})
			if len(diags) > 0 {
				t.Fatal(diags)
			}
			var got []string
			for _, m := range cfg.Moves {
				got = append(got, m.From.Name+" "+m.To.Name+" "+m.Previous)
			}
			if strings.Join(got, "\n") != strings.Join(test.want, "\n") {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// The same words in JSON say the same.
func TestRefactoringJSON(t *testing.T) {
	dir := written(t, map[string]string{"main.hcl.json": `{
  "berth": {"stack": "shop"},
  "service": {"front": {"selector": {"a": "b"}, "port": {"http": {"port": 80}}, "lifecycle": {"postcondition": {"condition": "${self.name == \"front\"}", "error_message": "x"}}}},
  "moved": {"from": "service.web", "to": "service.front"},
  "removed": {"from": "service.old", "namespace": "other", "lifecycle": {"destroy": false}},
  "import": {"to": "service.front", "id": "service/default/front"},
  "data": {"node": {"n1": {"lifecycle": {"postcondition": {"condition": "${self.labels[\"zone\"] == \"z1\"}", "error_message": "zone ${self.labels[\"zone\"]}"}}}}},
  "check": {"a": {"assert": {"condition": "${data.node.n1.labels[\"zone\"] == \"z9\"}", "error_message": "elsewhere"}}}
}`})
	cfg, diags := Load(dir, Options{Read: machines})
	if len(diags) != 1 || diags[0].Severity != object.SeverityWarning || diags[0].Detail != "elsewhere\n\n  data.node.n1.labels[\"zone\"] is \"z1\"" || diags[0].Range == nil {
		t.Fatal(diags)
	}
	if len(cfg.Moves) != 1 || cfg.Moves[0].From.Name != "web" || len(cfg.Imports) != 1 || cfg.Imports[0].Ref.Name != "front" {
		t.Errorf("%+v %+v", cfg.Moves, cfg.Imports)
	}
	if len(cfg.Removals) != 1 || cfg.Removals[0].Destroy || cfg.Removals[0].Ref != (object.Ref{Kind: object.KindService, Namespace: "other", Name: "old"}) {
		t.Errorf("%+v", cfg.Removals)
	}
	if len(cfg.Reads) != 1 || cfg.Reads[0].Version != 7 || cfg.Reads[0].Ref.Name != "n1" {
		t.Errorf("%+v", cfg.Reads)
	}
}

// machines is a cluster that has the node n1.
func machines(r object.Ref) (object.Object, error) {
	if r.Kind != object.KindNode || r.Name != "n1" {
		return nil, object.Errorf(object.CodeNotFound, r, "does not exist")
	}
	return &object.Node{Meta: object.Meta{Kind: object.KindNode, Name: "n1", Labels: map[string]string{"zone": "z1"}, Version: 7}, Status: object.NodeStatus{Condition: object.NodeReady}}, nil
}

func TestDataValues(t *testing.T) {
	src := settings + `
data "node" "m" {
  for_each = toset(["n1"])
  name     = each.key
}
config_map "c" {
  for_each = data.node.m
  data     = { zone = each.value.labels.zone, condition = each.value.status.condition, stack = each.value.stack }
}
output "zone" { value = data.node.m["n1"].labels["zone"] }
`
	dir := written(t, map[string]string{"main.hcl": src})
	cfg, diags := Load(dir, Options{Read: machines})
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	got := cfg.Objects[0].Object.(*object.ConfigMap)
	if got.Name != "c-n1" || got.Spec.Data["zone"] != "z1" || got.Spec.Data["condition"] != "ready" || cfg.Outputs["zone"].Value != "z1" {
		t.Errorf("%+v %+v", got.Spec.Data, cfg.Outputs)
	}
	// Without anybody to ask, nothing of it is a mistake.
	if _, diags := Load(dir, Options{}); len(diags) > 0 {
		t.Error(diags)
	}
}

func TestRefactoringMistakes(t *testing.T) {
	dir := written(t, map[string]string{"site/main.hcl": deploymentNamed("in", ""), "main.hcl": settings + deploymentNamed("web", "  for_each = toset([\"eu\"])\n") + `module "site" { source = "./site" }
moved {
  from = deployment.a
  to   = deployment.web["us"]
}
moved {
  from = deployment.b
  to   = module.sit.deployment.in
}
moved {
  from = module.site.deployment.in
  to   = deployment.web["eu"]
}
moved {
  from = "deployment.c"
  to   = deployment.web["eu"].replicas
}
moved {
  form = deployment.d
}
moved {
  from = deployment.x
  to   = deployment.y
}
moved {
  from = deployment.y
  to   = deployment.x
}
removed {
  from = module.site
}
removed {
  from = deployment.x
}
import {
  to = deployment.web
  id = "other"
}
import {
  to = deployment.web["eu"]
  id = "deployment/default/web"
}
data "service" "a" { name = 1 == 2 ? null : "" }
`})
	_, diags := Load(dir, Options{Read: machines})
	want := []string{
		`11:10 No such object: deployment.web has no instance ["us"]`,
		`15:17 No such module: There is no module "sit" in this configuration. Did you mean "site"?`,
		`18:10 Declared still: module.site.deployment.in is declared still, at `,
		`22:10 Wrong address: Name an object without quotes`,
		`23:10 Wrong address: deployment.web["eu"].replicas is not`,
		`25:1 Missing attribute: The attribute "from"`,
		`25:1 Missing attribute: The attribute "to"`,
		`26:3 Unknown attribute: A moved block has no attribute "form". Did you mean "from"?`,
		`29:10 Moved in a circle`,
		`33:10 Moved in a circle`,
		`37:10 Wrong address: module.site is a module`,
		`40:10 Said twice`,
		`44:8 Another object: deployment.web is the object deployment/default/web-eu, and id names "other"`,
		`48:8 Another object: deployment.web["eu"] is the object`,
		`50:1 Wrong name`,
	}
	if len(diags) != len(want) {
		t.Errorf("%d mistakes, want %d", len(diags), len(want))
	}
	for i, d := range diags {
		got := fmt.Sprintf("%d:%d %s: %s", d.Range.Start.Line, d.Range.Start.Column, d.Summary, d.Detail)
		if i >= len(want) || !strings.HasPrefix(got, want[i]) {
			t.Errorf("got  %s", got)
		}
	}
}

// What conditions see of a forecast, and that each instance is asked.
func TestJudge(t *testing.T) {
	dir := written(t, map[string]string{"main.hcl": settings + deploymentNamed("web", `  for_each = { eu = 2, us = 3 }
  replicas = each.value
  lifecycle {
    postcondition {
      condition     = plan.deployment[self.name].min_ready >= each.value && !contains(plan.deployment[self.name].nodes, "n9")
      error_message = "${each.key} falls to ${plan.deployment[self.name].min_ready}"
    }
  }
`) + `check "time" {
  assert {
    condition     = plan.duration <= 10 && plan.change == 1 && plan.steps[0].op == "start" && plan.placements["web-us-x"] == "n1"
    error_message = "late"
  }
}
`})
	cfg, diags := Load(dir, Options{})
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	us := object.Ref{Kind: object.KindDeployment, Namespace: "default", Name: "web-us"}
	pod := object.Ref{Kind: object.KindPod, Namespace: "default", Name: "web-us-x"}
	p := &object.Plan{Changes: []object.PlannedChange{{Ref: us, Actions: []string{object.ActionUpdate}}}, Forecast: object.Forecast{
		Duration: object.Duration(11 * time.Second), Lowest: []object.Availability{{Workload: us, Ready: 2, Want: 3}},
		Steps:      []object.ForecastStep{{Op: "start", Ref: pod, Node: "n1", Workload: us}},
		Placements: []object.Placement{{Pod: pod, Node: "n1", Workload: us}},
	}}
	found := cfg.Judge(p)
	if len(found) != 2 || !strings.HasPrefix(found[0].Detail, "us falls to 2") || found[0].Address != `deployment.web["us"]` || found[0].Severity != object.SeverityError ||
		!strings.HasPrefix(found[1].Detail, "late") || found[1].Severity != object.SeverityWarning || found[1].Snippet == "" {
		t.Fatalf("%+v", found)
	}
	p.Forecast.Lowest, p.Forecast.Duration = nil, 0
	if found := cfg.Judge(p); len(found) > 0 {
		t.Error(found)
	}
}
