package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cmd/internal/view"
	"github.com/berthdev/berth/hcl"
	"github.com/berthdev/berth/hcl/policy"
	"github.com/berthdev/berth/planner"
)

// TestCmd is `berth test`.
type TestCmd struct {
	VariableFlags
	JSONFlag
	Filter  []string `complete:"file" placeholder:"FILE" help:"Only this file of tests; may be given several times."`
	JUnit   string   `name:"junit" placeholder:"FILE" type:"path" help:"Write the result for a CI system besides, as JUnit's XML."`
	Verbose bool     `help:"Show what each run plans."`
}

// Run runs every test file of the directory. Mistakes in the files are told first,
// all of them; then nothing is run.
func (c *TestCmd) Run(s *session) error {
	o := s.options(c.VariableFlags)
	o.Input = nil
	files, diags := hcl.ReadTests(s.flags.Chdir, o)
	if !diags.HasErrors() {
		for _, f := range files {
			diags = append(diags, f.Check(o)...)
		}
	}
	policies, found := testPolicies(s.flags.Chdir)
	diags = append(diags, found...)
	report := &view.TestReport{Files: []*view.TestFileReport{}, Diagnostics: diags}
	if !diags.HasErrors() {
		var err error
		if files, err = c.chosen(files); err != nil {
			return err
		}
		if len(files) == 0 {
			report.Diagnostics = append(report.Diagnostics, object.Diagnostic{Severity: object.SeverityWarning, Summary: "No tests",
				Detail: fmt.Sprintf("There is no file *%s in %s.", hcl.TestSuffix, s.flags.Chdir)})
		}
	}
	if !c.JSON {
		s.diagnose(report.Diagnostics)
	}
	if !diags.HasErrors() {
		if err := c.files(s, files, policies, o, report); err != nil {
			return err
		}
	}
	report.Count()
	if c.JUnit != "" {
		if err := writeWhole(c.JUnit, func(w io.Writer) error { return view.JUnit(w, report) }); err != nil {
			return err
		}
	}
	switch {
	case c.JSON:
		if err := s.json(report); err != nil {
			return err
		}
	case !diags.HasErrors():
		if err := view.TestSummary(s.stdout, report, s.style(s.stdout)); err != nil {
			return err
		}
	}
	if report.Status != view.TestPass {
		return exitCode(exitError)
	}
	return nil
}

// files runs the files beside one another, for each has a cluster of its own, and
// prints them in their order.
func (c *TestCmd) files(s *session, files []*hcl.TestFile, policies []*policy.Policy, o hcl.Options, report *view.TestReport) error {
	find := o.Modules
	var one sync.Mutex
	o.Modules = func(source string) (hcl.Fetched, error) {
		one.Lock()
		defer one.Unlock()
		return find(source)
	}
	done := make([]chan *view.TestFileReport, len(files))
	room := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i := range files {
		done[i] = make(chan *view.TestFileReport, 1)
	}
	go func() {
		for i, f := range files {
			room <- struct{}{}
			go func() {
				defer func() { <-room }()
				t := testRunner{options: o, ctx: s.ctx, policies: policies}
				done[i] <- t.file(f)
			}()
		}
	}()
	for i, f := range files {
		if !c.JSON {
			if err := view.TestBegins(s.stdout, f.Name, s.style(s.stdout)); err != nil {
				return err
			}
		}
		r := <-done[i]
		if report.Files = append(report.Files, r); !c.JSON {
			if err := c.show(s, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// show prints what a file's runs found.
func (c *TestCmd) show(s *session, f *view.TestFileReport) error {
	s.diagnose(f.Diagnostics)
	for _, x := range f.Runs {
		if err := view.TestRan(s.stdout, x, s.style(s.stdout)); err != nil {
			return err
		}
		if c.Verbose && x.Plan != nil {
			if err := view.Plan(s.stdout, x.Plan, s.style(s.stdout)); err != nil {
				return err
			}
			fmt.Fprintln(s.stdout)
		}
		s.diagnose(x.Diagnostics)
	}
	return view.TestEnds(s.stdout, f, s.style(s.stdout))
}

// chosen are the files that --filter names.
func (c *TestCmd) chosen(files []*hcl.TestFile) ([]*hcl.TestFile, error) {
	if len(c.Filter) == 0 {
		return files, nil
	}
	var out []*hcl.TestFile
	for _, want := range c.Filter {
		i := slices.IndexFunc(files, func(f *hcl.TestFile) bool {
			return filepath.Clean(want) == filepath.Clean(f.Name) || want == filepath.Base(f.Name)
		})
		if i < 0 {
			var known []string
			for _, f := range files {
				known = append(known, filepath.Base(f.Name))
			}
			e := &object.Error{Code: object.CodeNotFound, Message: fmt.Sprintf("there is no test file %s", want), Hint: object.DidYouMean(want, known)}
			if e.Hint == "" && len(known) > 0 {
				e.Hint = "There are: " + strings.Join(known, ", ") + "."
			}
			return nil, e
		}
		if !slices.Contains(out, files[i]) {
			out = append(out, files[i])
		}
	}
	return out, nil
}

// testRunner runs one file.
type testRunner struct {
	options  hcl.Options
	ctx      context.Context  // ends when somebody presses Ctrl-C
	policies []*policy.Policy // of the directory
	engine   policy.Engine    // for those that the cluster has
	twin     *twin
}

func (t *testRunner) file(f *hcl.TestFile) *view.TestFileReport {
	began := time.Now()
	out := &view.TestFileReport{Path: f.Name, Status: view.TestPass}
	out.Diagnostics = t.given(f)
	skip := out.Diagnostics.HasErrors()
	if skip {
		out.Status = view.TestError
	}
	quote(out.Diagnostics)
	for _, run := range f.Runs {
		x := &view.TestRunReport{Name: run.Name, Command: "plan", Status: view.TestSkip}
		if run.Apply {
			x.Command = "apply"
		}
		if !skip && t.ctx.Err() == nil {
			start := time.Now()
			t.run(f, run, x)
			x.Seconds = time.Since(start).Seconds()
		}
		switch x.Status {
		case view.TestError:
			out.Status = view.TestError
			skip = true
		case view.TestFail:
			if out.Status == view.TestPass {
				out.Status = view.TestFail
			}
		}
		out.Runs = append(out.Runs, x)
	}
	out.Seconds = time.Since(began).Seconds()
	return out
}

// given makes the twin as it is before the first run.
func (t *testRunner) given(f *hcl.TestFile) object.Diagnostics {
	var err error
	if t.twin, err = newTwin(f.Nodes, t.options.Now); err != nil {
		return object.Diagnostics{{Severity: object.SeverityError, Summary: "The nodes cannot be given", Detail: err.Error() + "."}}
	}
	t.options.Read = t.twin.read
	if f.Given == nil {
		return nil
	}
	cfg, diags := f.LoadGiven(t.options)
	if cfg == nil {
		return diags
	}
	p, found := t.twin.plan(cfg)
	diags = append(diags, found...)
	if !diags.HasErrors() {
		diags = append(diags, cfg.Judge(p)...)
	}
	if !diags.HasErrors() {
		if summary, detail := t.twin.apply(p); summary != "" {
			at := f.Given.Range
			diags = append(diags, object.Diagnostic{Severity: object.SeverityError, Summary: summary, Detail: detail, Range: &at})
		}
	}
	return diags
}

// run is one run: what is planned, what was expected to go wrong, what must be so.
func (t *testRunner) run(f *hcl.TestFile, run *hcl.TestRun, out *view.TestRunReport) {
	trial, diags := f.Load(run, t.options)
	add := func(summary, detail string) {
		at := run.Range
		diags = append(diags, object.Diagnostic{Severity: object.SeverityError, Summary: summary, Detail: detail, Range: &at, Address: fmt.Sprintf("run %q", run.Name)})
	}
	if !diags.HasErrors() {
		switch {
		case len(run.Lose) > 0:
			out.Plan = t.twin.operation(object.OperationNodeLoss, run.Lose)
		case len(run.Drain) > 0:
			out.Plan = t.twin.operation(object.OperationDrain, run.Drain)
		default:
			p, found := t.twin.plan(trial.Configuration)
			diags = append(diags, found...)
			if p != nil {
				diags = append(diags, trial.Judge(p)...)
				out.Plan = p
			}
		}
		if o := out.Plan; o != nil && o.Operation != nil && o.Forecast.Outcome == planner.OutcomeFailed {
			add("The operation cannot be carried out", o.Forecast.Reason+".")
		}
	}
	refused := out.Plan == nil || diags.HasErrors()
	broken := refused
	stopped := false // by a policy that was expected to
	if !refused {
		var found object.Diagnostics
		if stopped, found = t.police(run, out.Plan, add); found.HasErrors() {
			broken = true
		}
		diags = append(diags, found...)
	}
	if !broken && !stopped && run.Apply {
		if summary, detail := t.twin.apply(out.Plan); summary != "" {
			add(summary, detail)
			broken = true
		}
	}
	diags = trial.Settle(diags)
	if refused && run.Asserts() && !diags.HasErrors() {
		add("Nothing to look at", "The configuration fails as expected, so there is no plan that the assertions could look at. Take them out.")
	}
	switch out.Status = view.TestPass; {
	case diags.HasErrors() && broken:
		out.Status = view.TestError
	case !refused:
		if diags = append(diags, trial.Assert(out.Plan)...); diags.HasErrors() {
			out.Status = view.TestFail // of a check, too; the runs that follow have their ground
		}
	}
	quote(diags)
	out.Diagnostics = diags
}
