package hcl

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berthdev/berth/cluster/object"
)

// write makes a configuration directory of files; names to texts.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "shop")
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func mustLoad(t testing.TB, dir string, o Options) *Configuration {
	t.Helper()
	c, diags := Load(dir, o)
	for _, d := range diags {
		if d.Severity == object.SeverityError {
			t.Errorf("%s", show(d))
		}
	}
	if c == nil {
		t.FailNow()
	}
	return c
}

// show is a diagnostic in one line.
func show(d object.Diagnostic) string {
	at := ""
	if d.Range != nil {
		at = fmt.Sprintf("%s:%d:%d: ", filepath.Base(d.Range.File), d.Range.Start.Line, d.Range.Start.Column)
	}
	return at + d.Summary + ": " + d.Detail
}

func find[T object.Object](t testing.TB, c *Configuration, address string) (T, Declared) {
	t.Helper()
	for _, d := range c.Objects {
		if d.Address == address {
			o, ok := d.Object.(T)
			if !ok {
				t.Fatalf("%s is a %T", address, d.Object)
			}
			return o, d
		}
	}
	t.Fatalf("there is no %s", address)
	panic("unreachable")
}

const shop = `
berth {
  required_version = ">= 0.1"
  stack            = "shop"
  namespace        = "front"
}

variable "version" {
  type = string
}
variable "replicas" {
  type    = number
  default = 4
  validation {
    condition     = var.replicas >= 2
    error_message = "The shop needs two front ends at least, not ${var.replicas}."
  }
}
variable "db_password" {
  type      = string
  sensitive = true
}
variable "ports" {
  type    = map(number)
  default = { http = 8080, admin = 9090 }
}

locals {
  labels = { app = "shop", tier = "front" }
  url    = "http://${service.api.host}:80"
}

namespace "front" {
  quota {
    cpu    = 4
    memory = "4Gi"
  }
}

secret "db" {
  data = { password = var.db_password }
}

config_map "web" {
  data = {
    "app.toml" = file("${path.module}/app.toml")
    index      = templatefile("index.tpl", { name = "shop", n = var.replicas })
  }
}

deployment "web" {
  replicas    = var.replicas
  labels      = local.labels
  annotations = { owner = "team-a" }

  update {
    surge          = "25%"
    unavailable    = 0
    min_ready_time = "5s"
  }

  pod {
    labels = local.labels
    grace  = "30s"
    spread {
      over = "zone"
    }
    constraint {
      attribute = "disk"
      operator  = "in"
      values    = ["ssd", "nvme"]
    }
    tolerate {
      key   = "dedicated"
      value = "front"
    }
    init "migrate" {
      image   = "registry.example/shop/migrate:${var.version}"
      command = ["/migrate", "up"]
    }
    container "web" {
      image = "registry.example/shop/web:${var.version}"
      env = {
        API         = local.url
        DB_PASSWORD = secret.db.data.password
        DB_URL      = "postgres://app:${secret.db.data.password}@db/shop"
        WORKERS     = 4
      }
      dynamic "port" {
        for_each = var.ports
        labels   = [port.key]
        content {
          port = port.value
        }
      }
      resources {
        cpu    = "250m"
        memory = "64Mi"
        limits {
          memory = "128Mi"
        }
      }
      readiness {
        http {
          path = "/healthz"
          port = "http"
        }
        period = "1s"
      }
      mount "config" {
        path      = "/etc/app"
        read_only = true
      }
    }
    volume "config" {
      config_map = config_map.web.name
    }
  }

  lifecycle {
    prevent_destroy = true
    ignore_changes  = [replicas, pod.container["web"].image, labels["x"]]
  }
}

deployment "api" {
  replicas = 0
  pod {
    labels = { app = "api" }
    container "api" {
      image = "registry.example/shop/api:1"
      env   = { INDEX = config_map.web.data["index"] }
    }
  }
  depends_on = [secret.db]
}

service "api" {
  selector = deployment.api.pod.labels
  port "http" {
    port   = 80
    target = 8080
  }
}

pod "worker" {
  for_each = toset(["a", "b"])
  labels   = { n = each.key }
  container "w" {
    image = "w:1"
    args  = ["--name", each.value]
  }
}

pod "numbered" {
  count = 2
  container "w" {
    image = "w:${count.index}"
  }
}

pod "never" {
  enabled = false
  container "w" {
    image = "w:1"
  }
}

output "url" {
  value       = local.url
  description = "where"
}
output "names" {
  value = [for k, p in pod.worker : p.name]
}
output "password" {
  value     = var.db_password
  sensitive = true
}
`

var shopFiles = map[string]string{"main.hcl": shop, "app.toml": "x = 1\n", "index.tpl": "<h1>${name} ${n}</h1>", "berth.hclvars": `db_password = "hunter2"`}

func shopOptions() Options {
	return Options{Vars: []VarArgument{{Assignment: "version=1.4.2"}}, Version: "0.1.0", Now: time.Unix(1_700_000_000, 0)}
}

func TestLoad(t *testing.T) {
	c := mustLoad(t, write(t, shopFiles), shopOptions())
	if c.Stack != "shop" || c.Namespace != "front" {
		t.Errorf("stack %q, namespace %q", c.Stack, c.Namespace)
	}
	var addresses []string
	for _, d := range c.Objects {
		addresses = append(addresses, d.Address)
	}
	want := []string{"namespace.front", "config_map.web", "secret.db", "pod.numbered[0]", "pod.numbered[1]", `pod.worker["a"]`, `pod.worker["b"]`, "deployment.api", "deployment.web", "service.api"}
	if !slices.Equal(addresses, want) {
		t.Errorf("objects %q", addresses)
	}

	web, d := find[*object.Deployment](t, c, "deployment.web")
	got := web.Spec
	container := got.Pod.Containers[0]
	if got.Replicas != 4 || got.Update.Surge != (object.Amount{N: 25, Percent: true}) || got.Update.MinReadyTime.String() != "5s" || got.Update.ProgressDeadline.String() != "2m" || got.History != 10 {
		t.Errorf("spec %+v", got)
	}
	if env := container.Env; env["API"] != "http://api.front.svc.cluster.local:80" || env["DB_PASSWORD"] != "${secret.db.data.password}" ||
		env["DB_URL"] != "postgres://app:${secret.db.data.password}@db/shop" || env["WORKERS"] != "4" {
		t.Errorf("env %v", env)
	}
	if len(container.Ports) != 2 || container.Ports[1].Name != "http" || container.Ports[1].Port != 8080 || container.Ports[1].Protocol != "tcp" {
		t.Errorf("ports %v", container.Ports)
	}
	if r := container.Resources; r.CPU != 250 || r.Memory != 64<<20 || r.Limits.Memory != 128<<20 {
		t.Errorf("resources %v", r)
	}
	if got.Pod.Volumes[0].ConfigMap != "web" || !container.Mounts[0].ReadOnly || container.Readiness.HTTP.Port != "http" || container.Readiness.Failure != 3 {
		t.Errorf("container %+v", container)
	}
	if web.Stack != "shop" || web.Namespace != "front" || !web.PreventDestroy || web.Labels["tier"] != "front" || web.Annotations["owner"] != "team-a" {
		t.Errorf("meta %+v", web.Meta)
	}
	if want := []string{`labels["x"]`, `pod.container["web"].image`, "replicas"}; !slices.Equal(d.IgnoreChanges, want) {
		t.Errorf("ignore_changes %q", d.IgnoreChanges)
	}
	if want := []object.Ref{
		{Kind: "config_map", Namespace: "front", Name: "web"}, {Kind: "namespace", Name: "front"},
		{Kind: "secret", Namespace: "front", Name: "db"}, {Kind: "service", Namespace: "front", Name: "api"},
	}; !slices.Equal(d.References, want) || !slices.Equal(web.After, want) {
		t.Errorf("references %v, after %v", d.References, web.After)
	}
	if d.Range.Start.Line != strings.Count(shop[:strings.Index(shop, `deployment "web"`)], "\n")+1 || d.Range.Start.Column != 1 {
		t.Errorf("range %+v", d.Range)
	}

	api, d := find[*object.Deployment](t, c, "deployment.api")
	if api.Spec.Replicas != 0 || api.Spec.Pod.Containers[0].Env["INDEX"] != "<h1>shop 4</h1>" || len(d.DependsOn) != 1 {
		t.Errorf("api %+v %v", api.Spec, d.DependsOn)
	}
	svc, _ := find[*object.Service](t, c, "service.api")
	if svc.Spec.Selector["app"] != "api" || svc.Spec.Ports[0].Target != "8080" || svc.Spec.Type != "cluster" {
		t.Errorf("service %+v", svc.Spec)
	}
	sec, _ := find[*object.Secret](t, c, "secret.db")
	if plain, ok := sec.Spec.Data["password"].Reveal(); !ok || plain != "hunter2" {
		t.Error("the secret lost its value")
	}
	worker, _ := find[*object.Pod](t, c, `pod.worker["b"]`)
	if worker.Name != "worker-b" || worker.Labels["n"] != "b" || worker.Spec.Pod.Labels["n"] != "b" || worker.Spec.Pod.Containers[0].Args[1] != "b" {
		t.Errorf("worker %+v", worker)
	}
	wantOut := map[string]object.Output{
		"url": {Value: "http://api.front.svc.cluster.local:80", Description: "where"}, "names": {Value: []any{"worker-a", "worker-b"}}, "password": {Sensitive: true},
	}
	if diff := cmp.Diff(wantOut, c.Outputs); diff != "" {
		t.Error(diff)
	}
	if plain, _ := c.SensitiveOutputs["password"].Reveal(); plain != `"hunter2"` {
		t.Errorf("sensitive output %q", plain)
	}
}

func TestLoadIsDeterministic(t *testing.T) {
	dir := write(t, shopFiles)
	digest := func() string {
		c := mustLoad(t, dir, shopOptions())
		var all []string
		for _, d := range c.Objects {
			all = append(all, d.Address, object.Digest(object.Any{Object: d.Object}), fmt.Sprint(d.References, d.DependsOn, d.IgnoreChanges))
		}
		return object.Digest(append(all, c.Source.Digest))
	}
	first := digest()
	for range 10 {
		if digest() != first {
			t.Fatal("two loads of the same files differ")
		}
	}
}

func TestVariablePrecedence(t *testing.T) {
	files := map[string]string{
		"main.hcl": "variable \"x\" {\n  type = string\n  default = \"default\"\n}\noutput \"x\" {\n  value = var.x\n}\n",
	}
	check := func(want string, o Options) {
		t.Helper()
		if got := mustLoad(t, write(t, files), o).Outputs["x"].Value; got != want {
			t.Errorf("x is %v, not %s", got, want)
		}
	}
	var o Options
	check("default", o)
	o.Environ = []string{"BERTH_VAR_x=environment", "BERTH_VAR_other=1", "X=2"}
	check("environment", o)
	files["berth.hclvars"] = `x = "berth.hclvars"`
	check("berth.hclvars", o)
	files["a.auto.hclvars"] = `x = "a.auto"`
	check("a.auto", o)
	files["b.auto.hclvars.json"] = `{"x": "b.auto"}`
	check("b.auto", o)
	given := filepath.Join(t.TempDir(), "given.hclvars")
	if err := os.WriteFile(given, []byte(`x = "given"`), 0o600); err != nil {
		t.Fatal(err)
	}
	o.Vars = []VarArgument{{Assignment: "x=argument"}, {File: given}}
	check("given", o)
	o.Vars = []VarArgument{{File: given}, {Assignment: "x=argument"}}
	check("argument", o)
}

func TestVariableTypes(t *testing.T) {
	dir := write(t, map[string]string{"main.hcl": `
variable "list" {
  type = list(string)
}
variable "object" {
  type = object({ a = number, b = optional(string, "dflt") })
}
variable "flag" {
  type = bool
}
variable "none" {
  type     = string
  default  = "not null"
  nullable = false
}
variable "asked" {}
output "all" {
  value = [var.list, var.object, var.flag, var.none, var.asked]
}
`, "berth.hclvars": "none = null"})
	var questions []Question
	c := mustLoad(t, dir, Options{
		Environ: []string{`BERTH_VAR_list=["a", "b"]`, `BERTH_VAR_object={ a = "1" }`, "BERTH_VAR_flag=true"},
		Input:   func(q Question) (string, error) { questions = append(questions, q); return "answer", nil },
	})
	want := []any{[]any{"a", "b"}, map[string]any{"a": 1.0, "b": "dflt"}, true, "not null", "answer"}
	if diff := cmp.Diff(want, c.Outputs["all"].Value); diff != "" {
		t.Error(diff)
	}
	if len(questions) != 1 || questions[0].Name != "asked" {
		t.Errorf("asked %v", questions)
	}
}

// A configuration in JSON means what it means in the native syntax.
func TestJSON(t *testing.T) {
	native := mustLoad(t, write(t, map[string]string{"main.hcl": `
locals {
  app = "web"
}
deployment "web" {
  replicas = 2
  pod {
    labels = { app = local.app }
    container "web" {
      image = "web:${1 + 1}"
      port "http" {
        port = 80
      }
      dynamic "port" {
        for_each = { admin = 81 }
        labels   = [port.key]
        content {
          port = port.value
        }
      }
    }
    constraint {
      attribute = "zone"
      value     = "a"
    }
    constraint {
      attribute = "arch"
      value     = "amd64"
    }
  }
  lifecycle {
    ignore_changes = [replicas]
  }
}
`}), Options{})
	fromJSON := mustLoad(t, write(t, map[string]string{"main.hcl.json": `{
  "//": "a comment",
  "locals": {"app": "web"},
  "deployment": {"web": {
    "replicas": 2,
    "pod": {
      "labels": {"app": "${local.app}"},
      "container": {"web": {
        "image": "web:${1 + 1}",
        "port": {"http": {"port": 80}},
        "dynamic": {"port": {"for_each": {"admin": 81}, "labels": ["${port.key}"], "content": {"port": "${port.value}"}}}
      }},
      "constraint": [{"attribute": "zone", "value": "a"}, {"attribute": "arch", "value": "amd64"}]
    },
    "lifecycle": {"ignore_changes": ["replicas"]}
  }}
}`}), Options{})
	if len(fromJSON.Objects) != 1 {
		t.Fatal(fromJSON.Objects)
	}
	if diff := cmp.Diff(native.Objects[0].Object, fromJSON.Objects[0].Object); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(native.Objects[0].IgnoreChanges, fromJSON.Objects[0].IgnoreChanges); diff != "" {
		t.Error(diff)
	}
}

// However a configuration is damaged, Load answers with mistakes or with what it
// means, and every mistake has a place in a file or says what it is about.
func TestDamagedConfigurations(t *testing.T) {
	lines := strings.SplitAfter(shop, "\n")
	words := []string{"", "}\n", "  x = var.nothing\n", "  pod {\n", "  count = secret.db.data.password\n", "  dynamic \"port\" {\n", "  replicas = null\n", "  for_each = deployment.web\n", "  labels = [1, null]\n", "  data = { a = { b = 1 } }\n"}
	files := maps.Clone(shopFiles)
	dir := write(t, files)
	for i := range lines {
		damaged := slices.Clone(lines)
		damaged[i] = words[i%len(words)]
		if err := os.WriteFile(filepath.Join(dir, "main.hcl"), []byte(strings.Join(damaged, "")), 0o600); err != nil {
			t.Fatal(err)
		}
		c, diags := Load(dir, shopOptions())
		if (c == nil) != diags.HasErrors() {
			t.Fatalf("line %d: a configuration %v, errors %v", i+1, c != nil, diags)
		}
		for _, d := range diags {
			if d.Summary == "" || d.Detail == "" || strings.Contains(d.Detail, "hunter2") {
				t.Errorf("line %d: %+v", i+1, d)
			}
		}
	}
}
