package hcl

import (
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/berthdev/berth/cluster/object"
)

// judge validates a filled object and puts each mistake at its place in the
// file. bad are the paths whose mistakes are known already.
func judge(d *declaration, in *instance, bad []string) hcl.Diagnostics {
	var out hcl.Diagnostics
	for _, x := range object.Validate(in.object) {
		if slices.ContainsFunc(bad, func(b string) bool { return within(x.Path, b) }) {
			continue
		}
		hd := wrong(d.src.rng(locate(d.blk, x.Path)), x.Summary, "%s", x.Detail)
		if x.Severity == object.SeverityWarning {
			hd.Severity = hcl.DiagWarning
		}
		hd.Extra = about{in.address, x.Path}
		out = append(out, hd)
	}
	return out
}

// within reports whether a path is another or lies below it.
func within(p, above string) bool {
	rest, ok := strings.CutPrefix(p, above)
	return ok && (above == "" || rest == "" || rest[0] == '.' || rest[0] == '[')
}

// locate finds the part of a block that a path speaks of: the attribute, else
// the nearest block around it.
func locate(k *block, p string) span {
	at := k.head
	b := &k.body
	for _, s := range splitPath(p) {
		if s.key != nil && len(b.blocks) == 0 && b.attr(s.name) == nil {
			return at
		}
		if a := b.attr(s.name); a != nil {
			return locateItem(a, s)
		}
		next := findBlock(b, s)
		if next == nil {
			return at
		}
		at, b = next.head, &next.body
	}
	return at
}

// pathStep is one name of a path with what follows it in brackets.
type pathStep struct {
	name  string
	key   *string
	index int
}

func splitPath(p string) []pathStep {
	var out []pathStep
	for p != "" {
		end := strings.IndexAny(p, ".[")
		if end < 0 {
			end = len(p)
		}
		s := pathStep{name: p[:end], index: -1}
		p = p[end:]
		for strings.HasPrefix(p, "[") {
			if quoted, err := strconv.QuotedPrefix(p[1:]); err == nil {
				if key, err := strconv.Unquote(quoted); err == nil && s.key == nil {
					s.key = &key
				}
				p = strings.TrimPrefix(p[1+len(quoted):], "]")
				continue
			}
			close := strings.IndexByte(p, ']')
			if close < 0 {
				return append(out, s)
			}
			if n, err := strconv.Atoi(p[1:close]); err == nil {
				s.index = n
			}
			p = p[close+1:]
		}
		out = append(out, s)
		p = strings.TrimPrefix(p, ".")
	}
	return out
}

func findBlock(b *body, s pathStep) *block {
	n := 0
	var dynamic *block
	for i := range b.blocks {
		k := &b.blocks[i]
		if k.kind == "dynamic" && len(k.labels) == 1 && k.labels[0] == s.name {
			dynamic = k
			for j := range k.body.blocks {
				if k.body.blocks[j].kind == "content" {
					dynamic = &block{kind: s.name, head: k.head, body: k.body.blocks[j].body}
				}
			}
			continue
		}
		if k.kind != s.name {
			continue
		}
		if s.key != nil && len(k.labels) == 1 && k.labels[0] == *s.key {
			return k
		}
		if s.key == nil && (s.index < 0 || s.index == n) {
			return k
		}
		n++
	}
	return dynamic
}

// locateItem narrows a map's place to the item of a key.
func locateItem(a *attribute, s pathStep) span {
	o, ok := a.expr.(*hclsyntax.ObjectConsExpr)
	if !ok || s.key == nil {
		return span{a.exprAt.start, a.exprAt.end}
	}
	for _, item := range o.Items {
		k, diags := item.KeyExpr.Value(nil)
		if !diags.HasErrors() && k.IsKnown() && !k.IsNull() && k.Type().FriendlyName() == "string" && k.AsString() == *s.key {
			return span{int32(item.KeyExpr.Range().Start.Byte), int32(item.ValueExpr.Range().End.Byte)}
		}
	}
	return a.exprAt
}
