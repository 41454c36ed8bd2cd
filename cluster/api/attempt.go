package api

import (
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// applied is the answer to a plan that has become these revisions.
func applied(p *object.Plan, made []object.Applied) object.Applied {
	if p.Restore != nil {
		return object.Applied{Restored: made}
	}
	return made[0]
}

// sign writes into the revisions of a changeset which request has made them.
func sign(c *object.Changeset, attempt string) {
	for _, x := range c.Changes {
		if rev, ok := x.Object.Object.(*object.Revision); ok {
			rev.Spec.Attempt = attempt
		}
	}
}

// repeated finds what a request has become that is sent again, as a client does
// when a leader was lost before it answered. Whatever the first one wrote is in v
// if it ever will be: a leader serves only what knows all earlier terms, and two
// that are under way at once cannot both pass the versions that the plan expects.
func repeated(v *state.Snapshot, req *object.ApplyRequest, author string) (object.Applied, bool) {
	if req.Attempt == "" || req.Plan.Operation != nil {
		return object.Applied{}, false
	}
	var made []object.Applied
	for _, stack := range req.Plan.Stacks() {
		for rev := range state.All[*object.Revision](v, object.KindRevision, state.OfStack(stack)) {
			if rev.Spec.Attempt == req.Attempt && rev.Spec.Author == author {
				made = append(made, object.Applied{Index: rev.Created, Stack: stack, Number: rev.Spec.Number, Revision: rev.Ref()})
			}
		}
	}
	if len(made) == 0 {
		return object.Applied{}, false
	}
	a := applied(&req.Plan, made)
	a.Index = made[0].Index
	return a, true
}
