package object

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestRestart(t *testing.T) {
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	east := time.FixedZone("east", 3600)
	for _, c := range []struct {
		name     string
		last, at time.Time
		want     time.Time
	}{
		{"the first", time.Time{}, noon.Add(300 * time.Millisecond), noon},
		{"a later one", noon, noon.Add(time.Hour), noon.Add(time.Hour)},
		{"within the same second", noon, noon.Add(900 * time.Millisecond), noon.Add(time.Second)},
		{"at the very same time", noon, noon, noon.Add(time.Second)},
		{"in the next second", noon, noon.Add(time.Second), noon.Add(time.Second)},
		{"in the next second, when one has counted on", noon.Add(time.Second), noon.Add(time.Second), noon.Add(2 * time.Second)},
		{"by a clock that is behind", noon, noon.Add(-time.Hour), noon.Add(time.Second)},
		{"by a clock of another zone", noon, noon.In(east), noon.Add(time.Second)},
	} {
		var d Deployment
		d.Spec.Restarted = c.last
		if d.Restart(c.at); d.Spec.Restarted != c.want {
			t.Errorf("%s: %s, want %s", c.name, d.Spec.Restarted, c.want)
		}
	}
}

// Whatever the clocks say, no restart leaves a deployment as it was at any time before.
func TestEveryRestartIsAnother(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var d Deployment
		seen := map[time.Time]bool{d.Spec.Restarted: true}
		for range rapid.IntRange(1, 20).Draw(t, "restarts") {
			at := time.Unix(0, rapid.Int64Range(1, 5e9).Draw(t, "at"))
			same := d
			if d.Restart(at); seen[d.Spec.Restarted] {
				t.Fatalf("restarted at %s as before", d.Spec.Restarted)
			}
			if same.Restart(at); same.Spec.Restarted != d.Spec.Restarted {
				t.Fatal("the same restart gives another version")
			}
			seen[d.Spec.Restarted] = true
		}
	})
}
