package hcl

import (
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
	"pgregory.net/rapid"
)

// agree holds the quick reader against hclsyntax: what it accepts, hclsyntax
// accepts, with the same blocks, places and values.
func agree(t interface {
	Errorf(string, ...any)
	Helper()
}, text string) bool {
	t.Helper()
	s := &source{name: "x.hcl", src: []byte(text)}
	fast, ok := quickParse(s)
	if !ok {
		return false
	}
	f, diags := hclsyntax.ParseConfig(s.src, s.name, hcl.InitialPos)
	if len(diags) > 0 {
		t.Errorf("accepted what hclsyntax refuses: %v\n%s", diags, text)
		return true
	}
	slow := fromNative(s, f.Body.(*hclsyntax.Body))
	same(t, &fast, &slow, text)
	return true
}

func same(t interface {
	Errorf(string, ...any)
	Helper()
}, fast, slow *body, text string) {
	t.Helper()
	if len(fast.attrs) != len(slow.attrs) || len(fast.blocks) != len(slow.blocks) {
		t.Errorf("%d attributes and %d blocks, not %d and %d\n%s", len(fast.attrs), len(fast.blocks), len(slow.attrs), len(slow.blocks), text)
		return
	}
	ctx := &hcl.EvalContext{
		Variables: map[string]cty.Value{"a": cty.ObjectVal(map[string]cty.Value{"b": cty.StringVal("v"), "c": cty.NumberIntVal(1)})},
		Functions: map[string]function.Function{"upper": stdlib.UpperFunc},
	}
	for i := range fast.attrs {
		x, y := fast.attrs[i], slow.attrs[i]
		if x.name != y.name || x.nameAt != y.nameAt {
			t.Errorf("attribute %q at %v, not %q at %v\n%s", x.name, x.nameAt, y.name, y.nameAt, text)
			continue
		}
		vx, dx := x.value(ctx)
		vy, dy := y.value(ctx)
		if len(dx) != len(dy) {
			t.Errorf("%s: diagnostics %v, not %v\n%s", x.name, dx, dy, text)
			continue
		}
		for j := range dx {
			if dx[j].Error() != dy[j].Error() {
				t.Errorf("%s: %v, not %v\n%s", x.name, dx[j], dy[j], text)
			}
		}
		if len(dx) == 0 && !vx.RawEquals(vy) {
			t.Errorf("%s is %#v, not %#v\n%s", x.name, vx, vy, text)
		}
	}
	for i := range fast.blocks {
		x, y := &fast.blocks[i], &slow.blocks[i]
		if x.kind != y.kind || x.head != y.head || strings.Join(x.labels, "\x00") != strings.Join(y.labels, "\x00") {
			t.Errorf("block %q %q at %v, not %q %q at %v\n%s", x.kind, x.labels, x.head, y.kind, y.labels, y.head, text)
			continue
		}
		same(t, &x.body, &y.body, text)
	}
}

var oddities = []string{
	"", "\n", "# c", "// c\n", "a = 1", "a = 1 # c", "a=1\nb=2\n", "a = 1 b = 2", "a = \"x\" \"y\"", "b {}", "b { }", "b { a = 1 }", "b { a = 1\n}", "b {\n a = 1 }",
	"b \"l\" m {\n}\n", "b {\n} c {\n}", "b { c {} }", "a = 1.5", "a = 1.", "a = 1e3", "a = 01", "a = -1", "a = 1-1", "a = 1a", "a = 100000000000000000000000",
	"a = [1, 2,]", "a = [1 2]", "a = [,]", "a = [\n1,\n2\n]", "a = [\n1\n,2]", "a = { b = 1 c = 2 }", "a = { b = 1, c = 2, }", "a = {\nb = 1\nc : 2\n}", "a = { b = 1,\n\n c = 2 }",
	"a = { \"b\" = 1, b = 2 }", "a = { 1 = 2 }", "a = { b\n= 1 }", "a = { b =\n1 }", "a = { b = 1\n, c = 2 }", "a = { (a.b) = 1 }", "a = { a.b = 1 }", "a = { for k, v in a : k => v }", "a = [for x in [1] : x]",
	"a = true", "a = truex", "a = true.x", "a = null", "a = nul", "a = { true = 1 }", "a = \"\\n\"", "a = \"${a.b}\"", "a = \"$${a.b}\"", "a = \"$$${a.b}\"", "a = \"%{ if true }x%{ endif }\"", "a = \"%%{x}\"", "a = \"$\"", "a = \"100%\"", "a = \"$a\"", "a = \"$\\{\"",
	"a = <<E\nx\nE\n", "a = <<-E\n  x\n  E\n", "a = /* c */ 1", "a = 1 /* c */", "/* c */", "a == 1", "a => 1", "a = = 1", "a =", "a = \n1", "a = a.b + \n 1", "a = (a.b +\n \"x\")", "a = upper(\n\"x\"\n)", "a = upper(\"}\")", "a = [\"]\", a.b]",
	"a = a.b == \"}\" ? 1 : 2", "a = \"${upper(\"}\")}\"", "a = \"${a.b\n}\"", "a = a.b # \"", "b { a = a.b }", "b { a = a.b # }\n}", "b { a = [a.b, {}] }", "a = {}", "a = []", "a = [[], {}]", "a = \"\u00e9\"", "a = \"e\u0301\"", "\u00e9 = 1", "a\u00e9 = 1", "a = { \u00e9 = 1 }", "\ufeffa = 1", "a = 1\r\n", "a = \"x\ny\"", "a = 'x'", "a ! 1", "a",
	"_a = 1", "-a = 1", "a-b = 1", "a-", "1a = 2", "a = a.b[0]", "a = a[\"b\"]", "a = a.*.b", "a = !true", "a = true && false", "a = true\n&& false", "a = 1 > 0", "a = ...", "b \"x${a}\" {\n}", "b \"x\\n\" {\n}", "b x.y {\n}", "b [x] {\n}", "b = {\n}\n", "b {\n a = 1\n a = 2\n}\n", "a = 1\na = 2\n", "a = \"x\" # y\n# z\n\n", "\ta\t=\t1\t", "}", "b {", "b \"x", "a = \"x", "a = [", "a = {", "a = (", "a = \"${", "a = ${a}", "a = @", "a = 1 }", "b {\n}}\n", "a = {b=1}}", "a = [\n# c\n1, # d\n]", "a = {\n# c\nb = 1 # d\n}", "a = { b = 1 # d }\n}", "a = { b = { c = [ 1, { d = \"e\" } ] } }", "a = 5.0", "a = 0.1", "a = \"\"", "a = \"\\\"\"", "a = { \"x y\" = 1 }", "a = { x-y = 1 }", "a = {b==1}", "a = {b::1}", "a = {b=>1}",
	"b {\n a = 1\n c {\n  d = \"e\"\n }\n}\n", "b \"a\"\n{\n}\n", "b # c\n{\n}\n", "b { # c\n}\n", "a = true ? 1 : 2", "a = \"x\" == \"x\"", "a = {}.b", "a = [1][0]", "a = \"x\".y", "a = 1.x", "a = 1 .x",
}

func TestQuickAgrees(t *testing.T) {
	for _, text := range oddities {
		agree(t, text)
	}
	quick := 0
	for _, text := range []string{literalBlock(1), forEachHead, strings.ReplaceAll(shop, "\t", "  ")} {
		if agree(t, text) {
			quick++
		}
	}
	if quick != 3 {
		t.Errorf("only %d of 3 ordinary files are read quickly", quick)
	}
	rapid.Check(t, func(t *rapid.T) {
		agree(t, strings.Join(rapid.SliceOfN(rapid.SampledFrom(oddities), 1, 6).Draw(t, "lines"), rapid.SampledFrom([]string{"\n", " ", "", ","}).Draw(t, "between")))
	})
	pieces := []string{"a", "b", " ", " ", "=", "=", "\n", "\n", "{", "}", "[", "]", "(", ")", "\"", "\"", "1", ".", ",", ":", "${", "%{", "$", "#", "//", "true", "null", "a.b", "upper", "\\", "-", "?", "é", "for", "<<", "x = 1\n", "b {\n", "}\n"}
	rapid.Check(t, func(t *rapid.T) {
		agree(t, strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 0, 14).Draw(t, "pieces"), ""))
	})
}

// No text makes the reader fail or go on for ever.
func FuzzQuickAgrees(f *testing.F) {
	for _, text := range oddities {
		f.Add(text)
	}
	f.Add(shop)
	f.Fuzz(func(t *testing.T, text string) { agree(t, text) })
}
