package lsp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"

	"github.com/creachadair/jrpc2"
	"github.com/creachadair/jrpc2/channel"

	"github.com/berthdev/berth/hcl"
)

// Options are what a server works with.
type Options struct {
	// Load says with what the configuration of a directory is evaluated. Overlay and
	// Unset are set by the server.
	Load func(dir string) hcl.Options
	// Version is told to the editor.
	Version string
	// Log is where the server tells what goes wrong with itself; editors show it.
	Log io.Writer
}

// ErrEnded is what Serve returns if the editor went without saying so.
var ErrEnded = errors.New("the editor went away without shutting the server down")

// Codes that the protocol adds to those of JSON-RPC.
const (
	codeNotInitialized jrpc2.Code = -32002
	codeCancelled      jrpc2.Code = -32800
)

// Serve answers an editor until it says exit, its end of the pipe closes, or ctx ends.
func Serve(ctx context.Context, in io.Reader, out io.Writer, o Options) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &server{
		o: o, w: &workspace{open: map[string]*document{}, saved: map[string]savedFile{}},
		dirty: make(chan struct{}, 1), exit: make(chan struct{}), told: map[string]bool{},
	}
	s.rpc = jrpc2.NewServer(s, &jrpc2.ServerOptions{
		AllowPush: true, DisableBuiltin: true, Concurrency: 4,
		NewContext: func() context.Context { return ctx },
	})
	s.rpc.Start(lenient{channel.Header("")(in, unclosed{out})})
	var work sync.WaitGroup
	work.Go(func() { s.diagnose(ctx) })
	defer work.Wait()
	defer cancel()
	gone := make(chan error, 1)
	go func() { gone <- s.rpc.Wait() }() // not waited for: a read from a pipe cannot be called off
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.exit:
	case err := <-gone:
		if err != nil {
			return err
		}
	}
	if s.state() != stopped {
		return ErrEnded
	}
	return nil
}

// unclosed is an end of a pipe that belongs to somebody else.
type unclosed struct{ io.Writer }

func (unclosed) Close() error { return nil }

// lenient takes messages whatever content type they name: old editors name one.
type lenient struct{ channel.Channel }

func (l lenient) Recv() ([]byte, error) {
	b, err := l.Channel.Recv()
	var mismatch *channel.ContentTypeMismatchError
	if errors.As(err, &mismatch) {
		err = nil
	}
	return b, err
}

// phase is how far the conversation is.
type phase int

const (
	fresh   phase = iota // initialize has not been asked
	serving              // the editor works
	stopped              // shutdown has been asked; exit follows
)

type server struct {
	o   Options
	w   *workspace
	rpc *jrpc2.Server

	mu       sync.Mutex
	phase    phase
	snippets bool

	dirty chan struct{} // a token: something has changed
	exit  chan struct{}
	once  sync.Once
	told  map[string]bool // files that the editor has been told of; the diagnosing goroutine's own
}

func (s *server) state() phase {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase
}

// Assign finds who answers a method. Requests that nobody knows get an error,
// notifications that nobody knows are dropped, as the protocol wants it.
func (s *server) Assign(_ context.Context, method string) jrpc2.Handler {
	return func(ctx context.Context, req *jrpc2.Request) (result any, err error) {
		defer func() {
			if r := recover(); r != nil { // one wrong answer is no reason to leave the editor alone
				fmt.Fprintf(s.o.Log, "berth lsp: %s: %v\n%s", method, r, debug.Stack())
				result, err = nil, jrpc2.Errorf(jrpc2.InternalError, "%s failed: %v", method, r)
			}
		}()
		if method == "exit" {
			s.once.Do(func() { close(s.exit) })
			return nil, nil
		}
		phase := s.state()
		switch known := s.methods()[method]; {
		case phase == fresh && method != "initialize":
			return nil, jrpc2.Errorf(codeNotInitialized, "%s came before initialize", method)
		case phase == stopped:
			return nil, jrpc2.Errorf(jrpc2.InvalidRequest, "%s came after shutdown", method)
		case phase == serving && method == "initialize":
			return nil, jrpc2.Errorf(jrpc2.InvalidRequest, "initialize came twice")
		case known == nil:
			return nil, jrpc2.Errorf(jrpc2.MethodNotFound, "no method %q", method)
		default:
			if result, err = known(req); ctx.Err() != nil {
				return nil, jrpc2.Errorf(codeCancelled, "cancelled")
			}
			return result, err
		}
	}
}

func (s *server) methods() map[string]func(*jrpc2.Request) (any, error) {
	return map[string]func(*jrpc2.Request) (any, error){
		"initialize":                       s.initialize,
		"initialized":                      nothing,
		"shutdown":                         s.shutdown,
		"$/cancelRequest":                  s.cancel,
		"$/setTrace":                       nothing,
		"workspace/didChangeConfiguration": nothing,
		"workspace/didChangeWatchedFiles":  s.changed,
		"textDocument/didOpen":             s.didOpen,
		"textDocument/didChange":           s.didChange,
		"textDocument/didSave":             s.changed,
		"textDocument/didClose":            s.didClose,
		"textDocument/hover":               s.hover,
		"textDocument/completion":          s.completion,
		"textDocument/definition":          s.definition,
		"textDocument/formatting":          s.formatting,
		"textDocument/documentSymbol":      s.symbols,
	}
}

func nothing(*jrpc2.Request) (any, error) { return nil, nil }

// params reads what a request says, in full or not at all: editors send more than is
// known here.
func params[T any](req *jrpc2.Request) (T, error) {
	var p T
	if err := json.Unmarshal([]byte(req.ParamString()), &p); err != nil {
		return p, jrpc2.Errorf(jrpc2.InvalidParams, "%s: %v", req.Method(), err)
	}
	return p, nil
}

func (s *server) initialize(req *jrpc2.Request) (any, error) {
	p, err := params[initializeParams](req)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.phase, s.snippets = serving, p.Capabilities.TextDocument.Completion.CompletionItem.SnippetSupport
	s.mu.Unlock()
	return map[string]any{
		"serverInfo": map[string]string{"name": "berth", "version": s.o.Version},
		"capabilities": map[string]any{
			"positionEncoding":           "utf-16",
			"textDocumentSync":           map[string]any{"openClose": true, "change": 2, "save": map[string]bool{"includeText": false}},
			"completionProvider":         map[string]any{"triggerCharacters": []string{".", "\""}},
			"hoverProvider":              true,
			"definitionProvider":         true,
			"documentFormattingProvider": true,
			"documentSymbolProvider":     true,
		},
	}, nil
}

func (s *server) shutdown(*jrpc2.Request) (any, error) {
	s.mu.Lock()
	s.phase = stopped
	s.mu.Unlock()
	return nil, nil
}

func (s *server) cancel(req *jrpc2.Request) (any, error) {
	p, err := params[struct {
		ID json.RawMessage `json:"id"`
	}](req)
	if err != nil {
		return nil, err
	}
	s.rpc.CancelRequest(string(p.ID))
	return nil, nil
}

// changed asks for another look at everything that is open.
func (s *server) changed(*jrpc2.Request) (any, error) {
	select {
	case s.dirty <- struct{}{}:
	default: // somebody has asked already
	}
	return nil, nil
}

func (s *server) didOpen(req *jrpc2.Request) (any, error) {
	p, err := params[openParams](req)
	if err != nil {
		return nil, err
	}
	if path := pathOf(p.TextDocument.URI); path != "" {
		s.w.set(path, &document{uri: p.TextDocument.URI, path: path, version: p.TextDocument.Version, text: []byte(p.TextDocument.Text)})
	}
	return s.changed(req)
}

func (s *server) didChange(req *jrpc2.Request) (any, error) {
	p, err := params[changeParams](req)
	if err != nil {
		return nil, err
	}
	d, err := s.find(p.documentParams)
	if err != nil {
		return nil, err
	}
	text := d.text
	for _, c := range p.ContentChanges {
		if c.Range == nil {
			text = []byte(c.Text)
			continue
		}
		start, end := offset(text, c.Range.Start), offset(text, c.Range.End)
		if end < start {
			return nil, jrpc2.Errorf(jrpc2.InvalidParams, "a change ends before it begins")
		}
		next := make([]byte, 0, len(text)-(end-start)+len(c.Text))
		next = append(append(append(next, text[:start]...), c.Text...), text[end:]...)
		text = next
	}
	s.w.set(d.path, &document{uri: d.uri, path: d.path, version: p.TextDocument.Version, text: text})
	return s.changed(req)
}

func (s *server) didClose(req *jrpc2.Request) (any, error) {
	p, err := params[documentParams](req)
	if err != nil {
		return nil, err
	}
	s.w.set(pathOf(p.TextDocument.URI), nil)
	return s.changed(req)
}

// find is an open document.
func (s *server) find(p documentParams) (*document, error) {
	if d := s.w.document(pathOf(p.TextDocument.URI)); d != nil {
		return d, nil
	}
	return nil, jrpc2.Errorf(jrpc2.InvalidParams, "%s is not open", p.TextDocument.URI)
}

// ask reads a question about a place; it is nil about files that are no
// configuration in HCL's own syntax.
func (s *server) ask(req *jrpc2.Request) (*question, error) {
	p, err := params[positionParams](req)
	if err != nil {
		return nil, err
	}
	d, err := s.find(p.documentParams)
	if err != nil || !outlines(d.path) {
		return nil, err
	}
	s.mu.Lock()
	snippets := s.snippets
	s.mu.Unlock()
	return s.w.ask(d, p.Position, snippets), nil
}

func (s *server) hover(req *jrpc2.Request) (any, error) {
	q, err := s.ask(req)
	if err != nil || q == nil {
		return nil, err
	}
	if h := q.hover(); h != nil {
		return h, nil
	}
	return nil, nil
}

func (s *server) completion(req *jrpc2.Request) (any, error) {
	q, err := s.ask(req)
	if err != nil {
		return nil, err
	}
	list := completionList{Items: []completionItem{}}
	if q != nil {
		list.Items = append(list.Items, q.complete()...)
	}
	return list, nil
}

func (s *server) definition(req *jrpc2.Request) (any, error) {
	q, err := s.ask(req)
	if err != nil || q == nil {
		return nil, err
	}
	return append([]location{}, q.definition()...), nil
}

func (s *server) symbols(req *jrpc2.Request) (any, error) {
	p, err := params[documentParams](req)
	if err != nil {
		return nil, err
	}
	d, err := s.find(p)
	if err != nil || !outlines(d.path) {
		return []documentSymbol{}, err
	}
	o := d.outline()
	return o.symbols(o.root), nil
}

// formatting answers with the lines that change, or with nothing: what does not
// parse stays as it is, and its mistakes have been told.
func (s *server) formatting(req *jrpc2.Request) (any, error) {
	p, err := params[documentParams](req)
	if err != nil {
		return nil, err
	}
	d, err := s.find(p)
	if err != nil {
		return nil, err
	}
	edits := []textEdit{}
	if after, diags := hcl.FormatSource(d.path, d.text); formattable(d.path) && !diags.HasErrors() {
		edits = append(edits, edit(d.text, after)...)
	}
	return edits, nil
}
