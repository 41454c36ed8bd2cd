package controller

import (
	"fmt"
	"strings"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// ReasonDeadline is the reason of a rollout that made no progress for too long.
const ReasonDeadline = "progress_deadline"

const (
	// crashTolerance is how often a container may be restarted before ending again
	// counts against its version: a first crash may be a race at the start.
	crashTolerance = 2
	// placePatience is how long a pod may fit nowhere before that counts: pods
	// that are just ending may make room.
	placePatience = 10 * time.Second
)

// failure is why something does not come up, for the status and for people.
type failure struct {
	reason  string
	message string
	log     []string
}

// verdict says whether a pod shows that its version cannot come up. later is when
// to ask again if the answer is no but may change without the pod's changing.
func verdict(p *object.Pod, now time.Time) (f failure, failing bool, later time.Time) {
	reason, failing := p.Failing()
	if !failing || p.Spec.Stop || p.Status.Phase == object.PodLost {
		return failure{}, false, time.Time{}
	}
	switch reason {
	case object.ReasonUnplaceable:
		if until := p.Status.Since.Add(placePatience); now.Before(until) {
			return failure{}, false, until
		}
	case object.ReasonCrashLoop:
		if p.Status.Phase != object.PodFailed && len(p.Status.Containers) > 0 && restarts(p) < crashTolerance {
			return failure{}, false, time.Time{}
		}
	case object.ReasonNodeResources:
		return failure{}, false, time.Time{} // the node's fault; another one will do
	}
	f = story(p)
	if f.reason == "" {
		f.reason = "failed"
	}
	return f, true, time.Time{}
}

func restarts(p *object.Pod) int {
	n := 0
	for _, c := range p.Status.Containers {
		n = max(n, c.Restarts)
	}
	return n
}

// story tells how a pod is that is not well: the container that is to blame, what
// it said, and its last lines.
func story(p *object.Pod) failure {
	f := failure{reason: p.Status.Reason}
	var b strings.Builder
	fmt.Fprintf(&b, "pod %s", p.Name)
	if p.Spec.Node != "" {
		fmt.Fprintf(&b, " on %s", p.Spec.Node)
	}
	blamed := blame(p)
	said := p.Status.Message
	if blamed != nil {
		fmt.Fprintf(&b, ", container %s", blamed.Name)
		f.log = blamed.LastLog
		if f.reason == "" {
			f.reason = blamed.Reason
		}
		if said = strings.TrimPrefix(said, "container "+blamed.Name+": "); said == "" {
			said = blamed.Message
		}
		if said == "" && blamed.ExitCode != 0 {
			said = fmt.Sprintf("exited with %d", blamed.ExitCode)
		}
		if blamed.Restarts > 0 {
			said = strings.TrimPrefix(said+fmt.Sprintf(" (restarted %d times)", blamed.Restarts), " ")
		}
	}
	switch {
	case said != "":
	case f.reason != "":
		said = f.reason
	case p.Spec.Node == "":
		said = "waits for a node"
	case p.Status.Phase == "":
		said = "its node has not reported it yet"
	default:
		said = string(p.Status.Phase) + ", not ready"
	}
	fmt.Fprintf(&b, ": %s", said)
	f.message = b.String()
	return f
}

// blame picks the container that keeps a pod from being well: one that failed
// rather than one that only is not ready yet; nil when all are well. An init
// container that has done its work is well.
func blame(p *object.Pod) *object.ContainerStatus {
	var blamed *object.ContainerStatus
	failed := func(c *object.ContainerStatus) bool { return c.Reason != "" || c.ExitCode != 0 }
	for i := range p.Status.Containers {
		c := &p.Status.Containers[i]
		done := c.State == "exited" && c.ExitCode == 0 && (c.Reason == "" || c.Reason == object.ReasonCompleted)
		if c.Ready || done {
			continue
		}
		if blamed == nil || !failed(blamed) && failed(c) {
			blamed = c
		}
	}
	return blamed
}

// live reports whether the pod counts for its owner: it runs or will run.
func live(p *object.Pod) bool { return !p.Spec.Stop && !p.Terminal() }

// available reports whether a live pod has been ready for min; from is when it
// will have been, zero if that depends on more than time.
func available(p *object.Pod, min object.Duration, now time.Time) (ok bool, from time.Time) {
	if !live(p) || !p.Status.Ready {
		return false, time.Time{}
	}
	if min == 0 || p.Status.ReadySince.IsZero() {
		return true, time.Time{}
	}
	if from = p.Status.ReadySince.Add(min.D()); now.Before(from) {
		return false, from
	}
	return true, time.Time{}
}

// leaving reports whether a pod is to move, or its node is being drained.
func leaving(v *state.Snapshot, p *object.Pod) bool {
	if p.Spec.Node == "" {
		return false
	}
	if p.Spec.Move {
		return true
	}
	n, ok := state.Find[*object.Node](v, object.Ref{Kind: object.KindNode, Name: p.Spec.Node})
	return ok && n.Spec.Drain
}
