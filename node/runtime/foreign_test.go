package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/berthdev/berth/node/runtime/container"
	"github.com/berthdev/berth/node/runtime/runtimetest"
)

// somebodys is a containerd that is not the runtime's: with its CRI plugin, as
// kubelets and packages run it.
type somebodys struct {
	t      *testing.T
	dir    string
	state  string
	config string
	cmd    *exec.Cmd
}

// configVersions are the versions of configuration files that the installed
// containerd reads, without the first, which none of those we support needs.
func configVersions(t *testing.T) []int {
	t.Helper()
	needContainers(t)
	out, err := exec.CommandContext(t.Context(), "containerd", "config", "default").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if n, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "version ="))); err == nil {
			var all []int
			for v := 2; v <= n; v++ {
				all = append(all, v)
			}
			return all
		}
	}
	t.Fatalf("no version in containerd's default configuration:\n%s", out)
	return nil
}

func newSomebodys(t *testing.T, version int) *somebodys {
	t.Helper()
	s := &somebodys{t: t, dir: t.TempDir(), state: "/run/berth-test-" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(stateNumber.Add(1), 10)}
	if err := os.MkdirAll(s.state, 0o711); err != nil {
		t.Fatal(err)
	}
	s.config = filepath.Join(s.dir, "config.toml")
	text := fmt.Sprintf("version = %d\nroot = %q\nstate = %q\n", version, filepath.Join(s.dir, "root"), filepath.Join(s.state, "state"))
	// What lies outside these directories is not the test's to touch.
	text += "disabled_plugins = [\"io.containerd.nri.v1.nri\", \"io.containerd.internal.v1.opt\"]\n"
	if version < 4 {
		text += fmt.Sprintf("[grpc]\n  address = %q\n", s.socket())
	} else {
		text += fmt.Sprintf("[plugins.'io.containerd.server.v1.grpc']\n  address = %q\n[plugins.'io.containerd.server.v1.ttrpc']\n  address = %q\n", s.socket(), s.socket()+".ttrpc")
	}
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	t.Cleanup(func() {
		s.kill(syscall.SIGTERM)
		for _, dir := range []string{s.state, s.dir} {
			if err := unmountBelow(dir); err != nil {
				t.Error(err)
			}
		}
		if err := os.RemoveAll(s.state); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *somebodys) socket() string { return filepath.Join(s.state, "containerd.sock") }

func (s *somebodys) start() {
	s.t.Helper()
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.cmd = exec.Command("containerd", "--config", s.config, "--log-level", "warn")
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	await(s.t, "the socket of somebody's containerd", func() bool {
		_, err := os.Stat(s.socket())
		return err == nil
	})
}

func (s *somebodys) kill(sig syscall.Signal) {
	_ = s.cmd.Process.Signal(sig)
	_ = s.cmd.Wait()
}

// node is a runtime on it.
func (s *somebodys) node(namespace string) Config {
	c := Config{
		Root:  filepath.Join(s.t.TempDir(), "root"),
		State: "/run/berth-test-" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(stateNumber.Add(1), 10), Socket: s.socket(), Namespace: namespace,
	}
	if testing.Verbose() {
		c.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	s.t.Cleanup(func() {
		if err := Purge(context.Background(), c); err != nil {
			s.t.Errorf("purge: %v", err)
		}
		if err := os.RemoveAll(c.State); err != nil {
			s.t.Error(err)
		}
	})
	return c
}

// TestSomebodysContainerd shares one with another node and with whoever else has
// things in it, in every version of configuration that it reads.
func TestSomebodysContainerd(t *testing.T) {
	for _, version := range configVersions(t) {
		t.Run(fmt.Sprintf("configuration %d", version), func(t *testing.T) {
			daemon := newSomebodys(t, version)
			c := daemon.node("")
			ours, neighbour, others := open(t, c), open(t, daemon.node("")), open(t, daemon.node("k8s.io"))
			var pods []*runtimetest.Pod
			for _, r := range []*Runtime{ours, neighbour, others} {
				t.Cleanup(func() { r.Close() })
				p := runtimetest.NewWorld(t, r).For(t)
				p.Start(p.Spec("stays", "wait"))
				pods = append(pods, p)
			}
			started := map[int]container.Status{}
			for i, p := range pods {
				list, err := p.List(t.Context())
				if err != nil || len(list) != 1 {
					t.Fatalf("node %d lists %v, %v", i, list, err)
				}
				started[i] = list[0]
			}
			expectRunning := func(what string, which ...int) {
				t.Helper()
				for _, i := range which {
					if now, ok := pods[i].Status(started[i].ID); !ok || now.State != container.Running || now.PID != started[i].PID || !alive(now.PID) {
						t.Errorf("%s: node %d has %+v, had %+v", what, i, now, started[i])
					}
				}
			}
			if code, log := pods[0].Run(pods[0].Spec("says", "say", "hello")); code != 0 || !slices.Equal(log, []string{"hello"}) {
				t.Errorf("ended with %d and said %q", code, log)
			}

			// The image that the neighbour still needs is not garbage.
			list, err := ours.List(t.Context())
			if err != nil || len(list) != 2 {
				t.Fatalf("%v, %v", list, err)
			}
			for _, x := range list {
				if err := ours.Remove(t.Context(), x.ID); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := ours.Collect(t.Context(), CollectPolicy{}); err != nil || len(got.Images) > 0 {
				t.Errorf("collected %+v, %v", got, err)
			}
			again := pods[0].Spec("stays", "wait")
			again.Attempt = 1
			pods[0].Start(again)
			if list, err = ours.List(t.Context()); err != nil || len(list) != 1 {
				t.Fatalf("%v, %v", list, err)
			}
			started[0] = list[0]

			job := pods[0].Start(pods[0].Spec("job", "wait"))
			pods[0].AwaitLine("job", "ready")
			daemon.kill(syscall.SIGKILL)
			if err := ours.Health(); err == nil {
				t.Error("healthy without containerd")
			}
			var u *container.UnavailableError
			if _, err := Open(t.Context(), daemon.node("")); !errors.As(err, &u) || u.Hint == "" {
				t.Errorf("a node without its containerd: %v", err)
			}
			if err := syscall.Kill(job.PID, syscall.SIGTERM); err != nil { // and does its work while nobody looks
				t.Fatal(err)
			}
			await(t, "the job's end", func() bool { rec, _ := ours.records.load(job.ID); return rec.Exited })
			daemon.start()
			if e := pods[0].End(job.ID); e.ExitCode != 0 {
				t.Errorf("the job ended with %+v", e)
			}
			await(t, "health", func() bool { return ours.Health() == nil && neighbour.Health() == nil })
			expectRunning("containerd was killed", 0, 1, 2)
			if code, _ := pods[0].Run(pods[0].Spec("new", "exit", "5")); code != 5 {
				t.Errorf("after the restart: %d", code)
			}

			if err := ours.Close(); err != nil {
				t.Fatal(err)
			}
			ours = open(t, c)
			t.Cleanup(func() { ours.Close() })
			if !alive(started[0].PID) {
				t.Error("the container ended with its agent")
			}
			pods[0].Runtime = ours
			expectRunning("the agent is another", 0, 1, 2)
			if err := ours.Purge(t.Context()); err != nil {
				t.Error(err)
			}
			await(t, "the container's end", func() bool { return !alive(started[0].PID) })
			expectRunning("a neighbour was purged", 1, 2)
		})
	}
}
