package api

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

type thawKey struct{}

// admit holds what somebody is about to write against the freezes and the policies
// in force. p is the plan that it is of, nil for a write of objects.
func (s *Server) admit(ctx context.Context, v *state.Snapshot, c *object.Changeset, p *object.Plan) error {
	if err := s.freeze(ctx, v, c, p); err != nil {
		return err
	}
	return s.police(ctx, v, c, p)
}

// freeze refuses what falls into the window of a freeze, or records that the freeze
// was set aside.
func (s *Server) freeze(ctx context.Context, v *state.Snapshot, c *object.Changeset, p *object.Plan) error {
	objects := touched(v, c, p)
	if role := identityOf(ctx).Role; len(objects) == 0 || role == object.RoleNode || role == object.RoleMaster {
		return nil // machines tell what is so
	}
	// A freeze that comes or changes before this is committed has to be looked at first.
	c.Expect = append(slices.Clip(c.Expect), object.Expectation{Ref: object.Ref{Kind: object.KindFreeze}, Version: v.Index()})
	found, reason := object.Freezing(freezes(v), objects, s.Now()), reasonOf(ctx.Value(thawKey{}))
	if err := object.Refuses(found, reason); err != nil || len(found) == 0 {
		return err
	}
	names := make([]string, len(found))
	for i := range found {
		names[i] = found[i].Freeze
	}
	setAside(v, c, "freeze", "the freeze "+strings.Join(names, ", ")+": "+reason, func(r *object.RevisionSpec) { r.Thaw, r.Thawed = reason, names })
	return nil
}

// frozen tells, for its reader, which freezes hold for a plan now.
func (s *Server) frozen(v *state.Snapshot, p *object.Plan, now time.Time) ([]object.Frozen, error) {
	all := freezes(v)
	if len(all) == 0 || p.Operation != nil && !p.Operation.Applicable() {
		return nil, nil
	}
	var c object.Changeset
	if p.Operation != nil {
		var err error
		if c, err = operation(v, p); err != nil {
			return nil, err
		}
	}
	return object.Freezing(all, touched(v, &c, p), now), nil
}

// freezes are all of them, in the order of their names.
func freezes(v *state.Snapshot) []*object.Freeze {
	return slices.Collect(state.All[*object.Freeze](v, object.KindFreeze))
}

// touched are the declared objects that a plan or another write is about. What only
// steers a rollout is left out where no plan was made of it.
func touched(v *state.Snapshot, c *object.Changeset, p *object.Plan) []object.Ref {
	var out []object.Ref
	if p != nil && p.Operation == nil {
		for i := range p.Changes {
			out = append(out, p.Changes[i].Ref)
		}
		return out
	}
	for i := range c.Changes {
		x := &c.Changes[i]
		info, ok := object.Info(x.Ref.Kind)
		if !ok || !info.Declared || x.Op == object.OpUpdate && x.Part == object.PartStatus {
			continue
		}
		if was, there := v.Get(x.Ref); there && p == nil && x.Op == object.OpUpdate && object.Steers(was, x.Object.Object) {
			continue
		}
		out = append(out, x.Ref)
	}
	return out
}
