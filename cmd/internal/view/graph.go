package view

import (
	"cmp"
	"fmt"
	"html"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/berthdev/berth/cluster/object"
)

// GraphFormats are the forms in which Graph draws, the default first.
var GraphFormats = []string{"text", "dot", "mermaid", "svg"}

// vertex is an object of a plan.
type vertex struct {
	address string
	kind    object.Kind
	wave    int
	needs   []int // of vertices, sorted
}

// Graph draws who waits for whom among the changes of a plan: the waves of its
// rollout as columns, and an arrow from each object to those that need it. The
// same plan gives the same bytes.
func Graph(w io.Writer, plan *object.Plan, format string) error {
	p := &printer{w: w}
	g := newGraph(plan)
	switch format {
	case "dot":
		p.dot(plan.Stack, g)
	case "mermaid":
		p.mermaid(g)
	case "svg":
		p.svg(plan.Stack, g)
	default:
		p.graphText(g)
	}
	return p.err
}

// newGraph lists the changes by wave and address.
func newGraph(plan *object.Plan) []vertex {
	changes := slices.Clone(plan.Changes)
	slices.SortStableFunc(changes, func(a, b object.PlannedChange) int {
		return cmp.Or(a.Wave-b.Wave, strings.Compare(a.Address, b.Address))
	})
	at := make(map[object.Ref]int, len(changes))
	for i := range changes {
		at[changes[i].Ref] = i
	}
	g := make([]vertex, len(changes))
	for i := range changes {
		c := &changes[i]
		g[i] = vertex{address: c.Address, kind: c.Ref.Kind, wave: c.Wave}
		side := c.After
		if side.IsZero() {
			side = c.Before
		}
		for _, dep := range side.Head().After {
			if n, ok := at[dep]; ok && n != i {
				g[i].needs = append(g[i].needs, n)
			}
		}
		slices.Sort(g[i].needs)
	}
	return g
}

func (p *printer) graphText(g []vertex) {
	if len(g) == 0 {
		p.line("Nothing changes, so nothing waits for anything.")
		return
	}
	width := 0
	for _, x := range g {
		width = max(width, utf8.RuneCountInString(x.address))
	}
	wave := -1
	for _, x := range g {
		head := ""
		if x.wave != wave {
			wave, head = x.wave, fmt.Sprintf("wave %d", x.wave)
		}
		line := fmt.Sprintf("%-9s %-*s", head, width, x.address)
		if len(x.needs) > 0 {
			names := make([]string, len(x.needs))
			for i, n := range x.needs {
				names[i] = g[n].address
			}
			line += "  <- " + strings.Join(names, ", ")
		}
		p.line(strings.TrimRight(line, " "))
	}
}

// dot is for Graphviz.
func (p *printer) dot(stack string, g []vertex) {
	quote := func(s string) string {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
	}
	p.line("digraph ", quote(stack), " {")
	p.line("  rankdir = LR")
	p.line(`  node [shape = box, fontname = "sans-serif"]`)
	for i := 0; i < len(g); {
		wave := g[i].wave
		p.printf("  subgraph cluster_wave_%d {\n    label = %s\n", wave, quote(fmt.Sprintf("wave %d", wave)))
		for ; i < len(g) && g[i].wave == wave; i++ {
			p.line("    ", quote(g[i].address))
		}
		p.line("  }")
	}
	for _, x := range g {
		for _, n := range x.needs {
			p.line("  ", quote(g[n].address), " -> ", quote(x.address))
		}
	}
	p.line("}")
}

// mermaid is for Markdown pages that draw it.
func (p *printer) mermaid(g []vertex) {
	p.line("flowchart LR")
	for i := 0; i < len(g); {
		wave := g[i].wave
		p.printf("  subgraph w%d[\"wave %d\"]\n", wave, wave)
		for ; i < len(g) && g[i].wave == wave; i++ {
			p.printf("    o%d[\"%s\"]\n", i, strings.ReplaceAll(g[i].address, `"`, "#quot;"))
		}
		p.line("  end")
	}
	for i, x := range g {
		for _, n := range x.needs {
			p.printf("  o%d --> o%d\n", n, i)
		}
	}
}

// The measures of svg's boxes, in pixels.
const (
	svgRow, svgBox, svgGap, svgMargin, svgHead = 34, 24, 60, 16, 34
	svgLetter                                  = 7.3 // of 12 px monospace
)

// svg is for pages and pictures: a column for each wave, without any script.
func (p *printer) svg(stack string, g []vertex) {
	widths, rows := map[int]int{}, map[int]int{}
	row := make([]int, len(g))
	for i, x := range g {
		widths[x.wave] = max(widths[x.wave], int(svgLetter*float64(utf8.RuneCountInString(x.address)))+16)
		row[i] = rows[x.wave]
		rows[x.wave]++
	}
	left, width, height := map[int]int{}, svgMargin, 0
	for _, wave := range slices.Sorted(maps.Keys(widths)) {
		left[wave] = width
		width += widths[wave] + svgGap
		height = max(height, rows[wave])
	}
	width, height = max(width-svgGap+svgMargin, 2*svgMargin), svgHead+height*svgRow+svgMargin
	p.printf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="monospace" font-size="12">`+"\n", width, height, width, height)
	p.printf("<title>%s</title>\n", html.EscapeString("rollout of "+stack))
	p.line(`<rect width="100%" height="100%" fill="#ffffff"/>`)
	middle := func(i int) int { return svgHead + row[i]*svgRow + svgBox/2 }
	for i, x := range g {
		for _, n := range x.needs {
			from, to := left[g[n].wave]+widths[g[n].wave], left[x.wave]
			if g[n].wave == x.wave { // both in one column: around its left side
				p.printf(`<path d="M%d %d C%d %d %d %d %d %d" fill="none" stroke="#8a97a8"/>`+"\n", to, middle(n), to-svgGap/3, middle(n), to-svgGap/3, middle(i), to, middle(i))
				continue
			}
			p.printf(`<path d="M%d %d C%d %d %d %d %d %d" fill="none" stroke="#8a97a8"/>`+"\n", from, middle(n), from+svgGap/2, middle(n), to-svgGap/2, middle(i), to, middle(i))
		}
	}
	told := -1
	for i, x := range g {
		if x.wave != told {
			told = x.wave
			p.printf(`<text x="%d" y="%d" fill="#56616f">wave %d</text>`+"\n", left[told], svgHead-12, told)
		}
		p.printf(`<g><title>%s</title><rect x="%d" y="%d" width="%d" height="%d" rx="4" fill="#eef3fa" stroke="#4a6fa5"/><text x="%d" y="%d" fill="#1c2733">%s</text></g>`+"\n",
			html.EscapeString(string(x.kind)), left[x.wave], middle(i)-svgBox/2, widths[x.wave], svgBox, left[x.wave]+8, middle(i)+4, html.EscapeString(x.address))
	}
	p.line("</svg>")
}
