package runtime

import (
	"context"
	"fmt"
	"strings"

	"github.com/berthdev/berth/node/runtime/container"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A content that a plan pinned has a name of its own on the node, repository@digest,
// beside the tag's. Containers are started by that name: a tag may be given to
// something else, and what pods were pinned to stays. What is imported gets both names,
// for nobody could bring it again once its tag has moved.

// taggedAs is the name that a reference with a tag and a digest has without the digest.
func taggedAs(ref string) string {
	n, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ""
	}
	if t, ok := n.(reference.Tagged); ok {
		return reference.TrimNamed(n).Name() + ":" + t.Tag()
	}
	return ""
}

// byContent finds the content of a name with a digest under any other, and gives it
// this one. Without one the error is a not found.
func (r *Runtime) byContent(ctx context.Context, name string) (containerd.Image, error) {
	_, digest, pinned := strings.Cut(name, "@")
	if !pinned {
		return nil, fmt.Errorf("image %s: %w", name, errdefs.ErrNotFound)
	}
	list, err := r.client.ImageService().List(ctx, fmt.Sprintf("target.digest==%q", digest))
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("image %s: %w", name, errdefs.ErrNotFound)
	}
	if err := r.name(ctx, name, list[0].Target); err != nil {
		return nil, err
	}
	return r.client.GetImage(ctx, name)
}

// name gives a content a name more; whoever has the name already keeps it.
func (r *Runtime) name(ctx context.Context, name string, target ocispec.Descriptor) error {
	_, err := r.client.ImageService().Create(ctx, images.Image{Name: name, Target: target, Labels: map[string]string{labelUsed: now()}})
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// byDigest is the name of an image by its content.
func byDigest(name string, target ocispec.Descriptor) string {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.TrimNamed(named).Name() + "@" + target.Digest.String()
}

// contrast adds to the error that a pinned content cannot be had what the node has
// under its tag instead, if that is something else: a person who looks sees the tag
// there.
func (r *Runtime) contrast(ctx context.Context, ref string, e *container.ImageError) *container.ImageError {
	_, wanted, pinned := strings.Cut(ref, "@")
	tag := taggedAs(ref)
	if !pinned || tag == "" {
		return e
	}
	img, err := r.client.GetImage(ctx, tag)
	if err != nil || img.Target().Digest.String() == wanted {
		return e
	}
	e.Hint = fmt.Sprintf("This node has %s as %s, but %s was pinned. Bring that content again, or pin what there is now: berth plan restart NAME", tag, img.Target().Digest, wanted)
	return e
}

// withoutTwins leaves out names by digest of contents that have another name of the
// same repository: nobody gave them.
func withoutTwins(list []images.Image) []images.Image {
	tagged := map[string]bool{}
	for _, img := range list {
		if !strings.Contains(img.Name, "@") {
			tagged[byDigest(img.Name, img.Target)] = true
		}
	}
	var out []images.Image
	for _, img := range list {
		if !tagged[img.Name] {
			out = append(out, img)
		}
	}
	return out
}
