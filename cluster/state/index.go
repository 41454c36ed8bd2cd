package state

import (
	"iter"
	"strings"

	"github.com/tidwall/btree"

	"github.com/berthdev/berth/cluster/object"
)

// indexes are the derived tables that Apply keeps, so that nobody rescans a
// hundred thousand pods. Each is a persistent tree, copied like the tables.
type indexes struct {
	byOwner *btree.BTreeG[link] // owner -> owned
	byNode  *btree.BTreeG[link] // node -> bound pods
	pending *btree.BTreeG[link] // pods that wait for a node
	usage   *btree.BTreeG[nodeUsage]
	byMark  *btree.BTreeG[link] // labels, templates, selectors and what is read -> pods, services and readers; see marks.go
}

type link struct{ from, to object.Ref }

// less keeps together what comes from one object, in the order of references. In
// which order these objects stand is nobody's concern: their names tell them apart
// soonest.
func (a link) less(b link) bool {
	if c := strings.Compare(a.from.Name, b.from.Name); c != 0 {
		return c < 0
	}
	if a.from != b.from {
		return a.from.Compare(b.from) < 0
	}
	return a.to.Compare(b.to) < 0
}

// Usage is what the pods bound to a node ask for together. Pods that have ended
// ask for nothing.
type Usage struct {
	CPU    object.CPU
	Memory object.Bytes
	Pods   int
}

type nodeUsage struct {
	node string
	Usage
	tenancy *Tenancy // another one after every change
}

func newLinks() *btree.BTreeG[link] {
	return btree.NewBTreeGOptions(link.less, btree.Options{NoLocks: true})
}

func newIndexes() indexes {
	return indexes{
		byOwner: newLinks(), byNode: newLinks(), pending: newLinks(), byMark: newLinks(),
		usage: btree.NewBTreeGOptions(func(a, b nodeUsage) bool { return a.node < b.node }, btree.Options{NoLocks: true}),
	}
}

func (x indexes) copy() indexes {
	return indexes{byOwner: x.byOwner.Copy(), byNode: x.byNode.Copy(), pending: x.pending.Copy(), usage: x.usage.Copy(), byMark: x.byMark.Copy()}
}

// put writes one object into its table and every index. Before is what the
// table holds now; either may be nil.
func (s *Store) put(r object.Ref, before, after object.Object) {
	i := kindOrder[r.Kind]
	s.dirty.tables[i] = true
	k := key{r.Namespace, r.Name}
	if after == nil {
		s.live.tables[i].DeleteHint(entry{key: k}, &s.hints.tables[i])
	} else {
		s.live.tables[i].SetHint(entry{key: k, obj: after}, &s.hints.tables[i])
	}
	s.relink(r, before, after)
}

// relink brings the indexes from before to after and touches only what differs:
// most writes are status reports, which move no link at all.
func (s *Store) relink(r object.Ref, before, after object.Object) {
	idx := &s.live.idx
	move(idx.byOwner, &s.hints.byOwner, &s.dirty.byOwner, r, ownerOf(before), ownerOf(after))
	s.remark(r, before, after)
	if r.Kind != object.KindPod {
		return
	}
	old, _ := before.(*object.Pod)
	now, _ := after.(*object.Pod)
	move(idx.byNode, &s.hints.byNode, &s.dirty.byNode, r, boundTo(old), boundTo(now))
	if was, is := waits(old), waits(now); was != is {
		s.dirty.pending = true
		if is {
			idx.pending.SetHint(link{to: r}, &s.hints.pending)
		} else {
			idx.pending.DeleteHint(link{to: r}, &s.hints.pending)
		}
	}
	if from, to := askOf(old), askOf(now); from != to || regrouped(old, now) {
		s.addUsage(from, -1)
		s.addUsage(to, 1)
	}
}

func move(t *btree.BTreeG[link], hint *btree.PathHint, changed *bool, r, from, to object.Ref) {
	if from == to {
		return
	}
	*changed = true
	if !from.IsZero() {
		t.DeleteHint(link{from, r}, hint)
	}
	if !to.IsZero() {
		t.SetHint(link{to, r}, hint)
	}
}

func nodeRef(name string) object.Ref { return object.Ref{Kind: object.KindNode, Name: name} }

func ownerOf(o object.Object) object.Ref {
	if o == nil {
		return object.Ref{}
	}
	return o.Head().Owner
}

func boundTo(p *object.Pod) object.Ref {
	if p == nil || p.Spec.Node == "" {
		return object.Ref{}
	}
	return nodeRef(p.Spec.Node)
}

// waits reports whether a node is to be found for the pod. One whose template is
// still in its row has not been let in yet: the pod controller sees to its quota
// and to what it reads first.
func waits(p *object.Pod) bool {
	return p != nil && p.Spec.Node == "" && p.Spec.Template != "" && !p.Spec.Stop && !p.Terminal()
}

// askOf is what a pod adds to its node's usage; the zero value adds nothing.
func askOf(p *object.Pod) nodeUsage {
	if p == nil || p.Spec.Node == "" || p.Terminal() && !p.Returns() {
		return nodeUsage{}
	}
	return nodeUsage{node: p.Spec.Node, Usage: Usage{CPU: p.Spec.CPU, Memory: p.Spec.Memory, Pods: 1}}
}

// addUsage counts a pod's ask at its node.
func (s *Store) addUsage(ask nodeUsage, sign int) {
	if ask.Pods == 0 {
		return
	}
	s.dirty.usage = true
	u, _ := s.live.idx.usage.Get(nodeUsage{node: ask.node})
	u.node, u.tenancy = ask.node, new(Tenancy)
	u.CPU += ask.CPU * object.CPU(sign)
	u.Memory += ask.Memory * object.Bytes(sign)
	u.Pods += sign
	if u.Pods == 0 {
		s.live.idx.usage.Delete(u)
		return
	}
	s.live.idx.usage.Set(u)
}

// Template is what a pod runs; nil when its template is not in the state.
func (v *Snapshot) Template(p *object.Pod) *object.PodTemplate {
	if p.Spec.Pod != nil {
		return p.Spec.Pod
	}
	t, ok := Find[*object.Template](v, object.Ref{Kind: object.KindTemplate, Namespace: p.Namespace, Name: p.Spec.Template})
	if !ok {
		return nil
	}
	return &t.Spec
}

// Expand is the pod with its template in full, as people and nodes see it.
func (v *Snapshot) Expand(p *object.Pod) *object.Pod {
	if p.Spec.Pod != nil {
		return p
	}
	c := *p
	c.Spec.Pod = v.Template(p)
	return &c
}

func (v *Snapshot) links(t *btree.BTreeG[link], from object.Ref) iter.Seq[object.Ref] {
	return func(yield func(object.Ref) bool) {
		t.Ascend(link{from: from}, func(l link) bool { return l.from == from && yield(l.to) })
	}
}

// Owned yields what belongs to an owner, ordered by reference.
func (v *Snapshot) Owned(owner object.Ref) iter.Seq[object.Object] {
	return func(yield func(object.Object) bool) {
		w := walk{v: v}
		for r := range v.links(v.idx.byOwner, owner) {
			if o, ok := w.get(r); ok && !yield(o) {
				return
			}
		}
	}
}

// PodsOf yields the pods of an owner, ordered by name.
func (v *Snapshot) PodsOf(owner object.Ref) iter.Seq[*object.Pod] {
	return func(yield func(*object.Pod) bool) {
		for o := range v.Owned(owner) {
			if p, ok := o.(*object.Pod); ok && !yield(p) {
				return
			}
		}
	}
}

// PodsOn yields the pods bound to a node, ended ones included, ordered by reference.
func (v *Snapshot) PodsOn(node string) iter.Seq[*object.Pod] {
	return func(yield func(*object.Pod) bool) {
		for r := range v.links(v.idx.byNode, nodeRef(node)) {
			if p, ok := Find[*object.Pod](v, r); ok && !yield(p) {
				return
			}
		}
	}
}

// Pending yields the pods that wait for a node, ordered by reference.
func (v *Snapshot) Pending() iter.Seq[*object.Pod] {
	return func(yield func(*object.Pod) bool) {
		w := walk{v: v}
		for r := range v.links(v.idx.pending, object.Ref{}) {
			if p, ok := w.pod(r); ok && !yield(p) {
				return
			}
		}
	}
}

// PendingCount is how many pods wait for a node. O(1).
func (v *Snapshot) PendingCount() int { return v.idx.pending.Len() }

// UsageOf is what the pods bound to a node ask for together.
func (v *Snapshot) UsageOf(node string) Usage {
	u, _ := v.idx.usage.Get(nodeUsage{node: node})
	return u.Usage
}
