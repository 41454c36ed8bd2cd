package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/node/runtime/container"
	"github.com/berthdev/berth/node/runtime/runtimetest"
	"golang.org/x/sys/unix"
)

// TestLogsGoOnAfterAFullDisk fills the disk under a container that logs: it must
// not stand still, and once there is room its log must go on, saying what it lacks.
func TestLogsGoOnAfterAFullDisk(t *testing.T) {
	c := testConfig(t)
	c.rescueEvery = 200 * time.Millisecond
	if err := os.MkdirAll(c.Root, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("berth-test", c.Root, "tmpfs", 0, "size=96m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(c.Root, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	r := open(t, c)
	t.Cleanup(func() {
		if err := r.Purge(t.Context()); err != nil && !errors.Is(err, t.Context().Err()) {
			t.Error(err)
		}
	})
	p := runtimetest.NewWorld(t, r).For(t)
	s := p.Start(p.Spec("tick", "tick"))
	lines := func() (all, lost, after int) {
		for l, err := range r.Logs(t.Context(), container.LogQuery{Pod: p.Pod, Container: "tick"}) {
			if err != nil {
				t.Fatal(err)
			}
			all++
			if strings.HasPrefix(l.Text, "[berth: ") {
				lost++
				after = 0
			}
			after++
		}
		return all, lost, after
	}
	await(t, "the first lines", func() bool { all, _, _ := lines(); return all > 10 })

	filler, err := os.Create(filepath.Join(c.Root, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(filler, zeros{})
	if err = errors.Join(filler.Close(), err); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	dir := r.logs.attemptDir(p.Pod, "tick", 0)
	rescued := func() bool {
		r.logs.mu.Lock()
		defer r.logs.mu.Unlock()
		return len(r.logs.rescues[dir]) > 0
	}
	await(t, "the shim to give up and its work to be taken over", rescued)
	// The container goes on: what it writes is taken from it.
	written := func() string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", s.PID))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(b), "syscw: ")
		n, _, _ := strings.Cut(rest, "\n")
		return n
	}
	before := written()
	await(t, "the container to write on while the disk is full", func() bool { return written() != before })

	if err := os.Remove(filepath.Join(c.Root, "filler")); err != nil {
		t.Fatal(err)
	}
	await(t, "a line about what is lost, and lines after it", func() bool { _, lost, after := lines(); return lost > 0 && after > 10 })

	if err := r.Stop(t.Context(), s.ID, "", 5*time.Second); err != nil {
		t.Fatal(err)
	}
	p.End(s.ID)
	if rescued() {
		t.Error("the copy outlives the container")
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// full is a disk that has no room for a while.
type full struct {
	text bytes.Buffer
	room int // bytes that still fit
}

func (f *full) Write(b []byte) (int, error) {
	n := min(len(b), f.room)
	f.room -= n
	f.text.Write(b[:n])
	if n < len(b) {
		return n, &os.PathError{Op: "write", Path: "/long/path", Err: unix.ENOSPC}
	}
	return n, nil
}

func TestWhatDoesNotFitIsDroppedInWholeLines(t *testing.T) {
	chunks := []string{"one\ntwo\n", "three\nfo", "ur\nfive\nsi", "x\nseven\n"}
	for _, x := range []struct {
		room, until int // bytes that fit before the chunk that finds more room again
		want        string
	}{
		{100, 0, "one\ntwo\nthree\nfour\nfive\nsix\nseven\n"},
		{8, 3, "one\ntwo\n[berth: a part of this log is lost, 11 bytes at least: no space left on device]\nfive\nsix\nseven\n"},
		{10, 3, "one\ntwo\nth\n[berth: a part of this log is lost, 9 bytes at least: no space left on device]\nfive\nsix\nseven\n"},
		{5, 2, "one\nt\n[berth: a part of this log is lost, 3 bytes at least: no space left on device]\nthree\nfour\nfive\nsix\nseven\n"},
		{0, 9, ""},
	} {
		to := &full{room: x.room}
		i := 0
		copyOn(to, readerFunc(func(b []byte) (int, error) {
			if i == len(chunks) {
				return 0, io.EOF
			}
			i++
			if i == x.until {
				to.room = 1000
			}
			return copy(b, chunks[i-1]), nil
		}), gap{})
		if got := to.text.String(); got != x.want {
			t.Errorf("with room for %d:\n%q, want\n%q", x.room, got, x.want)
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// What the shim left is told of first, on a line of its own.
func TestTheGapOfTheShimIsToldOf(t *testing.T) {
	to := &full{room: 1000}
	copyOn(to, strings.NewReader("new\n"), gap{open: true, half: true})
	if got, want := to.text.String(), "\n[berth: a part of this log is lost]\nnew\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
