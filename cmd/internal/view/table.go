package view

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// column is one column of a kind's table; wide ones are for Options.Wide.
type column struct {
	title string
	wide  bool
	cell  func(o object.Object, now time.Time) string
}

// Table prints objects of one kind. now is the time that ages are counted from;
// namespaces are shown when the objects come from several, or all is set.
func Table(w io.Writer, kind object.Kind, list []object.Object, all bool, now time.Time, o Options) error {
	p := &printer{Options: o, w: w}
	if len(list) == 0 {
		info, _ := object.Info(kind)
		p.line("No ", strings.ReplaceAll(info.Plural, "_", " "), " found.")
		return p.err
	}
	var cols []column
	spaces := map[string]bool{}
	for _, x := range list {
		spaces[x.Head().Namespace] = true
	}
	if info, _ := object.Info(kind); info.Namespaced && (all || len(spaces) > 1) {
		cols = append(cols, column{title: "NAMESPACE", cell: func(o object.Object, _ time.Time) string { return o.Head().Namespace }})
	}
	for _, c := range append([]column{name}, columns[kind]...) {
		if (!c.wide || o.Wide) && (kind != object.KindEvent || c.title != "NAME") {
			cols = append(cols, c)
		}
	}
	if kind != object.KindEvent && kind != object.KindRevision {
		cols = append(cols, column{title: "AGE", cell: func(o object.Object, now time.Time) string { return age(o.Head().CreatedAt, now) }})
	}
	rows := make([][]string, 0, len(list)+1)
	var head []string
	for _, c := range cols {
		head = append(head, c.title)
	}
	rows = append(rows, head)
	for _, x := range list {
		var row []string
		for _, c := range cols {
			s := c.cell(x, now)
			if s == "" {
				s = "-"
			}
			row = append(row, strings.ReplaceAll(s, "\n", " "))
		}
		rows = append(rows, row)
	}
	p.columns(rows)
	return p.err
}

// columns prints rows, the first as a heading.
func (p *printer) columns(rows [][]string) {
	width := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, c := range r {
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	for n, r := range rows {
		var b strings.Builder
		for i, c := range r {
			text := pad(c, width[i])
			if n > 0 {
				text = p.paint(mood(c), c) + text[len(c):]
			}
			b.WriteString(text)
			if i < len(r)-1 {
				b.WriteString("   ")
			}
		}
		s := strings.TrimRight(b.String(), " ")
		if n == 0 {
			s = p.paint(bold, s)
		}
		p.line(s)
	}
}

// mood colours the words that tell how something is.
func mood(s string) style {
	word, _, _ := strings.Cut(s, " ")
	switch strings.TrimSuffix(word, ",") {
	case "running", "ready", "stable", "healthy", "succeeded":
		return green
	case "failed", "lost", "crash_loop", "image_not_found", "oom_killed", "unplaceable", "reverted", "not_ready":
		return red
	case "pending", "starting", "stopping", "progressing", "reverting", "paused", "warning", "cordoned":
		return yellow
	}
	return plain
}

var name = column{title: "NAME", cell: func(o object.Object, _ time.Time) string { return o.Head().Name }}

// col makes a column for a kind's own type.
func col[T object.Object](title string, cell func(o T, now time.Time) string) column {
	return column{title: title, cell: func(o object.Object, now time.Time) string {
		if t, ok := o.(T); ok {
			return cell(t, now)
		}
		return ""
	}}
}

func wideCol[T object.Object](title string, cell func(o T, now time.Time) string) column {
	c := col(title, cell)
	c.wide = true
	return c
}

var stackColumn = column{title: "STACK", cell: func(o object.Object, _ time.Time) string { return o.Head().Stack }}

var columns = map[object.Kind][]column{
	object.KindPod: {
		col("READY", func(o *object.Pod, _ time.Time) string {
			n := 0
			for _, c := range o.Status.Containers {
				if c.Ready {
					n++
				}
			}
			total := len(o.Status.Containers)
			if o.Spec.Pod != nil {
				total = len(o.Spec.Pod.Containers)
			}
			return fmt.Sprintf("%d/%d", n, total)
		}),
		col("STATUS", func(o *object.Pod, _ time.Time) string { return PodStatus(o) }),
		col("RESTARTS", func(o *object.Pod, _ time.Time) string {
			n := 0
			for _, c := range o.Status.Containers {
				n += c.Restarts
			}
			return strconv.Itoa(n)
		}),
		col("NODE", func(o *object.Pod, _ time.Time) string { return o.Spec.Node }),
		col("ADDRESS", func(o *object.Pod, _ time.Time) string { return o.Status.Address }),
		wideCol("MESSAGE", func(o *object.Pod, _ time.Time) string { return o.Status.Message }),
	},
	object.KindReplicaSet: {
		col("READY", func(o *object.ReplicaSet, _ time.Time) string {
			return fmt.Sprintf("%d/%d", o.Status.Ready, o.Spec.Replicas)
		}),
		col("PODS", func(o *object.ReplicaSet, _ time.Time) string { return strconv.Itoa(o.Status.Total) }),
		col("OWNER", func(o *object.ReplicaSet, _ time.Time) string {
			if o.Owner.IsZero() {
				return ""
			}
			return o.Owner.Address()
		}),
		wideCol("IMAGES", func(o *object.ReplicaSet, _ time.Time) string { return images(&o.Spec.Pod) }),
	},
	object.KindDeployment: {
		col("READY", func(o *object.Deployment, _ time.Time) string {
			return fmt.Sprintf("%d/%d", o.Status.Ready, o.Spec.Replicas)
		}),
		col("UPDATED", func(o *object.Deployment, _ time.Time) string { return strconv.Itoa(o.Status.Updated) }),
		col("AVAILABLE", func(o *object.Deployment, _ time.Time) string { return strconv.Itoa(o.Status.Available) }),
		col("ROLLOUT", func(o *object.Deployment, _ time.Time) string {
			s := string(o.Status.Phase)
			if o.Spec.Paused && o.Status.Phase != object.RolloutPaused {
				s = strings.TrimSpace(s + " (paused)")
			}
			if o.Status.Reason != "" {
				s += " (" + o.Status.Reason + ")"
			}
			return s
		}),
		stackColumn,
		wideCol("IMAGES", func(o *object.Deployment, _ time.Time) string { return images(&o.Spec.Pod) }),
	},
	object.KindService: {
		col("TYPE", func(o *object.Service, _ time.Time) string { return o.Spec.Type }),
		col("HOST", func(o *object.Service, _ time.Time) string { return o.Host() }),
		col("PORTS", func(o *object.Service, _ time.Time) string {
			var parts []string
			for _, x := range o.Spec.Ports {
				parts = append(parts, fmt.Sprintf("%s:%d/%s", x.Name, x.Port, x.Protocol))
			}
			return strings.Join(parts, ",")
		}),
		wideCol("SELECTOR", func(o *object.Service, _ time.Time) string { return labels(o.Spec.Selector) }),
	},
	object.KindEndpoints: {
		col("READY", func(o *object.Endpoints, _ time.Time) string { return strconv.Itoa(len(o.Spec.Ready)) }),
		col("NOT READY", func(o *object.Endpoints, _ time.Time) string { return strconv.Itoa(len(o.Spec.NotReady)) }),
		col("ADDRESSES", func(o *object.Endpoints, _ time.Time) string {
			var parts []string
			for _, x := range o.Spec.Ready {
				parts = append(parts, x.Address)
			}
			return names(parts)
		}),
	},
	object.KindIngress: {
		col("HOST", func(o *object.Ingress, _ time.Time) string {
			if o.Spec.Host == "" {
				return "any other"
			}
			return o.Spec.Host
		}),
		col("TLS", func(o *object.Ingress, _ time.Time) string {
			switch t := o.Spec.TLS; {
			case t == nil:
				return ""
			case t.ACME != nil:
				return "acme"
			default:
				return t.Secret
			}
		}),
		col("PATHS", func(o *object.Ingress, _ time.Time) string {
			var parts []string
			for i := range o.Spec.Paths {
				parts = append(parts, leads(&o.Spec.Paths[i]))
			}
			return strings.Join(parts, ", ")
		}),
		col("LACKS", func(o *object.Ingress, _ time.Time) string { return o.Status.Message }),
	},
	object.KindNetworkPolicy: {
		col("PODS", func(o *object.NetworkPolicy, _ time.Time) string {
			if len(o.Spec.Selector) == 0 {
				return "all"
			}
			return labels(o.Spec.Selector)
		}),
		col("ISOLATES", func(o *object.NetworkPolicy, _ time.Time) string {
			var parts []string
			for _, d := range []string{"ingress", "egress"} {
				if o.Spec.Isolates(d) {
					parts = append(parts, d)
				}
			}
			return strings.Join(parts, ",")
		}),
		col("RULES", func(o *object.NetworkPolicy, _ time.Time) string {
			return fmt.Sprintf("%d in, %d out", len(o.Spec.Ingress), len(o.Spec.Egress))
		}),
	},
	object.KindFreeze: {
		col("NAMESPACES", func(o *object.Freeze, _ time.Time) string {
			if len(o.Spec.Namespaces) == 0 {
				return "all"
			}
			return strings.Join(o.Spec.Namespaces, ",")
		}),
		col("FROM", func(o *object.Freeze, _ time.Time) string { return o.Spec.From }),
		col("TO", func(o *object.Freeze, _ time.Time) string { return o.Spec.To }),
		col("ZONE", func(o *object.Freeze, _ time.Time) string { return o.Spec.TimeZone }),
		col("HOLDS UNTIL", func(o *object.Freeze, now time.Time) string {
			if until, ok := o.Spec.Until(now); ok {
				return until.Format("Mon 2006-01-02 15:04 MST")
			}
			return "-"
		}),
	},
	object.KindIdentityProvider: {
		col("ISSUER", func(o *object.IdentityProvider, _ time.Time) string { return o.Spec.Issuer }),
		col("AUDIENCE", func(o *object.IdentityProvider, _ time.Time) string { return o.Spec.Audience }),
		col("LOGINS", func(o *object.IdentityProvider, _ time.Time) string {
			var parts []string
			for _, l := range o.Spec.Logins {
				parts = append(parts, l.Name+" ("+l.Role+")")
			}
			return strings.Join(parts, ", ")
		}),
	},
	object.KindNetwork: {
		col("MODE", func(o *object.Network, _ time.Time) string { return o.Spec.Mode }),
		col("PODS", func(o *object.Network, _ time.Time) string {
			if o.Spec.NodeBits == 0 {
				return o.Spec.Pods
			}
			return fmt.Sprintf("%s, /%d each", o.Spec.Pods, o.Spec.NodeBits)
		}),
		col("SERVICES", func(o *object.Network, _ time.Time) string { return o.Spec.Services }),
		col("NODE PORTS", func(o *object.Network, _ time.Time) string { return o.Spec.NodePorts }),
		wideCol("HELD", func(o *object.Network, _ time.Time) string { return strconv.Itoa(len(o.Status.Held)) }),
	},
	object.KindConfigMap: {
		col("KEYS", func(o *object.ConfigMap, _ time.Time) string { return strconv.Itoa(len(o.Spec.Data)) }),
		col("RELOAD", func(o *object.ConfigMap, _ time.Time) string { return o.Spec.Reload }),
		stackColumn,
	},
	object.KindSecret: {
		col("KEYS", func(o *object.Secret, _ time.Time) string { return strconv.Itoa(len(o.Spec.Data)) }),
		col("RELOAD", func(o *object.Secret, _ time.Time) string { return o.Spec.Reload }),
		stackColumn,
	},
	object.KindNamespace: {
		col("QUOTA", func(o *object.Namespace, _ time.Time) string {
			q := o.Spec.Quota
			if q == nil {
				return ""
			}
			var parts []string
			if q.CPU > 0 {
				parts = append(parts, "cpu "+q.CPU.String())
			}
			if q.Memory > 0 {
				parts = append(parts, "memory "+q.Memory.String())
			}
			if q.Pods > 0 {
				parts = append(parts, plural(q.Pods, "pod"))
			}
			return strings.Join(parts, ", ")
		}),
	},
	object.KindNode: {
		col("STATUS", func(o *object.Node, _ time.Time) string {
			s := string(o.Status.Condition)
			if o.Spec.Drain {
				s += ", draining"
			} else if o.Spec.Unschedulable {
				s += ", cordoned"
			}
			return s
		}),
		col("ZONE", func(o *object.Node, _ time.Time) string { return o.Labels["zone"] }),
		col("CPU", func(o *object.Node, _ time.Time) string { return o.Status.CPU.String() }),
		col("MEMORY", func(o *object.Node, _ time.Time) string { return o.Status.Memory.Human() }),
		col("ADDRESS", func(o *object.Node, _ time.Time) string { return o.Status.Address }),
		col("VERSION", func(o *object.Node, _ time.Time) string { return o.Status.Version }),
		wideCol("LABELS", func(o *object.Node, _ time.Time) string { return labels(o.Labels) }),
		wideCol("TAINTS", func(o *object.Node, _ time.Time) string {
			var parts []string
			for _, t := range o.Spec.Taints {
				parts = append(parts, t.Key+"="+t.Value+":"+t.Effect)
			}
			return strings.Join(parts, ",")
		}),
		wideCol("MESSAGE", func(o *object.Node, _ time.Time) string { return o.Status.Message }),
	},
	object.KindStack: {
		col("REVISION", func(o *object.Stack, _ time.Time) string { return strconv.Itoa(o.Spec.Revision) }),
		col("HEALTHY", func(o *object.Stack, _ time.Time) string { return strconv.Itoa(o.Status.Healthy) }),
		col("CHANGED", func(o *object.Stack, now time.Time) string { return age(o.ChangedAt, now) }),
		col("BY", func(o *object.Stack, _ time.Time) string { return o.ChangedBy }),
	},
	object.KindRevision: revisionColumns,
	object.KindEvent: {
		col("LAST", func(o *object.Event, now time.Time) string { return age(o.Spec.Last, now) }),
		col("LEVEL", func(o *object.Event, _ time.Time) string { return o.Spec.Level }),
		col("REASON", func(o *object.Event, _ time.Time) string { return o.Spec.Reason }),
		col("ABOUT", func(o *object.Event, _ time.Time) string { return o.Spec.About.Address() }),
		col("COUNT", func(o *object.Event, _ time.Time) string { return strconv.Itoa(o.Spec.Count) }),
		col("MESSAGE", func(o *object.Event, _ time.Time) string { return o.Spec.Message }),
	},
	object.KindToken: {
		col("ROLE", func(o *object.Token, _ time.Time) string { return string(o.Spec.Role) }),
		col("USES LEFT", func(o *object.Token, _ time.Time) string {
			switch {
			case o.Spec.Uses == 0:
				return "any"
			case o.Spec.Uses < 0:
				return "0"
			}
			return strconv.Itoa(o.Spec.Uses)
		}),
		col("EXPIRES", func(o *object.Token, now time.Time) string {
			if !o.Spec.Expires.After(now) {
				return "expired"
			}
			return "in " + short(o.Spec.Expires.Sub(now))
		}),
		col("COMMENT", func(o *object.Token, _ time.Time) string { return o.Spec.Comment }),
	},
	object.KindTemplate: {col("IMAGES", func(o *object.Template, _ time.Time) string { return images(&o.Spec) })},
	object.KindContent:  {col("OF", func(o *object.Content, _ time.Time) string { return o.Spec.Of.Address() })},
}

var revisionColumns = []column{
	col("CAUSE", func(o *object.Revision, _ time.Time) string {
		if o.Spec.Target > 0 {
			return fmt.Sprintf("%s to %d", o.Spec.Cause, o.Spec.Target)
		}
		return o.Spec.Cause
	}),
	col("PHASE", func(o *object.Revision, _ time.Time) string {
		s := string(o.Status.Phase)
		if o.Status.Phase == object.RevisionRunning && o.Spec.Waves > 0 {
			s += fmt.Sprintf(" (wave %d of %d)", max(1, o.Status.Wave), o.Spec.Waves)
		}
		if o.Status.Reason != "" {
			s += " (" + o.Status.Reason + ")"
		}
		return s
	}),
	col("CHANGES", func(o *object.Revision, _ time.Time) string {
		var add, change, destroy int
		for _, c := range o.Spec.Changes {
			switch c.Op {
			case object.OpCreate:
				add++
			case object.OpUpdate:
				change++
			case object.OpDelete:
				destroy++
			}
		}
		return fmt.Sprintf("+%d ~%d -%d", add, change, destroy)
	}),
	col("AUTHOR", func(o *object.Revision, _ time.Time) string { return o.Spec.Author }),
	col("COMMIT", func(o *object.Revision, _ time.Time) string { return cut(o.Spec.Source.Commit, 12) }),
	col("TIME", func(o *object.Revision, _ time.Time) string {
		if o.Spec.Time.IsZero() {
			return ""
		}
		return o.Spec.Time.UTC().Format("2006-01-02 15:04:05")
	}),
	col("TOOK", func(o *object.Revision, _ time.Time) string {
		if o.Status.Ended.IsZero() || o.Spec.Time.IsZero() {
			return ""
		}
		return short(o.Status.Ended.Sub(o.Spec.Time))
	}),
	col("PLAN", func(o *object.Revision, _ time.Time) string { return truthInBrief(o) }),
}

// History prints a stack's revisions, the newest first.
func History(w io.Writer, list []*object.Revision, o Options) error {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b *object.Revision) int { return b.Spec.Number - a.Spec.Number })
	p := &printer{Options: o, w: w}
	if len(list) == 0 {
		p.line("No revisions found.")
		return p.err
	}
	rows := [][]string{{"REVISION"}}
	for _, c := range revisionColumns {
		rows[0] = append(rows[0], c.title)
	}
	for _, r := range list {
		row := []string{strconv.Itoa(r.Spec.Number)}
		for _, c := range revisionColumns {
			s := c.cell(r, time.Time{})
			if s == "" {
				s = "-"
			}
			row = append(row, s)
		}
		rows = append(rows, row)
	}
	p.columns(rows)
	return p.err
}

// PodStatus is a pod's state in a word or two, as tables show it.
func PodStatus(o *object.Pod) string {
	s := string(o.Status.Phase)
	switch {
	case s == "":
		s = string(object.PodPending)
	case o.Spec.Stop && !o.Terminal():
		return string(object.PodStopping)
	}
	if o.Status.Reason != "" {
		s += " (" + o.Status.Reason + ")"
	}
	return s
}

// leads is a path with where it leads to.
func leads(p *object.IngressPath) string {
	s := p.Path
	if p.Match == "exact" {
		s = "=" + s
	}
	s += " -> "
	if p.Redirect != nil {
		return s + p.Redirect.To
	}
	if p.Service != "" {
		return s + p.Service
	}
	var parts []string
	for _, b := range p.Backends {
		parts = append(parts, fmt.Sprintf("%s %d", b.Service, b.Weight))
	}
	return s + strings.Join(parts, " : ")
}

func images(t *object.PodTemplate) string {
	var parts []string
	for _, c := range t.Containers {
		parts = append(parts, c.Image)
	}
	return strings.Join(parts, ",")
}

func labels(m map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, k+"="+m[k])
	}
	return strings.Join(parts, ",")
}
