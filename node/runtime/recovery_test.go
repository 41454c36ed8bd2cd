package runtime

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/berthdev/berth/node/runtime/container"
	"github.com/berthdev/berth/node/runtime/runtimetest"
)

// childRoot makes this test binary an agent that starts containers and is then
// killed: see TestKilledAgent.
const childRoot, childState = "BERTH_TEST_CHILD_ROOT", "BERTH_TEST_CHILD_STATE"

func TestMain(m *testing.M) {
	if root := os.Getenv(childRoot); root != "" {
		c := Config{Root: root, State: os.Getenv(childState), LogSize: 16 << 10, LogFiles: 1000}
		live := child
		if calls, err := strconv.ParseInt(os.Getenv(childDies), 10, 64); err == nil {
			live = func(c Config) error { return mortalChild(c, calls) }
		}
		if err := live(c); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(c Config) error {
	ctx := context.Background()
	r, err := Open(ctx, c)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(c.Root, "archive.tar"))
	if err != nil {
		return err
	}
	if _, err := r.ImportImage(ctx, bytes.NewReader(b)); err != nil {
		return err
	}
	for _, args := range [][]string{{"tick"}, {"wait"}} {
		s, err := r.StartContainer(ctx, container.Spec{Pod: orphanPod, Name: args[0], Image: runtimetest.Image, Args: args})
		if err != nil {
			return err
		}
		fmt.Println("started", s.PID)
	}
	select {}
}

var orphanPod = container.Pod{Namespace: "default", Name: "orphan", Created: 7}

// await polls a condition that nothing announces.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// expectTicks checks that no line of the program's "tick" was lost or doubled.
func expectTicks(t *testing.T, r *Runtime, pod container.Pod, atLeast int) {
	t.Helper()
	n := 0
	for l, err := range r.Logs(t.Context(), container.LogQuery{Pod: pod, Container: "tick"}) {
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("tick %d", n); l.Text != want {
			t.Fatalf("record %d is %q, want %q", n, l.Text, want)
		}
		n++
	}
	if n < atLeast {
		t.Errorf("%d ticks, want at least %d", n, atLeast)
	}
}

// TestKilledAgent kills an agent with kill -9. Its containers must not notice:
// same processes, complete logs; and ends that nobody saw are known.
func TestKilledAgent(t *testing.T) {
	c := testConfig(t)
	c.LogSize, c.LogFiles = 16<<10, 1000
	if err := os.MkdirAll(c.Root, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.Root, "archive.tar"), runtimetest.Archive(t, runtimetest.Image), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childRoot+"="+c.Root, childState+"="+c.State)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }) // if it is not killed below
	pids := make([]int, 2)
	lines := bufio.NewScanner(out)
	for i := range pids {
		if !lines.Scan() {
			t.Fatal("the agent ended early")
		}
		if _, err := fmt.Sscanf(lines.Text(), "started %d", &pids[i]); err != nil {
			t.Fatal(lines.Text())
		}
	}
	if _, err := Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second agent on the same directory: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if !alive(pids[0]) || !alive(pids[1]) {
		t.Fatal("the containers died with the agent")
	}
	if err := syscall.Kill(pids[1], syscall.SIGKILL); err != nil { // while nobody looks
		t.Fatal(err)
	}

	r := open(t, c)
	list, err := r.List(t.Context())
	if err != nil || len(list) != 2 {
		t.Fatalf("list %v, %v", list, err)
	}
	if s := list[0]; s.Name != "tick" || s.State != container.Running || s.PID != pids[0] || s.Pod != orphanPod {
		t.Errorf("running container %+v", s)
	}
	if s := list[1]; s.Name != "wait" || s.State != container.Exited || s.ExitCode != 137 {
		t.Errorf("ended container %+v", s)
	}
	if got, err := r.Exec(t.Context(), list[0].ID, []string{"/program", "exit", "4"}, 30*time.Second); err != nil || got.ExitCode != 4 {
		t.Errorf("exec in an adopted container: %+v, %v", got, err)
	}
	if err := r.Stop(t.Context(), list[0].ID, "", time.Second); err != nil {
		t.Fatal(err)
	}
	if e := <-r.Events(); e.Name != "tick" || e.Pod != orphanPod {
		t.Errorf("event %+v", e)
	}
	expectTicks(t, r, orphanPod, 10)
	if err := r.Purge(t.Context()); err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil { // closed again on the way out: once a panic
		t.Error(err)
	}
	expectNothingLeft(t, c)
}

// TestRestartedRuntime closes and opens again and again while a container logs.
func TestRestartedRuntime(t *testing.T) {
	c := testConfig(t)
	c.LogSize, c.LogFiles = 8<<10, 1000
	r := open(t, c)
	t.Cleanup(func() { r.Close() })
	p := runtimetest.NewWorld(t, r).For(t)
	s := p.Start(p.Spec("tick", "tick"))
	for range 4 {
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		r = open(t, c)
		p.Runtime = r
		p.AwaitLine("tick", "tick 5")
		if st, ok := p.Status(s.ID); !ok || st.State != container.Running || st.PID != s.PID {
			t.Fatalf("status %+v", st)
		}
	}
	if err := r.Stop(t.Context(), s.ID, "", time.Second); err != nil {
		t.Fatal(err)
	}
	expectTicks(t, r, p.Pod, 5)
}

// TestKilledContainerd kills the daemon under running containers.
func TestKilledContainerd(t *testing.T) {
	r := open(t, testConfig(t))
	t.Cleanup(func() { r.Close() })
	p := runtimetest.NewWorld(t, r).For(t)
	stays, ends := p.Start(p.Spec("stays", "wait")), p.Start(p.Spec("ends", "wait"))
	r.daemon.mu.Lock()
	daemonPID := r.daemon.cmd.Process.Pid
	r.daemon.mu.Unlock()
	if err := syscall.Kill(daemonPID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(ends.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if e := p.End(ends.ID); e.ExitCode != 137 {
		t.Errorf("event %+v", e)
	}
	await(t, "health", func() bool { return r.Health() == nil })
	if st, _ := p.Status(stays.ID); st.State != container.Running || !alive(stays.PID) {
		t.Errorf("containerd took a container with it: %+v", st)
	}
	if code, _ := p.Run(p.Spec("new", "exit", "5")); code != 5 {
		t.Errorf("after the restart: %d", code)
	}
	if err := p.Stop(t.Context(), stays.ID, "", time.Minute); err != nil {
		t.Error(err)
	}
	if e := p.End(stays.ID); e.ExitCode != 0 {
		t.Errorf("event %+v", e)
	}
}

// TestContainerdKilledWhileContainersStart: a start that fails because containerd
// goes, and cannot be cleaned away for the same reason, once left a container
// that ran beside its successor and that nobody knew of.
func TestContainerdKilledWhileContainersStart(t *testing.T) {
	r := open(t, testConfig(t))
	t.Cleanup(func() { r.Close() })
	w := runtimetest.NewWorld(t, r)
	const rounds, width = 3, 6
	var pods []container.Pod
	for round := range rounds {
		var group sync.WaitGroup
		for range width {
			p := w.For(t)
			pods = append(pods, p.Pod)
			group.Go(func() {
				spec := p.Spec("web", "wait")
				for spec.Attempt = 0; t.Context().Err() == nil; spec.Attempt++ { // as an agent does
					if _, err := r.StartContainer(t.Context(), spec); err == nil {
						return
					} else if spec.Attempt > 100 {
						t.Errorf("cannot be started: %v", err)
						return
					}
					await(t, "health", func() bool { return r.Health() == nil })
				}
			})
		}
		// In the middle of it: some have begun by now, others have not.
		await(t, "a process", func() bool { return len(r.cgroups.processes("")) > round*width })
		r.daemon.mu.Lock()
		pid := r.daemon.cmd.Process.Pid
		r.daemon.mu.Unlock()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		group.Wait()
		if n := len(r.cgroups.processes("")); n != len(pods) {
			t.Errorf("round %d: %d processes run for %d pods of one container", round, n, len(pods))
		}
	}
	for _, p := range pods {
		if err := r.RemovePod(t.Context(), p); err != nil {
			t.Error(err)
		}
	}
	if left := r.cgroups.processes(""); len(left) > 0 {
		t.Errorf("processes %v are left of removed pods", left)
	}
}

// TestKilledShim is what a machine's restart looks like, too: the task is gone.
func TestKilledShim(t *testing.T) {
	c := testConfig(t)
	r := open(t, c)
	t.Cleanup(func() { r.Close() })
	p := runtimetest.NewWorld(t, r).For(t)
	s := p.Start(p.Spec("web", "wait"))
	found := shims(r.cfg)
	if len(found) == 0 {
		t.Fatal("no shim found")
	}
	for _, pid := range found {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	p.End(s.ID)
	next := p.Spec("web", "say", "back")
	next.Attempt = 1
	if code, log := p.Run(next); code != 0 || len(log) != 1 {
		t.Errorf("next attempt: %d, %q", code, log)
	}
}

func TestOneShimPerPod(t *testing.T) {
	r := open(t, testConfig(t))
	t.Cleanup(func() { r.Close() })
	p := runtimetest.NewWorld(t, r).For(t)
	for _, name := range []string{"a", "b", "c"} {
		p.Start(p.Spec(name, "wait"))
	}
	if n := len(shims(r.cfg)); n != 1 {
		t.Errorf("%d shims for one pod", n)
	}
	if err := r.RemovePod(t.Context(), p.Pod); err != nil {
		t.Fatal(err)
	}
	await(t, "the shim's end", func() bool { return len(shims(r.cfg)) == 0 })
}

// TestPurgeWithoutContainerd purges what runs when the daemon cannot be had.
func TestPurgeWithoutContainerd(t *testing.T) {
	c := testConfig(t)
	r := open(t, c)
	t.Cleanup(func() { r.Close() })
	p := runtimetest.NewWorld(t, r).For(t)
	s := p.Start(p.Spec("web", "stubborn"))
	if _, err := CreateNamespaces(filepath.Join(c.State, "ns", "left"), "left", true); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if !alive(s.PID) {
		t.Fatal("Close ended the container")
	}
	broken := c
	broken.Containerd = "/no/such/containerd"
	if err := Purge(t.Context(), broken); err != nil {
		t.Fatal(err)
	}
	await(t, "the container's end", func() bool { return !alive(s.PID) })
	expectNothingLeft(t, c)
	r = open(t, c) // what containerd still remembers is settled
	p.Runtime = r
	if st, ok := p.Status(s.ID); !ok || st.State != container.Exited || st.ExitCode != -1 {
		t.Errorf("status after the purge: %+v", st)
	}
}

func TestUnavailable(t *testing.T) {
	c := testConfig(t)
	for what, change := range map[string]func(*Config){
		"containerd": func(c *Config) { c.Containerd = "no-such-containerd" },
		"runc":       func(c *Config) { c.RuntimeBinary = "no-such-runc" },
		"broken":     func(c *Config) { c.Containerd = "false" },
	} {
		bad := c
		change(&bad)
		r, err := Open(t.Context(), bad)
		var u *container.UnavailableError
		if !errors.As(err, &u) || u.Hint == "" {
			t.Errorf("%s: %v, want an error with a cure", what, err)
		}
		if err == nil {
			r.Close()
		}
	}
	bad := c
	bad.State = "/run/" + strings.Repeat("x", 80)
	if _, err := Open(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("a long path: %v", err)
	}
}
