package controller

import (
	"fmt"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// reasonQuota is why pods are not made although they are wanted.
const reasonQuota = object.ReasonQuota

// quotaOf is a namespace that has a quota, nil for others.
func (w *work) quotaOf(namespace string) *object.Namespace {
	ns, ok := state.Find[*object.Namespace](w.v, object.Ref{Kind: object.KindNamespace, Name: namespace})
	if !ok || ns.Spec.Quota == nil {
		return nil
	}
	return ns
}

// claim notes pods that this changeset lets in: they count for those after them
// in the same changeset, and of two changesets that saw the same room only the
// first is committed.
func (w *work) claim(namespace string, cpu object.CPU, memory object.Bytes, n int) {
	ns := w.quotaOf(namespace)
	if ns == nil || n == 0 {
		return
	}
	if w.claimed == nil {
		w.claimed = map[string]state.Usage{}
	}
	u, again := w.claimed[namespace]
	u.Pods, u.CPU, u.Memory = u.Pods+n, u.CPU+object.CPU(n)*cpu, u.Memory+object.Bytes(n)*memory
	w.claimed[namespace] = u
	if !again {
		after := ns.Clone().(*object.Namespace)
		after.Status.Admissions++
		w.Changes.UpdateStatus(ns, after)
	}
}

// quotaRoom says how many of n pods with these asks the quota of a namespace
// still allows, and what it does not. Namespaces without a quota cost nothing;
// with one its pods are counted. Who makes pods in the room claims it.
func (w *work) quotaRoom(namespace string, cpu object.CPU, memory object.Bytes, n int) (int, *failure) {
	ns := w.quotaOf(namespace)
	if ns == nil {
		return n, nil
	}
	q := *ns.Spec.Quota
	used := w.claimed[namespace]
	for p := range state.All[*object.Pod](w.v, object.KindPod, state.InNamespace(namespace)) {
		if (!p.Terminal() || p.Returns()) && p.Spec.Template != "" { // without a template it has not been let in yet
			used.CPU += p.Spec.CPU
			used.Memory += p.Spec.Memory
			used.Pods++
		}
	}
	room, short := n, ""
	limit := func(left, ask int64, what string) {
		fits := n
		if ask > 0 {
			fits = int(max(left, 0) / ask)
		}
		if fits < room {
			room, short = fits, what
		}
	}
	if q.Pods > 0 {
		limit(int64(q.Pods-used.Pods), 1, fmt.Sprintf("%d of %d pods are in use", used.Pods, q.Pods))
	}
	if q.CPU > 0 {
		limit(int64(q.CPU-used.CPU), int64(cpu), fmt.Sprintf("%s of %s cpu are in use, a pod asks for %s", used.CPU, q.CPU, cpu))
	}
	if q.Memory > 0 {
		limit(int64(q.Memory-used.Memory), int64(memory), fmt.Sprintf("%s of %s memory are in use, a pod asks for %s", used.Memory.Human(), q.Memory.Human(), memory.Human()))
	}
	if short == "" {
		return n, nil
	}
	return room, &failure{reason: reasonQuota, message: fmt.Sprintf("the quota of namespace %s leaves room for %d of %s: %s; raise it, or ask for less", namespace, room, plural(n, "pod"), short)}
}
