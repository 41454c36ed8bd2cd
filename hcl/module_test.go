package hcl

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berthdev/berth/cluster/object"
)

const webModule = `
variable "namespace" { type = string }
variable "image"     { type = string }
variable "replicas" {
  type    = number
  default = 2
  validation {
    condition     = var.replicas > 0
    error_message = "At least one."
  }
}
variable "env" {
  type    = map(string)
  default = {}
}
locals { labels = { app = "web" } }
deployment "web" {
  namespace = var.namespace
  replicas  = var.replicas
  pod {
    labels = local.labels
    container "web" {
      image = var.image
      env   = var.env
    }
  }
}
service "web" {
  namespace = var.namespace
  selector  = deployment.web.pod.labels
  port "http" { port = 80 }
}
config_map "text" {
  namespace = var.namespace
  data      = { text = file("${path.module}/text.txt"), where = "${path.module} ${path.root}" }
}
output "host" { value = service.web.host }
output "replicas" { value = var.replicas }
`

// What a module makes: addresses, inputs, outputs, files of its own, and the
// order of waves through inputs and outputs.
func TestModules(t *testing.T) {
	dir := write(t, map[string]string{
		"main.hcl": `
namespace "eu" {
}
namespace "us" {
}
namespace "off" {
}
module "web" {
  source    = "./web"
  for_each  = { eu = 3, us = 1 }
  namespace = each.key
  image     = "web:${each.value}"
  replicas  = each.value
}
module "front" {
  source    = "./web"
  namespace = "default"
  image     = "front:1"
  env       = { EU = module.web["eu"].host }
  depends_on = [module.late]
}
module "none" {
  source    = "./web"
  enabled   = false
  namespace = "off"
  image     = "x:1"
}
module "late" {
  source = "./nest"
  count  = 1
}
output "hosts" {
  value = values(module.web)[*].host
}
output "deep" {
  value = module.late[0].host
}
`,
		"web/main.hcl": webModule, "web/text.txt": "hello",
		"nest/main.hcl": `
module "inner" {
  source    = "../web"
  namespace = "us"
  image     = "inner:1"
}
output "host" {
  value = module.inner.host
}
`,
	})
	// module.late and module.web["us"] clash; see below.
	_, diags := Load(dir, Options{})
	var got []string
	for _, d := range diags {
		got = append(got, show(d))
	}
	want := []string{
		`main.hcl:17:1: Duplicate name: module.web["us"].deployment.web and module.late[0].module.inner.deployment.web (web/main.hcl:17) are both the object deployment/us/web. Names must differ; rename one, or give each instance of the module a namespace by an input.`,
	}
	if len(got) != 3 || strings.ReplaceAll(got[0], dir+"/", "") != want[0] {
		t.Errorf("clash:\n%s", strings.Join(got, "\n"))
	}
	src, err := os.ReadFile(filepath.Join(dir, "nest/main.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "nest/main.hcl"), []byte(strings.Replace(string(src), `"us"`, `"off"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	c := mustLoad(t, dir, Options{})
	var addresses []string
	for _, d := range c.Objects {
		addresses = append(addresses, d.Address)
	}
	if diff := cmp.Diff([]string{
		"namespace.eu", "namespace.off", "namespace.us",
		`module.front.config_map.text`, `module.web["eu"].config_map.text`, `module.late[0].module.inner.config_map.text`, `module.web["us"].config_map.text`,
		`module.front.deployment.web`, `module.web["eu"].deployment.web`, `module.late[0].module.inner.deployment.web`, `module.web["us"].deployment.web`,
		`module.front.service.web`, `module.web["eu"].service.web`, `module.late[0].module.inner.service.web`, `module.web["us"].service.web`,
	}, addresses); diff != "" {
		t.Error(diff)
	}
	d, _ := find[*object.Deployment](t, c, `module.web["eu"].deployment.web`)
	if d.Namespace != "eu" || d.Spec.Pod.Containers[0].Image != "web:3" {
		t.Errorf("%s %+v", d.Namespace, d.Spec.Pod.Containers[0])
	}
	cm, _ := find[*object.ConfigMap](t, c, `module.late[0].module.inner.config_map.text`)
	if diff := cmp.Diff(map[string]string{"text": "hello", "where": "web ."}, cm.Spec.Data); diff != "" {
		t.Error(diff)
	}
	_, front := find[*object.Deployment](t, c, "module.front.deployment.web")
	if diff := cmp.Diff([]object.Ref{{Kind: object.KindService, Namespace: "eu", Name: "web"}, {Kind: object.KindService, Namespace: "us", Name: "web"}}, front.References); diff != "" {
		t.Errorf("an output that went into an input orders waves: %s", diff)
	}
	if len(front.DependsOn) != 3 {
		t.Errorf("depends_on of a module block waits for all of the other: %v", front.DependsOn)
	}
	if diff := cmp.Diff([]any{"web.eu.svc.cluster.local", "web.us.svc.cluster.local"}, c.Outputs["hosts"].Value); diff != "" {
		t.Error(diff)
	}
	if c.Outputs["deep"].Value != "web.off.svc.cluster.local" {
		t.Errorf("%v", c.Outputs["deep"])
	}
}

// A sensitive input stays so through modules, and out of them.
func TestModulesKeepSecrets(t *testing.T) {
	files := map[string]string{
		"main.hcl":   "variable \"pw\" {\n  sensitive = true\n}\nmodule \"a\" {\n  source = \"./a\"\n  pw = { x = var.pw }\n}\noutput \"pw\" {\n  value = module.a.pw\n}\npod \"p\" {\n  container \"c\" {\n    image = \"i:1\"\n    env = { P = module.a.ref }\n  }\n}\n",
		"a/main.hcl": "variable \"pw\" {\n  type = map(string)\n}\nsecret \"s\" {\n  data = { k = var.pw.x }\n}\noutput \"pw\" {\n  value = var.pw.x\n}\noutput \"ref\" {\n  value = secret.s.data.k\n}\n",
	}
	dir := write(t, files)
	_, diags := Load(dir, Options{Vars: []VarArgument{{Assignment: "pw=hunter2"}}})
	if len(diags) != 1 || diags[0].Summary != "Sensitive value in an output" {
		t.Fatalf("%v", diags)
	}
	files["main.hcl"] = strings.Replace(files["main.hcl"], "value = module.a.pw\n", "value = module.a.pw\n  sensitive = true\n", 1)
	c := mustLoad(t, write(t, files), Options{Vars: []VarArgument{{Assignment: "pw=hunter2"}}})
	if got, ok := c.SensitiveOutputs["pw"].Reveal(); !ok || got != `"hunter2"` {
		t.Errorf("%q", got)
	}
	if _, p := find[*object.Pod](t, c, "pod.p"); len(p.References) != 1 || p.References[0].Kind != object.KindSecret {
		t.Errorf("%v", p.References)
	}
}

// Mistakes with modules, word for word.
func TestModuleMistakes(t *testing.T) {
	leaf := "variable \"port\" {\n  type = number\n}\noutput \"x\" {\n  value = 1\n}\n"
	for _, test := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"a wrong type three modules down", map[string]string{
			"main.hcl":       "module \"a\" {\n  source = \"./a\"\n  port = \"many\"\n}\n",
			"a/main.hcl":     "variable \"port\" {\n}\nmodule \"b\" {\n  source = \"./b\"\n  port = var.port\n}\n",
			"a/b/main.hcl":   "variable \"port\" {\n}\nmodule \"c\" {\n  source = \"./c\"\n  port = var.port\n}\n",
			"a/b/c/main.hcl": leaf,
		}, `main.hcl:5:10: Wrong value for an input: The value for variable "port" of module.a.module.b.module.c does not fit: a number is required.
The whole way:
  module.a at main.hcl:1
  module.b at a/main.hcl:3
  module.c at a/b/main.hcl:3
  variable "port" at a/b/c/main.hcl:1`},
		{"a directory made of itself", map[string]string{
			"main.hcl":   "module \"a\" {\n  source = \"./a\"\n}\n",
			"a/main.hcl": "module \"b\" {\n  source = \"../b\"\n}\n",
			"b/main.hcl": "module \"again\" {\n  source = \"../a\"\n}\n",
		}, `main.hcl:1:1: Cycle of modules: The directory a is made of itself, so it would never end:
  module.a at main.hcl:1
  module.b at a/main.hcl:1
  module.again at b/main.hcl:1
Take one of these module blocks out.`},
		{"modules in a circle", map[string]string{
			"main.hcl":   "module \"a\" {\n  source = \"./a\"\n  port = module.b.x\n}\nmodule \"b\" {\n  source = \"./a\"\n  port = module.a.x\n}\n",
			"a/main.hcl": leaf,
		}, `main.hcl:3:10: Cycle of references: These refer to one another in a circle, so none can come first:
  module.a refers to module.b at main.hcl:3
  module.b refers to module.a at main.hcl:7
Break the circle: put a value that two of them need into locals or a variable.`},
		{"a missing input", map[string]string{"main.hcl": "module \"a\" {\n  source = \"./a\"\n}\n", "a/main.hcl": leaf},
			`main.hcl:1:1: Missing input: module.a needs "port", which has no default (a/main.hcl:1). Write port = … into this block.`},
		{"an unknown input", map[string]string{"main.hcl": "module \"a\" {\n  source = \"./a\"\n  port = 1\n  prot = 2\n}\n", "a/main.hcl": leaf},
			`main.hcl:4:3: No such input: The module in a has no variable "prot". Did you mean "port"?`},
		{"an unknown output", map[string]string{"main.hcl": "module \"a\" {\n  source = \"./a\"\n  port = 1\n}\noutput \"o\" {\n  value = module.a.y\n}\n", "a/main.hcl": leaf},
			`main.hcl:6:20: No such output: The module in a has no output "y". Did you mean "x"?`},
		{"which instance", map[string]string{"main.hcl": "module \"a\" {\n  source = \"./a\"\n  count = 2\n  port = 1\n}\noutput \"o\" {\n  value = module.a.x\n}\n", "a/main.hcl": leaf},
			`main.hcl:7:20: Which one?: module.a has count: say which one, module.a[0].x, or all of them, module.a[*].x.`},
		{"no directory", map[string]string{"main.hcl": "module \"a\" {\n  source = \"./b\"\n}\n"},
			`main.hcl:2:12: No such module: There is no directory b. A source is seen from the directory of the file that names it.`},
		{"a source from elsewhere", map[string]string{"main.hcl": "module \"a\" {\n  source = \"git::https://x/y\"\n}\n"},
			`main.hcl:2:12: Wrong source: "git::https://x/y" is not a directory beside this one: such a source begins with ./ or ../.`},
		{"a stack's setting", map[string]string{"main.hcl": "module \"a\" {\n  source = \"./a\"\n}\n", "a/main.hcl": "berth {\n  stack = \"x\"\n}\n"},
			`main.hcl:2:3: Setting of the stack in a module: The objects of a module belong to the stack that uses it, so a module cannot set stack. Take the line out; a namespace can be an input: variable "namespace" { … }.`},
		{"a mistake in a module is told once", map[string]string{"main.hcl": "module \"a\" {\n  source = \"./a\"\n  count = 3\n}\n", "a/main.hcl": "locals {\n  x = var.no\n}\n"},
			`main.hcl:2:11: No such variable: There is no variable "no". Declare it: variable "no" { … }.`},
		{"a failed validation", map[string]string{"main.hcl": "module \"a\" {\n  source = \"./a\"\n  n = 0\n}\n",
			"a/main.hcl": "variable \"n\" {\n  validation {\n    condition = var.n > 0\n    error_message = \"More.\"\n  }\n}\n"},
			`main.hcl:1:1: Invalid value for variable "n": More.

This was checked by the validation at a/main.hcl:2.
The whole way:
  module.a at main.hcl:1
  variable "n" at a/main.hcl:1`},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := write(t, test.files)
			_, diags := Load(dir, Options{})
			var got []string
			for _, d := range diags {
				got = append(got, strings.ReplaceAll(strings.ReplaceAll(show(d), dir+"/", ""), dir, "."))
			}
			if diff := cmp.Diff(test.want, strings.Join(got, "\n")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Ten thousand deployments: 200 modules of 50, in 20 source directories.
func BenchmarkLoadModules(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "stack")
	var main strings.Builder
	for i := range 200 {
		fmt.Fprintf(&main, "module \"m%03d\" {\n  source = \"./d%02d\"\n  namespace = \"n%03d\"\n}\n", i, i%20, i)
	}
	for i := range 20 {
		sub := filepath.Join(dir, fmt.Sprintf("d%02d", i))
		if err := os.MkdirAll(sub, 0o700); err != nil {
			b.Fatal(err)
		}
		var s strings.Builder
		s.WriteString("variable \"namespace\" {\n  type = string\n}\n")
		for n := range 50 {
			s.WriteString(strings.Replace(literalBlock(n), "  replicas = 3\n", "  namespace = var.namespace\n  replicas = 3\n", 1))
		}
		if err := os.WriteFile(filepath.Join(sub, "main.hcl"), []byte(s.String()), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "main.hcl"), []byte(main.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	benchmarkLoad(b, dir, 10_000)
}
