package api_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/pki"
	"github.com/berthdev/berth/cluster/state"
)

func TestNoWriteGoesPastAFreeze(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	now := time.Date(2026, 11, 27, 16, 0, 0, 0, time.UTC) // a Friday
	w.servers["m1"].Now = func() time.Time { return now }
	was := configMap("default", "a", nil)
	web := &object.Deployment{Meta: object.Meta{Kind: object.KindDeployment, Namespace: "default", Name: "web"}, Spec: object.DeploymentSpec{Replicas: 1, Pod: object.PodTemplate{Containers: []object.Container{{Name: "c", Image: "app:1"}}}}}
	object.SetDefaults(&web.Spec)
	object.SetDefaults(&web.Spec.Pod.Containers[0])
	w.write(was, web, &object.Freeze{Meta: object.Meta{Kind: object.KindFreeze, Name: "weekend"}, Spec: object.FreezeSpec{Namespaces: []string{"default"}, From: "fri 17:00", To: "mon 07:00", TimeZone: "UTC"}})
	admin := w.admin()
	sealed, err := admin.Plan(ctx, cmPlan("settings"))
	if err != nil || len(sealed.Freezes) != 0 {
		t.Fatal(sealed, err)
	}
	now = now.Add(2 * time.Hour)
	frozen, err := admin.Plan(ctx, cmPlan("settings"))
	if err != nil {
		t.Fatal(err)
	}
	if len(frozen.Freezes) != 1 || !frozen.Freezes[0].Until.Equal(time.Date(2026, 11, 30, 7, 0, 0, 0, time.UTC)) || !strings.Contains(frozen.Warnings[len(frozen.Warnings)-1].Detail, "until Mon 2026-11-30 07:00 UTC") {
		t.Errorf("the plan says: %+v, %+v", frozen.Freezes, frozen.Warnings)
	}
	operation, err := admin.Plan(ctx, &object.Plan{Cause: object.OperationScale, Operation: &object.Operation{Name: object.OperationScale, On: []object.Ref{web.Ref()}, Replicas: []int{3}}})
	if err != nil || len(operation.Freezes) != 1 {
		t.Fatal(operation, err)
	}
	index := w.shared.store.Snapshot().Index()
	for _, p := range []*object.Plan{sealed, frozen, operation} {
		_, err = admin.Apply(ctx, object.ApplyRequest{Plan: *p})
		wantCode(t, err, object.CodeFrozen)
	}
	_, err = admin.Create(ctx, configMap("default", "b", nil))
	wantCode(t, err, object.CodeFrozen)
	_, err = admin.Put(ctx, configMap("default", "a", map[string]string{"k": "v"}))
	wantCode(t, err, object.CodeFrozen)
	_, err = admin.Delete(ctx, was.Ref(), 0)
	wantCode(t, err, object.CodeFrozen)
	_, err = admin.Delete(ctx, object.Ref{Kind: object.KindFreeze, Name: "weekend"}, 0)
	wantCode(t, err, object.CodeFrozen)
	var c object.Changeset
	c.Create(configMap("default", "b", nil))
	_, err = admin.Propose(ctx, c)
	wantCode(t, err, object.CodeFrozen)
	if w.shared.store.Snapshot().Index() != index {
		t.Error("something was written")
	}

	// Elsewhere, and what ends a rollout.
	if _, err := admin.Create(ctx, configMap("elsewhere", "b", nil)); err != nil {
		t.Error(err)
	}
	if _, err := client.Update(ctx, admin, web.Ref(), func(d *object.Deployment) error { d.Spec.Aborted = "web-1"; return nil }); err != nil {
		t.Error(err)
	}

	// With a reason, which is kept.
	over := w.at(client.Config{Addrs: w.addrs, TLS: w.identity("admin", "admin").ClientTLS(pki.RoleMaster, ""), OverrideFreeze: "an outage, 50% down"})
	applied, err := over.Apply(ctx, object.ApplyRequest{Plan: *frozen})
	if err != nil {
		t.Fatal(err)
	}
	rev := w.get(applied.Revision).(*object.Revision)
	if rev.Spec.Thaw != "an outage, 50% down" || len(rev.Spec.Thawed) != 1 || rev.Spec.Thawed[0] != "weekend" {
		t.Errorf("revision: %+v", rev.Spec)
	}
	told := ""
	for e := range state.All[*object.Event](w.shared.store.Snapshot(), object.KindEvent) {
		if e.Spec.Reason == "freeze_overridden" {
			told = e.Spec.Message
		}
	}
	if !strings.HasSuffix(told, "set aside the freeze weekend: an outage, 50% down") {
		t.Errorf("event: %q", told)
	}

	// When it is over, a plan that was made in it is as good as any.
	now = time.Date(2026, 11, 30, 7, 0, 0, 0, time.UTC)
	_, err = admin.Apply(ctx, object.ApplyRequest{Plan: *operation})
	wantCode(t, err, object.CodeStale) // the abort has changed what it is about; no freeze refuses it
	if _, err := admin.Put(ctx, configMap("default", "a", map[string]string{"k": "v"})); err != nil {
		t.Error(err)
	}
}

// A freeze that comes between a look at the state and the commit counts.
func TestAFreezeThatComesInBetween(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	now, looks := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC), 0
	w.servers["m1"].Now = func() time.Time {
		// The second look at the clock of a write is for freezes, after its snapshot.
		if looks++; looks == 2 {
			w.write(&object.Freeze{Meta: object.Meta{Kind: object.KindFreeze, Name: "weekend"}, Spec: object.FreezeSpec{From: "fri 17:00", To: "mon 07:00", TimeZone: "UTC"}})
		}
		return now
	}
	_, err := w.admin().Create(ctx, configMap("default", "b", nil))
	wantCode(t, err, object.CodeFrozen)
	if looks < 3 {
		t.Errorf("it was refused at the first try, after %d looks", looks)
	}
}
