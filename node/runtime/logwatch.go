package runtime

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// spoolWatcher wakes pumps when their spools grow, with one inotify descriptor
// for all of them.
type spoolWatcher struct {
	fd   int
	file *os.File
	done chan struct{}

	mu    sync.Mutex
	pumps map[int32]*pump
}

func newSpoolWatcher() (*spoolWatcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch logs: inotify: %w (raise fs.inotify.max_user_instances)", err)
	}
	w := &spoolWatcher{fd: fd, file: os.NewFile(uintptr(fd), "inotify"), done: make(chan struct{}), pumps: map[int32]*pump{}}
	go w.run()
	return w, nil
}

// add must come before the pump's first read, so that nothing is overlooked.
func (w *spoolWatcher) add(p *pump) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, name := range []string{spoolOut, spoolErr} {
		wd, err := unix.InotifyAddWatch(w.fd, filepath.Join(p.dir, name), unix.IN_MODIFY)
		if err != nil {
			return fmt.Errorf("watch log of %s: %w (raise fs.inotify.max_user_watches)", p.dir, err)
		}
		p.watches[i] = int32(wd)
		w.pumps[int32(wd)] = p
	}
	return nil
}

func (w *spoolWatcher) remove(p *pump) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, wd := range p.watches {
		if w.pumps[wd] == p {
			delete(w.pumps, wd)
			_, _ = unix.InotifyRmWatch(w.fd, uint32(wd)) // gone already if its file is
		}
	}
}

func (w *spoolWatcher) run() {
	defer close(w.done)
	buf := make([]byte, 64<<10)
	for {
		n, err := w.file.Read(buf)
		if err != nil {
			return
		}
		w.mu.Lock()
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			wd := int32(binary.NativeEndian.Uint32(b))
			mask := binary.NativeEndian.Uint32(b[4:])
			if mask&unix.IN_Q_OVERFLOW != 0 {
				for _, p := range w.pumps {
					p.poke()
				}
			} else if p := w.pumps[wd]; p != nil {
				p.poke()
			}
			b = b[unix.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(b[12:])):]
		}
		w.mu.Unlock()
	}
}

func (w *spoolWatcher) close() error {
	err := w.file.Close()
	<-w.done
	return err
}
