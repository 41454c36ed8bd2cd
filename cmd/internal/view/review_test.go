package view

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/berthdev/berth/cluster/object"
)

func TestMarkdown(t *testing.T) {
	golden(t, "plan.md", func(w io.Writer) error { return Markdown(w, samplePlan()) })
	golden(t, "plan-none.md", func(w io.Writer) error { return Markdown(w, &object.Plan{Stack: "shop"}) })
}

// A comment has an end: what is worst is in it, and what is not is counted.
func TestMarkdownHasAnEnd(t *testing.T) {
	p := samplePlan()
	p.Changes = nil
	for i := range 2000 {
		c := configMap("```\nvalue\n````\n")
		c.Name = fmt.Sprintf("new-%04d", i)
		p.Changes = append(p.Changes, change(1, nil, c, nil))
		p.Warnings = append(p.Warnings, object.Diagnostic{Severity: object.SeverityWarning, Summary: "Strange", Detail: strings.Repeat("x", 200)})
	}
	gone := configMap("x")
	gone.Name = "gone"
	p.Changes = append(p.Changes, change(1, gone, nil, nil))
	var b bytes.Buffer
	if err := Markdown(&b, p); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	if len(text) > MaxMarkdown || len(text) < MaxMarkdown*3/4 {
		t.Errorf("%d bytes, want nearly %d", len(text), MaxMarkdown)
	}
	shown := strings.Count(text, "will be created") + strings.Count(text, "will be destroyed")
	if want := fmt.Sprintf("**%d changes more not shown here", len(p.Changes)-shown); !strings.Contains(text, want) {
		t.Errorf("it does not say %q", want)
	}
	if gone, first := strings.Index(text, "# config_map.gone will"), strings.Index(text, "# config_map.new-0000 will"); gone < 0 || gone > first {
		t.Errorf("the destroyed one stands at %d, the first new one at %d", gone, first)
	}
	if !strings.Contains(text, "\n`````text\n") {
		t.Error("a value in the plan ends its fence")
	}
}

func TestAnnotations(t *testing.T) {
	at := &object.Range{File: "a,b/main.hcl", Start: object.Position{Line: 3, Column: 5}, End: object.Position{Line: 4, Column: 1}}
	golden(t, "annotations.txt", func(w io.Writer) error {
		err := Annotations(w, object.Diagnostics{
			{Severity: object.SeverityError, Summary: "Wrong: 100%", Detail: "Two\nlines.", Address: "deployment.web", Range: at},
			{Severity: object.SeverityWarning, Summary: "No place, no detail"},
		})
		if err != nil {
			return err
		}
		p := samplePlan()
		p.Forecast.Outcome, p.Forecast.Reason = "failed", "nothing becomes ready"
		p.Forecast.Unplaced = []object.Unplaced{{Pod: ref(object.KindPod, "web-0"), Reason: "3 nodes: cpu"}}
		return PlanAnnotations(w, p)
	})
}
