package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/berthdev/berth/cluster/durable"
	"github.com/berthdev/berth/cluster/object"
)

// NamedTool is a NetworkTool and what it is called in logs and events.
type NamedTool struct {
	Name string
	NetworkTool
}

const (
	// ensurePeriod is how soon a rule that somebody deleted is put back.
	ensurePeriod = 5 * time.Second
	// drainTime is how long requests may still be under way to a pod that has left
	// before the node acknowledges all the same.
	drainTime = time.Second
	viewFile  = "network.cbor"
)

// view is what the masters have told of the cluster's network. The watch writes
// into it; the loop that feeds the tools takes it.
type view struct {
	mu        sync.Mutex
	index     uint64
	network   *object.Network
	nodes     ordered[*object.Node]
	services  ordered[*object.Service]
	endpoints ordered[*object.Endpoints]
	ingresses ordered[*object.Ingress]
	policies  ordered[*object.PolicyRules]
	leaving   bool          // an endpoint has gone in an entry that is not told to its end
	left      bool          // an endpoint has gone since the last take
	changed   chan struct{} // has an element when there is something to take
}

// ordered is objects by Ref. What publish has handed out is never written into.
type ordered[T object.Object] struct {
	list   []T
	lent   bool
	listed map[object.Ref]bool // while everything is being told anew
}

func (o *ordered[T]) find(r object.Ref) (int, bool) {
	return slices.BinarySearchFunc(o.list, r, func(x T, r object.Ref) int { return x.Ref().Compare(r) })
}

func (o *ordered[T]) own() {
	if o.lent {
		o.list, o.lent = slices.Clone(o.list), false
	}
}

func (o *ordered[T]) publish() []T {
	o.lent = true
	return o.list
}

func (o *ordered[T]) set(x T) (before T) {
	if o.listed != nil {
		o.listed[x.Ref()] = true
	}
	i, ok := o.find(x.Ref())
	if ok && sameVersion(o.list[i], x) {
		return o.list[i] // told again: the pointer stays, so nothing is done anew
	}
	o.own()
	if ok {
		before, o.list[i] = o.list[i], x
		return before
	}
	o.list = slices.Insert(o.list, i, x)
	return before
}

func sameVersion(a, b object.Object) bool {
	x, y := a.Head(), b.Head()
	return x.Created == y.Created && x.Version == y.Version && x.StatusVersion == y.StatusVersion
}

func (o *ordered[T]) remove(r object.Ref) (before T) {
	i, ok := o.find(r)
	if !ok {
		return before
	}
	o.own()
	before = o.list[i]
	o.list = slices.Delete(o.list, i, i+1)
	return before
}

// sweep drops what has not been told since begin.
func (o *ordered[T]) sweep() {
	kept := slices.DeleteFunc(slices.Clone(o.list), func(x T) bool { return !o.listed[x.Ref()] })
	if len(kept) != len(o.list) {
		o.list, o.lent = kept, false
	}
	o.listed = nil
}

func (o *ordered[T]) begin() { o.listed = map[object.Ref]bool{} }

func newView() *view { return &view{changed: make(chan struct{}, 1)} }

// begin expects everything to be told anew.
func (v *view) begin() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.nodes.begin()
	v.services.begin()
	v.endpoints.begin()
	v.ingresses.begin()
	v.policies.begin()
}

// event takes a line of the watch.
func (v *view) event(e object.WatchEvent) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch e.Op {
	case object.WatchCreate, object.WatchUpdate:
		v.put(e.Object.Object)
	case object.WatchDelete:
		v.drop(e.Ref)
	case object.WatchSynced:
		before := len(v.endpoints.list)
		v.nodes.sweep()
		v.services.sweep()
		v.endpoints.sweep()
		v.ingresses.sweep()
		v.policies.sweep()
		v.leaving = v.leaving || len(v.endpoints.list) != before
		v.advance(e.Index)
	case object.WatchBookmark:
		v.advance(e.Index)
	}
}

func (v *view) put(o object.Object) {
	switch x := o.(type) {
	case *object.Network:
		v.network = x
	case *object.Node:
		v.nodes.set(x)
	case *object.Service:
		v.services.set(x)
	case *object.Endpoints:
		if before := v.endpoints.set(x); before != nil && before != x && lost(before.Spec.Ready, x.Spec.Ready) {
			v.leaving = true
		}
	case *object.Ingress:
		v.ingresses.set(x)
	case *object.PolicyRules:
		v.policies.set(x)
	}
}

func (v *view) drop(r object.Ref) {
	switch r.Kind {
	case object.KindNetwork:
		v.network = nil
	case object.KindNode:
		v.nodes.remove(r)
	case object.KindService:
		v.services.remove(r)
	case object.KindEndpoints:
		v.leaving = v.endpoints.remove(r) != nil || v.leaving
	case object.KindIngress:
		v.ingresses.remove(r)
	case object.KindPolicyRules:
		v.policies.remove(r)
	}
}

// lost reports whether an endpoint is no longer there.
func lost(before, after []object.Endpoint) bool {
	return slices.ContainsFunc(before, func(e object.Endpoint) bool {
		return !slices.ContainsFunc(after, func(x object.Endpoint) bool { return x.Pod == e.Pod && x.Address == e.Address })
	})
}

// advance says that all up to an index has been told.
func (v *view) advance(index uint64) {
	v.index = max(v.index, index)
	// Not before: a view of half an entry has an index that nobody waits for.
	v.left, v.leaving = v.left || v.leaving, false
	select {
	case v.changed <- struct{}{}:
	default:
	}
}

// take is the view as it is, and whether an endpoint has gone since the last take.
func (v *view) take() (*object.NetworkView, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	left := v.left
	v.left = false
	return &object.NetworkView{
		Index: v.index, Network: v.network, Nodes: v.nodes.publish(), Services: v.services.publish(), Endpoints: v.endpoints.publish(),
		Ingresses: v.ingresses.publish(), Policies: v.policies.publish(),
	}, left
}

// restore begins with a view of an earlier process.
func (v *view) restore(s *object.NetworkView) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.network = s.Network
	v.nodes.list, v.services.list, v.endpoints.list = s.Nodes, s.Services, s.Endpoints
	v.ingresses.list, v.policies.list = s.Ingresses, s.Policies
}

// sameParts reports whether two views say the same; only the index may differ.
func sameParts(a, b *object.NetworkView) bool {
	return a != nil && a.Network == b.Network && slices.Equal(a.Nodes, b.Nodes) && slices.Equal(a.Services, b.Services) &&
		slices.Equal(a.Endpoints, b.Endpoints) && slices.Equal(a.Ingresses, b.Ingresses) && slices.Equal(a.Policies, b.Policies)
}

// watchNetwork follows the masters until ctx ends.
func (a *Agent) watchNetwork(ctx context.Context) {
	var since uint64
	listing := false
	retry := backoff{first: 250 * time.Millisecond, most: 5 * time.Second}
	for ctx.Err() == nil {
		if since == 0 {
			listing = true
			a.view.begin()
		}
		err := a.cfg.Masters.WatchNetwork(ctx, since, func(e object.WatchEvent) error {
			retry.reset()
			a.view.event(e)
			if e.Op == object.WatchSynced {
				listing = false
			}
			since = max(since, e.Index)
			return nil
		})
		if ctx.Err() != nil {
			return
		}
		a.log.Debug("the watch of the network ended", "error", err)
		if listing || object.IsCode(err, object.CodeGone) {
			since = 0
		}
		if !sleep(ctx, retry.next()) {
			return
		}
	}
}

// feed gives each new view to the tools, and lets them look after what they made,
// until ctx ends.
func (a *Agent) feed(ctx context.Context) {
	ensure := time.NewTicker(ensurePeriod)
	defer ensure.Stop()
	retry := backoff{first: 500 * time.Millisecond, most: 10 * time.Second}
	trouble := map[string]string{}
	var again <-chan time.Time
	var applied *object.NetworkView
	acknowledged := closed() // when all views so far are
	if kept, err := a.loadView(); err != nil {
		a.log.Warn("going on without the network's last state; the masters will tell", "error", err)
	} else if kept != nil {
		a.view.restore(kept)
		if err := a.apply(ctx, kept); err != nil { // what the masters said last, until they say more
			a.log.Error("the network's last state cannot be put in force", "error", err)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ensure.C:
			a.ensureTools(ctx, trouble)
			continue
		case <-a.view.changed:
		case <-again:
		}
		v, left := a.view.take()
		if sameParts(applied, v) {
			acknowledged = a.acknowledge(ctx, v.Index, left, acknowledged)
			continue
		}
		again = nil
		if err := a.apply(ctx, v); err != nil {
			if ctx.Err() != nil {
				return
			}
			a.log.Error("the network's state cannot be put in force", "error", err)
			a.reports.tell(object.NodeEvent{Reason: "network_failed", Warning: true, Message: err.Error()})
			again = time.After(retry.next())
			applied = nil
			continue
		}
		retry.reset()
		applied = v
		acknowledged = a.acknowledge(ctx, v.Index, left, acknowledged)
		a.touchView(v)
	}
}

// apply gives a view to all tools at once.
func (a *Agent) apply(ctx context.Context, v *object.NetworkView) error {
	return a.eachTool(func(t NamedTool) error { return t.Apply(ctx, v) })
}

func (a *Agent) eachTool(do func(NamedTool) error) error {
	errs := make([]error, len(a.cfg.Tools))
	var wg sync.WaitGroup
	for i, t := range a.cfg.Tools {
		wg.Go(func() {
			if err := do(t); err != nil {
				errs[i] = fmt.Errorf("%s: %w", t.Name, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// ensureTools lets each tool look after what it made. trouble is what each told
// last: what lasts is told once, not every few seconds.
func (a *Agent) ensureTools(ctx context.Context, trouble map[string]string) {
	for _, t := range a.cfg.Tools { // one tool's rules are another's neighbours: not at once
		mended, err := t.Ensure(ctx)
		if ctx.Err() != nil {
			return
		}
		for _, m := range mended {
			a.log.Warn("mended", "tool", t.Name, "what", m)
			a.reports.tell(object.NodeEvent{Reason: "network_mended", Warning: true, Message: t.Name + ": " + m})
		}
		text := ""
		if err != nil {
			text = t.Name + ": " + err.Error()
		}
		if text != "" && text != trouble[t.Name] {
			a.log.Error("the network's state cannot be kept", "tool", t.Name, "error", err)
			a.reports.tell(object.NodeEvent{Reason: "network_failed", Warning: true, Message: text})
		}
		trouble[t.Name] = text
	}
}

// acknowledge tells the masters that an index is in force, as soon as what was
// under way to the pods that left has ended, and what was before it has been
// acknowledged: whoever hears of an index takes the earlier ones to be in force, too.
// The answer is closed then.
func (a *Agent) acknowledge(ctx context.Context, index uint64, left bool, before <-chan struct{}) <-chan struct{} {
	var drains []Drainer
	for _, t := range a.cfg.Tools {
		if d, ok := t.NetworkTool.(Drainer); ok && left {
			drains = append(drains, d)
		}
	}
	if len(drains) == 0 {
		select {
		case <-before: // nothing to wait for, as nearly always
			a.reports.setApplied(index, left)
			return before
		default:
		}
	}
	done := make(chan struct{})
	a.wg.Go(func() {
		defer close(done)
		bound, cancel := context.WithTimeout(ctx, drainTime)
		defer cancel()
		var wg sync.WaitGroup
		for _, d := range drains {
			wg.Go(func() {
				if err := d.Drain(bound); err != nil {
					a.log.Debug("requests are still under way to a pod that leaves", "error", err)
				}
			})
		}
		wg.Wait()
		<-before // bounded as this one is
		a.reports.setApplied(index, true)
	})
	return done
}

// closed is a channel that is closed.
func closed() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func (a *Agent) viewPath() string { return filepath.Join(a.cfg.Dir, viewFile) }

// touchView asks for the view to be saved, soon.
func (a *Agent) touchView(v *object.NetworkView) {
	a.mu.Lock()
	a.unsaved = v
	a.mu.Unlock()
	a.touch()
}

// saveView writes the view for an agent that starts while no master answers.
func (a *Agent) saveView() error {
	a.mu.Lock()
	v := a.unsaved
	a.unsaved = nil
	a.mu.Unlock()
	if v == nil {
		return nil
	}
	b, err := object.Encode(v)
	if err != nil {
		return err
	}
	return durable.Replace(a.viewPath(), b)
}

// loadView is what saveView has written last; nil if there is nothing.
func (a *Agent) loadView() (*object.NetworkView, error) {
	b, err := os.ReadFile(a.viewPath())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v := &object.NetworkView{}
	if err := object.Decode(b, v); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", a.viewPath(), err)
	}
	return v, nil
}

// purgeTools removes what the tools made, the last first.
func (a *Agent) purgeTools() error {
	var errs []error
	for _, t := range slices.Backward(a.cfg.Tools) {
		if err := t.Purge(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", cmp.Or(t.Name, "network"), err))
		}
	}
	return errors.Join(append(errs, removeFile(a.viewPath()))...)
}
