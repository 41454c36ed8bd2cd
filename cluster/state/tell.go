package state

import "github.com/berthdev/berth/cluster/object"

// Tell adds an event to the changeset of the transition that it tells of, so that
// it is told as often as that happens: a new one, or one more of what was told
// before. Of equal ones in one changeset the first counts.
func Tell(v *Snapshot, c *object.Changeset, about object.Ref, e object.EventSpec) {
	e.About, e.Count, e.First = about, 1, e.Last
	now := &object.Event{Meta: object.Meta{Kind: object.KindEvent, Namespace: object.EventNamespace(about), Name: object.EventName(about, e.Reason, e.Message)}, Spec: e}
	for i := range c.Changes {
		if c.Changes[i].Ref == now.Ref() {
			return
		}
	}
	if old, ok := Find[*object.Event](v, now.Ref()); ok {
		now.Spec.Count, now.Spec.First = old.Spec.Count+1, old.Spec.First
		c.Update(old, now)
		return
	}
	c.Create(now)
}
