package hcl

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/berthdev/berth/cluster/object"
)

// Two marks follow values through every expression.

// sensitiveMark is on the value of a sensitive variable.
type sensitiveMark struct{}

// secretMark is on the placeholder that stands for a key of a secret, such as
// ${secret.db.data.password}. Who computes with it computes with the
// placeholder, so where it arrives the placeholder must still be whole.
type secretMark struct {
	object.SecretKey
	namespace string
}

func union(a, b cty.ValueMarks) cty.ValueMarks {
	if len(a) == 0 {
		return b
	}
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

// secretsIn lists the secret keys among marks, sorted.
func secretsIn(marks cty.ValueMarks) []secretMark {
	var out []secretMark
	for m := range marks {
		if s, ok := m.(secretMark); ok {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b secretMark) int { return strings.Compare(a.namespace+a.String(), b.namespace+b.String()) })
	return out
}

func isSensitive(marks cty.ValueMarks) bool {
	_, ok := marks[sensitiveMark{}]
	return ok
}

// allowed reports whether a marked value may go into a field, and says why not.
func (d *decoder) allowed(dst reflect.Value, f form, v cty.Value, marks cty.ValueMarks, src *source, at span, p *path) bool {
	if isSensitive(marks) && f != formSensitive {
		d.fail(src, at, p, "Sensitive value in the open",
			"This value is sensitive, and %s is shown in plans and stored in the clear. Put it into the data of a secret and refer to that: secret.NAME.data.KEY in env or the headers of a check, or a volume { secret = … }.", p)
		return false
	}
	secrets := secretsIn(marks)
	if len(secrets) == 0 {
		return true
	}
	if f == formSensitive {
		d.fail(src, at, p, "Copy of a secret",
			"The value of %s is known to nodes only and cannot be copied into another secret. Refer to that secret where the value is needed, or give both the same variable.", secrets[0].SecretKey)
		return false
	}
	if f != formText {
		d.fail(src, at, p, "Secret where none can be",
			"The value of %s is put in where it is used and nowhere else: in the env of a container, and in headers, username and password of a check. Use it there, or mount the secret as a volume.", secrets[0].SecretKey)
		return false
	}
	for _, s := range secrets {
		if v.Type() != cty.String || !strings.Contains(v.AsString(), s.String()) {
			d.fail(src, at, p, "Computation with a secret",
				"The value of %s is not known here: it can be put into a text, \"postgres://app:%s@db\", but nothing can be computed from it.", s.SecretKey, s.SecretKey)
			return false
		}
		if s.namespace != d.ns {
			d.fail(src, at, p, "Secret of another namespace",
				"%s is in the namespace %q and this object in %q; pods and checks read only secrets of their own namespace.", s.SecretKey, s.namespace, d.ns)
			return false
		}
	}
	return true
}

// plainly refuses marks where a value decides what there is.
func plainly(v cty.Value, at hcl.Range, what string) (cty.Value, hcl.Diagnostics) {
	if !v.ContainsMarked() {
		return v, nil
	}
	v, _ = v.UnmarkDeep()
	return v, hcl.Diagnostics{wrong(at, "Sensitive "+what, "%s is shown in plans and cannot depend on a sensitive value or a secret.", what)}
}
