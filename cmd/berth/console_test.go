package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The line editor knows what was typed before, and completes names.
func TestPrompt(t *testing.T) {
	names := []string{"deployment.web", "deployment.web.replicas", "local.image", "upper(", "uuidv5("}
	for typed, want := range map[string]string{
		"1 + 1\r\x1b[A\r":            "1 + 1|1 + 1", // up: again
		"a\rb\r\x1b[A\x1b[A\r":       "a|b|a",       // twice
		"12\x1b[D\x1b[D\x1b[3~\r":    "2",           // two to the left, delete
		"loc\t\r":                    "local.image", // the only one
		"dep\t.re\t\r":               "deployment.web.replicas",
		"1 + up\tlocal.i\t)\r":       "1 + upper(local.image)",
		"u\tp\t\r":                   "upper(", // u alone is what both begin with
		"nothing\t\r":                "nothing",
		"\x1b[200~a\tb\r\x1b[201~\r": "a\tb|", // what is pasted is not completed
	} {
		var screen bytes.Buffer
		p := newPrompt(strings.NewReader(typed), &screen, names)
		p.SetBracketedPasteMode(true)
		var got []string
		for {
			line, err := p.ReadLine()
			if errors.Is(err, io.EOF) {
				break
			}
			got = append(got, line)
		}
		if strings.Join(got, "|") != want {
			t.Errorf("%q reads as %q, not %q", typed, got, want)
		}
		if !strings.Contains(screen.String(), "> ") {
			t.Errorf("%q: there is no prompt: %q", typed, screen.String())
		}
	}
}

// A console whose input never comes ends when it is told to.
func TestConsoleEnds(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.hcl"), []byte("locals { a = 1 }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	in, keyboard := io.Pipe()
	defer keyboard.Close()
	answers, out := io.Pipe()
	done := make(chan int)
	go func() {
		var wrong bytes.Buffer
		done <- run(ctx, []string{"-C", dir, "console"}, in, out, &wrong, func(string) string { return "" })
	}()
	if _, err := io.WriteString(keyboard, "local.a + 1\n"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 16)
	if n, err := answers.Read(b); err != nil || string(b[:n]) != "2\n" {
		t.Fatalf("%q %v", b[:n], err)
	}
	stop()
	if code := <-done; code != exitError {
		t.Errorf("exit code %d", code)
	}
}
