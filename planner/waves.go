package planner

import (
	"slices"

	"github.com/berthdev/berth/cluster/object"
)

// graph says which object waits for which; both ends are objects of the plan,
// desired or in force, by their place in the order of references.
type graph struct {
	order []object.Ref
	place map[object.Ref]int
	deps  [][]int // sorted
}

// dependencies are what a desired object waits for: its references and
// depends_on, what its pods read, its namespace. Sorted, each once, never itself.
func dependencies(x *Desired) []object.Ref {
	if !x.known {
		x.deps, x.known = depsOf(x.Object, x.DependsOn), true
	}
	return x.deps
}

func depsOf(o object.Object, said []object.Ref) []object.Ref {
	self := o.Ref()
	out := slices.Clone(said)
	if t := object.TemplateOf(o); t != nil {
		out = append(out, t.ReadRefs(self.Namespace)...)
	}
	if d, ok := o.(*object.Deployment); ok {
		for _, k := range d.Credentials() {
			out = append(out, k.Secret)
		}
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
	type vertex struct {
		ref  object.Ref
		deps []object.Ref
	}
	all := make([]vertex, 0, len(d.order)+len(d.inForce))
	for _, x := range d.order {
		if ref := x.Object.Ref(); d.desired[ref] == x {
			all = append(all, vertex{ref, dependencies(x)})
		}
	}
	for _, o := range d.inForce {
		if d.desired[o.Ref()] != nil {
			continue
		}
		if p, ok := o.(*object.Pod); ok {
			o = d.v.Expand(p)
		}
		all = append(all, vertex{o.Ref(), depsOf(o, o.Head().After)})
	}
	slices.SortFunc(all, func(a, b vertex) int { return a.ref.Compare(b.ref) })
	g := graph{order: make([]object.Ref, len(all)), place: make(map[object.Ref]int, len(all)), deps: make([][]int, len(all))}
	for i, x := range all {
		g.order[i], g.place[x.ref] = x.ref, i
	}
	for i, x := range all {
		for _, dep := range x.deps {
			if n, ok := g.place[dep]; ok {
				g.deps[i] = append(g.deps[i], n)
			}
		}
	}
	return g
}

func (g graph) dependents() [][]int {
	out := make([][]int, len(g.order))
	for i, deps := range g.deps {
		for _, dep := range deps {
			out[dep] = append(out[dep], i)
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
	mark := make([]byte, len(g.order))
	var path, found []int
	var visit func(int) bool
	visit = func(i int) bool {
		switch mark[i] {
		case done:
			return false
		case open:
			found = append(slices.Clone(path[slices.Index(path, i):]), i)
			return true
		}
		mark[i] = open
		path = append(path, i)
		for _, dep := range g.deps[i] {
			if visit(dep) {
				return true
			}
		}
		path = path[:len(path)-1]
		mark[i] = done
		return false
	}
	for i := range g.order {
		if !visit(i) {
			continue
		}
		refs := make([]object.Ref, len(found))
		for n, i := range found {
			refs[n] = g.order[i]
		}
		return refs
	}
	return nil
}

// waves gives every change its wave and returns how many there are. A change is
// one wave after the last change that it depends on, directly or through what
// does not change; deletes come after all others, what depends before what it
// depends on. A config map or secret shares the wave of the deployments that
// read it and change themselves, or they would roll twice.
func (d *differ) waves(g graph) int {
	if len(d.changes) == 0 {
		return 0
	}
	change := make([]*object.PlannedChange, len(g.order))
	for _, c := range d.made {
		change[g.place[c.Ref]] = c
	}
	written := func(i int) bool { return change[i] != nil && change[i].Op() != object.OpDelete }
	deleted := func(i int) bool { return change[i] != nil && change[i].Op() == object.OpDelete }
	together := func(i, dep int) bool { return oneWave(change[i], change[dep]) }

	after := levels(g.deps, written, together)
	dependents := g.dependents()
	writes, deletes := 0, 0
	for i := range g.order {
		if written(i) {
			change[i].Wave = after(i)
			writes = max(writes, after(i))
		}
	}
	for i := range g.order {
		if !written(i) || !slices.ContainsFunc(dependents[i], func(x int) bool { return together(x, i) }) {
			continue
		}
		latest := writes
		for _, x := range dependents[i] {
			switch {
			case together(x, i):
				latest = min(latest, change[x].Wave)
			case written(x):
				latest = min(latest, change[x].Wave-1)
			case d.desired[g.order[x]] != nil:
				latest = change[i].Wave // who waits for it in the end is not known here: leave it
			}
		}
		change[i].Wave = max(change[i].Wave, latest)
	}
	before := levels(dependents, deleted, func(_, _ int) bool { return false })
	for i := range g.order {
		if deleted(i) {
			change[i].Wave = writes + before(i)
			deletes = max(deletes, before(i))
		}
	}
	return writes + deletes
}

// oneWave reports whether a change may be in the same wave as one that it
// depends on; nil stands for what does not change.
func oneWave(c, read *object.PlannedChange) bool {
	return c != nil && read != nil && c.Op() == object.OpUpdate && read.Op() == object.OpUpdate && reloads(read) &&
		c.Ref.Kind == object.KindDeployment && c.Reason != object.ReasonReads
}

// levels answers how deep an object lies below what counts.
func levels(next [][]int, counts func(int) bool, together func(i, next int) bool) func(int) int {
	const unknown = -1
	memo := slices.Repeat([]int{unknown}, len(next))
	var at func(int) int
	at = func(i int) int {
		if memo[i] != unknown {
			return memo[i]
		}
		memo[i] = 0 // objects in force may wait for each other; a circle ends here
		n := 0
		if counts(i) {
			n = 1
		}
		for _, x := range next[i] {
			switch {
			case counts(i) && !together(i, x):
				n = max(n, at(x)+1)
			default:
				n = max(n, at(x))
			}
		}
		memo[i] = n
		return n
	}
	return at
}
