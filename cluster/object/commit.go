package object

import (
	"maps"
	"slices"
	"time"
)

// Empty reports whether applying the plan would change nothing at all.
func (p *Plan) Empty() bool {
	return (p.Operation == nil || p.Operation.Idle()) && len(p.Changes) == 0 && len(p.OutputChanges) == 0 &&
		(p.Restore == nil || len(p.Restore.Stacks) == 0)
}

// Op is the operation that a revision carries out for the change. A replacement
// is an update: who opens it sees from the kind that the object has to be made anew.
func (c *PlannedChange) Op() Op {
	switch {
	case c.After.IsZero():
		return OpDelete
	case c.Before.IsZero():
		return OpCreate
	}
	return OpUpdate
}

// Replaces reports whether the object is made anew.
func (c *PlannedChange) Replaces() bool { return len(c.Actions) == 2 }

// CommitPlan is the one changeset by which a plan becomes the stack's next
// revision: masters propose it, the forecast rehearses it. stack is the stack as
// it stands, nil for its first revision; number is the revision's, normally
// stack.Spec.Revision+1. The changeset holds only if every object that the plan
// touches or refers to is still as the plan saw it.
func CommitPlan(p *Plan, stack *Stack, number int, author string, at time.Time) Changeset {
	cause := p.Cause
	if cause == "" {
		cause = "apply"
	}
	rev := &Revision{
		Meta: Meta{Kind: KindRevision, Name: RevisionName(p.Stack, number), Stack: p.Stack},
		Spec: RevisionSpec{
			Stack: p.Stack, Number: number, Cause: cause, Target: p.Target, Author: author, Time: at, Source: p.Source,
			Waves: p.Waves, Promise: p.Forecast.Lowest, Duration: p.Forecast.Duration, OnFailure: p.OnFailure, Outputs: p.Outputs,
			Images: p.Pins(),
		},
		Status: RevisionStatus{Phase: RevisionRunning},
	}
	if stack != nil {
		rev.Spec.Parent = stack.Spec.Revision
	}
	for i := range p.Changes {
		c := &p.Changes[i]
		x := RevisionChange{Op: c.Op(), Ref: c.Ref, Wave: c.Wave, Before: c.Before, After: c.After}
		x.Owns = slices.Equal(c.Actions, []string{ActionNoOp}) || slices.Equal(c.Actions, []string{ActionForget})
		if c.Address != c.Ref.Address() {
			x.Address = c.Address
		}
		if c.Moved() {
			was := RevisionChange{Op: OpDelete, Ref: c.From, Wave: c.Wave, To: c.Ref, Before: Any{Object: Renamed(c.Before.Object, c.From)}}
			x.Op, x.From, x.Before = OpCreate, c.From, Any{}
			rev.Spec.Changes = append(rev.Spec.Changes, was)
		}
		rev.Spec.Changes = append(rev.Spec.Changes, x)
	}
	if len(p.Forecast.Placements) > 0 {
		rev.Spec.Placements = make(map[string]string, len(p.Forecast.Placements))
		for _, x := range p.Forecast.Placements {
			rev.Spec.Placements[x.Pod.Namespace+"/"+x.Pod.Name] = x.Node
		}
	}
	c := Changeset{Author: author, Reason: cause + " of " + p.Stack, Time: at, Expect: p.Expect}
	c.Create(rev)
	next := &Stack{Meta: Meta{Kind: KindStack, Name: p.Stack}}
	if stack != nil {
		next = stack.Clone().(*Stack)
	}
	next.Spec.Revision, next.Spec.Outputs = number, p.Outputs
	next.Spec.Deleted = slices.DeleteFunc(slices.Clone(next.Spec.Deleted), func(d Drift) bool {
		return slices.ContainsFunc(p.Changes, func(c PlannedChange) bool { return c.Ref == d.Ref })
	})
	if stack == nil {
		c.Create(next)
	} else {
		c.Update(stack, next)
	}
	return c
}

// Sensitives lists the sensitive values that the plan writes and that the
// objects in force do not have already: by digest, each once, sorted. Only their
// plain texts have to travel with an apply.
func (p *Plan) Sensitives() []string {
	need := map[string]bool{}
	for _, c := range p.Changes {
		after, ok := c.After.Object.(*Secret)
		if !ok {
			continue
		}
		var have map[string]Sensitive
		if before, ok := c.Before.Object.(*Secret); ok && !c.Moved() { // a ciphertext is good for one name only
			have = before.Spec.Data
		}
		for k, v := range after.Spec.Data {
			if !v.Same(have[k]) {
				need[v.Digest] = true
			}
		}
	}
	return sorted(need)
}

// FillSensitive puts ciphertexts into the plan's secrets before it is committed:
// from the object in force where the digest is the same, else from seal, which
// is asked once for each secret and key. inForce answers false for what does not
// exist. Neither the caller's plan nor its objects are changed.
func (p *Plan) FillSensitive(inForce func(Ref) (Object, bool), seal func(r Ref, key string, s Sensitive) (Sensitive, error)) (*Plan, error) {
	out := *p
	out.Changes = slices.Clone(p.Changes)
	for i := range out.Changes {
		c := &out.Changes[i]
		var have map[string]Sensitive
		if o, ok := inForce(c.Ref); ok {
			if s, ok := o.(*Secret); ok {
				have = s.Spec.Data
			}
		}
		for _, side := range []*Any{&c.Before, &c.After} {
			s, ok := side.Object.(*Secret)
			if !ok || c.Moved() && side == &c.Before { // which is the one in force, as it is
				continue
			}
			n := s.Clone().(*Secret)
			n.Spec.Data = make(map[string]Sensitive, len(s.Spec.Data))
			for _, k := range slices.Sorted(maps.Keys(s.Spec.Data)) {
				v := s.Spec.Data[k]
				if h, ok := have[k]; ok && h.Same(v) {
					n.Spec.Data[k] = h
					continue
				}
				sealed, err := seal(c.Ref, k, v)
				if err != nil {
					return nil, err
				}
				n.Spec.Data[k] = sealed
			}
			side.Object = n
		}
	}
	return &out, nil
}

// WithoutSealed is the object without the ciphertexts of its sensitive values:
// their digests are enough to plan by.
func WithoutSealed(o Object) Object {
	s, ok := o.(*Secret)
	if !ok {
		return o
	}
	c := s.Clone().(*Secret)
	c.Spec.Data = make(map[string]Sensitive, len(s.Spec.Data))
	for k, v := range s.Spec.Data {
		c.Spec.Data[k] = Sensitive{Digest: v.Digest}
	}
	return c
}

// Remade reports whether a revision's update means that the object has to be
// made anew: a pod with another template cannot change in place. Who opens such
// a change stops the old pod, and creates the new one when that is gone.
func Remade(c RevisionChange) bool {
	before, okB := c.Before.Object.(*Pod)
	after, okA := c.After.Object.(*Pod)
	return c.Op == OpUpdate && okB && okA && before.Spec.Pod != nil && after.Spec.Pod != nil &&
		(!before.Spec.Pod.equal(after.Spec.Pod) || !SamePins(before, after))
}
