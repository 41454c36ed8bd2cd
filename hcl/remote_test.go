package hcl

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berthdev/berth/cluster/object"
)

// elsewhere serves sources "x::NAME" and "x::NAME//DIR" from directories.
func elsewhere(roots map[string]string) func(string) (Fetched, error) {
	return func(source string) (Fetched, error) {
		name, dir, _ := strings.Cut(strings.TrimPrefix(source, "x::"), "//")
		root := roots[name]
		if root == "" {
			return Fetched{}, &object.Error{Message: "the module " + source + " is not known", Hint: "Fetch it."}
		}
		return Fetched{Root: root, Dir: filepath.Join(root, dir)}, nil
	}
}

// A module from elsewhere: relative sources inside, files of its own, and a
// second use of the same directory.
func TestModulesFromElsewhere(t *testing.T) {
	net := write(t, map[string]string{
		"web/main.hcl":  "variable \"n\" { type = string }\nmodule \"text\" {\n  source = \"../text\"\n  n      = var.n\n}\noutput \"name\" { value = module.text.name }\n",
		"text/main.hcl": "variable \"n\" { type = string }\nconfig_map \"page\" {\n  namespace = var.n\n  data      = { text = file(\"${path.module}/a.txt\") }\n}\noutput \"name\" { value = config_map.page.name }\n",
		"text/a.txt":    "hello",
	})
	dir := write(t, map[string]string{"main.hcl": `
namespace "a" {}
namespace "b" {}
module "web" {
  source = "x::net//web"
  n      = "a"
}
module "text" {
  source = "x::net//text"
  n      = "b"
}
output "name" { value = module.web.name }
`})
	c, diags := Load(dir, Options{Modules: elsewhere(map[string]string{"net": net})})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	var got []string
	for _, d := range c.Objects {
		got = append(got, d.Address)
		if m, ok := d.Object.(*object.ConfigMap); ok && m.Spec.Data["text"] != "hello" {
			t.Errorf("%s: %v", d.Address, m.Spec.Data)
		}
	}
	if s := strings.Join(got, " "); s != "namespace.a namespace.b module.web.module.text.config_map.page module.text.config_map.page" {
		t.Error(s)
	}
	if _, diags := Load(dir, Options{}); len(diags) != 2 || !strings.Contains(diags[0].Detail, "begins with ./ or ../") {
		t.Error(diags)
	}
}

// Every source that is wrong is told in one run, at its place.
func TestWrongSourcesFromElsewhere(t *testing.T) {
	outer := write(t, map[string]string{
		"net/a/main.hcl": "module \"out\" { source = \"../../other\" }\n",
		"other/main.hcl": "",
		// One of each other, through sources of both sorts.
		"loop/a/main.hcl": "module \"b\" { source = \"../b\" }\n",
		"loop/b/main.hcl": "module \"a\" { source = \"x::loop//a\" }\n",
	})
	roots := map[string]string{"net": filepath.Join(outer, "net"), "loop": filepath.Join(outer, "loop")}
	for _, c := range []struct{ text, want string }{
		{`module "m" { source = "x::net//a" }`, "Source outside the module: ../../other leads out of what was fetched with this module"},
		{`module "m" { source = "x::net//b" }`, "No such module: What x::net//b names has been fetched, but the directory behind // is not in it"},
		{`module "m" { source = "x::net//a/main.hcl" }`, "Wrong source: x::net//a/main.hcl is a file"},
		{`module "m" { source = "x::none" }`, "Module not available: The module x::none is not known. Fetch it."},
	} {
		dir := write(t, map[string]string{"main.hcl": c.text + "\nmodule \"second\" { source = \"x::second\" }\n"})
		_, diags := Load(dir, Options{Modules: elsewhere(roots)})
		var lines []string
		for _, d := range diags {
			lines = append(lines, show(d))
		}
		all := strings.Join(lines, "\n")
		if !strings.Contains(all, c.want) || !strings.Contains(all, "x::second") {
			t.Errorf("%s\nlacks %q", all, c.want)
		}
	}
	dir := write(t, map[string]string{"main.hcl": `module "m" { source = "x::loop//a" }`})
	_, diags := Load(dir, Options{Modules: elsewhere(roots)})
	if len(diags) != 1 {
		t.Fatal(diags)
	}
	for _, part := range []string{"is made of itself", "module.m at ", "module.b at ", "module.a at ", "/loop/b/main.hcl:1"} {
		if !strings.Contains(diags[0].Detail, part) {
			t.Errorf("%s\nlacks %q", diags[0].Detail, part)
		}
	}
}

// Modules asks for each source and evaluates nothing: a variable without a value
// keeps nobody from fetching.
func TestModulesReadsOnly(t *testing.T) {
	dir := write(t, map[string]string{"main.hcl": "variable \"x\" { type = string }\nmodule \"m\" {\n  source = \"./m\"\n  y = var.x\n}\n", "m/main.hcl": "variable \"y\" {}\nmodule \"n\" { source = \"x::n\" }\n"})
	var asked []string
	diags := Modules(dir, Options{Modules: func(s string) (Fetched, error) {
		asked = append(asked, s)
		return Fetched{}, errors.New("away")
	}})
	if len(asked) != 1 || asked[0] != "x::n" || len(diags) != 1 || !strings.Contains(show(diags[0]), "main.hcl:2:23: Module not available: Away.") {
		t.Error(asked, diags)
	}
}

// A lock file is read as it was written, and its mistakes are told together.
func TestLockFile(t *testing.T) {
	locked := []Locked{{Source: "git::b?ref=1", Ref: "1", Commit: "c2", Hash: "h1:b"}, {Source: "git::a", Commit: "c1", Hash: "h1:a"}}
	dir := write(t, map[string]string{LockFile: string(FormatLock(locked))})
	got, diags := ReadLock(dir)
	if len(diags) > 0 || len(got) != 2 || got[0] != locked[1] || got[1] != locked[0] {
		t.Errorf("%+v %v", got, diags)
	}
	if got, diags := ReadLock(t.TempDir()); got != nil || diags != nil {
		t.Error(got, diags)
	}
	dir = write(t, map[string]string{LockFile: "x = 1\nmodule \"a\" {\n  commit = 1\n  hash = \"h\"\n  size = 2\n}\nmodule \"a\" {\n}\nmodule {\n}\n"})
	_, diags = ReadLock(dir)
	if len(diags) != 7 {
		t.Errorf("%d: %v", len(diags), diags)
	}
	for _, d := range diags {
		if d.Range == nil || !strings.Contains(d.Detail, "berth init --upgrade") {
			t.Error(show(d))
		}
	}
}
