package object

import "reflect"

// Item is one thing that a configuration says in a block.
type Item struct {
	Name  string
	Label string // of a labelled block
	Form  Form   // block, attribute, map or list
	// Value is the block's struct, the map, the list, or the attribute's value as
	// PlainValue takes it.
	Value reflect.Value
	Unit  bool // an attribute whose value has a text form
}

// Said lists what a configuration says of an object, and SaidIn what it says in one
// of its blocks, appended to a list: what Compare finds beside nothing, without the
// tree, the paths and the other side. A plan of ten thousand new objects is drawn
// from it several times faster; a property test of the page holds the two together.
func Said(to []Item, o Object) []Item {
	m := *o.Head()
	m.Labels = ownLabels(o)
	head := reflect.ValueOf(&m).Elem()
	for i := range metaFields {
		f := &metaFields[i]
		to = said(to, f, head.Field(f.Index))
	}
	return SaidIn(to, reflect.ValueOf(o.SpecPtr()).Elem())
}

// SaidIn is Said of a block's struct.
func SaidIn(to []Item, v reflect.Value) []Item {
	fields := Fields(v.Type())
	for i := range fields {
		f := &fields[i]
		switch {
		case f.Internal || f.Label:
		case f.Remain:
			if inner := indirect(v.Field(f.Index)); inner.IsValid() {
				to = SaidIn(to, inner)
			}
		default:
			to = said(to, f, v.Field(f.Index))
		}
	}
	return to
}

// said adds a field, by the cases of comparer.field.
func said(to []Item, f *Field, v reflect.Value) []Item {
	if absent(f, v) {
		return to
	}
	t := deref(f.Type)
	switch {
	case f.Block && t.Kind() == reflect.Slice:
		label, labelled := LabelField(t.Elem())
		for i := range v.Len() {
			x := Item{Name: f.Name, Form: FormBlock, Value: at(v, i)}
			if !x.Value.IsValid() {
				continue
			}
			if labelled {
				x.Label = x.Value.Field(label.Index).String()
			}
			to = append(to, x)
		}
		return to
	case f.Block || (t.Kind() == reflect.Struct && !f.scalar):
		if v = present(v); v.IsValid() {
			to = append(to, Item{Name: f.Name, Form: FormBlock, Value: v})
		}
	case !f.scalar && t.Kind() == reflect.Map:
		if v.Len() > 0 {
			to = append(to, Item{Name: f.Name, Form: FormMap, Value: v})
		}
	case !f.scalar && t.Kind() == reflect.Slice:
		if v.Len() > 0 {
			to = append(to, Item{Name: f.Name, Form: FormList, Value: v})
		}
	default:
		if f.scalar {
			v = scalar(f, v)
		}
		if v.IsValid() {
			to = append(to, Item{Name: f.Name, Form: FormAttribute, Value: v, Unit: f.unit})
		}
	}
	return to
}
