package state

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/cluster/object"
)

// model is the state as plainly as it can be said: a map that is copied for
// every changeset.
type model map[object.Ref]object.Object

func (m model) apply(index uint64, c object.Changeset) (model, object.Code) {
	next := maps.Clone(m)
	for _, x := range c.Expect {
		version := uint64(0)
		if o := next[x.Ref]; o != nil {
			version = o.Head().Version
		}
		if version != x.Version {
			return m, object.CodeConflict
		}
	}
	for _, x := range c.Changes {
		old := next[x.Ref]
		switch {
		case x.Op == object.OpCreate && old != nil:
			return m, object.CodeExists
		case x.Op != object.OpCreate && old == nil:
			return m, object.CodeNotFound
		case x.Op != object.OpCreate && x.Created != 0 && x.Created != old.Head().Created:
			return m, object.CodeConflict
		}
		if x.Op == object.OpDelete {
			if x.Prior != old.Head().Version {
				return m, object.CodeConflict
			}
			delete(next, x.Ref)
			continue
		}
		o := x.Object.Clone()
		h := o.Head()
		switch {
		case x.Op == object.OpCreate:
			h.Version, h.StatusVersion, h.Created, h.CreatedAt = index, index, index, c.Time
			h.ChangedAt, h.ChangedBy, h.ChangedWhy = c.Time, c.Author, c.Reason
		case x.Part == object.PartStatus:
			if x.Prior != old.Head().StatusVersion {
				return m, object.CodeConflict
			}
			if o.StatusPtr() == nil {
				return m, object.CodeInvalid
			}
			status := reflect.ValueOf(o.StatusPtr()).Elem().Interface()
			o = old.Clone()
			reflect.ValueOf(o.StatusPtr()).Elem().Set(reflect.ValueOf(status))
			o.Head().StatusVersion = index
		default:
			if x.Prior != old.Head().Version {
				return m, object.CodeConflict
			}
			was := old.Head()
			h.StatusVersion, h.Created, h.CreatedAt = was.StatusVersion, was.Created, was.CreatedAt
			h.Version, h.ChangedAt, h.ChangedBy, h.ChangedWhy = index, c.Time, c.Author, c.Reason
			if p := old.StatusPtr(); p != nil {
				reflect.ValueOf(o.StatusPtr()).Elem().Set(reflect.ValueOf(p).Elem())
			}
		}
		next[x.Ref] = o
	}
	return next, ""
}

var (
	names     = []string{"a", "b", "c"}
	spaces    = []string{"", "x", "y"}
	testKinds = []object.Kind{object.KindPod, object.KindConfigMap, object.KindNode, object.KindService, object.KindTemplate, object.KindReplicaSet}
	labels    = []map[string]string{nil, {"app": "web"}, {"app": "web", "tier": "front"}, {"tier": "front"}}
)

func drawRef(t *rapid.T) object.Ref {
	return object.Ref{Kind: rapid.SampledFrom(testKinds).Draw(t, "kind"), Namespace: rapid.SampledFrom(spaces).Draw(t, "namespace"), Name: rapid.SampledFrom(names).Draw(t, "name")}
}

func drawObject(t *rapid.T, r object.Ref) object.Object {
	o, _ := object.New(r.Kind)
	m := o.Head()
	m.Namespace, m.Name = r.Namespace, r.Name
	m.Labels = rapid.SampledFrom(labels).Draw(t, "labels")
	m.Version = rapid.Uint64Range(0, 9).Draw(t, "what a writer puts there is ignored")
	if rapid.Bool().Draw(t, "owned") {
		m.Owner = object.Ref{Kind: object.KindReplicaSet, Namespace: r.Namespace, Name: rapid.SampledFrom(names).Draw(t, "owner")}
	}
	switch o := o.(type) {
	case *object.Pod:
		o.Spec.Node = rapid.SampledFrom([]string{"", "n1", "n2"}).Draw(t, "node")
		o.Spec.Template = rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "template")
		o.Spec.CPU = object.CPU(rapid.IntRange(0, 3).Draw(t, "cpu"))
		o.Spec.Memory = object.Bytes(rapid.IntRange(0, 3).Draw(t, "memory"))
		o.Spec.Stop = rapid.Bool().Draw(t, "stop")
		o.Status.Phase = rapid.SampledFrom([]object.PodPhase{"", object.PodRunning, object.PodFailed, object.PodStopped}).Draw(t, "phase")
	case *object.ConfigMap:
		o.Spec.Data = map[string]string{"k": rapid.SampledFrom(names).Draw(t, "data")}
	case *object.Service:
		o.Spec.Selector = rapid.SampledFrom(labels).Draw(t, "selector")
	case *object.ReplicaSet:
		o.Status.Ready = rapid.IntRange(0, 3).Draw(t, "ready")
	}
	return o
}

// drawChangeset is mostly right about what it has seen, and sometimes wrong.
func drawChangeset(t *rapid.T, v *Snapshot) object.Changeset {
	c := object.Changeset{Author: rapid.SampledFrom(names).Draw(t, "author"), Reason: "test", Time: time.Unix(int64(v.Index()), 0).UTC()}
	seen := func(right uint64) uint64 {
		if rapid.IntRange(0, 9).Draw(t, "wrong") == 0 {
			return rapid.Uint64Range(0, v.Index()).Draw(t, "version")
		}
		return right
	}
	for range rapid.IntRange(0, 2).Draw(t, "expectations") {
		r := drawRef(t)
		o, _ := v.Get(r)
		c.Expect = append(c.Expect, object.Expectation{Ref: r, Version: seen(versionOf(o))})
	}
	for range rapid.IntRange(0, 5).Draw(t, "changes") {
		r := drawRef(t)
		x := object.Change{Ref: r, Op: object.OpCreate}
		o, there := v.Get(r)
		if there != (rapid.IntRange(0, 9).Draw(t, "blind") == 0) {
			x.Op = rapid.SampledFrom([]object.Op{object.OpUpdate, object.OpUpdate, object.OpUpdate, object.OpDelete}).Draw(t, "op")
		}
		if x.Op == object.OpUpdate {
			x.Part = rapid.SampledFrom([]object.Part{"", object.PartSpec, object.PartStatus}).Draw(t, "part")
		}
		if x.Op != object.OpDelete {
			x.Object.Object = drawObject(t, r)
		}
		if there && x.Op != object.OpCreate {
			x.Prior = seen(o.Head().Version)
			if x.Part == object.PartStatus {
				x.Prior = seen(o.Head().StatusVersion)
			}
			if rapid.Bool().Draw(t, "incarnation") {
				x.Created = seen(o.Head().Created)
			}
		}
		c.Changes = append(c.Changes, x)
	}
	return c
}

func encoded(t interface{ Fatal(...any) }, v *Snapshot) []byte {
	var b bytes.Buffer
	if err := Encode(&b, v, object.InOrder); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func sameObjects(t *rapid.T, v *Snapshot, m model) {
	t.Helper()
	n := 0
	for _, k := range object.Kinds() {
		last := object.Ref{}
		for o := range v.List(k.Kind) {
			n++
			if !reflect.DeepEqual(o, m[o.Ref()]) {
				t.Fatalf("%s is %+v instead of %+v", o.Ref(), o, m[o.Ref()])
			}
			if o.Ref().Compare(last) <= 0 {
				t.Fatalf("%s is listed after %s", o.Ref(), last)
			}
			last = o.Ref()
		}
		if v.Count(k.Kind) != len(slices.Collect(v.List(k.Kind))) {
			t.Fatalf("the count of %s is wrong", k.Kind)
		}
	}
	if n != len(m) {
		t.Fatalf("%d objects instead of %d", n, len(m))
	}
}

// sameIndexes compares every index with what a scan of all objects finds.
func sameIndexes(t *rapid.T, v *Snapshot) {
	t.Helper()
	owned, on, usage := map[object.Ref][]object.Ref{}, map[string][]object.Ref{}, map[string]Usage{}
	runs := map[object.Ref]bool{}
	var pending []object.Ref
	for _, k := range object.Kinds() {
		for o := range v.List(k.Kind) {
			if w := o.Head().Owner; !w.IsZero() {
				owned[w] = append(owned[w], o.Ref())
			}
			p, ok := o.(*object.Pod)
			if !ok {
				continue
			}
			if p.Spec.Template != "" {
				runs[object.Ref{Kind: object.KindTemplate, Namespace: p.Namespace, Name: p.Spec.Template}] = true
			}
			if p.Spec.Node != "" {
				on[p.Spec.Node] = append(on[p.Spec.Node], p.Ref())
				if !p.Terminal() || p.Returns() {
					u := usage[p.Spec.Node]
					usage[p.Spec.Node] = Usage{u.CPU + p.Spec.CPU, u.Memory + p.Spec.Memory, u.Pods + 1}
				}
			} else if p.Spec.Template != "" && !p.Spec.Stop && !p.Terminal() {
				pending = append(pending, p.Ref())
			}
		}
	}
	for _, ns := range spaces {
		for _, n := range names {
			w := object.Ref{Kind: object.KindReplicaSet, Namespace: ns, Name: n}
			want := slices.Clone(owned[w])
			slices.SortFunc(want, object.Ref.Compare)
			equalRefs(t, "owned by "+w.String(), want, refsOf(v.Owned(w)))
			tmpl := object.Ref{Kind: object.KindTemplate, Namespace: ns, Name: n}
			if v.Runs(tmpl) != runs[tmpl] {
				t.Fatalf("%s runs: %v", tmpl, v.Runs(tmpl))
			}
		}
		for _, l := range labels {
			var want, got []object.Ref
			for p := range All[*object.Pod](v, object.KindPod) {
				if len(l) > 0 && p.Namespace == ns && object.HasLabels(p.Labels, l) {
					want = append(want, p.Ref())
				}
			}
			for p := range v.PodsWith(ns, l) {
				got = append(got, p.Ref())
			}
			equalRefs(t, fmt.Sprint("pods with ", l), want, got)
			want, got = nil, nil
			for s := range All[*object.Service](v, object.KindService) {
				if len(s.Spec.Selector) > 0 && s.Namespace == ns && object.HasLabels(l, s.Spec.Selector) {
					want = append(want, s.Ref())
				}
			}
			for s := range v.ServicesFor(ns, l) {
				got = append(got, s.Ref())
			}
			slices.SortFunc(got, object.Ref.Compare)
			equalRefs(t, fmt.Sprint("services for ", l), want, got)
		}
	}
	for _, n := range []string{"n1", "n2"} {
		var got []object.Ref
		for p := range v.PodsOn(n) {
			got = append(got, p.Ref())
		}
		equalRefs(t, "on "+n, on[n], got)
		if v.UsageOf(n) != usage[n] {
			t.Fatalf("%s uses %+v instead of %+v", n, v.UsageOf(n), usage[n])
		}
	}
	var got []object.Ref
	for p := range v.Pending() {
		got = append(got, p.Ref())
	}
	equalRefs(t, "pending", pending, got)
	if v.PendingCount() != len(pending) {
		t.Fatalf("%d pending instead of %d", v.PendingCount(), len(pending))
	}
}

func refsOf(seq func(func(object.Object) bool)) []object.Ref {
	var out []object.Ref
	for o := range seq {
		out = append(out, o.Ref())
	}
	return out
}

func equalRefs(t *rapid.T, what string, want, got []object.Ref) {
	t.Helper()
	if !slices.Equal(want, got) {
		t.Fatalf("%s: %v instead of %v", what, got, want)
	}
}

func TestApplyEqualsTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, m := New(), model{}
		type kept struct {
			view  *Snapshot
			bytes []byte
		}
		var old []kept
		for i := range rapid.IntRange(1, 30).Draw(t, "entries") {
			before := s.Snapshot()
			index := before.Index() + uint64(rapid.IntRange(1, 3).Draw(t, "gap"))
			c := drawChangeset(t, before)
			next, code := m.apply(index, c)
			events, err := s.Apply(index, c)
			if got := codeOf(err); got != code {
				t.Fatalf("entry %d: %q instead of %q: %v", i, got, code, err)
			}
			if err != nil && len(events) != 0 {
				t.Fatal("a refused changeset has events")
			}
			v := s.Snapshot()
			if v.Index() != index {
				t.Fatalf("index %d instead of %d", v.Index(), index)
			}
			sameObjects(t, v, next)
			sameIndexes(t, v)
			replay := maps.Clone(m)
			for _, e := range events {
				if !reflect.DeepEqual(e.Before, replay[e.Ref]) || e.Index != index {
					t.Fatalf("event %+v comes after %+v", e, replay[e.Ref])
				}
				if replay[e.Ref] = e.After; e.After == nil {
					delete(replay, e.Ref)
				}
			}
			if !reflect.DeepEqual(replay, next) {
				t.Fatal("the events do not lead from the state before to the state after")
			}
			m = next
			if rapid.IntRange(0, 4).Draw(t, "keep") == 0 {
				old = append(old, kept{v, encoded(t, v)})
			}
		}
		for _, k := range old {
			if !bytes.Equal(encoded(t, k.view), k.bytes) {
				t.Fatal("a snapshot has changed")
			}
			sameIndexes(t, k.view)
		}
	})
}

func codeOf(err error) object.Code {
	if err == nil {
		return ""
	}
	var e *object.Error
	if !errors.As(err, &e) {
		return "not an object.Error"
	}
	return e.Code
}

func TestForksAreIndependent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stores := []*Store{New()}
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			i := rapid.IntRange(0, len(stores)-1).Draw(t, "store")
			if rapid.IntRange(0, 3).Draw(t, "fork") == 0 {
				f := stores[i].Snapshot().Fork()
				if !bytes.Equal(encoded(t, f.Snapshot()), encoded(t, stores[i].Snapshot())) {
					t.Fatal("a fork differs from what it was forked from")
				}
				stores = append(stores, f)
				continue
			}
			var others [][]byte
			for _, s := range stores {
				others = append(others, encoded(t, s.Snapshot()))
			}
			v := stores[i].Snapshot()
			stores[i].Apply(v.Index()+1, drawChangeset(t, v))
			sameIndexes(t, stores[i].Snapshot())
			for j, s := range stores {
				if j != i && !bytes.Equal(encoded(t, s.Snapshot()), others[j]) {
					t.Fatal("a change of one fork is seen in another")
				}
			}
		}
	})
}

func TestBatchEqualsOneByOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, owner := New(), New(), New()
		for range rapid.IntRange(1, 8).Draw(t, "entries") {
			var batch []object.Changeset
			for range rapid.IntRange(0, 4).Draw(t, "changesets") {
				batch = append(batch, drawChangeset(t, a.Snapshot()))
			}
			index := a.Snapshot().Index() + 1
			raw, err := object.Encode(batch)
			if err != nil {
				t.Fatal(err)
			}
			events, errs := a.ApplyBatch(index, batch)
			var own []object.Changeset // as the log has it
			if err := object.Decode(raw, &own); err != nil {
				t.Fatal(err)
			}
			before := owner.Snapshot()
			was := encoded(t, before)
			ownEvents, ownErrs := owner.ApplyOwned(index, own)
			for i := range errs {
				if codeOf(ownErrs[i]) != codeOf(errs[i]) {
					t.Fatalf("changeset %d: %v copied, %v owned", i, errs[i], ownErrs[i])
				}
			}
			if len(ownEvents) != len(events) || !bytes.Equal(encoded(t, owner.Snapshot()), encoded(t, a.Snapshot())) || !bytes.Equal(encoded(t, before), was) {
				t.Fatal("owned changesets come to another state, or changed the one before")
			}
			var single []Event
			for i, c := range batch {
				e, err := b.Apply(index, c)
				if codeOf(err) != codeOf(errs[i]) {
					t.Fatalf("changeset %d: %v in a batch, %v alone", i, errs[i], err)
				}
				single = append(single, e...)
			}
			if len(batch) == 0 {
				b.ApplyBatch(index, nil)
			}
			if len(events) != len(single) || !bytes.Equal(encoded(t, a.Snapshot()), encoded(t, b.Snapshot())) {
				t.Fatal("a batch is another thing than its changesets one by one")
			}
		}
	})
}

func each(n int, do func(int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = do(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func TestEncodeDecode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := New()
		for range rapid.IntRange(0, 20).Draw(t, "entries") {
			v := s.Snapshot()
			s.Apply(v.Index()+1, drawChangeset(t, v))
		}
		b := encoded(t, s.Snapshot())
		var parallel bytes.Buffer
		if err := Encode(&parallel, s.Snapshot(), each); err != nil || !bytes.Equal(b, parallel.Bytes()) {
			t.Fatalf("encoded in parallel it is something else (%v)", err)
		}
		r, err := Decode(bytes.NewReader(b), each)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(encoded(t, r.Snapshot()), b) {
			t.Fatal("what was decoded encodes to something else")
		}
		sameIndexes(t, r.Snapshot())
		// And it goes on as the original does.
		c := drawChangeset(t, s.Snapshot())
		s.Apply(s.Snapshot().Index()+1, c)
		r.Apply(r.Snapshot().Index()+1, c)
		if !bytes.Equal(encoded(t, r.Snapshot()), encoded(t, s.Snapshot())) {
			t.Fatal("the decoded state goes on differently")
		}
		// Any damage is found.
		at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		bad := bytes.Clone(b)
		bad[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
		if _, err := Decode(bytes.NewReader(bad), object.InOrder); err == nil {
			t.Fatalf("a changed byte %d of %d was not noticed", at, len(b))
		}
		if _, err := Decode(bytes.NewReader(b[:at]), object.InOrder); err == nil {
			t.Fatalf("that it was cut off at %d of %d was not noticed", at, len(b))
		}
	})
}

func TestRefusalsSayWhoAndWhen(t *testing.T) {
	s := New()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	cm := &object.ConfigMap{Meta: object.Meta{Kind: object.KindConfigMap, Namespace: "d", Name: "a"}}
	first := object.Changeset{Author: "ann", Time: at}
	first.Create(cm)
	if _, err := s.Apply(1, first); err != nil {
		t.Fatal(err)
	}
	seen, _ := s.Snapshot().Get(cm.Ref())
	second := object.Changeset{Author: "bob", Time: at.Add(time.Minute)}
	second.Update(seen, cm)
	if _, err := s.Apply(2, second); err != nil {
		t.Fatal(err)
	}
	stranger := object.Changeset{Changes: []object.Change{{Op: object.OpCreate, Ref: object.Ref{Kind: object.KindPod, Namespace: "d", Name: "p"},
		Object: object.Any{Object: &object.ConfigMap{Meta: object.Meta{Kind: object.KindPod, Namespace: "d", Name: "p"}}}}}}
	for _, c := range []struct {
		name string
		c    object.Changeset
		code object.Code
		by   string
		say  string
	}{
		{"a stale update", second, object.CodeConflict, "bob", "config_map/d/a: was changed by bob at 2026-01-02T03:05:05Z (version 2, expected 1)"},
		{"a create of what is there", first, object.CodeExists, "bob", "config_map/d/a: exists already"},
		{"it should not exist", object.Changeset{Expect: []object.Expectation{{Ref: cm.Ref()}}}, object.CodeConflict, "bob", "config_map/d/a: was created by bob at 2026-01-02T03:05:05Z"},
		{"an object of another kind", stranger, object.CodeInvalid, "", "pod/d/p: not the address of an object, or of an object of another kind"},
		{"no such operation", object.Changeset{Changes: []object.Change{{Op: "rename", Ref: cm.Ref(), Object: object.Any{Object: cm}}}}, object.CodeInvalid, "", `config_map/d/a: there is no operation "rename"`},
		{"no such part", object.Changeset{Changes: []object.Change{{Op: object.OpUpdate, Part: "half", Prior: 2, Ref: cm.Ref(), Object: object.Any{Object: cm}}}}, object.CodeInvalid, "", `config_map/d/a: there is no part "half"; an update replaces the spec or the status`},
		{"no object", object.Changeset{Changes: []object.Change{{Op: object.OpUpdate, Ref: cm.Ref()}}}, object.CodeInvalid, "", "config_map/d/a: the change carries another object, or none"},
		{"no such kind", object.Changeset{Changes: []object.Change{{Op: object.OpDelete, Ref: object.Ref{Kind: "ship", Name: "x"}}}}, object.CodeNotFound, "", "ship/x: does not exist"},
	} {
		before := encoded(t, s.Snapshot())
		_, err := s.Apply(2, c.c)
		var e *object.Error
		if !errors.As(err, &e) || e.Code != c.code || e.By != c.by || e.Error() != c.say {
			t.Errorf("%s: %#v", c.name, err)
		}
		if !bytes.Equal(before, encoded(t, s.Snapshot())) {
			t.Errorf("%s: it left a trace", c.name)
		}
	}
}

// Forks and snapshots may be taken by many goroutines while one applies.
func TestConcurrentForks(t *testing.T) {
	s := New()
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				f := s.Snapshot().Fork()
				c := object.Changeset{Author: "fork"}
				c.Create(&object.ConfigMap{Meta: object.Meta{Kind: object.KindConfigMap, Namespace: "fork", Name: "a"}})
				if _, err := f.Apply(f.Snapshot().Index()+1, c); err != nil {
					t.Error(err)
					return
				}
				if f.Snapshot().Fork().Snapshot().Count(object.KindConfigMap) != f.Snapshot().Count(object.KindConfigMap) {
					t.Error("a fork of a fork differs")
					return
				}
			}
		})
	}
	for i := range 2000 {
		c := object.Changeset{Author: "live"}
		c.Create(&object.ConfigMap{Meta: object.Meta{Kind: object.KindConfigMap, Namespace: "live", Name: fmt.Sprint(i)}})
		if _, err := s.Apply(uint64(i+1), c); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
	if n := s.Snapshot().Count(object.KindConfigMap); n != 2000 {
		t.Fatalf("%d objects", n)
	}
}

// Who was judged by what there is of a kind is refused when there is more of it.
func TestExpectationOfAWholeKind(t *testing.T) {
	s := New()
	policy := func(name string) *object.Policy {
		return &object.Policy{Meta: object.Meta{Kind: object.KindPolicy, Name: name}}
	}
	write := func(index uint64, seen uint64, o object.Object) error {
		c := object.Changeset{Author: "t", Expect: []object.Expectation{{Ref: object.Ref{Kind: object.KindPolicy}, Version: seen}}}
		c.Create(o)
		_, err := s.Apply(index, c)
		return err
	}
	if err := write(1, 0, policy("a")); err != nil {
		t.Fatal(err)
	}
	if err := write(2, 0, &object.Namespace{Meta: object.Meta{Kind: object.KindNamespace, Name: "x"}}); !object.IsCode(err, object.CodeConflict) {
		t.Errorf("a newer policy was overlooked: %v", err)
	}
	if err := write(3, 1, &object.Namespace{Meta: object.Meta{Kind: object.KindNamespace, Name: "x"}}); err != nil {
		t.Error(err)
	}
}
