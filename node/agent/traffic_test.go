package agent

import (
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// Each request is in exactly one report, and one that may have arrived is sent again
// as it was.
func TestTrafficReports(t *testing.T) {
	var is []object.SetTraffic
	x := &traffic{counters: func() []object.SetTraffic { return is }}
	at := time.Unix(1, 0)
	set := func(name string, n, errors uint64) object.SetTraffic {
		return object.SetTraffic{Namespace: "shop", Set: name, Requests: n, Errors: errors, Took: []uint64{n}}
	}
	if r := x.next(at); r != nil {
		t.Fatalf("nothing was answered: %+v", r)
	}
	is = []object.SetTraffic{set("a", 3, 1)}
	first := x.next(at.Add(1))
	if first == nil || len(first.Sets) != 1 || first.Sets[0].Requests != 3 || first.Sets[0].Errors != 1 {
		t.Fatalf("first: %+v", first)
	}
	is = []object.SetTraffic{set("a", 5, 1), set("b", 1, 0)}
	if again := x.next(at.Add(2)); again != first {
		t.Fatalf("again: %+v", again)
	}
	x.delivered()
	r := x.next(at.Add(3))
	if r == nil || !r.Until.After(first.Until) || len(r.Sets) != 2 || r.Sets[0].Requests != 2 || r.Sets[0].Errors != 0 || r.Sets[0].Took[0] != 2 || r.Sets[1].Requests != 1 {
		t.Fatalf("then: %+v", r)
	}
	x.delivered()
	if r := x.next(at.Add(4)); r != nil {
		t.Fatalf("nothing more: %+v", r)
	}
	is = []object.SetTraffic{set("a", 1, 1)} // forgotten by the ingress, and begun anew
	if r := x.next(at.Add(5)); r == nil || r.Sets[0].Requests != 1 || r.Sets[0].Errors != 1 {
		t.Fatalf("anew: %+v", r)
	}
}
