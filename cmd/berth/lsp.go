package main

import (
	"errors"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/hcl"
	"github.com/berthdev/berth/hcl/lsp"
	"github.com/berthdev/berth/hcl/modules"
)

// LspCmd is `berth lsp`.
type LspCmd struct {
	VariableFlags
	Stdio bool `hidden:"" help:"What editors say who know other ways, too; there is no other here."`
}

// Run answers the editor at the other end of standard input and output. Nothing is
// fetched: modules that are not on this machine are mistakes that name the cure.
func (c *LspCmd) Run(s *session) error {
	err := lsp.Serve(s.ctx, s.stdin, s.stdout, lsp.Options{
		Load: func(dir string) hcl.Options {
			o := s.options(c.VariableFlags)
			o.Modules = modules.New(s.ctx, dir, modules.Kept).Find
			return o
		},
		Version: version, Log: s.stderr,
	})
	if errors.Is(err, lsp.ErrEnded) {
		return exitCode(exitError) // nobody is left to tell
	}
	return err
}

// SchemaCmd is `berth schema`.
type SchemaCmd struct{}

// Run prints what editors complete and check configurations in JSON by.
func (c *SchemaCmd) Run(s *session) error {
	_, err := s.stdout.Write(object.Schema())
	return err
}
