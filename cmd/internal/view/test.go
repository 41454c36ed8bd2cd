package view

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"github.com/berthdev/berth/cluster/object"
)

// How a test, a file of tests, or all of them ended.
const (
	TestPass  = "pass"
	TestFail  = "fail"  // an assertion does not hold
	TestError = "error" // there was nothing to look at
	TestSkip  = "skip"  // an earlier run left nothing to go on with
)

// TestReport is what berth test found.
type TestReport struct {
	Format      string             `json:"format_version"`
	Status      string             `json:"status"`
	Passed      int                `json:"passed"`
	Failed      int                `json:"failed"`
	Errored     int                `json:"errored"`
	Skipped     int                `json:"skipped"`
	Files       []*TestFileReport  `json:"files"`
	Diagnostics object.Diagnostics `json:"diagnostics,omitempty"` // mistakes in the files: nothing was run
}

// TestFileReport is one file.
type TestFileReport struct {
	Path        string             `json:"path"`
	Status      string             `json:"status"`
	Seconds     float64            `json:"seconds"`
	Runs        []*TestRunReport   `json:"runs"`
	Diagnostics object.Diagnostics `json:"diagnostics,omitempty"` // of what is given
}

// TestRunReport is one run.
type TestRunReport struct {
	Name        string             `json:"name"`
	Command     string             `json:"command"`
	Status      string             `json:"status"`
	Seconds     float64            `json:"seconds"`
	Diagnostics object.Diagnostics `json:"diagnostics,omitempty"`
	Plan        *object.Plan       `json:"-"`
}

// Count sums the runs up.
func (r *TestReport) Count() {
	r.Format, r.Status = "1.0", TestPass
	r.Passed, r.Failed, r.Errored, r.Skipped = 0, 0, 0, 0
	for _, f := range r.Files {
		for _, x := range f.Runs {
			switch x.Status {
			case TestPass:
				r.Passed++
			case TestFail:
				r.Failed++
			case TestError:
				r.Errored++
			case TestSkip:
				r.Skipped++
			}
		}
		if f.Status != TestPass && r.Status != TestError {
			r.Status = f.Status
		}
	}
	if r.Diagnostics.HasErrors() {
		r.Status = TestError
	}
}

// TestBegins is the line before a file's runs.
func TestBegins(w io.Writer, file string, o Options) error {
	p := &printer{Options: o, w: w}
	p.line(p.paint(bold, file) + "... in progress")
	return p.err
}

// TestRan is the line of a run.
func TestRan(w io.Writer, r *TestRunReport, o Options) error {
	p := &printer{Options: o, w: w}
	p.line(fmt.Sprintf("  run %q... %s", r.Name, p.ended(r.Status)))
	return p.err
}

// TestEnds is the line behind a file's runs.
func TestEnds(w io.Writer, f *TestFileReport, o Options) error {
	p := &printer{Options: o, w: w}
	p.line(p.paint(bold, f.Path) + "... " + p.ended(f.Status))
	return p.err
}

// ended is a status as Terraform writes it: an error is a failure of the test.
func (p *printer) ended(status string) string {
	switch status {
	case TestPass:
		return p.paint(green, status)
	case TestSkip:
		return p.paint(yellow, status)
	}
	return p.paint(red, TestFail)
}

// TestSummary is the last line.
func TestSummary(w io.Writer, r *TestReport, o Options) error {
	p := &printer{Options: o, w: w}
	word, color := "Success!", green
	if r.Status != TestPass {
		word, color = "Failure!", red
	}
	text := fmt.Sprintf(" %d passed, %d failed", r.Passed, r.Failed+r.Errored)
	if r.Skipped > 0 {
		text += fmt.Sprintf(", %d skipped", r.Skipped)
	}
	p.line()
	p.line(p.paint("1;"+color, word) + text + ".")
	return p.err
}

type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Errors   int          `xml:"errors,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Time     string      `xml:"time,attr"`
	Cases    []junitCase `xml:"testcase"`
	Trouble  string      `xml:"system-err,omitempty"`
}

type junitCase struct {
	Name    string        `xml:"name,attr"`
	Class   string        `xml:"classname,attr"`
	Time    string        `xml:"time,attr"`
	Skipped *junitMessage `xml:"skipped"`
	Failure *junitMessage `xml:"failure"`
	Error   *junitMessage `xml:"error"`
}

type junitMessage struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",cdata"`
}

// JUnit writes the report in the form that CI systems read: a suite for a file, a
// case for a run.
func JUnit(w io.Writer, r *TestReport) error {
	out := junitSuites{Tests: r.Passed + r.Failed + r.Errored + r.Skipped, Failures: r.Failed, Errors: r.Errored}
	seconds := func(s float64) string { return fmt.Sprintf("%.3f", s) }
	for _, f := range r.Files {
		s := junitSuite{Name: f.Path, Tests: len(f.Runs), Time: seconds(f.Seconds), Trouble: plainText(f.Diagnostics)}
		for _, x := range f.Runs {
			c := junitCase{Name: x.Name, Class: f.Path, Time: seconds(x.Seconds)}
			said := &junitMessage{Text: plainText(x.Diagnostics)}
			for _, d := range x.Diagnostics {
				if d.Severity == object.SeverityError {
					said.Message = d.Summary
					break
				}
			}
			switch x.Status {
			case TestFail:
				s.Failures++
				c.Failure = said
			case TestError:
				s.Errors++
				c.Error = said
			case TestSkip:
				s.Skipped++
				c.Skipped = &junitMessage{Message: "An earlier run left nothing to go on with."}
			}
			s.Cases = append(s.Cases, c)
		}
		out.Suites = append(out.Suites, s)
	}
	if len(r.Diagnostics) > 0 { // mistakes in the files
		out.Tests, out.Errors = out.Tests+1, out.Errors+1
		out.Suites = append(out.Suites, junitSuite{Name: "berth test", Tests: 1, Errors: 1, Time: seconds(0), Cases: []junitCase{
			{Name: "files", Class: "berth test", Time: seconds(0), Error: &junitMessage{Message: "Mistakes in the test files", Text: plainText(r.Diagnostics)}},
		}})
	}
	b, err := xml.MarshalIndent(out, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, b)
	return err
}

func plainText(d object.Diagnostics) string {
	var b bytes.Buffer
	_ = Diagnostics(&b, d, Options{}) // a buffer takes everything
	return strings.TrimSpace(b.String())
}
