package main

import (
	"context"
	"slices"
	"time"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cmd/internal/registries"
)

// PinFlag says whom to ask which content the tags of images stand for.
type PinFlag struct {
	PinImages string `enum:"auto,cluster,off" default:"auto" env:"BERTH_PIN_IMAGES" help:"Whom to ask which content the tags of images stand for: auto (pods and nodes, then the registries of what they do not know), cluster, off."`
}

// How long a plan waits for registries: for what it brings in, and only to see whether
// a tag has moved.
const (
	registryTakes = 3 * time.Second
	movedTakes    = time.Second
)

// mostImages is of how many images one plan finds out the content.
const mostImages = 1000

// pinImages writes into the plan which content the tags in it stand for, as far as
// anybody can say, and which pinned ones have moved since. What cannot be found out is
// said in the plan, and stops nothing.
func (s *session) pinImages(cl *client.Client, p *object.Plan) {
	if p.Operation != nil {
		return // a restart has done it, others bring no image in
	}
	images, back := p.ImagesToPin(), p.PinsBack()
	if s.pin == "off" {
		for _, image := range images {
			p.Images = append(p.Images, object.PinnedImage{Image: image, Why: whyOff})
		}
		p.Images = append(p.Images, back...)
		return
	}
	q := question{never: p.PullsNever}
	if p.Cause == "apply" { // ways back and ends have nothing to do with where tags have gone
		q.stack, q.kept = p.Stack, p.Keeps
	}
	for _, image := range images {
		q.images = append(q.images, asked{image: image, anew: !p.Back() && p.PullsAlways(image)})
	}
	for _, x := range back {
		q.images = append(q.images, asked{image: x.Image, digest: x.Digest})
	}
	p.Images = s.resolve(cl, q)
}

const whyOff = "nobody was asked (--pin-images off)"

// asked is one image to find out about.
type asked struct {
	image  string
	digest string // the content that it has to be; empty: to be found out
	anew   bool   // what it is in its registry counts, not what runs
}

// reference is what the masters and the registry are asked for.
func (a asked) reference() string {
	if a.digest != "" {
		return a.image + "@" + a.digest
	}
	return a.image
}

type question struct {
	images []asked
	never  func(image string) bool // no registry is asked for it

	// stack is whose pinned tags are looked at again, as far as kept says that they stay;
	// empty: nobody's.
	stack string
	kept  func(object.KeptImage) bool
}

// resolve finds out about images: what they stand for, and of pinned ones whether they
// are to be had. Those of the stack follow whose tag stands for something else by now.
func (s *session) resolve(cl *client.Client, q question) []object.PinnedImage {
	out := make([]object.PinnedImage, len(q.images))
	for i, a := range q.images {
		out[i] = object.PinnedImage{Image: a.image, Why: "there are too many images to ask for all"}
	}
	request := object.ImageQuestion{Stack: q.stack}
	for _, a := range q.images[:min(len(q.images), mostImages)] {
		request.Images = append(request.Images, a.reference())
		if a.anew {
			request.Anew = append(request.Anew, a.reference())
		}
	}
	if len(request.Images) == 0 && q.stack == "" {
		return out
	}
	known, err := cl.ResolveImages(s.ctx, request)
	for i := range request.Images {
		x := &out[i]
		if x.Why = "the masters could not be asked"; err == nil {
			*x = known.Images[i]
		}
		if x.Nowhere && q.never(q.images[i].image) {
			x.Gone, x.Why = true, "no node has it, and it is not to be pulled (pull = \"never\")"
		}
	}
	known.Kept = slices.DeleteFunc(known.Kept, func(x object.KeptImage) bool { return !q.kept(x) })
	if s.pin == "auto" {
		s.askRegistries(q, out[:len(request.Images)], known.Kept)
	}
	for i, a := range q.images {
		if x := &out[i]; a.digest != "" { // it comes back whoever has it
			x.Image, x.Digest, x.From = a.image, a.digest, object.PinnedByRevision
		}
	}
	for _, x := range known.Kept {
		if x.Now != "" && x.Now != x.Digest {
			out = append(out, x.PinnedImage)
		}
	}
	return out
}

// askRegistries asks for what the cluster does not know, or is not to say, and for
// what pinned tags stand for by now. These are not worth waiting for.
func (s *session) askRegistries(q question, images []object.PinnedImage, kept []object.KeptImage) {
	var unknown, moved []string
	for i := range images {
		if x, a := &images[i], q.images[i]; (x.Digest == "" || a.anew && !q.never(a.image)) && !x.Gone {
			unknown = append(unknown, a.reference())
		}
	}
	for _, x := range kept {
		if !x.Never && !slices.Contains(unknown, x.Image) {
			moved = append(moved, x.Image)
		}
	}
	takes := registryTakes
	if len(unknown) == 0 {
		takes = movedTakes
	}
	ctx, cancel := context.WithTimeout(s.ctx, takes)
	defer cancel()
	answers := registries.Digests(ctx, slices.Concat(unknown, moved))
	for i := range images {
		x := &images[i]
		a, asked := answers[q.images[i].reference()]
		switch {
		case !asked || x.Gone:
		case a.Digest != "":
			x.Digest, x.From, x.Why = a.Digest, object.PinnedByRegistry, ""
			x.Everywhere = false
		case x.Digest == "":
			x.Gone = a.Gone
			x.Why += "; " + a.Why
		}
	}
	for i := range kept {
		if x := &kept[i]; !x.Never {
			x.Now = answers[x.Image].Digest
		}
	}
}

// pinAnew finds out what the tags of a deployment's images stand for now: what to pin
// them to, and what to tell of it. What cannot be found out stays as it is.
func (s *session) pinAnew(cl *client.Client, d *object.Deployment) (map[string]string, []object.PinnedImage) {
	as := &object.Plan{Changes: []object.PlannedChange{{Ref: d.Ref(), After: object.Any{Object: object.WithPins(d, nil)}}}}
	had := object.PinsOf(d)
	q := question{never: as.PullsNever}
	for _, image := range as.ImagesToPin() {
		q.images = append(q.images, asked{image: image, anew: true})
	}
	var images []object.PinnedImage
	if s.pin == "off" {
		for _, a := range q.images {
			images = append(images, object.PinnedImage{Image: a.image, Why: whyOff})
		}
	} else {
		images = s.resolve(cl, q)
	}
	pins := map[string]string{}
	for i := range images {
		x := &images[i]
		switch was := had[x.Image]; {
		case x.Digest != "":
			pins[x.Image] = x.Digest
			if was != x.Digest {
				x.Was = was
			}
		case was != "":
			x.Digest, x.From = was, object.PinnedByPlan
		}
	}
	return pins, images
}
