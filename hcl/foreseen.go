package hcl

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/berthdev/berth/cluster/object"
)

// What conditions know of the forecast as plan. The names are the language's, and
// are checked before there is a forecast.
var (
	foreseenNames = []string{
		"add", "change", "changes", "destroy", "deployment", "duration", "nodes", "outcome", "peak_cpu_percent", "peak_memory_percent", "placements", "pod",
		"pods_started", "pods_stopped", "pods_unchanged", "replica_set", "steps", "timeline", "unplaced", "waves",
	}
	foreseenKinds     = []object.Kind{object.KindDeployment, object.KindReplicaSet, object.KindPod}
	foreseenWorkloads = []string{"action", "min_ready", "min_ready_at", "nodes", "placements", "pods_started", "pods_stopped", "replicas"}
)

// resolvePlan checks the name behind plan.
func resolvePlan(t hcl.Traversal) *hcl.Diagnostic {
	name, at, named := step(t, 1)
	if !named {
		return wrong(t.SourceRange(), "Incomplete reference", "Name what of the forecast: plan.duration, plan.deployment[\"web\"].min_ready.")
	}
	if !slices.Contains(foreseenNames, name) {
		return wrong(at, "No such value", "A plan has no %q.%s", name, hint(name, foreseenNames, "There are: "+strings.Join(foreseenNames, ", ")+"."))
	}
	if !slices.Contains(foreseenKinds, object.Kind(name)) {
		return nil
	}
	if a, at, ok := step(t, 3); ok && !slices.Contains(foreseenWorkloads, a) {
		return wrong(at, "No such value", "A plan says no %q of a %s.%s", a, name, hint(a, foreseenWorkloads, "There are: "+strings.Join(foreseenWorkloads, ", ")+"."))
	}
	return nil
}

// foresees checks the workload that a reference to plan names.
func (r *run) foresees(t hcl.Traversal) *hcl.Diagnostic {
	if t.RootName() != "plan" {
		return nil
	}
	kind, _, _ := step(t, 1)
	name, at, named := step(t, 2)
	if !named || !slices.Contains(foreseenKinds, object.Kind(kind)) {
		return nil
	}
	known := r.workloads(object.Kind(kind))
	if known[name] != nil || r.unsure() {
		return nil
	}
	return wrong(at, "No such object", "There is no %s named %q in this configuration.%s", kind, name, hint(name, keys(known), among(keys(known))))
}

// among lists the names that there are.
func among(names []string) string {
	switch {
	case len(names) == 0:
		return "There is none."
	case len(names) > 10:
		names = append(slices.Clone(names[:10]), "…")
	}
	return "There are: " + strings.Join(names, ", ") + "."
}

// unsure reports whether a mistake, which has been told, hides what objects there are.
func (r *run) unsure() bool {
	return slices.ContainsFunc(r.declarations(), func(d *declaration) bool { return d.failed }) ||
		slices.ContainsFunc(keys(r.calls), func(n string) bool { return r.calls[n].failed })
}

// workloads are the objects of a kind by name: those of this directory, and those
// of its modules as far as their names are not taken.
func (r *run) workloads(k object.Kind) map[string]object.Object {
	out := map[string]object.Object{}
	taken := map[string]bool{}
	for _, d := range r.declarations() {
		if d.info.Kind != k {
			continue
		}
		for _, in := range d.instances {
			name := in.object.Head().Name
			switch {
			case d.run == r:
				out[name], taken[name] = in.object, true
			case out[name] != nil && !taken[name]: // two modules have it
				delete(out, name)
				taken[name] = true
			case !taken[name]:
				out[name] = in.object
			}
		}
	}
	return out
}

// foreseen is the value of plan in the conditions of one directory. What the plan
// does not touch is foreseen as it is wanted.
func (r *run) foreseen(p *object.Plan) cty.Value {
	f := &p.Forecast
	actions := map[object.Ref]string{}
	var add, change, destroy int64
	for i := range p.Changes {
		c := &p.Changes[i]
		what := strings.Join(c.Actions, ",")
		switch {
		case c.Replaces():
			what = "replace"
			add, destroy = add+1, destroy+1
		case what == object.ActionCreate:
			add++
		case what == object.ActionDelete:
			destroy++
		case what == object.ActionUpdate:
			change++
		}
		actions[c.Ref] = what
	}
	vals := map[string]cty.Value{
		"add": cty.NumberIntVal(add), "change": cty.NumberIntVal(change), "destroy": cty.NumberIntVal(destroy),
		"duration": seconds(f.Duration), "outcome": cty.StringVal(f.Outcome), "waves": cty.NumberIntVal(int64(p.Waves)),
		"pods_started": cty.NumberIntVal(int64(f.Start)), "pods_stopped": cty.NumberIntVal(int64(f.Stop)), "pods_unchanged": cty.NumberIntVal(int64(f.Unchanged)),
		"peak_cpu_percent": cty.NumberIntVal(int64(f.PeakCPU)), "peak_memory_percent": cty.NumberIntVal(int64(f.PeakMemory)),
		"placements": placementsOf(f.Placements, object.Ref{}),
	}
	var steps, unplaced []cty.Value
	for _, s := range f.Steps {
		steps = append(steps, cty.ObjectVal(map[string]cty.Value{
			"at": seconds(s.At), "wave": cty.NumberIntVal(int64(s.Wave)), "op": cty.StringVal(s.Op), "object": cty.StringVal(s.Ref.Address()), "node": cty.StringVal(s.Node),
			"workload": cty.StringVal(addressOrNone(s.Workload)), "ready": cty.NumberIntVal(int64(s.Ready)), "want": cty.NumberIntVal(int64(s.Want)),
		}))
	}
	for _, u := range f.Unplaced {
		unplaced = append(unplaced, cty.ObjectVal(map[string]cty.Value{"pod": cty.StringVal(u.Pod.Name), "reason": cty.StringVal(u.Reason)}))
	}
	vals["steps"], vals["unplaced"] = cty.TupleVal(steps), cty.TupleVal(unplaced)
	vals["timeline"] = vals["steps"] // as the plan's JSON calls it
	vals["changes"] = changesForeseen(p)
	nodes := map[string]cty.Value{}
	for _, n := range f.Nodes {
		nodes[n.Node] = cty.ObjectVal(map[string]cty.Value{"cpu_percent": cty.NumberIntVal(int64(n.CPU)), "memory_percent": cty.NumberIntVal(int64(n.Memory)), "pods": cty.NumberIntVal(int64(n.Pods))})
	}
	vals["nodes"] = cty.ObjectVal(nodes)
	for _, k := range foreseenKinds {
		byName := map[string]cty.Value{}
		for name, o := range r.workloads(k) {
			byName[name] = workloadForeseen(o, f, actions)
		}
		vals[string(k)] = cty.ObjectVal(byName)
	}
	return cty.ObjectVal(vals)
}

func workloadForeseen(o object.Object, f *object.Forecast, actions map[object.Ref]string) cty.Value {
	ref := o.Ref()
	want := 1
	switch x := o.(type) {
	case *object.Deployment:
		want = x.Spec.Replicas
	case *object.ReplicaSet:
		want = x.Spec.Replicas
	}
	low := object.Availability{Ready: want, Want: want}
	for _, a := range f.Lowest {
		if a.Workload == ref {
			low = a
		}
	}
	var started, stopped int64
	for _, s := range f.Steps {
		switch {
		case s.Workload != ref:
		case s.Op == object.StepStart:
			started++
		case s.Op == object.StepStop:
			stopped++
		}
	}
	on := map[string]bool{}
	for _, p := range f.Placements {
		if p.Workload == ref {
			on[p.Node] = true
		}
	}
	var nodes []cty.Value
	for _, n := range slices.Sorted(maps.Keys(on)) {
		nodes = append(nodes, cty.StringVal(n))
	}
	list := cty.ListValEmpty(cty.String)
	if len(nodes) > 0 {
		list = cty.ListVal(nodes)
	}
	action := actions[ref]
	if action == "" {
		action = object.ActionNoOp
	}
	return cty.ObjectVal(map[string]cty.Value{
		"action": cty.StringVal(action), "replicas": cty.NumberIntVal(int64(want)), "min_ready": cty.NumberIntVal(int64(low.Ready)), "min_ready_at": seconds(low.At),
		"pods_started": cty.NumberIntVal(started), "pods_stopped": cty.NumberIntVal(stopped), "placements": placementsOf(f.Placements, ref), "nodes": list,
	})
}

// placementsOf are the pods that start, with their nodes; of every workload without one.
func placementsOf(all []object.Placement, of object.Ref) cty.Value {
	vals := map[string]cty.Value{}
	for _, p := range all {
		if of.IsZero() || p.Workload == of {
			vals[p.Pod.Name] = cty.StringVal(p.Node)
		}
	}
	return mapOf(vals)
}

func seconds(d object.Duration) cty.Value { return cty.NumberFloatVal(d.D().Seconds()) }

func addressOrNone(r object.Ref) string {
	if r.IsZero() {
		return ""
	}
	return r.Address()
}

// changesForeseen are the changes of the plan, by address.
func changesForeseen(p *object.Plan) cty.Value {
	vals := make(map[string]cty.Value, len(p.Changes))
	for i := range p.Changes {
		c := &p.Changes[i]
		fields := make(map[string]cty.Value, len(c.Fields))
		for _, f := range c.Fields {
			fields[f.Path] = cty.ObjectVal(map[string]cty.Value{
				"before": jsonValue(f.Before), "after": jsonValue(f.After), "sensitive": cty.BoolVal(f.Sensitive), "replaces": cty.BoolVal(f.Replaces), "why": cty.StringVal(f.Why),
			})
		}
		what := strings.Join(c.Actions, ",")
		if c.Replaces() {
			what = "replace"
		}
		vals[c.Address] = cty.ObjectVal(map[string]cty.Value{
			"action": cty.StringVal(what), "reason": cty.StringVal(c.Reason), "wave": cty.NumberIntVal(int64(c.Wave)), "fields": cty.ObjectVal(fields),
		})
	}
	return cty.ObjectVal(vals)
}

// jsonValue is a value that encoding/json can write; null for what it cannot.
func jsonValue(v any) cty.Value {
	null := cty.NullVal(cty.DynamicPseudoType)
	text, err := json.Marshal(v)
	if err != nil {
		return null
	}
	t, err := ctyjson.ImpliedType(text)
	if err != nil {
		return null
	}
	out, err := ctyjson.Unmarshal(text, t)
	if err != nil {
		return null
	}
	return out
}
