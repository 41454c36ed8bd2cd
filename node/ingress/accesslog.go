package ingress

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"mime"
	"strconv"
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

// log writes the request's line. The query is not in it: it is where tokens are.
func (x *exchange) log(took time.Duration) {
	if x.s.access == nil {
		return
	}
	l := x.logged[:0]
	l = append(l, `{"time":"`...)
	l = line(x.began.UTC().AppendFormat(l, "2006-01-02T15:04:05.000000Z")).raw(`"`)
	l = l.text("id", x.id).raw(`,"client":"`)
	l = line(x.client.AppendTo(l)).raw(`"`)
	l = l.text("method", x.r.Method).text("host", x.r.Host).text("path", x.r.URL.Path).text("protocol", x.r.Proto)
	l = strconv.AppendBool(l.raw(`,"tls":`), x.r.TLS != nil)
	l = l.number("status", int64(x.w.status)).number("bytes_in", max(x.r.ContentLength, 0)).number("bytes_out", x.w.bytes)
	l = strconv.AppendFloat(l.raw(`,"seconds":`), took.Seconds(), 'f', 6, 64)
	if x.route != nil {
		l = l.text("ingress", x.route.front.name).text("route", x.route.label)
	}
	if x.chosen != nil {
		l = l.text("service", x.chosen.service)
	}
	if x.to != nil {
		l = l.text("pod", x.to.up.key.pod).text("upstream", x.to.up.key.address)
	}
	if len(x.tried) > 0 {
		l = l.number("retries", int64(len(x.tried)))
	}
	switch {
	case x.err != nil:
		l = l.text("error", x.err.Error())
	case x.why != "":
		l = l.text("error", x.why)
	}
	x.logged = l.raw("}\n")
	x.s.access.add(x.logged)
}

// line is a JSON object under construction. It is made by hand because there is
// one for each request: log/slog took a twentieth of the ingress' time.
type line []byte

func (l line) raw(s string) line { return append(l, s...) }

func (l line) number(name string, n int64) line {
	return strconv.AppendInt(append(append(append(l, `,"`...), name...), `":`...), n, 10)
}

func (l line) text(name, value string) line {
	l = append(append(append(l, `,"`...), name...), `":`...)
	for i := range len(value) {
		if c := value[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(value) // a string always has a form
			return append(l, quoted...)
		}
	}
	return append(append(append(l, '"'), value...), '"')
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

func (l *lines) add(p []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Write(p)
	if l.b.Len() >= linesSize {
		l.flush()
	}
}

// flush writes what is there. l.mu is held. What the writer does not take is
// dropped: requests are served without a log, too.
func (l *lines) flush() {
	if l.b.Len() > 0 {
		_, _ = l.w.Write(l.b.Bytes())
		l.b.Reset()
	}
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
		l.flush()
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
