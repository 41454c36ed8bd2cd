package view

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// Show prints objects as the blocks that would declare them, in Terraform's
// manner of `terraform show`; sensitive values are hidden.
func Show(w io.Writer, list []object.Object, o Options) error {
	p := &printer{Options: o, w: w}
	for i, x := range list {
		if i > 0 {
			p.line()
		}
		p.line("# ", p.paint(bold, x.Ref().Address()), ":")
		p.declaration(x)
	}
	return p.err
}

func (p *printer) declaration(x object.Object) {
	p.line(string(x.Ref().Kind), " ", quote(x.Ref().Name), " {")
	tree := object.Compare(nil, x)
	if ns := x.Head().Namespace; ns != "" && ns != object.DefaultNamespace {
		tree.Parts = slices.Insert(tree.Parts, 0, &object.Difference{Name: "namespace", Form: object.FormAttribute, After: ns})
	}
	p.declared(tree, 4)
	p.line("}")
}

// declared prints a tree without symbols.
func (p *printer) declared(d *object.Difference, indent int) {
	width := 0
	for _, x := range d.Parts {
		if x.Form != object.FormBlock {
			width = max(width, len([]rune(x.Name)))
		}
	}
	lead := strings.Repeat(" ", indent)
	n := 0
	for _, x := range d.Parts {
		if x.Form == object.FormBlock {
			continue
		}
		n++
		head := lead + pad(x.Name, width) + " = "
		switch x.Form {
		case object.FormMap:
			p.line(head, "{")
			inner := 0
			for _, e := range x.Parts {
				inner = max(inner, len([]rune(quote(e.Name))))
			}
			for _, e := range x.Parts {
				p.declaredValue(lead+"    "+pad(quote(e.Name), inner)+" = ", e, indent+4)
			}
			p.line(lead, "}")
		case object.FormList:
			var parts []string
			for _, e := range x.Parts {
				parts = append(parts, value(e.After))
			}
			p.line(head, "[", strings.Join(parts, ", "), "]")
		default:
			p.declaredValue(head, x, indent)
		}
	}
	for _, x := range d.Parts {
		if x.Form != object.FormBlock {
			continue
		}
		if n > 0 {
			p.line()
		}
		n++
		p.line(lead, header(x), " {")
		p.declared(x, indent+4)
		p.line(lead, "}")
	}
}

func (p *printer) declaredValue(head string, d *object.Difference, indent int) {
	text, ok := d.After.(string)
	switch {
	case d.Sensitive:
		p.line(head, hidden)
	case ok && strings.Contains(text, "\n"):
		p.line(head, "<<-EOT")
		for _, l := range splitLines(text) {
			p.line(strings.TrimRight(strings.Repeat(" ", indent+4)+l, " "))
		}
		p.line(strings.Repeat(" ", indent), "EOT")
	default:
		p.line(head, value(d.After))
	}
}

// Description is what describe and why print of one object: the object, its
// pods if it has any, and the events about it and them.
type Description struct {
	Object object.Object
	Pods   []*object.Pod
	Events []*object.Event
	Now    time.Time
}

// Describe prints one object in full: how it stands, what declares it, its
// specification, pods and events.
func Describe(w io.Writer, d Description, o Options) error {
	p := &printer{Options: o, w: w}
	m := d.Object.Head()
	rows := [][2]string{{"Name", m.Name}, {"Kind", string(m.Kind)}}
	add := func(k, v string) {
		if v != "" {
			rows = append(rows, [2]string{k, v})
		}
	}
	add("Namespace", m.Namespace)
	add("Stack", m.Stack)
	if !m.Owner.IsZero() {
		add("Owner", m.Owner.Address())
	}
	add("Labels", labels(m.Labels))
	add("Annotations", labels(m.Annotations))
	if !m.CreatedAt.IsZero() {
		add("Created", m.CreatedAt.UTC().Format(time.RFC3339)+" ("+age(m.CreatedAt, d.Now)+" ago)")
	}
	if m.ChangedBy != "" && m.Version != m.Created {
		add("Changed", m.ChangedAt.UTC().Format(time.RFC3339)+" by "+m.ChangedBy+reason(m.ChangedWhy))
	}
	rows = append(rows, status(d.Object, d.Now)...)
	width := 0
	for _, r := range rows {
		width = max(width, len(r[0]))
	}
	for _, r := range rows {
		p.line(p.paint(bold, pad(r[0]+":", width+1)), "  ", p.paint(mood(r[1]), r[1]))
	}
	p.containers(d)
	if info, ok := object.Info(m.Kind); ok && info.Declared {
		p.line()
		p.declaration(d.Object)
	}
	if len(d.Pods) > 0 {
		p.line()
		p.line(p.paint(bold, "Pods:"))
		list := make([]object.Object, len(d.Pods))
		for i, x := range d.Pods {
			list[i] = x
		}
		if err := Table(w, object.KindPod, list, false, d.Now, o); err != nil {
			return err
		}
	}
	p.line()
	p.line(p.paint(bold, "Events:"))
	if len(d.Events) == 0 {
		p.line("  none in the last hour")
		return p.err
	}
	return Events(w, d.Events, d.Now, o)
}

func reason(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

// status is how an object stands, in lines.
func status(o object.Object, now time.Time) (out [][2]string) {
	add := func(k, format string, args ...any) {
		if s := fmt.Sprintf(format, args...); s != "" {
			out = append(out, [2]string{k, s})
		}
	}
	switch x := o.(type) {
	case *object.Pod:
		add("Status", "%s", PodStatus(x))
		add("Message", "%s", x.Status.Message)
		add("Node", "%s", x.Spec.Node)
		add("Address", "%s", x.Status.Address)
		if x.Spec.Pod != nil {
			add("Pinned", "%s", pins(x.Spec.Pod))
		}
	case *object.Deployment:
		add("Rollout", "%s", x.Status.Phase)
		add("Pods", "%d wanted, %d ready, %d of this version, %d available", x.Spec.Replicas, x.Status.Ready, x.Status.Updated, x.Status.Available)
		add("Version", "%s", x.Status.Set)
		add("Pinned", "%s", pins(&x.Spec.Pod))
		add("Reason", "%s", x.Status.Reason)
		add("Message", "%s", x.Status.Message)
	case *object.Ingress:
		for _, name := range slices.Sorted(maps.Keys(x.Status.Secrets)) {
			add("Secret", "%s at %s", name, x.Status.Secrets[name])
		}
		add("Lacks", "%s", x.Status.Message)
	case *object.Network:
		for _, h := range x.Status.Held {
			add("Held", "%s until %s", h.Range, h.Until.UTC().Format(time.RFC3339))
		}
	case *object.ReplicaSet:
		add("Pods", "%d wanted, %d running, %d ready", x.Spec.Replicas, x.Status.Total, x.Status.Ready)
		add("Pinned", "%s", pins(&x.Spec.Pod))
		add("Failure", "%s", x.Status.LastFailure)
	case *object.Node:
		add("Status", "%s", x.Status.Condition)
		add("Message", "%s", x.Status.Message)
		add("Address", "%s", x.Status.Address)
		add("Capacity", "cpu %s, memory %s, %d pods", x.Status.CPU, x.Status.Memory.Human(), x.Status.Pods)
		for _, k := range slices.Sorted(maps.Keys(x.Status.Attributes)) {
			add("  "+k, "%s", x.Status.Attributes[k])
		}
	case *object.Service:
		add("Host", "%s", x.Host())
	case *object.Revision:
		add("Phase", "%s", x.Status.Phase)
		add("Reason", "%s", x.Status.Reason)
		add("Message", "%s", x.Status.Message)
		for _, c := range x.Spec.Changes {
			add(fmt.Sprintf("  wave %d", c.Wave), "%s %s", symbols[c.Op], c.Ref.Address())
		}
	case *object.Stack:
		add("Revision", "%d", x.Spec.Revision)
		add("Healthy", "%d", x.Status.Healthy)
	}
	return out
}

// containers prints a pod's containers with the last lines of those that failed.
func (p *printer) containers(d Description) {
	pod, ok := d.Object.(*object.Pod)
	if !ok || len(pod.Status.Containers) == 0 {
		return
	}
	p.line()
	p.line(p.paint(bold, "Containers:"))
	rows := [][]string{{"NAME", "STATE", "READY", "RESTARTS", "IMAGE"}}
	for _, c := range pod.Status.Containers {
		state := c.State
		if c.State == "exited" {
			state = fmt.Sprintf("exited (%d)", c.ExitCode)
		}
		if c.Reason != "" {
			state += " " + c.Reason
		}
		rows = append(rows, []string{c.Name, state, fmt.Sprint(c.Ready), fmt.Sprint(c.Restarts), c.Image})
	}
	p.columns(rows)
	for _, c := range pod.Status.Containers {
		if len(c.LastLog) > 0 {
			p.line()
			p.line("Last lines of ", c.Name, ":")
			p.log(c.LastLog)
		}
	}
}

func (p *printer) log(lines []string) {
	for _, l := range lines {
		p.line(p.paint(dim, "  | "), l)
	}
}

// Events prints events, the oldest first.
func Events(w io.Writer, list []*object.Event, now time.Time, o Options) error {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b *object.Event) int {
		if c := a.Spec.Last.Compare(b.Spec.Last); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	objects := make([]object.Object, len(list))
	for i, e := range list {
		objects[i] = e
	}
	return Table(w, object.KindEvent, objects, false, now, o)
}

// Output prints the value of one output, as it is written in HCL.
func Output(w io.Writer, output object.Output, o Options) error {
	p := &printer{Options: o, w: w}
	p.line(value(output.Value))
	return p.err
}

// Outputs prints a stack's outputs as `terraform output` does.
func Outputs(w io.Writer, outputs map[string]object.Output, o Options) error {
	p := &printer{Options: o, w: w}
	width := 0
	for n := range outputs {
		width = max(width, len(n))
	}
	for _, n := range slices.Sorted(maps.Keys(outputs)) {
		text := value(outputs[n].Value)
		if outputs[n].Sensitive {
			text = "<sensitive>"
		}
		p.line(pad(n, width), " = ", text)
	}
	return p.err
}
