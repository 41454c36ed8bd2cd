package view

import (
	"io"
	"slices"
	"strings"

	"github.com/berthdev/berth/cluster/object"
)

// failingWhole is how many nodes, or groups of nodes alike, that do not fit are
// printed; JSON has all.
const failingWhole = 20

// bestWhole is how many of the best nodes are always printed.
const bestWhole = 3

// Explanation prints how nodes answered to a pod: the best with what their scores
// are made of, then why the others do not do.
func Explanation(w io.Writer, e *object.Explanation, o Options) error {
	p := &printer{Options: o, w: w}
	head := e.Pod.Namespace + "/" + e.Pod.Name
	if e.Asked != "" {
		head += ", at +" + short(e.At.D())
	}
	p.line(p.paint(bold, head), ": ", e.Summary)
	p.line()
	fit := 0
	for fit < len(e.Candidates) && e.Candidates[fit].Fits {
		fit++
	}
	failing := alike(e.Candidates[fit:])
	name, score, more := 0, 0, 0
	told := func(i int) bool { return i < bestWhole || len(e.Candidates[i].Parts) > 0 }
	for i, c := range e.Candidates[:fit] {
		if !told(i) {
			more++
			continue
		}
		name, score = max(name, len(c.Node)), max(score, len(c.Score.String()))
	}
	for _, g := range failing[:min(len(failing), failingWhole)] {
		name = max(name, len(names(g.nodes)))
	}
	for i, c := range e.Candidates[:fit] {
		if !told(i) {
			continue
		}
		line := "  " + pad(c.Node, name) + "  score " + blanks(score-len(c.Score.String())) + c.Score.String()
		for i, x := range c.Parts {
			if i == 0 {
				line += "  = "
			} else {
				line += ", "
			}
			line += x.What + " " + x.Points.String()
			if x.Detail != "" {
				line += p.paint(dim, " ("+x.Detail+")")
			}
		}
		p.line(line)
	}
	if more > 0 {
		p.line("  ", p.paint(dim, "… "+verb(more, "more node", "fits", "fit")+", the least with "+e.Candidates[fit-1].Score.String()+" …"))
	}
	for i, g := range failing {
		if i == failingWhole {
			rest := 0
			for _, g := range failing[i:] {
				rest += len(g.nodes)
			}
			p.line("  ", p.paint(dim, "… "+verb(rest, "more node", "does not fit", "do not fit")+"; --json has all …"))
			break
		}
		p.line("  ", pad(names(g.nodes), name), "  ", p.paint(red, "does not fit"), ": ", g.why)
	}
	return p.err
}

type failingNodes struct {
	nodes []string
	why   string
}

// alike groups nodes by what is wrong with them, in the order of the first of each.
func alike(list []object.Candidate) []failingNodes {
	var out []failingNodes
	at := map[string]int{}
	for _, c := range list {
		why := strings.Join(c.Fails, ", ")
		i, ok := at[why]
		if !ok {
			i = len(out)
			at[why] = i
			out = append(out, failingNodes{why: why})
		}
		out[i].nodes = append(out[i].nodes, c.Node)
	}
	return slices.Clip(out)
}
