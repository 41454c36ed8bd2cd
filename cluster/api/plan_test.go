package api_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/seal"
	"github.com/berthdev/berth/cluster/state"
)

// secretPlan writes secret db with a password of the given digest.
func secretPlan(digest string) *object.Plan {
	ref := object.Ref{Kind: object.KindSecret, Namespace: "default", Name: "db"}
	return &object.Plan{
		Format: object.PlanFormat, Stack: "shop", Cause: "apply", Waves: 1,
		Expect: []object.Expectation{{Ref: ref}},
		Changes: []object.PlannedChange{{
			Ref: ref, Address: "secret.db", Actions: []string{object.ActionCreate}, Wave: 1,
			After: object.Any{Object: &object.Secret{
				Meta: object.Meta{Kind: object.KindSecret, Namespace: "default", Name: "db", Stack: "shop"},
				Spec: object.SecretSpec{Reload: "restart", Data: map[string]object.Sensitive{"password": object.Sensitive{}.WithDigest(digest)}},
			}},
			Fields: []object.FieldDiff{{Path: "data", Op: object.OpCreate, After: 4.0}},
		}},
	}
}

// throughFile is the plan as a file gives it back.
func throughFile(t *testing.T, p *object.Plan) object.Plan {
	t.Helper()
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var out object.Plan
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPlanAndApply(t *testing.T) {
	w, ctx := newWorld(t, "m1", "m2"), context.Background()
	w.plan = func(_ context.Context, v *state.Snapshot, p *object.Plan, now time.Time) (object.Forecast, error) {
		return object.Forecast{Index: v.Index(), Outcome: "healthy", Start: 3, Placements: []object.Placement{{Pod: object.Ref{Kind: object.KindPod, Namespace: "default", Name: "web-0"}, Node: "n1"}}}, nil
	}
	planner, admin := w.as("pat", "planner"), w.as("ann", "admin")
	digests, err := planner.Digests(ctx, []string{"hunter2"})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := planner.Plan(ctx, secretPlan(digests[0]))
	if err != nil {
		t.Fatal(err)
	}
	if sealed.Seal == "" || sealed.Cluster != w.keys.Cluster() || sealed.Forecast.Start != 3 || sealed.Time.IsZero() {
		t.Errorf("%+v", sealed)
	}
	saved := throughFile(t, sealed)

	_, err = planner.Apply(ctx, object.ApplyRequest{Plan: saved})
	wantCode(t, err, object.CodeForbidden)
	_, err = admin.Apply(ctx, object.ApplyRequest{Plan: saved})
	if e := wantCode(t, err, object.CodeInvalid); !strings.Contains(e.Message, "did not come with the plan") {
		t.Errorf("%q", e.Message)
	}
	_, err = admin.Apply(ctx, object.ApplyRequest{Plan: saved, Secrets: map[string]string{digests[0]: "other"}})
	wantCode(t, err, object.CodeStale)

	edited := throughFile(t, sealed)
	edited.Changes[0].Wave = 2
	_, err = admin.Apply(ctx, object.ApplyRequest{Plan: edited})
	if e := wantCode(t, err, object.CodeInvalid); !strings.Contains(e.Message, "edited") {
		t.Errorf("%q", e.Message)
	}
	elsewhere, err := seal.Generate("")
	if err != nil {
		t.Fatal(err)
	}
	foreign := throughFile(t, sealed)
	foreign.Cluster = elsewhere.Cluster()
	_, err = admin.Apply(ctx, object.ApplyRequest{Plan: foreign})
	if e := wantCode(t, err, object.CodeInvalid); !strings.Contains(e.Message, "was made for cluster") {
		t.Errorf("%q", e.Message)
	}

	// An unrelated change does not make it stale.
	w.write(configMap("default", "unrelated", nil))
	applied, err := admin.Apply(ctx, object.ApplyRequest{Plan: saved, Secrets: map[string]string{digests[0]: "hunter2"}})
	if err != nil {
		t.Fatal(err)
	}
	if applied.Number != 1 || applied.Revision.Name != "shop-1" {
		t.Errorf("%+v", applied)
	}
	rev := w.get(applied.Revision).(*object.Revision)
	s := rev.Spec.Changes[0].After.Object.(*object.Secret)
	if plain, err := w.keys.Reveal(s.Ref(), "password", s.Spec.Data["password"]); err != nil || plain != "hunter2" {
		t.Errorf("%q %v", plain, err)
	}
	if rev.Spec.Placements["default/web-0"] != "n1" || rev.Spec.Author != "ann" {
		t.Errorf("%+v", rev.Spec)
	}

	// The revision controller writes the secret; from then on the plan is stale.
	w.write(s)
	_, err = admin.Apply(ctx, object.ApplyRequest{Plan: saved, Secrets: map[string]string{digests[0]: "hunter2"}})
	if e := wantCode(t, err, object.CodeStale); e.By != "test" || e.At.IsZero() || e.Ref.Name != "db" || !strings.Contains(e.Message, "was created by test") {
		t.Errorf("%+v", e)
	}
	_, err = planner.Plan(ctx, secretPlan(digests[0]))
	wantCode(t, err, object.CodeStale)

	// A value that is in force need not travel again, not even when the plan is a
	// planner's, who knows no digest of what was before.
	again := secretPlan(digests[0])
	again.Expect[0].Version = w.get(s.Ref()).Head().Version
	again.Changes[0].Before.Object = &object.Secret{Meta: object.Meta{Kind: object.KindSecret, Namespace: "default", Name: "db"}, Spec: object.SecretSpec{Reload: "restart", Data: map[string]object.Sensitive{"password": {}}}}
	again.Changes[0].Actions = []string{object.ActionUpdate}
	sealed, err = planner.Plan(ctx, again)
	if err != nil {
		t.Fatal(err)
	}
	applied, err = admin.Apply(ctx, object.ApplyRequest{Plan: *sealed})
	if err != nil || applied.Number != 2 {
		t.Fatalf("%+v %v", applied, err)
	}
	rev = w.get(applied.Revision).(*object.Revision)
	before := rev.Spec.Changes[0].Before.Object.(*object.Secret)
	if plain, err := w.keys.Reveal(before.Ref(), "password", before.Spec.Data["password"]); err != nil || plain != "hunter2" {
		t.Errorf("what it was before cannot be put back: %q %v", plain, err)
	}
	if stack := w.get(object.Ref{Kind: object.KindStack, Name: "shop"}).(*object.Stack); stack.Spec.Revision != 2 {
		t.Errorf("%+v", stack.Spec)
	}
}

// TestTheWayBackNeedsNoSecrets: a rollback knows a former value by its digest
// only; the masters find it in the revisions of the stack.
func TestTheWayBackNeedsNoSecrets(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	admin := w.admin()
	digests, err := admin.Digests(ctx, []string{"first", "second"})
	if err != nil {
		t.Fatal(err)
	}
	apply := func(p *object.Plan, secrets map[string]string) (*object.Secret, error) {
		before, exists := w.shared.store.Snapshot().Get(p.Changes[0].Ref)
		if exists {
			p.Expect[0].Version = before.Head().Version
		}
		sealed, err := admin.Plan(ctx, p)
		if err != nil {
			return nil, err
		}
		applied, err := admin.Apply(ctx, object.ApplyRequest{Plan: *sealed, Secrets: secrets})
		if err != nil {
			return nil, err
		}
		s := w.get(applied.Revision).(*object.Revision).Spec.Changes[0].After.Object.(*object.Secret)
		var c object.Changeset // as the revision controller would
		if exists {
			c.Update(before, s)
		} else {
			c.Create(s)
		}
		w.propose(c)
		return s, nil
	}
	for i, value := range []string{"first", "second"} {
		if _, err := apply(secretPlan(digests[i]), map[string]string{digests[i]: value}); err != nil {
			t.Fatal(err)
		}
	}
	// Only a plan that goes back may take what was.
	_, err = apply(secretPlan(digests[0]), nil)
	wantCode(t, err, object.CodeInvalid)
	back := secretPlan(digests[0])
	back.Cause, back.Target = "rollback", 1
	s, err := apply(back, nil)
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := w.keys.Reveal(s.Ref(), "password", s.Spec.Data["password"]); err != nil || plain != "first" {
		t.Errorf("%q %v", plain, err)
	}
	// Another stack's revisions are none of its business.
	other := secretPlan(digests[1])
	other.Stack, other.Cause, other.Target = "other", "rollback", 1
	_, err = apply(other, nil)
	wantCode(t, err, object.CodeInvalid)
}

// TestApplyTakesTheNextNumber lets another apply of the same stack slip in
// between reading the stack and proposing.
func TestApplyTakesTheNextNumber(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	admin := w.admin()
	p := &object.Plan{Format: object.PlanFormat, Stack: "shop", Cause: "apply", Outputs: map[string]object.Output{"a": {Value: "b"}}}
	sealed, err := admin.Plan(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	w.shared.mu.Lock()
	w.shared.before = func(object.Changeset) {
		w.propose(object.CommitPlan(p, nil, 1, "other", time.Now()))
	}
	w.shared.mu.Unlock()
	applied, err := admin.Apply(ctx, object.ApplyRequest{Plan: *sealed})
	if err != nil || applied.Number != 2 {
		t.Fatalf("%+v %v", applied, err)
	}
}

// Who writes an object between the check of a plan and its commit makes it stale: the
// versions are checked where they are written.
func TestAPlanThatIsOvertakenIsStale(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	admin := w.admin()
	n := &object.Node{Meta: object.Meta{Kind: object.KindNode, Name: "n1"}, Status: object.NodeStatus{Condition: object.NodeReady}}
	c := &object.ConfigMap{Meta: object.Meta{Kind: object.KindConfigMap, Namespace: "default", Name: "web"}, Spec: object.ConfigMapSpec{Reload: "restart"}}
	for _, o := range []object.Object{n, c} {
		var create object.Changeset
		create.Create(o)
		w.propose(create)
	}
	for name, touch := range map[string]struct {
		plan   func(now object.Object) *object.Plan
		ref    object.Ref
		change func(object.Object)
	}{
		"of a configuration": {func(now object.Object) *object.Plan {
			after := now.Clone().(*object.ConfigMap)
			after.Meta = object.Meta{Kind: object.KindConfigMap, Namespace: "default", Name: "web", Stack: "shop"}
			after.Spec.Data = map[string]string{"a": "b"}
			return &object.Plan{Format: object.PlanFormat, Stack: "shop", Cause: "apply", Expect: []object.Expectation{{Ref: c.Ref(), Version: now.Head().Version}},
				Changes: []object.PlannedChange{{Ref: c.Ref(), Address: "config_map.web", Actions: []string{object.ActionUpdate}, Wave: 1, Before: object.Any{Object: now}, After: object.Any{Object: after}}}}
		}, c.Ref(), func(o object.Object) { o.(*object.ConfigMap).Spec.Data = map[string]string{"other": "hand"} }},
		"of an operation": {func(object.Object) *object.Plan {
			return &object.Plan{Format: object.PlanFormat, Cause: object.OperationDrain, Operation: &object.Operation{Name: object.OperationDrain, On: []object.Ref{n.Ref()}}}
		}, n.Ref(), func(o object.Object) { o.(*object.Node).Spec.Unschedulable = true }},
	} {
		t.Run(name, func(t *testing.T) {
			now, _ := w.shared.store.Snapshot().Get(touch.ref)
			sealed, err := admin.Plan(ctx, touch.plan(now))
			if err != nil {
				t.Fatal(err)
			}
			w.shared.mu.Lock()
			w.shared.before = func(object.Changeset) {
				next := now.Clone()
				touch.change(next)
				var c object.Changeset
				c.Update(now, next)
				c.Author = "bob"
				w.propose(c)
			}
			w.shared.mu.Unlock()
			_, err = admin.Apply(ctx, object.ApplyRequest{Plan: *sealed})
			if e := wantCode(t, err, object.CodeStale); e.Ref != touch.ref || e.By != "bob" {
				t.Errorf("%+v", e)
			}
		})
	}
}

func TestUnplaceablePlansAreNotApplied(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	w.plan = func(context.Context, *state.Snapshot, *object.Plan, time.Time) (object.Forecast, error) {
		return object.Forecast{Outcome: "failed", Unplaced: []object.Unplaced{{Pod: object.Ref{Kind: object.KindPod, Namespace: "default", Name: "web-0"}, Reason: "0 of 3 nodes fit: 3 memory"}}}, nil
	}
	admin := w.admin()
	sealed, err := admin.Plan(ctx, &object.Plan{Format: object.PlanFormat, Stack: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = admin.Apply(ctx, object.ApplyRequest{Plan: *sealed})
	if e := wantCode(t, err, object.CodeUnplaceable); !strings.Contains(e.Message, "3 memory") || len(e.Diagnostics) != 1 {
		t.Errorf("%+v", e)
	}
	if _, err := admin.Apply(ctx, object.ApplyRequest{Plan: *sealed, AllowUnplaced: true}); err != nil {
		t.Error(err)
	}
}

func TestPlansAreValidated(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	admin := w.admin()
	bad := secretPlan("d")
	bad.Changes[0].After.Object.(*object.Secret).Spec.Reload = "sometimes"
	twice := secretPlan("d")
	twice.Changes = append(twice.Changes, twice.Changes[0])
	swapped := secretPlan("d")
	swapped.Changes[0].Ref.Name = "other"
	undeclared := &object.Plan{Format: object.PlanFormat, Stack: "shop", Changes: []object.PlannedChange{{
		Ref: object.Ref{Kind: object.KindToken, Name: "x"}, After: object.Any{Object: &object.Token{Meta: object.Meta{Kind: object.KindToken, Name: "x"}}},
	}}}
	for name, p := range map[string]*object.Plan{"enum": bad, "twice": twice, "swapped": swapped, "undeclared": undeclared, "no stack": {Format: object.PlanFormat}, "a stack without an address": {Format: object.PlanFormat, Stack: "shop/1"}, "format": {Format: "9", Stack: "shop"}} {
		_, err := admin.Plan(ctx, p)
		if !object.IsCode(err, object.CodeInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := admin.Apply(ctx, object.ApplyRequest{Plan: *secretPlan("d")})
	if e := wantCode(t, err, object.CodeInvalid); !strings.Contains(e.Message, "not been sealed") {
		t.Errorf("%q", e.Message)
	}
}

func TestChangesets(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	admin := w.admin()
	c := object.Changeset{Author: "somebody else", Reason: "test"}
	c.Create(configMap("default", "a", nil))
	c.Create(configMap("default", "b", nil))
	if _, err := admin.Propose(ctx, c); err != nil {
		t.Fatal(err)
	}
	if by := w.get(configMap("default", "a", nil).Ref()).Head().ChangedBy; by != "admin" {
		t.Errorf("author %q", by)
	}
	_, err := admin.Propose(ctx, c)
	wantCode(t, err, object.CodeExists)
	c = object.Changeset{Expect: []object.Expectation{{Ref: configMap("default", "a", nil).Ref(), Version: 999}}}
	c.Create(configMap("default", "c", nil))
	_, err = admin.Propose(ctx, c)
	wantCode(t, err, object.CodeConflict)
	c = object.Changeset{}
	c.Create(&object.Token{Meta: object.Meta{Kind: object.KindToken, Name: "x"}})
	_, err = admin.Propose(ctx, c)
	wantCode(t, err, object.CodeForbidden)
	_, err = admin.Propose(ctx, object.Changeset{})
	wantCode(t, err, object.CodeInvalid)
}

// Whoever has no more than curl plans and applies in JSON; a seal holds in either
// form.
func TestPlansInJSON(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	w.plan = func(_ context.Context, v *state.Snapshot, _ *object.Plan, _ time.Time) (object.Forecast, error) {
		return object.Forecast{Index: v.Index(), Outcome: "healthy"}, nil
	}
	id := w.identity("ann", "admin")
	c := configMap("default", "a", nil)
	p := object.Plan{Stack: "shop", Waves: 1, Changes: []object.PlannedChange{{Ref: c.Ref(), Actions: []string{object.ActionCreate}, Wave: 1, After: object.Any{Object: c}}}}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	code, answer, _ := w.raw(id, w.addrs[0], "POST", "/v1/plan", b, "Content-Type", "application/json")
	var sealed object.Plan
	if err := json.Unmarshal(answer, &sealed); err != nil || code != 200 || sealed.Seal == "" {
		t.Fatalf("%d %s %v", code, answer, err)
	}
	if code, answer, _ = w.raw(id, w.addrs[0], "POST", "/v1/plan", []byte(`{"stack":"shop","novel":1}`)); code != 400 && code != 422 || !strings.Contains(string(answer), "novel") {
		t.Errorf("%d %s", code, answer)
	}
	if _, err := w.as("ann", "admin").Apply(ctx, object.ApplyRequest{Plan: sealed}); err != nil {
		t.Errorf("sealed in JSON, applied in the other form: %v", err)
	}
	again, err := w.as("ann", "admin").Plan(ctx, &object.Plan{Format: object.PlanFormat, Stack: "next", Waves: 1, Changes: p.Changes})
	if err != nil {
		t.Fatal(err)
	}
	b, err = json.Marshal(object.ApplyRequest{Plan: *again})
	if err != nil {
		t.Fatal(err)
	}
	if code, answer, _ = w.raw(id, w.addrs[0], "POST", "/v1/apply", b, "Content-Type", "application/json"); code != 200 {
		t.Errorf("sealed in the other form, applied in JSON: %d %s", code, answer)
	}
}
