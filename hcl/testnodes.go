package hcl

import (
	"encoding"
	"fmt"
	"slices"
	"strings"

	"github.com/zclconf/go-cty/cty"

	"github.com/berthdev/berth/cluster/object"
)

func newTestNode(name string) *object.Node {
	n := &object.Node{Meta: object.Meta{Kind: object.KindNode, Name: name}}
	n.Status = object.NodeStatus{Condition: object.NodeReady, Pods: testPods}
	_ = n.Status.CPU.UnmarshalText([]byte(testCPU)) // constants, which a test of this package holds
	_ = n.Status.Memory.UnmarshalText([]byte(testMemory))
	return n
}

func (r *run) readTestNode(f *TestFile, k *block, vars map[string]cty.Value) {
	src, name := k.body.src, k.labels[0]
	if !labelForm.MatchString(name) {
		r.wrong(src, k.labelsAt[0], "Wrong name", "The node %q is not a name: use lower-case letters, digits and hyphens, 63 at most.", name)
		return
	}
	count, repeated := 1, false
	if a := k.body.attr("count"); a != nil {
		repeated = true
		count = r.testNumber(src, a, vars, 1, 1000)
	}
	for i := range count {
		n := newTestNode(name)
		if repeated {
			n.Name = fmt.Sprintf("%s-%d", name, i+1)
		}
		index := map[string]cty.Value{}
		if repeated {
			index["count"] = cty.ObjectVal(map[string]cty.Value{"index": cty.NumberIntVal(int64(i))})
		}
		before := len(r.diags)
		r.fillTestNode(n, k, vars, index)
		if slices.ContainsFunc(f.Nodes, func(o *object.Node) bool { return o.Name == n.Name }) {
			r.wrong(src, k.head, "Duplicate name", "There is a node %q already; the %s of node %q are called %s-1, %s-2 and so on.", n.Name, plural(count, "node"), name, name, name)
		}
		if f.Nodes = append(f.Nodes, n); len(r.diags) > before {
			return // the others have the same mistakes
		}
	}
}

func (r *run) fillTestNode(n *object.Node, k *block, vars, index map[string]cty.Value) {
	src := k.body.src
	n.Labels = map[string]string{}
	for i := range k.body.attrs {
		a := &k.body.attrs[i]
		var to encoding.TextUnmarshaler
		switch a.name {
		case "count":
		case "pods":
			n.Status.Pods = r.testNumber(src, a, vars, 1, 1_000_000)
		case "zone":
			if text, ok := r.testText(src, a, vars, index); ok {
				n.Labels["zone"] = text
			}
		case "labels", "attributes":
			v, ok := r.testTexts(src, a, cty.Map(cty.String), vars, index)
			if !ok {
				continue
			}
			into := n.Labels
			if a.name == "attributes" {
				n.Status.Attributes = map[string]string{}
				into = n.Status.Attributes
			}
			for it := v.ElementIterator(); it.Next(); {
				key, text := it.Element()
				into[key.AsString()] = text.AsString()
			}
		case "cpu":
			to = &n.Status.CPU
		case "memory":
			to = &n.Status.Memory
		default:
			r.wrong(src, a.nameAt, "Unknown attribute", "A node of a test has no attribute %q.%s", a.name, hint(a.name, testNodeNames, "There are: "+strings.Join(testNodeNames, ", ")+", and taint blocks."))
		}
		if to == nil {
			continue
		}
		if text, ok := r.testText(src, a, vars, index); ok {
			if err := to.UnmarshalText([]byte(text)); err != nil {
				r.wrong(src, a.exprAt, "Wrong value", "%q: %v.", a.name, err)
			}
		}
	}
	for i := range k.body.blocks {
		b := &k.body.blocks[i]
		if b.kind != "taint" {
			r.wrong(src, b.head, "Unknown block", "A node of a test has no block %q.%s", b.kind, hint(b.kind, []string{"taint"}, "There is taint."))
			continue
		}
		if !r.named(b, "taint") {
			continue
		}
		t := object.Taint{Key: b.labels[0], Effect: "no_schedule"}
		for j := range b.body.attrs {
			a := &b.body.attrs[j]
			if !slices.Contains(testTaintNames, a.name) {
				r.wrong(src, a.nameAt, "Unknown attribute", "A taint has no attribute %q.%s", a.name, hint(a.name, testTaintNames, "There are effect and value."))
				continue
			}
			text, ok := r.testText(src, a, vars, index)
			switch effects := []string{"no_schedule", "prefer_no_schedule", "no_execute"}; {
			case !ok:
			case a.name == "value":
				t.Value = text
			case slices.Contains(effects, text):
				t.Effect = text
			default:
				r.wrong(src, a.exprAt, "Wrong value", "A taint has no effect %q.%s", text, hint(text, effects, "There are: "+strings.Join(effects, ", ")+"."))
			}
		}
		n.Spec.Taints = append(n.Spec.Taints, t)
	}
}

func (r *run) testNodes(f *TestFile, src *source, a *attribute, vars map[string]cty.Value) []string {
	v, ok := r.testTexts(src, a, cty.List(cty.String), vars, nil)
	if !ok {
		return nil
	}
	known := make([]string, len(f.Nodes))
	for i, n := range f.Nodes {
		known[i] = n.Name
	}
	var out []string
	for it := v.ElementIterator(); it.Next(); {
		_, e := it.Element()
		name := e.AsString()
		switch {
		case !slices.Contains(known, name):
			r.wrong(src, a.exprAt, "No such node", "This test has no node %q.%s", name, hint(name, known, among(known)))
		case slices.Contains(out, name):
			r.wrong(src, a.exprAt, "Named twice", "The node %q stands here twice.", name)
		default:
			out = append(out, name)
		}
	}
	if v.LengthInt() == 0 {
		r.wrong(src, a.exprAt, "No nodes", "%s names no node. Take the line out, or name one of: %s.", a.name, strings.Join(known, ", "))
	}
	return out
}
