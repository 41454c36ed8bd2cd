package hcl

import (
	"encoding"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/berthdev/berth/cluster/object"
)

// value puts a value into a field. marks are those of the collections around it.
func (d *decoder) value(dst reflect.Value, f form, v cty.Value, marks cty.ValueMarks, src *source, at span, p *path) {
	if v.IsMarked() {
		var own cty.ValueMarks
		v, own = v.Unmark()
		marks = union(marks, own)
	}
	if !v.IsKnown() {
		d.bad = append(d.bad, p.String())
		return
	}
	if v.IsNull() {
		d.fail(src, at, p, "Missing value", "There is null where %s is needed.", wanted(dst.Type(), f))
		return
	}
	switch f {
	case formMap:
		d.mapValue(dst, v, marks, src, at, p)
		return
	case formSlice:
		d.sliceValue(dst, v, marks, src, at, p)
		return
	}
	if len(marks) > 0 && !d.allowed(dst, f, v, marks, src, at, p) {
		return
	}
	d.scalar(dst, f, v, src, at, p)
}

func (d *decoder) scalar(dst reflect.Value, f form, v cty.Value, src *source, at span, p *path) {
	t := v.Type()
	mismatch := func() {
		d.fail(src, at, p, "Wrong type", "%s is needed here, not %s.", capital(wanted(dst.Type(), f)), describe(v))
	}
	switch f {
	case formString, formText, formSensitive:
		if t != cty.String {
			c, err := convert.Convert(v, cty.String)
			if err != nil {
				mismatch()
				return
			}
			v = c
		}
		if f == formSensitive {
			dst.Set(reflect.ValueOf(object.NewSensitive(v.AsString())))
		} else {
			dst.SetString(v.AsString())
		}
	case formBool:
		c, err := convert.Convert(v, cty.Bool)
		if err != nil {
			mismatch()
			return
		}
		dst.SetBool(c.True())
	case formInt:
		c, err := convert.Convert(v, cty.Number)
		if err != nil {
			mismatch()
			return
		}
		n, acc := c.AsBigFloat().Int64()
		if acc != big.Exact {
			d.fail(src, at, p, "Wrong number", "A whole number is needed here, not %s.", c.AsBigFloat().Text('g', 12))
			return
		}
		dst.SetInt(n)
	case formUnit:
		d.unit(dst, v, src, at, p, mismatch)
	default:
		mismatch()
	}
}

// unit fills types with a text form; only some take a bare number.
func (d *decoder) unit(dst reflect.Value, v cty.Value, src *source, at span, p *path, mismatch func()) {
	ptr := dst.Addr().Interface()
	if v.Type() == cty.Number {
		n := v.AsBigFloat()
		if s, ok := ptr.(object.NumberSetter); ok {
			f, _ := n.Float64()
			if err := s.SetNumber(f); err != nil {
				d.fail(src, at, p, "Wrong value", "%s.", capital(err.Error()))
			}
			return
		}
		if u, ok := ptr.(encoding.TextUnmarshaler); ok {
			if err := u.UnmarshalText([]byte(n.Text('f', -1))); err != nil {
				d.fail(src, at, p, "Missing unit", "%s.", capital(err.Error()))
			}
			return
		}
	}
	if v.Type() != cty.String {
		mismatch()
		return
	}
	u, ok := ptr.(encoding.TextUnmarshaler)
	if !ok {
		dst.SetString(v.AsString()) // PortRef
		return
	}
	if err := u.UnmarshalText([]byte(v.AsString())); err != nil {
		d.fail(src, at, p, "Wrong value", "%s.", capital(err.Error()))
	}
}

func (d *decoder) mapValue(dst reflect.Value, v cty.Value, marks cty.ValueMarks, src *source, at span, p *path) {
	if t := v.Type(); !t.IsObjectType() && !t.IsMapType() {
		d.fail(src, at, p, "Wrong type", "%s is needed here, not %s.", capital(wanted(dst.Type(), formMap)), describe(v))
		return
	}
	elems := v.AsValueMap()
	if len(marks) == 0 && len(elems) > 0 { // nearly every map there is
		switch to := dst.Addr().Interface().(type) {
		case *map[string]string:
			if plainTexts(to, elems) {
				return
			}
		case *map[string]object.Text:
			if plainTexts(to, elems) {
				return
			}
		}
	}
	m := reflect.MakeMapWithSize(dst.Type(), len(elems))
	et := dst.Type().Elem()
	f := formOf(et)
	keys := make([]string, 0, len(elems))
	for k := range elems {
		keys = append(keys, k)
	}
	slices.Sort(keys) // for the order of diagnostics
	for _, k := range keys {
		e := reflect.New(et).Elem()
		d.value(e, f, elems[k], marks, src, at, &path{p, "[" + strconv.Quote(k) + "]"})
		m.SetMapIndex(reflect.ValueOf(k), e)
	}
	if m.Len() > 0 {
		dst.Set(m)
	}
}

// plainTexts fills a map with values that are texts and nothing else; false, and
// nothing done, if any is more.
func plainTexts[T ~string](to *map[string]T, elems map[string]cty.Value) bool {
	m := make(map[string]T, len(elems))
	for k, v := range elems {
		if v.IsMarked() || v.Type() != cty.String || v.IsNull() || !v.IsKnown() {
			return false
		}
		m[k] = T(v.AsString())
	}
	*to = m
	return true
}

func (d *decoder) sliceValue(dst reflect.Value, v cty.Value, marks cty.ValueMarks, src *source, at span, p *path) {
	if t := v.Type(); !t.IsTupleType() && !t.IsListType() && !t.IsSetType() {
		d.fail(src, at, p, "Wrong type", "%s is needed here, not %s.", capital(wanted(dst.Type(), formSlice)), describe(v))
		return
	}
	et := dst.Type().Elem()
	f := formOf(et)
	n := v.LengthInt()
	if n == 0 {
		return
	}
	s := reflect.MakeSlice(dst.Type(), n, n)
	i := 0
	for it := v.ElementIterator(); it.Next(); i++ {
		_, e := it.Element()
		d.value(s.Index(i), f, e, marks, src, at, &path{p, "[" + strconv.Itoa(i) + "]"})
	}
	dst.Set(s)
}

// wanted says what a field holds, with an article.
func wanted(t reflect.Type, f form) string {
	switch f {
	case formString, formText, formSensitive:
		return "a text"
	case formInt:
		return "a whole number"
	case formBool:
		return "true or false"
	case formMap:
		return "a map of texts such as { key = \"value\" }"
	case formSlice:
		return "a list such as [\"a\", \"b\"]"
	}
	switch t {
	case reflect.TypeFor[object.CPU]():
		return "an amount of cpu such as \"250m\" or 1.5"
	case reflect.TypeFor[object.Bytes]():
		return "an amount of bytes such as \"64Mi\""
	case reflect.TypeFor[object.Duration]():
		return "a duration such as \"5s\""
	case reflect.TypeFor[object.Amount]():
		return "a number or a share such as \"25%\""
	case reflect.TypeFor[object.PortRef]():
		return "a port by number or name"
	}
	return "another value"
}

// describe names a value's type for people.
func describe(v cty.Value) string {
	switch t := v.Type(); {
	case v.IsNull():
		return "null"
	case t == cty.String:
		return "a text"
	case t == cty.Number:
		return "a number"
	case t == cty.Bool:
		return "true or false"
	case t.IsTupleType(), t.IsListType(), t.IsSetType():
		return "a list"
	case t.IsObjectType(), t.IsMapType():
		return "a map"
	}
	return fmt.Sprintf("a value of type %s", v.Type().FriendlyName())
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
