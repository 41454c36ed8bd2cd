package object

import (
	"fmt"
	"time"
)

// Names of guards, as flags and in Breach.
const (
	GuardMaxDestroy = "max-destroy"
	GuardMinReady   = "min-ready"
	GuardMaxMoved   = "max-moved"
)

// Guards bound what a plan may do. They are part of the plan: the masters hold what
// they are about to commit against them, and commit nothing when one is broken.
type Guards struct {
	// MaxDestroy is how many declared objects may end, replaced ones included; a
	// share is one of all that the stack declares.
	MaxDestroy *Amount `json:"max_destroy,omitempty"`
	// MinReady is how many pods of every workload must be ready at every moment of
	// the forecast; a share is one of the pods that the workload wants then.
	MinReady *Amount `json:"min_ready,omitempty"`
	// MaxMoved is how many running pods may be stopped.
	MaxMoved *uint `json:"max_moved,omitempty"`
}

// IsZero reports whether everything is allowed.
func (g Guards) IsZero() bool { return g == Guards{} }

// Foresee reports whether some guard is about the forecast.
func (g Guards) Foresee() bool { return g.MinReady != nil || g.MaxMoved != nil }

// Breach is a guard that a plan breaks, and how.
type Breach struct {
	Guard   string `json:"guard"`
	Message string `json:"message"`
}

// Check finds the guards that a plan breaks with this forecast. declared is how many
// objects the stack declares before it.
func (g Guards) Check(p *Plan, f *Forecast, declared int) []Breach {
	var out []Breach
	say := func(guard, format string, args ...any) {
		out = append(out, Breach{Guard: guard, Message: fmt.Sprintf(format, args...)})
	}
	if g.MaxDestroy != nil {
		ends, first := 0, ""
		for i := range p.Changes {
			if c := &p.Changes[i]; c.Op() == OpDelete || c.Replaces() {
				if ends++; first == "" {
					first = c.Address
				}
			}
		}
		if most := g.MaxDestroy.Of(declared, false); ends > most {
			of := ""
			if g.MaxDestroy.Percent {
				of = fmt.Sprintf(" of the %d that the stack declares, which are %d", declared, most)
			}
			say(GuardMaxDestroy, "It would destroy %s, %s first; --max-destroy allows %s%s.", count(ends, "object"), first, g.MaxDestroy, of)
		}
	}
	if g.MinReady != nil {
		for _, a := range f.Lowest {
			least := g.MinReady.Of(a.Want, true)
			if a.Ready < least {
				say(GuardMinReady, "%s would fall to %d of %d ready at +%s; --min-ready asks for %s.", a.Workload.Address(), a.Ready, a.Want, Duration(a.At.D().Round(time.Second/10)), g.MinReady)
			}
		}
	}
	if g.MaxMoved != nil && f.Stop > int(*g.MaxMoved) {
		say(GuardMaxMoved, "It would stop %s that run now; --max-moved allows %d.", count(f.Stop, "pod"), *g.MaxMoved)
	}
	return out
}

// Broken is the error that a plan breaks guards; nil if it breaks none.
func Broken(found []Breach) error {
	if len(found) == 0 {
		return nil
	}
	e := &Error{Code: CodeGuard, Message: found[0].Message, Hint: "Nothing was written. Change less at a time, or plan again with another guard."}
	for _, b := range found {
		e.Diagnostics = append(e.Diagnostics, Diagnostic{Severity: SeverityError, Summary: "Refused by --" + b.Guard, Detail: b.Message + " Nothing was written."})
	}
	return e
}

// Lifetimes of plans.
const (
	PlanLifetime    = Duration(7 * 24 * time.Hour) // unless the planner asks for another
	MaxPlanLifetime = Duration(90 * 24 * time.Hour)
)

// count is "1 object", "2 objects".
func count(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
