package hcl

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/berthdev/berth/cluster/object"
)

// TestSuffix ends the names of test files. They stand beside a configuration and
// are no part of it.
const TestSuffix = ".berthtest.hcl"

// PolicySuffix ends the names of policy files (package policy). A configuration reads
// one by file(...) and may have it beside itself; it is no part of it, either.
const PolicySuffix = ".policy.hcl"

// TestFile is one test file: a cluster, and runs that follow one another in it.
type TestFile struct {
	Name  string // as it is shown
	Nodes []*object.Node
	Given *TestGiven // nil: nothing runs at first
	Runs  []*TestRun

	dir    string
	src    *source
	values map[string]given
}

// TestGiven is a configuration that is in force when the first run begins.
type TestGiven struct {
	Directory string // as it is to be opened
	Range     object.Range

	own    bool // it is the configuration that is tested
	values map[string]given
}

// TestRun is one step of a test.
type TestRun struct {
	Name        string
	Apply       bool     // what it plans is carried out, too
	Lose, Drain []string // nodes; then that is planned, and not the configuration
	ExpectError string   // a part of the text of an error that has to come
	// ExpectRefusals are policies, or rules as POLICY.RULE, that have to refuse what is planned.
	ExpectRefusals []string
	Range          object.Range

	values   map[string]given
	asserts  []*condition
	failures []expectedFailure
}

// expectedFailure is what a run expects to fail its conditions.
type expectedFailure struct {
	address string // as it is written: var.replicas, check.quick, deployment.web
	path    hcl.Traversal
}

// Asserts reports whether the run looks at what was planned.
func (t *TestRun) Asserts() bool { return len(t.asserts) > 0 }

// Defaults of a node block, and the nodes of a file without one.
const (
	testCPU    = "4"
	testMemory = "8Gi"
	testPods   = 110
	testNodes  = 3
)

var (
	testBlocks     = []string{"given", "node", "run", "variables"}
	testNodeNames  = []string{"attributes", "count", "cpu", "labels", "memory", "pods", "zone"}
	testTaintNames = []string{"effect", "value"}
	testRunNames   = []string{"command", "drain", "expect_error", "expect_failures", "expect_refusals", "lose"}
)

// ReadTests reads the test files of a directory, in the order of their names, and
// tells every mistake in them that can be found without a configuration.
func ReadTests(dir string, o Options) ([]*TestFile, object.Diagnostics) {
	r := newRun(dir, o)
	var out []*TestFile
	if entries, err := os.ReadDir(dir); err != nil {
		r.general("Cannot read the directory", "%v.", err)
	} else if abs, err := filepath.Abs(dir); err != nil {
		r.general("Cannot find the directory", "%v.", err)
	} else {
		r.root = &hcl.EvalContext{Functions: functionsFor(abs, o.Now)}
		for _, e := range entries {
			if e.IsDir() || ignored(e.Name()) || !strings.HasSuffix(e.Name(), TestSuffix) {
				continue
			}
			text, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				r.general("Cannot read a file", "%v.", err)
				continue
			}
			s := &source{name: filepath.ToSlash(shownPath(dir, e.Name())), src: text}
			r.files[s.name] = text
			b, wrongs := parse(s, false)
			if r.add(wrongs); !wrongs.HasErrors() {
				out = append(out, r.readTest(&b))
			}
		}
	}
	diags := fromHCL(r.diags, r.files)
	diags.Sort()
	return out, diags
}

func (r *run) readTest(b *body) *TestFile {
	f := &TestFile{Name: b.src.name, dir: r.dir, src: b.src, values: map[string]given{}}
	for i := range b.attrs {
		a := &b.attrs[i]
		r.wrong(b.src, a.nameAt, "Attribute outside a block", "%q stands alone. Values of variables belong into a block variables { … }.", a.name)
	}
	single := map[string]*block{}
	names := map[string]*block{} // of nodes and runs, by kind and name
	rest := make([]*block, 0, len(b.blocks))
	for i := range b.blocks {
		k := &b.blocks[i]
		switch k.kind {
		case "variables", "given":
			if len(k.labels) > 0 {
				r.wrong(b.src, k.head, "Superfluous name", "A %s block has no name.", k.kind)
			} else if before := single[k.kind]; before != nil {
				r.duplicate(k, before, "a "+k.kind+" block")
			} else {
				single[k.kind] = k
			}
		case "node", "run":
			if !r.named(k, k.kind) {
				continue
			}
			if before := names[k.kind+" "+k.labels[0]]; before != nil {
				r.duplicate(k, before, fmt.Sprintf("a %s %q", k.kind, k.labels[0]))
				continue
			}
			names[k.kind+" "+k.labels[0]] = k
			rest = append(rest, k)
		default:
			r.wrong(b.src, k.head, "Unknown block", "There is no block %q in a test file.%s", k.kind, hint(k.kind, testBlocks, "There are: "+strings.Join(testBlocks, ", ")+"."))
		}
	}
	if k := single["variables"]; k != nil {
		f.values = r.testValues(k, nil)
	}
	vars := r.testVariables(f)
	if k := single["given"]; k != nil {
		f.Given = r.readGiven(k, vars)
	}
	for _, k := range rest {
		if k.kind == "node" {
			r.readTestNode(f, k, vars)
		}
	}
	if len(f.Nodes) == 0 {
		for i := range testNodes {
			f.Nodes = append(f.Nodes, newTestNode(fmt.Sprintf("node-%d", i+1)))
		}
	}
	for _, k := range rest {
		if k.kind == "run" {
			f.Runs = append(f.Runs, r.readTestRun(f, k, vars))
		}
	}
	if !slices.ContainsFunc(b.blocks, func(k block) bool { return k.kind == "run" }) {
		r.wrong(b.src, b.at, "No runs", "A test file needs a run: run \"NAME\" { assert { … } }.")
	}
	return f
}

// testVariables is what expressions of the file see: its own variables as var.
func (r *run) testVariables(f *TestFile) map[string]cty.Value {
	vals := map[string]cty.Value{}
	for name, g := range f.values {
		vals[name] = cty.DynamicVal
		if g.value != cty.NilVal {
			vals[name] = g.value
		}
	}
	return vals
}

// testValue evaluates an attribute of a test file, whose expressions see functions
// and the file's variables; more are the other roots that it sees.
func (r *run) testValue(src *source, a *attribute, vars map[string]cty.Value, more map[string]cty.Value) (cty.Value, bool) {
	for _, t := range a.traversals() {
		if _, ok := more[t.RootName()]; ok {
			continue
		}
		name, at, named := step(t, 1)
		switch {
		case t.RootName() != "var":
			r.diags = append(r.diags, wrong(t.SourceRange(), "No such name", "Here, a test file sees its own variables, var.NAME, and functions only.%s", hint(t.RootName(), []string{"var"}, "")))
		case !named:
			r.diags = append(r.diags, wrong(t.SourceRange(), "Incomplete reference", "Name the variable: var.NAME."))
		case vars[name] == cty.NilVal:
			r.diags = append(r.diags, wrong(at, "No such variable", "This test file gives no value to a variable %q.%s", name, hint(name, keys(vars), "Write it into the file's block variables { … }.")))
		default:
			continue
		}
		return cty.NilVal, false
	}
	ctx := r.root.NewChild()
	ctx.Variables = map[string]cty.Value{"var": cty.ObjectVal(vars)}
	maps.Copy(ctx.Variables, more)
	v, diags := a.value(ctx)
	r.add(diags)
	return v, !diags.HasErrors()
}

// testValues reads a block of variables.
func (r *run) testValues(k *block, vars map[string]cty.Value) map[string]given {
	out := map[string]given{}
	src := k.body.src
	for i := range k.body.blocks {
		r.wrong(src, k.body.blocks[i].head, "Unknown block", "A variables block has lines NAME = VALUE only.")
	}
	for i := range k.body.attrs {
		a := &k.body.attrs[i]
		at := src.rng(a.nameAt)
		g := given{from: fmt.Sprintf("%s:%d", src.name, at.Start.Line), at: &at}
		if v, ok := r.testValue(src, a, vars, nil); ok {
			g.value = v
			whole := src.rng(a.exprAt)
			g.valueAt = &whole
		}
		out[a.name] = g
	}
	return out
}

func (r *run) readGiven(k *block, vars map[string]cty.Value) *TestGiven {
	src := k.body.src
	g := &TestGiven{Directory: r.dir, Range: rangeOf(src.rng(k.head)), own: true, values: map[string]given{}}
	for i := range k.body.attrs {
		a := &k.body.attrs[i]
		switch a.name {
		case "directory":
		case "variables": // as an input of Terraform's modules: a map instead of a block
			r.givenValues(g, src, a, vars)
			continue
		default:
			r.wrong(src, a.nameAt, "Unknown attribute", "A given block has no attribute %q.%s", a.name, hint(a.name, []string{"directory", "variables"}, "There are directory and variables."))
			continue
		}
		text, ok := r.testText(src, a, vars, nil)
		if !ok {
			continue
		}
		if g.Directory = text; !filepath.IsAbs(text) {
			g.Directory = filepath.Join(r.dir, text)
		}
		if info, err := os.Stat(g.Directory); err != nil || !info.IsDir() {
			r.wrong(src, a.exprAt, "Not a configuration", "There is no directory %s. It is named as seen from the test file.", g.Directory)
		}
		g.own = filepath.Clean(g.Directory) == filepath.Clean(r.dir)
	}
	for i := range k.body.blocks {
		b := &k.body.blocks[i]
		if b.kind != "variables" {
			r.wrong(src, b.head, "Unknown block", "A given block has no block %q.%s", b.kind, hint(b.kind, []string{"variables"}, "There is variables."))
			continue
		}
		maps.Copy(g.values, r.testValues(b, vars))
	}
	return g
}

func (r *run) givenValues(g *TestGiven, src *source, a *attribute, vars map[string]cty.Value) {
	v, ok := r.testValue(src, a, vars, nil)
	if !ok {
		return
	}
	if t := v.Type(); v.IsNull() || !v.IsKnown() || !t.IsObjectType() && !t.IsMapType() {
		r.wrong(src, a.exprAt, "Wrong value", "variables is a map of values by the variables' names, not %s.", describe(v))
		return
	}
	for it := v.ElementIterator(); it.Next(); {
		key, val := it.Element()
		at := src.rng(a.exprAt)
		g.values[key.AsString()] = given{value: val, from: fmt.Sprintf("%s:%d", src.name, at.Start.Line), at: &at}
	}
}

// testText is the text of an attribute.
func (r *run) testText(src *source, a *attribute, vars, more map[string]cty.Value) (string, bool) {
	v, ok := r.testValue(src, a, vars, more)
	if !ok {
		return "", false
	}
	text, err := convert.Convert(v, cty.String)
	if err != nil || text.IsNull() || !text.IsKnown() {
		r.wrong(src, a.exprAt, "Wrong value", "%q is a text, not %s.", a.name, describe(v))
		return "", false
	}
	return text.AsString(), true
}

// testTexts are the texts of a map or a list.
func (r *run) testTexts(src *source, a *attribute, t cty.Type, vars, more map[string]cty.Value) (cty.Value, bool) {
	v, ok := r.testValue(src, a, vars, more)
	if !ok {
		return v, false
	}
	if list, err := convert.Convert(v, t); err == nil && list.IsWhollyKnown() && !list.IsNull() {
		for it := list.ElementIterator(); ; {
			if !it.Next() {
				return list, true
			}
			if _, e := it.Element(); e.IsNull() {
				break
			}
		}
	}
	what := "a list of names"
	if t.IsMapType() {
		what = "a map of texts"
	}
	r.wrong(src, a.exprAt, "Wrong value", "%q is %s, not %s.", a.name, what, describe(v))
	return v, false
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func (r *run) testNumber(src *source, a *attribute, vars map[string]cty.Value, low, high int) int {
	v, ok := r.testValue(src, a, vars, nil)
	if !ok {
		return low
	}
	if n, err := convert.Convert(v, cty.Number); err == nil && n.IsKnown() && !n.IsNull() {
		if i, exact := n.AsBigFloat().Int64(); exact == 0 && int64(low) <= i && i <= int64(high) {
			return int(i)
		}
	}
	r.wrong(src, a.exprAt, "Wrong value", "%q is a whole number from %d to %d, not %s.", a.name, low, high, describe(v))
	return low
}

func (r *run) readTestRun(f *TestFile, k *block, vars map[string]cty.Value) *TestRun {
	src := k.body.src
	t := &TestRun{Name: k.labels[0], Range: rangeOf(src.rng(k.head)), values: map[string]given{}}
	var variables *block
	for i := range k.body.blocks {
		b := &k.body.blocks[i]
		switch b.kind {
		case "variables":
			if variables != nil {
				r.duplicate(b, variables, "a variables block")
				continue
			}
			variables = b
			t.values = r.testValues(b, vars)
		case "assert":
			c := &condition{title: "Test assertion failed", sides: true}
			r.readCondition(b, c, fmt.Sprintf("run %q", t.Name))
			t.asserts = append(t.asserts, c)
		default:
			known := []string{"assert", "variables"}
			r.wrong(src, b.head, "Unknown block", "A run has no block %q.%s", b.kind, hint(b.kind, known, "There are: "+strings.Join(known, ", ")+"."))
		}
	}
	for i := range k.body.attrs {
		a := &k.body.attrs[i]
		switch a.name {
		case "command":
			text, ok := r.testText(src, a, vars, nil)
			if t.Apply = text == "apply"; ok && !t.Apply && text != "plan" {
				commands := []string{"plan", "apply"}
				r.wrong(src, a.exprAt, "Wrong command", "A run does not %q.%s", text, hint(text, commands, "There are plan, which is the default, and apply."))
			}
		case "lose":
			t.Lose = r.testNodes(f, src, a, vars)
		case "drain":
			t.Drain = r.testNodes(f, src, a, vars)
		case "expect_error":
			text, ok := r.testText(src, a, vars, nil)
			if t.ExpectError = text; ok && text == "" {
				r.wrong(src, a.exprAt, "Wrong value", "expect_error is a part of the error's text, and every text has an empty part.")
			}
		case "expect_refusals":
			t.ExpectRefusals = r.testRefusals(src, a, vars)
		case "expect_failures":
			r.readExpected(t, src, a)
		default:
			r.wrong(src, a.nameAt, "Unknown attribute", "A run has no attribute %q.%s", a.name, hint(a.name, testRunNames, "There are: "+strings.Join(testRunNames, ", ")+", and blocks variables and assert."))
		}
	}
	lose, drain, expect := k.body.attr("lose"), k.body.attr("drain"), k.body.attr("expect_error")
	if refusals := k.body.attr("expect_refusals"); refusals != nil && (lose != nil || expect != nil) {
		r.wrong(src, refusals.nameAt, "A refusal that cannot come", "Policies judge what can be applied: neither a loss of nodes nor a plan that ends with an error.")
	}
	switch {
	case lose != nil && drain != nil:
		r.wrong(src, drain.nameAt, "Two operations", "A run loses nodes or drains them, not both. Make two runs of it.")
	case (lose != nil || drain != nil) && variables != nil:
		r.wrong(src, variables.head, "Variables without effect", "A run that loses or drains nodes plans that, and not the configuration. Give the variables to a run before it, with command = \"apply\".")
	}
	if expect != nil && len(t.asserts) > 0 {
		r.wrong(src, t.asserts[0].at, "An assertion that is never reached", "The run expects an error, and then there is no plan to look at. Take it out, or make a run of its own for it.")
	}
	return t
}

// testRefusals reads the policies that have to refuse a run.
func (r *run) testRefusals(src *source, a *attribute, vars map[string]cty.Value) []string {
	v, ok := r.testTexts(src, a, cty.List(cty.String), vars, nil)
	if !ok {
		return nil
	}
	var out []string
	for it := v.ElementIterator(); it.Next(); {
		_, e := it.Element()
		name := e.AsString()
		policy, rule, parted := strings.Cut(name, ".")
		switch {
		case policy == "" || parted && rule == "" || strings.Contains(rule, "."):
			r.wrong(src, a.exprAt, "Wrong value", "%q names no policy. Write its name, or POLICY.RULE: \"images\" is the file images%s, and \"images.no_latest\" a rule in it.", name, PolicySuffix)
		case slices.Contains(out, name):
			r.wrong(src, a.exprAt, "Named twice", "%q stands here twice.", name)
		default:
			out = append(out, name)
		}
	}
	if len(out) == 0 && v.LengthInt() == 0 {
		r.wrong(src, a.exprAt, "Wrong value", "expect_refusals names nothing. Take it out: a run that a policy refuses without being expected fails anyway.")
	}
	return out
}

// readExpected reads references as they are written: var.replicas, check.quick.
func (r *run) readExpected(t *TestRun, src *source, a *attribute) {
	e, diags := a.expression(src)
	var list []hcl.Expression
	if !diags.HasErrors() {
		list, diags = hcl.ExprList(e)
	}
	if diags.HasErrors() {
		r.wrong(src, a.exprAt, "Wrong value", "expect_failures is a list of what is expected to fail: [var.replicas, check.quick].")
		return
	}
	for _, x := range list {
		path, diags := hcl.AbsTraversalForExpr(x)
		if diags.HasErrors() {
			r.diags = append(r.diags, wrong(x.Range(), "Wrong reference", "Write what is expected to fail without quotation marks: var.replicas, check.quick, output.url or deployment.web."))
			continue
		}
		t.failures = append(t.failures, expectedFailure{writtenTraversal(path), path})
	}
}
