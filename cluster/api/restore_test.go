package api_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/seal"
)

// restorePlan puts back secret db of stack shop, and a config map of stack data.
func restorePlan(cluster, digest string) *object.Plan {
	p := secretPlan(digest)
	c := configMap("default", "settings", map[string]string{"k": "then"})
	c.Stack = "data"
	p.Stack, p.Cause = "", object.CauseRestore
	p.Changes = append([]object.PlannedChange{{Ref: c.Ref(), Address: "config_map.settings", Actions: []string{object.ActionCreate}, Wave: 1, After: object.Any{Object: c}}}, p.Changes...)
	p.Expect = append(p.Expect, object.Expectation{Ref: c.Ref()})
	p.Restore = &object.Restore{Snapshot: object.RestoredFrom{File: "/tmp/x.snap", Cluster: cluster, Index: 7}, Stacks: []object.RestoredStack{
		{Stack: "data", Target: 3, Waves: 1}, {Stack: "shop", Target: 5, Waves: 1, Outputs: map[string]object.Output{"url": {Value: "u"}}},
	}}
	return p
}

func TestRestoreIsOneEntryOfSeveralRevisions(t *testing.T) {
	w, ctx := newWorld(t, "m1", "m2"), context.Background()
	admin := w.admin()
	ref := object.Ref{Kind: object.KindSecret, Namespace: "default", Name: "db"}
	value, err := w.keys.Seal(ref, "password", "hunter2")
	if err != nil {
		t.Fatal(err)
	}
	made, err := w.as("pat", "planner").Plan(ctx, restorePlan(w.keys.Cluster(), value.Digest))
	if err != nil {
		t.Fatal(err)
	}
	saved := throughFile(t, made)
	apply := func(values ...object.SealedValue) (object.Applied, error) {
		return admin.Apply(ctx, object.ApplyRequest{Plan: saved, Sealed: values})
	}
	at := object.SecretAt{Ref: ref, Key: "password"}
	index := w.shared.store.Snapshot().Index()

	// The value is in no plan, and none but that of this place and digest is taken.
	_, err = apply()
	if e := wantCode(t, err, object.CodeInvalid); !strings.Contains(e.Hint, "/tmp/x.snap") {
		t.Errorf("%q", e.Hint)
	}
	elsewhere, err := w.keys.Seal(object.Ref{Kind: object.KindSecret, Namespace: "default", Name: "other"}, "password", "hunter2")
	if err != nil {
		t.Fatal(err)
	}
	_, err = apply(object.SealedValue{At: at, Value: elsewhere})
	wantCode(t, err, object.CodeInvalid)
	other, err := w.keys.Seal(ref, "password", "other")
	if err != nil {
		t.Fatal(err)
	}
	_, err = apply(object.SealedValue{At: at, Value: other.WithDigest(value.Digest)})
	wantCode(t, err, object.CodeStale)
	foreign, err := seal.Generate("")
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := foreign.Seal(ref, "password", "hunter2")
	if err != nil {
		t.Fatal(err)
	}
	_, err = apply(object.SealedValue{At: at, Value: theirs})
	wantCode(t, err, object.CodeUnavailable)
	edited := throughFile(t, made)
	edited.Restore.Stacks[0].Stack = "shop"
	_, err = admin.Apply(ctx, object.ApplyRequest{Plan: edited})
	wantCode(t, err, object.CodeInvalid)
	if w.shared.store.Snapshot().Index() != index {
		t.Error("something was written")
	}

	applied, err := apply(object.SealedValue{At: at, Value: value})
	if err != nil {
		t.Fatal(err)
	}
	if len(applied.Restored) != 2 || applied.Restored[0].Revision.Name != "data-1" || applied.Restored[1].Revision.Name != "shop-1" {
		t.Fatalf("%+v", applied)
	}
	data, shop := w.get(applied.Restored[0].Revision).(*object.Revision), w.get(applied.Restored[1].Revision).(*object.Revision)
	if data.Created != shop.Created || data.Spec.Target != 3 || shop.Spec.Target != 5 || shop.Spec.Cause != object.CauseRestore || shop.Spec.Author != "admin" || len(data.Spec.Changes) != 1 || len(shop.Spec.Changes) != 1 {
		t.Errorf("%+v\n%+v", data.Spec, shop.Spec)
	}
	s := shop.Spec.Changes[0].After.Object.(*object.Secret)
	if plain, err := w.keys.Reveal(ref, "password", s.Spec.Data["password"]); err != nil || plain != "hunter2" {
		t.Errorf("%q %v", plain, err)
	}
	if stack := w.get(object.Ref{Kind: object.KindStack, Name: "shop"}).(*object.Stack); stack.Spec.Revision != 1 || stack.Spec.Outputs["url"].Value != "u" {
		t.Errorf("%+v", stack.Spec)
	}

	// One object of one stack changes, and nothing of the whole is written.
	w.write(s)
	_, err = apply(object.SealedValue{At: at, Value: value})
	wantCode(t, err, object.CodeStale)
}

func TestRestoreOfSomethingElseIsRefused(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	for name, change := range map[string]func(*object.Plan){
		"of another cluster":       func(p *object.Plan) { p.Restore.Snapshot.Cluster = "other" },
		"of no cluster":            func(p *object.Plan) { p.Restore.Snapshot.Cluster = "" },
		"a stack twice":            func(p *object.Plan) { p.Restore.Stacks[0].Stack = "shop" },
		"a stack without a name":   func(p *object.Plan) { p.Restore.Stacks[0].Stack = "" },
		"changes of another stack": func(p *object.Plan) { p.Restore.Stacks = p.Restore.Stacks[:1] },
		"of one stack besides":     func(p *object.Plan) { p.Stack = "shop" },
		"outputs besides":          func(p *object.Plan) { p.Outputs = map[string]object.Output{"x": {}} },
		"and an operation": func(p *object.Plan) {
			p.Changes, p.Operation = nil, &object.Operation{Name: object.OperationDrain, On: []object.Ref{{Kind: object.KindNode, Name: "n1"}}}
		},
	} {
		p := restorePlan(w.keys.Cluster(), "d")
		change(p)
		_, err := w.admin().Plan(ctx, p)
		if e := wantCode(t, err, object.CodeInvalid); name == "of another cluster" && !strings.Contains(e.Message, `the snapshot is of cluster "other"`) {
			t.Errorf("%s: %s", name, e.Message)
		}
	}
}

// byStack refuses what is of one stack.
type byStack struct{ refuses }

func (byStack) Judge(_ []*object.Policy, p *object.Plan, _ string) []object.PolicyVerdict {
	if !slices.Contains(p.Stacks(), "shop") {
		return nil
	}
	return []object.PolicyVerdict{{Policy: "p", Rule: "not_shop", Enforcement: object.PolicyHard, Message: "no"}}
}

func TestRestoreIsJudged(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	w.write(&object.Policy{Meta: object.Meta{Kind: object.KindPolicy, Name: "p"}, Spec: object.PolicySpec{Source: "x"}})
	w.servers["m1"].Policies = byStack{}
	ref := object.Ref{Kind: object.KindSecret, Namespace: "default", Name: "db"}
	value, err := w.keys.Seal(ref, "password", "hunter2")
	if err != nil {
		t.Fatal(err)
	}
	made, err := w.admin().Plan(ctx, restorePlan(w.keys.Cluster(), value.Digest))
	if err != nil {
		t.Fatal(err)
	}
	if len(made.Verdicts) != 1 || made.Verdicts[0].Rule != "not_shop" {
		t.Errorf("%+v", made.Verdicts)
	}
	_, err = w.admin().Apply(ctx, object.ApplyRequest{Plan: *made, Sealed: []object.SealedValue{{At: object.SecretAt{Ref: ref, Key: "password"}, Value: value}}})
	wantCode(t, err, object.CodePolicy)
}
