package object

import (
	"encoding"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/language.md anew")

// everyStruct calls f for each struct type that a configuration can reach.
func everyStruct(f func(path string, t reflect.Type)) {
	var walk func(path string, t reflect.Type)
	walk = func(path string, t reflect.Type) {
		f(path, t)
		for _, x := range Fields(t) {
			if e := blockType(x.Type); (x.Block || x.Remain) && e.Kind() == reflect.Struct {
				walk(path+"."+x.Go, e)
			}
		}
	}
	for _, k := range Kinds() {
		if k.Declared {
			walk(string(k.Kind), k.SpecType())
		}
	}
}

func TestDefaultsFitTheirFields(t *testing.T) {
	everyStruct(func(path string, typ reflect.Type) {
		for _, f := range Fields(typ) {
			if f.Default == "" {
				continue
			}
			v := reflect.New(typ)
			SetDefaults(v.Interface()) // panics when one does not fit
			if v.Elem().Field(f.Index).IsZero() && f.Default != "0" && f.Default != "0s" {
				t.Errorf("%s.%s: the default %q leaves it zero", path, f.Go, f.Default)
			}
			if f.Enum != nil && !slices.Contains(f.Enum, f.Default) {
				t.Errorf("%s.%s: the default %q is not among %q", path, f.Go, f.Default, f.Enum)
			}
			if json := typ.Field(f.Index).Tag.Get("json"); strings.Contains(json, "omitempty") {
				t.Errorf("%s.%s has a default and omitempty: an explicit zero would be lost", path, f.Go)
			}
		}
	})
}

func TestEveryFieldIsDocumented(t *testing.T) {
	everyStruct(func(path string, typ reflect.Type) {
		names := map[string]bool{}
		for _, f := range Fields(typ) {
			if f.Internal || f.Remain {
				continue
			}
			if f.Doc == "" || !strings.HasSuffix(f.Doc, ".") {
				t.Errorf("%s.%s: %q is not a sentence that says what it means", path, f.Go, f.Doc)
			}
			if names[f.Name] {
				t.Errorf("%s: two fields are called %s", path, f.Name)
			}
			names[f.Name] = true
			if f.JSON == "" {
				t.Errorf("%s.%s has no name in JSON", path, f.Go)
			}
		}
	})
}

// Effects are what the planner knows how to say.
func TestEffectsAreKnown(t *testing.T) {
	everyStruct(func(path string, typ reflect.Type) {
		for _, f := range Fields(typ) {
			if !slices.Contains([]string{"", "rolls", "scales", "in_place", "reloads", "replaces", "new_pods"}, f.Effect) {
				t.Errorf("%s.%s: there is no effect %q", path, f.Go, f.Effect)
			}
		}
	})
}

func TestUnits(t *testing.T) {
	for _, test := range []struct {
		v    encoding.TextUnmarshaler
		text string
		want string // empty: refused
	}{
		{new(CPU), "250m", "250m"}, {new(CPU), "1.5", "1500m"}, {new(CPU), "2000m", "2"}, {new(CPU), "-1", ""}, {new(CPU), "1Gi", ""}, {new(CPU), "-5m", ""}, {new(CPU), "9223372036854775807m", ""}, {new(CPU), "NaN", ""},
		{new(Bytes), "64Mi", "64Mi"}, {new(Bytes), "1.5Gi", "1536Mi"}, {new(Bytes), "64M", "62500Ki"}, {new(Bytes), "512B", "512B"}, {new(Bytes), "1K", "1000B"}, {new(Bytes), "512", ""}, {new(Bytes), "-1Mi", ""}, {new(Bytes), "Mi", ""}, {new(Bytes), "9999999Ti", ""}, {new(Bytes), "NaNMi", ""}, {new(Bytes), "InfMi", ""},
		{new(Duration), "5s", "5s"}, {new(Duration), "120s", "2m"}, {new(Duration), "1h0m", "1h"}, {new(Duration), "5", ""}, {new(Duration), "-5s", ""},
		{new(Amount), "2", "2"}, {new(Amount), "25%", "25%"}, {new(Amount), "101%", ""}, {new(Amount), "x", ""}, {new(Amount), "-1", ""},
	} {
		err := test.v.UnmarshalText([]byte(test.text))
		if (err != nil) != (test.want == "") {
			t.Errorf("%T %q: %v", test.v, test.text, err)
			continue
		}
		if err != nil {
			continue
		}
		b, err := reflect.ValueOf(test.v).Elem().Interface().(encoding.TextMarshaler).MarshalText()
		if err != nil || string(b) != test.want {
			t.Errorf("%T %q is written %q (%v), not %q", test.v, test.text, b, err, test.want)
		}
	}
}

func TestReferenceIsCurrent(t *testing.T) {
	file := filepath.Join("..", "..", "docs", "language.md")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const mark = "<!-- From here on: go test ./cluster/object -run Reference -update -->\n"
	head, tail, ok := strings.Cut(string(b), mark)
	if !ok {
		t.Fatalf("%s lacks the line %s", file, mark)
	}
	want := "\n" + Reference()
	if tail == want {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the tags say; run go test ./cluster/object -run Reference -update", file)
	}
	if err := os.WriteFile(file, []byte(head+mark+want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestSchema(t *testing.T) {
	var s struct {
		Properties map[string]any `json:"properties"`
		Defs       map[string]struct {
			Properties map[string]any `json:"properties"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal(Schema(), &s); err != nil {
		t.Fatal(err)
	}
	for _, k := range Kinds() {
		if !k.Declared {
			continue
		}
		if s.Properties[string(k.Kind)] == nil {
			t.Errorf("no %s", k.Kind)
		}
		for _, f := range flat(k.SpecType()) {
			if s.Defs[string(k.Kind)].Properties[f.Name] == nil {
				t.Errorf("no %s.%s", k.Kind, f.Name)
			}
		}
	}
	if string(Schema()) != string(Schema()) {
		t.Error("the schema differs from one call to the next")
	}
}
