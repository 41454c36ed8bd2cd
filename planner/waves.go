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
// depends on.
func (d *differ) waves(g graph) int {
	deleted := func(r object.Ref) bool {
		c := d.changes[r]
		return c != nil && c.Op() == object.OpDelete
	}
	level := func(next map[object.Ref][]object.Ref, counts func(object.Ref) bool) func(object.Ref) int {
		memo := map[object.Ref]int{}
		var at func(object.Ref) int
		at = func(r object.Ref) int {
			if n, ok := memo[r]; ok {
				return n
			}
			memo[r] = 0 // objects in force may wait for each other; a circle ends here
			n := 0
			for _, x := range next[r] {
				n = max(n, at(x))
			}
			if counts(r) {
				n++
			}
			memo[r] = n
			return n
		}
		return at
	}
	forward := level(g.deps, func(r object.Ref) bool { return d.changes[r] != nil && !deleted(r) })
	back := level(g.dependents(), deleted)
	writes, deletes := 0, 0
	for _, r := range g.order {
		if c := d.changes[r]; c != nil && !deleted(r) {
			c.Wave = forward(r)
			writes = max(writes, c.Wave)
		}
	}
	for _, r := range g.order {
		if deleted(r) {
			n := back(r)
			d.changes[r].Wave = writes + n
			deletes = max(deletes, n)
		}
	}
	return writes + deletes
}
