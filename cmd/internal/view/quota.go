package view

import (
	"fmt"
	"strings"

	"github.com/berthdev/berth/cluster/object"
)

// quotas prints the peaks of namespaces that have a quota.
func (p *printer) quotas(list []object.NamespacePeak) {
	for _, n := range list {
		if n.Quota == nil {
			continue
		}
		line := "Quota of " + n.Namespace + ": peak " + strings.Join(against(n.Peak, *n.Quota), ", ") + "."
		if n.Need != nil {
			line += " " + p.paint(yellow, "It keeps pods back") + ", for the rollout would take " + strings.Join(against(*n.Need, *n.Quota), ", ") + "."
		}
		p.line(line)
	}
}

// against are the asks that a quota limits: "5 of 6 pods".
func against(ask, quota object.Quota) []string {
	var out []string
	if quota.Pods > 0 {
		out = append(out, fmt.Sprintf("%d of %s", ask.Pods, plural(quota.Pods, "pod")))
	}
	if quota.CPU > 0 {
		out = append(out, fmt.Sprintf("cpu %s of %s", ask.CPU, quota.CPU))
	}
	if quota.Memory > 0 {
		out = append(out, fmt.Sprintf("memory %s of %s", ask.Memory.Human(), quota.Memory.Human()))
	}
	return out
}
