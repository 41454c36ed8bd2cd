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

// writeModules writes a stack of 200 modules, each in a directory of its own with
// fifty deployments in it, whose namespace and release are inputs.
func writeModules(dir string) error {
	text := strings.Replace(block, "  replicas = 0\n", "  namespace = var.namespace\n  replicas  = 0\n", 1)
	text = strings.Replace(text, "web:%[2]d", "web:${var.release}", 1)
	var main bytes.Buffer
	main.WriteString("berth {\n  stack = \"modules\"\n}\n")
	for m := range moduleCalls {
		name := fmt.Sprintf("m%03d", m)
		fmt.Fprintf(&main, "\nmodule %[1]q {\n  source    = \"./%[1]s\"\n  namespace = %[1]q\n  release   = \"%[2]d\"\n}\n", name, m%7)
		var b bytes.Buffer
		b.WriteString("variable \"namespace\" {\n  type = string\n}\n\nvariable \"release\" {\n  type = string\n}\n\n")
		for i := range moduleBlocks {
			fmt.Fprintf(&b, text, fmt.Sprintf("d%03d", i))
		}
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name, "main.hcl"), bytes.TrimRight(b.Bytes(), "\n"), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "main.hcl"), main.Bytes(), 0o644)
}

// modules measures the command line on ten thousand objects in two hundred modules.
func modules(b *bed) error {
	dir := filepath.Join(b.tmp, "modules")
	if err := writeModules(dir); err != nil {
		return err
	}
	// The first run brings the text to its form, which is not what is measured.
	if _, err := b.run("fmt", "--recursive", dir); err != nil {
		return err
	}
	for _, s := range []step{
		{"validate 10,000 objects in 200 modules", 0.5, []string{"-C", dir, "validate"}},
		{"fmt 10,000 objects in 200 modules", 0.5, []string{"fmt", "--check", "--recursive", dir}},
		{"first plan of 10,000 objects in 200 modules", 0.8, []string{"-C", dir, "plan"}},
	} {
		if err := b.measure(s, 300); err != nil {
			return err
		}
	}
	return nil
}
