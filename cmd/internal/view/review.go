package view

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/berthdev/berth/cluster/object"
)

// MaxMarkdown is the most that Markdown writes, in bytes: a comment on a pull
// request holds 64 KiB, and what wraps the plan needs some of it.
const MaxMarkdown = 60_000

// Shares of a page in Markdown, so that no part pushes out another.
const (
	maxWarningText  = 8_000
	maxForecastText = 16_000
)

// Markdown prints a plan for a comment on a pull request: the summary, what does
// not fit and warnings, the forecast, and the changes with the worst first. What
// has no room is counted.
func Markdown(w io.Writer, plan *object.Plan) error {
	f := &plan.Forecast
	var out bytes.Buffer
	if plan.Operation != nil {
		fmt.Fprintf(&out, "### %s\n\n", operationTitle(plan.Operation))
	} else if plan.Restore != nil {
		fmt.Fprintf(&out, "### %s\n\n", restoreTitle(plan.Restore))
	} else {
		fmt.Fprintf(&out, "### Plan of `%s`, revision %d\n\n", plan.Stack, plan.Base+1)
	}
	fmt.Fprintf(&out, "**%s**\n", sentence(plan))
	source := ""
	if plan.Restore != nil {
		source = "the snapshot"
		section(&out, "Stacks", firstLines(rendered(func(p *printer) { p.stacks(plan) }), maxWarningText), true)
	}
	found := slices.Clone(plan.Warnings)
	found = append(found, misfits(plan)...)
	slices.SortStableFunc(found, func(a, b object.Diagnostic) int { return severity(a) - severity(b) })
	if len(found) > 0 {
		section(&out, plural(len(found), "finding"), firstLines(rendered(func(p *printer) {
			for _, d := range found {
				p.diagnostic(d)
			}
		}), maxWarningText), true)
	}
	if len(plan.Drift) > 0 {
		section(&out, "Changed outside of the stack", firstLines(rendered(func(p *printer) { p.drift(plan) }), maxWarningText), true)
	}
	switch {
	case plan.Operation != nil:
		section(&out, "Forecast", firstLines(rendered(func(p *printer) { p.operation(plan) }), maxForecastText), true)
	case f.Outcome != "" && len(plan.Changes) > 0:
		section(&out, "Forecast", firstLines(rendered(func(p *printer) { p.forecast(plan) }), maxForecastText), true)
	}
	if len(plan.OutputChanges) > 0 {
		section(&out, "Outputs", firstLines(rendered(func(p *printer) { p.outputs(plan.OutputChanges) }), maxWarningText), false)
	}
	if plan.Restore != nil {
		for _, part := range plan.Parts() {
			if len(part.OutputChanges) > 0 {
				section(&out, "Outputs of "+part.Stack, firstLines(rendered(func(p *printer) { p.outputs(part.OutputChanges) }), maxWarningText), false)
			}
		}
	}
	worstFirst(&out, plan.Changes, "`berth show FILE` has the whole plan.", func(p *printer) { p.source = source })
	_, err := out.WriteTo(w)
	return err
}

// worstFirst adds the changes for which there is room, and counts the others.
func worstFirst(out *bytes.Buffer, changes []object.PlannedChange, whole string, prepare func(*printer)) {
	order := make([]*object.PlannedChange, len(changes))
	for i := range changes {
		order[i] = &changes[i]
	}
	slices.SortStableFunc(order, func(a, b *object.PlannedChange) int { return gravity(a) - gravity(b) })
	const around = 400 // the section's own lines and the sentence about what is left out
	room := MaxMarkdown - out.Len() - around
	var text strings.Builder
	shown := 0
	for _, c := range order {
		block := rendered(func(p *printer) { prepare(p); p.change(c) }) + "\n"
		if text.Len()+len(block) > room {
			break
		}
		text.WriteString(block)
		shown++
	}
	if shown > 0 {
		section(out, plural(shown, "change"), text.String(), false)
	}
	if left := len(order) - shown; left > 0 {
		fmt.Fprintf(out, "\n**%s more not shown here, for want of room; the worst come first.** %s\n", plural(left, "change"), whole)
	}
}

// sentence is what a plan comes to.
func sentence(plan *object.Plan) string {
	switch {
	case plan.Operation != nil:
		return pods(&plan.Forecast)
	case plan.Empty() && plan.Restore != nil:
		return nothingToRestore
	case plan.Empty():
		return nothingToDo
	}
	return Summary(plan, Options{})
}

// section is a part that can be folded away. The fence is longer than any in the
// text, so that no value in a plan ends it.
func section(out *bytes.Buffer, title, text string, open bool) {
	longest, run := 2, 0
	for _, r := range text {
		if r != '`' {
			run = 0
			continue
		}
		run++
		longest = max(longest, run)
	}
	fence := strings.Repeat("`", longest+1)
	tag := "<details>"
	if open {
		tag = "<details open>"
	}
	fmt.Fprintf(out, "\n%s<summary>%s</summary>\n\n%stext\n%s\n%s\n\n</details>\n", tag, title, fence, strings.Trim(text, "\n"), fence)
}

// rendered is what a printer writes, plain.
func rendered(write func(*printer)) string {
	var b strings.Builder
	write(&printer{w: &b})
	return strings.TrimLeft(b.String(), "\n")
}

// firstLines keeps whole lines up to a size and says how many went.
func firstLines(text string, size int) string {
	if len(text) <= size {
		return text
	}
	cut := strings.LastIndexByte(text[:size], '\n') + 1
	if cut == 0 {
		return "(a line too long to be shown here)\n"
	}
	return text[:cut] + fmt.Sprintf("… %s more\n", plural(strings.Count(strings.TrimRight(text[cut:], "\n"), "\n")+1, "line"))
}

// gravity orders changes for a reader who sees only the first of them.
func gravity(c *object.PlannedChange) int {
	switch symbol(c) {
	case "-":
		return 0
	case "-/+":
		return 1
	case "~":
		return 2
	}
	return 3
}

func severity(d object.Diagnostic) int {
	if d.Severity == object.SeverityError {
		return 0
	}
	return 1
}

// misfits are the pods that fit nowhere and a rollout that would fail, as findings.
func misfits(plan *object.Plan) object.Diagnostics {
	var out object.Diagnostics
	for _, b := range plan.Broken {
		out = append(out, object.Diagnostic{Severity: object.SeverityError, Summary: "Refused by --" + b.Guard, Detail: b.Message})
	}
	out = append(out, object.Judged(plan.Verdicts)...)
	for _, u := range plan.Forecast.Unplaced {
		out = append(out, object.Diagnostic{Severity: object.SeverityError, Summary: "A pod fits on no node", Detail: u.Reason, Address: u.Pod.String()})
	}
	if plan.Forecast.Outcome == "failed" {
		out = append(out, object.Diagnostic{Severity: object.SeverityError, Summary: "The rollout would fail", Detail: plan.Forecast.Reason})
	}
	return out
}

// PlanAnnotations prints what a plan's forecast found wrong, and its summary, as
// workflow commands of GitHub Actions. The warnings go through Annotations.
func PlanAnnotations(w io.Writer, plan *object.Plan) error {
	if err := Annotations(w, misfits(plan)); err != nil {
		return err
	}
	for _, d := range plan.Drift {
		if _, err := fmt.Fprintf(w, "::warning title=%s::%s\n", property("Changed outside of the stack"), message(drifted(d, plan.Time))); err != nil {
			return err
		}
	}
	title := "Plan of " + plan.Stack
	if plan.Operation != nil {
		title = operationTitle(plan.Operation)
	}
	if plan.Restore != nil {
		title = restoreTitle(plan.Restore)
	}
	_, err := fmt.Fprintf(w, "::notice title=%s::%s\n", property(title), message(sentence(plan)))
	return err
}

// Annotations prints diagnostics as workflow commands of GitHub Actions, which
// shows them beside the lines that they are about.
func Annotations(w io.Writer, diags object.Diagnostics) error {
	for _, d := range diags {
		var at []string
		if r := d.Range; r != nil {
			at = append(at, "file="+property(r.File), fmt.Sprintf("line=%d", r.Start.Line), fmt.Sprintf("col=%d", r.Start.Column))
			if r.End.Line >= r.Start.Line {
				at = append(at, fmt.Sprintf("endLine=%d", r.End.Line))
			}
		}
		at = append(at, "title="+property(d.Summary))
		text := strings.TrimSpace(strings.Join([]string{d.Address, d.Detail}, "\n"))
		if text == "" {
			text = d.Summary
		}
		word := "error"
		if d.Severity == object.SeverityWarning {
			word = "warning"
		}
		if _, err := fmt.Fprintf(w, "::%s %s::%s\n", word, strings.Join(at, ","), message(text)); err != nil {
			return err
		}
	}
	return nil
}

// message and property escape as GitHub's runner unescapes.
func message(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(s)
}

func property(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C").Replace(s)
}
