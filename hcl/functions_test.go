package hcl

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

func TestFunctions(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"a.txt": "hello", "b.txt": "b", "t.tpl": "%{ for x in xs }${upper(x)};%{ endfor }", "self.tpl": "${templatefile(\"self.tpl\", {})}"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx := &hcl.EvalContext{Functions: functionsFor(dir, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))}
	for expr, want := range map[string]string{
		`replace("1.2.3", ".", "-")`: `"1-2-3"`, `replace("a1b22", "/[0-9]+/", "x")`: `"axbx"`, `startswith("abc", "ab")`: `true`, `endswith("abc", "ab")`: `false`,
		`strcontains("abc", "b")`: `true`, `sum([1, 2, 3.5])`: `6.5`, `sum([])`: "", `alltrue([])`: `true`, `alltrue([true, false])`: `false`, `anytrue([false, true])`: `true`,
		`length("héé")`: `3`, `length([1, 2])`: `2`, `length({ a = 1 })`: `1`, `length(5)`: "", `lookup({ a = 1 }, "a")`: `1`, `lookup({ a = 1 }, "b", 2)`: `2`, `lookup({ a = 1 }, "b")`: "",
		`index(["a", "b"], "b")`: `1`, `index(["a"], "b")`: "", `one([])`: `null`, `one([1])`: `1`, `one([1, 2])`: "", `matchkeys(["a", "b"], ["x", "y"], ["y"])`: `["b"]`,
		`transpose({ a = ["x"], b = ["x", "y"] })`: `{"x":["a","b"],"y":["b"]}`, `coalesce("", "b")`: `"b"`, `try(nothing.x, "d")`: `"d"`, `can(1 + "x")`: `false`,
		`base64gunzip(base64gzip("hello"))`: `"hello"`, `base64gunzip("!")`: "", `textdecodebase64(textencodebase64("é", "UTF-16LE"), "UTF-16LE")`: `"é"`, `urldecode(urlencode("a b/c"))`: `"a b/c"`,
		`md5("a")`: `"0cc175b9c0f1b6a831c399e269772661"`, `base64sha256("")`: `"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="`, `filemd5("b.txt")`: `"92eb5ffee6ae2fec3ad71c777531578f"`,
		`file("a.txt")`: `"hello"`, `file("nothing")`: "", `fileexists("a.txt")`: `true`, `fileset(".", "*.txt")`: `["a.txt","b.txt"]`, `filebase64("b.txt")`: `"Yg=="`,
		`templatefile("t.tpl", { xs = ["a", "b"] })`: `"A;B;"`, `templatefile("t.tpl", {})`: "", `templatefile("self.tpl", {})`: "", `templatestring("x$${y}", { y = 1 })`: `"x1"`,
		`timestamp()`: `"2026-01-02T03:04:05Z"`, `timecmp("2026-01-01T00:00:00Z", timestamp())`: `-1`, `formatdate("YYYY", timestamp())`: `"2026"`,
		`cidrhost("10.0.0.0/8", 5)`: `"10.0.0.5"`, `cidrcontains("10.0.0.0/8", "10.1.0.0/16")`: `true`, `cidrcontains("10.0.0.0/8", "11.0.0.1")`: `false`, `cidrsubnet("10.0.0.0/8", 8, 2)`: `"10.2.0.0/16"`,
		`jsonencode({ a = [1, null] })`: `"{\"a\":[1,null]}"`, `jsondecode("[1]")`: `[1]`, `yamldecode("a: 1")`: `{"a":1}`, `yamlencode({ a = 1 })`: `"\"a\": 1\n"`,
		`toset(["b", "a", "b"])`: `["a","b"]`, `tolist([1, "a"])`: `["1","a"]`, `tonumber("5")`: `5`, `min(3, 1, 2)`: `1`, `min()`: "", `upper(1, 2)`: "", `upper(true)`: `"TRUE"`, `type("a")`: `"string"`,
		`merge({ a = 1 }, { b = 2 })`: `{"a":1,"b":2}`, `issensitive(sensitive(1))`: `true`, `nonsensitive(sensitive(1))`: `1`, `issensitive(upper(sensitive("a")))`: `true`, `parseint("ff", 16)`: `255`,
		`distinct(["a", "a"])`: `["a"]`, `slice([1, 2, 3], 1, 2)`: `[2]`, `regex("a(.)", "xab")`: `["b"]`, `chunklist([1, 2, 3], 2)`: `[[1,2],[3]]`, `uuidv5("dns", "a.b")`: `"` + `f1c3a6ab` + `"`,
	} {
		e, diags := hclsyntax.ParseExpression([]byte(expr), "x", hcl.InitialPos)
		if diags.HasErrors() {
			t.Fatal(expr, diags)
		}
		v, diags := e.Value(ctx)
		if diags.HasErrors() {
			if want != "" {
				t.Errorf("%s: %v", expr, diags)
			}
			continue
		}
		v, _ = v.UnmarkDeep()
		got, err := ctyjson.Marshal(v, v.Type())
		if err != nil {
			t.Errorf("%s: %v", expr, err)
		}
		if strings.HasPrefix(expr, "uuidv5") {
			if len(got) != 38 {
				t.Errorf("%s = %s", expr, got)
			}
		} else if string(got) != want {
			t.Errorf("%s = %s, not %s", expr, got, want)
		}
	}
}

// The language reference names every function.
func TestFunctionsAreDocumented(t *testing.T) {
	file := filepath.Join("..", "docs", "language.md")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := "`" + strings.Join(keys(functionsFor(".", time.Time{})), "` `") + "`."
	if !strings.Contains(string(b), want) {
		t.Errorf("%s lacks the list of functions; put this into it:\n%s", file, want)
	}
}
