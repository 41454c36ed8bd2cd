package object

import (
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
)

// schema is a JSON Schema (draft 2020-12) in the making; maps are written with
// sorted keys, so equal vocabularies give equal bytes.
type schema map[string]any

// Schema is the JSON Schema of configurations in JSON (*.hcl.json), made from
// the tags of the kinds that people declare. Editors complete and check by it.
// Every value may also be a text with a template, for that is how JSON carries
// expressions.
func Schema() []byte {
	top := schema{}
	defs := schema{}
	for _, k := range Kinds() {
		if k.Declared {
			top[string(k.Kind)] = named(ref(string(k.Kind)), k.Doc)
			defs[string(k.Kind)] = kindSchema(k)
		}
	}
	anything := schema{"type": "object"}
	top["berth"] = schema{"type": "object", "description": "Settings of the configuration.", "additionalProperties": false, "properties": schema{
		"required_version": text("Versions of berth that this configuration is written for."),
		"stack":            text("Name of the stack; default the directory's name."),
		"namespace":        text("Namespace of objects that name none; default \"default\"."),
	}}
	top["variable"] = named(schema{"type": "object", "additionalProperties": false, "properties": schema{
		"type": text("Type of the value."), "default": schema{"description": "Value if none is given."}, "description": text("What it is for."),
		"sensitive": boolean("Never show it."), "nullable": boolean("Whether it may be null; default true."), "validation": repeated(anything),
	}}, "A value from outside.")
	top["locals"] = schema{"type": "object", "description": "Values with a name."}
	top["output"] = named(schema{"type": "object", "required": []string{"value"}, "additionalProperties": false, "properties": schema{
		"value": schema{"description": "The value."}, "description": text("What it is."), "sensitive": boolean("Never show it."), "depends_on": list(text(""), ""), "precondition": repeated(anything),
	}}, "A value that the configuration shows.")
	condition := schema{"type": "object", "required": []string{"condition", "error_message"}, "additionalProperties": false, "properties": schema{
		"condition": boolean("What must be so."), "error_message": text("What to say when it is not."),
	}}
	top["check"] = named(schema{"type": "object", "additionalProperties": false, "properties": schema{"assert": repeated(condition)}}, "What should be so; a plan warns when it is not.")
	top["module"] = named(schema{"type": "object", "required": []string{"source"}, "properties": schema{
		"source": text("Its directory, \"./DIR\", or a git source."),
	}}, "Another directory, made with the inputs given here.")
	top["data"] = schema{"type": "object", "description": "Objects of other stacks, by kind and name, as they are when the plan is made.", "additionalProperties": schema{"type": "object", "additionalProperties": repeated(anything)}}
	top["moved"] = described(repeated(schema{"type": "object", "required": []string{"from", "to"}, "additionalProperties": false, "properties": schema{
		"from": text("What it was called."), "to": text("What it is called now."),
	}}), "An object has another name from now on; its pods go on.")
	top["removed"] = described(repeated(schema{"type": "object", "required": []string{"from"}, "additionalProperties": false, "properties": schema{
		"from": text("What is declared no more."), "namespace": text("Its namespace; default that of the berth block."),
		"lifecycle": schema{"type": "object", "additionalProperties": false, "properties": schema{"destroy": boolean("false: it stays, and belongs to no stack.")}},
	}}), "What becomes of an object that is declared no more.")
	top["import"] = described(repeated(schema{"type": "object", "required": []string{"to"}, "additionalProperties": false, "properties": schema{
		"to": text("Address of the object."), "id": text("The object, as kind/namespace/name."),
	}}), "Takes an object that is there, and belongs to no stack, into this one.")
	top["//"] = schema{"description": "A comment."}
	b, err := json.MarshalIndent(schema{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://berth.dev/schema/configuration.json",
		"title": "Berth configuration", "type": "object", "additionalProperties": false, "properties": top, "$defs": defs,
	}, "", "  ")
	if err != nil {
		panic("object: the schema cannot be written: " + err.Error()) // maps of texts can
	}
	return append(b, '\n')
}

func ref(name string) schema { return schema{"$ref": "#/$defs/" + name} }

func text(doc string) schema { return described(schema{"type": "string"}, doc) }

// orTemplate allows an expression in the place of a value that is no text.
func orTemplate(s schema) schema {
	return schema{"anyOf": []schema{s, {"type": "string", "pattern": "[$%]\\{"}}}
}

func boolean(doc string) schema { return described(orTemplate(schema{"type": "boolean"}), doc) }

func list(of schema, doc string) schema {
	return described(orTemplate(schema{"type": "array", "items": of}), doc)
}

func described(s schema, doc string) schema {
	if doc != "" {
		s["description"] = doc
	}
	return s
}

// repeated is a block or a list of such blocks.
func repeated(s schema) schema {
	return schema{"anyOf": []schema{s, {"type": "array", "items": s}}}
}

// named is a block with a name: an object from names to blocks.
func named(s schema, doc string) schema {
	return described(repeated(schema{"type": "object", "additionalProperties": repeated(s)}), doc)
}

// kindSchema is the schema of a kind's block.
func kindSchema(k KindInfo) schema {
	s := structSchema(k.SpecType())
	props := s["properties"].(schema)
	for _, f := range MetaFields() {
		if _, own := props[f.Name]; own || (f.Name == "namespace" && !k.Namespaced) {
			continue
		}
		props[f.Name] = f.schema()
	}
	return described(s, k.Doc)
}

func structSchema(t reflect.Type) schema {
	props := schema{"//": schema{"description": "A comment."}, "dynamic": schema{"type": "object", "description": "Blocks repeated for the elements of a collection."}}
	var required []string
	add(t, props, &required)
	s := schema{"type": "object", "properties": props, "additionalProperties": false}
	if len(required) > 0 {
		slices.Sort(required)
		s["required"] = required
	}
	return s
}

func add(t reflect.Type, props schema, required *[]string) {
	for _, f := range Fields(t) {
		switch {
		case f.Internal || f.Label:
			continue
		case f.Remain:
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			add(inner, props, required)
			continue
		case f.Block:
			elem := blockType(f.Type)
			if _, label := LabelField(elem); label {
				props[f.Name] = named(structSchema(elem), f.Doc)
			} else {
				props[f.Name] = described(repeated(structSchema(elem)), f.Doc)
			}
		default:
			props[f.Name] = described(valueSchema(f), f.Doc)
		}
		if f.Required && !f.Block { // a required block may come from a dynamic one
			*required = append(*required, f.Name)
		}
	}
}

// blockType is the struct behind a block field.
func blockType(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

func valueSchema(f Field) schema {
	s := typeSchema(f.Type)
	if f.Enum != nil {
		s = orTemplate(schema{"enum": f.Enum})
	}
	if f.Default != "" {
		v := reflect.New(f.Type).Elem()
		setText(v, f.Default)
		s["default"] = v.Interface()
	}
	return s
}

func typeSchema(t reflect.Type) schema {
	ptr := reflect.PointerTo(t)
	_, number := reflect.Zero(ptr).Interface().(NumberSetter)
	_, unit := reflect.Zero(ptr).Interface().(encoding.TextUnmarshaler)
	switch {
	case number:
		return schema{"type": []string{"string", "number"}}
	case unit || t == reflect.TypeFor[Sensitive]():
		return schema{"type": "string"}
	}
	switch t.Kind() {
	case reflect.String:
		return schema{"type": []string{"string", "number", "boolean"}}
	case reflect.Int, reflect.Int64:
		return orTemplate(schema{"type": "integer"})
	case reflect.Bool:
		return orTemplate(schema{"type": "boolean"})
	case reflect.Map:
		return orTemplate(schema{"type": "object", "additionalProperties": typeSchema(t.Elem())})
	case reflect.Slice:
		return orTemplate(schema{"type": "array", "items": typeSchema(t.Elem())})
	}
	return schema{}
}

// MetaField is an attribute or block that every object block takes.
type MetaField struct {
	Name, Type, Doc string
	Block           bool
}

// MetaFields lists what every object block takes beside its kind's own fields.
func MetaFields() []MetaField {
	return []MetaField{
		{Name: "count", Type: "number", Doc: "Make this many; count.index is the number, NAME-0 the first name."},
		{Name: "for_each", Type: "map or set of texts", Doc: "Make one for each element; each.key and each.value are the element, NAME-KEY is the name."},
		{Name: "enabled", Type: "bool", Doc: "false: make none."},
		{Name: "depends_on", Type: "list of objects", Doc: "Objects that must be healthy before this one changes. References say it already."},
		{Name: "namespace", Type: "text", Doc: "Namespace of the object; default that of the berth block."},
		{Name: "labels", Type: "map of texts", Doc: "Labels to find the object by."},
		{Name: "annotations", Type: "map of texts", Doc: "Notes for people and tools; Berth does not read them."},
		{Name: "lifecycle", Block: true, Type: "block", Doc: "prevent_destroy = true refuses plans that destroy the object; ignore_changes lists attributes whose changes are left alone; precondition and postcondition blocks say what must be so."},
	}
}

func (f MetaField) schema() schema {
	switch f.Name {
	case "count":
		return described(orTemplate(schema{"type": "integer", "minimum": 0}), f.Doc)
	case "enabled":
		return boolean(f.Doc)
	case "depends_on":
		return list(text(""), f.Doc)
	case "namespace":
		return text(f.Doc)
	case "for_each":
		return described(schema{"type": []string{"object", "array", "string"}}, f.Doc)
	case "lifecycle":
		return described(schema{"type": "object", "additionalProperties": false, "properties": schema{
			"precondition": repeated(schema{"type": "object"}), "postcondition": repeated(schema{"type": "object"}),
			"prevent_destroy": boolean(""), "ignore_changes": schema{"anyOf": []schema{{"const": "all"}, {"type": "array", "items": schema{"type": "string"}}}},
		}}, f.Doc)
	}
	return described(orTemplate(schema{"type": "object", "additionalProperties": schema{"type": "string"}}), f.Doc)
}
