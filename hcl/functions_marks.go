package hcl

import (
	"strings"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// The functions that look at what a value is, rather than at the value.

// any marked value, of any type.
var anything = function.Parameter{Name: "value", Type: cty.DynamicPseudoType, AllowNull: true, AllowUnknown: true, AllowDynamicType: true, AllowMarked: true}

func sameType(args []cty.Value) (cty.Type, error) { return args[0].Type(), nil }

var sensitiveFunc = function.New(&function.Spec{
	Params: []function.Parameter{anything}, Type: sameType,
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return args[0].Mark(sensitiveMark{}), nil },
})

var nonSensitiveFunc = function.New(&function.Spec{
	Params: []function.Parameter{anything}, Type: sameType,
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		v, marks := args[0].Unmark()
		delete(marks, sensitiveMark{})
		return v.WithMarks(marks), nil
	},
})

// isSensitiveFunc looks at the value itself, as Terraform's does: an object with
// a sensitive attribute is not sensitive, the attribute is.
var isSensitiveFunc = function.New(&function.Spec{
	Params: []function.Parameter{anything}, Type: function.StaticReturnType(cty.Bool),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		_, marks := args[0].Unmark()
		return cty.BoolVal(isSensitive(marks) || len(secretsIn(marks)) > 0), nil
	},
})

var typeFunc = function.New(&function.Spec{
	Params: []function.Parameter{anything}, Type: function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		return cty.StringVal(typeOf(args[0], "")), nil
	},
})

// typeOf writes the type of a value as Terraform's console does. The attributes of
// a sensitive object are not named, for its keys can be what is sensitive.
func typeOf(v cty.Value, indent string) string {
	v, marks := v.Unmark()
	t := v.Type()
	parts := v.IsKnown() && !v.IsNull()
	if t.IsCollectionType() { // whose elements have one type
		if _, inner := v.UnmarkDeep(); isSensitive(inner) {
			marks = inner
		}
	}
	deeper := indent + "    "
	switch {
	case isSensitive(marks):
		return typeText(t, indent, true)
	case t.IsObjectType() && parts:
		attrs := v.AsValueMap()
		lines := make([]string, 0, len(attrs))
		for _, name := range keys(attrs) {
			lines = append(lines, name+": "+typeOf(attrs[name], deeper))
		}
		return "object({" + indented(lines, indent) + "})"
	case t.IsTupleType() && parts:
		var lines []string
		for _, e := range v.AsValueSlice() {
			lines = append(lines, typeOf(e, deeper))
		}
		return "tuple([" + indented(lines, indent) + "])"
	}
	return typeText(t, indent, false)
}

// typeText writes a type of which there is no value.
func typeText(t cty.Type, indent string, hidden bool) string {
	deeper := indent + "    "
	switch {
	case t.IsObjectType() && hidden:
		return "object"
	case t.IsObjectType():
		attrs := t.AttributeTypes()
		lines := make([]string, 0, len(attrs))
		for _, name := range keys(attrs) {
			lines = append(lines, name+": "+typeText(attrs[name], deeper, hidden))
		}
		return "object({" + indented(lines, indent) + "})"
	case t.IsTupleType():
		var lines []string
		for _, e := range t.TupleElementTypes() {
			lines = append(lines, typeText(e, deeper, hidden))
		}
		return "tuple([" + indented(lines, indent) + "])"
	case t.IsListType():
		return "list(" + typeText(t.ElementType(), indent, hidden) + ")"
	case t.IsSetType():
		return "set(" + typeText(t.ElementType(), indent, hidden) + ")"
	case t.IsMapType():
		return "map(" + typeText(t.ElementType(), indent, hidden) + ")"
	}
	return t.FriendlyName()
}

// indented puts the parts of a type into lines of their own.
func indented(lines []string, indent string) string {
	if len(lines) == 0 {
		return ""
	}
	margin := "\n" + indent + "    "
	return margin + strings.Join(lines, ","+margin) + ",\n" + indent
}
