package object

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// Severity of a diagnostic.
type Severity string

// The severities.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Position is a place in a file; lines and columns count from 1.
type Position struct {
	Line   int `json:"line"`
	Column int `json:"column"`
	Byte   int `json:"byte"`
}

// Range is a stretch of a file.
type Range struct {
	File  string   `json:"filename"`
	Start Position `json:"start"`
	End   Position `json:"end"`
}

// Diagnostic is one thing that is wrong: what (Summary), why and what to do
// (Detail), and where: in a file, in an object, or both.
type Diagnostic struct {
	Severity Severity `json:"severity"`
	Summary  string   `json:"summary"`
	Detail   string   `json:"detail,omitempty"`
	Address  string   `json:"address,omitempty"` // deployment.web
	Path     string   `json:"path,omitempty"`    // pod.container["web"].image
	Range    *Range   `json:"range,omitempty"`
	Snippet  string   `json:"snippet,omitempty"` // the line of the file
}

// Diagnostics is everything found in one run.
type Diagnostics []Diagnostic

// HasErrors reports whether anything is worse than a warning.
func (d Diagnostics) HasErrors() bool {
	return slices.ContainsFunc(d, func(x Diagnostic) bool { return x.Severity == SeverityError })
}

// Errorf adds an error about a path of an object.
func (d *Diagnostics) Errorf(path, summary, detail string, args ...any) {
	if len(args) > 0 {
		detail = fmt.Sprintf(detail, args...)
	}
	*d = append(*d, Diagnostic{Severity: SeverityError, Summary: summary, Detail: detail, Path: path})
}

// Sort orders by file, place and summary, so that the same mistakes always read the same.
func (d Diagnostics) Sort() {
	key := func(x Diagnostic) string {
		if x.Range == nil {
			return fmt.Sprintf("~%s\x00%s\x00%s", x.Address, x.Path, x.Summary)
		}
		return fmt.Sprintf("%s\x00%09d\x00%09d\x00%s", x.Range.File, x.Range.Start.Line, x.Range.Start.Column, x.Summary)
	}
	slices.SortStableFunc(d, func(a, b Diagnostic) int { return strings.Compare(key(a), key(b)) })
}

// DidYouMean is `Did you mean "x"?` for the nearest of the known words, or empty
// when none is near.
func DidYouMean(word string, known []string) string {
	best, bestDist := "", 3
	if len(word) < 4 {
		bestDist = 2
	}
	for _, k := range known {
		if d := levenshtein.Distance(word, k, nil); d < bestDist || (d == bestDist && best != "" && k < best) {
			best, bestDist = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("Did you mean %q?", best)
}
