package controller

import (
	"cmp"
	"slices"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/rollout"
	"github.com/berthdev/berth/cluster/state"
)

// turn is where an update by zones is at this look.
type turn struct {
	by, in string
	done   []string
	free   bool // none of the zone's nodes takes pods: the new ones go where there is room
	scales bool // pods go for another reason than the update, from wherever they can be spared
}

// zones leads a rolling update from zone to zone. A zone has its turn while old pods
// are in it: it ends when they are gone and every new pod is available. The way
// back has no zones, as it has no steps. Counted is what is there at each look, so
// zones and pods that come and go change what is next and hold nothing up.
func (r *release) zones(in *rollout.Input) {
	st, u := &r.status, &r.d.Spec.Update
	if st.Proven == "" || st.Set != r.name || r.name == st.Proven {
		st.Canary = r.left()
		return
	}
	if r.d.Spec.Paused {
		return
	}
	c := object.CanaryStatus{Set: r.name}
	if st.Canary != nil && st.Canary.Set == r.name {
		c = *st.Canary
	}
	if c.Step > 0 && c.Zones == 0 {
		return // the way back
	}
	m := r.survey(u.By)
	if st.Reason == "" {
		r.turns(&c, m, in)
	}
	if st.Canary = &c; c.Zone == "" {
		if c.Step == 0 {
			st.Canary = nil // no pod is in any zone
		}
		return
	}
	r.turn = &turn{by: u.By, in: c.Zone, done: c.Done, free: !m.open[c.Zone]}
	old := 0
	for _, s := range in.Old {
		old += s.Size
	}
	if in.Scaled && in.New.Size > 0 && old > 0 {
		r.turn.scales = true // every version takes its share of it
		return
	}
	for _, x := range r.versions {
		// Until a scaling is carried out its pods may go from anywhere.
		r.turn.scales = r.turn.scales || x != r.wanted && x.set.Spec.OutOf == nil && x.counts.Pods > x.counts.Size
	}
	z := &rollout.Zone{Later: c.Later}
	for _, x := range r.versions {
		switch {
		case x == r.wanted:
			if t := x.set.Spec.Into; t != nil && t.By == u.By && t.In == c.Zone {
				z.New = min(t.Pods, x.counts.Size)
			} else {
				z.New = min(m.new[c.Zone], x.counts.Size)
			}
		case r.turn.scales:
			z.Old = append(z.Old, rollout.Part{})
		default:
			z.Old = append(z.Old, m.part(x, c.Zone))
		}
	}
	in.Zone = z
}

// turns ends the turn of a zone that has been taken over, and finds the next.
func (r *release) turns(c *object.CanaryStatus, m *survey, in *rollout.Input) {
	st, how := &r.status, r.d.Spec.Update.Turns()
	next := m.next(how.Order, c.Zone)
	switch {
	case c.Zone == "":
	case !m.open[c.Zone] && m.open[next]:
		r.tell(r.d.Ref(), levelWarning, "zone", "%s %s takes no pods: others come first", r.d.Spec.Update.By, c.Zone)
		c.Step++
		c.Zone, c.Since, c.Waits = "", time.Time{}, false
	case !r.taken(c, m, in):
		if !c.Since.IsZero() { // a pod has been lost, or one has come: it begins to wait anew
			c.Since, c.Waits, st.Progress = time.Time{}, false, r.now
		}
	default:
		if c.Since.IsZero() {
			c.Since = r.now
			r.tell(r.d.Ref(), levelInfo, "zone", "%s %s is done, %d of %d: %s of %s available", r.d.Spec.Update.By, c.Zone, c.Step+1, c.Zones, plural(in.New.Available, "pod"), r.name)
		}
		if r.others() {
			if end := c.Since.Add(how.Pause.D()); r.now.Before(end) {
				r.wake(end)
				return
			}
			if c.Waits = how.Manual && r.d.Spec.Promoted != c.Token(); c.Waits {
				return
			}
		}
		if i, had := slices.BinarySearch(c.Done, c.Zone); !had {
			c.Done = slices.Insert(slices.Clone(c.Done), i, c.Zone)
		}
		c.Step++
		c.Zone, c.Since, st.Progress = "", time.Time{}, r.now
	}
	if c.Zone != "" {
		c.Zones = max(c.Zones, c.Step+1)
		return
	}
	if c.Zone = next; next == "" {
		return
	}
	c.Zones = c.Step + len(m.old)
	lacks := in.Want
	for _, x := range r.versions {
		lacks -= x.counts.Size
	}
	// What a scaling together with the new version adds or takes is shared out among
	// the turns; what is left over comes after them.
	c.Later = lacks - portion(lacks, max(1, len(m.open)-len(c.Done)))
	r.tell(r.d.Ref(), levelInfo, "zone", "%s %s, %d of %d: %s to replace", r.d.Spec.Update.By, next, c.Step+1, c.Zones, plural(m.old[next].pods, "pod"))
}

// portion is what the first of n parts gets of a number, which may be negative.
func portion(of, n int) int {
	if of < 0 {
		return -portion(-of, n)
	}
	return (of + n - 1) / n
}

// taken reports whether the zone is taken over: no old pod is in it, and all new
// ones that there are to be by now are available, wherever they are.
func (r *release) taken(c *object.CanaryStatus, m *survey, in *rollout.Input) bool {
	total := 0
	for _, x := range r.versions {
		total += x.counts.Size
	}
	return m.old[c.Zone] == nil && m.stopping[c.Zone] == 0 && in.New.Available >= in.New.Size && total >= in.Want-c.Later
}

// others reports whether pods of other versions are left.
func (r *release) others() bool {
	return slices.ContainsFunc(r.versions, func(x *version) bool {
		return x != r.wanted && (x.counts.Size > 0 || x.counts.Pods > 0)
	})
}

// survey is which pods of a deployment are in which zone.
type survey struct {
	open     map[string]bool // zones with a node that takes pods
	old      map[string]*olds
	stopping map[string]int // pods of other versions that have not ended yet
	new      map[string]int
	parts    map[*version]map[string]*rollout.Part
	homeless map[*version]int // pods that fit nowhere
}

// olds are the pods of other versions in a zone.
type olds struct{ pods, available int }

func (r *release) survey(by string) *survey {
	m := &survey{
		open: map[string]bool{}, old: map[string]*olds{}, stopping: map[string]int{}, new: map[string]int{},
		parts: map[*version]map[string]*rollout.Part{}, homeless: map[*version]int{},
	}
	zone := map[string]string{}
	for n := range state.All[*object.Node](r.v, object.KindNode) {
		z, _ := n.Attribute(by)
		if zone[n.Name] = z; z != "" && n.Status.Condition == object.NodeReady && !n.Spec.Drain && !n.Spec.Unschedulable {
			m.open[z] = true
		}
	}
	minReady := r.d.Spec.Update.MinReadyTime
	for _, x := range r.versions {
		m.parts[x] = map[string]*rollout.Part{}
		for p := range r.v.PodsOf(x.set.Ref()) {
			z := zone[p.Spec.Node]
			switch {
			case p.Terminal():
			case x == r.wanted:
				if live(p) && z != "" {
					m.new[z]++
				}
			case p.Spec.Stop:
				m.stopping[z]++
			case p.Spec.Node == "":
				if p.Status.Reason == object.ReasonUnplaceable {
					m.homeless[x]++
				}
			case z != "":
				if m.old[z] == nil {
					m.old[z] = &olds{}
				}
				if m.parts[x][z] == nil {
					m.parts[x][z] = &rollout.Part{}
				}
				m.old[z].pods++
				m.parts[x][z].Size++
				if ok, _ := available(p, minReady, r.now); ok {
					m.old[z].available++
					m.parts[x][z].Available++
				}
			}
		}
	}
	return m
}

// part is what may be given up of a version during a zone's turn: its pods there and
// those that have no place, but for what it has been told to give up already.
func (m *survey) part(x *version, zone string) rollout.Part {
	out := rollout.Part{Size: m.homeless[x]}
	if p := m.parts[x][zone]; p != nil {
		out.Size += p.Size
		out.Available = p.Available
	}
	out.Size = max(0, min(out.Size-max(0, x.counts.Pods-x.counts.Size), x.counts.Size))
	return out
}

// next is the zone, other than one, whose turn comes first: those that take pods,
// in the order that was asked for, then those with pods that serve nobody, then by name.
func (m *survey) next(order []string, but string) string {
	place := func(z string) int {
		if i := slices.Index(order, z); i >= 0 {
			return i
		}
		return len(order)
	}
	flag := func(b bool) int {
		if b {
			return 0
		}
		return 1
	}
	first := ""
	for _, z := range sortedKeys(m.old) {
		if z == but {
			continue
		}
		a, b := m.old[z], m.old[first]
		if first == "" || cmp.Or(
			cmp.Compare(flag(m.open[z]), flag(m.open[first])), cmp.Compare(place(z), place(first)),
			cmp.Compare(flag(a.available < a.pods), flag(b.available < b.pods)),
		) < 0 {
			first = z
		}
	}
	return first
}

// places is where a set of that size is to make pods and where it may give them up;
// x is nil for the wanted set that does not exist yet.
func (r *release) places(x *version, step rollout.Step, size int) (*object.Into, *object.OutOf) {
	t := r.turn
	switch {
	case t == nil && r.d.Spec.Paused && x != nil:
		if size < x.counts.Size {
			return x.set.Spec.Into, nil
		}
		return x.set.Spec.Into, x.set.Spec.OutOf
	case t == nil:
		return nil, nil
	case x == r.wanted && t.free:
		return nil, nil
	case x == r.wanted:
		into := &object.Into{By: t.by, In: t.in, Pods: step.Zone, Also: t.done}
		if t.scales && x != nil && x.set.Spec.Into != nil && x.set.Spec.Into.In == t.in {
			into.Pods = max(into.Pods, x.set.Spec.Into.Pods)
		}
		return into, nil
	case size == 0 && x.counts.Size == 0 && x.counts.Pods == 0:
		return x.set.Spec.Into, x.set.Spec.OutOf
	case t.scales:
		return nil, nil
	}
	return nil, &object.OutOf{By: t.by, In: t.in}
}

// placed reports whether the set has been told just that.
func (x *version) placed(into *object.Into, outOf *object.OutOf) bool {
	s := &x.set.Spec
	same := s.OutOf == nil && outOf == nil || s.OutOf != nil && outOf != nil && *s.OutOf == *outOf
	return same && s.Into.Equal(into)
}

// displaced reports whether some set has to be told of another place.
func (r *release) displaced(step rollout.Step) bool {
	return slices.ContainsFunc(r.versions, func(x *version) bool {
		return !x.placed(r.places(x, step, x.counts.Size))
	})
}
