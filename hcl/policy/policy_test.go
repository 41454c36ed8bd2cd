package policy_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/hcl/policy"
)

func compile(t *testing.T, body string) (*policy.Policy, object.Diagnostics) {
	t.Helper()
	return policy.Compile("p", "p.policy.hcl", []byte(body))
}

func TestCompileTellsEveryMistake(t *testing.T) {
	for _, c := range []struct{ name, source, want string }{
		{"syntax", `rule "a" {`, "Unclosed configuration block"},
		{"other block", `rules "a" {}`, "Did you mean"},
		{"no rule", ``, "has no rule"},
		{"missing", `rule "a" { enforcement = "hard" }`, `"condition" is required`},
		{"enforcement", rule(`"hrad"`, "true", `"m"`), `Did you mean "hard"?`},
		{"reference", rule(`"hard"`, "chnge.name == null", `"m"`), `Did you mean "change"?`},
		{"attribute", rule(`"hard"`, "plan.pods_stoped == 0", `"m"`), `Did you mean "pods_stopped"?`},
		{"file", rule(`"hard"`, "true", `file("/etc/passwd")`), "A policy cannot call file()"},
		{"clock", rule(`"hard"`, "timestamp() == null", `"m"`), "A policy cannot call timestamp()"},
		{"twice", rule(`"hard"`, "true", `"m"`) + rule(`"hard"`, "true", `"m"`), `There is a rule "r" already`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, found := compile(t, c.source)
			if p != nil || !found.HasErrors() {
				t.Fatalf("it compiled: %v", found)
			}
			all := ""
			for _, d := range found {
				all += d.Summary + ": " + d.Detail + "\n"
				if d.Range == nil || d.Range.Start.Line == 0 {
					t.Errorf("no place: %+v", d)
				}
			}
			if !strings.Contains(all, c.want) {
				t.Errorf("told\n%s\nnot %q", all, c.want)
			}
		})
	}
}

func rule(enforcement, condition, message string) string {
	return "rule \"r\" {\n  enforcement = " + enforcement + "\n  condition = " + condition + "\n  error_message = " + message + "\n}\n"
}

func TestJudge(t *testing.T) {
	after := &object.ConfigMap{Meta: object.Meta{Kind: object.KindConfigMap, Namespace: "default", Name: "a"}}
	plan := &object.Plan{Stack: "shop", Forecast: object.Forecast{Stop: 3}, Changes: []object.PlannedChange{
		{Ref: after.Ref(), Address: "config_map.a", Actions: []string{"create"}, After: object.Any{Object: after}}}}
	for _, c := range []struct{ name, condition, want string }{
		{"holds", `change.after.name == "a"`, ""},
		{"change", `change.name == "b"`, "m"},
		{"plan", `plan.pods_stopped < 3`, "m"},
		{"author", `plan.author == "ann"`, ""},
		{"cannot be evaluated", `change.before.name == "a"`, "cannot be evaluated"},
		{"no truth", `change.name`, "neither true nor false"},
		{"null", `null`, "neither true nor false"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, found := compile(t, rule(`"hard"`, c.condition, `"m"`))
			if found.HasErrors() {
				t.Fatal(found)
			}
			got := p.Judge(plan, "ann")
			switch {
			case c.want == "" && len(got) > 0:
				t.Errorf("broken: %+v", got)
			case c.want != "" && (len(got) != 1 || !strings.Contains(got[0].Message, c.want) || got[0].Range.Start.Line != 3):
				t.Errorf("%+v, not %q", got, c.want)
			}
		})
	}
}

// A plan that restores is to policies what the plans of its stacks are.
func TestJudgeAPlanOfSeveralStacks(t *testing.T) {
	plan := &object.Plan{Cause: object.CauseRestore, Forecast: object.Forecast{Stop: 3}, Restore: &object.Restore{}}
	for _, stack := range []string{"bank", "shop"} {
		m := &object.ConfigMap{Meta: object.Meta{Kind: object.KindConfigMap, Namespace: "default", Name: stack, Stack: stack}}
		plan.Changes = append(plan.Changes, object.PlannedChange{Ref: m.Ref(), Address: "config_map." + stack, Actions: []string{"create"}, After: object.Any{Object: m}})
		plan.Restore.Stacks = append(plan.Restore.Stacks, object.RestoredStack{Stack: stack})
	}
	for _, c := range []struct {
		name, condition, message string
		want                     []string
	}{
		{"one stack", `plan.stack != "shop"`, `"${plan.stack}"`, []string{"shop"}},
		{"its changes", `length(plan.changes) > 1`, `"${plan.stack}"`, []string{"bank", "shop"}},
		{"the whole forecast, told once", `plan.pods_stopped < 3`, `"it stops ${plan.pods_stopped}"`, []string{"it stops 3"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, found := compile(t, rule(`"hard"`, c.condition, c.message))
			if found.HasErrors() {
				t.Fatal(found)
			}
			var got []string
			for _, x := range p.Judge(plan, "ann") {
				got = append(got, x.Message)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
