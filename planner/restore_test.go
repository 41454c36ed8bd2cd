package planner

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

func inStack(stack string, objects ...object.Object) Request {
	r := request(objects...)
	r.Stack = stack
	return r
}

// restore plans the stacks of a former state, as the command line does.
func (c *cluster) restore(then *state.Snapshot, stacks ...string) object.Plan {
	c.t.Helper()
	var parts []object.Plan
	for _, stack := range stacks {
		f := FormerOf(then, stack)
		p, diags := Diff(c.store.Snapshot(), Request{Stack: stack, Version: "test", Cause: object.CauseRestore, Target: f.Number, Outputs: f.Outputs, Source: f.Source, Objects: f.Desires()})
		if diags.HasErrors() {
			c.t.Fatal(diags)
		}
		parts = append(parts, p)
	}
	p := Restore(object.RestoredFrom{Cluster: "c", Index: then.Index()}, parts)
	p.Time = c.now
	p.Forecast = Forecast(c.store.Snapshot().Fork(), &p, c.now, NodeModel{}, object.InOrder)
	return p
}

func podsOf(v *state.Snapshot) map[object.Ref]uint64 {
	out := map[object.Ref]uint64{}
	for p := range state.All[*object.Pod](v, object.KindPod) {
		if !p.Terminal() && !p.Spec.Stop {
			out[p.Ref()] = p.Created
		}
	}
	return out
}

// Several stacks go back in one entry, each by a revision of its own; what is
// otherwise afterwards is nothing.
func TestRestoreOfSeveralStacks(t *testing.T) {
	c := newCluster(t, 3)
	c.apply(c.plan(inStack("shop", deployment("web", "web:1", 4, reading("conf")), configMap("conf", "a"))), time.Second)
	c.apply(c.plan(inStack("data", deployment("db", "db:1", 2))), time.Second)
	then := c.store.Snapshot()
	c.apply(c.plan(inStack("shop", deployment("web", "web:2", 4, reading("conf")), configMap("conf", "b"), service("web"))), time.Second)
	c.apply(c.plan(inStack("late", deployment("late", "late:1", 1))), time.Second)
	was := podsOf(c.store.Snapshot())

	p := c.restore(then, "data", "late", "shop")
	var got []string
	for i := range p.Changes {
		got = append(got, p.Changes[i].Stack()+": "+p.Changes[i].Actions[0]+" "+p.Changes[i].Address)
	}
	slices.Sort(got)
	if want := []string{"late: delete deployment.late", "shop: delete service.web", "shop: update config_map.conf", "shop: update deployment.web"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if p.Stacks()[0] != "late" || len(p.Stacks()) != 2 { // nothing of data changes
		t.Errorf("%q", p.Stacks())
	}
	if p.Forecast.Outcome != OutcomeHealthy || p.Forecast.Start != 4 || p.Forecast.Stop != 5 {
		t.Fatalf("%+v", p.Forecast)
	}
	parts := p.Parts()
	if len(parts[0].Forecast.Placements) != 0 || len(parts[1].Forecast.Placements) != 4 || len(parts[1].Forecast.Lowest) != 1 {
		t.Errorf("%+v\n%+v", parts[0].Forecast, parts[1].Forecast)
	}
	end := Carry(c.store, &p, c.now, DefaultNodes, object.InOrder)
	if end.Outcome != OutcomeHealthy {
		t.Fatal(end)
	}
	v := c.store.Snapshot()
	for _, name := range []string{"shop-3", "late-2"} {
		rev, ok := state.Find[*object.Revision](v, object.Ref{Kind: object.KindRevision, Name: name})
		if !ok || rev.Status.Phase != object.RevisionHealthy || rev.Spec.Cause != object.CauseRestore {
			t.Errorf("%s: %+v", name, rev)
		}
	}
	shop, _ := state.Find[*object.Revision](v, object.Ref{Kind: object.KindRevision, Name: "shop-3"})
	if shop.Spec.Target != 1 || shop.Created != mustGet(t, v, object.Ref{Kind: object.KindRevision, Name: "late-2"}).Head().Created {
		t.Errorf("not one entry, or of another revision: %+v", shop.Spec)
	}
	for r, created := range podsOf(v) {
		if r.Name[:2] == "db" && was[r] != created {
			t.Errorf("%s was touched", r)
		}
	}
	if again := c.restore(then, "data", "late", "shop"); !again.Empty() {
		t.Errorf("%q", brief(again))
	}
}

func mustGet(t *testing.T, v *state.Snapshot, r object.Ref) object.Object {
	t.Helper()
	o, ok := v.Get(r)
	if !ok {
		t.Fatalf("%s is missing", r)
	}
	return o
}

// One stack's failure is told with its name, and fails the forecast of the whole.
func TestRestoreForecastNamesTheStackThatFails(t *testing.T) {
	c := newCluster(t, 1)
	c.apply(c.plan(inStack("shop", deployment("web", "web:1", 1))), time.Second)
	c.apply(c.plan(inStack("data", sized(deployment("db", "db:1", 1), 3000, 0))), time.Second)
	then := c.store.Snapshot()
	c.apply(c.plan(inStack("data")), time.Second)
	c.apply(c.plan(inStack("shop", deployment("web", "web:2", 1), sized(deployment("big", "big:1", 1), 3000, 0))), time.Second)
	p := c.restore(then, "data")
	if p.Forecast.Outcome == OutcomeHealthy || len(p.Forecast.Unplaced) != 1 {
		t.Errorf("%+v", p.Forecast)
	}
	if p = c.restore(then, "data", "shop"); p.Forecast.Outcome != OutcomeHealthy { // shop makes room
		t.Errorf("%+v", p.Forecast)
	}
}

// A snapshot may have been taken in the middle of a rollout.
func TestFormerOfWhatWasUnderWay(t *testing.T) {
	v1, v2 := deployment("web", "web:1", 1), deployment("web", "web:2", 1)
	gone := configMap("old", "x")
	for _, phase := range []object.RevisionPhase{object.RevisionRunning, object.RevisionPaused, object.RevisionReverting, object.RevisionHealthy, object.RevisionReverted} {
		t.Run(string(phase), func(t *testing.T) {
			s := world(t, "shop", v1, gone)
			mine := func(o object.Object) object.Any {
				n := o.Clone()
				n.Head().Stack = "shop"
				return object.Any{Object: n}
			}
			rev := func(n int) *object.Revision {
				return &object.Revision{Meta: object.Meta{Kind: object.KindRevision, Name: object.RevisionName("shop", n), Stack: "shop"}, Spec: object.RevisionSpec{Stack: "shop", Number: n, Parent: n - 1}}
			}
			r1, r2 := rev(1), rev(2)
			r1.Spec.Outputs = map[string]object.Output{"v": {Value: 1.0}}
			r2.Status.Phase = phase
			r2.Spec.Changes = []object.RevisionChange{
				{Op: object.OpUpdate, Ref: v1.Ref(), Wave: 1, Before: mine(v1), After: mine(v2)},
				{Op: object.OpDelete, Ref: gone.Ref(), Wave: 2, Before: mine(gone)},
				{Op: object.OpCreate, Ref: configMap("new", "").Ref(), Wave: 2, After: mine(configMap("new", "y"))},
			}
			c := object.Changeset{Author: "test", Time: start}
			c.Create(r1)
			c.Create(r2)
			c.Create(&object.Stack{Meta: object.Meta{Kind: object.KindStack, Name: "shop"}, Spec: object.StackSpec{Revision: 2, Outputs: map[string]object.Output{"v": {Value: 2.0}}}})
			if _, err := s.Apply(2, c); err != nil {
				t.Fatal(err)
			}
			f := FormerOf(s.Snapshot(), "shop")
			var refs []string
			for r := range f.Objects {
				refs = append(refs, r.Address())
			}
			slices.Sort(refs)
			image := f.Objects[v1.Ref()].(*object.Deployment).Spec.Pod.Containers[0].Image
			switch phase {
			case object.RevisionRunning: // nobody had given it up
				if f.Number != 2 || f.Left != 0 || image != "web:2" || !slices.Equal(refs, []string{"config_map.new", "deployment.web"}) || f.Outputs["v"].Value != 2.0 {
					t.Errorf("%+v %s %q", f, image, refs)
				}
			case object.RevisionPaused, object.RevisionReverting:
				if f.Number != 1 || f.Left != 2 || image != "web:1" || !slices.Equal(refs, []string{"config_map.old", "deployment.web"}) || f.Outputs["v"].Value != 1.0 {
					t.Errorf("%+v %s %q", f, image, refs)
				}
			default: // what is in force
				if f.Number != 2 || f.Left != 0 || image != "web:1" || !slices.Equal(refs, []string{"config_map.old", "deployment.web"}) {
					t.Errorf("%+v %s %q", f, image, refs)
				}
			}
		})
	}
	if f := FormerOf(state.New().Snapshot(), "shop"); f.Number != 0 || len(f.Desires()) != 0 {
		t.Errorf("%+v", f)
	}
}

// Whatever has happened to the stacks since, a restore that is carried out leaves
// nothing to restore, and touches no pod of a workload that was as it is.
func TestRestoreLeavesNothingToRestore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &cluster{t: nil, store: state.New(), now: start}
		x := object.Changeset{Author: "test", Time: start}
		for _, n := range []string{"n1", "n2", "n3"} {
			x.Create(node(n))
		}
		if _, err := c.store.Apply(1, x); err != nil {
			t.Fatal(err)
		}
		stacks := []string{"a", "b"}
		apply := func(stack, label string) {
			var objects []object.Object
			for _, name := range []string{"x", "y"} {
				if rapid.Bool().Draw(t, label+" has "+stack+name) {
					objects = append(objects, deployment(stack+name, rapid.SampledFrom([]string{"i:1", "i:2"}).Draw(t, "image"), rapid.IntRange(1, 3).Draw(t, "pods")))
				}
			}
			p, diags := Diff(c.store.Snapshot(), inStack(stack, objects...))
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			if !p.Empty() {
				c.now = Carry(c.store, &p, c.now, DefaultNodes, object.InOrder).At
			}
		}
		for _, s := range stacks {
			apply(s, "then")
		}
		then := c.store.Snapshot()
		for _, s := range stacks {
			apply(s, "since")
		}
		v := c.store.Snapshot()
		was := podsOf(v)
		plan := func() object.Plan {
			var parts []object.Plan
			for _, stack := range stacks {
				f := FormerOf(then, stack)
				p, diags := Diff(c.store.Snapshot(), Request{Stack: stack, Cause: object.CauseRestore, Target: f.Number, Objects: f.Desires()})
				if diags.HasErrors() {
					t.Fatal(diags)
				}
				parts = append(parts, p)
			}
			return Restore(object.RestoredFrom{}, parts)
		}
		p := plan()
		if p.Empty() {
			return
		}
		changed := map[object.Ref]bool{}
		for i := range p.Changes {
			changed[p.Changes[i].Ref] = true
		}
		if end := Carry(c.store, &p, c.now, DefaultNodes, object.InOrder); end.Outcome != OutcomeHealthy {
			t.Fatalf("%+v", end)
		}
		if again := plan(); !again.Empty() {
			t.Fatalf("left: %q", brief(again))
		}
		now := podsOf(c.store.Snapshot())
		for r, created := range was {
			pod, _ := state.Find[*object.Pod](v, r)
			set, ok := v.Get(pod.Owner)
			if ok && !changed[set.Head().Owner] && now[r] != created {
				t.Fatalf("%s was touched", r)
			}
		}
	})
}
