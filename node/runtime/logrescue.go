package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/berthdev/berth/node/runtime/container"
	"golang.org/x/sys/unix"
)

// A shim that fails to append to a spool, because the disk is full, gives that
// stream up for good: the container's pipe fills, and at its next line the
// container stands still, also when there is room again. So the runtime looks at
// the pipes now and then. Where output waits in one and the spool has not grown
// between two looks, it reads on in the shim's place, until the container ends.
// Containers matter more than their logs: what still cannot be written is
// dropped, and a line in the log says how much that was.

// rescueEvery is how often the pipes are looked at.
const rescueEvery = 5 * time.Second

// pipe is what was seen of a container's output stream at the last look.
type pipe struct {
	waits bool  // it held something
	spool int64 // size of the spool
	taken bool  // it is read here
}

// tendLogs looks at the pipes of all running containers until the runtime closes.
func (r *Runtime) tendLogs(every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	seen := map[string]pipe{}
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-t.C:
		}
		list, _ := r.List(r.ctx)
		now := map[string]pipe{}
		for _, s := range list {
			if s.State != container.Running || s.PID == 0 {
				continue
			}
			dir := r.logs.attemptDir(s.Pod, s.Name, s.Attempt)
			for fd, spool := range map[int]string{1: spoolOut, 2: spoolErr} {
				r.tend(fmt.Sprintf("/proc/%d/fd/%d", s.PID, fd), dir, spool, seen, now)
			}
		}
		seen = now
	}
}

// tend looks at one stream. A program that has sent its output elsewhere, or
// both streams into one pipe, is left alone.
func (r *Runtime) tend(path, dir, spool string, seen, now map[string]pipe) {
	link, err := os.Readlink(path)
	if err != nil || !strings.HasPrefix(link, "pipe:") {
		return
	}
	id := dir + " " + link
	if _, twice := now[id]; twice {
		return
	}
	before := seen[id]
	if before.taken {
		now[id] = before
		return
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return // it ends just now, or this node may not look into it
	}
	waiting, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCINQ)
	info, statErr := os.Stat(filepath.Join(dir, spool))
	if err != nil || statErr != nil {
		f.Close()
		return
	}
	p := pipe{waits: waiting > 0, spool: info.Size()}
	if p.taken = p.waits && before.waits && before.spool == p.spool; p.taken {
		// Fd above has made it blocking; a reader that Close can wake is needed.
		f.Close()
		if f, err = os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0); err != nil {
			return
		}
		r.log.Warn("output is not collected any more, after a full disk perhaps; reading it in the shim's place", "log", dir, "stream", spool)
		r.logs.rescue(dir, f, filepath.Join(dir, spool))
	} else {
		f.Close()
	}
	now[id] = p
}

// rescue copies a pipe into a spool until its writers are gone.
func (s *logStore) rescue(dir string, from *os.File, spool string) {
	done := make(chan struct{})
	s.mu.Lock()
	s.rescues[dir] = append(s.rescues[dir], done)
	s.mu.Unlock()
	stop := make(chan struct{})
	go func() { // reading ends with the writers, or with the store
		select {
		case <-s.closed:
		case <-stop:
		}
		from.Close()
	}()
	go func() {
		defer close(done)
		defer close(stop)
		to, err := os.OpenFile(spool, os.O_RDWR|os.O_APPEND, 0)
		if err != nil {
			s.log.Error("log not collected", "log", spool, "error", err)
			return
		}
		defer to.Close()
		copyOn(to, from, gap{open: true, half: endsMidway(to)})
	}()
}

// rescued waits for the copies into a log whose writers are gone.
func (s *logStore) rescued(dir string) {
	s.mu.Lock()
	list := s.rescues[dir]
	delete(s.rescues, dir)
	s.mu.Unlock()
	limit := time.After(2 * time.Second) // a process that left the container may hold the pipe
	for _, done := range list {
		select {
		case <-done:
		case <-limit:
			return
		}
	}
}

// gap is a part of a log that is lost.
type gap struct {
	open  bool
	bytes int   // lost here; what the shim lost nobody knows
	torn  bool  // it ends in the middle of a line
	half  bool  // the line before it has no end
	why   error // nil: the shim did not say
}

// note is the line that stands for it; skip more bytes go with it.
func (g gap) note(skip int) string {
	s := "[berth: a part of this log is lost"
	if n := g.bytes + skip; n > 0 {
		s += fmt.Sprintf(", %d bytes at least", n)
	}
	if g.why != nil {
		s += ": " + g.why.Error()
	}
	if g.half {
		s = "\n" + s
	}
	return s + "]\n"
}

// copyOn copies to the end, whatever becomes of what cannot be written. What is
// dropped ends with a line, and so does g, the gap that the shim left.
func copyOn(to io.Writer, from io.Reader, g gap) {
	buf := make([]byte, readChunk)
	for {
		n, err := from.Read(buf)
		b := buf[:n]
		if g.open && n > 0 {
			skip := 0
			if g.torn {
				skip = bytes.IndexByte(b, '\n') + 1
			}
			if !g.torn || skip > 0 {
				k, err := io.WriteString(to, g.note(skip))
				g.half = g.half || k > 0
				if err == nil {
					g, b = gap{}, b[skip:]
				}
			}
		}
		drop := b
		if !g.open && len(b) > 0 {
			k, err := to.Write(b)
			if k > 0 {
				g.half = b[k-1] != '\n'
			}
			if drop = b[k:]; err != nil {
				g.open, g.why = true, unwrapped(err)
			}
		}
		if len(drop) > 0 {
			g.bytes, g.torn = g.bytes+len(drop), drop[len(drop)-1] != '\n'
		}
		if err != nil {
			return
		}
	}
}

// endsMidway reports whether the last line of a file has no end.
func endsMidway(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return false
	}
	var last [1]byte
	_, err = f.ReadAt(last[:], info.Size()-1)
	return err == nil && last[0] != '\n'
}

// unwrapped is an error without the path that it happened at.
func unwrapped(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
