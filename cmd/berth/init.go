package main

import (
	"fmt"

	"github.com/berthdev/berth/hcl"
	"github.com/berthdev/berth/hcl/modules"
)

// InitCmd is `berth init`.
type InitCmd struct {
	JSONFlag
	Upgrade bool `help:"Look at every source again and pin what is there now; without it, what the lock file pins stays."`
}

// initResult is what init prints for machines.
type initResult struct {
	Modules int          `json:"modules"`
	Changes []initChange `json:"changes"`
}

type initChange struct {
	Source string `json:"source"`
	Was    string `json:"was,omitempty"`
	Now    string `json:"now,omitempty"`
}

// Run fetches and pins. With any mistake the lock file stays as it is.
func (c *InitCmd) Run(s *session) error {
	mode := modules.Init
	if c.Upgrade {
		mode = modules.Upgrade
	}
	store := modules.New(s.ctx, s.flags.Chdir, mode)
	found := map[string]bool{}
	o := hcl.Options{Modules: func(source string) (hcl.Fetched, error) {
		f, err := store.Find(source)
		if p, wrong := modules.Parse(source); wrong == nil {
			found[p.Package()] = true
		}
		return f, err
	}}
	store.Told = s.fetching
	if s.diagnose(hcl.Modules(s.flags.Chdir, o)) {
		return exitCode(exitError)
	}
	changes, err := store.Save()
	if err != nil {
		return err
	}
	if c.JSON {
		out := initResult{Modules: len(found), Changes: []initChange{}}
		for _, x := range changes {
			out.Changes = append(out.Changes, initChange(x))
		}
		return s.json(out)
	}
	for _, x := range changes {
		switch {
		case x.Was == "":
			fmt.Fprintf(s.stdout, "  + %s at %s\n", x.Source, short(x.Now))
		case x.Now == "":
			fmt.Fprintf(s.stdout, "  - %s, which nothing uses any more\n", x.Source)
		case x.Was == x.Now:
			fmt.Fprintf(s.stdout, "  ~ %s at %s\n", x.Source, short(x.Now))
		default:
			fmt.Fprintf(s.stdout, "  ~ %s %s -> %s\n", x.Source, short(x.Was), short(x.Now))
		}
	}
	if len(found) == 0 {
		fmt.Fprintln(s.stdout, "Success! The configuration uses no modules from elsewhere; there is nothing to fetch.")
		return nil
	}
	if len(changes) > 0 {
		fmt.Fprintf(s.stdout, "Success! %s pinned. Commit %s with the configuration.\n", plural(len(found), "module"), hcl.LockFile)
		return nil
	}
	fmt.Fprintf(s.stdout, "Success! %s here as %s pins them.\n", plural(len(found), "module"), hcl.LockFile)
	return nil
}

// short is a commit as people write it.
func short(commit string) string {
	if len(commit) > 12 {
		return commit[:12]
	}
	return commit
}

// modules are those of the configuration of -C, as its lock file pins them.
func (s *session) modules() *modules.Store {
	store := modules.New(s.ctx, s.flags.Chdir, modules.Locked)
	store.Told = s.fetching
	return store
}

// fetching says what is waited for.
func (s *session) fetching(source string) { fmt.Fprintf(s.stderr, "Fetching %s\n", source) }
