package state

import "github.com/berthdev/berth/cluster/object"

// Tell adds an event to a changeset: a new one, or one more time that the same has
// happened. Count, First and the name are set here; Last is when it happened. What
// the changeset tells already is not told twice.
func (v *Snapshot) Tell(c *object.Changeset, s object.EventSpec) {
	s.Count, s.First = 1, s.Last
	e := &object.Event{
		Meta: object.Meta{Kind: object.KindEvent, Namespace: object.EventNamespace(s.About), Name: object.EventName(s.About, s.Reason, s.Message)},
		Spec: s,
	}
	for _, x := range c.Changes {
		if x.Ref == e.Ref() {
			return
		}
	}
	if old, ok := Find[*object.Event](v, e.Ref()); ok {
		e.Spec.Count, e.Spec.First = old.Spec.Count+1, old.Spec.First
		c.Update(old, e)
		return
	}
	c.Create(e)
}
