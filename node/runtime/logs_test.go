package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/node/runtime/container"
	"pgregory.net/rapid"
)

var logPod = container.Pod{Namespace: "default", Name: "p", Created: 1}

func testLogs(t rapid.TB, root string, size int64, files int) *logStore {
	t.Helper()
	s, err := openLogStore(root, size, files, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func readLog(t rapid.TB, s *logStore, q container.LogQuery) []container.LogLine {
	t.Helper()
	q.Pod, q.Container = logPod, "c"
	var out []container.LogLine
	for l, err := range s.read(contextFor(t), q) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, l)
	}
	return out
}

func appendTo(t rapid.TB, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// TestLogsNothingLostNothingTwice writes random text while pumps are ended and
// begun again at random, as by kill -9: the records must be exactly the text.
// A kill between a pump's two writes is imitated by taking an older position
// back, which is what the disk shows then.
func TestLogsNothingLostNothingTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		root, err := os.MkdirTemp("", "berth-logs-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(root)
		s := testLogs(t, root, int64(rapid.IntRange(64, 4096).Draw(t, "size")), 1<<20)
		defer func() { s.close() }()
		stdout, stderr, err := s.prepare(logPod, "c", 0)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Dir(stdout)
		if err := s.collect(dir); err != nil {
			t.Fatal(err)
		}
		var want [2]strings.Builder
		n := 0
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			i := rapid.IntRange(0, 1).Draw(t, "stream")
			var text strings.Builder
			for range rapid.IntRange(0, 30).Draw(t, "lines") {
				n++
				fmt.Fprintf(&text, "line %d %s", n, strings.Repeat("x", rapid.SampledFrom([]int{0, 1, 80, 5000}).Draw(t, "length")))
				if rapid.IntRange(0, 5).Draw(t, "break") > 0 {
					text.WriteByte('\n')
				}
			}
			appendTo(t, []string{stdout, stderr}[i], text.String())
			want[i].WriteString(text.String())
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				before, _ := os.ReadFile(filepath.Join(dir, positionFile))
				s.close()
				s = testLogs(t, root, s.size, s.files)
				if rapid.Bool().Draw(t, "torn") && len(before) == 32 {
					p, _ := decodePosition(before)
					if slices.Contains(logFiles(dir), p.seq) {
						if err := os.WriteFile(filepath.Join(dir, positionFile), before, 0o600); err != nil {
							t.Fatal(err)
						}
					}
				}
				if err := s.collect(dir); err != nil {
					t.Fatal(err)
				}
			case 1:
				readLog(t, s, container.LogQuery{}) // readers disturb nobody
			}
		}
		if err := s.finish(dir); err != nil {
			t.Fatal(err)
		}
		var got [2]strings.Builder
		for _, l := range readLog(t, s, container.LogQuery{}) {
			i := 0
			if l.Stream == spoolErr {
				i = 1
			}
			got[i].WriteString(l.Text)
			if !l.Partial {
				got[i].WriteByte('\n')
			}
		}
		for i := range want {
			w := want[i].String()
			if w != "" && !strings.HasSuffix(w, "\n") && strings.HasSuffix(got[i].String(), "\n") {
				w += "\n"
			}
			if got[i].String() != w {
				t.Fatalf("stream %d:\n got %q\nwant %q", i, got[i].String(), w)
			}
		}
		if _, err := os.Stat(stdout); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("the spool is left: %v", err)
		}
	})
}

func TestLogsRotate(t *testing.T) {
	root := t.TempDir()
	s := testLogs(t, root, 1000, 3)
	defer s.close()
	stdout, _, err := s.prepare(logPod, "c", 0)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(stdout)
	var text bytes.Buffer
	for i := range 500 {
		fmt.Fprintf(&text, "line %d\n", i)
	}
	appendTo(t, stdout, text.String())
	if err := s.finish(dir); err != nil {
		t.Fatal(err)
	}
	if f := logFiles(dir); len(f) != 3 {
		t.Errorf("files %v, want 3", f)
	}
	all := readLog(t, s, container.LogQuery{})
	if len(all) < 30 || len(all) > 90 || all[len(all)-1].Text != "line 499" {
		t.Errorf("%d records kept, the last %+v", len(all), all[len(all)-1])
	}
	for tail := 1; tail <= len(all)+5; tail++ { // across the boundaries of files
		got := readLog(t, s, container.LogQuery{Tail: tail})
		if want := all[max(0, len(all)-tail):]; !slices.Equal(got, want) {
			t.Fatalf("tail %d: %d records from %+v, want %d", tail, len(got), got[0], len(want))
		}
	}
	if got := readLog(t, s, container.LogQuery{Tail: -1}); len(got) != 0 {
		t.Errorf("only what is new: %d records", len(got))
	}
}

// TestLogsFollow reads while the log rotates under the reader.
func TestLogsFollow(t *testing.T) {
	s := testLogs(t, t.TempDir(), 500, 1000)
	defer s.close()
	stdout, _, err := s.prepare(logPod, "c", 0)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(stdout)
	if err := s.collect(dir); err != nil {
		t.Fatal(err)
	}
	const n = 2000
	go func() {
		for i := range n {
			appendTo(t, stdout, fmt.Sprintf("line %d\n", i))
		}
		if err := s.finish(dir); err != nil {
			t.Error(err)
		}
	}()
	got := readLog(t, s, container.LogQuery{Follow: true})
	for i, l := range got {
		if l.Text != fmt.Sprintf("line %d", i) {
			t.Fatalf("record %d is %+v", i, l)
		}
		if i > 0 && l.Time.Before(got[i-1].Time) {
			t.Fatalf("time goes back at %+v", l)
		}
	}
	if len(got) != n {
		t.Errorf("%d records, want %d", len(got), n)
	}
}

// TestLogsSpoolIsGivenBack: what has been read must not fill the disk.
func TestLogsSpoolIsGivenBack(t *testing.T) {
	s := testLogs(t, t.TempDir(), 1<<20, 2)
	defer s.close()
	stdout, _, err := s.prepare(logPod, "c", 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.collect(filepath.Dir(stdout)); err != nil {
		t.Fatal(err)
	}
	for range 16 {
		appendTo(t, stdout, strings.Repeat(strings.Repeat("x", 99)+"\n", 10_000))
	}
	await(t, "holes in the spool", func() bool { return blocks(stdout) < 3<<20 })
}

func TestLogsLongLine(t *testing.T) {
	s := testLogs(t, t.TempDir(), 1<<20, 2)
	defer s.close()
	stdout, _, err := s.prepare(logPod, "c", 0)
	if err != nil {
		t.Fatal(err)
	}
	appendTo(t, stdout, strings.Repeat("x", 2*maxRecord+5)+"\nnext\n")
	if err := s.finish(filepath.Dir(stdout)); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range readLog(t, s, container.LogQuery{}) {
		got = append(got, fmt.Sprint(len(l.Text), l.Partial))
	}
	if want := []string{"16384 true", "16384 true", "5 false", "4 false"}; !slices.Equal(got, want) {
		t.Errorf("records %q, want %q", got, want)
	}
}

func BenchmarkLogs(b *testing.B) {
	s := testLogs(b, b.TempDir(), 10<<20, 3)
	defer s.close()
	stdout, _, err := s.prepare(logPod, "c", 0)
	if err != nil {
		b.Fatal(err)
	}
	chunk := strings.Repeat(strings.Repeat("x", 99)+"\n", 10_000)
	b.SetBytes(int64(len(chunk)))
	start := time.Now()
	for b.Loop() {
		appendTo(b, stdout, chunk)
	}
	if err := s.finish(filepath.Dir(stdout)); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)*10_000/time.Since(start).Seconds(), "lines/s")
}
