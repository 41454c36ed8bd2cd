package state_test

import (
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// TestEditsAreRemembered: what people change past the stack stays with the object,
// with the first value and the last author, until the stack writes it.
func TestEditsAreRemembered(t *testing.T) {
	s := state.New()
	ref := object.Ref{Kind: object.KindDeployment, Namespace: "default", Name: "web"}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	index := uint64(0)
	get := func() *object.Deployment {
		d, ok := state.Find[*object.Deployment](s.Snapshot(), ref)
		if !ok {
			t.Fatal("it is gone")
		}
		return d
	}
	write := func(author, why string, change func(*object.Deployment)) []object.Edit {
		t.Helper()
		index++
		c := object.Changeset{Author: author, Reason: why, Time: at.Add(time.Duration(index) * time.Minute)}
		if index == 1 {
			c.Create(&object.Deployment{Meta: object.Meta{Kind: object.KindDeployment, Namespace: "default", Name: "web", Stack: "shop"}, Spec: object.DeploymentSpec{Replicas: 4}})
		} else {
			d := get().Clone().(*object.Deployment)
			change(d)
			c.Update(get(), d)
		}
		if _, err := s.Apply(index, c); err != nil {
			t.Fatal(err)
		}
		return get().Edits
	}
	replicas := func(n int) func(*object.Deployment) {
		return func(d *object.Deployment) { d.Spec.Replicas = n }
	}
	write(object.RevisionAuthor, "", nil)
	if got := write("ann", "scale", replicas(5)); len(got) != 1 || got[0].Path != "replicas" || got[0].Before != "4" || got[0].After != "5" || got[0].By != "ann" || got[0].Why != "scale" || got[0].Index != 2 {
		t.Fatalf("%+v", got)
	}
	if got := write("bob", "scale", replicas(6)); len(got) != 1 || got[0].Before != "4" || got[0].After != "6" || got[0].By != "bob" || !got[0].At.Equal(at.Add(3*time.Minute)) {
		t.Fatalf("the first value and the last author are wanted: %+v", got)
	}
	if got := write("controller/autoscaler", "", replicas(7)); len(got) != 1 || got[0].By != "bob" {
		t.Fatalf("a controller is no person: %+v", got)
	}
	if got := write("carl", "rollout pause", func(d *object.Deployment) { d.Spec.Paused = true }); len(got) != 2 || got[1].Path != "paused" || got[1].After != "true" {
		t.Fatalf("%+v", got)
	}
	if got := write("ann", "scale", replicas(4)); len(got) != 1 || got[0].Path != "paused" {
		t.Fatalf("it is as the stack had it: %+v", got)
	}
	// The stack's own write ends it, whatever a client sends.
	if got := write(object.RevisionAuthor, "", func(d *object.Deployment) { d.Edits = nil; d.Spec.Replicas = 3 }); len(got) != 0 {
		t.Fatalf("%+v", got)
	}
	if got := write("eve", "", func(d *object.Deployment) { d.Edits = []object.Edit{{Path: "replicas", By: "ann"}} }); len(got) != 0 {
		t.Fatalf("an author must not write edits: %+v", got)
	}
}

// Whoever promotes or aborts a rollout, or gives a promise up, leads what the
// configuration asked for and changes nothing past it.
func TestSteeringARolloutIsNoEdit(t *testing.T) {
	d := &object.Deployment{Meta: object.Meta{Kind: object.KindDeployment, Namespace: "default", Name: "web", Stack: "shop"}}
	next := d.Clone().(*object.Deployment)
	next.Spec.Promoted, next.Spec.Aborted, next.Spec.Released = "web-1/0", "web-2", "shop-3"
	if e := object.Edited(d, next, "ann", "", time.Now(), 5); len(e) > 0 {
		t.Errorf("%+v", e)
	}
	next.Spec.Paused = true
	if e := object.Edited(d, next, "ann", "", time.Now(), 5); len(e) != 1 || e[0].Path != "paused" {
		t.Errorf("%+v", e)
	}
}
