package planner

import (
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

func TestForecastsGoByWhatStartsTook(t *testing.T) {
	c := newCluster(t, 3)
	v1 := deployment("web", "registry:5000/web:1", 4)
	first := c.plan(request(v1))
	if len(first.Forecast.Starts) > 0 {
		t.Errorf("nothing has run yet: %v", first.Forecast.Starts)
	}
	if rev := c.apply(first, time.Second); rev.Status.Phase != object.RevisionHealthy {
		t.Fatal(rev.Status)
	}
	// The nodes of this test say "running" when a pod is ready; let their pods have
	// been running for longer, one of them for very long, as after a lost readiness.
	x := object.Changeset{Author: "node"}
	i := 0
	for pod := range state.All[*object.Pod](c.store.Snapshot(), object.KindPod) {
		n := pod.Clone().(*object.Pod)
		n.Status.Started = pod.Status.ReadySince.Add(-8 * time.Second)
		if i++; i == 1 {
			n.Status.Started = pod.Status.ReadySince.Add(-time.Hour)
		}
		x.UpdateStatus(pod, n)
	}
	if _, err := c.store.Apply(c.store.Snapshot().Index()+1, x); err != nil {
		t.Fatal(err)
	}
	quick := deployment("web", "registry:5000/web:2", 4)
	p := c.plan(request(quick))
	if s := p.Forecast.Starts; len(s) != 1 || s[0].Image != "registry:5000/web:2" || s[0].Ready.D() != 8*time.Second {
		t.Errorf("start times: %v", s)
	}
	if d := p.Forecast.Duration.D(); d < 32*time.Second || d > 45*time.Second {
		t.Errorf("four pods, one after the other, take %s", d)
	}
	other := c.plan(request(deployment("web", "registry:5000/other:2", 4)))
	if d := other.Forecast.Duration.D(); d > 20*time.Second || len(other.Forecast.Starts) > 0 {
		t.Errorf("another image takes %s by %v", d, other.Forecast.Starts)
	}
}

func TestWithoutTag(t *testing.T) {
	for image, want := range map[string]string{"web": "web", "web:1": "web", "host:5000/web": "host:5000/web", "host:5000/web:1": "host:5000/web", "web@sha256:00": "web", "a/b:1@sha256:00": "a/b"} {
		if got := withoutTag(image); got != want {
			t.Errorf("%s: %s", image, got)
		}
	}
}

// An image that may not be pulled is there when the pod starts, or the pod never does:
// no forecast waits for a registry.
func TestWhatIsNeverPulledTakesNoTimeToPull(t *testing.T) {
	took := func(pull string) time.Duration {
		d := deployment("web", "web:1", 1)
		d.Spec.Pod.Containers[0].Pull = pull
		return newCluster(t, 1).plan(request(d)).Forecast.Duration.D()
	}
	if never, missing := took("never"), took("missing"); missing-never < time.Second {
		t.Errorf("never pulled: %s, pulled: %s", never, missing)
	}
}
