package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

var update = flag.Bool("update", false, "write the generated part of docs/cli.md anew")

const (
	cliPage  = "../../docs/cli.md"
	cliBegin = "<!-- generated from the commands' structs by make docs; do not edit below -->\n"
)

// TestDocs keeps docs/cli.md true: its part on the commands is generated from
// the very model that parses the command line.
func TestDocs(t *testing.T) {
	page, err := os.ReadFile(cliPage)
	if err != nil {
		t.Fatal(err)
	}
	head, old, ok := strings.Cut(string(page), cliBegin)
	if !ok {
		t.Fatalf("%s has lost the line %q", cliPage, cliBegin)
	}
	var cli CLI
	parser, err := newParser(&cli, &session{stdout: io.Discard, stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	reference(&b, parser.Model)
	if *update {
		if err := os.WriteFile(cliPage, []byte(head+cliBegin+b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if old != b.String() {
		t.Errorf("%s is not what the commands say; run: make docs", cliPage)
	}
	for code, what := range map[int]string{exitOK: "done", exitError: "error", exitChanges: "detailed-exitcode", exitStale: "stale", exitFailed: "rollout",
		exitPolicy: "refused", exitUnplaceable: "fits on no node", exitUsage: "command line"} {
		row := fmt.Sprintf("| %d | ", code)
		i := strings.Index(head, row)
		if i < 0 {
			t.Errorf("%s does not list exit code %d", cliPage, code)
			continue
		}
		line, _, _ := strings.Cut(head[i:], "\n")
		if !strings.Contains(line, what) {
			t.Errorf("%s says of exit code %d: %q, which does not speak of %q", cliPage, code, line, what)
		}
	}
}

// reference writes every command with its arguments and flags.
func reference(w io.Writer, app *kong.Application) {
	fmt.Fprint(w, "\n## Flags of every command\n\n")
	flags(w, app.Flags)
	fmt.Fprint(w, "\n## Commands\n")
	var walk func(n *kong.Node)
	walk = func(n *kong.Node) {
		for _, c := range n.Children {
			if c.Hidden {
				continue
			}
			line := "berth " + strings.TrimPrefix(c.Path(), "berth ")
			for _, a := range c.Positional {
				line += " " + a.Summary()
			}
			fmt.Fprintf(w, "\n### `%s`\n\n%s\n", line, c.Help)
			if c.DefaultCmd != nil {
				fmt.Fprintf(w, "\nWithout a command: `%s`.\n", c.DefaultCmd.Name)
			}
			var args []string
			for _, a := range c.Positional {
				args = append(args, fmt.Sprintf("| `%s` | %s |", a.Summary(), cell(a.Help)))
			}
			if len(args) > 0 {
				fmt.Fprintf(w, "\n| argument | |\n|---|---|\n%s\n", strings.Join(args, "\n"))
			}
			if len(c.Flags) > 0 {
				fmt.Fprintln(w)
				flags(w, c.Flags)
			}
			walk(c)
		}
	}
	walk(app.Node)
}

func flags(w io.Writer, list []*kong.Flag) {
	fmt.Fprint(w, "| flag | | default | environment |\n|---|---|---|---|\n")
	for _, f := range list {
		if f.Hidden {
			continue
		}
		name := "--" + f.Name
		if f.Tag.Negatable != "" {
			name = "--[no-]" + f.Name
		}
		if !f.IsBool() {
			name += "=" + f.FormatPlaceHolder()
			if f.PlaceHolder == "" && f.Default != "" {
				name = "--" + f.Name + "=" + strings.ToUpper(f.Name)
			}
		}
		if f.Short != 0 {
			name = "-" + string(f.Short) + ", " + name
		}
		var env []string
		for _, e := range f.Envs {
			env = append(env, "`"+e+"`")
		}
		def := ""
		if f.Default != "" && f.HasDefault {
			def = "`" + f.Default + "`"
		}
		fmt.Fprintf(w, "| `%s` | %s | %s | %s |\n", name, cell(f.Help), def, strings.Join(env, " "))
	}
}

func cell(s string) string { return strings.ReplaceAll(s, "|", "\\|") }
