package hcl

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Whatever is called with whatever: no answer and no mistake shows a sensitive
// value, or panics. nonsensitive is left out, whose job it is.
func TestNoExpressionShowsASecret(t *testing.T) {
	c := consoleOf(t, Options{})
	var functions []string
	for name := range c.r.root.Functions {
		if name != "nonsensitive" {
			functions = append(functions, name)
		}
	}
	atoms := []string{
		`var.password`, `sensitive(var.password)`, `[var.password]`, `{ a = var.password }`, `{ (var.password) = 1 }`, `toset([var.password])`, `[var.password, var.password]`, `tomap({ a = var.password })`, `"x-${var.password}"`,
		`sensitive([var.password, "b"])`, `secret.db.data.password`, `"${secret.db.data.password}/x"`, `secret.db.data`,
		`"a"`, `""`, `"%s"`, `"s"`, `"dns"`, `"UTF-8"`, `"2026-01-02T03:04:05Z"`, `"10.0.0.0/8"`, `"/s3/"`, `"$${a}"`, `0`, `1`, `-1`, `16`, `null`, `true`, `[]`, `{}`, `["a", "b"]`, `[["a"], ["b"]]`, `{ a = 1 }`, `tolist(null)`, `var.ports`, `deployment.web`,
	}
	expression := rapid.Deferred(func() *rapid.Generator[string] {
		return rapid.Custom(func(t *rapid.T) string {
			var gen func(depth int) string
			gen = func(depth int) string {
				if depth == 0 || rapid.IntRange(0, 2).Draw(t, "leaf") == 0 {
					return rapid.SampledFrom(atoms).Draw(t, "atom")
				}
				switch rapid.IntRange(0, 9).Draw(t, "form") {
				case 0:
					return gen(depth-1) + "[" + gen(depth-1) + "]"
				case 1:
					return "(" + gen(depth-1) + rapid.SampledFrom([]string{" + ", " == ", " && ", " < "}).Draw(t, "operator") + gen(depth-1) + ")"
				case 2:
					return "[for k, v in " + gen(depth-1) + " : [k, v]]"
				case 3:
					return "{ for v in " + gen(depth-1) + " : v => " + gen(depth-1) + " }"
				case 4:
					return "(" + gen(depth-1) + " ? " + gen(depth-1) + " : " + gen(depth-1) + ")"
				case 5:
					return "\"${" + gen(depth-1) + "}\""
				}
				args := make([]string, rapid.IntRange(0, 3).Draw(t, "arguments"))
				for i := range args {
					args[i] = gen(depth - 1)
				}
				last := ""
				if len(args) > 0 && rapid.IntRange(0, 5).Draw(t, "expand") == 0 {
					last = "..."
				}
				return rapid.SampledFrom(functions).Draw(t, "function") + "(" + strings.Join(args, ", ") + last + ")"
			}
			return gen(3)
		})
	})
	rapid.Check(t, func(t *rapid.T) {
		for _, typed := range rapid.SliceOfN(expression, 1, 40).Draw(t, "expressions") {
			a, diags := c.Evaluate(typed)
			b, err := json.Marshal(a.Value)
			if err != nil {
				t.Fatalf("%s is no JSON: %v", typed, err)
			}
			said := a.Text + "\n" + string(b) + "\n" + a.Type
			for _, d := range diags {
				said += "\n" + d.Summary + ": " + d.Detail
			}
			if strings.Contains(said, "s3cret") {
				t.Fatalf("%s shows the secret:\n%s", typed, said)
			}
		}
	})
}
