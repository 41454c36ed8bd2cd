package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// root is the project's directory, seen from this package.
const root = "../.."

// exampleFlags are what an example cannot be checked without.
var exampleFlags = map[string][]string{"patterns-config": {"--var", "api_key=opensesame"}}

// TestExamples: every directory of examples/ is valid, in canonical form, and
// listed in examples/README.md.
func TestExamples(t *testing.T) {
	entries, err := os.ReadDir(filepath.Join(root, "examples"))
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile(filepath.Join(root, "examples", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	berth := func(args ...string) (int, string) {
		var out bytes.Buffer
		code := run(context.Background(), args, strings.NewReader(""), &out, &out, func(string) string { return "" })
		return code, out.String()
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		t.Run(e.Name(), func(t *testing.T) {
			dir := filepath.Join(root, "examples", e.Name())
			if code, out := berth(append([]string{"-C", dir, "validate"}, exampleFlags[e.Name()]...)...); code != exitOK {
				t.Errorf("validate ends with %d:\n%s", code, out)
			}
			if code, out := berth(append([]string{"-C", dir, "test"}, exampleFlags[e.Name()]...)...); code != exitOK {
				t.Errorf("test ends with %d:\n%s", code, out)
			}
			if !strings.Contains(string(list), "]("+e.Name()+"/)") {
				t.Errorf("examples/README.md does not list it")
			}
		})
	}
	if code, out := berth("fmt", "--check", "--diff", "--recursive", filepath.Join(root, "examples")); code != exitOK {
		t.Errorf("fmt --check ends with %d:\n%s", code, out)
	}
}
