package controller

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// world is a cluster in virtual time: the controllers, a binder that takes the
// emptiest node, and nodes whose pods do what the name of their image says.
type world struct {
	t       fataler
	store   *state.Store
	queue   *Queue
	now     time.Time
	runs    map[object.Ref]*run
	dead    map[string]bool // nodes that are silent
	full    bool            // nothing can be placed
	room    map[string]int  // the most pods of a node, if it has a limit
	mended  time.Time       // pods that begin later do well whatever their image is
	watch   func(v *state.Snapshot)
	changes int // changesets applied
}

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

type run struct {
	created uint64
	bound   time.Time
	stop    time.Time
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newWorld(t fataler, nodes int) *world {
	w := &world{t: t, store: state.New(), queue: NewQueue(All()), now: epoch, runs: map[object.Ref]*run{}, dead: map[string]bool{}}
	for i := range nodes {
		w.put(&object.Node{Meta: object.Meta{Kind: object.KindNode, Name: fmt.Sprintf("n%d", i+1)}, Status: object.NodeStatus{Condition: object.NodeReady}})
	}
	return w
}

func (w *world) view() *state.Snapshot { return w.store.Snapshot() }

func (w *world) try(c object.Changeset) error {
	if c.Empty() {
		return nil
	}
	if c.Time.IsZero() {
		c.Time = w.now
	}
	events, err := w.store.Apply(w.view().Index()+1, c)
	if err != nil {
		return err
	}
	w.changes++
	w.queue.Observe(w.view(), events)
	if w.watch != nil {
		w.watch(w.view())
	}
	return nil
}

func (w *world) apply(c object.Changeset) {
	w.t.Helper()
	if err := w.try(c); err != nil {
		w.t.Fatalf("%s: %v", c.Author, err)
	}
}

func (w *world) put(o object.Object) {
	w.t.Helper()
	c := object.Changeset{Author: "test"}
	if old, ok := w.view().Get(o.Ref()); ok {
		c.Update(old, o)
	} else {
		c.Create(o)
	}
	w.apply(c)
}

func edit[T object.Object](w *world, r object.Ref, change func(T)) {
	w.t.Helper()
	o, ok := state.Find[T](w.view(), r)
	if !ok {
		w.t.Fatalf("%s is not there", r)
	}
	n := o.Clone().(T)
	change(n)
	w.put(n)
}

func (w *world) setNode(name string, cond object.NodeCondition) {
	o, _ := state.Find[*object.Node](w.view(), object.Ref{Kind: object.KindNode, Name: name})
	n := o.Clone().(*object.Node)
	n.Status.Condition, n.Status.Since = cond, w.now
	var c object.Changeset
	c.UpdateStatus(o, n)
	w.apply(c)
}

// reconcile serves the queue until nobody has anything to say.
func (w *world) reconcile() {
	for i := 0; ; i++ {
		if i > 200_000 {
			w.t.Fatalf("the controllers do not come to rest")
		}
		c, key, ok := w.queue.Next(w.now)
		if !ok {
			return
		}
		r, err := c.Reconcile(w.view(), key, w.now)
		if err != nil {
			w.t.Fatalf("%s %s: %v", c.Name(), key, err)
		}
		for _, x := range r.Changes.Changes {
			if !slices.Contains(c.Outputs(), x.Ref.Kind) {
				w.t.Fatalf("%s writes %s, which is not among its outputs", c.Name(), x.Ref)
			}
		}
		w.apply(r.Changes)
		if r.Done {
			if again, _ := c.Reconcile(w.view(), key, w.now); !again.Changes.Empty() {
				w.t.Fatalf("%s said that %s was done, and goes on with %v", c.Name(), key, again.Changes)
			}
		}
		if !r.Wake.IsZero() {
			if !r.Wake.After(w.now) {
				w.t.Fatalf("%s %s wants to be woken at once: it would never rest", c.Name(), key)
			}
			w.queue.WakeAt(c, key, r.Wake)
		}
	}
}

func (w *world) bind() {
	v := w.view()
	var c object.Changeset
	extra := map[string]int{}
	for p := range v.Pending() {
		best, least := "", 0
		for n := range state.All[*object.Node](v, object.KindNode) {
			if n.Status.Condition != object.NodeReady || n.Spec.Drain || n.Spec.Unschedulable || len(n.Spec.Taints) > 0 || w.full || p.Spec.Within != nil && !p.Spec.Within.Admits(n) {
				continue
			}
			load := v.UsageOf(n.Name).Pods + extra[n.Name]
			if most, ok := w.room[n.Name]; ok && load >= most {
				continue
			}
			if best == "" || load < least {
				best, least = n.Name, load
			}
		}
		q := p.Clone().(*object.Pod)
		if best == "" {
			if p.Status.Reason != object.ReasonUnplaceable {
				q.Status.Reason, q.Status.Message, q.Status.Since = object.ReasonUnplaceable, "0 nodes fit", w.now
				if p.Spec.Within != nil {
					q.Status.Message += ": not in " + p.Spec.Within.String()
				}
				c.UpdateStatus(p, q)
			}
			continue
		}
		extra[best]++
		q.Spec.Node = best
		c.Update(p, q)
		if p.Status.Reason != "" {
			q.Status.Reason, q.Status.Message, q.Status.Since = "", "", w.now
			c.UpdateStatus(p, q)
		}
	}
	c.Author = "scheduler"
	w.apply(c)
}

// report lets the nodes tell what became of their pods and answers when
// something next happens on one.
func (w *world) report() (next time.Time) {
	v := w.view()
	c := object.Changeset{Author: "nodes"}
	seen := map[object.Ref]bool{}
	for p := range state.All[*object.Pod](v, object.KindPod) {
		if _, there := v.Get(object.Ref{Kind: object.KindNode, Name: p.Spec.Node}); !there || w.dead[p.Spec.Node] {
			continue
		}
		seen[p.Ref()] = true
		r := w.runs[p.Ref()]
		if r == nil || r.created != p.Created {
			r = &run{created: p.Created, bound: w.now}
			w.runs[p.Ref()] = r
		}
		if p.Spec.Stop && r.stop.IsZero() {
			r.stop = w.now
		}
		st, at := w.behave(v, p, r)
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
		if p.Status.Phase == st.Phase && p.Status.Ready == st.Ready && p.Status.Reason == st.Reason && restarts(p) == restarts(&object.Pod{Status: st}) {
			continue
		}
		q := p.Clone().(*object.Pod)
		q.Status = st
		c.UpdateStatus(p, q)
	}
	w.apply(c)
	return next
}

// behave is a pod's status now and when it next changes. Images are named for
// what they do: ok, missing, crash, once (crashes once), breaks (is ready, and after 15 s crashes), never (is never ready), done and exit (end with 0 and with 3).
func (w *world) behave(v *state.Snapshot, p *object.Pod, r *run) (object.PodStatus, time.Time) {
	st := object.PodStatus{Phase: object.PodStarting, Since: r.bound, Started: r.bound, Address: "10.0.0." + p.Name}
	if !r.stop.IsZero() {
		end := r.stop.Add(2 * time.Second)
		st.Phase, st.Since = object.PodStopping, r.stop
		if w.now.Before(end) {
			return st, end
		}
		st.Phase, st.Since = object.PodStopped, end
		return st, time.Time{}
	}
	if t := v.Template(p); t == nil || len(t.Containers) == 0 {
		st.Reason = object.ReasonConfig
		return st, time.Time{}
	}
	image := v.Template(p).Containers[0].Image
	if !w.mended.IsZero() && !r.bound.Before(w.mended) {
		image = "ok:"
	}
	if digest := v.Template(p).Reads["config_map/conf"]; digest != "" {
		r := ref(object.KindContent, object.ContentName(ref(object.KindConfigMap, "conf"), digest))
		if c, ok := state.Find[*object.Content](v, r); !ok {
			w.t.Fatalf("%s reads %s, which is not there", p.Name, r)
		} else if c.Spec.Data["app.toml"] == "crash" {
			image = "crash:"
		}
	}
	at := func(d time.Duration) time.Time { return r.bound.Add(d) }
	c := object.ContainerStatus{Name: "main", State: "running", Image: image}
	switch kind, _, _ := strings.Cut(image, ":"); {
	case w.now.Before(at(time.Second)):
		return st, at(time.Second)
	case kind == "done", kind == "exit":
		st.Phase, c.State = object.PodSucceeded, "exited"
		if kind == "exit" {
			st.Phase, c.ExitCode = object.PodFailed, 3
		}
		st.Containers = []object.ContainerStatus{c}
	case kind == "missing":
		st.Reason, st.Message = object.ReasonImageNotFound, "no such image: "+image
	case kind == "crash", kind == "breaks" && !w.now.Before(at(15*time.Second)), kind == "once" && w.now.Before(at(3*time.Second)):
		n := int(w.now.Sub(at(time.Second))/time.Second) + 1
		if kind == "once" {
			n = 1
		}
		n = min(n, 4)
		st.Phase, st.Reason = object.PodRunning, object.ReasonCrashLoop
		c.State, c.ExitCode, c.Restarts, c.LastLog = "exited", 1, n, []string{"panic: no database"}
		st.Containers = []object.ContainerStatus{c}
		if n < 4 {
			return st, w.now.Add(time.Second)
		}
	case kind == "never", w.now.Before(at(3 * time.Second)):
		st.Phase = object.PodRunning
		st.Containers = []object.ContainerStatus{c}
		if kind != "never" {
			return st, at(3 * time.Second)
		}
	default:
		st.Phase, st.Ready, st.ReadySince = object.PodRunning, true, at(3*time.Second)
		c.Ready = true
		st.Containers = []object.ContainerStatus{c}
		if kind == "breaks" {
			return st, at(15 * time.Second)
		}
	}
	return st, time.Time{}
}

// settle lets everything happen that can happen now and answers when something
// happens next, zero if never.
func (w *world) settle() (next time.Time) {
	w.t.Helper()
	for {
		before := w.changes
		w.reconcile()
		w.bind()
		next = w.report()
		if w.changes == before {
			break
		}
	}
	if wake, ok := w.queue.NextWake(); ok && (next.IsZero() || wake.Before(next)) {
		next = wake
	}
	return next
}

// until lets time pass until cond holds, for ten minutes at most.
func (w *world) until(what string, cond func(v *state.Snapshot) bool) {
	w.t.Helper()
	end := w.now.Add(10 * time.Minute)
	for {
		next := w.settle()
		if cond(w.view()) {
			return
		}
		if next.IsZero() || next.After(end) {
			w.t.Fatalf("%s did not come to pass by %s:\n%s", what, w.now.Sub(epoch), w.dump())
		}
		w.now = next
	}
}

// rest lets d pass.
func (w *world) rest(d time.Duration) {
	w.t.Helper()
	end := w.now.Add(d)
	for {
		next := w.settle()
		if next.IsZero() || next.After(end) {
			w.now = end
			return
		}
		w.now = next
	}
}

func (w *world) dump() string {
	var b strings.Builder
	for _, k := range []object.Kind{object.KindRevision, object.KindDeployment, object.KindReplicaSet, object.KindPod} {
		for o := range w.view().List(k) {
			switch x := o.(type) {
			case *object.Revision:
				fmt.Fprintf(&b, "%s %s %+v\n", x.Name, x.Spec.Cause, x.Status)
			case *object.Deployment:
				fmt.Fprintf(&b, "%s v%d %+v %+v\n", x.Name, x.Version, x.Status, x.Status.Canary)
			case *object.ReplicaSet:
				fmt.Fprintf(&b, "%s size %d %+v\n", x.Name, x.Spec.Replicas, x.Status)
			case *object.Pod:
				fmt.Fprintf(&b, "%s on %q stop %v %s ready %v %s %s\n", x.Name, x.Spec.Node, x.Spec.Stop, x.Status.Phase, x.Status.Ready, x.Status.Reason, x.Status.Message)
			}
		}
	}
	return b.String()
}

// The objects of the tests live in namespace default and stack shop.

func ref(k object.Kind, name string) object.Ref {
	if info, _ := object.Info(k); !info.Namespaced {
		return object.Ref{Kind: k, Name: name}
	}
	return object.Ref{Kind: k, Namespace: "default", Name: name}
}

func template(image string) object.PodTemplate {
	return object.PodTemplate{Labels: map[string]string{"app": "web"}, Grace: object.Duration(30 * time.Second), Restart: "always", Containers: []object.Container{{Name: "main", Image: image, Ports: []object.ContainerPort{{Name: "http", Port: 8080}}}}}
}

func web(image string, replicas int, change ...func(*object.Deployment)) *object.Deployment {
	d := &object.Deployment{Meta: object.Meta{Kind: object.KindDeployment, Namespace: "default", Name: "web", Stack: "shop"}}
	object.SetDefaults(&d.Spec)
	d.Spec.Replicas, d.Spec.Pod = replicas, template(image)
	for _, f := range change {
		f(d)
	}
	return d
}

func named(name string) func(*object.Deployment) {
	return func(d *object.Deployment) { d.Name = name; d.Spec.Pod.Labels = map[string]string{"app": name} }
}

func configMap(name, content string) *object.ConfigMap {
	return &object.ConfigMap{Meta: object.Meta{Kind: object.KindConfigMap, Namespace: "default", Name: name, Stack: "shop"}, Spec: object.ConfigMapSpec{Data: map[string]string{"app.toml": content}, Reload: "restart"}}
}

func reading(name string) func(*object.Deployment) {
	return func(d *object.Deployment) { d.Spec.Pod.Volumes = []object.Volume{{Name: "c", ConfigMap: name}} }
}

// commit applies objects as one revision of the stack, each group a wave; objects
// of the stack that are not named are deleted, in waves of their own.
func (w *world) commit(waves ...[]object.Object) int {
	w.t.Helper()
	v := w.view()
	p := object.Plan{Stack: "shop", Cause: "apply"}
	wanted := map[object.Ref]bool{}
	for i, group := range waves {
		for _, o := range group {
			wanted[o.Ref()] = true
			c := object.PlannedChange{Ref: o.Ref(), Wave: i + 1, After: object.Any{Object: o}}
			if old, ok := v.Get(o.Ref()); ok {
				if p, ok := old.(*object.Pod); ok {
					old = v.Expand(p)
				}
				changed := func(r object.Ref) bool {
					return slices.ContainsFunc(p.Changes, func(c object.PlannedChange) bool { return c.Ref == r })
				}
				if t := object.TemplateOf(o); object.Equal(old, o) && object.SamePins(old, o) && (t == nil || !slices.ContainsFunc(t.ReadRefs("default"), changed)) {
					continue // as a plan has it: readers of what changes are changes, too
				}
				c.Before = object.Any{Object: old}
			}
			p.Changes = append(p.Changes, c)
		}
	}
	n := len(waves)
	for _, k := range []object.Kind{object.KindService, object.KindPod, object.KindDeployment, object.KindReplicaSet, object.KindConfigMap} {
		had := false
		for o := range v.List(k, state.OfStack("shop")) {
			if o.Head().Owner.IsZero() && !wanted[o.Ref()] {
				if !had {
					n, had = n+1, true
				}
				if p, ok := o.(*object.Pod); ok {
					o = v.Expand(p)
				}
				p.Changes = append(p.Changes, object.PlannedChange{Ref: o.Ref(), Wave: n, Before: object.Any{Object: o}})
			}
		}
	}
	p.Waves = n
	stack, _ := state.Find[*object.Stack](v, ref(object.KindStack, "shop"))
	number := 1
	if stack != nil {
		number = stack.Spec.Revision + 1
	}
	w.apply(object.CommitPlan(&p, stack, number, "admin", w.now))
	return number
}

func one(objects ...object.Object) []object.Object { return objects }

func (w *world) revision(n int) *object.Revision {
	r, _ := state.Find[*object.Revision](w.view(), revisionRef("shop", n))
	return r
}

func (w *world) deployment(name string) *object.Deployment {
	d, _ := state.Find[*object.Deployment](w.view(), ref(object.KindDeployment, name))
	return d
}

// awaits waits for a revision to reach a phase.
func (w *world) awaits(n int, phase object.RevisionPhase) {
	w.t.Helper()
	w.until(fmt.Sprintf("revision %d %s", n, phase), func(*state.Snapshot) bool { return w.revision(n).Status.Phase == phase })
}

// livePods are the names of a deployment's pods by image.
func (w *world) livePods(deployment string) map[string][]string {
	out := map[string][]string{}
	for o := range w.view().Owned(ref(object.KindDeployment, deployment)) {
		for p := range w.view().PodsOf(o.Ref()) {
			if live(p) {
				image := w.view().Template(p).Containers[0].Image
				out[image] = append(out[image], p.Name)
			}
		}
	}
	return out
}

// settled lets all timers run out that matter, then holds every controller
// against the promise that nothing is left to do.
func (w *world) settled() {
	w.t.Helper()
	w.rest(3 * time.Minute)
	q := NewQueue(All())
	q.Seed(w.view())
	for {
		c, key, ok := q.Next(w.now)
		if !ok {
			return
		}
		r, err := c.Reconcile(w.view(), key, w.now)
		if err != nil || !r.Changes.Empty() {
			w.t.Fatalf("%s %s is not at rest: %v %+v\n%s", c.Name(), key, err, r.Changes, w.dump())
		}
	}
}

var _ fataler = (*testing.T)(nil)
