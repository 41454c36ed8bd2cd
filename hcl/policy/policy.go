package policy

import (
	"slices"
	"strconv"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/hcl"
)

// Rule is one rule of a policy, compiled.
type Rule struct {
	Name        string
	Enforcement string   // see object.Enforcements
	Kinds       []string // of changes that it is about; empty: all
	Actions     []string // create, update, delete; empty: all

	where, condition, message hcl2.Expression // where may be nil
	each                      bool            // it judges every change by itself
	foresees                  bool            // it looks at the forecast
}

// Policy is a file of rules.
type Policy struct {
	Name  string
	Rules []Rule
}

// forecastAttributes are the attributes of plan for which it has to be rehearsed.
var forecastAttributes = []string{"outcome", "duration", "pods_started", "pods_stopped", "lowest", "placements", "unplaced"}

var planAttributes = append([]string{"stack", "author", "cause", "changes"}, forecastAttributes...)

var changeAttributes = []string{"address", "kind", "name", "namespace", "action", "replaces", "wave", "before", "after"}

var actions = []string{string(object.OpCreate), string(object.OpUpdate), string(object.OpDelete)}

var ruleSchema = &hcl2.BodySchema{Attributes: []hcl2.AttributeSchema{
	{Name: "enforcement", Required: true}, {Name: "kinds"}, {Name: "actions"}, {Name: "where"},
	{Name: "condition", Required: true}, {Name: "error_message", Required: true},
}}

// Compile reads the source of a policy and tells every mistake in it. With errors
// among them there are no rules: a policy holds whole or not at all. file is how
// places are to be named.
func Compile(name, file string, source []byte) (*Policy, object.Diagnostics) {
	parsed, diags := hclsyntax.ParseConfig(source, file, hcl2.InitialPos)
	files := map[string][]byte{file: source}
	if diags.HasErrors() {
		return nil, hcl.Diagnose(diags, files)
	}
	p := &Policy{Name: name}
	body := parsed.Body.(*hclsyntax.Body) // native syntax has no other
	for _, a := range body.Attributes {
		diags = append(diags, wrong(a.NameRange, "Unknown attribute", "A policy file has only rule blocks: rule \"NAME\" { … }."))
	}
	seen := map[string]bool{}
	for _, b := range body.Blocks {
		switch {
		case b.Type != "rule":
			diags = append(diags, wrong(b.TypeRange, "Unknown block", "A policy file has only rule blocks, not %s.%s", b.Type, hcl.Hint(b.Type, []string{"rule"}, "")))
			continue
		case len(b.Labels) != 1 || !hclsyntax.ValidIdentifier(b.Labels[0]):
			diags = append(diags, wrong(b.DefRange(), "Wrong name", "A rule has one name of letters, digits and underscores: rule \"no_latest\" { … }."))
			continue
		case seen[b.Labels[0]]:
			diags = append(diags, wrong(b.DefRange(), "Duplicate rule", "There is a rule %q already.", b.Labels[0]))
		}
		seen[b.Labels[0]] = true
		r, found := compileRule(b)
		diags = append(diags, found...)
		p.Rules = append(p.Rules, r)
	}
	if len(body.Blocks) == 0 && len(diags) == 0 {
		diags = append(diags, wrong(body.SrcRange, "No rules", "The policy has no rule. Write rule \"NAME\" { enforcement = \"hard\", condition = …, error_message = … }."))
	}
	slices.SortStableFunc(diags, func(a, b *hcl2.Diagnostic) int { return start(a) - start(b) })
	out := hcl.Diagnose(diags, files)
	if out.HasErrors() {
		return nil, out
	}
	return p, out
}

func start(d *hcl2.Diagnostic) int {
	if d.Subject == nil {
		return 0
	}
	return d.Subject.Start.Byte
}

func compileRule(b *hclsyntax.Block) (Rule, hcl2.Diagnostics) {
	r := Rule{Name: b.Labels[0]}
	content, diags := b.Body.Content(ruleSchema)
	for name, a := range content.Attributes {
		switch name {
		case "enforcement":
			var words []string
			words, diags = texts(a, object.Enforcements, diags)
			if len(words) == 1 {
				r.Enforcement = words[0]
			} else if len(words) > 1 {
				diags = append(diags, wrong(a.Expr.Range(), "Wrong enforcement", "A rule is either advisory, soft or hard."))
			}
		case "actions":
			r.Actions, diags = texts(a, actions, diags)
		case "kinds":
			var known []string
			for _, k := range object.Kinds() {
				if k.Declared {
					known = append(known, string(k.Kind))
				}
			}
			r.Kinds, diags = texts(a, known, diags)
		case "where":
			r.where = a.Expr
		case "condition":
			r.condition = a.Expr
		case "error_message":
			r.message = a.Expr
		}
	}
	r.each = len(r.Kinds) > 0 || len(r.Actions) > 0 || r.where != nil
	functions := hcl.PureFunctions()
	for _, e := range []hcl2.Expression{r.where, r.condition, r.message} {
		if e == nil {
			continue
		}
		for _, t := range e.Variables() {
			found := r.refers(t)
			if found != nil {
				diags = append(diags, found)
			}
		}
		n, ok := e.(hclsyntax.Node)
		if !ok {
			continue
		}
		diags = append(diags, hclsyntax.VisitAll(n, func(n hclsyntax.Node) hcl2.Diagnostics {
			call, ok := n.(*hclsyntax.FunctionCallExpr)
			if !ok || known(functions, call.Name) {
				return nil
			}
			return hcl2.Diagnostics{wrong(call.NameRange, "Unknown function", "A policy cannot call %s(): it has the functions of configuration but those that read files, templates or the clock.%s", call.Name, hcl.Hint(call.Name, names(functions), ""))}
		})...)
	}
	return r, diags
}

// refers notes what a reference of a rule means for it, and checks its names.
func (r *Rule) refers(t hcl2.Traversal) *hcl2.Diagnostic {
	attributes := planAttributes
	switch t.RootName() {
	case "change":
		r.each, attributes = true, changeAttributes
	case "plan":
	default:
		return wrong(t.SourceRange(), "Unknown reference", "A rule sees change and plan, not %s.%s", t.RootName(), hcl.Hint(t.RootName(), []string{"change", "plan"}, ""))
	}
	if len(t) == 1 {
		r.foresees = r.foresees || t.RootName() == "plan"
		return nil
	}
	var name string
	switch s := t[1].(type) {
	case hcl2.TraverseAttr:
		name = s.Name
	case hcl2.TraverseIndex:
		if s.Key.Type() == cty.String {
			name = s.Key.AsString()
		}
	}
	if !slices.Contains(attributes, name) {
		return wrong(t[1].SourceRange(), "Unknown attribute", "%s has no attribute %q.%s", t.RootName(), name, hcl.Hint(name, attributes, ""))
	}
	if t.RootName() == "plan" && slices.Contains(forecastAttributes, name) {
		r.foresees = true
	}
	return nil
}

// texts are the words of an attribute: one, or a list of them, each one of known.
func texts(a *hcl2.Attribute, known []string, diags hcl2.Diagnostics) ([]string, hcl2.Diagnostics) {
	exprs, one := []hcl2.Expression{a.Expr}, true
	if list, bad := hcl2.ExprList(a.Expr); !bad.HasErrors() {
		exprs, one = list, false
	}
	var out []string
	for _, e := range exprs {
		v, bad := e.Value(nil)
		if bad.HasErrors() || v.IsNull() || v.Type() != cty.String {
			diags = append(diags, wrong(e.Range(), "Wrong "+a.Name, "%s is written out: %s.", a.Name, strconv.Quote(known[0])))
			continue
		}
		if w := v.AsString(); slices.Contains(known, w) {
			out = append(out, w)
		} else {
			diags = append(diags, wrong(e.Range(), "Unknown value", "%s is not %q.%s", a.Name, w, hcl.Hint(w, known, "It is one of "+quoted(known)+".")))
		}
	}
	if !one && len(exprs) == 0 {
		diags = append(diags, wrong(a.Expr.Range(), "Empty list", "%s names at least one; leave it out for all.", a.Name))
	}
	return out, diags
}
