package hcl

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berthdev/berth/cluster/object"
)

const testedConfiguration = `variable "replicas" {
  default = 2
  type    = number
  validation {
    condition     = var.replicas > 0
    error_message = "At least one."
  }
}
deployment "web" {
  replicas = var.replicas
  pod {
    labels = { app = "web" }
    container "web" { image = "app:1" }
  }
}
check "small" {
  assert {
    condition     = var.replicas < 10
    error_message = "A lot."
  }
}
output "n" { value = var.replicas }
`

// tested writes a configuration with a test file beside it.
func tested(t testing.TB, text string) (string, []*TestFile, object.Diagnostics) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "shop")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"main.hcl": testedConfiguration, "a.berthtest.hcl": text} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	files, diags := ReadTests(dir, Options{})
	if !diags.HasErrors() {
		for _, f := range files {
			diags = append(diags, f.Check(Options{})...)
		}
	}
	return dir, files, diags
}

// Every mistake in a test file is told at its place, with a cure.
func TestMistakesInTestFiles(t *testing.T) {
	const assert = `assert {
    condition     = true
    error_message = "x"
  }`
	for _, c := range []struct{ text, at, want string }{
		{"nod \"a\" {}\nrun \"a\" {}", "1:1", `Did you mean "node"`},
		{"x = 1\nrun \"a\" {}", "1:1", "stands alone"},
		{"node \"a\" {}", "", "needs a run"},
		{"run {}", "1:1", "exactly one name"},
		{"run \"a\" {}\nrun \"a\" {}", "2:1", `There is a run "a" already`},
		{"node \"a\" {}\nnode \"a\" {}\nrun \"a\" {}", "2:1", `There is a node "a" already`},
		{"node \"a\" {\n  count = 2\n}\nnode \"a-2\" {}\nrun \"a\" {}", "4:1", `There is a node "a-2" already`},
		{"node \"A\" {}\nrun \"a\" {}", "1:6", "is not a name"},
		{"node \"a\" {\n  cpuu = 1\n}\nrun \"a\" {}", "2:3", `Did you mean "cpu"`},
		{"node \"a\" {\n  cpu = \"lots\"\n}\nrun \"a\" {}", "2:9", "lots"},
		{"node \"a\" {\n  count = 0\n}\nrun \"a\" {}", "2:11", "from 1 to 1000"},
		{"node \"a\" {\n  zone = [1]\n}\nrun \"a\" {}", "2:10", "is a text"},
		{"node \"a\" {\n  labels = \"x\"\n}\nrun \"a\" {}", "2:12", "a map of texts"},
		{"node \"a\" {\n  taint \"k\" { effect = \"no_schedul\" }\n}\nrun \"a\" {}", "2:24", `Did you mean "no_schedule"`},
		{"node \"a\" {\n  tain \"k\" {}\n}\nrun \"a\" {}", "2:3", `Did you mean "taint"`},
		{"variables {\n  replica = 2\n}\nrun \"a\" {}", "2:3", `Did you mean "replicas"`},
		{"variables \"x\" {}\nrun \"a\" {}", "1:1", "has no name"},
		{"variables {}\nvariables {}\nrun \"a\" {}", "2:1", "already"},
		{"variables {\n  replicas = var.x\n}\nrun \"a\" {}", "2:18", "gives no value to a variable"},
		{"variables {\n  replicas = local.x\n}\nrun \"a\" {}", "2:14", "its own variables"},
		{"given {\n  directory = \"nowhere\"\n}\nrun \"a\" {}", "2:15", "There is no directory"},
		{"given {\n  dir = \".\"\n}\nrun \"a\" {}", "2:3", "no attribute"},
		{"given {\n  variables = 1\n}\nrun \"a\" {}", "2:15", "a map of values"},
		{"given {\n  variable {}\n}\nrun \"a\" {}", "2:3", `Did you mean "variables"`},
		{"run \"a\" {\n  comand = \"plan\"\n}", "2:3", `Did you mean "command"`},
		{"run \"a\" {\n  command = \"aply\"\n}", "2:13", `Did you mean "apply"`},
		{"run \"a\" {\n  asert {}\n}", "2:3", `Did you mean "assert"`},
		{"run \"a\" {\n  lose = [\"node-4\"]\n}", "2:10", `Did you mean "node-1"`},
		{"run \"a\" {\n  lose = []\n}", "2:10", "names no node"},
		{"run \"a\" {\n  lose = [null]\n}", "2:10", "a list of names"},
		{"run \"a\" {\n  lose  = [\"node-1\"]\n  drain = [\"node-2\"]\n}", "3:3", "Make two runs"},
		{"run \"a\" {\n  lose = [\"node-1\"]\n  variables {}\n}", "3:3", "Variables without effect"},
		{"run \"a\" {\n  expect_error = \"\"\n}", "2:18", "empty part"},
		{"run \"a\" {\n  expect_error = \"x\"\n  " + assert + "\n}", "3:3", "never reached"},
		{"run \"a\" {\n  expect_failures = [\"check.small\"]\n}", "2:22", "without quotation marks"},
		{"run \"a\" {\n  expect_failures = 1\n}", "2:21", "is a list"},
		{"run \"a\" {\n  expect_failures = [check.smal]\n}", "2:28", `Did you mean "small"`},
		{"run \"a\" {\n  expect_failures = [chec.small]\n}", "2:22", `Did you mean "check"`},
		{"run \"a\" {\n  expect_refusals = [\"a.\"]\n}", "2:21", "names no policy"},
		{"run \"a\" {\n  expect_refusals = [\"a.b.c\"]\n}", "2:21", "names no policy"},
		{"run \"a\" {\n  expect_refusals = []\n}", "2:21", "names nothing"},
		{"run \"a\" {\n  expect_refusals = [\"a\", \"a\"]\n}", "2:21", "stands here twice"},
		{"run \"a\" {\n  expect_refusals = 1\n}", "2:21", "list"},
		{"run \"a\" {\n  expect_refusals = [\"a\"]\n  lose = [\"node-1\"]\n}", "2:3", "cannot come"},
		{"run \"a\" {\n  expect_refusals = [\"a\"]\n  expect_error = \"x\"\n}", "2:3", "cannot come"},
		{"run \"a\" {\n  assert {\n    condition = true\n  }\n}", "2:3", `"error_message" is needed`},
		{"run \"a\" {\n  assert {\n    condition     = plan.outcom == \"\"\n    error_message = \"x\"\n  }\n}", "3:26", `Did you mean "outcome"`},
		{"run \"a\" {\n  assert {\n    condition     = output.m == 1\n    error_message = \"x\"\n  }\n}", "3:28", `Did you mean "n"`},
		{"run \"a\" {\n  assert {\n    condition     = lengt([]) == 1\n    error_message = \"x\"\n  }\n}", "3:21", `Did you mean "length"`},
		{"run \"a\" {\n  assert {\n    condition     = self.replicas == 1\n    error_message = \"x\"\n  }\n}", "3:21", "No self here"},
		{"run \"a\" {", "", "Unclosed"},
	} {
		t.Run(c.want, func(t *testing.T) {
			_, _, diags := tested(t, c.text+"\n")
			if len(diags) != 1 {
				t.Fatalf("%d mistakes are told:\n%v", len(diags), diags)
			}
			d := diags[0]
			if !strings.Contains(d.Summary+": "+d.Detail, c.want) {
				t.Errorf("it says %s: %s", d.Summary, d.Detail)
			}
			if d.Range == nil || !strings.HasSuffix(d.Range.File, "a.berthtest.hcl") {
				t.Fatalf("it has no place: %+v", d.Range)
			}
			if at := fmt.Sprintf("%d:%d", d.Range.Start.Line, d.Range.Start.Column); c.at != "" && at != c.at {
				t.Errorf("it is told at %s, not at %s", at, c.at)
			}
		})
	}
}

// What a file gives: nodes with their defaults, values for variables; and it is
// no part of the configuration.
func TestATestFileGives(t *testing.T) {
	dir, files, diags := tested(t, `variables { replicas = 4 }
node "n" {
  count      = 2
  memory     = "4Gi"
  zone       = element(["a", "b"], count.index)
  labels     = { disk = "ssd" }
  attributes = { os = "linux" }
  taint "dedicated" {
    value  = "x"
    effect = "no_execute"
  }
}
run "file" {}
run "own" {
  variables { replicas = var.replicas + 1 }
}
`)
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	f := files[0]
	if len(f.Nodes) != 2 || f.Nodes[1].Name != "n-2" {
		t.Fatalf("nodes: %+v", f.Nodes)
	}
	n := f.Nodes[1]
	if n.Labels["zone"] != "b" || n.Labels["disk"] != "ssd" || n.Status.Attributes["os"] != "linux" || n.Status.Memory != 4<<30 || n.Status.CPU != 4000 ||
		n.Status.Pods != 110 || n.Status.Condition != object.NodeReady || len(n.Spec.Taints) != 1 || n.Spec.Taints[0] != (object.Taint{Key: "dedicated", Value: "x", Effect: "no_execute"}) {
		t.Errorf("node: %+v", n)
	}
	for i, want := range []int{4, 5} {
		x, diags := f.Load(f.Runs[i], Options{Vars: []VarArgument{{Assignment: "replicas=9"}}})
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		if have := x.Objects[0].Object.(*object.Deployment).Spec.Replicas; have != want {
			t.Errorf("run %q has %d replicas, not %d: a test's own value wins", f.Runs[i].Name, have, want)
		}
	}
	plain, diags := Load(dir, Options{})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	for name := range plain.Files {
		if strings.HasSuffix(name, TestSuffix) {
			t.Errorf("%s is part of the configuration", name)
		}
	}
	_, files, _ = tested(t, "run \"a\" {}\n")
	if len(files[0].Nodes) != testNodes || files[0].Nodes[0].Name != "node-1" {
		t.Errorf("a file without nodes has %+v", files[0].Nodes)
	}
}

// What is expected to fail passes; what fails unexpectedly, or is expected in vain, does not.
func TestExpectations(t *testing.T) {
	for _, c := range []struct{ run, want string }{
		{"variables { replicas = 12 }", "Check block assertion failed"},
		{"variables { replicas = 12 }\n expect_failures = [check.small]", ""},
		{"expect_failures = [check.small]", "Missing expected failure"},
		{"variables { replicas = 0 }\n expect_failures = [var.replicas]", ""},
		{"variables { replicas = 0 }\n expect_failures = [check.small]", "Invalid value for variable"},
		{"variables { replicas = 0 }\n expect_error = \"at   least\"", "Missing expected error"},
		{"variables { replicas = 0 }\n expect_error = \"At  least\"", ""},
		{"expect_error = \"At least\"", "Missing expected error"},
		{"variables { replicas = \"x\" }\n expect_error = \"a number is required\"", ""},
	} {
		_, files, diags := tested(t, "run \"a\" {\n"+c.run+"\n}\n")
		if len(diags) > 0 {
			t.Fatal(diags)
		}
		x, found := files[0].Load(files[0].Runs[0], Options{})
		got := x.Settle(append(diags, found...))
		if c.want == "" && len(got) > 0 || c.want != "" && (!got.HasErrors() || !strings.Contains(got[len(got)-1].Summary+got[0].Summary, c.want)) {
			t.Errorf("%s\nwant %q, got %v", c.run, c.want, got)
		}
	}
}

// An assertion that fails shows both sides of the comparison that fails, and never
// what is sensitive.
func TestBothSides(t *testing.T) {
	for _, c := range []struct{ condition, want string }{
		{`plan.duration <= var.replicas`, "LHS: 7\n  RHS: 2"},
		{`var.replicas == 2 && (output.n > 3)`, "LHS: 2\n  RHS: 3"},
		{`var.replicas == 3 && output.n == 2`, "LHS: 2\n  RHS: 3"},
		{`[for n in range(2) : n] == [1]`, "LHS: [\n    0,\n    1,\n  ]\n  RHS: [\n    1,\n  ]"},
		{`sensitive("hunter2") == "x"`, ""},
		{`length([]) == 0 ? false : true`, ""},
	} {
		_, files, diags := tested(t, "run \"a\" {\n  assert {\n    condition     = "+c.condition+"\n    error_message = \"No.\"\n  }\n}\n")
		if len(diags) > 0 {
			t.Fatal(diags)
		}
		x, diags := files[0].Load(files[0].Runs[0], Options{})
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		p := &object.Plan{}
		if err := p.Forecast.Duration.UnmarshalText([]byte("7s")); err != nil {
			t.Fatal(err)
		}
		got := x.Assert(p)
		if len(got) != 1 || got[0].Summary != "Test assertion failed" {
			t.Fatalf("%s: %v", c.condition, got)
		}
		if !strings.HasPrefix(got[0].Detail, "No.") || !strings.Contains(got[0].Detail, c.want) || c.want == "" && strings.Contains(got[0].Detail, "LHS") || strings.Contains(got[0].Detail, "hunter2") {
			t.Errorf("%s:\n%s", c.condition, got[0].Detail)
		}
	}
}

// A policy stands beside the configuration that applies it, as docs/policies.md has it.
func TestPolicyFilesAreNoPartOfAConfiguration(t *testing.T) {
	rule := "rule \"named\" {\n  enforcement   = \"hard\"\n  condition     = plan.pods_stopped < 5\n  error_message = \"Too many.\"\n}\n"
	dir := t.TempDir()
	for name, text := range map[string]string{"main.hcl": "policy \"images\" {\n  source = file(\"images.policy.hcl\")\n}\n", "images" + PolicySuffix: rule} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	x, diags := Load(dir, Options{})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if len(x.Objects) != 1 || x.Objects[0].Object.(*object.Policy).Spec.Source != rule {
		t.Errorf("the configuration has %+v", x.Objects)
	}
}
