package agent

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/node/runtime/container"
)

// The rules of restarts.
const (
	restartFirst = time.Second
	restartMost  = 5 * time.Minute
	restartReset = 10 * time.Minute // a run of this length makes the next restart quick again
	quickExit    = time.Minute      // a run shorter than this speaks of a crash loop
	crashLoop    = 3                // so many of them in a row are one
	settled      = 10 * time.Second // a container without a readiness probe is well after this long
	lastLines    = 20               // of the log, kept when a container fails
	lastBytes    = 4096
)

// runner keeps one container of a pod: starts it, probes it, starts it again.
// Its goroutine owns all fields but those marked as guarded by worker.mu.
type runner struct {
	w    *worker
	c    *object.Container
	init bool

	adopted *container.Status // what an earlier agent left, until it has been looked at
	passed  bool              // an init container that has done its work
	failed  bool              // it ended badly for good
	pulled  bool              // prepare has seen to the image
	attempt int               // of the container that runs, or ran last; -1 before the first
	last    string            // id of the attempt before, to be removed
	restart backoff
	quick   int // quick exits in a row

	// Guarded by worker.mu.
	status  object.ContainerStatus
	ready   bool
	started bool // once at least
	running string
	knows   map[string]string    // versions of what it mounts, as of its start or its last signal; nil: none runs
	exits   chan container.Event // of the attempt that runs
	waitFor int
}

func newRunner(w *worker, c *object.Container, init bool) *runner {
	return &runner{
		w: w, c: c, init: init, attempt: -1, waitFor: -1,
		restart: backoff{first: restartFirst, most: restartMost},
		status:  object.ContainerStatus{Name: c.Name, State: "waiting", Image: c.Image},
	}
}

// outcome is how one attempt ended.
type outcome struct {
	code     int
	oom      bool
	at       time.Time
	ran      time.Duration
	liveness string // the liveness or startup probe's last failure, if that ended it
}

// run keeps the container going until it has ended for good or ctx has. An init
// container's true means that it has done its work.
func (r *runner) run(ctx context.Context) bool {
	for ctx.Err() == nil {
		o, ok := r.attemptOnce(ctx)
		if !ok {
			return false
		}
		r.ended(ctx, o)
		if !r.restarts(o.code) {
			r.failed = o.code != 0
			if !r.failed {
				r.w.fine(r.c.Name)
			}
			return !r.failed
		}
		if o.ran >= restartReset {
			r.restart.reset()
		}
		pause := r.restart.next()
		r.w.log.Info("container ended; starting it again", "container", r.c.Name, "code", o.code, "oom", o.oom, "in", pause)
		if !sleep(ctx, min(pause, pause-time.Since(o.at))) { // o.at is in the future when the clock was set back
			return false
		}
	}
	return false
}

// restarts reports whether an attempt that ended so is followed by another.
func (r *runner) restarts(code int) bool {
	switch r.w.pod.Spec.Pod.Restart {
	case "always", "":
		return !r.init || code != 0
	case "on_failure":
		return code != 0
	}
	return false
}

// attemptOnce starts the container, or takes over the one that is there, and
// waits for its end; false when ctx ended first.
func (r *runner) attemptOnce(ctx context.Context) (outcome, bool) {
	var id string
	var began time.Time
	if s := r.adopted; s != nil {
		r.adopted = nil
		r.attempt = s.Attempt
		switch s.State {
		case container.Running:
			id, began = s.ID, s.Started
			r.takeOver(s)
		case container.Exited:
			r.last = s.ID
			r.w.change(func(*object.PodStatus) {
				r.started = true
				r.status.ID, r.status.Started = s.ID, s.Started.UTC().Round(0)
				r.status.Restarts = max(r.status.Restarts, s.Attempt)
			})
			return outcome{code: s.ExitCode, oom: s.OOM, at: s.Finished, ran: s.Finished.Sub(s.Started)}, true
		default: // made and never started: start over under a new number
			r.last = s.ID
		}
	}
	if id == "" {
		var ok bool
		if id, began, ok = r.start(ctx); !ok {
			return outcome{}, false
		}
	}
	return r.watch(ctx, id, began)
}

func (r *runner) takeOver(s *container.Status) {
	r.expect(s.Attempt)
	r.w.change(func(*object.PodStatus) {
		r.started, r.running = true, s.ID // adopt has said what it knows
		r.status.State, r.status.ID, r.status.Started = "running", s.ID, s.Started.UTC().Round(0)
		r.status.Restarts = max(r.status.Restarts, s.Attempt)
		if s.Image != "" {
			r.status.Image = s.Image
		}
		for _, c := range r.w.pod.Status.Containers {
			if c.Name == r.c.Name && c.ID == s.ID {
				r.ready = c.Ready // nothing flaps because the agent was away; the probe corrects it
			}
		}
		if r.c.Readiness == nil && r.c.Startup == nil {
			r.ready = true
		}
	})
	r.w.look() // what it mounts may have changed while no agent looked
}

// settle makes the status of an init container that has done its work say so;
// worker.mu is held.
func (r *runner) settle() {
	if r.status.State == "exited" {
		return
	}
	r.status.State, r.status.ExitCode = "exited", 0
	r.status.Reason, r.status.Message = describe(r.c, outcome{})
	if s := r.adopted; s != nil && s.State == container.Exited {
		r.status.ID, r.status.Started, r.status.Finished = s.ID, s.Started.UTC().Round(0), s.Finished.UTC().Round(0)
	}
}

// expect makes the end of an attempt known to this runner.
func (r *runner) expect(attempt int) {
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	r.waitFor, r.exits = attempt, make(chan container.Event, 1)
}

// deliver takes the end of a container; one that nobody waits for is ignored.
func (r *runner) deliver(e container.Event) {
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	if e.Attempt == r.waitFor && r.exits != nil {
		select {
		case r.exits <- e:
		default:
		}
	}
}

func (r *runner) runningID() string {
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	return r.running
}

// pull makes the image be there, trying until it is; false when ctx ended.
func (r *runner) pull(ctx context.Context, policy string) bool {
	return r.w.persist(ctx, "image of "+r.c.Name, func() error { return r.fetch(ctx, policy) })
}

// image is the reference that the container is run by: with the content that its
// plan pinned, which is then run and nothing else.
func (r *runner) image() string { return r.w.pod.Spec.Pod.Pinned(r.c.Image) }

// fetch makes the image be there, or says why it cannot be.
func (r *runner) fetch(ctx context.Context, policy string) error {
	auth, err := r.w.registryAuth(ctx)
	if err != nil {
		return err
	}
	if err := r.w.a.pulls.take(ctx); err != nil {
		return err
	}
	defer r.w.a.pulls.give()
	got, err := r.w.a.cfg.Runtime.PullImage(ctx, r.image(), auth, policy)
	if err == nil && got.Pulled && r.image() != r.c.Image {
		r.w.a.reports.tell(object.NodeEvent{Reason: "image_pulled", Message: "pulled " + got.Name + " as " + r.c.Image})
	}
	return err
}

// start starts the next attempt, trying until it runs; false when ctx ended.
func (r *runner) start(ctx context.Context) (string, time.Time, bool) {
	policy := r.c.Pull
	if policy == container.PullAlways && (r.pulled || r.attempt >= 0) {
		policy = container.PullMissing // a restart is not a new version
	}
	if !r.pulled && !r.pull(ctx, policy) {
		return "", time.Time{}, false
	}
	r.pulled = false // the attempts after this one look again
	var started container.Started
	failures := 0
	lost := false // the image was removed since it was seen
	ok := r.w.persist(ctx, "start of "+r.c.Name, func() error {
		if lost {
			if err := r.fetch(ctx, policy); err != nil {
				return err
			}
			lost = false
		}
		spec, err := r.spec(ctx, r.attempt+1)
		if err != nil {
			return err
		}
		if r.quick > 1 || failures > 1 { // those in a loop leave room for the others
			if err := r.w.a.loops.take(ctx); err != nil {
				return err
			}
			defer r.w.a.loops.give()
		}
		if err := r.w.a.slots.take(ctx); err != nil {
			return err
		}
		defer r.w.a.slots.give()
		r.attempt++
		r.expect(r.attempt)
		r.w.mu.Lock()
		r.learn(r.w.applied)
		r.w.mu.Unlock()
		if started, err = r.w.a.cfg.Runtime.StartContainer(ctx, spec); err != nil {
			var image *container.ImageError
			if lost = errors.As(err, &image); lost {
				return err
			}
			failures++
			problem := &startError{r.c.Name, failures, err}
			// An attempt that did not begin counts like one that ended: a version
			// whose containers cannot be started is given up for as soon.
			r.w.change(func(*object.PodStatus) {
				r.status.Restarts, r.status.Reason, r.status.Message = r.attempt, "cannot_start", problem.Error()
			})
			return problem
		}
		return nil
	})
	if !ok {
		return "", time.Time{}, false
	}
	began := now()
	for _, note := range started.Notes {
		r.w.log.Info("reduced", "container", r.c.Name, "note", note)
	}
	r.w.change(func(*object.PodStatus) {
		r.started, r.running = true, started.ID
		r.status.State, r.status.ID, r.status.Started, r.status.Finished = "running", started.ID, began, time.Time{}
		r.status.Restarts = r.attempt
		r.status.ExitCode, r.status.Reason, r.status.Message = 0, "", ""
		if started.Image != "" {
			r.status.Image = started.Image
		}
		r.ready = !r.init && r.c.Readiness == nil && r.c.Startup == nil
	})
	r.w.look() // what it mounts may have changed while it was starting
	if r.last != "" {
		if err := r.w.a.cfg.Runtime.Remove(ctx, r.last); err != nil && ctx.Err() == nil {
			r.w.log.Warn("the attempt before cannot be removed", "container", r.last, "error", err)
		}
		r.last = ""
	}
	return started.ID, began, true
}

// watch probes the container until it has ended; false when ctx ended first.
func (r *runner) watch(ctx context.Context, id string, began time.Time) (outcome, bool) {
	probing, cancel := context.WithCancel(ctx)
	var probes sync.WaitGroup
	defer probes.Wait()
	defer cancel()
	sick := make(chan string, 2)
	if !r.init {
		probes.Go(func() { r.probe(probing, id, sick) })
	}
	probes.Go(func() {
		// A container that stays up is out of its crash loop.
		if r.c.Readiness == nil && sleep(probing, settled) {
			r.w.fine(r.c.Name)
		}
	})
	r.w.mu.Lock()
	exits := r.exits
	r.w.mu.Unlock()
	var why string
	var again <-chan time.Time // to stop it once more
	retry := backoff{first: time.Second, most: 30 * time.Second}
	stop := func() {
		again = nil
		if err := r.w.a.cfg.Runtime.Stop(ctx, id, r.c.StopSignal, r.w.pod.Spec.Pod.Grace.D()); err != nil && ctx.Err() == nil {
			r.w.log.Warn("container does not stop", "container", id, "error", err)
			again = time.After(retry.next()) // nobody probes it any more
		}
	}
	for {
		select {
		case <-ctx.Done():
			return outcome{}, false
		case <-again:
			stop()
		case e := <-exits:
			o := outcome{code: e.ExitCode, oom: e.OOM, at: e.Time, ran: e.Time.Sub(began), liveness: why}
			if o.at.IsZero() {
				o.at, o.ran = time.Now(), time.Since(began)
			}
			return o, true
		case message := <-sick:
			if why != "" {
				continue
			}
			why = message
			cancel() // the other probes have nothing to say about a dying container
			r.w.change(func(*object.PodStatus) { r.ready = false })
			r.w.log.Info("not alive; stopping it", "container", r.c.Name, "why", message)
			stop()
		}
	}
}

// probe runs the startup probe and then the others until ctx ends. What makes a
// restart necessary goes to sick.
func (r *runner) probe(ctx context.Context, id string, sick chan<- string) {
	watch := func(ctx context.Context, kind string, p *object.Probe, verdict func(bool, string)) {
		q, err := r.resolve(p)
		if err != nil {
			r.w.trouble(kind+" probe of "+r.c.Name, object.ReasonConfig, err.Error())
			return
		}
		r.w.a.cfg.Prober.Watch(ctx, r.w.id+"/"+r.c.Name+"/"+kind, r.w.address, q, r.exec(id), verdict)
	}
	if p := r.c.Startup; p != nil {
		gate, open := context.WithCancel(ctx)
		passed := false
		watch(gate, "startup", p, func(good bool, why string) {
			if passed = good; good {
				open()
			} else {
				sick <- "startup probe: " + why
			}
		})
		open()
		if !passed || ctx.Err() != nil {
			return
		}
		if r.c.Readiness == nil {
			r.w.change(func(*object.PodStatus) { r.ready = true })
		}
	}
	var wg sync.WaitGroup
	if p := r.c.Readiness; p != nil {
		wg.Go(func() {
			watch(ctx, "readiness", p, func(good bool, why string) {
				r.w.change(func(*object.PodStatus) {
					if ctx.Err() != nil {
						return
					}
					r.ready = good
					r.status.Message = prefixed("readiness probe: ", why)
					if good {
						delete(r.w.troubles, r.c.Name)
					}
				})
			})
		})
	}
	if p := r.c.Liveness; p != nil {
		wg.Go(func() {
			watch(ctx, "liveness", p, func(good bool, why string) {
				if !good {
					select {
					case sick <- "liveness probe: " + why:
					default:
					}
				}
			})
		})
	}
	wg.Wait()
}

// resolve turns port names into numbers.
func (r *runner) resolve(p *object.Probe) (object.Probe, error) {
	q := *p
	number := func(ref object.PortRef) (object.PortRef, error) {
		if _, ok := ref.Number(); ok {
			return ref, nil
		}
		var names []string
		for _, port := range r.c.Ports {
			if port.Name == string(ref) {
				return object.PortRef(strconv.Itoa(port.Port)), nil
			}
			names = append(names, port.Name)
		}
		return "", fmt.Errorf("container %s probes port %q, which it does not have%s", r.c.Name, ref, prefixed("; ", object.DidYouMean(string(ref), names)))
	}
	var err error
	if p.HTTP != nil {
		h := *p.HTTP
		h.Port, err = number(h.Port)
		q.HTTP = &h
	}
	if p.TCP != nil {
		t := *p.TCP
		t.Port, err = number(t.Port)
		q.TCP = &t
	}
	return q, err
}

// exec runs a probe's command in the container.
func (r *runner) exec(id string) func(context.Context, []string) error {
	return func(ctx context.Context, command []string) error {
		timeout := 30 * time.Second
		if d, ok := ctx.Deadline(); ok {
			timeout = time.Until(d)
		}
		res, err := r.w.a.cfg.Runtime.Exec(ctx, id, command, timeout)
		if err != nil {
			return fmt.Errorf("%s: %w", command[0], err)
		}
		if res.ExitCode != 0 {
			out := strings.TrimSpace(string(res.Stderr))
			if out == "" {
				out = strings.TrimSpace(string(res.Stdout))
			}
			line, _, _ := strings.Cut(out, "\n")
			return fmt.Errorf("%s: exit code %d%s", command[0], res.ExitCode, prefixed(": ", line))
		}
		return nil
	}
}

// ended records how an attempt ended and what is to be thought of it.
func (r *runner) ended(ctx context.Context, o outcome) {
	reason, message := describe(r.c, o)
	if o.ran < quickExit {
		r.quick++
	} else {
		r.quick = 0
	}
	policy := r.w.pod.Spec.Pod.Restart
	loops := r.quick >= crashLoop && policy != "never"
	bad := o.code != 0 || o.oom || o.liveness != ""
	var lines []string
	if bad || loops {
		lines = r.lastLines(ctx)
	}
	r.w.change(func(*object.PodStatus) {
		if r.running != "" {
			r.last = r.running
		}
		r.running, r.knows, r.exits, r.waitFor, r.ready = "", nil, nil, -1, false
		r.status.State, r.status.ExitCode, r.status.Finished = "exited", o.code, o.at.UTC().Round(0)
		r.status.Reason, r.status.Message = reason, message
		if lines != nil {
			r.status.LastLog = lines
		}
		switch {
		case r.init && !bad:
			delete(r.w.troubles, r.c.Name)
		case loops:
			r.w.troubles[r.c.Name] = trouble{object.ReasonCrashLoop, fmt.Sprintf("container %s ended %d times within a minute of its start: %s", r.c.Name, r.quick, message)}
		case bad:
			r.w.troubles[r.c.Name] = trouble{reason, fmt.Sprintf("container %s: %s", r.c.Name, message)}
		}
	})
}

// describe is the reason for an end, as a word and as a sentence.
func describe(c *object.Container, o outcome) (reason, message string) {
	switch {
	case o.oom:
		message = "killed by the kernel: it used more memory than it may"
		if l := c.Resources.Limits.Memory; l > 0 {
			message = fmt.Sprintf("killed by the kernel: it used more memory than its limit of %s", l)
		}
		return object.ReasonOOM, message
	case o.liveness != "":
		return "not_alive", "stopped because it was not alive: " + o.liveness
	case o.code == 0:
		return object.ReasonCompleted, "ended with exit code 0"
	case o.code < 0:
		return "unknown", "ended while nobody watched; the exit code is not known"
	case o.code > 128 && o.code < 128+65:
		return "error", fmt.Sprintf("ended by signal %d (exit code %d)", o.code-128, o.code)
	}
	return "error", fmt.Sprintf("ended with exit code %d", o.code)
}

// lastLines are the last lines that the container wrote.
func (r *runner) lastLines(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var lines []string
	for l, err := range r.w.a.cfg.Runtime.Logs(ctx, container.LogQuery{Pod: r.w.key, Container: r.c.Name, Tail: lastLines}) {
		if err != nil {
			var missing *container.NotFoundError
			if !errors.As(err, &missing) {
				r.w.log.Warn("log cannot be read", "container", r.c.Name, "error", err)
			}
			break
		}
		lines = append(lines, strings.ToValidUTF8(l.Text, "\uFFFD"))
	}
	if len(lines) > lastLines {
		lines = lines[len(lines)-lastLines:]
	}
	size := 0
	for i := len(lines) - 1; i >= 0; i-- {
		if size += len(lines[i]) + 1; size > lastBytes {
			return lines[i+1:]
		}
	}
	return lines
}
