package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/textproto"
	"strconv"
	"strings"
	"testing"

	"github.com/berthdev/berth/cluster/object"
)

// TestLspCommand is the command from end to end: an editor comes, and goes.
func TestLspCommand(t *testing.T) {
	for name, c := range map[string]struct {
		messages []string
		code     int
	}{
		"politely":   {[]string{`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"capabilities":{}}}`, `{"jsonrpc":"2.0","id":2,"method":"shutdown"}`, `{"jsonrpc":"2.0","method":"exit"}`}, exitOK},
		"impolitely": {[]string{`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"capabilities":{}}}`, `{"jsonrpc":"2.0","method":"exit"}`}, exitError},
	} {
		t.Run(name, func(t *testing.T) {
			in, editor := io.Pipe()
			answers, out := io.Pipe()
			defer editor.Close() // after the command has ended: exit alone ends it
			first := make(chan string, 1)
			go func() {
				r := bufio.NewReader(answers)
				for _, m := range c.messages {
					fmt.Fprintf(editor, "Content-Length: %d\r\n\r\n%s", len(m), m)
					if !strings.Contains(m, `"id"`) {
						continue
					}
					head, err := textproto.NewReader(r).ReadMIMEHeader()
					n, _ := strconv.Atoi(head.Get("Content-Length"))
					b := make([]byte, n)
					if _, readErr := io.ReadFull(r, b); err != nil || readErr != nil {
						t.Errorf("no answer to %s: %v, %v", m, err, readErr)
					}
					select {
					case first <- string(b):
					default:
					}
				}
			}()
			var wrong bytes.Buffer
			if code := run(t.Context(), []string{"lsp", "--stdio"}, in, out, &wrong, func(string) string { return "" }); code != c.code {
				t.Errorf("exit code %d, want %d: %s", code, c.code, wrong.String())
			}
			if got := <-first; !strings.Contains(got, `"completionProvider"`) {
				t.Errorf("the answer to initialize: %s", got)
			}
		})
	}
}

// TestSchemaCommand: what is printed is the schema, whole.
func TestSchemaCommand(t *testing.T) {
	var out, wrong bytes.Buffer
	if code := run(t.Context(), []string{"schema"}, nil, &out, &wrong, func(string) string { return "" }); code != exitOK || !bytes.Equal(out.Bytes(), object.Schema()) {
		t.Errorf("exit code %d, %s", code, wrong.String())
	}
}
