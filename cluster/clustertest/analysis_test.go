package clustertest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

func checkedDeployment(image string, check object.Check) *object.Deployment {
	d := &object.Deployment{Meta: object.Meta{Kind: object.KindDeployment, Namespace: "default", Name: "web"}}
	object.SetDefaults(&d.Spec)
	c := object.Container{Name: "web"}
	object.SetDefaults(&c)
	c.Image = image
	d.Spec.Replicas, d.Spec.Pod.Containers, d.Spec.Pod.Restart = 2, []object.Container{c}, "always"
	d.Spec.Update.Strategy = "canary"
	d.Spec.Update.Steps = []object.CanaryStep{{Name: "try", Weight: 50, Checks: []object.Check{check}}}
	return d
}

func (c *Cluster) checkOf(name string) (object.CheckStatus, object.DeploymentStatus) {
	d, ok := state.Find[*object.Deployment](c.Snapshot(), object.Ref{Kind: object.KindDeployment, Namespace: "default", Name: name})
	if !ok || d.Status.Canary == nil || len(d.Status.Canary.Checks) == 0 {
		return object.CheckStatus{}, object.DeploymentStatus{}
	}
	return d.Status.Canary.Checks[0], d.Status
}

// A leader that dies in the middle of a check takes no measurement with it and has none
// counted twice: the check passes after as many as it asks for, whoever leads.
func TestCheckOutlivesItsLeader(t *testing.T) {
	var asked atomic.Int64
	source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		fmt.Fprint(w, `{"burn": 0.1}`)
	}))
	defer source.Close()
	check := object.Check{Name: "slo", Count: 5, SuccessCondition: "< 1", HTTP: &object.HTTPSource{}}
	object.SetDefaults(&check)
	object.SetDefaults(check.HTTP)
	check.HTTP.URL, check.HTTP.JSON, check.Interval = source.URL, "burn", object.Duration(time.Second)

	c := Start(t, Options{Masters: 3, Nodes: 2})
	if _, err := c.Apply(t.Context(), c.Client(), "shop", checkedDeployment("app:1", check)); err != nil {
		t.Fatal(err)
	}
	c.Eventually("the first version is stable", func() bool {
		d, ok := state.Find[*object.Deployment](c.Snapshot(), object.Ref{Kind: object.KindDeployment, Namespace: "default", Name: "web"})
		return ok && d.Status.Phase == object.RolloutStable
	})
	if _, err := c.Apply(t.Context(), c.Client(), "shop", checkedDeployment("app:2", check)); err != nil {
		t.Fatal(err)
	}
	c.Eventually("it was measured twice", func() bool { s, _ := c.checkOf("web"); return s.Passed >= 2 })
	c.Kill(c.Leader())
	before, highest := asked.Load(), 0
	c.Eventually("the check has passed", func() bool {
		s, st := c.checkOf("web")
		if s.Passed < highest && s.Passed > 0 || s.Failed > 0 || s.Inconclusive > 0 {
			t.Fatalf("counts went wrong: %+v", s)
		}
		highest = max(highest, s.Passed)
		d, ok := state.Find[*object.Deployment](c.Snapshot(), object.Ref{Kind: object.KindDeployment, Namespace: "default", Name: "web"})
		_ = st
		return ok && d.Status.Phase == object.RolloutStable && d.Status.Proven == d.Status.Set && d.Status.Canary == nil && d.Status.Previous != ""
	})
	if n := asked.Load(); n < 5 || n > 7 || n <= before {
		t.Errorf("asked %d times, %d of them before the leader died; five measurements were wanted", n, before)
	}
}

// What nodes report of their ingresses decides over the version, and a report that
// comes twice counts once.
func TestTrafficDecides(t *testing.T) {
	check := object.Check{Name: "errors", Count: 2, SuccessCondition: "< 10%", Signal: &object.SignalSource{}}
	object.SetDefaults(&check)
	object.SetDefaults(check.Signal)
	check.Signal.Metric, check.Signal.MinRequests, check.Interval = object.SignalErrorRate, 10, object.Duration(time.Second)

	c := Start(t, Options{Masters: 1, Nodes: 2})
	edge := c.ClientOf(c.Identity("edge", object.RoleNode))
	if _, err := edge.Report(t.Context(), object.Report{Node: "edge", Status: &object.NodeStatus{Condition: object.NodeReady}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Apply(t.Context(), c.Client(), "shop", checkedDeployment("app:1", check)); err != nil {
		t.Fatal(err)
	}
	stable := func() bool {
		d, ok := state.Find[*object.Deployment](c.Snapshot(), object.Ref{Kind: object.KindDeployment, Namespace: "default", Name: "web"})
		return ok && d.Status.Phase == object.RolloutStable
	}
	c.Eventually("the first version is stable", stable)
	applied, err := c.Apply(t.Context(), c.Client(), "shop", checkedDeployment("app:2", check))
	if err != nil {
		t.Fatal(err)
	}
	c.Eventually("the check has begun", func() bool { s, _ := c.checkOf("web"); return s.Name != "" })
	_, st := c.checkOf("web")
	bad := object.Traffic{Until: time.Unix(1, 0), Sets: []object.SetTraffic{{Namespace: "default", Set: st.Set, Requests: 5, Errors: 5}}}
	for range 3 { // fifteen if each counted
		if _, err := edge.Report(t.Context(), object.Report{Node: "edge", Traffic: &bad}); err != nil {
			t.Fatal(err)
		}
	}
	c.Eventually("five are too few", func() bool { s, _ := c.checkOf("web"); return s.Inconclusive > 0 })
	if s, _ := c.checkOf("web"); s.Failed > 0 {
		t.Fatalf("reports counted twice: %+v", s)
	}
	bad.Until = time.Unix(2, 0)
	if _, err := edge.Report(t.Context(), object.Report{Node: "edge", Traffic: &bad}); err != nil {
		t.Fatal(err)
	}
	c.Eventually("the revision is put back", func() bool {
		r, ok := state.Find[*object.Revision](c.Snapshot(), applied.Revision)
		return ok && r.Status.Phase == object.RevisionReverted && r.Status.Reason == object.ReasonCheck
	})
}
