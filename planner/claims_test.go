package planner

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// compared answers claims as the masters do.
func compared(v *state.Snapshot, stack string, claims []object.Claim) object.StackState {
	a := object.StackState{Index: v.Index(), Same: make([]uint64, len(claims))}
	named := map[object.Ref]bool{}
	for i, c := range claims {
		o, ok := v.Get(c.Ref)
		if !ok {
			continue
		}
		named[c.Ref] = true
		if m := o.Head(); c.Fingerprint != "" && m.Stack == stack && m.Owner.IsZero() && object.Fingerprint(o) == c.Fingerprint {
			a.Same[i] = m.Version
			continue
		}
		a.Objects = append(a.Objects, object.Any{Object: o})
	}
	for _, info := range object.Kinds() {
		for o := range v.List(info.Kind, state.OfStack(stack)) {
			if info.Declared && o.Head().Owner.IsZero() && !named[o.Ref()] {
				a.Objects = append(a.Objects, object.Any{Object: o})
			}
		}
	}
	if o, ok := v.Get(object.Ref{Kind: object.KindStack, Name: stack}); ok {
		a.Objects = append(a.Objects, object.Any{Object: o})
	}
	return a
}

// A plan from what the masters answer to the claims is, to the byte, the plan from
// all that they hold.
func TestClaimsTellAllThatAPlanNeeds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) []object.Object {
			var out []object.Object
			for i := range rapid.IntRange(0, 6).Draw(t, name) {
				n := fmt.Sprintf("o%d", i)
				switch rapid.IntRange(0, 6).Draw(t, "kind") {
				case 0:
					out = append(out, configMap(n, rapid.SampledFrom([]string{"a", "b"}).Draw(t, "text")))
				case 1:
					out = append(out, service(n))
				case 2:
					out = append(out, secret(n, rapid.SampledFrom([]string{"a", "b"}).Draw(t, "plain")))
				case 3:
					out = append(out, barePod(n, rapid.SampledFrom([]string{"a", "b"}).Draw(t, "image")))
				default:
					out = append(out, deployment(n, rapid.SampledFrom([]string{"a", "b"}).Draw(t, "image"), rapid.IntRange(0, 3).Draw(t, "replicas"),
						func(d *object.Deployment) {
							if rapid.Bool().Draw(t, "reads") {
								reading(fmt.Sprintf("o%d", rapid.IntRange(0, 6).Draw(t, "what")))(d)
							}
							d.Spec.Paused = name == "have" && rapid.Bool().Draw(t, "paused")
						}))
				}
			}
			return out
		}
		s := state.New()
		for _, o := range draw("have") {
			n := o.Clone()
			n.Head().Stack = rapid.SampledFrom([]string{"shop", "shop", "shop", "", "other"}).Draw(t, "stack")
			if rapid.Bool().Draw(t, "after") { // as an apply by Berth leaves it
				n.Head().After = depsOf(o, nil)
			}
			if _, err := s.Apply(s.Snapshot().Index()+1, object.Changeset{Changes: []object.Change{{Op: object.OpCreate, Ref: n.Ref(), Object: object.Any{Object: n}}}}); err != nil {
				t.Fatal(err)
			}
		}
		r := request(draw("want")...)
		for i := range r.Objects {
			if rapid.IntRange(0, 4).Draw(t, "ignores") == 0 && r.Objects[i].Object.Ref().Kind == object.KindDeployment {
				r.Objects[i].Ignore = []string{"replicas"}
			}
		}
		r.Destroy = rapid.IntRange(0, 9).Draw(t, "destroy") == 0

		want, wantDiags := Diff(s.Snapshot(), r)
		half := len(r.Objects) / 2
		first, second := r, r
		first.Objects, second.Objects = r.Objects[:half], r.Objects[half:]
		claims := append(Claims(first), Claims(second)...)
		got, gotDiags := Diff(InForce(r, claims, compared(s.Snapshot(), "shop", claims)), r)
		if a, b := asJSON(t, want), asJSON(t, got); a != b {
			t.Fatalf("from the whole state:\n%s\nfrom the claims:\n%s", a, b)
		}
		a, err := object.EncodePlan(&want, object.InOrder) // encodes everything now
		b, err2 := object.EncodePlan(&got, object.InOrder) // sends what was encoded for the claims
		if err != nil || err2 != nil || !bytes.Equal(a, b) {
			t.Fatalf("from the whole state %d bytes, from the claims %d, and not the same: %v %v", len(a), len(b), err, err2)
		}
		if a, b := asJSON(t, wantDiags), asJSON(t, gotDiags); a != b {
			t.Fatalf("from the whole state:\n%s\nfrom the claims:\n%s", a, b)
		}
	})
}

// Unchanged objects are not sent: that is what claims are for.
func TestUnchangedObjectsAreNotSent(t *testing.T) {
	r := request(deployment("a", "web:1", 2), deployment("b", "web:1", 2), configMap("c", "x"))
	s := state.New()
	for i := range r.Objects {
		o := declare(&r.Objects[i], "shop", dependencies(&r.Objects[i]))
		if o.Ref().Name == "b" {
			o.(*object.Deployment).Spec.Replicas = 3
		}
		add(t, s, "shop", o)
	}
	claims := Claims(r)
	a := compared(s.Snapshot(), "shop", claims)
	if len(a.Objects) != 1 || a.Objects[0].Head().Name != "b" {
		t.Errorf("sent: %v", a.Objects)
	}
	p, diags := Diff(InForce(r, claims, a), r)
	if len(diags) > 0 || len(p.Changes) != 1 || p.Changes[0].Ref.Name != "b" {
		t.Errorf("%v %v", brief(p), diags)
	}
}

func asJSON(t *rapid.T, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
