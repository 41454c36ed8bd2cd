package object

import (
	"errors"
	"testing"
	"time"
)

func secretOf(values map[string]Sensitive) *Secret {
	return &Secret{Meta: Meta{Kind: KindSecret, Namespace: "default", Name: "db"}, Spec: SecretSpec{Data: values}}
}

func TestFillSensitive(t *testing.T) {
	inForce := secretOf(map[string]Sensitive{"same": {Sealed: []byte("sealed-1"), Digest: "d1"}, "old": {Sealed: []byte("sealed-2"), Digest: "d2"}})
	p := &Plan{Stack: "s", Changes: []PlannedChange{{
		Ref: inForce.Ref(), Before: Any{WithoutSealed(inForce)},
		After: Any{secretOf(map[string]Sensitive{"same": {Digest: "d1"}, "old": {Digest: "d3"}})},
	}}}
	if got := p.Sensitives(); len(got) != 1 || got[0] != "d3" {
		t.Fatalf("needs %v", got)
	}
	get := func(r Ref) (Object, bool) { return inForce, r == inForce.Ref() }
	out, err := p.FillSensitive(get, func(_ Ref, key string, s Sensitive) (Sensitive, error) {
		if key != "old" || s.Digest != "d3" {
			t.Errorf("asked to seal %s %s", key, s.Digest)
		}
		return Sensitive{Sealed: []byte("sealed-3"), Digest: s.Digest}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	before, after := out.Changes[0].Before.Object.(*Secret).Spec.Data, out.Changes[0].After.Object.(*Secret).Spec.Data
	if string(before["old"].Sealed) != "sealed-2" || string(after["same"].Sealed) != "sealed-1" || string(after["old"].Sealed) != "sealed-3" {
		t.Errorf("%s %s %s", before["old"].Sealed, after["same"].Sealed, after["old"].Sealed)
	}
	if p.Changes[0].After.Object.(*Secret).Spec.Data["old"].Sealed != nil {
		t.Error("the caller's plan was changed")
	}
	want := errors.New("no")
	if _, err := p.FillSensitive(get, func(Ref, string, Sensitive) (Sensitive, error) { return Sensitive{}, want }); !errors.Is(err, want) {
		t.Errorf("%v", err)
	}
}

func TestCommitPlan(t *testing.T) {
	at := time.Unix(100, 0).UTC()
	svc := &Service{Meta: Meta{Kind: KindService, Namespace: "default", Name: "web"}}
	p := &Plan{Stack: "shop", Waves: 1, Expect: []Expectation{{Ref: svc.Ref()}}, Outputs: map[string]Output{"a": {Value: "b"}},
		Changes:  []PlannedChange{{Ref: svc.Ref(), Address: `service.web["a"]`, Wave: 1, After: Any{svc}}},
		Forecast: Forecast{Placements: []Placement{{Pod: Ref{KindPod, "default", "web-0"}, Node: "n1"}}}}
	c := CommitPlan(p, nil, 1, "admin", at)
	if len(c.Changes) != 2 || c.Changes[0].Op != OpCreate || c.Changes[1].Op != OpCreate || len(c.Expect) != 1 || c.Reason != "apply of shop" {
		t.Fatalf("%+v", c)
	}
	rev := c.Changes[0].Object.Object.(*Revision)
	if rev.Name != "shop-1" || rev.Spec.Parent != 0 || rev.Spec.Placements["default/web-0"] != "n1" || rev.Spec.Changes[0].Op != OpCreate || !rev.Spec.Time.Equal(at) {
		t.Errorf("%+v", rev.Spec)
	}
	if got := rev.Spec.Changes[0].Title(); got != `service.web["a"]` {
		t.Errorf("people know it as %s", got) // as the plan had it
	}
	stack := &Stack{Meta: Meta{Kind: KindStack, Name: "shop", Version: 7}, Spec: StackSpec{Revision: 4}}
	c = CommitPlan(p, stack, 6, "admin", at)
	if x := c.Changes[1]; x.Op != OpUpdate || x.Prior != 7 || x.Object.Object.(*Stack).Spec.Revision != 6 || stack.Spec.Revision != 4 {
		t.Errorf("%+v", x)
	}
	if c.Changes[0].Object.Object.(*Revision).Spec.Parent != 4 {
		t.Error("parent")
	}
}

func TestRemade(t *testing.T) {
	pod := func(image string) Any {
		return Any{&Pod{Meta: Meta{Kind: KindPod, Name: "p"}, Spec: PodSpec{Pod: &PodTemplate{Containers: []Container{{Name: "a", Image: image}}}}}}
	}
	for _, tt := range []struct {
		c    RevisionChange
		want bool
	}{
		{RevisionChange{Op: OpUpdate, Before: pod("1"), After: pod("2")}, true},
		{RevisionChange{Op: OpUpdate, Before: pod("1"), After: pod("1")}, false},
		{RevisionChange{Op: OpCreate, After: pod("1")}, false},
	} {
		if got := Remade(tt.c); got != tt.want {
			t.Errorf("%+v: %v", tt.c, got)
		}
	}
}
