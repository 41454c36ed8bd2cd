package planner

import (
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// Carried is how a plan ended that was carried out.
type Carried struct {
	Outcome string    // one of the outcomes of a forecast
	Reason  string    // if it is not healthy
	At      time.Time // when nothing more happened
}

// Carry carries a plan out in virtual time, as Forecast rehearses it, and leaves the
// store as the masters' state would be when nothing more happens: old pods have
// gone, and what failed has been put back. The plan has its forecast, for the
// scheduler keeps to that.
func Carry(store *state.Store, p *object.Plan, from time.Time, m NodeModel, each object.Each) Carried {
	r := newRehearsal(nil, store, p, from, m, each)
	r.through = true
	if p.Operation != nil {
		r.operate(p.Operation)
	} else if r.begin(p) && r.toRest() && !r.ended() {
		r.outcome, r.reason = OutcomeUnfinished, "nothing more would happen; "+r.waiting()
	}
	return Carried{Outcome: r.outcome, Reason: r.reason, At: r.now}
}
