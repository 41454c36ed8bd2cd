package object

import (
	"fmt"
	"time"
)

// Names of operations that can be planned.
const (
	OperationDrain     = "drain"     // as berth node drain
	OperationNodeLoss  = "node-loss" // nodes fall silent; a question, which nobody can apply
	OperationRestart   = "restart"   // as berth rollout restart
	OperationScale     = "scale"     // another number of pods
	OperationRebalance = "rebalance" // pods move until nodes are evenly used
)

// CauseWrite is the cause of a plan that stands for a write of objects past every
// plan: to be judged, and for that to be rehearsed. Nobody can apply it.
const CauseWrite = "write"

// Operation is what a plan does that comes from no configuration. Its changes are
// made from the state in force, for the rehearsal as for the apply.
type Operation struct {
	Name     string `json:"name"`
	On       []Ref  `json:"on"`                 // nodes or deployments; of a rebalance the pods, which the masters choose
	Replicas []int  `json:"replicas,omitempty"` // of a scale, one for each of On
	Most     int    `json:"most,omitempty"`     // of a rebalance: how many pods may move
	// Pins are what the tags of images stand for now, of a restart; others stay pinned
	// as they are.
	Pins map[string]string `json:"pins,omitempty"`
}

// Applicable reports whether the operation can be carried out, not only asked about.
func (o *Operation) Applicable() bool { return o.Name != OperationNodeLoss && !o.Idle() }

// Idle reports whether the operation has nothing to do: nodes are evenly used.
func (o *Operation) Idle() bool { return o.Name == OperationRebalance && len(o.On) == 0 }

// Drain marks the node as being drained.
func (n *Node) Drain() { n.Spec.Unschedulable, n.Spec.Drain = true, true }

// Restart makes a new version of the same template, and always another one: a second
// restart within the same second, or by a clock that is behind the one that stamped
// the last, counts on from there.
func (d *Deployment) Restart(at time.Time) {
	at = at.UTC().Truncate(time.Second)
	if next := d.Spec.Restarted.UTC().Add(time.Second); !d.Spec.Restarted.IsZero() && at.Before(next) {
		at = next
	}
	d.Spec.Restarted = at
}

// Changeset is what the operation writes, made from what is in force. The same
// time gives the same versions of what restarts, and so the same names of pods.
func (o *Operation) Changeset(inForce func(Ref) (Object, bool), at time.Time) (Changeset, error) {
	var c Changeset
	if len(o.On) == 0 && !o.Idle() {
		return c, &Error{Code: CodeInvalid, Message: fmt.Sprintf("the operation %q names nothing", o.Name), Hint: "Name what it is for."}
	}
	if o.Name == OperationScale && len(o.Replicas) != len(o.On) {
		return c, &Error{Code: CodeInvalid, Message: fmt.Sprintf("the scale has %d numbers for %d deployments", len(o.Replicas), len(o.On)), Hint: "Give each its number."}
	}
	seen := map[Ref]bool{}
	for i, r := range o.On {
		if seen[r] {
			return c, Errorf(CodeInvalid, r, "is named twice")
		}
		seen[r] = true
		x, ok := inForce(r)
		if !ok {
			return c, Errorf(CodeNotFound, r, "does not exist")
		}
		if err := o.change(&c, i, x, at); err != nil {
			return c, err
		}
	}
	c.Reason = o.Name
	return c, nil
}

func (o *Operation) change(c *Changeset, i int, x Object, at time.Time) error {
	after := x.Clone()
	switch n := after.(type) {
	case *Node:
		switch o.Name {
		case OperationDrain:
			if n.Spec.Drain {
				e := Errorf(CodeInvalid, n.Ref(), "is drained already")
				e.Hint = "It takes pods again after: berth node uncordon " + n.Name
				return e
			}
			n.Drain()
			c.Update(x, n)
			return nil
		case OperationNodeLoss:
			if n.Status.Condition == NodeLost {
				return Errorf(CodeInvalid, n.Ref(), "is lost already")
			}
			n.Status.Condition, n.Status.Since, n.Status.Message = NodeLost, at, "does not answer"
			c.UpdateStatus(x, n)
			return nil
		}
	case *Pod:
		if o.Name != OperationRebalance {
			break
		}
		if n.Owner.Kind != KindReplicaSet {
			return Errorf(CodeInvalid, n.Ref(), "cannot be moved: no set would start it elsewhere")
		}
		if n.Spec.Move || n.Spec.Stop || n.Terminal() {
			return Errorf(CodeInvalid, n.Ref(), "leaves its node already")
		}
		n.Spec.Move = true
		c.Update(x, n)
		return nil
	case *Deployment:
		switch o.Name {
		case OperationRestart:
			n.Restart(at)
			n.Repin(o.Pins)
			c.Update(x, n)
			return nil
		case OperationScale:
			if o.Replicas[i] < 0 {
				return Errorf(CodeInvalid, n.Ref(), "cannot have %d pods", o.Replicas[i])
			}
			if n.Spec.Replicas == o.Replicas[i] {
				return Errorf(CodeInvalid, n.Ref(), "has %d replicas already", o.Replicas[i])
			}
			n.Spec.Replicas = o.Replicas[i]
			c.Update(x, n)
			return nil
		}
	}
	return Errorf(CodeInvalid, x.Head().Ref(), "there is no operation %q for a %s", o.Name, x.Head().Kind)
}
