package api

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/berthdev/berth/cluster/object"
)

// body is a typed request body. Decoding never fails huma's way: get tells what
// was wrong, every mistake with its path.
type body[T any] struct {
	value T
	err   error
}

// UnmarshalJSON decodes with the rules of decode.
func (b *body[T]) UnmarshalJSON(raw []byte) error {
	b.err = decode(raw, &b.value)
	return nil
}

// Schema describes T.
func (b body[T]) Schema(r huma.Registry) *huma.Schema {
	return schemaBuilder{r}.of(reflect.TypeFor[T]())
}

func (b *body[T]) get() (T, error) { return b.value, b.err }

// decode reads a value that a person or program wrote: fields that are absent
// get their defaults, unknown ones are refused with the nearest known, and all
// mistakes are found in one run. What only Berth's own parts exchange, and is
// large, takes the short way.
func decode(raw []byte, into any) error {
	switch into.(type) {
	case *object.Report: // a newer node may say more
		if err := json.Unmarshal(raw, into); err != nil {
			return object.Errorf(object.CodeInvalid, object.Ref{}, "not a report: %w", err)
		}
		return nil
	case *object.StackRequest: // ten thousand small ones
		if err := json.Unmarshal(raw, into); err != nil {
			return object.Errorf(object.CodeInvalid, object.Ref{}, "not a request to compare: %w", err)
		}
		return nil
	}
	var d decoder
	d.value(raw, reflect.ValueOf(into).Elem(), "")
	return d.err(object.Ref{})
}

// decodeObject reads an object of a kind at an address; meta may leave out what
// the address says and must not contradict it.
func decodeObject(raw []byte, at object.Ref) (object.Object, error) {
	o, err := object.New(at.Kind)
	if err != nil {
		return nil, err
	}
	var d decoder
	d.value(raw, reflect.ValueOf(o).Elem(), "")
	m := o.Head()
	for _, x := range []struct {
		path string
		have *string
		want string
	}{{"meta.kind", (*string)(&m.Kind), string(at.Kind)}, {"meta.namespace", &m.Namespace, at.Namespace}, {"meta.name", &m.Name, at.Name}} {
		switch {
		case *x.have == "":
			*x.have = x.want
		case x.want != "" && *x.have != x.want:
			d.diags.Errorf(x.path, "Contradicts the address", "The address of the request says %q, the body %q.", x.want, *x.have)
		}
	}
	return o, d.err(o.Ref())
}

type decoder struct{ diags object.Diagnostics }

func (d *decoder) err(r object.Ref) error {
	if !d.diags.HasErrors() {
		return nil
	}
	return invalid(r, d.diags)
}

// invalid is the error for diagnostics.
func invalid(r object.Ref, diags object.Diagnostics) error {
	e := &object.Error{Code: object.CodeInvalid, Ref: r, Diagnostics: diags}
	for i, x := range diags {
		if x.Severity != object.SeverityError {
			continue
		}
		e.Message = x.Summary
		if x.Path != "" {
			e.Message = x.Path + ": " + e.Message
		}
		e.Hint = x.Detail
		if n := len(diags) - i - 1; n > 0 {
			e.Message += fmt.Sprintf(" (and %d more)", n)
		}
		break
	}
	return e
}

var (
	anyType       = reflect.TypeFor[object.Any]()
	sensitiveType = reflect.TypeFor[object.Sensitive]()
	jsonDecoder   = reflect.TypeFor[json.Unmarshaler]()
	textDecoder   = reflect.TypeFor[encoding.TextUnmarshaler]()
	numberSetter  = reflect.TypeFor[object.NumberSetter]()
)

func (d *decoder) value(raw json.RawMessage, v reflect.Value, path string) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return
	}
	t, p := v.Type(), reflect.PointerTo(v.Type())
	switch {
	case t == anyType:
		d.any(raw, v, path)
	case t == sensitiveType && raw[0] == '"':
		var plain string
		d.scalar(raw, reflect.ValueOf(&plain).Elem(), path)
		v.Set(reflect.ValueOf(object.NewSensitive(plain)))
	case t.Kind() == reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
		d.value(raw, v.Elem(), path)
	case p.Implements(numberSetter) && (raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9'):
		f, err := strconv.ParseFloat(string(raw), 64)
		if err == nil {
			err = v.Addr().Interface().(object.NumberSetter).SetNumber(f)
		}
		if err != nil {
			d.diags.Errorf(path, "Wrong value", "%s", err.Error())
		}
	case p.Implements(textDecoder) && raw[0] != '"' && !p.Implements(jsonDecoder):
		d.diags.Errorf(path, "Wrong type", "Write text with a unit, in quotes, instead of %s.", clip(raw))
	case p.Implements(jsonDecoder), p.Implements(textDecoder):
		d.scalar(raw, v, path)
	case t.Kind() == reflect.Struct:
		d.structure(raw, v, path)
	case t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8:
		var items []json.RawMessage
		if !d.into(raw, &items, path, "a list") {
			return
		}
		v.Set(reflect.MakeSlice(t, len(items), len(items)))
		for i, item := range items {
			d.value(item, v.Index(i), path+"["+strconv.Itoa(i)+"]")
		}
	case t.Kind() == reflect.Map && t.Key().Kind() == reflect.String:
		var items map[string]json.RawMessage
		if !d.into(raw, &items, path, "an object") {
			return
		}
		v.Set(reflect.MakeMapWithSize(t, len(items)))
		for k, item := range items {
			e := reflect.New(t.Elem()).Elem()
			d.value(item, e, path+"["+strconv.Quote(k)+"]")
			v.SetMapIndex(reflect.ValueOf(k).Convert(t.Key()), e)
		}
	default:
		d.scalar(raw, v, path)
	}
}

func (d *decoder) structure(raw json.RawMessage, v reflect.Value, path string) {
	var given map[string]json.RawMessage
	if !d.into(raw, &given, path, "an object") {
		return
	}
	object.SetDefaults(v.Addr().Interface())
	fields := object.Fields(v.Type())
	names := make([]string, 0, len(fields))
	for _, f := range fields {
		names = append(names, f.JSON)
		if item, ok := given[f.JSON]; ok {
			d.value(item, v.Field(f.Index), join(path, f.JSON))
			delete(given, f.JSON)
		}
	}
	unknown := make([]string, 0, len(given))
	for k := range given {
		unknown = append(unknown, k)
	}
	slices.Sort(unknown)
	for _, k := range unknown {
		hint := object.DidYouMean(k, names)
		if hint == "" {
			hint = fmt.Sprintf("There is %q.", names)
		}
		d.diags.Errorf(join(path, k), "Unknown field", "%s", hint)
	}
}

func (d *decoder) any(raw json.RawMessage, v reflect.Value, path string) {
	var head struct {
		Meta struct {
			Kind object.Kind `json:"kind"`
		} `json:"meta"`
	}
	if !d.into(raw, &head, path, "an object with meta.kind") {
		return
	}
	o, err := object.New(head.Meta.Kind)
	if err != nil {
		d.diags.Errorf(join(path, "meta.kind"), "Unknown kind", "There is no kind %q.", head.Meta.Kind)
		return
	}
	d.value(raw, reflect.ValueOf(o).Elem(), path)
	v.Set(reflect.ValueOf(object.Any{Object: o}))
}

func (d *decoder) scalar(raw json.RawMessage, v reflect.Value, path string) {
	if err := json.Unmarshal(raw, v.Addr().Interface()); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			d.diags.Errorf(path, "Wrong type", "Expected a %s, not %s.", typeName(v.Type()), clip(raw))
			return
		}
		d.diags.Errorf(path, "Wrong value", "%s", err.Error())
	}
}

func (d *decoder) into(raw json.RawMessage, to any, path, what string) bool {
	if err := json.Unmarshal(raw, to); err != nil {
		d.diags.Errorf(path, "Wrong type", "Expected %s, not %s.", what, clip(raw))
		return false
	}
	return true
}

func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text"
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return "whole number"
	}
	return t.Kind().String()
}

// clip shortens JSON for a message to its author.
func clip(raw []byte) string {
	if len(raw) > 60 {
		return string(raw[:57]) + "..."
	}
	return string(raw)
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
