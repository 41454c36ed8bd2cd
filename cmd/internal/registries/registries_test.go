package registries

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const digest = "sha256:d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35"

func TestDigests(t *testing.T) {
	home := t.TempDir()
	t.Setenv("DOCKER_CONFIG", home)
	server := func(private bool) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if name, password, _ := r.BasicAuth(); private && (name != "ann" || password != "let me in") {
				w.Header().Set("WWW-Authenticate", `Basic realm="images"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			switch {
			case strings.HasSuffix(r.URL.Path, "/manifests/1"):
				w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
				w.Header().Set("Docker-Content-Digest", digest)
				w.Header().Set("Content-Length", "100")
			case strings.HasSuffix(r.URL.Path, "/manifests/broken"):
				w.WriteHeader(http.StatusInternalServerError)
			default:
				http.NotFound(w, r)
			}
		}))
		t.Cleanup(s.Close)
		return strings.TrimPrefix(s.URL, "http://")
	}
	open, known, unknown := server(false), server(true), server(true)
	auth := base64.StdEncoding.EncodeToString([]byte("ann:let me in"))
	if err := os.WriteFile(filepath.Join(home, "config.json"), fmt.Appendf(nil, `{"auths": {"http://%s/v2/": {"auth": %q}, "elsewhere": {"auth": "?"}}}`, known, auth), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		image string
		want  Answer
	}{
		{open + "/shop/web:1", Answer{Digest: digest}},
		{open + "/shop/web:2", Answer{Gone: true, Why: "has no such image"}},
		{open + "/shop/web:broken", Answer{Why: "cannot be reached"}},
		{known + "/shop/web:1", Answer{Digest: digest}},
		{unknown + "/shop/web:1", Answer{Why: "wants credentials"}},
		{"127.0.0.1:1/shop/web:1", Answer{Why: "cannot be reached"}},
		{"Not An Image", Answer{Why: "no image reference"}},
	} {
		got := Digests(context.Background(), []string{x.image})[x.image]
		if got.Digest != x.want.Digest || got.Gone != x.want.Gone || (got.Why == "") != (x.want.Why == "") || !strings.Contains(got.Why, x.want.Why) {
			t.Errorf("%s: %+v, want %+v", x.image, got, x.want)
		}
	}
}

// TestWhoHasGivenUpAsksNobody: a plan that is interrupted says nothing of the image.
func TestWhoHasGivenUpAsksNobody(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	defer s.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	image := strings.TrimPrefix(s.URL, "http://") + "/web:1"
	if got := Digests(ctx, []string{image})[image]; got.Digest != "" || got.Gone || asked != 0 {
		t.Errorf("%+v after %d requests", got, asked)
	}
}
