package lsp

import (
	"reflect"
	"slices"
	"strings"

	"github.com/berthdev/berth/cluster/object"
)

// element is what may stand in a body: an attribute or a block.
type element struct {
	name, doc, typ, def, effect string
	enum                        []string
	required, boolean, block    bool
	labels                      []string // what a block is called by
	inner                       func() grammar
}

// grammar is what may stand in one body.
type grammar []element

func (g grammar) find(name string) *element {
	for i := range g {
		if g[i].name == name {
			return &g[i]
		}
	}
	return nil
}

// body makes the grammar of a body that says nothing more about itself.
func body(elements ...element) func() grammar { return func() grammar { return elements } }

func attributeOf(name, typ, doc string) element {
	return element{name: name, typ: typ, doc: doc, boolean: typ == "bool"}
}

func blockOf(name, doc string, inner func() grammar, labels ...string) element {
	return element{name: name, typ: "block", doc: doc, block: true, labels: labels, inner: inner}
}

func needed(e element) element { e.required = true; return e }

var conditionBody = body(
	needed(attributeOf("condition", "bool", "What must be so.")),
	needed(attributeOf("error_message", "text", "What to say when it is not so.")),
)

// settings are the blocks that are no kinds. What they take is in package hcl, too,
// as what it reads; TestGrammarIsTheLoaders holds the two together.
func settings() grammar {
	repeated := []element{
		attributeOf("count", "number", "Make this many; count.index is the number."),
		attributeOf("for_each", "map or set of texts", "Make one for each element; each.key and each.value are the element."),
		attributeOf("enabled", "bool", "false: make none."),
		attributeOf("depends_on", "list of objects", "What must be healthy before."),
	}
	pre, post := blockOf("precondition", "What must be so before.", conditionBody), blockOf("postcondition", "What must be so of self, the object as it is wanted.", conditionBody)
	return grammar{
		blockOf("berth", "Settings of the configuration.", body(
			attributeOf("required_version", "text", "Versions of berth that this configuration is written for."),
			attributeOf("stack", "text", "Name of the stack; default the directory's name."),
			attributeOf("namespace", "text", "Namespace of objects that name none; default \"default\"."),
		)),
		blockOf("variable", "A value from outside: var.NAME.", body(
			attributeOf("type", "type", "Type of the value."),
			attributeOf("default", "value", "Value if none is given."),
			attributeOf("description", "text", "What it is for."),
			attributeOf("sensitive", "bool", "Never show it."),
			attributeOf("nullable", "bool", "Whether it may be null; default true."),
			blockOf("validation", "What must be so of the value.", conditionBody),
		), "NAME"),
		blockOf("locals", "Values with a name: local.NAME.", body()),
		blockOf("output", "A value that the configuration shows, or that a module answers.", body(
			needed(attributeOf("value", "value", "The value.")),
			attributeOf("description", "text", "What it is."),
			attributeOf("sensitive", "bool", "Never show it."),
			attributeOf("depends_on", "list of objects", "What must be healthy before."),
			pre,
		), "NAME"),
		blockOf("module", "Another directory, made with the inputs given here; its outputs are module.NAME.OUTPUT.", body(append([]element{
			needed(attributeOf("source", "text", "Its directory, \"./DIR\", or a git source.")),
		}, repeated...)...), "NAME"),
		blockOf("data", "Objects of other stacks, as they are when the plan is made: data.KIND.NAME.", body(append(slices.Clone(repeated),
			attributeOf("name", "text", "Name of the object; default that of the block."),
			attributeOf("namespace", "text", "Namespace of the object; default that of the berth block."),
			blockOf("lifecycle", "Conditions on what is read.", body(pre, post)),
		)...), "KIND", "NAME"),
		blockOf("check", "What should be so; a plan warns when it is not.", body(blockOf("assert", "One condition.", conditionBody)), "NAME"),
		blockOf("moved", "An object has another name from now on; its pods go on.", body(
			needed(attributeOf("from", "reference", "What it was called.")),
			needed(attributeOf("to", "reference", "What it is called now.")),
		)),
		blockOf("removed", "What becomes of an object that is declared no more.", body(
			needed(attributeOf("from", "reference", "What is declared no more.")),
			attributeOf("namespace", "text", "Its namespace; default that of the berth block."),
			blockOf("lifecycle", "What becomes of it.", body(attributeOf("destroy", "bool", "false: it stays, and belongs to no stack."))),
		)),
		blockOf("import", "Takes an object that is there, and belongs to no stack, into this one.", body(
			needed(attributeOf("to", "reference", "Address of the object.")),
			attributeOf("id", "text", "The object, as kind/namespace/name."),
		)),
	}
}

// top is what may stand at the top of a file.
func top() grammar {
	g := settings()
	for _, k := range object.Kinds() {
		if k.Declared {
			g = append(g, blockOf(string(k.Kind), k.Doc, func() grammar { return kindBody(k) }, "NAME"))
		}
	}
	return g
}

// kindBody is a kind's own fields and what every object takes.
func kindBody(k object.KindInfo) grammar {
	g := structBody(k.SpecType())
	for _, m := range object.MetaFields() {
		switch {
		case g.find(m.Name) != nil, m.Name == "namespace" && !k.Namespaced:
		case m.Block:
			g = append(g, blockOf(m.Name, m.Doc, body(
				attributeOf("prevent_destroy", "bool", "true: a plan that destroys the object is refused."),
				attributeOf("ignore_changes", "list of attributes", "Attributes whose changes are left alone."),
				blockOf("precondition", "What must be so before the object changes.", conditionBody),
				blockOf("postcondition", "What must be so of self, the object as it is wanted.", conditionBody),
			)))
		default:
			g = append(g, attributeOf(m.Name, m.Type, m.Doc))
		}
	}
	return g
}

// structBody walks the tags of a struct; those that stand in its place included.
func structBody(t reflect.Type) grammar {
	var g grammar
	for _, f := range object.Fields(t) {
		switch {
		case f.Internal || f.Label:
		case f.Remain:
			g = append(g, structBody(structOf(f.Type))...)
		default:
			e := element{name: f.Name, doc: f.Doc, typ: object.TypeText(f), def: f.Default, effect: f.Effect, required: f.Required, block: f.Block, boolean: f.Type.Kind() == reflect.Bool}
			e.enum = slices.DeleteFunc(slices.Clone(f.Enum), func(s string) bool { return s == "" })
			if inner := structOf(f.Type); f.Block {
				if _, named := object.LabelField(inner); named {
					e.labels = []string{"NAME"}
				}
				e.inner = func() grammar { return structBody(inner) }
			}
			g = append(g, e)
		}
	}
	return g
}

// structOf is the struct behind pointers and lists.
func structOf(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	return t
}

// grammarOf is what may stand in a block.
func grammarOf(n *node) grammar {
	switch {
	case n.parent == nil:
		return top()
	case n.kind == "dynamic":
		g := grammar{
			needed(attributeOf("for_each", "collection", "Make the block for each element.")),
			attributeOf("iterator", "name", "What the element is called in content; default the block's kind."),
		}
		if e := grammarOf(n.parent).find(n.label(0)); e != nil && e.block {
			if len(e.labels) > 0 {
				g = append(g, attributeOf("labels", "list of texts", "The names of the blocks."))
			}
			g = append(g, blockOf("content", "What stands in each block.", e.inner))
		}
		return g
	}
	e := grammarOf(n.parent).find(n.kind)
	if e == nil || e.inner == nil {
		return nil
	}
	g := e.inner()
	if repeatable(n) && slices.ContainsFunc(g, func(e element) bool { return e.block }) {
		g = append(slices.Clone(g), dynamicOf(g))
	}
	return g
}

// repeatable reports whether dynamic blocks may stand in a block: in objects.
func repeatable(n *node) bool {
	for n.parent.parent != nil {
		if n.kind == "lifecycle" {
			return false
		}
		n = n.parent
	}
	return kindOf(n) != nil
}

func dynamicOf(g grammar) element {
	return blockOf("dynamic", "A block, repeated for the elements of a collection.", body(g...), "BLOCK")
}

// kindOf is the kind that a block declares or reads; nil if it is none.
func kindOf(n *node) *object.KindInfo {
	kind := n.kind
	if kind == "data" {
		kind = n.label(0)
	}
	if k, ok := object.Info(object.Kind(kind)); ok && k.Declared {
		return &k
	}
	return nil
}

// describe is an element as hover and completion show it.
func (e *element) describe() string {
	var b strings.Builder
	b.WriteString("**" + e.name + "**")
	if e.block {
		for _, l := range e.labels {
			b.WriteString(" \"" + l + "\"")
		}
		b.WriteString(" { … }")
	} else if e.typ != "" {
		b.WriteString(": " + e.typ)
	}
	if e.required {
		b.WriteString(", required")
	}
	if e.doc != "" {
		b.WriteString("\n\n" + e.doc)
	}
	if len(e.enum) > 0 {
		b.WriteString("\n\nOne of `" + strings.Join(e.enum, "`, `") + "`.")
	}
	if e.def != "" {
		b.WriteString("\n\nDefault: `" + e.def + "`.")
	}
	if e.effect != "" {
		b.WriteString("\n\nA change: " + strings.ReplaceAll(e.effect, "_", " ") + ".")
	}
	return b.String()
}

// signature writes a function as it is called.
func signature(name string) (text, doc string, ok bool) {
	f, ok := functions()[name]
	if !ok {
		return "", "", false
	}
	var args []string
	for _, p := range f.Params() {
		args = append(args, p.Name)
	}
	if p := f.VarParam(); p != nil {
		args = append(args, p.Name+"…")
	}
	return name + "(" + strings.Join(args, ", ") + ")", f.Description(), true
}
