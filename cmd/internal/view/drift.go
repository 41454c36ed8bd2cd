package view

import (
	"fmt"
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

// drifted is "deployment.web.replicas 4 -> 6 by token ops-2 via scale, 2h ago, index 8123".
func drifted(d object.Drift, now time.Time) string {
	s := d.Address + "." + d.Path + " "
	switch {
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
	case "changed through the API":
		s += " through the API"
	default:
		s += " via " + d.Why
	}
	return s + fmt.Sprintf(", %s ago, index %d", short(now.Sub(d.At)), d.Index)
}
