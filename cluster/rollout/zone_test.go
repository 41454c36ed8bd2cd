package rollout

import (
	"testing"

	"pgregory.net/rapid"
)

// zoneRun is an update by zones played with counts alone.
type zoneRun struct {
	want, surge, unavailable int
	size                     int   // of the old version
	old                      []int // pods of the old version by zone
	fresh                    []int // new ones
	ready                    []int // of fresh
	told                     int   // new pods that the zone whose turn it is is to have
}

func sum(list []int) int {
	n := 0
	for _, x := range list {
		n += x
	}
	return n
}

func (r *zoneRun) input(zone int) Input {
	pods := sum(r.old)
	return Input{
		Want: r.want, Surge: r.surge, Unavailable: r.unavailable,
		New:  Set{Size: sum(r.fresh), Pods: sum(r.fresh), Available: sum(r.ready)},
		Old:  []Set{{Size: r.size, Pods: pods, Available: pods}},
		Zone: &Zone{New: r.told, Old: []Part{{Size: max(0, r.old[zone]-(pods-r.size)), Available: r.old[zone]}}},
	}
}

// TestZoneByZone: whatever the order in which steps are carried out, only the zone
// whose turn it is changes, it ends with as many new pods as it had old ones, and
// surge and floor of the whole are kept.
func TestZoneByZone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &zoneRun{old: rapid.SliceOfN(rapid.IntRange(0, 4), 1, 4).Draw(t, "old")}
		r.want = sum(r.old)
		r.size = r.want
		r.surge, r.unavailable = Limits(r.want, rapid.IntRange(0, 3).Draw(t, "surge"), rapid.IntRange(0, 3).Draw(t, "unavailable"))
		r.fresh, r.ready = make([]int, len(r.old)), make([]int, len(r.old))
		for zone := range r.old {
			had := r.old[zone]
			r.told = 0
			for looks := 0; r.old[zone] > 0 || r.ready[zone] < r.fresh[zone] || r.size+sum(r.fresh) < r.want; looks++ {
				if looks > 1000 {
					t.Fatalf("zone %d comes to no end: %+v", zone, r)
				}
				step := Next(r.input(zone))
				if step.Done && sum(r.old) > 0 {
					t.Fatalf("done with old pods: %+v", r)
				}
				grown := step.New - sum(r.fresh)
				if grown != step.Zone-r.told || grown < 0 || step.Old[0] > r.size {
					t.Fatalf("step %+v of %+v", step, r)
				}
				if step.New+max(step.Old[0], sum(r.old)) > r.want+r.surge {
					t.Fatalf("too many: step %+v of %+v", step, r)
				}
				if sum(r.ready)+min(step.Old[0], sum(r.old)) < r.want-r.unavailable {
					t.Fatalf("too few available: step %+v of %+v", step, r)
				}
				r.told, r.size = step.Zone, step.Old[0]
				r.fresh[zone] += grown
				if excess := sum(r.old) - r.size; excess > r.old[zone] {
					t.Fatalf("gives up pods of other zones: step %+v of %+v", step, r)
				} else if excess > 0 && (grown == 0 || rapid.Bool().Draw(t, "stop")) {
					r.old[zone] -= rapid.IntRange(1, excess).Draw(t, "stopped")
				}
				if starting := r.fresh[zone] - r.ready[zone]; starting > 0 && rapid.Bool().Draw(t, "start") {
					r.ready[zone] += rapid.IntRange(1, starting).Draw(t, "started")
				}
			}
			if r.fresh[zone] != had {
				t.Fatalf("zone %d had %d pods and has %d", zone, had, r.fresh[zone])
			}
		}
	})
}

// TestZoneTakesItsShareOfAScaling: what a scaling adds later does not keep the floor
// from being reached, and is not made now.
func TestZoneTakesItsShareOfAScaling(t *testing.T) {
	in := Input{Want: 6, Surge: 1, New: Set{Size: 2, Pods: 2, Available: 2}, Old: []Set{{Size: 3, Pods: 3, Available: 3}}, Zone: &Zone{New: 2, Old: []Part{{Size: 1, Available: 1}}, Later: 2}}
	if step := Next(in); step.New != 2 || step.Zone != 2 || step.Old[0] != 2 || step.Done {
		t.Errorf("%+v", step)
	}
	in.Zone.Later = 0
	if step := Next(in); step.New != 4 || step.Zone != 4 || step.Old[0] != 3 {
		t.Errorf("%+v", step)
	}
}
