package state

import (
	"fmt"
	"reflect"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// Event is one object that an Apply changed. Before is nil for a create, After
// is nil for a delete.
type Event struct {
	Index  uint64
	Op     object.Op
	Part   object.Part
	Ref    object.Ref
	Before object.Object
	After  object.Object
}

// Apply carries out one changeset, whole, or refuses it whole: the error is an
// *object.Error with CodeConflict (a Prior, Created or Expectation does not
// hold), CodeExists, CodeNotFound or CodeInvalid, and nothing has changed but
// Index. It is deterministic: the same store, index and changeset give the same
// state on every master. Equal indexes may follow one another (group commit).
func (s *Store) Apply(index uint64, c object.Changeset) ([]Event, error) {
	events, err := s.ApplyBatch(index, []object.Changeset{c})
	return events, err[0]
}

// ApplyBatch carries out several independent changesets of one Raft entry and
// publishes their result once. The errors stand in the order of the changesets.
func (s *Store) ApplyBatch(index uint64, batch []object.Changeset) ([]Event, []error) {
	return s.applyBatch(index, batch, false)
}

// ApplyOwned is ApplyBatch for changesets whose objects nobody else holds, such as
// have just been decoded: they become the state's own, and are not copied. Whatever
// comes of it, the batch must not be used again.
func (s *Store) ApplyOwned(index uint64, batch []object.Changeset) ([]Event, []error) {
	return s.applyBatch(index, batch, true)
}

func (s *Store) applyBatch(index uint64, batch []object.Changeset, owned bool) ([]Event, []error) {
	if index < s.live.index {
		panic(fmt.Sprintf("state: entry %d after %d", index, s.live.index)) // the log is ordered; going on would fork history
	}
	s.live.index = index
	n := 0
	for i := range batch {
		n += len(batch[i].Changes)
	}
	events := make([]Event, 0, n)
	errs := make([]error, len(batch))
	for i := range batch {
		events, errs[i] = s.apply(events, index, &batch[i], owned)
	}
	s.publish()
	return events, errs
}

// apply adds the events of one changeset to those of the batch.
func (s *Store) apply(events []Event, index uint64, c *object.Changeset, owned bool) ([]Event, error) {
	// First check everything against the state with this changeset's own earlier
	// changes laid over it, then write: a refused changeset leaves no trace.
	mark := len(events)
	var overlay map[object.Ref]object.Object
	if len(c.Changes) > few {
		overlay = make(map[object.Ref]object.Object, len(c.Changes))
	}
	get := func(r object.Ref) object.Object {
		if overlay != nil {
			if o, ok := overlay[r]; ok {
				return o
			}
		} else {
			for i := len(events) - 1; i >= mark; i-- {
				if events[i].Ref == r {
					return events[i].After
				}
			}
		}
		return s.get(r)
	}
	for _, x := range c.Expect {
		if x.Ref.Name == "" {
			for o := range s.live.List(x.Ref.Kind) {
				if o.Head().Version > x.Version {
					return events, conflict(o.Ref(), o, object.PartSpec, x.Version)
				}
			}
			continue
		}
		if o := get(x.Ref); x.Version != versionOf(o) {
			return events, conflict(x.Ref, o, object.PartSpec, x.Version)
		}
	}
	for i := range c.Changes {
		x := &c.Changes[i]
		before := get(x.Ref)
		after, err := step(index, c, x, before, owned)
		if err != nil {
			clear(events[mark:])
			return events[:mark], err
		}
		if overlay != nil {
			overlay[x.Ref] = after
		}
		events = append(events, Event{Index: index, Op: x.Op, Part: x.Part, Ref: x.Ref, Before: before, After: after})
	}
	for _, e := range events[mark:] {
		s.put(e.Ref, e.Before, e.After)
	}
	return events, nil
}

// few changes are looked through faster than a table of them is made.
const few = 8

// step is the object after one change; owned says that it may be made of the
// change's own.
func step(index uint64, c *object.Changeset, x *object.Change, before object.Object, owned bool) (object.Object, error) {
	given := func() object.Object {
		if owned {
			return x.Object.Object
		}
		return x.Object.Clone()
	}
	if x.Op == object.OpDelete {
		if before == nil {
			return nil, object.Errorf(object.CodeNotFound, x.Ref, "does not exist")
		}
		if before.Head().Version != x.Prior || (x.Created != 0 && before.Head().Created != x.Created) {
			return nil, conflict(x.Ref, before, x.Part, x.Prior)
		}
		return nil, nil
	}
	if x.Object.IsZero() || x.Object.Ref() != x.Ref {
		return nil, object.Errorf(object.CodeInvalid, x.Ref, "the change carries another object, or none")
	}
	if i, ok := kindOrder[x.Ref.Kind]; !ok || x.Ref.Name == "" || reflect.TypeOf(x.Object.Object) != kindTypes[i] {
		return nil, object.Errorf(object.CodeInvalid, x.Ref, "not the address of an object, or of an object of another kind")
	}
	switch x.Op {
	case object.OpCreate:
		if before != nil {
			return nil, &object.Error{Code: object.CodeExists, Ref: x.Ref, Message: "exists already", By: before.Head().ChangedBy, At: before.Head().ChangedAt}
		}
		after := given()
		m := after.Head()
		m.Created, m.CreatedAt = index, c.Time
		m.Version, m.StatusVersion = index, index
		m.ChangedAt, m.ChangedBy, m.ChangedWhy = c.Time, c.Author, c.Reason
		return after, nil
	case object.OpUpdate:
		if before == nil {
			return nil, object.Errorf(object.CodeNotFound, x.Ref, "does not exist")
		}
		old := before.Head()
		if x.Created != 0 && old.Created != x.Created {
			return nil, conflict(x.Ref, before, x.Part, x.Prior)
		}
		if x.Part != "" && x.Part != object.PartSpec && x.Part != object.PartStatus {
			return nil, object.Errorf(object.CodeInvalid, x.Ref, "there is no part %q; an update replaces the spec or the status", x.Part)
		}
		if x.Part == object.PartStatus {
			if old.StatusVersion != x.Prior {
				return nil, conflict(x.Ref, before, x.Part, x.Prior)
			}
			if before.StatusPtr() == nil {
				return nil, object.Errorf(object.CodeInvalid, x.Ref, "a %s has no status", x.Ref.Kind)
			}
			var after object.Object
			if owned { // a bare object with nothing but the status: the rest is put around it
				after = x.Object.Object
				object.CopySpec(after, before)
			} else {
				after = before.Clone()
				object.CopyStatus(after, x.Object)
			}
			after.Head().StatusVersion = index
			return after, nil
		}
		if old.Version != x.Prior {
			return nil, conflict(x.Ref, before, x.Part, x.Prior)
		}
		after := given()
		object.CopyStatus(after, before)
		m := after.Head()
		m.Created, m.CreatedAt, m.StatusVersion = old.Created, old.CreatedAt, old.StatusVersion
		m.Version = index
		m.ChangedAt, m.ChangedBy, m.ChangedWhy = c.Time, c.Author, c.Reason
		switch {
		case c.Author == object.RevisionAuthor: // what it puts back may have been edited then
		case !remembers(old) || !object.Person(c.Author):
			m.Edits = old.Edits
		default:
			m.Edits = object.Edited(before, after, c.Author, c.Reason, c.Time, index)
		}
		return after, nil
	}
	return nil, object.Errorf(object.CodeInvalid, x.Ref, "there is no operation %q", x.Op)
}

// remembers reports whether an object keeps what people do to it: those that a stack
// declares do, but for pods, which nobody can change.
func remembers(m *object.Meta) bool {
	info, ok := object.Info(m.Kind)
	return ok && info.Declared && m.Kind != object.KindPod && m.Stack != "" && m.Owner.IsZero()
}

func versionOf(o object.Object) uint64 {
	if o == nil {
		return 0
	}
	return o.Head().Version
}

// conflict tells who wrote in between. Objects do not record who last reported
// their status, so a conflict about a status names only its version.
func conflict(r object.Ref, o object.Object, part object.Part, seen uint64) *object.Error {
	e := &object.Error{Code: object.CodeConflict, Ref: r, Hint: "Look at it again and repeat the change."}
	if o == nil {
		e.Message = "was deleted in the meantime"
		return e
	}
	m := o.Head()
	if part == object.PartStatus {
		e.Message = fmt.Sprintf("has another status by now (version %d of %d, expected %d)", m.StatusVersion, m.Created, seen)
		return e
	}
	e.By, e.At = m.ChangedBy, m.ChangedAt
	if seen == 0 {
		e.Message = fmt.Sprintf("was created by %s at %s", m.ChangedBy, m.ChangedAt.UTC().Format(time.RFC3339))
		return e
	}
	e.Message = fmt.Sprintf("was changed by %s at %s (version %d, expected %d)", m.ChangedBy, m.ChangedAt.UTC().Format(time.RFC3339), m.Version, seen)
	return e
}
