package view

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/cluster/object"
)

// TestWholeAgrees draws objects of every kind, filled at random, the quick way and
// by the comparison with nothing.
func TestWholeAgrees(t *testing.T) {
	for _, info := range object.Kinds() {
		t.Run(string(info.Kind), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				o := info.New()
				m := o.Head()
				fillIn(t, reflect.ValueOf(o.SpecPtr()).Elem())
				fillIn(t, reflect.ValueOf(&m.Labels).Elem())
				fillIn(t, reflect.ValueOf(&m.Annotations).Elem())
				m.PreventDestroy = rapid.Bool().Draw(t, "protected")
				c := object.PlannedChange{Ref: o.Ref(), Actions: []string{object.ActionCreate}, After: object.Any{Object: o}}
				tree := object.Compare(nil, o)
				if rapid.Bool().Draw(t, "delete") {
					c.Actions, c.Before, c.After = []string{object.ActionDelete}, c.After, c.Before
					tree = object.Compare(o, nil)
				}
				var quick, slow bytes.Buffer
				p := &printer{Options: Options{Color: rapid.Bool().Draw(t, "colour")}, w: &quick}
				if !p.whole(&c) {
					t.Fatal("not drawn as a whole")
				}
				p.w = &slow
				s := symbol(&c)
				p.line(blanks(3-len(s)), p.symbol(s), " ", string(c.Ref.Kind), " ", quote(c.Ref.Name), " {")
				b := body{printer: p, whole: true}
				b.block(tree, 6)
				p.line("    }")
				if quick.String() != slow.String() {
					t.Errorf("drawn quickly:\n%s\nby comparison:\n%s", quick.String(), slow.String())
				}
			})
		})
	}
}

// texts are what names and values may be.
var texts = rapid.SampledFrom([]string{"", "a", "web", "x y", "é", "日本", "\"q\"", "a\\b", "two\nlines", "ends\n", "\n", " \n  in \n", "tab\t", "${secret.db.data.password}", "\u0000"})

// fillIn sets a value at random; the names of blocks beside one another differ.
func fillIn(t *rapid.T, v reflect.Value) {
	if rapid.IntRange(0, 3).Draw(t, "leave") == 0 {
		return // as it is: zero or nil
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(texts.Draw(t, "text"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(rapid.SampledFrom([]int64{0, 1, 8080, -3, 250, 1 << 20, 90e9, 1<<53 + 1}).Draw(t, "number"))
	case reflect.Float64:
		v.SetFloat(rapid.SampledFrom([]float64{0, 0.5, 1e21}).Draw(t, "number"))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillIn(t, v.Elem())
	case reflect.Struct:
		if v.Type() == sensitiveType {
			v.Set(reflect.ValueOf(object.NewSensitive(texts.Draw(t, "text"))))
			return
		}
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fillIn(t, v.Field(i))
			}
		}
	case reflect.Map:
		m := reflect.MakeMap(v.Type())
		for range rapid.IntRange(0, 3).Draw(t, "elements") {
			e := reflect.New(v.Type().Elem()).Elem()
			fillIn(t, e)
			m.SetMapIndex(reflect.ValueOf(texts.Draw(t, "key")).Convert(v.Type().Key()), e)
		}
		v.Set(m)
	case reflect.Slice:
		label, labelled := object.LabelField(v.Type().Elem())
		for i := range rapid.IntRange(0, 2).Draw(t, "elements") {
			e := reflect.New(v.Type().Elem()).Elem()
			fillIn(t, e)
			if labelled {
				reflect.Indirect(e).Field(label.Index).SetString(fmt.Sprint(i) + texts.Draw(t, "label"))
			}
			v.Set(reflect.Append(v, e))
		}
	}
}
