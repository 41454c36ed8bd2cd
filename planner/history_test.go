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

// Init containers take as long as they took in the pods that are there, the start of
// what follows included.
func TestForecastsGoByWhatInitContainersTook(t *testing.T) {
	c := newCluster(t, 1)
	with := func(tag string) *object.Deployment {
		d := deployment("web", "web:"+tag, 1)
		d.Spec.Pod.Init = []object.Container{{Name: "check", Image: "web:" + tag, Pull: "never"}, {Name: "fill", Image: "web:" + tag, Pull: "never"}}
		return d
	}
	first := c.plan(request(with("1")))
	if rev := c.apply(first, time.Second); rev.Status.Phase != object.RevisionHealthy {
		t.Fatal(rev.Status)
	}
	x := object.Changeset{Author: "node"}
	for pod := range state.All[*object.Pod](c.store.Snapshot(), object.KindPod) {
		n := pod.Clone().(*object.Pod)
		n.Status.Started = pod.Status.ReadySince.Add(-time.Millisecond)
		n.Status.Containers = append([]object.ContainerStatus{
			{Name: "check", State: "exited", Started: n.Status.Started.Add(-17 * time.Second)},
			{Name: "fill", State: "exited", Started: n.Status.Started.Add(-10 * time.Second)},
		}, pod.Status.Containers...)
		x.UpdateStatus(pod, n)
	}
	if _, err := c.store.Apply(c.store.Snapshot().Index()+1, x); err != nil {
		t.Fatal(err)
	}
	past := newHistory(c.store.Snapshot())
	for name, want := range map[string]time.Duration{"check": 7 * time.Second, "fill": 10 * time.Second} {
		if d, ok := past.ofInit(&object.Container{Name: name, Image: "web:2"}); !ok || d != want {
			t.Errorf("%s takes %s (%v), want %s", name, d, ok, want)
		}
	}
	if d := c.plan(request(with("2"))).Forecast.Duration.D(); d < 17*time.Second || d > 25*time.Second {
		t.Errorf("it takes %s", d)
	}
}

// An image that may not be pulled is there when the pod starts, or the pod never does,
// and one that every node has in store is there: no forecast waits for a registry.
func TestWhatIsInStoreTakesNoTimeToPull(t *testing.T) {
	took := func(pull string, everywhere bool) time.Duration {
		d := deployment("web", "web:1", 1)
		d.Spec.Pod.Containers[0].Pull = pull
		c := newCluster(t, 1)
		v := c.store.Snapshot()
		p, _ := Diff(v, request(d))
		p.Images = []object.PinnedImage{{Image: "web:1", Everywhere: everywhere}}
		return Forecast(v.Fork(), &p, c.now, NodeModel{}, object.InOrder).Duration.D()
	}
	pulled := took("missing", false)
	for _, there := range []time.Duration{took("never", false), took("missing", true)} {
		if pulled-there < time.Second {
			t.Errorf("pulled: %s, there: %s", pulled, there)
		}
	}
	if again := took("always", true); again != pulled {
		t.Errorf("pulled in any case: %s, pulled: %s", again, pulled)
	}
}
