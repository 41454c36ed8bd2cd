package api_test

import (
	"context"
	"testing"

	"github.com/berthdev/berth/cluster/object"
)

func TestCompareSendsWhatDiffers(t *testing.T) {
	w := newWorld(t, "m1", "m2")
	in := func(stack, name, text string) *object.ConfigMap {
		c := configMap("default", name, nil)
		c.Stack, c.Spec.Data = stack, map[string]string{"k": text}
		return c
	}
	w.write(in("shop", "same", "x"), in("shop", "changed", "x"), in("shop", "forgotten", "x"), in("other", "taken", "x"), in("", "free", "x"),
		&object.Stack{Meta: object.Meta{Kind: object.KindStack, Name: "shop"}, Spec: object.StackSpec{Revision: 7}})
	secret := &object.Secret{Meta: object.Meta{Kind: object.KindSecret, Namespace: "default", Name: "db", Stack: "shop"}}
	secret.Spec.Data = map[string]object.Sensitive{"k": {Digest: "d", Sealed: []byte("s")}}
	w.write(secret)

	claim := func(name, text string) object.Claim {
		o := in("shop", name, text)
		return object.Claim{Ref: o.Ref(), Fingerprint: object.Fingerprint(o)}
	}
	claims := []object.Claim{
		claim("same", "x"), claim("changed", "y"), claim("taken", "x"), claim("new", "x"),
		{Ref: object.Ref{Kind: object.KindConfigMap, Namespace: "default", Name: "free"}},
		{Ref: object.Ref{Kind: object.KindNamespace, Name: "nowhere"}},
	}
	ctx := context.Background()
	a, err := w.as("pat", "planner").Stack(ctx, "shop", claims)
	if err != nil {
		t.Fatal(err)
	}
	for i, same := range a.Same {
		if want := i == 0; (same != 0) != want {
			t.Errorf("%s: same %d", claims[i].Ref, same)
		}
	}
	if v := w.get(claims[0].Ref).Head().Version; a.Same[0] != v || a.Index == 0 {
		t.Errorf("version %d, not %d; index %d", a.Same[0], v, a.Index)
	}
	var got []string
	for _, o := range a.Objects {
		got = append(got, o.Ref().Name)
		if s, ok := o.Object.(*object.Secret); ok && (s.Spec.Data["k"].Digest != "" || len(s.Spec.Data["k"].Sealed) > 0) {
			t.Errorf("a planner sees %+v", s.Spec.Data)
		}
	}
	wantNames(t, got, "changed", "taken", "free", "forgotten", "db", "shop")

	// Only what configurations declare can be asked for.
	for _, k := range []object.Kind{object.KindToken, object.KindContent, object.KindTemplate, "nonsense"} {
		_, err := w.as("pat", "planner").Stack(ctx, "shop", []object.Claim{{Ref: object.Ref{Kind: k, Name: "x"}}})
		wantCode(t, err, object.CodeInvalid)
	}
	_, err = w.as("n1", "node").Stack(ctx, "shop", nil)
	wantCode(t, err, object.CodeForbidden)
}

func wantNames(t *testing.T, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%v, want %v", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("%v, want %v", got, want)
		}
	}
}
