package runtime

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/berthdev/berth/node/runtime/container"
	"golang.org/x/sys/unix"
)

// A container's output goes through two kinds of file, in one directory for each
// attempt, <root>/logs/<pod>/<container>/<attempt>/:
//
//	stdout, stderr   written by the shim, appended to as they are (the spool)
//	position         how much of the spool has been turned into records
//	000001.log …     records "time stream F|P text", rotated by starting the next
//
// A pump reads the spool, writes records, writes the position, and gives the
// spool's blocks back to the disk by punching holes in what it has read. So a
// container never waits for the agent, and nothing is lost or written twice when
// the agent is killed at any point: the next pump cuts the records back to the
// position and goes on. Truncating the spool instead would lose what is written
// between the last read and the truncation.
const (
	spoolOut     = "stdout"
	spoolErr     = "stderr"
	positionFile = "position"
	logSuffix    = ".log"

	maxRecord  = 16 << 10 // longer lines are split into partial records
	readChunk  = 64 << 10
	punchAfter = 1 << 20
	// pumpPause bounds how often a chatty container wakes its pump.
	pumpPause = 5 * time.Millisecond
)

// logStore keeps the logs of all containers.
type logStore struct {
	dir     string
	size    int64
	files   int
	log     *slog.Logger
	watcher *spoolWatcher

	mu    sync.Mutex
	pumps map[string]*pump // by attempt directory
	// rescues are the copies that go on in a shim's place, by attempt directory.
	rescues map[string][]chan struct{}
	closed  chan struct{}
	once    sync.Once
}

func openLogStore(root string, size int64, files int, log *slog.Logger) (*logStore, error) {
	dir := filepath.Join(root, "logs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("log directory: %w", err)
	}
	w, err := newSpoolWatcher()
	if err != nil {
		return nil, err
	}
	return &logStore{
		dir: dir, size: size, files: files, log: log, watcher: w,
		pumps: map[string]*pump{}, rescues: map[string][]chan struct{}{}, closed: make(chan struct{}),
	}, nil
}

func (s *logStore) podDir(p container.Pod) string {
	return filepath.Join(s.dir, fmt.Sprintf("%s_%s_%d", p.Namespace, p.Name, p.Created))
}

func (s *logStore) attemptDir(p container.Pod, name string, attempt int) string {
	return filepath.Join(s.podDir(p), name, strconv.Itoa(attempt))
}

// prepare makes the spool of a new attempt and forgets all attempts but the one
// before it. It returns the files that the shim shall write to.
func (s *logStore) prepare(p container.Pod, name string, attempt int) (stdout, stderr string, err error) {
	for _, a := range s.attempts(p, name) {
		if a < attempt-1 {
			if err := os.RemoveAll(s.attemptDir(p, name, a)); err != nil {
				s.log.Warn("old log not removed", "pod", p, "container", name, "error", err)
			}
		}
	}
	dir := s.attemptDir(p, name, attempt)
	if err := os.RemoveAll(dir); err != nil {
		return "", "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", fmt.Errorf("log directory: %w", err)
	}
	for _, f := range []string{spoolOut, spoolErr} {
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o600); err != nil {
			return "", "", fmt.Errorf("log spool: %w", err)
		}
	}
	return filepath.Join(dir, spoolOut), filepath.Join(dir, spoolErr), nil
}

// attempts are those with a log, oldest first.
func (s *logStore) attempts(p container.Pod, name string) []int {
	entries, _ := os.ReadDir(filepath.Join(s.podDir(p), name))
	var out []int
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// collect starts the pump of an attempt, going on where the last one was.
func (s *logStore) collect(dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.closed:
		return errors.New("log store is closed")
	default:
	}
	if s.pumps[dir] != nil {
		return nil
	}
	p, err := openPump(dir, s.size, s.files, s.log)
	if err != nil {
		return err
	}
	if err := s.watcher.add(p); err != nil {
		p.closeFiles()
		return err
	}
	s.pumps[dir] = p
	go p.run()
	return nil
}

// finish collects what is left of an attempt whose writers are gone, and removes
// the spool. It returns when every line is in the log.
func (s *logStore) finish(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, spoolOut)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	s.rescued(dir)
	if err := s.collect(dir); err != nil {
		return err
	}
	s.mu.Lock()
	p := s.pumps[dir]
	s.mu.Unlock()
	if p == nil {
		return nil
	}
	p.finish()
	<-p.done
	s.watcher.remove(p)
	s.mu.Lock()
	delete(s.pumps, dir)
	s.mu.Unlock()
	if p.drained {
		for _, f := range []string{spoolOut, spoolErr, positionFile} {
			_ = os.Remove(filepath.Join(dir, f))
		}
	}
	p.broadcast()
	return nil
}

// discard ends the pumps below a directory without a last read, and removes it.
func (s *logStore) discard(dir string) error {
	s.mu.Lock()
	var gone []*pump
	for d, p := range s.pumps {
		if d == dir || strings.HasPrefix(d, dir+"/") {
			gone = append(gone, p)
			delete(s.pumps, d)
		}
	}
	s.mu.Unlock()
	for _, p := range gone {
		p.abort()
		<-p.done
		s.watcher.remove(p)
		p.broadcast()
	}
	return os.RemoveAll(dir)
}

// pump is the running pump of an attempt, nil if it has ended.
func (s *logStore) pump(dir string) *pump {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pumps[dir]
}

// close stops the pumps where they are; containers write on into their spools.
func (s *logStore) close() error {
	s.once.Do(func() { close(s.closed) })
	s.mu.Lock()
	pumps := s.pumps
	s.pumps = map[string]*pump{}
	s.mu.Unlock()
	for _, p := range pumps {
		p.abort()
		<-p.done
	}
	return s.watcher.close()
}

// position says how far a pump has come: these bytes of the spool are in the
// records, which end at this size of this file.
type position struct {
	seq, size, out, err uint64
}

func (p position) encode() []byte {
	var b []byte
	for _, n := range []uint64{p.seq, p.size, p.out, p.err} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return b
}

func decodePosition(b []byte) (position, bool) {
	if len(b) != 32 {
		return position{}, false
	}
	at := func(i int) uint64 { return binary.BigEndian.Uint64(b[8*i:]) }
	return position{at(0), at(1), at(2), at(3)}, true
}

// pump turns the spool of one attempt into records. Only run touches its files.
type pump struct {
	dir     string
	size    int64
	files   int
	log     *slog.Logger
	spools  [2]*os.File // stdout, stderr
	watches [2]int32
	punched [2]int64
	pos     *os.File
	out     *os.File
	at      position
	last    time.Time // of the last record, so that times never go back

	wake     chan struct{}
	finished chan struct{} // the writers are gone
	aborted  chan struct{}
	done     chan struct{}
	drained  bool // valid after done
	finOnce  sync.Once
	abrtOnce sync.Once

	mu     sync.Mutex
	notify chan struct{} // closed and replaced when there are new records
}

func openPump(dir string, size int64, files int, log *slog.Logger) (*pump, error) {
	p := &pump{
		dir: dir, size: size, files: files, log: log,
		wake: make(chan struct{}, 1), finished: make(chan struct{}), aborted: make(chan struct{}),
		done: make(chan struct{}), notify: make(chan struct{}),
	}
	if err := p.open(); err != nil {
		p.closeFiles()
		return nil, fmt.Errorf("log of %s: %w", dir, err)
	}
	return p, nil
}

func (p *pump) open() (err error) {
	for i, name := range []string{spoolOut, spoolErr} {
		if p.spools[i], err = os.OpenFile(filepath.Join(p.dir, name), os.O_RDWR, 0); err != nil {
			return err
		}
	}
	if p.pos, err = os.OpenFile(filepath.Join(p.dir, positionFile), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	b := make([]byte, 33)
	n, _ := p.pos.ReadAt(b, 0)
	at, ok := decodePosition(b[:n])
	if !ok {
		at = position{seq: 1}
	}
	p.at = at
	return p.recover()
}

func (p *pump) closeFiles() {
	for _, f := range []*os.File{p.spools[0], p.spools[1], p.pos, p.out} {
		if f != nil {
			f.Close()
		}
	}
}

func (p *pump) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *pump) finish() { p.finOnce.Do(func() { close(p.finished) }) }
func (p *pump) abort()  { p.abrtOnce.Do(func() { close(p.aborted) }) }

// news is a channel that closes when there are records after those there now.
func (p *pump) news() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.notify
}

func (p *pump) broadcast() {
	p.mu.Lock()
	close(p.notify)
	p.notify = make(chan struct{})
	p.mu.Unlock()
}

func (p *pump) run() {
	defer close(p.done)
	defer p.closeFiles()
	warned := false
	for {
		last := false
		select {
		case <-p.finished:
			last = true
		default:
		}
		err := p.drain(last)
		if err == nil && last {
			p.drained = true
			return
		}
		pause := pumpPause
		if err != nil { // a full disk, most likely: the spool keeps it all
			if !warned {
				p.log.Error("log not written; trying again", "dir", p.dir, "error", err)
			}
			warned, pause = true, time.Second
			p.poke()
		} else {
			warned = false
		}
		finished := p.finished
		if last {
			finished = nil
		}
		select {
		case <-p.wake:
		case <-finished:
			continue
		case <-p.aborted:
			return
		}
		select {
		case <-time.After(pause):
		case <-finished:
		case <-p.aborted:
			return
		}
	}
}

// drain turns all complete lines of the spool into records; with last also the
// rest that has no newline.
func (p *pump) drain(last bool) error {
	buf := make([]byte, readChunk)
	for {
		var stat [2]os.FileInfo
		for i, f := range p.spools {
			s, err := f.Stat()
			if err != nil {
				return err
			}
			stat[i] = s
		}
		order := [2]int{0, 1} // what was written first comes first
		if stat[1].ModTime().Before(stat[0].ModTime()) {
			order = [2]int{1, 0}
		}
		progress := false
		for _, i := range order {
			n, err := p.step(i, buf, stat[i], last)
			if err != nil {
				return errors.Join(err, p.recover())
			}
			progress = progress || n > 0
		}
		if !progress {
			return nil
		}
		p.broadcast()
	}
}

// step turns at most one chunk of one stream into records.
func (p *pump) step(i int, buf []byte, stat os.FileInfo, last bool) (int, error) {
	offset, name := &p.at.out, spoolOut
	if i == 1 {
		offset, name = &p.at.err, spoolErr
	}
	left := stat.Size() - int64(*offset)
	if left <= 0 {
		return 0, nil
	}
	chunk := buf[:min(int64(len(buf)), left)]
	n, err := p.spools[i].ReadAt(chunk, int64(*offset))
	if n < len(chunk) {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	when := stat.ModTime()
	if when.Before(p.last) {
		when = p.last
	}
	head := when.UTC().Format("2006-01-02T15:04:05.000000000Z") + " " + name + " "
	var records []byte
	at, used := p.at, 0
	for used < len(chunk) {
		line, flag := chunk[used:], "P "
		skip := 0
		if end := slices.Index(line, '\n'); end >= 0 && end <= maxRecord {
			line, flag, skip = line[:end], "F ", 1
		} else if len(line) >= maxRecord {
			line = line[:maxRecord]
		} else if !last || int64(len(chunk)) < left {
			break // the line is still being written, or goes on in the next chunk
		} else {
			flag = "F "
		}
		if at.size+uint64(len(records)) >= uint64(p.size) {
			if err := p.write(records, &at); err != nil {
				return 0, err
			}
			records = records[:0]
			if err := p.rotate(&at); err != nil {
				return 0, err
			}
		}
		records = append(append(append(append(records, head...), flag...), line...), '\n')
		used += len(line) + skip
	}
	if used == 0 {
		return 0, nil
	}
	if err := p.write(records, &at); err != nil {
		return 0, err
	}
	if i == 0 {
		at.out += uint64(used)
	} else {
		at.err += uint64(used)
	}
	if _, err := p.pos.WriteAt(at.encode(), 0); err != nil {
		return 0, err
	}
	rotated := at.seq != p.at.seq
	p.at, p.last = at, when
	if rotated {
		p.trim()
	}
	p.punch(i, int64(*offset))
	return used, nil
}

func (p *pump) write(records []byte, at *position) error {
	if len(records) == 0 {
		return nil
	}
	if _, err := p.out.WriteAt(records, int64(at.size)); err != nil {
		return err
	}
	at.size += uint64(len(records))
	return nil
}

// rotate begins the next file. Old files go only when a position names the new
// one (see trim), for until then recover needs the file of the last position.
func (p *pump) rotate(at *position) error {
	f, err := os.OpenFile(logFile(p.dir, at.seq+1), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	p.out.Close()
	p.out = f
	at.seq, at.size = at.seq+1, 0
	return nil
}

// trim removes the files that are too many.
func (p *pump) trim() {
	for _, seq := range logFiles(p.dir) {
		if seq+uint64(p.files) <= p.at.seq {
			_ = os.Remove(logFile(p.dir, seq))
		}
	}
}

// recover cuts the records back to the position; what is cut off comes again.
func (p *pump) recover() (err error) {
	if p.out != nil {
		p.out.Close()
	}
	for _, seq := range logFiles(p.dir) {
		if seq > p.at.seq {
			if err := os.Remove(logFile(p.dir, seq)); err != nil {
				return err
			}
		}
	}
	if p.out, err = os.OpenFile(logFile(p.dir, p.at.seq), os.O_WRONLY|os.O_CREATE, 0o600); err != nil {
		return err
	}
	return p.out.Truncate(int64(p.at.size))
}

// punch gives back the disk blocks of what has been read. File systems that
// cannot do it keep the spool until the container ends.
func (p *pump) punch(i int, upTo int64) {
	upTo -= upTo % 4096
	if upTo-p.punched[i] < punchAfter {
		return
	}
	_ = unix.Fallocate(int(p.spools[i].Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, p.punched[i], upTo-p.punched[i])
	p.punched[i] = upTo
}

func logFile(dir string, seq uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%06d%s", seq, logSuffix))
}

// logFiles are the numbers of an attempt's record files, oldest first.
func logFiles(dir string) []uint64 {
	entries, _ := os.ReadDir(dir)
	var out []uint64
	for _, e := range entries {
		num, ok := strings.CutSuffix(e.Name(), logSuffix)
		if n, err := strconv.ParseUint(num, 10, 64); ok && err == nil {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}
