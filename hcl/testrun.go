package hcl

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/berthdev/berth/cluster/object"
)

// Trial is the configuration as one run of a test has it.
type Trial struct {
	*Configuration // nil if there are mistakes
	run            *run
	file           *TestFile
	test           *TestRun
}

// LoadGiven evaluates what is in force before the first run. Variables of the file
// that another directory does not declare are not for it.
func (f *TestFile) LoadGiven(o Options) (*Configuration, object.Diagnostics) {
	values := map[string]given{}
	for name, g := range f.values {
		g.lenient = !f.Given.own
		values[name] = g
	}
	maps.Copy(values, f.Given.values)
	if !f.Given.own {
		o.Vars = nil // of the configuration that is tested
	}
	c, _, diags := f.load(f.Given.Directory, values, o)
	return c, diags
}

// Check tells the mistakes of the runs that the configuration's names show, whatever
// its values are. Of a configuration that cannot be read it tells nothing: the runs will.
func (f *TestFile) Check(o Options) object.Diagnostics {
	o.Input = nil
	r := newRun(f.dir, o)
	r.unset = map[string]bool{}
	r.load()
	if r.root == nil {
		return nil
	}
	var out hcl.Diagnostics
	declared := func(values map[string]given) {
		for _, name := range keys(values) {
			if r.variables[name] == nil {
				out = append(out, r.undeclared(name, values[name]))
			}
		}
	}
	declared(f.values)
	for _, t := range f.Runs {
		declared(t.values)
		for _, e := range t.failures {
			if d := r.checkable(e); d != nil {
				out = append(out, d)
			}
		}
		for _, a := range t.asserts {
			c := *a
			r.link(&c.node, mentionsOf(c.body, nil, nil), rules{plan: true, output: true})
			out = append(out, c.diags...)
			for _, x := range []*attribute{c.cond, c.message} {
				if x.expr != nil {
					out = append(out, unknownFunctions(x.expr, r.root)...)
				}
			}
		}
	}
	return f.told(r, out)
}

// undeclared says that a test gives a value to what is no variable.
func (r *run) undeclared(name string, g given) *hcl.Diagnostic {
	return wrong(*g.at, "No such variable", "This configuration does not declare a variable %q.%s", name, hint(name, keys(r.variables), "Declare it, or take the line out."))
}

// Load evaluates the configuration for a run.
func (f *TestFile) Load(t *TestRun, o Options) (*Trial, object.Diagnostics) {
	values := maps.Clone(f.values)
	maps.Copy(values, t.values)
	c, r, diags := f.load(f.dir, values, o)
	return &Trial{Configuration: c, run: r, file: f, test: t}, diags
}

func (f *TestFile) load(dir string, values map[string]given, o Options) (*Configuration, *run, object.Diagnostics) {
	o.Input, o.given = nil, values
	r := newRun(dir, o)
	c := r.load()
	diags := f.told(r, r.diags)
	if diags.HasErrors() {
		c = nil
	}
	return c, r, diags
}

// told brings diagnostics of the configuration or the test file into our shape.
func (f *TestFile) told(r *run, found hcl.Diagnostics) object.Diagnostics {
	files := maps.Clone(r.files)
	files[f.src.name] = f.src.src
	diags := fromHCL(distinct(found), files)
	diags.Sort()
	return diags
}

// Assert holds what the run planned against its assertions.
func (x *Trial) Assert(p *object.Plan) object.Diagnostics {
	r := x.run
	var out hcl.Diagnostics
	outputs := map[string]cty.Value{}
	for name, o := range r.outputs {
		if outputs[name] = o.value; o.sensitive {
			outputs[name] = o.value.Mark(sensitiveMark{})
		}
	}
	seen := map[string]cty.Value{"plan": r.foreseen(p), "output": cty.ObjectVal(outputs)}
	for _, a := range x.test.asserts {
		c := *a
		r.link(&c.node, mentionsOf(c.body, nil, nil), rules{plan: true, output: true})
		bad := c.diags.HasErrors()
		out = append(out, c.diags...)
		for _, t := range slices.Concat(c.cond.traversals(), c.message.traversals()) {
			if d := r.foresees(t); d != nil {
				out = append(out, d)
				bad = true
			}
		}
		if bad {
			continue
		}
		ctx := r.context(&c.scope).NewChild()
		ctx.Variables = seen
		if v, diags := c.cond.value(ctx); !diags.HasErrors() && !v.IsKnown() {
			out = append(out, wrong(c.src.rng(c.cond.exprAt), "Unknown condition", "What this depends on has no value in a test, so it neither holds nor fails."))
			continue
		}
		out = append(out, c.judge(ctx, c.address)...)
	}
	return x.file.told(r, out)
}

// bothSides are the values of a comparison that does not hold; of several joined by
// &&, of the first one.
func (c *condition) bothSides(ctx *hcl.EvalContext) []string {
	e, _ := c.cond.expr.(hclsyntax.Expression)
	for {
		switch x := e.(type) {
		case *hclsyntax.ParenthesesExpr:
			e = x.Expression
			continue
		case *hclsyntax.BinaryOpExpr:
			switch x.Op {
			case hclsyntax.OpLogicalAnd:
				v, diags := x.LHS.Value(ctx)
				if diags.HasErrors() {
					return nil
				}
				v, _ = v.Unmark()
				if ok, err := convert.Convert(v, cty.Bool); err == nil && ok.IsKnown() && !ok.IsNull() && ok.False() {
					e = x.LHS
				} else {
					e = x.RHS
				}
				continue
			case hclsyntax.OpEqual, hclsyntax.OpNotEqual, hclsyntax.OpLessThan, hclsyntax.OpLessThanOrEqual, hclsyntax.OpGreaterThan, hclsyntax.OpGreaterThanOrEqual:
				left, wrongs := x.LHS.Value(ctx)
				right, more := x.RHS.Value(ctx)
				if wrongs.HasErrors() || more.HasErrors() {
					return nil
				}
				return []string{"  LHS: " + valueText(left, 2), "  RHS: " + valueText(right, 2)}
			}
		}
		return nil
	}
}

// failedCondition reports whether a diagnostic is about a condition that people
// wrote, and of what: var.NAME for a validation.
func failedCondition(d *object.Diagnostic) (address string, ok bool) {
	if name, is := strings.CutPrefix(d.Summary, "Invalid value for variable \""); is {
		return "var." + strings.TrimSuffix(name, "\""), true
	}
	for _, end := range []string{" precondition failed", " postcondition failed", "Check block assertion failed"} {
		if strings.HasSuffix(d.Summary, end) {
			return d.Address, true
		}
	}
	return "", false
}

// Settle compares what was found with what the run expects: what is expected is
// taken out, what is missing is told. A check that fails unexpectedly is an error here.
func (x *Trial) Settle(found object.Diagnostics) object.Diagnostics {
	var out object.Diagnostics
	came := make([]bool, len(x.test.failures))
	matched := false
	for _, d := range found {
		if address, is := failedCondition(&d); is {
			expected := false
			for i, f := range x.test.failures {
				if address == f.address || strings.HasPrefix(address, f.address+"[") {
					came[i], expected = true, true
				}
			}
			if expected {
				continue
			}
			d.Severity = object.SeverityError
		}
		if x.test.ExpectError != "" && d.Severity == object.SeverityError && strings.Contains(flat(d.Summary+": "+d.Detail), flat(x.test.ExpectError)) {
			matched = true
			continue
		}
		out = append(out, d)
	}
	say := func(summary, detail string, args ...any) {
		at := x.test.Range
		out = append(out, object.Diagnostic{Severity: object.SeverityError, Summary: summary, Detail: fmt.Sprintf(detail, args...), Range: &at,
			Snippet: snippet(x.file.src.src, at.Start.Byte), Address: fmt.Sprintf("run %q", x.test.Name)})
	}
	for i, f := range x.test.failures {
		if came[i] {
			continue
		}
		if d := x.run.checkable(f); d != nil {
			out = append(out, x.file.told(x.run, hcl.Diagnostics{d})...)
			continue
		}
		say("Missing expected failure", "%s was expected to fail a condition, but did not.", f.address)
	}
	if x.test.ExpectError != "" && !matched {
		say("Missing expected error", "An error with the text %q was expected, but there was none.", x.test.ExpectError)
	}
	return out
}

// flat is a text without regard to line breaks.
func flat(s string) string { return strings.Join(strings.Fields(s), " ") }

// checkable says what is wrong with the name of something that is expected to fail.
func (r *run) checkable(f expectedFailure) *hcl.Diagnostic {
	root := f.path.RootName()
	name, at, named := step(f.path, 1)
	var known []string
	switch root {
	case "var":
		known = keys(r.variables)
	case "check":
		known = keys(r.checks)
	case "output":
		known = keys(r.outputs)
	default:
		info, ok := object.Info(object.Kind(root))
		if !ok || !info.Declared {
			roots := append([]string{"var", "check", "output"}, slices.DeleteFunc(r.roots(), func(n string) bool { return n == "path" || n == "each" || n == "count" || n == "berth" || n == "local" })...)
			return wrong(f.path.SourceRange(), "No such name", "Nothing of the name %s has conditions.%s", f.address, hint(root, roots, "Variables have, and checks, outputs and objects: var.replicas, check.quick, output.url, deployment.web."))
		}
		known = keys(r.byKind[info.Kind])
	}
	switch {
	case !named:
		return wrong(f.path.SourceRange(), "Incomplete reference", "Name which one: %s.NAME.", root)
	case !slices.Contains(known, name):
		return wrong(at, "No such name", "There is no %s in this configuration.%s", f.address, hint(name, known, among(known)))
	}
	return nil
}
