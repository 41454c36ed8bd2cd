package ociarchive

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func write(t *testing.T, name string, c Config) []byte {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "web")
	if err := os.WriteFile(binary, []byte("#!program"), 0o755); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := Write(&b, name, binary, c); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWrite(t *testing.T) {
	c := Config{Env: []string{"A=b"}, Args: []string{"serve"}, User: "7:8", Ports: []string{"80/tcp"}, Arch: "arm64",
		Files: map[string][]byte{"/etc/passwd": []byte("root"), "/www/index.html": []byte("hello")}}
	archive := write(t, "shop/web:1", c)
	if !bytes.Equal(archive, write(t, "shop/web:1", c)) {
		t.Error("equal input gave different bytes")
	}
	files := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
		if hex, ok := strings.CutPrefix(h.Name, "blobs/sha256/"); ok && digest.FromBytes(files[h.Name]).Encoded() != hex {
			t.Errorf("%s has another content than its name says", h.Name)
		}
	}
	decode := func(d digest.Digest, into any) {
		t.Helper()
		if err := json.Unmarshal(files["blobs/sha256/"+d.Encoded()], into); err != nil {
			t.Fatal(err)
		}
	}
	var index ocispec.Index
	if err := json.Unmarshal(files["index.json"], &index); err != nil || len(index.Manifests) != 1 {
		t.Fatalf("index: %v, %+v", err, index)
	}
	if n := index.Manifests[0].Annotations[ocispec.AnnotationRefName]; n != "shop/web:1" {
		t.Errorf("name %q", n)
	}
	var m ocispec.Manifest
	decode(index.Manifests[0].Digest, &m)
	var img ocispec.Image
	decode(m.Config.Digest, &img)
	if img.Architecture != "arm64" || img.Config.User != "7:8" || img.Config.Entrypoint[0] != "/web" || img.Config.Cmd[0] != "serve" {
		t.Errorf("configuration %+v", img)
	}
	if len(m.Layers) != 1 || int64(len(files["blobs/sha256/"+m.Layers[0].Digest.Encoded()])) != m.Layers[0].Size {
		t.Errorf("layers %+v", m.Layers)
	}
}

func TestWriteErrors(t *testing.T) {
	if err := Write(io.Discard, "a:1", "/no/such/file", Config{}); err == nil || !strings.Contains(err.Error(), "/no/such/file") {
		t.Errorf("missing binary: %v", err)
	}
	if err := Write(io.Discard, " ", os.Args[0], Config{}); err == nil {
		t.Error("an image without a name was written")
	}
	if err := Write(failing{}, "a:1", os.Args[0], Config{}); err == nil {
		t.Error("a failing writer was not noticed")
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrShortWrite }
