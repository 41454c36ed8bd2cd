package view

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// Diagnostics prints everything that was found, in Terraform's manner: in a box
// on a terminal, plain elsewhere.
func Diagnostics(w io.Writer, diags object.Diagnostics, o Options) error {
	p := &printer{Options: o, w: w}
	for _, d := range diags {
		p.diagnostic(d)
	}
	return p.err
}

func (p *printer) diagnostic(d object.Diagnostic) {
	word, color := "Error", red
	if d.Severity == object.SeverityWarning {
		word, color = "Warning", yellow
	}
	var lines []string
	lines = append(lines, p.paint("1;"+color, word+": ")+p.paint(bold, d.Summary))
	if where := p.where(d); len(where) > 0 {
		lines = append(lines, "")
		lines = append(lines, where...)
	}
	if d.Detail != "" {
		width := p.Width
		if width > 2 {
			width -= 2
		}
		lines = append(lines, "")
		lines = append(lines, strings.Split(wrap(d.Detail, width), "\n")...)
	}
	p.box(lines, color)
}

// where says in which file and object it is, with the line itself.
func (p *printer) where(d object.Diagnostic) []string {
	subject := d.Address
	if d.Path != "" && d.Path != d.Address {
		if subject != "" {
			subject += ", "
		}
		subject += d.Path
	}
	if d.Range == nil {
		if subject == "" {
			return nil
		}
		return []string{"  with " + subject + ":"}
	}
	head := fmt.Sprintf("  on %s line %d", d.Range.File, d.Range.Start.Line)
	if subject != "" {
		head += ", in " + subject
	}
	out := []string{head + ":"}
	if d.Snippet != "" {
		text := strings.TrimRight(d.Snippet, "\r\n")
		number := fmt.Sprintf("  %d: ", d.Range.Start.Line)
		from, to := d.Range.Start.Column-1, len([]rune(text))
		if d.Range.End.Line == d.Range.Start.Line && d.Range.End.Column-1 <= to {
			to = d.Range.End.Column - 1
		}
		runes := []rune(text)
		if from < 0 || from >= to {
			return append(out, number+text)
		}
		if p.Color {
			return append(out, number+string(runes[:from])+p.paint(underline, string(runes[from:to]))+string(runes[to:]))
		}
		blank := strings.Map(func(r rune) rune {
			if r == '\t' {
				return r
			}
			return ' '
		}, string(runes[:from]))
		out = append(out, number+text, strings.Repeat(" ", len(number))+blank+strings.Repeat("^", to-from))
	}
	return out
}

// box prints lines with a bar at their left on a terminal.
func (p *printer) box(lines []string, color style) {
	if !p.TTY {
		p.line()
		for _, l := range lines {
			p.line(strings.TrimRight(l, " "))
		}
		return
	}
	p.line(p.paint(color, "╷"))
	for _, l := range lines {
		p.line(strings.TrimRight(p.paint(color, "│")+" "+l, " "))
	}
	p.line(p.paint(color, "╵"))
}

// Error prints an error with its hint, who changed the object and when, and its
// diagnostics.
func Error(w io.Writer, err error, o Options) error {
	if err == nil {
		return nil
	}
	p := &printer{Options: o, w: w}
	var e *object.Error
	if !errors.As(err, &e) {
		p.diagnostic(object.Diagnostic{Severity: object.SeverityError, Summary: capital(err.Error())})
		return p.err
	}
	if len(e.Diagnostics) > 0 {
		for _, d := range e.Diagnostics {
			p.diagnostic(d)
		}
		if !e.Diagnostics.HasErrors() {
			p.diagnostic(object.Diagnostic{Severity: object.SeverityError, Summary: capital(e.Error()), Detail: e.Hint})
		}
		return p.err
	}
	detail := e.Hint
	if e.By != "" && !strings.Contains(e.Message, e.By) {
		who := "Changed by " + e.By
		if !e.At.IsZero() {
			who += " at " + e.At.UTC().Format(time.RFC3339)
		}
		detail = strings.TrimSpace(who + ".\n" + detail)
	}
	summary := capital(err.Error())
	if e.Code == object.CodeStale {
		summary, detail = "The plan is stale", strings.TrimSpace(summary+".\n"+detail)
	}
	p.diagnostic(object.Diagnostic{Severity: object.SeverityError, Summary: summary, Detail: detail})
	return p.err
}

func capital(s string) string {
	if s == "" || strings.Contains(strings.SplitN(s, " ", 2)[0], "/") {
		return s // an address stays as it is
	}
	r := []rune(s)
	return strings.ToUpper(string(r[:1])) + string(r[1:])
}

// DiagnosticsJSON prints the result of a validation as `terraform validate -json`
// does.
func DiagnosticsJSON(w io.Writer, diags object.Diagnostics) error {
	out := struct {
		Format      string             `json:"format_version"`
		Valid       bool               `json:"valid"`
		Errors      int                `json:"error_count"`
		Warnings    int                `json:"warning_count"`
		Diagnostics object.Diagnostics `json:"diagnostics"`
	}{Format: object.PlanFormat, Valid: !diags.HasErrors(), Diagnostics: diags}
	if diags == nil {
		out.Diagnostics = object.Diagnostics{}
	}
	for _, d := range diags {
		if d.Severity == object.SeverityWarning {
			out.Warnings++
		} else {
			out.Errors++
		}
	}
	return JSON(w, out)
}

// ErrorJSON prints an error in the API's shape.
func ErrorJSON(w io.Writer, err error) error {
	var e *object.Error
	if !errors.As(err, &e) {
		e = &object.Error{Code: object.CodeInternal, Message: err.Error()}
	}
	return JSON(w, map[string]any{"error": e})
}

// JSON prints any value, indented, without escaping < and >.
func JSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
