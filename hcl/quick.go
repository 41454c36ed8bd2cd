package hcl

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// quick reads the part of the native syntax that most of a large configuration
// is made of, blocks of attributes with literal values, about twenty times
// faster than hclsyntax. An expression that is no literal is cut out and given
// to hclsyntax. Whatever it does not know for sure (heredocs, block comments,
// carriage returns, anything that might be an error) makes it give up on the
// file, which hclsyntax then reads from the start: so every syntax error is
// hclsyntax's, and TestQuickAgrees holds the two against each other.
type quick struct {
	src    *source
	s      string
	i      int
	attrs  pile[attribute]
	blocks pile[block]
}

// pile collects the items of bodies that are still open, innermost last, and cuts
// the lists of those that end from large pieces: a list for each body, grown item
// by item, was most of what reading a file allocated.
type pile[T any] struct {
	open  []T
	piece []T
}

const pieceSize = 512

// take ends the list that began at a mark.
func (p *pile[T]) take(mark int) []T {
	n := len(p.open) - mark
	if n == 0 {
		return nil
	}
	if len(p.piece) < n {
		p.piece = make([]T, max(n, pieceSize))
	}
	list := p.piece[:n:n]
	p.piece = p.piece[n:]
	copy(list, p.open[mark:])
	clear(p.open[mark:])
	p.open = p.open[:mark]
	return list
}

func quickParse(s *source) (body, bool) {
	s.text = string(s.src)
	q := &quick{src: s, s: s.text}
	if strings.HasPrefix(q.s, "\ufeff") || strings.IndexByte(q.s, '\r') >= 0 || strings.IndexByte(q.s, 0) >= 0 || !utf8.ValidString(q.s) || len(q.s) > 1<<30 {
		return body{}, false
	}
	return q.body(false)
}

func (q *quick) peek() byte {
	if q.i < len(q.s) {
		return q.s[q.i]
	}
	return 0
}

// blank skips spaces and line comments, and newlines if they mean nothing here.
func (q *quick) blank(newlines bool) {
	for q.i < len(q.s) {
		switch c := q.s[q.i]; {
		case c == ' ' || c == '\t' || (c == '\n' && newlines):
			q.i++
		case c == '#' || (c == '/' && q.i+1 < len(q.s) && q.s[q.i+1] == '/'):
			if n := strings.IndexByte(q.s[q.i:], '\n'); n >= 0 {
				q.i += n
			} else {
				q.i = len(q.s)
			}
		default:
			return
		}
	}
}

func letter(c byte) bool { return c == '_' || (c|0x20 >= 'a' && c|0x20 <= 'z') }
func digit(c byte) bool  { return c >= '0' && c <= '9' }

// ident reads a name of ASCII letters; others are left to hclsyntax.
func (q *quick) ident() (string, bool) {
	start := q.i
	if !letter(q.peek()) || q.peek() == '_' { // hclsyntax has rules of its own for a leading underscore
		return "", false
	}
	for q.i < len(q.s) && (letter(q.s[q.i]) || digit(q.s[q.i]) || q.s[q.i] == '-') {
		q.i++
	}
	if q.i < len(q.s) && q.s[q.i] >= 0x80 {
		return "", false
	}
	return q.s[start:q.i], true
}

// body reads up to the end of the file, or up to and with a closing brace.
func (q *quick) body(braced bool) (body, bool) {
	attrs, blocks := len(q.attrs.open), len(q.blocks.open)
	for {
		q.blank(true)
		if end := q.i == len(q.s); end || q.s[q.i] == '}' {
			b := body{src: q.src, at: span{int32(q.i), int32(q.i)}, attrs: q.attrs.take(attrs), blocks: q.blocks.take(blocks)}
			if !end {
				q.i++
			}
			return b, end != braced
		}
		if !q.item(attrs) {
			return body{}, false
		}
		q.blank(false)
		if q.i < len(q.s) && q.s[q.i] != '\n' {
			return body{}, false
		}
	}
}

// item reads one attribute or block; the attributes of its body begin at a mark.
func (q *quick) item(mark int) bool {
	start := q.i
	name, ok := q.ident()
	if !ok {
		return false
	}
	nameAt := span{int32(start), int32(q.i)}
	q.blank(false)
	if q.peek() == '=' {
		return q.attr(mark, name, nameAt)
	}
	blk := block{kind: name, head: nameAt}
	for q.peek() != '{' {
		at := q.i
		var label string
		if q.peek() == '"' {
			label, ok = q.plain()
		} else {
			label, ok = q.ident()
		}
		if !ok {
			return false
		}
		blk.labels = append(blk.labels, label)
		blk.labelsAt = append(blk.labelsAt, span{int32(at), int32(q.i)})
		blk.head.end = int32(q.i)
		q.blank(false)
	}
	q.i++
	q.blank(false)
	switch {
	case q.peek() == '\n':
		blk.body, ok = q.body(true)
	case q.peek() == '}':
		blk.body = body{src: q.src, at: span{int32(q.i), int32(q.i)}}
		q.i++
	default: // { name = value } on one line
		blk.body.src = q.src
		at, mark := q.i, len(q.attrs.open)
		name, ok = q.ident()
		if !ok {
			return false
		}
		nameAt = span{int32(at), int32(q.i)}
		q.blank(false)
		if q.peek() != '=' || !q.attr(mark, name, nameAt) {
			return false
		}
		blk.body.attrs = q.attrs.take(mark)
		q.blank(false)
		if q.peek() != '}' {
			return false
		}
		blk.body.at = span{int32(q.i), int32(q.i)}
		q.i++
	}
	q.blocks.open = append(q.blocks.open, blk)
	return ok
}

// attr reads what follows a name: an equals sign and an expression.
func (q *quick) attr(mark int, name string, nameAt span) bool {
	q.i++
	if c := q.peek(); c == '=' || c == '>' || slices.ContainsFunc(q.attrs.open[mark:], func(a attribute) bool { return a.name == name }) {
		return false
	}
	q.blank(false)
	start := q.i
	a := attribute{name: name, nameAt: nameAt}
	if q.literal(nil) && q.ended() {
		a.src, a.exprAt = q.src, span{int32(start), int32(q.i)}
		q.attrs.open = append(q.attrs.open, a)
		return true
	}
	q.i = start
	if !q.skip(false) {
		return false
	}
	end := start + len(strings.TrimRight(q.s[start:q.i], " \t"))
	e, diags := hclsyntax.ParseExpression([]byte(q.s[start:end]), q.src.name, q.src.pos(int32(start)))
	if len(diags) > 0 {
		return false
	}
	a.expr, a.exprAt = e, span{int32(start), int32(end)}
	q.attrs.open = append(q.attrs.open, a)
	return true
}

// ended reports whether an expression can end here.
func (q *quick) ended() bool {
	i := q.i
	defer func() { q.i = i }()
	q.blank(false)
	c := q.peek()
	return q.i == len(q.s) || c == '\n' || c == '}'
}

// plain reads a quoted string without escapes and templates.
func (q *quick) plain() (string, bool) {
	start := q.i + 1
	for i := start; i < len(q.s); i++ {
		switch c := q.s[i]; c {
		case '"':
			q.i = i + 1
			s := q.s[start:i]
			return cty.NormalizeString(s), true
		case '\\', '\n':
			return "", false
		case '$', '%':
			if i+1 < len(q.s) && q.s[i+1] == '{' {
				return "", false
			}
		}
	}
	return "", false
}

// literal reads a value without references, functions and operators. Not ok means
// only that it is something else. With nil the value is not made: most become a
// field without ever being one, see direct.
func (q *quick) literal(v *cty.Value) bool {
	switch c := q.peek(); {
	case c == '"':
		s, ok := q.plain()
		return give(v, ok, func() cty.Value { return cty.StringVal(s) })
	case digit(c):
		return q.number(v)
	case c == '[':
		return q.list(v)
	case c == '{':
		return q.object(v)
	case letter(c):
		switch word, ok := q.ident(); {
		case !ok || q.peek() == '.' || q.peek() == '(' || q.peek() == '[':
			return false
		case word == "true":
			return give(v, true, func() cty.Value { return cty.True })
		case word == "false":
			return give(v, true, func() cty.Value { return cty.False })
		case word == "null":
			return give(v, true, func() cty.Value { return cty.NullVal(cty.DynamicPseudoType) })
		}
	}
	return false
}

// give makes a value where one is asked for, and passes on whether it is ok.
func give(v *cty.Value, ok bool, make func() cty.Value) bool {
	if v != nil && ok {
		*v = make()
	}
	return ok
}

func (q *quick) number(v *cty.Value) bool {
	start := q.i
	for digit(q.peek()) {
		q.i++
	}
	whole := true
	if q.peek() == '.' {
		whole = false
		q.i++
		if !digit(q.peek()) {
			return false
		}
		for digit(q.peek()) {
			q.i++
		}
	}
	if c := q.peek(); letter(c) || c == '.' || c == '-' || c >= 0x80 {
		return false
	}
	text := q.s[start:q.i]
	if n, ok := small(text); whole && ok {
		return give(v, true, func() cty.Value { return cty.NumberIntVal(n) })
	}
	n, err := cty.ParseNumberVal(text)
	return give(v, err == nil, func() cty.Value { return n })
}

// small reads a number of digits only that surely fits.
func small(text string) (int64, bool) {
	if len(text) >= 18 {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && digit(text[0])
}

func (q *quick) list(v *cty.Value) bool {
	q.i++
	var vals []cty.Value
	for {
		q.blank(true)
		if q.peek() == ']' {
			q.i++
			return give(v, true, func() cty.Value { return cty.TupleVal(vals) })
		}
		e, to := cty.NilVal, (*cty.Value)(nil)
		if v != nil {
			to = &e
		}
		if !q.literal(to) {
			return false
		}
		if v != nil {
			vals = append(vals, e)
		}
		q.blank(true)
		switch q.peek() {
		case ',':
			q.i++
		case ']':
		default:
			return false
		}
	}
}

func (q *quick) object(v *cty.Value) bool {
	q.i++
	var vals map[string]cty.Value
	if v != nil {
		vals = map[string]cty.Value{}
	}
	for {
		q.blank(true)
		if q.peek() == '}' {
			q.i++
			return give(v, true, func() cty.Value { return cty.ObjectVal(vals) })
		}
		key, ok := q.key()
		if !ok {
			return false
		}
		q.blank(false)
		if c := q.peek(); c != '=' && c != ':' {
			return false
		}
		q.i++
		if c := q.peek(); c == '=' || c == '>' || c == ':' {
			return false
		}
		for q.peek() == ' ' || q.peek() == '\t' {
			q.i++
		}
		e, to := cty.NilVal, (*cty.Value)(nil)
		if v != nil {
			to = &e
		}
		if !q.literal(to) {
			return false
		}
		if v != nil {
			vals[key] = e
		}
		q.blank(false)
		switch q.peek() {
		case ',', '\n':
			q.i++
		case '}':
		default:
			return false
		}
	}
}

// key reads the key of an object's item.
func (q *quick) key() (string, bool) {
	if q.peek() == '"' {
		return q.plain()
	}
	key, ok := q.ident()
	return key, ok && key != "for" && key != "true" && key != "false" && key != "null"
}

// skip goes to the end of an expression: the end of the line, or a brace that
// was not opened in it. In a template, newlines mean nothing.
func (q *quick) skip(template bool) bool {
	depth := 0
	for q.i < len(q.s) {
		next := byte(0)
		if q.i+1 < len(q.s) {
			next = q.s[q.i+1]
		}
		switch c := q.s[q.i]; {
		case c == '"':
			if !q.skipQuoted() {
				return false
			}
			continue
		case c == '(' || c == '[' || c == '{':
			depth++
		case c == ')' || c == ']' || c == '}':
			if depth == 0 {
				return true
			}
			depth--
		case c == '\n' && depth == 0 && !template:
			return true
		case c == '#' || (c == '/' && next == '/'):
			if depth == 0 && !template {
				return true
			}
			q.blank(false)
			continue
		case (c == '/' && next == '*') || (c == '<' && next == '<'):
			return false
		}
		q.i++
	}
	return depth == 0 && !template
}

func (q *quick) skipQuoted() bool {
	q.i++
	for q.i < len(q.s) {
		rest := q.s[q.i:]
		switch c := rest[0]; {
		case c == '\\':
			q.i++
		case c == '"':
			q.i++
			return true
		case c == '\n':
			return false
		case strings.HasPrefix(rest, "$$") || strings.HasPrefix(rest, "%%"):
			if len(rest) > 2 && rest[2] == c { // $$${: hclsyntax knows what it means
				return false
			}
			if len(rest) > 2 && rest[2] == '{' {
				q.i += 2
			}
		case strings.HasPrefix(rest, "${") || strings.HasPrefix(rest, "%{"):
			q.i += 2
			if !q.skip(true) || q.peek() != '}' {
				return false
			}
		}
		q.i++
	}
	return false
}
