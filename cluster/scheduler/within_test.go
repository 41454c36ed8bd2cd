package scheduler

import (
	"testing"

	"github.com/berthdev/berth/cluster/object"
)

// A pod that is to begin in a zone goes there or nowhere, and the reason says so.
// Where it is once bound says nothing of where it may go later.
func TestWithin(t *testing.T) {
	tmpl := &object.Template{Meta: object.Meta{Kind: object.KindTemplate, Namespace: "default", Name: "t"}}
	pod := func(name string, cpu object.CPU, in ...string) *object.Pod {
		p := testPod("set", name, nil, cpu, 0)
		p.Spec.Template = "t"
		if len(in) > 0 {
			p.Spec.Within = &object.Within{By: "zone", In: in}
		}
		return p
	}
	w := newWorld(t, testNode("n1", "a", 4000, 1<<30), testNode("n2", "b", 1000, 1<<30), tmpl,
		pod("set-0", 400, "b"), pod("set-1", 400, "b"), pod("set-2", 400, "b"), pod("set-3", 400), pod("set-4", 400, "a", "b"), pod("set-5", 400, "c"))
	s := New(SpreadPolicy())
	r := s.Place(w.v(), t0, 0)
	w.apply(r.Changes)
	for name, want := range map[string]string{"set-0": "n2", "set-1": "n2", "set-2": "", "set-3": "n1", "set-4": "n1", "set-5": ""} {
		if got := w.pod(name); got.Spec.Node != want {
			t.Errorf("%s is on %q, want %q", name, got.Spec.Node, want)
		}
	}
	if got, want := w.pod("set-2").Status.Message, "0 of 2 nodes fit: 1 cpu (asks 400m, 200m free at most), 1 not in zone b"; got != want {
		t.Errorf("reason: %s", got)
	}
	if got, want := w.pod("set-5").Status.Message, "0 of 2 nodes fit: 2 not in zone c"; got != want {
		t.Errorf("reason: %s", got)
	}
	s.Place(w.v(), t0, 0) // reads the bound pods
	bound := w.pod("set-0")
	if c := s.kernel.class(bound, w.v().Template(bound)); c.within != "" || s.kernel.total(c, 0) == none {
		t.Errorf("%s may not leave its zone", bound.Name)
	}
}
