package hcl

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/zclconf/go-cty/cty"
)

func answer(v cty.Value) Answer {
	_, marks := v.UnmarkDeep()
	return Answer{Text: valueText(v, 0), Value: plainValue(v), Type: typeOf(v, ""), Sensitive: isSensitive(marks)}
}

// valueText writes a value as Terraform's console does: as an expression that has it.
func valueText(v cty.Value, indent int) string {
	v, marks := v.Unmark()
	t := v.Type()
	switch {
	case isSensitive(marks):
		return "(sensitive value)"
	case !v.IsKnown():
		return "(not known)"
	case v.IsNull():
		return nullText(t)
	case t == cty.String:
		return quoted(v.AsString(), indent)
	case t == cty.Number:
		return v.AsBigFloat().Text('f', -1)
	case t == cty.Bool:
		return strconv.FormatBool(v.True())
	case t.IsTupleType():
		return sequence(v, indent)
	case t.IsListType():
		return "tolist(" + sequence(v, indent) + ")"
	case t.IsSetType():
		return "toset(" + sequence(v, indent) + ")"
	case t.IsObjectType():
		return mapping(v, indent)
	case t.IsMapType():
		return "tomap(" + mapping(v, indent) + ")"
	}
	return "(" + t.FriendlyName() + ")" // a capsule; no function makes one
}

func nullText(t cty.Type) string {
	switch {
	case t == cty.DynamicPseudoType:
		return "null"
	case t.IsPrimitiveType():
		return "to" + t.FriendlyName() + "(null)"
	case t.IsListType():
		return "tolist(null) /* of " + t.ElementType().FriendlyName() + " */"
	case t.IsSetType():
		return "toset(null) /* of " + t.ElementType().FriendlyName() + " */"
	case t.IsMapType():
		return "tomap(null) /* of " + t.ElementType().FriendlyName() + " */"
	}
	return "null /* " + t.FriendlyName() + " */"
}

// quoted writes a text: several lines as a heredoc.
func quoted(s string, indent int) string {
	lines := strings.Split(s, "\n")
	if len(lines) == 1 {
		return strconv.Quote(s)
	}
	operator, end := "<<", "EOT"
	if indent > 0 {
		operator = "<<-"
	}
	for slices.ContainsFunc(lines, func(l string) bool { return strings.TrimSpace(l) == end }) {
		end += "_"
	}
	margin := "\n" + strings.Repeat(" ", indent)
	return operator + end + margin + strings.Join(lines, margin) + margin + end
}

func sequence(v cty.Value, indent int) string {
	var b strings.Builder
	margin := "\n" + strings.Repeat(" ", indent)
	b.WriteByte('[')
	for it := v.ElementIterator(); it.Next(); {
		_, e := it.Element()
		b.WriteString(margin + "  " + valueText(e, indent+2) + ",")
	}
	if v.LengthInt() > 0 {
		b.WriteString(margin)
	}
	b.WriteByte(']')
	return b.String()
}

func mapping(v cty.Value, indent int) string {
	var b strings.Builder
	margin := "\n" + strings.Repeat(" ", indent)
	b.WriteByte('{')
	for it := v.ElementIterator(); it.Next(); {
		k, e := it.Element()
		b.WriteString(margin + "  " + valueText(k, indent+2) + " = " + valueText(e, indent+2))
	}
	if v.LengthInt() > 0 {
		b.WriteString(margin)
	}
	b.WriteByte('}')
	return b.String()
}

// plainValue is a value for encoding/json.
func plainValue(v cty.Value) any {
	v, marks := v.Unmark()
	t := v.Type()
	switch {
	case isSensitive(marks), !v.IsKnown(), v.IsNull():
		return nil
	case t == cty.String:
		return v.AsString()
	case t == cty.Number:
		return json.Number(v.AsBigFloat().Text('f', -1))
	case t == cty.Bool:
		return v.True()
	case t.IsObjectType(), t.IsMapType():
		out := make(map[string]any, v.LengthInt())
		for it := v.ElementIterator(); it.Next(); {
			k, e := it.Element()
			out[k.AsString()] = plainValue(e)
		}
		return out
	case v.CanIterateElements():
		out := make([]any, 0, v.LengthInt())
		for it := v.ElementIterator(); it.Next(); {
			_, e := it.Element()
			out = append(out, plainValue(e))
		}
		return out
	}
	return nil
}
