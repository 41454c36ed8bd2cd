package api

import (
	"context"
	"fmt"

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

// choose completes an operation with what it leaves to the masters: which pods a
// rebalance moves.
func (s *Server) choose(v *state.Snapshot, p *object.Plan) error {
	o := p.Operation
	if o.Name != object.OperationRebalance {
		return nil
	}
	if o.Most < 1 {
		return &object.Error{Code: object.CodeInvalid, Message: fmt.Sprintf("a rebalance cannot move at most %d pods", o.Most), Hint: "Let it move one at least."}
	}
	if len(o.On) > 0 || s.Check == nil {
		return &object.Error{Code: object.CodeInvalid, Message: "which pods a rebalance moves is for the masters to choose", Hint: "Name none."}
	}
	chosen, found := s.Check(v, p)
	if found.HasErrors() {
		return &object.Error{Code: object.CodeInvalid, Message: "the nodes cannot be evened out", Diagnostics: found}
	}
	chose := *o
	for _, a := range chosen {
		chose.On = append(chose.On, a.Ref)
	}
	p.Operation = &chose
	return nil
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
	if p.Operation.Idle() {
		return nil, &object.Error{Code: object.CodeInvalid, Message: "the plan moves nothing: there is nothing to apply"}
	}
	if !p.Operation.Applicable() {
		return nil, &object.Error{Code: object.CodeInvalid, Message: "a plan of " + p.Operation.Name + " is a question: there is nothing to apply"}
	}
	return s.commit(ctx, req, func(v *state.Snapshot) (object.Changeset, object.Applied, error) {
		c, err := operation(v, p)
		c.Author, c.Time = author, s.Now().UTC()
		return c, object.Applied{}, err
	})
}
