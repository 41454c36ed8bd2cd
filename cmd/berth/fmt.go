package main

import (
	"fmt"

	"github.com/berthdev/berth/hcl"
)

// FmtCmd is `berth fmt`; flags and exit codes are terraform fmt's.
type FmtCmd struct {
	Targets   []string `arg:"" optional:"" complete:"file" help:"Files or directories; \"-\" reads standard input. Default: the configuration's directory."`
	Check     bool     `help:"Write nothing; exit code 3 if a file is not in canonical form."`
	Diff      bool     `help:"Show the differences."`
	List      bool     `negatable:"" default:"true" help:"List the files that differ."`
	Write     bool     `negatable:"" default:"true" help:"Write the files back."`
	Recursive bool     `help:"Directories below, too."`
}

const exitUnformatted = 3

// Run formats each target; a target that does not parse does not keep the
// others from being formatted.
func (c *FmtCmd) Run(s *session) error {
	targets := c.Targets
	if len(targets) == 0 {
		targets = []string{s.flags.Chdir}
	}
	changed, failed := false, false
	for _, target := range targets {
		files, diags := hcl.Format(target, hcl.FormatOptions{Recursive: c.Recursive, Write: c.Write && !c.Check, Stdin: s.stdin})
		failed = s.diagnose(diags) || failed
		for _, f := range files {
			changed = changed || f.Changed()
			switch {
			case c.Diff && f.Changed():
				fmt.Fprint(s.stdout, f.Diff())
			case target == "-" && !c.Check:
				s.stdout.Write(f.After)
			case c.List && f.Changed():
				fmt.Fprintln(s.stdout, f.File)
			}
		}
	}
	switch {
	case failed:
		return exitCode(exitError)
	case c.Check && changed:
		return exitCode(exitUnformatted)
	}
	return nil
}
