package controller

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// ingresses say in the status of each ingress which versions of its secrets are in
// force, so that a new certificate wakes the nodes that serve it (they see
// ingresses, not secrets), and in words what it lacks.
type ingresses struct{}

func (ingresses) Name() string { return "ingress" }

func (ingresses) Inputs() []Input {
	readers := func(reads func(*object.Ingress, object.Ref) bool) func(*state.Snapshot, state.Event) []object.Ref {
		return func(v *state.Snapshot, e state.Event) []object.Ref {
			var keys []object.Ref
			for o := range state.All[*object.Ingress](v, object.KindIngress, state.InNamespace(e.Ref.Namespace)) {
				if reads(o, e.Ref) {
					keys = append(keys, o.Ref())
				}
			}
			return keys
		}
	}
	return []Input{
		{Kind: object.KindIngress, Keys: self},
		{Kind: object.KindSecret, Keys: readers(func(o *object.Ingress, r object.Ref) bool { return slices.Contains(o.SecretRefs(), r) })},
		{Kind: object.KindService, Keys: readers(func(o *object.Ingress, r object.Ref) bool {
			return slices.ContainsFunc(o.Destinations(), func(d object.Destination) bool { return d.Service == r })
		})},
	}
}

func (ingresses) Outputs() []object.Kind { return []object.Kind{object.KindIngress} }

func (ingresses) Reconcile(v *state.Snapshot, key object.Ref, now time.Time) (Result, error) {
	w := begin("ingress", v, now)
	was, ok := state.Find[*object.Ingress](v, key)
	if !ok {
		return w.done()
	}
	var status object.IngressStatus
	var lacks []string
	for _, r := range was.SecretRefs() {
		s, ok := state.Find[*object.Secret](v, r)
		if !ok {
			lacks = append(lacks, fmt.Sprintf("secret %s does not exist", r.Name))
			continue
		}
		if status.Secrets == nil {
			status.Secrets = map[string]string{}
		}
		status.Secrets[r.Name] = object.ContentDigest(s)
		if t := was.Spec.TLS; t != nil && t.Secret == r.Name {
			for _, k := range []string{object.TLSCertificate, object.TLSKey} {
				if _, ok := s.Spec.Data[k]; !ok {
					lacks = append(lacks, fmt.Sprintf("secret %s has no key %q", r.Name, k))
				}
			}
		}
	}
	for _, d := range object.CheckDestinations(was, func(r object.Ref) *object.Service {
		s, _ := state.Find[*object.Service](v, r)
		return s
	}) {
		lacks = append(lacks, fmt.Sprintf("%s: %s", d.Path, d.Detail))
	}
	status.Message = strings.Join(lacks, "; ")
	w.because("what ingress %s reads", key.Name)
	setStatus(w, was, &was.Status, &status)
	return w.done()
}
