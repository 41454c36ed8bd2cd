package planner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

func node(name string) *object.Node {
	return &object.Node{Meta: object.Meta{Kind: object.KindNode, Name: name, Labels: map[string]string{"zone": name[len(name)-1:]}},
		Status: object.NodeStatus{Condition: object.NodeReady, CPU: 4000, Memory: 8 << 30, Pods: 110}}
}

// cluster is a pure control plane in virtual time, independent of Forecast: the
// store with its controllers and scheduler, and nodes that take as long as they like.
type cluster struct {
	t     testing.TB
	store *state.Store
	now   time.Time
}

func newCluster(t testing.TB, nodes int) *cluster {
	c := &cluster{t: t, store: state.New(), now: start}
	var objects []object.Object
	for i := range nodes {
		objects = append(objects, node(fmt.Sprintf("node-%d", i+1)))
	}
	add(t, c.store, "", objects...)
	return c
}

func (c *cluster) plan(r Request) object.Plan {
	c.t.Helper()
	p, diags := Diff(c.store.Snapshot(), r)
	if diags.HasErrors() {
		c.t.Fatal(diags)
	}
	p.Forecast = Forecast(c.store.Snapshot().Fork(), &p, c.now, NodeModel{}, object.InOrder)
	return p
}

// apply commits a plan and runs the control plane until the revision has ended.
// startup is how long a pod takes here.
func (c *cluster) apply(p object.Plan, startup time.Duration) *object.Revision {
	c.t.Helper()
	return c.carryOut(p, &fate{startup: func() time.Duration { return startup }})
}

func placements(p object.Plan) map[string]string {
	out := map[string]string{}
	for _, x := range p.Forecast.Placements {
		out[x.Pod.Name] = x.Node
	}
	return out
}

// The whole way on pure state: plan, apply, plan again, roll. What the forecast
// says is what the controllers and the scheduler then do, though the nodes take
// another time than the model thought, and afterwards there is nothing to do.
func TestForecastIsWhatHappens(t *testing.T) {
	c := newCluster(t, 3)
	v1 := []object.Object{deployment("web", "web:1", 4, reading("conf")), configMap("conf", "a"), service("web"), deployment("api", "api:1", 2)}
	v2 := []object.Object{deployment("web", "web:2", 4, reading("conf")), configMap("conf", "b"), service("web"), deployment("api", "api:1", 3)}
	for i, objects := range [][]object.Object{v1, v2, v1} {
		p := c.plan(request(objects...))
		f := p.Forecast
		if f.Outcome != OutcomeHealthy {
			t.Fatalf("%d: %s: %s", i, f.Outcome, f.Reason)
		}
		t.Logf("%d: %d start, %d stop, %d unchanged, %s, %v", i, f.Start, f.Stop, f.Unchanged, f.Duration, f.Lowest)
		if i == 0 && (f.Start != 6 || f.Stop != 0) {
			t.Errorf("%d: %d start, %d stop", i, f.Start, f.Stop)
		}
		if i == 1 && (f.Start != 5 || f.Stop != 4 || f.Unchanged != 2) {
			t.Errorf("%d: %d start, %d stop, %d unchanged", i, f.Start, f.Stop, f.Unchanged)
		}
		for _, a := range f.Lowest {
			if a.Workload.Name == "web" && a.Ready < 4 {
				t.Errorf("%d: web falls to %d/%d, with unavailable = 0", i, a.Ready, a.Want)
			}
		}
		rev := c.apply(p, 700*time.Millisecond)
		if rev.Status.Phase != object.RevisionHealthy {
			t.Fatalf("%d: %+v", i, rev.Status)
		}
		if len(rev.Status.Deviations) > 0 {
			t.Errorf("%d: %v", i, rev.Status.Deviations)
		}
		for pod, on := range placements(p) {
			got, ok := state.Find[*object.Pod](c.store.Snapshot(), object.Ref{Kind: object.KindPod, Namespace: "default", Name: pod})
			if !ok || got.Spec.Node != on {
				t.Errorf("%d: %s was to go to %s", i, pod, on)
			}
		}
		again, diags := Diff(c.store.Snapshot(), request(objects...))
		if diags.HasErrors() || !again.Empty() {
			t.Errorf("%d: a finished apply leaves changes: %v %v", i, brief(again), diags)
		}
	}
	p := c.plan(Request{Stack: "shop", Destroy: true})
	if p.Forecast.Outcome != OutcomeHealthy || p.Forecast.Stop != 6 {
		t.Fatalf("%+v", p.Forecast)
	}
	if rev := c.apply(p, 0); rev.Status.Phase != object.RevisionHealthy {
		t.Fatalf("%+v", rev.Status)
	}
}

func TestForecastUnplaceable(t *testing.T) {
	c := newCluster(t, 2)
	p := c.plan(request(deployment("big", "big:1", 1, func(d *object.Deployment) { d.Spec.Pod.Containers[0].Resources.Memory = 100 << 30 })))
	f := p.Forecast
	if f.Outcome != OutcomeFailed || len(f.Unplaced) != 1 || !strings.Contains(f.Unplaced[0].Reason, "0 of 2 nodes fit") || !strings.Contains(f.Reason, "deployment.big") {
		t.Errorf("%+v", f)
	}
}

func TestForecastReplacesPod(t *testing.T) {
	c := newCluster(t, 2)
	c.apply(c.plan(request(barePod("once", "a:1"))), time.Second)
	p := c.plan(request(barePod("once", "a:2")))
	if f := p.Forecast; f.Outcome != OutcomeHealthy || f.Start != 1 || f.Stop != 1 {
		t.Errorf("%+v", f)
	}
	if rev := c.apply(p, time.Second); rev.Status.Phase != object.RevisionHealthy {
		t.Errorf("%+v", rev.Status)
	}
	if again, _ := Diff(c.store.Snapshot(), request(barePod("once", "a:2"))); !again.Empty() {
		t.Errorf("changes left: %v", brief(again))
	}
}

func TestForecastEndsWithoutNodes(t *testing.T) {
	c := newCluster(t, 0)
	if f := c.plan(request(deployment("web", "web:1", 2))).Forecast; f.Outcome == OutcomeHealthy || f.Reason == "" || len(f.Unplaced) == 0 {
		t.Errorf("%+v", f)
	}
}

func TestForecastCommitsOnlyWhatStillHolds(t *testing.T) {
	c := newCluster(t, 1)
	p, _ := Diff(c.store.Snapshot(), request(service("web")))
	add(t, c.store, "other", service("web"))
	if f := Forecast(c.store.Snapshot().Fork(), &p, c.now, NodeModel{}, object.InOrder); f.Outcome != OutcomeFailed || !strings.Contains(f.Reason, "service/default/web") {
		t.Errorf("%+v", f)
	}
}

// Forecast uses up its fork and nothing else, and equal inputs give equal bytes
// in whatever order the objects are given.
func TestForecastIsDeterministic(t *testing.T) {
	c := newCluster(t, 5)
	v1 := []object.Object{deployment("web", "web:1", 7, reading("conf")), configMap("conf", "a"), service("web"), deployment("api", "api:1", 3), secret("db", plaintext), barePod("once", "a:1")}
	c.apply(c.plan(request(v1...)), time.Second)
	v2 := []object.Object{deployment("web", "web:2", 9, reading("conf")), configMap("conf", "b"), deployment("api", "api:2", 2), deployment("new", "n:1", 4), secret("db", plaintext+"2"), barePod("once", "a:2")}
	var first []byte
	rapid.Check(t, func(rt *rapid.T) {
		before := c.store.Snapshot().Index()
		p := c.plan(request(rapid.Permutation(slices.Clone(v2)).Draw(rt, "objects")...))
		b, err := json.Marshal(p)
		if err != nil {
			rt.Fatal(err)
		}
		if first == nil {
			first = b
		}
		if !bytes.Equal(first, b) {
			rt.Fatalf("two forecasts:\n%s\n%s", first, b)
		}
		if bytes.Contains(b, []byte(plaintext)) {
			rt.Fatal("a secret is in the plan")
		}
		if c.store.Snapshot().Index() != before {
			rt.Fatal("the forecast wrote into the state itself")
		}
	})
}

// Keys that are reconciled beside one another give what they give in order.
func TestForecastOnManyProcessors(t *testing.T) {
	c := newCluster(t, 20)
	release := func(image string) []object.Object {
		var list []object.Object
		for i := range 100 {
			list = append(list, deployment(fmt.Sprintf("web-%d", i), image, 2))
		}
		return list
	}
	c.apply(c.plan(request(release("web:1")...)), time.Second)
	p := c.plan(request(release("web:2")...))
	beside := func(n int, do func(int) error) error {
		var wg sync.WaitGroup
		errs := make([]error, n)
		for i := range n {
			wg.Go(func() { errs[i] = do(i) })
		}
		wg.Wait()
		return errors.Join(errs...)
	}
	got := Forecast(c.store.Snapshot().Fork(), &p, c.now, NodeModel{}, beside)
	if want := p.Forecast; !reflect.DeepEqual(got, want) || want.Start != 200 {
		t.Errorf("%+v\nin order: %+v", got, want)
	}
}

// A forecast's own figures agree with its timeline.
func TestForecastAddsUp(t *testing.T) {
	c := newCluster(t, 4)
	c.apply(c.plan(request(deployment("web", "web:1", 12))), time.Second)
	f := c.plan(request(deployment("web", "web:2", 12))).Forecast
	starts, stops, lowest := 0, 0, 0
	for i, s := range f.Steps {
		if i > 0 && s.At < f.Steps[i-1].At {
			t.Errorf("step %d goes back in time", i)
		}
		switch s.Op {
		case "start":
			starts++
		case "stop":
			stops++
		}
		if s.Lowest {
			lowest++
		}
	}
	if starts != f.Start || stops != f.Stop || starts != 12 || stops != 12 || lowest != 1 || len(f.Placements) != 12 {
		t.Errorf("%d starts, %d stops, %d lowest: %+v", starts, stops, lowest, f)
	}
	if f.PeakCPU < 12*100*100/16000 || len(f.Nodes) != 4 {
		t.Errorf("peak cpu %d%%, nodes %v", f.PeakCPU, f.Nodes)
	}
}

// TestForecastCanary: the steps are rehearsed, the pauses count, and a person is
// taken to promote at once.
func TestForecastCanary(t *testing.T) {
	canary := func(d *object.Deployment) {
		d.Spec.Update.Strategy = "canary"
		d.Spec.Update.Steps = []object.CanaryStep{{Name: "try", Weight: 5, Pause: object.Duration(2 * time.Hour)}, {Name: "half", Weight: 50, Manual: true}}
	}
	c := newCluster(t, 3)
	c.apply(c.plan(request(deployment("web", "web:1", 4, canary))), time.Second)
	f := c.plan(request(deployment("web", "web:2", 4, canary))).Forecast
	waits := 0
	for _, s := range f.Steps {
		if s.Op == "pause" && strings.Contains(s.Note, "waits for you: berth rollout promote web") {
			waits++
		}
	}
	if f.Outcome != OutcomeHealthy || waits != 1 || f.Duration.D() < 2*time.Hour || f.Start != 4 || f.Stop != 4 {
		t.Errorf("%s %s: %d waits, %s, %d started, %d stopped", f.Outcome, f.Reason, waits, f.Duration, f.Start, f.Stop)
	}
}

// TestForecastChecks: checks are named, taken to pass, and their time counts; what a
// run needs is placed and gone in the end.
func TestForecastChecks(t *testing.T) {
	minute := object.Duration(time.Minute)
	run := deployment("smoke", "smoke:1", 1).Spec.Pod
	run.Labels = nil
	checked := func(d *object.Deployment) {
		d.Spec.Update.Strategy = "canary"
		d.Spec.Update.Steps = []object.CanaryStep{{Name: "try", Weight: 5, Checks: []object.Check{
			{Name: "slo", Interval: minute, Count: 30, Prometheus: &object.PrometheusSource{Address: "http://there", Query: "up"}, SuccessCondition: "> 0"},
			{Name: "smoke", Interval: minute, Run: &object.RunSource{Pod: run, Timeout: minute}},
		}}}
		d.Spec.Update.Checks = []object.Check{
			{Name: "errors", Interval: 2 * minute, Signal: &object.SignalSource{Metric: object.SignalErrorRate}, SuccessCondition: "< 1%"},
			{Name: "ready", Interval: minute, Signal: &object.SignalSource{Metric: object.SignalReadiness}, SuccessCondition: ">= 1"},
		}
	}
	c := newCluster(t, 3)
	c.apply(c.plan(request(deployment("web", "web:1", 4, checked))), time.Second)
	p := c.plan(request(deployment("web", "web:2", 4, checked)))
	f := p.Forecast
	var notes []string
	smoke := 0
	for _, s := range f.Steps {
		if s.Op == "check" {
			notes = append(notes, s.Note)
		}
		if strings.Contains(s.Ref.Name, "smoke") && s.Op == "start" && s.Node != "" {
			smoke++
		}
	}
	want := []string{
		"goes on if check slo passes: 30 measurements, one each 1m (the forecast assumes: it does)",
		"goes on if check smoke passes: one run (the forecast assumes: it does)",
		"goes on if check errors passes: one measurement each 2m until web is complete (the forecast assumes: it does)",
		"goes on if check ready passes: one measurement each 1m until web is complete (the forecast assumes: it does)",
	}
	if !slices.Equal(notes, want) {
		t.Errorf("notes:\n%s", strings.Join(notes, "\n"))
	}
	if f.Outcome != OutcomeHealthy || f.Duration.D() < 30*time.Minute || f.Duration.D() > 32*time.Minute || f.Start != 5 || smoke != 1 {
		t.Errorf("%s %s: %s, %d started, %d of them for the check", f.Outcome, f.Reason, f.Duration, f.Start, smoke)
	}
	for _, x := range f.Placements {
		if strings.Contains(x.Pod.Name, "smoke") {
			t.Errorf("%s is promised a node, and gone before anybody compares", x.Pod)
		}
	}
	if len(f.Lowest) != 1 || f.Lowest[0].Ready != 4 {
		t.Errorf("lowest: %+v", f.Lowest)
	}
	again := c.plan(request(deployment("web", "web:2", 4, checked))).Forecast
	if !reflect.DeepEqual(f, again) {
		t.Error("the forecast differs from one time to the next")
	}
}

// A check that is under way when a plan is made, or that has paused its rollout since
// its source tells nothing, is taken to pass like one that begins later, and a person
// to promote at once: who changes something else meanwhile, such as the token that the
// source asks for, is not told that it would fail.
func TestForecastOfAChangeWhileARolloutWaits(t *testing.T) {
	const manual = -1 // instead of a check a person is waited for
	person := false
	checked := func(d *object.Deployment) {
		d.Spec.Update.Strategy = "canary"
		d.Spec.Update.Steps = []object.CanaryStep{{Name: "try", Weight: 5, Checks: []object.Check{
			{Name: "slo", Interval: object.Duration(time.Minute), Count: 5, InconclusiveLimit: 1, Prometheus: &object.PrometheusSource{Address: "http://there", Query: "up"}, SuccessCondition: "> 0"},
		}}}
		if person {
			d.Spec.Update.Steps = []object.CanaryStep{{Name: "try", Weight: 5, Manual: true}}
		}
	}
	token := func(value string) *object.ConfigMap {
		return &object.ConfigMap{Meta: object.Meta{Kind: object.KindConfigMap, Namespace: "default", Name: "token"}, Spec: object.ConfigMapSpec{Data: map[string]string{"token": value}}}
	}
	for _, silent := range []int{0, 5, manual} {
		person = silent == manual
		c := newCluster(t, 3)
		c.apply(c.plan(request(token("old"), deployment("web", "web:1", 4, checked))), time.Second)
		p := c.plan(request(token("old"), deployment("web", "web:2", 4, checked)))
		web := p.Changes[0].Ref
		fork := c.store.Snapshot().Fork()
		r := newRehearsal(nil, fork, &p, c.now, NodeModel{}, object.InOrder)
		if !r.begin(&p) {
			t.Fatal(r.reason)
		}
		pending := func() (*object.Deployment, []object.Pending) {
			d, _ := state.Find[*object.Deployment](fork.Snapshot(), web)
			return d, d.Pending()
		}
		for range 1000 {
			r.settle()
			if d, list := pending(); len(list) > 0 || d.Status.Canary != nil && d.Status.Canary.Waits {
				break
			}
			if next, ok := r.next(); ok {
				r.now = next
			}
			r.report()
		}
		for range silent {
			d, list := pending()
			if len(list) == 0 {
				t.Fatal("no check is under way")
			}
			r.now = list[0].Due(list[0].Check)
			x := object.Changeset{Author: "master", Time: r.now}
			x.SetStatus(d, d.Measured(list[0], object.Measurement{At: r.now, Result: object.ResultInconclusive, Message: "401"}))
			if err := r.apply(x); err != nil {
				t.Fatal(err)
			}
			r.settle()
		}
		if d, _ := pending(); person != d.Status.Canary.Waits || (d.Status.Reason == object.ReasonInconclusive) != (silent > 0) {
			t.Fatalf("after %d silent measurements: %+v", silent, d.Status)
		}
		later, diags := Diff(fork.Snapshot(), request(token("new"), deployment("web", "web:2", 4, checked)))
		if diags.HasErrors() || len(later.Changes) != 1 {
			t.Fatal(len(later.Changes), diags)
		}
		f := Forecast(fork.Snapshot().Fork(), &later, r.now, NodeModel{}, object.InOrder)
		if f.Outcome != OutcomeHealthy {
			t.Errorf("after %d silent measurements: %s: %s", silent, f.Outcome, f.Reason)
		}
		// What is assumed of it is said, as it is of one that begins later.
		want := map[int]string{
			0:      "goes on if check slo passes: 5 measurements, one each 1m, 0 taken by now (the forecast assumes: it does)",
			5:      "goes on if check slo passes: 5 measurements, one each 1m, 0 taken by now, the last 5 told nothing (the forecast assumes: it does)",
			manual: "waits for you: berth rollout promote web (the forecast assumes: at once)",
		}
		if notes := assumptions(f); !slices.Equal(notes, []string{want[silent]}) {
			t.Errorf("after %d silent measurements the forecast says it assumes %q", silent, notes)
		}
		var node object.Ref
		for n := range state.All[*object.Node](fork.Snapshot(), object.KindNode) {
			node = n.Ref()
		}
		drain := object.Plan{Operation: &object.Operation{Name: object.OperationDrain, On: []object.Ref{node}}}
		drained := Forecast(fork.Snapshot().Fork(), &drain, r.now, NodeModel{}, object.InOrder)
		if notes := assumptions(drained); !slices.Contains(notes, want[silent]) {
			t.Errorf("after %d silent measurements the forecast of a drain says it assumes %q (%s)", silent, notes, drained.Reason)
		}
		// A plan that replaces the version assumes nothing of the checks of this one.
		next, _ := Diff(fork.Snapshot(), request(token("old"), deployment("web", "web:3", 4, checked)))
		notes := assumptions(Forecast(fork.Snapshot().Fork(), &next, r.now, NodeModel{}, object.InOrder))
		if want := strings.Replace(want[0], ", 0 taken by now", "", 1); !person && !slices.Equal(notes, []string{want}) {
			t.Errorf("after %d silent measurements the forecast of the next version says it assumes %q", silent, notes)
		}
	}
}

// The checks after a blue-green switch are assumed to pass, named, and waited for.
func TestForecastOfChecksAfterTheSwitch(t *testing.T) {
	switched := func(d *object.Deployment) {
		slo := object.Check{Name: "slo", Interval: object.Duration(time.Minute), Count: 5, HTTP: &object.HTTPSource{URL: "http://there"}}
		up := object.Check{Name: "up", Interval: object.Duration(time.Minute), Signal: &object.SignalSource{Metric: object.SignalReadiness}, SuccessCondition: ">= 1"}
		d.Spec.Update.Strategy = "blue_green"
		d.Spec.Update.BlueGreen = &object.BlueGreen{Keep: object.Duration(time.Hour), Checks: []object.Check{slo}, ChecksAfter: []object.Check{slo, up}}
	}
	c := newCluster(t, 3)
	c.apply(c.plan(request(deployment("web", "web:1", 4, switched))), time.Second)
	f := c.plan(request(deployment("web", "web:2", 4, switched))).Forecast
	want := []string{
		"goes on if check slo passes: 5 measurements, one each 1m (the forecast assumes: it does)",
		"goes on if check slo passes: 5 measurements, one each 1m (the forecast assumes: it does)",
		"goes on if check up passes: 5 measurements, one each 1m (the forecast assumes: it does)",
	}
	if notes := assumptions(f); !slices.Equal(notes, want) {
		t.Errorf("notes:\n%s", strings.Join(notes, "\n"))
	}
	if f.Outcome != OutcomeHealthy || f.Duration.D() < 10*time.Minute || f.Duration.D() > 11*time.Minute || f.Start != 4 || f.Stop != 0 {
		t.Errorf("%s %s: %s, %d started, %d stopped", f.Outcome, f.Reason, f.Duration, f.Start, f.Stop)
	}
}

// assumptions are what a forecast says that it waits for.
func assumptions(f object.Forecast) []string {
	var out []string
	for _, s := range f.Steps {
		if s.Op == object.StepCheck || s.Op == object.StepPause {
			out = append(out, s.Note)
		}
	}
	return out
}
