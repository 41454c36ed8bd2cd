package lsp

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/hcl"
)

// asked makes a question of a text with a mark where the cursor is.
func asked(dir, name, marked string) *question {
	before, after, _ := strings.Cut(marked, "‸")
	w := &workspace{open: map[string]*document{}, saved: map[string]savedFile{}}
	d := &document{uri: "file://" + dir + "/" + name, path: filepath.Join(dir, name), text: []byte(before + after)}
	w.set(d.path, d)
	return w.ask(d, positionOf(d.text, len(before)), true)
}

func TestCompletion(t *testing.T) {
	const around = "variable \"size\" { default = 3 }\nlocals { team = \"a\" }\nservice \"api\" {\n  port \"http\" { port = 80 }\n}\ndata \"node\" \"n\" {}\n"
	for _, c := range []struct{ name, text, want, not string }{
		{"the top", "dep‸", "deployment variable locals check", "replicas"},
		{"a kind", "deployment \"web\" {\n  ‸\n}", "replicas update pod count lifecycle dynamic namespace", "deployment"},
		{"what is there already", "deployment \"web\" {\n  replicas = 2\n  ‸\n}", "update", "replicas"},
		{"nested", "deployment \"web\" {\n  pod {\n    container \"a\" {\n      im‸\n    }\n  }\n}", "image readiness mount", "replicas"},
		{"never closed", "deployment \"web\" {\n  pod {\n    ‸\n" + around, "container volume", "replicas"},
		{"an open list before it", "deployment \"web\" {\n  depends_on = [\n  replicas = 2\n  ‸\n}\n", "pod", "replicas"},
		{"an open quote before it", "deployment \"web\" {\n  namespace = \"x\n  ‸\n}\n", "pod", "namespace"},
		{"behind an attribute", "deployment \"web\" {\n  replicas = 2\n}\n# dep‸", "", "deployment"},
		{"an enumeration", "service \"a\" {\n  type = ‸\n}", `"headless" "node_port" var length`, "headless"},
		{"in quotes", "service \"a\" {\n  type = \"he‸\"\n}", "headless", "var"},
		{"a truth", "deployment \"a\" {\n  enabled = ‸\n}", "true false", ""},
		{"roots", around + "output \"o\" {\n  value = ‸\n}", "var local service file length data", "plan deployment"},
		{"variables", around + "output \"o\" {\n  value = var.‸\n}", "size", "team var"},
		{"locals in a text", around + "output \"o\" {\n  value = \"x-${local.‸}\"\n}", "team", "size"},
		{"a text that is open", around + "output \"o\" {\n  value = \"x-${local.‸\n}\n", "team", "size"},
		{"objects", around + "output \"o\" {\n  value = service.‸\n}", "api", "a"},
		{"fields", around + "output \"o\" {\n  value = service.api.‸\n}", "host name port labels", "lifecycle count"},
		{"nested fields", around + "output \"o\" {\n  value = service.api.port[\"http\"].‸\n}", "port target", "host"},
		{"nested by name", around + "output \"o\" {\n  value = service.api.port.http.p‸\n}", "port target", "host"},
		{"data", around + "output \"o\" {\n  value = data.node.n.‸\n}", "labels", "host"},
		{"kinds of data", "data \"‸\" \"x\" {}", "node service", "variable"},
		{"the plan", "check \"c\" {\n  assert {\n    condition = plan.‸\n  }\n}", "duration deployment", ""},
		{"a workload of it", "deployment \"web\" {}\ncheck \"c\" {\n  assert {\n    condition = plan.deployment[\"web\"].‸\n  }\n}", "min_ready", "duration"},
		{"self", "service \"a\" {\n  lifecycle {\n    postcondition {\n      condition = self.‸\n    }\n  }\n}", "host port", ""},
		{"each", "service \"a\" {\n  for_each = {}\n  selector = each.‸\n}", "key value", ""},
		{"types", "variable \"a\" {\n  type = ‸\n}", "string map", "length"},
		{"dynamic", "service \"a\" {\n  dynamic \"port\" {\n    content {\n      ‸\n    }\n  }\n}", "target", "selector"},
		{"which block is dynamic", "service \"a\" {\n  dynamic \"‸\" {\n  }\n}", "port", "selector"},
		{"a heredoc", "output \"o\" {\n  value = <<E\n va‸\nE\n}", "", "var"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := labels(asked(t.TempDir(), "main.hcl", c.text).complete())
			for _, w := range strings.Fields(c.want) {
				if !slices.Contains(got, w) {
					t.Errorf("%s is missing in %q", w, got)
				}
			}
			for _, w := range strings.Fields(c.not) {
				if slices.Contains(got, w) {
					t.Errorf("%s has no business in %q", w, got)
				}
			}
		})
	}
}

func TestHover(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"deploy‸ment \"web\" {}", "**deployment** \"NAME\""},
		{"deployment \"web\" {\n  update {\n    stra‸tegy = \"rolling\"\n  }\n}", "One of `rolling`"},
		{"deployment \"web\" {\n  update {\n    strategy = \"rol‸ling\"\n  }\n}", "**strategy**"},
		{"output \"o\" { value = for‸mat(\"%s\", 1) }", "format(format, args…)"},
		{"locals { a = 1 }\noutput \"o\" { value = local.‸a }", "**local.a**: `1`"},
		{"variable \"a\" { description = \"How many.\" }\noutput \"o\" { value = var.a‸ }", "How many."},
		{"service \"a\" {}\noutput \"o\" { value = service.a.ho‸st }", "reach it"},
		{"output \"o\" { value = nothing.‸at.all }", ""},
	} {
		h := asked(t.TempDir(), "main.hcl", c.text).hover()
		switch {
		case h == nil && c.want != "":
			t.Errorf("%s: nothing is said", c.text)
		case h != nil && (c.want == "" || !strings.Contains(h.Contents.Value, c.want)):
			t.Errorf("%s: %s", c.text, h.Contents.Value)
		}
	}
}

// TestValueFiles: a file of variables offers the variables.
func TestValueFiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.hcl"), []byte("variable \"size\" {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := labels(asked(dir, "berth.hclvars", "si‸").complete()); !slices.Equal(got, []string{"size"}) {
		t.Errorf("%q", got)
	}
}

// TestAnyText: whatever stands in a file, and wherever the cursor is, there is an answer.
func TestAnyText(t *testing.T) {
	pieces := []string{"deployment", " ", "\"", "web", "{", "}", "\n", "=", "[", "]", "(", ")", "${", "%{", "<<E\n", "E\n", "var.", "🚢", "#", "/*", "*/", "content", "dynamic", "data", ".", "\\", "\x00", "é"}
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 0, 40).Draw(t, "text"), "")
		at := rapid.IntRange(0, len(text)).Draw(t, "at")
		w := &workspace{open: map[string]*document{}, saved: map[string]savedFile{}}
		d := &document{uri: "file:///x", path: filepath.Join(dir, "main.hcl"), text: []byte(text)}
		w.set(d.path, d)
		q := w.ask(d, positionOf(d.text, at), true)
		for _, c := range q.complete() {
			if r := c.TextEdit.Range; r.Start.Line != r.End.Line || offset(d.text, r.Start) > offset(d.text, r.End) {
				t.Fatalf("%s would replace %+v", c.Label, r)
			}
		}
		q.hover()
		q.definition()
		q.o.symbols(q.o.root)
	})
}

// TestPositions: an offset comes back, and what is beyond an end is that end.
func TestPositions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		for at := range text { // beginnings of letters
			if got := offset([]byte(text), positionOf([]byte(text), at)); got != at && !strings.HasPrefix(text[got:], "\r\n") {
				t.Fatalf("%q: %d became %d", text, at, got)
			}
		}
	})
	src := []byte("a🚢b\nc")
	for _, c := range []struct {
		p    position
		want int
	}{{position{0, 1}, 1}, {position{0, 2}, 1}, {position{0, 3}, 5}, {position{0, 99}, 6}, {position{1, 0}, 7}, {position{9, 0}, 8}} {
		if got := offset(src, c.p); got != c.want {
			t.Errorf("%+v is %d, want %d", c.p, got, c.want)
		}
	}
}

var listed = regexp.MustCompile(`There (?:are|is):? ([a-z_, and]+)[.,]`)

// TestGrammarIsTheLoaders holds the table of blocks that are no kinds against what
// the loader takes: it must know each of them, and no other.
func TestGrammarIsTheLoaders(t *testing.T) {
	var names []string
	for _, e := range top() {
		names = append(names, e.name)
	}
	slices.Sort(names)
	known := hcl.BlockNames()
	slices.Sort(known)
	if !slices.Equal(names, known) {
		t.Errorf("blocks %q, the loader takes %q", names, known)
	}
	for _, e := range settings() {
		if e.name == "locals" || e.name == "module" { // any name, and the inputs
			continue
		}
		for _, a := range e.inner() {
			head := e.name
			switch {
			case e.name == "data":
				head += ` "node" "x"`
			case len(e.labels) > 0:
				head += ` "x"`
			}
			line := a.name + " = 1"
			if a.block {
				line = a.name + " {}"
			}
			for text, fits := range map[string]bool{line: true, "zzz = 1": false} {
				dir := t.TempDir()
				if err := os.WriteFile(filepath.Join(dir, "main.hcl"), []byte(head+" {\n"+text+"\n}\n"), 0o644); err != nil {
					t.Fatal(err)
				}
				_, diags := hcl.Load(dir, hcl.Options{})
				refused := false
				for _, d := range diags {
					if d.Range == nil || d.Range.Start.Line != 2 || !strings.HasPrefix(d.Summary, "Unknown ") {
						continue
					}
					refused = true
					if m := listed.FindStringSubmatch(d.Detail); m != nil {
						for _, name := range strings.FieldsFunc(m[1], func(r rune) bool { return r == ',' || r == ' ' }) {
							if name != "and" && name != "blocks" && e.inner().find(name) == nil {
								t.Errorf("%s takes %s, which the table lacks: %s", e.name, name, d.Detail)
							}
						}
					}
				}
				if refused == fits {
					t.Errorf("%s { %s }: the loader says %v", head, text, diags)
				}
			}
		}
	}
}

// TestExamples: the outline and the grammar know all that the examples write.
func TestExamples(t *testing.T) {
	seen := 0
	err := filepath.WalkDir("../../examples", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !native(path) {
			return err
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		w := &workspace{open: map[string]*document{}, saved: map[string]savedFile{}}
		doc := &document{uri: "file:///" + path, path: path, text: src}
		w.set(path, doc)
		s := w.scope(filepath.Dir(path))
		var walk func(n *node)
		walk = func(n *node) {
			g := s.grammar(path, n)
			for _, a := range n.attrs {
				if seen++; n.kind != "locals" && g.find(a.name) == nil {
					t.Errorf("%s: %s in %s is not known", path, a.name, n.kind)
				}
			}
			for _, b := range n.blocks {
				if seen++; g.find(b.kind) == nil {
					t.Errorf("%s: %s in %s is not known", path, b.kind, n.kind)
				}
				walk(b)
			}
		}
		walk(doc.outline().root)
		return nil
	})
	if err != nil || seen < 100 {
		t.Errorf("%d names, %v", seen, err)
	}
}

// BenchmarkCompletion asks in the middle of two thousand deployments that have just
// been changed, while a quote is open.
func BenchmarkCompletion(b *testing.B) {
	var text strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&text, "deployment \"web-%d\" {\n  replicas = 2\n  pod {\n    container \"web\" {\n      image = \"web:${var.version}\"\n    }\n  }\n}\n", i)
	}
	marked := text.String() + "service \"a\" {\n  namespace = \"x\n  selector = deployment.‸\n}\n" + text.String()
	dir := b.TempDir()
	for b.Loop() {
		if got := asked(dir, "main.hcl", marked).complete(); len(got) != 4000 {
			b.Fatalf("%d", len(got))
		}
	}
}
