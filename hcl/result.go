package hcl

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/berthdev/berth/cluster/object"
)

// result puts together what was found.
func (r *run) result(abs string) *Configuration {
	c := &Configuration{Stack: r.stack, Namespace: r.namespace, Outputs: map[string]object.Output{}, SensitiveOutputs: map[string]object.Sensitive{}, Files: r.files}
	all := r.declarations()
	count := 0
	for _, d := range all {
		count += len(d.instances)
	}
	owners := make(map[object.Ref]*declaration, count)
	for _, d := range all {
		for _, in := range d.instances {
			ref := in.object.Ref()
			if other := owners[ref]; other != nil {
				cure := ""
				if d.run.parent != nil && other.run.parent != nil {
					cure = ", or give each instance of the module a namespace by an input"
				}
				r.wrong(d.src, d.at, "Duplicate name", "%s and %s (%s:%d) are both the object %s. Names must differ; rename one%s.", in.address, other.address, other.src.name, other.src.lineOf(other.at.start), ref, cure)
				continue
			}
			owners[ref] = d
		}
	}
	c.Reads, c.pending = r.expectations(owners), r.waiting()
	r.refactored(c)
	if r.diags.HasErrors() {
		return nil
	}
	refs := make(map[*declaration][]object.Ref, len(all))
	c.Objects = make([]Declared, 0, count)
	for _, d := range all {
		refs[d] = make([]object.Ref, 0, len(d.instances))
		for _, in := range d.instances {
			refs[d] = append(refs[d], in.object.Ref())
		}
	}
	for _, d := range all {
		var waits []*declaration
		for _, n := range slices.Concat(d.after, d.run.after) {
			waits = append(waits, n.within()...)
		}
		references, after := refsOf(slices.Concat(d.objects, d.run.base), refs), refsOf(waits, refs)
		at := rangeOf(d.src.rng(d.at))
		for _, in := range d.instances {
			needs := merged(references, implied(in.object, owners))
			in.object.Head().After = merged(needs, after)
			c.Objects = append(c.Objects, Declared{Address: in.address, Object: in.object, References: needs, DependsOn: after, IgnoreChanges: in.ignore, Range: at})
		}
	}
	order := map[object.Kind]int{}
	for i, k := range object.Kinds() {
		order[k.Kind] = i
	}
	slices.SortStableFunc(c.Objects, func(a, b Declared) int {
		ra, rb := a.Object.Ref(), b.Object.Ref()
		if x := order[ra.Kind] - order[rb.Kind]; x != 0 {
			return x
		}
		return ra.Compare(rb)
	})
	for _, name := range keys(r.outputs) {
		if o := r.outputs[name]; o.value.IsWhollyKnown() { // all but what nobody was asked for
			r.show(c, name, o)
		}
	}
	c.Source = object.Source{Directory: filepath.ToSlash(abs), Digest: r.digest()}
	return c
}

// refsOf lists the objects of declarations, sorted, each once.
func refsOf(ds []*declaration, refs map[*declaration][]object.Ref) []object.Ref {
	var out []object.Ref
	for _, d := range ds {
		out = append(out, refs[d]...)
	}
	slices.SortFunc(out, object.Ref.Compare)
	return slices.Compact(out)
}

// implied lists what an object needs without referring to it: its namespace, and
// the config maps and secrets that its pods read by name.
func implied(o object.Object, owners map[object.Ref]*declaration) []object.Ref {
	var out []object.Ref
	m := o.Head()
	if ns := (object.Ref{Kind: object.KindNamespace, Name: m.Namespace}); m.Namespace != "" && owners[ns] != nil {
		out = append(out, ns)
	}
	if t := object.TemplateOf(o); t != nil {
		for _, ref := range t.ReadRefs(m.Namespace) {
			if owners[ref] != nil {
				out = append(out, ref)
			}
		}
	}
	if d, ok := o.(*object.Deployment); ok {
		for _, k := range d.Credentials() {
			if owners[k.Secret] != nil {
				out = append(out, k.Secret)
			}
		}
	}
	return out
}

func merged(a, b []object.Ref) []object.Ref {
	if len(b) == 0 {
		return a
	}
	out := append(slices.Clone(a), b...)
	slices.SortFunc(out, object.Ref.Compare)
	return slices.Compact(out)
}

// digest names the files and the values of the variables that are not sensitive.
func (r *run) digest() string {
	h := sha256.New()
	lines := make([]string, 0, len(r.files))
	for name, text := range r.files {
		label := r.lib.labels[name]
		if label == "" {
			label = filepath.Base(name)
		}
		lines = append(lines, fmt.Sprintf("%s %x\n", label, sha256.Sum256(text)))
	}
	slices.Sort(lines)
	h.Write([]byte(strings.Join(lines, "")))
	for _, name := range keys(r.variables) {
		v := r.variables[name]
		if v.sensitive {
			continue
		}
		if val, marks := v.value.UnmarkDeep(); len(marks) == 0 {
			if text, err := ctyjson.Marshal(val, val.Type()); err == nil {
				fmt.Fprintf(h, "%s=%s\n", name, text)
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}
