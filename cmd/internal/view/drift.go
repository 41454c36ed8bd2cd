package view

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// drift prints what was changed past the plan's stack, with who did it.
func (p *printer) drift(plan *object.Plan) {
	if len(plan.Drift) == 0 {
		return
	}
	p.line()
	p.line(p.paint(yellow, "Changed outside of the stack"), " since it was last applied:")
	p.line()
	for _, d := range plan.Drift {
		p.line("  ", drifted(d, plan.Time))
	}
}

// Terms prints when and where a saved plan was made, until when it can be applied and
// under which guards.
func Terms(w io.Writer, plan *object.Plan, o Options) error {
	p := &printer{Options: o, w: w}
	p.line()
	p.line(fmt.Sprintf("Made at %s, index %d. It can be applied until %s.", plan.Time.UTC().Format(time.RFC3339), plan.Index, plan.Expires.UTC().Format(time.RFC3339)))
	var guards []string
	if g := plan.Guards.MaxDestroy; g != nil {
		guards = append(guards, "--max-destroy "+g.String())
	}
	if g := plan.Guards.MinReady; g != nil {
		guards = append(guards, "--min-ready "+g.String())
	}
	if g := plan.Guards.MaxMoved; g != nil {
		guards = append(guards, fmt.Sprintf("--max-moved %d", *g))
	}
	if len(guards) > 0 {
		p.line("Guards: ", strings.Join(guards, ", "), ".")
	}
	for _, b := range plan.Broken {
		p.line(p.paint(red, "Refused by --"+b.Guard), ": ", b.Message)
	}
	return p.err
}

// drifted is "deployment.web.replicas 4 -> 6 by token ops-2 via scale, 2h ago, index 8123".
func drifted(d object.Drift, now time.Time) string {
	s := d.Address + "." + d.Path + " "
	switch {
	case d.Path == "":
		s = d.Address + " was deleted"
	case d.Sensitive:
		s += hidden
	case d.Before == "":
		s += "= " + d.After
	case d.After == "":
		s += d.Before + " -> null"
	default:
		s += d.Before + " -> " + d.After
	}
	s += " by " + d.By
	switch d.Why {
	case "":
	case "changed through the API", "deleted through the API":
		s += " through the API"
	default:
		s += " via " + d.Why
	}
	s += fmt.Sprintf(", %s ago", short(now.Sub(d.At)))
	if d.Index > 0 {
		s += fmt.Sprintf(", index %d", d.Index)
	}
	return s
}
