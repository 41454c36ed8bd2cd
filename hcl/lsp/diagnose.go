package lsp

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/hcl"
)

// diagnose looks at the open directories whenever something has changed. Changes
// that come while it looks are looked at together afterwards, so that it is never
// behind by more than one look, however fast somebody types.
func (s *server) diagnose(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.dirty:
			s.look(ctx)
		}
	}
}

// look loads every open directory and tells the editor what is wrong. A file may be
// part of several, as modules are.
func (s *server) look(ctx context.Context) {
	open := s.w.documents()
	unsaved := overlay(open)
	found := map[string][]diagnostic{}
	for path := range open {
		if configures(path) {
			found[path] = []diagnostic{}
		}
	}
	texts := map[string][]byte{}
	text := func(path string) []byte {
		if d := open[path]; d != nil {
			return d.text
		}
		if b, ok := texts[path]; ok {
			return b
		}
		texts[path] = s.w.text(path)
		return texts[path]
	}
	for _, dir := range directories(open) {
		if ctx.Err() != nil {
			return
		}
		for _, d := range s.load(dir, unsaved) {
			path, at := placeOf(dir, d, text)
			if path == "" { // about no file: the first that is open stands for the directory
				path = firstOf(open, dir)
			}
			said := diagnostic{Range: at, Severity: 1, Source: "berth", Message: message(d)}
			if d.Severity == object.SeverityWarning {
				said.Severity = 2
			}
			if !slices.Contains(found[path], said) {
				found[path] = append(found[path], said)
			}
		}
	}
	for path := range s.told {
		if _, ok := found[path]; !ok {
			found[path] = []diagnostic{} // it was wrong, and is not any more
		}
	}
	for _, path := range slices.Sorted(maps.Keys(found)) {
		p := publishParams{URI: s.w.uriOf(path), Diagnostics: found[path]}
		if d := open[path]; d != nil {
			p.URI, p.Version = d.uri, &d.version
		}
		if s.told[path] = true; len(found[path]) == 0 && open[path] == nil {
			delete(s.told, path)
		}
		if err := s.rpc.Notify(ctx, "textDocument/publishDiagnostics", p); err != nil {
			return // the pipe is closed, and Serve is about to end
		}
	}
}

// load evaluates a directory as it is being typed.
func (s *server) load(dir string, unsaved map[string][]byte) (diags object.Diagnostics) {
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintf(s.o.Log, "berth lsp: %s: %v\n%s", dir, r, debug.Stack())
		}
	}()
	o := s.o.Load(dir)
	o.Overlay, o.Unset, o.Input = unsaved, true, nil
	_, diags = hcl.Load(dir, o)
	return diags
}

// placeOf finds a diagnostic's file and range; the file is empty if it has none.
func placeOf(dir string, d object.Diagnostic, text func(string) []byte) (string, textRange) {
	if d.Range == nil {
		return "", textRange{}
	}
	path := filepath.FromSlash(d.Range.File)
	if !filepath.IsAbs(path) { // files of variables
		path = filepath.Join(dir, path)
	}
	src := text(path)
	if src == nil {
		return "", textRange{}
	}
	return path, rangeIn(src, span{d.Range.Start.Byte, max(d.Range.Start.Byte, d.Range.End.Byte)})
}

func firstOf(open map[string]*document, dir string) string {
	for _, path := range slices.Sorted(maps.Keys(open)) {
		if filepath.Dir(path) == dir && configures(path) {
			return path
		}
	}
	return ""
}

func message(d object.Diagnostic) string {
	if d.Detail == "" {
		return d.Summary
	}
	return d.Summary + "\n" + d.Detail
}

// outlines reports whether questions about a file can be answered.
func outlines(path string) bool {
	return configures(path) && (strings.HasSuffix(path, ".hcl") || strings.HasSuffix(path, ".hclvars"))
}

// formattable reports whether a file is in HCL's own syntax: policies are, too.
func formattable(path string) bool {
	return strings.HasSuffix(path, ".hcl") || strings.HasSuffix(path, ".hclvars")
}

// edit is what makes one text of another: the lines between those that stay, so that
// the editor keeps its cursor and folds.
func edit(before, after []byte) []textEdit {
	if bytes.Equal(before, after) {
		return nil
	}
	a, b := bytes.SplitAfter(before, []byte{'\n'}), bytes.SplitAfter(after, []byte{'\n'})
	start, same := 0, 0
	for start < min(len(a), len(b)) && bytes.Equal(a[start], b[start]) {
		start++
	}
	for same < min(len(a), len(b))-start && bytes.Equal(a[len(a)-1-same], b[len(b)-1-same]) {
		same++
	}
	from := len(bytes.Join(a[:start], nil))
	to := len(before) - len(bytes.Join(a[len(a)-same:], nil))
	return []textEdit{{rangeIn(before, span{from, to}), string(bytes.Join(b[start:len(b)-same], nil))}}
}
