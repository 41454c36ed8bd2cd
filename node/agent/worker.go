package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/node/runtime/container"
)

// Why a worker's life ends.
var (
	errStop    = errors.New("asked to stop")              // Spec.Stop: stop the containers, then report it
	errRemoved = errors.New("no longer wanted here")      // the row is gone: stop the containers, leave nothing
	errPurge   = errors.New("the node is being emptied")  // stop the containers, then report it
	errLeave   = errors.New("the agent is being stopped") // leave the containers as they are
)

// worker is one incarnation of a pod on this node: one goroutine for its life
// and one for each of its containers.
type worker struct {
	a   *Agent
	pod *object.Pod // as it was when the worker began; only Spec.Stop may change later
	key container.Pod
	id  string // names the pod to network and volumes
	log *slog.Logger

	cancel context.CancelCauseFunc // ends the life, with one of the causes above
	done   chan struct{}           // closed when nothing of the worker runs any more
	gone   chan struct{}           // closed when the row is gone, after which nothing is reported
	once   sync.Once               // of gone

	// Set by prepare, read by the containers that start after it.
	namespaces container.Namespaces
	address    string
	paths      map[string]string // of volumes
	etc        string            // directory of the pod's own /etc files

	guarding sync.Mutex // held while the guard is told, so that it hears the newest labels last

	mu       sync.Mutex
	labels   map[string]string // of the pod, as the masters have said last
	status   object.PodStatus
	troubles map[string]trouble // by what is in trouble
	runners  []*runner
	stopping bool
	led      bool                         // it has been ready, so that callers may be led to it until every node knows better
	contents map[string]map[string]string // of what the pod reads, by "kind/name"; in memory only
	why      string                       // StopWhy
	reads    map[string]string            // versions given in place of the template's; see reload.go
	applied  map[string]string            // of these, those that the containers know of

	rereads chan struct{} // says that reads are others
}

func podID(p container.Pod) string {
	return fmt.Sprintf("%s.%s.%d", p.Namespace, p.Name, p.Created)
}

func keyOf(p *object.Pod) container.Pod {
	return container.Pod{Namespace: p.Namespace, Name: p.Name, Created: p.Created}
}

func newWorker(a *Agent, p *object.Pod) *worker {
	key := keyOf(p)
	w := &worker{
		a: a, pod: p, key: key, id: podID(key), log: a.log.With("pod", key.String()),
		done: make(chan struct{}), gone: make(chan struct{}), troubles: map[string]trouble{},
		rereads: make(chan struct{}, 1),
	}
	w.labels, w.reads, w.applied = p.Labels, p.Spec.Reads, p.Spec.Reads
	w.status = object.PodStatus{Phase: object.PodStarting, Since: now()}
	w.led = p.Status.Ready
	if t := p.Spec.Pod; t != nil {
		for i := range t.Init {
			w.runners = append(w.runners, newRunner(w, &t.Init[i], true))
		}
		for i := range t.Containers {
			w.runners = append(w.runners, newRunner(w, &t.Containers[i], false))
		}
	}
	// What the masters know of an earlier life of this process goes on.
	if s := p.Status; s.Phase != "" && s.Phase != object.PodPending && s.Phase != object.PodStopped {
		w.status.Started, w.status.ReadySince = s.Started, s.ReadySince
		for _, c := range s.Containers {
			if r := w.runner(c.Name); r != nil && s.Reason == object.ReasonCrashLoop && c.Restarts >= crashLoop {
				r.quick, r.restart.last = crashLoop-1, min(restartFirst<<min(c.Restarts-1, 20), restartMost)
				w.troubles[c.Name] = trouble{s.Reason, s.Message}
			}
		}
	}
	return w
}

// run is the worker's life: it lasts as long as life, and what has to be stopped
// is stopped within ctx. found are the pod's containers that an earlier agent left.
func (w *worker) run(ctx, life context.Context, found []container.Status) {
	defer close(w.done)
	w.live(life, found)
	<-life.Done() // one that succeeded or failed stays until somebody wants it gone
	cause := context.Cause(life)
	if ctx.Err() != nil || errors.Is(cause, errLeave) {
		return
	}
	w.shutdown(ctx, cause)
}

// stop ends the life for a reason; later ones are ignored.
func (w *worker) stop(why error) {
	if errors.Is(why, errRemoved) {
		w.once.Do(func() { close(w.gone) })
	}
	w.cancel(why)
}

// askStop ends the life because the masters want it, and keeps their words.
func (w *worker) askStop(why string) {
	w.mu.Lock()
	w.why = why
	w.mu.Unlock()
	w.stop(errStop)
}

// isStopping reports whether the pod is on its way out.
func (w *worker) isStopping() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stopping
}

// live brings the pod up and keeps it so, until it has ended or ctx has.
func (w *worker) live(ctx context.Context, found []container.Status) {
	if w.pod.Spec.Stop {
		w.askStop(w.pod.Spec.StopWhy)
		return
	}
	t := w.pod.Spec.Pod
	if t == nil || len(t.Containers) == 0 {
		w.trouble("pod", object.ReasonConfig, "the pod came without a template; nothing can be started")
		<-ctx.Done()
		return
	}
	adopted, err := w.adopt(ctx, found)
	if err != nil {
		return
	}
	if !adopted {
		if !w.prepare(ctx) {
			return
		}
	}
	reloading, enough := context.WithCancel(ctx)
	var reloads sync.WaitGroup
	defer reloads.Wait()
	defer enough()
	reloads.Go(func() { w.reloads(reloading) })
	for _, r := range w.runners {
		if r.init && !r.passed && !r.run(ctx) {
			if ctx.Err() == nil {
				w.finish(object.PodFailed)
			}
			return
		}
	}
	var wg sync.WaitGroup
	for _, r := range w.runners {
		if !r.init {
			wg.Go(func() { r.run(ctx) })
		}
	}
	wg.Wait()
	if ctx.Err() != nil {
		return
	}
	phase := object.PodSucceeded
	for _, r := range w.runners {
		if r.failed {
			phase = object.PodFailed
		}
	}
	w.finish(phase)
}

// adopt takes over what an earlier agent left. True means that the pod's
// sandbox is whole and in use, and must not be touched.
func (w *worker) adopt(ctx context.Context, found []container.Status) (bool, error) {
	var running, mains int
	for _, s := range found {
		r := w.runner(s.Name)
		if r == nil {
			continue
		}
		if r.adopted == nil || s.Attempt > r.adopted.Attempt {
			r.adopted = &s
		}
		if s.State == container.Running {
			running++
		}
		if !r.init {
			mains++
		}
	}
	if running == 0 { // after a reboot, perhaps: prepare anew, count the attempts on
		w.initAgain()
		return false, ctx.Err()
	}
	addr, okAddr := w.a.cfg.Network.Address(w.id)
	paths, okPaths := w.a.cfg.Volumes.Paths(w.id, w.pod.Spec.Pod.Volumes)
	ns, err := w.a.cfg.Sandboxes.Create(w.id, w.pod.Name, len(w.runners) > 1)
	if !okAddr || !okPaths || err != nil {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		w.log.Warn("what an earlier agent left cannot be used; starting the pod again", "address", okAddr, "volumes", okPaths, "error", err)
		for _, r := range w.runners {
			r.adopted = nil
		}
		return false, w.clean(ctx)
	}
	if err := w.guard(addr, true); err != nil {
		w.log.Error("network policies of an adopted pod", "error", err) // the rules of before are still there
	}
	if err := w.forward(addr); err != nil {
		w.log.Error("host ports of an adopted pod", "error", err) // the rules of before may still serve
	}
	w.namespaces, w.address, w.paths, w.etc = ns, addr.String(), paths, w.a.etcDir(w.id)
	for _, r := range w.runners {
		r.passed = r.init && mains > 0
	}
	w.change(func(s *object.PodStatus) {
		s.Address = w.address
		for _, r := range w.runners {
			if x := r.adopted; x != nil && x.State == container.Running {
				r.learn(w.applied)
			}
			for _, c := range w.pod.Status.Containers {
				switch {
				case c.Name != r.c.Name:
				case r.passed:
					r.status = c
				default: // what the runtime does not remember
					r.status.LastLog, r.status.Message, r.status.Reason = c.LastLog, c.Message, c.Reason
				}
			}
			if r.passed {
				r.settle() // its end may not have been told
			}
		}
	})
	w.log.Info("adopted", "running", running)
	return true, nil
}

// initAgain lets the init containers do their work once more where what they did it
// to is gone, as it is after a reboot: namespaces, and volumes in memory. A pod
// whose containers have all ended for good does not need it.
func (w *worker) initAgain() {
	pods, err := w.a.cfg.Sandboxes.Pods()
	_, stands := w.a.cfg.Volumes.Paths(w.id, w.pod.Spec.Pod.Volumes)
	if err == nil && stands && slices.Contains(pods, w.id) {
		return
	}
	if !slices.ContainsFunc(w.runners, func(r *runner) bool {
		s := r.adopted
		return !r.init && (s == nil || s.State != container.Exited || r.restarts(s.ExitCode))
	}) {
		return
	}
	for _, r := range w.runners {
		if s := r.adopted; r.init && s != nil {
			r.attempt, r.last, r.adopted = s.Attempt, s.ID, nil
		}
	}
}

// prepare makes everything that the containers stand on, trying until it is
// there; false when ctx ended.
func (w *worker) prepare(ctx context.Context) bool {
	var wg sync.WaitGroup
	images := map[string]bool{}
	w.change(func(*object.PodStatus) {}) // starting
	for _, r := range w.runners {
		if k := r.c.Image + " " + r.c.Pull; !images[k] {
			images[k] = true
			wg.Go(func() { r.pull(ctx, r.c.Pull) })
		}
	}
	ok := w.persist(ctx, "setup", func() error { return w.setup(ctx) })
	wg.Wait()
	if !ok || ctx.Err() != nil {
		return false
	}
	for _, r := range w.runners {
		r.pulled = true
	}
	return true
}

// persist tries until try succeeds, with growing pauses, and shows the trouble
// meanwhile; false when ctx ended.
func (w *worker) persist(ctx context.Context, what string, try func() error) bool {
	b := backoff{first: time.Second, most: 5 * time.Minute}
	for {
		err := try()
		if err == nil {
			w.fine(what)
			return ctx.Err() == nil
		}
		if ctx.Err() != nil {
			return false
		}
		reason, message, soon := explain(err)
		w.log.Warn("not yet", "what", what, "reason", reason, "error", err)
		w.trouble(what, reason, message)
		if soon && b.last >= 2*time.Second {
			b.reset() // masters or containerd are away: they will be back
		}
		t := time.NewTimer(b.next())
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-w.a.arrival(): // of what it waits for, perhaps
		}
		t.Stop()
		if ctx.Err() != nil {
			return false
		}
	}
}

// setup makes contents, volumes, namespaces and network, in the order in which
// they need one another. It may be repeated.
func (w *worker) setup(ctx context.Context) error {
	w.mu.Lock()
	given := w.reads
	w.mu.Unlock()
	contents, err := w.known(ctx)
	if err != nil {
		return err
	}
	files, err := w.files(contents)
	if err != nil {
		return err
	}
	if err := w.a.slots.take(ctx); err != nil {
		return err
	}
	defer w.a.slots.give()
	paths, err := w.a.cfg.Volumes.Prepare(w.id, w.pod.Spec.Pod.Volumes, files)
	if err != nil {
		return err
	}
	if err := w.checkMounts(files); err != nil {
		return err
	}
	ns, err := w.a.cfg.Sandboxes.Create(w.id, w.pod.Name, len(w.runners) > 1)
	if err != nil {
		return fmt.Errorf("namespaces: %w", err)
	}
	addr, err := w.a.cfg.Network.Attach(w.id, ns.Net)
	if err != nil {
		return err
	}
	if err := w.guard(addr, false); err != nil { // before anything of the pod runs
		return err
	}
	if err := w.forward(addr); err != nil {
		return err
	}
	etc, err := w.a.writeEtc(w.id, w.pod, addr)
	if err != nil {
		return err
	}
	w.namespaces, w.address, w.paths, w.etc = ns, addr.String(), paths, etc
	w.change(func(s *object.PodStatus) { s.Address, w.applied = w.address, given })
	return nil
}

// guard holds the pod to the network policies.
func (w *worker) guard(addr netip.Addr, running bool) error {
	if w.a.cfg.Guard == nil {
		return nil
	}
	w.guarding.Lock()
	defer w.guarding.Unlock()
	p := *w.pod
	w.mu.Lock()
	p.Labels = w.labels
	w.mu.Unlock()
	return w.a.cfg.Guard.Guard(w.id, &p, addr, running)
}

// relabel takes new labels of the pod, by which policies pick it.
func (w *worker) relabel(labels map[string]string) {
	w.mu.Lock()
	same := maps.Equal(w.labels, labels)
	w.labels = labels
	w.mu.Unlock()
	addr, ok := w.a.cfg.Network.Address(w.id)
	if same || !ok {
		return // one without an address is told of when it gets one
	}
	w.a.wg.Go(func() {
		if err := w.guard(addr, true); err != nil {
			w.log.Error("network policies of a pod with new labels", "error", err)
		}
	})
}

// forward makes the node's ports that the pod claims lead to it.
func (w *worker) forward(addr netip.Addr) error {
	var ports []object.ContainerPort
	for _, r := range w.runners {
		for _, p := range r.c.Ports {
			if p.HostPort == 0 {
				continue
			}
			if p.HostPort == w.a.ownPort() && cmp.Or(p.Protocol, "tcp") == "tcp" {
				return object.Errorf(object.CodeInvalid, object.Ref{}, "container %s claims host port %d, which is the node agent's own; choose another", r.c.Name, p.HostPort)
			}
			ports = append(ports, p)
		}
	}
	switch {
	case len(ports) == 0:
		return nil
	case w.a.cfg.HostPorts == nil:
		return object.Errorf(object.CodeInvalid, object.Ref{}, "this node does not forward host ports")
	}
	if err := w.a.cfg.HostPorts.Forward(w.id, addr, ports); err != nil {
		return fmt.Errorf("host ports: %w", err)
	}
	return nil
}

// shutdown ends the pod: not ready first, then the stop signal, the grace, the
// kill; then everything that was made for it goes.
func (w *worker) shutdown(ctx context.Context, why error) {
	w.mu.Lock()
	led := w.led
	w.stopping = true
	message := w.why
	w.mu.Unlock()
	w.a.touch()
	if errors.Is(why, errPurge) {
		message = "its node was stopped and emptied"
	}
	told := w.change(func(s *object.PodStatus) {
		s.Phase, s.Ready, s.ReadySince = object.PodStopping, false, time.Time{}
		if message != "" {
			s.Message = message
		}
	})
	if led && !errors.Is(why, errRemoved) {
		w.awaitLeft(ctx, told)
		w.awaitQuiet(ctx)
	}
	w.stopContainers(ctx)
	b := backoff{first: time.Second, most: 30 * time.Second}
	for {
		err := w.clean(ctx)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return
		}
		w.log.Warn("cannot be removed yet", "error", err)
		if !sleep(ctx, b.next()) {
			return
		}
	}
	w.finish(object.PodStopped)
	w.log.Info("stopped", "why", why)
}

func (w *worker) stopContainers(ctx context.Context) {
	all, err := w.a.cfg.Runtime.List(ctx)
	if err != nil {
		w.log.Warn("containers cannot be listed; stopping those that were started", "error", err)
	}
	live := map[string]string{} // id -> signal
	for _, r := range w.runners {
		if id := r.runningID(); id != "" {
			live[id] = r.c.StopSignal
		}
	}
	for _, s := range all {
		if r := w.runner(s.Name); s.Pod == w.key && s.State == container.Running && r != nil {
			live[s.ID] = r.c.StopSignal
		}
	}
	grace := 30 * time.Second
	if t := w.pod.Spec.Pod; t != nil {
		grace = t.Grace.D()
	}
	var wg sync.WaitGroup
	for _, id := range slices.Sorted(maps.Keys(live)) {
		wg.Go(func() {
			if err := w.a.cfg.Runtime.Stop(ctx, id, live[id], grace); err != nil && ctx.Err() == nil {
				w.log.Warn("container does not stop", "container", id, "error", err)
			}
		})
	}
	wg.Wait()
	all, err = w.a.cfg.Runtime.List(ctx)
	if err != nil {
		return // the exit codes stay unknown
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range all {
		if r := w.runner(s.Name); s.Pod == w.key && s.State == container.Exited && r != nil && r.status.ID == s.ID {
			r.status.State, r.status.ExitCode, r.status.Finished = "exited", s.ExitCode, s.Finished.UTC().Round(0)
		}
	}
}

// clean removes everything that was made for the pod but its status.
func (w *worker) clean(ctx context.Context) error { return w.a.clean(ctx, w.key) }

// finish says that the pod has ended.
func (w *worker) finish(phase object.PodPhase) {
	at := now()
	w.mu.Lock()
	for _, r := range w.runners {
		if r.status.State == "running" || r.status.State == "waiting" {
			if r.status.State == "running" {
				r.status.Finished = at
			}
			r.status.State = "exited"
		}
		r.ready = false
	}
	w.mu.Unlock()
	w.change(func(s *object.PodStatus) {
		s.Phase, s.Ready, s.ReadySince = phase, false, time.Time{}
	})
}

func (w *worker) runner(name string) *runner {
	for _, r := range w.runners {
		if r.c.Name == name {
			return r
		}
	}
	return nil
}
