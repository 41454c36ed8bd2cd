package controller

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// renaming commits a revision that gives a deployment another name and, perhaps,
// another image.
func (w *world) renaming(from, to, image string) int {
	w.t.Helper()
	old := w.deployment(from)
	next := web(image, old.Spec.Replicas, named(to))
	next.Spec.Pod.Labels = old.Spec.Pod.Labels
	next.Stack = old.Stack
	stack := w.stack(old.Stack)
	p := &object.Plan{Stack: old.Stack, Waves: 1, OnFailure: "revert", Changes: []object.PlannedChange{{
		Ref: next.Ref(), From: old.Ref(), Actions: []string{object.ActionUpdate}, Wave: 1,
		Before: object.Any{Object: object.Renamed(old, next.Ref())}, After: object.Any{Object: next},
	}}}
	number := stack.Spec.Revision + 1
	w.apply(object.CommitPlan(p, stack, number, "ann", w.now))
	return number
}

func (w *world) stack(name string) *object.Stack {
	o, ok := w.view().Get(object.Ref{Kind: object.KindStack, Name: name})
	if !ok {
		w.t.Fatalf("there is no stack %s", name)
		return nil
	}
	return o.(*object.Stack)
}

// incarnations are the live pods with what tells one of a name from the next.
func (w *world) incarnations() map[string]uint64 {
	out := map[string]uint64{}
	for o := range w.view().List(object.KindPod) {
		if p := o.(*object.Pod); live(p) {
			out[p.Name] = p.Created
		}
	}
	return out
}

func TestRenameKeepsPods(t *testing.T) {
	w := started(t, web("ok:1", 3))
	stackOf := w.deployment("web").Stack
	before := w.incarnations()
	n := w.renaming("web", "front", "ok:1")
	w.awaits(n, object.RevisionHealthy)
	w.settled()
	if got := w.incarnations(); len(got) != 3 || !maps.Equal(got, before) {
		t.Errorf("pods were %v and are %v", before, got)
	}
	if _, there := w.view().Get(ref(object.KindDeployment, "web")); there {
		t.Error("the old name is there still")
	}
	d := w.deployment("front")
	if ok, why := object.Healthy(d); !ok || d.Stack != stackOf || d.Status.Available != 3 {
		t.Errorf("front is not healthy: %s %+v", why, d.Status)
	}
	// The renamed deployment rolls like any other, and names what it makes anew.
	next := web("ok:2", 3, named("front"))
	next.Spec.Pod.Labels = d.Spec.Pod.Labels
	w.commit(one(next))
	w.awaits(n+1, object.RevisionHealthy)
	w.settled()
	for name := range w.incarnations() {
		if !strings.HasPrefix(name, "front-") {
			t.Errorf("%s is of the old version", name)
		}
	}
}

// A rename whose new version fails is put back, name and all, and healthy pods
// stay; so is a rename on top of one that has not become healthy.
func TestRenameReverts(t *testing.T) {
	w := started(t, web("ok:1", 3))
	before := w.incarnations()
	n := w.renaming("web", "front", "missing:1")
	w.until("the new version starts", func(*state.Snapshot) bool { return len(w.incarnations()) > 3 })
	m := w.renaming("front", "entry", "missing:1")
	w.awaits(m, object.RevisionReverted)
	w.settled()
	if got := w.incarnations(); !maps.Equal(got, before) {
		t.Errorf("pods were %v and are %v", before, got)
	}
	var names []string
	for o := range w.view().List(object.KindDeployment) {
		names = append(names, o.Ref().Name)
	}
	if !slices.Equal(names, []string{"web"}) {
		t.Errorf("after the revert of %d and %d there are %v", n, m, names)
	}
}

// a became b, then b became c and another object took the name b: a is c, however
// the names are gone through.
func TestFormerNamesWhereANameIsTakenAgain(t *testing.T) {
	a, b, c := ref(object.KindDeployment, "a"), ref(object.KindDeployment, "b"), ref(object.KindDeployment, "c")
	for range 20 {
		f := formerNames{}
		f.add(&object.RevisionChange{Ref: b, From: a})
		f.add(&object.RevisionChange{Ref: c, From: b})
		changes := []object.RevisionChange{{Ref: b, Op: object.OpDelete}, {Ref: c, Op: object.OpDelete}, {Ref: a, Op: object.OpCreate}}
		f.back(changes)
		if changes[2].From != c || changes[1].To != a || !changes[0].To.IsZero() {
			t.Fatalf("%+v", changes)
		}
	}
}
