package object

import (
	"slices"
	"strings"
)

// PinnedImage is the content that an image's tag stood for when a plan was made.
type PinnedImage struct {
	Image  string `json:"image"`            // as the configuration writes it
	Digest string `json:"digest,omitempty"` // absent: nobody could say
	From   string `json:"from,omitempty"`   // who said it: pods, nodes, registry
	Was    string `json:"was,omitempty"`    // another digest that an earlier revision of the stack was planned with
	Since  int    `json:"since,omitempty"`  // that revision
	Gone   bool   `json:"gone,omitempty"`   // no node is known to have it, and its registry says that it has not, or is not to be asked

	// Nowhere says that all nodes that are ready were asked, and none has it;
	// Everywhere that each of them has it in store, so that it needs no pulling.
	Nowhere    bool   `json:"nowhere,omitempty"`
	Everywhere bool   `json:"everywhere,omitempty"`
	Why        string `json:"why,omitempty"` // of one that is not pinned
}

// Who knows a digest.
const (
	PinnedByPods     = "pods"     // containers that run it
	PinnedByNodes    = "nodes"    // which have it in store
	PinnedByRegistry = "registry" // which would be asked for it
)

// ImageQuestion asks which content tags stand for in the cluster.
type ImageQuestion struct {
	Images []string `json:"images"`
}

// ImageAnswer answers it, in its order.
type ImageAnswer struct {
	Images []PinnedImage `json:"images"`
}

// ImagesToPin are those that the plan's objects run and that no digest names already,
// sorted, each once.
func (p *Plan) ImagesToPin() []string {
	seen := map[string]bool{}
	for i := range p.Changes {
		for image := range ImagesOf(p.Changes[i].After.Object) {
			if !strings.Contains(image, "@") {
				seen[image] = true
			}
		}
	}
	return sorted(seen)
}

// ImagesOf are the images that an object's pods run.
func ImagesOf(o Object) map[string]bool {
	out := map[string]bool{}
	if o == nil {
		return out
	}
	for _, c := range containersOf(o) {
		out[c.Image] = true
	}
	return out
}

// containersOf are those of the object's pods and of the pods that its checks run.
func containersOf(o Object) []Container {
	var out []Container
	if t := TemplateOf(o); t != nil {
		out = slices.Concat(t.Init, t.Containers)
	}
	if d, ok := o.(*Deployment); ok {
		for c := range d.Spec.Update.checks() {
			if c.Run != nil {
				out = slices.Concat(out, c.Run.Pod.Init, c.Run.Pod.Containers)
			}
		}
	}
	return out
}

// Pins are the digests that a plan pins, by image; nil if there are none.
func (p *Plan) Pins() map[string]string {
	var out map[string]string
	for _, x := range p.Images {
		if x.Digest != "" {
			if out == nil {
				out = map[string]string{}
			}
			out[x.Image] = x.Digest
		}
	}
	return out
}

// PullsNever reports whether all containers of the plan that run the image are to take
// it from their node alone.
func (p *Plan) PullsNever(image string) bool {
	never := false
	for i := range p.Changes {
		for _, c := range containersOf(p.Changes[i].After.Object) {
			if c.Image == image && c.Pull != "never" {
				return false
			}
			never = never || c.Image == image
		}
	}
	return never
}
