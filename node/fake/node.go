package fake

import (
	"cmp"
	"context"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// Masters is what a node needs of the control plane: the same as agent.Masters,
// whose comments are the contract.
type Masters interface {
	WatchPods(ctx context.Context, node string, since uint64, each func(object.WatchEvent) error) error
	Report(ctx context.Context, r object.Report) (object.ReportAnswer, error)
	Content(ctx context.Context, namespace, name string) (map[string]string, error)
}

// Config describes a fake node. The zero value of everything but Name and
// Masters is useful: 4 cores, 8 GiB, 110 pods, every image starts at once.
type Config struct {
	Name    string
	Masters Masters
	Labels  map[string]string
	Status  object.NodeStatus // what the node says of itself; gaps are filled in
	Script  Script
	// Reveal makes the node fetch the contents that a pod reads before it starts
	// it, as a real one does.
	Reveal bool
}

// Script says how containers behave, by image reference as the pod template
// spells it; "" is for images that have no entry.
type Script map[string]Behavior

// Behavior is what happens to containers of one image. The zero value starts at
// once, is ready at once and runs until it is stopped.
type Behavior struct {
	Pull     time.Duration // time until the image is there
	Missing  bool          // the registry has no such image
	Content  string        // what its tag stands for; default: its name
	Password string        // without which the registry does not give it
	Start    time.Duration // time from image to running
	Ready    time.Duration // time from running to ready
	NotReady bool          // never becomes ready
	// Crash ends the container with ExitCode (1 if 0) this long after each
	// start; CrashTimes limits how often, 0 means always.
	Crash      time.Duration
	CrashTimes int
	ExitCode   int
	OOM        bool     // the crash is the kernel's memory limit
	Log        []string // its last lines
	// Exit ends the container with 0 this long after its start.
	Exit time.Duration
	Stop time.Duration // time from the stop signal to the end, at most the grace
}

// Node is one fake node. Run it; change its script while it runs with Behave.
type Node struct {
	cfg Config

	mu     sync.Mutex
	script Script
	pods   map[object.Ref]*pod
	dirty  map[object.Ref]struct{}
	frozen bool
	wake   chan struct{}
	nextIP uint32
	timers sync.WaitGroup
}

// pod is one pod's life on the node; guarded by Node.mu.
type pod struct {
	created uint64
	status  object.PodStatus
	spec    *object.PodTemplate
	cancel  context.CancelFunc
	stop    chan struct{} // closed when the pod is to end
	stopped bool
}

// New makes a fake node; nothing happens before Run.
func New(c Config) *Node {
	s := &c.Status
	if s.CPU == 0 {
		s.CPU = 4000
	}
	if s.Memory == 0 {
		s.Memory = 8 << 30
	}
	if s.Pods == 0 {
		s.Pods = 110
	}
	s.Condition = cmp.Or(s.Condition, object.NodeReady)
	if s.Attributes == nil {
		s.Attributes = map[string]string{"os": "linux", "arch": "amd64"}
	}
	h := fnv.New32a()
	h.Write([]byte(c.Name))
	return &Node{
		cfg: c, script: maps.Clone(c.Script), pods: map[object.Ref]*pod{}, dirty: map[object.Ref]struct{}{},
		wake: make(chan struct{}, 1), nextIP: h.Sum32() & 0x00ffff00,
	}
}

// Name is the node's name.
func (n *Node) Name() string { return n.cfg.Name }

// Behave changes how containers of an image behave from their next start on.
func (n *Node) Behave(image string, b Behavior) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.script == nil {
		n.script = Script{}
	}
	n.script[image] = b
}

// Freeze makes the node silent (no reports, no heartbeats) until it is called
// with false: a lost node whose pods go on running.
func (n *Node) Freeze(silent bool) {
	n.mu.Lock()
	n.frozen = silent
	n.mu.Unlock()
	n.kick()
}

// Pods is the status of every pod on the node.
func (n *Node) Pods() map[object.Ref]object.PodStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make(map[object.Ref]object.PodStatus, len(n.pods))
	for r, p := range n.pods {
		out[r] = p.status
	}
	return out
}

// Run is the node's life; it ends, with every goroutine of it, when ctx does.
// Connections that fail are tried again.
func (n *Node) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { n.watch(ctx) })
	wg.Go(func() { n.report(ctx) })
	wg.Wait()
	n.timers.Wait()
	return ctx.Err()
}

// pause waits for d plus a share that depends on the node's name, so that
// thousands of nodes do not come back in one instant; false when ctx ended.
func (n *Node) pause(ctx context.Context, d time.Duration) bool {
	h := fnv.New32a()
	h.Write([]byte(n.cfg.Name))
	d += d / 4 * time.Duration(h.Sum32()%1024) / 1024
	return sleep(ctx, d)
}

func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (n *Node) watch(ctx context.Context) {
	var since uint64
	var listed map[object.Ref]bool // while the first objects of a fresh watch come in
	for ctx.Err() == nil {
		if since == 0 {
			listed = map[object.Ref]bool{}
		}
		err := n.cfg.Masters.WatchPods(ctx, n.cfg.Name, since, func(e object.WatchEvent) error {
			switch e.Op {
			case object.WatchCreate, object.WatchUpdate:
				if p, ok := e.Object.Object.(*object.Pod); ok {
					if listed != nil {
						listed[e.Ref] = true
					}
					n.want(ctx, p)
				}
			case object.WatchDelete:
				n.drop(e.Ref)
			case object.WatchSynced:
				for _, r := range n.refs() {
					if listed != nil && !listed[r] {
						n.drop(r)
					}
				}
				listed = nil
			}
			since = e.Index
			return nil
		})
		if object.IsCode(err, object.CodeGone) {
			since = 0
			continue
		}
		if listed != nil { // cut off in the middle of the list
			since = 0
		}
		if !n.pause(ctx, time.Second) {
			return
		}
	}
}

func (n *Node) refs() []object.Ref {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.SortedFunc(maps.Keys(n.pods), object.Ref.Compare)
}

// want takes a pod as the masters have it.
func (n *Node) want(ctx context.Context, d *object.Pod) {
	n.mu.Lock()
	defer n.mu.Unlock()
	ref := d.Ref()
	p := n.pods[ref]
	if p != nil && p.created != d.Created {
		p.cancel()
		p = nil
	}
	if p == nil {
		if d.Terminal() && !d.Returns() {
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		p = &pod{created: d.Created, spec: d.Spec.Pod, cancel: cancel, stop: make(chan struct{})}
		if d.Status.Phase == object.PodRunning {
			p.status = d.Status // the node was restarted, not the pod
		}
		n.pods[ref] = p
		n.timers.Go(func() { n.live(ctx, ref, p) })
	}
	if d.Status.Phase == object.PodLost && d.Returns() && p.status.Phase != "" {
		n.mark(ref) // the masters had given it up
	}
	if d.Spec.Stop && !p.stopped {
		p.stopped = true
		close(p.stop)
	}
}

func (n *Node) drop(ref object.Ref) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.pods[ref]; p != nil {
		p.cancel()
		delete(n.pods, ref)
		delete(n.dirty, ref)
	}
}

// update changes a pod's status and queues it for the next report.
func (n *Node) update(ref object.Ref, p *pod, change func(*object.PodStatus)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	before := p.status
	s := p.status
	s.Containers = slices.Clone(s.Containers)
	change(&s)
	if s.Phase != before.Phase || s.Reason != before.Reason {
		s.Since = now()
	}
	p.status = s
	if n.pods[ref] == p {
		n.mark(ref)
	}
}

func (n *Node) mark(ref object.Ref) {
	n.dirty[ref] = struct{}{}
	n.kick()
}

func (n *Node) setReady(ref object.Ref, p *pod, ready bool) {
	s := p.status
	if s.Ready == ready || s.Phase != object.PodRunning {
		return
	}
	s.Ready, s.ReadySince = ready, time.Time{}
	if ready {
		s.ReadySince = now()
	}
	s.Containers = slices.Clone(s.Containers)
	for i := range s.Containers {
		s.Containers[i].Ready = ready
	}
	p.status = s
	n.mark(ref)
}

func (n *Node) kick() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func now() time.Time { return time.Now().UTC().Round(0) }

// report sends what has changed, at once when something has and otherwise once
// per heartbeat.
func (n *Node) report(ctx context.Context) {
	heartbeat := 5 * time.Second
	first := true
	for ctx.Err() == nil {
		r, frozen := n.batch(first)
		if !frozen {
			answer, err := n.cfg.Masters.Report(ctx, r)
			if err != nil {
				n.unbatch(r)
				if !n.pause(ctx, time.Second) {
					return
				}
				continue
			}
			first = false
			if answer.Heartbeat > 0 {
				heartbeat = answer.Heartbeat.D()
			}
		}
		t := time.NewTimer(heartbeat)
		select {
		case <-ctx.Done():
		case <-n.wake:
		case <-t.C:
		}
		t.Stop()
	}
}

func (n *Node) batch(first bool) (object.Report, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := object.Report{Node: n.cfg.Name}
	if n.frozen {
		return r, true
	}
	if first {
		s := n.cfg.Status
		r.Status, r.Labels = &s, n.cfg.Labels
	}
	for _, ref := range slices.SortedFunc(maps.Keys(n.dirty), object.Ref.Compare) {
		p := n.pods[ref]
		r.Pods = append(r.Pods, object.PodReport{Ref: ref, Created: p.created, Status: p.status})
	}
	clear(n.dirty)
	return r, false
}

// unbatch puts back what could not be delivered.
func (n *Node) unbatch(r object.Report) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, x := range r.Pods {
		if p := n.pods[x.Ref]; p != nil && p.created == x.Created {
			n.dirty[x.Ref] = struct{}{}
		}
	}
}

// address gives out addresses that no other pod of the node has.
func (n *Node) address() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nextIP++
	return "10." + strconv.Itoa(int(n.nextIP>>16&0xff)) + "." + strconv.Itoa(int(n.nextIP>>8&0xff)) + "." + strconv.Itoa(int(n.nextIP&0xff))
}

func (n *Node) behavior(image string) Behavior {
	n.mu.Lock()
	defer n.mu.Unlock()
	if b, ok := n.script[image]; ok {
		return b
	}
	return n.script[""]
}
