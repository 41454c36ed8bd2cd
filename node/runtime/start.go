package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"golang.org/x/sys/unix"
)

// runc makes a container with all that belongs to it but the program: its first
// process stands at a FIFO in runc's state directory and executes the program when
// somebody opens that for reading. `runc start` is a whole program started to do
// so, an eighth of all that a pod costs; where the runtime is known to be runc we
// open the FIFO ourselves. The shim is not asked and goes on calling the container
// "created", which it handles as it does a running one: signals, commands, its end.
// That it runs is in the container's record instead.
const startFIFO = "exec.fifo"

// startLook is how often a start that takes long looks whether it is still wanted,
// and how long one is waited for that may be over already.
const startLook = 200 * time.Millisecond

// isRunc asks the OCI runtime who it is: others have a file of the same name with
// another meaning.
func isRunc(ctx context.Context, binary string) bool {
	out, err := exec.CommandContext(ctx, binary, "--version").Output()
	return err == nil && strings.HasPrefix(string(out), "runc version ")
}

// startFile is the FIFO of a container that was created; empty if the runtime has
// to be asked to start it.
func (r *Runtime) startFile(id string) string {
	if !r.runc {
		return ""
	}
	path := filepath.Join(r.cfg.runcRoot(), r.cfg.Namespace, id, startFIFO)
	if s, err := os.Lstat(path); err != nil || s.Mode().Type() != os.ModeNamedPipe {
		return ""
	}
	return path
}

// hideRoot takes a container's file system out of the node's list of mounts, where
// nobody needs it once the container has its own: the shim is content to find it
// gone. See CreateNamespaces for what each mount costs.
func (r *Runtime) hideRoot(id string) {
	if r.daemon == nil { // whose directory is not ours to know
		return
	}
	_ = unix.Unmount(filepath.Join(r.cfg.daemonState(), shimBundle, r.cfg.Namespace, id, "rootfs"), unix.MNT_DETACH)
}

// start lets the program of a created container begin, and returns when the
// container's first process has taken notice.
func (r *Runtime) start(ctx context.Context, task containerd.Task, fifo string) error {
	if fifo == "" {
		return task.Start(ctx)
	}
	return openStart(ctx, fifo, int(task.Pid()))
}

func openStart(ctx context.Context, fifo string, pid int) error {
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("its first process has ended: %w", err)
	}
	defer unix.Close(process)
	// Without O_NONBLOCK this would wait for a process that perhaps has ended.
	pipe, err := unix.Open(fifo, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: fifo, Err: err}
	}
	defer unix.Close(pipe)
	for {
		fds := []unix.PollFd{{Fd: int32(pipe), Events: unix.POLLIN}, {Fd: int32(process), Events: unix.POLLIN}}
		_, err := unix.Poll(fds, int(startLook.Milliseconds()))
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("wait for the start: %w", err)
		case err == nil && fds[0].Revents&unix.POLLIN != 0:
			return os.Remove(fifo) // as `runc start` does: by it runc tells created from running
		case err == nil && fds[1].Revents != 0:
			return errors.New("its first process has ended")
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}

// finishStart brings to its end what an agent began that died after it had
// recorded the start. The program may run already: then nobody writes to the FIFO.
func (r *Runtime) finishStart(ctx context.Context, id string, pid int) error {
	fifo := r.startFile(id)
	if fifo == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startLook)
	defer cancel()
	err := openStart(ctx, fifo, pid)
	if errors.Is(err, context.DeadlineExceeded) {
		err = os.Remove(fifo)
	}
	return err
}
