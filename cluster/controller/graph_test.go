package controller

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/berthdev/berth/cluster/object"
)

var update = flag.Bool("update", false, "write docs/controllers.md anew")

const graphFile = "../../docs/controllers.md"

// TestGraph holds the drawing in the documentation against what the controllers
// declare. Run it with -update after changing Inputs or Outputs.
func TestGraph(t *testing.T) {
	want := drawGraph()
	if *update {
		if err := os.WriteFile(graphFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(graphFile)
	if err != nil || string(have) != want {
		t.Fatalf("docs/controllers.md is not what the controllers declare (%v); run: go test ./cluster/controller -run TestGraph -update", err)
	}
}

var tasks = map[string]string{
	"service":        "gives services an address and node ports where they left them open",
	"revision":       "carries out an apply wave by wave; puts back what fails",
	"deployment":     "a replica set for each version; leads from one to the next, step by step",
	"replica_set":    "keeps a number of equal pods; moves them off nodes that are drained",
	"pod":            "stores a declared pod's template once; quota; pins what it reads",
	"endpoints":      "lists the pods behind each service",
	"ingress":        "says which versions of secrets each ingress reads, and what it lacks",
	"network_policy": "resolves network policies and isolated namespaces to addresses",
	"node":           "marks the pods of lost nodes; evicts by taint",
	"network":        "gives each node a range for its pods; holds those of removed nodes back for a minute",
	"garbage":        "removes what nobody needs any more",
}

func drawGraph() string {
	var b strings.Builder
	b.WriteString("# Controllers\n\nDrawn by `go test ./cluster/controller -run TestGraph -update` from what the controllers declare; do not edit.\n" +
		"A controller is a function of a snapshot, a key and a time. Kinds that wake it point to it, it points to the kinds that it may\n" +
		"write; the masters refuse anything else. Pods are bound to nodes by the scheduler, which is not a controller; statuses of pods\n" +
		"and nodes come from the nodes.\n\n| controller | its job | woken by | writes |\n|---|---|---|---|\n")
	names := func(kinds []object.Kind) string {
		s := make([]string, len(kinds))
		for i, k := range kinds {
			s[i] = string(k)
		}
		return strings.Join(s, ", ")
	}
	for _, c := range All() {
		var in []object.Kind
		for _, i := range c.Inputs() {
			in = append(in, i.Kind)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", c.Name(), tasks[c.Name()], names(in), names(c.Outputs()))
	}
	b.WriteString("\n```mermaid\nflowchart LR\n")
	var used []object.Kind
	for _, c := range All() {
		fmt.Fprintf(&b, "  c_%s([%s])\n", c.Name(), c.Name())
		for _, i := range c.Inputs() {
			used = append(used, i.Kind)
		}
		used = append(used, c.Outputs()...)
	}
	for _, k := range object.Kinds() {
		if slices.Contains(used, k.Kind) {
			fmt.Fprintf(&b, "  %s[%s]\n", k.Kind, k.Kind)
		}
	}
	for _, c := range All() {
		for _, i := range c.Inputs() {
			fmt.Fprintf(&b, "  %s --> c_%s\n", i.Kind, c.Name())
		}
		for _, k := range c.Outputs() {
			fmt.Fprintf(&b, "  c_%s -.-> %s\n", c.Name(), k)
		}
	}
	b.WriteString("```\n")
	return b.String()
}

func TestControllersDeclareThemselves(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range All() {
		if seen[c.Name()] || tasks[c.Name()] == "" {
			t.Errorf("controller %q has no name of its own, or no line in the documentation", c.Name())
		}
		seen[c.Name()] = true
		for _, k := range c.Outputs() {
			if _, ok := object.Info(k); !ok {
				t.Errorf("%s writes %q, which is no kind", c.Name(), k)
			}
		}
	}
}
