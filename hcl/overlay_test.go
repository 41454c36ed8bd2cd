package hcl

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOverlay: what is not saved counts, in the directory, in its modules and in
// files of variables, whether or not there is such a file.
func TestOverlay(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(dir, "shop")
	if err := os.MkdirAll(filepath.Join(dir, "net"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"main.hcl": "nonsense {", "net/main.hcl": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	over := map[string][]byte{}
	for name, text := range map[string]string{
		"main.hcl": "module \"net\" { source = \"./net\" }\noutput \"a\" { value = \"${module.net.b} ${local.c}\" }\n",
		"new.hcl":  "locals { c = 3 }\n", "net/main.hcl": "output \"b\" { value = 2 }\n", "ignored.txt": "x",
	} {
		over[filepath.Join(dir, name)] = []byte(text)
	}
	c, diags := Load(dir, Options{Overlay: over})
	if c == nil {
		t.Fatal(diags)
	}
	if got := c.Outputs["a"].Value; got != "2 3" {
		t.Errorf("the output is %v", got)
	}
}

// TestUnset: a variable without a value is unknown, and all else is judged.
func TestUnset(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "shop")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	text := `variable "n" {
  type = number
  validation {
    condition     = var.n > 2
    error_message = "More."
  }
}
variable "m" { type = map(string) }
config_map "a" {
  for_each = var.m
  data     = { n = var.n, v = each.value }
}
config_map "b" {
  count = var.n
}
config_map "c" {
  data = { n = var.n }
  dta  = {}
}
check "c" {
  assert {
    condition     = length(config_map.a) > 1
    error_message = "Few: ${var.n}."
  }
}
output "o" { value = var.n.oops }
`
	if err := os.WriteFile(filepath.Join(dir, "main.hcl"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	_, diags := Load(dir, Options{Unset: true})
	var said []string
	for _, d := range diags {
		said = append(said, d.Summary)
	}
	if got := strings.Join(said, ", "); got != "Unknown attribute, Unsupported attribute" {
		t.Errorf("%v", diags)
	}
}
