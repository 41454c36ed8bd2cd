package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/node/runtime/container"
	"github.com/berthdev/berth/node/runtime/runtimetest"
	"golang.org/x/sys/unix"
)

// TestOpenStart plays the container's first process with a shell.
func TestOpenStart(t *testing.T) {
	for name, test := range map[string]struct {
		script string // $1 is the FIFO
		want   string
		left   bool // the FIFO is still there

		patience time.Duration // default: as long as a busy machine may take
	}{
		"waits":         {script: `printf 0 >"$1"; exec sleep 60`},
		"comes late":    {script: `sleep 0.3; printf 0 >"$1"; exec sleep 60`},
		"ends":          {script: `exit 1`, want: "its first process has ended", left: true},
		"never says so": {script: `exec sleep 60`, patience: time.Second, want: context.DeadlineExceeded.Error(), left: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fifo := filepath.Join(t.TempDir(), startFIFO)
			if err := unix.Mkfifo(fifo, 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("sh", "-c", test.script, "sh", fifo)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
			ctx, cancel := context.WithTimeout(t.Context(), cmp.Or(test.patience, 20*time.Second))
			defer cancel()
			err := openStart(ctx, fifo, cmd.Process.Pid)
			if got := fmt.Sprint(err); test.want == "" && err != nil || !strings.Contains(got, test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if _, err := os.Stat(fifo); test.left == errors.Is(err, os.ErrNotExist) {
				t.Errorf("the FIFO afterwards: %v", err)
			}
		})
	}
}

// TestInterruptedStart takes over a container whose agent died between recording
// the start and making it, and one whose agent died right after it: both run, and
// the second is not disturbed.
func TestInterruptedStart(t *testing.T) {
	c := testConfig(t)
	r := open(t, c)
	runtimetest.NewWorld(t, r)
	if !r.runc {
		t.Fatal("the OCI runtime is not known to be runc")
	}
	pids := map[string]int{}
	for _, name := range []string{"before", "after"} {
		s := container.Spec{Pod: container.Pod{Namespace: "default", Name: name}, Name: "tick", Image: runtimetest.Image, Args: []string{"tick"}}
		ctx := r.ns(t.Context())
		img, conf, err := r.image(ctx, s.Image)
		if err != nil {
			t.Fatal(err)
		}
		m := &monitor{id: r.containerID(s), signal: "SIGTERM", ended: make(chan struct{}), status: container.Status{Image: s.Image}}
		_, _, fifo, err := r.prepare(ctx, m, s, img, conf)
		if err != nil {
			t.Fatal(err)
		}
		if fifo == "" {
			t.Fatal("runc keeps no FIFO where it was looked for")
		}
		pids[name] = m.status.PID
		if name == "after" {
			if err := openStart(ctx, fifo, m.status.PID); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mkfifo(fifo, 0o600); err != nil { // it died before it removed this
				t.Fatal(err)
			}
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = open(t, c)
	defer r.Close()
	list, err := r.List(t.Context())
	if err != nil || len(list) != 2 {
		t.Fatalf("list %v, %v", list, err)
	}
	for _, s := range list {
		if s.State != container.Running || s.PID != pids[s.Pod.Name] {
			t.Errorf("pod %s: %s, process %d, want process %d running", s.Pod.Name, s.State, s.PID, pids[s.Pod.Name])
		}
		if fifo := r.startFile(s.ID); fifo != "" {
			t.Errorf("left: %s", fifo)
		}
		await(t, "the program's words", func() bool {
			for l, err := range r.Logs(t.Context(), container.LogQuery{Pod: s.Pod, Container: "tick"}) {
				return err == nil && l.Text == "tick 0"
			}
			return false
		})
		if out, err := r.Exec(t.Context(), s.ID, []string{"/program", "exit", "0"}, time.Minute); err != nil || out.ExitCode != 0 {
			t.Errorf("a command in it: %v, %v", out, err)
		}
		if err := r.Stop(t.Context(), s.ID, "", 0); err != nil {
			t.Error(err)
		}
	}
}

// TestMountsOfAPod counts what a running pod of one container adds to the node's
// mounts, which every start of another has to read.
func TestMountsOfAPod(t *testing.T) {
	c := testConfig(t)
	r := open(t, c)
	defer r.Close()
	runtimetest.NewWorld(t, r)
	ns, err := CreateNamespaces(filepath.Join(c.State, "ns", "one"), "one", false)
	if err != nil {
		t.Fatal(err)
	}
	before := mountsBelow(c.State)
	s, err := r.StartContainer(t.Context(), container.Spec{
		Pod: container.Pod{Namespace: "default", Name: "one"}, Name: "wait", Image: runtimetest.Image, Args: []string{"wait"},
		Namespaces: ns, Hostname: "one",
	})
	if err != nil {
		t.Fatal(err)
	}
	if after := mountsBelow(c.State); len(after) != len(before) {
		t.Errorf("mounts %v before and %v after the start", before, after)
	}
	if out, err := r.Exec(t.Context(), s.ID, []string{"/program", "hostname"}, time.Minute); err != nil || strings.TrimSpace(string(out.Stdout)) != "one" {
		t.Errorf("a command in it: %q, %v", out.Stdout, err)
	}
	if err := r.Remove(t.Context(), s.ID); err != nil {
		t.Error(err)
	}
	if err := RemoveNamespaces(filepath.Join(c.State, "ns", "one")); err != nil {
		t.Error(err)
	}
}
