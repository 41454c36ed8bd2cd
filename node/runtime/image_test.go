package runtime

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berthdev/berth/node/runtime/container"
	"github.com/berthdev/berth/node/runtime/runtimetest"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	ggcr "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"
)

func TestNormalizeImage(t *testing.T) {
	for ref, want := range map[string]string{
		"nginx": "docker.io/library/nginx:latest", "shop/web:1": "docker.io/shop/web:1",
		"localhost:5000/a": "localhost:5000/a:latest", "ghcr.io/a/b:c": "ghcr.io/a/b:c",
		"a:1@sha256:" + strings.Repeat("0", 64): "docker.io/library/a@sha256:" + strings.Repeat("0", 64),
	} {
		if got, err := NormalizeImage(ref); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", ref, got, err, want)
		}
	}
	for _, ref := range []string{"", "A", "a b", "a:b:c"} {
		if got, err := NormalizeImage(ref); err == nil {
			t.Errorf("%q gave %s", ref, got)
		}
	}
}

// testRegistry counts requests, and demands alice's password below /v2/private.
func testRegistry(t *testing.T) (host string, requests *atomic.Int64) {
	t.Helper()
	requests = &atomic.Int64{}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if u, p, _ := r.BasicAuth(); strings.HasPrefix(r.URL.Path, "/v2/private/") && (u != "alice" || p != "secret") && r.Header.Get("X-Setup") == "" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"who are you?"}]}`, http.StatusUnauthorized)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/v2/broken/") {
			http.Error(w, "out of order", http.StatusServiceUnavailable)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://"), requests
}

type setupTransport struct{}

func (setupTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Setup", "1")
	return http.DefaultTransport.RoundTrip(r)
}

func randomImage(t *testing.T) ggcr.Image {
	t.Helper()
	return imageOf(t, 1024)
}

// imageOf has one layer of so many random bytes.
func imageOf(t *testing.T, size int64) ggcr.Image {
	t.Helper()
	layer, err := random.Layer(size, "application/vnd.docker.image.rootfs.diff.tar.gzip")
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	conf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	conf = conf.DeepCopy()
	conf.OS, conf.Architecture = "linux", "amd64"
	if img, err = mutate.ConfigFile(img, conf); err != nil {
		t.Fatal(err)
	}
	return img
}

func push(t *testing.T, ref string) (digest string) {
	t.Helper()
	img := randomImage(t)
	r, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(r, img, remote.WithTransport(setupTransport{})); err != nil {
		t.Fatal(err)
	}
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

func TestRegistry(t *testing.T) {
	r := open(t, testConfig(t))
	t.Cleanup(func() { r.Close() })
	host, requests := testRegistry(t)
	ctx := t.Context()
	pull := func(ref string, auth *container.Auth, policy string) (container.Image, container.ImageFault) {
		t.Helper()
		img, err := r.PullImage(ctx, ref, auth, policy)
		var fault *container.ImageError
		if err != nil && !errors.As(err, &fault) {
			t.Fatalf("pull %s: %T %v", ref, err, err)
		}
		if fault != nil {
			if fault.Hint == "" {
				t.Errorf("no cure in %v", err)
			}
			return img, fault.Fault
		}
		return img, ""
	}
	first := push(t, host+"/shop/web:1")
	if img, fault := pull(host+"/shop/web:1", nil, container.PullMissing); fault != "" || img.Digest != first {
		t.Errorf("pull: %+v, %s", img, fault)
	}
	second := push(t, host+"/shop/web:1")
	before := requests.Load()
	if img, fault := pull(host+"/shop/web:1", nil, container.PullMissing); fault != "" || img.Digest != first || requests.Load() != before {
		t.Errorf("missing, but present: %+v, %s, %d requests", img, fault, requests.Load()-before)
	}
	if img, fault := pull(host+"/shop/web:1", nil, container.PullAlways); fault != "" || img.Digest != second {
		t.Errorf("always: %+v, %s", img, fault)
	}
	if img, fault := pull(host+"/shop/web@"+first, nil, container.PullMissing); fault != "" || img.Digest != first {
		t.Errorf("pinned: %+v, %s", img, fault)
	}
	push(t, host+"/private/web:1")
	push(t, host+"/private/other:1")
	for _, c := range []struct {
		ref  string
		auth *container.Auth
		want container.ImageFault
	}{
		{host + "/shop/web:missing", nil, container.ImageNotFound},
		{host + "/nothing/here:1", nil, container.ImageNotFound},
		{host + "/shop/web@sha256:" + strings.Repeat("0", 64), nil, container.ImageNotFound},
		{host + "/private/web:1", nil, container.ImageUnauthorized},
		{host + "/private/web:1", &container.Auth{Username: "alice", Password: "wrong"}, container.ImageUnauthorized},
		{host + "/private/web:1", &container.Auth{Username: "alice", Password: "secret", Registry: "elsewhere.example"}, container.ImageUnauthorized},
		{host + "/private/web:1", &container.Auth{Username: "alice", Password: "secret", Registry: host}, ""},
		{host + "/private/other:1", &container.Auth{Username: "alice", Password: "secret"}, ""},
		{host + "/broken/web:1", nil, container.ImageUnreachable},
		{"127.0.0.1:1/web:1", nil, container.ImageUnreachable},
	} {
		if _, got := pull(c.ref, c.auth, container.PullMissing); got != c.want {
			t.Errorf("%s with %+v: %q, want %q", c.ref, c.auth, got, c.want)
		}
	}
	before = requests.Load()
	if _, fault := pull(host+"/shop/other:1", nil, container.PullNever); fault != container.ImageAbsent || requests.Load() != before {
		t.Errorf("never: %q, %d requests", fault, requests.Load()-before)
	}

	push(t, host+"/shop/many:1")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, err := r.PullImage(ctx, host+"/shop/many:1", nil, container.PullMissing); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// TestPinnedContent: what a plan pinned is pulled by its digest and stays, wherever the
// tag goes; nothing else is ever run in its place.
func TestPinnedContent(t *testing.T) {
	r := open(t, testConfig(t))
	t.Cleanup(func() { r.Close() })
	host, requests := testRegistry(t)
	ctx := t.Context()
	tag := host + "/shop/web:1"
	first := push(t, tag)
	second := push(t, tag)
	names := func() map[string]string {
		t.Helper()
		list, err := r.ListImages(ctx)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, i := range list {
			if strings.HasPrefix(i.Name, host) {
				out[i.Name] = i.Digest
			}
		}
		return out
	}
	got, err := r.PullImage(ctx, tag+"@"+first, nil, container.PullMissing)
	if err != nil || got.Digest != first || !got.Pulled || got.Name != host+"/shop/web@"+first {
		t.Fatalf("by its digest: %+v, %v", got, err)
	}
	if have := names(); len(have) != 1 || have[tag] != first {
		t.Errorf("the node has %v, want %s by its tag", have, first)
	}
	if got, err := r.PullImage(ctx, tag, nil, container.PullAlways); err != nil || got.Digest != second {
		t.Fatalf("the tag: %+v, %v", got, err)
	}
	before := requests.Load()
	for _, policy := range []string{container.PullMissing, container.PullNever} {
		if got, err := r.PullImage(ctx, tag+"@"+first, nil, policy); err != nil || got.Digest != first || got.Pulled {
			t.Errorf("%s, after the tag has moved: %+v, %v", policy, got, err)
		}
	}
	if n := requests.Load() - before; n != 0 {
		t.Errorf("%d requests for what is there", n)
	}
	if have := names(); len(have) != 2 || have[tag] != second || have[host+"/shop/web@"+first] != first {
		t.Errorf("the node has %v", have)
	}
	// The same content by another name is the same content.
	if got, err := r.PullImage(ctx, host+"/mirror/web:1@"+second, nil, container.PullNever); err != nil || got.Digest != second {
		t.Errorf("by another name: %+v, %v", got, err)
	}
	if got, err := r.PullImage(ctx, tag+"@"+second, nil, container.PullAlways); err != nil || got.Digest != second || !got.Pulled {
		t.Errorf("always: %+v, %v", got, err)
	}
	gone := "sha256:" + strings.Repeat("0", 64)
	for _, c := range []struct {
		policy string
		want   container.ImageFault
	}{{container.PullNever, container.ImageAbsent}, {container.PullMissing, container.ImageNotFound}, {container.PullAlways, container.ImageNotFound}} {
		_, err := r.PullImage(ctx, tag+"@"+gone, nil, c.policy)
		var fault *container.ImageError
		if !errors.As(err, &fault) || fault.Fault != c.want || !strings.Contains(fault.Hint, second) || !strings.Contains(fault.Hint, gone) {
			t.Errorf("%s of a content that is gone: %v, %+v", c.policy, err, fault)
		}
	}
	if err := r.RemoveImage(ctx, host+"/shop/web@"+first); err != nil {
		t.Error(err)
	}
	if _, err := r.PullImage(ctx, tag+"@"+first, nil, container.PullNever); err == nil {
		t.Error("a removed image is still there")
	}
}

// TestImportKeepsFormerContent: an archive that is imported again under the same name
// takes nothing from those who were pinned to the one before.
func TestImportKeepsFormerContent(t *testing.T) {
	r := open(t, testConfig(t))
	t.Cleanup(func() { r.Close() })
	tag, err := name.NewTag("shop/again:1")
	if err != nil {
		t.Fatal(err)
	}
	var digests []string
	for range 2 {
		var b bytes.Buffer
		if err := tarball.Write(tag, randomImage(t), &b); err != nil {
			t.Fatal(err)
		}
		if _, err := r.ImportImage(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		img, err := r.PullImage(t.Context(), "shop/again:1", nil, container.PullNever)
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, img.Digest)
	}
	if digests[0] == digests[1] {
		t.Fatal("the two are the same")
	}
	for _, d := range digests {
		if img, err := r.PullImage(t.Context(), "shop/again:1@"+d, nil, container.PullNever); err != nil || img.Digest != d {
			t.Errorf("%s: %+v, %v", d, img, err)
		}
	}
}

func TestImportDockerArchive(t *testing.T) {
	r := open(t, testConfig(t))
	t.Cleanup(func() { r.Close() })
	tag, err := name.NewTag("shop/docker:2")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	if err := tarball.Write(tag, randomImage(t), zip); err != nil {
		t.Fatal(err)
	}
	zip.Close()
	names, err := r.ImportImage(t.Context(), &b)
	if err != nil || len(names) != 1 || names[0] != "docker.io/shop/docker:2" {
		t.Fatalf("%q, %v", names, err)
	}
	if _, err := r.PullImage(t.Context(), "shop/docker:2", nil, container.PullNever); err != nil {
		t.Error(err)
	}
}

func TestCollect(t *testing.T) {
	c := testConfig(t)
	r := open(t, c)
	t.Cleanup(func() { r.Close() })
	w := runtimetest.NewWorld(t, r)
	p := w.For(t)
	p.Start(p.Spec("web", "wait"))
	if _, err := r.ImportImage(t.Context(), bytes.NewReader(otherArchive(t))); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Collect(t.Context(), CollectPolicy{UnusedFor: time.Hour, LogsFor: time.Hour}); err != nil || len(got.Images) != 0 {
		t.Errorf("young images: %+v, %v", got, err)
	}
	if got, err := r.Collect(t.Context(), CollectPolicy{DiskPercent: 101}); err != nil || len(got.Images) != 0 {
		t.Errorf("enough disk: %+v, %v", got, err)
	}
	got, err := r.Collect(t.Context(), CollectPolicy{})
	if err != nil || len(got.Images) != 2 || !slices.Contains(got.Images, "docker.io/shop/unused:1") || got.Logs != 0 {
		t.Errorf("collected %+v, %v", got, err)
	}
	if code, _ := p.Run(p.Spec("job", "exit", "0")); code != 0 {
		t.Error("the image in use is damaged")
	}
}

func otherArchive(t *testing.T) []byte {
	t.Helper()
	tag, err := name.NewTag("shop/unused:1")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := tarball.Write(tag, randomImage(t), &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestFullDisk: an image that does not fit is not called a bad one, containers that
// run go on, and once there is room it fits.
func TestFullDisk(t *testing.T) {
	c := testConfig(t)
	if err := os.MkdirAll(c.Root, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", c.Root, "tmpfs", 0, "size=64m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(c.Root, unix.MNT_DETACH) }) // before the purge, which then finds nothing to keep
	r := open(t, c)
	t.Cleanup(func() {
		if err := r.Purge(context.Background()); err != nil {
			t.Error(err)
		}
	})
	p := runtimetest.NewWorld(t, r).For(t)
	s := p.Start(p.Spec("web", "wait"))
	img := imageOf(t, 40<<20)
	tag, err := name.NewTag("test/large:1")
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := tarball.Write(tag, img, &archive); err != nil {
		t.Fatal(err)
	}
	host, _ := testRegistry(t)
	ref, err := name.ParseReference(host+"/shop/large:1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img, remote.WithTransport(setupTransport{})); err != nil {
		t.Fatal(err)
	}
	for what, bring := range map[string]func() error{
		"import": func() error { _, err := r.ImportImage(t.Context(), bytes.NewReader(archive.Bytes())); return err },
		"pull": func() error {
			_, err := r.PullImage(t.Context(), host+"/shop/large:1", nil, container.PullMissing)
			return err
		},
	} {
		var fault *container.ImageError
		if err := bring(); !errors.As(err, &fault) || fault.Fault != container.ImageNoSpace || fault.Hint == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
	if st, ok := p.Status(s.ID); !ok || st.State != container.Running || r.Health() != nil {
		t.Errorf("with a full disk: %+v, %v", st, r.Health())
	}
	if err := unix.Mount("tmpfs", c.Root, "tmpfs", unix.MS_REMOUNT, "size=512m"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.PullImage(t.Context(), host+"/shop/large:1", nil, container.PullMissing); err != nil {
		t.Errorf("with room: %v", err)
	}
}
