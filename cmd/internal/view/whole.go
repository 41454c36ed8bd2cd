package view

import (
	"encoding"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/berthdev/berth/cluster/object"
)

// whole draws what is new or gone as a whole straight from the object: the bytes
// that body draws from the comparison with nothing, at a fifth of the work.
// TestWholeAgrees holds the two against each other.
type whole struct {
	text   []byte
	symbol string // as painted
	tail   string // behind values: that they go
	items  []object.Item
	keys   []string
	units  map[unit]string // that have been written already: there are few, again and again
}

// unit is a value of a type with a text form.
type unit struct {
	of reflect.Type
	n  int64
}

// object draws the inside of an object's block.
func (w *whole) object(o object.Object, indent int) {
	w.items = object.Said(w.items[:0], o)
	w.list(0, indent)
}

// list draws the items from a mark on, and takes them off.
func (w *whole) list(mark, indent int) {
	end, width, n := len(w.items), 0, 0
	for i := mark; i < end; i++ {
		if x := &w.items[i]; x.Form != object.FormBlock {
			width = max(width, utf8.RuneCountInString(x.Name))
		}
	}
	for i := mark; i < end; i++ {
		if x := &w.items[i]; x.Form != object.FormBlock {
			w.attribute(x, indent, width)
			n++
		}
	}
	for i := mark; i < end; i++ {
		x := w.items[i]
		if x.Form != object.FormBlock {
			continue
		}
		if n > 0 {
			w.add("\n")
		}
		n++
		w.add(blanks(indent), w.symbol, " ", x.Name)
		if x.Label != "" {
			w.add(" ", quote(x.Label))
		}
		w.add(" {\n")
		w.items = object.SaidIn(w.items[:end], x.Value)
		w.list(end, indent+4)
		w.add(blanks(indent+2), "}\n")
	}
	w.items = w.items[:mark]
}

func (w *whole) attribute(x *object.Item, indent, width int) {
	switch x.Form {
	case object.FormMap:
		w.name(x.Name, indent, width)
		w.add("{\n")
		switch m := x.Value.Interface().(type) {
		case map[string]string:
			mapping(w, m, indent+4, drawText[string])
		case map[string]object.Text:
			mapping(w, m, indent+4, drawText[object.Text])
		default:
			values := make(map[string]reflect.Value, x.Value.Len())
			for it := x.Value.MapRange(); it.Next(); {
				values[it.Key().String()] = it.Value()
			}
			isUnit := x.Value.Type().Elem().Implements(marshaler)
			mapping(w, values, indent+4, func(w *whole, v reflect.Value, indent int) { w.value(v, isUnit, indent) })
		}
		w.add(blanks(indent+2), "}\n")
	case object.FormList:
		w.name(x.Name, indent, width)
		w.add("[\n")
		isUnit := x.Value.Type().Elem().Implements(marshaler)
		for i := range x.Value.Len() {
			if v := reflect.Indirect(x.Value.Index(i)); v.IsValid() {
				w.add(blanks(indent+4), w.symbol, " ")
				w.scalar(v, isUnit)
				w.add(",\n")
			}
		}
		w.add(blanks(indent+2), "]\n")
	default:
		w.name(x.Name, indent, width)
		w.value(x.Value, x.Unit, indent)
	}
}

// mapping draws the elements of a map, sorted; draw ends their lines.
func mapping[V any](w *whole, m map[string]V, indent int, draw func(w *whole, v V, indent int)) {
	w.keys = w.keys[:0]
	width := 0
	for k := range m {
		w.keys = append(w.keys, k)
		if ordinary(k) {
			width = max(width, len(k)+2)
		} else {
			width = max(width, utf8.RuneCountInString(quote(k)))
		}
	}
	slices.Sort(w.keys)
	for _, k := range w.keys {
		if ordinary(k) {
			w.add(blanks(indent), w.symbol, ` "`, k, `"`, blanks(width-len(k)-2), " = ")
		} else {
			w.name(quote(k), indent, width)
		}
		draw(w, m[k], indent)
	}
}

// value draws a value after its name, and ends the line. A unit is one with a text
// form of its own.
func (w *whole) value(v reflect.Value, isUnit bool, indent int) {
	if text, ok := w.textOf(v, isUnit); ok {
		drawText(w, text, indent)
		return
	}
	w.scalar(v, isUnit)
	w.add("\n")
}

// drawText draws a text; one of several lines line by line.
func drawText[T ~string](w *whole, v T, indent int) {
	text := string(v)
	if !strings.Contains(text, "\n") {
		w.quoted(text)
		w.add(w.tail, "\n")
		return
	}
	w.add("<<-EOT\n")
	for _, l := range splitLines(text) {
		w.add(strings.TrimRight(blanks(indent+6)+l, " "), "\n")
	}
	w.add(blanks(indent+2), "EOT", w.tail, "\n")
}

// scalar draws a value on one line, as change1 does.
func (w *whole) scalar(v reflect.Value, isUnit bool) {
	text, isText := w.textOf(v, isUnit)
	switch {
	case v.Type() == sensitiveType:
		w.add(hidden)
		return
	case isText:
		w.quoted(text)
	case v.CanInt():
		w.text = strconv.AppendFloat(w.text, float64(v.Int()), 'f', -1, 64)
	default:
		w.add(value(object.PlainValue(v)))
	}
	w.add(w.tail)
}

func (w *whole) quoted(s string) {
	if ordinary(s) {
		w.add(`"`, s, `"`)
		return
	}
	w.add(quote(s))
}

func (w *whole) name(name string, indent, width int) {
	w.add(blanks(indent), w.symbol, " ", name, blanks(width-utf8.RuneCountInString(name)), " = ")
}

func (w *whole) add(parts ...string) {
	for _, s := range parts {
		w.text = append(w.text, s...)
	}
}

// textOf is what a value says as a text.
func (w *whole) textOf(v reflect.Value, isUnit bool) (string, bool) {
	switch {
	case v.Type() == sensitiveType:
		return "", false
	case isUnit && v.CanInt():
		u := unit{v.Type(), v.Int()}
		text, known := w.units[u]
		if !known {
			if w.units == nil {
				w.units = map[unit]string{}
			}
			text, _ = object.PlainValue(v).(string)
			w.units[u] = text
		}
		return text, true
	case isUnit:
		text, ok := object.PlainValue(v).(string)
		return text, ok
	case v.Kind() == reflect.String:
		return v.String(), true
	}
	return "", false
}

var (
	sensitiveType = reflect.TypeFor[object.Sensitive]()
	marshaler     = reflect.TypeFor[encoding.TextMarshaler]()
)
