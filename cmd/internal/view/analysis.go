package view

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// RolloutWhy prints why a rollout is where it is: its state in a line, the reason if
// it has one, and each check with what its source told last.
func RolloutWhy(w io.Writer, d *object.Deployment, now time.Time, o Options) error {
	if err := RolloutStatus(w, []*object.Deployment{d}, now, o); err != nil {
		return err
	}
	p := &printer{Options: o, w: w}
	st := &d.Status
	if st.Reason != "" {
		p.line("  ", st.Reason, ": ", st.Message)
	}
	if st.Canary == nil {
		return p.err
	}
	for i := range st.Canary.Checks {
		s := &st.Canary.Checks[i]
		where := "beside the steps"
		switch blueGreen := d.Spec.Update.Strategy == "blue_green"; {
		case blueGreen && s.Step == object.AfterSwitch:
			where = "after the switch"
		case s.Step != "":
			where = "of step " + s.Step
		case blueGreen:
			where = "before the switch"
		}
		p.line("  ", fmt.Sprintf("check %s %s is %s", s.Name, where, s.Phase), ": ", strings.TrimPrefix(checkText(s), "check "+s.Name+" "))
		if s.Message != "" {
			p.line("    the last measurement, ", short(now.Sub(s.Last)), " ago: ", s.Message)
		}
		if check := d.Spec.Update.Check(s.Step, s.Name); check != nil && s.Open() {
			p.line("    the next one: ", soon(s.Due(check).Sub(now)))
		}
	}
	return p.err
}

func soon(d time.Duration) string {
	if d <= 0 {
		return "now"
	}
	return "in " + short(d)
}
