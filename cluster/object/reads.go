package object

import (
	"maps"
	"slices"
)

// The keys of a secret that PodTemplate.Credentials names.
const (
	RegistryUsername = "username"
	RegistryPassword = "password"
	RegistryHost     = "registry" // optional: the only registry that is shown them
)

// ReadRefs lists the config maps and secrets whose content the pods read, as
// volumes, whole environments, single variables or registry credentials, sorted,
// each once. Names in a template mean the namespace of its pods.
func (t *PodTemplate) ReadRefs(namespace string) []Ref {
	var out []Ref
	add := func(k Kind, name string) {
		if name != "" {
			out = append(out, Ref{Kind: k, Namespace: namespace, Name: name})
		}
	}
	add(KindSecret, t.Credentials)
	for _, v := range t.Volumes {
		add(KindConfigMap, v.ConfigMap)
		add(KindSecret, v.Secret)
	}
	for _, list := range [][]Container{t.Init, t.Containers} {
		for i := range list {
			for _, e := range list[i].EnvFrom {
				add(KindConfigMap, e.ConfigMap)
				add(KindSecret, e.Secret)
			}
			for _, text := range list[i].Env {
				for _, k := range text.Secrets() {
					add(KindSecret, k.Name)
				}
			}
		}
	}
	slices.SortFunc(out, Ref.Compare)
	return slices.Compact(out)
}

// Versions are the contents that the pod reads: those that its template pins, or
// what it was given since in place of them.
func (p *Pod) Versions(t *PodTemplate) map[string]string {
	if len(p.Spec.Reads) == 0 {
		return t.Reads
	}
	out := make(map[string]string, len(t.Reads))
	maps.Copy(out, t.Reads)
	maps.Copy(out, p.Spec.Reads)
	return out
}

// TemplateOf is what the object's pods run; nil for kinds without pods, and for
// pods whose template is kept apart (see Template).
func TemplateOf(o Object) *PodTemplate {
	switch x := o.(type) {
	case *Deployment:
		return &x.Spec.Pod
	case *ReplicaSet:
		return &x.Spec.Pod
	case *Pod:
		return x.Spec.Pod
	}
	return nil
}

// ContentDigest is the digest of a config map's or secret's data, by which a
// version of it is named; secrets count by the keyed digests of their values.
// It is empty for other kinds.
func ContentDigest(o Object) string {
	switch x := o.(type) {
	case *ConfigMap:
		return Digest(x.Spec.Data)
	case *Secret:
		keys := make(map[string]string, len(x.Spec.Data))
		for _, k := range slices.Sorted(maps.Keys(x.Spec.Data)) {
			keys[k] = x.Spec.Data[k].Digest
		}
		return Digest(keys)
	}
	return ""
}
