package object

import (
	"fmt"
	"slices"
)

// PolicySpec is a file of rules that hold for the whole cluster: the masters judge
// every plan and every other write by them.
type PolicySpec struct {
	Source string `json:"source" hcl:"source,required" effect:"in_place" doc:"The text of a policy file, as a rule with file(\"images.policy.hcl\"). The masters refuse one that does not compile, with its lines."`
}

// Policy is rules about what may be written.
type Policy struct {
	Meta `json:"meta"`
	Spec PolicySpec `json:"spec"`
}

func (o *Policy) SpecPtr() any   { return &o.Spec }
func (o *Policy) StatusPtr() any { return nil }
func (o *Policy) Clone() Object  { c := *o; return &c }

// How a rule of a policy is enforced.
const (
	PolicyAdvisory = "advisory" // it warns
	PolicySoft     = "soft"     // it refuses, unless overridden with a reason
	PolicyHard     = "hard"     // it refuses
)

// Enforcements are the words for it, the mildest first.
var Enforcements = []string{PolicyAdvisory, PolicySoft, PolicyHard}

// PolicyVerdict is a rule that a plan or another write breaks.
type PolicyVerdict struct {
	Policy      string `json:"policy"`
	Rule        string `json:"rule"`
	Enforcement string `json:"enforcement"`
	Address     string `json:"address,omitempty"` // of the change; empty: the whole plan
	Message     string `json:"message"`
	Range       *Range `json:"range,omitempty"` // of the condition, in the policy's source
}

// Diagnostic is the verdict as a finding about the plan. Its place is named in the
// text: the file is the policy's and not one of the configuration.
func (v *PolicyVerdict) Diagnostic() Diagnostic {
	d := Diagnostic{Severity: SeverityError, Address: v.Address, Detail: v.Message,
		Summary: fmt.Sprintf("Refused by the %s policy %s.%s", v.Enforcement, v.Policy, v.Rule)}
	if v.Enforcement == PolicyAdvisory {
		d.Severity, d.Summary = SeverityWarning, fmt.Sprintf("Against the advisory policy %s.%s", v.Policy, v.Rule)
	}
	if v.Range != nil {
		d.Detail += fmt.Sprintf(" (%s:%d)", v.Range.File, v.Range.Start.Line)
	}
	return d
}

// Judged are verdicts as findings, the hard ones first.
func Judged(found []PolicyVerdict) Diagnostics {
	sorted := slices.Clone(found)
	slices.SortStableFunc(sorted, func(a, b PolicyVerdict) int {
		return slices.Index(Enforcements, b.Enforcement) - slices.Index(Enforcements, a.Enforcement)
	})
	var out Diagnostics
	for i := range sorted {
		out = append(out, sorted[i].Diagnostic())
	}
	return out
}

// Refused is the error that verdicts make of a write; nil if they let it pass. A
// reason to override lets soft ones pass, never hard ones.
func Refused(found []PolicyVerdict, override string) error {
	e := &Error{Code: CodePolicy, Hint: "Nothing was written. Change what the policy asks for."}
	hard := 0
	for i := range found {
		if found[i].Enforcement == PolicyHard {
			hard++
		}
	}
	for _, d := range Judged(found) {
		if d.Severity != SeverityError {
			continue
		}
		if len(e.Diagnostics) < hard {
			d.Detail += " Nobody can override it."
		} else if override == "" {
			d.Detail += " To go on all the same: --override-policy \"REASON\", which is recorded."
		}
		e.Diagnostics = append(e.Diagnostics, d)
	}
	soft := len(e.Diagnostics) - hard
	switch {
	case hard > 0:
		e.Message = "refused by " + count(hard, "hard policy rule") + ", which nobody can override"
	case soft > 0 && override == "":
		e.Message = "refused by " + count(soft, "soft policy rule")
		e.Hint = "Nothing was written. Change what the policy asks for, or go on with --override-policy \"REASON\", which is recorded."
	default:
		return nil
	}
	return e
}

// Overridden are the soft rules among verdicts, as policy.rule, each once, sorted.
func Overridden(found []PolicyVerdict) []string {
	rules := map[string]bool{}
	for _, v := range found {
		if v.Enforcement == PolicySoft {
			rules[v.Policy+"."+v.Rule] = true
		}
	}
	return sorted(rules)
}

// OverrideHeader carries, in the form of a part of an URL, the reason for which
// the sender of a write sets soft policies aside.
const OverrideHeader = "Berth-Override-Policy"

// LeaderHeader stands in an answer that a master has passed on: the API address of
// the leader, who gave it.
const LeaderHeader = "Berth-Leader"
