package hcl

import (
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	homedir "github.com/mitchellh/go-homedir"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
	"golang.org/x/text/encoding/ianaindex"
)

// The functions that Terraform has and neither cty nor go-cty-funcs brings.

func convertArg(v cty.Value, t cty.Type) (cty.Value, error) {
	if t == cty.DynamicPseudoType {
		return v, nil
	}
	return convert.Convert(v, t)
}

// texts makes a function of texts.
func texts(names []string, result cty.Type, impl func(args []string) (cty.Value, error)) function.Function {
	spec := &function.Spec{Type: function.StaticReturnType(result)}
	for _, n := range names {
		spec.Params = append(spec.Params, function.Parameter{Name: n, Type: cty.String})
	}
	spec.Impl = func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		s := make([]string, len(args))
		for i, a := range args {
			s[i] = a.AsString()
		}
		return impl(s)
	}
	return function.New(spec)
}

func textTest(what string) function.Function {
	test := map[string]func(string, string) bool{"prefix": strings.HasPrefix, "suffix": strings.HasSuffix, "substr": strings.Contains}[what]
	return texts([]string{"str", what}, cty.Bool, func(a []string) (cty.Value, error) { return cty.BoolVal(test(a[0], a[1])), nil })
}

// replaceFunc takes a pattern between slashes for a regular expression.
var replaceFunc = texts([]string{"str", "substr", "replace"}, cty.String, func(a []string) (cty.Value, error) {
	if p := a[1]; len(p) > 1 && p[0] == '/' && p[len(p)-1] == '/' {
		re, err := regexp.Compile(p[1 : len(p)-1])
		if err != nil {
			return cty.UnknownVal(cty.String), function.NewArgError(1, err)
		}
		return cty.StringVal(re.ReplaceAllString(a[0], a[2])), nil
	}
	return cty.StringVal(strings.ReplaceAll(a[0], a[1], a[2])), nil
})

var urlDecodeFunc = texts([]string{"str"}, cty.String, func(a []string) (cty.Value, error) {
	s, err := url.QueryUnescape(a[0])
	if err != nil {
		return cty.UnknownVal(cty.String), function.NewArgError(0, err)
	}
	return cty.StringVal(s), nil
})

var base64GzipFunc = texts([]string{"str"}, cty.String, func(a []string) (cty.Value, error) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, a[0]); err != nil {
		return cty.UnknownVal(cty.String), err
	}
	if err := w.Close(); err != nil {
		return cty.UnknownVal(cty.String), err
	}
	return cty.StringVal(base64.StdEncoding.EncodeToString(b.Bytes())), nil
})

const maxUnzipped = 64 << 20

var base64GunzipFunc = texts([]string{"str"}, cty.String, func(a []string) (cty.Value, error) {
	b, err := base64.StdEncoding.DecodeString(a[0])
	if err != nil {
		return cty.UnknownVal(cty.String), function.NewArgErrorf(0, "not base64: %v", err)
	}
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return cty.UnknownVal(cty.String), function.NewArgErrorf(0, "not gzip: %v", err)
	}
	out, err := io.ReadAll(io.LimitReader(r, maxUnzipped+1))
	switch {
	case err != nil:
		return cty.UnknownVal(cty.String), function.NewArgErrorf(0, "not gzip: %v", err)
	case len(out) > maxUnzipped:
		return cty.UnknownVal(cty.String), function.NewArgErrorf(0, "more than %d MiB when unzipped", maxUnzipped>>20)
	case !utf8.Valid(out):
		return cty.UnknownVal(cty.String), function.NewArgErrorf(0, "the result is not a text in UTF-8")
	}
	return cty.StringVal(string(out)), nil
})

var textEncodeBase64Func = texts([]string{"str", "encoding"}, cty.String, func(a []string) (cty.Value, error) {
	e, err := ianaindex.IANA.Encoding(a[1])
	if err != nil || e == nil {
		return cty.UnknownVal(cty.String), function.NewArgErrorf(1, "there is no encoding %q", a[1])
	}
	s, err := e.NewEncoder().String(a[0])
	if err != nil {
		return cty.UnknownVal(cty.String), function.NewArgErrorf(0, "it has characters that %s does not have", a[1])
	}
	return cty.StringVal(base64.StdEncoding.EncodeToString([]byte(s))), nil
})

var textDecodeBase64Func = texts([]string{"str", "encoding"}, cty.String, func(a []string) (cty.Value, error) {
	e, err := ianaindex.IANA.Encoding(a[1])
	if err != nil || e == nil {
		return cty.UnknownVal(cty.String), function.NewArgErrorf(1, "there is no encoding %q", a[1])
	}
	b, err := base64.StdEncoding.DecodeString(a[0])
	if err != nil {
		return cty.UnknownVal(cty.String), function.NewArgErrorf(0, "not base64: %v", err)
	}
	out, err := e.NewDecoder().Bytes(b)
	if err != nil {
		return cty.UnknownVal(cty.String), function.NewArgErrorf(0, "not %s: %v", a[1], err)
	}
	return cty.StringVal(string(out)), nil
})

var timeCmpFunc = texts([]string{"a", "b"}, cty.Number, func(a []string) (cty.Value, error) {
	var t [2]time.Time
	for i := range t {
		var err error
		if t[i], err = time.Parse(time.RFC3339, a[i]); err != nil {
			return cty.UnknownVal(cty.Number), function.NewArgErrorf(i, "not a time such as 2026-01-02T15:04:05Z")
		}
	}
	return cty.NumberIntVal(int64(t[0].Compare(t[1]))), nil
})

func timestampFunc(now time.Time) function.Function {
	return texts(nil, cty.String, func([]string) (cty.Value, error) {
		if now.IsZero() {
			return cty.UnknownVal(cty.String), errors.New("there is no time in this command")
		}
		return cty.StringVal(now.UTC().Format(time.RFC3339)), nil
	})
}

// hashSpec is one of the hash functions of files.
type hashSpec struct {
	new    func() hash.Hash
	base64 bool
}

var hashes = map[string]hashSpec{
	"md5": {md5.New, false}, "sha1": {sha1.New, false}, "sha256": {sha256.New, false}, "sha512": {sha512.New, false},
	"base64sha256": {sha256.New, true}, "base64sha512": {sha512.New, true},
}

func (h hashSpec) sum(b []byte) cty.Value {
	x := h.new()
	x.Write(b) // never fails
	if h.base64 {
		return cty.StringVal(base64.StdEncoding.EncodeToString(x.Sum(nil)))
	}
	return cty.StringVal(hex.EncodeToString(x.Sum(nil)))
}

func textHashFunc(h hashSpec) function.Function {
	return texts([]string{"str"}, cty.String, func(a []string) (cty.Value, error) { return h.sum([]byte(a[0])), nil })
}

// inDir is where a path of a configuration leads; ~ is the home directory, as in file().
func inDir(dir, path string) (string, error) {
	path, err := homedir.Expand(path)
	if err != nil || filepath.IsAbs(path) {
		return path, err
	}
	return filepath.Join(dir, path), nil
}

// readIn is os.ReadFile with the errors of file(), which name the path as it was written.
func readIn(dir, path string) ([]byte, error) {
	full, err := inDir(dir, path)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(full)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no file exists at %s", full)
	}
	return b, err
}

func fileHashFunc(dir string, h hashSpec) function.Function {
	return texts([]string{"path"}, cty.String, func(a []string) (cty.Value, error) {
		b, err := readIn(dir, a[0])
		if err != nil {
			return cty.UnknownVal(cty.String), function.NewArgError(0, err)
		}
		return h.sum(b), nil
	})
}

// template renders an expression with the variables of a map.
func template(name string, src []byte, vars cty.Value, functions map[string]function.Function) (cty.Value, error) {
	e, diags := hclsyntax.ParseTemplate(src, name, hcl.InitialPos)
	if diags.HasErrors() {
		return cty.DynamicVal, diags
	}
	vars, marks := vars.Unmark()
	if t := vars.Type(); vars.IsNull() || (!t.IsObjectType() && !t.IsMapType()) {
		return cty.DynamicVal, function.NewArgErrorf(1, "the variables of a template are a map")
	}
	known := vars.AsValueMap()
	for _, name := range keys(known) {
		if !hclsyntax.ValidIdentifier(name) {
			if isSensitive(marks) { // which the names can be
				name = "(sensitive value)"
			}
			return cty.DynamicVal, function.NewArgErrorf(1, "%q is no name for a variable of a template: names begin with a letter and have letters, digits and underscores", name)
		}
	}
	for _, t := range e.Variables() {
		if _, ok := known[t.RootName()]; !ok {
			r := t.SourceRange()
			return cty.DynamicVal, function.NewArgErrorf(1, "%s:%d: the template uses %q, which is not among its variables", r.Filename, r.Start.Line, t.RootName())
		}
	}
	v, diags := e.Value(&hcl.EvalContext{Variables: known, Functions: functions})
	if diags.HasErrors() {
		return cty.DynamicVal, diags
	}
	return v.WithMarks(marks), nil
}

// templateSpec makes a function of a template's name or text, which may be
// sensitive: then no error may quote it.
func templateSpec(impl func(text string, vars cty.Value) (cty.Value, error)) function.Function {
	call := func(args []cty.Value) (cty.Value, error) {
		text, marks := args[0].Unmark()
		v, err := impl(text.AsString(), args[1])
		return v.WithMarks(marks), discreet(args[:1], err)
	}
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "template", Type: cty.String, AllowMarked: true}, {Name: "vars", Type: cty.DynamicPseudoType, AllowMarked: true, AllowDynamicType: true}},
		Type: func(args []cty.Value) (cty.Type, error) {
			if !args[0].IsKnown() || !args[1].IsKnown() {
				return cty.DynamicPseudoType, nil
			}
			v, err := call(args)
			return v.Type(), err
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return call(args) },
	})
}

// noTemplate stands for a template function inside a template.
func noTemplate(name string) function.Function {
	return function.New(&function.Spec{
		VarParam: &anything,
		Type: func([]cty.Value) (cty.Type, error) {
			return cty.DynamicPseudoType, fmt.Errorf("%s cannot be called inside a template, which could then be made of itself", name)
		},
		Impl: func([]cty.Value, cty.Type) (cty.Value, error) { return cty.DynamicVal, nil }, // not reached
	})
}

func templateFileFunc(dir string, functions map[string]function.Function) function.Function {
	return templateSpec(func(name string, vars cty.Value) (cty.Value, error) {
		src, err := readIn(dir, name)
		if err != nil {
			return cty.DynamicVal, function.NewArgError(0, err)
		}
		if !utf8.Valid(src) {
			return cty.DynamicVal, function.NewArgErrorf(0, "%s is not a text in UTF-8", name)
		}
		return template(name, src, vars, functions)
	})
}

func templateStringFunc(functions map[string]function.Function) function.Function {
	return templateSpec(func(text string, vars cty.Value) (cty.Value, error) {
		return template("<template>", []byte(text), vars, functions)
	})
}

// elements lists a collection, or says that it is none.
func elements(v cty.Value, arg int) ([]cty.Value, error) {
	if t := v.Type(); !t.IsListType() && !t.IsTupleType() && !t.IsSetType() {
		return nil, function.NewArgErrorf(arg, "a list is needed, not %s", describe(v))
	}
	return v.AsValueSlice(), nil
}

func allFunc(all bool) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "list", Type: cty.List(cty.Bool)}},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			marks := cty.ValueMarks{}
			result := all
			for _, v := range args[0].AsValueSlice() {
				v, m := v.Unmark()
				marks = union(marks, m)
				if !v.IsKnown() {
					return cty.UnknownVal(cty.Bool).WithMarks(marks), nil
				}
				is := !v.IsNull() && v.True()
				if is != all {
					result = !all
				}
			}
			return cty.BoolVal(result).WithMarks(marks), nil
		},
	})
}

var sumFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "list", Type: cty.DynamicPseudoType}},
	Type:   function.StaticReturnType(cty.Number),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		vals, err := elements(args[0], 0)
		if err != nil {
			return cty.UnknownVal(cty.Number), err
		}
		if len(vals) == 0 {
			return cty.UnknownVal(cty.Number), function.NewArgErrorf(0, "the sum of nothing; the list is empty")
		}
		total := cty.NumberVal(new(big.Float).SetPrec(512))
		for _, v := range vals {
			n, err := convert.Convert(v, cty.Number)
			if err != nil || n.IsNull() {
				return cty.UnknownVal(cty.Number), function.NewArgErrorf(0, "not a list of numbers")
			}
			total = total.Add(n)
		}
		return total, nil
	},
})

var indexFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "list", Type: cty.DynamicPseudoType}, {Name: "value", Type: cty.DynamicPseudoType}},
	Type:   function.StaticReturnType(cty.Number),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		vals, err := elements(args[0], 0)
		if err == nil && args[0].Type().IsSetType() {
			err = function.NewArgErrorf(0, "a list is needed; the elements of a set have no order")
		}
		if err != nil {
			return cty.UnknownVal(cty.Number), err
		}
		for i, v := range vals {
			eq, err := stdlib.Equal(v, args[1])
			if err != nil {
				return cty.UnknownVal(cty.Number), err
			}
			if !eq.IsKnown() {
				return cty.UnknownVal(cty.Number), nil
			}
			if eq, m := eq.Unmark(); eq.True() {
				return cty.NumberIntVal(int64(i)).WithMarks(m), nil
			}
		}
		return cty.UnknownVal(cty.Number), errors.New("the list does not hold the value")
	},
})

var lengthFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "value", Type: cty.DynamicPseudoType, AllowDynamicType: true, AllowUnknown: true, AllowMarked: true}},
	Type: func(args []cty.Value) (cty.Type, error) {
		t := args[0].Type()
		if t == cty.String || t == cty.DynamicPseudoType || t.IsTupleType() || t.IsObjectType() || t.IsCollectionType() {
			return cty.Number, nil
		}
		return cty.Number, function.NewArgErrorf(0, "only texts, lists and maps have a length, not %s", describe(args[0]))
	},
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		v, marks := args[0].Unmark()
		switch t := v.Type(); {
		case !v.IsKnown():
			return cty.UnknownVal(cty.Number).WithMarks(marks), nil
		case v.IsNull():
			return cty.UnknownVal(cty.Number), function.NewArgErrorf(0, "null has no length")
		case t == cty.String:
			n, err := stdlib.Strlen(v)
			return n.WithMarks(marks), err
		}
		return cty.NumberIntVal(int64(v.LengthInt())).WithMarks(marks), nil
	},
})

// lookupFunc is Terraform's, whose default may be left out.
var lookupFunc = function.New(&function.Spec{
	Params:   []function.Parameter{{Name: "map", Type: cty.DynamicPseudoType, AllowMarked: true}, {Name: "key", Type: cty.String, AllowMarked: true}},
	VarParam: &function.Parameter{Name: "default", Type: cty.DynamicPseudoType, AllowNull: true, AllowMarked: true},
	Type: func(args []cty.Value) (cty.Type, error) {
		v, err := lookup(args)
		return v.Type(), err
	},
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return lookup(args) },
})

func lookup(args []cty.Value) (cty.Value, error) {
	if len(args) > 3 {
		return cty.DynamicVal, function.NewArgErrorf(3, "lookup takes a map, a key and a default")
	}
	m, marks := args[0].Unmark()
	k, hidden := args[1].Unmark()
	marks = union(marks, hidden)
	t := m.Type()
	if !t.IsObjectType() && !t.IsMapType() {
		return cty.DynamicVal, function.NewArgErrorf(0, "a map is needed, not %s", describe(m))
	}
	if !m.IsKnown() || !k.IsKnown() {
		return cty.DynamicVal, nil
	}
	otherwise := cty.NilVal
	if len(args) == 3 {
		otherwise = args[2]
		if t.IsMapType() { // whose elements are of one type, so the result is of that type, too
			var err error
			if otherwise, err = convert.Convert(otherwise, t.ElementType()); err != nil {
				return cty.DynamicVal, function.NewArgErrorf(2, "the default must be of the type of the map's elements, %s", t.ElementType().FriendlyName())
			}
		}
	}
	v, ok := m.AsValueMap()[k.AsString()]
	switch {
	case ok:
		return v.WithMarks(marks), nil
	case otherwise != cty.NilVal:
		return otherwise.WithMarks(marks), nil
	case len(hidden) > 0:
		return cty.DynamicVal, function.NewArgErrorf(1, "the map does not have this sensitive key, and there is no default")
	}
	return cty.DynamicVal, function.NewArgErrorf(1, "the map has no key %q, and there is no default", k.AsString())
}

var matchKeysFunc = function.New(&function.Spec{
	Params: []function.Parameter{
		{Name: "values", Type: cty.List(cty.DynamicPseudoType)}, {Name: "keys", Type: cty.List(cty.DynamicPseudoType)}, {Name: "searchset", Type: cty.List(cty.DynamicPseudoType)},
	},
	Type: func(args []cty.Value) (cty.Type, error) {
		if t, _ := convert.UnifyUnsafe([]cty.Type{args[1].Type(), args[2].Type()}); t == cty.NilType {
			return t, function.NewArgErrorf(2, "the keys and the set to search must be of one type")
		}
		return args[0].Type(), nil
	},
	Impl: func(args []cty.Value, t cty.Type) (cty.Value, error) {
		common, _ := convert.UnifyUnsafe([]cty.Type{args[1].Type(), args[2].Type()})
		found, err := convert.Convert(args[1], common)
		if err != nil {
			return cty.UnknownVal(t), function.NewArgError(1, err)
		}
		set, err := convert.Convert(args[2], common)
		if err != nil {
			return cty.UnknownVal(t), function.NewArgError(2, err)
		}
		values, ks, want := args[0].AsValueSlice(), found.AsValueSlice(), set.AsValueSlice()
		if len(values) != len(ks) {
			return cty.UnknownVal(t), function.NewArgErrorf(1, "as many keys as values are needed")
		}
		var out []cty.Value
		for i, k := range ks {
			for _, w := range want {
				if eq, err := stdlib.Equal(k, w); err == nil && eq.IsKnown() && eq.True() {
					out = append(out, values[i])
					break
				}
			}
		}
		if len(out) == 0 {
			return cty.ListValEmpty(t.ElementType()), nil
		}
		return cty.ListVal(out), nil
	},
})

var oneFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "list", Type: cty.DynamicPseudoType}},
	Type: func(args []cty.Value) (cty.Type, error) {
		v, err := one(args[0])
		return v.Type(), err
	},
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return one(args[0]) },
})

func one(list cty.Value) (cty.Value, error) {
	vals, err := elements(list, 0)
	switch {
	case err != nil:
		return cty.DynamicVal, err
	case len(vals) == 0:
		return cty.NullVal(cty.DynamicPseudoType), nil
	case len(vals) > 1:
		return cty.DynamicVal, function.NewArgErrorf(0, "a list of one element or none is needed, and this has %d", len(vals))
	}
	return vals[0], nil
}

var transposeFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "map", Type: cty.Map(cty.List(cty.String))}},
	Type:   function.StaticReturnType(cty.Map(cty.List(cty.String))),
	Impl: func(args []cty.Value, t cty.Type) (cty.Value, error) {
		out := map[string][]cty.Value{}
		m := args[0].AsValueMap()
		for _, k := range keys(m) {
			for _, v := range m[k].AsValueSlice() {
				if v.IsNull() {
					return cty.UnknownVal(t), function.NewArgErrorf(0, "null cannot be a key")
				}
				out[v.AsString()] = append(out[v.AsString()], cty.StringVal(k))
			}
		}
		if len(out) == 0 {
			return cty.MapValEmpty(cty.List(cty.String)), nil
		}
		vals := map[string]cty.Value{}
		for k, v := range out {
			vals[k] = cty.ListVal(v)
		}
		return cty.MapVal(vals), nil
	},
})

// collectionFunc is tolist and toset. cty compares every two types of a tuple's
// elements, which takes seconds for ten thousand; uniform spares it that.
func collectionFunc(t cty.Type) function.Function {
	to := stdlib.MakeToFunc(t)
	return function.New(&function.Spec{
		Params: []function.Parameter{anything},
		Type:   func(args []cty.Value) (cty.Type, error) { return to.ReturnTypeForValues([]cty.Value{uniform(args[0])}) },
		Impl:   func(args []cty.Value, _ cty.Type) (cty.Value, error) { return to.Call([]cty.Value{uniform(args[0])}) },
	})
}

// uniform makes a list of a tuple whose elements are of one type.
func uniform(v cty.Value) cty.Value {
	v, marks := v.Unmark()
	t := v.Type()
	if !t.IsTupleType() || !v.IsKnown() || v.IsNull() || t.Length() < 2 {
		return v.WithMarks(marks)
	}
	types := t.TupleElementTypes()
	for _, e := range types[1:] {
		if !e.Equals(types[0]) {
			return v.WithMarks(marks)
		}
	}
	if types[0] == cty.DynamicPseudoType {
		return v.WithMarks(marks)
	}
	return cty.ListVal(v.AsValueSlice()).WithMarks(marks)
}
