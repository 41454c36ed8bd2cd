package planner

import (
	"container/heap"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// NodeModel says how long things take on a modelled node. A zero field stands
// for that of DefaultNodes.
type NodeModel struct {
	Pull     time.Duration // to fetch an image that no pod of the node has yet
	Start    time.Duration // from the bind until the first container runs
	Each     time.Duration // a node's own time for one pod; pods that come together queue for it
	Init     time.Duration // one init container
	Warmup   time.Duration // from running until a probe can succeed
	Check    time.Duration // a check's run, from running to its end
	Stop     time.Duration // from the stop signal to the end; at most the pod's grace
	Deadline time.Duration // longest virtual time to look ahead
}

// DefaultNodes are figures measured on real nodes, rounded up.
var DefaultNodes = NodeModel{
	Pull: 2 * time.Second, Start: 250 * time.Millisecond, Each: 50 * time.Millisecond, Init: time.Second,
	Warmup: 500 * time.Millisecond, Check: 2 * time.Second, Stop: 500 * time.Millisecond, Deadline: time.Hour,
}

func (m NodeModel) withDefaults() NodeModel {
	def := DefaultNodes
	for _, f := range []struct{ have, def *time.Duration }{
		{&m.Pull, &def.Pull}, {&m.Start, &def.Start}, {&m.Each, &def.Each}, {&m.Init, &def.Init},
		{&m.Warmup, &def.Warmup}, {&m.Check, &def.Check}, {&m.Stop, &def.Stop}, {&m.Deadline, &def.Deadline},
	} {
		if *f.have <= 0 {
			*f.have = *f.def
		}
	}
	return m
}

// tick is the grain of modelled times: what happens on many nodes within it is
// reported together, as real nodes' reports are batched.
const tick = 250 * time.Millisecond

// fleet is the modelled nodes: bound pods start and become ready, stopped pods
// end, each after its time.
type fleet struct {
	model NodeModel
	from  time.Time
	due   dueHeap
	seq   uint64
	busy  map[string]time.Time            // until when a node is busy with earlier pods
	image map[string]map[string]time.Time // node -> image -> since when, or from when on, it has it
	store map[string]bool                 // images that every node has
	past  history
}

func newFleet(m NodeModel, from time.Time, pinned []object.PinnedImage) *fleet {
	f := &fleet{model: m, from: from, busy: map[string]time.Time{}, image: map[string]map[string]time.Time{}, store: map[string]bool{}}
	for i := range pinned {
		f.store[pinned[i].Image] = pinned[i].Everywhere
	}
	return f
}

// adopt takes over what is under way when the rehearsal begins.
func (f *fleet) adopt(v *state.Snapshot) {
	f.past = newHistory(v)
	for n := range state.All[*object.Node](v, object.KindNode) {
		if n.Status.Condition != object.NodeReady {
			continue // it will not report; that is for the node-life controller
		}
		for p := range v.PodsOn(n.Name) {
			_, failing := p.Failing()
			switch {
			case p.Terminal() || failing:
			case p.Spec.Stop:
				f.stop(v, p, f.from)
			case p.Status.Phase == object.PodRunning && p.ForCheck():
				f.at(f.from.Add(f.model.Check), p, succeed)
			case p.Status.Phase == object.PodRunning && !p.Status.Ready:
				f.at(f.readyAt(v.Template(p), f.from), p, becomeReady)
			case p.Status.Phase != object.PodRunning:
				f.start(v, p, f.from)
			}
		}
	}
}

// start schedules the start of a pod that has just been bound.
func (f *fleet) start(v *state.Snapshot, p *object.Pod, now time.Time) {
	node := p.Spec.Node
	f.learn(v, node, p)
	at := now
	if b := f.busy[node]; b.After(at) {
		at = b
	}
	at = at.Add(f.model.Each)
	f.busy[node] = at
	at = at.Add(f.model.Start)
	if t := v.Template(p); t != nil {
		for _, list := range [][]object.Container{t.Init, t.Containers} {
			for i := range list {
				image := t.Pinned(list[i].Image)
				have, ok := f.image[node][image]
				if !ok && !f.inStore(&list[i]) {
					have = now.Add(f.model.Pull)
					f.image[node][image] = have
				}
				if have.After(at) {
					at = have
				}
			}
		}
		for i := range t.Init {
			took, ok := f.past.ofInit(&t.Init[i])
			if !ok {
				took = f.model.Init
			}
			at = at.Add(took)
		}
	}
	f.at(at, p, run)
}

// inStore reports whether a container's image needs no pulling on any node. One that
// may not be pulled is there, or its pod never starts.
func (f *fleet) inStore(c *object.Container) bool {
	return c.Pull == "never" || c.Pull != "always" && f.store[c.Image]
}

// learn notes which images the node has because other pods of it run them.
func (f *fleet) learn(v *state.Snapshot, node string, but *object.Pod) {
	if f.image[node] != nil {
		return
	}
	images := map[string]time.Time{}
	f.image[node] = images
	type key struct{ namespace, template string }
	known := map[key]bool{}
	for p := range v.PodsOn(node) {
		k := key{p.Namespace, p.Spec.Template}
		if p.Name == but.Name && p.Namespace == but.Namespace || p.Status.Started.IsZero() || known[k] {
			continue
		}
		known[k] = true
		if t := v.Template(p); t != nil {
			for _, list := range [][]object.Container{t.Init, t.Containers} {
				for i := range list {
					images[t.Pinned(list[i].Image)] = f.from
				}
			}
		}
	}
}

// stop schedules the end of a pod that has been asked to.
func (f *fleet) stop(v *state.Snapshot, p *object.Pod, now time.Time) {
	d := f.model.Stop
	if t := v.Template(p); t != nil && t.Grace.D() < d {
		d = t.Grace.D()
	}
	f.at(now.Add(d), p, end)
}

// readyAt is when a pod whose containers run from `running` on is ready.
func (f *fleet) readyAt(t *object.PodTemplate, running time.Time) time.Time {
	ready := running
	if t == nil {
		return ready
	}
	for i := range t.Containers {
		at := running
		if probed := t.Containers[i].Startup != nil || t.Containers[i].Readiness != nil; probed {
			if took, ok := f.past.of(t.Containers[i].Image); ok {
				if at = running.Add(took); at.After(ready) {
					ready = at
				}
				continue
			}
		}
		for _, p := range []*object.Probe{t.Containers[i].Startup, t.Containers[i].Readiness} {
			if p == nil {
				continue
			}
			period := max(p.Period.D(), tick)
			first := at.Add(p.Delay.D())
			for first.Before(running.Add(f.model.Warmup)) {
				first = first.Add(period)
			}
			at = first.Add(time.Duration(max(p.Success-1, 0)) * period)
		}
		if at.After(ready) {
			ready = at
		}
	}
	return ready
}

// next is when something happens on a node.
func (f *fleet) next() (time.Time, bool) {
	if len(f.due) == 0 {
		return time.Time{}, false
	}
	return f.due[0].at, true
}

// report is what the nodes report at this moment, one changeset for each pod.
func (f *fleet) report(v *state.Snapshot, now time.Time) []object.Changeset {
	var out []object.Changeset
	for len(f.due) > 0 && !f.due[0].at.After(now) {
		x := heap.Pop(&f.due).(dueEntry)
		p, ok := state.Find[*object.Pod](v, x.pod)
		if !ok || p.Created != x.created || p.Terminal() || (p.Spec.Stop && x.what != end) {
			continue
		}
		st := p.Status
		st.Reason, st.Message, st.Since = "", "", now
		t := v.Template(p)
		switch x.what {
		case run:
			st.Phase, st.Started, st.Address = object.PodRunning, now, "0.0.0.0"
			if p.ForCheck() {
				f.at(now.Add(f.model.Check), p, succeed)
			} else if at := f.readyAt(t, now); at.After(now) {
				f.at(at, p, becomeReady)
			} else {
				st.Ready, st.ReadySince = true, now
			}
		case becomeReady:
			st.Ready, st.ReadySince = true, now
		case succeed:
			st.Phase = object.PodSucceeded
		case end:
			st.Phase, st.Ready = object.PodStopped, false
		}
		st.Containers = containers(t, &st, now)
		c := object.Changeset{Author: "node/" + p.Spec.Node, Time: now}
		c.SetStatus(p, &st)
		out = append(out, c)
	}
	return out
}

func containers(t *object.PodTemplate, st *object.PodStatus, now time.Time) []object.ContainerStatus {
	if t == nil {
		return nil
	}
	out := make([]object.ContainerStatus, len(t.Containers))
	for i := range t.Containers {
		out[i] = object.ContainerStatus{Name: t.Containers[i].Name, State: "running", Image: t.Containers[i].Image, Ready: st.Ready, Started: st.Started}
		if st.Phase == object.PodStopped || st.Phase == object.PodSucceeded {
			out[i].State, out[i].Finished = "exited", now
		}
	}
	return out
}

// at schedules something, rounded up to the next tick.
func (f *fleet) at(t time.Time, p *object.Pod, what happening) {
	since := t.Sub(f.from)
	if rest := since % tick; rest > 0 {
		since += tick - rest
	}
	f.seq++
	heap.Push(&f.due, dueEntry{at: f.from.Add(since), seq: f.seq, pod: p.Ref(), created: p.Created, what: what})
}

type happening int

const (
	run happening = iota
	becomeReady
	succeed // of a check's run
	end
)

type dueEntry struct {
	at      time.Time
	seq     uint64
	pod     object.Ref
	created uint64
	what    happening
}

type dueHeap []dueEntry

func (h dueHeap) Len() int { return len(h) }
func (h dueHeap) Less(i, j int) bool {
	if !h[i].at.Equal(h[j].at) {
		return h[i].at.Before(h[j].at)
	}
	return h[i].seq < h[j].seq
}
func (h dueHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)   { *h = append(*h, x.(dueEntry)) }
func (h *dueHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}
