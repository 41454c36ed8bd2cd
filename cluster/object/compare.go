package object

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"time"
)

// Form is how a configuration writes a thing that differs.
type Form string

// The forms.
const (
	FormBlock     Form = "block"     // name "label" { … }
	FormAttribute Form = "attribute" // name = value
	FormMap       Form = "map"       // name = { key = value }
	FormList      Form = "list"      // name = [ value, … ]
	FormOrder     Form = "order"     // the order of equally labelled blocks
)

// Difference is one node of the comparison of two objects: a block, map or list
// with the differences inside it, or one value. Op is empty for a container in
// which only something further inside differs in another way than by update;
// containers that are wholly new or gone have OpCreate or OpDelete throughout.
type Difference struct {
	Name      string // attribute or block name, map key, list position
	Label     string // of a labelled block
	Form      Form
	Path      string // pod.container["web"].image
	Op        Op
	Before    any // JSON value of a single value; nil where absent or Sensitive
	After     any
	Sensitive bool
	Effect    string // the field's effect, or that of the outermost field around it that has one
	Parts     []*Difference
	Hidden    int // unchanged attributes (or elements) beside Parts
	Blocks    int // unchanged blocks beside Parts
}

// Compare finds every field of Spec, labels, annotations and lifecycle by which
// two objects of one kind differ; either may be nil. The result is nil when
// nothing differs. Operational fields (hcl:"-") are not configuration and are
// left out. Sensitive values are compared by digest and never appear.
func Compare(before, after Object) *Difference {
	c := comparer{}
	root := &Difference{Form: FormBlock, Op: OpUpdate}
	var bm, am Meta
	var bs, as reflect.Value
	switch {
	case before == nil && after == nil:
		return nil
	case before == nil:
		root.Op = OpCreate
	case after == nil:
		root.Op = OpDelete
	case Equal(before, after):
		return nil
	}
	for i, o := range []Object{before, after} {
		if o == nil {
			continue
		}
		m, s := *o.Head(), reflect.ValueOf(o.SpecPtr()).Elem()
		m.Labels = ownLabels(o)
		if i == 0 {
			bm, bs = m, s
		} else {
			am, as = m, s
		}
		root.Name, root.Label = string(m.Kind), m.Name
	}
	head := func(f Field, b, a reflect.Value) {
		c.field(root, f, b, a, "", "in_place")
	}
	for _, f := range metaFields {
		b, a := reflect.ValueOf(bm).FieldByIndex([]int{f.Index}), reflect.ValueOf(am).FieldByIndex([]int{f.Index})
		head(f, b, a)
	}
	c.fields(root, specType(before, after), bs, as, "", "")
	if len(root.Parts) == 0 && root.Op == OpUpdate {
		// Equal says no, yet the walk by label found nothing: blocks of the same
		// label twice, which validation refuses. Better a vague difference than none.
		root.Parts = append(root.Parts, &Difference{Name: "spec", Form: FormAttribute, Path: "spec", Op: OpUpdate})
	}
	return root
}

// metaFields are the parts of Meta that configurations write.
var metaFields = func() []Field {
	t := reflect.TypeFor[Meta]()
	pick := func(goName, name string) Field {
		sf, _ := t.FieldByName(goName)
		return Field{Name: name, JSON: name, Go: goName, Index: sf.Index[0], Type: sf.Type}
	}
	return []Field{pick("Labels", "labels"), pick("Annotations", "annotations"), pick("PreventDestroy", "lifecycle.prevent_destroy")}
}()

func specType(objects ...Object) reflect.Type {
	for _, o := range objects {
		if o != nil {
			return reflect.TypeOf(o.SpecPtr()).Elem()
		}
	}
	return nil
}

// Equal reports whether two objects of one kind say the same as configuration.
// It allocates nothing and stops at the first difference, which makes a plan of
// ten thousand unchanged objects cheap.
func Equal(before, after Object) bool {
	b, a := before.Head(), after.Head()
	return b.Kind == a.Kind && b.PreventDestroy == a.PreventDestroy &&
		sameMap(ownLabels(before), ownLabels(after)) && sameMap(b.Annotations, a.Annotations) &&
		equal(reflect.ValueOf(before.SpecPtr()).Elem(), reflect.ValueOf(after.SpecPtr()).Elem())
}

// ownLabels are an object's labels, less those that a pod has from its template:
// they are one attribute in a configuration.
func ownLabels(o Object) map[string]string {
	labels := o.Head().Labels
	if p, ok := o.(*Pod); ok && p.Spec.Pod != nil && len(labels) > 0 && sameMap(labels, p.Spec.Pod.Labels) {
		return nil
	}
	return labels
}

// equal reports whether two templates say the same as configuration.
func (t *PodTemplate) equal(other *PodTemplate) bool {
	return equal(reflect.ValueOf(t).Elem(), reflect.ValueOf(other).Elem())
}

func sameMap(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}

// equal is reflect.DeepEqual that leaves operational fields out, takes an absent
// list or map for an empty one and compares Sensitive by Same.
func equal(a, b reflect.Value) bool {
	t := a.Type()
	if t == sensitiveType {
		return a.Addr().Interface().(*Sensitive).Same(*b.Addr().Interface().(*Sensitive))
	}
	if t == timeType {
		return a.Interface().(time.Time).Equal(b.Interface().(time.Time))
	}
	switch t.Kind() {
	case reflect.Struct:
		if IsScalar(t) {
			return a.Interface() == b.Interface()
		}
		for _, f := range Fields(t) {
			if !f.Internal && !equal(a.Field(f.Index), b.Field(f.Index)) {
				return false
			}
		}
		return true
	case reflect.Pointer:
		if a.IsNil() || b.IsNil() || a.UnsafePointer() == b.UnsafePointer() {
			return a.UnsafePointer() == b.UnsafePointer()
		}
		return equal(a.Elem(), b.Elem())
	case reflect.Slice:
		if a.Len() != b.Len() {
			return false
		}
		if a.UnsafePointer() == b.UnsafePointer() { // clones share what lies below
			return true
		}
		for i := range a.Len() {
			if !equal(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case reflect.Map:
		return equalMaps(a, b)
	case reflect.String:
		return a.String() == b.String()
	case reflect.Bool:
		return a.Bool() == b.Bool()
	case reflect.Float32, reflect.Float64:
		return a.Float() == b.Float()
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return a.Int() == b.Int()
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

func equalMaps(a, b reflect.Value) bool {
	if a.Len() != b.Len() {
		return false
	}
	if a.UnsafePointer() == b.UnsafePointer() {
		return true
	}
	switch x := a.Interface().(type) {
	case map[string]string:
		return sameMap(x, b.Interface().(map[string]string))
	case map[string]Sensitive:
		y := b.Interface().(map[string]Sensitive)
		for k, v := range x {
			if w, ok := y[k]; !ok || !v.Same(w) {
				return false
			}
		}
		return true
	}
	for it := a.MapRange(); it.Next(); {
		w := b.MapIndex(it.Key())
		if !w.IsValid() || !equal(addressable(it.Value()), addressable(w)) {
			return false
		}
	}
	return true
}

// addressable copies a map's value so that its address can be taken.
func addressable(v reflect.Value) reflect.Value {
	if v.CanAddr() {
		return v
	}
	c := reflect.New(v.Type()).Elem()
	c.Set(v)
	return c
}

var (
	sensitiveType = reflect.TypeFor[Sensitive]()
	timeType      = reflect.TypeFor[time.Time]()
)

// comparer builds the tree; the value has no state, its methods belong together.
type comparer struct{}

// fields compares the fields of two structs; an invalid Value stands for an
// absent struct.
func (c comparer) fields(d *Difference, t reflect.Type, b, a reflect.Value, path, effect string) {
	for _, f := range Fields(t) {
		if f.Internal || f.Label {
			continue
		}
		var fb, fa reflect.Value
		if b.IsValid() {
			fb = b.Field(f.Index)
		}
		if a.IsValid() {
			fa = a.Field(f.Index)
		}
		e := effect
		if e == "" {
			e = f.Effect // an effect holds for everything inside, whatever that says itself
		}
		if f.Remain {
			c.fields(d, deref(f.Type), indirect(fb), indirect(fa), path, e)
			continue
		}
		c.field(d, f, fb, fa, path, e)
	}
}

func (c comparer) field(d *Difference, f Field, b, a reflect.Value, path, effect string) {
	if absent(&f, b) && absent(&f, a) {
		return // as most fields of most objects, so no path is written for them
	}
	p := join(path, f.Name)
	t := deref(f.Type)
	switch {
	case f.Block && t.Kind() == reflect.Slice:
		c.blocks(d, f, b, a, p, effect)
	case f.Block || (t.Kind() == reflect.Struct && !IsScalar(t)):
		c.block(d, &Difference{Name: f.Name, Form: FormBlock, Path: p, Effect: effect}, t, present(b), present(a))
	case IsScalar(t):
		c.value(d, &Difference{Name: f.Name, Form: FormAttribute, Path: p, Effect: effect}, scalar(&f, b), scalar(&f, a))
	case t.Kind() == reflect.Map:
		c.mapping(d, &Difference{Name: f.Name, Form: FormMap, Path: p, Effect: effect}, b, a)
	case t.Kind() == reflect.Slice:
		c.list(d, &Difference{Name: f.Name, Form: FormList, Path: p, Effect: effect}, b, a)
	default:
		c.value(d, &Difference{Name: f.Name, Form: FormAttribute, Path: p, Effect: effect}, b, a)
	}
}

// block adds a nested block, or counts it as unchanged.
func (c comparer) block(d, n *Difference, t reflect.Type, b, a reflect.Value) {
	switch {
	case !b.IsValid() && !a.IsValid():
		return
	case !b.IsValid():
		n.Op = OpCreate
	case !a.IsValid():
		n.Op = OpDelete
	case equal(addressable(b), addressable(a)):
		d.Blocks++
		return
	default:
		n.Op = OpUpdate
	}
	c.fields(n, t, b, a, n.Path, n.Effect)
	d.Parts = append(d.Parts, n)
}

// blocks compares repeated blocks: by label where they have one, else by position.
func (c comparer) blocks(d *Difference, f Field, b, a reflect.Value, path, effect string) {
	t := deref(f.Type).Elem()
	label, labelled := LabelField(t)
	if !labelled {
		for i := range max(length(b), length(a)) {
			p := path + "[" + strconv.Itoa(i) + "]"
			c.block(d, &Difference{Name: f.Name, Form: FormBlock, Path: p, Effect: effect}, deref(t), at(b, i), at(a, i))
		}
		return
	}
	name := func(v reflect.Value) string { return indirect(v).Field(label.Index).String() }
	var keys, was, is []string
	old, cur := map[string]reflect.Value{}, map[string]reflect.Value{}
	for i := range length(b) {
		v := at(b, i)
		old[name(v)] = v
		was = append(was, name(v))
	}
	for i := range length(a) {
		v := at(a, i)
		cur[name(v)] = v
		is = append(is, name(v))
	}
	keys = append(keys, is...)
	for i, k := range was {
		if _, ok := cur[k]; !ok {
			keys = slices.Insert(keys, min(i, len(keys)), k)
		}
	}
	for _, k := range keys {
		c.block(d, &Difference{Name: f.Name, Label: k, Form: FormBlock, Path: path + "[" + strconv.Quote(k) + "]", Effect: effect}, deref(t), old[k], cur[k])
	}
	// The same blocks in another order: init containers run in order, and a
	// template is named by its content, so this matters.
	common := func(list []string, other map[string]reflect.Value) (out []string) {
		for _, k := range list {
			if _, ok := other[k]; ok {
				out = append(out, k)
			}
		}
		return out
	}
	if x, y := common(was, cur), common(is, old); !slices.Equal(x, y) {
		d.Parts = append(d.Parts, &Difference{Name: f.Name, Form: FormOrder, Path: path, Op: OpUpdate, Before: texts(x), After: texts(y), Effect: effect})
	}
}

// value adds one value, or counts it as unchanged.
func (c comparer) value(d, n *Difference, b, a reflect.Value) {
	switch {
	case !b.IsValid() && !a.IsValid():
		return
	case !b.IsValid():
		n.Op = OpCreate
	case !a.IsValid():
		n.Op = OpDelete
	case equal(addressable(b), addressable(a)):
		d.Hidden++
		return
	default:
		n.Op = OpUpdate
	}
	if b.IsValid() && b.Type() == sensitiveType || a.IsValid() && a.Type() == sensitiveType {
		n.Sensitive = true
	} else {
		n.Before, n.After = PlainValue(b), PlainValue(a)
	}
	d.Parts = append(d.Parts, n)
}

func (c comparer) mapping(d, n *Difference, b, a reflect.Value) {
	if !c.container(d, n, b, a) {
		return
	}
	keys := map[string]bool{}
	for _, m := range []reflect.Value{b, a} {
		if m.IsValid() {
			for _, k := range m.MapKeys() {
				keys[k.String()] = true
			}
		}
	}
	get := func(m reflect.Value, k string) reflect.Value {
		if !m.IsValid() || m.Len() == 0 {
			return reflect.Value{}
		}
		return m.MapIndex(reflect.ValueOf(k).Convert(m.Type().Key()))
	}
	for _, k := range sorted(keys) {
		c.value(n, &Difference{Name: k, Form: FormAttribute, Path: n.Path + "[" + strconv.Quote(k) + "]", Effect: n.Effect}, get(b, k), get(a, k))
	}
	d.Parts = append(d.Parts, n)
}

func (c comparer) list(d, n *Difference, b, a reflect.Value) {
	if !c.container(d, n, b, a) {
		return
	}
	for i := range max(length(b), length(a)) {
		c.value(n, &Difference{Name: strconv.Itoa(i), Form: FormAttribute, Path: n.Path + "[" + strconv.Itoa(i) + "]", Effect: n.Effect}, at(b, i), at(a, i))
	}
	d.Parts = append(d.Parts, n)
}

// container settles a map's or list's Op; false when there is nothing to add.
func (c comparer) container(d, n *Difference, b, a reflect.Value) bool {
	switch {
	case length(b) == 0 && length(a) == 0:
		return false
	case length(b) == 0:
		n.Op = OpCreate
	case length(a) == 0:
		n.Op = OpDelete
	case equal(b, a):
		d.Hidden++
		return false
	default:
		n.Op = OpUpdate
	}
	return true
}

// Fields lists the values that differ, in order of declaration.
func (d *Difference) Fields() []FieldDiff {
	if d == nil {
		return nil
	}
	var out []FieldDiff
	d.leaves(func(x *Difference) {
		out = append(out, FieldDiff{Path: x.Path, Op: x.Op, Before: x.Before, After: x.After, Sensitive: x.Sensitive, Effect: x.Effect})
	})
	return out
}

func (d *Difference) leaves(yield func(*Difference)) {
	if len(d.Parts) == 0 && d.Path != "" {
		yield(d)
		return
	}
	for _, p := range d.Parts {
		p.leaves(yield)
	}
}

// Unchanged is the number of attributes, at any depth, that stay as they are
// beside those that differ.
func (d *Difference) Unchanged() int {
	if d == nil {
		return 0
	}
	n := d.Hidden
	for _, p := range d.Parts {
		n += p.Unchanged()
	}
	return n
}

// KeepOperational copies the operational fields (hcl:"-") of the object in force
// into the desired object: what people and controllers set by hand survives an
// apply. What an apply itself settles does not: the desired object has it. Objects
// are of one kind.
func KeepOperational(desired, inForce Object) {
	keep(reflect.ValueOf(desired.SpecPtr()).Elem(), reflect.ValueOf(inForce.SpecPtr()).Elem())
}

func keep(to, from reflect.Value) {
	for _, f := range Fields(to.Type()) {
		t, s := to.Field(f.Index), from.Field(f.Index)
		switch {
		case f.Settled:
		case f.Internal:
			t.Set(s)
		case f.Type.Kind() == reflect.Struct && !IsScalar(f.Type):
			keep(t, s)
		case f.Type.Kind() == reflect.Pointer && f.Type.Elem().Kind() == reflect.Struct && !t.IsNil() && !s.IsNil():
			c := reflect.New(f.Type.Elem()) // what a clone points to is shared
			c.Elem().Set(t.Elem())
			keep(c.Elem(), s.Elem())
			t.Set(c)
		}
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func deref(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

func indirect(v reflect.Value) reflect.Value {
	if v.IsValid() && v.Kind() == reflect.Pointer {
		return v.Elem() // invalid for nil
	}
	return v
}

// present is a single block's struct, invalid where a configuration has no such block.
func present(v reflect.Value) reflect.Value {
	if v.IsValid() && v.Kind() == reflect.Struct && v.IsZero() {
		return reflect.Value{}
	}
	return indirect(v)
}

// absent reports whether a configuration surely says nothing of a field.
func absent(f *Field, v reflect.Value) bool {
	return !v.IsValid() || v.IsZero() && (f.Default == "" || v.Kind() == reflect.Pointer)
}

// scalar is invalid where a configuration leaves the attribute out: a zero that
// is not one by its default.
func scalar(f *Field, v reflect.Value) reflect.Value {
	v = indirect(v)
	if v.IsValid() && f.Default == "" && v.IsZero() && f.Type.Kind() != reflect.Pointer {
		return reflect.Value{}
	}
	return v
}

func length(v reflect.Value) int {
	if !v.IsValid() {
		return 0
	}
	return v.Len()
}

func at(v reflect.Value, i int) reflect.Value {
	if i >= length(v) {
		return reflect.Value{}
	}
	return indirect(v.Index(i))
}

func texts(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

func sorted(m map[string]bool) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// PlainValue is a scalar as JSON carries it.
func PlainValue(v reflect.Value) any {
	if !v.IsValid() {
		return nil
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		b, err := m.MarshalText()
		if err != nil {
			return fmt.Sprint(v.Interface())
		}
		return string(b)
	}
	switch v.Kind() {
	case reflect.String:
		return v.String()
	case reflect.Bool:
		return v.Bool()
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return float64(v.Int()) // as JSON would read it back
	case reflect.Float32, reflect.Float64:
		return v.Float()
	}
	return fmt.Sprint(v.Interface())
}
