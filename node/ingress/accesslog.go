package ingress

import (
	"bytes"
	"context"
	"io"
	"mime"
	"strings"
	"sync"
	"time"

	"github.com/DeRuina/timberjack"
)

// LogFile is an access log in a file that is replaced when it reaches a size; the
// old ones are compressed, and removed when there are more than keep.
func LogFile(path string, megabytes, keep int) io.WriteCloser {
	return &timberjack.Logger{Filename: path, MaxSize: megabytes, MaxBackups: keep, Compression: "gzip", FileMode: 0o600}
}

// lines gathers lines of the access log, so that not every request waits for a
// write of its own.
type lines struct {
	w  io.Writer
	mu sync.Mutex
	b  bytes.Buffer
}

const (
	linesSize = 64 << 10
	linesWait = 200 * time.Millisecond
)

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Write(p)
	if l.b.Len() >= linesSize {
		return len(p), l.flush()
	}
	return len(p), nil
}

// flush writes what is there. l.mu is held. What the writer does not take is
// dropped: requests are served without a log, too.
func (l *lines) flush() error {
	if l.b.Len() == 0 {
		return nil
	}
	_, err := l.w.Write(l.b.Bytes())
	l.b.Reset()
	return err
}

// run writes now and then until ctx ends, and then once more.
func (l *lines) run(ctx context.Context) {
	tick := time.NewTicker(linesWait)
	defer tick.Stop()
	for ended := false; !ended; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			ended = true
		}
		l.mu.Lock()
		_ = l.flush()
		l.mu.Unlock()
	}
}

// compressible tells content types that gain by gzip. Streams of events and calls
// are not among them: every message of theirs is to arrive at once.
func compressible(contentType string) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil || kind == "text/event-stream" {
		return false
	}
	switch kind {
	case "application/json", "application/javascript", "application/xml", "application/wasm", "application/manifest+json", "image/svg+xml", "application/graphql", "font/ttf", "font/otf":
		return true
	}
	return strings.HasPrefix(kind, "text/") || strings.HasSuffix(kind, "+json") || strings.HasSuffix(kind, "+xml")
}
