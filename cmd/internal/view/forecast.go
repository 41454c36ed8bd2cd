package view

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// A workload's timeline shows this many steps in full; of longer ones the first
// and the last, and the step of the lowest readiness.
const (
	stepsWhole = 14
	stepsHead  = 7
	stepsTail  = 4
)

// forecast prints what will happen, as the masters rehearsed it.
func (p *printer) forecast(plan *object.Plan) {
	f := &plan.Forecast
	if f.Outcome == "" || len(plan.Changes) == 0 {
		return
	}
	steps := map[object.Ref][]object.ForecastStep{}
	for _, s := range f.Steps {
		if s.Op != object.StepChange {
			steps[s.Workload] = append(steps[s.Workload], s)
		}
	}
	label, name := 0, 0
	for _, part := range plan.Parts() {
		if len(part.Changes) > 0 {
			label, name = p.rollout(part, steps)
		}
	}
	p.others(steps, label, name)
	p.verdict(f)
	p.reach(f)
}

// rollout prints the waves of one stack, and takes the steps that it prints.
func (p *printer) rollout(plan *object.Plan, steps map[object.Ref][]object.ForecastStep) (label, name int) {
	p.line()
	head := fmt.Sprintf("Rollout of %s, revision %d", plan.Stack, plan.Base+1)
	if plan.Base > 0 {
		head += fmt.Sprintf(" (from %d)", plan.Base)
	}
	p.line(p.paint(bold, head), ", in ", plural(plan.Waves, "wave"), ":")
	p.line()
	name = 18
	for i := range plan.Changes {
		name = max(name, len(plan.Changes[i].Address))
	}
	label = len(fmt.Sprintf("wave %d", plan.Waves))
	wave := 0
	for i := range plan.Changes {
		c := &plan.Changes[i]
		text := ""
		if c.Wave != wave {
			text, wave = fmt.Sprintf("wave %d", c.Wave), c.Wave
		}
		p.line(strings.TrimRight("  "+pad(text, label)+"  "+pad(c.Address, name)+"  "+summary(c), " "))
		p.timeline(steps[c.Ref], label+6)
		delete(steps, c.Ref)
	}
	return label, name
}

// others prints workloads that move though the plan does not change them.
func (p *printer) others(steps map[object.Ref][]object.ForecastStep, label, name int) {
	refs := make([]object.Ref, 0, len(steps))
	for r := range steps {
		refs = append(refs, r)
	}
	slices.SortFunc(refs, object.Ref.Compare)
	for _, r := range refs {
		why := "moves though nothing of it is changed"
		if slices.ContainsFunc(steps[r], told) {
			why = "goes on with a rollout that is under way"
		}
		p.line("  ", pad("also", label), "  ", pad(r.Address(), name), "  ", why)
		p.timeline(steps[r], label+6)
	}
}

// timeline prints a workload's steps in columns.
func (p *printer) timeline(steps []object.ForecastStep, indent int) {
	type row struct {
		at, what, ready string
		lowest          bool
		op              string
	}
	shown := abridge(steps)
	rows := make([]row, len(shown))
	at, what, ready := 0, 0, 0
	for i, x := range shown {
		if x.left > 0 {
			continue
		}
		s := x.step
		r := row{at: "+" + short(s.At.D()), op: "+", ready: fmt.Sprintf("ready %d/%d", s.Ready, s.Want), lowest: s.Lowest}
		r.what = s.Ref.Name + " -> " + s.Node
		if told(s) {
			r.op, r.what = "~", s.Note
		}
		if s.Op == object.StepStop {
			r.op, r.what = "-", s.Ref.Name+" on "+s.Node
		}
		at, what, ready = max(at, len(r.at)), max(what, len(r.what)), max(ready, len(r.ready))
		rows[i] = r
	}
	for i, x := range shown {
		lead := blanks(indent)
		if x.left > 0 {
			p.line(lead, p.paint(dim, fmt.Sprintf("… %s (%d to start, %d to stop) …", plural(x.left, "more step"), x.starts, x.left-x.starts)))
			continue
		}
		r := rows[i]
		line := lead + pad(r.at, max(at, 5)) + " " + p.symbol(r.op) + " " + pad(r.what, max(what, 28)) + "  " + pad(r.ready, ready)
		if r.lowest {
			line += "   " + p.paint(yellow, "lowest")
		}
		p.line(strings.TrimRight(line, " "))
	}
}

// told reports whether a step is what a rollout waits for or comes to, in words,
// rather than a pod's.
func told(s object.ForecastStep) bool {
	return s.Op == object.StepPause || s.Op == object.StepCheck || s.Op == object.StepZone
}

type shownStep struct {
	step   object.ForecastStep
	left   int // this many steps are left out here
	starts int // of them starts
}

func abridge(steps []object.ForecastStep) []shownStep {
	var out []shownStep
	if len(steps) <= stepsWhole {
		for _, s := range steps {
			out = append(out, shownStep{step: s})
		}
		return out
	}
	skip := func(list []object.ForecastStep) {
		if len(list) == 0 {
			return
		}
		x := shownStep{left: len(list)}
		for _, s := range list {
			if s.Op == object.StepStart {
				x.starts++
			}
		}
		out = append(out, x)
	}
	for _, s := range steps[:stepsHead] {
		out = append(out, shownStep{step: s})
	}
	zones := 0
	for _, s := range steps {
		if s.Op == object.StepZone {
			zones++
		}
	}
	middle, from, lowest := steps[stepsHead:len(steps)-stepsTail], 0, false
	for i, s := range middle {
		always := told(s) && (s.Op != object.StepZone || zones <= stepsWhole)
		if !always && (!s.Lowest || lowest) { // one lowest is enough; a person is waited for at each pause
			continue
		}
		skip(middle[from:i])
		out = append(out, shownStep{step: s})
		from, lowest = i+1, lowest || s.Lowest
	}
	skip(middle[from:])
	for _, s := range steps[len(steps)-stepsTail:] {
		out = append(out, shownStep{step: s})
	}
	return out
}

// reachWhole is how many changes of reachability are printed; JSON has more.
const reachWhole = 20

// reach prints who can connect to whom after the apply and could not before, or the
// other way round.
func (p *printer) reach(f *object.Forecast) {
	if len(f.Reach) == 0 && !f.ReachCut {
		return
	}
	p.line()
	p.line(p.paint(bold, "Reachability:"))
	lines := f.Reach[:min(len(f.Reach), reachWhole)]
	name := reachNames(lines)
	width := 0
	ends, words := make([]string, len(lines)), make([]string, len(lines))
	for i, x := range lines {
		ends[i] = name(x.From) + " -> " + name(x.To) + ":" + strconv.Itoa(x.Port)
		if x.Protocol != "tcp" {
			ends[i] += "/" + x.Protocol
		}
		words[i] = "denied"
		if x.Allowed {
			words[i] = "allowed"
		}
		if !x.New {
			words[i] = "newly " + words[i]
		}
		width = max(width, len(ends[i])+1+len(words[i]))
	}
	for i, x := range lines {
		op, colour := "+", green
		if !x.Allowed {
			op, colour = "-", red
		}
		p.line("  ", p.symbol(op), " ", ends[i], " ", p.paint(colour, words[i]), strings.Repeat(" ", width-len(ends[i])-1-len(words[i])), "  ", p.paint(dim, x.Because))
	}
	if more := len(f.Reach) - len(lines) + f.ReachMore; more > 0 {
		p.line("    … and ", strconv.Itoa(more), " more")
	}
	if f.ReachCut {
		p.line("    … and others: there are too many to go through all")
	}
}

// reachNames names ends without their namespaces where those are all the same.
func reachNames(list []object.ReachChange) func(object.Ref) string {
	first := ""
	several := false
	for _, x := range list {
		for _, r := range []object.Ref{x.From, x.To} {
			if first == "" {
				first = r.Namespace
			}
			several = several || r.Namespace != "" && r.Namespace != first
		}
	}
	return func(r object.Ref) string {
		if several && r.Namespace != "" {
			return r.Namespace + "/" + r.Name
		}
		return r.Name
	}
}

// pods is the forecast in one sentence.
func pods(f *object.Forecast) string {
	return fmt.Sprintf("Pods: %d to start, %d to stop, %d unchanged, %d unplaceable.", f.Start, f.Stop, f.Unchanged, len(f.Unplaced))
}

// verdict prints the Pods and Capacity lines and whatever will not go well.
func (p *printer) verdict(f *object.Forecast) {
	p.line()
	line := pods(f)
	if len(f.Lowest) > 0 {
		var parts []string
		for _, a := range f.Lowest {
			parts = append(parts, fmt.Sprintf("%s %d/%d", a.Workload.Name, a.Ready, a.Want))
		}
		more := ""
		if len(parts) > 5 {
			more = fmt.Sprintf(", and %d more", len(parts)-5)
			parts = parts[:5]
		}
		line += " Lowest ready: " + strings.Join(parts, ", ") + more + "."
	}
	if f.Outcome == "healthy" {
		line += " About " + roundUp(f.Duration.D()) + "."
	}
	p.line(line)
	p.line(fmt.Sprintf("Capacity: peak cpu %d%%%s, peak memory %d%%%s.", f.PeakCPU, highest(f.Nodes, func(n object.NodePeak) int { return n.CPU }), f.PeakMemory, highest(f.Nodes, func(n object.NodePeak) int { return n.Memory })))
	p.quotas(f.Namespaces)
	if len(f.Starts) > 0 {
		var parts []string
		for _, x := range f.Starts {
			parts = append(parts, fmt.Sprintf("%s %s", x.Image, short(x.Ready.D())))
		}
		p.line("Start times as measured: ", names(parts), ".")
	}
	for _, g := range unplacedByReason(f.Unplaced) {
		p.line()
		p.line(p.paint(red, plural(len(g.pods), "pod")+" will fit nowhere"), ": ", names(g.pods))
		p.line("  ", g.reason)
	}
	switch f.Outcome {
	case "failed":
		p.line()
		p.line(p.paint(red, "This rollout would fail"), " after ", short(f.Duration.D()), " and be put back: ", f.Reason)
	case "unfinished":
		p.line()
		p.line(p.paint(yellow, "The forecast is unfinished"), ": ", f.Reason)
	}
}

func roundUp(d time.Duration) string {
	if r := d % time.Second; r > 0 {
		d += time.Second - r
	}
	return short(d)
}

func highest(nodes []object.NodePeak, of func(object.NodePeak) int) string {
	best := -1
	for i := range nodes {
		if best < 0 || of(nodes[i]) > of(nodes[best]) {
			best = i
		}
	}
	if best < 0 || of(nodes[best]) == 0 {
		return ""
	}
	return fmt.Sprintf(" (%s %d%%)", nodes[best].Node, of(nodes[best]))
}

type unplacedGroup struct {
	reason string
	pods   []string
}

func unplacedByReason(list []object.Unplaced) []unplacedGroup {
	var out []unplacedGroup
	for _, u := range list {
		i := slices.IndexFunc(out, func(g unplacedGroup) bool { return g.reason == u.Reason })
		if i < 0 {
			out, i = append(out, unplacedGroup{reason: u.Reason}), len(out)
		}
		out[i].pods = append(out[i].pods, u.Pod.Name)
	}
	return out
}

func names(list []string) string {
	if len(list) > 5 {
		return strings.Join(list[:4], ", ") + fmt.Sprintf(" and %d more", len(list)-4)
	}
	return strings.Join(list, ", ")
}

// summary is a change in a few words.
func summary(c *object.PlannedChange) string {
	op := c.Op()
	switch {
	case c.Reason == object.ReasonForget:
		return "let go"
	case c.Reason == object.ReasonImport && len(c.Fields) == 0:
		return "imported"
	case c.Moved() && len(c.Fields) == 0:
		return "renamed, was " + c.From.Name
	}
	switch c.Ref.Kind {
	case object.KindConfigMap, object.KindSecret:
		version := func(o object.Object) string { return c.Ref.Name + "@" + cut(object.ContentDigest(o), 4) }
		switch op {
		case object.OpCreate:
			return version(c.After.Object) + ", new"
		case object.OpDelete:
			return version(c.Before.Object) + ", destroyed"
		}
		if a, b := version(c.Before.Object), version(c.After.Object); a != b {
			return a + " -> " + b
		}
		return "changes in place"
	case object.KindDeployment:
		before, _ := c.Before.Object.(*object.Deployment)
		after, _ := c.After.Object.(*object.Deployment)
		return deploymentSummary(c, before, after)
	case object.KindReplicaSet:
		before, _ := c.Before.Object.(*object.ReplicaSet)
		after, _ := c.After.Object.(*object.ReplicaSet)
		switch {
		case before == nil:
			return verb(after.Spec.Replicas, "pod", "starts", "start")
		case after == nil:
			return verb(before.Spec.Replicas, "pod", "stops", "stop")
		case before.Spec.Replicas != after.Spec.Replicas:
			return fmt.Sprintf("scales %d -> %d", before.Spec.Replicas, after.Spec.Replicas)
		}
	case object.KindService:
		if after, ok := c.After.Object.(*object.Service); ok && op == object.OpCreate && len(after.Spec.Claims()) > 0 {
			return "created, " + strings.Join(after.Spec.Claims(), ", ")
		}
	case object.KindPod:
		switch {
		case op == object.OpCreate:
			return "starts"
		case op == object.OpDelete:
			return "stops"
		case c.Replaces():
			return "stops, then starts anew"
		}
	}
	switch {
	case c.Reason == object.ReasonAdopt:
		return "adopted"
	case c.Reason == object.ReasonRelease:
		return "released"
	case op == object.OpCreate:
		return "created"
	case op == object.OpDelete:
		return "destroyed"
	}
	return "changes in place"
}

func deploymentSummary(c *object.PlannedChange, before, after *object.Deployment) string {
	switch {
	case before == nil:
		return verb(after.Spec.Replicas, "pod", "starts", "start")
	case after == nil:
		return verb(before.Spec.Replicas, "pod", "stops", "stop")
	}
	var parts []string
	if slices.ContainsFunc(c.Fields, func(f object.FieldDiff) bool { return f.Effect == "rolls" }) && before.Spec.Replicas > 0 {
		n := before.Spec.Replicas
		u := after.Spec.Update
		switch u.Strategy {
		case "recreate":
			parts = append(parts, verb(n, "pod", "stops, then starts anew", "stop, then start anew"))
		case "blue_green":
			parts = append(parts, verb(n, "pod", "changes over", "change over")+" at once, the old ones stay for "+u.Switch().Keep.String())
		default:
			parts = append(parts, fmt.Sprintf("%s, surge %d, at most %d unavailable", verb(n, "pod", "rolls", "roll"),
				u.Surge.Of(after.Spec.Replicas, true), u.Unavailable.Of(after.Spec.Replicas, false)))
		}
		if before.Spec.Paused {
			parts = append(parts, "once it is resumed")
		}
	}
	if before.Spec.Replicas != after.Spec.Replicas {
		parts = append(parts, fmt.Sprintf("scales %d -> %d", before.Spec.Replicas, after.Spec.Replicas))
	}
	if len(parts) == 0 {
		return "changes in place"
	}
	return strings.Join(parts, ", ")
}

func verb(n int, noun, one, many string) string {
	if n == 1 {
		return "1 " + noun + " " + one
	}
	return plural(n, noun) + " " + many
}

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
