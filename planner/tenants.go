package planner

import (
	"fmt"
	"slices"
	"strings"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// tenants counts what the pods of namespaces ask for while a plan is rehearsed, as
// quotas count it, and what they would ask for if no quota kept pods back.
type tenants struct {
	began  *state.Snapshot
	spaces map[string]*tenant
	held   map[object.Ref]shortage // sets and bare pods that a quota keeps back just now
}

type tenant struct {
	now, peak, need object.Quota
	quota           *object.Quota
}

// shortage is what a quota keeps back of one set.
type shortage struct {
	namespace string
	stack     string
	ask       object.Quota // of all missing pods together
	pods      []object.Ref
	why       string
}

func newTenants(v *state.Snapshot) *tenants {
	return &tenants{began: v, spaces: map[string]*tenant{}, held: map[object.Ref]shortage{}}
}

func plus(a, b object.Quota, times int) object.Quota {
	return object.Quota{CPU: a.CPU + object.CPU(times)*b.CPU, Memory: a.Memory + object.Bytes(times)*b.Memory, Pods: a.Pods + times*b.Pods}
}

func most(a, b object.Quota) object.Quota {
	return object.Quota{CPU: max(a.CPU, b.CPU), Memory: max(a.Memory, b.Memory), Pods: max(a.Pods, b.Pods)}
}

// share is what a pod counts for, nothing when it has ended or was not let in yet.
func share(p *object.Pod) object.Quota {
	if p == nil || p.Terminal() && !p.Returns() || p.Spec.Template == "" {
		return object.Quota{}
	}
	return object.Quota{CPU: p.Spec.CPU, Memory: p.Spec.Memory, Pods: 1}
}

// of is a namespace from now on; its pods are counted the first time.
func (t *tenants) of(namespace string) *tenant {
	x := t.spaces[namespace]
	if x == nil {
		x = &tenant{}
		for p := range state.All[*object.Pod](t.began, object.KindPod, state.InNamespace(namespace)) {
			x.now = plus(x.now, share(p), 1)
		}
		x.peak, x.need = x.now, x.now
		t.spaces[namespace] = x
	}
	return x
}

// record takes in one write. All of it happens at once.
func (t *tenants) record(v *state.Snapshot, events []state.Event) {
	touched := map[string]bool{}
	for i := range events {
		e := &events[i]
		switch e.Ref.Kind {
		case object.KindPod:
			before, _ := e.Before.(*object.Pod)
			after, _ := e.After.(*object.Pod)
			was, is := share(before), share(after)
			if was != is {
				x := t.of(e.Ref.Namespace)
				x.now = plus(plus(x.now, is, 1), was, -1)
				touched[e.Ref.Namespace] = true
			}
			if after != nil && after.Status.Reason == object.ReasonQuota && !after.Terminal() && after.Spec.Pod != nil {
				s := shortage{namespace: after.Namespace, stack: after.Stack, pods: []object.Ref{e.Ref}, why: after.Status.Message}
				s.ask.CPU, s.ask.Memory = after.Spec.Pod.Asks()
				s.ask.Pods = 1
				t.held[e.Ref] = s
				touched[e.Ref.Namespace] = true
			} else {
				delete(t.held, e.Ref)
			}
			if after != nil && !after.Owner.IsZero() {
				if _, held := t.held[after.Owner]; held {
					t.look(v, after.Owner)
				}
			}
		case object.KindReplicaSet:
			if t.look(v, e.Ref) {
				touched[e.Ref.Namespace] = true
			}
		}
	}
	for namespace := range touched {
		x := t.of(namespace)
		x.peak = most(x.peak, x.now)
		need := x.now
		for _, s := range t.held {
			if s.namespace == namespace {
				need = plus(need, s.ask, 1)
			}
		}
		x.need = most(x.need, need)
		if ns, ok := state.Find[*object.Namespace](v, object.Ref{Kind: object.KindNamespace, Name: namespace}); ok {
			x.quota = ns.Spec.Quota
		}
	}
}

// look notes how much of a set is kept back; false if nothing is.
func (t *tenants) look(v *state.Snapshot, r object.Ref) bool {
	delete(t.held, r)
	rs, ok := state.Find[*object.ReplicaSet](v, r)
	if !ok {
		return false
	}
	why, held := strings.CutPrefix(rs.Status.LastFailure, object.ReasonQuota+": ")
	if !held {
		return false
	}
	names := map[string]bool{}
	live := 0
	for p := range v.PodsOf(r) {
		names[p.Name] = true
		if !p.Terminal() && !p.Spec.Stop {
			live++
		}
	}
	missing := rs.Spec.Replicas - live
	if missing <= 0 {
		return false
	}
	s := shortage{namespace: r.Namespace, stack: rs.Stack, why: why}
	one := object.Quota{Pods: 1}
	one.CPU, one.Memory = rs.Spec.Pod.Asks()
	s.ask = plus(s.ask, one, missing)
	for n := 0; len(s.pods) < missing; n++ {
		if name := fmt.Sprintf("%s-%d", rs.Name, n); !names[name] {
			s.pods = append(s.pods, object.Ref{Kind: object.KindPod, Namespace: r.Namespace, Name: name})
		}
	}
	t.held[r] = s
	return true
}

// peaks are the namespaces in which something changed, ordered by name.
func (t *tenants) peaks() []object.NamespacePeak {
	var out []object.NamespacePeak
	for name, x := range t.spaces {
		p := object.NamespacePeak{Namespace: name, Peak: x.peak, Quota: x.quota}
		if x.need != x.peak {
			need := x.need
			p.Need = &need
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b object.NamespacePeak) int { return strings.Compare(a.Namespace, b.Namespace) })
	return out
}

// kept are the pods that a quota keeps back when the rehearsal ends: they are never
// made, so that no scheduler says anything of them.
func (t *tenants) kept(concerns func(stack string) bool) []object.Unplaced {
	var out []object.Unplaced
	for r, s := range t.held {
		if !concerns(s.stack) || t.before(r) {
			continue
		}
		x := t.of(s.namespace)
		why := s.why
		if needs := over(x.need, x.quota); needs != "" {
			why += " (at its peak the rollout needs " + needs + ")"
		}
		for _, p := range s.pods {
			out = append(out, object.Unplaced{Pod: p, Reason: why})
		}
	}
	return out
}

// before reports whether a quota kept pods of a set back when all this began.
func (t *tenants) before(r object.Ref) bool {
	rs, ok := state.Find[*object.ReplicaSet](t.began, r)
	return ok && strings.HasPrefix(rs.Status.LastFailure, object.ReasonQuota+": ")
}

// over is what of a need is more than a quota allows: "5 pods, 600m cpu".
func over(need object.Quota, quota *object.Quota) string {
	if quota == nil {
		return ""
	}
	var out []string
	if quota.Pods > 0 && need.Pods > quota.Pods {
		out = append(out, fmt.Sprintf("%d pods", need.Pods))
	}
	if quota.CPU > 0 && need.CPU > quota.CPU {
		out = append(out, need.CPU.String()+" cpu")
	}
	if quota.Memory > 0 && need.Memory > quota.Memory {
		out = append(out, need.Memory.Human()+" memory")
	}
	return strings.Join(out, ", ")
}
