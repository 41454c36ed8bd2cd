package object

import (
	"iter"
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

	// Of one that an earlier plan pinned and that stays so: what the tag stands for
	// by now, and the addresses of who runs it.
	Now string   `json:"now,omitempty"`
	By  []string `json:"by,omitempty"`
}

// Who knows a digest.
const (
	PinnedByPods     = "pods"     // containers that run it
	PinnedByNodes    = "nodes"    // which have it in store
	PinnedByRegistry = "registry" // which would be asked for it
	PinnedByPlan     = "plan"     // an earlier one; it stays
	PinnedByRevision = "revision" // or the snapshot, to which the plan leads back
)

// ImageQuestion asks which content tags stand for in the cluster. An image with a
// digest asks who has that content.
type ImageQuestion struct {
	Images []string `json:"images"`
	// Anew are those of Images that only nodes are asked for: what containers run is
	// what somebody wants to get away from.
	Anew []string `json:"anew,omitempty"`
	// Stack asks for what is pinned in it, too.
	Stack string `json:"stack,omitempty"`
}

// ImageAnswer answers it, in its order.
type ImageAnswer struct {
	Images []PinnedImage `json:"images"`
	Kept   []KeptImage   `json:"kept,omitempty"`
}

// KeptImage is a content that objects of a stack are pinned to.
type KeptImage struct {
	PinnedImage
	Never bool `json:"never,omitempty"` // none of them asks a registry
}

// Runs reports whether an object's pods run an image.
func Runs(o Object, image string) bool {
	for c := range containersOf(o) {
		if c.Image == image {
			return true
		}
	}
	return false
}

// containersOf are those of the object's pods and of the pods that its checks run;
// none of no object.
func containersOf(o Object) iter.Seq[*Container] {
	return func(yield func(*Container) bool) {
		for _, t := range templatesOf(o) {
			for _, list := range [2][]Container{t.Init, t.Containers} {
				for i := range list {
					if !yield(&list[i]) {
						return
					}
				}
			}
		}
	}
}

// Pins are the digests that a plan brings in, by image; nil if there are none.
func (p *Plan) Pins() map[string]string {
	var out map[string]string
	for _, x := range p.Images {
		if x.Digest != "" && x.From != PinnedByPlan {
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
		for c := range containersOf(p.Changes[i].After.Object) {
			if c.Image == image && c.Pull != "never" {
				return false
			}
			never = never || c.Image == image
		}
	}
	return never
}

// PullsNever are the images that all containers of an object take from their node alone.
func PullsNever(o Object) map[string]bool {
	out := map[string]bool{}
	for c := range containersOf(o) {
		never, seen := out[c.Image]
		out[c.Image] = c.Pull == "never" && (never || !seen)
	}
	return out
}

// PullsAlways reports whether a container of the plan asks the image's registry at
// each start of a pod.
func (p *Plan) PullsAlways(image string) bool {
	for i := range p.Changes {
		for c := range containersOf(p.Changes[i].After.Object) {
			if c.Image == image && c.Pull == "always" {
				return true
			}
		}
	}
	return false
}
