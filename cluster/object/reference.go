package object

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Reference is the part of docs/language.md that lists the kinds and their
// fields, in Markdown, made from the tags. TestReferenceIsCurrent keeps the
// file equal to it.
func Reference() string {
	w := &strings.Builder{}
	w.WriteString("## Every object block\n\n")
	table(w, func(row func(cells ...string)) {
		row("attribute", "type", "meaning")
		for _, f := range MetaFields() {
			row("`"+f.Name+"`", f.Type, f.Doc)
		}
	})
	w.WriteString("\n## Kinds\n")
	for _, k := range Kinds() {
		if !k.Declared {
			continue
		}
		fmt.Fprintf(w, "\n### %s\n\n%s\n", k.Kind, k.Doc)
		if !k.Namespaced {
			w.WriteString("It belongs to no namespace.\n")
		}
		section(w, k.SpecType())
	}
	w.WriteString("\n## Blocks\n\nBlocks that stand in more than one place, or inside others.\n")
	usages, seen := map[reflect.Type][]string{}, map[reflect.Type]bool{}
	for _, k := range Kinds() {
		if k.Declared {
			collectUsages(k.SpecType(), usages, map[reflect.Type]bool{})
		}
	}
	for _, k := range Kinds() {
		if k.Declared {
			nested(w, k.SpecType(), usages, seen)
		}
	}
	return w.String()
}

// collectUsages lists every way in which a struct is written as a block: a
// container is "init" or "container".
func collectUsages(t reflect.Type, usages map[reflect.Type][]string, seen map[reflect.Type]bool) {
	if seen[t] {
		return
	}
	seen[t] = true
	for _, f := range flat(t) {
		if f.Block {
			elem := blockType(f.Type)
			if u := "`" + usage(f) + "`"; !slices.Contains(usages[elem], u) {
				usages[elem] = append(usages[elem], u)
			}
			collectUsages(elem, usages, seen)
		}
	}
}

// nested writes a section for each struct below a type, once.
func nested(w *strings.Builder, t reflect.Type, usages map[reflect.Type][]string, seen map[reflect.Type]bool) {
	for _, f := range flat(t) {
		if !f.Block {
			continue
		}
		elem := blockType(f.Type)
		if !seen[elem] {
			seen[elem] = true
			fmt.Fprintf(w, "\n### %s\n\n%s\n", heading(elem), strings.Join(usages[elem], ", "))
			section(w, elem)
			nested(w, elem, usages, seen)
		}
	}
}

// heading names a struct's section: HTTPProbe is "http_probe".
func heading(t reflect.Type) string {
	var out []rune
	name := []rune(t.Name())
	for i, c := range name {
		upper := c >= 'A' && c <= 'Z'
		if upper && i > 0 && (name[i-1] >= 'a' || (i+1 < len(name) && name[i+1] >= 'a')) {
			out = append(out, '_')
		}
		out = append(out, c)
	}
	return strings.ToLower(string(out))
}

func usage(f Field) string {
	if _, named := LabelField(blockType(f.Type)); named {
		return f.Name + " \"NAME\" { … }"
	}
	return f.Name + " { … }"
}

// flat lists the fields of a struct with those of remain structs in their place.
func flat(t reflect.Type) []Field {
	var out []Field
	for _, f := range Fields(t) {
		switch {
		case f.Internal:
		case f.Remain:
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			out = append(out, flat(inner)...)
		default:
			out = append(out, f)
		}
	}
	return out
}

func section(w *strings.Builder, t reflect.Type) {
	fields := flat(t)
	if len(fields) == 0 {
		return
	}
	w.WriteByte('\n')
	table(w, func(row func(cells ...string)) {
		row("field", "type", "default", "a change", "meaning")
		for _, f := range fields {
			def := ""
			switch {
			case f.Required || f.Label:
				def = "required"
			case f.Default != "":
				def = "`" + f.Default + "`"
			}
			field := "`" + f.Name + "`"
			if f.Label {
				field = "the name, `\"NAME\"`"
			}
			row(field, typeText(f), def, strings.ReplaceAll(f.Effect, "_", " "), f.Doc+enumText(f))
		}
	})
}

func enumText(f Field) string {
	var words []string
	explained := true // by the text itself, each of them
	for _, e := range f.Enum {
		if e != "" {
			words = append(words, "`"+e+"`")
			explained = explained && strings.Contains(f.Doc, e+":")
		}
	}
	if len(words) == 0 || explained {
		return ""
	}
	return " One of " + strings.Join(words, ", ") + "."
}

func typeText(f Field) string {
	if f.Block {
		link := "[block](#" + heading(blockType(f.Type)) + ")"
		if f.Type.Kind() == reflect.Slice {
			return link + ", repeatable"
		}
		return link
	}
	return scalarText(f.Type)
}

// TypeText names the type of an attribute as the reference does, without the
// marks of Markdown: what editors show.
func TypeText(f Field) string {
	if f.Block {
		return "block"
	}
	return strings.ReplaceAll(scalarText(f.Type), "`", "")
}

func scalarText(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[CPU]():
		return "cpu: `\"250m\"`, `1.5`"
	case reflect.TypeFor[Bytes]():
		return "bytes: `\"64Mi\"`"
	case reflect.TypeFor[Duration]():
		return "duration: `\"5s\"`"
	case reflect.TypeFor[Amount]():
		return "amount: `2`, `\"25%\"`"
	case reflect.TypeFor[PortRef]():
		return "port: `\"http\"`, `80`"
	case reflect.TypeFor[Sensitive]():
		return "sensitive text"
	case reflect.TypeFor[Condition]():
		return "condition: `\"< 1%\"`, `\"== ok\"`"
	case reflect.TypeFor[Text]():
		return "text, may refer to secrets"
	}
	if t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
		return "text"
	}
	switch t.Kind() {
	case reflect.Int, reflect.Int64:
		return "number"
	case reflect.Bool:
		return "bool"
	case reflect.Map:
		return "map of " + scalarText(t.Elem())
	case reflect.Slice:
		return "list of " + scalarText(t.Elem())
	}
	return "text"
}

// table writes a Markdown table; the first row is its head.
func table(w *strings.Builder, rows func(row func(cells ...string))) {
	first := true
	rows(func(cells ...string) {
		for i, c := range cells {
			cells[i] = strings.ReplaceAll(c, "|", "\\|")
		}
		fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
		if first {
			fmt.Fprintf(w, "|%s\n", strings.Repeat("---|", len(cells)))
			first = false
		}
	})
}
