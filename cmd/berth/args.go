package main

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/mattn/go-shellwords"
)

// normalize makes one spelling of the two that people bring along: Terraform's
// -out=p and -auto-approve become GNU's --out=p and --auto-approve. Only names of
// long flags that exist are touched, so that -f and -C keep their meaning, and
// nothing behind "--" is. The words of BERTH_CLI_ARGS come first, behind the
// command's name.
func normalize(app *kong.Application, args []string, env func(string) string) ([]string, error) {
	extra, err := shellwords.Parse(env("BERTH_CLI_ARGS"))
	if err != nil {
		return nil, fmt.Errorf("BERTH_CLI_ARGS: %w", err)
	}
	if len(extra) > 0 && len(args) > 0 {
		// Behind the command, for its flags may be meant; before its arguments.
		i := 0
		for i < len(args) && strings.HasPrefix(args[i], "-") {
			i++
		}
		for i < len(args) && isCommand(app, args[:i+1]) {
			i++
		}
		args = append(append(append([]string{}, args[:i]...), extra...), args[i:]...)
	}
	long := map[string]bool{"help": true}
	collectFlags(app.Node, long)
	out := make([]string, 0, len(args))
	for i, a := range args {
		if a == "--" {
			return append(out, args[i:]...), nil
		}
		if len(a) > 2 && a[0] == '-' && a[1] != '-' {
			name, _, _ := strings.Cut(a[1:], "=")
			if long[name] {
				a = "-" + a
			}
		}
		out = append(out, a)
	}
	return out, nil
}

// isCommand reports whether the last word of args is a command below those before it.
func isCommand(app *kong.Application, args []string) bool {
	node := app.Node
	var found bool
	for _, a := range args {
		if strings.HasPrefix(a, "-") {
			continue
		}
		found = false
		for _, c := range node.Children {
			if c.Name == a {
				node, found = c, true
				break
			}
		}
		if !found {
			return false
		}
	}
	return found
}

func collectFlags(n *kong.Node, into map[string]bool) {
	for _, f := range n.Flags {
		into[f.Name] = true
		if f.Tag != nil && f.Tag.Negatable != "" {
			into["no-"+f.Name] = true
		}
	}
	for _, c := range n.Children {
		collectFlags(c, into)
	}
}
