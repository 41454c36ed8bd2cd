package agent_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// masters is a control plane in memory with one table: the pods of one node.
type masters struct {
	mu       sync.Mutex
	index    uint64
	pods     map[object.Ref]*object.Pod
	log      []object.WatchEvent
	changed  chan struct{}
	contents map[string]map[string]string
	node     object.NodeStatus
	labels   map[string]string
	away     bool
	deaf     bool // watches go on, reports fail
	reports  int
	history  map[object.Ref][]object.PodStatus
	reads    int
	report   object.Report          // the last one
	events   []object.NodeEvent     // all that were told
	network  chan object.WatchEvent // lines of WatchNetwork
	left     chan struct{}          // closed: AwaitLeft returns
	asked    []object.Ref           // whom AwaitLeft was asked for
}

func newMasters() *masters {
	return &masters{pods: map[object.Ref]*object.Pod{}, changed: make(chan struct{}),
		contents: map[string]map[string]string{}, history: map[object.Ref][]object.PodStatus{},
		network: make(chan object.WatchEvent), left: make(chan struct{})}
}

var errAway = errors.New("connection refused")

func (m *masters) publish(op object.WatchOp, p *object.Pod) {
	e := object.WatchEvent{Index: m.index, Op: op, Ref: p.Ref()}
	if op != object.WatchDelete {
		c := *p
		e.Object = object.Any{Object: &c}
	}
	m.log = append(m.log, e)
	m.wake()
}

func (m *masters) wake() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// setAway cuts the node off, watches included.
func (m *masters) setAway(away bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.away = away
	m.wake()
}

// setDeaf makes reports fail.
func (m *masters) setDeaf(deaf bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.deaf = deaf
}

func (m *masters) WatchPods(ctx context.Context, _ string, since uint64, each func(object.WatchEvent) error) error {
	m.mu.Lock()
	if m.away {
		m.mu.Unlock()
		return errAway
	}
	var first []object.WatchEvent
	if since == 0 {
		for _, ref := range slices.SortedFunc(maps.Keys(m.pods), object.Ref.Compare) {
			c := *m.pods[ref]
			first = append(first, object.WatchEvent{Index: m.index, Op: object.WatchCreate, Ref: ref, Object: object.Any{Object: &c}})
		}
		first = append(first, object.WatchEvent{Index: m.index, Op: object.WatchSynced})
		since = m.index
	}
	m.mu.Unlock()
	for _, e := range first {
		if err := each(e); err != nil {
			return err
		}
	}
	for {
		m.mu.Lock()
		var batch []object.WatchEvent
		for _, e := range m.log {
			if e.Index > since {
				batch = append(batch, e)
			}
		}
		changed, away := m.changed, m.away
		m.mu.Unlock()
		if away {
			return errAway
		}
		for _, e := range batch {
			if err := each(e); err != nil {
				return err
			}
			since = e.Index
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (m *masters) WatchNetwork(ctx context.Context, _ uint64, each func(object.WatchEvent) error) error {
	for {
		m.mu.Lock()
		changed, away := m.changed, m.away
		m.mu.Unlock()
		if away {
			return errAway
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case e := <-m.network:
			if err := each(e); err != nil {
				return err
			}
		}
	}
}

func (m *masters) AwaitLeft(ctx context.Context, pod object.Ref, _ uint64) error {
	m.mu.Lock()
	m.asked = append(m.asked, pod)
	left := m.left
	m.mu.Unlock()
	select {
	case <-left:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *masters) Report(_ context.Context, r object.Report) (object.ReportAnswer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away || m.deaf {
		return object.ReportAnswer{}, errAway
	}
	m.reports++
	m.report = r
	m.events = append(m.events, r.Events...)
	if r.Status != nil {
		m.node = *r.Status
	}
	if m.labels == nil { // as the masters do: labels of later reports change nothing
		m.labels = r.Labels
	}
	for _, x := range r.Pods {
		p := m.pods[x.Ref]
		if p == nil || p.Created != x.Created {
			continue
		}
		m.index++
		c := *p
		c.Status, c.StatusVersion = x.Status, m.index
		m.pods[x.Ref] = &c
		m.history[x.Ref] = append(m.history[x.Ref], x.Status)
		m.publish(object.WatchUpdate, &c)
	}
	return object.ReportAnswer{Index: m.index, Heartbeat: object.Duration(5 * time.Second)}, nil
}

func (m *masters) Content(_ context.Context, namespace, name string) (map[string]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away {
		return nil, errAway
	}
	m.reads++
	d, ok := m.contents[namespace+"/"+name]
	if !ok {
		return nil, object.Errorf(object.CodeNotFound, object.Ref{Kind: object.KindContent, Namespace: namespace, Name: name}, "does not exist")
	}
	return d, nil
}

// create binds a new pod to the node and returns its reference.
func (m *masters) create(name string, t object.PodTemplate) object.Ref {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.index++
	if t.Grace == 0 {
		t.Grace = object.Duration(5 * time.Second)
	}
	if t.Restart == "" {
		t.Restart = "always"
	}
	for i := range t.Containers {
		if t.Containers[i].Pull == "" {
			t.Containers[i].Pull = "missing"
		}
	}
	p := &object.Pod{Meta: object.Meta{Kind: object.KindPod, Namespace: "default", Name: name, Created: m.index, Version: m.index},
		Spec: object.PodSpec{Pod: &t, Node: "n1"}}
	m.pods[p.Ref()] = p
	m.publish(object.WatchCreate, p)
	return p.Ref()
}

// stop asks for the pod's end.
func (m *masters) stop(ref object.Ref) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.index++
	c := *m.pods[ref]
	c.Spec.Stop, c.Spec.StopWhy = true, "scaled in"
	m.pods[ref] = &c
	m.publish(object.WatchUpdate, &c)
}

// relabel gives the pod other labels.
func (m *masters) relabel(ref object.Ref, labels map[string]string) {
	m.edit(ref, func(p *object.Pod) { p.Labels, p.Version = labels, p.Version+1 })
}

// edit changes the row as somebody else's write would.
func (m *masters) edit(ref object.Ref, change func(*object.Pod)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.index++
	c := *m.pods[ref]
	change(&c)
	m.pods[ref] = &c
	m.publish(object.WatchUpdate, &c)
}

// remove deletes the row.
func (m *masters) remove(ref object.Ref) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.index++
	p := m.pods[ref]
	delete(m.pods, ref)
	m.publish(object.WatchDelete, p)
}

func (m *masters) status(ref object.Ref) object.PodStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.pods[ref]; p != nil {
		return p.Status
	}
	return object.PodStatus{}
}

// wait waits until the masters see the pod as it should be.
func (m *masters) wait(t testing.TB, ref object.Ref, within time.Duration, what string, ok func(object.PodStatus) bool) object.PodStatus {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	for {
		m.mu.Lock()
		changed := m.changed
		m.mu.Unlock()
		s := m.status(ref)
		if ok(s) {
			return s
		}
		select {
		case <-changed:
		case <-deadline.C:
			t.Fatalf("%s: not %s within %s: %+v", ref, what, within, s)
		}
	}
}

func ready(s object.PodStatus) bool { return s.Ready }

func reason(want string) func(object.PodStatus) bool {
	return func(s object.PodStatus) bool { return s.Reason == want }
}

func phase(want object.PodPhase) func(object.PodStatus) bool {
	return func(s object.PodStatus) bool { return s.Phase == want }
}

func (m *masters) nodeStatus() object.NodeStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.node
}

// counts are how many reports came and how many contents were read.
func (m *masters) counts() (reports, reads int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reports, m.reads
}

// past is every status that was reported of a pod.
func (m *masters) past(ref object.Ref) []object.PodStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.history[ref])
}

// put makes a content be there; nil removes it.
func (m *masters) put(name string, data map[string]string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.contents[name] = data; data == nil {
		delete(m.contents, name)
	}
}

func (m *masters) nodeLabels() map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.labels
}
