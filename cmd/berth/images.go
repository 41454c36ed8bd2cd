package main

import (
	"context"
	"time"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cmd/internal/registries"
)

// PinFlag says whom to ask which content the tags of images stand for.
type PinFlag struct {
	PinImages string `enum:"auto,cluster,off" default:"auto" env:"BERTH_PIN_IMAGES" help:"Whom to ask which content the tags of images stand for: auto (pods and nodes, then the registries of what they do not know), cluster, off."`
}

// registryTakes is how long a plan waits for registries.
const registryTakes = 3 * time.Second

// pinImages writes into the plan which content the tags in it stand for, as far as
// anybody can say. What cannot be found out is said in the plan, and stops nothing.
func (s *session) pinImages(cl *client.Client, p *object.Plan) {
	images := p.ImagesToPin()
	if s.pin == "off" || len(images) == 0 {
		return
	}
	p.Images = make([]object.PinnedImage, len(images))
	for i, image := range images {
		p.Images[i] = object.PinnedImage{Image: image, Why: "there are too many images to ask for all"}
	}
	if len(images) > 1000 {
		images = images[:1000]
	}
	known, err := cl.ResolveImages(s.ctx, images)
	for i := range images {
		if p.Images[i].Why = "the masters could not be asked"; err == nil {
			p.Images[i] = known[i]
		}
		if x := &p.Images[i]; x.Absent && p.NeverPulled(x.Image) {
			x.Gone, x.Why = true, `no pod runs it, no node has it, and pull = "never" forbids to fetch it`
		}
	}
	if s.pin != "auto" {
		return
	}
	var unknown []string
	for _, x := range p.Images[:len(images)] {
		if x.Digest == "" && !x.Gone {
			unknown = append(unknown, x.Image)
		}
	}
	if len(unknown) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, registryTakes)
	defer cancel()
	answers := registries.Digests(ctx, unknown)
	for i := range images {
		x := &p.Images[i]
		a, asked := answers[x.Image]
		switch {
		case !asked:
		case a.Digest != "":
			x.Digest, x.From, x.Why = a.Digest, object.PinnedByRegistry, ""
		default:
			x.Gone = a.Gone
			x.Why += "; " + a.Why
		}
	}
}
