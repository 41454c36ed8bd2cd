package api

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// Bounds of what a plan's images may cost.
const (
	maxImages   = 1000 // of one question
	maxAsked    = 64   // nodes; of a larger cluster the pods have to do
	askingTakes = 2 * time.Second
)

type resolveInput struct {
	Body body[object.ImageQuestion]
}

// postResolve tells which content tags stand for in the cluster: by the containers
// that run them, the latest first, else by what nodes have in store.
func (s *Server) postResolve(ctx context.Context, in *resolveInput) (*answer[object.ImageAnswer], error) {
	req, err := in.Body.get()
	if err != nil {
		return nil, err
	}
	if len(req.Images) > maxImages {
		return nil, object.Errorf(object.CodeTooLarge, object.Ref{}, "%d images are too many at once; ask for at most %d", len(req.Images), maxImages)
	}
	v := s.Cluster.Snapshot()
	want := make(map[string]bool, len(req.Images))
	for _, image := range req.Images {
		want[image] = !slices.Contains(req.Anew, image)
	}
	running := map[string]running{}
	for _, r := range runningImages(v, want) {
		if r.started.After(running[r.image].started) || running[r.image].digest == "" {
			running[r.image] = r
		}
	}
	out := object.ImageAnswer{Images: make([]object.PinnedImage, len(req.Images))}
	var unknown []*object.PinnedImage
	for i, image := range req.Images {
		x := &out.Images[i]
		x.Image = image
		if r, ok := running[image]; ok {
			x.Digest, x.From = r.digest, object.PinnedByPods
		} else {
			unknown = append(unknown, x)
		}
	}
	if req.Stack != "" {
		out.Kept = kept(v, req.Stack)
	}
	for i := range out.Kept {
		if x := &out.Kept[i]; x.Never { // what has been imported since, nodes alone can say
			unknown = append(unknown, &x.PinnedImage)
		}
	}
	if len(unknown) > 0 {
		s.askForImages(ctx, v, unknown)
	}
	return &answer[object.ImageAnswer]{Body: out}, nil
}

// mostKept bounds how many of a stack's pinned images are looked at again.
const mostKept = 50

// kept are the contents that a stack's objects are pinned to, by image, with who runs
// them: the first few.
func kept(v *state.Snapshot, stack string) []object.KeptImage {
	found := map[string]*object.KeptImage{}
	note := func(o object.Object) {
		if !o.Head().Owner.IsZero() {
			return
		}
		pins := object.PinsOf(o)
		if len(pins) == 0 {
			return
		}
		never := object.PullsNever(o)
		for image, digest := range pins {
			x := found[image+"@"+digest]
			if x == nil {
				x = &object.KeptImage{PinnedImage: object.PinnedImage{Image: image, Digest: digest, From: object.PinnedByPlan}, Never: true}
				found[image+"@"+digest] = x
			}
			x.Never = x.Never && never[image]
			if len(x.By) < 3 {
				x.By = append(x.By, o.Ref().Address())
			}
		}
	}
	for _, kind := range []object.Kind{object.KindDeployment, object.KindReplicaSet, object.KindPod} {
		for o := range v.List(kind, state.OfStack(stack)) {
			note(expand(v, o))
		}
	}
	var out []object.KeptImage
	for _, key := range slices.Sorted(maps.Keys(found)) {
		if len(out) < mostKept {
			out = append(out, *found[key])
		}
	}
	return out
}

// running is a digest that a container runs.
type running struct {
	image, digest string
	started       time.Time
	pod           *object.Pod
}

// runningImages are the digests that containers report of some images, or with
// nil of all that neither a digest names nor a plan has pinned.
func runningImages(v *state.Snapshot, want map[string]bool, where ...state.Where) []running {
	var out []running
	type template struct{ namespace, name string }
	matters := map[template][]object.Container{} // by template: of many pods most run the same few
	for p := range state.All[*object.Pod](v, object.KindPod, where...) {
		if p.Terminal() || len(p.Status.Containers) == 0 {
			continue
		}
		key := template{p.Namespace, p.Spec.Template}
		list, known := matters[key]
		if !known || key.name == "" {
			if t := v.Template(p); t != nil {
				list = slices.DeleteFunc(slices.Concat(t.Init, t.Containers), func(c object.Container) bool {
					if want == nil {
						return strings.Contains(t.Pinned(c.Image), "@")
					}
					return !want[c.Image] && !want[t.Pinned(c.Image)]
				})
			}
			matters[key] = list
		}
		for _, c := range list {
			for i := range p.Status.Containers {
				st := &p.Status.Containers[i]
				if _, digest, ok := strings.Cut(st.Image, "@"); ok && st.Name == c.Name {
					if want == nil || want[c.Image] {
						out = append(out, running{c.Image, digest, st.Started, p})
					}
					if exactly := c.Image + "@" + digest; want[exactly] {
						out = append(out, running{exactly, digest, st.Started, p})
					}
				}
			}
		}
	}
	return out
}

const noNode = "no pod runs it, and no node has it"

// askForImages asks the nodes what they have in store. Of a tag that they disagree on,
// the content that most of them have counts.
func (s *Server) askForImages(ctx context.Context, v *state.Snapshot, unknown []*object.PinnedImage) {
	ctx, cancel := context.WithTimeout(ctx, askingTakes)
	defer cancel()
	var items []object.NodeImages
	for n := range state.All[*object.Node](v, object.KindNode) {
		if n.Status.Condition == object.NodeReady {
			items = append(items, object.NodeImages{Node: n.Name})
		}
	}
	why := noNode
	if len(items) > maxAsked {
		why = fmt.Sprintf("no pod runs it, and %d nodes are too many to be asked", len(items))
		items = nil
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, uploads)
	failed := make([]bool, len(items))
	for i := range items {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			failed[i] = s.askNode(ctx, v, &items[i], func(ctx context.Context, address string) (*http.Request, error) {
				return http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+"/v1/images", nil)
			}) != nil
		})
	}
	wg.Wait()
	if silent := len(slices.DeleteFunc(failed, func(f bool) bool { return !f })); silent > 0 {
		why = fmt.Sprintf("no pod runs it, and %d of %d nodes cannot be asked", silent, len(items))
	}
	nowhere := why == noNode && len(items) > 0
	held, holders := map[string]string{}, map[string]int{} // by name; by name and digest, and by digest
	for _, n := range items {
		contents := map[string]bool{}
		for _, i := range n.Images {
			if i.Digest == "" {
				continue
			}
			holders[i.Name+"@"+i.Digest]++
			if !contents[i.Digest] {
				contents[i.Digest] = true
				holders[i.Digest]++
			}
		}
	}
	for _, n := range items {
		for _, i := range n.Images {
			if have, ok := held[i.Name]; i.Digest != "" && (!ok || holders[i.Name+"@"+i.Digest] > holders[i.Name+"@"+have]) {
				held[i.Name] = i.Digest
			}
		}
	}
	for _, x := range unknown {
		if x.From == object.PinnedByPlan { // only what the tag stands for is asked
			if now, ok := held[fullName(x.Image)]; ok {
				x.Now = now
			}
			continue
		}
		x.Why, x.Nowhere = why, nowhere
		if _, digest, exactly := strings.Cut(x.Image, "@"); exactly {
			if n := holders[digest]; n > 0 {
				x.Digest, x.From, x.Why = digest, object.PinnedByNodes, ""
				x.Nowhere, x.Everywhere = false, n == len(items)
			}
			continue
		}
		for _, name := range []string{x.Image, fullName(x.Image)} {
			if digest, ok := held[name]; ok {
				x.Digest, x.From, x.Why = digest, object.PinnedByNodes, ""
				x.Nowhere, x.Everywhere = false, holders[name+"@"+digest] == len(items)
			}
		}
	}
}

// fullName is a reference as runtimes store it: "web:1" is "docker.io/library/web:1".
func fullName(image string) string {
	n, err := reference.ParseDockerRef(image)
	if err != nil {
		return image
	}
	return n.String()
}

// pinned is pins of each of a plan's stacks.
func pinned(v *state.Snapshot, p *object.Plan) object.Diagnostics {
	if p.Restore == nil {
		return pins(v, p)
	}
	var out object.Diagnostics
	for _, part := range p.Parts() {
		part.Images = slices.DeleteFunc(slices.Clone(p.Images), func(x object.PinnedImage) bool { return len(runners(part, x.Image)) == 0 })
		out = append(out, pins(v, part)...)
		for _, x := range part.Images {
			i := slices.IndexFunc(p.Images, func(y object.PinnedImage) bool { return y.Image == x.Image })
			p.Images[i] = x
		}
	}
	return out
}

// pins compares what a plan pins, and what the stack's pods run, with what earlier
// revisions were planned with: a tag that has moved is told.
func pins(v *state.Snapshot, p *object.Plan) object.Diagnostics {
	type pin struct {
		digest string
		number int
	}
	past := map[string]pin{}
	for rev := range state.All[*object.Revision](v, object.KindRevision, state.OfStack(p.Stack)) {
		for image, digest := range rev.Spec.Images {
			if past[image].number < rev.Spec.Number {
				past[image] = pin{digest, rev.Spec.Number}
			}
		}
	}
	var out object.Diagnostics
	warn := func(summary, format string, args ...any) {
		out = append(out, object.Diagnostic{Severity: object.SeverityWarning, Summary: summary, Detail: fmt.Sprintf(format, args...)})
	}
	told := map[string]bool{}
	for i := range p.Images {
		x := &p.Images[i]
		x.Was, x.Since = "", 0
		was, ok := past[x.Image]
		switch {
		case x.Gone:
			warn("Image is gone", "%s is not to be had: %s. Pods of %s that need it cannot start.", x.Image, x.Why, strings.Join(runners(p, x.Image), ", "))
		case x.From == object.PinnedByPlan:
			if x.Now != "" && x.Now != x.Digest {
				told[x.Image] = true
				warn("Tag has moved", "%s is %s by now. Pods of %s were pinned to %s and go on with it, those that start later too. What it is now comes with %s.", x.Image, x.Now, strings.Join(x.By, ", "), x.Digest, anew(v, p.Stack, x.By))
			}
		case x.From == object.PinnedByRevision: // it is to be another
		case ok && x.Digest != "" && x.Digest != was.digest:
			x.Was, x.Since = was.digest, was.number
			told[x.Image] = true
			warn("Tag has moved", "%s is %s now, by the %s, and was %s when revision %d was planned. What this plan starts anew runs what it is now. Give each release a tag of its own, or name the digest.", x.Image, x.Digest, x.From, was.digest, was.number)
		}
	}
	if len(past) == 0 {
		return out
	}
	others := map[string]int{}
	var images []string
	for _, r := range runningImages(v, nil, state.OfStack(p.Stack)) {
		if was, ok := past[r.image]; ok && was.digest != r.digest && !told[r.image] {
			if others[r.image]++; others[r.image] == 1 {
				images = append(images, r.image)
			}
		}
	}
	slices.Sort(images)
	for _, image := range images {
		warn("Tag has moved", "%d containers run another content of %s than the %s that revision %d was planned with: the tag has been given to something else since. Give each release a tag of its own, or name the digest.", others[image], image, past[image].digest, past[image].number)
	}
	return out
}

// anew says how those of a stack at some addresses come to run what their tags stand
// for now: the commands that restart deployments; others have none.
func anew(v *state.Snapshot, stack string, addresses []string) string {
	var out []string
	for d := range state.All[*object.Deployment](v, object.KindDeployment, state.OfStack(stack)) {
		if slices.Contains(addresses, d.Ref().Address()) {
			out = append(out, "berth plan restart "+d.Named())
		}
	}
	if len(out) == 0 {
		return "a change of their templates"
	}
	return strings.Join(out, ", ")
}

// runners are the objects of a plan whose pods run an image.
func runners(p *object.Plan, image string) []string {
	var out []string
	for i := range p.Changes {
		if c := &p.Changes[i]; object.Runs(c.After.Object, image) {
			out = append(out, c.Address)
		}
	}
	return out
}
