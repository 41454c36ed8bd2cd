package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/berthdev/berth/node/runtime/container"
	"golang.org/x/sys/unix"
)

const (
	installHint   = "install them with: apt-get install containerd runc"
	daemonStart   = 30 * time.Second // until its socket answers
	daemonStop    = 10 * time.Second // between SIGTERM and SIGKILL
	daemonLogSize = 16 << 20
	restartMin    = 100 * time.Millisecond
	restartMax    = 10 * time.Second
	restartForget = time.Minute // a life longer than this resets the back-off
)

// daemon is a private containerd. It is a child without ties: when this process
// is killed it lives on, and the next agent replaces it, which does not disturb
// containers, for these belong to their shims.
type daemon struct {
	cfg  Config
	path string
	log  *slog.Logger
	// before is called before each start, when no containerd runs.
	before func()
	stopping,
	ended chan struct{}
	once sync.Once

	mu   sync.Mutex
	cmd  *exec.Cmd
	exit chan struct{} // closed when cmd has ended
	err  error         // why it is down now
}

func (c Config) daemonConfig() string { return filepath.Join(c.State, "containerd.toml") }
func (c Config) daemonPID() string    { return filepath.Join(c.State, "containerd.pid") }
func (c Config) daemonLog() string    { return filepath.Join(c.Root, "containerd.log") }
func (c Config) daemonState() string  { return filepath.Join(c.State, "containerd") }

func startDaemon(ctx context.Context, cfg Config, before func()) (*daemon, error) {
	path, err := exec.LookPath(cfg.Containerd)
	if err != nil {
		return nil, &container.UnavailableError{Message: "containerd is not installed", Err: err, Hint: installHint}
	}
	if _, err := exec.LookPath("containerd-shim-runc-v2"); err != nil {
		return nil, &container.UnavailableError{Message: "containerd's shim is not installed", Err: err, Hint: installHint}
	}
	d := &daemon{cfg: cfg, path: path, log: cfg.Logger, before: before, stopping: make(chan struct{}), ended: make(chan struct{})}
	if err := os.MkdirAll(cfg.daemonState(), 0o711); err != nil {
		return nil, err
	}
	if err := os.WriteFile(cfg.daemonConfig(), []byte(cfg.toml()), 0o600); err != nil {
		return nil, fmt.Errorf("containerd's configuration: %w", err)
	}
	if err := endStale(ctx, cfg); err != nil {
		return nil, err
	}
	if err := d.launch(); err != nil {
		return nil, err
	}
	if err := d.await(ctx); err != nil {
		close(d.ended)
		d.once.Do(func() { close(d.stopping) })
		d.end()
		return nil, err
	}
	go d.supervise()
	return d, nil
}

// toml leaves out what is not used, and "opt" for what it does: it makes the
// dynamic linker look for every library of every shim and OCI runtime below
// /opt/containerd, and in the working directory, first. A plug-in that has another
// name in another release has both here. Every release since 1.6 reads version 2;
// later ones say in their log that they migrate it.
func (c Config) toml() string {
	return fmt.Sprintf(`# written by berth at every start
version = 2
root = %q
state = %q
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
  "io.containerd.podsandbox.controller.v1.podsandbox", "io.containerd.sandbox.controller.v1.podsandbox",
  "io.containerd.internal.v1.restart", "io.containerd.monitor.container.v1.restart",
  "io.containerd.internal.v1.tracing", "io.containerd.image-verifier.v1.bindir",
  "io.containerd.internal.v1.opt",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.nri.v1.nri",
  "io.containerd.monitor.v1.cgroups", "io.containerd.monitor.task.v1.cgroups",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.erofs", "io.containerd.differ.v1.erofs",
]

[grpc]
  address = %q
`, filepath.Join(c.Root, "containerd"), c.daemonState(), c.address())
}

// endStale ends the containerd that an earlier agent left.
func endStale(ctx context.Context, cfg Config) error {
	b, err := os.ReadFile(cfg.daemonPID())
	if err != nil {
		return nil
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || !ourDaemon(pid, cfg) {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil // ended meanwhile
	}
	defer unix.Close(fd)
	if !ourDaemon(pid, cfg) {
		return nil // the number went to another process before we held it
	}
	for _, s := range []struct {
		signal unix.Signal
		wait   time.Duration
	}{{unix.SIGTERM, daemonStop}, {unix.SIGKILL, daemonStop}} {
		_ = unix.PidfdSendSignal(fd, s.signal, nil, 0)
		deadline := time.Now().Add(s.wait)
		for time.Now().Before(deadline) {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 50)
			if n > 0 && err == nil {
				return nil
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	return &container.UnavailableError{Message: fmt.Sprintf("an old containerd (process %d) does not end", pid), Hint: "end it by hand and start the node again"}
}

// ourDaemon tells whether the process is a containerd with our configuration.
func ourDaemon(pid int, cfg Config) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && bytes.Contains(b, []byte("\x00"+cfg.daemonConfig()+"\x00"))
}

func (d *daemon) launch() error {
	d.before()
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if s, err := os.Stat(d.cfg.daemonLog()); err == nil && s.Size() > daemonLogSize {
		flags |= os.O_TRUNC
	}
	logFile, err := os.OpenFile(d.cfg.daemonLog(), flags, 0o600)
	if err != nil {
		return fmt.Errorf("containerd's log: %w", err)
	}
	defer logFile.Close()
	cmd := exec.Command(d.path, "--config", d.cfg.daemonConfig(), "--log-level", "warn")
	cmd.Stdout, cmd.Stderr = logFile, logFile
	// A session of its own: Ctrl-C at the agent's terminal is not for it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "NOTIFY_SOCKET=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	if err := cmd.Start(); err != nil {
		return &container.UnavailableError{Message: "containerd does not start", Err: err, Hint: installHint}
	}
	if err := os.WriteFile(d.cfg.daemonPID(), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return fmt.Errorf("containerd's pid file: %w", err)
	}
	exit := make(chan struct{})
	d.mu.Lock()
	d.cmd, d.exit = cmd, exit
	d.mu.Unlock()
	go func() {
		err := cmd.Wait()
		d.mu.Lock()
		d.err = &container.UnavailableError{
			Message: fmt.Sprintf("containerd has ended (%s); it is being started again", cmd.ProcessState),
			Err:     err, Hint: "its log is " + d.cfg.daemonLog(),
		}
		d.mu.Unlock()
		close(exit)
	}()
	return nil
}

// await returns when the socket answers.
func (d *daemon) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, daemonStart)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := net.Dial("unix", d.cfg.address()); err == nil {
			c.Close()
			d.mu.Lock()
			d.err = nil
			d.mu.Unlock()
			return nil
		}
		select {
		case <-tick.C:
		case <-d.exit:
			return &container.UnavailableError{Message: "containerd ended at once: " + lastLine(d.cfg.daemonLog()), Hint: "its log is " + d.cfg.daemonLog()}
		case <-ctx.Done():
			return &container.UnavailableError{Message: "containerd does not answer", Err: ctx.Err(), Hint: "its log is " + d.cfg.daemonLog()}
		}
	}
}

// supervise starts containerd again whenever it ends.
func (d *daemon) supervise() {
	defer close(d.ended)
	backoff := restartMin
	for {
		born := time.Now()
		select {
		case <-d.stopping:
			return
		case <-d.exit:
		}
		if time.Since(born) > restartForget {
			backoff = restartMin
		}
		d.log.Error("containerd ended; starting it again", "after", backoff, "error", d.health())
		select {
		case <-d.stopping:
			return
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, restartMax)
		if err := d.relaunch(); err != nil {
			d.log.Error("containerd", "error", err)
		}
	}
}

func (d *daemon) relaunch() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-d.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := d.launch(); err != nil {
		return err // exit is still closed: supervise comes again
	}
	return d.await(ctx)
}

func (d *daemon) health() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

func (d *daemon) stop() {
	d.once.Do(func() { close(d.stopping) })
	<-d.ended
	d.end()
}

func (d *daemon) end() {
	d.mu.Lock()
	cmd, exit := d.cmd, d.exit
	d.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-exit:
	case <-time.After(daemonStop):
		_ = cmd.Process.Kill()
		<-exit
	}
	for _, f := range []string{d.cfg.daemonPID(), d.cfg.address(), d.cfg.address() + ".ttrpc"} {
		_ = os.Remove(f)
	}
}

// lastLine is the last line of a file, for error messages.
func lastLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}

// findRuntimeBinary fails early and clearly when there is no OCI runtime. The shim
// is given its whole path: a foreign containerd may have another PATH, and find
// another program than the one that isRunc asks.
func (r *Runtime) findRuntimeBinary() error {
	path, err := exec.LookPath(r.cfg.RuntimeBinary)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return &container.UnavailableError{Message: r.cfg.RuntimeBinary + " is not installed", Err: errors.Unwrap(err), Hint: installHint}
	}
	r.binary = path
	return nil
}
