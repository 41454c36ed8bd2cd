package view

import (
	"fmt"
	"strings"

	"github.com/berthdev/berth/cluster/object"
)

// images says which content the tags stand for that a plan brings in, and of which
// nobody could tell, in a line each.
func (p *printer) images(plan *object.Plan) {
	fresh := plan.FreshImages()
	var pinned, not []string
	why := map[string]bool{}
	for _, x := range plan.Images {
		switch {
		case !fresh[x.Image] && x.Was == "":
		case x.Digest != "":
			pinned = append(pinned, x.Image+" @ "+shortDigest(x.Digest))
		default:
			not = append(not, x.Image)
			why[x.Why] = true
		}
	}
	if len(pinned)+len(not) > 0 {
		p.line()
	}
	if len(pinned) > 0 {
		p.line("Images pinned: ", firstOf(pinned), ".")
	}
	if len(not) > 0 {
		reason := ""
		if keys := sortedKeys(why); len(keys) == 1 && keys[0] != "" {
			reason = " (" + keys[0] + ")"
		}
		p.line("Images not pinned: ", firstOf(not), reason, ".")
	}
}

func firstOf(list []string) string {
	const most = 5
	if len(list) > most {
		return strings.Join(list[:most], ", ") + fmt.Sprintf(" and %d more", len(list)-most)
	}
	return strings.Join(list, ", ")
}

// shortDigest is enough of a digest to tell it from others.
func shortDigest(d string) string {
	algorithm, hex, ok := strings.Cut(d, ":")
	if !ok || len(hex) <= 12 {
		return d
	}
	return algorithm + ":" + hex[:12]
}
