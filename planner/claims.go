package planner

import (
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// Claims lists what Diff has to know of the masters' state: every desired object,
// by fingerprint where an equal one means that nothing changes, and what desired
// objects depend on, as far as nothing is desired of that. The claims of several
// parts of a request, one after the other, are as good as those of the whole.
func Claims(r Request) []object.Claim {
	out := make([]object.Claim, 0, len(r.Objects))
	asked := make(map[object.Ref]bool, len(r.Objects))
	for i := range r.Objects {
		x := &r.Objects[i]
		ref := x.Object.Ref()
		if asked[ref] {
			continue // twice the same name: Diff says so
		}
		asked[ref] = true
		deps := dependencies(x)
		c := object.Claim{Ref: ref}
		if x.comparable() {
			x.encoding = object.Encoding(x.claim(r.Stack, deps))
			c.Fingerprint = object.FingerprintOf(x.encoding)
		}
		out = append(out, c)
	}
	for i := range r.Objects {
		for _, dep := range dependencies(&r.Objects[i]) {
			if info, _ := object.Info(dep.Kind); info.Declared && !asked[dep] {
				asked[dep] = true
				out = append(out, object.Claim{Ref: dep})
			}
		}
	}
	return out
}

// comparable reports whether an equal fingerprint says all. Machines keep labels
// that no configuration names, pods and secrets are kept in another form than
// they are declared in, and what ignore_changes names is as it is in force.
func (x *Desired) comparable() bool {
	switch x.Object.Ref().Kind {
	case object.KindNode, object.KindPod, object.KindSecret:
		return false
	}
	return len(x.Ignore) == 0
}

// InForce is the state as Diff needs it, from the masters' answer to the claims.
// What is as it was claimed need not be sent: it is what the request says.
func InForce(r Request, claims []object.Claim, a object.StackState) *state.Snapshot {
	same := make(map[object.Ref]uint64, len(claims))
	for i, c := range claims {
		if a.Same[i] != 0 {
			same[c.Ref] = a.Same[i]
		}
	}
	objects := make([]object.Object, 0, len(same)+len(a.Objects))
	for i := range r.Objects {
		x := &r.Objects[i]
		ref := x.Object.Ref()
		version, ok := same[ref]
		if !ok {
			continue
		}
		delete(same, ref)
		o := x.claim(r.Stack, dependencies(x))
		o.Head().Version = version
		x.same, x.claimed, x.encoding = o, nil, nil // it is not going to be created
		objects = append(objects, o)
	}
	for _, o := range a.Objects {
		objects = append(objects, o.Object)
	}
	return state.Load(a.Index, objects).Snapshot()
}

// claim is the object as the stack would create it: one for all who ask, not to be
// written into.
func (x *Desired) claim(stack string, deps []object.Ref) object.Object {
	if x.claimed == nil {
		x.claimed = object.WithoutSealed(declare(x, stack, deps))
		object.Bare(x.claimed)
	}
	return x.claimed
}

// declare is a desired object as the stack would write it.
func declare(x *Desired, stack string, deps []object.Ref) object.Object {
	o := x.Object.Clone()
	m := o.Head()
	m.Stack, m.Owner, m.After = stack, object.Ref{}, deps
	if t := object.TemplateOf(o); t != nil && m.Kind == object.KindPod && len(m.Labels) == 0 {
		m.Labels = t.Labels // as the pods of a set have theirs: services select by them
	}
	return o
}
