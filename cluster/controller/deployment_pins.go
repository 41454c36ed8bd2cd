package controller

import (
	"maps"
	"strconv"
	"strings"

	"github.com/berthdev/berth/cluster/object"
)

// adopt takes a set for the wanted version that is just that, but was made when nobody
// could say what its images are, if its pods show that they run what is pinned by now:
// the way back to it starts no pods then. Pods that it makes from now on are pinned.
// True means that nothing else is done in this look; the set's event brings the next.
func (r *release) adopt() bool {
	pins := r.d.Spec.Pod.Images
	if r.wanted != nil || len(pins) == 0 || r.d.Spec.Paused {
		return false
	}
	for _, x := range r.versions {
		if !r.runs(x, pins) {
			continue
		}
		rs := x.set.Clone().(*object.ReplicaSet)
		rs.Spec.Pod.Images = pins
		rs.Annotations = map[string]string{object.AnnotationVersion: r.digest, object.AnnotationGeneration: strconv.Itoa(x.gen)}
		r.because("%s runs what is pinned", rs.Name)
		r.Changes.Update(x.set, rs)
		return true
	}
	return false
}

// runs reports whether a version differs from the wanted one only in that images of it
// are not pinned, and its pods run those contents all the same.
func (r *release) runs(x *version, pins map[string]string) bool {
	had := x.set.Spec.Pod.Images
	for image, digest := range had {
		if pins[image] != digest {
			return false
		}
	}
	if maps.Equal(had, pins) || x.set.Annotations[object.AnnotationVersion] != r.version(had) {
		return false
	}
	some := false
	for p := range r.v.PodsOf(x.set.Ref()) {
		if !live(p) {
			continue
		}
		t := r.v.Template(p)
		if t == nil {
			return false
		}
		for _, list := range [][]object.Container{t.Init, t.Containers} {
			for i := range list {
				if digest := pins[list[i].Image]; digest != "" && !shows(p, list[i].Name, digest) {
					return false
				}
			}
		}
		some = true
	}
	return some
}

// shows reports whether a pod's container is seen to run a content.
func shows(p *object.Pod, container, digest string) bool {
	for i := range p.Status.Containers {
		if st := &p.Status.Containers[i]; st.Name == container {
			return strings.HasSuffix(st.Image, "@"+digest)
		}
	}
	return false
}

// version is the digest of the deployment's template with these pins.
func (r *release) version(pins map[string]string) string {
	t := r.d.Spec.Pod
	t.Reads, t.Images = r.reads.rolling, pins
	return versionOf(t, r.d)
}
