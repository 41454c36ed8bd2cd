package view

import (
	"fmt"
	"io"
	"strings"

	"github.com/berthdev/berth/cluster/object"
)

// images says which content the tags stand for that a plan brings in, which come back
// with it, and of which nobody could tell, in a line each.
func (p *printer) images(plan *object.Plan) {
	var pinned, not, back []string
	why := map[string]bool{}
	for _, x := range plan.Images {
		switch {
		case x.From == object.PinnedByPlan: // as it was; of a tag that has moved a warning tells
			if plan.Operation != nil {
				not = append(not, x.Image+", which stays "+shortDigest(x.Digest))
				why[x.Why] = true
			}
		case x.From == object.PinnedByRevision:
			back = append(back, x.Image+" @ "+shortDigest(x.Digest))
		case x.Digest != "":
			text := x.Image + " @ " + shortDigest(x.Digest)
			if x.Was != "" {
				text += " (was " + shortDigest(x.Was) + ")"
			}
			pinned = append(pinned, text)
		default:
			not = append(not, x.Image)
			why[x.Why] = true
		}
	}
	if len(pinned)+len(not)+len(back) > 0 {
		p.line()
	}
	if len(pinned) > 0 {
		p.line("Images pinned: ", firstOf(pinned), ".")
	}
	if len(back) > 0 {
		p.line("Images as they were pinned then: ", firstOf(back), ".")
	}
	if len(not) > 0 {
		reason := ""
		if keys := sortedKeys(why); len(keys) == 1 && keys[0] != "" {
			reason = " (" + keys[0] + ")"
		}
		p.line("Images not pinned: ", firstOf(not), reason, ".")
	}
}

// PinnedAnew says what a restart has pinned its images to.
func PinnedAnew(w io.Writer, images []object.PinnedImage, o Options) error {
	p := &printer{Options: o, w: w}
	p.images(&object.Plan{Operation: &object.Operation{Name: object.OperationRestart}, Images: images})
	return p.err
}

// pins are the contents that a template's images are pinned to.
func pins(t *object.PodTemplate) string {
	var out []string
	for _, image := range sortedKeys(t.Images) {
		out = append(out, image+" @ "+shortDigest(t.Images[image]))
	}
	return strings.Join(out, ", ")
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
