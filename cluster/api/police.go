package api

import (
	"context"
	"net/url"
	"slices"
	"strings"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// Policies compiles and judges by policy objects; cmd/berth makes it of package
// policy, for cluster packages know nothing of its language. It must not keep or
// change what it is given, and may be called by many goroutines at once.
type Policies interface {
	// Check tells the mistakes of a policy's source.
	Check(*object.Policy) object.Diagnostics
	// Foresees reports whether a rule looks at the forecast of what it judges.
	Foresees([]*object.Policy) bool
	// Judge says which rules a plan of the author's breaks; each stack of a plan of
	// several is judged by itself.
	Judge(policies []*object.Policy, p *object.Plan, author string) []object.PolicyVerdict
}

type overrideKey struct{}

// overrideOf is why the sender of a request sets soft policies aside; empty: does not.
func overrideOf(ctx context.Context) string {
	return reasonOf(ctx.Value(overrideKey{}))
}

// reasonOf is a reason as a header carried it.
func reasonOf(value any) string {
	raw, _ := value.(string) // absent from requests that make no context of ours
	reason, err := url.PathUnescape(raw)
	if err != nil {
		reason = raw // somebody wrote it by hand
	}
	return strings.TrimSpace(reason)
}

// policies are those in force, in the order of their names.
func policies(v *state.Snapshot) []*object.Policy {
	return slices.Collect(state.All[*object.Policy](v, object.KindPolicy))
}

// compiles refuses changes with a policy that does not.
func (s *Server) compiles(changes []object.PlannedChange) error {
	for i := range changes {
		p, ok := changes[i].After.Object.(*object.Policy)
		if !ok || s.Policies == nil {
			continue
		}
		if found := s.Policies.Check(p); found.HasErrors() {
			for j := range found {
				found[j].Address, found[j].Path = changes[i].Address, "source"
			}
			return invalid(p.Ref(), found)
		}
	}
	return nil
}

// verdicts judges a plan, for its reader, by the policies in force.
func (s *Server) verdicts(v *state.Snapshot, p *object.Plan, author string) ([]object.PolicyVerdict, error) {
	if s.Policies == nil {
		return nil, nil
	}
	judged := *p
	if p.Operation != nil {
		c, err := operation(v, p)
		if err != nil {
			return nil, err
		}
		judged.Changes = planned(v, &c)
	}
	if err := s.compiles(judged.Changes); err != nil {
		return nil, err
	}
	return s.Policies.Judge(policies(v), &judged, author), nil
}

// police holds what somebody is about to write against the policies in force, and
// refuses it or records that they were set aside. p is the plan that it is of, nil
// for a write of objects. The write then holds only while these policies do.
func (s *Server) police(ctx context.Context, v *state.Snapshot, c *object.Changeset, p *object.Plan) error {
	if s.Policies == nil {
		return nil
	}
	judged := object.Plan{Cause: object.CauseWrite, Waves: 1}
	if p != nil {
		judged = *p
	}
	if p == nil || p.Operation != nil {
		judged.Changes = planned(v, c)
	}
	if len(judged.Changes) == 0 {
		return nil // outputs, or objects that are Berth's own
	}
	if err := s.compiles(judged.Changes); err != nil {
		return err
	}
	all := policies(v)
	// A policy that comes or changes before this is committed has to judge it first.
	c.Expect = append(slices.Clip(c.Expect), object.Expectation{Ref: object.Ref{Kind: object.KindPolicy}, Version: v.Index()})
	if len(all) == 0 {
		return nil
	}
	if s.Policies.Foresees(all) && (p == nil || v.Index() != p.Forecast.Index) {
		f, err := s.Plan(ctx, v, &judged, s.Now().UTC())
		if err != nil {
			return err
		}
		judged.Forecast = f
	}
	found, reason := s.Policies.Judge(all, &judged, c.Author), overrideOf(ctx)
	if err := object.Refused(found, reason); err != nil {
		return err
	}
	if rules := object.Overridden(found); len(rules) > 0 {
		setAside(v, c, "policy", strings.Join(rules, ", ")+": "+reason, func(r *object.RevisionSpec) { r.Override, r.Overridden = reason, rules })
	}
	return nil
}

// setAside records in a changeset what its author set aside, soft policies or
// freezes: in the revision, if there is one, and as an event about what is written.
func setAside(v *state.Snapshot, c *object.Changeset, source, what string, record func(*object.RevisionSpec)) {
	about := c.Changes[0].Ref
	for i := range c.Changes {
		if r, ok := c.Changes[i].Object.Object.(*object.Revision); ok {
			n := *r
			record(&n.Spec)
			c.Changes[i].Object.Object = &n
			about = r.Ref()
		}
	}
	state.Tell(v, c, about, object.EventSpec{Level: "warning", Reason: source + "_overridden", Source: source, Last: c.Time, Message: c.Author + " set aside " + what})
}

// planned are the changes of declared kinds in a changeset, as a plan has them.
func planned(v *state.Snapshot, c *object.Changeset) []object.PlannedChange {
	var out []object.PlannedChange
	for i := range c.Changes {
		x := &c.Changes[i]
		info, ok := object.Info(x.Ref.Kind)
		if !ok || !info.Declared || x.Op == object.OpUpdate && x.Part == object.PartStatus {
			continue
		}
		p := object.PlannedChange{Ref: x.Ref, Address: x.Ref.Address(), Actions: []string{string(x.Op)}, Wave: 1, After: object.Any{Object: whole(v, c, x.Object.Object)}}
		if was, ok := v.Get(x.Ref); ok {
			p.Before = object.Any{Object: whole(v, c, was)}
		}
		out = append(out, p)
	}
	return out
}

// whole is an object with its template, which the state and changesets keep apart.
func whole(v *state.Snapshot, c *object.Changeset, o object.Object) object.Object {
	p, ok := o.(*object.Pod)
	if !ok || p.Spec.Pod != nil {
		return o
	}
	for i := range c.Changes {
		t, ok := c.Changes[i].Object.Object.(*object.Template)
		if ok && t.Namespace == p.Namespace && t.Name == p.Spec.Template {
			n := *p
			n.Spec.Pod = &t.Spec
			return &n
		}
	}
	return v.Expand(p)
}
