package view

import (
	"fmt"
	"slices"
	"strings"

	"github.com/berthdev/berth/cluster/object"
)

// operation prints what an operation does, in the form of a rollout's forecast.
func (p *printer) operation(plan *object.Plan) {
	o, f := plan.Operation, &plan.Forecast
	p.line()
	if o.Idle() {
		p.line(p.paint(bold, "Nothing to move."), " No node is more than 5 points above the mean of all, in cpu, memory or pods, or no pod may be moved that would make it better.")
		p.use(f.Use)
		return
	}
	p.line(p.paint(bold, operationTitle(o)), ", as it would go now:")
	steps := map[object.Ref][]object.ForecastStep{}
	name := 0
	for _, s := range f.Steps {
		if s.Op != object.StepChange {
			steps[s.Workload] = append(steps[s.Workload], s)
		}
	}
	refs := make([]object.Ref, 0, len(steps))
	for r := range steps {
		refs = append(refs, r)
		name = max(name, len(r.Address()))
	}
	slices.SortFunc(refs, object.Ref.Compare)
	for _, r := range refs {
		starts, stops := 0, 0
		for _, s := range steps[r] {
			switch s.Op {
			case object.StepStart:
				starts++
			case object.StepStop:
				stops++
			}
		}
		p.line()
		p.line("  ", pad(r.Address(), max(name, 18)), "  ", fmt.Sprintf("%s, %s", verb(starts, "pod", "starts", "start"), verb(stops, "pod", "stops", "stop")))
		p.timeline(steps[r], 6)
	}
	if len(refs) == 0 {
		p.line()
		p.line("  No pod moves.")
	}
	p.verdict(f)
	p.use(f.Use)
	if below := below(f.Lowest); len(below) > 0 {
		p.line()
		p.line(p.paint(yellow, "Below full readiness"), ": ", strings.Join(below, ", "))
	}
	if len(f.Stays) > 0 {
		p.line()
		p.line(p.paint(yellow, plural(len(f.Stays), "pod")+" would be left where it is"), ", since no set would start it elsewhere: ", stayers(f.Stays))
	}
	if !o.Applicable() {
		p.line()
		p.line("This is a question: there is nothing to apply. Times count from when the masters give the nodes up.")
	}
}

func operationTitle(o *object.Operation) string {
	var on []string
	for i, r := range o.On {
		x := r.Address()
		if r.Kind == object.KindNode {
			x = r.Name
		}
		if r.Kind == object.KindPod {
			x = r.Namespace + "/" + r.Name
		}
		if o.Name == object.OperationScale && i < len(o.Replicas) {
			x = fmt.Sprintf("%s to %d", x, o.Replicas[i])
		}
		on = append(on, x)
	}
	title := map[string]string{object.OperationDrain: "Drain", object.OperationNodeLoss: "Loss", object.OperationRestart: "Restart", object.OperationScale: "Scale", object.OperationRebalance: "Move"}[o.Name]
	return title + " of " + names(on)
}

func below(list []object.Availability) []string {
	var out []string
	for _, a := range list {
		if a.Ready < a.Want {
			out = append(out, fmt.Sprintf("%s falls to %d/%d at +%s", a.Workload.Address(), a.Ready, a.Want, short(a.At.D())))
		}
	}
	return out
}

func stayers(list []object.Placement) string {
	var out []string
	for _, x := range list {
		out = append(out, x.Pod.Namespace+"/"+x.Pod.Name)
	}
	return names(out)
}
