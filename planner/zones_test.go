package planner

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// told is a forecast's timeline of one workload, line by line.
func told(f *object.Forecast, workload string) []string {
	var out []string
	for _, s := range f.Steps {
		if s.Workload.Name != workload {
			continue
		}
		line := fmt.Sprintf("%s %s ", s.At, s.Op)
		switch s.Op {
		case "pause", "zone":
			line += s.Note
		default:
			line += s.Ref.Name[strings.LastIndexByte(s.Ref.Name, '-')+1:] + " on " + s.Node
		}
		out = append(out, fmt.Sprintf("%s, ready %d/%d", line, s.Ready, s.Want))
	}
	return out
}

// TestForecastByZone: the zones are steps of the forecast, in the order asked for,
// and what it says is what happens.
func TestForecastByZone(t *testing.T) {
	byZone := func(d *object.Deployment) {
		d.Spec.Update.By = "zone"
		d.Spec.Update.Zones = &object.Zones{Order: []string{"3"}, Pause: object.Duration(time.Minute)}
		d.Spec.Update.Surge, d.Spec.Update.Unavailable = object.Amount{N: 2}, object.Amount{}
	}
	c := newCluster(t, 3)
	if rev := c.apply(c.plan(request(deployment("web", "web:1", 6, byZone))), time.Second); rev.Status.Phase != object.RevisionHealthy {
		t.Fatalf("%+v", rev.Status)
	}
	p := c.plan(request(deployment("web", "web:2", 6, byZone)))
	if p.Forecast.Outcome != OutcomeHealthy {
		t.Fatalf("%s: %s", p.Forecast.Outcome, p.Forecast.Reason)
	}
	want := []string{
		"0s zone zone 3, 1 of 3, ready 6/6",
		"0s start 0 on node-3, ready 6/6",
		"0s start 1 on node-3, ready 6/6",
		"3s stop 5 on node-3, ready 6/6",
		"3s stop 2 on node-3, ready 6/6",
		"1m3.5s zone zone 1, 2 of 3, ready 6/6",
		"1m3.5s start 2 on node-1, ready 6/6",
		"1m3.5s start 3 on node-1, ready 6/6",
		"1m6.5s stop 3 on node-1, ready 6/6",
		"1m6.5s stop 0 on node-1, ready 6/6",
		"2m7s zone zone 2, 3 of 3, ready 6/6",
		"2m7s start 4 on node-2, ready 6/6",
		"2m7s start 5 on node-2, ready 6/6",
		"2m10s stop 4 on node-2, ready 6/6",
		"2m10s stop 1 on node-2, ready 6/6",
	}
	if got := told(&p.Forecast, "web"); !slices.Equal(got, want) {
		t.Errorf("timeline:\n%s", strings.Join(got, "\n"))
	}
	rev := c.apply(p, 3*time.Second)
	if rev.Status.Phase != object.RevisionHealthy || !rev.Held() || rev.Status.Kept != 6 {
		t.Errorf("%+v", rev.Status)
	}
}

// A zone that has no room is seen before the apply, with its reason.
func TestForecastZoneWithoutRoom(t *testing.T) {
	large := func(d *object.Deployment) {
		d.Spec.Update.By = "zone"
		d.Spec.Pod.Containers[0].Resources.CPU = 3000
	}
	c := newCluster(t, 3)
	c.apply(c.plan(request(deployment("web", "web:1", 3, large))), time.Second)
	f := c.plan(request(deployment("web", "web:2", 3, large))).Forecast
	if f.Outcome != OutcomeFailed || !strings.Contains(f.Reason, "2 not in zone 1") || !strings.Contains(f.Reason, "1 cpu (asks 3, 1 free") {
		t.Errorf("%s: %s", f.Outcome, f.Reason)
	}
}
