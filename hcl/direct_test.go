package hcl

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/cluster/object"
)

// TestDirectAgrees puts literals into fields of every form that a configuration has,
// straight from the text and by way of a value: what the first accepts, the second
// accepts, with the same in the field.
func TestDirectAgrees(t *testing.T) {
	fields := []reflect.Type{
		reflect.TypeFor[string](), reflect.TypeFor[object.Text](), reflect.TypeFor[object.Sensitive](), reflect.TypeFor[bool](), reflect.TypeFor[int](), reflect.TypeFor[int64](),
		reflect.TypeFor[object.CPU](), reflect.TypeFor[object.Bytes](), reflect.TypeFor[object.Duration](), reflect.TypeFor[object.Amount](), reflect.TypeFor[object.PortRef](),
		reflect.TypeFor[map[string]string](), reflect.TypeFor[map[string]object.Text](), reflect.TypeFor[map[string]object.Sensitive](), reflect.TypeFor[[]string](), reflect.TypeFor[[]int](),
	}
	direct1, indirect := 0, 0
	hold := func(t interface {
		Errorf(string, ...any)
		Helper()
	}, text string) {
		t.Helper()
		b, ok := quickParse(&source{name: "x.hcl", src: []byte("a = " + text + "\n")})
		if !ok || len(b.attrs) != 1 || b.attrs[0].expr != nil {
			return
		}
		a := &b.attrs[0]
		for _, typ := range fields {
			quick, slow := reflect.New(typ).Elem(), reflect.New(typ).Elem()
			f := formOf(typ)
			if !direct(quick, f, a) {
				indirect++
				continue
			}
			direct1++
			d := &decoder{}
			v, diags := a.value(nil)
			if diags.HasErrors() || v.IsNull() {
				t.Errorf("%s into %s: put in, and is %#v: %v", text, typ, v, diags)
				continue
			}
			d.value(slow, f, v, nil, b.src, a.exprAt, nil)
			if len(d.diags) > 0 || len(d.bad) > 0 {
				t.Errorf("%s into %s: put in, and refused by way of a value: %v", text, typ, d.diags)
			} else if !reflect.DeepEqual(quick.Interface(), slow.Interface()) {
				t.Errorf("%s into %s: %#v, and by way of a value %#v", text, typ, quick, slow)
			}
		}
	}
	scalars := []string{
		`""`, `"x"`, `"true"`, `true`, `false`, `null`, `0`, `7`, `007`, `1.5`, `8080`, `99999999999999999`, `999999999999999999`, `1000001`, `"8080"`, `"http"`, `"25%"`, `"250m"`, `"64Mi"`, `"64"`, `"5s"`, `"-5s"`,
		"\"e\u0301\"", `"é"`, `"$a"`, `"100%"`, `" 5s "`, `"${secret.db.data.password}"`, `truex`, `"a\"b"`,
	}
	for _, text := range scalars {
		hold(t, text)
	}
	if direct1 == 0 || indirect == 0 {
		t.Errorf("%d directly and %d otherwise", direct1, indirect)
	}
	gap := rapid.SampledFrom([]string{"", " ", "\n", " # c\n", "\t"})
	item := rapid.SampledFrom(append([]string{`[]`, `{}`, `[1]`}, scalars...))
	rapid.Check(t, func(t *rapid.T) {
		var s strings.Builder
		list := rapid.Bool().Draw(t, "list")
		s.WriteString(map[bool]string{true: "[", false: "{"}[list])
		for range rapid.IntRange(0, 4).Draw(t, "items") {
			s.WriteString(gap.Draw(t, "gap"))
			if !list {
				s.WriteString(rapid.SampledFrom([]string{"a", "b", `"a"`, `"x y"`, "\"e\u0301\"", `""`, "for", "null", "x-y"}).Draw(t, "key"))
				s.WriteString(rapid.SampledFrom([]string{"=", " = ", ": ", "=\t"}).Draw(t, "sign"))
			}
			if rapid.IntRange(0, 3).Draw(t, "odd") == 0 {
				s.WriteString(item.Draw(t, "item"))
			} else {
				s.WriteString(rapid.SampledFrom([]string{`"x"`, `""`, `"serve"`, `"é"`}).Draw(t, "text"))
			}
			s.WriteString(gap.Draw(t, "gap") + rapid.SampledFrom([]string{",", ",", "\n"}).Draw(t, "between"))
		}
		s.WriteString(map[bool]string{true: "]", false: "}"}[list])
		hold(t, s.String())
	})
}

// A set of sensitive texts says so as a whole, which for_each relies on.
func TestSensitiveSetDecidesNothing(t *testing.T) {
	_, diags := Load(written(t, map[string]string{"main.hcl": `variable "names" {
  type      = list(string)
  default   = ["a"]
  sensitive = true
}
config_map "c" {
  for_each = toset([for n in var.names : n])
  data     = { a = "b" }
}
`}), Options{})
	if len(diags) == 0 || !strings.Contains(diags[0].Summary, "Sensitive for_each") {
		t.Errorf("got %v", diags)
	}
}
