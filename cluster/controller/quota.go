package controller

import (
	"fmt"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// reasonQuota is why pods are not made although they are wanted.
const reasonQuota = "quota"

// quotaRoom says how many of n pods with these asks the quota of a namespace
// still allows, and what it does not. Namespaces without a quota cost nothing;
// with one its pods are counted.
func quotaRoom(v *state.Snapshot, namespace string, cpu object.CPU, memory object.Bytes, n int) (int, *failure) {
	ns, ok := state.Find[*object.Namespace](v, object.Ref{Kind: object.KindNamespace, Name: namespace})
	if !ok || ns.Spec.Quota == nil {
		return n, nil
	}
	q := *ns.Spec.Quota
	var used state.Usage
	for p := range state.All[*object.Pod](v, object.KindPod, state.InNamespace(namespace)) {
		if !p.Terminal() && p.Spec.Template != "" { // without a template it has not been let in yet
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
