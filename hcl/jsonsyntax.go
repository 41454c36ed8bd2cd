package hcl

import (
	"cmp"
	"reflect"
	"slices"

	"github.com/hashicorp/hcl/v2"
	hcljson "github.com/hashicorp/hcl/v2/json"

	"github.com/berthdev/berth/cluster/object"
)

// JSON does not tell blocks from attributes: a shape does.
type shape struct {
	labels int
	blocks map[string]func(labels []string) shape
}

func fixed(s shape) func([]string) shape { return func([]string) shape { return s } }

// fileShape is the shape of a whole file.
func fileShape() shape {
	top := shape{blocks: map[string]func([]string) shape{
		"berth":    fixed(shape{}),
		"locals":   fixed(shape{}),
		"module":   fixed(shape{labels: 1}),
		"output":   fixed(shape{labels: 1, blocks: map[string]func([]string) shape{"precondition": fixed(shape{})}}),
		"check":    fixed(shape{labels: 1, blocks: map[string]func([]string) shape{"assert": fixed(shape{})}}),
		"data":     fixed(shape{labels: 2, blocks: map[string]func([]string) shape{"lifecycle": fixed(shape{blocks: map[string]func([]string) shape{"precondition": fixed(shape{}), "postcondition": fixed(shape{})}})}}),
		"moved":    fixed(shape{}),
		"import":   fixed(shape{}),
		"removed":  fixed(shape{blocks: map[string]func([]string) shape{"lifecycle": fixed(shape{})}}),
		"variable": fixed(shape{labels: 1, blocks: map[string]func([]string) shape{"validation": fixed(shape{})}}),
	}}
	for _, k := range object.Kinds() {
		if k.Declared {
			top.blocks[string(k.Kind)] = func([]string) shape {
				s := structShape(k.SpecType())
				s.labels = 1
				s.blocks["lifecycle"] = fixed(shape{blocks: map[string]func([]string) shape{"precondition": fixed(shape{}), "postcondition": fixed(shape{})}})
				return s
			}
		}
	}
	return top
}

func structShape(t reflect.Type) shape {
	s := shape{blocks: map[string]func([]string) shape{}}
	if _, ok := object.LabelField(t); ok {
		s.labels = 1
	}
	p := planOf(t)
	for _, f := range p.fields {
		if f.block {
			s.blocks[f.name] = func([]string) shape { return structShape(f.elem) }
		}
	}
	s.blocks["dynamic"] = func(labels []string) shape {
		d := shape{labels: 1, blocks: map[string]func([]string) shape{}}
		if len(labels) == 1 {
			if f := p.byName[labels[0]]; f != nil && f.block {
				d.blocks["content"] = func([]string) shape {
					c := structShape(f.elem)
					c.labels = 0 // the label is an attribute of the dynamic block
					return c
				}
			}
		}
		return d
	}
	return s
}

func parseJSON(s *source) (body, hcl.Diagnostics) {
	f, diags := hcljson.Parse(s.src, s.name)
	if f == nil || diags.HasErrors() {
		return body{src: s}, diags
	}
	b, more := fromJSON(s, f.Body, fileShape())
	return b, append(diags, more...)
}

func fromJSON(s *source, j hcl.Body, sh shape) (body, hcl.Diagnostics) {
	b := body{src: s, at: spanOf(j.MissingItemRange())}
	schema := &hcl.BodySchema{}
	for name, sub := range sh.blocks {
		h := hcl.BlockHeaderSchema{Type: name}
		for range sub(nil).labels {
			h.LabelNames = append(h.LabelNames, "name")
		}
		schema.Blocks = append(schema.Blocks, h)
	}
	content, rest, diags := j.PartialContent(schema)
	attrs, more := rest.JustAttributes()
	diags = append(diags, more...)
	for _, a := range attrs {
		if a.Name == "//" { // a comment, by convention
			continue
		}
		b.attrs = append(b.attrs, attribute{name: a.Name, nameAt: spanOf(a.NameRange), exprAt: spanOf(a.Expr.Range()), expr: a.Expr})
	}
	slices.SortFunc(b.attrs, func(x, y attribute) int { return cmp.Compare(x.nameAt.start, y.nameAt.start) })
	if content == nil {
		return b, diags
	}
	for _, k := range content.Blocks {
		nb := block{kind: k.Type, head: spanOf(k.DefRange), labels: k.Labels}
		for _, r := range k.LabelRanges {
			nb.labelsAt = append(nb.labelsAt, spanOf(r))
		}
		var d hcl.Diagnostics
		nb.body, d = fromJSON(s, k.Body, sh.blocks[k.Type](k.Labels))
		diags = append(diags, d...)
		b.blocks = append(b.blocks, nb)
	}
	slices.SortStableFunc(b.blocks, func(x, y block) int { return cmp.Compare(x.head.start, y.head.start) })
	return b, diags
}
