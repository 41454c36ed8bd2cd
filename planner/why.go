package planner

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// readers adds the deployments that roll because a config map or secret that
// they read changes, though nothing else of them does: the revision has to wait
// for their health, and people should see them.
func (d *differ) readers() {
	for _, x := range d.order {
		dep, ok := x.Object.(*object.Deployment)
		ref := x.Object.Ref()
		if !ok || !d.covers(ref) {
			continue
		}
		now, _ := d.current(ref)
		before, exists := now.(*object.Deployment)
		if !exists || before.Stack != d.r.Stack || !before.Owner.IsZero() {
			continue
		}
		var fields []object.FieldDiff
		for _, r := range dep.Spec.Pod.ReadRefs(ref.Namespace) {
			c := d.changes[r]
			if c == nil || !reloads(c) {
				continue
			}
			f := object.FieldDiff{Path: "pod.reads[" + strconv.Quote(string(r.Kind)+"/"+r.Name) + "]", Op: object.OpUpdate, Effect: "rolls"}
			if c.Before.IsZero() {
				f.Op = object.OpCreate
			} else {
				f.Before = object.ContentDigest(c.Before.Object)
			}
			f.After = object.ContentDigest(c.After.Object)
			fields = append(fields, f)
		}
		if len(fields) == 0 {
			continue
		}
		c := d.changes[ref]
		if c == nil {
			after := dep.Clone()
			m := after.Head()
			m.Stack, m.Owner, m.After = d.r.Stack, object.Ref{}, dependencies(x)
			for _, path := range x.Ignore {
				if path == "all" {
					after = before.Clone()
					break
				}
				_ = object.CopyPath(after, before, path) // change has reported what is wrong with it
			}
			object.KeepOperational(after, before)
			c = &object.PlannedChange{Ref: ref, Address: x.Address, Actions: []string{object.ActionUpdate}, Reason: object.ReasonReads,
				Before: object.Any{Object: plain(before)}, After: object.Any{Object: plain(after)}}
			c.Hidden = attributes(after)
			d.put(c)
		}
		c.Fields = append(c.Fields, fields...)
	}
}

// attributes is the number of attributes of an object that is not changed.
func attributes(o object.Object) int { return len(object.Compare(nil, o).Fields()) }

// reloads reports whether the change gives readers another content to restart for.
func reloads(c *object.PlannedChange) bool {
	return renews(c) && object.ReloadOf(c.After.Object) == object.ReloadRestart
}

// renews reports whether the change gives a config map or secret another content.
func renews(c *object.PlannedChange) bool {
	return !c.After.IsZero() && object.ReloadOf(c.After.Object) != "" &&
		(c.Before.IsZero() || object.ContentDigest(c.Before.Object) != object.ContentDigest(c.After.Object))
}

// whys says of every field that changes what its change does.
func (d *differ) whys() {
	for _, c := range d.changes {
		if c.Before.IsZero() || c.After.IsZero() {
			continue
		}
		for i := range c.Fields {
			f := &c.Fields[i]
			f.Why, f.Replaces = d.why(c, f)
		}
	}
}

func (d *differ) why(c *object.PlannedChange, f *object.FieldDiff) (why string, replaces bool) {
	switch f.Effect {
	case "rolls":
		dep, ok := c.Before.Object.(*object.Deployment)
		switch {
		case !ok:
			return "for pods made later", false
		case dep.Spec.Replicas == 0:
			return "no pods to roll", false
		}
		verb := "rolls "
		if after, ok := c.After.Object.(*object.Deployment); ok && after.Spec.Update.Strategy == "recreate" {
			verb = "recreates "
		}
		why = verb + pods(dep.Spec.Replicas)
		if dep.Spec.Paused {
			why += " once it is resumed"
		}
		return why, false
	case "scales":
		return "scales in place", false
	case "replaces":
		return "replaces the pod", true
	case "new_pods":
		return "for pods made later", false
	case "reloads":
		return d.whoReads(c), false
	}
	return "changes in place", false
}

// whoReads names the deployments that restart for a config map or secret, or are
// told of it.
func (d *differ) whoReads(c *object.PlannedChange) string {
	does, checks := "restarts ", d.whoAsks(c.Ref)
	switch {
	case reloads(c):
	case renews(c) && object.ReloadOf(c.After.Object) == object.ReloadSignal:
		does = "signals "
	default:
		return "only new pods see it" + checks
	}
	var parts []string
	for _, x := range d.readBy[c.Ref] {
		if before, exists := state.Find[*object.Deployment](d.v, x.Object.Ref()); exists && before.Spec.Replicas > 0 {
			parts = append(parts, fmt.Sprintf("%s of %s", pods(before.Spec.Replicas), x.Address))
		}
	}
	if len(parts) == 0 {
		return "no running deployment reads it" + checks
	}
	return does + strings.Join(parts, ", ") + checks
}

func pods(n int) string {
	if n == 1 {
		return "1 pod"
	}
	return strconv.Itoa(n) + " pods"
}
