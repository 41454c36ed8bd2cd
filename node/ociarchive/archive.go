// Package ociarchive turns a static binary into a container image: an OCI image
// layout in one tar file, which "berth image import", docker and containerd
// read. It needs no registry and no daemon, writes to any io.Writer, and for
// equal input writes equal bytes. It knows nothing else of Berth.
package ociarchive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Config is what the image says besides its content. Everything may be empty.
type Config struct {
	Entrypoint []string // default: the binary, as /<its base name>
	Args       []string // default arguments
	Env        []string // "KEY=value"
	WorkDir    string
	User       string // uid, uid:gid or a name of Files["/etc/passwd"]
	StopSignal string
	Labels     map[string]string
	Ports      []string // "8080/tcp"; for people, nothing is opened
	Arch       string   // default: the architecture of this machine, in Go's words
	// Files are put beside the binary, by absolute path, with mode 0644.
	Files map[string][]byte
}

// Write writes an image with the given name ("shop/web:1") whose content is the
// executable at binary. The executable must need no shared libraries, for there
// are none in the image: build it with CGO_ENABLED=0.
func Write(w io.Writer, name, binary string, c Config) error {
	if strings.TrimSpace(name) == "" {
		return errors.New("an image needs a name, for example shop/web:1")
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("program of image %s: %w", name, err)
	}
	target := "/" + path.Base(binary)
	layer, diffID, err := layer(target, program, c.Files)
	if err != nil {
		return fmt.Errorf("layer of image %s: %w", name, err)
	}
	if len(c.Entrypoint) == 0 {
		c.Entrypoint = []string{target}
	}
	if c.Arch == "" {
		c.Arch = runtime.GOARCH
	}
	ports := map[string]struct{}{}
	for _, p := range c.Ports {
		ports[p] = struct{}{}
	}
	image := ocispec.Image{
		Platform: ocispec.Platform{Architecture: c.Arch, OS: "linux"},
		Config: ocispec.ImageConfig{
			Entrypoint: c.Entrypoint, Cmd: c.Args, Env: c.Env, WorkingDir: c.WorkDir, User: c.User,
			StopSignal: c.StopSignal, Labels: c.Labels, ExposedPorts: ports,
		},
		RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID}},
	}
	a := archive{tar: tar.NewWriter(w)}
	config := a.blob(ocispec.MediaTypeImageConfig, encode(image))
	manifest := a.blob(ocispec.MediaTypeImageManifest, encode(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: config, Layers: []ocispec.Descriptor{a.blob(ocispec.MediaTypeImageLayerGzip, layer)},
	}))
	manifest.Platform = &image.Platform
	manifest.Annotations = map[string]string{ocispec.AnnotationRefName: name}
	a.file("index.json", encode(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{manifest},
	}))
	a.file(ocispec.ImageLayoutFile, encode(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}))
	if a.err == nil {
		a.err = a.tar.Close()
	}
	if a.err != nil {
		return fmt.Errorf("write image %s: %w", name, a.err)
	}
	return nil
}

// layer is the compressed file system, and the digest of it uncompressed.
func layer(target string, program []byte, files map[string][]byte) ([]byte, digest.Digest, error) {
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	sum := sha256.New()
	a := archive{tar: tar.NewWriter(io.MultiWriter(zip, sum))}
	content := map[string][]byte{}
	var dirs []string
	for p, b := range files {
		p = path.Clean("/" + p)
		content[p] = b
		for d := path.Dir(p); d != "/"; d = path.Dir(d) {
			dirs = append(dirs, d)
		}
	}
	dirs = append(dirs, "/tmp", "/etc", "/proc", "/sys", "/dev")
	content[target] = program
	slices.Sort(dirs)
	for _, d := range slices.Compact(dirs) {
		mode := int64(0o755)
		if d == "/tmp" {
			mode = 0o1777
		}
		a.add(&tar.Header{Typeflag: tar.TypeDir, Name: d[1:] + "/", Mode: mode}, nil)
	}
	var paths []string
	for p := range content {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	for _, p := range paths {
		mode := int64(0o644)
		if p == target {
			mode = 0o755
		}
		a.add(&tar.Header{Typeflag: tar.TypeReg, Name: p[1:], Mode: mode, Size: int64(len(content[p]))}, content[p])
	}
	err := errors.Join(a.err, a.tar.Close(), zip.Close())
	return out.Bytes(), digest.NewDigest(digest.SHA256, sum), err
}

// archive writes files into a tar; the first error sticks.
type archive struct {
	tar *tar.Writer
	err error
}

func (a *archive) add(h *tar.Header, b []byte) {
	if a.err != nil {
		return
	}
	h.ModTime = time.Unix(0, 0) // equal input, equal bytes
	if a.err = a.tar.WriteHeader(h); a.err == nil {
		_, a.err = a.tar.Write(b)
	}
}

func (a *archive) file(name string, b []byte) {
	a.add(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(b))}, b)
}

func (a *archive) blob(mediaType string, b []byte) ocispec.Descriptor {
	d := digest.FromBytes(b)
	a.file("blobs/sha256/"+d.Encoded(), b)
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
}

// encode cannot fail: the values are the OCI's own structs.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return b
}
