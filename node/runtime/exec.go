package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/berthdev/berth/node/runtime/container"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
)

const (
	execOutput  = 64 << 10
	execCleanup = 10 * time.Second
)

var execNumber atomic.Uint64

// Exec runs a command in a running container, as its user and with its
// environment, and returns when it has ended. A command that takes longer than
// timeout is killed, and the error is context.DeadlineExceeded. A program that
// does not exist is exit code 127 or 126, as in a shell.
func (r *Runtime) Exec(ctx context.Context, id string, argv []string, timeout time.Duration) (container.ExecResult, error) {
	var out container.ExecResult
	m := r.monitor(id)
	if m == nil || m.snapshot().State != container.Running {
		return out, &container.NotFoundError{What: "running container " + id}
	}
	if len(argv) == 0 {
		return out, errors.New("no command to run")
	}
	ctx = r.ns(ctx)
	spec, task, err := r.process(ctx, m)
	if err != nil {
		return out, err
	}
	spec.Process.Args, spec.Process.Terminal = argv, false
	var stdout, stderr headBuffer
	execID := "exec-" + strconv.FormatInt(time.Now().UnixNano(), 36) + "-" + strconv.FormatUint(execNumber.Add(1), 36)
	p, err := task.Exec(ctx, execID, spec.Process, cio.NewCreator(cio.WithStreams(nil, &stdout, &stderr), cio.WithFIFODir(filepath.Join(r.cfg.State, "exec"))))
	if err != nil {
		return out, r.execError(m, argv, err)
	}
	// The command must not outlive the call, whatever becomes of ctx.
	waiting, stopWaiting := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWaiting()
	defer func() {
		cleanup, cancel := context.WithTimeout(waiting, execCleanup)
		defer cancel()
		if _, err := p.Delete(cleanup); err != nil && !errdefs.IsNotFound(err) {
			r.log.Debug("command not cleaned away", "container", id, "error", err)
		}
	}()
	exits, err := p.Wait(waiting)
	if err != nil {
		return out, r.execError(m, argv, err)
	}
	limit := time.NewTimer(timeout)
	defer limit.Stop()
	if err := p.Start(ctx); err != nil {
		p.IO().Cancel()
		if errdefs.IsUnavailable(err) || m.snapshot().State != container.Running {
			return out, r.execError(m, argv, err)
		}
		text := startHint(err)
		return container.ExecResult{ExitCode: 127, Stderr: []byte(text.Error())}, nil
	}
	select {
	case status := <-exits:
		if err := status.Error(); err != nil {
			return out, r.execError(m, argv, err)
		}
		p.IO().Wait()
		return container.ExecResult{ExitCode: int(status.ExitCode()), Stdout: stdout.bytes(), Stderr: stderr.bytes()}, nil
	case <-limit.C:
		err = fmt.Errorf("command %q did not end within %s: %w", argv[0], timeout, context.DeadlineExceeded)
	case <-ctx.Done():
		err = ctx.Err()
	}
	cleanup, cancel := context.WithTimeout(waiting, execCleanup)
	defer cancel()
	_ = p.Kill(cleanup, syscall.SIGKILL)
	select {
	case <-exits:
	case <-cleanup.Done():
	}
	return container.ExecResult{ExitCode: -1, Stdout: stdout.bytes(), Stderr: stderr.bytes()}, err
}

func (r *Runtime) execError(m *monitor, argv []string, err error) error {
	if m.snapshot().State != container.Running || errdefs.IsNotFound(err) {
		return &container.NotFoundError{What: "running container " + m.id}
	}
	return fmt.Errorf("run %q in container %s: %w", argv[0], m.id, r.unavailable(err))
}

// headBuffer keeps the beginning of what is written to it.
type headBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (h *headBuffer) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.buf.Write(b[:min(len(b), execOutput-h.buf.Len())])
	return len(b), nil
}

func (h *headBuffer) bytes() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return bytes.Clone(h.buf.Bytes())
}
