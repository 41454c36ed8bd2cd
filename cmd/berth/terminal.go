package main

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// terminal reports whether a stream is a person's terminal.
func terminal(s any) bool {
	f, ok := s.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// width is a terminal's number of columns, 0 for other streams.
func width(s any) int {
	if !terminal(s) {
		return 0
	}
	w, _, err := term.GetSize(int(s.(*os.File).Fd()))
	if err != nil {
		return 0
	}
	return w
}

// readHidden reads a line without showing it.
func readHidden(f *os.File, prompt io.Writer) (string, error) {
	b, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(prompt)
	return string(b), err
}
