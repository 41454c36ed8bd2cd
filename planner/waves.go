package planner

import (
	"slices"

	"github.com/berthdev/berth/cluster/object"
)

// graph says which object waits for which; both ends are objects of the plan,
// desired or in force.
type graph struct {
	order []object.Ref                // sorted
	deps  map[object.Ref][]object.Ref // sorted
}

// dependencies are what a desired object waits for: its references and
// depends_on, what its pods read, its namespace. Sorted, each once, never itself.
func dependencies(x *Desired) []object.Ref {
	return depsOf(x.Object, x.DependsOn)
}

func depsOf(o object.Object, said []object.Ref) []object.Ref {
	self := o.Ref()
	out := slices.Clone(said)
	if t := object.TemplateOf(o); t != nil {
		out = append(out, t.ReadRefs(self.Namespace)...)
	}
	if self.Namespace != "" {
		out = append(out, object.Ref{Kind: object.KindNamespace, Name: self.Namespace})
	}
	slices.SortFunc(out, object.Ref.Compare)
	out = slices.Compact(out)
	if i := slices.Index(said, self); i < 0 {
		return slices.DeleteFunc(out, func(r object.Ref) bool { return r == self })
	}
	return out // an object that names itself is a cycle, and said so
}

func (d *differ) graph() graph {
	g := graph{deps: map[object.Ref][]object.Ref{}}
	add := func(o object.Object, deps []object.Ref) {
		g.order = append(g.order, o.Ref())
		g.deps[o.Ref()] = deps
	}
	for _, x := range d.order {
		if d.desired[x.Object.Ref()] == x {
			add(x.Object, slices.Clone(d.deps[x.Object.Ref()]))
		}
	}
	for _, o := range d.inForce {
		if d.desired[o.Ref()] != nil {
			continue
		}
		if p, ok := o.(*object.Pod); ok {
			o = d.v.Expand(p)
		}
		add(o, depsOf(o, o.Head().After))
	}
	slices.SortFunc(g.order, object.Ref.Compare)
	for r, deps := range g.deps {
		g.deps[r] = slices.DeleteFunc(deps, func(x object.Ref) bool { _, ok := g.deps[x]; return !ok })
	}
	return g
}

func (g graph) dependents() map[object.Ref][]object.Ref {
	out := map[object.Ref][]object.Ref{}
	for _, r := range g.order {
		for _, dep := range g.deps[r] {
			out[dep] = append(out[dep], r)
		}
	}
	return out
}

// cycle is the first circle, its first object repeated at the end; nil without one.
func (g graph) cycle() []object.Ref {
	const (
		open = 1
		done = 2
	)
	mark := make(map[object.Ref]int, len(g.order))
	var path, found []object.Ref
	var visit func(object.Ref) bool
	visit = func(r object.Ref) bool {
		switch mark[r] {
		case done:
			return false
		case open:
			found = append(slices.Clone(path[slices.Index(path, r):]), r)
			return true
		}
		mark[r] = open
		path = append(path, r)
		for _, dep := range g.deps[r] {
			if visit(dep) {
				return true
			}
		}
		path = path[:len(path)-1]
		mark[r] = done
		return false
	}
	for _, r := range g.order {
		if visit(r) {
			return found
		}
	}
	return nil
}

// waves gives every change its wave and returns how many there are. A change is
// one wave after the last change that it depends on, directly or through what
// does not change; deletes come after all others, what depends before what it
// depends on. A config map or secret shares the wave of the deployments that
// read it and change themselves, or they would roll twice.
func (d *differ) waves(g graph) int {
	written := func(r object.Ref) bool { c := d.changes[r]; return c != nil && c.Op() != object.OpDelete }
	deleted := func(r object.Ref) bool { c := d.changes[r]; return c != nil && c.Op() == object.OpDelete }

	after := levels(g.deps, written, d.together)
	dependents := g.dependents()
	writes, deletes := 0, 0
	for _, r := range g.order {
		if written(r) {
			d.changes[r].Wave = after(r)
			writes = max(writes, after(r))
		}
	}
	for _, r := range g.order {
		if !written(r) || !slices.ContainsFunc(dependents[r], func(x object.Ref) bool { return d.together(x, r) }) {
			continue
		}
		latest := writes
		for _, x := range dependents[r] {
			switch {
			case d.together(x, r):
				latest = min(latest, d.changes[x].Wave)
			case written(x):
				latest = min(latest, d.changes[x].Wave-1)
			case d.desired[x] != nil:
				latest = d.changes[r].Wave // who waits for it in the end is not known here: leave it
			}
		}
		d.changes[r].Wave = max(d.changes[r].Wave, latest)
	}
	before := levels(dependents, deleted, func(_, _ object.Ref) bool { return false })
	for _, r := range g.order {
		if deleted(r) {
			d.changes[r].Wave = writes + before(r)
			deletes = max(deletes, before(r))
		}
	}
	return writes + deletes
}

// together reports whether a change may be in the same wave as one that it
// depends on.
func (d *differ) together(r, dep object.Ref) bool {
	c, read := d.changes[r], d.changes[dep]
	return c != nil && read != nil && c.Op() == object.OpUpdate && read.Op() == object.OpUpdate && reloads(read) &&
		c.Ref.Kind == object.KindDeployment && c.Reason != object.ReasonReads
}

// levels answers how deep an object lies below what counts.
func levels(next map[object.Ref][]object.Ref, counts func(object.Ref) bool, together func(r, next object.Ref) bool) func(object.Ref) int {
	memo := map[object.Ref]int{}
	var at func(object.Ref) int
	at = func(r object.Ref) int {
		if n, ok := memo[r]; ok {
			return n
		}
		memo[r] = 0 // objects in force may wait for each other; a circle ends here
		n := 0
		if counts(r) {
			n = 1
		}
		for _, x := range next[r] {
			switch {
			case counts(r) && !together(r, x):
				n = max(n, at(x)+1)
			default:
				n = max(n, at(x))
			}
		}
		memo[r] = n
		return n
	}
	return at
}
