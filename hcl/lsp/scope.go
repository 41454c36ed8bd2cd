package lsp

import (
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/hcl"
)

var functions = sync.OnceValue(hcl.Functions)

// place is where the cursor is in a file.
type place struct {
	node   *node      // in whose body
	attr   *attribute // in whose value; nil: where an attribute or block begins
	head   *node      // in whose names
	quoted span       // the text between quotes that the cursor is in; start is -1 if it is in none
	silent bool       // in a comment or a heredoc, where nobody is helped
}

func (o *outline) place(at int) place {
	p := place{node: o.root, quoted: span{-1, -1}}
descend:
	for {
		for _, b := range p.node.blocks {
			switch {
			case b.body.start >= 0 && b.body.holds(at):
				p.node = b
				continue descend
			case at > b.kindAt.end && at <= b.head.end:
				p.head = b
			}
		}
		break
	}
	for i := range p.node.attrs {
		if a := &p.node.attrs[i]; a.value.holds(at) {
			p.attr = a
		}
	}
	from := 0
	if p.attr != nil {
		from = p.attr.value.start
	}
	first, _ := slices.BinarySearchFunc(o.tokens, from, func(t hclsyntax.Token, at int) int { return t.Range.Start.Byte - at })
	var open []hclsyntax.TokenType
	for _, t := range o.tokens[first:] {
		s := spanOf(t)
		if t.Type == hclsyntax.TokenComment && s.start < at && at < s.end {
			p.silent = true
		}
		if s.start >= at {
			break
		}
		if p.attr == nil {
			continue
		}
		open = follow(open, t.Type)
		inText := len(open) > 0 && open[len(open)-1] == hclsyntax.TokenOQuote
		switch {
		case inText && t.Type == hclsyntax.TokenOQuote:
			p.quoted = span{s.end, s.end}
		case inText && p.quoted.start >= 0:
			p.quoted.end = s.end
		case !inText:
			p.quoted = span{-1, -1}
		}
	}
	if len(open) > 0 && open[len(open)-1] == hclsyntax.TokenOHeredoc {
		p.silent = true
	}
	return p
}

// step is one part of a reference: a name, or what stands in brackets.
type step struct {
	name  string
	index bool
}

var (
	reference = regexp.MustCompile(`[A-Za-z_][\w-]*(?:\.[\w-]*|\[[^\[\]]*\])*$`)
	parts     = regexp.MustCompile(`[\w-]+|\.[\w-]*|\[[^\[\]]*\]`)
	wordEnd   = regexp.MustCompile(`^[\w-]*`)
)

// referenceAt is the reference that ends at a place: the steps before the last, and
// where the last, which may be empty, stands.
func referenceAt(src []byte, at int) (before []step, last span) {
	line := string(src[strings.LastIndexByte(string(src[:at]), '\n')+1 : at])
	found := reference.FindString(line)
	if found == "" || strings.HasSuffix(found, "]") {
		return nil, span{at, at}
	}
	all := parts.FindAllString(found, -1)
	for _, s := range all[:len(all)-1] {
		before = append(before, stepOf(s))
	}
	return before, span{at - len(strings.TrimPrefix(all[len(all)-1], ".")), at}
}

func stepOf(s string) step {
	if strings.HasPrefix(s, "[") {
		return step{strings.Trim(s, `[]"`), true}
	}
	return step{strings.TrimPrefix(s, "."), false}
}

// member is what a reference can go on with.
type member struct {
	name, detail, doc string
	kind              int
	file              string // where it is declared; empty: nowhere
	at                span
}

// scope is what expressions of one directory can refer to.
type scope struct {
	w     *workspace
	dir   string
	files map[string]*outline
}

func (w *workspace) scope(dir string) *scope { return &scope{w, dir, w.directory(dir)} }

// blocks calls f for every block at the top, in the order of files and lines.
func (s *scope) blocks(f func(file string, o *outline, n *node)) {
	for _, file := range slices.Sorted(maps.Keys(s.files)) {
		for _, n := range s.files[file].root.blocks {
			f(file, s.files[file], n)
		}
	}
}

// declared are the blocks of a kind by their last name.
func (s *scope) declared(kind string, names int, describe func(o *outline, n *node) (detail, doc string), icon int) []member {
	var out []member
	s.blocks(func(file string, o *outline, n *node) {
		if n.kind == kind && len(n.labels) == names && n.label(names-1) != "" {
			detail, doc := describe(o, n)
			out = append(out, member{name: n.label(names - 1), detail: detail, doc: doc, kind: icon, file: file, at: n.head})
		}
	})
	return out
}

// written is an attribute as it stands in the text, or empty.
func (o *outline) written(n *node, name string) string {
	a := n.attr(name)
	if a == nil {
		return ""
	}
	return strings.TrimSpace(string(o.src[a.value.start:min(a.value.end, len(o.src))]))
}

func (s *scope) variables() []member {
	return s.declared("variable", 1, func(o *outline, n *node) (string, string) {
		doc := strings.Trim(o.written(n, "description"), `"`)
		if def := o.written(n, "default"); def != "" && o.written(n, "sensitive") != "true" {
			doc = strings.TrimSpace(doc + "\n\nDefault: `" + firstLine(def) + "`.")
		}
		return o.written(n, "type"), doc
	}, kindVariable)
}

func firstLine(text string) string {
	line, rest, more := strings.Cut(text, "\n")
	if more && rest != "" {
		return line + " …"
	}
	return line
}

func (s *scope) locals() []member {
	var out []member
	s.blocks(func(file string, o *outline, n *node) {
		if n.kind != "locals" {
			return
		}
		for i := range n.attrs {
			out = append(out, member{name: n.attrs[i].name, detail: firstLine(o.written(n, n.attrs[i].name)), kind: kindVariable, file: file, at: n.attrs[i].at})
		}
	})
	return out
}

// module is the scope of a module block's directory; nil if it is not beside this one.
func (s *scope) module(o *outline, n *node) *scope {
	source := strings.Trim(o.written(n, "source"), `"`)
	if !strings.HasPrefix(source, "./") && !strings.HasPrefix(source, "../") {
		return nil
	}
	return s.w.scope(filepath.Join(s.dir, filepath.FromSlash(source)))
}

func (s *scope) outputs() []member {
	return s.declared("output", 1, func(o *outline, n *node) (string, string) {
		return firstLine(o.written(n, "value")), strings.Trim(o.written(n, "description"), `"`)
	}, kindField)
}

func (s *scope) moduleMembers(name string) []member {
	var out []member
	s.blocks(func(_ string, o *outline, n *node) {
		if n.kind == "module" && n.label(0) == name {
			if m := s.module(o, n); m != nil {
				out = m.outputs()
			}
		}
	})
	return out
}

func plain(icon int, names ...string) []member {
	var out []member
	for _, n := range names {
		out = append(out, member{name: n, kind: icon})
	}
	return out
}

// members is what a reference can go on with at a place.
func (s *scope) members(before []step, in *node) []member {
	if len(before) == 0 {
		return s.roots(in)
	}
	root, rest := before[0].name, before[1:]
	switch root {
	case "var", "local", "module":
		return s.values(root, rest)
	case "path":
		return plain(kindField, "module", "root", "cwd")
	case "berth":
		return plain(kindField, "stack", "namespace")
	case "count":
		return plain(kindField, "index")
	case "each":
		return plain(kindField, "key", "value")
	case "plan":
		top, workload := hcl.ForeseenNames()
		switch {
		case len(rest) == 0:
			return plain(kindField, top...)
		case len(rest) == 1:
			return s.objects(rest[0].name)
		}
		return plain(kindField, workload...)
	case "self":
		if k := kindOf(outermost(in)); k != nil {
			return attributesOf(*k, rest)
		}
		return nil
	case "data":
		return s.data(rest)
	}
	if d := iterated(in, root); d {
		return plain(kindField, "key", "value")
	}
	k, ok := object.Info(object.Kind(root))
	switch {
	case !ok || !k.Declared:
		return nil
	case len(rest) == 0:
		return s.objects(root)
	}
	return attributesOf(k, rest[1:])
}

// values are those of the directory that are no objects.
func (s *scope) values(root string, rest []step) []member {
	switch {
	case root == "module" && len(rest) == 0:
		return s.declared("module", 1, func(o *outline, n *node) (string, string) { return o.written(n, "source"), "" }, kindModule)
	case root == "module" && (len(rest) == 1 || len(rest) == 2 && rest[1].index):
		return s.moduleMembers(rest[0].name)
	case len(rest) > 0: // inside a value, which is not known here
		return nil
	case root == "var":
		return s.variables()
	}
	return s.locals()
}

func (s *scope) objects(kind string) []member {
	return s.declared(kind, 1, func(*outline, *node) (string, string) { return kind, "" }, kindReference)
}

// data goes through data.KIND.NAME.
func (s *scope) data(rest []step) []member {
	if len(rest) == 0 {
		kinds := map[string]bool{}
		s.blocks(func(_ string, _ *outline, n *node) {
			if n.kind == "data" && len(n.labels) == 2 {
				kinds[n.label(0)] = true
			}
		})
		return plain(kindStruct, slices.Sorted(maps.Keys(kinds))...)
	}
	kind := rest[0].name
	if len(rest) == 1 {
		var out []member
		s.blocks(func(file string, _ *outline, n *node) {
			if n.kind == "data" && len(n.labels) == 2 && n.label(0) == kind {
				out = append(out, member{name: n.label(1), detail: "data " + kind, kind: kindReference, file: file, at: n.head})
			}
		})
		return out
	}
	if k, ok := object.Info(object.Kind(kind)); ok {
		return attributesOf(k, rest[2:])
	}
	return nil
}

// attributesOf goes through an object: fields of its spec, and what all objects have.
func attributesOf(k object.KindInfo, rest []step) []member {
	if len(rest) > 0 && rest[0].index {
		rest = rest[1:] // of count or for_each
	}
	g := kindBody(k)
	names := hcl.AttributesOf(k)
	for len(rest) > 0 {
		e := g.find(rest[0].name)
		if e == nil || e.inner == nil || names != nil && !slices.Contains(names, e.name) {
			return nil
		}
		rest, names, g = rest[1:], nil, e.inner()
		if len(rest) > 0 && (len(e.labels) > 0 || rest[0].index) {
			rest = rest[1:] // which of the blocks
		}
	}
	if names == nil {
		for i := range g {
			names = append(names, g[i].name)
		}
	}
	var out []member
	for _, name := range names {
		m := member{name: name, kind: kindField}
		if e := g.find(name); e != nil {
			m.detail, m.doc = e.typ, e.describe()
		} else if name == "host" {
			m.detail, m.doc = "text", "The name by which pods reach it."
		} else if name == "name" {
			m.detail, m.doc = "text", "Name of the object."
		}
		out = append(out, m)
	}
	return out
}

// outermost is the block at the file's top that a body is in.
func outermost(n *node) *node {
	for n.parent != nil && n.parent.parent != nil {
		n = n.parent
	}
	return n
}

// iterated reports whether a dynamic block around gives a name to its element.
func iterated(n *node, name string) bool {
	for ; n != nil; n = n.parent {
		if n.kind == "dynamic" && n.label(0) == name {
			return true
		}
	}
	return false
}

// roots are what an expression can begin with.
func (s *scope) roots(in *node) []member {
	out := []member{
		{name: "var", kind: kindKeyword, doc: "Variables of this directory."}, {name: "local", kind: kindKeyword, doc: "Values of locals blocks."},
		{name: "module", kind: kindKeyword, doc: "Outputs of modules."}, {name: "data", kind: kindKeyword, doc: "Objects of other stacks."},
		{name: "path", kind: kindKeyword, doc: "Directories: of this module, of the configuration, and where berth was started."},
		{name: "berth", kind: kindKeyword, doc: "The stack and its namespace."},
	}
	for n := in; n != nil; n = n.parent {
		switch {
		case n.kind == "precondition", n.kind == "postcondition", n.kind == "assert":
			out = append(out, member{name: "plan", kind: kindKeyword, doc: "What the forecast says."})
			if n.kind == "postcondition" {
				out = append(out, member{name: "self", kind: kindKeyword, doc: "The object as it is wanted."})
			}
		case n.kind == "dynamic" && n.label(0) != "":
			out = append(out, member{name: n.label(0), kind: kindKeyword, doc: "The element that the block is made for."})
		}
		if n.attr("for_each") != nil && n.kind != "dynamic" {
			out = append(out, member{name: "each", kind: kindKeyword, doc: "The element that this is made for."})
		}
		if n.attr("count") != nil {
			out = append(out, member{name: "count", kind: kindKeyword, doc: "count.index is the number of this one, from 0."})
		}
	}
	kinds := map[string]bool{}
	s.blocks(func(_ string, _ *outline, n *node) {
		if n.kind != "data" && kindOf(n) != nil && len(n.labels) == 1 {
			kinds[n.kind] = true
		}
	})
	for _, k := range slices.Sorted(maps.Keys(kinds)) {
		info, _ := object.Info(object.Kind(k)) // kindOf found it
		out = append(out, member{name: k, kind: kindStruct, doc: info.Doc})
	}
	return out
}

// grammar is what may stand in a body, the inputs of modules included.
func (s *scope) grammar(file string, n *node) grammar {
	if n.parent == nil && strings.HasSuffix(file, ".hclvars") {
		return inputs(s.variables())
	}
	g := grammarOf(n)
	if n.kind == "module" && n.parent != nil && n.parent.parent == nil {
		if m := s.module(s.files[file], n); m != nil {
			g = append(slices.Clone(g), inputs(m.variables())...)
		}
	}
	return g
}

func inputs(variables []member) grammar {
	var g grammar
	for _, v := range variables {
		e := attributeOf(v.name, v.detail, v.doc)
		g = append(g, e)
	}
	return g
}
