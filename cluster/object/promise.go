package object

import "slices"

// ReasonPromise is why a rollout is paused that could only go on by making fewer
// pods ready than its plan promised.
const ReasonPromise = "promise"

// Least is how many pods must stay ready of a workload that wants so many now. A
// promise is what may be missing: whoever scales the workload down by hand while
// it is rolled out takes nothing back of it.
func (a Availability) Least(want int) int {
	return max(0, min(a.Ready, want-(a.Want-a.Ready)))
}

// Promised is the lowest readiness that the plan promised of a workload; false if
// it promised nothing.
func (s *RevisionSpec) Promised(workload Ref) (Availability, bool) {
	return availability(s.Promise, workload)
}

// LowestOf is the lowest readiness of a workload that was really seen.
func (s *RevisionStatus) LowestOf(workload Ref) (Availability, bool) {
	return availability(s.Lowest, workload)
}

// availability finds a workload in a list that is ordered by workload.
func availability(list []Availability, workload Ref) (Availability, bool) {
	i, ok := slices.BinarySearchFunc(list, workload, func(a Availability, r Ref) int { return a.Workload.Compare(r) })
	if !ok {
		return Availability{}, false
	}
	return list[i], true
}

// Broken lists the promises that were not kept, with what was really seen.
func (o *Revision) Broken() []Availability {
	var out []Availability
	for _, p := range o.Spec.Promise {
		if seen, ok := o.Status.LowestOf(p.Workload); ok && seen.Ready < p.Least(seen.Want) {
			out = append(out, seen)
		}
	}
	return out
}

// Measured reports whether what happened has been compared with the plan: the
// revision became healthy, and its plan had foretold something.
func (o *Revision) Measured() bool {
	return o.Status.Phase == RevisionHealthy && (len(o.Spec.Placements) > 0 || len(o.Spec.Promise) > 0)
}

// Held reports whether the plan of a revision came true: every pod went where it
// was planned, and no workload had fewer ready pods than promised.
func (o *Revision) Held() bool {
	return o.Measured() && len(o.Status.Deviations) == 0 && len(o.Broken()) == 0
}
