package api_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// A person who asks `berth events` finds out that a container keeps ending, why a
// pod does not come up and that a node was unwell; what goes well is not told.
func TestReportsTellWhatGoesWrong(t *testing.T) {
	w, _, _ := secretWorld(t)
	ctx := context.Background()
	n1 := w.as("n1", "node")
	p := w.get(object.Ref{Kind: object.KindPod, Namespace: "default", Name: "web-0"}).(*object.Pod)
	node := object.NodeStatus{CPU: 4000, Address: "10.0.0.1:7410"}
	report := func(n object.NodeStatus, s object.PodStatus) {
		t.Helper()
		if _, err := n1.Report(ctx, object.Report{Node: "n1", Status: &n, Pods: []object.PodReport{{Ref: p.Ref(), Created: p.Created, Status: s}}}); err != nil {
			t.Fatal(err)
		}
	}
	told := func(want ...string) {
		t.Helper()
		var got []string
		for e := range state.All[*object.Event](w.shared.store.Snapshot(), object.KindEvent) {
			got = append(got, fmt.Sprintf("%s %s %s %d: %s", e.Spec.Level, e.Spec.About, e.Spec.Reason, e.Spec.Count, e.Spec.Message))
			if e.Spec.Source != "node/n1" {
				t.Errorf("told by %q", e.Spec.Source)
			}
		}
		slices.Sort(got)
		if slices.Sort(want); !slices.Equal(got, want) {
			t.Fatalf("told\n%q\nwant\n%q", got, want)
		}
	}
	at := func(s int) time.Time { return time.Date(2026, 1, 1, 0, 0, s, 0, time.UTC) }
	up := func() object.PodStatus {
		return object.PodStatus{Phase: object.PodRunning, Ready: true, Containers: []object.ContainerStatus{{Name: "web", State: "running", Ready: true}}}
	}
	down := func(second int, reason, message string) object.PodStatus {
		return object.PodStatus{Phase: object.PodRunning, Reason: reason, Message: "container web: " + message,
			Containers: []object.ContainerStatus{{Name: "web", State: "exited", ExitCode: 1, Finished: at(second), Reason: reason, Message: message}}}
	}
	report(node, up())
	told()
	report(node, down(1, "error", "ended with exit code 1"))
	report(node, down(1, "error", "ended with exit code 1")) // the same end
	told("warning pod/default/web-0 error 1: container web: ended with exit code 1")
	report(node, up())
	report(node, down(2, "error", "ended with exit code 1"))
	told("warning pod/default/web-0 error 2: container web: ended with exit code 1")

	sick := up()
	sick.Ready, sick.Containers[0].Ready, sick.Containers[0].Message = false, false, "readiness probe: refused"
	report(node, up())
	report(node, sick)
	absent := object.PodStatus{Phase: object.PodStarting, Reason: object.ReasonImagePull, Message: "the registry cannot be used"}
	report(node, absent)
	report(node, absent)
	full := node
	full.Condition, full.Message = "not_ready", "containerd does not answer"
	report(full, absent)
	report(node, absent)
	told("warning pod/default/web-0 error 2: container web: ended with exit code 1",
		"warning pod/default/web-0 not_ready 1: container web: readiness probe: refused",
		"warning pod/default/web-0 image_pull 1: the registry cannot be used",
		"warning node/n1 node_not_ready 1: containerd does not answer",
		"info node/n1 node_ready 1: it is ready again")

	stopping := p.Clone().(*object.Pod)
	stopping.Spec.Stop = true
	c := object.Changeset{}
	c.Update(w.get(p.Ref()), stopping)
	w.propose(c)
	before := w.shared.store.Snapshot().Count(object.KindEvent)
	report(node, down(9, "error", "ended by signal 15 (exit code 143)"))
	if after := w.shared.store.Snapshot().Count(object.KindEvent); after != before {
		t.Error("the end of a pod that was told to stop is an event")
	}
}
