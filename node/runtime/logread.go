package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"strings"
	"time"

	"github.com/berthdev/berth/node/runtime/container"
)

// Logs yields the records of one container, across rotations and restarts of
// the agent. With Follow it waits for more until the container has ended or ctx
// is done, which is not an error. An *container.NotFoundError means that the
// container has not been started, or its log is gone.
func (r *Runtime) Logs(ctx context.Context, q container.LogQuery) iter.Seq2[container.LogLine, error] {
	return r.logs.read(ctx, q)
}

func (s *logStore) read(ctx context.Context, q container.LogQuery) iter.Seq2[container.LogLine, error] {
	return func(yield func(container.LogLine, error) bool) {
		attempts := s.attempts(q.Pod, q.Container)
		if q.Previous && len(attempts) > 0 {
			attempts = attempts[:len(attempts)-1]
		}
		if len(attempts) == 0 {
			what := fmt.Sprintf("log of container %s of pod %s", q.Container, q.Pod)
			if q.Previous {
				what = "an earlier " + what
			}
			yield(container.LogLine{}, &container.NotFoundError{What: what})
			return
		}
		dir := s.attemptDir(q.Pod, q.Container, attempts[len(attempts)-1])
		if err := s.readAttempt(ctx, dir, q, yield); err != nil {
			yield(container.LogLine{}, err)
		}
	}
}

// readAttempt returns nil also when yield or ctx ended it.
func (s *logStore) readAttempt(ctx context.Context, dir string, q container.LogQuery, yield func(container.LogLine, error) bool) error {
	r := &recordReader{dir: dir}
	defer r.close()
	if err := r.seek(q.Tail); err != nil {
		return err
	}
	for {
		// Taken before reading: whatever comes after is announced by them.
		var news <-chan struct{}
		p := s.pump(dir)
		if p != nil {
			news = p.news()
		}
		for {
			line, ok, err := r.next()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if line.Time.Before(q.Since) {
				continue
			}
			if ctx.Err() != nil || !yield(line, nil) {
				return nil
			}
		}
		if !q.Follow || p == nil {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil
		case <-s.closed:
			return nil
		}
	}
}

// recordReader reads the record files of one attempt in order. Only whole
// records count; one that is being written is read when it is whole.
type recordReader struct {
	dir  string
	seq  uint64
	file *os.File
	buf  []byte // read, not yet returned
}

func (r *recordReader) close() {
	if r.file != nil {
		r.file.Close()
	}
}

// seek goes to the first of the last n records; 0 is the beginning, negative the
// end.
func (r *recordReader) seek(n int) error {
	seqs := logFiles(r.dir)
	if n == 0 || len(seqs) == 0 {
		return nil
	}
	for i := len(seqs) - 1; i >= 0; i-- {
		f, err := os.Open(logFile(r.dir, seqs[i]))
		if errors.Is(err, fs.ErrNotExist) {
			return nil // rotated away just now: begin with the oldest there is
		} else if err != nil {
			return err
		}
		offset, found, err := tailOffset(f, max(n, 0))
		if err != nil {
			f.Close()
			return err
		}
		if n -= found; n <= 0 || i == 0 {
			r.close()
			r.file, r.seq = f, seqs[i]
			_, err := f.Seek(offset, io.SeekStart)
			return err
		}
		f.Close()
	}
	return nil
}

// tailOffset is where the last n whole records of a file begin, and how many
// there are.
func tailOffset(f *os.File, n int) (offset int64, found int, err error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, 0, err
	}
	buf := make([]byte, 64<<10)
	newlines := 0
	for pos := end; pos > 0; {
		size := min(int64(len(buf)), pos)
		pos -= size
		b := buf[:size]
		if _, err := f.ReadAt(b, pos); err != nil {
			return 0, 0, err
		}
		for len(b) > 0 {
			i := bytes.LastIndexByte(b, '\n')
			if i < 0 {
				break
			}
			if newlines == n { // the end of the record before the ones wanted
				return pos + int64(i) + 1, n, nil
			}
			newlines++
			b = b[:i]
		}
	}
	return 0, newlines, nil
}

// next is the next whole record; ok is false if there is none now.
func (r *recordReader) next() (line container.LogLine, ok bool, err error) {
	for {
		if i := bytes.IndexByte(r.buf, '\n'); i >= 0 {
			line, ok = parseRecord(string(r.buf[:i]))
			r.buf = r.buf[i+1:]
			if ok {
				return line, true, nil
			}
			continue // not a record: skip what is damaged
		}
		// A later file tells that this one is complete; look before reading.
		later := r.later()
		n, err := r.fill()
		if err != nil {
			return line, false, err
		}
		if n > 0 {
			continue
		}
		if later == 0 {
			return line, false, nil
		}
		f, err := os.Open(logFile(r.dir, later))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return line, false, err
		}
		r.close()
		r.file, r.seq, r.buf = f, later, nil
	}
}

func (r *recordReader) later() uint64 {
	for _, s := range logFiles(r.dir) {
		if s > r.seq {
			return s
		}
	}
	return 0
}

func (r *recordReader) fill() (int, error) {
	if r.file == nil {
		return 0, nil
	}
	b := make([]byte, len(r.buf)+64<<10)
	have := copy(b, r.buf)
	n, err := r.file.Read(b[have:])
	r.buf = b[:have+n]
	if err == io.EOF {
		err = nil
	}
	return n, err
}

func parseRecord(s string) (container.LogLine, bool) {
	stamp, rest, ok1 := strings.Cut(s, " ")
	stream, rest, ok2 := strings.Cut(rest, " ")
	flag, text, ok3 := strings.Cut(rest, " ")
	t, err := time.Parse(time.RFC3339Nano, stamp)
	if !ok1 || !ok2 || !ok3 || err != nil {
		return container.LogLine{}, false
	}
	return container.LogLine{Time: t, Stream: stream, Partial: flag == "P", Text: text}, true
}
