package api_test

import (
	"context"
	"strings"
	"testing"

	"github.com/berthdev/berth/cluster/object"
)

// unanswered has the leader commit what comes next and be lost before it says so.
func (w *world) unanswered() {
	w.shared.mu.Lock()
	defer w.shared.mu.Unlock()
	w.shared.after = func() error {
		return &object.Error{Code: object.CodeTimeout, Message: "this master lost the leadership before the commit was seen"}
	}
}

// What was committed without an answer is found by the client itself, and not done
// twice; the same plan in another apply is stale, as ever.
func TestAnApplyWithoutAnAnswerIsFoundAgain(t *testing.T) {
	w, ctx := newWorld(t, "m1", "m2"), context.Background()
	sealed, err := w.admin().Plan(ctx, cmPlan("web"))
	if err != nil {
		t.Fatal(err)
	}
	w.unanswered()
	a, err := w.admin().Apply(ctx, object.ApplyRequest{Plan: *sealed, Attempt: "first"})
	if err != nil {
		t.Fatal(err)
	}
	rev, ok := w.get(a.Revision).(*object.Revision)
	if !ok || a.Number != 1 || a.Stack != "shop" || a.Index != rev.Created || rev.Spec.Attempt != "first" {
		t.Errorf("%+v %+v", a, rev)
	}
	if twice, err := w.admin().Apply(ctx, object.ApplyRequest{Plan: *sealed, Attempt: "first"}); err != nil || twice.Revision != a.Revision {
		t.Errorf("%+v %v", twice, err)
	}
	w.write(rev.Spec.Changes[0].After.Object) // as the revision controller does
	for who, attempt := range map[string]string{"admin": "second", "eve": "first"} {
		_, err = w.as(who, "admin").Apply(ctx, object.ApplyRequest{Plan: *sealed, Attempt: attempt})
		if e := wantCode(t, err, object.CodeStale); !strings.Contains(e.Message, "was created by test") {
			t.Errorf("%s: %v", who, e)
		}
	}
	_, err = w.admin().Apply(ctx, object.ApplyRequest{Plan: *sealed, Attempt: strings.Repeat("x", object.AttemptLength+1)})
	wantCode(t, err, object.CodeInvalid)
}

func TestARestoreWithoutAnAnswerIsFoundAgain(t *testing.T) {
	w, ctx := newWorld(t, "m1", "m2"), context.Background()
	at := object.SecretAt{Ref: object.Ref{Kind: object.KindSecret, Namespace: "default", Name: "db"}, Key: "password"}
	value, err := w.keys.Seal(at.Ref, at.Key, "hunter2")
	if err != nil {
		t.Fatal(err)
	}
	made, err := w.admin().Plan(ctx, restorePlan(w.keys.Cluster(), value.Digest))
	if err != nil {
		t.Fatal(err)
	}
	w.unanswered()
	a, err := w.admin().Apply(ctx, object.ApplyRequest{Plan: *made, Sealed: []object.SealedValue{{At: at, Value: value}}})
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Restored) != 2 || a.Restored[0].Stack != "data" || a.Restored[1].Stack != "shop" || a.Index == 0 {
		t.Fatalf("%+v", a)
	}
	for _, x := range a.Restored {
		if rev, ok := w.get(x.Revision).(*object.Revision); !ok || rev.Spec.Stack != x.Stack || rev.Spec.Number != x.Number {
			t.Errorf("%+v is %+v", x, rev)
		}
	}
}

// An operation leaves no revision by which it could be known: that is said, and it
// is not sent again.
func TestAnOperationWithoutAnAnswerIsInDoubt(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	w.write(&object.Node{Meta: object.Meta{Kind: object.KindNode, Name: "n1"}})
	p, err := w.admin().Plan(ctx, &object.Plan{Operation: &object.Operation{Name: object.OperationDrain, On: []object.Ref{{Kind: object.KindNode, Name: "n1"}}}})
	if err != nil {
		t.Fatal(err)
	}
	w.unanswered()
	before := w.shared.index
	_, err = w.admin().Apply(ctx, object.ApplyRequest{Plan: *p})
	wantCode(t, err, object.CodeTimeout)
	if w.shared.index != before+1 {
		t.Errorf("written %d times", w.shared.index-before)
	}
}
