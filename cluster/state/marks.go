package state

import (
	"iter"
	"maps"
	"slices"

	"github.com/berthdev/berth/cluster/object"
)

// A mark is something by which pods and services are looked up beside their
// name: each label of a pod, the template of a pod, the first label, in the order
// of the keys, of a service's selector and of each selector of peers in a network
// policy, what a service claims for itself, and each config map and secret that a
// template reads, be it a deployment's, a replica set's or one of pods. All stand in one tree of links from
// mark to object; the kind of the mark tells them apart.
func labelMark(k object.Kind, namespace, key, value string) object.Ref {
	return object.Ref{Kind: k, Namespace: namespace, Name: key + "\x00" + value}
}

// remark brings the marks of an object from before to after. Status reports,
// which are most writes, leave them alone.
func (s *Store) remark(r object.Ref, before, after object.Object) {
	idx := s.live.idx.byMark
	switch r.Kind {
	case object.KindPod:
		old, _ := before.(*object.Pod)
		now, _ := after.(*object.Pod)
		if old != nil && now != nil && old.Spec.Template == now.Spec.Template && maps.Equal(old.Labels, now.Labels) {
			return
		}
		s.dirty.byMark = true
		if old != nil {
			for k, v := range old.Labels {
				s.unmark(labelMark(object.KindPod, r.Namespace, k, v), r)
			}
			s.unmark(object.Ref{Kind: object.KindTemplate, Namespace: r.Namespace, Name: old.Spec.Template}, r)
		}
		if now != nil {
			for k, v := range now.Labels {
				s.mark(labelMark(object.KindPod, r.Namespace, k, v), r)
			}
			if now.Spec.Template != "" {
				s.mark(object.Ref{Kind: object.KindTemplate, Namespace: r.Namespace, Name: now.Spec.Template}, r)
			}
		}
	case object.KindService:
		move(idx, &s.hints.byMark[0], &s.dirty.byMark, r, selectorMark(before), selectorMark(after))
		was, is := claimsOf(before), claimsOf(after)
		for _, c := range was {
			if !slices.Contains(is, c) {
				move(idx, &s.hints.byMark[0], &s.dirty.byMark, r, claimMark(c), object.Ref{})
			}
		}
		for _, c := range is {
			if !slices.Contains(was, c) {
				move(idx, &s.hints.byMark[0], &s.dirty.byMark, r, object.Ref{}, claimMark(c))
			}
		}
	case object.KindDeployment, object.KindReplicaSet, object.KindTemplate:
		if before != nil && after != nil && before.Head().Version == after.Head().Version && before.Head().StatusVersion != after.Head().StatusVersion {
			return // two entries of one batch may have one version, but this one wrote a status
		}
		was, is := readMarks(before), readMarks(after)
		if slices.Equal(was, is) {
			return
		}
		s.dirty.byMark = true
		for _, m := range was {
			s.unmark(m, r)
		}
		for _, m := range is {
			s.mark(m, r)
		}
	case object.KindNetworkPolicy:
		old, now := peerMarks(before), peerMarks(after)
		if maps.Equal(old, now) {
			return
		}
		s.dirty.byMark = true
		for m := range old {
			idx.Delete(link{m, r})
		}
		for m := range now {
			idx.Set(link{m, r})
		}
	}
}

func (s *Store) mark(m, r object.Ref) {
	s.live.idx.byMark.SetHint(link{m, r}, s.hints.of(m))
}

func (s *Store) unmark(m, r object.Ref) {
	s.live.idx.byMark.DeleteHint(link{m, r}, s.hints.of(m))
}

func claimMark(claim string) object.Ref { return object.Ref{Kind: object.KindNetwork, Name: claim} }

func claimsOf(o object.Object) []string {
	if svc, ok := o.(*object.Service); ok {
		return svc.Spec.Claims()
	}
	return nil
}

// ServicesClaiming yields the services that claim an address or a node port for
// themselves, in a fixed order; see object.ServiceSpec.Claims.
func (v *Snapshot) ServicesClaiming(claim string) iter.Seq[*object.Service] {
	return func(yield func(*object.Service) bool) {
		for r := range v.links(v.idx.byMark, claimMark(claim)) {
			if s, ok := Find[*object.Service](v, r); ok && !yield(s) {
				return
			}
		}
	}
}

// readMarks are what a template reads.
func readMarks(o object.Object) []object.Ref {
	switch x := o.(type) {
	case *object.Deployment:
		return x.Spec.Pod.ReadRefs(x.Namespace)
	case *object.ReplicaSet:
		return x.Spec.Pod.ReadRefs(x.Namespace)
	case *object.Template:
		return x.Spec.ReadRefs(x.Namespace)
	}
	return nil
}

// Readers yields the objects of a kind whose template reads a config map or secret:
// deployments, replica sets, or the templates of pods; ordered by name. It looks at no
// others.
func (v *Snapshot) Readers(read object.Ref, kind object.Kind) iter.Seq[object.Ref] {
	return func(yield func(object.Ref) bool) {
		for r := range v.links(v.idx.byMark, read) {
			if r.Kind == kind && !yield(r) {
				return
			}
		}
	}
}

// PodsFrom yields the pods of a template, ordered by name.
func (v *Snapshot) PodsFrom(template object.Ref) iter.Seq[*object.Pod] {
	return func(yield func(*object.Pod) bool) {
		w := walk{v: v}
		for r := range v.links(v.idx.byMark, template) {
			if p, ok := w.pod(r); ok && !yield(p) {
				return
			}
		}
	}
}

func selectorMark(o object.Object) object.Ref {
	svc, ok := o.(*object.Service)
	if !ok || len(svc.Spec.Selector) == 0 {
		return object.Ref{}
	}
	return firstMark(object.KindService, svc.Namespace, svc.Spec.Selector)
}

// firstMark is that of a selector's first label; of none, that of everything.
func firstMark(k object.Kind, namespace string, selector map[string]string) object.Ref {
	if len(selector) == 0 {
		return labelMark(k, namespace, "", "")
	}
	first := slices.Min(slices.Collect(maps.Keys(selector)))
	return labelMark(k, namespace, first, selector[first])
}

// anywhere stands in a mark for namespaces that are picked by their labels; no
// namespace has this name.
const anywhere = "*"

// peerMarks are of the selectors by which a policy picks pods as peers.
func peerMarks(o object.Object) map[object.Ref]bool {
	p, ok := o.(*object.NetworkPolicy)
	if !ok {
		return nil
	}
	marks := map[object.Ref]bool{}
	for peer := range p.Spec.Peers() {
		switch {
		case peer.CIDR != "" || peer.Nodes:
		case len(peer.Namespaces) > 0:
			for _, ns := range peer.Namespaces {
				marks[firstMark(object.KindNetworkPolicy, ns, peer.Selector)] = true
			}
		case len(peer.NamespaceSelector) > 0:
			marks[firstMark(object.KindNetworkPolicy, anywhere, peer.Selector)] = true
		default:
			marks[firstMark(object.KindNetworkPolicy, p.Namespace, peer.Selector)] = true
		}
	}
	return marks
}

// PoliciesAbout yields the network policies that may have pods of a namespace with
// these labels among their peers, in a fixed order; some more than once, and some
// that turn out not to. It looks at none whose selectors all begin with other labels.
func (v *Snapshot) PoliciesAbout(namespace string, labels map[string]string) iter.Seq[*object.NetworkPolicy] {
	return func(yield func(*object.NetworkPolicy) bool) {
		for _, ns := range []string{namespace, anywhere} {
			for _, k := range append([]string{""}, slices.Sorted(maps.Keys(labels))...) {
				for r := range v.links(v.idx.byMark, labelMark(object.KindNetworkPolicy, ns, k, labels[k])) {
					if p, ok := Find[*object.NetworkPolicy](v, r); ok && !yield(p) {
						return
					}
				}
			}
		}
	}
}

// PodsWith yields the pods of a namespace that carry all the labels, ordered by
// name; no labels select no pod. It costs as much as the rarest of the labels
// has pods.
func (v *Snapshot) PodsWith(namespace string, labels map[string]string) iter.Seq[*object.Pod] {
	var rarest object.Ref
	fewest := -1
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		mark := labelMark(object.KindPod, namespace, k, labels[k])
		n := 0
		for range v.links(v.idx.byMark, mark) {
			if n++; fewest >= 0 && n >= fewest {
				break
			}
		}
		if fewest < 0 || n < fewest {
			rarest, fewest = mark, n
		}
	}
	return func(yield func(*object.Pod) bool) {
		if fewest <= 0 {
			return
		}
		w := walk{v: v}
		for r := range v.links(v.idx.byMark, rarest) {
			if p, ok := w.pod(r); ok && object.HasLabels(p.Labels, labels) && !yield(p) {
				return
			}
		}
	}
}

// ServicesFor yields the services of a namespace whose selector picks pods with
// these labels, in a fixed order. It looks at no service with another selector.
func (v *Snapshot) ServicesFor(namespace string, labels map[string]string) iter.Seq[*object.Service] {
	return func(yield func(*object.Service) bool) {
		if v.Count(object.KindService) == 0 {
			return
		}
		for _, k := range slices.Sorted(maps.Keys(labels)) {
			for r := range v.links(v.idx.byMark, labelMark(object.KindService, namespace, k, labels[k])) {
				if s, ok := Find[*object.Service](v, r); ok && object.HasLabels(labels, s.Spec.Selector) && !yield(s) {
					return
				}
			}
		}
	}
}

// Runs reports whether any pod refers to the template.
func (v *Snapshot) Runs(template object.Ref) bool {
	for range v.links(v.idx.byMark, template) {
		return true
	}
	return false
}
