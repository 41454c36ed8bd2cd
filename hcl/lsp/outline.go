package lsp

import (
	"slices"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/berthdev/berth/hcl"
)

// The outline of a file: blocks, attributes and where they are. The parser of
// hclsyntax gives up where a text is broken, and a text is broken whenever somebody
// types; this one goes on at the next line, or at the next block that stands at the
// beginning of one.

type span struct{ start, end int }

func (s span) holds(at int) bool { return s.start <= at && at <= s.end }

type outline struct {
	src    []byte
	tokens []hclsyntax.Token
	root   *node
}

// node is a block; the root of an outline is the file.
type node struct {
	kind   string
	kindAt span
	labels []label
	head   span // kind and labels
	body   span // between the braces; start is -1 if there are none yet
	attrs  []attribute
	blocks []*node
	parent *node
}

type label struct {
	text string
	at   span // without the quotes
}

type attribute struct {
	name  string
	at    span
	value span // to the end of the line; nested lines belong to it
}

func (n *node) label(i int) string {
	if i < len(n.labels) {
		return n.labels[i].text
	}
	return ""
}

func (n *node) attr(name string) *attribute {
	for i := range n.attrs {
		if n.attrs[i].name == name {
			return &n.attrs[i]
		}
	}
	return nil
}

// outlined makes the outline of a text; it never fails.
func outlined(src []byte) *outline {
	_, diags := hclsyntax.ParseConfig(src, "", hcl2.InitialPos)
	p := &parser{outline: outline{src: src, root: &node{body: span{0, len(src)}}}, broken: diags.HasErrors()}
	p.tokens = lex(src, p.broken)
	p.body(p.root)
	return &p.outline
}

// lex cuts a text into tokens. A quote that is open at the end of a line makes a text
// of the rest of the file, so the lexer begins anew in the next line.
func lex(src []byte, broken bool) []hclsyntax.Token {
	var out []hclsyntax.Token
scan:
	for from := 0; ; {
		tokens, _ := hclsyntax.LexConfig(src[from:], "", hcl2.Pos{Line: 1, Column: 1, Byte: from})
		quotes := 0
		for _, t := range tokens {
			switch t.Type {
			case hclsyntax.TokenOQuote:
				quotes++
			case hclsyntax.TokenCQuote:
				quotes--
			case hclsyntax.TokenNewline:
				if broken && quotes > 0 { // inside ${ }, where it would be allowed
					t.Type = hclsyntax.TokenQuotedNewline
				}
			}
			out = append(out, t)
			if t.Type == hclsyntax.TokenQuotedNewline && t.Range.End.Byte > from {
				from = t.Range.End.Byte
				continue scan
			}
		}
		return out
	}
}

type parser struct {
	outline
	i      int
	broken bool
}

func (p *parser) peek() hclsyntax.Token { return p.tokens[min(p.i, len(p.tokens)-1)] }

func (p *parser) at(i int) hclsyntax.TokenType {
	if i >= len(p.tokens) {
		return hclsyntax.TokenEOF
	}
	return p.tokens[i].Type
}

func spanOf(t hclsyntax.Token) span { return span{t.Range.Start.Byte, t.Range.End.Byte} }

// ends reports whether a token ends a line; comments have their newline in them.
func ends(t hclsyntax.Token) bool {
	return t.Type == hclsyntax.TokenNewline || t.Type == hclsyntax.TokenQuotedNewline || t.Type == hclsyntax.TokenEOF ||
		t.Type == hclsyntax.TokenComment && len(t.Bytes) > 0 && t.Bytes[len(t.Bytes)-1] == '\n'
}

// anew reports whether a block of the file's top begins here, so that whatever is
// still open was never closed.
func (p *parser) anew() bool {
	t := p.peek()
	at := t.Range.Start.Byte
	if !p.broken || t.Type != hclsyntax.TokenIdent || at > 0 && p.src[at-1] != '\n' || !slices.Contains(hcl.BlockNames(), string(t.Bytes)) {
		return false
	}
	next := p.at(p.i + 1)
	return next == hclsyntax.TokenOQuote || next == hclsyntax.TokenOBrace || next == hclsyntax.TokenIdent
}

func (p *parser) body(n *node) {
	for {
		switch t := p.peek(); t.Type {
		case hclsyntax.TokenEOF:
			n.body.end = t.Range.Start.Byte
			return
		case hclsyntax.TokenCBrace:
			p.i++
			if n.parent != nil {
				n.body.end = t.Range.Start.Byte
				return
			}
		case hclsyntax.TokenIdent:
			if n.parent != nil && p.anew() {
				n.body.end = t.Range.Start.Byte - 1
				return
			}
			p.item(n)
		default:
			p.i++
		}
	}
}

// item is an attribute, a block, or what somebody is typing.
func (p *parser) item(n *node) {
	name := p.peek()
	p.i++
	switch p.peek().Type {
	case hclsyntax.TokenEqual:
		a := attribute{name: string(name.Bytes), at: spanOf(name), value: span{start: p.peek().Range.End.Byte}}
		p.i++
		a.value.end = p.value()
		n.attrs = append(n.attrs, a)
	case hclsyntax.TokenOBrace, hclsyntax.TokenOQuote, hclsyntax.TokenIdent:
		b := &node{kind: string(name.Bytes), kindAt: spanOf(name), head: spanOf(name), body: span{-1, -1}, parent: n}
		n.blocks = append(n.blocks, b)
		p.labels(b)
		if t := p.peek(); t.Type == hclsyntax.TokenOBrace {
			p.i++
			b.body.start = t.Range.End.Byte
			p.body(b)
			return
		}
		p.line()
	default:
		p.line()
	}
}

func (p *parser) labels(b *node) {
	for {
		switch t := p.peek(); t.Type {
		case hclsyntax.TokenIdent:
			b.labels = append(b.labels, label{string(t.Bytes), spanOf(t)})
			b.head.end = t.Range.End.Byte
			p.i++
		case hclsyntax.TokenOQuote:
			l := label{at: span{t.Range.End.Byte, t.Range.End.Byte}}
			for p.i++; !ends(p.peek()) && p.peek().Type != hclsyntax.TokenOHeredoc; p.i++ { // a heredoc's beginning has its newline in it
				t := p.peek()
				b.head.end = t.Range.End.Byte
				if t.Type == hclsyntax.TokenCQuote {
					p.i++
					break
				}
				l.text += string(t.Bytes)
				l.at.end = t.Range.End.Byte
			}
			b.labels = append(b.labels, l)
			b.head.end = max(b.head.end, l.at.end)
		default:
			return
		}
	}
}

// line skips what is left of a line, or of a block that is written on one.
func (p *parser) line() {
	for !ends(p.peek()) && p.peek().Type != hclsyntax.TokenCBrace {
		p.i++
	}
}

// opens are the tokens that something else must close.
func opens(t hclsyntax.TokenType) bool {
	switch t {
	case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen, hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc,
		hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
		return true
	}
	return false
}

func closes(t hclsyntax.TokenType) bool {
	switch t {
	case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenCQuote, hclsyntax.TokenCHeredoc, hclsyntax.TokenTemplateSeqEnd:
		return true
	}
	return false
}

// follow keeps the stack of what is open.
func follow(open []hclsyntax.TokenType, t hclsyntax.TokenType) []hclsyntax.TokenType {
	switch {
	case opens(t):
		return append(open, t)
	case t == hclsyntax.TokenQuotedNewline:
		if i := slices.Index(open, hclsyntax.TokenOQuote); i >= 0 {
			return open[:i]
		}
	case closes(t) && len(open) > 0:
		return open[:len(open)-1]
	}
	return open
}

// value skips an expression and says where it ends.
func (p *parser) value() int {
	var open []hclsyntax.TokenType
	for fresh := false; ; p.i++ {
		t := p.peek()
		start := t.Range.Start.Byte
		if t.Type == hclsyntax.TokenEOF {
			return start
		}
		last := hclsyntax.TokenNil
		if len(open) > 0 {
			last = open[len(open)-1]
		}
		if t.Type == hclsyntax.TokenCBrace && last != hclsyntax.TokenOBrace {
			return start // of the block around, whatever is still open here
		}
		open = follow(open, t.Type)
		switch {
		case len(open) == 0 && ends(t), t.Type == hclsyntax.TokenIdent && len(open) > 0 && p.anew():
			return start
		case p.broken && fresh && t.Type == hclsyntax.TokenIdent && (last == hclsyntax.TokenOBrack || last == hclsyntax.TokenOParen) && p.at(p.i+1) == hclsyntax.TokenEqual:
			return start // an attribute, inside a list or call that was never closed
		}
		fresh = ends(t)
	}
}
