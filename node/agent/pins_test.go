package agent_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/node/fake"
)

// TestPinnedImages: a container runs the content that its plan pinned, whatever its
// tag is on the node or in the registry, and no other in its place.
func TestPinnedImages(t *testing.T) {
	const image = "registry.example/web:1"
	planned, moved := fake.Content("planned"), fake.Content("moved")
	inBubble(t, fake.Script{}, func(w *world) {
		pod := func(image, pull, digest string) object.PodTemplate {
			p := one(image)
			p.Containers[0].Pull = pull
			p.Images = map[string]string{image: digest}
			return p
		}
		imports := func(text string) {
			t.Helper()
			if _, err := w.r.ImportImage(context.Background(), bytes.NewReader([]byte(text))); err != nil {
				t.Fatal(err)
			}
		}
		runs := func(name string, p object.PodTemplate, digest string) object.Ref {
			t.Helper()
			ref := w.m.create(name, p)
			s := w.m.wait(t, ref, time.Minute, "ready", ready)
			if got := s.Containers[0].Image; !strings.HasSuffix(got, "@"+digest) {
				t.Errorf("%s runs %s, want %s", name, got, digest)
			}
			return ref
		}
		// The node has the tag as something else: what was pinned is pulled.
		imports(image + " moved")
		runs("pulled", pod(image, "missing", planned), planned)
		runs("there", pod(image, "missing", moved), moved)
		runs("always", pod(image, "always", planned), planned)
		if n := w.r.Pulls(); n != 2 {
			t.Errorf("%d pulls, want one of what was not there and one that has to ask", n)
		}
		// A container that is started again is the same.
		list := w.running()
		w.r.Kill(list[0].ID, 1, false)
		ref := object.Ref{Kind: object.KindPod, Namespace: list[0].Pod.Namespace, Name: list[0].Pod.Name}
		if s := w.m.wait(t, ref, time.Minute, "started again", func(s object.PodStatus) bool { return s.Ready && s.Containers[0].Restarts == 1 }); s.Containers[0].Image != list[0].Image {
			t.Errorf("started again it runs %s, it ran %s", s.Containers[0].Image, list[0].Image)
		}

		// By hand: nobody can pull it. What is there under the tag is not what was
		// reviewed, so it is not run, and both are named.
		const local = "shop/web:1"
		imports(local + " second")
		absent := w.m.create("absent", pod(local, "never", fake.Content("first")))
		s := w.m.wait(t, absent, time.Minute, "not to be had", reason(object.ReasonImageNotFound))
		if !strings.Contains(s.Message, fake.Content("second")) || !strings.Contains(s.Message, fake.Content("first")) {
			t.Errorf("message %q", s.Message)
		}
		// It comes up by itself once that content is there, under a tag that moves on.
		imports(local + " first")
		imports(local + " third")
		if s := w.m.wait(t, absent, 10*time.Minute, "ready", ready); !strings.HasSuffix(s.Containers[0].Image, "@"+fake.Content("first")) {
			t.Errorf("it runs %s", s.Containers[0].Image)
		}
		runs("here", pod(local, "never", fake.Content("third")), fake.Content("third"))
	})
}
