package object

import (
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"
)

func digestOf(c string) string { return "sha256:" + strings.Repeat(c, 64) }

var (
	oldBytes = digestOf("a")
	newBytes = digestOf("b")
)

// pinnable is a deployment of one container, and of a check's pod if there is an image
// for that.
func pinnable(image, check string, pins map[string]string, change ...func(*Deployment)) *Deployment {
	d := &Deployment{Meta: Meta{Kind: KindDeployment, Namespace: "default", Name: "web"}}
	SetDefaults(&d.Spec)
	d.Spec.Pod.Containers = []Container{{Name: "web", Image: image, Pull: "missing"}}
	d.Spec.Pod.Images = pins
	if check != "" {
		d.Spec.Update.Steps = []CanaryStep{{Name: "half", Checks: []Check{{Name: "smoke", Run: &RunSource{Pod: PodTemplate{Containers: []Container{{Name: "smoke", Image: check}}}}}}}}
	}
	for _, c := range change {
		c(d)
	}
	return d
}

func always(d *Deployment)  { d.Spec.Pod.Containers[0].Pull = "always" }
func withEnv(d *Deployment) { d.Spec.Pod.Containers[0].Env = map[string]Text{"A": "b"} }
func scaled(d *Deployment)  { d.Spec.Replicas = 9 }
func fresh(x ...string) []PinnedImage {
	var out []PinnedImage
	for i := 0; i < len(x); i += 2 {
		out = append(out, PinnedImage{Image: x[i], Digest: x[i+1], From: PinnedByRegistry})
	}
	return out
}

// What an apply writes is pinned to what its plan found out, or stays pinned.
func TestCommitPins(t *testing.T) {
	old := map[string]string{"web:1": oldBytes}
	for _, c := range []struct {
		what          string
		before, after *Deployment
		images        []PinnedImage
		target        int
		asks          []string
		want          map[string]string
	}{
		{"new", nil, pinnable("web:1", "", nil), fresh("web:1", newBytes), 0, []string{"web:1"}, map[string]string{"web:1": newBytes}},
		{"new, with a check", nil, pinnable("web:1", "smoke:1", nil), fresh("web:1", newBytes, "smoke:1", oldBytes), 0, []string{"smoke:1", "web:1"}, map[string]string{"web:1": newBytes, "smoke:1": oldBytes}},
		{"nobody knows", nil, pinnable("web:1", "", nil), []PinnedImage{{Image: "web:1", Why: "away"}}, 0, []string{"web:1"}, nil},
		{"named by a digest", nil, pinnable("web@"+oldBytes, "", nil), nil, 0, nil, nil},
		{"scaled", pinnable("web:1", "", old), pinnable("web:1", "", nil, scaled), fresh("web:1", newBytes), 0, nil, old},
		{"scaled, and never pinned", pinnable("web:1", "", nil), pinnable("web:1", "", nil, scaled), fresh("web:1", newBytes), 0, nil, nil},
		{"something else of it changes", pinnable("web:1", "", old), pinnable("web:1", "", nil, withEnv), fresh("web:1", newBytes), 0, nil, old},
		{"something else changes, and never pinned", pinnable("web:1", "", nil), pinnable("web:1", "", nil, withEnv), fresh("web:1", newBytes), 0, []string{"web:1"}, map[string]string{"web:1": newBytes}},
		{"its registry counts each time", pinnable("web:1", "", old), pinnable("web:1", "", nil, withEnv, always), fresh("web:1", newBytes), 0, []string{"web:1"}, map[string]string{"web:1": newBytes}},
		{"its registry counts, but is away", pinnable("web:1", "", old), pinnable("web:1", "", nil, withEnv, always), nil, 0, []string{"web:1"}, old},
		{"another image", pinnable("web:1", "", old), pinnable("web:2", "", nil), fresh("web:2", newBytes), 0, []string{"web:2"}, map[string]string{"web:2": newBytes}},
		{"a check is new", pinnable("web:1", "", old), pinnable("web:1", "smoke:1", nil), fresh("web:1", newBytes, "smoke:1", newBytes), 0, []string{"smoke:1"}, map[string]string{"web:1": oldBytes, "smoke:1": newBytes}},
		{"another plan's pin is not brought in", pinnable("web:1", "", old), pinnable("web:2", "", nil), []PinnedImage{{Image: "web:2", Digest: oldBytes, From: PinnedByPlan, Now: newBytes}}, 0, []string{"web:2"}, nil},
		{"a way back", pinnable("web:1", "", map[string]string{"web:1": newBytes}), pinnable("web:1", "", old), fresh("web:1", newBytes), 3, nil, old},
		{"a way back to what nobody pinned", pinnable("web:1", "", old), pinnable("web:1", "", nil), fresh("web:1", newBytes), 3, []string{"web:1"}, nil},
	} {
		t.Run(c.what, func(t *testing.T) {
			p := &Plan{Stack: "shop", Target: c.target, Images: c.images, Changes: []PlannedChange{{Ref: c.after.Ref(), Address: "deployment.web", After: Any{Object: c.after}}}}
			get := func(r Ref) (Object, bool) {
				if c.before == nil || r != c.before.Ref() {
					return nil, false
				}
				return c.before, true
			}
			if c.before != nil {
				p.Changes[0].Before = Any{Object: c.before}
			}
			if got := p.ImagesToPin(); !reflect.DeepEqual(got, c.asks) && len(got)+len(c.asks) > 0 {
				t.Errorf("it asks for %v, want %v", got, c.asks)
			}
			was := Fingerprint(c.after) + Digest(PinsOf(c.after))
			changes, _ := Commit(p, get, "ann", time.Now())
			after := changes.Changes[0].Object.Object.(*Revision).Spec.Changes[0].After.Object
			if got := PinsOf(after); !maps.Equal(got, c.want) {
				t.Errorf("pinned to %v, want %v", got, c.want)
			}
			if !Equal(after, c.after) || Fingerprint(after) != Fingerprint(c.after) {
				t.Error("a configuration would see that it is pinned")
			}
			if was != Fingerprint(c.after)+Digest(PinsOf(c.after)) {
				t.Error("the plan's own object was written into")
			}
		})
	}
}

// A pod's template is kept apart, and one that is renamed stays what it was.
func TestCommitPinsWhatIsInForce(t *testing.T) {
	template := PodTemplate{Containers: []Container{{Name: "web", Image: "web:1"}}}
	inForce := template
	inForce.Images = map[string]string{"web:1": oldBytes}
	row := &Pod{Meta: Meta{Kind: KindPod, Namespace: "default", Name: "was"}, Spec: PodSpec{Template: "t"}}
	state := map[Ref]Object{row.Ref(): row}
	kept := &Template{Meta: Meta{Kind: KindTemplate, Namespace: "default", Name: "t"}, Spec: inForce}
	state[kept.Ref()] = kept
	get := func(r Ref) (Object, bool) { o, ok := state[r]; return o, ok }
	after := &Pod{Meta: Meta{Kind: KindPod, Namespace: "default", Name: "is"}, Spec: PodSpec{Pod: &template}}
	p := &Plan{Stack: "shop", Images: fresh("web:1", newBytes), Changes: []PlannedChange{{Ref: after.Ref(), From: row.Ref(), Before: Any{Object: Renamed(row, after.Ref())}, After: Any{Object: after}}}}
	if got := PinsOf(p.withPins(get).Changes[0].After.Object); got["web:1"] != oldBytes {
		t.Errorf("pinned to %v", got)
	}
	if template.Images != nil || p.withPins(get).Changes[0].From != row.Ref() {
		t.Error("the plan itself has changed")
	}
}

func TestKeepPins(t *testing.T) {
	pins := map[string]string{"web:1": oldBytes}
	inForce := pinnable("web:1", "smoke:1", pins)
	for _, c := range []struct {
		what string
		o    *Deployment
		want map[string]string
	}{
		{"left out", pinnable("web:1", "", nil, scaled), pins},
		{"left out, and another image", pinnable("web:2", "", nil), nil},
		{"said", pinnable("web:1", "", map[string]string{"web:1": newBytes}), map[string]string{"web:1": newBytes}},
		{"said, and more than runs", pinnable("web:2", "", map[string]string{"web:1": newBytes}), nil},
		{"taken away", pinnable("web:1", "", map[string]string{}), nil},
	} {
		if got := PinsOf(KeepPins(c.o, inForce)); !maps.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
	d := pinnable("web:1", "smoke:1", nil)
	d.Repin(map[string]string{"web:1": newBytes, "smoke:1": newBytes, "other:1": newBytes})
	d.Repin(map[string]string{"smoke:1": oldBytes})
	if got := PinsOf(d); !maps.Equal(got, map[string]string{"web:1": newBytes, "smoke:1": oldBytes}) {
		t.Errorf("pinned anew: %v", got)
	}
}

func TestPinFields(t *testing.T) {
	pinned := func(digest string) *Deployment { return pinnable("web:1", "", map[string]string{"web:1": digest}) }
	for _, c := range []struct {
		what          string
		before, after Object
		want          []FieldDiff
	}{
		{"the same", pinned(oldBytes), pinned(oldBytes), nil},
		{"another", pinned(newBytes), pinned(oldBytes), []FieldDiff{{Path: `pod.images["web:1"]`, Op: OpUpdate, Before: newBytes, After: oldBytes, Effect: "rolls"}}},
		{"none before", pinnable("web:1", "", nil), pinned(oldBytes), []FieldDiff{{Path: `pod.images["web:1"]`, Op: OpCreate, After: oldBytes, Effect: "rolls"}}},
		{"none after", pinned(oldBytes), pinnable("web:1", "", nil), nil},
		{"of another image", pinnable("web:2", "", nil), pinned(oldBytes), nil},
		{"a pod's", &Pod{Spec: PodSpec{Pod: &pinned(newBytes).Spec.Pod}}, &Pod{Spec: PodSpec{Pod: &pinned(oldBytes).Spec.Pod}}, []FieldDiff{{Path: `images["web:1"]`, Op: OpUpdate, Before: newBytes, After: oldBytes, Effect: "replaces"}}},
		{"no workload", &Service{}, &Service{}, nil},
	} {
		if got := PinFields(c.before, c.after); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.what, got, c.want)
		}
	}
}

func TestPinsAreDigests(t *testing.T) {
	for digest, good := range map[string]bool{oldBytes: true, "sha512:" + strings.Repeat("0", 128): true, "sha256:abc": false, "latest": false, oldBytes + "\n": false, strings.ToUpper(oldBytes): false} {
		pins := map[string]string{"web:1": digest}
		for what, err := range map[string]error{
			"an object's":    CheckPins(pinnable("web:1", "", pins)),
			"a plan's":       (&Plan{Images: fresh("web:1", digest)}).CheckPins(),
			"an operation's": (&Plan{Operation: &Operation{Pins: pins}}).CheckPins(),
		} {
			if (err == nil) != good {
				t.Errorf("%s %q: %v", what, digest, err)
			}
		}
	}
}

// A write that changes nothing but pins starts other bytes: it does more than steer.
func TestPinsAreNoSteering(t *testing.T) {
	if Steers(pinnable("web:1", "", nil), pinnable("web:1", "", map[string]string{"web:1": oldBytes})) {
		t.Error("a freeze would let it pass")
	}
}
