package controller

import (
	"maps"
	"slices"
	"strings"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// reloads wakes those who keep pods that a new content goes to while they run;
// keepers finds them. One that is created counts, too: it may have been deleted before,
// under pods that go on with what they had.
func reloads(keepers func(v *state.Snapshot, read object.Ref) []object.Ref) []Input {
	keys := func(v *state.Snapshot, e state.Event) []object.Ref {
		if object.ReloadOf(e.After) != object.ReloadSignal {
			return nil
		}
		return keepers(v, e.Ref)
	}
	return []Input{{Kind: object.KindConfigMap, Keys: keys}, {Kind: object.KindSecret, Keys: keys}}
}

// fresh are the present versions of what pods of the template are given while
// they run: config maps and secrets with reload = "signal". There are none as
// long as a key is missing that the template asks for: what the pods have works.
func fresh(v *state.Snapshot, namespace string, t *object.PodTemplate) reads {
	var out reads
	for _, r := range t.ReadRefs(namespace) {
		if o, ok := v.Get(r); ok && object.ReloadOf(o) == object.ReloadSignal {
			out.add(v, o)
		}
	}
	if len(out.pinned) > 0 && missingKey(v, namespace, t) != nil {
		return reads{}
	}
	return out
}

// instead is what a pod has to be given in place of what its template pins, to
// read the versions wanted; what it was given before stays, of others.
func instead(given, pinned, wanted map[string]string) map[string]string {
	out := maps.Clone(given)
	for _, key := range sortedKeys(wanted) {
		switch have, ok := pinned[key]; {
		case !ok:
		case have == wanted[key]:
			delete(out, key)
		default:
			if out == nil {
				out = map[string]string{}
			}
			out[key] = wanted[key]
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// refresh gives running pods the present versions of what they read with
// reload = "signal", as many as one changeset may write: their events bring the
// rest. Pods of which something else is written wait for that.
func (w *work) refresh(keeper object.Ref, t *object.PodTemplate, pods []*object.Pod) {
	now := fresh(w.v, keeper.Namespace, t)
	if len(now.pinned) == 0 {
		return
	}
	given, news := 0, map[string]bool{}
	for _, p := range pods {
		own := w.v.Template(p)
		if own == nil || p.Spec.Stop || p.Terminal() || given == podBatch {
			continue
		}
		reads := instead(p.Spec.Reads, own.Reads, now.pinned)
		if maps.Equal(reads, p.Spec.Reads) || slices.ContainsFunc(w.Changes.Changes, func(c object.Change) bool { return c.Ref == p.Ref() }) {
			continue
		}
		after := p.Clone().(*object.Pod)
		after.Spec.Reads = reads
		w.Changes.Update(p, after)
		given++
		before := p.Versions(own)
		for key, digest := range now.pinned {
			news[key] = news[key] || before[key] != digest
		}
	}
	if given > 0 {
		w.because("pods of %s get what they read anew", keeper.Name)
		w.pin(now)
		maps.DeleteFunc(news, func(_ string, is bool) bool { return !is })
		w.tell(keeper, levelInfo, "reloaded", "%s: new content of %s, while they run", plural(given, "pod"), strings.Join(sortedKeys(news), ", "))
	}
}
