package view

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// Past is a revision with what it changed.
type Past struct {
	Revision *object.Revision
	Changes  []object.PlannedChange
}

// did says in the past tense what a change with this symbol did.
func did(symbol string) string {
	switch symbol {
	case "+":
		return "was created"
	case "-":
		return "was destroyed"
	case "-/+":
		return "was replaced"
	}
	return "was updated in-place"
}

// Text prints the revision for people.
func (r Past) Text(w io.Writer, o Options) error {
	p := &printer{Options: o, w: w, verb: did}
	p.line()
	p.line(p.paint(bold, fmt.Sprintf("Revision %d of %s", r.Revision.Spec.Number, r.Revision.Spec.Stack)), ": ", p.paint(mood(string(r.Revision.Status.Phase)), string(r.Revision.Status.Phase)))
	p.line()
	p.facts(r.Revision)
	if len(r.Changes) == 0 {
		p.line()
		p.line("It changed no object.")
	} else {
		p.changes(r.Changes)
	}
	p.ending(r.Revision)
	p.line()
	n := Count(&object.Plan{Changes: r.Changes})
	p.line(p.paint(bold, "Changed:"), fmt.Sprintf(" %d added, %d changed, %d destroyed.", n.Added, n.Changed, n.Destroyed))
	return p.err
}

// facts are where a revision came from.
func (p *printer) facts(rev *object.Revision) {
	s := &rev.Spec
	fact := func(name, format string, args ...any) {
		p.line("  ", pad(name, 12), fmt.Sprintf(format, args...))
	}
	cause := s.Cause
	if s.Target > 0 {
		cause += fmt.Sprintf(" to %d", s.Target)
	}
	if s.Parent > 0 {
		cause += fmt.Sprintf(", upon revision %d", s.Parent)
	}
	fact("Cause", "%s", cause)
	fact("By", "%s, at %s", s.Author, s.Time.UTC().Format(time.RFC3339))
	if s.Source.Directory != "" {
		fact("Directory", "%s", s.Source.Directory)
	}
	if s.Source.Commit != "" {
		fact("Commit", "%s", s.Source.Commit)
	}
	if s.Source.Digest != "" {
		fact("Digest", "%s", s.Source.Digest)
	}
	if s.Waves > 0 {
		fact("Waves", "%d", s.Waves)
	}
	if !rev.Status.Ended.IsZero() {
		took := short(rev.Status.Ended.Sub(s.Time))
		if s.Duration > 0 {
			took += fmt.Sprintf(" (planned about %s)", roundUp(s.Duration.D()))
		}
		fact("Took", "%s", took)
	}
	var promised []string
	for _, a := range s.Promise {
		promised = append(promised, fmt.Sprintf("%s %d/%d", a.Workload.Name, a.Ready, a.Want))
	}
	if len(promised) > 0 {
		fact("Promised", "lowest ready %s", strings.Join(promised, ", "))
	}
	if s.Override != "" {
		fact("Against", "%s, soft: %s", strings.Join(s.Overridden, ", "), s.Override)
	}
	if s.Thaw != "" {
		fact("Frozen by", "%s, set aside: %s", strings.Join(s.Thawed, ", "), s.Thaw)
	}
	for i, image := range sortedKeys(s.Images) {
		name := "Images"
		if i > 0 {
			name = ""
		}
		fact(name, "%s @ %s", image, shortDigest(s.Images[image]))
	}
}

// ending is how true the plan was, or what became of a revision that did not end well.
func (p *printer) ending(rev *object.Revision) {
	p.truth(rev)
	switch rev.Status.Phase {
	case object.RevisionReverted, object.RevisionReverting, object.RevisionPaused, object.RevisionFailed:
		p.failure(rev)
	}
}

// Markdown prints the revision for a comment.
func (r Past) Markdown(w io.Writer) error {
	var out bytes.Buffer
	fmt.Fprintf(&out, "### Revision %d of `%s`: %s\n", r.Revision.Spec.Number, r.Revision.Spec.Stack, r.Revision.Status.Phase)
	section(&out, "Where it came from", rendered(func(p *printer) { p.facts(r.Revision) }), true)
	if text := rendered(func(p *printer) { p.ending(r.Revision) }); text != "" {
		section(&out, "How it ended", firstLines(text, maxWarningText), true)
	}
	worstFirst(&out, r.Changes, fmt.Sprintf("`berth show revision %d` has all.", r.Revision.Spec.Number), func(p *printer) { p.verb = did })
	_, err := out.WriteTo(w)
	return err
}

// JSON prints the revision for machines, its changes as PlanJSON has them.
func (r Past) JSON(w io.Writer) error {
	s, n := r.Revision.Spec, Count(&object.Plan{Changes: r.Changes})
	changes := []jsonChange{}
	for i := range r.Changes {
		changes = append(changes, changeJSON(&r.Changes[i]))
	}
	s.Changes = nil // they are told in full
	return JSON(w, struct {
		Format  string                 `json:"format_version"`
		Spec    object.RevisionSpec    `json:"revision"`
		Status  *object.RevisionStatus `json:"status"`
		Changes []jsonChange           `json:"resource_changes"`
		Summary jsonSummary            `json:"summary"`
	}{object.PlanFormat, s, &r.Revision.Status, changes, jsonSummary{n.Added, n.Changed, n.Destroyed}})
}

// Between is by what a stack differs from one revision to another; a To of 0 is now.
type Between struct {
	Stack    string
	From, To int
	Changes  []object.PlannedChange
	Outputs  map[string]object.OutputChange
}

func (b Between) to() string {
	if b.To == 0 {
		return "now"
	}
	return fmt.Sprintf("revision %d", b.To)
}

func (b Between) verb(symbol string) string {
	switch symbol {
	case "+":
		return "is only in " + strings.Replace(b.to(), "now", "what is in force now", 1)
	case "-":
		return fmt.Sprintf("is only in revision %d", b.From)
	case "-/+":
		return "differs, and would be replaced"
	}
	return "differs"
}

func (b Between) title() string {
	return fmt.Sprintf("%s, revision %d -> %s", b.Stack, b.From, b.to())
}

func (b Between) none() string {
	return fmt.Sprintf("No differences between revision %d and %s.", b.From, b.to())
}

// Text prints the differences for people.
func (b Between) Text(w io.Writer, o Options) error {
	p := &printer{Options: o, w: w, verb: b.verb}
	p.line()
	if len(b.Changes)+len(b.Outputs) == 0 {
		p.line(b.none())
		return p.err
	}
	p.line(p.paint(bold, b.title()), ":")
	p.changes(b.Changes)
	if len(b.Outputs) > 0 {
		p.line()
		p.outputs(b.Outputs)
	}
	p.line()
	n := Count(&object.Plan{Changes: b.Changes})
	p.line(p.paint(bold, "Differences:"), fmt.Sprintf(" %d added, %d changed, %d removed.", n.Added, n.Changed, n.Destroyed))
	return p.err
}

// Markdown prints the differences for a comment.
func (b Between) Markdown(w io.Writer) error {
	var out bytes.Buffer
	fmt.Fprintf(&out, "### `%s`, revision %d → %s\n", b.Stack, b.From, b.to())
	if len(b.Changes)+len(b.Outputs) == 0 {
		fmt.Fprintf(&out, "\n**%s**\n", b.none())
	}
	if len(b.Outputs) > 0 {
		section(&out, "Outputs", firstLines(rendered(func(p *printer) { p.outputs(b.Outputs) }), maxWarningText), false)
	}
	to := ""
	if b.To > 0 {
		to = fmt.Sprintf(" %d", b.To)
	}
	worstFirst(&out, b.Changes, fmt.Sprintf("`berth diff %d%s` has all.", b.From, to), func(p *printer) { p.verb = b.verb })
	_, err := out.WriteTo(w)
	return err
}

// JSON prints the differences for machines, as PlanJSON has changes.
func (b Between) JSON(w io.Writer) error {
	n := Count(&object.Plan{Changes: b.Changes})
	changes := []jsonChange{}
	for i := range b.Changes {
		changes = append(changes, changeJSON(&b.Changes[i]))
	}
	return JSON(w, struct {
		Format  string                `json:"format_version"`
		Stack   string                `json:"stack"`
		From    int                   `json:"from"`
		To      int                   `json:"to,omitempty"` // absent: now
		Changes []jsonChange          `json:"resource_changes"`
		Outputs map[string]jsonOutput `json:"output_changes,omitempty"`
		Summary jsonSummary           `json:"summary"`
	}{object.PlanFormat, b.Stack, b.From, b.To, changes, outputsJSON(b.Outputs), jsonSummary{n.Added, n.Changed, n.Destroyed}})
}
