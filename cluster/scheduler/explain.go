package scheduler

import (
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// Verdict is one node's answer to one pod.
type Verdict struct {
	Node   string `json:"node"`
	Fits   bool   `json:"fits"`
	Score  int64  `json:"score,omitempty"`  // in thousandths of a point, where it fits
	Reason string `json:"reason,omitempty"` // the first filter that it fails, where it does not
}

// Explanation is why a pod is, or would be, where it is.
type Explanation struct {
	Pod     object.Ref `json:"pod"`
	Node    string     `json:"node,omitempty"`    // where it is bound
	Best    string     `json:"best,omitempty"`    // where it would be placed now
	Planned string     `json:"planned,omitempty"` // where its revision planned it
	Summary string     `json:"summary"`           // one sentence
	Nodes   []Verdict  `json:"nodes,omitempty"`   // those that fit first, best first; the others by name
}

// Explain asks every node about one pod. A pod that is bound already is looked
// at as if it were not, so that the answer tells why it is where it is. The
// error is CodeNotFound when there is no such pod.
func (s *Scheduler) Explain(v *state.Snapshot, pod object.Ref) (Explanation, error) {
	return Explanation{}, nil
}
