package hcl

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFormat(t *testing.T) {
	const ugly, pretty = "a=1\nlong   = 2\nb \"x\" {\nc=1\n}\n", "a    = 1\nlong = 2\nb \"x\" {\n  c = 1\n}\n"
	dir := write(t, map[string]string{
		"b.hcl": ugly, "a.hclvars": "x=1\n", "ok.hcl": pretty, "broken.hcl": "a = \n", "sub/c.hcl": ugly, ".hidden/d.hcl": ugly, "x.txt": ugly, "j.hcl.json": "{}",
	})
	found, diags := Format(dir, FormatOptions{})
	if len(found) != 2 || filepath.Base(found[0].File) != "a.hclvars" || string(found[1].After) != pretty || !found[1].Changed() {
		t.Errorf("found %v", found)
	}
	if len(diags) != 1 || !strings.HasSuffix(diags[0].Range.File, "broken.hcl") {
		t.Errorf("diagnostics %v", diags)
	}
	if d := found[1].Diff(); !strings.Contains(d, "\n-a=1\n") || !strings.Contains(d, "\n+a    = 1\n") || !strings.Contains(d, "--- old/") {
		t.Errorf("diff %s", d)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "b.hcl")); err != nil || string(b) != ugly {
		t.Error("it wrote without being asked to")
	}
	if found, _ := Format(dir, FormatOptions{Recursive: true, Write: true}); len(found) != 3 {
		t.Errorf("recursively found %d", len(found))
	}
	if found, _ := Format(dir, FormatOptions{Recursive: true}); len(found) != 0 {
		t.Errorf("formatted files are not in canonical form: %v", found)
	}
	found, diags = Format("-", FormatOptions{Stdin: strings.NewReader(ugly)})
	if len(diags) > 0 || len(found) != 1 || string(found[0].After) != pretty {
		t.Errorf("stdin: %v %v", found, diags)
	}
	if _, diags := Format(filepath.Join(dir, "x.txt"), FormatOptions{}); !diags.HasErrors() {
		t.Error("formatted a file that is not ours")
	}
	if _, diags := Format(filepath.Join(dir, "nothing"), FormatOptions{}); !diags.HasErrors() {
		t.Error("formatted nothing")
	}
}
