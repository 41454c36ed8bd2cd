package controller

import (
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// endpoints keep, for each service, the list of the pods that it leads to.
type endpoints struct{}

func (endpoints) Name() string { return "endpoints" }

func (endpoints) Inputs() []Input {
	return []Input{
		{Kind: object.KindService, Keys: self},
		{Kind: object.KindDeployment, Keys: func(v *state.Snapshot, e state.Event) []object.Ref {
			before, _ := e.Before.(*object.Deployment)
			after, _ := e.After.(*object.Deployment)
			if weighed(before) == weighed(after) {
				return nil
			}
			var keys []object.Ref
			for s := range v.ServicesFor(e.Ref.Namespace, latest(e).(*object.Deployment).Spec.Pod.Labels) {
				keys = append(keys, s.Ref())
			}
			return keys
		}},
		{Kind: object.KindPod, Keys: func(v *state.Snapshot, e state.Event) []object.Ref {
			before, _ := e.Before.(*object.Pod)
			after, _ := e.After.(*object.Pod)
			if serving(before) == serving(after) && (before == nil || after == nil || maps.Equal(before.Labels, after.Labels)) {
				return nil
			}
			var keys []object.Ref
			for _, p := range []*object.Pod{before, after} {
				if p == nil {
					continue
				}
				for s := range v.ServicesFor(p.Namespace, p.Labels) {
					if !slices.Contains(keys, s.Ref()) {
						keys = append(keys, s.Ref())
					}
				}
			}
			return keys
		}},
	}
}

func (endpoints) Outputs() []object.Kind { return []object.Kind{object.KindEndpoints} }

// place is all of a pod that a service's endpoints depend on, besides its labels.
type place struct {
	created                 uint64
	node, address, template string
	ready, leaving          bool
}

// serving is where a pod can be reached, a stopping one by those whom it still
// answers; the zero place is nowhere.
func serving(p *object.Pod) place {
	if p == nil || p.Terminal() || p.Spec.Node == "" || p.Status.Address == "" {
		return place{}
	}
	return place{p.Created, p.Spec.Node, p.Status.Address, p.Spec.Template, p.Status.Ready && !p.Spec.Stop, p.Spec.Stop}
}

func (endpoints) Reconcile(v *state.Snapshot, key object.Ref, now time.Time) (Result, error) {
	w := begin("endpoints", v, now)
	ref := object.Ref{Kind: object.KindEndpoints, Namespace: key.Namespace, Name: key.Name}
	have, exists := state.Find[*object.Endpoints](v, ref)
	svc, ok := state.Find[*object.Service](v, key)
	if !ok || svc.Spec.Type == "external" {
		if exists && have.Owner == key {
			what := "is gone"
			if ok {
				what = "leads outside"
			}
			w.because("service %s %s", key.Name, what)
			w.Changes.Delete(have)
		}
		return w.done()
	}
	want := &object.Endpoints{Meta: object.Meta{Kind: object.KindEndpoints, Namespace: key.Namespace, Name: key.Name, Labels: svc.Labels, Stack: svc.Stack, Owner: key}}
	split := map[object.Ref]int{} // weights of the canaries' sets
	if len(svc.Spec.Shares) == 0 && !svc.Spec.Preview {
		split = weights(v, svc)
	}
	want.Spec.Shares = divide(split)
	for p := range v.PodsWith(key.Namespace, svc.Spec.Selector) {
		at := serving(p)
		if at == (place{}) || svc.Spec.Preview && !newest(v, p) {
			continue
		}
		e := object.Endpoint{Pod: p.Name, Node: at.node, Address: at.address, Share: share(svc, split, p), Ports: targets(svc, v.Template(p))}
		switch {
		case at.leaving:
			want.Spec.Leaving = append(want.Spec.Leaving, e)
		case at.ready:
			want.Spec.Ready = append(want.Spec.Ready, e)
		default:
			want.Spec.NotReady = append(want.Spec.NotReady, e)
		}
	}
	w.because("pods of service %s", key.Name)
	switch {
	case !exists:
		w.Changes.Create(want)
	case !reflect.DeepEqual(have.Spec, want.Spec) || have.Stack != want.Stack || have.Owner != want.Owner || !maps.Equal(have.Labels, want.Labels):
		w.Changes.Update(have, want)
	}
	return w.done()
}

// standing is what the endpoints depend on of a deployment: which version is the
// newest, which was stable last, and which gets so many of the connections.
type standing struct {
	newest, proven, canary string
	weight                 int
}

func weighed(d *object.Deployment) standing {
	if d == nil {
		return standing{}
	}
	s := standing{newest: d.Status.Set}
	if c := d.Status.Canary; c != nil && (d.Spec.Update.Strategy != "rolling" || c.Set != d.Status.Set) {
		s.proven, s.canary, s.weight = d.Status.Proven, c.Set, c.Weight
	}
	return s
}

// weights are the percentages of the canaries that the service leads to, by set. A
// version that was given up before it was stable gets none.
func weights(v *state.Snapshot, svc *object.Service) map[object.Ref]int {
	out := map[object.Ref]int{}
	seen := map[object.Ref]bool{}
	for p := range v.PodsWith(svc.Namespace, svc.Spec.Selector) {
		if seen[p.Owner] {
			continue
		}
		seen[p.Owner] = true
		rs, ok := state.Find[*object.ReplicaSet](v, p.Owner)
		if !ok {
			continue
		}
		d, ok := state.Find[*object.Deployment](v, rs.Owner)
		switch s := weighed(d); {
		case !ok || s.canary == "":
		case s.canary == rs.Name:
			out[p.Owner] = s.weight
		case rs.Name != s.proven && rs.Name != d.Status.Previous:
			out[p.Owner] = 0
		}
	}
	return out
}

// newest reports whether a pod is of the newest version of its deployment, or of none.
func newest(v *state.Snapshot, p *object.Pod) bool {
	rs, ok := state.Find[*object.ReplicaSet](v, p.Owner)
	if !ok {
		return true
	}
	d, ok := state.Find[*object.Deployment](v, rs.Owner)
	return !ok || d.Status.Set == "" || d.Status.Set == rs.Name
}

// stableShare is everything that is no canary.
const stableShare = "stable"

// divide gives the canaries their weights and the rest to all other pods; nil
// without a canary.
func divide(weight map[object.Ref]int) []object.EndpointShare {
	if len(weight) == 0 {
		return nil
	}
	rest := 100
	var out []object.EndpointShare
	for _, r := range slices.SortedFunc(maps.Keys(weight), object.Ref.Compare) {
		out = append(out, object.EndpointShare{Name: r.Name, Weight: weight[r]})
		rest -= weight[r]
	}
	return append(out, object.EndpointShare{Name: stableShare, Weight: max(rest, 0)})
}

// share is the first of the service's shares that the pod fits, or none; with a
// canary it is the canary's or that of all others.
func share(svc *object.Service, split map[object.Ref]int, p *object.Pod) string {
	if len(split) > 0 {
		if _, ok := split[p.Owner]; ok {
			return p.Owner.Name
		}
		return stableShare
	}
	for i := range svc.Spec.Shares {
		if object.HasLabels(p.Labels, svc.Spec.Shares[i].Selector) {
			return svc.Spec.Shares[i].Name
		}
	}
	return ""
}

// targets are the pod's ports by the names of the service's. A port that the
// template does not name is left out: nothing listens there.
func targets(svc *object.Service, t *object.PodTemplate) map[string]int {
	if len(svc.Spec.Ports) == 0 {
		return nil
	}
	ports := make(map[string]int, len(svc.Spec.Ports))
	for _, sp := range svc.Spec.Ports {
		if sp.Target == "" {
			ports[sp.Name] = sp.Port
			continue
		}
		if n, ok := sp.Target.Number(); ok {
			ports[sp.Name] = n
			continue
		}
		if t == nil {
			continue
		}
		for i := range t.Containers {
			for _, cp := range t.Containers[i].Ports {
				if cp.Name == string(sp.Target) {
					ports[sp.Name] = cp.Port
				}
			}
		}
	}
	return ports
}
