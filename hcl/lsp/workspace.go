package lsp

import (
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berthdev/berth/hcl"
)

// workspace is what the editor has open, and the outlines of what lies beside it.
type workspace struct {
	mu    sync.Mutex
	open  map[string]*document // by path
	saved map[string]savedFile // by path
}

// document is one text of the editor at one version; a change makes another.
type document struct {
	uri, path string
	version   int
	text      []byte
	once      sync.Once
	parsed    *outline
}

func (d *document) outline() *outline {
	d.once.Do(func() { d.parsed = outlined(d.text) })
	return d.parsed
}

type savedFile struct {
	changed time.Time
	size    int64
	outline *outline
}

// pathOf is the file behind a URI; empty if it is none.
func pathOf(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "file" {
		return ""
	}
	path := u.Path
	if runtime.GOOS == "windows" {
		path = strings.TrimPrefix(path, "/")
	}
	return filepath.Clean(filepath.FromSlash(path))
}

// uriOf is the inverse of pathOf, in the editor's own spelling if it has the file open.
func (w *workspace) uriOf(path string) string {
	if d := w.document(path); d != nil {
		return d.uri
	}
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return (&url.URL{Scheme: "file", Path: path}).String()
}

func (w *workspace) document(path string) *document {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open[path]
}

// set puts a document in the place of the one before; nil closes the file.
func (w *workspace) set(path string, d *document) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d == nil {
		delete(w.open, path)
		return
	}
	w.open[path] = d
}

// configures reports whether a file belongs to a configuration: others, such as
// policies and tests, are formatted only.
func configures(path string) bool {
	base := filepath.Base(path)
	if strings.HasPrefix(base, ".") || strings.HasSuffix(base, hcl.PolicySuffix) || strings.HasSuffix(base, hcl.TestSuffix) {
		return false
	}
	for _, suffix := range []string{".hcl", ".hcl.json", ".hclvars", ".hclvars.json"} {
		if strings.HasSuffix(base, suffix) {
			return true
		}
	}
	return false
}

// directories are those of documents, sorted.
func directories(open map[string]*document) []string {
	dirs := map[string]bool{}
	for path := range open {
		if configures(path) {
			dirs[filepath.Dir(path)] = true
		}
	}
	return slices.Sorted(maps.Keys(dirs))
}

// documents is what is open now.
func (w *workspace) documents() map[string]*document {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.open)
}

// overlay is every text by path, and by the path without symbolic links, which is
// how modules are found.
func overlay(open map[string]*document) map[string][]byte {
	out := make(map[string][]byte, len(open))
	for path, d := range open {
		if !configures(path) {
			continue
		}
		out[path] = d.text
		if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
			out[filepath.Join(dir, filepath.Base(path))] = d.text
		}
	}
	return out
}

// text is a file as the editor has it, else as it is on disk; nil if it is nowhere.
func (w *workspace) text(path string) []byte {
	if d := w.document(path); d != nil {
		return d.text
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return b
}

// directory is the outlines of a directory's files, by path.
func (w *workspace) directory(dir string) map[string]*outline {
	out := map[string]*outline{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		entries = nil // a directory that nobody has made yet: what is open is all there is
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if e.IsDir() || !native(path) || w.document(path) != nil {
			continue
		}
		if o := w.read(path); o != nil {
			out[path] = o
		}
	}
	for path, d := range w.documents() {
		if filepath.Dir(path) == dir && native(path) {
			out[path] = d.outline()
		}
	}
	return out
}

// native reports whether a file is configuration in HCL's own syntax.
func native(path string) bool { return configures(path) && strings.HasSuffix(path, ".hcl") }

// read makes the outline of a file on disk, or finds it if the file is as it was.
func (w *workspace) read(path string) *outline {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	w.mu.Lock()
	was := w.saved[path]
	w.mu.Unlock()
	if was.outline != nil && was.size == info.Size() && was.changed.Equal(info.ModTime()) {
		return was.outline
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	o := outlined(b)
	w.mu.Lock()
	w.saved[path] = savedFile{info.ModTime(), info.Size(), o}
	w.mu.Unlock()
	return o
}
