package api_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// TestGuardsHoldWhatIsCommitted: a plan that was within its guards is refused when
// the forecast is another by the time it is applied, and nothing is written.
func TestGuardsHoldWhatIsCommitted(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	stops, rehearsed := 1, 0
	w.plan = func(_ context.Context, v *state.Snapshot, p *object.Plan, now time.Time) (object.Forecast, error) {
		rehearsed++
		return object.Forecast{Index: v.Index(), Outcome: "healthy", Stop: stops}, nil
	}
	admin := w.admin()
	most := uint(1)
	p := cmPlan("settings")
	p.Guards.MaxMoved = &most
	sealed, err := admin.Plan(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	if len(sealed.Broken) != 0 {
		t.Fatalf("%+v", sealed.Broken)
	}
	w.write(configMap("default", "unrelated", nil)) // the forecast is of another state now
	stops = 2
	index := w.shared.store.Snapshot().Index()
	_, err = admin.Apply(ctx, object.ApplyRequest{Plan: *sealed})
	if e := wantCode(t, err, object.CodeGuard); !strings.Contains(e.Message, "would stop 2 pods") {
		t.Errorf("%q", e.Message)
	}
	if w.shared.store.Snapshot().Index() != index {
		t.Error("something was written")
	}

	// Taking the guard out of the file breaks the seal; a guard that comes with the
	// request holds as well.
	open := *sealed
	open.Guards = object.Guards{}
	_, err = admin.Apply(ctx, object.ApplyRequest{Plan: open})
	if e := wantCode(t, err, object.CodeInvalid); !strings.Contains(e.Message, "edited") {
		t.Errorf("%q", e.Message)
	}
	stops = 1
	none := uint(0)
	_, err = admin.Apply(ctx, object.ApplyRequest{Plan: *sealed, Guards: object.Guards{MaxMoved: &none}})
	wantCode(t, err, object.CodeGuard)
	if _, err := admin.Apply(ctx, object.ApplyRequest{Plan: *sealed}); err != nil {
		t.Fatal(err)
	}

	// A plan without guards is not rehearsed again.
	free, err := admin.Plan(ctx, cmPlan("other"))
	if err != nil {
		t.Fatal(err)
	}
	w.write(configMap("default", "one-more", nil))
	before := rehearsed
	if _, err := admin.Apply(ctx, object.ApplyRequest{Plan: *free}); err != nil {
		t.Fatal(err)
	}
	if rehearsed != before {
		t.Error("it was rehearsed again")
	}
}

// cmPlan is a plan that makes one config map.
func cmPlan(name string) *object.Plan {
	ref := object.Ref{Kind: object.KindConfigMap, Namespace: "default", Name: name}
	return &object.Plan{
		Format: object.PlanFormat, Stack: "shop", Cause: "apply", Waves: 1, Expect: []object.Expectation{{Ref: ref}},
		Changes: []object.PlannedChange{{
			Ref: ref, Address: ref.Address(), Actions: []string{object.ActionCreate}, Wave: 1,
			After: object.Any{Object: &object.ConfigMap{Meta: object.Meta{Kind: object.KindConfigMap, Namespace: "default", Name: name, Stack: "shop"}, Spec: object.ConfigMapSpec{Reload: "restart", Data: map[string]string{"a": "b"}}}},
		}},
	}
}

// TestPlansExpire by the masters' clock.
func TestPlansExpire(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	admin := w.admin()
	sealed, err := admin.Plan(ctx, cmPlan("settings"))
	if err != nil {
		t.Fatal(err)
	}
	if got := sealed.Expires.Sub(sealed.Time); got != object.PlanLifetime.D() {
		t.Errorf("kept for %s", got)
	}
	short := cmPlan("settings")
	short.Lifetime = object.Duration(time.Nanosecond)
	old, err := admin.Plan(ctx, short)
	if err != nil {
		t.Fatal(err)
	}
	_, err = admin.Apply(ctx, object.ApplyRequest{Plan: *old})
	if e := wantCode(t, err, object.CodeStale); !strings.Contains(e.Message, "expired at") {
		t.Errorf("%q", e.Message)
	}
	longer := *old
	longer.Expires = longer.Expires.Add(time.Hour)
	_, err = admin.Apply(ctx, object.ApplyRequest{Plan: longer})
	if e := wantCode(t, err, object.CodeInvalid); !strings.Contains(e.Message, "edited") {
		t.Errorf("%q", e.Message)
	}
	forever := cmPlan("settings")
	forever.Lifetime = object.MaxPlanLifetime + 1
	_, err = admin.Plan(ctx, forever)
	wantCode(t, err, object.CodeInvalid)
	if _, err := admin.Apply(ctx, object.ApplyRequest{Plan: *sealed}); err != nil {
		t.Error(err)
	}
}
