package hcl

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// variable is one variable block and, in the end, its value.
type variable struct {
	name        string
	blk         *block
	typ         cty.Type
	defaults    *typeexpr.Defaults
	def         cty.Value // NilVal without a default
	description string
	sensitive   bool
	nullable    bool

	objects []*declaration // that its value came from, through the module block
	value   cty.Value      // marked if sensitive; DynamicVal if failed
	failed  bool
}

// variableFileNames are read without being asked for; *.auto.hclvars follow.
var variableFileNames = []string{"berth.hclvars", "berth.hclvars.json"}

var typeNames = []string{"string", "number", "bool", "any", "list", "set", "map", "object", "tuple"}

func (r *run) readVariable(k *block) {
	if !r.named(k, "variable") {
		return
	}
	name := k.labels[0]
	if before := r.variables[name]; before != nil {
		r.duplicate(k, before.blk, "variable \""+name+"\"")
		return
	}
	v := &variable{name: name, blk: k, typ: cty.DynamicPseudoType, nullable: true}
	r.variables[name] = v
	src := k.body.src
	if !hclsyntax.ValidIdentifier(name) {
		r.wrong(src, k.labelsAt[0], "Wrong name", "A variable's name begins with a letter and has letters, digits, underscores and hyphens.")
	}
	if slices.Contains([]string{"count", "for_each", "depends_on", "lifecycle"}, name) || r.parent != nil && slices.Contains(callAttributes, name) {
		r.wrong(src, k.labelsAt[0], "Reserved name", "%q has a meaning of its own and cannot be a variable's name.", name)
	}
	known := []string{"type", "default", "description", "sensitive", "nullable"}
	var def *attribute
	for i := range k.body.attrs {
		a := &k.body.attrs[i]
		switch a.name {
		case "type":
			e, diags := a.expression(src)
			if word := hcl.ExprAsKeyword(e); word != "" && !slices.Contains(typeNames, word) {
				r.wrong(src, a.exprAt, "Unknown type", "There is no type %q.%s", word, hint(word, typeNames, "There are: "+strings.Join(typeNames, ", ")+"."))
				v.failed = true
				continue
			}
			if !diags.HasErrors() {
				v.typ, v.defaults, diags = typeexpr.TypeConstraintWithDefaults(e)
			}
			r.add(diags)
		case "default":
			def = a
		case "description":
			v.description = constant(r, src, a, cty.String, cty.Value.AsString)
		case "sensitive":
			v.sensitive = constant(r, src, a, cty.Bool, cty.Value.True)
		case "nullable":
			v.nullable = constant(r, src, a, cty.Bool, cty.Value.True)
		default:
			r.wrong(src, a.nameAt, "Unknown attribute", "A variable has no attribute %q.%s", a.name, hint(a.name, known, "There are: "+strings.Join(known, ", ")+", and validation blocks."))
		}
	}
	if def != nil {
		val, diags := def.value(nil)
		if r.add(diags); diags.HasErrors() {
			v.failed = true
		} else if val, problem := v.convert(val); problem != "" {
			r.wrong(src, def.exprAt, "Wrong default", "The default of variable %q does not fit: %s.", name, problem)
			v.failed = true
		} else {
			v.def = val
		}
	}
	for i := range k.body.blocks {
		if b := &k.body.blocks[i]; b.kind != "validation" {
			r.wrong(src, b.head, "Unknown block", "A variable has validation blocks, not %q.", b.kind)
		}
	}
}

// constant reads an attribute that may refer to nothing.
func constant[T any](r *run, src *source, a *attribute, t cty.Type, get func(cty.Value) T) T {
	var zero T
	v, diags := a.value(nil)
	if r.add(diags); diags.HasErrors() {
		return zero
	}
	c, err := convert.Convert(v, t)
	if err != nil || c.IsNull() || !c.IsKnown() {
		r.wrong(src, a.exprAt, "Wrong value", "%q is %s here, without references.", a.name, map[bool]string{true: "a text", false: "true or false"}[t == cty.String])
		return zero
	}
	return get(c)
}

// convert fits a value to the variable's type; the problem never shows the value.
func (v *variable) convert(val cty.Value) (cty.Value, string) {
	if val.IsNull() {
		if !v.nullable {
			return val, "it may not be null (nullable = false)"
		}
		return cty.NullVal(v.typ.WithoutOptionalAttributesDeep()), ""
	}
	if v.defaults != nil {
		val = v.defaults.Apply(val)
	}
	if v.typ.IsCollectionType() {
		val = uniform(val)
	}
	out, err := convert.Convert(val, v.typ)
	if err != nil {
		return val, err.Error()
	}
	return out, ""
}

// given is a value for a variable from outside, and where it came from.
type given struct {
	value   cty.Value
	from    string // for people: --var, berth.hclvars:3
	at      *hcl.Range
	objects []*declaration // of an input
	valueAt *hcl.Range     // in a test file, where at is the name's
	lenient bool           // in a test file: it need not be declared
}

// assign finds each variable's value: default, environment, files, arguments,
// then the person at the terminal; a later one wins.
func (r *run) assign() {
	values := map[string]given{}
	for _, e := range r.opts.Environ {
		name, text, ok := strings.Cut(e, "=")
		name, found := strings.CutPrefix(name, "BERTH_VAR_")
		if v := r.variables[name]; ok && found && v != nil {
			r.giveText(values, v, text, "the environment variable BERTH_VAR_"+name)
		}
	}
	for _, name := range variableFileNames {
		if file := filepath.Join(r.dir, name); exists(file) {
			r.variableFile(values, file, name)
		}
	}
	var auto []string
	for _, pattern := range []string{"*.auto.hclvars", "*.auto.hclvars.json"} {
		files, err := filepath.Glob(filepath.Join(escapeGlob(r.dir), pattern))
		if err != nil {
			r.diags = append(r.diags, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Cannot list the variable files", Detail: err.Error()})
		}
		auto = append(auto, files...)
	}
	slices.Sort(auto)
	for _, file := range auto {
		if !ignored(filepath.Base(file)) {
			r.variableFile(values, file, filepath.Base(file))
		}
	}
	for _, a := range r.opts.Vars {
		if a.File != "" {
			r.variableFile(values, a.File, a.File)
			continue
		}
		name, text, ok := strings.Cut(a.Assignment, "=")
		name = strings.TrimSpace(name)
		switch v := r.variables[name]; {
		case !ok:
			r.general("Wrong --var", "--var takes NAME=VALUE, and %q has no equals sign.", a.Assignment)
		case v == nil:
			r.general("No such variable", "--var gives a value to %q, which this configuration does not declare.%s", name, hint(name, keys(r.variables), "Declare it: variable \""+name+"\" { … }."))
		default:
			r.giveText(values, v, text, "--var "+name)
		}
	}
	for _, name := range keys(r.opts.given) {
		g := r.opts.given[name]
		switch {
		case r.variables[name] != nil:
			if g.valueAt != nil {
				g.at = g.valueAt
			}
			values[name] = g
		case !g.lenient:
			r.diags = append(r.diags, r.undeclared(name, g))
		}
	}
	for _, name := range keys(r.variables) {
		r.settle(r.variables[name], values)
	}
}

// settle gives one variable its final value.
func (r *run) settle(v *variable, values map[string]given) {
	src := v.blk.body.src
	g, ok := values[v.name]
	switch {
	case v.failed:
	case ok && g.value == cty.NilVal:
		v.failed = true // a value that did not parse; reported
	case ok && g.value.IsNull() && !v.nullable && v.def != cty.NilVal:
		v.value = v.def
	case ok:
		val, problem := v.convert(g.value)
		if problem != "" {
			d := wrong(src.rng(v.blk.head), "Wrong value for a variable", "The value of variable %q from %s does not fit: %s.", v.name, g.from, problem)
			if g.at != nil {
				d.Subject = g.at
			}
			r.diags = append(r.diags, d)
			v.failed = true
		}
		v.value = val
	case v.def != cty.NilVal:
		v.value = v.def
	case r.opts.Input != nil:
		text, err := r.opts.Input(Question{Name: v.name, Description: v.description, Sensitive: v.sensitive})
		if err != nil {
			r.wrong(src, v.blk.head, "No value for a variable", "Variable %q has no value, and asking for it failed: %v.", v.name, err)
			v.failed = true
			break
		}
		asked := map[string]given{}
		r.giveText(asked, v, text, "the terminal")
		in := r.opts.Input
		r.opts.Input = nil
		r.settle(v, asked)
		r.opts.Input = in
		return
	case r.opts.Unset:
		v.value = cty.UnknownVal(v.typ.WithoutOptionalAttributesDeep())
	case r.unset != nil:
		r.unset[v.name] = true
		v.failed = true
	default:
		r.wrong(src, v.blk.head, "No value for a variable", "Variable %q has no default. Give it a value: --var %s=…, --var-file FILE, berth.hclvars or BERTH_VAR_%s.", v.name, v.name, v.name)
		v.failed = true
	}
	if v.failed {
		v.value = cty.DynamicVal
	} else if v.sensitive {
		v.value = v.value.Mark(sensitiveMark{})
	}
}

// giveText takes a value from a command line or environment: as it stands for
// primitive types, as an expression for others.
func (r *run) giveText(values map[string]given, v *variable, text, from string) {
	if v.typ.IsPrimitiveType() || v.typ == cty.DynamicPseudoType {
		values[v.name] = given{value: cty.StringVal(text), from: from}
		return
	}
	e, diags := hclsyntax.ParseExpression([]byte(text), "<"+from+">", hcl.InitialPos)
	var val cty.Value
	if !diags.HasErrors() {
		val, diags = e.Value(nil)
	}
	if diags.HasErrors() {
		why := diags[0].Summary + "; " + diags[0].Detail
		if v.sensitive {
			why = diags[0].Summary + "."
		}
		r.general("Wrong value for a variable", "The value of variable %q from %s is not an expression of type %s: %s", v.name, from, typeexpr.TypeString(v.typ), why)
		val = cty.NilVal
	}
	values[v.name] = given{value: val, from: from}
}

func (r *run) variableFile(values map[string]given, file, shown string) {
	src, err := overlay(r.opts.Overlay).read(file)
	if err != nil {
		r.general("Cannot read a variable file", "%v.", err)
		return
	}
	s := &source{name: shown, src: src}
	r.files[shown] = src
	parsed, diags := parse(s, strings.HasSuffix(file, ".json"))
	if r.add(diags); diags.HasErrors() {
		return
	}
	for i := range parsed.blocks {
		b := &parsed.blocks[i]
		r.wrong(s, b.head, "A block in a variable file", "A variable file has lines NAME = VALUE only; blocks belong into *.hcl files.")
	}
	for i := range parsed.attrs {
		a := &parsed.attrs[i]
		if r.variables[a.name] == nil {
			d := wrong(s.rng(a.nameAt), "Value for an unknown variable", "This configuration does not declare a variable %q.%s", a.name, hint(a.name, keys(r.variables), "Declare it or take the line out."))
			d.Severity = hcl.DiagWarning
			r.diags = append(r.diags, d)
			continue
		}
		at := s.rng(a.exprAt)
		val, diags := a.value(nil)
		if r.add(diags); diags.HasErrors() {
			val = cty.NilVal
		}
		values[a.name] = given{value: val, from: shown, at: &at}
	}
}

// validate runs the validation blocks, which may refer to any variable.
func (r *run) validate(v *variable) {
	if v.failed {
		return
	}
	for i := range v.blk.body.blocks {
		b := &v.blk.body.blocks[i]
		if b.kind != "validation" {
			continue
		}
		src := b.body.src
		n := &node{address: "variable." + v.name, src: src}
		r.link(n, mentionsOf(&b.body, nil, nil), rules{})
		if len(n.edges) > 0 {
			r.wrong(src, b.head, "Wrong reference in a validation", "A validation may refer to variables only.")
			continue
		}
		r.add(n.diags)
		if n.failed {
			continue
		}
		r.validation(v, b, r.context(&n.scope))
	}
}

func (r *run) validation(v *variable, b *block, ctx *hcl.EvalContext) {
	src := b.body.src
	cond, text := b.body.attr("condition"), b.body.attr("error_message")
	for i := range b.body.attrs {
		if a := &b.body.attrs[i]; a != cond && a != text {
			r.wrong(src, a.nameAt, "Unknown attribute", "A validation has the attributes condition and error_message, not %q.", a.name)
		}
	}
	if cond == nil || text == nil {
		r.wrong(src, b.head, "Incomplete validation", "A validation needs a condition and an error_message.")
		return
	}
	val, diags := cond.value(ctx)
	if r.add(diags); diags.HasErrors() {
		return
	}
	val, _ = val.Unmark()
	ok, err := convert.Convert(val, cty.Bool)
	if err != nil || ok.IsNull() {
		r.wrong(src, cond.exprAt, "Wrong condition", "A condition is true or false, not %s.", describe(val))
		return
	}
	if !ok.IsKnown() || ok.True() {
		return
	}
	msg, diags := text.value(ctx)
	if r.add(diags); diags.HasErrors() {
		return
	}
	detail := "The value does not satisfy its condition; its message is not shown because it holds a sensitive value."
	if !msg.IsMarked() {
		if s, err := convert.Convert(msg, cty.String); err == nil && s.IsKnown() && !s.IsNull() {
			detail = s.AsString()
		}
	}
	r.wrong(src, v.blk.head, fmt.Sprintf("Invalid value for variable %q", v.name), "%s\n\nThis was checked by the validation at %s:%d.%s", detail, src.name, src.pos(b.head.start).Line, r.wayTo(v))
}

func exists(file string) bool {
	info, err := os.Stat(file)
	return err == nil && !info.IsDir()
}

// escapeGlob makes a directory's name stand for itself in a pattern.
func escapeGlob(dir string) string {
	return strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `\`, `\\`).Replace(dir)
}
