package object

import (
	"encoding"
	"reflect"
	"strings"
	"sync"
)

// Field describes a field of a spec struct, as its tags tell:
//
//	hcl:"name"           an attribute
//	hcl:"name,required"  an attribute that must be there
//	hcl:"name,block"     a nested block; of a slice, any number of them; a map is not a block
//	hcl:"name,label"     the block's label
//	hcl:",remain"        the fields of the struct (or pointer to struct) stand here
//	hcl:"-"              not configuration: set by people's commands or by Berth itself
//	hcl:"-,settled"      the same, but settled by an apply: KeepOperational leaves it alone
//	doc default enum     what they say; enum values are separated by commas
//	effect               what a change of it does: rolls, scales, in_place, reloads, replaces, new_pods;
//	                     it holds for everything inside the field,
//	                     whatever that says itself
type Field struct {
	Name     string // as in HCL
	JSON     string // as in JSON
	Go       string
	Index    int
	Type     reflect.Type
	Doc      string
	Default  string
	Enum     []string
	Effect   string
	Required bool
	Block    bool
	Label    bool
	Remain   bool
	Internal bool // hcl:"-" or no hcl tag
	Settled  bool

	scalar bool // see IsScalar; of the type that a pointer points to
	unit   bool // values have a text form
}

var fieldCache sync.Map // reflect.Type -> []Field

// Fields lists the fields of a struct type in their order of declaration. The
// diff, the decoder, validation, the reference table and the JSON schema all
// walk it, so that none can know a field that another does not.
func Fields(t reflect.Type) []Field {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if f, ok := fieldCache.Load(t); ok {
		return f.([]Field)
	}
	var out []Field
	for i := range t.NumField() {
		sf := t.Field(i)
		if !sf.IsExported() {
			continue
		}
		f := Field{Go: sf.Name, Index: i, Type: sf.Type, Doc: sf.Tag.Get("doc"), Default: sf.Tag.Get("default"), Effect: sf.Tag.Get("effect")}
		f.JSON, _, _ = strings.Cut(sf.Tag.Get("json"), ",")
		name, opts, _ := strings.Cut(sf.Tag.Get("hcl"), ",")
		f.Name = name
		f.Internal = name == "-" || sf.Tag.Get("hcl") == ""
		if f.Internal {
			f.Name = f.JSON
		}
		for o := range strings.SplitSeq(opts, ",") {
			switch o {
			case "required":
				f.Required = true
			case "block":
				f.Block = true
			case "label":
				f.Label = true
			case "remain":
				f.Remain = true
			case "settled":
				f.Settled = true
			}
		}
		if e, ok := sf.Tag.Lookup("enum"); ok {
			f.Enum = strings.Split(e, ",")
		}
		f.scalar, f.unit = IsScalar(deref(f.Type)), deref(f.Type).Implements(textMarshaler)
		out = append(out, f)
	}
	fieldCache.Store(t, out)
	return out
}

// LabelField is the field that names the blocks of a struct type, if it has one;
// lists of such blocks are compared by name, not by position.
func LabelField(t reflect.Type) (Field, bool) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return Field{}, false
	}
	for _, f := range Fields(t) {
		if f.Label {
			return f, true
		}
	}
	return Field{}, false
}

var textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()

// IsScalar reports whether values of the type are one value to a reader: a
// string, number, boolean, time or a unit with a text form.
func IsScalar(t reflect.Type) bool {
	if known, ok := scalarCache.Load(t); ok {
		return known.(bool)
	}
	scalar := isScalar(t)
	scalarCache.Store(t, scalar)
	return scalar
}

var scalarCache sync.Map // reflect.Type -> bool

func isScalar(t reflect.Type) bool {
	if t.Implements(textMarshaler) || reflect.PointerTo(t).Implements(textMarshaler) || t == reflect.TypeFor[Sensitive]() {
		return true
	}
	switch t.Kind() {
	case reflect.Struct, reflect.Slice, reflect.Map, reflect.Pointer, reflect.Interface:
		return false
	}
	return true
}

// SetDefaults fills a fresh, zero struct (v points to it) from its default
// tags, nested structs included. Decoders call it on each struct that they make,
// before they fill it, so that an explicit zero stays a zero: replicas = 0. For
// the same reason a field with a default is always written in JSON.
func SetDefaults(v any) { setDefaults(reflect.ValueOf(v).Elem()) }

func setDefaults(v reflect.Value) {
	for _, f := range Fields(v.Type()) {
		fv := v.Field(f.Index)
		switch {
		case f.Default != "":
			setText(fv, f.Default)
		case f.Type.Kind() == reflect.Struct && !IsScalar(f.Type):
			setDefaults(fv)
		}
	}
}
