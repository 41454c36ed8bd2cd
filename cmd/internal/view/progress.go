package view

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// Rollout is a revision and the objects that it changes, as they stand at Now.
type Rollout struct {
	Revision *object.Revision
	Objects  []object.Object // in force: deployments, replica sets, pods …; order does not matter
	Now      time.Time
}

// Progress shows a rollout as it goes: a tree that is redrawn on a terminal, a
// line for each change of state elsewhere, and at least one every ten seconds.
type Progress struct {
	p     printer
	drawn int // lines of the tree that stand on the screen
	last  map[object.Ref]string
	said  map[object.Ref]time.Time
	done  map[object.Ref]bool
	began map[object.Ref]time.Time
	frame int
}

// NewProgress returns a Progress that writes to w.
func NewProgress(w io.Writer, o Options) *Progress {
	return &Progress{p: printer{Options: o, w: w}, last: map[object.Ref]string{}, said: map[object.Ref]time.Time{}, done: map[object.Ref]bool{}, began: map[object.Ref]time.Time{}}
}

// Update shows the newest state. Call it on each change and every second.
func (g *Progress) Update(r Rollout) error {
	if r.Revision == nil {
		return g.p.err
	}
	if g.p.TTY {
		g.tree(r)
	} else {
		g.lines(r)
	}
	return g.p.err
}

// changeState is how far one change of a revision has come.
type changeState struct {
	change object.RevisionChange
	phase  int // one of the constants below
	text   string
	pods   []*object.Pod // those that are not up
}

const (
	stateWaiting = iota
	stateOpen
	stateDone
	stateFailed
)

func states(r Rollout) []changeState {
	objects := make(map[object.Ref]object.Object, len(r.Objects))
	trouble := map[object.Ref][]*object.Pod{}
	for _, o := range r.Objects {
		objects[o.Ref()] = o
	}
	for _, o := range r.Objects {
		p, ok := o.(*object.Pod)
		if !ok || p.Spec.Stop || p.Status.Reason == "" {
			continue
		}
		top := p.Owner
		if set := objects[top]; set != nil && !set.Head().Owner.IsZero() {
			top = set.Head().Owner
		}
		trouble[top] = append(trouble[top], p)
	}
	opened := map[object.Ref]bool{}
	for _, ref := range r.Revision.Status.Opened {
		opened[ref] = true
	}
	var out []changeState
	for _, c := range r.Revision.Spec.Changes {
		if !c.To.IsZero() {
			continue // is told with what it becomes
		}
		s := changeState{change: c, phase: stateWaiting, text: fmt.Sprintf("waits for wave %d", c.Wave-1)}
		o := objects[c.Ref]
		switch {
		case r.Revision.Status.Phase == object.RevisionHealthy:
			s.phase, s.text = stateDone, ""
		case c.Ref == r.Revision.Status.Object:
			s.phase, s.text = stateFailed, r.Revision.Status.Message
		case opened[c.Ref] || c.Wave < r.Revision.Status.Wave:
			s.phase, s.text = stateOpen, ""
			if c.Wave < r.Revision.Status.Wave {
				s.phase = stateDone
			}
			d, isDeployment := o.(*object.Deployment)
			switch {
			case isDeployment && c.Op != object.OpDelete:
				s.phase, s.text = deploymentState(d, s.phase)
				s.pods = trouble[c.Ref]
			case up(c, o):
				s.phase = stateDone
			}
		case c.Wave <= 1:
			s.text = "begins"
		}
		out = append(out, s)
	}
	return out
}

// up reports whether a change that has been carried out has come to its end. What
// runs nothing has with that, and need not be among the objects.
func up(c object.RevisionChange, o object.Object) bool {
	if c.Op == object.OpDelete {
		return o == nil
	}
	switch c.Ref.Kind {
	case object.KindDeployment, object.KindReplicaSet:
		return false // its status says it, or the end of the wave
	case object.KindPod:
		p, ok := o.(*object.Pod)
		return ok && (p.Status.Ready || p.Status.Phase == object.PodSucceeded)
	}
	return true
}

func deploymentState(d *object.Deployment, phase int) (int, string) {
	st := d.Status
	if st.Observed < d.Version {
		return min(phase, stateOpen), "" // what the status says is of the version before
	}
	text := fmt.Sprintf("%d/%d updated, %d ready", st.Updated, d.Spec.Replicas, st.Ready)
	if c := st.Canary; c != nil {
		switch u := d.Spec.Update; {
		case u.Strategy == "blue_green" && c.Weight == 100:
			text += ", all connections go to " + c.Set + ", the version before can take them back"
		case u.Strategy == "blue_green" && c.Step == 1 && len(c.Checks) > 0:
			text += ", all connections have gone back to " + st.Proven
		case u.Strategy == "blue_green":
			text += ", no connection goes to the new version yet"
		case u.By != "" && c.Zone == "":
		case u.By != "":
			text += fmt.Sprintf(", %s %s, %d of %d", u.By, c.Zone, c.Step+1, c.Zones)
		case u.Strategy == "rolling":
			text += fmt.Sprintf(", step %d of %d", min(c.Step+1, len(u.Steps)), len(u.Steps))
		default:
			text += fmt.Sprintf(", step %d of %d, %d%% of the connections", min(c.Step+1, len(d.Spec.Update.Steps)), len(d.Spec.Update.Steps), c.Weight)
		}
		for i := range c.Checks {
			text += ", " + checkText(&c.Checks[i])
		}
		if c.Waits {
			text += ", waits for you: berth rollout promote " + d.Named()
		}
	}
	switch {
	case st.Phase == object.RolloutFailed:
		return stateFailed, text + ": " + st.Message
	case st.Phase == object.RolloutPaused && st.Reason == object.ReasonInconclusive:
		return stateOpen, text + ", paused: " + st.Message
	case st.Phase == object.RolloutPaused:
		return stateOpen, text + ", paused"
	case st.Phase == object.RolloutStable:
		return stateDone, text
	}
	return min(phase, stateOpen), text
}

// checkText is how far a check is: "check slo 2 of 5 passed (0.3% of 200 requests)".
func checkText(s *object.CheckStatus) string {
	text := fmt.Sprintf("check %s %d", s.Name, s.Passed)
	if s.Times > 0 {
		text += fmt.Sprintf(" of %d", s.Times)
	}
	text += " passed"
	if s.Failed > 0 {
		text += fmt.Sprintf(", %d failed", s.Failed)
	}
	switch {
	case s.Inconclusive > 0 && s.Phase != object.CheckInconclusive: // else it is the reason of the pause
		text += " (tells nothing: " + s.Message + ")"
	case s.Inconclusive == 0 && s.Value != "":
		text += " (" + s.Value + ")"
	}
	return text
}

var spinner = []string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}

// tree redraws the whole rollout in place.
func (g *Progress) tree(r Rollout) {
	rev := r.Revision
	var lines []string
	elapsed := r.Now.Sub(rev.Spec.Time)
	if rev.Status.Phase.Final() && !rev.Status.Ended.IsZero() {
		elapsed = rev.Status.Ended.Sub(rev.Spec.Time)
	}
	lines = append(lines, fmt.Sprintf("%s  wave %d of %d  %s", g.p.paint(bold, fmt.Sprintf("Rollout of %s, revision %d", rev.Spec.Stack, rev.Spec.Number)), max(1, rev.Status.Wave), rev.Spec.Waves, short(elapsed)))
	g.frame++
	all := states(r)
	width := 0
	for _, s := range all {
		width = max(width, len(s.change.Title()))
	}
	const most = 30 // a screenful; what is done is folded first
	folded := 0
	for i, s := range all {
		if len(all) > most && s.phase == stateDone {
			folded++
			continue
		}
		if len(lines) > most {
			lines = append(lines, g.p.paint(dim, fmt.Sprintf("    … and %d more", len(all)-i)))
			break
		}
		mark := g.p.paint(dim, "·")
		switch s.phase {
		case stateOpen:
			mark = g.p.paint(cyan, spinner[g.frame%len(spinner)])
		case stateDone:
			mark = g.p.paint(green, "✓")
		case stateFailed:
			mark = g.p.paint(red, "✗")
		}
		lines = append(lines, strings.TrimRight(fmt.Sprintf("  %s %s %s  %s", mark, g.p.symbol(symbols[s.change.Op]), pad(s.change.Title(), width), s.text), " "))
		for _, p := range firstPods(s.pods, 3) {
			lines = append(lines, g.p.paint(dim, "        "+p.Name+": "+podTrouble(p)))
		}
	}
	if folded > 0 {
		lines = append(lines, g.p.paint(dim, fmt.Sprintf("    %s done", plural(folded, "object"))))
	}
	var b strings.Builder
	if g.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\r\x1b[J", g.drawn)
	}
	for _, l := range lines {
		if g.p.Width > 0 {
			l = clip(l, g.p.Width)
		}
		b.WriteString(l)
		b.WriteByte('\n')
	}
	g.drawn = len(lines)
	g.p.printf("%s", b.String())
}

// clip cuts a line to the terminal's width, not counting colours, so that
// redrawing counts its lines right.
func clip(s string, width int) string {
	n, escape := 0, false
	for i, r := range s {
		switch {
		case r == '\x1b':
			escape = true
		case escape:
			escape = r != 'm'
		default:
			if n++; n > width {
				return s[:i] + "\x1b[0m"
			}
		}
	}
	return s
}

func firstPods(list []*object.Pod, n int) []*object.Pod {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b *object.Pod) int { return strings.Compare(a.Name, b.Name) })
	return list[:min(n, len(list))]
}

func podTrouble(p *object.Pod) string {
	if p.Status.Message != "" {
		return p.Status.Reason + ": " + p.Status.Message
	}
	return p.Status.Reason
}

var doing = map[object.Op][3]string{
	object.OpCreate: {"Creating...", "Still creating...", "Creation complete"},
	object.OpUpdate: {"Modifying...", "Still modifying...", "Modifications complete"},
	object.OpDelete: {"Destroying...", "Still destroying...", "Destruction complete"},
}

// lines prints Terraform's lines, one for each thing that happens.
func (g *Progress) lines(r Rollout) {
	for _, s := range states(r) {
		ref, title := s.change.Ref, s.change.Title()
		words := doing[s.change.Op]
		if !s.change.From.IsZero() {
			title = s.change.From.Address() + " -> " + title
			words = [3]string{"Moving...", "Still moving...", "Move complete"}
		}
		if s.phase == stateWaiting || g.done[ref] {
			continue
		}
		if _, ok := g.began[ref]; !ok {
			g.began[ref], g.said[ref] = r.Now, r.Now
			g.p.line(title, ": ", words[0])
		}
		elapsed := r.Now.Sub(g.began[ref])
		detail := ""
		if s.text != "" {
			detail = " " + s.text
		}
		for _, p := range firstPods(s.pods, 1) {
			if s.phase != stateFailed { // then the text names the pod
				detail += "; " + p.Name + ": " + podTrouble(p)
			}
		}
		switch {
		case s.phase == stateFailed:
			g.p.line(title, ": Failed after ", short(elapsed), ":", detail)
			g.done[ref] = true
		case s.phase == stateDone:
			g.p.line(title, ": ", words[2], " after ", short(elapsed))
			g.done[ref] = true
		case detail != g.last[ref] && detail != "" || r.Now.Sub(g.said[ref]) >= 10*time.Second:
			g.p.line(title, ": ", words[1], " [", short(elapsed), " elapsed]", detail)
			g.last[ref], g.said[ref] = detail, r.Now
		}
	}
}
