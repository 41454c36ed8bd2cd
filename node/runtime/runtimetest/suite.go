// Package runtimetest is what every container runtime must do, as a test suite:
// run by package runtime on containerd, and by others who claim to be one. It
// builds its own image, a static Go program, so it needs neither a registry nor
// the network.
package runtimetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berthdev/berth/node/ociarchive"
	"github.com/berthdev/berth/node/runtime/container"
)

// Image is the name of the image that Archive makes.
const Image = "berth-test/program:1"

// patience is how long the suite waits for what must happen.
const patience = 30 * time.Second

var buildProgram = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "berth-program-")
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "program")
	cmd := exec.Command("go", "build", "-o", out, "github.com/berthdev/berth/node/runtime/runtimetest/program")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the test program: %w\n%s", err, b)
	}
	return out, nil
})

// Program is the path of the test program on this machine.
func Program(t testing.TB) string {
	t.Helper()
	path, err := buildProgram()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Archive is an OCI archive with the test program under the given name.
func Archive(t testing.TB, name string) []byte {
	t.Helper()
	var b bytes.Buffer
	err := ociarchive.Write(&b, name, Program(t), ociarchive.Config{
		Env: []string{"FROM=image", "BOTH=image"},
		Files: map[string][]byte{
			"/etc/passwd": []byte("root:x:0:0::/:\nalice:x:1234:2345::/:\n"),
			"/etc/group":  []byte("root:x:0:\nalice:x:2345:\nextra:x:3456:alice\n"),
			"/data/file":  []byte("of the image\n"),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// World is a runtime under test with what the suite does to it.
type World struct {
	testing.TB
	container.Runtime
	// Namespaces makes a pod's namespaces; nil lets each container have its own.
	Namespaces func(t testing.TB, hostname string) container.Namespaces

	mu   sync.Mutex
	seen map[string]container.Event
	news chan struct{}
}

var podNumber atomic.Uint64

// NewWorld imports the test image and begins to read events.
func NewWorld(t testing.TB, r container.Runtime) *World {
	t.Helper()
	w := &World{TB: t, Runtime: r, seen: map[string]container.Event{}, news: make(chan struct{})}
	go func() {
		for e := range r.Events() {
			w.mu.Lock()
			if old, twice := w.seen[e.ID]; twice {
				t.Errorf("the end of %s was told twice: %v, %v", e.ID, old, e)
			}
			w.seen[e.ID] = e
			close(w.news)
			w.news = make(chan struct{})
			w.mu.Unlock()
		}
	}()
	names, err := r.ImportImage(t.Context(), bytes.NewReader(Archive(t, Image)))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"docker.io/" + Image}; !slices.Equal(names, want) {
		t.Fatalf("imported %q, want %q", names, want)
	}
	return w
}

// For is the same world in a sub-test.
func (w *World) For(t testing.TB) *Pod {
	p := container.Pod{Namespace: "default", Name: fmt.Sprintf("pod-%d", podNumber.Add(1)), Created: podNumber.Load() + 100}
	pod := &Pod{World: w, TB: t, Pod: p}
	t.Cleanup(func() {
		if err := w.RemovePod(context.Background(), p); err != nil {
			t.Errorf("remove pod: %v", err)
		}
	})
	return pod
}

// Pod is one pod in a sub-test.
type Pod struct {
	*World
	testing.TB
	Pod container.Pod
}

// Spec is a container that runs the program with arguments.
func (p *Pod) Spec(name string, args ...string) container.Spec {
	return container.Spec{Pod: p.Pod, Name: name, Image: Image, Args: args}
}

// Start starts a container.
func (p *Pod) Start(s container.Spec) container.Started {
	p.TB.Helper()
	started, err := p.StartContainer(p.TB.Context(), s)
	if err != nil {
		p.TB.Fatal(err)
	}
	return started
}

// End waits for the end of a container.
func (p *Pod) End(id string) container.Event {
	p.TB.Helper()
	limit := time.After(patience)
	for {
		p.mu.Lock()
		e, ok := p.seen[id]
		news := p.news
		p.mu.Unlock()
		if ok {
			return e
		}
		select {
		case <-news:
		case <-limit:
			p.TB.Fatalf("the end of %s was not told within %s", id, patience)
		}
	}
}

// Log is the text of a container's log.
func (p *Pod) Log(q container.LogQuery) []string {
	p.TB.Helper()
	q.Pod = p.Pod
	var out []string
	for l, err := range p.Logs(p.TB.Context(), q) {
		if err != nil {
			p.TB.Fatal(err)
		}
		out = append(out, l.Text)
	}
	return out
}

// AwaitLine follows the log until a line appears.
func (p *Pod) AwaitLine(name, text string) {
	p.TB.Helper()
	ctx, cancel := context.WithTimeout(p.TB.Context(), patience)
	defer cancel()
	for l, err := range p.Logs(ctx, container.LogQuery{Pod: p.Pod, Container: name, Follow: true}) {
		if err != nil {
			p.TB.Fatal(err)
		}
		if l.Text == text {
			return
		}
	}
	p.TB.Fatalf("container %s did not write %q", name, text)
}

// Run runs a container to its end.
func (p *Pod) Run(s container.Spec) (exit int, log []string) {
	p.TB.Helper()
	e := p.End(p.Start(s).ID)
	return e.ExitCode, p.Log(container.LogQuery{Container: s.Name})
}

// Status is what List says of a container.
func (p *Pod) Status(id string) (container.Status, bool) {
	p.TB.Helper()
	list, err := p.List(p.TB.Context())
	if err != nil {
		p.TB.Fatal(err)
	}
	for _, s := range list {
		if s.ID == id {
			return s, true
		}
	}
	return container.Status{}, false
}

// Suite runs everything. The runtime must be empty, and is after it.
func Suite(t *testing.T, open func(t *testing.T) container.Runtime, namespaces func(t testing.TB, hostname string) container.Namespaces) {
	w := NewWorld(t, open(t))
	w.Namespaces = namespaces
	for _, group := range []map[string]func(*Pod){lifeTests, logTests, execTests, imageTests, kernelTests} {
		names := make([]string, 0, len(group))
		for name := range group {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			t.Run(name, func(t *testing.T) { group[name](w.For(t)) })
		}
	}
	if list, err := w.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("left behind: %v, %v", list, err)
	}
}

var lifeTests = map[string]func(*Pod){
	"LifeRunning": func(p *Pod) {
		s := p.Start(p.Spec("web", "wait"))
		if s.ID == "" || s.PID == 0 || !strings.HasPrefix(s.Digest, "sha256:") || !strings.HasSuffix(s.Image, "@"+s.Digest) {
			p.Errorf("started %+v", s)
		}
		got, ok := p.Status(s.ID)
		if !ok || got.State != container.Running || got.Pod != p.Pod || got.Name != "web" || got.PID != s.PID || got.Started.IsZero() || got.Image != s.Image {
			p.Errorf("status %+v, started %+v", got, s)
		}
		stats, err := p.Stats(p.TB.Context(), s.ID)
		if err != nil || stats.Memory <= 0 || stats.PIDs <= 0 {
			p.Errorf("stats %+v, %v", stats, err)
		}
	},
	"LifeStartAgain": func(p *Pod) {
		first, second := p.Start(p.Spec("web", "wait")), p.Start(p.Spec("web", "wait"))
		if first.ID != second.ID || first.PID != second.PID {
			p.Errorf("a repeated start gave %+v, then %+v", first, second)
		}
	},
	"LifeExitCode": func(p *Pod) {
		s := p.Start(p.Spec("job", "exit", "7"))
		e := p.End(s.ID)
		if e.ExitCode != 7 || e.OOM || e.Pod != p.Pod || e.Name != "job" || e.Time.IsZero() {
			p.Errorf("event %+v", e)
		}
		if st, ok := p.Status(s.ID); !ok || st.State != container.Exited || st.ExitCode != 7 || st.Finished.IsZero() || st.PID != 0 {
			p.Errorf("status %+v", st)
		}
		if _, err := p.StartContainer(p.TB.Context(), p.Spec("job", "exit", "7")); err == nil {
			p.Error("an attempt that has ended was started again")
		}
		next := p.Spec("job", "exit", "8")
		next.Attempt = 1
		if code, _ := p.Run(next); code != 8 {
			p.Errorf("the next attempt gave %d", code)
		}
	},
	"LifeStopAsks": func(p *Pod) {
		s := p.Start(p.Spec("web", "wait"))
		p.AwaitLine("web", "ready")
		if err := p.Stop(p.TB.Context(), s.ID, "", time.Minute); err != nil {
			p.Fatal(err)
		}
		if st, _ := p.Status(s.ID); st.State != container.Exited || st.ExitCode != 0 {
			p.Errorf("after Stop: %+v", st)
		}
		if log := p.Log(container.LogQuery{Container: "web"}); !slices.Equal(log, []string{"ready", "got terminated"}) {
			p.Errorf("log %q", log)
		}
		if err := p.Stop(p.TB.Context(), s.ID, "", time.Minute); err != nil {
			p.Errorf("stopping what has stopped: %v", err)
		}
	},
	"LifeStopSignals": func(p *Pod) {
		for i, c := range []struct{ own, given, want string }{{"SIGQUIT", "", "got quit"}, {"SIGQUIT", "USR1", "got user defined signal 1"}} {
			spec := p.Spec("web", "wait")
			spec.StopSignal, spec.Attempt = c.own, i
			s := p.Start(spec)
			p.AwaitLine("web", "ready")
			if err := p.Stop(p.TB.Context(), s.ID, c.given, time.Minute); err != nil {
				p.Fatal(err)
			}
			if log := p.Log(container.LogQuery{Container: "web", Tail: 1}); !slices.Equal(log, []string{c.want}) {
				p.Errorf("log %q, want %q", log, c.want)
			}
		}
	},
	"LifeSignal": func(p *Pod) {
		s := p.Start(p.Spec("web", "wait"))
		p.AwaitLine("web", "ready")
		if err := p.Signal(p.TB.Context(), s.ID, "SIGWHAT"); err == nil {
			p.Error("sent a signal that there is not")
		}
		if err := p.Signal(p.TB.Context(), s.ID, "SIGUSR2"); err != nil { // for which it has no handler
			p.Fatal(err)
		}
		if err := p.Signal(p.TB.Context(), s.ID, "SIGHUP"); err != nil {
			p.Fatal(err)
		}
		if e := p.End(s.ID); e.ExitCode != 0 {
			p.Errorf("event %+v", e)
		}
		if log := p.Log(container.LogQuery{Container: "web", Tail: 1}); !slices.Equal(log, []string{"got hangup"}) {
			p.Errorf("log %q", log)
		}
		if err := p.Signal(p.TB.Context(), s.ID, "SIGHUP"); err != nil {
			p.Errorf("one that has ended: %v", err)
		}
	},
	"LifeStopKills": func(p *Pod) {
		s := p.Start(p.Spec("web", "stubborn"))
		p.AwaitLine("web", "ready")
		if err := p.Stop(p.TB.Context(), s.ID, "", 50*time.Millisecond); err != nil {
			p.Fatal(err)
		}
		if e := p.End(s.ID); e.ExitCode != 137 || e.OOM {
			p.Errorf("event %+v, want 137", e)
		}
	},
	"LifeRemove": func(p *Pod) {
		s := p.Start(p.Spec("web", "wait"))
		p.AwaitLine("web", "ready")
		for range 2 {
			if err := p.Remove(p.TB.Context(), s.ID); err != nil {
				p.Fatal(err)
			}
		}
		if _, ok := p.Status(s.ID); ok {
			p.Error("still listed")
		}
		if log := p.Log(container.LogQuery{Container: "web"}); len(log) == 0 {
			p.Error("the log went with the container")
		}
		if err := p.RemovePod(p.TB.Context(), p.Pod); err != nil {
			p.Fatal(err)
		}
		for _, err := range p.Logs(p.TB.Context(), container.LogQuery{Pod: p.Pod, Container: "web"}) {
			var missing *container.NotFoundError
			if !errors.As(err, &missing) {
				p.Errorf("log of a removed pod: %v", err)
			}
		}
	},
	"LifeBadSpec": func(p *Pod) {
		for what, change := range map[string]func(*container.Spec){
			"signal":  func(s *container.Spec) { s.StopSignal = "SIGWHAT" },
			"name":    func(s *container.Spec) { s.Name = "../x" },
			"image":   func(s *container.Spec) { s.Image = "berth-test/nothing:1" },
			"command": func(s *container.Spec) { s.Command = []string{"/no/such/program"} },
			"mount": func(s *container.Spec) {
				s.Mounts = []container.Mount{{Source: "/no/such/dir", Target: "/data"}}
			},
			"user": func(s *container.Spec) { s.User = "nobody-here" },
			"env":  func(s *container.Spec) { s.Env = []string{"WITHOUT"} },
		} {
			s := p.Spec("web", "wait")
			change(&s)
			if _, err := p.StartContainer(p.TB.Context(), s); err == nil {
				p.Errorf("a wrong %s was taken", what)
			}
		}
		if list, _ := p.List(p.TB.Context()); len(list) != 0 {
			p.Errorf("left behind: %v", list)
		}
		p.Start(p.Spec("web", "wait")) // and it is not spoilt by that
	},
	"LifeSeveral": func(p *Pod) {
		init := p.Spec("init", "say", "first")
		if code, _ := p.Run(init); code != 0 {
			p.Errorf("init container ended with %d", code)
		}
		a, b := p.Start(p.Spec("a", "wait")), p.Start(p.Spec("b", "wait"))
		if err := p.Stop(p.TB.Context(), a.ID, "", time.Minute); err != nil {
			p.Fatal(err)
		}
		if st, _ := p.Status(b.ID); st.State != container.Running {
			p.Errorf("the end of one container disturbed another: %+v", st)
		}
		next := p.Spec("a", "wait")
		next.Attempt = 1
		p.Start(next)
	},
}
