package state

import (
	"iter"
	"reflect"
	"sync"
	"sync/atomic"

	"github.com/tidwall/btree"

	"github.com/berthdev/berth/cluster/object"
)

// key orders a kind's table by namespace and name.
type key struct{ namespace, name string }

func (k key) less(o key) bool {
	if k.namespace != o.namespace {
		return k.namespace < o.namespace
	}
	return k.name < o.name
}

type table = btree.BTreeG[entry]

// entry keeps the key beside the object, so that comparisons in the tree stay
// in one cache line.
type entry struct {
	key key
	obj object.Object
}

func newTable() *table {
	return btree.NewBTreeGOptions(func(a, b entry) bool { return a.key.less(b.key) }, btree.Options{NoLocks: true})
}

// kindOrder is the place of each kind's table in a snapshot.
var kindOrder = func() map[object.Kind]int {
	m := map[object.Kind]int{}
	for i, k := range object.Kinds() {
		m[k.Kind] = i
	}
	return m
}()

// kindTypes are the Go types of the kinds, by kindOrder: an object that calls
// itself by another kind's name must not get into that kind's table.
var kindTypes = func() []reflect.Type {
	var t []reflect.Type
	for _, k := range object.Kinds() {
		t = append(t, reflect.TypeOf(k.New()))
	}
	return t
}()

// Snapshot is what is so at one index. It never changes and may be read and
// forked by any number of goroutines.
type Snapshot struct {
	index  uint64
	tables []*table // by kindOrder
	idx    indexes
	// copying guards Copy of the trees below: it marks its source, and a tree may
	// be shared by several snapshots and forks of one family. Readers need no lock.
	copying *sync.Mutex
}

// Store is the one place where a state changes. One goroutine at a time may
// call Apply; Snapshot may be called by anyone at any time.
type Store struct {
	live      *Snapshot // mutable; its trees are copied on write after each publication
	dirty     dirty     // what of live differs from published
	hints     hints
	published atomic.Pointer[Snapshot]
}

// dirty names the trees that changed since the last publication, so that a
// publication copies a few trees and shares the rest.
type dirty struct {
	tables  []bool
	byOwner bool
	byNode  bool
	pending bool
	usage   bool
	byMark  bool
}

// New returns an empty store at index 0.
func New() *Store { return newStore(0) }

func newStore(index uint64) *Store {
	live := &Snapshot{index: index, idx: newIndexes(), copying: new(sync.Mutex)}
	for range kindOrder {
		live.tables = append(live.tables, newTable())
	}
	s := &Store{live: live, dirty: dirty{tables: make([]bool, len(live.tables))}, hints: hints{tables: make([]btree.PathHint, len(live.tables))}}
	s.published.Store(live.copy())
	return s
}

// Snapshot is the state after the last Apply.
func (s *Store) Snapshot() *Snapshot { return s.published.Load() }

// publish makes what Apply did visible. Copying a tree is O(1): both sides copy
// nodes on write from then on.
func (s *Store) publish() {
	s.live.copying.Lock()
	defer s.live.copying.Unlock()
	last := s.published.Load()
	v := &Snapshot{index: s.live.index, tables: last.tables, idx: last.idx, copying: s.live.copying}
	shared := true
	for i, changed := range s.dirty.tables {
		if !changed {
			continue
		}
		if shared {
			v.tables, shared = append([]*table(nil), last.tables...), false
		}
		v.tables[i] = s.live.tables[i].Copy()
		s.dirty.tables[i] = false
	}
	if s.dirty.byOwner {
		v.idx.byOwner = s.live.idx.byOwner.Copy()
	}
	if s.dirty.byNode {
		v.idx.byNode = s.live.idx.byNode.Copy()
	}
	if s.dirty.pending {
		v.idx.pending = s.live.idx.pending.Copy()
	}
	if s.dirty.usage {
		v.idx.usage = s.live.idx.usage.Copy()
	}
	if s.dirty.byMark {
		v.idx.byMark = s.live.idx.byMark.Copy()
	}
	s.dirty = dirty{tables: s.dirty.tables}
	s.published.Store(v)
}

func (v *Snapshot) copy() *Snapshot {
	v.copying.Lock()
	defer v.copying.Unlock()
	c := &Snapshot{index: v.index, tables: make([]*table, len(v.tables)), idx: v.idx.copy(), copying: v.copying}
	for i, t := range v.tables {
		c.tables[i] = t.Copy()
	}
	return c
}

// Fork is a store of its own that begins with this state. What is applied to it
// is seen by nobody else. O(1).
func (v *Snapshot) Fork() *Store {
	s := &Store{live: v.copy(), dirty: dirty{tables: make([]bool, len(v.tables))}, hints: hints{tables: make([]btree.PathHint, len(v.tables))}}
	s.published.Store(v)
	return s
}

// Index is the Raft index of the last entry that this state contains.
func (v *Snapshot) Index() uint64 { return v.index }

func (v *Snapshot) table(k object.Kind) *table {
	i, ok := kindOrder[k]
	if !ok {
		return nil
	}
	return v.tables[i]
}

// Get returns an object.
func (v *Snapshot) Get(r object.Ref) (object.Object, bool) {
	t := v.table(r.Kind)
	if t == nil {
		return nil, false
	}
	e, ok := t.Get(entry{key: key{r.Namespace, r.Name}})
	return e.obj, ok
}

// Find is Get for callers that know the type: Find[*object.Pod](v, ref).
func Find[T object.Object](v *Snapshot, r object.Ref) (T, bool) {
	o, ok := v.Get(r)
	if !ok {
		var zero T
		return zero, false
	}
	t, ok := o.(T)
	return t, ok
}

// Count is the number of objects of a kind.
func (v *Snapshot) Count(k object.Kind) int {
	if t := v.table(k); t != nil {
		return t.Len()
	}
	return 0
}

// Where narrows a List.
type Where func(*filter)

type filter struct {
	namespace string
	match     []func(object.Object) bool
}

// InNamespace lists one namespace only; empty means all.
func InNamespace(ns string) Where { return func(f *filter) { f.namespace = ns } }

// Matching keeps the objects for which keep is true.
func Matching(keep func(object.Object) bool) Where {
	return func(f *filter) { f.match = append(f.match, keep) }
}

// WithLabels keeps the objects that carry all the labels.
func WithLabels(labels map[string]string) Where {
	return Matching(func(o object.Object) bool { return object.HasLabels(o.Head().Labels, labels) })
}

// OfStack keeps the objects that a stack declares.
func OfStack(stack string) Where {
	return Matching(func(o object.Object) bool { return o.Head().Stack == stack })
}

// List yields a kind's objects ordered by namespace and name; the order is part
// of the contract.
func (v *Snapshot) List(k object.Kind, where ...Where) iter.Seq[object.Object] {
	var f filter
	for _, w := range where {
		w(&f)
	}
	return func(yield func(object.Object) bool) {
		t := v.table(k)
		if t == nil {
			return
		}
		t.Ascend(entry{key: key{f.namespace, ""}}, func(e entry) bool {
			if f.namespace != "" && e.key.namespace != f.namespace {
				return false
			}
			for _, m := range f.match {
				if !m(e.obj) {
					return true
				}
			}
			return yield(e.obj)
		})
	}
}

// All is List for callers that know the type: All[*object.Pod](v, object.KindPod).
func All[T object.Object](v *Snapshot, k object.Kind, where ...Where) iter.Seq[T] {
	return func(yield func(T) bool) {
		for o := range v.List(k, where...) {
			if !yield(o.(T)) {
				return
			}
		}
	}
}
