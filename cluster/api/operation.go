package api

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

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
		if err == nil {
			keepPlacements(v, p, &c)
		}
		return c, object.Applied{}, err
	})
}

// operationTime is for how long the placements of an operation's plan are used at
// least; of one that is to take long, for twice the time that its plan says.
const operationTime = 10 * time.Minute

// keepPlacements gives the stacks whose pods the plan starts anew the nodes that it
// has for them. An operation has no revision to carry them.
func keepPlacements(v *state.Snapshot, p *object.Plan, c *object.Changeset) {
	of := map[string]map[string]string{}
	for _, x := range p.Forecast.Placements {
		if o, ok := v.Get(x.Workload); ok && o.Head().Stack != "" {
			stack := o.Head().Stack
			if of[stack] == nil {
				of[stack] = map[string]string{}
			}
			of[stack][x.Pod.Namespace+"/"+x.Pod.Name] = x.Node
		}
	}
	for _, name := range slices.Sorted(maps.Keys(of)) {
		was, ok := state.Find[*object.Stack](v, object.Ref{Kind: object.KindStack, Name: name})
		if !ok {
			continue
		}
		next := was.Clone().(*object.Stack)
		next.Status.Placements = of[name]
		next.Status.PlacedUntil = c.Time.Add(max(operationTime, 2*p.Forecast.Duration.D()))
		c.UpdateStatus(was, next)
	}
}
