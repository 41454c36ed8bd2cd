package object

import (
	"strconv"
	"strings"
)

// Explanation is why a pod is, or would be, where it is. In a request for a plan
// it holds Asked alone, and the masters fill it in; it is no part of what they
// seal, nor of what a file of the plan keeps.
type Explanation struct {
	Asked      string      `json:"asked,omitempty"` // of a plan: NAME, NAMESPACE/NAME
	Pod        Ref         `json:"pod,omitzero"`
	At         Duration    `json:"at,omitempty"`      // of a plan: since the apply
	Node       string      `json:"node,omitempty"`    // where it is bound
	Best       string      `json:"best,omitempty"`    // where it is placed, or would be now
	Planned    string      `json:"planned,omitempty"` // where its running revision planned it
	Summary    string      `json:"summary,omitempty"` // one sentence
	Candidates []Candidate `json:"nodes,omitempty"`   // those that fit first, best first; the others by name
}

// Candidate is one node's answer to one pod.
type Candidate struct {
	Node  string      `json:"node"`
	Fits  bool        `json:"fits"`
	Score Points      `json:"score,omitempty"` // where it fits
	Parts []ScorePart `json:"parts,omitempty"` // what the score is the sum of: of the best nodes, and of the one it is bound to
	// Fails is every demand that the node fails, where it does not fit.
	Fails []string `json:"fails,omitempty"`
}

// ScorePart is one reason for or against a node that would do.
type ScorePart struct {
	What   string `json:"what"`             // free, spread over zone, constraint disk = ssd
	Points Points `json:"points"`           // negative: against it
	Detail string `json:"detail,omitempty"` // the figures that it comes from
}

// Points are the unit of scores, in thousandths.
type Points int64

// String is the number in points: 49.4.
func (p Points) String() string {
	return strconv.FormatFloat(float64(p)/1000, 'f', -1, 64)
}

// Names reports whether the pod is one that the explanation was asked for.
func (e *Explanation) Names(pod Ref) bool {
	asked := strings.TrimPrefix(e.Asked, string(KindPod)+"/")
	namespace, name, both := strings.Cut(asked, "/")
	if !both {
		return asked == pod.Name
	}
	return name == pod.Name && namespace == pod.Namespace
}
