package planner

import (
	"math/rand/v2"
	"strings"
	"time"

	"github.com/berthdev/berth/cluster/controller"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/scheduler"
	"github.com/berthdev/berth/cluster/state"
)

// fate is what becomes of pods and nodes while a plan is carried out.
type fate struct {
	startup func() time.Duration
	crash   func() (after, down time.Duration)  // of a pod, from when it is ready; nil or 0: never
	lag     func() time.Duration                // what a controller takes to act, in which the world goes on; nil: nothing
	nodes   []turnOfNode                        // in order of time
	saw     func(before, after *state.Snapshot) // every entry that a controller writes
	limit   time.Duration                       // how long is watched; default an hour

	lives map[object.Ref]*podLife // the driver's own
	dead  map[string]bool
}

// turnOfNode is what happens to a node.
type turnOfNode struct {
	at          time.Duration // from the start of the rollout
	node        string
	lost, drain bool
}

type podLife struct {
	created               uint64
	ready, crash, recover time.Time
	ends                  time.Time
}

// carryOut commits a plan and runs the control plane, event by event, until the
// revision has ended, or is paused with nothing more to come.
func (c *cluster) carryOut(p object.Plan, f *fate) *object.Revision {
	c.t.Helper()
	f.lives, f.dead = map[object.Ref]*podLife{}, map[string]bool{}
	if f.limit == 0 {
		f.limit = time.Hour
	}
	began := c.now
	stack, _ := state.Find[*object.Stack](c.store.Snapshot(), object.Ref{Kind: object.KindStack, Name: p.Stack})
	number := 1
	if stack != nil {
		number = stack.Spec.Revision + 1
	}
	q, s := controller.NewQueue(controller.All()), scheduler.New(scheduler.SpreadPolicy())
	q.Seed(c.store.Snapshot())
	write := func(x object.Changeset) {
		if x.Empty() {
			return
		}
		x.Time = c.now
		before := c.store.Snapshot()
		events, err := c.store.Apply(before.Index()+1, x)
		if err != nil {
			return
		}
		q.Observe(c.store.Snapshot(), events)
		if f.saw != nil && strings.HasPrefix(x.Author, "controller/") {
			f.saw(before, c.store.Snapshot())
		}
	}
	committed, _ := object.Commit(&p, c.store.Snapshot().Get, "test", c.now)
	write(committed)
	ref := object.Ref{Kind: object.KindRevision, Name: object.RevisionName(p.Stack, number)}
	for range 200_000 {
		if f.lag != nil {
			c.now = c.now.Add(f.lag())
			report, _ := f.report(c.store.Snapshot(), c.now)
			write(report)
		}
		if ctl, key, ok := q.Next(c.now); ok {
			res, err := ctl.Reconcile(c.store.Snapshot(), key, c.now)
			if err != nil {
				c.t.Fatal(err)
			}
			if res.Changes.Author == "" {
				res.Changes.Author = "controller/" + ctl.Name()
			}
			write(res.Changes)
			if res.Done {
				if again, _ := ctl.Reconcile(c.store.Snapshot(), key, c.now); !again.Changes.Empty() {
					c.t.Fatalf("%s said that %s was done, and goes on with %v", ctl.Name(), key, again.Changes)
				}
			}
			q.WakeAt(ctl, key, res.Wake)
			continue
		}
		if res := s.Place(c.store.Snapshot(), c.now, 0); !res.Changes.Empty() {
			write(res.Changes)
			continue
		}
		for len(f.nodes) > 0 && !began.Add(f.nodes[0].at).After(c.now) {
			write(f.turn(c.store.Snapshot(), c.now))
		}
		report, next := f.report(c.store.Snapshot(), c.now)
		if !report.Empty() {
			write(report)
			continue
		}
		rev, _ := state.Find[*object.Revision](c.store.Snapshot(), ref)
		if rev.Status.Phase.Final() {
			return rev
		}
		if len(f.nodes) > 0 {
			next = earliest(next, began.Add(f.nodes[0].at))
		}
		if wake, ok := q.NextWake(); ok {
			next = earliest(next, wake)
		}
		if next.IsZero() || next.Sub(began) > f.limit {
			return rev
		}
		c.now = latest(next, c.now)
	}
	c.t.Fatal("the revision does not end")
	return nil
}

// turn carries out the next turn of a node, as the masters see it.
func (f *fate) turn(v *state.Snapshot, now time.Time) object.Changeset {
	t := f.nodes[0]
	f.nodes = f.nodes[1:]
	f.dead[t.node] = t.lost
	o, _ := state.Find[*object.Node](v, object.Ref{Kind: object.KindNode, Name: t.node})
	n := o.Clone().(*object.Node)
	x := object.Changeset{Author: "master"}
	if n.Spec.Drain != t.drain {
		n.Spec.Drain, n.Spec.Unschedulable = t.drain, t.drain
		x.Update(o, n)
		return x
	}
	if n.Status.Condition, n.Status.Since = object.NodeReady, now; t.lost {
		n.Status.Condition = object.NodeLost
	}
	x.UpdateStatus(o, n)
	return x
}

// report is what the nodes have to tell now, and when there will be more.
func (f *fate) report(v *state.Snapshot, now time.Time) (x object.Changeset, next time.Time) {
	x.Author = "node"
	for pod := range state.All[*object.Pod](v, object.KindPod) {
		if pod.Spec.Node == "" || f.dead[pod.Spec.Node] || pod.Status.Phase == object.PodStopped {
			continue
		}
		l := f.lives[pod.Ref()]
		if l == nil || l.created != pod.Created {
			l = &podLife{created: pod.Created, ready: now.Add(f.startup())}
			if pod.Status.Ready {
				l.ready = now
			}
			if f.crash != nil {
				if after, down := f.crash(); after > 0 {
					l.crash, l.recover = l.ready.Add(after), l.ready.Add(after+down)
				}
			}
			f.lives[pod.Ref()] = l
		}
		st, at := pod.Status, time.Time{}
		running := func(ready bool) {
			st.Phase, st.Address = object.PodRunning, "10.0.0.1"
			if ready && !st.Ready {
				st.ReadySince = now
			}
			if st.Ready = ready; st.Started.IsZero() {
				st.Started = now
			}
		}
		switch {
		case pod.Spec.Stop:
			if l.ends.IsZero() {
				l.ends = now.Add(time.Second)
			}
			if at = l.ends; !now.Before(at) {
				st.Phase, st.Ready, at = object.PodStopped, false, time.Time{}
			}
		case now.Before(l.ready):
			at = l.ready
		case l.crash.IsZero():
			running(true)
		case now.Before(l.crash):
			running(true)
			at = l.crash
		case now.Before(l.recover):
			running(false)
			at = l.recover
		default:
			running(true)
		}
		if !at.IsZero() {
			next = earliest(next, at)
		}
		if st.Phase != pod.Status.Phase || st.Ready != pod.Status.Ready {
			n := pod.Clone().(*object.Pod)
			n.Status = st
			x.UpdateStatus(pod, n)
		}
	}
	return x, next
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// between is a random duration, in steps of a tenth of a second.
func between(r *rand.Rand, low, high time.Duration) time.Duration {
	const step = 100 * time.Millisecond
	return low + time.Duration(r.Int64N(int64((high-low)/step)+1))*step
}
