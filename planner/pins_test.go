package planner

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

var (
	oldBytes = "sha256:" + strings.Repeat("a", 64)
	newBytes = "sha256:" + strings.Repeat("b", 64)
)

// contents counts the live pods by the content that their image is pinned to.
func (c *cluster) contents() map[string]int {
	v := c.store.Snapshot()
	out := map[string]int{}
	for p := range state.All[*object.Pod](v, object.KindPod) {
		if !p.Terminal() && !p.Spec.Stop {
			out[v.Template(p).Images["web:1"]]++
		}
	}
	return out
}

// planned is a plan whose images have been found out to be so.
func (c *cluster) planned(r Request, digest string) object.Plan {
	p := c.plan(r)
	for _, image := range p.ImagesToPin() {
		p.Images = append(p.Images, object.PinnedImage{Image: image, Digest: digest, From: object.PinnedByRegistry})
	}
	p.Forecast = Forecast(c.store.Snapshot().Fork(), &p, c.now, NodeModel{}, object.InOrder)
	return p
}

// The way of the issue: what a plan pinned runs, and goes on running when the tag is
// another by now, until somebody asks for that; and the way back brings it back. Each
// time the forecast names the pods that come.
func TestWhatWasPlannedRuns(t *testing.T) {
	c := newCluster(t, 3)
	carry := func(what string, p object.Plan, want map[string]int) {
		t.Helper()
		if rev := c.apply(p, time.Second); rev.Status.Phase != object.RevisionHealthy {
			t.Fatalf("%s: %+v", what, rev.Status)
		}
		for pod, on := range placements(p) {
			got, ok := state.Find[*object.Pod](c.store.Snapshot(), object.Ref{Kind: object.KindPod, Namespace: "default", Name: pod})
			if !ok || got.Spec.Node != on {
				t.Errorf("%s: %s was to go to %s", what, pod, on)
			}
		}
		if got := c.contents(); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	web := func(replicas int) object.Object { return deployment("web", "web:1", replicas) }
	carry("first", c.planned(request(web(2)), oldBytes), map[string]int{oldBytes: 2})

	// The tag has moved: nothing to do, and a scale brings nothing new in.
	if p := c.plan(request(web(2))); !p.Empty() {
		t.Errorf("a plan of the same: %v", brief(p))
	}
	p := c.planned(request(web(4)), newBytes)
	if len(p.Images) != 0 || p.Forecast.Start != 2 || p.Forecast.Stop != 0 {
		t.Errorf("a scale: %+v, %d start, %d stop", p.Images, p.Forecast.Start, p.Forecast.Stop)
	}
	carry("scale", p, map[string]int{oldBytes: 4})

	// A restart pins anew; no revision tells of it.
	restart := &object.Operation{Name: object.OperationRestart, On: []object.Ref{web(4).Ref()}, Pins: map[string]string{"web:1": newBytes}}
	change, err := restart.Changeset(c.store.Snapshot().Get, c.now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.store.Apply(c.store.Snapshot().Index()+1, change); err != nil {
		t.Fatal(err)
	}
	now := Declared(c.store.Snapshot(), "shop")
	if object.PinsOf(now[web(4).Ref()])["web:1"] != newBytes {
		t.Error("the restart has not pinned anew")
	}
	if p := c.plan(request(web(4))); !p.Empty() {
		t.Errorf("a plan of the same, after the restart: %v", brief(p))
	}
	carry("what was restarted is scaled", c.planned(request(web(3)), oldBytes), map[string]int{newBytes: 3})

	// Back to the second revision, and to its bytes.
	var older, newer []*object.Revision
	for n := 3; n > 0; n-- {
		rev, _ := state.Find[*object.Revision](c.store.Snapshot(), object.Ref{Kind: object.KindRevision, Name: object.RevisionName("shop", n)})
		if n > 2 {
			newer = append(newer, rev)
		} else {
			older = append(older, rev)
		}
	}
	then := AsOf(Declared(c.store.Snapshot(), "shop"), newer)
	PinnedAsOf(then, older)
	back := Request{Stack: "shop", Cause: "rollback", Target: 2}
	back.Objects = []Desired{{Object: then[web(4).Ref()]}}
	claims := Claims(back)
	if claims[0].Fingerprint == object.Fingerprint(then[web(4).Ref()]) {
		t.Error("the masters would take what comes back for what is there")
	}
	p = c.plan(back)
	if len(p.Changes) != 1 || len(p.ImagesToPin()) != 0 {
		t.Fatalf("the way back: %v, %v", brief(p), p.ImagesToPin())
	}
	var found bool
	for _, f := range p.Changes[0].Fields {
		found = found || f.Path == `pod.images["web:1"]` && f.Before == newBytes && f.After == oldBytes && f.Why == "rolls 3 pods"
	}
	if want := (object.PinnedImage{Image: "web:1", Digest: oldBytes, From: object.PinnedByRevision}); !found || len(p.PinsBack()) != 1 || p.PinsBack()[0].Digest != want.Digest {
		t.Errorf("it does not tell: %+v, %v", p.Changes[0].Fields, p.PinsBack())
	}
	carry("back", p, map[string]int{oldBytes: 4})
}
