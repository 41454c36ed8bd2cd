package controller

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

const (
	// podBatch is how many pods one changeset makes; more follow in the next.
	podBatch = 500
	// replaceDelay keeps a set from replacing pods as fast as they end; a pod that
	// has lived for longLife is replaced at once.
	replaceDelay = 10 * time.Second
	longLife     = time.Minute
	// retryDelay is when to look again for what no event announces cheaply.
	retryDelay = 5 * time.Second
)

// replicaSets keep Spec.Replicas pods of one template.
type replicaSets struct{}

func (replicaSets) Name() string { return "replica_set" }

func (replicaSets) Inputs() []Input {
	return append([]Input{
		{Kind: object.KindReplicaSet, Keys: func(_ *state.Snapshot, e state.Event) []object.Ref {
			if e.Part == object.PartStatus { // its own word, which follows from the pods
				return nil
			}
			return []object.Ref{e.Ref}
		}},
		{Kind: object.KindPod, Keys: func(_ *state.Snapshot, e state.Event) []object.Ref {
			if owner := latest(e).Head().Owner; owner.Kind == object.KindReplicaSet {
				return []object.Ref{owner}
			}
			return nil
		}},
		{Kind: object.KindNode, Keys: func(v *state.Snapshot, e state.Event) []object.Ref {
			// Only a drain that begins or ends matters; a lost node's pods are marked.
			before, _ := e.Before.(*object.Node)
			after, _ := e.After.(*object.Node)
			if (before != nil && before.Spec.Drain) == (after != nil && after.Spec.Drain) {
				return nil
			}
			var keys []object.Ref
			for p := range v.PodsOn(e.Ref.Name) {
				if p.Owner.Kind == object.KindReplicaSet && !slices.Contains(keys, p.Owner) {
					keys = append(keys, p.Owner)
				}
			}
			return keys
		}},
	}, reloads(func(v *state.Snapshot, read object.Ref) []object.Ref {
		return slices.Collect(v.Readers(read, object.KindReplicaSet))
	})...)
}

func (replicaSets) Outputs() []object.Kind {
	return []object.Kind{object.KindReplicaSet, object.KindPod, object.KindTemplate, object.KindContent, object.KindEvent, object.KindNamespace}
}

// census sorts the pods of a set by what they count for.
type census struct {
	names   map[string]bool
	staying []*object.Pod
	leaving []*object.Pod // live, to move or on a node that is being drained
	ended   []*object.Pod // to be cleared away and replaced
	resting []*object.Pod // ended a moment ago; not replaced yet
	ready   int           // of staying and leaving: ready for min_ready_time

	counted bool // mayStop is known
	limited bool // by a promise
	mayStop int  // ready pods that the promise lets go
}

func (c replicaSets) Reconcile(v *state.Snapshot, key object.Ref, now time.Time) (Result, error) {
	w := begin("replica_set", v, now)
	rs, ok := state.Find[*object.ReplicaSet](v, key)
	if !ok {
		return w.done()
	}
	var minReady object.Duration
	if !rs.Owner.IsZero() {
		owner, ok := v.Get(rs.Owner)
		if !ok {
			return w.done() // the set goes with its owner
		}
		if d, ok := owner.(*object.Deployment); ok {
			minReady = d.Spec.Update.MinReadyTime
		}
	}
	n := w.count(rs, minReady)
	w.clear(rs, n)
	w.rehome(rs, n)
	var held *failure
	if missing := rs.Spec.Replicas - len(n.staying) - len(n.resting); missing > 0 {
		held = w.create(rs, n, missing)
	}
	if extra := len(n.staying) - max(rs.Spec.Replicas, 0); extra > 0 {
		w.because("%s has %s too many", key.Name, plural(extra, "pod"))
		for _, p := range w.givenUp(rs, n, extra) {
			if w.spare(rs, n, p) {
				w.stop(p, "scaled down")
			}
		}
	}
	w.moveAway(rs, n, minReady)
	w.refresh(rs.Ref(), &rs.Spec.Pod, slices.Concat(n.staying, n.leaving))
	w.reportSet(rs, n, held)
	return w.done()
}

func (w *work) count(rs *object.ReplicaSet, minReady object.Duration) *census {
	n := &census{names: map[string]bool{}}
	for p := range w.v.PodsOf(rs.Ref()) {
		n.names[p.Name] = true
		switch {
		case p.Spec.Stop:
		case p.Terminal():
			until := p.Status.Since.Add(replaceDelay)
			if p.Status.Phase != object.PodLost && p.Status.Phase != object.PodStopped && w.now.Before(until) && lived(p) < longLife {
				n.resting = append(n.resting, p)
				w.wake(until)
				continue
			}
			n.ended = append(n.ended, p)
		case leaving(w.v, p):
			n.leaving = append(n.leaving, p)
		default:
			n.staying = append(n.staying, p)
		}
		ok, from := available(p, minReady, w.now)
		if ok {
			n.ready++
		}
		w.wake(from)
	}
	return n
}

// lived is how long a pod that has ended was running; one that never came so far
// did not live at all.
func lived(p *object.Pod) time.Duration {
	if p.Status.Started.IsZero() {
		return 0
	}
	return p.Status.Since.Sub(p.Status.Started)
}

// clear asks for the end of pods that have ended by themselves, so that their
// rows go.
func (w *work) clear(rs *object.ReplicaSet, n *census) {
	for _, p := range n.ended {
		w.because("%s has pods that ended", rs.Name)
		why := fmt.Sprintf("%s; replaced", p.Status.Phase)
		w.stop(p, why)
		if p.Status.Phase == object.PodFailed {
			w.tell(rs.Ref(), levelWarning, "pod_replaced", "%s; it is replaced", story(p).message)
		}
	}
}

// create makes missing pods, lowest free number first; the failure says what
// keeps it from making all of them.
func (w *work) create(rs *object.ReplicaSet, n *census, missing int) *failure {
	t := rs.Spec.Pod
	var r reads
	if len(t.Reads) == 0 {
		var f *failure
		if r, f = resolve(w.v, rs.Namespace, &t); f != nil {
			w.wakeIn(retryDelay)
			return f
		}
		t.Reads = r.pinned
	}
	now := fresh(w.v, rs.Namespace, &t)
	given := instead(nil, t.Reads, now.pinned)
	cpu, memory := t.Asks()
	allowed, held := w.quotaRoom(rs.Namespace, cpu, memory, missing)
	if held != nil {
		w.wakeIn(retryDelay)
	}
	if allowed == 0 {
		return held
	}
	w.because("%s lacks %s", rs.Name, plural(missing, "pod"))
	w.pin(r)
	if len(given) > 0 {
		w.pin(now)
	}
	name := w.intern(rs.Namespace, &t)
	ordinal := 0
	made := min(allowed, podBatch)
	w.claim(rs.Namespace, cpu, memory, made)
	here := w.toGo(rs, n)
	for range made {
		for n.names[podName(rs.Name, ordinal)] {
			ordinal++
		}
		w.Changes.Create(&object.Pod{
			Meta: object.Meta{Kind: object.KindPod, Namespace: rs.Namespace, Name: podName(rs.Name, ordinal), Labels: t.Labels, Stack: rs.Stack, Owner: rs.Ref()},
			Spec: object.PodSpec{Template: name, Reads: given, Ordinal: ordinal, Within: within(rs, &here), CPU: cpu, Memory: memory},
			Status: object.PodStatus{
				Phase: object.PodPending, Since: w.now,
			},
		})
		ordinal++
	}
	return held
}

func podName(set string, ordinal int) string { return fmt.Sprintf("%s-%d", set, ordinal) }

// leastWanted orders pods by which to give up first: those without a node, those
// not ready, the younger ones, those that share a node with the most others of
// the set.
func leastWanted(pods []*object.Pod) []*object.Pod {
	pods = slices.Clone(pods)
	slices.SortFunc(pods, func(a, b *object.Pod) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), cmp.Compare(a.Spec.Ordinal, b.Spec.Ordinal), cmp.Compare(a.Name, b.Name))
	})
	on := map[string]int{}
	crowd := make(map[*object.Pod]int, len(pods)) // the pod's place among those of its node, oldest first
	for _, p := range pods {
		if p.Status.Ready {
			on[p.Spec.Node]++
			crowd[p] = on[p.Spec.Node]
		}
	}
	class := func(p *object.Pod) int {
		switch {
		case p.Spec.Node == "":
			return 0
		case !p.Status.Ready:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(pods, func(a, b *object.Pod) int {
		return cmp.Or(cmp.Compare(class(a), class(b)), cmp.Compare(b.Created, a.Created), cmp.Compare(crowd[b], crowd[a]), cmp.Compare(b.Spec.Ordinal, a.Spec.Ordinal))
	})
	return pods
}

// moveAway stops pods that are to move, or on nodes that are being drained: those that do not work at
// once, the others one for each replacement that works.
func (w *work) moveAway(rs *object.ReplicaSet, n *census, minReady object.Duration) {
	spare := n.ready - rs.Spec.Replicas
	for _, p := range n.leaving {
		if ok, _ := available(p, minReady, w.now); ok {
			if spare <= 0 {
				continue
			}
			spare--
		} else if p.Status.Ready && rs.Spec.Replicas > 0 {
			continue // it works, though not for long enough to count
		}
		if !w.spare(rs, n, p) {
			continue
		}
		why := "node " + p.Spec.Node + " is drained"
		if p.Spec.Move {
			why = "moved away from node " + p.Spec.Node
		}
		w.because("%s", why)
		w.stop(p, why)
	}
}

func (w *work) reportSet(rs *object.ReplicaSet, n *census, held *failure) {
	st := object.ReplicaSetStatus{Observed: rs.Version}
	if held != nil {
		st.Failing, st.LastFailure = 1, held.reason+": "+held.message
	}
	for _, p := range slices.Concat(n.staying, n.leaving, n.resting) {
		if live(p) {
			st.Total++
			if p.Status.Ready {
				st.Ready++
			}
			if p.Spec.Node == "" && p.Status.Reason == object.ReasonUnplaceable {
				st.Unplaced++
			}
		}
		f, failing, later := verdict(p, w.now)
		w.wake(later)
		if failing {
			if st.Failing++; st.LastFailure == "" {
				st.LastFailure = f.reason + ": " + f.message
			}
		}
	}
	setStatus(w, rs, &rs.Status, &st)
}

// lastFailure splits what reportSet put into LastFailure.
func lastFailure(rs *object.ReplicaSet) failure {
	reason, message, _ := strings.Cut(rs.Status.LastFailure, ": ")
	return failure{reason: reason, message: message}
}
