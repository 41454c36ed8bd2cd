package api_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
)

// A pod that stops gets its signal when nobody sends it anything new.
func TestLeft(t *testing.T) {
	w, ctx := newWorld(t, "m1", "m2"), context.Background()
	labels := map[string]string{"app": "web"}
	svc := &object.Service{Meta: object.Meta{Kind: object.KindService, Namespace: "default", Name: "web"}, Spec: object.ServiceSpec{Selector: labels, Type: "cluster", Affinity: "none"}}
	pod := &object.Pod{Meta: object.Meta{Kind: object.KindPod, Namespace: "default", Name: "web-0", Labels: labels}, Spec: object.PodSpec{Node: "n1"}, Status: object.PodStatus{Address: "10.0.0.5"}}
	ends := &object.Endpoints{Meta: object.Meta{Kind: object.KindEndpoints, Namespace: "default", Name: "web"}, Spec: object.EndpointsSpec{Ready: []object.Endpoint{{Pod: "web-0", Address: "10.0.0.5"}}}}
	w.write(svc, pod, ends)
	created := w.get(pod.Ref()).Head().Created
	n1, n2 := w.as("n1", "node"), w.as("n2", "node")
	for _, n := range []string{"n1", "n2"} {
		if _, err := w.as(n, "node").Report(ctx, object.Report{Node: n, Applied: 1}); err != nil {
			t.Fatal(err)
		}
	}

	e := wantCode(t, n1.AwaitLeft(ctx, pod.Ref(), created), object.CodeTimeout)
	if !strings.Contains(e.Message, "endpoints of service web") {
		t.Errorf("%q", e.Message)
	}
	wantCode(t, n2.AwaitLeft(ctx, pod.Ref(), created), object.CodeForbidden) // it is not its pod

	without := ends.Clone().(*object.Endpoints)
	without.Spec = object.EndpointsSpec{}
	c := object.Changeset{}
	c.Update(w.get(ends.Ref()), without)
	w.propose(c)
	index := w.get(ends.Ref()).Head().Version
	if _, err := n1.Report(ctx, object.Report{Node: "n1", Applied: index}); err != nil {
		t.Fatal(err)
	}
	e = wantCode(t, n1.AwaitLeft(ctx, pod.Ref(), created), object.CodeTimeout)
	if !strings.Contains(e.Message, "by n2") {
		t.Errorf("%q", e.Message)
	}
	done := make(chan error, 1)
	go func() { done <- n1.AwaitLeft(ctx, pod.Ref(), created) }()
	if _, err := n2.Report(ctx, object.Report{Node: "n2", Applied: index + 3}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := n1.AwaitLeft(ctx, pod.Ref(), created+1); err != nil {
		t.Errorf("another incarnation: %v", err)
	}
}

func TestNodesTellEventsAndTheirClock(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	n1 := w.as("n1", "node")
	report := object.Report{Node: "n1", Time: time.Now().Add(-time.Minute), Events: []object.NodeEvent{{Reason: "network_mended", Warning: true, Message: "services: a chain was gone"}}}
	for range 2 {
		if _, err := n1.Report(ctx, report); err != nil {
			t.Fatal(err)
		}
	}
	counts := map[string]int{}
	page, err := w.admin().List(ctx, object.KindEvent, client.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range page.Items {
		e := x.Object.(*object.Event)
		counts[e.Spec.Reason] = e.Spec.Count
		if e.Spec.About.Name != "n1" || e.Spec.Level != "warning" || e.Spec.Source != "node/n1" {
			t.Errorf("%+v", e.Spec)
		}
	}
	if counts["network_mended"] != 2 || counts["clock_off"] != 1 {
		t.Errorf("%v: what happens again counts; a clock that is off is told once an hour", counts)
	}
}
