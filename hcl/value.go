package hcl

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"github.com/zclconf/go-cty/cty"

	"github.com/berthdev/berth/cluster/object"
)

// host is what kinds with a DNS name have beside their fields.
type host interface{ Host() string }

var attributeNames sync.Map // object.Kind -> []string

// attributesOf lists what a reference to an object can name.
func attributesOf(info object.KindInfo) []string {
	if names, ok := attributeNames.Load(info.Kind); ok {
		return names.([]string)
	}
	names := []string{"annotations", "labels", "name", "namespace"}
	if _, ok := info.New().(host); ok {
		names = append(names, "host")
	}
	for _, f := range planOf(info.SpecType()).fields {
		names = append(names, f.name)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	attributeNames.Store(info.Kind, names)
	return names
}

// valueOfDeclaration is what references to a declaration see, made once.
func (r *run) valueOfDeclaration(d *declaration) cty.Value {
	if d.failed {
		return cty.DynamicVal
	}
	if d.made != cty.NilVal {
		return d.made
	}
	switch {
	case d.each != nil:
		m := make(map[string]cty.Value, len(d.instances))
		for _, in := range d.instances {
			m[in.key.AsString()] = valueOf(in.object)
		}
		d.made = cty.ObjectVal(m)
	case d.count != nil:
		var list []cty.Value
		for _, in := range d.instances {
			list = append(list, valueOf(in.object))
		}
		d.made = cty.TupleVal(list)
	case len(d.instances) == 1:
		d.made = valueOf(d.instances[0].object)
	default: // enabled = false
		d.made = cty.NullVal(cty.DynamicPseudoType)
	}
	return d.made
}

func valueOf(o object.Object) cty.Value {
	m := o.Head()
	vals := map[string]cty.Value{}
	structValues(vals, reflect.ValueOf(o.SpecPtr()).Elem())
	vals["name"], vals["namespace"] = cty.StringVal(m.Name), cty.StringVal(m.Namespace)
	vals["labels"], vals["annotations"] = textMap(m.Labels), textMap(m.Annotations)
	if h, ok := o.(host); ok {
		vals["host"] = cty.StringVal(h.Host())
	}
	if s, ok := o.(*object.Secret); ok {
		data := map[string]cty.Value{}
		for k := range s.Spec.Data {
			key := object.SecretKey{Name: m.Name, Key: k}
			data[k] = cty.StringVal(key.String()).Mark(secretMark{key, m.Namespace})
		}
		vals["data"] = mapOf(data)
	}
	return cty.ObjectVal(vals)
}

func structValues(vals map[string]cty.Value, v reflect.Value) {
	for _, f := range object.Fields(v.Type()) {
		switch fv := v.Field(f.Index); {
		case f.Internal:
		case f.Remain:
			if fv.Kind() == reflect.Pointer {
				if fv.IsNil() {
					continue
				}
				fv = fv.Elem()
			}
			structValues(vals, fv)
		default:
			vals[f.Name] = fieldValue(fv)
		}
	}
}

func fieldValue(v reflect.Value) cty.Value {
	switch x := v.Interface().(type) {
	case object.Amount:
		if !x.Percent {
			return cty.NumberIntVal(int64(x.N))
		}
	case object.Sensitive:
		return cty.NullVal(cty.String) // only a secret's data has it, see valueOf
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		b, err := m.MarshalText()
		if err != nil {
			return cty.NullVal(cty.String)
		}
		return cty.StringVal(string(b))
	}
	switch v.Kind() {
	case reflect.String:
		return cty.StringVal(v.String())
	case reflect.Int, reflect.Int64:
		return cty.NumberIntVal(v.Int())
	case reflect.Bool:
		return cty.BoolVal(v.Bool())
	case reflect.Pointer:
		if v.IsNil() {
			return cty.NullVal(cty.DynamicPseudoType)
		}
		return fieldValue(v.Elem())
	case reflect.Struct:
		vals := map[string]cty.Value{}
		structValues(vals, v)
		return cty.ObjectVal(vals)
	case reflect.Map:
		vals := map[string]cty.Value{}
		for it := v.MapRange(); it.Next(); {
			vals[it.Key().String()] = fieldValue(it.Value())
		}
		return mapOf(vals)
	case reflect.Slice:
		return sliceValue(v)
	}
	return cty.StringVal(fmt.Sprint(v.Interface()))
}

// sliceValue is a list, or, of blocks with names, the blocks by name.
func sliceValue(v reflect.Value) cty.Value {
	if label, ok := object.LabelField(v.Type().Elem()); ok {
		vals := map[string]cty.Value{}
		for i := range v.Len() {
			vals[v.Index(i).Field(label.Index).String()] = fieldValue(v.Index(i))
		}
		return cty.ObjectVal(vals)
	}
	var vals []cty.Value
	for i := range v.Len() {
		vals = append(vals, fieldValue(v.Index(i)))
	}
	if v.Type().Elem().Kind() == reflect.String {
		if len(vals) == 0 {
			return cty.ListValEmpty(cty.String)
		}
		return cty.ListVal(vals)
	}
	return cty.TupleVal(vals)
}

func textMap(m map[string]string) cty.Value {
	vals := make(map[string]cty.Value, len(m))
	for k, v := range m {
		vals[k] = cty.StringVal(v)
	}
	return mapOf(vals)
}

func mapOf(vals map[string]cty.Value) cty.Value {
	if len(vals) == 0 {
		return cty.MapValEmpty(cty.String)
	}
	return cty.MapVal(vals)
}
