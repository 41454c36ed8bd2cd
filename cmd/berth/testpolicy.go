package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
	"github.com/berthdev/berth/hcl"
	"github.com/berthdev/berth/hcl/policy"
)

// testAuthor is who plans in a test, as rules see it.
const testAuthor = "test"

// testPolicies are the policy files of a directory, by which its tests are judged.
func testPolicies(dir string) (out []*policy.Policy, diags object.Diagnostics) {
	files, err := filepath.Glob(filepath.Join(dir, "*"+hcl.PolicySuffix))
	for _, file := range files {
		var source []byte
		if source, err = os.ReadFile(file); err != nil {
			break
		}
		p, found := policy.Compile(strings.TrimSuffix(filepath.Base(file), hcl.PolicySuffix), file, source)
		diags = append(diags, found...)
		out = append(out, p)
	}
	if err != nil {
		diags = append(diags, object.Diagnostic{Severity: object.SeverityError, Summary: "Cannot read a policy", Detail: err.Error() + "."})
	}
	return out, diags
}

// judge holds what a run plans against the policies of the directory, and against
// those that the test's cluster has been given besides.
func (t *testRunner) judge(p *object.Plan) []object.PolicyVerdict {
	judged := *p
	if p.Operation != nil {
		if !p.Operation.Applicable() {
			return nil // a question
		}
		judged.Changes = t.twin.operated(p)
	}
	var out []object.PolicyVerdict
	own := map[string]bool{}
	for _, x := range t.policies {
		own[x.Name] = true
		out = append(out, x.Judge(&judged, testAuthor)...)
	}
	var held []*object.Policy
	for x := range state.All[*object.Policy](t.twin.store.Snapshot(), object.KindPolicy) {
		if !own[x.Name] { // most often the same file
			held = append(held, x)
		}
	}
	return append(out, t.engine.Judge(held, &judged, testAuthor)...)
}

// operated are the changes of an operation, as a plan has them.
func (w *twin) operated(p *object.Plan) []object.PlannedChange {
	v := w.store.Snapshot()
	c, err := p.Operation.Changeset(v.Get, w.now)
	if err != nil {
		return nil // told as what it is
	}
	var out []object.PlannedChange
	for _, x := range c.Changes {
		if before, ok := v.Get(x.Ref); ok {
			out = append(out, object.PlannedChange{Ref: x.Ref, Address: x.Ref.Address(), Actions: []string{object.ActionUpdate}, Wave: 1, Before: object.Any{Object: before}, After: x.Object})
		}
	}
	return out
}

// police compares who refuses a run with what is expected: stopped says that it is
// refused as it should be, and so not carried out.
func (t *testRunner) police(run *hcl.TestRun, p *object.Plan, add func(summary, detail string)) (stopped bool, found object.Diagnostics) {
	came := make([]bool, len(run.ExpectRefusals))
	var rest []object.PolicyVerdict
	var said []string
	for _, x := range t.judge(p) {
		expected := false
		for i, name := range run.ExpectRefusals {
			if x.Enforcement != object.PolicyAdvisory && (name == x.Policy || name == x.Policy+"."+x.Rule) {
				came[i], expected = true, true
			}
		}
		if stopped = stopped || expected; expected {
			continue
		}
		rest = append(rest, x)
		said = append(said, fmt.Sprintf("%s.%s (%s)", x.Policy, x.Rule, x.Enforcement))
	}
	found = object.Judged(rest)
	p.Verdicts = rest // what a person who looks at the plan has not expected
	for i, name := range run.ExpectRefusals {
		if came[i] {
			continue
		}
		detail := fmt.Sprintf("%s was expected to refuse this, but did not.", name)
		if known := t.known(name); known != "" {
			detail = known
		} else if len(said) > 0 {
			slices.Sort(said)
			detail += " There spoke only: " + strings.Join(slices.Compact(said), ", ") + ". What is advisory refuses nothing."
		}
		add("Missing expected refusal", detail)
	}
	return stopped, found
}

// known says that there is no such policy or rule, empty if there is.
func (t *testRunner) known(name string) string {
	var names []string
	for _, x := range t.policies {
		names = append(names, x.Name)
		for i := range x.Rules {
			names = append(names, x.Name+"."+x.Rules[i].Name)
		}
	}
	for x := range state.All[*object.Policy](t.twin.store.Snapshot(), object.KindPolicy) {
		names = append(names, x.Name)
		if compiled, _ := policy.Compile(x.Name, x.Name+hcl.PolicySuffix, []byte(x.Spec.Source)); compiled != nil {
			for i := range compiled.Rules {
				names = append(names, x.Name+"."+compiled.Rules[i].Name)
			}
		}
	}
	if slices.Contains(names, name) {
		return ""
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) == 0 {
		return fmt.Sprintf("There is no policy %s: no file *%s is here, and the test's cluster has none.", name, hcl.PolicySuffix)
	}
	return fmt.Sprintf("There is no policy or rule %s. %s", name, among(name, names))
}
