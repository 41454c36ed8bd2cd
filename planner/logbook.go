package planner

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// logbook watches a rehearsal and writes the forecast. It looks at events only,
// so it counts what really happened on the fork and decides nothing.
type logbook struct {
	from      time.Time
	index     uint64
	stacks    []string           // whose pods are noted
	wave      map[object.Ref]int // of the plan's objects
	steps     []object.ForecastStep
	workloads map[object.Ref]*workload
	top       map[object.Ref]object.Ref // owner of pods -> workload, kept after the owner is gone
	unplaces  map[object.Ref]string
	placed    map[object.Ref]object.Placement
	running   map[object.Ref]bool // pods of the stack when it began, still unchanged
	nodes     map[string]*nodeLoad
	total     load // of the ready nodes
	capacity  load
	peak      load

	tenants *tenants

	whole     bool // an operation's: pods of all stacks are noted
	waiting   map[object.Ref]bool
	stays     []object.Placement
	use       []object.NodeUse     // of a rebalance
	explained []object.Explanation // ordered by pod
	last      time.Duration        // when a pod started, stopped, or became ready or not
}

type load struct {
	cpu    object.CPU
	memory object.Bytes
}

func (l *load) raise(x load) { l.cpu, l.memory = max(l.cpu, x.cpu), max(l.memory, x.memory) }

func percent[T ~int64](part, whole T) int {
	if whole <= 0 {
		return 0
	}
	return int((part*100 + whole - 1) / whole) // rounded up: 100 means full
}

type nodeLoad struct {
	now, peak, capacity load
	pods                int
	touched             bool
}

// workload is what a person thinks of as one thing: a deployment, or what
// stands alone.
type workload struct {
	ready, want int
	existed     bool // before the apply, with pods wanted
	gone        bool
	lowest      int
	lowestWant  int
	lowestAt    time.Duration
	watched     bool // something of it changes
}

func newLogbook(v *state.Snapshot, p *object.Plan, from time.Time) *logbook {
	b := &logbook{
		from: from, index: v.Index(), stacks: p.Stacks(), wave: map[object.Ref]int{}, workloads: map[object.Ref]*workload{}, top: map[object.Ref]object.Ref{},
		unplaces: map[object.Ref]string{}, placed: map[object.Ref]object.Placement{}, running: map[object.Ref]bool{}, nodes: map[string]*nodeLoad{}, tenants: newTenants(v),
	}
	var list []state.Where
	if p.Restore == nil {
		list = append(list, state.OfStack(p.Stack))
	}
	if p.Operation != nil || p.Cause == object.CauseWrite {
		b.whole, b.waiting, list = true, waitingPods(v), nil
		if p.Operation != nil && p.Operation.Name == object.OperationRebalance {
			b.use = useBefore(v)
		}
	}
	for i := range p.Changes {
		b.wave[p.Changes[i].Ref] = p.Changes[i].Wave
	}
	for n := range state.All[*object.Node](v, object.KindNode) {
		u := v.UsageOf(n.Name)
		x := &nodeLoad{now: load{u.CPU, u.Memory}, capacity: load{n.Status.CPU, n.Status.Memory}, pods: u.Pods}
		x.peak = x.now
		b.nodes[n.Name] = x
		if n.Status.Condition == object.NodeReady {
			b.capacity.cpu += x.capacity.cpu
			b.capacity.memory += x.capacity.memory
		}
		b.total.cpu += x.now.cpu
		b.total.memory += x.now.memory
	}
	b.peak = b.total
	for pod := range state.All[*object.Pod](v, object.KindPod, list...) {
		if pod.Spec.Stop || pod.Terminal() || !b.concerns(pod.Stack) {
			continue
		}
		if pod.Spec.Node != "" {
			b.running[pod.Ref()] = true
		}
		if w := b.workload(v, b.workloadOf(v, pod)); counts(pod) {
			w.ready++
		}
	}
	for _, w := range b.workloads {
		w.existed = w.want > 0
		w.lowest, w.lowestWant = w.ready, w.want
	}
	return b
}

// concerns reports whether pods of a stack are noted.
func (b *logbook) concerns(stack string) bool { return b.whole || slices.Contains(b.stacks, stack) }

// counts reports whether the pod is ready to serve.
func counts(p *object.Pod) bool {
	return p != nil && p.Status.Ready && !p.Spec.Stop && !p.Terminal() && !p.ForCheck()
}

func (b *logbook) workloadOf(v *state.Snapshot, p *object.Pod) object.Ref {
	if p.Owner.IsZero() {
		return p.Ref()
	}
	if top, ok := b.top[p.Owner]; ok {
		return top
	}
	top := p.Owner
	if o, ok := v.Get(top); ok && !o.Head().Owner.IsZero() {
		top = o.Head().Owner
	}
	b.top[p.Owner] = top
	return top
}

func (b *logbook) workload(v *state.Snapshot, r object.Ref) *workload {
	w := b.workloads[r]
	if w == nil {
		w = &workload{}
		b.workloads[r] = w
		if o, ok := v.Get(r); ok {
			w.want = wanted(o)
		}
	}
	return w
}

func wanted(o object.Object) int {
	switch x := o.(type) {
	case *object.Deployment:
		return x.Spec.Replicas
	case *object.ReplicaSet:
		return x.Spec.Replicas
	case *object.Pod:
		return 1
	}
	return 0
}

// record notes what one write did. All steps of one write show the readiness
// after it, for it happens at once.
func (b *logbook) record(v *state.Snapshot, events []state.Event, now time.Time) {
	at := now.Sub(b.from)
	first := len(b.steps)
	touched := map[object.Ref]bool{}
	b.tenants.record(v, events)
	for i := range events {
		e := &events[i]
		spec := e.Part != object.PartStatus && e.Ref.Kind != object.KindPod
		if spec && b.wave[e.Ref] > 0 {
			b.steps = append(b.steps, object.ForecastStep{At: object.Duration(at), Wave: b.wave[e.Ref], Op: object.StepChange, Ref: e.Ref, Note: string(e.Op)})
		}
		b.turn(e, at)
		b.renamed(v, e)
		if spec {
			if w := b.workloads[e.Ref]; w != nil {
				w.want, w.gone = 0, e.After == nil
				if e.After != nil {
					w.want = wanted(e.After)
				}
				touched[e.Ref] = true
			}
		}
		if e.Ref.Kind == object.KindPod {
			if w := b.pod(v, e, at); !w.IsZero() {
				touched[w] = true
			}
		}
	}
	for r := range touched {
		w := b.workloads[r]
		if w.ready < w.lowest && !w.gone {
			w.lowest, w.lowestWant, w.lowestAt = w.ready, w.want, at
		}
	}
	for i := first; i < len(b.steps); i++ {
		if w := b.workloads[b.steps[i].Workload]; w != nil {
			b.steps[i].Ready, b.steps[i].Want = w.ready, w.want
		}
	}
}

// renamed lets a workload go on under another name: what it owned has another owner now.
func (b *logbook) renamed(v *state.Snapshot, e *state.Event) {
	if e.Before == nil || e.After == nil {
		return
	}
	was, now := e.Before.Head().Owner, e.After.Head().Owner
	if was == now || was.IsZero() || now.IsZero() {
		return
	}
	w := b.workloads[was]
	if w == nil || b.workloads[now] == w {
		return
	}
	for set, top := range b.top {
		if top == was {
			b.top[set] = now
		}
	}
	delete(b.workloads, was)
	delete(b.top, was)
	b.workloads[now] = w
	if o, ok := v.Get(now); ok {
		w.want = wanted(o)
	}
}

// turn notes that it is the turn of another zone.
func (b *logbook) turn(e *state.Event, at time.Duration) {
	d, ok := e.After.(*object.Deployment)
	if !ok || d.Status.Canary == nil || d.Status.Canary.Zone == "" || !b.concerns(d.Stack) {
		return
	}
	c := d.Status.Canary
	if was, ok := e.Before.(*object.Deployment); ok && was.Status.Canary != nil && was.Status.Canary.Zone == c.Zone && was.Status.Canary.Step == c.Step {
		return
	}
	b.steps = append(b.steps, object.ForecastStep{
		At: object.Duration(at), Wave: b.waveOf(d.Ref()), Op: object.StepZone, Ref: d.Ref(), Workload: d.Ref(),
		Note: fmt.Sprintf("%s %s, %d of %d", d.Spec.Update.By, c.Zone, c.Step+1, c.Zones),
	})
}

// pause notes that a canary waits for a person; the forecast goes on as if that
// person had answered at once.
func (b *logbook) pause(d *object.Deployment, now time.Time) {
	w := b.workload(nil, d.Ref())
	b.steps = append(b.steps, object.ForecastStep{
		At: object.Duration(now.Sub(b.from)), Wave: b.waveOf(d.Ref()), Op: object.StepPause, Ref: d.Ref(), Workload: d.Ref(), Ready: w.ready, Want: w.want,
		Note: "waits for you: berth rollout promote " + d.Named() + " (the forecast assumes: at once)",
	})
}

// pod notes one pod's event and returns its workload if that is the stack's.
func (b *logbook) pod(v *state.Snapshot, e *state.Event, at time.Duration) object.Ref {
	before, _ := e.Before.(*object.Pod)
	after, _ := e.After.(*object.Pod)
	p := after
	if p == nil {
		p = before
	}
	if p.Spec.Node != "" {
		b.load(v, p.Spec.Node)
	}
	if !b.concerns(p.Stack) {
		return object.Ref{}
	}
	top := b.workloadOf(v, p)
	w := b.workload(v, top)
	if counts(before) {
		w.ready--
	}
	if counts(after) {
		w.ready++
	}
	if b.whole && counts(before) != counts(after) {
		b.last = at
		w.watched = w.watched || counts(before) // a pod that is lost takes no step
	}
	step := object.ForecastStep{At: object.Duration(at), Wave: b.waveOf(top), Ref: e.Ref, Node: p.Spec.Node, Workload: top}
	if after != nil && after.Spec.Node != "" && (before == nil || before.Spec.Node == "") {
		w.watched = true
		step.Op, b.last = object.StepStart, at
		b.steps = append(b.steps, step)
		if !after.ForCheck() { // it is gone before anybody compares
			b.placed[e.Ref] = object.Placement{Pod: e.Ref, Node: after.Spec.Node, Workload: top}
		}
		delete(b.unplaces, e.Ref)
	}
	stops := after != nil && after.Spec.Stop && (before == nil || !before.Spec.Stop)
	vanishes := after == nil && !before.Spec.Stop && !before.Terminal()
	if stops || vanishes {
		w.watched = true
		delete(b.running, e.Ref)
		delete(b.unplaces, e.Ref)
		if step.Node != "" {
			step.Op, step.Note, b.last = object.StepStop, p.Spec.StopWhy, at
			b.steps = append(b.steps, step)
		}
	}
	return top
}

func (b *logbook) waveOf(workload object.Ref) int { return b.wave[workload] }

// load brings a node's figures up to date.
func (b *logbook) load(v *state.Snapshot, node string) {
	n := b.nodes[node]
	if n == nil {
		return
	}
	u := v.UsageOf(node)
	b.total.cpu += u.CPU - n.now.cpu
	b.total.memory += u.Memory - n.now.memory
	n.now, n.touched = load{u.CPU, u.Memory}, true
	n.peak.raise(n.now)
	n.pods = max(n.pods, u.Pods)
	b.peak.raise(b.total)
}

// unplaced replaces what is known of the stack's pods that fit nowhere.
func (b *logbook) unplaced(v *state.Snapshot, list []object.Unplaced) {
	for _, u := range list {
		if p, ok := state.Find[*object.Pod](v, u.Pod); ok && b.concerns(p.Stack) && !b.waiting[u.Pod] {
			b.unplaces[u.Pod] = u.Reason
		}
	}
}

func (b *logbook) forecast(outcome, reason string, now time.Time) object.Forecast {
	f := object.Forecast{
		Index: b.index, Outcome: outcome, Reason: reason, Duration: object.Duration(now.Sub(b.from)), Steps: b.steps, Stays: b.stays, Explained: b.explained, Use: b.use, Namespaces: b.tenants.peaks(),
		Unchanged: len(b.running), PeakCPU: percent(b.peak.cpu, b.capacity.cpu), PeakMemory: percent(b.peak.memory, b.capacity.memory),
	}
	for _, s := range b.steps {
		switch s.Op {
		case object.StepStart:
			f.Start++
		case object.StepStop:
			f.Stop++
		}
	}
	for _, p := range b.placed {
		f.Placements = append(f.Placements, p)
	}
	slices.SortFunc(f.Placements, func(x, y object.Placement) int { return x.Pod.Compare(y.Pod) })
	for r, why := range b.unplaces {
		f.Unplaced = append(f.Unplaced, object.Unplaced{Pod: r, Reason: why})
	}
	f.Unplaced = append(f.Unplaced, b.tenants.kept(b.concerns)...)
	slices.SortFunc(f.Unplaced, func(x, y object.Unplaced) int { return x.Pod.Compare(y.Pod) })
	for r, w := range b.workloads {
		if w.existed && w.watched && !w.gone && w.lowestWant > 0 {
			f.Lowest = append(f.Lowest, object.Availability{Workload: r, Ready: w.lowest, Want: w.lowestWant, At: object.Duration(w.lowestAt)})
		}
	}
	slices.SortFunc(f.Lowest, func(x, y object.Availability) int { return x.Workload.Compare(y.Workload) })
	b.markLowest()
	for name, n := range b.nodes {
		if n.touched {
			f.Nodes = append(f.Nodes, object.NodePeak{Node: name, CPU: percent(n.peak.cpu, n.capacity.cpu), Memory: percent(n.peak.memory, n.capacity.memory), Pods: n.pods})
		}
	}
	slices.SortFunc(f.Nodes, func(x, y object.NodePeak) int { return strings.Compare(x.Node, y.Node) })
	return f
}

// markLowest marks, for each workload, the first stop at which its readiness is
// at its lowest.
func (b *logbook) markLowest() {
	done := map[object.Ref]bool{}
	for i := range b.steps {
		s := &b.steps[i]
		w := b.workloads[s.Workload]
		if s.Op == object.StepStop && w != nil && w.existed && !w.gone && s.Ready <= w.lowest && !done[s.Workload] {
			s.Lowest, done[s.Workload] = true, true
		}
	}
}
