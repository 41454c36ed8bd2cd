package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/node/runtime/container"
)

const (
	masterTimeout = 10 * time.Second
	resyncPeriod  = 10 * time.Second
	checkPeriod   = 5 * time.Second
	rulesPeriod   = time.Minute
)

// Agent runs a node's pods. Run it once.
type Agent struct {
	cfg     Config
	log     *slog.Logger
	reports *reporter
	slots   slots // pods and containers being started
	pulls   slots // images being pulled
	view    *view
	purging chan struct{}
	purge   sync.Once

	mu       sync.Mutex
	workers  map[object.Ref]*worker
	waiting  map[object.Ref]*object.Pod // wanted as soon as the worker before them has ended
	found    map[container.Pod][]container.Status
	contents map[string]map[string]string // by "namespace/name"
	dirty    chan struct{}                // the checkpoint is to be written
	synced   bool                         // the masters have told everything once
	leaving  bool                         // everything is being removed from the machine
	imported chan struct{}                // closed, and made anew, when images were imported
	unsaved  *object.NetworkView          // to be written with the checkpoint
	wg       sync.WaitGroup
}

// slots bounds what runs at once.
type slots chan struct{}

func (s slots) take(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s slots) give() { <-s }

// New checks the configuration; nothing happens before Run.
func New(c Config) (*Agent, error) {
	for what, missing := range map[string]bool{
		"Node": c.Node == "", "Dir": c.Dir == "", "Masters": c.Masters == nil, "Runtime": c.Runtime == nil, "Sandboxes": c.Sandboxes == nil,
		"Network": c.Network == nil, "Volumes": c.Volumes == nil, "Prober": c.Prober == nil,
	} {
		if missing {
			return nil, fmt.Errorf("agent: %s must be set", what)
		}
	}
	if c.Listener != nil && c.TLS == nil {
		return nil, errors.New("agent: the node's API is not served without TLS")
	}
	if c.Parallel <= 0 {
		c.Parallel = 4
	}
	if c.LeaveTime <= 0 {
		c.LeaveTime = time.Second
	}
	if c.MinDisk <= 0 {
		c.MinDisk = 256 << 20
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	reports := newReporter(c.Node, c.Labels, c.Masters, c.Logger)
	if c.Traffic != nil {
		reports.traffic = &traffic{counters: c.Traffic}
	}
	return &Agent{
		cfg: c, log: c.Logger, reports: reports, view: newView(),
		slots: make(slots, c.Parallel), pulls: make(slots, c.Parallel), purging: make(chan struct{}),
		workers: map[object.Ref]*worker{}, waiting: map[object.Ref]*object.Pod{},
		found: map[container.Pod][]container.Status{}, contents: map[string]map[string]string{},
		dirty: make(chan struct{}, 1), imported: make(chan struct{}),
	}, nil
}

// Purge makes Run end by stopping every pod and removing everything that the
// agent and its tools have made on this machine. Without it, when the context of
// Run ends, all pods are left running for the next agent to adopt.
func (a *Agent) Purge() { a.purge.Do(func() { close(a.purging) }) }

func (a *Agent) checkpointPath() string { return filepath.Join(a.cfg.Dir, "checkpoint.json") }

// Run adopts what runs, then does what the masters want until ctx ends (leaving
// all pods as they are) or Purge is called (leaving nothing). It returns nil in
// both cases; an error means that the agent cannot work on this machine.
func (a *Agent) Run(ctx context.Context) error {
	kept, err := loadCheckpoint(a.checkpointPath(), a.cfg.Node)
	if err != nil {
		var damaged interface{ Unwrap() error }
		if !errors.As(err, &damaged) { // of another node or version: a mistake that only a person can mend
			return err
		}
		a.log.Error("going on without the checkpoint; the masters will tell", "error", err)
	}
	maps.Copy(a.contents, kept.Configs)
	if a.cfg.Firewall != nil {
		if err := a.cfg.Firewall.Ensure(); err != nil {
			return fmt.Errorf("packet rules: %w", err)
		}
	}
	if a.cfg.HostPorts != nil {
		if err := a.cfg.HostPorts.Ensure(); err != nil {
			return fmt.Errorf("host ports: %w", err)
		}
	}
	if err := a.find(ctx); err != nil {
		return err
	}

	a.judge() // the first report says what the node is

	// Workers outlive the watch: they are ended one by one, by cause.
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	for _, p := range kept.Pods { // all of them before the first view is applied
		if addr, ok := a.cfg.Network.Address(podID(keyOf(p))); ok && a.cfg.Guard != nil {
			if err := a.cfg.Guard.Guard(podID(keyOf(p)), p, addr, true); err != nil {
				a.log.Error("network policies of a running pod", "pod", p.Ref(), "error", err)
			}
		}
	}
	for _, p := range kept.Pods {
		a.want(work, p)
	}
	outer, stop := context.WithCancel(ctx)
	defer stop()
	var side sync.WaitGroup
	loops := []func(context.Context){a.dispatch, func(c context.Context) { a.watch(c, work) }, a.observe, a.saveLoop, a.reports.run}
	if len(a.cfg.Tools) > 0 {
		loops = append(loops, a.watchNetwork, a.feed)
	}
	for _, f := range loops {
		side.Go(func() { f(outer) })
	}
	served := make(chan error, 1)
	if a.cfg.Listener != nil {
		side.Go(func() { served <- a.serve(outer) })
	}
	select {
	case <-ctx.Done():
	case err = <-served:
		if err != nil {
			err = fmt.Errorf("the node's API: %w", err)
		}
	case <-a.purging:
		err = a.purgeAll(ctx, work)
	}
	cancel(errLeave)
	a.wg.Wait()
	stop()
	side.Wait()
	select {
	case <-a.purging:
		return errors.Join(err, a.removeOwn())
	default:
		return errors.Join(err, a.save(), a.saveView())
	}
}

// find lists what an earlier agent left in the runtime.
func (a *Agent) find(ctx context.Context) error {
	list, err := a.cfg.Runtime.List(ctx)
	if err != nil {
		return fmt.Errorf("the containers of an earlier agent cannot be listed: %w", err)
	}
	for _, s := range list {
		a.found[s.Pod] = append(a.found[s.Pod], s)
	}
	return nil
}

// want makes a worker for a pod, or passes a change on to the one that it has.
func (a *Agent) want(ctx context.Context, p *object.Pod) {
	ref := p.Ref()
	a.mu.Lock()
	defer a.mu.Unlock()
	if w := a.workers[ref]; w != nil {
		if w.pod.Created == p.Created {
			if p.Spec.Stop {
				w.askStop(p.Spec.StopWhy)
			} else if w.relabel(p.Labels); p.Spec.Pod != nil {
				w.reread(p.Spec.Reads)
			}
			if !p.Spec.Stop && w.differs(p.Status) && !a.reports.pending(ref) {
				w.report() // a report was lost, or somebody else wrote
			}
			return
		}
		// Another pod under the same name: first the old one goes.
		a.waiting[ref] = p
		w.stop(errRemoved)
		return
	}
	if a.leaving || p.Terminal() && !p.Returns() && len(a.found[keyOf(p)]) == 0 {
		return
	}
	a.begin(ctx, p)
}

// begin starts a worker; a.mu is held.
func (a *Agent) begin(ctx context.Context, p *object.Pod) {
	w := newWorker(a, p)
	a.workers[p.Ref()] = w
	found := a.found[w.key]
	delete(a.found, w.key)
	life, cancel := context.WithCancelCause(ctx)
	w.cancel = cancel
	a.wg.Go(func() {
		w.run(ctx, life, found)
		cancel(nil)
		select {
		case <-w.gone:
		case <-ctx.Done(): // the status of one that has ended is kept until its row is gone
			return
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.reports.forget(p.Ref(), p.Created)
		delete(a.workers, p.Ref())
		if next := a.waiting[p.Ref()]; next != nil {
			delete(a.waiting, p.Ref())
			a.begin(ctx, next)
		}
		a.touch()
	})
	a.touch()
}

// drop ends a pod whose row is gone.
func (a *Agent) drop(ref object.Ref) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.waiting, ref)
	if w := a.workers[ref]; w != nil {
		w.stop(errRemoved)
		a.touch()
	}
}

// watch follows the masters until ctx ends; workers live in work.
func (a *Agent) watch(ctx, work context.Context) {
	var since uint64
	var listed map[object.Ref]bool // what a fresh watch has delivered so far
	retry := backoff{first: 250 * time.Millisecond, most: 5 * time.Second}
	for ctx.Err() == nil {
		if since == 0 {
			listed = map[object.Ref]bool{}
		}
		err := a.cfg.Masters.WatchPods(ctx, a.cfg.Node, since, func(e object.WatchEvent) error {
			retry.reset()
			switch e.Op {
			case object.WatchCreate, object.WatchUpdate:
				if p, ok := e.Object.Object.(*object.Pod); ok {
					if listed != nil {
						listed[e.Ref] = true
					}
					a.want(work, p)
				}
			case object.WatchDelete:
				a.drop(e.Ref)
			case object.WatchSynced:
				if listed != nil {
					a.sync(work, listed)
				}
				listed = nil
			}
			since = max(since, e.Index)
			return nil
		})
		if ctx.Err() != nil {
			return
		}
		a.log.Debug("the watch ended", "error", err)
		if listed != nil || object.IsCode(err, object.CodeGone) {
			since = 0
		}
		if !sleep(ctx, retry.next()) {
			return
		}
	}
}

// sync makes an end of everything that the masters, who have now told all, do
// not want here.
func (a *Agent) sync(ctx context.Context, listed map[object.Ref]bool) {
	a.mu.Lock()
	var strays []object.Ref
	for ref := range a.workers {
		if !listed[ref] {
			strays = append(strays, ref)
		}
	}
	orphans := slices.Collect(maps.Keys(a.found))
	clear(a.found)
	first := !a.synced
	a.synced = true
	ids := map[string]bool{}
	for _, w := range a.workers {
		ids[w.id] = true
	}
	for _, p := range a.waiting { // may begin while the sweep goes on
		ids[podID(keyOf(p))] = true
	}
	a.mu.Unlock()
	for _, ref := range strays {
		a.drop(ref)
	}
	for _, p := range orphans {
		a.log.Info("removing a pod that nobody wants", "pod", p.String(), "created", p.Created)
		a.wg.Go(func() { a.removeOrphan(ctx, p) })
	}
	if first {
		a.sweep(ids, orphans)
	}
}

// dispatch hands the ends of containers to their runners. Every few seconds it
// also looks for itself, should containerd have been away.
func (a *Agent) dispatch(ctx context.Context) {
	t := time.NewTicker(resyncPeriod)
	defer t.Stop()
	events := a.cfg.Runtime.Events()
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			a.deliver(e)
		case <-t.C:
			list, err := a.cfg.Runtime.List(ctx)
			if err != nil {
				continue // the node's condition tells
			}
			for _, s := range list {
				if s.State == container.Exited {
					a.deliver(container.Event{ID: s.ID, Pod: s.Pod, Name: s.Name, Attempt: s.Attempt, ExitCode: s.ExitCode, OOM: s.OOM, Time: s.Finished})
				}
			}
		}
	}
}

func (a *Agent) deliver(e container.Event) {
	a.mu.Lock()
	w := a.workers[object.Ref{Kind: object.KindPod, Namespace: e.Pod.Namespace, Name: e.Pod.Name}]
	a.mu.Unlock()
	if w == nil || w.key != e.Pod {
		return
	}
	if r := w.runner(e.Name); r != nil {
		r.deliver(e)
	}
}

// arrival is closed when images are imported: who waits to try again need not
// wait any longer.
func (a *Agent) arrival() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.imported
}

func (a *Agent) arrived() {
	a.mu.Lock()
	defer a.mu.Unlock()
	close(a.imported)
	a.imported = make(chan struct{})
}

// touch asks for a new checkpoint.
func (a *Agent) touch() {
	select {
	case a.dirty <- struct{}{}:
	default:
	}
}

// saveLoop writes the checkpoint soon after a change, not at each. That a crash
// may lose the last second is no harm: the masters tell the pods again, and what
// runs is left alone until they have.
func (a *Agent) saveLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.dirty:
		}
		if !sleep(ctx, 500*time.Millisecond) {
			return
		}
		if err := errors.Join(a.save(), a.saveView()); err != nil {
			a.log.Error("checkpoint", "error", err)
		}
	}
}

// save writes the checkpoint.
func (a *Agent) save() error {
	c := checkpoint{Format: checkpointFormat, Node: a.cfg.Node, Configs: map[string]map[string]string{}}
	a.mu.Lock()
	for _, ref := range slices.SortedFunc(maps.Keys(a.workers), object.Ref.Compare) {
		w := a.workers[ref]
		select {
		case <-w.gone:
			continue
		default:
		}
		p := *w.pod
		p.Status = w.current()
		p.Spec.Stop, p.Spec.Reads = p.Spec.Stop || w.isStopping(), w.told()
		c.Pods = append(c.Pods, &p)
		if p.Spec.Pod == nil {
			continue
		}
		for key, digest := range p.Versions(p.Spec.Pod) {
			kind, name, _ := strings.Cut(key, "/")
			if object.Kind(kind) != object.KindConfigMap {
				continue // secrets are never written
			}
			k := p.Namespace + "/" + object.ContentName(object.Ref{Kind: object.KindConfigMap, Name: name}, digest)
			if data, ok := a.contents[k]; ok {
				c.Configs[k] = data
			}
		}
	}
	a.forgetContents()
	a.mu.Unlock()
	return c.save(a.checkpointPath())
}

// forgetContents drops contents, secrets above all, that no pod here reads any
// more; a.mu is held.
func (a *Agent) forgetContents() {
	used := map[string]bool{}
	for _, w := range a.workers {
		if w.pod.Spec.Pod == nil {
			continue
		}
		for _, versions := range w.inUse() {
			for key, digest := range versions {
				kind, name, _ := strings.Cut(key, "/")
				used[w.pod.Namespace+"/"+object.ContentName(object.Ref{Kind: object.Kind(kind), Name: name}, digest)] = true
			}
		}
	}
	maps.DeleteFunc(a.contents, func(k string, _ map[string]string) bool { return !used[k] })
}
