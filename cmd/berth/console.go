package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/term"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cmd/internal/view"
	"github.com/berthdev/berth/hcl"
)

// ConsoleCmd is `berth console`.
type ConsoleCmd struct {
	VariableFlags
	JSONFlag
}

const consoleHelp = `Type an expression to see its value: variables, locals, the attributes of objects,
outputs of modules, functions. An open bracket goes on in the next line.
The configuration is read once, when the console starts; no cluster is asked.

To leave, type exit, or press Ctrl-C or Ctrl-D.`

// Run answers expressions, line by line: from a person at a terminal, else from
// whatever standard input is.
func (c *ConsoleCmd) Run(s *session) error {
	con, diags := hcl.NewConsole(s.flags.Chdir, s.options(c.VariableFlags))
	if con != nil && diags.HasErrors() {
		diags = append(diags, object.Diagnostic{Severity: object.SeverityWarning, Summary: "Some values are missing", Detail: "Because of the mistakes above, some expressions have no value."})
	}
	s.diagnose(diags)
	if con == nil {
		return exitCode(exitError)
	}
	if s.interactive() && !c.JSON && s.env("TERM") != "dumb" {
		return s.converse(con)
	}
	in := bufio.NewReader(s.stdin)
	read := s.awaited(func() (string, error) {
		text, err := in.ReadString('\n')
		if err != nil && text != "" {
			err = nil
		}
		return strings.TrimRight(text, "\r\n"), err
	})
	failed := false
	err := dialogue(func(bool) (string, error) { return read() }, func(text string) error {
		if text == "help" {
			_, err := fmt.Fprintln(s.stdout, consoleHelp)
			return err
		}
		a, diags := con.Evaluate(text)
		failed = failed || diags.HasErrors()
		if c.JSON {
			return answerJSON(s.stdout, a, diags)
		}
		if s.diagnose(diags) {
			return nil
		}
		_, err := fmt.Fprintln(s.stdout, a.Text)
		return err
	})
	if err == nil && failed {
		return exitCode(exitError)
	}
	return err
}

// dialogue reads expressions and hands each over, until exit or the end. read is
// told whether the line it is to read goes on with an expression.
func dialogue(read func(more bool) (string, error), handle func(text string) error) error {
	for text := ""; ; {
		line, err := read(text != "")
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		ended := err != nil
		if text != "" {
			text += "\n"
		}
		text += line
		if hcl.Continues(text) && !ended {
			continue
		}
		entry := strings.TrimSpace(text)
		text = ""
		switch {
		case entry == "exit":
			return nil
		case entry == "", !strings.Contains(entry, "\n") && (strings.HasPrefix(entry, "#") || strings.HasPrefix(entry, "//")):
		default:
			if err := handle(entry); err != nil {
				return err
			}
		}
		if ended {
			return nil
		}
	}
}

// answerJSON writes one line for one expression.
func answerJSON(w io.Writer, a hcl.Answer, diags object.Diagnostics) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if diags.HasErrors() {
		return enc.Encode(map[string]any{"diagnostics": diags})
	}
	return enc.Encode(map[string]any{"value": a.Value, "type": a.Type, "sensitive": a.Sensitive})
}

// awaited makes reading end when the command is to end: a read from a terminal or
// a pipe cannot be called off.
func (s *session) awaited(read func() (string, error)) func() (string, error) {
	type result struct {
		line string
		err  error
	}
	done := make(chan result, 1)
	return func() (string, error) {
		go func() {
			line, err := read()
			done <- result{line, err}
		}()
		select {
		case r := <-done:
			return r.line, r.err
		case <-s.ctx.Done():
			return "", s.ctx.Err()
		}
	}
}

// errLeft is what reading a line answers when the person has left.
var errLeft = errors.New("left the console")

// converse answers a person at a terminal. The terminal is raw all the while, so
// that nothing typed ahead is lost between two lines.
func (s *session) converse(con *hcl.Console) error {
	keyboard := s.stdin.(*os.File)
	before, err := term.MakeRaw(int(keyboard.Fd()))
	if err != nil {
		return err
	}
	defer func() { _ = term.Restore(int(keyboard.Fd()), before) }() // there is nobody left to tell
	screen := s.stdout
	if !terminal(screen) { // answers go to a file, say
		screen = s.stderr
	}
	t := newPrompt(keyboard, screen, con.Names())
	t.SetBracketedPasteMode(true)
	defer t.SetBracketedPasteMode(false)
	read := s.awaited(func() (string, error) {
		line, err := t.ReadLine()
		if errors.Is(err, term.ErrPasteIndicator) {
			err = nil
		}
		return line, err
	})
	out, wrong := rawly(s.stdout), rawly(s.stderr)
	err = dialogue(func(more bool) (string, error) {
		if w := width(screen); w > 0 {
			if err := t.SetSize(w, 24); err != nil { // the height is not used
				return "", err
			}
		}
		t.SetPrompt(map[bool]string{false: "> ", true: ": "}[more])
		line, err := read()
		if errors.Is(err, io.EOF) { // Ctrl-C or Ctrl-D: what has been typed is dropped
			fmt.Fprint(screen, "\r\n")
			return "", errLeft
		}
		return line, err
	}, func(text string) error {
		if text == "help" {
			_, err := fmt.Fprintln(out, consoleHelp)
			return err
		}
		a, diags := con.Evaluate(text)
		if diags.HasErrors() {
			return view.Diagnostics(wrong, diags, s.style(s.stderr))
		}
		_, err := fmt.Fprintln(out, a.Text)
		return err
	})
	if errors.Is(err, errLeft) {
		return nil
	}
	return err
}

// newPrompt is a line editor with a history, that completes names with the tab key.
func newPrompt(in io.Reader, out io.Writer, names []string) *term.Terminal {
	t := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{in, out}, "> ")
	t.AutoCompleteCallback = func(line string, pos int, key rune) (string, int, bool) {
		if key != '\t' {
			return "", 0, false
		}
		start := strings.LastIndexFunc(line[:pos], func(r rune) bool {
			return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-", r)
		}) + 1
		word := common(line[start:pos], names)
		return line[:start] + word + line[pos:], start + len(word), true
	}
	return t
}

// common is what all names that begin with a word begin with; the word itself if
// there is none.
func common(word string, names []string) string {
	found := ""
	for _, n := range names {
		if !strings.HasPrefix(n, word) {
			continue
		}
		if found == "" {
			found = n
			continue
		}
		i := 0
		for i < len(found) && i < len(n) && found[i] == n[i] {
			i++
		}
		found = found[:i]
	}
	if found == "" {
		return word
	}
	return found
}

// rawly writes to a terminal that is raw, where a newline does not go back to the
// beginning of the line.
func rawly(w io.Writer) io.Writer {
	if !terminal(w) {
		return w
	}
	return rawWriter{w}
}

type rawWriter struct{ w io.Writer }

func (r rawWriter) Write(p []byte) (int, error) {
	if _, err := io.WriteString(r.w, strings.ReplaceAll(string(p), "\n", "\r\n")); err != nil {
		return 0, err
	}
	return len(p), nil
}
