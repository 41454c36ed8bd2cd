package runtime

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/berthdev/berth/node/runtime/container"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

const (
	labelUsed    = "berth.dev/used" // of an image: when it was last used, RFC 3339
	usedInterval = time.Hour        // how exactly
)

// imageConfig is what starting a container needs of an image.
type imageConfig struct {
	chain  string // key of the snapshot with all its layers
	config ocispec.ImageConfig
}

// NormalizeImage gives a reference in full, as docker reads it:
// "shop/web:1" is "docker.io/shop/web:1", "nginx" is "docker.io/library/nginx:latest".
func NormalizeImage(ref string) (string, error) {
	n, err := reference.ParseDockerRef(ref)
	if err != nil {
		return "", &container.ImageError{Ref: ref, Fault: container.ImageInvalid, Err: err,
			Hint: "write registry/repository:tag, or repository@sha256:… to pin the content"}
	}
	return n.String(), nil
}

// PullImage makes an image present on the node and unpacks it. It asks no
// registry under policy "never", nor under "missing" when the image is there; one
// with a digest is there if that content is, whatever its name. What comes by its
// digest gets the tag, too, if one is given and nothing here has it. Faults are *container.ImageError; a containerd that does not answer is an
// *container.UnavailableError.
func (r *Runtime) PullImage(ctx context.Context, ref string, auth *container.Auth, policy string) (container.Image, error) {
	name, err := NormalizeImage(ref)
	if err != nil {
		return container.Image{}, err
	}
	ctx = r.ns(ctx)
	unlock, err := r.lockPull(ctx, name)
	if err != nil {
		return container.Image{}, err
	}
	defer unlock()
	if policy != container.PullAlways {
		img, err := r.client.GetImage(ctx, name)
		if errdefs.IsNotFound(err) {
			img, err = r.byContent(ctx, name)
		}
		if err == nil {
			return r.present(ctx, img)
		}
		if !errdefs.IsNotFound(err) {
			return container.Image{}, r.unavailable(err)
		}
		if policy == container.PullNever {
			return container.Image{}, r.contrast(ctx, ref, &container.ImageError{Ref: ref, Fault: container.ImageAbsent,
				Hint: `bring it with "berth image import ARCHIVE", or allow pulling with pull = "missing"`})
		}
	}
	img, err := r.client.Pull(ctx, name,
		containerd.WithResolver(r.resolver(auth)),
		containerd.WithPullUnpack,
		containerd.WithPullSnapshotter(r.snapshotter),
		containerd.WithPullLabels(map[string]string{labelUsed: now()}),
	)
	if err != nil {
		return container.Image{}, r.imageFault(ctx, ref, err)
	}
	if tag := taggedAs(ref); tag != "" && tag != name {
		if err := r.name(ctx, tag, img.Target()); err != nil {
			return container.Image{}, r.unavailable(err)
		}
	}
	return container.Image{Name: name, Digest: img.Target().Digest.String(), Used: time.Now(), Pulled: true}, nil
}

// present describes an image that is there, unpacking it if that is missing.
func (r *Runtime) present(ctx context.Context, img containerd.Image) (container.Image, error) {
	if _, err := r.imageConfig(ctx, img); err != nil {
		return container.Image{}, err
	}
	r.markUsed(ctx, img)
	return container.Image{Name: img.Name(), Digest: img.Target().Digest.String(), Used: time.Now()}, nil
}

// lockPull makes concurrent pulls of one image wait for one another, so that all
// but the first find it there.
func (r *Runtime) lockPull(ctx context.Context, name string) (unlock func(), err error) {
	for {
		r.mu.Lock()
		busy := r.pulls[name]
		if busy == nil {
			done := make(chan struct{})
			r.pulls[name] = done
			r.mu.Unlock()
			return func() {
				r.mu.Lock()
				delete(r.pulls, name)
				r.mu.Unlock()
				close(done)
			}, nil
		}
		r.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// resolver speaks to registries with the given credentials.
func (r *Runtime) resolver(auth *container.Auth) remotes.Resolver {
	transport := docker.DefaultHTTPTransport(nil)
	transport.ResponseHeaderTimeout = 30 * time.Second
	client := &http.Client{Transport: transport}
	authorizer := docker.NewDockerAuthorizer(
		docker.WithAuthClient(client),
		docker.WithAuthCreds(func(host string) (string, string, error) {
			if host == "registry-1.docker.io" {
				host = "docker.io" // its API has another name than its images
			}
			username, password := auth.For(host)
			return username, password, nil
		}))
	return docker.NewResolver(docker.ResolverOptions{
		Hosts: docker.ConfigureDefaultRegistries(
			docker.WithClient(client),
			docker.WithAuthorizer(authorizer),
			docker.WithPlainHTTP(func(host string) (bool, error) {
				return loopback(host) || slices.Contains(r.cfg.Insecure, host), nil
			})),
	})
}

func loopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// imageFault sorts the errors of a pull.
func (r *Runtime) imageFault(ctx context.Context, ref string, err error) error {
	e := &container.ImageError{Ref: ref, Err: err}
	var status remoteerrors.ErrUnexpectedStatus
	text := err.Error()
	switch {
	case noSpace(err):
		return withoutSpace(ref, err)
	case ctx.Err() != nil:
		e.Fault, e.Hint = container.ImageUnreachable, "it took too long"
	case errors.As(err, &status) && (status.StatusCode == 401 || status.StatusCode == 403),
		errors.Is(err, docker.ErrInvalidAuthorization), strings.Contains(text, "insufficient_scope"),
		strings.Contains(text, "401 Unauthorized"), strings.Contains(text, "403 Forbidden"):
		e.Fault = container.ImageUnauthorized
		e.Hint = "check the name, and give the registry's username and password in a secret named by registry_secret"
	case errors.As(err, &status):
		e.Fault, e.Hint = container.ImageUnreachable, "the registry answers, but not well; it is tried again"
	case strings.Contains(text, "no match for platform"):
		e.Fault, e.Hint = container.ImageInvalid, "the image has no variant for this node's processor"
	case errdefs.IsNotFound(err):
		e.Fault, e.Hint = container.ImageNotFound, "check the name and the tag"
	case r.Health() != nil:
		return r.unavailable(err)
	default:
		e.Fault, e.Hint = container.ImageUnreachable, "check the registry's name and this node's network"
	}
	return r.contrast(context.WithoutCancel(ctx), ref, e)
}

// ImportImage reads an OCI or docker archive (tar, gzipped or not), unpacks its
// images and returns their full names.
func (r *Runtime) ImportImage(ctx context.Context, archive io.Reader) ([]string, error) {
	ctx = r.ns(ctx)
	plain, err := compression.DecompressStream(archive)
	if err != nil {
		return nil, importFault(err)
	}
	defer plain.Close()
	imported, err := r.client.Import(ctx, plain,
		containerd.WithImageRefTranslator(func(ref string) string {
			if n, err := NormalizeImage(ref); err == nil {
				return n
			}
			return ref
		}),
		containerd.WithImageLabels(map[string]string{labelUsed: now()}))
	if err != nil {
		if h := r.Health(); h != nil {
			return nil, h
		}
		return nil, importFault(err)
	}
	if len(imported) == 0 {
		return nil, importFault(errors.New("no image in it has a name"))
	}
	var names []string
	for _, img := range imported {
		name, err := NormalizeImage(img.Name)
		if err != nil {
			return names, err
		}
		if name != img.Name {
			if err := r.rename(ctx, img, name); err != nil {
				return names, err
			}
			img.Name = name
		}
		if err := r.name(ctx, byDigest(name, img.Target), img.Target); err != nil {
			return names, r.unavailable(err)
		}
		if _, err := r.imageConfig(ctx, containerd.NewImage(r.client, img)); err != nil {
			return names, err
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// noSpace reports whether a disk is full; containerd sends its errors as text.
func noSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) ||
		strings.Contains(err.Error(), unix.ENOSPC.Error()) || strings.Contains(err.Error(), unix.EDQUOT.Error())
}

func withoutSpace(ref string, err error) error {
	return &container.ImageError{Ref: ref, Fault: container.ImageNoSpace, Err: err,
		Hint: "remove images or other files from the node, or give its data directory a larger disk; it is tried again"}
}

func importFault(err error) error {
	if noSpace(err) {
		return withoutSpace("archive", err)
	}
	return &container.ImageError{Ref: "archive", Fault: container.ImageInvalid, Err: err,
		Hint: "give an OCI or docker archive whose images are named, as docker save NAME:TAG writes it"}
}

func (r *Runtime) rename(ctx context.Context, img images.Image, name string) error {
	old := img.Name
	img.Name = name
	store := r.client.ImageService()
	_, err := store.Update(ctx, img, "target", "labels")
	if errdefs.IsNotFound(err) {
		_, err = store.Create(ctx, img)
	}
	if err == nil {
		err = store.Delete(ctx, old)
	}
	return r.unavailable(err)
}

// ListImages lists the images on the node by name; by digest those whose tag has gone
// to another, or that never had one.
func (r *Runtime) ListImages(ctx context.Context) ([]container.Image, error) {
	ctx = r.ns(ctx)
	list, err := r.client.ImageService().List(ctx)
	if err != nil {
		return nil, r.unavailable(err)
	}
	var out []container.Image
	for _, img := range withoutTwins(list) {
		size, err := containerd.NewImage(r.client, img).Size(ctx)
		if err != nil {
			size = 0 // removed meanwhile, or of another platform
		}
		out = append(out, container.Image{Name: img.Name, Digest: img.Target.Digest.String(), Size: size, Used: usedAt(img)})
	}
	slices.SortFunc(out, func(a, b container.Image) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// RemoveImage removes an image by name, and its name by digest; containers that run keep its layers.
func (r *Runtime) RemoveImage(ctx context.Context, ref string) error {
	name, err := NormalizeImage(ref)
	if err != nil {
		return err
	}
	ctx = r.ns(ctx)
	store := r.client.ImageService()
	img, err := store.Get(ctx, name)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return r.unavailable(err)
	}
	for _, n := range []string{byDigest(name, img.Target), name} {
		if err = store.Delete(ctx, n, images.SynchronousDelete()); err != nil && !errdefs.IsNotFound(err) {
			return r.unavailable(err)
		}
	}
	return nil
}

// image finds an image that a container is to be started from.
func (r *Runtime) image(ctx context.Context, ref string) (containerd.Image, imageConfig, error) {
	name, err := NormalizeImage(ref)
	if err != nil {
		return nil, imageConfig{}, err
	}
	img, err := r.client.GetImage(ctx, name)
	if errdefs.IsNotFound(err) {
		return nil, imageConfig{}, &container.ImageError{Ref: ref, Fault: container.ImageAbsent, Hint: "pull or import it first"}
	}
	if err != nil {
		return nil, imageConfig{}, r.unavailable(err)
	}
	c, err := r.imageConfig(ctx, img)
	return img, c, err
}

// imageConfig reads an image's configuration, once for each digest, and makes
// sure that it is unpacked.
func (r *Runtime) imageConfig(ctx context.Context, img containerd.Image) (imageConfig, error) {
	key := img.Target().Digest.String()
	r.mu.Lock()
	c, ok := r.configs[key]
	r.mu.Unlock()
	if ok {
		return c, nil
	}
	fault := func(err error) error {
		if noSpace(err) {
			return withoutSpace(img.Name(), err)
		}
		if h := r.Health(); h != nil {
			return h
		}
		return &container.ImageError{Ref: img.Name(), Fault: container.ImageInvalid, Err: err,
			Hint: "remove it from the node and pull or import it again"}
	}
	if err := img.Unpack(ctx, r.snapshotter); err != nil {
		return c, fault(err)
	}
	layers, err := img.RootFS(ctx)
	if err != nil {
		return c, fault(err)
	}
	c.chain = identity.ChainID(append([]digest.Digest(nil), layers...)).String()
	desc, err := img.Config(ctx)
	if err != nil {
		return c, fault(err)
	}
	b, err := content.ReadBlob(ctx, r.client.ContentStore(), desc)
	if err != nil {
		return c, fault(err)
	}
	var whole ocispec.Image
	if err := json.Unmarshal(b, &whole); err != nil {
		return c, fault(fmt.Errorf("configuration: %w", err))
	}
	c.config = whole.Config
	r.mu.Lock()
	r.configs[key] = c
	r.mu.Unlock()
	return c, nil
}

// forget makes the next use of an image look at containerd again.
func (r *Runtime) forget(img containerd.Image) {
	r.mu.Lock()
	delete(r.configs, img.Target().Digest.String())
	r.mu.Unlock()
}

// imageUse is when an image was last used, and when that was last written into
// its label.
type imageUse struct{ seen, written time.Time }

// markUsed remembers that an image is in use, and writes it down at most once an
// hour.
func (r *Runtime) markUsed(ctx context.Context, img containerd.Image) {
	r.mu.Lock()
	use, ok := r.used[img.Name()]
	if !ok {
		use.written = usedAt(img.Metadata())
	}
	use.seen = time.Now()
	due := time.Since(use.written) > usedInterval
	if due {
		use.written = use.seen
	}
	r.used[img.Name()] = use
	r.mu.Unlock()
	if !due {
		return
	}
	m := img.Metadata()
	m.Labels = map[string]string{labelUsed: now()}
	if _, err := r.client.ImageService().Update(ctx, m, "labels."+labelUsed); err != nil && ctx.Err() == nil {
		r.log.Warn("image use not recorded", "image", img.Name(), "error", err)
	}
}

func usedAt(img images.Image) time.Time {
	if t, err := time.Parse(time.RFC3339, img.Labels[labelUsed]); err == nil {
		return t
	}
	return img.UpdatedAt
}

func now() string { return time.Now().UTC().Format(time.RFC3339) }

// pinnedImage is an image's name with its digest instead of its tag.
func pinnedImage(img containerd.Image) string { return byDigest(img.Name(), img.Target()) }

// shortHash names things by content, in paths and ids.
func shortHash(parts ...string) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(parts, "\x00"))))[:12]
}
