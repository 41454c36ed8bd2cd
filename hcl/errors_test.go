package hcl

import (
	"strings"
	"testing"

	"github.com/berthdev/berth/cluster/object"
)

// pod is a good deployment around lines of its container.
func containerWith(lines string) string {
	return "deployment \"web\" {\n  pod {\n    container \"web\" {\n      image = \"web:1\"\n" + lines + "\n    }\n  }\n}\n"
}

// Each mistake is found at its place, with its cure. A line of want is
// "line:column fragment; fragment": every fragment is in the diagnostic.
func TestMistakes(t *testing.T) {
	for _, test := range []struct{ name, src, want string }{
		{"several in one run", `
deployment "web" {
  replicsa = 3
  pod {
    container "web" {
      imagee = "web:1"
      resources {
        memory = 512
        cpu    = "lots"
      }
    }
  }
}
sevice "web" {
}
`, `3:3 Unknown attribute; "replicsa"; Did you mean "replicas"?
5:5 Missing attribute; "image"
6:7 Unknown attribute; "imagee"; Did you mean "image"?
8:18 Missing unit; 512 has no unit; "512Mi"
9:18 Wrong value; "lots" is not an amount of cpu; "250m"
14:1 Unknown block; Did you mean "service"?`},
		{"broken syntax", "deployment \"web\" {\n  replicas = = 3\n}\n", `2:14 Invalid expression`},
		{"types", containerWith(`
      env     = ["a"]
      command = "run"
      privileged = "maybe"
      liveness {
        failure = 1.5
        period  = 5
        tcp {
          port = 0
        }
      }`), `6:17 Wrong type; map of texts; not a list
7:17 Wrong type; A list; not a text
8:20 Wrong type; True or false; not a text
10:19 Wrong number; whole number; 1.5
11:19 Missing unit; 5 has no unit; "5s"
13:18 Wrong value; not a port`},
		{"enum", "deployment \"web\" {\n  update {\n    strategy = \"roling\"\n  }\n  pod {\n    container \"web\" {\n      image = \"a\"\n    }\n  }\n}\n",
			`3:16 Unknown value; "roling"; Did you mean "rolling"?`},
		{"block and attribute confused", containerWith("      port = 80\n      command {\n      }"), `5:7 A block is needed; port { … }
6:7 An attribute is needed; command = …`},
		{"labels", "deployment {\n}\ndeployment \"a\" \"b\" {\n}\n" + containerWith("      port {\n        port = 1\n      }\n      resources \"x\" {\n      }"),
			`1:1 Wrong number of names; deployment "NAME"
3:1 Wrong number of names
9:7 Missing name; port "NAME"
12:7 Superfluous name; resources`},
		{"names", "config_map \"a\" {\n}\nconfig_map \"a\" {\n}\nconfig_map \"Bad_Name\" {\n}\nlocals {\n  x = 1\n}\nlocals {\n  x = 2\n}\nvariable \"v\" {\n  default = 1\n}\nvariable \"v\" {\n  default = 1\n}\noutput \"o\" {\n  value = 1\n}\noutput \"o\" {\n  value = 1\n}\n",
			`3:1 Duplicate name; config_map "a"; main.hcl:1
5:1 Wrong name; "Bad_Name"; lower-case
11:3 Duplicate name; local.x; main.hcl:8
16:1 Duplicate name; variable "v"; main.hcl:13
22:1 Duplicate name; output "o"; main.hcl:19`},
		{"references", `
locals {
  labels = { a = "b" }
  x      = local.lables
}
config_map "web" {
  data = {
    a = var.versoin
    b = servic.api.host
    c = service.ap.host
    d = service.api.hots
    e = each.key
    f = count.index
    g = path.modul
    h = module.x.y
    i = self.name
    j = service.api.host
  }
}
variable "version" {
  default = "1"
}
service "api" {
  selector = local.labels
}
`, `4:18 No such local value; "lables"; Did you mean "labels"?
8:13 No such variable; "versoin"; Did you mean "version"?
9:9 No such name; "servic"; Did you mean "service"?
10:17 No such object; no service "ap"; Did you mean "api"?
11:21 No such attribute; "hots"; Did you mean "host"?
12:9 each without for_each
13:9 count.index without count
14:9 No such path; path.module
15:16 No such module; "x"
16:9 No self here`},
		{"cycle", `
config_map "a" {
  data = { x = config_map.b.name }
}
config_map "b" {
  data = { x = local.c }
}
locals {
  c = config_map.a.name
}
`, `9:7 Cycle; circle`},
		{"reference to itself", "config_map \"a\" {\n  data = { x = config_map.a.name }\n}\n", `2:16 Cycle; config_map.a refers to config_map.a at`},
		{"function", "locals {\n  x = uper(\"a\")\n}\n", `2:7 Call to unknown function; "uper"; "upper"`},
		{"function beside a bad reference", "locals {\n  a = uper(var.nope)\n}\nconfig_map \"c\" {\n  data = { x = var.nope, y = uper(\"a\"), z = lower(\"b\") }\n}\n", `2:7 Call to unknown function; Did you mean "upper"?
2:16 No such variable
5:20 No such variable
5:30 Call to unknown function; Did you mean "upper"?`},
		{"function in an object", "variable \"v\" {\n  default = \"x\"\n}\nconfig_map \"a\" {\n  count = 1\n  data  = { x = uper(var.v), y = count.index }\n}\n", `6:17 Call to unknown function; "uper"; Did you mean "upper"?`},
		{"which of many", "config_map \"a\" {\n  for_each = toset([\"x\"])\n}\noutput \"o\" {\n  value = config_map.a.name\n}\n", `5:24 Which one?; config_map.a["key"].name`},
		{"for_each", "config_map \"a\" {\n  for_each = [\"x\"]\n}\nconfig_map \"b\" {\n  for_each = 3\n}\nconfig_map \"c\" {\n  count = -1\n}\nconfig_map \"d\" {\n  count = 1\n  for_each = {}\n}\nconfig_map \"e\" {\n  enabled = \"perhaps\"\n}\n",
			`2:14 Wrong for_each; toset
5:14 Wrong for_each; not a number
8:11 Wrong count
11:3 Both count and for_each
15:13 Wrong enabled; true or false`},
		{"sensitive in the open", `
variable "p" {
  sensitive = true
  default   = "hunter2"
}
config_map "a" {
  data = { p = var.p }
}
config_map "b" {
  count = var.p == "x" ? 1 : 0
}
output "p" {
  value = "pass ${var.p}"
}
`, `7:10 Sensitive value in the open; secret
10:11 Sensitive count
13:11 Sensitive value in an output; sensitive = true`},
		{"computing with a secret", `
secret "db" {
  data = { password = "x" }
}
secret "copy" {
  data = { password = secret.db.data.password }
}
config_map "a" {
  data = { p = secret.db.data.password }
}
` + containerWith(`
      env = {
        A = upper(secret.db.data.password)
      }
      args = [secret.db.data.password]
      work_dir = "/${secret.db.data.password == "x" ? "a" : "b"}"`) + `
pod "p" {
  container "c" {
    image = "a"
    env   = { A = secret.db.data.password == "x" ? "a" : "b" }
  }
}
output "o" {
  value = secret.db.data.password
}
`, `6:10 Copy of a secret
9:10 Secret where none can be
17:19 upper(); is not known here
19:14 Secret where none can be
20:18 Secret where none can be
28:13 Computation with a secret
32:11 Secret in an output`},
		{"secret of another namespace", "secret \"db\" {\n  namespace = \"a\"\n  data = { p = \"x\" }\n}\n" + containerWith("      env = { P = secret.db.data.p }"), `9:13 Secret of another namespace`},
		{"no namespace", "namespace \"a\" {\n  namespace = \"b\"\n}\n", `2:3 No namespace here`},
		{"dynamic", containerWith(`
      dynamic "prot" {
        for_each = []
        content {
        }
      }
      dynamic "port" {
        content {
        }
      }
      dynamic "port" {
        for_each = 3
        labels = [port.key]
        content {
          port = port.value
        }
      }`), `6:15 Unknown block; "prot"; Did you mean "port"?
11:7 Missing attribute; for_each
16:20 Wrong for_each; not a number`},
		{"lifecycle", "config_map \"a\" {\n  lifecycle {\n    prevent_destory = true\n    ignore_changes  = [dta, \"x\"]\n    precondition {\n      condition = true\n    }\n  }\n}\n",
			`3:5 Unknown attribute; Did you mean "prevent_destroy"?
4:24 Unknown attribute; "dta"; Did you mean "data"?
4:29 Wrong ignore_changes; without quotes
5:5 Missing attribute; error_message`},
		{"depends_on", "config_map \"a\" {\n  depends_on = [config_map.b, \"config_map.a\", var.x]\n}\nvariable \"x\" {\n  default = 1\n}\n",
			`2:28 No such object; "b"
2:31 Wrong depends_on
2:47 Wrong depends_on; not an object`},
		{"later and foreign blocks", "module \"a\" {\n}\ndata \"a\" \"b\" {\n}\ncheck \"a\" {\n}\nimport {\n}\nmoved {\n}\nremoved {\n}\nresource \"a\" \"b\" {\n}\nterraform {\n}\nendpoints \"x\" {\n}\nx = 1\n",
			`1:1 Missing attribute; source
3:6 No such kind; "a"
5:1 Missing block; assert
7:1 Missing attribute; "to"
9:1 Missing attribute; "from"
9:1 Missing attribute; "to"
11:1 Missing attribute; "from"
13:1 Unknown block; deployment "web"
15:1 Unknown block; berth block
17:1 Kind that is not declared; made by berth
19:1 Attribute outside a block`},
		{"variables", "variable \"a\" {\n  type = sting\n}\nvariable \"b\" {\n  type = number\n  default = \"x\"\n  defualt = 1\n}\nvariable \"c\" {\n  type = number\n}\nvariable \"d\" {\n  default = 1\n  validation {\n    condition = var.d > 3\n    error_message = \"d is ${var.d}, too small.\"\n  }\n}\n",
			`2:10 Unknown type; "string"
6:13 Wrong default; "b"; number
7:3 Unknown attribute; Did you mean "default"?
9:1 No value for a variable
12:1 Invalid value; d is 1, too small.; main.hcl:14`},
		{"berth block", "berth {\n  required_version = \">= 9\"\n  stack = \"A B\"\n  bckend = 1\n}\nberth {\n}\n",
			`2:22 Wrong version; 0.1.0
3:11 Wrong name
4:3 Unknown attribute
6:1 Duplicate name`},
		{"meaning", `
deployment "web" {
  update {
    surge       = 0
    unavailable = 0
  }
  pod {
    container "web" {
      image = "a"
      readiness {
        http {
          port = "htp"
        }
        tcp {
          port = 70000
        }
      }
      port "http" {
        port = 80000
      }
      resources {
        memory = "2Gi"
        limits {
          memory = "1Gi"
        }
      }
      mount "confg" {
        path = "relative"
      }
    }
    volume "config" {
      config_map = "x"
      secret     = "y"
    }
  }
}
`, `4:19 Update that cannot move
10:7 Not one way to probe
12:18 No such port; Did you mean "http"?
15:18 Wrong value; not a port
19:16 Wrong port; 80000
22:18 More than the limit; 2Gi; 1Gi
27:7 No such volume; Did you mean "config"?
28:16 Relative path
31:5 Not one source; this has 2
31:5 Unused volume`},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := write(t, map[string]string{"main.hcl": test.src})
			_, diags := Load(dir, Options{Version: "0.1.0"})
			var got []string
			for _, d := range diags {
				got = append(got, strings.TrimPrefix(show(d), "main.hcl:"))
				if d.Range == nil || d.Snippet == "" && !strings.Contains(test.src, "\n\n") {
					t.Errorf("no place or no snippet: %+v", d)
				}
				if strings.Contains(show(d), "hunter2") {
					t.Errorf("shows a secret: %s", show(d))
				}
			}
			want := strings.Split(test.want, "\n")
			for i := range max(len(want), len(got)) {
				switch {
				case i >= len(want):
					t.Errorf("unexpected: %s", got[i])
				case i >= len(got):
					t.Errorf("not found: %s", want[i])
				default:
					at, rest, _ := strings.Cut(want[i], " ")
					ok := strings.HasPrefix(got[i], at+":")
					for fragment := range strings.SplitSeq(rest, "; ") {
						ok = ok && strings.Contains(got[i], fragment)
					}
					if !ok {
						t.Errorf("got  %s\nwant %s", got[i], want[i])
					}
				}
			}
		})
	}
}

func TestCycleNamesEveryPlace(t *testing.T) {
	dir := write(t, map[string]string{
		"a.hcl": "config_map \"a\" {\n  data = { x = local.b }\n}\n",
		"b.hcl": "locals {\n  b = config_map.c.name\n}\nconfig_map \"c\" {\n  data = { x = config_map.a.name }\n}\n",
	})
	_, diags := Load(dir, Options{})
	if len(diags) != 1 {
		t.Fatalf("%d diagnostics: %v", len(diags), diags)
	}
	for _, part := range []string{"local.b refers to config_map.c at", "b.hcl:2", "config_map.a refers to local.b at", "a.hcl:2", "config_map.c refers to config_map.a at", "b.hcl:5"} {
		if !strings.Contains(diags[0].Detail, part) {
			t.Errorf("%q is not in %s", part, diags[0].Detail)
		}
	}
}

func TestMistakesOutsideFiles(t *testing.T) {
	good := "variable \"x\" {\n  type = list(number)\n  default = []\n}\n"
	for _, test := range []struct {
		name string
		file map[string]string
		opts Options
		want string
	}{
		{"empty", map[string]string{"readme": ""}, Options{}, "There is no *.hcl"},
		{"var without =", map[string]string{"a.hcl": good}, Options{Vars: []VarArgument{{Assignment: "x"}}}, "NAME=VALUE"},
		{"unknown var", map[string]string{"a.hcl": good}, Options{Vars: []VarArgument{{Assignment: "y=1"}}}, "does not declare"},
		{"var of another type", map[string]string{"a.hcl": good}, Options{Vars: []VarArgument{{Assignment: "x=[\"a\"]"}}}, "from --var x does not fit"},
		{"var that does not parse", map[string]string{"a.hcl": good}, Options{Vars: []VarArgument{{Assignment: "x=["}}}, "is not an expression of type list(number)"},
		{"missing var file", map[string]string{"a.hcl": good}, Options{Vars: []VarArgument{{File: "/nowhere.hclvars"}}}, "/nowhere.hclvars"},
		{"broken var file", map[string]string{"a.hcl": good, "berth.hclvars": "x = "}, Options{}, "Missing expression"},
		{"block in a var file", map[string]string{"a.hcl": good, "berth.hclvars": "x {\n}\n"}, Options{}, "NAME = VALUE"},
		{"unknown in a var file", map[string]string{"a.hcl": good, "berth.hclvars": "xx = 1\nx = 3"}, Options{}, "Value for an unknown variable"},
		{"stack name", map[string]string{"../Shop_1/a.hcl": good}, Options{}, "Name it: berth"},
		{"no time", map[string]string{"a.hcl": "locals {\n  t = timestamp()\n}\n"}, Options{}, "there is no time"},
		{"missing file", map[string]string{"a.hcl": "locals {\n  t = file(\"nothing\")\n}\n"}, Options{}, "nothing"},
		{"broken JSON", map[string]string{"a.hcl.json": `{"deployment": [`}, Options{}, "JSON"},
		{"unknown in JSON", map[string]string{"a.hcl.json": `{"deployment": {"web": {"pod": {"container": {"a": {"image": "x", "imge": 1}}}}}}`}, Options{}, `Did you mean "image"?`},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := write(t, test.file)
			if test.name == "stack name" {
				dir = strings.TrimSuffix(dir, "shop") + "Shop_1"
			}
			_, diags := Load(dir, test.opts)
			var all []string
			for _, d := range diags {
				all = append(all, show(d))
			}
			if !diags.HasErrors() || !strings.Contains(strings.Join(all, "\n"), test.want) {
				t.Errorf("%q does not say %q", all, test.want)
			}
		})
	}
	if _, diags := Load("/nowhere", Options{}); !diags.HasErrors() {
		t.Error("a directory that is not there")
	}
}

func TestDiagnosticsSayWhichObject(t *testing.T) {
	_, diags := Load(write(t, map[string]string{"main.hcl": "config_map \"a\" {\n  reload = \"restrat\"\n  date = {}\n}\n"}), Options{})
	if len(diags) != 2 || diags[0].Address != "config_map.a" || diags[0].Path != "reload" || diags[1].Path != "date" || diags[0].Snippet != `  reload = "restrat"` {
		t.Errorf("%+v", diags)
	}
	var _ object.Diagnostics = diags
}
