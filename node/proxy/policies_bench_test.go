package proxy

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/berthdev/berth/cluster/object"
)

// crowd is policies for a hundred local pods in ten namespaces, each of whom lets
// in five hundred peers.
func crowd() (pods []*object.Pod, policies []*object.PolicyRules) {
	for ns := range 10 {
		var peers []string
		for i := range 500 {
			peers = append(peers, netip.AddrFrom4([4]byte{10, 78, byte(ns*20 + i/25), byte(2*(i%25) + 1)}).String())
		}
		policies = append(policies, newRules(fmt.Sprintf("ns%d", ns), "in", object.PolicyRulesSpec{Ingress: &object.PolicyRuleSet{Rules: []object.PolicyRule{{Peers: peers, Ports: []object.ResolvedPort{tcp(8080, 8080)}}}}}))
		for i := range 10 {
			pods = append(pods, &object.Pod{Meta: object.Meta{Kind: object.KindPod, Namespace: fmt.Sprintf("ns%d", ns), Name: fmt.Sprintf("p%d", i)}})
		}
	}
	return pods, policies
}

// BenchmarkPolicies: how long a node takes to put policies in force, in a network
// namespace of its own: all of them at first, then one whose peers have changed by
// one, then one more pod.
func BenchmarkPolicies(b *testing.B) {
	skipWithoutRoot(b)
	pods, policies := crowd()
	ctx := context.Background()
	view := func(index uint64, policies []*object.PolicyRules) *object.NetworkView {
		return &object.NetworkView{Index: index, Network: &object.Network{}, Policies: policies}
	}
	guard := func(p *Policies, i int) error {
		return p.Guard(fmt.Sprint(i), pods[i%len(pods)], netip.AddrFrom4([4]byte{10, 77, byte(i / 250), byte(i%250 + 1)}), true)
	}
	start := func(b *testing.B, n *place) *Policies {
		p := &Policies{}
		n.do(func() {
			for i := range pods {
				if err := guard(p, i); err != nil {
					b.Fatal(err)
				}
			}
			if err := p.Apply(ctx, view(1, policies)); err != nil {
				b.Fatal(err)
			}
		})
		return p
	}
	b.Run("first", func(b *testing.B) {
		n := newPlace(b)
		for b.Loop() {
			p := start(b, n)
			b.StopTimer()
			n.do(func() { _ = p.Purge() })
			b.StartTimer()
		}
	})
	b.Run("change", func(b *testing.B) {
		n := newPlace(b)
		p := start(b, n)
		i := 0
		for b.Loop() {
			changed := slices.Clone(policies)
			c := changed[3].Clone().(*object.PolicyRules)
			set := *c.Spec.Ingress
			set.Rules = slices.Clone(set.Rules)
			set.Rules[0].Peers = append(slices.Clone(set.Rules[0].Peers), fmt.Sprintf("10.90.0.%d", i%250))
			c.Spec.Ingress = &set
			changed[3] = c
			i++
			n.do(func() {
				if err := p.Apply(ctx, view(uint64(i+1), changed)); err != nil {
					b.Fatal(err)
				}
			})
		}
	})
	b.Run("pod", func(b *testing.B) {
		n := newPlace(b)
		p := start(b, n)
		i := len(pods)
		for b.Loop() {
			n.do(func() {
				if err := guard(p, i); err != nil {
					b.Fatal(err)
				}
				if err := p.Release(fmt.Sprint(i)); err != nil {
					b.Fatal(err)
				}
			})
		}
	})
}
