package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/berthdev/berth/node/runtime/container"
	"github.com/containerd/containerd/api/types/runc/options"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

const (
	shimRuntime = "io.containerd.runc.v2"
	// gcRoot keeps a snapshot from containerd's garbage collector while nothing
	// refers to it yet; a lease would do the same with two writes more.
	gcRoot = "containerd.io/gc.root"
)

var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// StartContainer makes a container and starts its process. The image must be on
// the node. If it runs already, from a call before a crash perhaps, it is left
// alone; if this attempt has ended already, that is an error. On an error
// nothing is left behind, or, if containerd went away, it is removed before the
// next attempt and with the pod.
func (r *Runtime) StartContainer(ctx context.Context, s container.Spec) (container.Started, error) {
	for _, n := range []string{s.Name, s.Pod.Name, s.Pod.Namespace} {
		if !validName.MatchString(n) {
			return container.Started{}, fmt.Errorf("%q cannot be a name: use letters, digits and -", n)
		}
	}
	signal := s.StopSignal
	if signal != "" {
		if _, err := parseSignal(signal); err != nil {
			return container.Started{}, err
		}
	}
	ctx = r.ns(ctx)
	unlock, err := r.lockPod(ctx, s.Pod)
	if err != nil {
		return container.Started{}, err
	}
	defer unlock()
	id := r.containerID(s)
	if m := r.monitor(id); m != nil {
		st := m.snapshot()
		switch st.State {
		case container.Running:
			return container.Started{ID: id, PID: st.PID, Image: st.Image, Digest: m.digest}, nil
		case container.Exited:
			return container.Started{}, fmt.Errorf("container %s of pod %s: attempt %d has ended already; start the next one", s.Name, s.Pod, s.Attempt)
		}
	}
	if err := r.eraseHalves(ctx, s); err != nil {
		return container.Started{}, err
	}
	img, conf, err := r.image(ctx, s.Image)
	if err != nil {
		return container.Started{}, err
	}
	signal = cmp.Or(signal, conf.config.StopSignal, "SIGTERM")
	m := &monitor{
		id: id, signal: signal, ended: make(chan struct{}), digest: img.Target().Digest.String(),
		status: container.Status{ID: id, Pod: s.Pod, Name: s.Name, Attempt: s.Attempt, Image: pinnedImage(img), State: container.Running},
	}
	notes, exits, err := r.create(ctx, m, s, img, conf)
	if err != nil {
		if cleanup := r.erase(context.WithoutCancel(ctx), id); cleanup != nil {
			r.log.Warn("failed container not cleaned away; it is tried again", "container", id, "error", cleanup)
			r.keepHalf(m)
		}
		_ = r.logs.discard(r.logs.attemptDir(s.Pod, s.Name, s.Attempt))
		return container.Started{}, r.unavailable(err)
	}
	r.mu.Lock()
	r.monitors[id] = m
	r.mu.Unlock()
	r.findBundles(m.status.PID)
	r.work.Go(func() { r.watch(m, exits) })
	r.work.Go(func() { r.markUsed(r.ns(r.ctx), img) })
	return container.Started{ID: id, PID: m.status.PID, Image: m.status.Image, Digest: m.digest, Notes: notes}, nil
}

// keepHalf remembers a container whose start failed and which could not be
// cleaned away either, because containerd went: its process may even run. As
// "created" it is removed before the next attempt, with its pod, or by the next
// Open, whichever comes first.
func (r *Runtime) keepHalf(m *monitor) {
	m.mu.Lock()
	m.status.State = container.Created
	m.mu.Unlock()
	close(m.ended)
	r.mu.Lock()
	r.monitors[m.id] = m
	r.mu.Unlock()
}

// eraseHalves removes what earlier attempts of the same container left half-made,
// so that no two of it ever run. The pod is locked.
func (r *Runtime) eraseHalves(ctx context.Context, s container.Spec) error {
	r.mu.Lock()
	var halves []string
	for id, m := range r.monitors {
		if st := m.snapshot(); st.Pod == s.Pod && st.Name == s.Name && st.State == container.Created {
			halves = append(halves, id)
		}
	}
	r.mu.Unlock()
	slices.Sort(halves)
	for _, id := range halves {
		if err := r.eraseHalf(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// eraseHalf erases a half-made container. A containerd that was killed in the
// middle of making it may know nothing of its process, so that is ended too.
func (r *Runtime) eraseHalf(ctx context.Context, id string) error {
	if err := r.erase(ctx, id); err != nil {
		return err
	}
	return endProcesses(func() []int { return r.cgroups.processes(id) })
}

// create makes a container and starts it.
func (r *Runtime) create(ctx context.Context, m *monitor, s container.Spec, img containerd.Image, conf imageConfig) ([]string, <-chan containerd.ExitStatus, error) {
	notes, exits, fifo, err := r.prepare(ctx, m, s, img, conf)
	if err != nil {
		return nil, nil, err
	}
	if err := r.start(ctx, m.task, fifo); err != nil {
		return nil, nil, fmt.Errorf("start container %s: %w", s.Name, startHint(err))
	}
	r.hideRoot(m.id)
	return notes, exits, nil
}

// prepare makes snapshot, container and task, and records that it is being
// started. fifo is for start.
func (r *Runtime) prepare(ctx context.Context, m *monitor, s container.Spec, img containerd.Image, conf imageConfig) (notes []string, exits <-chan containerd.ExitStatus, fifo string, err error) {
	if err := r.snapshot(ctx, m.id, img, conf); err != nil {
		return nil, nil, "", err
	}
	rec := &containers.Container{ID: m.id, Snapshotter: r.snapshotter, SnapshotKey: m.id}
	spec, notes, err := r.ociSpec(ctx, m.id, s, conf.config, rec)
	if err != nil {
		return nil, nil, "", err
	}
	c, err := r.client.NewContainer(ctx, m.id,
		func(_ context.Context, _ *containerd.Client, c *containers.Container) error {
			c.Snapshotter, c.SnapshotKey, c.Image = r.snapshotter, m.id, img.Name()
			return nil
		},
		containerd.WithRuntime(shimRuntime, &options.Options{BinaryName: r.binary, Root: r.cfg.runcRoot(), NoNewKeyring: true}),
		containerd.WithSpec(spec),
		containerd.WithContainerLabels(r.labels(s, m.status.Image, m.signal)))
	if err != nil {
		return nil, nil, "", fmt.Errorf("create container %s: %w", s.Name, err)
	}
	stdout, stderr, err := r.logs.prepare(s.Pod, s.Name, s.Attempt)
	if err != nil {
		return nil, nil, "", err
	}
	task, err := c.NewTask(ctx, func(string) (cio.IO, error) { return spoolIO{stdout, stderr}, nil })
	if err != nil {
		return nil, nil, "", fmt.Errorf("create container %s: %w", s.Name, startHint(err))
	}
	exits, err = task.Wait(r.ns(r.ctx))
	if err != nil {
		return nil, nil, "", err
	}
	// Recorded before the start: an agent that dies here must not take a container
	// that may have run for one that never did.
	m.task, m.status.PID, m.status.Started = task, int(task.Pid()), time.Now().Round(0)
	fifo = r.startFile(m.id)
	if err := r.records.save(m.id, record{PID: m.status.PID, Digest: m.digest, Started: m.status.Started, Direct: fifo != ""}); err != nil {
		return nil, nil, "", err
	}
	if err := r.logs.collect(r.logs.attemptDir(s.Pod, s.Name, s.Attempt)); err != nil {
		return nil, nil, "", err
	}
	return notes, exits, fifo, nil
}

// startHint shortens what runc says to what a person can use.
func startHint(err error) error {
	text := err.Error()
	if i := strings.LastIndex(text, "OCI runtime"); i >= 0 {
		text = strings.TrimSuffix(text[i:], ": unknown")
	}
	switch {
	case strings.Contains(text, "seccomp not supported"):
		text += ` (this OCI runtime was built without seccomp: install the distribution's, or set seccomp = "unconfined")`
	case strings.Contains(text, "executable file not found"), strings.Contains(text, "no such file or directory"):
		text += " (check command, work_dir and that the image has the program)"
	case strings.Contains(text, "permission denied"):
		text += " (is the program executable for this user?)"
	}
	return &startError{text: text, cause: err}
}

type startError struct {
	text  string
	cause error
}

func (e *startError) Error() string { return e.text }
func (e *startError) Unwrap() error { return e.cause }

// snapshot makes the container's file system on top of the image's layers.
func (r *Runtime) snapshot(ctx context.Context, id string, img containerd.Image, conf imageConfig) error {
	sn := r.client.SnapshotService(r.snapshotter)
	opt := snapshots.WithLabels(map[string]string{gcRoot: now()})
	_, err := sn.Prepare(ctx, id, conf.chain, opt)
	if errdefs.IsNotFound(err) { // the layers were collected since they were unpacked
		r.forget(img)
		if _, err := r.imageConfig(ctx, img); err != nil {
			return err
		}
		_, err = sn.Prepare(ctx, id, conf.chain, opt)
	}
	if errdefs.IsAlreadyExists(err) { // from a crash; nothing has run in it that counts
		if err = sn.Remove(ctx, id); err == nil {
			_, err = sn.Prepare(ctx, id, conf.chain, opt)
		}
	}
	if err != nil {
		return fmt.Errorf("file system of the container: %w", err)
	}
	return nil
}

// spoolIO hands the shim two files to append to; see logs.go.
type spoolIO struct{ stdout, stderr string }

func (s spoolIO) Config() cio.Config { return cio.Config{Stdout: s.stdout, Stderr: s.stderr} }
func (spoolIO) Cancel()              {}
func (spoolIO) Wait()                {}
func (spoolIO) Close() error         { return nil }

func parseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n < 65 {
		return syscall.Signal(n), nil
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if n := unix.SignalNum(name); n != 0 {
		return n, nil
	}
	if n := realTime(name); n != 0 { // images of systemd want SIGRTMIN+3
		return n, nil
	}
	return 0, fmt.Errorf("%q is not a signal; write for example SIGTERM or SIGQUIT", s)
}

// The real-time signals that programs may use: the C library keeps 32 and 33.
const (
	firstRealTime = 34
	lastRealTime  = 64
)

// realTime is the number of a signal such as SIGRTMIN+3 or SIGRTMAX-1; 0 for others.
func realTime(name string) syscall.Signal {
	offset := func(rest, sign string) (int, bool) {
		if rest == "" {
			return 0, true
		}
		n, err := strconv.Atoi(strings.TrimPrefix(rest, sign))
		return n, strings.HasPrefix(rest, sign) && err == nil && n >= 0 && n <= lastRealTime-firstRealTime
	}
	if rest, ok := strings.CutPrefix(name, "SIGRTMIN"); ok {
		if n, ok := offset(rest, "+"); ok {
			return syscall.Signal(firstRealTime + n)
		}
	}
	if rest, ok := strings.CutPrefix(name, "SIGRTMAX"); ok {
		if n, ok := offset(rest, "-"); ok {
			return syscall.Signal(lastRealTime - n)
		}
	}
	return 0
}

// stopSignal is the one by which a container is asked to end: the given one, or its
// image's. Of an image anything can come; what is no signal (the error) must not
// keep the container from being stopped.
func stopSignal(given, image string) (syscall.Signal, error) {
	sig, err := parseSignal(cmp.Or(given, image, "SIGTERM"))
	if err != nil {
		return syscall.SIGTERM, err
	}
	return sig, nil
}

// Stop asks a container to end, by the given signal or else its own, and kills
// it when it has not within grace. It returns when the container has ended and
// its log is complete; with an error only if that could not be brought about.
func (r *Runtime) Stop(ctx context.Context, id, signal string, grace time.Duration) error {
	m := r.monitor(id)
	if m == nil || m.snapshot().State == container.Created {
		return nil
	}
	if grace > 0 {
		sig, err := stopSignal(signal, m.signal)
		if err != nil {
			r.log.Warn("stop signal unknown", "container", id, "instead", "SIGTERM", "error", err)
		}
		if err := r.kill(ctx, m, sig); err != nil {
			r.log.Warn("container not asked to end", "container", id, "error", err)
		}
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-m.ended:
			return nil
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for {
		err := r.kill(ctx, m, syscall.SIGKILL)
		if err == nil {
			err = errors.New("the kill has no effect yet")
		}
		select {
		case <-m.ended:
			return nil
		case <-time.After(5 * time.Second): // containerd was away, perhaps
		case <-ctx.Done():
			return fmt.Errorf("stop container %s: %w: %w", id, ctx.Err(), err)
		case <-r.ctx.Done():
			return fmt.Errorf("stop container %s: the runtime is closing", id)
		}
	}
}

// Signal sends a running container's first process a signal; one that has ended,
// or has no handler for it, is not disturbed: the kernel keeps a first process
// from every signal that it did not ask for but SIGKILL.
func (r *Runtime) Signal(ctx context.Context, id, signal string) error {
	sig, err := parseSignal(signal)
	if err != nil {
		return err
	}
	m := r.monitor(id)
	if m == nil || m.snapshot().State != container.Running {
		return nil
	}
	return r.kill(ctx, m, sig)
}

func (r *Runtime) kill(ctx context.Context, m *monitor, sig syscall.Signal) error {
	m.mu.Lock()
	task := m.task
	m.mu.Unlock()
	if task == nil {
		return nil
	}
	if err := task.Kill(r.ns(ctx), sig); err != nil && !errdefs.IsNotFound(err) {
		return r.unavailable(err)
	}
	return nil
}

// Remove ends a container, if need be by force, and removes all of it but its
// log.
func (r *Runtime) Remove(ctx context.Context, id string) error {
	m := r.monitor(id)
	if m == nil {
		return nil
	}
	if err := r.Stop(ctx, id, "", 0); err != nil {
		return err
	}
	select { // ended before: its task may still be being cleaned away
	case <-m.ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	unlock, err := r.lockPod(ctx, m.snapshot().Pod)
	if err != nil {
		return err
	}
	defer unlock()
	if m.snapshot().State == container.Created {
		return r.eraseHalf(r.ns(ctx), id)
	}
	return r.erase(r.ns(ctx), id)
}

// RemovePod removes all containers of a pod, by force, and their logs.
func (r *Runtime) RemovePod(ctx context.Context, p container.Pod) error {
	list, err := r.List(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range list {
		if s.Pod == p {
			errs = append(errs, r.Remove(ctx, s.ID))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return r.logs.discard(r.logs.podDir(p))
}

// erase removes whatever there is of a container: task, container, snapshot,
// record. The pod is locked.
func (r *Runtime) erase(ctx context.Context, id string) error {
	c, err := r.client.LoadContainer(ctx, id)
	switch {
	case err == nil:
		task, err := c.Task(ctx, nil)
		if err == nil {
			_, err = task.Delete(ctx, containerd.WithProcessKill)
		}
		if err != nil && !errdefs.IsNotFound(err) {
			return r.unavailable(fmt.Errorf("remove container %s: %w", id, err))
		}
		if err := c.Delete(ctx); err != nil && !errdefs.IsNotFound(err) {
			return r.unavailable(fmt.Errorf("remove container %s: %w", id, err))
		}
	case !errdefs.IsNotFound(err):
		return r.unavailable(err)
	}
	if err := r.client.SnapshotService(r.snapshotter).Remove(ctx, id); err != nil && !errdefs.IsNotFound(err) {
		return r.unavailable(fmt.Errorf("remove the file system of container %s: %w", id, err))
	}
	r.mu.Lock()
	delete(r.monitors, id)
	r.mu.Unlock()
	return r.records.remove(id)
}

// Stats reads the counters of a running container.
func (r *Runtime) Stats(_ context.Context, id string) (container.Stats, error) {
	m := r.monitor(id)
	if m == nil || m.snapshot().State != container.Running {
		return container.Stats{}, &container.NotFoundError{What: "running container " + id}
	}
	s, err := r.cgroups.stats(id)
	if err != nil {
		return s, fmt.Errorf("counters of container %s: %w", id, err)
	}
	return s, nil
}

// process is the container's own process description, which commands run in it
// inherit.
func (r *Runtime) process(ctx context.Context, m *monitor) (*oci.Spec, containerd.Task, error) {
	m.mu.Lock()
	task, p := m.task, m.process
	m.mu.Unlock()
	if task == nil {
		return nil, nil, &container.NotFoundError{What: "running container " + m.id}
	}
	if p == nil {
		c, err := r.client.LoadContainer(ctx, m.id)
		if err != nil {
			return nil, nil, r.unavailable(err)
		}
		spec, err := c.Spec(ctx)
		if err != nil {
			return nil, nil, r.unavailable(err)
		}
		p = spec.Process
		m.mu.Lock()
		m.process = p
		m.mu.Unlock()
	}
	own := *p
	return &oci.Spec{Process: &own}, task, nil
}
