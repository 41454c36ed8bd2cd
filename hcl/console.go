package hcl

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/berthdev/berth/cluster/object"
)

// Console answers expressions with the values of a configuration, which is
// evaluated once, at the start. A configuration with mistakes answers as far as
// it can.
type Console struct{ r *run }

// Answer is the value of an expression.
type Answer struct {
	Text      string // as it is written in a configuration; what is sensitive is masked
	Value     any    // as encoding/json writes it; null for what is sensitive
	Type      string
	Sensitive bool // the whole or a part of it
}

// consoleFile is the name that ranges of what was typed have for their file.
const consoleFile = "<console>"

// NewConsole evaluates the configuration of a directory; a directory without one
// has functions only. The console is nil if the files cannot be read as a
// configuration at all.
func NewConsole(dir string, o Options) (*Console, object.Diagnostics) {
	r := newRun(dir, o)
	r.unset = map[string]bool{}
	if sources, wrongs := sourcesOf(dir, dir, o.Overlay); len(sources) == 0 && len(wrongs) == 0 {
		r.bare()
	} else {
		r.load()
	}
	diags := fromHCL(distinct(r.diags), r.files)
	diags.Sort()
	if r.root == nil {
		return nil, diags
	}
	return &Console{r}, diags
}

// bare is load for a directory without files.
func (r *run) bare() {
	abs, err := filepath.Abs(r.dir)
	if err != nil {
		r.general("Cannot find the directory", "%v.", err)
		return
	}
	r.stack, r.namespace = filepath.Base(abs), object.DefaultNamespace
	r.paths = r.pathsFor(&directory{path: abs, rel: "."})
	r.root = &hcl.EvalContext{Functions: functionsFor(abs, r.opts.Now)}
}

// Evaluate answers one expression.
func (c *Console) Evaluate(text string) (Answer, object.Diagnostics) {
	if strings.Contains(text, "\n") {
		text += "\n" // which ends a heredoc
	}
	src := &source{name: consoleFile, src: []byte(text)}
	refuse := func(diags hcl.Diagnostics) (Answer, object.Diagnostics) {
		out := fromHCL(diags, map[string][]byte{consoleFile: src.src})
		out.Sort()
		return Answer{}, out
	}
	e, diags := hclsyntax.ParseExpression(src.src, consoleFile, hcl.InitialPos)
	if diags.HasErrors() {
		return refuse(diags)
	}
	n := &node{address: "the expression", src: src}
	var mentions []mention
	for _, t := range e.Variables() {
		mentions = append(mentions, mention{traversal: t})
	}
	c.r.link(n, mentions, rules{})
	if n.diags.HasErrors() {
		return refuse(append(n.diags, unknownFunctions(e, c.r.root)...))
	}
	if n.lost(c.r) {
		return refuse(hcl.Diagnostics{wrong(e.Range(), "No value", "%s", c.why(n))})
	}
	v, diags := e.Value(c.r.context(&n.scope))
	if diags.HasErrors() {
		return refuse(diags)
	}
	a := answer(v)
	if call, ok := e.(*hclsyntax.FunctionCallExpr); ok && call.Name == "type" {
		a.Text = v.AsString() // as in Terraform, without quotes
	}
	return a, nil
}

// why says what the value of an expression is lacking.
func (c *Console) why(n *node) string {
	unset := map[string]bool{}
	seen := map[*node]bool{}
	var walk func(n *node)
	walk = func(n *node) {
		if seen[n] {
			return
		}
		seen[n] = true
		for _, name := range n.scope.vars {
			if c.r.unset[name] {
				unset[name] = true
			}
		}
		for _, e := range n.edges {
			walk(e.to)
		}
	}
	walk(n)
	names := keys(unset)
	switch len(names) {
	case 0:
		return "There is a mistake in what this refers to; it was told when the console started."
	case 1:
		return "The variable \"" + names[0] + "\" has no value. Start the console with --var " + names[0] + "=…, or with a variable file."
	}
	return "The variables " + strings.Join(names, ", ") + " have no value. Start the console with --var NAME=… for each, or with a variable file."
}

// Names lists what an expression can begin with, sorted: functions with their
// opening parenthesis, references with what is known to follow.
func (c *Console) Names() []string {
	r := c.r
	out := []string{"path.cwd", "path.module", "path.root", "berth.namespace", "berth.stack"}
	for name := range r.root.Functions {
		out = append(out, name+"(")
	}
	for name := range r.variables {
		out = append(out, "var."+name)
	}
	for name := range r.locals {
		out = append(out, "local."+name)
	}
	for name, m := range r.calls {
		out = append(out, "module."+name)
		if m.dir != nil && !m.repeated() {
			for o := range m.dir.outputs {
				out = append(out, "module."+name+"."+o)
			}
		}
	}
	for _, d := range r.order {
		out = append(out, d.local())
		if !d.repeated() {
			for _, a := range attributesOf(d.info) {
				out = append(out, d.local()+"."+a)
			}
		}
	}
	slices.Sort(out)
	return out
}

// Continues reports whether an expression seems to go on in the next line: a
// bracket or a heredoc is open. An empty line ends it all the same.
func Continues(text string) bool {
	if strings.TrimSpace(text[strings.LastIndexByte(text, '\n')+1:]) == "" {
		return false
	}
	tokens, _ := hclsyntax.LexExpression([]byte(text+"\n"), consoleFile, hcl.InitialPos)
	var open []hclsyntax.TokenType
	for _, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen, hclsyntax.TokenOHeredoc, hclsyntax.TokenOQuote,
			hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
			open = append(open, t.Type)
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenCHeredoc, hclsyntax.TokenCQuote, hclsyntax.TokenTemplateSeqEnd:
			if len(open) > 0 {
				open = open[:len(open)-1]
			}
		}
	}
	// A text between quotes ends in its line, so one that does not is a mistake.
	return len(open) > 0 && !slices.Contains(open, hclsyntax.TokenOQuote)
}
