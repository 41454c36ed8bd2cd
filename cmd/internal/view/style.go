package view

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Options say what the reader can show. The caller knows whether it writes to a
// terminal and honours NO_COLOR.
type Options struct {
	Color bool // ANSI colours
	TTY   bool // the reader is a terminal: boxes around diagnostics, live progress
	Width int  // columns to wrap prose at; 0: do not wrap
	Wide  bool // more columns in tables
}

type style string

const (
	plain     style = ""
	bold      style = "1"
	dim       style = "2"
	underline style = "4"
	red       style = "31"
	green     style = "32"
	yellow    style = "33"
	cyan      style = "36"
)

func (o Options) paint(s style, text string) string {
	if !o.Color || s == plain || text == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// printer collects text and remembers the first error of the writer.
type printer struct {
	Options
	w   io.Writer
	err error
	// verb says what a change with this symbol did; nil: what it will do.
	verb func(symbol string) string
	// source is where what is desired stands; default: the configuration.
	source  string
	drawing whole // what it draws with
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

func (p *printer) line(parts ...string) {
	for _, s := range parts {
		p.text(s)
	}
	p.text("\n")
}

func (p *printer) text(s string) {
	if p.err == nil {
		_, p.err = io.WriteString(p.w, s)
	}
}

func (p *printer) bytes(b []byte) {
	if p.err == nil {
		_, p.err = p.w.Write(b)
	}
}

// plural is "1 pod", "2 pods".
func plural(n int, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case strings.HasSuffix(noun, "s"):
		return strconv.Itoa(n) + " " + noun + "es"
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// short is a duration as people say it: 0.4s, 16s, 3m12s, 5h, 2d.
func short(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 10*time.Second:
		return strconv.FormatFloat(float64(d.Round(100*time.Millisecond))/float64(time.Second), 'f', -1, 64) + "s"
	case d < time.Minute:
		return strconv.Itoa(int(d.Round(time.Second)/time.Second)) + "s"
	case d < time.Hour:
		d = d.Round(time.Second)
		m, s := int(d/time.Minute), int(d%time.Minute/time.Second)
		if s == 0 {
			return fmt.Sprintf("%dm", m)
		}
		return fmt.Sprintf("%dm%ds", m, s)
	case d < 48*time.Hour:
		h, m := int(d/time.Hour), int(d%time.Hour/time.Minute)
		if m == 0 {
			return fmt.Sprintf("%dh", h)
		}
		return fmt.Sprintf("%dh%dm", h, m)
	}
	return fmt.Sprintf("%dd", int(d/(24*time.Hour)))
}

// age is the time since t, "-" if that is unknown.
func age(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := now.Sub(t)
	if d < 10*time.Second {
		d = d.Truncate(time.Second)
	}
	return short(d)
}

// wrap breaks prose at word boundaries; lines that begin with a blank are kept.
func wrap(text string, width int) string {
	if width <= 0 {
		return text
	}
	var out []string
	for _, l := range strings.Split(text, "\n") {
		if len([]rune(l)) <= width || strings.HasPrefix(l, " ") {
			out = append(out, l)
			continue
		}
		cur := ""
		for _, word := range strings.Fields(l) {
			switch {
			case cur == "":
				cur = word
			case len([]rune(cur))+1+len([]rune(word)) > width:
				out = append(out, cur)
				cur = word
			default:
				cur += " " + word
			}
		}
		out = append(out, cur)
	}
	return strings.Join(out, "\n")
}

// pad fills a text with blanks on the right, counting characters, not bytes.
func pad(s string, n int) string {
	if k := n - len([]rune(s)); k > 0 {
		return s + blanks(k)
	}
	return s
}

const manyBlanks = "                                                                "

// blanks is so many blanks; a plan of ten thousand objects indents a million times.
func blanks(n int) string {
	if n <= len(manyBlanks) {
		return manyBlanks[:max(n, 0)]
	}
	return strings.Repeat(" ", n)
}

// value is a JSON value as HCL writes it.
func value(v any) string {
	switch x := v.(type) {
	case nil:
		return "null"
	case string:
		return quote(x)
	case bool:
		return strconv.FormatBool(x)
	case float64:
		return strconv.FormatFloat(x, 'f', -1, 64)
	case int:
		return strconv.Itoa(x)
	case []any:
		parts := make([]string, len(x))
		for i, e := range x {
			parts[i] = value(e)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		parts := make([]string, 0, len(x))
		for _, k := range sortedKeys(x) {
			parts = append(parts, quote(k)+" = "+value(x[k]))
		}
		if len(parts) == 0 {
			return "{}"
		}
		return "{ " + strings.Join(parts, ", ") + " }"
	}
	return fmt.Sprint(v)
}

// quote keeps letters of every script and escapes what would break the line.
func quote(s string) string {
	if ordinary(s) {
		return `"` + s + `"`
	}
	q := strconv.Quote(s)
	if strings.Contains(q, `\u`) || strings.Contains(q, `\x`) || strings.Contains(q, `\U`) {
		return strconv.QuoteToGraphic(s)
	}
	return q
}

// ordinary reports whether nothing in a text needs an escape.
func ordinary(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
