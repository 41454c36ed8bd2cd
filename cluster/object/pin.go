package object

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Pinned is the reference that a container's image is run by: with the content that
// it was pinned to, if it was.
func (t *PodTemplate) Pinned(image string) string {
	if digest := t.Images[image]; digest != "" {
		return image + "@" + digest
	}
	return image
}

// images are those that the template's containers run and that no digest names
// already, each once, in their order.
func (t *PodTemplate) images() []string {
	var out []string
	for _, list := range [][]Container{t.Init, t.Containers} {
		for i := range list {
			if image := list[i].Image; !strings.Contains(image, "@") && !slices.Contains(out, image) {
				out = append(out, image)
			}
		}
	}
	return out
}

// pulls reports whether a container of the template runs the image under one of
// these policies.
func (t *PodTemplate) pulls(image string, policies ...string) bool {
	for _, list := range [][]Container{t.Init, t.Containers} {
		for i := range list {
			if list[i].Image == image && slices.Contains(policies, list[i].Pull) {
				return true
			}
		}
	}
	return false
}

// templatesOf are what the object's pods run, and then what those of its checks run.
func templatesOf(o Object) []*PodTemplate {
	if o == nil {
		return nil
	}
	var out []*PodTemplate
	if t := TemplateOf(o); t != nil {
		out = append(out, t)
	}
	if d, ok := o.(*Deployment); ok {
		for c := range d.Spec.Update.checks() {
			if c.Run != nil {
				out = append(out, &c.Run.Pod)
			}
		}
	}
	return out
}

// PinsOf are the contents that an object's images are pinned to, those of its checks
// included; nil if there are none.
func PinsOf(o Object) map[string]string {
	if o == nil {
		return nil
	}
	var out map[string]string
	for _, t := range templatesOf(o) {
		for image, digest := range t.Images {
			if out[image] == "" {
				if out == nil {
					out = map[string]string{}
				}
				out[image] = digest
			}
		}
	}
	return out
}

// SamePins reports whether pods of two objects run the same contents, as far as they
// are pinned.
func SamePins(a, b Object) bool {
	x, y := TemplateOf(a), TemplateOf(b)
	return x == nil || y == nil || maps.Equal(x.Images, y.Images)
}

// PinFields are the images whose content after is pinned to another than before, for
// what runs them before and after. Configurations say nothing of it, and so neither
// does Compare.
func PinFields(before, after Object) []FieldDiff {
	b, a := TemplateOf(before), TemplateOf(after)
	if b == nil || a == nil || len(a.Images) == 0 {
		return nil
	}
	path, effect := "pod.images", "rolls"
	switch before.(type) {
	case *Pod:
		path, effect = "images", "replaces"
	case *ReplicaSet:
		effect = "new_pods"
	}
	both := b.images()
	var out []FieldDiff
	for _, image := range slices.Sorted(maps.Keys(a.Images)) {
		was, is := b.Images[image], a.Images[image]
		if was == is || !slices.Contains(both, image) {
			continue
		}
		f := FieldDiff{Path: path + "[" + strconv.Quote(image) + "]", Op: OpUpdate, Before: was, After: is, Effect: effect}
		if was == "" {
			f.Op, f.Before = OpCreate, nil
		}
		out = append(out, f)
	}
	return out
}

// repinned is the object with the pins that are given for each of its templates: its
// pods', and its checks'. It is the same one where nothing changes by that.
func repinned(o Object, pins func(t *PodTemplate, check bool) map[string]string) Object {
	changes := false
	for i, t := range templatesOf(o) {
		_, deployment := o.(*Deployment)
		changes = changes || !maps.Equal(t.Images, pins(t, deployment && i > 0))
	}
	if !changes {
		return o
	}
	checks := func(list []Check) []Check {
		out := slices.Clone(list)
		for i := range out {
			if out[i].Run != nil {
				run := *out[i].Run
				run.Pod.Images = pins(&run.Pod, true)
				out[i].Run = &run
			}
		}
		return out
	}
	switch x := o.Clone().(type) {
	case *Pod:
		t := *x.Spec.Pod
		t.Images = pins(&t, false)
		x.Spec.Pod = &t
		return x
	case *ReplicaSet:
		x.Spec.Pod.Images = pins(&x.Spec.Pod, false)
		return x
	case *Deployment:
		x.Spec.Pod.Images = pins(&x.Spec.Pod, false)
		u := &x.Spec.Update
		u.Checks, u.Steps = checks(u.Checks), slices.Clone(u.Steps)
		for i := range u.Steps {
			u.Steps[i].Checks = checks(u.Steps[i].Checks)
		}
		if u.BlueGreen != nil {
			b := *u.BlueGreen
			b.Checks = checks(b.Checks)
			u.BlueGreen = &b
		}
		return x
	}
	return o
}

// only are the pins of images that the template runs; nil if there are none.
func only(t *PodTemplate, pins map[string]string) map[string]string {
	if len(pins) == 0 {
		return nil
	}
	var out map[string]string
	for _, image := range t.images() {
		if digest := pins[image]; digest != "" {
			if out == nil {
				out = map[string]string{}
			}
			out[image] = digest
		}
	}
	return out
}

// WithPins is the object with its images pinned so, as far as it runs them.
func WithPins(o Object, pins map[string]string) Object {
	return repinned(o, func(t *PodTemplate, _ bool) map[string]string { return only(t, pins) })
}

// Repin pins the deployment's images anew; what pins does not say stays as it is.
func (d *Deployment) Repin(pins map[string]string) {
	now := WithPins(d, layered(PinsOf(d), pins)).(*Deployment)
	d.Spec.Pod, d.Spec.Update = now.Spec.Pod, now.Spec.Update
}

// layered are the pins of below, with those of above over them.
func layered(below, above map[string]string) map[string]string {
	out := map[string]string{}
	maps.Copy(out, below)
	maps.Copy(out, above)
	return out
}

// Repinned is the object pinned as another was, as far as that says; what it does not
// say stays.
func Repinned(o, as Object) Object {
	pins := PinsOf(as)
	if len(pins) == 0 {
		return o
	}
	return WithPins(o, layered(PinsOf(o), pins))
}

// KeepPins is an object that somebody writes past every plan, with the pins of the
// one that is in force: who leaves them out does not mean that pods are to roll. An
// empty map means that images are to be run by their tags.
func KeepPins(o, inForce Object) Object {
	had := PinsOf(inForce)
	return repinned(o, func(t *PodTemplate, _ bool) map[string]string {
		if t.Images == nil {
			return only(t, had)
		}
		return only(t, t.Images)
	})
}

var digestForm = regexp.MustCompile(`^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$`)

// checkDigest refuses what is no digest of an image's content.
func checkDigest(image, digest string) error {
	if digestForm.MatchString(digest) {
		return nil
	}
	return &Error{Code: CodeInvalid, Message: fmt.Sprintf("%q is no digest that image %s could be pinned to", digest, image), Hint: "Write sha256: and 64 hexadecimal digits."}
}

// CheckPins refuses pins that are no digests.
func CheckPins(o Object) error {
	for _, t := range templatesOf(o) {
		for _, image := range slices.Sorted(maps.Keys(t.Images)) {
			if err := checkDigest(image, t.Images[image]); err != nil {
				return err
			}
		}
	}
	return nil
}

// CheckPins refuses pins that a plan found out and that are no digests.
func (p *Plan) CheckPins() error {
	for _, x := range p.Images {
		if x.Digest != "" {
			if err := checkDigest(x.Image, x.Digest); err != nil {
				return err
			}
		}
	}
	if p.Operation != nil {
		for _, image := range slices.Sorted(maps.Keys(p.Operation.Pins)) {
			if err := checkDigest(image, p.Operation.Pins[image]); err != nil {
				return err
			}
		}
	}
	return nil
}

// brings reports whether the plan's change has to pin an image of a template. had are
// the pins of what is in force, same says that its pods run just this template: then
// no pod is made anew, or one that reads something else, and runs what it ran. What is
// pinned stays so, unless its registry is to be asked each time.
func brings(t *PodTemplate, image string, check, same bool, had map[string]string) bool {
	switch {
	case same && !check:
		return false
	case had[image] == "":
		return true
	}
	return !same && t.pulls(image, "always")
}

// Back reports whether the plan leads back to what was: then the pins of that time
// come back with it.
func (p *Plan) Back() bool { return p.Target != 0 || p.Restore != nil }

// ImagesToPin are those of which the plan has to find out the content, sorted, each
// once.
func (p *Plan) ImagesToPin() []string {
	seen := map[string]bool{}
	for i := range p.Changes {
		c := &p.Changes[i]
		if c.After.IsZero() {
			continue
		}
		had, same := PinsOf(c.Before.Object), sameTemplate(TemplateOf(c.Before.Object), TemplateOf(c.After.Object))
		for k, t := range templatesOf(c.After.Object) {
			for _, image := range t.images() {
				switch {
				case !p.Back():
					seen[image] = seen[image] || brings(t, image, k > 0, same, had)
				case t.Images[image] == "":
					seen[image] = true
				}
			}
		}
	}
	maps.DeleteFunc(seen, func(_ string, is bool) bool { return !is })
	return sorted(seen)
}

// PinsBack are the contents that a plan that leads back brings back: images and
// digests that pods do not run now.
func (p *Plan) PinsBack() []PinnedImage {
	seen := map[string]bool{}
	for i := range p.Changes {
		c := &p.Changes[i]
		if c.After.IsZero() || !p.Back() {
			continue
		}
		had := PinsOf(c.Before.Object)
		for image, digest := range PinsOf(c.After.Object) {
			if had[image] != digest {
				seen[image+"@"+digest] = true
			}
		}
	}
	var out []PinnedImage
	for _, x := range sorted(seen) {
		image, digest, _ := strings.Cut(x, "@")
		out = append(out, PinnedImage{Image: image, Digest: digest, From: PinnedByRevision})
	}
	return out
}

// Keeps reports whether something of the stack goes on with a pinned content once the
// plan is applied, as far as the plan tells.
func (p *Plan) Keeps(x KeptImage) bool {
	runs := map[string]bool{} // by address, of what changes
	for i := range p.Changes {
		runs[p.Changes[i].Ref.Address()] = Runs(p.Changes[i].After.Object, x.Image)
	}
	return slices.ContainsFunc(x.By, func(address string) bool {
		is, changes := runs[address]
		return is || !changes
	})
}

func sameTemplate(a, b *PodTemplate) bool { return a != nil && b != nil && a.equal(b) }

// withPins is the plan of one stack with the pins in the objects that it writes:
// those that it found out, and those of what is in force, which get answers for.
// Everything else about it stays.
func (p *Plan) withPins(get func(Ref) (Object, bool)) *Plan {
	if p.Back() {
		return p
	}
	fresh := p.fresh()
	out := p
	for i := range p.Changes {
		c := &p.Changes[i]
		if TemplateOf(c.After.Object) == nil {
			continue
		}
		from := c.Ref
		if c.Moved() {
			from = c.From
		}
		now, _ := get(from)
		t, had := inForce(now, get)
		if len(fresh)+len(had) == 0 && len(PinsOf(c.After.Object)) == 0 {
			continue
		}
		same := sameTemplate(t, TemplateOf(c.After.Object))
		after := repinned(c.After.Object, func(x *PodTemplate, check bool) map[string]string {
			pins := only(x, had)
			for _, image := range x.images() {
				if digest := fresh[image]; digest != "" && brings(x, image, check, same, had) {
					if pins == nil {
						pins = map[string]string{}
					}
					pins[image] = digest
				}
			}
			return pins
		})
		if after == c.After.Object {
			continue
		}
		if out == p {
			next := *p
			next.Changes = slices.Clone(p.Changes)
			out = &next
		}
		out.Changes[i].After = Any{Object: after}
	}
	return out
}

// inForce is what an object's pods run now, and what its images are pinned to.
func inForce(o Object, get func(Ref) (Object, bool)) (*PodTemplate, map[string]string) {
	if p, ok := o.(*Pod); ok && p.Spec.Pod == nil { // a row: its template is kept apart
		t, _ := get(Ref{Kind: KindTemplate, Namespace: p.Namespace, Name: p.Spec.Template})
		if x, ok := t.(*Template); ok {
			return &x.Spec, x.Spec.Images
		}
		return nil, nil
	}
	return TemplateOf(o), PinsOf(o)
}

// fresh are the contents that the plan found out, by image.
func (p *Plan) fresh() map[string]string {
	var out map[string]string
	for _, x := range p.Images {
		if x.Digest == "" || x.From == PinnedByPlan || x.From == PinnedByRevision {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[x.Image] = x.Digest
	}
	return out
}
