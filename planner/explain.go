package planner

import (
	"slices"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// asks has the scheduler explain the pods that the plan asks about.
func (r *rehearsal) asks(p *object.Plan) {
	if p.Explanation != nil {
		r.scheduler.Explains = p.Explanation.Names
	}
}

// explain keeps what a round explained: of a pod that fits nowhere, the last.
func (b *logbook) explain(list []object.Explanation, now time.Time) {
	for _, x := range list {
		x.At = object.Duration(now.Sub(b.from))
		i, found := slices.BinarySearchFunc(b.explained, x.Pod, func(have object.Explanation, pod object.Ref) int { return have.Pod.Compare(pod) })
		if found {
			b.explained[i] = x
		} else {
			b.explained = slices.Insert(b.explained, i, x)
		}
	}
}
