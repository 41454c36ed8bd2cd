package lsp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/hcl"
)

// editor talks to a server over pipes, in the bytes that editors send: what the
// library makes of them is tested with the rest.
type editor struct {
	t      *testing.T
	dir    string
	to     *io.PipeWriter
	told   chan publishParams
	replys chan reply
	ended  chan error
	id     int
}

type reply struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

func newEditor(t *testing.T, files map[string]string) *editor {
	t.Helper()
	e := &editor{t: t, dir: filepath.Join(t.TempDir(), "shop"), told: make(chan publishParams, 1000), replys: make(chan reply, 1000), ended: make(chan error, 1)}
	for name, text := range files {
		path := filepath.Join(e.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	in, to := io.Pipe()
	from, out := io.Pipe()
	e.to = to
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	go func() {
		e.ended <- Serve(ctx, in, out, Options{Load: func(string) hcl.Options { return hcl.Options{} }, Version: "test", Log: t.Output()})
	}()
	read := make(chan struct{})
	go func() {
		defer close(read)
		e.read(bufio.NewReader(from))
	}()
	t.Cleanup(func() {
		cancel()
		to.Close()
		out.Close()
		<-read
	})
	return e
}

func (e *editor) read(r *bufio.Reader) {
	for {
		head, err := textproto.NewReader(r).ReadMIMEHeader()
		if err != nil {
			return
		}
		n, err := strconv.Atoi(head.Get("Content-Length"))
		if err != nil {
			e.t.Errorf("the header %v", head)
			return
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			return
		}
		var m reply
		if err := json.Unmarshal(b, &m); err != nil {
			e.t.Errorf("%v: %s", err, b)
			return
		}
		if m.Method == "textDocument/publishDiagnostics" {
			var p publishParams
			if err := json.Unmarshal(m.Params, &p); err != nil {
				e.t.Error(err)
			}
			e.told <- p
			continue
		}
		e.replys <- m
	}
}

func (e *editor) send(text string) {
	e.t.Helper()
	if _, err := fmt.Fprintf(e.to, "Content-Length: %d\r\n\r\n%s", len(text), text); err != nil {
		e.t.Fatal(err)
	}
}

func encode(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (e *editor) notify(method string, params any) {
	e.t.Helper()
	e.send(encode(e.t, map[string]any{"jsonrpc": "2.0", "method": method, "params": params}))
}

// call asks and waits for the answer; the error's code is 0 if there is none.
func (e *editor) call(method string, params, result any) (code int) {
	e.t.Helper()
	e.id++
	m := map[string]any{"jsonrpc": "2.0", "id": e.id, "method": method}
	if params != nil {
		m["params"] = params
	}
	e.send(encode(e.t, m))
	r := e.reply()
	if string(r.ID) != strconv.Itoa(e.id) {
		e.t.Fatalf("the answer to %s has the id %s, want %d", method, r.ID, e.id)
	}
	if r.Error != nil {
		return r.Error.Code
	}
	if result != nil {
		if err := json.Unmarshal(r.Result, result); err != nil {
			e.t.Fatalf("%s: %v in %s", method, err, r.Result)
		}
	}
	return 0
}

func (e *editor) reply() reply {
	e.t.Helper()
	select {
	case r := <-e.replys:
		return r
	case err := <-e.ended:
		e.t.Fatalf("the server ended: %v", err)
	case <-e.t.Context().Done():
		e.t.Fatal("no answer")
	}
	return reply{}
}

func (e *editor) initialize() {
	e.t.Helper()
	var r struct {
		Capabilities map[string]any `json:"capabilities"`
	}
	p := map[string]any{"processId": nil, "rootUri": nil, "capabilities": map[string]any{"textDocument": map[string]any{"completion": map[string]any{"completionItem": map[string]any{"snippetSupport": true}}}}}
	if code := e.call("initialize", p, &r); code != 0 || r.Capabilities["hoverProvider"] != true {
		e.t.Fatalf("initialize: %d, %v", code, r)
	}
	e.notify("initialized", map[string]any{})
}

func (e *editor) uri(name string) string {
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(filepath.Join(e.dir, name))}).String()
}

func (e *editor) open(name, text string) {
	e.t.Helper()
	e.notify("textDocument/didOpen", map[string]any{"textDocument": map[string]any{"uri": e.uri(name), "languageId": "hcl", "version": 1, "text": text}})
}

func (e *editor) change(name string, version int, changes ...map[string]any) {
	e.t.Helper()
	e.notify("textDocument/didChange", map[string]any{"textDocument": map[string]any{"uri": e.uri(name), "version": version}, "contentChanges": changes})
}

// diagnostics waits for what the server says of a version of a file.
func (e *editor) diagnostics(name string, version int) []diagnostic {
	e.t.Helper()
	for {
		select {
		case p := <-e.told:
			if p.URI == e.uri(name) && (version == 0 && p.Version == nil || p.Version != nil && *p.Version == version) {
				return p.Diagnostics
			}
		case err := <-e.ended:
			e.t.Fatalf("the server ended: %v", err)
		}
	}
}

func (e *editor) at(name string, line, character int) map[string]any {
	return map[string]any{"textDocument": map[string]any{"uri": e.uri(name)}, "position": position{line, character}}
}

const shop = `variable "version" {
  type = string
}
deployment "web" {
  replicass = 2
  pod {
    container "web" {
      image = "🚢/web:${var.version}"
    }
  }
}
`

// TestSession is the day of an editor, from the first byte to the last.
func TestSession(t *testing.T) {
	e := newEditor(t, map[string]string{"main.hcl": shop, "net/main.hcl": "variable \"zone\" { type = string }\noutput \"name\" { value = var.zone }\n"})
	if code := e.call("textDocument/hover", e.at("main.hcl", 0, 0), nil); code != -32002 {
		t.Errorf("before initialize: code %d", code)
	}
	e.initialize()
	e.open("main.hcl", shop)
	d := e.diagnostics("main.hcl", 1)
	if len(d) != 1 || !strings.Contains(d[0].Message, "replicas") || d[0].Range != (textRange{position{4, 2}, position{4, 11}}) || d[0].Severity != 1 {
		t.Fatalf("diagnostics %+v: want the misspelt replicas alone, for a variable without a value is no mistake here", d)
	}

	var h hover
	if e.call("textDocument/hover", e.at("main.hcl", 7, 7), &h); !strings.Contains(h.Contents.Value, "image") || !strings.Contains(h.Contents.Value, "required") {
		t.Errorf("hover of image: %+v", h)
	}
	// The ship is one letter, four bytes, and two units of UTF-16.
	if e.call("textDocument/hover", e.at("main.hcl", 7, 30), &h); !strings.Contains(h.Contents.Value, "var.version") || h.Range != (textRange{position{7, 28}, position{7, 35}}) {
		t.Errorf("hover of var.version: %+v", h)
	}
	var at []location
	if e.call("textDocument/definition", e.at("main.hcl", 7, 30), &at); len(at) != 1 || at[0].URI != e.uri("main.hcl") || at[0].Range.Start != (position{0, 0}) {
		t.Errorf("definition: %+v", at)
	}

	e.change("main.hcl", 2, map[string]any{"range": textRange{position{4, 10}, position{4, 11}}, "text": ""})
	if d := e.diagnostics("main.hcl", 2); len(d) != 0 {
		t.Errorf("after the change: %+v", d)
	}
	// Half a line, and everything goes on.
	e.change("main.hcl", 3, map[string]any{"range": textRange{position{4, 14}, position{4, 14}}, "text": "\n  update {\n    strategy = \"\n    s\n"})
	if d := e.diagnostics("main.hcl", 3); len(d) == 0 {
		t.Error("a broken text has no diagnostics")
	}
	var list completionList
	e.call("textDocument/completion", e.at("main.hcl", 6, 16), &list)
	if got := labels(list.Items); !slices.Contains(got, "canary") || !slices.Contains(got, "blue_green") {
		t.Errorf("strategies: %q", got)
	}
	e.call("textDocument/completion", e.at("main.hcl", 7, 5), &list)
	if got := labels(list.Items); !slices.Contains(got, "surge") || slices.Contains(got, "strategy") {
		t.Errorf("in update: %q", got)
	}

	var edits []textEdit
	if e.call("textDocument/formatting", map[string]any{"textDocument": map[string]any{"uri": e.uri("main.hcl")}, "options": map[string]any{"tabSize": 2}}, &edits); len(edits) != 0 {
		t.Errorf("a broken text was formatted: %+v", edits)
	}
	e.change("main.hcl", 4, map[string]any{"text": "module \"net\" {\n  source = \"./net\"\n  zone=\"a\"\n}\noutput \"o\" { value = module.net.name }\n"})
	if d := e.diagnostics("main.hcl", 4); len(d) != 0 {
		t.Errorf("with a module: %+v", d)
	}
	if e.call("textDocument/formatting", map[string]any{"textDocument": map[string]any{"uri": e.uri("main.hcl")}}, &edits); len(edits) != 1 || edits[0].NewText != "  zone   = \"a\"\n" || edits[0].Range != (textRange{position{2, 0}, position{3, 0}}) {
		t.Errorf("formatting: %+v", edits)
	}
	if e.call("textDocument/definition", e.at("main.hcl", 2, 4), &at); len(at) != 1 || at[0].URI != e.uri("net/main.hcl") {
		t.Errorf("definition of an input: %+v", at)
	}
	// A change of the module that is not saved is seen by the one who uses it.
	e.open("net/main.hcl", "variable \"zone\" { type = string }\n")
	if d := e.diagnostics("main.hcl", 4); len(d) != 1 || !strings.Contains(d[0].Message, "name") {
		t.Errorf("the output is gone: %+v", d)
	}
	e.notify("textDocument/didClose", map[string]any{"textDocument": map[string]any{"uri": e.uri("net/main.hcl")}})
	if d := e.diagnostics("main.hcl", 4); len(d) != 0 {
		t.Errorf("the output is back: %+v", d)
	}

	if code := e.call("textDocument/foldingRange", map[string]any{}, nil); code != -32601 {
		t.Errorf("an unknown request: code %d", code)
	}
	if code := e.call("textDocument/hover", []int{1}, nil); code != -32602 {
		t.Errorf("wrong parameters: code %d", code)
	}
	e.notify("$/unheardOf", map[string]any{"x": 1})
	e.notify("$/cancelRequest", map[string]any{"id": 999})
	e.send("{")
	if r := e.reply(); r.Error == nil || r.Error.Code != -32700 {
		t.Errorf("half a message: %+v", r)
	}
	if code := e.call("shutdown", nil, nil); code != 0 {
		t.Errorf("shutdown: %d", code)
	}
	if code := e.call("textDocument/hover", e.at("main.hcl", 0, 0), nil); code != -32600 {
		t.Errorf("after shutdown: code %d", code)
	}
	e.notify("exit", nil)
	if err := <-e.ended; err != nil {
		t.Errorf("the end: %v", err)
	}
}

// TestGoneEditor is an editor that was killed.
func TestGoneEditor(t *testing.T) {
	e := newEditor(t, nil)
	e.initialize()
	e.to.Close()
	if err := <-e.ended; !errors.Is(err, ErrEnded) {
		t.Errorf("the end: %v", err)
	}
}

func labels(items []completionItem) []string {
	var out []string
	for _, i := range items {
		out = append(out, i.Label)
	}
	return out
}
