package planner

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// randomCluster has up to a hundred nodes of different sizes in three zones.
func randomCluster(t testing.TB, r *rand.Rand, most int) *cluster {
	c := &cluster{t: t, store: state.New(), now: start}
	var nodes []object.Object
	for i := range 3 + r.IntN(most-2) {
		n := node(fmt.Sprintf("node-%d", i+1))
		n.Labels["zone"] = string(rune('a' + r.IntN(3)))
		n.Status.CPU = object.CPU(1000 + 500*r.IntN(7))
		nodes = append(nodes, n)
	}
	add(t, c.store, "", nodes...)
	return c
}

// randomStack is a few deployments that know each other, and a config map that
// some of them read.
func randomStack(r *rand.Rand) []object.Object {
	objects := []object.Object{configMap("conf", "a")}
	for i := range 1 + r.IntN(3) {
		d := deployment(fmt.Sprintf("d%d", i), "app:1", 1+r.IntN(8))
		u := &d.Spec.Update
		set := func(q *object.Amount, s string) {
			if err := q.UnmarshalText([]byte(s)); err != nil {
				panic(err)
			}
		}
		set(&u.Surge, []string{"0", "1", "25%", "2", "100%"}[r.IntN(5)])
		set(&u.Unavailable, []string{"0", "1", "25%", "50%"}[r.IntN(4)])
		u.MinReadyTime = object.Duration(time.Duration(r.IntN(3)) * time.Second)
		u.ProgressDeadline = object.Duration(2 * time.Minute)
		u.By = []string{"", "", "zone"}[r.IntN(3)]
		d.Spec.Pod.Containers[0].Resources.CPU = object.CPU(50 + 50*r.IntN(4))
		if r.IntN(2) == 0 {
			reading("conf")(d)
		}
		objects = append(objects, d)
	}
	return objects
}

// changed is the next version of a stack: other images, numbers, contents.
func changed(r *rand.Rand, objects []object.Object) []object.Object {
	var out []object.Object
	for _, o := range objects {
		n := o.Clone()
		switch x := n.(type) {
		case *object.ConfigMap:
			x.Spec.Data = map[string]string{"k": string(rune('a' + r.IntN(2)))}
		case *object.Deployment:
			if r.IntN(4) > 0 {
				x.Spec.Pod.Containers = slices.Clone(x.Spec.Pod.Containers)
				x.Spec.Pod.Containers[0].Image = fmt.Sprintf("app:%d", 1+r.IntN(3))
			}
			if r.IntN(3) == 0 {
				x.Spec.Replicas = 1 + r.IntN(8)
			}
		}
		out = append(out, n)
	}
	return out
}

func clones(objects []object.Object) []object.Object {
	out := make([]object.Object, len(objects))
	for i, o := range objects {
		out[i] = o.Clone()
	}
	return out
}

// Two hundred random clusters: every pod goes where the plan had it, though each
// takes as long as it likes to start, and no workload has fewer ready pods.
func TestPlansHold(t *testing.T) {
	placed, plans := 0, 0
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		c := randomCluster(t, r, 100)
		objects := randomStack(r)
		for round := range 3 {
			if round > 0 {
				objects = changed(r, objects)
			}
			p := c.plan(request(clones(objects)...))
			if p.Empty() {
				continue
			}
			if p.Forecast.Outcome != OutcomeHealthy {
				t.Fatalf("seed %d, round %d: %s: %s", seed, round, p.Forecast.Outcome, p.Forecast.Reason)
			}
			// Not in no time: what is measured is told apart by when it was.
			rev := c.carryOut(p, &fate{startup: func() time.Duration { return between(r, 100*time.Millisecond, 5*time.Second) }})
			if rev.Status.Phase != object.RevisionHealthy {
				t.Fatalf("seed %d, round %d: %+v", seed, round, rev.Status)
			}
			if rev.Measured() && !rev.Held() {
				t.Errorf("seed %d, round %d: %d placements held, not these: %v; less ready than promised: %v", seed, round, rev.Status.Kept, rev.Status.Deviations, rev.Broken())
			}
			placed += rev.Status.Kept
			plans++
		}
	}
	if plans < 400 || placed < 4*plans {
		t.Errorf("only %d plans with %d placements: this proves little", plans, placed)
	}
	t.Logf("%d plans, %d placements", plans, placed)
}

// Five hundred rollouts in which pods start late, crash and lose their nodes: no
// controller stops a ready pod where that leaves fewer than the plan promised.
func TestThePromisedMinimumIsKept(t *testing.T) {
	ends := map[string]int{}
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 2))
		c := randomCluster(t, r, 12)
		objects := randomStack(r)
		if rev := c.apply(c.plan(request(clones(objects)...)), time.Second); rev.Status.Phase != object.RevisionHealthy {
			t.Fatalf("seed %d: %+v", seed, rev.Status)
		}
		p := c.plan(request(clones(changed(r, objects))...))
		if p.Empty() || p.Forecast.Outcome != OutcomeHealthy {
			continue
		}
		f := &fate{startup: func() time.Duration { return between(r, 0, 20*time.Second) }, limit: 20 * time.Minute}
		f.crash = func() (time.Duration, time.Duration) {
			if r.IntN(3) > 0 {
				return 0, 0
			}
			return between(r, time.Second, time.Minute), between(r, time.Second, 30*time.Second)
		}
		if r.IntN(2) == 0 {
			f.lag = func() time.Duration { return between(r, 0, 500*time.Millisecond) }
		}
		var at time.Duration
		for range r.IntN(3) {
			at += between(r, 0, 20*time.Second)
			name, lost := fmt.Sprintf("node-%d", 1+r.IntN(3)), r.IntN(2) == 0
			f.nodes = append(f.nodes, turnOfNode{at: at, node: name, lost: lost, drain: !lost})
			at += between(r, time.Second, time.Minute)
			f.nodes = append(f.nodes, turnOfNode{at: at, node: name})
		}
		f.saw = func(before, after *state.Snapshot) {
			for _, promise := range p.Forecast.Lowest {
				if d, ok := state.Find[*object.Deployment](before, promise.Workload); ok && promises(before, p.Stack) {
					if stopped, left := toll(before, after, d, f.dead); stopped > 0 && left < promise.Least(d.Spec.Replicas) {
						t.Errorf("seed %d, %s: %d ready pods of %s were stopped, %d are left, %d of %d were promised", seed, c.now.Sub(start), stopped, d.Name, left, promise.Ready, promise.Want)
					}
				}
			}
		}
		rev := c.carryOut(p, f)
		end := string(rev.Status.Phase)
		if rev.Status.Phase == object.RevisionPaused {
			end += " (" + rev.Status.Reason + ")"
		}
		ends[end]++
	}
	t.Log(ends)
	if ends["healthy"] < 250 {
		t.Errorf("few rollouts are complete in the end: %v", ends)
	}
	if ends["running"] > 0 {
		t.Errorf("some neither end nor say that they are paused: %v", ends)
	}
}

// promises reports whether the stack's newest revision is being carried out: one
// that is being put back promises nothing.
func promises(v *state.Snapshot, stack string) bool {
	s, ok := state.Find[*object.Stack](v, object.Ref{Kind: object.KindStack, Name: stack})
	if !ok {
		return false
	}
	rev, ok := state.Find[*object.Revision](v, object.Ref{Kind: object.KindRevision, Name: object.RevisionName(stack, s.Spec.Revision)})
	return ok && rev.Spec.Cause != "revert" && !rev.Status.Phase.Final() && rev.Status.Phase != object.RevisionReverting
}

// toll is how many ready pods of a deployment an entry stopped, and how many are
// ready after it.
func toll(before, after *state.Snapshot, d *object.Deployment, dead map[string]bool) (stopped, left int) {
	for set := range before.Owned(d.Ref()) {
		for pod := range before.PodsOf(set.Ref()) {
			if !pod.Status.Ready || pod.Spec.Stop || dead[pod.Spec.Node] {
				continue
			}
			now, ok := state.Find[*object.Pod](after, pod.Ref())
			if !ok || now.Spec.Stop {
				stopped++
			} else {
				left++
			}
		}
	}
	return stopped, left
}
