package runtime

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Purge removes every container of this runtime by force, with its namespaces,
// mounts, control groups and sockets, then closes the runtime and, if containerd
// is private, ends it and removes State. Images and logs below Root stay; who
// wants them gone too removes Root afterwards.
func (r *Runtime) Purge(ctx context.Context) error {
	var errs []error
	list, err := r.List(ctx)
	errs = append(errs, err)
	for _, s := range list {
		limit, cancel := context.WithTimeout(ctx, 20*time.Second)
		errs = append(errs, r.Remove(limit, s.ID))
		cancel()
	}
	errs = append(errs, r.Close())
	if err := sweep(r.cfg, r.cgroups); err != nil {
		return errors.Join(append(errs, err)...)
	}
	if r.cfg.Socket == "" {
		return nil // whatever went wrong above, nothing is left
	}
	return errors.Join(errs...)
}

// Purge does the same for a runtime that is not open, and works also when
// containerd is missing or broken. With a foreign containerd it needs that one
// to answer.
func Purge(ctx context.Context, cfg Config) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	if _, err := os.Stat(cfg.Root); err != nil {
		return sweep(cfg, detectCgroups(cfg.cgroupParent()))
	}
	r, err := Open(ctx, cfg)
	if err == nil {
		return r.Purge(ctx)
	}
	if cfg.Socket != "" {
		return err
	}
	lock, err := lockRoot(cfg.Root)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := endStale(ctx, cfg); err != nil {
		return err
	}
	return sweep(cfg, detectCgroups(cfg.cgroupParent()))
}

// Sweep removes by the kernel's means alone what a runtime that is not open has left
// running or mounted: for one whose Root is about to go. With a foreign containerd
// its records stay.
func Sweep(cfg Config) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	return sweep(cfg, detectCgroups(cfg.cgroupParent()))
}

// sweep removes by the kernel's means what containerd has not: processes in our
// control groups, shims, mounts, groups, sockets.
func sweep(cfg Config, c cgroups) error {
	var errs []error
	errs = append(errs, endProcesses(func() []int { return c.processes("") }))
	if cfg.Socket == "" {
		sockets := shimSockets(cfg)
		errs = append(errs, endProcesses(func() []int { return shims(cfg) }))
		for _, s := range sockets {
			_ = os.Remove(s)
		}
	}
	errs = append(errs, unmountBelow(cfg.State), unmountBelow(cfg.Root), c.remove())
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if cfg.Socket != "" {
		for _, d := range []string{filepath.Join(cfg.runcRoot(), cfg.Namespace), cfg.runcRoot(), filepath.Join(cfg.State, "exec"), filepath.Join(cfg.State, "ns"), cfg.State} {
			_ = os.Remove(d) // if nobody keeps anything in it
		}
		return nil
	}
	if err := releaseState(cfg.State); err != nil {
		return err
	}
	return os.RemoveAll(cfg.State)
}

// endProcesses kills what find finds until it finds nothing.
func endProcesses(find func() []int) error {
	for deadline := time.Now().Add(10 * time.Second); ; {
		pids := find()
		if len(pids) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v do not end", pids)
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// shims are the processes of our containerd's shims.
func shims(cfg Config) []int {
	var out []int
	entries, _ := os.ReadDir("/proc")
	want := []byte("\x00-address\x00" + cfg.address() + "\x00")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && bytes.Contains(b, []byte("containerd-shim")) && bytes.Contains(b, want) {
			out = append(out, pid)
		}
	}
	return out
}

// shimSockets are those named in the bundles that are there.
func shimSockets(cfg Config) []string {
	bundles, _ := filepath.Glob(filepath.Join(cfg.daemonState(), shimBundle, "*", "*"))
	var out []string
	for _, b := range bundles {
		if path, ok := strings.CutPrefix(shimAddress(b).Address, "unix://"); ok && !slices.Contains(out, path) {
			out = append(out, path)
		}
	}
	return out
}

// unmountBelow unmounts everything below a directory, the last mounted first.
func unmountBelow(dir string) error {
	var errs []error
	for _, m := range slices.Backward(mountsBelow(dir)) {
		if err := unix.Unmount(m, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", m, err))
		}
	}
	return errors.Join(errs...)
}

// mountsBelow lists the mount points below a directory in the order in which
// they were mounted.
func mountsBelow(dir string) []string {
	var out []string
	for _, m := range mounts() {
		if strings.HasPrefix(m.path, dir+"/") {
			out = append(out, m.path)
		}
	}
	return out
}

type mount struct{ path, source string }

// mounts lists what is mounted, in the order in which it was.
func mounts() []mount {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	defer f.Close()
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var out []mount
	for s := bufio.NewScanner(f); s.Scan(); {
		// id parent device root path options [tags] - type source options
		before, after, ok := strings.Cut(s.Text(), " - ")
		head, tail := strings.Fields(before), strings.Fields(after)
		if ok && len(head) > 4 && len(tail) > 1 {
			out = append(out, mount{path: unescape.Replace(head[4]), source: unescape.Replace(tail[1])})
		}
	}
	return out
}
