package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/hcl"
)

// Foresees reports whether some rule looks at the forecast.
func (p *Policy) Foresees() bool {
	return slices.ContainsFunc(p.Rules, func(r Rule) bool { return r.foresees })
}

// Judge says which rules a plan breaks, in the order of the rules and changes. A
// rule that cannot be evaluated is broken: what a policy cannot understand, it
// does not let pass. Each stack of a plan of several is judged by itself, so that a
// rule about one holds however it is changed; all see the whole forecast, and what
// they all break is told once.
func (p *Policy) Judge(plan *object.Plan, author string) []object.PolicyVerdict {
	if plan.Restore == nil {
		return p.judge(plan, author)
	}
	var out []object.PolicyVerdict
	for _, part := range plan.Parts() {
		part.Forecast = plan.Forecast
		for _, x := range p.judge(part, author) {
			if !slices.ContainsFunc(out, func(y object.PolicyVerdict) bool {
				return x.Rule == y.Rule && x.Address == y.Address && x.Message == y.Message
			}) {
				out = append(out, x)
			}
		}
	}
	return out
}

func (p *Policy) judge(plan *object.Plan, author string) []object.PolicyVerdict {
	root := &hcl2.EvalContext{Functions: hcl.PureFunctions()}
	changes := make([]cty.Value, len(plan.Changes))
	for i := range plan.Changes {
		changes[i] = changeValue(&plan.Changes[i])
	}
	root.Variables = map[string]cty.Value{"plan": planValue(plan, changes, author)}
	var out []object.PolicyVerdict
	for i := range p.Rules {
		r := &p.Rules[i]
		if !r.each {
			if why, broken := r.judge(root); broken {
				out = append(out, p.verdict(r, "", why))
			}
			continue
		}
		for j := range plan.Changes {
			c := &plan.Changes[j]
			if !r.about(c) {
				continue
			}
			ctx := root.NewChild()
			ctx.Variables = map[string]cty.Value{"change": changes[j]}
			if why, broken := r.judge(ctx); broken {
				out = append(out, p.verdict(r, c.Address, why))
			}
		}
	}
	return out
}

func (p *Policy) verdict(r *Rule, address, why string) object.PolicyVerdict {
	at := r.condition.Range()
	return object.PolicyVerdict{Policy: p.Name, Rule: r.Name, Enforcement: r.Enforcement, Address: address, Message: why, Range: &object.Range{
		File:  at.Filename,
		Start: object.Position{Line: at.Start.Line, Column: at.Start.Column, Byte: at.Start.Byte},
		End:   object.Position{Line: at.End.Line, Column: at.End.Column, Byte: at.End.Byte},
	}}
}

// about reports whether the rule's lists let a change in.
func (r *Rule) about(c *object.PlannedChange) bool {
	return (len(r.Kinds) == 0 || slices.Contains(r.Kinds, string(c.Ref.Kind))) &&
		(len(r.Actions) == 0 || slices.Contains(r.Actions, string(c.Op())))
}

// judge evaluates a rule; why is what to tell when it is broken.
func (r *Rule) judge(ctx *hcl2.EvalContext) (why string, broken bool) {
	if r.where != nil {
		holds, err := truth(r.where, ctx)
		if err != nil {
			return "where cannot be evaluated: " + err.Error(), true
		}
		if !holds {
			return "", false
		}
	}
	holds, err := truth(r.condition, ctx)
	switch {
	case err != nil:
		return "the condition cannot be evaluated: " + err.Error(), true
	case holds:
		return "", false
	}
	v, diags := r.message.Value(ctx)
	if diags.HasErrors() {
		return "the condition is false, and error_message cannot be evaluated: " + said(diags), true
	}
	v, _ = v.UnmarkDeep() // secrets are placeholders
	text, err := convert.Convert(v, cty.String)
	if err != nil || text.IsNull() || !text.IsKnown() {
		return "the condition is false, and error_message is not a text", true
	}
	return text.AsString(), true
}

func truth(e hcl2.Expression, ctx *hcl2.EvalContext) (bool, error) {
	v, diags := e.Value(ctx)
	if diags.HasErrors() {
		return false, fmt.Errorf("%s", said(diags))
	}
	v, _ = v.UnmarkDeep()
	b, err := convert.Convert(v, cty.Bool)
	if err != nil || b.IsNull() || !b.IsKnown() {
		return false, fmt.Errorf("it is neither true nor false")
	}
	return b.True(), nil
}

// said is the first error of an evaluation, in one line.
func said(diags hcl2.Diagnostics) string {
	for _, d := range diags {
		if d.Severity != hcl2.DiagError {
			continue
		}
		at := ""
		if d.Subject != nil {
			at = fmt.Sprintf("line %d: ", d.Subject.Start.Line)
		}
		return at + d.Summary + ": " + strings.Join(strings.Fields(d.Detail), " ")
	}
	return ""
}

func changeValue(c *object.PlannedChange) cty.Value {
	side := func(a object.Any) cty.Value {
		if a.IsZero() {
			return cty.NullVal(cty.DynamicPseudoType)
		}
		return hcl.ValueOf(a.Object)
	}
	return cty.ObjectVal(map[string]cty.Value{
		"address": cty.StringVal(c.Address), "kind": cty.StringVal(string(c.Ref.Kind)), "name": cty.StringVal(c.Ref.Name), "namespace": cty.StringVal(c.Ref.Namespace),
		"action": cty.StringVal(string(c.Op())), "replaces": cty.BoolVal(c.Replaces()), "wave": cty.NumberIntVal(int64(c.Wave)),
		"before": side(c.Before), "after": side(c.After),
	})
}

func planValue(p *object.Plan, changes []cty.Value, author string) cty.Value {
	f := &p.Forecast
	var lowest, placements, unplaced []cty.Value
	for _, a := range f.Lowest {
		lowest = append(lowest, cty.ObjectVal(map[string]cty.Value{
			"workload": cty.StringVal(a.Workload.Address()), "kind": cty.StringVal(string(a.Workload.Kind)), "name": cty.StringVal(a.Workload.Name), "namespace": cty.StringVal(a.Workload.Namespace),
			"ready": cty.NumberIntVal(int64(a.Ready)), "want": cty.NumberIntVal(int64(a.Want)), "at": cty.NumberFloatVal(a.At.D().Seconds()),
		}))
	}
	for _, x := range f.Placements {
		placements = append(placements, cty.ObjectVal(map[string]cty.Value{
			"pod": cty.StringVal(x.Pod.Name), "namespace": cty.StringVal(x.Pod.Namespace), "node": cty.StringVal(x.Node), "workload": cty.StringVal(x.Workload.Address()),
		}))
	}
	for _, x := range f.Unplaced {
		unplaced = append(unplaced, cty.ObjectVal(map[string]cty.Value{
			"pod": cty.StringVal(x.Pod.Name), "namespace": cty.StringVal(x.Pod.Namespace), "reason": cty.StringVal(x.Reason),
		}))
	}
	cause := p.Cause
	if p.Operation != nil {
		cause = p.Operation.Name
	}
	return cty.ObjectVal(map[string]cty.Value{
		"stack": cty.StringVal(p.Stack), "author": cty.StringVal(author), "cause": cty.StringVal(cause), "changes": cty.TupleVal(changes),
		"outcome": cty.StringVal(f.Outcome), "duration": cty.NumberFloatVal(f.Duration.D().Seconds()),
		"pods_started": cty.NumberIntVal(int64(f.Start)), "pods_stopped": cty.NumberIntVal(int64(f.Stop)),
		"lowest": cty.TupleVal(lowest), "placements": cty.TupleVal(placements), "unplaced": cty.TupleVal(unplaced),
	})
}

func wrong(at hcl2.Range, summary, detail string, args ...any) *hcl2.Diagnostic {
	return &hcl2.Diagnostic{Severity: hcl2.DiagError, Summary: summary, Detail: fmt.Sprintf(detail, args...), Subject: &at}
}

func names(m map[string]function.Function) []string { return slices.Sorted(maps.Keys(m)) }

func known(m map[string]function.Function, name string) bool {
	_, ok := m[name]
	return ok
}

func quoted(words []string) string { return `"` + strings.Join(words, `", "`) + `"` }
