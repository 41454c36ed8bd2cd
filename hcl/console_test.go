package hcl

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/zclconf/go-cty/cty"
)

const consoleShop = `
berth {
  stack     = "shop"
  namespace = "front"
}
variable "version" { type = string }
variable "password" {
  type      = string
  default   = "s3cret"
  sensitive = true
}
variable "ports" {
  type    = map(number)
  default = { http = 80 }
}
locals {
  image = "app:${var.version}"
  label = { app = "web", key = var.password }
}
secret "db" {
  data = { password = var.password }
}
deployment "web" {
  replicas = 3
  pod {
    labels = { app = "web" }
    container "web" {
      image = "app:1"
      env   = { PASSWORD = "x-${secret.db.data.password}" }
    }
  }
}
deployment "versioned" {
  pod {
    container "web" { image = local.image }
  }
}
service "each" {
  for_each = var.ports
  selector = deployment.web.pod.labels
  port "http" { port = each.value }
}
module "site" {
  source = "./site"
  name   = "eu"
}
`

func consoleOf(t *testing.T, o Options) *Console {
	t.Helper()
	o.Now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	dir := write(t, map[string]string{"main.hcl": consoleShop, "site/main.hcl": "variable \"name\" {}\noutput \"host\" { value = \"${var.name}.example\" }\noutput \"key\" {\n  value     = \"k\"\n  sensitive = true\n}\n"})
	c, diags := NewConsole(dir, o)
	if c == nil || len(diags) > 0 {
		t.Fatal(diags)
	}
	return c
}

func TestConsoleAnswers(t *testing.T) {
	c := consoleOf(t, Options{Vars: []VarArgument{{Assignment: "version=2"}}})
	for typed, want := range map[string]string{
		`1 + 2 * 3`:                              "7",
		`local.image`:                            `"app:2"`,
		`var.ports`:                              "tomap({\n  \"http\" = 80\n})",
		`var.password`:                           "(sensitive value)",
		`"x${var.password}"`:                     "(sensitive value)",
		`local.label`:                            "{\n  \"app\" = \"web\"\n  \"key\" = (sensitive value)\n}",
		`[for k, v in var.ports : "${k}:${v}"]`:  "[\n  \"http:80\",\n]",
		`deployment.web.replicas`:                "3",
		`deployment.web.pod.labels.app`:          `"web"`,
		`deployment.web.pod.container.web.image`: `"app:1"`,
		`deployment.web.pod.container.web.env`:   "tomap({\n  \"PASSWORD\" = \"x-${secret.db.data.password}\"\n})",
		`secret.db.data.password`:                `"${secret.db.data.password}"`,
		`service.each["http"].host`:              `"each-http.front.svc.cluster.local"`,
		`module.site.host`:                       `"eu.example"`,
		`module.site`:                            "{\n  \"host\" = \"eu.example\"\n  \"key\" = (sensitive value)\n}",
		`type({ (var.password) = 1 })`:           "object",
		`"${type(1)}s"`:                          `"numbers"`,
		`berth.stack`:                            `"shop"`,
		`timestamp()`:                            `"2026-01-02T03:04:05Z"`,
		`["a\nb"]`:                               "[\n  <<-EOT\n  a\n  b\n  EOT,\n]",
		`"EOT\nb"`:                               "<<EOT_\nEOT\nb\nEOT_",
		`null`:                                   "null",
		`tolist(null)`:                           "tolist(null) /* of dynamic */",
		"<<EOT\na\nEOT":                          "<<EOT\na\n\nEOT",
		"{\n  a = 1\n}":                          "{\n  \"a\" = 1\n}",
		`type(local.label)`:                      "object({\n    app: string,\n    key: string,\n})",
	} {
		a, diags := c.Evaluate(typed)
		if len(diags) > 0 {
			t.Errorf("%s: %s", typed, show(diags[0]))
		} else if a.Text != want {
			t.Errorf("%s\n is %s\nnot %s", typed, a.Text, want)
		}
	}
	// A mistake says where in what was typed it is, and what was meant.
	for typed, want := range map[string]string{
		`1 +`:                        "Missing expression",
		`local.imege`:                `Did you mean "image"?`,
		`depolyment.web`:             `Did you mean "deployment"?`,
		`deployment.web.replica`:     `Did you mean "replicas"?`,
		`uper("a")`:                  `Did you mean "upper"?`,
		`local.imege + uper("a")`:    `Did you mean "upper"?`,
		`each.key`:                   "only in a block with for_each",
		`service.each.host`:          `service.each["key"].host`,
		`module.site.port`:           `no output "port"`,
		`upper([])`:                  "string required",
		`tonumber(var.password)`:     "withheld",
		`lookup({}, var.password)`:   "sensitive key",
		`base64decode(var.password)`: "withheld",
	} {
		_, diags := c.Evaluate(typed)
		said := ""
		for _, d := range diags {
			said += show(d) + "\n"
			if d.Range == nil || d.Range.File != consoleFile || d.Snippet != typed {
				t.Errorf("%s: the place of the mistake is %v %q", typed, d.Range, d.Snippet)
			}
		}
		if !strings.Contains(said, want) {
			t.Errorf("%s is told %q, which does not say %q", typed, said, want)
		}
		if strings.Contains(said, "s3cret") {
			t.Errorf("%s tells the secret: %s", typed, said)
		}
	}
}

// A variable without a value does not keep the rest from being looked at.
func TestConsoleWithoutAVariable(t *testing.T) {
	c := consoleOf(t, Options{})
	if a, diags := c.Evaluate("deployment.web.replicas"); len(diags) > 0 || a.Text != "3" {
		t.Error(a, diags)
	}
	for _, typed := range []string{"var.version", "local.image", "deployment.versioned.pod"} {
		_, diags := c.Evaluate(typed)
		if len(diags) != 1 || !strings.Contains(diags[0].Detail, `variable "version" has no value`) || !strings.Contains(diags[0].Detail, "--var version=") {
			t.Errorf("%s: %v", typed, diags)
		}
	}
}

// Neither does a mistake, which is told once, nor an empty directory.
func TestConsoleOfWhatIsNotWhole(t *testing.T) {
	dir := write(t, map[string]string{"main.hcl": "locals {\n  a = 1\n  b = nosuch(2)\n  c = local.b\n}\noutput \"x\" { value = local.b }\n"})
	c, diags := NewConsole(dir, Options{})
	if c == nil || len(diags) != 1 || !strings.Contains(diags[0].Detail, "nosuch") {
		t.Fatal(diags)
	}
	if a, diags := c.Evaluate("local.a"); len(diags) > 0 || a.Text != "1" {
		t.Error(a, diags)
	}
	if _, diags := c.Evaluate("local.c"); len(diags) != 1 || !strings.Contains(diags[0].Detail, "told when the console started") {
		t.Error(diags)
	}
	c, diags = NewConsole(t.TempDir(), Options{})
	if c == nil || len(diags) > 0 {
		t.Fatal(diags)
	}
	if a, diags := c.Evaluate(`upper("a")`); len(diags) > 0 || a.Text != `"A"` {
		t.Error(a, diags)
	}
	if _, diags := c.Evaluate(`var.a`); !diags.HasErrors() {
		t.Error("a variable that nobody declares")
	}
	for _, bad := range []map[string]string{{"main.hcl": "locals {"}, {"main.hcl": "module \"m\" { source = \"./nothing\" }"}} {
		if c, diags := NewConsole(write(t, bad), Options{}); !diags.HasErrors() || (c == nil) != strings.HasPrefix(bad["main.hcl"], "locals") {
			t.Error(c, diags)
		}
	}
	if c, diags := NewConsole(dir+"/absent", Options{}); c != nil || !diags.HasErrors() {
		t.Error(c, diags)
	}
}

func TestConsoleForMachines(t *testing.T) {
	c := consoleOf(t, Options{})
	a, diags := c.Evaluate(`{ a = [1, true, null], c = toset(["x"]), d = var.password, e = 12345678901234567890 }`)
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	b, err := json.Marshal(a.Value)
	if want := `{"a":[1,true,null],"c":["x"],"d":null,"e":12345678901234567890}`; err != nil || string(b) != want {
		t.Errorf("%s %v", b, err)
	}
	if !a.Sensitive {
		t.Error("a part of it is sensitive")
	}
}

func TestConsoleNames(t *testing.T) {
	names := consoleOf(t, Options{}).Names()
	for _, want := range []string{"var.version", "local.image", "module.site", "module.site.host", "deployment.web", "deployment.web.replicas", "service.each", "upper(", "path.module", "berth.stack"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not among the names", want)
		}
	}
	if slices.Contains(names, "service.each.host") {
		t.Error("service.each.host needs a key")
	}
}

func TestContinues(t *testing.T) {
	for text, want := range map[string]bool{
		"1 + 2": false, "{": true, "{\n  a = 1": true, "{\n  a = 1\n}": false, "upper(": true, "[1,": true, "<<EOT": true, "<<EOT\na": true, "<<EOT\na\nEOT\n": false,
		`"abc`: false, `"${upper(`: false, "": false, "{\n": false, "}": false, "[\n\n": false,
	} {
		if got := Continues(text); got != want {
			t.Errorf("Continues(%q) = %t", text, got)
		}
	}
}

func TestValueText(t *testing.T) {
	for want, v := range map[string]cty.Value{
		"(not known)":                            cty.UnknownVal(cty.String),
		"tonumber(null)":                         cty.NullVal(cty.Number),
		"toset(null) /* of string */":            cty.NullVal(cty.Set(cty.String)),
		"tomap(null) /* of bool */":              cty.NullVal(cty.Map(cty.Bool)),
		"null /* object */":                      cty.NullVal(cty.EmptyObject),
		"tolist([])":                             cty.ListValEmpty(cty.String),
		"{}":                                     cty.EmptyObjectVal,
		"0.1":                                    cty.MustParseNumberVal("0.1"),
		"tolist([\n  <<-EOT\n  \n  \n  EOT,\n])": cty.ListVal([]cty.Value{cty.StringVal("\n")}),
	} {
		if got := valueText(v, 0); got != want {
			t.Errorf("%s", cmp.Diff(want, got))
		}
	}
}
