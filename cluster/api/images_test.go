package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/berthdev/berth/cluster/object"
)

func content(c string) string { return "sha256:" + strings.Repeat(c, 64) }

// pinnedWeb is a deployment whose image is pinned.
func pinnedWeb(image, digest string) *object.Deployment {
	d := &object.Deployment{Meta: object.Meta{Kind: object.KindDeployment, Namespace: "default", Name: "web"}}
	object.SetDefaults(&d.Spec)
	main := object.Container{Name: "web", Image: image}
	object.SetDefaults(&main)
	main.Pull = "never"
	d.Spec.Pod.Containers = []object.Container{main}
	if digest != "" {
		d.Spec.Pod.Images = map[string]string{image: digest}
	}
	return d
}

// holding is a node that has these images, of name and digest.
func (w *world) holding(name string, images ...string) *object.Node {
	out := object.NodeImages{Node: name}
	for i := 0; i < len(images); i += 2 {
		out.Images = append(out.Images, object.Image{Name: images[i], Digest: images[i+1]})
	}
	return readyNode(name, w.agent(name, func(rw http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(rw).Encode(out) }))
}

// What a tag stands for is what pods run, else what most nodes have; who has a certain
// content is asked whatever its name; and of what is pinned, where the tag has gone.
func TestResolveImages(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	const web, api = "docker.io/library/web:1", "docker.io/library/api:1"
	kept := pinnedWeb("web:1", content("a"))
	kept.Stack = "shop"
	template := &object.Template{Meta: object.Meta{Kind: object.KindTemplate, Namespace: "default", Name: "t"}, Spec: kept.Spec.Pod}
	pod := &object.Pod{Meta: object.Meta{Kind: object.KindPod, Namespace: "default", Name: "web-0"}, Spec: object.PodSpec{Template: "t", Node: "n1"},
		Status: object.PodStatus{Phase: object.PodRunning, Containers: []object.ContainerStatus{{Name: "web", State: "running", Image: "docker.io/library/web@" + content("a")}}}}
	w.write(kept, template, pod,
		w.holding("n1", web, content("b"), "docker.io/library/web@"+content("a"), content("a"), api, content("e")),
		w.holding("n2", web, content("c"), api, content("d")),
		w.holding("n3", web, content("c"), api, content("d"), "docker.io/mirror/api:1", content("d")))
	got, err := w.as("pat", "planner").ResolveImages(ctx, object.ImageQuestion{
		Images: []string{"web:1", "api:1", "web:1@" + content("a"), "api:1@" + content("e"), "web:1@" + content("f")}, Stack: "shop",
	})
	if err != nil {
		t.Fatal(err)
	}
	type found struct {
		digest, from      string
		nowhere, everyone bool
	}
	for i, want := range []found{
		{content("a"), object.PinnedByPods, false, false},
		{content("d"), object.PinnedByNodes, false, false},
		{content("a"), object.PinnedByPods, false, false},
		{content("e"), object.PinnedByNodes, false, false},
		{"", "", true, false},
	} {
		x := got.Images[i]
		if is := (found{x.Digest, x.From, x.Nowhere, x.Everywhere}); is != want {
			t.Errorf("%s: %+v, want %+v", x.Image, is, want)
		}
	}
	if len(got.Kept) != 1 || !got.Kept[0].Never || got.Kept[0].Digest != content("a") || got.Kept[0].Now != content("c") || !reflect.DeepEqual(got.Kept[0].By, []string{"deployment.web"}) {
		t.Errorf("kept: %+v", got.Kept)
	}
	// Who wants to get away from what runs asks the nodes alone.
	got, err = w.as("pat", "planner").ResolveImages(ctx, object.ImageQuestion{Images: []string{"web:1"}, Anew: []string{"web:1"}})
	if err != nil || got.Images[0].Digest != content("c") || got.Images[0].From != object.PinnedByNodes || got.Kept != nil {
		t.Errorf("anew: %+v, %v", got, err)
	}
}

// Who writes a deployment past every plan and says nothing of pins means none by it.
func TestWritesKeepPins(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	d := pinnedWeb("web:1", content("a"))
	w.write(d)
	pins := func() map[string]string { return object.PinsOf(w.get(d.Ref())) }
	bare := pinnedWeb("web:1", "")
	bare.Spec.Replicas = 7
	bare.Version = w.get(d.Ref()).Head().Version
	if _, err := w.admin().Put(ctx, bare); err != nil {
		t.Fatal(err)
	}
	if got := pins(); got["web:1"] != content("a") {
		t.Errorf("after a write without pins: %v", got)
	}
	var c object.Changeset
	next := pinnedWeb("web:1", content("b"))
	c.Update(w.get(d.Ref()), next)
	if _, err := w.admin().Propose(ctx, c); err != nil {
		t.Fatal(err)
	}
	if got := pins(); got["web:1"] != content("b") {
		t.Errorf("after a changeset with another pin: %v", got)
	}
	wrong := pinnedWeb("web:1", "latest")
	wrong.Version = w.get(d.Ref()).Head().Version
	_, err := w.admin().Put(ctx, wrong)
	wantCode(t, err, object.CodeInvalid)
	_, err = w.as("pat", "planner").Plan(ctx, &object.Plan{Format: object.PlanFormat, Stack: "shop", Images: []object.PinnedImage{{Image: "web:1", Digest: "latest"}}})
	wantCode(t, err, object.CodeInvalid)
}

// The warning of a moved tag tells commands that work where they are typed, one for
// each deployment.
func TestAMovedTagTellsHowToFollowIt(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	for _, name := range []string{"api", "web", "other"} {
		d := &object.Deployment{Meta: object.Meta{Kind: object.KindDeployment, Namespace: "shop", Name: name, Stack: "shop"}}
		object.SetDefaults(&d.Spec)
		w.write(d)
	}
	digest := func(c string) string { return "sha256:" + strings.Repeat(c, 64) }
	for _, x := range []struct {
		by   []string
		want string
	}{
		{[]string{"deployment.api", "deployment.web"}, "with berth plan restart -n shop api, berth plan restart -n shop web."},
		{[]string{"pod.bare"}, "with a change of their templates."},
	} {
		p := cmPlan("settings")
		p.Images = []object.PinnedImage{{Image: "app:1", Digest: digest("a"), From: object.PinnedByPlan, Now: digest("b"), By: x.by}}
		made, err := w.admin().Plan(ctx, p)
		if err != nil {
			t.Fatal(err)
		}
		if len(made.Warnings) != 1 || !strings.HasSuffix(made.Warnings[0].Detail, x.want) {
			t.Errorf("%v: %v", x.by, made.Warnings)
		}
	}
}
