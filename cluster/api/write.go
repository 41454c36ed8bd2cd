package api

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// attempts bounds how often a write is made anew because somebody else wrote in
// between, where its author gave no version.
const attempts = 8

// write proposes the changes that build makes of a snapshot and answers with the
// object at r as it is then. build is called again on a conflict; an error of its
// own ends the attempts.
func (s *Server) write(ctx context.Context, r object.Ref, why string, build func(*state.Snapshot, *object.Changeset) error) (*answer[json.RawMessage], error) {
	who := identityOf(ctx)
	index, err := s.propose(ctx, who.author(), why, func(v *state.Snapshot, c *object.Changeset) error {
		if err := build(v, c); err != nil {
			return err
		}
		return s.admit(ctx, v, c, nil)
	})
	if err != nil {
		return nil, err
	}
	v := s.Cluster.Snapshot()
	out := object.Written{Index: index}
	if o, ok := v.Get(r); ok {
		out.Object.Object = Selection{}.present(who, v, o)
	}
	return encode(out)
}

func (s *Server) propose(ctx context.Context, author, why string, build func(*state.Snapshot, *object.Changeset) error) (uint64, error) {
	for try := 1; ; try++ {
		v := s.Cluster.Snapshot()
		c := object.Changeset{Author: author, Reason: why, Time: s.Now().UTC()}
		if err := build(v, &c); err != nil {
			return 0, err
		}
		if c.Empty() {
			return v.Index(), nil
		}
		index, err := s.Cluster.Propose(ctx, c)
		if err == nil {
			return index, nil
		}
		switch object.CodeOf(err) {
		case object.CodeConflict, object.CodeExists, object.CodeNotFound:
			if try < attempts && ctx.Err() == nil {
				continue
			}
		}
		return 0, err
	}
}

// put adds an object in the form that the state keeps: sensitive values sealed, a
// pod's template apart. was is the object in force, nil for a create. Owner,
// stack and status are not for writers of single objects.
func (s *Server) put(v *state.Snapshot, c *object.Changeset, was, o object.Object) error {
	o = o.Clone()
	if was != nil {
		o.Head().Owner, o.Head().Stack = was.Head().Owner, was.Head().Stack
		object.CopyStatus(o, was)
		o = object.KeepPins(o, expand(v, was))
	} else if !o.Head().Owner.IsZero() || o.Head().Stack != "" {
		return &object.Error{Code: object.CodeInvalid, Ref: o.Ref(), Message: "meta.owner and meta.stack are set by Berth", Hint: "Leave them out."}
	}
	if err := check(o); err != nil {
		return err
	}
	if err := keepsNodes(v, o); err != nil {
		return err
	}
	if err := keepsOwned(was, o); err != nil {
		return err
	}
	o, err := s.store(v, c, o)
	if err != nil {
		return err
	}
	if was == nil {
		c.Create(o)
	} else {
		c.Update(was, o)
	}
	return nil
}

// store brings an object into the form that the state keeps.
func (s *Server) store(v *state.Snapshot, c *object.Changeset, o object.Object) (object.Object, error) {
	switch x := o.(type) {
	case *object.Secret:
		was, _ := state.Find[*object.Secret](v, x.Ref())
		data, err := s.sealAll(x, was)
		if err != nil {
			return nil, err
		}
		n := *x
		n.Spec.Data = data
		return &n, nil
	case *object.Pod:
		if x.Spec.Pod == nil {
			return o, nil
		}
		n := *x
		n.Spec.Template = object.Digest(*x.Spec.Pod)
		n.Spec.CPU, n.Spec.Memory = x.Spec.Pod.Asks()
		t := &object.Template{Meta: object.Meta{Kind: object.KindTemplate, Namespace: x.Namespace, Name: n.Spec.Template}, Spec: *x.Spec.Pod}
		if _, ok := v.Get(t.Ref()); !ok {
			c.Create(t)
		}
		n.Spec.Pod = nil
		return &n, nil
	}
	return o, nil
}

// sealAll encrypts the plain values of a secret and takes those that it names
// only by digest from the secret in force.
func (s *Server) sealAll(x, was *object.Secret) (map[string]object.Sensitive, error) {
	out := make(map[string]object.Sensitive, len(x.Spec.Data))
	for _, k := range slices.Sorted(maps.Keys(x.Spec.Data)) {
		given := x.Spec.Data[k]
		if plain, ok := given.Reveal(); ok {
			sealed, err := s.Keys.Seal(x.Ref(), k, plain)
			if err != nil {
				return nil, err
			}
			out[k] = sealed
			continue
		}
		if was != nil {
			if have, ok := was.Spec.Data[k]; ok && given.Digest == have.Digest {
				out[k] = have
				continue
			}
		}
		e := object.Errorf(object.CodeInvalid, x.Ref(), "the value of key %q is not given in plain, and the secret in force has no value with this digest", k)
		e.Hint = `Write it as text: "data": {"` + k + `": "…"}.`
		return nil, e
	}
	return out, nil
}

// check validates an object that somebody wrote.
func check(o object.Object) error {
	if p, ok := o.(*object.Pod); ok && p.Spec.Pod == nil && p.Spec.Template != "" {
		return nil // a row: what it runs was checked with its template
	}
	if diags := object.Validate(o); diags.HasErrors() {
		return invalid(o.Ref(), diags)
	}
	return object.CheckPins(o)
}

// keepsNodes refuses a network that has no place for ranges that nodes have.
func keepsNodes(v *state.Snapshot, o object.Object) error {
	n, ok := o.(*object.Network)
	if !ok {
		return nil
	}
	if diags := n.Spec.KeepsNodes(slices.Collect(state.All[*object.Node](v, object.KindNode))); diags.HasErrors() {
		return invalid(o.Ref(), diags)
	}
	return nil
}

// keepsOwned refuses to write past its owner what an owned object runs: a set of a
// deployment, or a pod of a set, with another template would not be what its owner
// says it is, and policies on the owner would never see it.
func keepsOwned(was, o object.Object) error {
	owner := o.Head().Owner
	if was != nil {
		owner = was.Head().Owner
	}
	switch {
	case owner.Kind == object.KindDeployment && o.Ref().Kind == object.KindReplicaSet:
		if x, ok := was.(*object.ReplicaSet); ok && object.Digest(x.Spec.Pod) == object.Digest(o.(*object.ReplicaSet).Spec.Pod) {
			return nil
		}
	case owner.Kind == object.KindReplicaSet && o.Ref().Kind == object.KindPod:
		x, ok := was.(*object.Pod)
		if t := o.(*object.Pod).Spec.Pod; ok && (t == nil || object.Digest(*t) == x.Spec.Template) {
			return nil
		}
	default:
		return nil
	}
	e := object.Errorf(object.CodeForbidden, o.Ref(), "belongs to %s, which alone says what it runs", owner)
	e.Hint = fmt.Sprintf("Change %s instead.", owner)
	return e
}

// mayGo refuses the end of what a cluster cannot be without.
func mayGo(r object.Ref) error {
	if r.Kind == object.KindNetwork {
		e := object.Errorf(object.CodeForbidden, r, "a cluster has a network")
		e.Hint = "Change it instead; what a configuration does not say any more stays as it is."
		return e
	}
	return nil
}

type changesetInput struct {
	Body body[object.Changeset]
}

// postChangeset writes what a user's own controller made. The author and time
// are the masters'.
func (s *Server) postChangeset(ctx context.Context, in *changesetInput) (*answer[object.Written], error) {
	given, err := in.Body.get()
	if err != nil {
		return nil, err
	}
	v := s.Cluster.Snapshot()
	c := object.Changeset{Author: identityOf(ctx).author(), Reason: given.Reason, Time: s.Now().UTC(), Expect: given.Expect}
	for _, x := range given.Changes {
		if x.Ref.Kind == object.KindToken && x.Op != object.OpDelete {
			return nil, object.Errorf(object.CodeForbidden, x.Ref, "tokens are made by POST /v1/tokens")
		}
		switch x.Ref.Kind {
		case object.KindRevision, object.KindStack, object.KindTemplate, object.KindContent:
			e := object.Errorf(object.CodeForbidden, x.Ref, "a %s is written by the masters only", x.Ref.Kind)
			e.Hint = "Plan and apply (POST /v1/plan, POST /v1/apply), or write the object that it is made of."
			return nil, e
		}
		if x.Op == object.OpDelete && x.Ref.Kind == object.KindNode {
			s.revoke(v, &c, x.Ref.Name)
		}
		if x.Op == object.OpDelete {
			if err := mayGo(x.Ref); err != nil {
				return nil, err
			}
			if gone, ok := v.Get(x.Ref); ok {
				remember(v, &c, gone)
			}
		}
		if x.Op != object.OpDelete {
			if x.Object.IsZero() {
				return nil, object.Errorf(object.CodeInvalid, x.Ref, "the change carries no object")
			}
			if x.Op != object.OpUpdate || x.Part != object.PartStatus { // a create has no parts
				if err := check(x.Object.Object); err != nil {
					return nil, err
				}
				if err := keepsNodes(v, x.Object.Object); err != nil {
					return nil, err
				}
				was, there := v.Get(x.Ref)
				if there {
					x.Object.Object = object.KeepPins(x.Object.Object, expand(v, was))
				}
				if err := keepsOwned(was, x.Object.Object); err != nil {
					return nil, err
				}
				if x.Object.Object, err = s.store(v, &c, x.Object.Object); err != nil {
					return nil, err
				}
			}
		}
		c.Changes = append(c.Changes, x)
	}
	if c.Empty() {
		return nil, &object.Error{Code: object.CodeInvalid, Message: "the changeset has no changes"}
	}
	if err := s.admit(ctx, v, &c, nil); err != nil {
		return nil, err
	}
	index, err := s.Cluster.Propose(ctx, c)
	if err != nil {
		return nil, err
	}
	return &answer[object.Written]{Body: object.Written{Index: index}}, nil
}
