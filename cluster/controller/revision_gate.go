package controller

import (
	"fmt"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// podDeadline is how long declared pods and replica sets may take to become
// ready; deployments bring their own.
const podDeadline = 2 * time.Minute

// gateKind is what a wave allows.
type gateKind int

const (
	gateOpen   gateKind = iota // the next wave may begin
	gateWaits                  // not yet
	gatePaused                 // an object failed and asks for a person
	gateFailed                 // an object failed
)

// gate is the health of a wave; object and failure say who holds it and why.
type gate struct {
	kind   gateKind
	object object.Ref
	failure
}

// openedOf answers which of a wave's changes have been carried out, when it is asked
// for each in their order. They were noted in that order, too, unless one had to
// wait: only then a table is made of them.
func openedOf(opened []object.Ref, wave []*object.RevisionChange) func(object.Ref) bool {
	next := max(0, len(opened)-len(wave))
	var table map[object.Ref]bool
	return func(r object.Ref) bool {
		if table == nil && next < len(opened) && opened[next] == r {
			next++
			return true
		}
		if table == nil {
			table = make(map[object.Ref]bool, len(opened))
			for _, r := range opened {
				table[r] = true
			}
		}
		return table[r]
	}
}

// gate is the worst that any object of the wave says.
func (a *apply) gate(changes []*object.RevisionChange) gate {
	worst := gate{}
	opened := openedOf(a.status.Opened, changes)
	for _, c := range changes {
		g := gate{kind: gateWaits}
		if opened(c.Ref) {
			g = a.health(c)
		}
		if g.kind > worst.kind {
			worst, worst.object = g, c.Ref
		}
	}
	return worst
}

// inherited is the health of what revisions since the last healthy one have
// opened and this one leaves as it is: having taken over from them, it answers
// for that, too.
func (a *apply) inherited() gate {
	worst := gate{}
	healthy := a.stack.Status.Healthy
	if a.rev.Spec.Cause == causeRevert || healthy >= a.rev.Spec.Number-1 {
		return worst
	}
	own := make(map[object.Ref]bool, len(a.rev.Spec.Changes))
	for i := range a.rev.Spec.Changes {
		own[a.rev.Spec.Changes[i].Ref] = true
	}
	for _, r := range a.revisionsSince(healthy, a.rev.Spec.Number-1) {
		for i := range r.Spec.Changes {
			c := &r.Spec.Changes[i]
			o, exists := a.v.Get(c.Ref)
			if own[c.Ref] || c.Wave > r.Status.Wave || !exists || o.Head().Stack != a.rev.Spec.Stack || !o.Head().Owner.IsZero() {
				continue
			}
			own[c.Ref] = true
			if g := a.health(&object.RevisionChange{Op: object.OpUpdate, Ref: c.Ref}); g.kind > worst.kind {
				worst, worst.object = g, c.Ref
			}
		}
	}
	return worst
}

// heldBy is the gate for a change that cannot be carried out.
func heldBy(e *object.Error) gate {
	return gate{kind: gateFailed, object: e.Ref, failure: failure{reason: string(e.Code), message: e.Error()}}
}

func (a *apply) health(c *object.RevisionChange) gate {
	o, exists := a.v.Get(c.Ref)
	if c.Op == object.OpDelete {
		return a.gone(c.Ref, o)
	}
	if !exists {
		switch c.Ref.Kind {
		case object.KindDeployment, object.KindReplicaSet, object.KindPod:
			if wrote(&a.Changes, c.Ref) || created(&a.Changes, c.Ref) {
				return gate{kind: gateWaits}
			}
			return gate{kind: gateFailed, failure: failure{reason: "deleted", message: "somebody deleted it while the revision was carried out"}}
		}
		return gate{}
	}
	p, isPod := o.(*object.Pod)
	if ok, _ := object.Healthy(o); ok && (!isPod || p.Spec.Pod == nil) { // a pod with a template has not been let in yet
		return gate{}
	}
	switch x := o.(type) {
	case *object.Deployment:
		return deploymentHealth(x)
	case *object.ReplicaSet:
		return a.setHealth(x)
	case *object.Pod:
		return a.podHealth(x)
	}
	return gate{}
}

func created(c *object.Changeset, r object.Ref) bool {
	for i := range c.Changes {
		if c.Changes[i].Ref == r {
			return true
		}
	}
	return false
}

// gone waits until an object has ended together with its pods.
func (a *apply) gone(r object.Ref, o object.Object) gate {
	switch r.Kind {
	case object.KindPod:
		if p, ok := o.(*object.Pod); ok && p.Stack == a.rev.Spec.Stack && p.Spec.Stop {
			return gate{kind: gateWaits}
		}
	case object.KindDeployment, object.KindReplicaSet:
		if o == nil {
			for range a.v.Owned(r) {
				return gate{kind: gateWaits}
			}
		}
	}
	return gate{}
}

// deploymentHealth is what holds a deployment that is not healthy.
func deploymentHealth(d *object.Deployment) gate {
	st := d.Status
	if st.Observed != d.Version {
		return gate{kind: gateWaits}
	}
	f := failure{st.Reason, st.Message, st.LastLog}
	switch st.Phase {
	case object.RolloutFailed:
		return gate{kind: gateFailed, failure: f}
	case object.RolloutPaused:
		if st.Reason != "" {
			return gate{kind: gatePaused, failure: f}
		}
	}
	return gate{kind: gateWaits}
}

// setHealth is what holds a replica set that is not healthy.
func (a *apply) setHealth(rs *object.ReplicaSet) gate {
	if rs.Status.Observed != rs.Version {
		return gate{kind: gateWaits}
	}
	for p := range a.v.PodsOf(rs.Ref()) {
		f, failing, later := verdict(p, a.now)
		if failing {
			return gate{kind: gateFailed, failure: f}
		}
		a.wake(later)
	}
	f := lastFailure(rs)
	if rs.Status.Failing > 0 && f.reason == object.ReasonConfig {
		return gate{kind: gateFailed, failure: f}
	}
	return a.inTime(fmt.Sprintf("%d of %s ready", rs.Status.Ready, plural(rs.Spec.Replicas, "pod")), f)
}

// podHealth is what holds a declared pod that is not healthy.
func (a *apply) podHealth(p *object.Pod) gate {
	f, failing, later := verdict(p, a.now)
	if failing {
		return gate{kind: gateFailed, failure: f}
	}
	a.wake(later)
	return a.inTime("not ready", story(p))
}

// inTime waits until the wave has been open for too long.
func (a *apply) inTime(how string, f failure) gate {
	since := a.status.Since
	if since.IsZero() {
		since = a.rev.CreatedAt // it opened nothing and answers for what it took over
	}
	end := since.Add(podDeadline)
	if a.now.Before(end) {
		a.wake(end)
		return gate{kind: gateWaits}
	}
	message := fmt.Sprintf("%s after %s", how, object.Duration(podDeadline))
	if f.message != "" {
		message += "; " + f.message
	}
	return gate{kind: gateFailed, failure: failure{ReasonDeadline, message, f.log}}
}

// revisionsSince are the stack's revisions after the one that was healthy last, up
// to and including n, oldest first. Older ones than the history keeps are gone.
func (a *apply) revisionsSince(healthy, n int) []*object.Revision {
	var out []*object.Revision
	for i := max(healthy, n-2*revisionLimit) + 1; i <= n; i++ {
		if r, ok := state.Find[*object.Revision](a.v, revisionRef(a.rev.Spec.Stack, i)); ok {
			out = append(out, r)
		}
	}
	return out
}
