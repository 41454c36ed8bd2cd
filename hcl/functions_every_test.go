package hcl

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the answers of testdata/functions.txt anew")

const functionSessions = "testdata/functions.txt"

// exchange is one expression with the answer that it should get.
type exchange struct{ typed, answer string }

// sessions reads functionSessions: the text before the first section, and the
// sections in order.
func sessions(t *testing.T) (head string, names []string, sections map[string][]exchange) {
	b, err := os.ReadFile(functionSessions)
	if err != nil {
		t.Fatal(err)
	}
	sections = map[string][]exchange{}
	name := ""
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		if n, ok := strings.CutPrefix(line, "== "); ok {
			name = n
			names = append(names, n)
			if len(sections[n]) > 0 {
				t.Errorf("%s has two sections %s", functionSessions, n)
			}
			continue
		}
		list := sections[name]
		switch typed, ok := strings.CutPrefix(line, "> "); {
		case name == "":
			head += line + "\n"
		case ok:
			sections[name] = append(list, exchange{typed: typed})
		case len(list) > 0:
			list[len(list)-1].answer += line + "\n"
		}
	}
	for _, list := range sections {
		for i := range list {
			list[i].answer = strings.TrimRight(list[i].answer, "\n")
		}
	}
	return head, names, sections
}

// TestEveryFunction holds each function against the answers that Terraform's
// users expect of it. Each has a section with two calls at least, and a mistake.
func TestEveryFunction(t *testing.T) {
	t.Setenv("HOME", "/home/ann")
	dir, err := filepath.Abs("testdata/functions")
	if err != nil {
		t.Fatal(err)
	}
	c, diags := NewConsole(dir, Options{Now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)})
	if c == nil || len(diags) > 0 {
		t.Fatal(diags)
	}
	head, names, sections := sessions(t)
	known := functionsFor(dir, time.Time{})
	var now strings.Builder
	now.WriteString(head)
	for _, name := range names {
		if _, ok := known[name]; !ok {
			t.Errorf("%s has a section %s, and there is no such function", functionSessions, name)
		}
		now.WriteString("== " + name + "\n")
		for _, x := range sections[name] {
			a, diags := c.Evaluate(x.typed)
			got := a.Text
			if diags.HasErrors() {
				got = "! " + diags[0].Summary + ": " + diags[0].Detail
			}
			got = strings.ReplaceAll(got, dir, "DIR")
			now.WriteString("> " + x.typed + "\n" + got + "\n")
			if got != x.answer && !*update {
				t.Errorf("%s\n> %s\n%s\nand should answer\n%s", name, x.typed, got, x.answer)
			}
		}
		now.WriteString("\n")
	}
	if *update {
		if err := os.WriteFile(functionSessions, []byte(strings.TrimRight(now.String(), "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name := range known {
		call := regexp.MustCompile(`(^|[^a-z0-9_])` + name + `\(`)
		good, bad := 0, 0
		for _, x := range sections[name] {
			switch {
			case strings.HasPrefix(x.answer, "!"):
				bad++
			case call.MatchString(x.typed):
				good++
			}
		}
		if good < 2 || bad < 1 {
			t.Errorf("%s: %d answers and %d mistakes of %s(); two calls and a mistake are needed", functionSessions, good, bad, name)
		}
	}
}
