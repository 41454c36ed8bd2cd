package view

import (
	"fmt"

	"github.com/berthdev/berth/cluster/object"
)

// use prints what is asked of nodes before an operation and after it.
func (p *printer) use(list []object.NodeUse) {
	if len(list) == 0 {
		return
	}
	p.line()
	rows := [][4]string{{"node", "cpu", "memory", "pods"}}
	for _, x := range list {
		rows = append(rows, [4]string{x.Node, shift(x.Before.CPU, x.After.CPU, "%"), shift(x.Before.Memory, x.After.Memory, "%"), shift(x.Before.Pods, x.After.Pods, "")})
	}
	var width [3]int
	for _, r := range rows {
		for i := range width {
			width[i] = max(width[i], len(r[i]))
		}
	}
	for i, r := range rows {
		line := "  " + pad(r[0], width[0]) + "   " + pad(r[1], width[1]) + "   " + pad(r[2], width[2]) + "   " + r[3]
		if i == 0 {
			line = p.paint(dim, line)
		}
		p.line(line)
	}
}

func shift(before, after int, unit string) string {
	if before == after {
		return fmt.Sprintf("%d%s", before, unit)
	}
	return fmt.Sprintf("%d%s -> %d%s", before, unit, after, unit)
}
