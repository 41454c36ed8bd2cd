package object

import (
	"iter"
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
		for c := range containersOf(p.Changes[i].After.Object) {
			if !strings.Contains(c.Image, "@") {
				seen[c.Image] = true
			}
		}
	}
	return sorted(seen)
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

// FreshImages are those that the plan's objects run and did not run before.
func (p *Plan) FreshImages() map[string]bool {
	fresh := map[string]bool{}
	for i := range p.Changes {
		x := &p.Changes[i]
		for c := range containersOf(x.After.Object) {
			if !fresh[c.Image] && !Runs(x.Before.Object, c.Image) {
				fresh[c.Image] = true
			}
		}
	}
	return fresh
}

// containersOf are those of the object's pods and of the pods that its checks run;
// none of no object.
func containersOf(o Object) iter.Seq[*Container] {
	return func(yield func(*Container) bool) {
		all := func(t *PodTemplate) bool {
			for _, list := range [2][]Container{t.Init, t.Containers} {
				for i := range list {
					if !yield(&list[i]) {
						return false
					}
				}
			}
			return true
		}
		if o == nil {
			return
		}
		if t := TemplateOf(o); t != nil && !all(t) {
			return
		}
		if d, ok := o.(*Deployment); ok {
			for c := range d.Spec.Update.checks() {
				if c.Run != nil && !all(&c.Run.Pod) {
					return
				}
			}
		}
	}
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
		for c := range containersOf(p.Changes[i].After.Object) {
			if c.Image == image && c.Pull != "never" {
				return false
			}
			never = never || c.Image == image
		}
	}
	return never
}
