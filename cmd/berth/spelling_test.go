package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// A hint that names a command which is not there is worse than none.
func TestHintsNameCommandsThatAreThere(t *testing.T) {
	parser, err := newParser(&CLI{}, &session{})
	if err != nil {
		t.Fatal(err)
	}
	child := func(n *kong.Node, name string) *kong.Node {
		for _, c := range n.Children {
			if c.Name == name || slices.Contains(c.Aliases, name) {
				return c
			}
		}
		return nil
	}
	command := regexp.MustCompile(`berth((?: -C DIR)?(?: [a-z]+)+)`)
	for word, hint := range elsewhere {
		if child(parser.Model.Node, word) != nil {
			t.Errorf("%s is a command here, and its hint is never seen", word)
		}
		for _, found := range command.FindAllStringSubmatch(hint, -1) {
			n := parser.Model.Node
			for _, name := range strings.Fields(strings.TrimPrefix(found[1], " -C DIR")) {
				next := child(n, name)
				if next == nil {
					if n == parser.Model.Node || len(n.Children) > 0 && n.DefaultCmd == nil {
						t.Errorf("%s: %q names no command: there is no %s", word, hint, name)
					}
					break
				}
				n = next
			}
		}
	}
}
