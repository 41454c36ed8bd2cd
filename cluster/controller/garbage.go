package controller

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

const (
	eventAge      = time.Hour
	eventLimit    = 1000 // in a namespace
	revisionLimit = 50   // of a stack
	// eventSlack is how far beyond its limit a namespace may go before it is
	// swept, so that not every new event sweeps it.
	eventSlack = 100
	// unreadDelay is how long nothing must have read a content before it goes.
	unreadDelay = time.Minute
)

// annotationUnread marks a content that nothing reads.
const annotationUnread = "berth/unread"

// garbage removes what nobody needs any more: what belonged to an owner that is
// gone, rows of pods that have ended, templates and contents that nothing refers
// to, old events and revisions, expired tokens.
//
// Its keys are addresses of several meanings: of an owner or pod, of a template,
// of a stack, of a token; and, without a name, all contents or all events of a
// namespace.
type garbage struct{}

func (garbage) Name() string { return "garbage" }

func (garbage) Inputs() []Input {
	contents := func(ns string) object.Ref { return object.Ref{Kind: object.KindContent, Namespace: ns} }
	return []Input{
		{Kind: object.KindPod, Keys: func(v *state.Snapshot, e state.Event) []object.Ref {
			before, _ := e.Before.(*object.Pod)
			after, _ := e.After.(*object.Pod)
			var keys []object.Ref
			if after != nil {
				// An owner that goes says so itself; only who comes too late has to look.
				if ended(after) || e.Part != object.PartStatus && !exists(v, after.Owner) {
					keys = append(keys, podKey(after))
				}
				if before != nil && !maps.Equal(before.Spec.Reads, after.Spec.Reads) {
					keys = append(keys, contents(e.Ref.Namespace))
				}
				return keys
			}
			if len(before.Spec.Reads) > 0 {
				keys = append(keys, contents(e.Ref.Namespace))
			}
			if !before.Owner.IsZero() && !exists(v, before.Owner) {
				keys = append(keys, before.Owner)
			} else if rs, ok := v.Get(before.Owner); ok && !exists(v, rs.Head().Owner) {
				keys = append(keys, rs.Head().Owner) // the set may go now
			}
			if before.Spec.Template != "" {
				keys = append(keys, object.Ref{Kind: object.KindTemplate, Namespace: before.Namespace, Name: before.Spec.Template})
			}
			return keys
		}},
		{Kind: object.KindReplicaSet, Keys: func(v *state.Snapshot, e state.Event) []object.Ref {
			if e.After == nil {
				return []object.Ref{e.Ref, contents(e.Ref.Namespace)}
			}
			if e.Part == object.PartStatus {
				return nil
			}
			if owner := e.After.Head().Owner; !exists(v, owner) {
				return []object.Ref{owner}
			}
			return nil
		}},
		{Kind: object.KindDeployment, Keys: func(_ *state.Snapshot, e state.Event) []object.Ref {
			if e.After == nil {
				return []object.Ref{e.Ref}
			}
			return nil
		}},
		{Kind: object.KindTemplate, Keys: func(v *state.Snapshot, e state.Event) []object.Ref {
			if e.After == nil {
				if t, ok := e.Before.(*object.Template); ok && len(t.Spec.Reads) > 0 {
					return []object.Ref{contents(e.Ref.Namespace)}
				}
				return nil
			}
			if !v.Runs(e.Ref) {
				return []object.Ref{e.Ref}
			}
			return nil
		}},
		{Kind: object.KindContent, Keys: func(_ *state.Snapshot, e state.Event) []object.Ref {
			if e.After != nil && e.After.Head().Annotations[annotationUnread] != "" {
				return []object.Ref{contents(e.Ref.Namespace)}
			}
			return nil
		}},
		{Kind: object.KindEvent, Keys: func(_ *state.Snapshot, e state.Event) []object.Ref {
			if e.Op == object.OpDelete {
				return nil
			}
			return []object.Ref{{Kind: object.KindEvent, Namespace: e.Ref.Namespace}}
		}},
		{Kind: object.KindStack, Keys: self},
		{Kind: object.KindToken, Keys: self},
	}
}

func (garbage) Outputs() []object.Kind {
	return []object.Kind{object.KindPod, object.KindReplicaSet, object.KindTemplate, object.KindContent, object.KindEvent, object.KindRevision, object.KindToken}
}

// exists reports whether an owner is there; nobody's owner always is.
func exists(v *state.Snapshot, owner object.Ref) bool {
	if owner.IsZero() {
		return true
	}
	_, ok := v.Get(owner)
	return ok
}

// ended reports whether a pod's row can go.
func ended(p *object.Pod) bool { return p.Spec.Stop && (p.Terminal() || p.Spec.Node == "") }

// podKey groups the pods of an owner, so that their rows go in one write.
func podKey(p *object.Pod) object.Ref {
	if p.Owner.IsZero() {
		return p.Ref()
	}
	return p.Owner
}

func (garbage) Reconcile(v *state.Snapshot, key object.Ref, now time.Time) (Result, error) {
	w := begin("garbage", v, now)
	switch {
	case key.Kind == object.KindTemplate:
		if t, ok := v.Get(key); ok && !v.Runs(key) {
			w.because("no pod runs it")
			w.Changes.Delete(t)
		}
	case key.Kind == object.KindContent:
		w.sweepContents(key.Namespace)
	case key.Kind == object.KindEvent:
		w.sweepEvents(key.Namespace)
	case key.Kind == object.KindStack:
		w.sweepRevisions(key)
	case key.Kind == object.KindToken:
		if t, ok := state.Find[*object.Token](v, key); ok && !t.Spec.Expires.IsZero() {
			if end := t.Spec.Expires.Add(object.TokenKept); end.After(now) {
				w.wake(end)
			} else {
				w.because("token %s expired long ago", key.Name)
				w.Changes.Delete(t)
			}
		}
	default:
		if p, ok := state.Find[*object.Pod](v, key); ok && ended(p) {
			w.because("pod %s has ended", key.Name)
			w.Changes.Delete(p)
		}
		w.collect(key)
	}
	return w.done()
}

// collect removes the ended pods of an owner and, if the owner is gone, all that
// it owned, what is owned further down first.
func (w *work) collect(owner object.Ref) {
	_, there := w.v.Get(owner)
	for o := range w.v.Owned(owner) {
		p, isPod := o.(*object.Pod)
		switch {
		case isPod && ended(p):
			w.because("pods of %s have ended", owner.Name)
			w.Changes.Delete(p)
		case there:
		case isPod:
			w.because("%s is gone", owner.Address())
			w.stop(p, owner.Address()+" is gone")
		case o.Head().Kind == object.KindReplicaSet:
			w.because("%s is gone", owner.Address())
			left := false
			for p := range w.v.PodsOf(o.Ref()) {
				left = true
				if ended(p) {
					w.Changes.Delete(p)
				} else {
					w.stop(p, owner.Address()+" is gone")
				}
			}
			if !left {
				w.Changes.Delete(o)
			}
		}
	}
}

// sweepContents removes versions of config maps and secrets that no set and no
// pod reads.
func (w *work) sweepContents(namespace string) {
	read := map[string]bool{}
	note := func(versions map[string]string) {
		for key, digest := range versions {
			read[key+"@"+digest] = true
		}
	}
	add := func(t *object.PodTemplate) { note(t.Reads) }
	for rs := range state.All[*object.ReplicaSet](w.v, object.KindReplicaSet, state.InNamespace(namespace)) {
		add(&rs.Spec.Pod)
	}
	for t := range state.All[*object.Template](w.v, object.KindTemplate, state.InNamespace(namespace)) {
		add(&t.Spec)
	}
	for p := range state.All[*object.Pod](w.v, object.KindPod, state.InNamespace(namespace)) {
		note(p.Spec.Reads)
	}
	for c := range state.All[*object.Content](w.v, object.KindContent, state.InNamespace(namespace)) {
		digest, named := strings.CutPrefix(c.Name, object.ContentName(c.Spec.Of, ""))
		if named && read[readKey(c.Spec.Of)+"@"+digest] { // no reader can find one of another name
			continue
		}
		w.because("nothing reads %s", c.Name)
		if c.Annotations[annotationUnread] == "" {
			// First only a mark: who begins to read it at this moment sees the mark, or
			// takes it away, and then the delete fails.
			marked := c.Clone().(*object.Content)
			marked.Annotations = map[string]string{annotationUnread: "yes"}
			w.Changes.Update(c, marked)
			w.wakeIn(unreadDelay)
			continue
		}
		if since := c.ChangedAt.Add(unreadDelay); w.now.Before(since) {
			w.wake(since)
			continue
		}
		w.Changes.Delete(c)
	}
}

// sweepEvents removes events that are old, and the oldest of too many.
func (w *work) sweepEvents(namespace string) {
	var keep []*object.Event
	for e := range state.All[*object.Event](w.v, object.KindEvent, state.InNamespace(namespace)) {
		if w.now.Sub(e.Spec.Last) >= eventAge {
			w.because("events older than %s", object.Duration(eventAge))
			w.Changes.Delete(e)
			continue
		}
		keep = append(keep, e)
	}
	slices.SortStableFunc(keep, func(a, b *object.Event) int { return a.Spec.Last.Compare(b.Spec.Last) })
	if len(keep) > eventLimit+eventSlack {
		w.because("more than %d events", eventLimit)
		for _, e := range keep[:len(keep)-eventLimit] {
			w.Changes.Delete(e)
		}
		keep = keep[len(keep)-eventLimit:]
	}
	if len(keep) > 0 {
		// A minute's events go together.
		w.wake(keep[0].Spec.Last.Add(eventAge + time.Minute))
	}
}

// sweepRevisions removes the oldest revisions of a stack; the one to go back to
// stays.
func (w *work) sweepRevisions(key object.Ref) {
	s, ok := state.Find[*object.Stack](w.v, key)
	if !ok {
		return
	}
	for r := range state.All[*object.Revision](w.v, object.KindRevision, state.OfStack(key.Name)) {
		n := r.Spec.Number
		if n <= s.Spec.Revision-revisionLimit && n != s.Status.Healthy && r.Status.Phase.Final() {
			w.because("%s keeps %d revisions", key.Name, revisionLimit)
			w.Changes.Delete(r)
		}
	}
}
