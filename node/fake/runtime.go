package fake

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berthdev/berth/node/runtime/container"
)

// Runtime runs containers that are entries in a map. It obeys the same contract
// as the real one and a Script by image, so that an agent can be tested without
// containerd and in virtual time. Containers live on when the agent that
// started them ends; Attach gives the next agent its event channel.
type Runtime struct {
	mu     sync.Mutex
	script Script
	all    map[string]*fakeContainer
	images map[string]container.Image
	logs   map[string][]container.LogLine // by pod, container, attempt
	events chan container.Event
	broken error
	stops  error // what Stop answers, if not nil
	starts int
	pulls  int
	nsPods map[string]string
}

type fakeContainer struct {
	signals []string
	container.Status
	spec  container.Spec
	ended chan struct{}
}

var _ container.Runtime = (*Runtime)(nil)

// NewRuntime makes an empty runtime.
func NewRuntime(s Script) *Runtime {
	r := &Runtime{script: maps.Clone(s), all: map[string]*fakeContainer{}, images: map[string]container.Image{},
		logs: map[string][]container.LogLine{}, nsPods: map[string]string{}}
	if r.script == nil {
		r.script = Script{}
	}
	r.Attach()
	return r
}

// Attach opens a fresh event channel, as a restarted agent does; ends of
// containers from now on go there.
func (r *Runtime) Attach() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = make(chan container.Event, 4096)
}

// Behave changes how containers of an image behave from their next start on.
func (r *Runtime) Behave(image string, b Behavior) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.script[image] = b
}

// Break makes every call fail with an UnavailableError until it is called with
// false: a containerd that has died. Containers go on.
func (r *Runtime) Break(broken bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = nil
	if broken {
		r.broken = &container.UnavailableError{Message: "containerd does not answer", Hint: "start it"}
	}
}

// RefuseStops makes every Stop fail until it is called with false.
func (r *Runtime) RefuseStops(refuse bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stops = nil
	if refuse {
		r.stops = errors.New("the container does not end")
	}
}

// Starts is how many containers were ever started.
func (r *Runtime) Starts() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.starts
}

// Pulls is how often an image was asked for that was not simply there.
func (r *Runtime) Pulls() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pulls
}

// RemoveImage removes an image, as a person on the node might.
func (r *Runtime) RemoveImage(ref string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.images, ref)
}

// Spec is what a container was started with.
func (r *Runtime) Spec(id string) (container.Spec, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.all[id]
	if !ok {
		return container.Spec{}, false
	}
	return c.spec, true
}

// Signal notes the signal.
func (r *Runtime) Signal(_ context.Context, id, signal string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.all[id]; c != nil && c.State == container.Running {
		c.signals = append(c.signals, signal)
	}
	return r.broken
}

// Signals are those that a container was sent, but to end it.
func (r *Runtime) Signals(id string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.all[id]; c != nil {
		return slices.Clone(c.signals)
	}
	return nil
}

// Kill ends a running container from outside, as a person or the kernel would.
func (r *Runtime) Kill(id string, code int, oom bool) { r.end(id, code, oom) }

func (r *Runtime) behavior(image string) Behavior {
	tag, _, _ := strings.Cut(image, "@")
	for _, name := range []string{image, tag} {
		if b, ok := r.script[name]; ok {
			return b
		}
	}
	return r.script[""]
}

// have finds an image that is there: one with a digest under any name.
func (r *Runtime) have(ref string) (container.Image, bool) {
	if img, ok := r.images[ref]; ok {
		return img, true
	}
	_, digest, pinned := strings.Cut(ref, "@")
	for _, name := range slices.Sorted(maps.Keys(r.images)) {
		if img := r.images[name]; pinned && img.Digest == digest {
			return img, true
		}
	}
	return container.Image{}, false
}

func (r *Runtime) health() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.broken
}

// Health is nil unless the runtime is broken.
func (r *Runtime) Health() error { return r.health() }

// Events delivers the ends of containers.
func (r *Runtime) Events() <-chan container.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.events
}

// PullImage takes the time that the script says and fails for missing images and
// for those whose password it is not given.
func (r *Runtime) PullImage(ctx context.Context, ref string, auth *container.Auth, policy string) (container.Image, error) {
	r.mu.Lock()
	b, broken := r.behavior(ref), r.broken
	have, there := r.have(ref)
	tag, digest, pinned := strings.Cut(ref, "@")
	other := r.images[tag]
	r.mu.Unlock()
	if broken != nil {
		return container.Image{}, broken
	}
	if there && policy != container.PullAlways {
		return have, nil
	}
	if policy == container.PullNever {
		e := &container.ImageError{Ref: ref, Fault: container.ImageAbsent, Hint: "Import it, or let it be pulled."}
		if pinned && other.Digest != "" {
			e.Hint = fmt.Sprintf("This node has %s as %s, but %s was pinned.", tag, other.Digest, digest)
		}
		return container.Image{}, e
	}
	if !sleep(ctx, b.Pull) {
		return container.Image{}, ctx.Err()
	}
	if b.Full {
		return container.Image{}, &container.ImageError{Ref: ref, Fault: container.ImageNoSpace, Hint: "Make room."}
	}
	if b.Missing {
		return container.Image{}, &container.ImageError{Ref: ref, Fault: container.ImageNotFound, Hint: "Check the name and the tag."}
	}
	if host, _, _ := strings.Cut(ref, "/"); b.Password != "" {
		if _, password := auth.For(host); password != b.Password {
			return container.Image{}, &container.ImageError{Ref: ref, Fault: container.ImageUnauthorized, Hint: "Check the secret named by registry_secret."}
		}
	}
	img := container.Image{Name: ref, Digest: digest, Pulled: true}
	if !pinned {
		img.Digest = Content(cmp.Or(b.Content, ref))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pulls++
	r.images[ref] = img
	if _, taken := r.images[tag]; pinned && !taken {
		r.images[tag] = container.Image{Name: tag, Digest: digest}
	}
	return img, nil
}

// Content is the digest of what a registry gives for a name, unless its Behavior has
// another Content.
func Content(of string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(of))) }

// ImportImage takes the archive's text for the name of an image, and what follows a
// space for its content.
func (r *Runtime) ImportImage(_ context.Context, archive io.Reader) ([]string, error) {
	b, err := io.ReadAll(archive)
	if err != nil {
		return nil, err
	}
	if len(b) == 0 {
		return nil, &container.ImageError{Ref: "archive", Fault: container.ImageInvalid, Hint: "It is empty."}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	name, content, _ := strings.Cut(string(b), " ")
	digest := Content(cmp.Or(content, name))
	r.images[name] = container.Image{Name: name, Digest: digest}
	if content != "" { // it stays when the name goes to another
		r.images[name+"@"+digest] = container.Image{Name: name + "@" + digest, Digest: digest}
	}
	return []string{name}, nil
}

// ListImages lists what was pulled and imported, by name.
func (r *Runtime) ListImages(context.Context) ([]container.Image, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.SortedFunc(maps.Values(r.images), func(a, b container.Image) int { return cmp.Compare(a.Name, b.Name) }), r.broken
}

func containerID(p container.Pod, name string, attempt int) string {
	return fmt.Sprintf("%s.%s.%d.%s.%d", p.Namespace, p.Name, p.Created, name, attempt)
}

// StartContainer starts one, and sets its script going.
func (r *Runtime) StartContainer(ctx context.Context, s container.Spec) (container.Started, error) {
	r.mu.Lock()
	b, broken := r.behavior(s.Image), r.broken
	_, pulled := r.have(s.Image)
	r.mu.Unlock()
	if broken != nil {
		return container.Started{}, broken
	}
	if !pulled {
		return container.Started{}, &container.ImageError{Ref: s.Image, Fault: container.ImageAbsent}
	}
	if !sleep(ctx, b.Start) {
		return container.Started{}, ctx.Err()
	}
	if len(s.Command) > 0 && s.Command[0] == "/missing" {
		return container.Started{}, errors.New(`exec: "/missing": no such file or directory`)
	}
	id := containerID(s.Pod, s.Name, s.Attempt)
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.all[id]; c != nil && c.State == container.Running {
		return container.Started{ID: id, PID: c.PID, Image: s.Image}, nil
	}
	r.starts++
	c := &fakeContainer{spec: s, ended: make(chan struct{}), Status: container.Status{
		ID: id, Pod: s.Pod, Name: s.Name, Attempt: s.Attempt, Image: s.Image, State: container.Running, PID: 1000 + r.starts, Started: time.Now(),
	}}
	r.all[id] = c
	for _, l := range b.Log {
		r.logs[id] = append(r.logs[id], container.LogLine{Time: time.Now(), Stream: "stdout", Text: l})
	}
	crashes := (b.Crash > 0 || b.OOM) && (b.CrashTimes == 0 || s.Attempt < b.CrashTimes)
	switch {
	case crashes:
		code := cmp.Or(b.ExitCode, 1)
		if b.OOM {
			code = 137
		}
		go r.endAfter(id, c.ended, b.Crash, code, b.OOM)
	case b.Exit > 0:
		go r.endAfter(id, c.ended, b.Exit, 0, false)
	}
	return container.Started{ID: id, PID: c.PID, Image: s.Image}, nil
}

func (r *Runtime) endAfter(id string, ended chan struct{}, d time.Duration, code int, oom bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ended:
	case <-t.C:
		r.end(id, code, oom)
	}
}

func (r *Runtime) end(id string, code int, oom bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.all[id]
	if c == nil || c.State != container.Running {
		return
	}
	c.State, c.Finished, c.ExitCode, c.OOM, c.PID = container.Exited, time.Now(), code, oom, 0
	close(c.ended)
	select {
	case r.events <- container.Event{ID: id, Pod: c.Pod, Name: c.Name, Attempt: c.Attempt, ExitCode: code, OOM: oom, Time: c.Finished}:
	default: // nobody has read thousands of events: a dead agent's channel
	}
}

// Stop ends the container after the time that the script says, or after the
// grace.
func (r *Runtime) Stop(ctx context.Context, id, _ string, grace time.Duration) error {
	r.mu.Lock()
	c, broken := r.all[id], cmp.Or(r.broken, r.stops)
	if broken != nil || c == nil || c.State != container.Running {
		r.mu.Unlock()
		return broken
	}
	b := r.behavior(c.Image)
	r.mu.Unlock()
	code := 0
	if b.Stop > grace {
		code = 137
	}
	t := time.NewTimer(min(b.Stop, grace))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-c.ended:
	case <-t.C:
		r.end(id, code, false)
	}
	return nil
}

// Remove deletes an ended container.
func (r *Runtime) Remove(_ context.Context, id string) error {
	r.end(id, 137, false)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken == nil {
		delete(r.all, id)
	}
	return r.broken
}

// RemovePod kills and deletes a pod's containers and logs.
func (r *Runtime) RemovePod(_ context.Context, p container.Pod) error {
	if err := r.health(); err != nil {
		return err
	}
	for _, id := range r.ids(p) {
		r.end(id, 137, false)
		r.mu.Lock()
		delete(r.all, id)
		delete(r.logs, id)
		r.mu.Unlock()
	}
	return nil
}

func (r *Runtime) ids(p container.Pod) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for id, c := range r.all {
		if c.Pod == p {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// Exec succeeds for "true", fails for anything else.
func (r *Runtime) Exec(_ context.Context, id string, argv []string, _ time.Duration) (container.ExecResult, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.all[id]; c == nil || c.State != container.Running {
		return container.ExecResult{}, &container.NotFoundError{What: "container " + id}
	}
	if len(argv) > 0 && argv[0] == "true" {
		return container.ExecResult{}, r.broken
	}
	return container.ExecResult{ExitCode: 1, Stderr: []byte("no\n")}, r.broken
}

// List is every container, by id.
func (r *Runtime) List(context.Context) ([]container.Status, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken != nil {
		return nil, r.broken
	}
	var out []container.Status
	for _, id := range slices.Sorted(maps.Keys(r.all)) {
		out = append(out, r.all[id].Status)
	}
	return out, nil
}

// Stats are constants for a running container.
func (r *Runtime) Stats(_ context.Context, id string) (container.Stats, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.all[id]
	if c == nil || c.State != container.Running {
		return container.Stats{}, &container.NotFoundError{What: "container " + id}
	}
	return container.Stats{CPU: time.Since(c.Started) / 100, Memory: 8 << 20, PIDs: 1}, r.broken
}

// Logs yields the scripted lines of the newest attempt, or the one before.
func (r *Runtime) Logs(_ context.Context, q container.LogQuery) iter.Seq2[container.LogLine, error] {
	return func(yield func(container.LogLine, error) bool) {
		r.mu.Lock()
		newest := -1
		for _, c := range r.all {
			if c.Pod == q.Pod && c.Name == q.Container {
				newest = max(newest, c.Attempt)
			}
		}
		if q.Previous {
			newest--
		}
		lines := slices.Clone(r.logs[containerID(q.Pod, q.Container, newest)])
		r.mu.Unlock()
		if newest < 0 {
			yield(container.LogLine{}, &container.NotFoundError{What: "the log of " + q.Pod.String() + " " + q.Container})
			return
		}
		if q.Tail > 0 && len(lines) > q.Tail {
			lines = lines[len(lines)-q.Tail:]
		}
		for _, l := range lines {
			if !yield(l, nil) {
				return
			}
		}
	}
}

// Sandboxes are the namespaces of a Runtime's pods, in name only.
type Sandboxes struct{ Runtime *Runtime }

// Create records the pod.
func (s Sandboxes) Create(pod, hostname string, _ bool) (container.Namespaces, error) {
	r := s.Runtime
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nsPods[pod] = hostname
	return container.Namespaces{Net: "/fake/" + pod + "/net", IPC: "/fake/" + pod + "/ipc", UTS: "/fake/" + pod + "/uts"}, nil
}

// Remove forgets the pod.
func (s Sandboxes) Remove(pod string) error {
	s.Runtime.mu.Lock()
	defer s.Runtime.mu.Unlock()
	delete(s.Runtime.nsPods, pod)
	return nil
}

// Pods lists the pods, in order.
func (s Sandboxes) Pods() ([]string, error) {
	s.Runtime.mu.Lock()
	defer s.Runtime.mu.Unlock()
	return slices.Sorted(maps.Keys(s.Runtime.nsPods)), nil
}
