package view

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

func TestMarkdown(t *testing.T) {
	golden(t, "plan.md", func(w io.Writer) error { return Markdown(w, samplePlan()) })
	golden(t, "plan-none.md", func(w io.Writer) error { return Markdown(w, &object.Plan{Stack: "shop"}) })
}

// drained is the plan of a drain, without any change of a configuration.
func drained() *object.Plan {
	web := object.Ref{Kind: object.KindDeployment, Namespace: "shop", Name: "web"}
	step := func(at time.Duration, op, pod, node string, ready int, lowest bool) object.ForecastStep {
		return object.ForecastStep{At: object.Duration(at), Op: op, Ref: object.Ref{Kind: object.KindPod, Namespace: "shop", Name: pod}, Node: node, Workload: web, Ready: ready, Want: 4, Lowest: lowest}
	}
	return &object.Plan{Format: object.PlanFormat, Cause: object.OperationDrain, Operation: &object.Operation{Name: object.OperationDrain, On: []object.Ref{{Kind: object.KindNode, Name: "n2"}}},
		Forecast: object.Forecast{Outcome: "healthy", Duration: object.Duration(3 * time.Second), Start: 1, Stop: 1, Unchanged: 3,
			Steps:  []object.ForecastStep{step(0, "start", "web-4", "n1", 4, false), step(3*time.Second, "stop", "web-1", "n2", 3, true)},
			Lowest: []object.Availability{{Workload: web, Ready: 3, Want: 4, At: object.Duration(3 * time.Second)}},
			Stays:  []object.Placement{{Pod: object.Ref{Kind: object.KindPod, Namespace: "shop", Name: "alone"}, Node: "n2"}},
		}}
}

func TestOperation(t *testing.T) {
	golden(t, "operation.txt", func(w io.Writer) error { return Plan(w, drained(), Options{}) })
	golden(t, "operation.md", func(w io.Writer) error { return Markdown(w, drained()) })
	golden(t, "operation-annotations.txt", func(w io.Writer) error { return PlanAnnotations(w, drained()) })
	asked := drained()
	asked.Operation.Name = object.OperationNodeLoss
	golden(t, "operation-question.txt", func(w io.Writer) error { return Plan(w, asked, Options{}) })
}

// Of a long rollout the middle is folded away, but never where a person is waited for.
func TestAPauseIsNotFoldedAway(t *testing.T) {
	var steps []object.ForecastStep
	for i := range 3 * stepsWhole {
		steps = append(steps, object.ForecastStep{Op: "start", Lowest: i%7 == 3})
	}
	steps[len(steps)/2].Op, steps[len(steps)/2+1].Op = "pause", "pause"
	pauses, lowest, all := 0, 0, 0
	for _, x := range abridge(steps) {
		all += x.left
		if x.left > 0 {
			continue
		}
		all++
		if x.step.Op == "pause" {
			pauses++
		} else if x.step.Lowest {
			lowest++
		}
	}
	if pauses != 2 || lowest == 0 || all != len(steps) {
		t.Errorf("%d pauses, %d lowest, %d of %d steps", pauses, lowest, all, len(steps))
	}
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
