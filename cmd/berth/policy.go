package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cmd/internal/view"
	"github.com/berthdev/berth/hcl"
	"github.com/berthdev/berth/hcl/policy"
)

// PolicyCmd groups what there is for policies besides applying them.
type PolicyCmd struct {
	Check PolicyCheckCmd `cmd:"" help:"Compile policy files, and judge a saved plan by them."`
}

// PolicyCheckCmd is `berth policy check`.
type PolicyCheckCmd struct {
	Files []string `arg:"" type:"path" name:"file" help:"Policy files, or directories with *.policy.hcl files."`
	Plan  string   `placeholder:"FILE" type:"path" help:"A saved plan to judge by them."`
}

// Run tells every mistake of the files, then every rule that the plan breaks.
func (c *PolicyCheckCmd) Run(s *session) error {
	list, err := s.policies(c.Files)
	if err != nil {
		return err
	}
	rules := 0
	for _, p := range list {
		rules += len(p.Rules)
	}
	if c.Plan == "" {
		_, err = fmt.Fprintf(s.stdout, "%s in %s: all compile.\n", plural(rules, "rule"), plural(len(list), "file"))
		return err
	}
	plan, err := readPlan(c.Plan)
	if err != nil {
		return err
	}
	judged := *plan
	judged.Verdicts = nil
	for _, p := range list {
		judged.Verdicts = append(judged.Verdicts, p.Judge(plan, "")...)
	}
	if s.refused(&judged) {
		return exitCode(exitPolicy)
	}
	_, err = fmt.Fprintf(s.stdout, "%s in %s: they let the plan pass.\n", plural(rules, "rule"), plural(len(list), "file"))
	return err
}

// policies compiles files and the *.policy.hcl of directories. Mistakes of all of
// them are told here.
func (s *session) policies(paths []string) ([]*policy.Policy, error) {
	var files []string
	for _, path := range paths {
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, &object.Error{Code: object.CodeNotFound, Message: "there is no policy file " + path}
		case err != nil:
			return nil, err
		case !info.IsDir():
			files = append(files, path)
			continue
		}
		found, err := filepath.Glob(filepath.Join(path, "*"+hcl.PolicySuffix))
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, &object.Error{Code: object.CodeNotFound, Message: path + " has no file named *" + hcl.PolicySuffix}
		}
		files = append(files, found...)
	}
	var out []*policy.Policy
	var all object.Diagnostics
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(file), ".hcl"), ".policy")
		p, found := policy.Compile(name, file, source)
		all = append(all, found...)
		out = append(out, p)
	}
	if s.diagnose(all) {
		return nil, exitCode(exitError)
	}
	return out, nil
}

// judgeLocally is the plan with the verdicts of policy files beside those of the
// masters. A plan that is saved has only these: it is sealed.
func (s *session) judgeLocally(p *object.Plan, paths []string) (*object.Plan, error) {
	list, err := s.policies(paths)
	if err != nil || len(list) == 0 {
		return p, err
	}
	judged := *p
	judged.Verdicts = append([]object.PolicyVerdict(nil), p.Verdicts...)
	for _, x := range list {
		judged.Verdicts = append(judged.Verdicts, x.Judge(p, "")...)
	}
	return &judged, nil
}

// refused tells the verdicts of policies and reports whether they refuse the plan.
func (s *session) refused(p *object.Plan) bool {
	err := s.judged(p)
	if err != nil {
		s.tell(err)
	}
	return err != nil
}

// judged tells the advisory verdicts, and those that an override sets aside, as
// warnings. The error is what refuses the plan.
func (s *session) judged(p *object.Plan) error {
	err := object.Refused(p.Verdicts, s.flags.OverridePolicy)
	var warnings object.Diagnostics
	for _, d := range object.Judged(p.Verdicts) {
		if d.Severity == object.SeverityWarning || err == nil {
			d.Severity = object.SeverityWarning
			warnings = append(warnings, d)
		}
	}
	view.Diagnostics(s.stderr, warnings, s.style(s.stderr)) // annotations are the view's
	return err
}
