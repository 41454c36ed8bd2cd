package hcl

import (
	"bytes"
	"cmp"
	"slices"
	"sync"

	"github.com/apparentlymart/go-textseg/v15/textseg"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// The tree that everything else works on. Three readers make it: quick (literal
// files, fast), hclsyntax (everything else) and hcl/json. Places are byte
// offsets; lines and columns are computed when somebody asks, which is when
// something is wrong.

type span struct{ start, end int32 }

type body struct {
	src    *source
	attrs  []attribute
	blocks []block
	at     span // of JSON and native bodies: where a missing thing is reported
}

type attribute struct {
	name           string
	nameAt, exprAt span
	expr           hcl.Expression // nil: a literal, which quick read
	src            *source        // of a literal
}

type block struct {
	kind     string
	head     span // kind and labels
	labels   []string
	labelsAt []span
	body     body
}

// source is one file.
type source struct {
	name string // as it is printed
	src  []byte
	text string // the same, if quick read it
	once sync.Once
	line []int32 // offsets of line starts
}

func (s *source) pos(at int32) hcl.Pos {
	s.once.Do(func() {
		s.line = append(make([]int32, 0, bytes.Count(s.src, []byte{'\n'})+1), 0)
		for i := 0; ; {
			n := bytes.IndexByte(s.src[i:], '\n')
			if n < 0 {
				return
			}
			i += n + 1
			s.line = append(s.line, int32(i))
		}
	})
	at = min(at, int32(len(s.src)))
	n, found := slices.BinarySearch(s.line, at)
	if !found {
		n--
	}
	before := s.src[s.line[n]:at]
	col := len(before)
	if bytes.ContainsFunc(before, func(c rune) bool { return c >= 0x80 }) {
		if clusters, err := textseg.TokenCount(before, textseg.ScanGraphemeClusters); err == nil { // it never fails
			col = clusters
		}
	}
	return hcl.Pos{Line: n + 1, Column: col + 1, Byte: int(at)}
}

func (s *source) rng(a span) hcl.Range {
	return hcl.Range{Filename: s.name, Start: s.pos(a.start), End: s.pos(a.end)}
}

func (b *body) attr(name string) *attribute {
	for i := range b.attrs {
		if b.attrs[i].name == name {
			return &b.attrs[i]
		}
	}
	return nil
}

// value evaluates the attribute.
func (a *attribute) value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	if a.expr == nil {
		var v cty.Value
		a.literal().literal(&v)
		return v, nil
	}
	return a.expr.Value(ctx)
}

// unknownFunctions finds the calls of functions that do not exist in an expression
// that cannot be evaluated, since something else in it is wrong.
func unknownFunctions(e hcl.Expression, ctx *hcl.EvalContext) hcl.Diagnostics {
	n, ok := e.(hclsyntax.Node)
	if !ok {
		return nil // JSON, or no expression at all
	}
	known := func(name string) bool {
		for c := ctx; c != nil; c = c.Parent() {
			if _, ok := c.Functions[name]; ok {
				return true
			}
		}
		return false
	}
	var out hcl.Diagnostics
	_ = hclsyntax.VisitAll(n, func(n hclsyntax.Node) hcl.Diagnostics {
		if f, ok := n.(*hclsyntax.FunctionCallExpr); ok && !known(f.Name) {
			alone := *f
			alone.Args, alone.ExpandFinal = nil, false
			_, diags := alone.Value(ctx) // fails before it looks at arguments
			out = append(out, diags...)
		}
		return nil
	})
	return out
}

// expression is the attribute as an expression, for what is not evaluated but
// read as it is written: types, depends_on, ignore_changes.
func (a *attribute) expression(s *source) (hcl.Expression, hcl.Diagnostics) {
	if a.expr != nil {
		return a.expr, nil
	}
	return hclsyntax.ParseExpression(s.src[a.exprAt.start:a.exprAt.end], s.name, s.pos(a.exprAt.start))
}

func spanOf(r hcl.Range) span { return span{int32(r.Start.Byte), int32(r.End.Byte)} }

// parse reads one file of configuration.
func parse(s *source, json bool) (body, hcl.Diagnostics) {
	if json {
		return parseJSON(s)
	}
	if b, ok := quickParse(s); ok {
		return b, nil
	}
	f, diags := hclsyntax.ParseConfig(s.src, s.name, hcl.InitialPos)
	if f == nil {
		return body{src: s}, diags
	}
	b, ok := f.Body.(*hclsyntax.Body)
	if !ok {
		return body{src: s}, diags
	}
	return fromNative(s, b), diags
}

func fromNative(s *source, n *hclsyntax.Body) body {
	b := body{src: s, at: spanOf(n.MissingItemRange()), attrs: make([]attribute, 0, len(n.Attributes)), blocks: make([]block, 0, len(n.Blocks))}
	for _, a := range n.Attributes {
		b.attrs = append(b.attrs, attribute{name: a.Name, nameAt: spanOf(a.NameRange), exprAt: spanOf(a.Expr.Range()), expr: a.Expr})
	}
	slices.SortFunc(b.attrs, func(x, y attribute) int { return cmp.Compare(x.nameAt.start, y.nameAt.start) })
	for _, k := range n.Blocks {
		nb := block{kind: k.Type, head: spanOf(k.DefRange()), labels: k.Labels, body: fromNative(s, k.Body)}
		for _, r := range k.LabelRanges {
			nb.labelsAt = append(nb.labelsAt, spanOf(r))
		}
		b.blocks = append(b.blocks, nb)
	}
	return b
}

// lineOf is the line of a file that holds an offset, for messages.
func (s *source) lineOf(at int32) int {
	return bytes.Count(s.src[:min(int(at), len(s.src))], []byte{'\n'}) + 1
}
