package object

import (
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Validate finds everything wrong with an object that can be seen from the
// object alone: what its tags demand (required, enum, names) and what the
// fields mean together (ports, mounts, probes, selectors). Paths are written as
// the diff writes them: pod.container["web"].port["http"].port. Both hcl and the
// API use it. Of kinds that only Berth writes, what names them and what they name
// is checked.
func Validate(o Object) Diagnostics {
	c := &checker{}
	m := o.Head()
	info, ok := Info(m.Kind)
	if !ok {
		c.fail(nil, "Unknown kind", "There is no kind %q.", m.Kind)
		return c.found
	}
	c.address(m, info)
	if info.Declared {
		c.labels(m.Labels, &step{name: "labels"})
		c.structure(reflect.ValueOf(o.SpecPtr()).Elem(), nil)
	} else {
		c.internal(o)
	}
	for i := range c.found {
		c.found[i].Address = o.Ref().Address()
	}
	return c.found
}

// checker collects what is wrong; step is where it is, written out when needed.
type checker struct{ found Diagnostics }

type step struct {
	up    *step
	name  string
	label string // of a labelled block or map key, if key
	key   bool
	index int // of a repeated block without label, if > 0: number + 1
}

func (s *step) String() string {
	if s == nil {
		return ""
	}
	out := s.up.String()
	if s.name != "" {
		if out != "" {
			out += "."
		}
		out += s.name
	}
	switch {
	case s.key:
		out += "[" + strconv.Quote(s.label) + "]"
	case s.index > 0:
		out += "[" + strconv.Itoa(s.index-1) + "]"
	}
	return out
}

func (s *step) to(name string) *step { return &step{up: s, name: name} }

func (c *checker) fail(at *step, summary, detail string, args ...any) {
	c.found.Errorf(at.String(), summary, detail, args...)
}

func (c *checker) warn(at *step, summary, detail string, args ...any) {
	c.fail(at, summary, detail, args...)
	c.found[len(c.found)-1].Severity = SeverityWarning
}

// checked is a struct whose fields mean something together.
type checked interface{ check(c *checker, at *step) }

// structure walks a struct by its tags.
func (c *checker) structure(v reflect.Value, at *step) {
	fields := Fields(v.Type())
	for i := range fields {
		f := &fields[i]
		if f.Internal {
			continue
		}
		fv := v.Field(f.Index)
		switch {
		case f.Remain:
			if fv.Kind() == reflect.Pointer {
				if fv.IsNil() {
					continue
				}
				fv = fv.Elem()
			}
			c.structure(fv, at)
			continue
		case f.Label:
			continue // checked with the list that holds it
		case f.Required && fv.IsZero():
			c.fail(at.to(f.Name), "Missing "+kindOfField(f), "%q is needed here.", f.Name)
			continue
		case f.Enum != nil && fv.Kind() == reflect.String:
			if s := fv.String(); !slices.Contains(f.Enum, s) {
				c.fail(at.to(f.Name), "Unknown value", "%s is not %q. %s", f.Name, s, cure(s, f.Enum))
			}
		case f.Type.Kind() == reflect.Int && fv.Int() < 0:
			c.fail(at.to(f.Name), "Negative number", "%s is %d; it may not be below 0.", f.Name, fv.Int())
		case f.Type.Kind() == reflect.Int64:
			c.amount(f, fv, at)
		}
		if f.Block {
			c.blocks(f, fv, at)
		}
	}
	if x, ok := v.Addr().Interface().(checked); ok {
		x.check(c, at)
	}
}

// amount bounds what has a unit. Texts are bounded when they are read, but plans
// also come in a form with plain numbers.
func (c *checker) amount(f *Field, v reflect.Value, at *step) {
	most, ok := amountBounds[f.Type]
	switch n := v.Int(); {
	case n < 0:
		c.fail(at.to(f.Name), "Negative amount", "%s may not be below 0.", f.Name)
	case ok && n > most.Int():
		c.fail(at.to(f.Name), "Too large", "%s is %v; it is %v at most.", f.Name, v.Interface(), most.Interface())
	}
}

var amountBounds = map[reflect.Type]reflect.Value{
	reflect.TypeFor[CPU](): reflect.ValueOf(maxCPU), reflect.TypeFor[Bytes](): reflect.ValueOf(maxBytes), reflect.TypeFor[Duration](): reflect.ValueOf(maxDuration),
}

func kindOfField(f *Field) string {
	if f.Block {
		return "block"
	}
	return "attribute"
}

// cure is "Did you mean …", or what there is.
func cure(word string, known []string) string {
	if s := DidYouMean(word, known); s != "" {
		return s
	}
	quoted := make([]string, 0, len(known))
	for _, k := range known {
		if k != "" {
			quoted = append(quoted, strconv.Quote(k))
		}
	}
	return "It is one of " + strings.Join(quoted, ", ") + "."
}

func (c *checker) blocks(f *Field, v reflect.Value, at *step) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			c.structure(v.Elem(), at.to(f.Name))
		}
	case reflect.Struct:
		c.structure(v, at.to(f.Name))
	case reflect.Slice:
		label, named := LabelField(v.Type().Elem())
		for i := range v.Len() {
			here := &step{up: at, name: f.Name, index: i + 1}
			if named {
				here.label, here.key = v.Index(i).Field(label.Index).String(), true
				for j := range i {
					if v.Index(j).Field(label.Index).String() == here.label && f.Name != "mount" {
						c.fail(here, "Duplicate name", "There are two %s blocks of the name %q. Names must differ; rename one.", f.Name, here.label)
						break
					}
				}
				c.label(f, &label, here)
			}
			c.structure(v.Index(i), here)
		}
	}
}

// label checks the name of a block.
func (c *checker) label(f, label *Field, at *step) {
	switch {
	case at.label == "":
		c.fail(at, "Missing name", "A %s has a name.", f.Name)
	case label.Name == "key" || f.Name == "mount" || label.Name == "path": // a taint's key is free; a mount's name is a volume's; a path has slashes
	case !dnsLabel.matches(at.label):
		c.fail(at, "Wrong name", "%q is not a name: %s", at.label, nameRule)
	}
}

// shape is what a name may look like: some characters throughout, some of them
// first and last, so many at most. A regular expression says the same, more
// slowly, and a plan of ten thousand objects has a hundred thousand names.
type shape struct {
	inner, ends string // ranges such as "az", characters such as "--"
	most        int
}

func (s shape) matches(text string) bool {
	if text == "" || len(text) > s.most {
		return false
	}
	for i := range len(text) {
		if !within(s.inner, text[i]) {
			return false
		}
	}
	return within(s.ends, text[0]) && within(s.ends, text[len(text)-1])
}

func within(ranges string, c byte) bool {
	for i := 0; i < len(ranges); i += 2 {
		if c >= ranges[i] && c <= ranges[i+1] {
			return true
		}
	}
	return false
}

const (
	lower = "az09"
	alnum = "azAZ09"
)

var (
	dnsLabel  = shape{lower + "--", lower, 63}
	dnsName   = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$`)
	labelKey  = shape{alnum + "--__..//", alnum, 253}
	labelText = shape{alnum + "--__..", alnum, 63} // or empty
	dataKey   = shape{alnum + "--__..", alnum + "--__..", 253}
)

// IsName reports whether a text can be the name of a stack, as of most objects.
func IsName(text string) bool { return dnsLabel.matches(text) }

const nameRule = "use lower-case letters, digits and hyphens, a letter or digit first and last, 63 at most."

// workloadNameLimit leaves room for what controllers add to a workload's name:
// "-" version "-" ordinal.
const workloadNameLimit = 48

func (c *checker) address(m *Meta, info KindInfo) {
	if m.Name == "" {
		c.fail(&step{name: "name"}, "Missing name", "A %s has a name.", m.Kind)
	}
	switch {
	case info.Namespaced && !dnsLabel.matches(m.Namespace):
		c.fail(&step{name: "namespace"}, "Wrong name", "The namespace %q is not a name: %s", m.Namespace, nameRule)
	case !info.Namespaced && m.Namespace != "":
		c.fail(&step{name: "namespace"}, "No namespace here", "A %s belongs to no namespace.", m.Kind)
	}
	if !info.Declared || m.Name == "" {
		return
	}
	switch {
	case m.Kind == KindNetwork:
		if m.Name != NetworkName {
			c.fail(nil, "Wrong name", "A cluster has one network, and its name is %q.", NetworkName)
		}
	case m.Kind == KindNode:
		if !dnsName.MatchString(m.Name) || len(m.Name) > 253 {
			c.fail(nil, "Wrong name", "%q is not the name of a node: use lower-case letters, digits, hyphens and dots.", m.Name)
		}
	case !dnsLabel.matches(m.Name):
		c.fail(nil, "Wrong name", "%q is not a name: %s", m.Name, nameRule)
	case (m.Kind == KindDeployment || m.Kind == KindReplicaSet) && m.Owner.IsZero() && len(m.Name) > workloadNameLimit:
		c.fail(nil, "Long name", "%q has %d characters; a %s has %d at most, for its pods' names are longer.", m.Name, len(m.Name), m.Kind, workloadNameLimit)
	}
}

func (c *checker) labels(m map[string]string, at *step) {
	if every(m, func(k, v string) bool { return labelKey.matches(k) && (v == "" || labelText.matches(v)) }) {
		return
	}
	for _, k := range sortedKeys(m) {
		here := func() *step { return &step{up: at.up, name: at.name, label: k, key: true} }
		if !labelKey.matches(k) {
			c.fail(here(), "Wrong label", "%q is not the name of a label: use letters, digits and -_./, a letter or digit first and last.", k)
		}
		if m[k] != "" && !labelText.matches(m[k]) {
			c.fail(here(), "Wrong label", "%q is not the value of a label: use letters, digits and -_., 63 at most. Longer texts belong into annotations.", m[k])
		}
	}
}

// every reports whether something holds for all of a map, in no order.
func every[V any](m map[string]V, holds func(string, V) bool) bool {
	for k, v := range m {
		if !holds(k, v) {
			return false
		}
	}
	return true
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
