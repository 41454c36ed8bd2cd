package fake

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// masters hands each node one list of pods and keeps what it reports.
type masters struct {
	mu      sync.Mutex
	pods    map[string][]*object.Pod // by node
	orders  map[string]chan object.WatchEvent
	got     map[object.Ref]object.PodStatus
	reports map[string]int
	fail    bool
}

func newMasters() *masters {
	return &masters{pods: map[string][]*object.Pod{}, orders: map[string]chan object.WatchEvent{}, got: map[object.Ref]object.PodStatus{}, reports: map[string]int{}}
}

func (m *masters) add(node, name, image string, change func(*object.Pod)) object.Ref {
	p := &object.Pod{Meta: object.Meta{Kind: object.KindPod, Namespace: "default", Name: name, Created: 7},
		Spec: object.PodSpec{Node: node, Pod: &object.PodTemplate{Restart: "always", Grace: object.Duration(5 * time.Second), Containers: []object.Container{{Name: "c", Image: image}}}}}
	if change != nil {
		change(p)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pods[node] = append(m.pods[node], p)
	return p.Ref()
}

func (m *masters) WatchPods(ctx context.Context, node string, since uint64, each func(object.WatchEvent) error) error {
	m.mu.Lock()
	pods := m.pods[node]
	if m.orders[node] == nil {
		m.orders[node] = make(chan object.WatchEvent)
	}
	orders := m.orders[node]
	m.mu.Unlock()
	if since == 0 {
		for _, p := range pods {
			if err := each(object.WatchEvent{Index: 7, Op: object.WatchCreate, Ref: p.Ref(), Object: object.Any{Object: p}}); err != nil {
				return err
			}
		}
		if err := each(object.WatchEvent{Index: 7, Op: object.WatchSynced}); err != nil {
			return err
		}
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-orders:
			if err := each(e); err != nil {
				return err
			}
		}
	}
}

func (m *masters) Report(_ context.Context, r object.Report) (object.ReportAnswer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail {
		return object.ReportAnswer{}, context.DeadlineExceeded
	}
	m.reports[r.Node]++
	for _, p := range r.Pods {
		m.got[p.Ref] = p.Status
	}
	return object.ReportAnswer{Index: 8}, nil
}

func (m *masters) Content(context.Context, string, string) (map[string]string, error) {
	return nil, object.Errorf(object.CodeNotFound, object.Ref{}, "does not exist")
}

func (m *masters) status(ref object.Ref) object.PodStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.got[ref]
}

// run runs a node until the test ends.
func run(t *testing.T, n *Node) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { n.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
}

func pass(d time.Duration) {
	time.Sleep(d) // virtual
	synctest.Wait()
}

func TestScripts(t *testing.T) {
	script := Script{
		"slow":    {Pull: 10 * time.Second, Ready: 5 * time.Second},
		"typo":    {Missing: true},
		"crash":   {Crash: time.Second, ExitCode: 3, Log: []string{"bye"}},
		"flaky":   {Crash: time.Second, CrashTimes: 2, Ready: 2 * time.Second},
		"fat":     {OOM: true, Crash: time.Second},
		"job":     {Exit: 3 * time.Second},
		"silent":  {NotReady: true},
		"endless": {Stop: time.Hour},
	}
	tests := []struct {
		image string
		after time.Duration
		want  string // phase, readiness, reason
	}{
		{"web", time.Millisecond, "running true "},
		{"slow", 9 * time.Second, "starting false "},
		{"slow", 12 * time.Second, "running false "},
		{"slow", 16 * time.Second, "running true "},
		{"typo", time.Millisecond, "starting false image_not_found"},
		{"crash", 8 * time.Second, "running false crash_loop"},
		{"flaky", 20 * time.Second, "running true "},
		{"fat", 1500 * time.Millisecond, "running false oom_killed"},
		{"silent", time.Hour, "running false "},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.image, " after ", tt.after), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMasters()
				ref := m.add("n1", "p", tt.image, nil)
				run(t, New(Config{Name: "n1", Masters: m, Script: script}))
				pass(tt.after)
				s := m.status(ref)
				if got := fmt.Sprintf("%s %t %s", s.Phase, s.Ready, s.Reason); got != tt.want {
					t.Errorf("%q, want %q (%s)", got, tt.want, s.Message)
				}
			})
		})
	}
	t.Run("job", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newMasters()
			ref := m.add("n1", "p", "job", func(p *object.Pod) { p.Spec.Pod.Restart = "on_failure" })
			run(t, New(Config{Name: "n1", Masters: m, Script: script}))
			pass(4 * time.Second)
			if s := m.status(ref); s.Phase != object.PodSucceeded {
				t.Errorf("%+v", s)
			}
		})
	})
	t.Run("stop", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newMasters()
			ref := m.add("n1", "p", "endless", nil)
			n := New(Config{Name: "n1", Masters: m, Script: script})
			run(t, n)
			pass(time.Second)
			p := *m.pods["n1"][0]
			p.Spec.Stop = true
			m.orders["n1"] <- object.WatchEvent{Index: 9, Op: object.WatchUpdate, Ref: ref, Object: object.Any{Object: &p}}
			pass(4 * time.Second)
			if s := m.status(ref); s.Phase != object.PodStopping || s.Ready {
				t.Errorf("%+v", s)
			}
			pass(2 * time.Second)
			if s := m.status(ref); s.Phase != object.PodStopped {
				t.Errorf("the grace is 5s: %+v", s)
			}
			m.orders["n1"] <- object.WatchEvent{Index: 10, Op: object.WatchDelete, Ref: ref}
			pass(time.Second)
			if len(n.Pods()) != 0 {
				t.Error("still there")
			}
		})
	})
}

func TestReportsThatFailAreRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMasters()
		m.fail = true
		ref := m.add("n1", "p", "web", nil)
		n := New(Config{Name: "n1", Masters: m})
		run(t, n)
		pass(time.Minute)
		m.mu.Lock()
		m.fail = false
		m.mu.Unlock()
		pass(2 * time.Second)
		if s := m.status(ref); !s.Ready {
			t.Errorf("%+v", s)
		}
		before := m.reports["n1"]
		n.Freeze(true)
		pass(time.Minute)
		if got := m.reports["n1"]; got != before {
			t.Errorf("%d reports of a silent node", got-before)
		}
		n.Freeze(false)
		pass(time.Second)
		if m.reports["n1"] == before {
			t.Error("still silent")
		}
	})
}

func TestThousandsOfNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const nodes, each = 2000, 5
		m := newMasters()
		addresses := map[string]bool{}
		for i := range nodes {
			name := fmt.Sprint("n", i)
			for j := range each {
				m.add(name, fmt.Sprint(name, "-", j), "web", nil)
			}
			run(t, New(Config{Name: name, Masters: m}))
		}
		pass(time.Minute)
		ready := 0
		for _, s := range m.got {
			if s.Ready {
				ready++
			}
			addresses[s.Address] = true
		}
		if ready != nodes*each {
			t.Errorf("%d of %d ready", ready, nodes*each)
		}
	})
}
