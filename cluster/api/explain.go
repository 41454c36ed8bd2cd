package api

import (
	"fmt"
	"slices"
	"strings"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// explain puts the explanation that a plan asks for where it belongs, or says why
// there is none: only pods that the rehearsal placed, or could not place, have one.
func explain(v *state.Snapshot, p *object.Plan) error {
	if p.Explanation == nil {
		return nil
	}
	asked := p.Explanation.Asked
	switch list := p.Forecast.Explained; len(list) {
	case 1:
		p.Explanation = &list[0]
		p.Explanation.Asked = asked
		return nil
	case 0:
		return unexplained(v, p)
	default:
		var names []string
		for _, x := range list {
			names = append(names, x.Pod.Namespace+"/"+x.Pod.Name)
		}
		return &object.Error{Code: object.CodeInvalid, Message: fmt.Sprintf("the plan places several pods of the name %q", asked), Hint: "Name the one with its namespace: " + strings.Join(names, ", ") + "."}
	}
}

func unexplained(v *state.Snapshot, p *object.Plan) error {
	asked := p.Explanation.Asked
	e := &object.Error{Code: object.CodeNotFound, Message: fmt.Sprintf("the plan places no pod %q", asked)}
	for pod := range state.All[*object.Pod](v, object.KindPod) {
		if p.Explanation.Names(pod.Ref()) {
			e.Message += ": it is there already"
			e.Hint = fmt.Sprintf("What the nodes say to it now: berth why %s -n %s", pod.Name, pod.Namespace)
			return e
		}
	}
	var there []string
	name := func(r object.Ref) string {
		if strings.Contains(asked, "/") {
			return r.Namespace + "/" + r.Name
		}
		return r.Name
	}
	for _, x := range p.Forecast.Placements {
		there = append(there, name(x.Pod))
	}
	for _, x := range p.Forecast.Unplaced {
		there = append(there, name(x.Pod))
	}
	slices.Sort(there)
	there = slices.Compact(there)
	switch e.Hint = object.DidYouMean(strings.TrimPrefix(asked, string(object.KindPod)+"/"), there); {
	case e.Hint != "":
	case len(there) == 0:
		e.Hint = "It places none."
	default:
		more := ""
		if len(there) > 10 {
			there, more = there[:10], fmt.Sprintf(" and %d more", len(there)-10)
		}
		e.Hint = "It places " + strings.Join(there, ", ") + more + "."
	}
	return e
}
