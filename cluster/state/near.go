package state

import (
	"github.com/tidwall/btree"

	"github.com/berthdev/berth/cluster/object"
)

// hints remember where in each tree the store was last: writes come in the order of
// names more often than not, and what is near is found with a third of the
// comparisons. They change no answer.
type hints struct {
	tables                   []btree.PathHint
	byOwner, byNode, pending btree.PathHint
	byMark                   [16]btree.PathHint
}

// of is the hint for a mark. The labels of one pod lie far apart, each beside that
// of the pod before.
func (h *hints) of(mark object.Ref) *btree.PathHint {
	n := len(mark.Name)
	if n > 0 {
		n += int(mark.Name[0])
	}
	return &h.byMark[n%len(h.byMark)]
}

// get is an object as the writer sees it.
func (s *Store) get(r object.Ref) object.Object {
	i, ok := kindOrder[r.Kind]
	if !ok {
		return nil
	}
	e, _ := s.live.tables[i].GetHint(entry{key: key{r.Namespace, r.Name}}, &s.hints.tables[i])
	return e.obj
}

// walk finds objects whose names come in order: pods of one set stand beside each
// other in the table, mostly with nothing between them.
type walk struct {
	v    *Snapshot
	kind object.Kind
	it   *btree.IterG[entry] // at the last one, from the second of a kind on
}

func (w *walk) get(r object.Ref) (object.Object, bool) {
	k := key{r.Namespace, r.Name}
	switch {
	case w.kind != r.Kind: // the first of its kind may be the only one
		w.kind, w.it = r.Kind, nil
		return w.v.Get(r)
	case w.it == nil:
		t := w.v.table(r.Kind)
		if t == nil {
			return nil, false
		}
		w.it = new(btree.IterG[entry])
		w.it.Init(t, false)
	case w.it.Next() && w.it.Item().key == k:
		return w.it.Item().obj, true
	}
	if w.it.Seek(entry{key: k}) && w.it.Item().key == k {
		return w.it.Item().obj, true
	}
	return nil, false
}

// pod is get for pods.
func (w *walk) pod(r object.Ref) (*object.Pod, bool) {
	o, ok := w.get(r)
	if !ok {
		return nil, false
	}
	p, ok := o.(*object.Pod)
	return p, ok
}
