package hcl

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/berthdev/berth/cluster/object"
)

// node is a local, a kind's block or an output: what has a value and refers to others.
type node struct {
	address string // local.labels, deployment.web
	src     *source
	at      span
	body    *body
	edges   []edge
	scope   scope
	eval    func(*node)
	decl    *declaration // if it is one
	call    *call        // if it is one
	state   nodeState
	failed  bool           // has been reported; what depends on it stays silent
	value   cty.Value      // as others see it; DynamicVal if failed
	objects []*declaration // that it refers to, through locals too
	broken  []span         // references that have been reported: expressions that hold one are not evaluated
	diags   hcl.Diagnostics
}

type edge struct {
	to     *node
	at     hcl.Range
	output string // of a module; empty: all
}

type nodeState uint8

const (
	unvisited nodeState = iota
	visiting
	visited
)

// scope is what the expressions of a node mention, by root.
type scope struct {
	vars, locals []string
	decls        []*declaration
	calls        []*call
	data         []*datum
	path, berth  bool
	plan         bool // the forecast
}

func (s *scope) empty() bool {
	return len(s.vars) == 0 && len(s.locals) == 0 && len(s.decls) == 0 && len(s.calls) == 0 && len(s.data) == 0 && !s.path && !s.berth
}

// mention is one reference as it is written.
type mention struct {
	traversal hcl.Traversal
	hidden    []string // iterators of the dynamic blocks around it
}

// mentionsOf lists the references in a body.
func mentionsOf(b *body, hidden []string, out []mention) []mention {
	for i := range b.attrs {
		a := &b.attrs[i]
		if a.expr == nil || a.name == "depends_on" || a.name == "ignore_changes" {
			continue
		}
		for _, t := range a.expr.Variables() {
			out = append(out, mention{t, hidden})
		}
	}
	for i := range b.blocks {
		k := &b.blocks[i]
		if k.kind != "dynamic" {
			if isCondition(k.kind) {
				continue // evaluated when all is there, see condition
			}
			out = mentionsOf(&k.body, hidden, out)
			continue
		}
		inner := append(slices.Clone(hidden), iteratorOf(k))
		for j := range k.body.attrs {
			a := &k.body.attrs[j]
			if a.expr == nil || a.name == "iterator" {
				continue
			}
			h := hidden
			if a.name == "labels" {
				h = inner
			}
			for _, t := range a.expr.Variables() {
				out = append(out, mention{t, h})
			}
		}
		for j := range k.body.blocks {
			out = mentionsOf(&k.body.blocks[j].body, inner, out)
		}
	}
	return out
}

// rules says which roots besides variables, locals and objects a place knows.
type rules struct{ each, count, self, plan, output bool }

// link resolves what a node mentions into edges and a scope.
func (r *run) link(n *node, mentions []mention, allow rules) {
	for _, m := range mentions {
		root := m.traversal.RootName()
		if slices.Contains(m.hidden, root) {
			continue
		}
		if d := r.resolve(n, m.traversal, allow); d != nil {
			n.diags = append(n.diags, d)
			n.broken = append(n.broken, spanOf(m.traversal.SourceRange()))
			n.failed = true
		}
	}
	n.scope.compact()
}

// compact sorts a scope, each name once.
func (s *scope) compact() {
	slices.Sort(s.vars)
	s.vars = slices.Compact(s.vars)
	slices.Sort(s.locals)
	s.locals = slices.Compact(s.locals)
	slices.SortFunc(s.decls, func(a, b *declaration) int { return strings.Compare(a.node.address, b.node.address) })
	s.decls = slices.Compact(s.decls)
	slices.SortFunc(s.calls, func(a, b *call) int { return strings.Compare(a.name, b.name) })
	s.calls = slices.Compact(s.calls)
	slices.SortFunc(s.data, func(a, b *datum) int { return strings.Compare(a.address, b.address) })
	s.data = slices.Compact(s.data)
}

// add takes another scope in.
func (s *scope) add(o *scope) {
	s.vars, s.locals = append(s.vars, o.vars...), append(s.locals, o.locals...)
	s.decls, s.calls = append(s.decls, o.decls...), append(s.calls, o.calls...)
	s.data = append(s.data, o.data...)
	s.path, s.berth = s.path || o.path, s.berth || o.berth
}

// step is the nth name of a traversal.
func step(t hcl.Traversal, n int) (string, hcl.Range, bool) {
	if len(t) <= n {
		return "", hcl.Range{}, false
	}
	switch s := t[n].(type) {
	case hcl.TraverseAttr:
		at := s.SrcRange
		if at.End.Byte-at.Start.Byte > len(s.Name) { // with the dot
			at.Start.Byte++
			at.Start.Column++
		}
		return s.Name, at, true
	case hcl.TraverseIndex:
		if s.Key.Type() == cty.String && s.Key.IsKnown() && !s.Key.IsNull() {
			return s.Key.AsString(), s.SrcRange, true
		}
	}
	return "", t[n].SourceRange(), false
}

func (r *run) resolve(n *node, t hcl.Traversal, allow rules) *hcl.Diagnostic {
	root, at := t.RootName(), t.SourceRange()
	name, nameAt, named := step(t, 1)
	switch root {
	case "var":
		if !named {
			return wrong(at, "Incomplete reference", "Name the variable: var.NAME.")
		}
		if r.variables[name] == nil {
			return wrong(nameAt, "No such variable", "There is no variable %q.%s", name, hint(name, keys(r.variables), "Declare it: variable \""+name+"\" { … }."))
		}
		n.scope.vars = append(n.scope.vars, name)
		if r.variables[name].failed {
			n.failed = true
		}
		return nil
	case "local":
		if !named {
			return wrong(at, "Incomplete reference", "Name the local value: local.NAME.")
		}
		to := r.locals[name]
		if to == nil {
			return wrong(nameAt, "No such local value", "There is no local value %q.%s", name, hint(name, keys(r.locals), "Declare it in a locals block."))
		}
		n.scope.locals = append(n.scope.locals, name)
		n.edges = append(n.edges, edge{to: to, at: at})
		return nil
	case "path":
		if !named || !slices.Contains([]string{"module", "root", "cwd"}, name) {
			return wrong(at, "No such path", "There are path.module, path.root and path.cwd.")
		}
		n.scope.path = true
		return nil
	case "berth":
		if !named || !slices.Contains([]string{"stack", "namespace"}, name) {
			return wrong(at, "No such value", "There are berth.stack and berth.namespace.")
		}
		n.scope.berth = true
		return nil
	case "each":
		if !allow.each {
			return wrong(at, "each without for_each", "each.key and each.value exist only in a block with for_each.")
		}
		if !named || (name != "key" && name != "value") {
			return wrong(at, "No such value", "There are each.key and each.value.")
		}
		return nil
	case "count":
		if !allow.count {
			return wrong(at, "count.index without count", "count.index exists only in a block with count.")
		}
		if !named || name != "index" {
			return wrong(at, "No such value", "There is count.index.")
		}
		return nil
	case "plan":
		if !allow.plan {
			return wrong(at, "No forecast here", "The forecast is known when everything else is: plan.… exists in the conditions of check, precondition and postcondition blocks only.")
		}
		n.scope.plan = true
		return resolvePlan(t)
	case "output":
		if !allow.output {
			break
		}
		if !named {
			return wrong(at, "Incomplete reference", "Name the output: output.NAME.")
		}
		if r.outputs[name] == nil {
			return wrong(nameAt, "No such output", "This configuration has no output %q.%s", name, hint(name, keys(r.outputs), among(keys(r.outputs))))
		}
		n.edges = append(n.edges, edge{to: &r.outputs[name].node, at: at})
		return nil
	case "self":
		if allow.self {
			return nil
		}
		if allow.plan {
			return wrong(at, "No self here", "self exists in a postcondition only. Here, name the object: deployment.web.")
		}
		return wrong(at, "No self here", "An object cannot refer to itself; put the value into locals and use it twice.")
	case "module":
		return r.resolveModule(n, t)
	case "data":
		return r.resolveData(n, t)
	}
	info, ok := object.Info(object.Kind(root))
	if !ok || !info.Declared {
		return wrong(t[0].SourceRange(), "No such name", "%q is not a kind of object, and there is no other value of this name.%s", root, hint(root, r.roots(), ""))
	}
	if !named {
		return wrong(at, "Incomplete reference", "Name the object: %s.NAME.", root)
	}
	decl := r.byKind[info.Kind][name]
	if decl == nil {
		return wrong(nameAt, "No such object", "There is no %s %q in this configuration.%s", root, name, hint(name, keys(r.byKind[info.Kind]), ""))
	}
	n.scope.decls = append(n.scope.decls, decl)
	n.edges = append(n.edges, edge{to: &decl.node, at: at})
	// The name of an attribute can be checked before anything is evaluated.
	next := 2
	if decl.repeated() {
		if len(t) > 2 {
			if _, index := t[2].(hcl.TraverseIndex); !index {
				if a, attrAt, ok := step(t, 2); ok && slices.Contains(attributesOf(info), a) {
					return wrong(attrAt, "Which one?", "%s has %s: say which one, %s[%s].%s, or all of them, %s.", decl.local(), decl.mode(), decl.local(), decl.exampleKey(), a, decl.allOf(a))
				}
				return nil
			}
		}
		next = 3
	}
	if a, attrAt, ok := step(t, next); ok {
		if names := attributesOf(info); !slices.Contains(names, a) {
			return wrong(attrAt, "No such attribute", "A %s has no attribute %q.%s", root, a, hint(a, names, " There are: "+strings.Join(names, ", ")+"."))
		}
	}
	return nil
}

// hint is " Did you mean …", or the alternative.
func hint(word string, known []string, otherwise string) string {
	if s := object.DidYouMean(word, known); s != "" {
		return " " + s
	}
	if otherwise != "" && !strings.HasPrefix(otherwise, " ") {
		return " " + otherwise
	}
	return otherwise
}

func keys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func (r *run) roots() []string {
	out := []string{"var", "local", "path", "each", "count", "berth", "module", "data"}
	for _, k := range object.Kinds() {
		if k.Declared {
			out = append(out, string(k.Kind))
		}
	}
	return out
}

// visit evaluates a node after all that it refers to.
func (r *run) visit(n *node, trail []edge) {
	switch n.state {
	case visited:
		return
	case visiting:
		r.cycle(n, trail)
		return
	}
	n.state = visiting
	for _, e := range n.edges {
		if e.to.state == visited && !e.to.failed {
			continue
		}
		r.visit(e.to, append(trail, e))
		if e.to.failed && n.call == nil { // a module is evaluated all the same, without the input
			n.failed = true
		}
	}
	n.state = visited
	r.gather(n)
	n.eval(n)
	if n.failed {
		n.value = cty.DynamicVal
	}
}

// cycle reports a circle of references once, with the place of each.
func (r *run) cycle(n *node, trail []edge) {
	start := 0 // of the circle in the trail; 0 too if the walk began in it
	for i := range trail[:len(trail)-1] {
		if trail[i].to == n {
			start = i + 1
		}
	}
	var lines []string
	from, reported := n, true
	for _, e := range trail[start:] {
		lines = append(lines, fmt.Sprintf("  %s refers to %s at %s:%d", from.address, e.to.address, e.at.Filename, e.at.Start.Line))
		reported = reported && e.to.failed
		e.to.failed = true
		from = e.to
	}
	if !reported {
		n.diags = append(n.diags, wrong(trail[start].at, "Cycle of references",
			"These refer to one another in a circle, so none can come first:\n%s\nBreak the circle: put a value that two of them need into locals or a variable.", strings.Join(lines, "\n")))
	}
}

// context is what a node's expressions can see: exactly what they mention.
func (r *run) context(s *scope) *hcl.EvalContext {
	if s.empty() {
		return r.root
	}
	vars := map[string]cty.Value{}
	if len(s.vars) > 0 {
		vars["var"] = r.object("var", s.vars, func(n string) cty.Value { return r.variables[n].value })
	}
	if len(s.locals) > 0 {
		vars["local"] = r.object("local", s.locals, func(n string) cty.Value {
			if v := r.locals[n].value; v != cty.NilVal {
				return v
			}
			return cty.DynamicVal // in a circle of references, which is reported
		})
	}
	byKind := map[string]map[string]cty.Value{}
	for _, d := range s.decls {
		k := string(d.info.Kind)
		if byKind[k] == nil {
			byKind[k] = map[string]cty.Value{}
		}
		byKind[k][d.name] = r.valueOfDeclaration(d)
	}
	for k, names := range byKind {
		vars[k] = cty.ObjectVal(names)
	}
	if len(s.calls) > 0 {
		modules := make(map[string]cty.Value, len(s.calls))
		for _, c := range s.calls {
			modules[c.name] = r.valueOfCall(c)
		}
		vars["module"] = cty.ObjectVal(modules)
	}
	if len(s.data) > 0 {
		kinds := map[string]map[string]cty.Value{}
		for _, d := range s.data {
			k := string(d.info.Kind)
			if kinds[k] == nil {
				kinds[k] = map[string]cty.Value{}
			}
			kinds[k][d.name] = d.valueOf()
		}
		vals := make(map[string]cty.Value, len(kinds))
		for k, names := range kinds {
			vals[k] = cty.ObjectVal(names)
		}
		vars["data"] = cty.ObjectVal(vals)
	}
	if s.path {
		vars["path"] = r.paths
	}
	if s.berth {
		vars["berth"] = cty.ObjectVal(map[string]cty.Value{"stack": cty.StringVal(r.stack), "namespace": cty.StringVal(r.namespace)})
	}
	ctx := r.root.NewChild()
	ctx.Variables = vars
	return ctx
}

// object makes the value of var or local with the names mentioned, once for
// each set of names.
func (r *run) object(root string, names []string, value func(string) cty.Value) cty.Value {
	key := root + "." + strings.Join(names, ",")
	r.making.Lock()
	defer r.making.Unlock()
	if v, ok := r.made[key]; ok {
		return v
	}
	vals := make(map[string]cty.Value, len(names))
	for _, n := range names {
		vals[n] = value(n)
	}
	v := cty.ObjectVal(vals)
	r.made[key] = v
	return v
}
