package controller

import (
	"fmt"
	"slices"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// reads are the config maps and secrets that a template reads, at their present
// versions.
type reads struct {
	pinned   map[string]string // PodTemplate.Reads: all of them
	rolling  map[string]string // those of which another content is another version of the pods
	contents []object.Object   // versions that are not in the state yet
	known    []object.Object   // versions that are; they must not go in the meantime
}

func readKey(r object.Ref) string { return string(r.Kind) + "/" + r.Name }

// resolve finds the versions. The failure says what is missing.
func resolve(v *state.Snapshot, namespace string, t *object.PodTemplate) (reads, *failure) {
	var out reads
	refs := t.ReadRefs(namespace)
	if len(refs) == 0 {
		return out, nil // nor is a key of anything read
	}
	for _, r := range refs {
		o, ok := v.Get(r)
		if !ok {
			return reads{}, &failure{reason: object.ReasonConfig, message: fmt.Sprintf("%s does not exist in namespace %s; create it, or remove the reference", readKey(r), namespace)}
		}
		out.add(v, o)
	}
	if f := missingKey(v, namespace, t); f != nil {
		return reads{}, f
	}
	if len(out.rolling) == 0 {
		out.rolling = nil
	}
	return out, nil
}

// add notes a config map or secret at its present version.
func (r *reads) add(v *state.Snapshot, o object.Object) {
	of, digest := o.Ref(), object.ContentDigest(o)
	content := &object.Content{
		Meta: object.Meta{Kind: object.KindContent, Namespace: of.Namespace, Name: object.ContentName(of, digest)},
		Spec: object.ContentSpec{Of: of},
	}
	switch x := o.(type) {
	case *object.ConfigMap:
		content.Spec.Data = x.Spec.Data
	case *object.Secret:
		content.Spec.Keys = x.Spec.Data
	}
	if r.pinned == nil {
		r.pinned, r.rolling = map[string]string{}, map[string]string{}
	}
	r.pinned[readKey(of)] = digest
	if object.ReloadOf(o) == object.ReloadRestart {
		r.rolling[readKey(of)] = digest
	}
	if have, ok := v.Get(content.Ref()); ok {
		r.known = append(r.known, have)
	} else {
		r.contents = append(r.contents, content)
	}
}

// missingKey finds a key that a container or mount asks for and that its config
// map or secret does not have.
func missingKey(v *state.Snapshot, namespace string, t *object.PodTemplate) *failure {
	volumes := map[string]object.Volume{}
	for _, x := range t.Volumes {
		volumes[x.Name] = x
	}
	has := func(k object.Kind, name, key string) *failure {
		r := object.Ref{Kind: k, Namespace: namespace, Name: name}
		ok := false
		switch o, _ := v.Get(r); x := o.(type) {
		case *object.ConfigMap:
			_, ok = x.Spec.Data[key]
		case *object.Secret:
			_, ok = x.Spec.Data[key]
		}
		if ok {
			return nil
		}
		return &failure{reason: object.ReasonConfig, message: fmt.Sprintf("%s has no key %q", readKey(r), key)}
	}
	if t.Credentials != "" {
		for _, key := range []string{object.RegistryUsername, object.RegistryPassword} {
			if f := has(object.KindSecret, t.Credentials, key); f != nil {
				f.message = "registry_secret: " + f.message
				return f
			}
		}
	}
	for _, list := range [][]object.Container{t.Init, t.Containers} {
		for i := range list {
			for _, name := range sortedKeys(list[i].Env) {
				for _, k := range list[i].Env[name].Secrets() {
					if f := has(object.KindSecret, k.Name, k.Key); f != nil {
						f.message = fmt.Sprintf("container %s, env %s: %s", list[i].Name, name, f.message)
						return f
					}
				}
			}
			for _, m := range list[i].Mounts {
				x := volumes[m.Volume]
				var f *failure
				switch {
				case m.File == "":
				case x.ConfigMap != "":
					f = has(object.KindConfigMap, x.ConfigMap, m.File)
				case x.Secret != "":
					f = has(object.KindSecret, x.Secret, m.File)
				}
				if f != nil {
					f.message = fmt.Sprintf("container %s, mount %s: %s", list[i].Name, m.Volume, f.message)
					return f
				}
			}
		}
	}
	return nil
}

// pin writes the contents that are missing and makes sure that the others stay.
func (w *work) pin(r reads) {
	for _, o := range r.contents {
		if !slices.ContainsFunc(w.Changes.Changes, func(c object.Change) bool { return c.Ref == o.Ref() }) {
			w.Changes.Create(o)
		}
	}
	for _, o := range r.known {
		if len(o.Head().Annotations) == 0 {
			w.expect(o)
			continue
		}
		read := o.Clone() // it was about to be swept away
		read.Head().Annotations = nil
		w.Changes.Update(o, read)
	}
}

// intern makes sure that the template is in the state and returns its name.
func (w *work) intern(namespace string, t *object.PodTemplate) string {
	o := &object.Template{Meta: object.Meta{Kind: object.KindTemplate, Namespace: namespace, Name: object.Digest(t)}, Spec: *t}
	if have, ok := w.v.Get(o.Ref()); ok && w.v.Runs(o.Ref()) {
		w.expect(have)
	} else if ok {
		w.Changes.Update(have, o) // a new version of it, lest it be swept away at this moment
	} else if !slices.ContainsFunc(w.Changes.Changes, func(c object.Change) bool { return c.Ref == o.Ref() }) {
		w.Changes.Create(o)
	}
	return o.Name
}
