package api

import (
	"context"
	"fmt"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// guard refuses a plan that breaks one of its guards as things stand now. What is
// about the forecast is rehearsed again, unless nothing at all has been written since
// the plan was made: pods that are gone by now make other pods count for more.
func (s *Server) guard(ctx context.Context, v *state.Snapshot, req *object.ApplyRequest) error {
	p := &req.Plan
	all := []object.Guards{p.Guards, req.Guards}
	f := &p.Forecast
	if (all[0].Foresee() || all[1].Foresee()) && v.Index() != f.Index {
		fresh, err := s.Plan(ctx, v, p, s.Now().UTC())
		if err != nil {
			return err
		}
		f = &fresh
	}
	var found []object.Breach
	for _, g := range all {
		if !g.IsZero() {
			found = append(found, g.Check(p, f, declared(v, p))...)
		}
	}
	return object.Broken(found)
}

// declared is how many objects a plan's stacks declare.
func declared(v *state.Snapshot, p *object.Plan) int {
	n := 0
	for _, stack := range p.Stacks() {
		for _, info := range object.Kinds() {
			if !info.Declared {
				continue
			}
			for o := range v.List(info.Kind, state.OfStack(stack)) {
				if o.Head().Owner.IsZero() {
					n++
				}
			}
		}
	}
	return n
}

// limit sets until when a plan can be applied.
func limit(p *object.Plan, now time.Time) error {
	switch {
	case p.Lifetime < 0 || p.Lifetime > object.MaxPlanLifetime:
		return &object.Error{Code: object.CodeInvalid, Message: fmt.Sprintf("a plan cannot be kept for %s", p.Lifetime), Hint: fmt.Sprintf("Keep it for at most %s.", object.MaxPlanLifetime)}
	case p.Lifetime == 0:
		p.Lifetime = object.PlanLifetime
	}
	p.Expires = now.Add(p.Lifetime.D())
	return nil
}

// expired refuses a plan that is older than it was to be.
func expired(p *object.Plan, now time.Time) error {
	if p.Expires.IsZero() || now.Before(p.Expires) {
		return nil
	}
	e := object.Errorf(object.CodeStale, object.Ref{}, "the plan expired at %s: it was made at %s, to be applied within %s", p.Expires.UTC().Format(time.RFC3339), p.Time.UTC().Format(time.RFC3339), p.Lifetime)
	e.Hint = "Plan again; --expire says for how long a saved plan can be applied."
	return e
}
