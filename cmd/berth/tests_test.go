package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The shop's tests test something: without what they ask for, they fail.
func TestShopTests(t *testing.T) {
	for name, change := range map[string][2]string{
		"a pod less while it rolls": {"unavailable       = 0", "unavailable       = 1\n    # "},
		"one zone": {`spread { over = "zone" }`, `constraint {
      attribute = "zone"
      operator  = "in"
      values    = ["a"]
    }`},
		"another output":   {"value       = service.web.host", "value       = service.stock.host"},
		"no validation":    {"condition     = var.replicas >= 2", "condition     = true"},
		"one stock server": {"replicas = 2", "replicas = 1"},
		"stock rolls, too": {"shop/web:1\"", "shop/web:${var.release}\""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "shop")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			for _, f := range []string{"main.hcl", "greeting.txt", "shop.berthtest.hcl"} {
				b, err := os.ReadFile(filepath.Join(root, "examples/shop", f))
				if err != nil {
					t.Fatal(err)
				}
				if f == "main.hcl" {
					changed := strings.Replace(string(b), change[0], change[1], 1)
					if changed == string(b) {
						t.Fatalf("the shop has no %q", change[0])
					}
					b = []byte(changed)
				}
				if err := os.WriteFile(filepath.Join(dir, f), b, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			var out bytes.Buffer
			code := run(context.Background(), []string{"-C", dir, "test"}, strings.NewReader(""), &out, &out, func(string) string { return "" })
			if code != exitError || !strings.Contains(out.String(), "Failure!") || !strings.Contains(out.String(), "shop.berthtest.hcl line ") {
				t.Errorf("berth test ends with %d:\n%s", code, out.String())
			}
		})
	}
}

// BenchmarkTest100Runs is `berth test` on the shop with ten files of ten runs: plans
// and applies in turns, each of another release and number of front ends.
func BenchmarkTest100Runs(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "shop")
	if err := os.Mkdir(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	write := func(name string, text []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	for _, f := range []string{"main.hcl", "greeting.txt"} {
		text, err := os.ReadFile(filepath.Join(root, "examples/shop", f))
		if err != nil {
			b.Fatal(err)
		}
		write(f, text)
	}
	for file := range 10 {
		var text bytes.Buffer
		for i := range 10 {
			fmt.Fprintf(&text, `run "run %d" {
  command = %q
  variables {
    replicas = %d
    release  = "%d"
  }
  assert {
    condition     = plan.outcome == "healthy" && plan.deployment["web"].min_ready >= min(3, var.replicas)
    error_message = "It falls."
  }
}
`, i, []string{"apply", "plan"}[i%2], 4+i%5, file*10+i)
		}
		write(fmt.Sprintf("%d.berthtest.hcl", file), text.Bytes())
	}
	for b.Loop() {
		var out bytes.Buffer
		code := run(context.Background(), []string{"-C", dir, "test"}, strings.NewReader(""), &out, &out, func(string) string { return "" })
		if code != exitOK || !strings.Contains(out.String(), "100 passed, 0 failed") {
			b.Fatalf("berth test ends with %d:\n%s", code, out.String())
		}
	}
}
