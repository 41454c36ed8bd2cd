package main

import (
	"fmt"

	"github.com/berthdev/berth/cmd/internal/view"
	"github.com/berthdev/berth/hcl"
)

// ValidateCmd is `berth validate`.
type ValidateCmd struct {
	VariableFlags
	JSONFlag
}

// Run checks everything that needs no cluster.
func (c *ValidateCmd) Run(s *session) error {
	configurationMemory()
	if !c.JSON {
		cfg, diags := hcl.Load(s.flags.Chdir, s.options(c.VariableFlags))
		if s.diagnose(diags) {
			return exitCode(exitError)
		}
		fmt.Fprintf(s.stdout, "Success! The configuration is valid: %s.\n", plural(len(cfg.Objects), "object"))
		return nil
	}
	_, diags := hcl.Load(s.flags.Chdir, s.options(c.VariableFlags))
	if err := view.DiagnosticsJSON(s.stdout, diags); err != nil {
		return err
	}
	if diags.HasErrors() {
		return exitCode(exitError)
	}
	return nil
}

// plural is "1 object", "2 objects".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
