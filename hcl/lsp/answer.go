package lsp

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// What is asked about one place of one document.

type question struct {
	w        *workspace
	doc      *document
	o        *outline
	at       int
	place    place
	scope    *scope
	snippets bool
	last     struct { // the range of the last item: most have the same
		at  span
		rng textRange
	}
}

func (w *workspace) ask(doc *document, at position, snippets bool) *question {
	q := &question{w: w, doc: doc, o: doc.outline(), at: offset(doc.text, at), snippets: snippets}
	q.place = q.o.place(q.at)
	q.last.rng = rangeIn(doc.text, q.last.at)
	q.scope = w.scope(filepath.Dir(doc.path))
	if q.scope.files[doc.path] == nil { // values of variables, which are no part of the scope
		q.scope.files[doc.path] = &outline{root: &node{}}
	}
	return q
}

// word is the name that ends at the cursor.
func (q *question) word() span {
	start := q.at
	for start > 0 && nameByte(q.doc.text[start-1]) {
		start--
	}
	return span{start, q.at}
}

func nameByte(c byte) bool {
	return c == '_' || c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// complete lists what can stand at the cursor.
func (q *question) complete() []completionItem {
	switch p := q.place; {
	case p.silent:
		return nil
	case p.head != nil:
		return q.completeHead(p.head)
	case p.attr == nil:
		return q.completeBody()
	case p.quoted.start >= 0:
		return q.completeText()
	}
	return q.completeExpression()
}

// completeHead offers the names that are not free: kinds of data, kinds of blocks.
func (q *question) completeHead(n *node) []completionItem {
	if len(n.labels) == 0 || !n.labels[0].at.holds(q.at) {
		return nil
	}
	var out []completionItem
	switch n.kind {
	case "data":
		for _, e := range top() {
			if kindOf(&node{kind: e.name}) != nil && e.name != "data" {
				out = append(out, q.item(n.labels[0].at, e.name, kindStruct, "kind", e.describe()))
			}
		}
	case "dynamic":
		for _, e := range q.scope.grammar(q.doc.path, n.parent) {
			if e.block && e.name != "dynamic" && e.name != "lifecycle" {
				out = append(out, q.item(n.labels[0].at, e.name, kindStruct, "block", e.describe()))
			}
		}
	}
	return out
}

func (q *question) item(at span, label string, kind int, detail, doc string) completionItem {
	if q.last.at != at {
		q.last.at, q.last.rng = at, rangeIn(q.doc.text, q.line(at))
	}
	c := completionItem{Label: label, Kind: kind, Detail: detail, TextEdit: textEdit{q.last.rng, label}}
	if doc != "" {
		m := markdown(doc)
		c.Documentation = &m
	}
	return c
}

// line is the part of a span on the cursor's line: an editor replaces nothing else,
// and an open quote may hold more.
func (q *question) line(s span) span {
	s.start = max(s.start, min(s.end, strings.LastIndexByte(string(q.doc.text[:q.at]), '\n')+1))
	if i := strings.IndexByte(string(q.doc.text[s.start:s.end]), '\n'); i >= 0 {
		s.end = s.start + i
	}
	return s
}

// completeBody offers attributes and blocks.
func (q *question) completeBody() []completionItem {
	word := q.word()
	line := q.doc.text[strings.LastIndexByte(string(q.doc.text[:word.start]), '\n')+1 : word.start]
	if before := strings.TrimSpace(string(line)); before != "" && !strings.HasSuffix(before, "{") {
		return nil // something else stands on the line already
	}
	rest := strings.TrimSpace(firstLine(string(q.doc.text[q.at:])))
	again := strings.HasPrefix(rest, "=") || strings.HasPrefix(rest, "{") || strings.HasPrefix(rest, "\"") // only the name is new
	var out []completionItem
	for _, e := range q.scope.grammar(q.doc.path, q.place.node) {
		if a := q.place.node.attr(e.name); a != nil && !a.at.holds(q.at) {
			continue
		}
		c := q.item(word, e.name, kindProperty, e.typ, e.describe())
		c.SortText = "1" + e.name
		if e.required {
			c.SortText = "0" + e.name
		}
		switch {
		case again:
		case !e.block:
			c.TextEdit.NewText = e.name + " = "
		case q.snippets:
			c.InsertTextFormat = 2
			var b strings.Builder
			b.WriteString(e.name)
			for i, l := range e.labels {
				fmt.Fprintf(&b, ` "${%d:%s}"`, i+1, l)
			}
			c.TextEdit.NewText = b.String() + " {\n\t$0\n}"
		}
		if e.block {
			c.Kind = kindStruct
		}
		out = append(out, c)
	}
	return out
}

// element is what the grammar says of the attribute that the cursor is in.
func (q *question) element() *element {
	if q.place.attr == nil {
		return nil
	}
	return q.scope.grammar(q.doc.path, q.place.node).find(q.place.attr.name)
}

// completeText offers the values of an enumeration between quotes.
func (q *question) completeText() []completionItem {
	e := q.element()
	if e == nil {
		return nil
	}
	var out []completionItem
	for _, v := range e.enum {
		out = append(out, q.item(q.place.quoted, v, kindValue, e.name, ""))
	}
	return out
}

var typeNames = []string{"string", "number", "bool", "any", "list", "set", "map", "object", "tuple", "optional"}

// completeExpression offers values, references and functions.
func (q *question) completeExpression() []completionItem {
	before, last := referenceAt(q.doc.text, q.at)
	if len(before) == 0 && q.at > 0 && (q.doc.text[q.at-1] == ']' || last.start > 0 && q.doc.text[last.start-1] == '.') {
		return nil
	}
	var out []completionItem
	e := q.element()
	if len(before) == 0 && e != nil {
		if q.place.node.kind == "variable" && e.name == "type" {
			for _, t := range typeNames {
				out = append(out, q.item(last, t, kindKeyword, "type", ""))
			}
			return out
		}
		for _, v := range e.enum {
			c := q.item(last, `"`+v+`"`, kindValue, e.name, "")
			c.SortText, c.FilterText = "0"+v, v
			out = append(out, c)
		}
		if e.boolean {
			for _, v := range []string{"true", "false"} {
				c := q.item(last, v, kindValue, e.name, "")
				c.SortText = "0" + v
				out = append(out, c)
			}
		}
	}
	for _, m := range q.scope.members(before, q.place.node) {
		c := q.item(last, m.name, m.kind, m.detail, m.doc)
		c.SortText = "1" + m.name
		out = append(out, c)
	}
	if len(before) > 0 {
		return out
	}
	for _, name := range slices.Sorted(maps.Keys(functions())) {
		text, doc, _ := signature(name)
		c := q.item(last, name, kindFunction, text, doc)
		c.SortText, c.TextEdit.NewText = "2"+name, name+"("
		if q.snippets {
			c.InsertTextFormat, c.TextEdit.NewText = 2, name+"($0)"
		}
		out = append(out, c)
	}
	return out
}

// hover says what stands under the cursor; nil if nothing is known of it.
func (q *question) hover() *hover {
	p := q.place
	if p.silent {
		return nil
	}
	g := q.scope.grammar(q.doc.path, p.node)
	tell := func(text string, at span) *hover {
		return &hover{markdown(text), rangeIn(q.doc.text, at)}
	}
	for _, a := range p.node.attrs {
		if e := g.find(a.name); e != nil && a.at.holds(q.at) {
			return tell(e.describe(), a.at)
		}
	}
	for _, b := range p.node.blocks {
		if e := g.find(b.kind); e != nil && b.kindAt.holds(q.at) {
			return tell(e.describe(), b.kindAt)
		}
	}
	if p.attr == nil {
		return nil
	}
	if p.quoted.start < 0 {
		if name, at, ok := q.called(); ok {
			if text, doc, ok := signature(name); ok {
				return tell("```\n"+text+"\n```\n\n"+doc, at)
			}
		}
		if m, at := q.target(); m != nil {
			text := "**" + string(q.doc.text[q.referenceStart(at):at.end]) + "**"
			switch {
			case m.kind == kindField && strings.HasPrefix(m.doc, "**"): // an attribute, with its own head
				text = m.doc
			default:
				if m.detail != "" {
					text += ": `" + m.detail + "`"
				}
				if m.doc != "" {
					text += "\n\n" + m.doc
				}
			}
			return tell(text, at)
		}
	}
	if e := g.find(p.attr.name); e != nil && len(e.enum) > 0 {
		return tell(e.describe(), span{p.attr.value.start, p.attr.value.end})
	}
	return nil
}

// underCursor is the name that the cursor stands in.
func (q *question) underCursor() span {
	w := q.word()
	w.end += len(wordEnd.Find(q.doc.text[q.at:]))
	return w
}

// called is the function whose name the cursor stands in.
func (q *question) called() (string, span, bool) {
	at := q.underCursor()
	rest := q.doc.text[at.end:]
	if at.start == at.end || len(rest) == 0 || rest[0] != '(' {
		return "", at, false
	}
	return string(q.doc.text[at.start:at.end]), at, true
}

// target is what the reference under the cursor means, up to the name it stands in.
func (q *question) target() (*member, span) {
	at := q.underCursor()
	if at.start == at.end {
		return nil, at
	}
	before, last := referenceAt(q.doc.text, at.end)
	name := string(q.doc.text[last.start:last.end])
	for _, m := range q.scope.members(before, q.place.node) {
		if m.name == name {
			return &m, last
		}
	}
	return nil, at
}

func (q *question) referenceStart(last span) int {
	line := strings.LastIndexByte(string(q.doc.text[:last.end]), '\n') + 1
	if at := reference.FindIndex(q.doc.text[line:last.end]); at != nil {
		return line + at[0]
	}
	return last.start
}

// definition is where what stands under the cursor is declared.
func (q *question) definition() []location {
	p := q.place
	if p.silent {
		return nil
	}
	if p.attr != nil && p.quoted.start < 0 {
		if m, _ := q.target(); m != nil && m.file != "" {
			return q.locate(m)
		}
		return nil
	}
	if p.node.kind == "module" { // an input: the variable of the module
		for _, a := range p.node.attrs {
			m := q.scope.module(q.o, p.node)
			if !a.at.holds(q.at) || m == nil {
				continue
			}
			for _, v := range m.variables() {
				if v.name == a.name {
					return q.locate(&v)
				}
			}
		}
	}
	return nil
}

func (q *question) locate(m *member) []location {
	src := q.w.text(m.file)
	if src == nil {
		return nil
	}
	return []location{{q.w.uriOf(m.file), rangeIn(src, m.at)}}
}

// symbols is a document's outline as editors show it beside the text.
func (o *outline) symbols(n *node) []documentSymbol {
	out := []documentSymbol{}
	for _, b := range n.blocks {
		name := b.kind
		for _, l := range b.labels {
			name += " " + l.text
		}
		whole := b.head
		if b.body.start >= 0 {
			whole.end = min(b.body.end+1, len(o.src))
		}
		s := documentSymbol{Name: name, Kind: 23, Range: rangeIn(o.src, whole), SelectionRange: rangeIn(o.src, b.head), Children: o.symbols(b)}
		out = append(out, s)
	}
	if n.kind == "locals" {
		for _, a := range n.attrs {
			out = append(out, documentSymbol{Name: a.name, Kind: 13, Range: rangeIn(o.src, span{a.at.start, a.value.end}), SelectionRange: rangeIn(o.src, a.at)})
		}
	}
	return out
}
