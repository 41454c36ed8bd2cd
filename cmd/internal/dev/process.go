//go:build linux

package dev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
)

// Process identifies a process for good: a pid alone may be somebody else's by
// the time we look again.
type Process struct {
	PID   int    `json:"pid,omitempty"`
	Start string `json:"start,omitempty"` // start time in clock ticks since boot, from /proc
}

// start runs a command inside the host's network namespace, detached from this
// terminal, its output appended to the host's log.
func (c *Cluster) start(h *Host, argv, env []string) error {
	log, err := os.OpenFile(c.LogFile(h), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = c.Dir
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	errc := make(chan error, 1)
	go func() {
		// A child inherits the namespace of the thread that forks it; the thread
		// is thrown away with this goroutine.
		runtime.LockOSThread()
		ns, err := netns.GetFromName(c.netns(h.Name))
		if err == nil {
			err = netns.Set(ns)
			ns.Close()
		}
		if err == nil {
			err = cmd.Start()
		}
		errc <- err
	}()
	if err := <-errc; err != nil {
		return fmt.Errorf("starting %s: %w", h.Name, err)
	}
	start, err := startTime(cmd.Process.Pid)
	if err != nil {
		return err
	}
	h.Process = Process{PID: cmd.Process.Pid, Start: start}
	go func() { _ = cmd.Wait() }() // reap it if it ends before we do
	return c.save()
}

// Alive reports whether the very process still runs.
func (p Process) Alive() bool {
	if p.PID == 0 {
		return false
	}
	start, err := startTime(p.PID)
	return err == nil && start == p.Start
}

// startTime is field 22 of /proc/PID/stat; a zombie counts as gone.
func startTime(pid int) (string, error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return "", err
	}
	_, rest, ok := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if !ok || len(f) < 20 || f[0] == "Z" {
		return "", os.ErrProcessDone
	}
	return f[19], nil
}

// end asks the process to end, and makes it end when ctx is over. It returns
// when the process is gone.
func (p Process) end(ctx context.Context, sig syscall.Signal) error {
	if !p.Alive() {
		return nil
	}
	if err := syscall.Kill(p.PID, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for p.Alive() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return err
			}
			ctx = context.Background() // nothing survives that signal: only wait
		}
	}
	return nil
}

// family finds the processes that belong to a directory by their command line:
// a node's containerd and its shims, with everything they started. It is how a
// host loses power.
func family(dir string) []int {
	children := map[int][]int{}
	var roots []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, s := range stats {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(s)))
		b, err := os.ReadFile(s)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		if f := strings.Fields(rest); len(f) > 1 {
			ppid, _ := strconv.Atoi(f[1])
			children[ppid] = append(children[ppid], pid)
		}
		args, err := os.ReadFile(filepath.Join(filepath.Dir(s), "cmdline"))
		if err == nil && pid != os.Getpid() && strings.Contains(string(args), dir+"/") {
			roots = append(roots, pid)
		}
	}
	var out []int
	seen := map[int]bool{os.Getpid(): true}
	for len(roots) > 0 {
		pid := roots[0]
		roots = roots[1:]
		if seen[pid] {
			continue
		}
		seen[pid] = true
		out = append(out, pid)
		roots = append(roots, children[pid]...)
	}
	return out
}
