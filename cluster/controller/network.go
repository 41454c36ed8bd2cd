package controller

import (
	"fmt"
	"net/netip"
	"time"

	"go4.org/netipx"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// rangeHold is how long the range of a node that is no more is not another's:
// packets to its pods, and routes to it, may still be about.
const rangeHold = time.Minute

// networks give every node a range for its pods out of the network's. The account
// is exact: a range is a node's, held, or free, whoever leads and whatever he has
// not seen happen.
type networks struct{}

func (networks) Name() string { return "network" }

func (networks) Inputs() []Input {
	return []Input{
		{Kind: object.KindNetwork, Keys: self},
		{Kind: object.KindNode, Keys: func(_ *state.Snapshot, e state.Event) []object.Ref {
			before, _ := e.Before.(*object.Node)
			after, _ := e.After.(*object.Node)
			if before != nil && after != nil && after.Spec.PodRange != "" &&
				before.Spec.PodRange == after.Spec.PodRange && before.Status.PodRange == after.Status.PodRange {
				return nil
			}
			return []object.Ref{{Kind: object.KindNetwork, Name: object.NetworkName}}
		}},
	}
}

func (networks) Outputs() []object.Kind {
	return []object.Kind{object.KindNetwork, object.KindNode, object.KindEvent}
}

func (networks) Reconcile(v *state.Snapshot, key object.Ref, now time.Time) (Result, error) {
	w := begin("network", v, now)
	n, ok := state.Find[*object.Network](v, key)
	if !ok {
		return w.done()
	}
	pool, bits, ok := n.Spec.PodPool()
	if !ok {
		return w.done() // nothing can be given out of it
	}
	a := &ranges{pool: pool, bits: bits}
	a.read(v)
	a.adopt()
	a.hold(n.Status, now)
	left := a.allot()

	for _, x := range a.given {
		after := x.node.Clone().(*object.Node)
		after.Spec.PodRange = x.prefix.String()
		w.Changes.Update(x.node, after)
		w.because("pod ranges for nodes without one")
	}
	for _, x := range left {
		const reason = "no_pod_range"
		message := fmt.Sprintf("no pod range is left for it: all /%d of %s are taken or held. Give the network a larger range (pods), or remove nodes that are no more", bits, pool)
		if _, told := v.Get(object.Ref{Kind: object.KindEvent, Namespace: object.EventNamespace(x.Ref()), Name: object.EventName(x.Ref(), reason, message)}); !told {
			w.because("no pod range is left")
			w.tell(x.Ref(), levelWarning, reason, "%s", message)
		}
	}
	for _, h := range a.held {
		w.wake(h.Until)
	}
	w.because("the account of pod ranges")
	setStatus(w, n, &n.Status, &object.NetworkStatus{Allotted: a.account(), Held: a.held, Waiting: len(left)})
	w.expect(n)
	return w.done()
}

// ranges is the account while it is being made.
type ranges struct {
	pool netip.Prefix
	bits int

	taken   netipx.IPSetBuilder // allotted to nodes that are there
	inForce []netip.Prefix      // what nodes say that their pods' addresses are from
	waiting []*object.Node      // have none, in the order of their names
	held    []object.HeldRange
	given   []allotment
}

type allotment struct {
	node   *object.Node
	prefix netip.Prefix
}

// read takes in what the nodes have.
func (a *ranges) read(v *state.Snapshot) {
	for n := range state.All[*object.Node](v, object.KindNode) {
		if p, ok := object.Prefix(n.Status.PodRange); ok {
			a.inForce = append(a.inForce, p)
		}
		if p, ok := object.Prefix(n.Spec.PodRange); ok {
			a.taken.AddPrefix(p)
		} else {
			a.waiting = append(a.waiting, n)
		}
	}
}

// adopt lets nodes keep what they brought along from the time before the masters
// gave out ranges, or from another life, as far as it is nobody else's.
func (a *ranges) adopt() {
	var still []*object.Node
	taken := a.set(&a.taken)
	for _, n := range a.waiting {
		p, ok := object.Prefix(n.Status.PodRange)
		if ok && a.pool.Contains(p.Addr()) && p.Bits() >= a.pool.Bits() && !taken.OverlapsPrefix(p) {
			a.give(n, p)
			taken = a.set(&a.taken)
		} else {
			still = append(still, n)
		}
	}
	a.waiting = still
}

func (a *ranges) give(n *object.Node, p netip.Prefix) {
	a.taken.AddPrefix(p)
	a.given = append(a.given, allotment{n, p})
}

// hold keeps back what was allotted and is no node's any more.
func (a *ranges) hold(was object.NetworkStatus, now time.Time) {
	taken := a.set(&a.taken)
	var gone netipx.IPSetBuilder
	for _, s := range was.Allotted {
		if p, ok := object.Prefix(s); ok {
			gone.AddPrefix(p)
		}
	}
	gone.RemoveSet(taken)
	for _, h := range was.Held {
		var rest netipx.IPSetBuilder
		if p, ok := object.Prefix(h.Range); ok && h.Until.After(now) {
			rest.AddPrefix(p)
		}
		rest.RemoveSet(taken) // adopted
		for _, p := range a.set(&rest).Prefixes() {
			a.held = append(a.held, object.HeldRange{Range: p.String(), Until: h.Until})
		}
	}
	for _, p := range a.set(&gone).Prefixes() {
		a.held = append(a.held, object.HeldRange{Range: p.String(), Until: now.Add(rangeHold)})
	}
}

// allot gives the lowest free ranges to those that wait and returns for whom none
// is left.
func (a *ranges) allot() []*object.Node {
	if len(a.waiting) == 0 {
		return nil
	}
	var free netipx.IPSetBuilder
	free.AddPrefix(a.pool)
	free.RemoveSet(a.set(&a.taken))
	for _, h := range a.held {
		if p, ok := object.Prefix(h.Range); ok {
			free.RemovePrefix(p)
		}
	}
	for _, p := range a.inForce { // even if it is not allotted: pods have its addresses
		free.RemovePrefix(p)
	}
	left := a.waiting
	for _, run := range a.set(&free).Prefixes() {
		for next := run.Addr(); len(left) > 0 && run.Bits() <= a.bits && run.Contains(next); {
			p := netip.PrefixFrom(next, a.bits)
			a.give(left[0], p)
			left = left[1:]
			next = netipx.PrefixLastIP(p).Next()
		}
	}
	return left
}

// account is what nodes have, as the status keeps it.
func (a *ranges) account() []string {
	var out []string
	for _, p := range a.set(&a.taken).Prefixes() {
		out = append(out, p.String())
	}
	return out
}

// set is what a builder holds; its prefixes are the fewest, in order. It fails
// only for prefixes that are invalid, and such are not put in.
func (a *ranges) set(b *netipx.IPSetBuilder) *netipx.IPSet {
	s, err := b.IPSet()
	if err != nil {
		panic(err)
	}
	return s
}
