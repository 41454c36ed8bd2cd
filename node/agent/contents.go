package agent

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/berthdev/berth/cluster/object"
)

// What a pod's volumes hold that are made of config maps and secrets.

// files are the contents of config map and secret volumes, by volume.
func (w *worker) files(contents map[string]map[string]string) (map[string]map[string]string, error) {
	files := map[string]map[string]string{}
	for _, v := range w.pod.Spec.Pod.Volumes {
		key := contentKey(&v)
		if key == "" {
			continue
		}
		data, ok := contents[key]
		if !ok {
			return nil, notPinned(key, "volume "+v.Name)
		}
		files[v.Name] = data
	}
	return files, nil
}

// contentKey is what a volume has the content of, as "kind/name"; empty for others.
func contentKey(v *object.Volume) string {
	switch {
	case v.ConfigMap != "":
		return "config_map/" + v.ConfigMap
	case v.Secret != "":
		return "secret/" + v.Secret
	}
	return ""
}

func notPinned(key, who string) error {
	kind, name, _ := strings.Cut(key, "/")
	return object.Errorf(object.CodeInvalid, object.Ref{}, "%s reads %s %q, of which the pod's template has no version; does it exist?", who, strings.ReplaceAll(kind, "_", " "), name)
}

// checkMounts finds mounts of volumes and files that are not there.
func (w *worker) checkMounts(files map[string]map[string]string) error {
	for _, r := range w.runners {
		for _, m := range r.c.Mounts {
			i := slices.IndexFunc(w.pod.Spec.Pod.Volumes, func(v object.Volume) bool { return v.Name == m.Volume })
			if i < 0 {
				return object.Errorf(object.CodeInvalid, object.Ref{}, "container %s mounts volume %q, which the pod does not have", r.c.Name, m.Volume)
			}
			data, isContent := files[m.Volume]
			if _, ok := data[m.File]; m.File != "" && isContent && !ok {
				keys := slices.Sorted(maps.Keys(data))
				return object.Errorf(object.CodeInvalid, object.Ref{}, "container %s mounts file %q of volume %s, which has only: %s%s",
					r.c.Name, m.File, m.Volume, strings.Join(keys, ", "), cmp.Or(prefixed(" ", object.DidYouMean(m.File, keys)), ""))
			}
		}
	}
	return nil
}

func prefixed(p, s string) string {
	if s == "" {
		return ""
	}
	return p + s
}
