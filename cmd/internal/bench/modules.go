package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	moduleCalls  = 200
	moduleBlocks = 50 // of each
)

// writeModules writes a stack of 200 modules of fifty deployments, whose namespace
// and release are inputs. They are used in turn from so many source directories.
func writeModules(dir string, sources int) error {
	text := strings.Replace(block, "  replicas = 0\n", "  namespace = var.namespace\n  replicas  = 0\n", 1)
	text = strings.Replace(text, "web:%[2]d", "web:${var.release}", 1)
	var main bytes.Buffer
	main.WriteString("berth {\n  stack = \"modules\"\n}\n")
	for m := range moduleCalls {
		fmt.Fprintf(&main, "\nmodule \"m%03d\" {\n  source    = \"./d%03d\"\n  namespace = \"m%03d\"\n  release   = \"%d\"\n}\n", m, m%sources, m, m%7)
	}
	for d := range sources {
		var b bytes.Buffer
		b.WriteString("variable \"namespace\" {\n  type = string\n}\n\nvariable \"release\" {\n  type = string\n}\n\n")
		for i := range moduleBlocks {
			fmt.Fprintf(&b, text, fmt.Sprintf("s%03d-d%02d", d, i))
		}
		sub := filepath.Join(dir, fmt.Sprintf("d%03d", d))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(sub, "main.hcl"), append(bytes.TrimRight(b.Bytes(), "\n"), '\n'), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "main.hcl"), main.Bytes(), 0o644)
}

// modules measures the command line on ten thousand objects in two hundred modules:
// of twenty sources, as modules are for use again and again, which the goals are
// for; and each of its own, which is as much text as without modules.
func modules(b *bed) error {
	for _, of := range []struct {
		sources                        int
		name                           string
		validate, fmt, plan, megabytes float64
	}{
		{20, "10,000 objects in 200 modules of 20 sources", 0.5, 0.5, 0.8, 300},
		{200, "10,000 objects in 200 modules, each of its own source", 0, 0, 0, 0},
	} {
		dir := filepath.Join(b.tmp, fmt.Sprintf("modules%d", of.sources))
		if err := writeModules(dir, of.sources); err != nil {
			return err
		}
		// The first run brings the text to its form, which is not what is measured.
		if _, err := b.run("fmt", "--recursive", dir); err != nil {
			return err
		}
		for _, s := range []step{
			{"validate " + of.name, of.validate, []string{"-C", dir, "validate"}},
			{"fmt " + of.name, of.fmt, []string{"fmt", "--check", "--recursive", dir}},
			{"first plan of " + of.name, of.plan, []string{"-C", dir, "plan"}},
		} {
			if err := b.measure(s, of.megabytes); err != nil {
				return err
			}
		}
	}
	return nil
}
