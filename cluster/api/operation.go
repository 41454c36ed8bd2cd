package api

import (
	"context"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// expected is what an operation is planned on: the versions of what it changes.
// It is an error where the operation cannot be.
func expected(v *state.Snapshot, p *object.Plan) ([]object.Expectation, error) {
	c, err := operation(v, p)
	if err != nil {
		return nil, err
	}
	out := make([]object.Expectation, len(c.Changes))
	for i, x := range c.Changes {
		o, _ := v.Get(x.Ref)
		out[i] = object.Expectation{Ref: x.Ref, Version: o.Head().Version}
	}
	return out, nil
}

// operation is what a plan's operation writes on the state as it is.
func operation(v *state.Snapshot, p *object.Plan) (object.Changeset, error) {
	c, err := p.Operation.Changeset(v.Get, p.Time)
	if err != nil {
		return c, err
	}
	for _, x := range c.Changes {
		if d, ok := x.Object.Object.(*object.Deployment); ok {
			if err := check(d); err != nil {
				return c, err
			}
		}
	}
	return c, nil
}

// operate commits a sealed plan of an operation.
func (s *Server) operate(ctx context.Context, req *object.ApplyRequest, author string) (*answer[object.Applied], error) {
	p := &req.Plan
	if !p.Operation.Applicable() {
		return nil, &object.Error{Code: object.CodeInvalid, Message: "a plan of " + p.Operation.Name + " is a question: there is nothing to apply"}
	}
	return s.commit(ctx, req, func(v *state.Snapshot) (object.Changeset, object.Applied, error) {
		c, err := operation(v, p)
		c.Author, c.Time = author, s.Now().UTC()
		return c, object.Applied{}, err
	})
}
