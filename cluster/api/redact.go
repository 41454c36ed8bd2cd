package api

import (
	"slices"

	"github.com/berthdev/berth/cluster/object"
)

// show is an object as an identity may see it. Ciphertexts leave the masters for
// nobody: nodes get values by reveal, everyone else compares digests. Planners do
// not even see those.
func show(who Identity, o object.Object) object.Object {
	digests := who.Role == object.RoleAdmin || who.Role == object.RoleMaster
	switch x := o.(type) {
	case *object.Secret:
		if len(x.Spec.Data) == 0 {
			return o
		}
		c := *x
		c.Spec.Data = hide(x.Spec.Data, digests)
		return &c
	case *object.Content:
		if len(x.Spec.Keys) == 0 {
			return o
		}
		c := *x
		c.Spec.Keys = hide(x.Spec.Keys, digests)
		return &c
	case *object.Revision:
		if !slices.ContainsFunc(x.Spec.Changes, func(c object.RevisionChange) bool {
			return c.Ref.Kind == object.KindSecret || c.Ref.Kind == object.KindContent
		}) {
			return o
		}
		c := *x
		c.Spec.Changes = slices.Clone(x.Spec.Changes)
		for i := range c.Spec.Changes {
			for _, side := range []*object.Any{&c.Spec.Changes[i].Before, &c.Spec.Changes[i].After} {
				if !side.IsZero() {
					side.Object = show(who, side.Object)
				}
			}
		}
		return &c
	}
	return o
}

func hide(m map[string]object.Sensitive, digests bool) map[string]object.Sensitive {
	out := make(map[string]object.Sensitive, len(m))
	for k, v := range m {
		if digests {
			out[k] = object.Sensitive{Digest: v.Digest}
		} else {
			out[k] = object.Sensitive{}
		}
	}
	return out
}
