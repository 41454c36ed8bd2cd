package planner

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// history is how long images took, from when their containers ran until the pod was
// ready, as far as the pods that are there tell. A new version of an image is taken
// to be as quick as the one before, until its own pods tell otherwise.
type history struct {
	measured map[string]time.Duration // by image, and by image without tag
	inits    map[string]time.Duration // of init containers, from their start to that of the next, by name and image likewise
	used     map[string]time.Duration // what a forecast went by
}

// longestStart is what a start may take: a pod that became ready again much later
// has lost its readiness in between and tells nothing.
const longestStart = 5 * time.Minute

// newHistory reads the pods of a state. Of several pods the median counts; a pod of
// several containers tells of each that has a readiness or startup probe.
func newHistory(v *state.Snapshot) history {
	h := history{used: map[string]time.Duration{}}
	took, inits := map[string][]time.Duration{}, map[string][]time.Duration{}
	for p := range state.All[*object.Pod](v, object.KindPod) {
		st := &p.Status
		d := st.ReadySince.Sub(st.Started)
		if !st.Ready || st.Started.IsZero() || d <= 0 || d > longestStart || slices.ContainsFunc(st.Containers, func(c object.ContainerStatus) bool { return c.Restarts > 0 }) {
			continue
		}
		t := v.Template(p)
		if t == nil {
			continue
		}
		note := func(in map[string][]time.Duration, prefix, image string, d time.Duration) {
			in[prefix+image] = append(in[prefix+image], d)
			if bare := withoutTag(image); bare != image {
				in[prefix+bare] = append(in[prefix+bare], d)
			}
		}
		for i := range t.Containers {
			if c := &t.Containers[i]; c.Readiness != nil || c.Startup != nil {
				note(took, "", c.Image, d)
			}
		}
		next := st.Started
		for i := len(t.Init) - 1; i >= 0; i-- {
			x := slices.IndexFunc(st.Containers, func(c object.ContainerStatus) bool { return c.Name == t.Init[i].Name })
			if x < 0 || st.Containers[x].Started.IsZero() {
				break
			}
			began := st.Containers[x].Started
			if d := next.Sub(began); d > 0 && d <= longestStart {
				note(inits, t.Init[i].Name+" ", t.Init[i].Image, d)
			}
			next = began
		}
	}
	h.measured, h.inits = medians(took), medians(inits)
	return h
}

func medians(of map[string][]time.Duration) map[string]time.Duration {
	out := make(map[string]time.Duration, len(of))
	for key, list := range of {
		slices.Sort(list)
		out[key] = list[len(list)/2]
	}
	return out
}

// ofInit is how long an init container takes, the start of what follows included;
// false if nothing is known of it.
func (h history) ofInit(c *object.Container) (time.Duration, bool) {
	d, ok := h.inits[c.Name+" "+c.Image]
	if !ok {
		d, ok = h.inits[c.Name+" "+withoutTag(c.Image)]
	}
	return d, ok
}

// of is how long an image takes to be ready; false if nothing is known of it.
func (h history) of(image string) (time.Duration, bool) {
	d, ok := h.measured[image]
	if !ok {
		d, ok = h.measured[withoutTag(image)]
	}
	if ok {
		h.used[image] = d
	}
	return d, ok
}

// list is what a forecast went by, ordered by image.
func (h history) list() []object.StartTime {
	if len(h.used) == 0 {
		return nil
	}
	out := make([]object.StartTime, 0, len(h.used))
	for _, image := range slices.Sorted(maps.Keys(h.used)) {
		out = append(out, object.StartTime{Image: image, Ready: object.Duration(h.used[image])})
	}
	return out
}

// withoutTag is an image's name without its tag and digest.
func withoutTag(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		image = image[:i]
	}
	return image
}
