package main

import (
	"maps"
	"slices"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
	"github.com/berthdev/berth/cmd/internal/view"
	"github.com/berthdev/berth/hcl"
	"github.com/berthdev/berth/planner"
)

// GraphCmd is `berth graph`.
type GraphCmd struct {
	VariableFlags
	Format string `enum:"text,dot,mermaid,svg" default:"text" help:"${enum}."`
	File   string `arg:"" optional:"" type:"path" help:"A saved plan: what it changes. Without one, the whole configuration; no cluster is needed."`
}

// Run draws the waves of a rollout.
func (c *GraphCmd) Run(s *session) error {
	if c.File != "" {
		p, err := readPlan(c.File)
		if err != nil {
			return err
		}
		return view.Graph(s.stdout, p, c.Format)
	}
	cfg, err := s.load(c.VariableFlags)
	if err != nil {
		return err
	}
	// The plan of all that the configuration has, onto an empty cluster.
	p, diags := planner.Diff(state.New().Snapshot(), planner.Request{Version: version, Stack: cfg.Stack, Objects: drawn(cfg)})
	if diags.HasErrors() {
		s.diagnose(diags)
		return exitCode(exitError)
	}
	return view.Graph(s.stdout, &p, c.Format)
}

// drawn is what the configuration asks for. The masters' digests of secret values
// are not known without a cluster, nor do they matter: any text is as good.
func drawn(cfg *hcl.Configuration) []planner.Desired {
	list := desired(cfg)
	for i := range list {
		secret, ok := list[i].Object.(*object.Secret)
		if !ok {
			continue
		}
		secret = secret.Clone().(*object.Secret)
		for _, key := range slices.Sorted(maps.Keys(secret.Spec.Data)) {
			secret.Spec.Data[key] = secret.Spec.Data[key].WithDigest("not compared")
		}
		list[i].Object = secret
	}
	return list
}
