package hcl

import (
	"encoding/json"
	"strings"

	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/berthdev/berth/cluster/object"
)

// output is one output block.
type output struct {
	node
	blk         *block
	description string
	sensitive   bool
}

func (r *run) readOutput(k *block) {
	if !r.named(k, "output") {
		return
	}
	name := k.labels[0]
	if before := r.outputs[name]; before != nil {
		r.duplicate(k, before.blk, "output \""+name+"\"")
		return
	}
	src := k.body.src
	o := &output{blk: k, node: node{address: r.prefix + "output." + name, src: src, at: k.head, body: &k.body}}
	r.outputs[name] = o
	known := []string{"value", "description", "sensitive", "depends_on"}
	for i := range k.body.attrs {
		a := &k.body.attrs[i]
		switch a.name {
		case "description":
			o.description = constant(r, src, a, cty.String, cty.Value.AsString)
		case "sensitive":
			o.sensitive = constant(r, src, a, cty.Bool, cty.Value.True)
		case "value", "depends_on":
		default:
			r.wrong(src, a.nameAt, "Unknown attribute", "An output has no attribute %q.%s", a.name, hint(a.name, known, "There are: "+strings.Join(known, ", ")+"."))
		}
	}
	for i := range k.body.blocks {
		b := &k.body.blocks[i]
		if b.kind == "precondition" {
			r.readCondition(b, &condition{title: "Output value precondition failed"}, o.address)
		} else {
			r.wrong(src, b.head, "Unknown block", "An output has no block %q.", b.kind)
		}
	}
	if k.body.attr("value") == nil {
		r.wrong(src, k.head, "Missing attribute", "The attribute \"value\" is needed here.")
	}
	o.eval = func(n *node) { r.evaluateOutput(o) }
}

func (r *run) evaluateOutput(o *output) {
	a := o.blk.body.attr("value")
	if a == nil || o.failed {
		o.failed = true
		return
	}
	v, diags := a.value(r.context(&o.scope))
	o.diags = append(o.diags, diags...)
	if diags.HasErrors() {
		o.failed = true
		return
	}
	if r.parent != nil { // marks travel on to where the value is used
		if o.value = v; o.sensitive {
			o.value = v.Mark(sensitiveMark{})
		}
		o.failed = !v.IsWhollyKnown()
		return
	}
	v, marks := v.UnmarkDeep()
	switch {
	case len(secretsIn(marks)) > 0:
		o.diags = append(o.diags, wrong(o.src.rng(a.exprAt), "Secret in an output", "The value of %s is known to nodes only and cannot be an output.", secretsIn(marks)[0].SecretKey))
		o.failed = true
	case isSensitive(marks) && !o.sensitive:
		o.diags = append(o.diags, wrong(o.src.rng(a.exprAt), "Sensitive value in an output", "This value is sensitive. Write sensitive = true into the output, or nonsensitive(…) around the part that may be shown."))
		o.failed = true
	case !v.IsWhollyKnown():
		o.failed = true // something that it refers to has been reported
	}
	o.value = v
}

// show writes a value as JSON: openly, or, if it is sensitive, apart.
func (r *run) show(c *Configuration, name string, o *output) {
	text, err := ctyjson.Marshal(o.value, o.value.Type())
	if err != nil {
		r.wrong(o.src, o.at, "Wrong output", "The value cannot be written as JSON: %v.", err)
		return
	}
	out := object.Output{Sensitive: o.sensitive, Description: o.description}
	if o.sensitive {
		c.SensitiveOutputs[name] = object.NewSensitive(string(text))
	} else if err := json.Unmarshal(text, &out.Value); err != nil {
		r.wrong(o.src, o.at, "Wrong output", "The value cannot be written as JSON: %v.", err)
		return
	}
	c.Outputs[name] = out
}
