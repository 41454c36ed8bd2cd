package api_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
)

// TestStaleNamesTheFields, with a token as the author and another value of a secret,
// which must not be shown.
func TestStaleNamesTheFields(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	admin := w.admin()
	cm := configMap("default", "settings", map[string]string{"level": "info", "theme": "dark"})
	cm.Head().Stack = "shop"
	w.write(cm)
	ref := cm.Ref()
	plan := func() *object.Plan {
		now := w.get(ref).(*object.ConfigMap)
		after := now.Clone().(*object.ConfigMap)
		after.Meta = object.Meta{Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name, Stack: "shop"}
		after.Spec.Data = map[string]string{"level": "debug", "theme": "dark"}
		return &object.Plan{Format: object.PlanFormat, Stack: "shop", Cause: "apply", Waves: 1, Expect: []object.Expectation{{Ref: ref, Version: now.Version}},
			Changes: []object.PlannedChange{{Ref: ref, Address: ref.Address(), Actions: []string{object.ActionUpdate}, Wave: 1, Before: object.Any{Object: now}, After: object.Any{Object: after},
				Fields: object.Compare(now, after).Fields()}}}
	}
	sealed, err := admin.Plan(ctx, plan())
	if err != nil {
		t.Fatal(err)
	}
	issued := w.token(object.TokenRequest{Role: object.RoleAdmin, Name: "ops-2"})
	ops := w.at(client.Config{Addrs: w.addrs, Token: issued.Token})
	if _, err := client.Update(ctx, ops, ref, func(x *object.ConfigMap) error {
		x.Spec.Data = map[string]string{"level": "warn", "theme": "light"}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	_, err = admin.Apply(ctx, object.ApplyRequest{Plan: *sealed})
	e := wantCode(t, err, object.CodeStale)
	if e.By != "token ops-2" || len(e.Fields) != 2 || !strings.Contains(e.Message, `data["level"] "info" -> "warn", data["theme"] "dark" -> "light"`) {
		t.Errorf("%+v", e)
	}
	// The next plan tells of the edit that it undoes, not of the one that it leaves.
	next := plan()
	if sealed, err = admin.Plan(ctx, next); err != nil {
		t.Fatal(err)
	}
	if len(sealed.Drift) != 2 || sealed.Drift[0].By != "token ops-2" || sealed.Drift[0].Before != `"info"` || sealed.Drift[0].After != `"warn"` || sealed.Drift[0].Why != "changed through the API" {
		t.Errorf("%+v", sealed.Drift)
	}
}

// TestStaleShowsNoSecret: neither the old value nor the new one.
func TestStaleShowsNoSecret(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	admin := w.admin()
	db := &object.Secret{Meta: object.Meta{Kind: object.KindSecret, Namespace: "default", Name: "db"}, Spec: object.SecretSpec{Reload: "restart"}}
	hold := func(value string) map[string]object.Sensitive {
		sealed, err := w.keys.Seal(db.Ref(), "password", value)
		if err != nil {
			t.Fatal(err)
		}
		return map[string]object.Sensitive{"password": sealed}
	}
	db.Spec.Data = hold("hunter2")
	w.write(db)
	digests, err := admin.Digests(ctx, []string{"hunter3"})
	if err != nil {
		t.Fatal(err)
	}
	p := secretPlan(digests[0])
	now := w.get(db.Ref()).(*object.Secret)
	p.Expect[0].Version, p.Changes[0].Actions, p.Changes[0].Before = now.Version, []string{object.ActionUpdate}, object.Any{Object: object.WithoutSealed(now)}
	sealed, err := admin.Plan(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	next := now.Clone().(*object.Secret)
	next.Spec.Data = hold("hunter4")
	c := object.Changeset{Author: "bob", Time: time.Now()}
	c.Update(now, next)
	w.propose(c)
	_, err = admin.Apply(ctx, object.ApplyRequest{Plan: *sealed})
	e := wantCode(t, err, object.CodeStale)
	if len(e.Fields) != 1 || !e.Fields[0].Sensitive || !strings.Contains(e.Message, `data["password"]`) || strings.Contains(e.Message, "hunter") {
		t.Errorf("%+v", e)
	}
}
