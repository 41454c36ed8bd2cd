package api_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/api"
	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/pki"
	"github.com/berthdev/berth/cluster/seal"
	"github.com/berthdev/berth/cluster/state"
)

// shared is the state that the fake masters of a world have in common; it
// replicates at once.
type shared struct {
	mu      sync.Mutex
	store   *state.Store
	index   uint64
	events  []state.Event
	changed chan struct{}
	oldest  uint64 // watches from before it are gone
	leader  string
	masters []object.Master
	beats   map[string]int
	applied map[string]uint64
	acked   chan struct{}
	waited  []string               // who was asked to catch up
	behind  *state.Snapshot        // what the leader knows until it is asked to catch up; nil: everything
	before  func(object.Changeset) // called before the next proposal, unlocked; may propose
	after   func() error           // what the next proposal answers once it is committed
}

// member is one fake master's view of it.
type member struct {
	*shared
	name string
}

func (m member) Propose(ctx context.Context, c object.Changeset) (uint64, error) {
	m.mu.Lock()
	hook := m.before
	m.before = nil
	m.mu.Unlock()
	if hook != nil {
		hook(c)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.leader != m.name {
		return 0, object.Errorf(object.CodeNoLeader, object.Ref{}, "not the leader")
	}
	m.index++
	// What goes through Raft has been encoded: the test does the same, so that
	// nothing plain can slip through in memory.
	b, err := object.Encode(c)
	if err != nil {
		return 0, err
	}
	var logged object.Changeset
	if err := object.Decode(b, &logged); err != nil {
		return 0, err
	}
	events, err := m.store.Apply(m.index, logged)
	if err != nil {
		return 0, err
	}
	m.events = append(m.events, events...)
	close(m.changed)
	m.changed = make(chan struct{})
	if lost := m.after; lost != nil {
		m.after = nil
		return 0, lost()
	}
	return m.index, nil
}

func (m member) Snapshot() *state.Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.behind != nil && m.leader == m.name {
		return m.behind
	}
	return m.store.Snapshot()
}

func (m member) Barrier(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.leader != m.name {
		return object.Errorf(object.CodeNoLeader, object.Ref{}, "not the leader")
	}
	m.behind = nil
	return nil
}

func (m member) WaitApplied(_ context.Context, index uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waited = append(m.waited, m.name)
	return nil
}

func (m member) Watch(since uint64) (api.Watch, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if since < m.oldest {
		return nil, object.Errorf(object.CodeGone, object.Ref{}, "index %d is too old", since)
	}
	return &cursor{m.shared, since}, nil
}

type cursor struct {
	s  *shared
	at uint64
}

func (c *cursor) Next(ctx context.Context) ([]state.Event, error) {
	for {
		c.s.mu.Lock()
		var out []state.Event
		for _, e := range c.s.events {
			if e.Index > c.at {
				out = append(out, e)
			}
		}
		changed := c.s.changed
		c.s.mu.Unlock()
		if len(out) > 0 {
			c.at = out[len(out)-1].Index
			return out, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (c *cursor) Close() {}

func (m member) Leader() api.Leader {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := api.Leader{Name: m.leader, Self: m.leader == m.name}
	for _, x := range m.masters {
		if x.Name == m.leader {
			l.API = x.API
		}
	}
	return l
}

func (m member) Masters() []object.Master {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]object.Master(nil), m.masters...)
}

func (m member) AddMaster(_ context.Context, x object.Master) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.masters {
		if m.masters[i].Name == x.Name {
			m.masters[i] = x
			return nil
		}
	}
	m.masters = append(m.masters, x)
	return nil
}

func (m member) RemoveMaster(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, x := range m.masters {
		if x.Name == name {
			m.masters = append(m.masters[:i:i], m.masters[i+1:]...)
			return nil
		}
	}
	return object.Errorf(object.CodeNotFound, object.Ref{}, "no master %s", name)
}

func (m member) Acknowledged(ctx context.Context, index uint64) []string {
	for {
		m.mu.Lock()
		var waiting []string
		for n, applied := range m.applied {
			if applied != 0 && applied < index {
				waiting = append(waiting, n)
			}
		}
		m.mu.Unlock()
		if len(waiting) == 0 {
			return nil
		}
		select {
		case <-m.acked:
		case <-ctx.Done():
			return waiting
		}
	}
}

func (m member) Heartbeat(node string, applied uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.beats[node]++
	m.applied[node] = applied
	select {
	case m.acked <- struct{}{}:
	default:
	}
}

func (m member) Traffic(string, *object.Traffic) {}

func (m member) Save(_ context.Context, w io.Writer) error {
	_, err := io.WriteString(w, "the whole state")
	return err
}

func (m member) Restore(_ context.Context, r io.Reader) error {
	b, err := io.ReadAll(r)
	if err == nil && string(b) != "the whole state" {
		return object.Errorf(object.CodeInvalid, object.Ref{}, "not a snapshot")
	}
	return err
}

// world is masters with real certificates, keyring and TLS around a fake cluster.
type world struct {
	t       *testing.T
	ca      *pki.CA
	keys    *seal.Keyring
	shared  *shared
	servers map[string]*api.Server
	addrs   []string
	plan    api.PlanFunc
	rings   []*seal.Keyring // of the followers; keys is the leader's
}

// newWorld starts masters; the first leads.
func newWorld(t *testing.T, names ...string) *world {
	t.Helper()
	ca, err := pki.NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := seal.Generate("")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, ca: ca, keys: keys, servers: map[string]*api.Server{}, shared: &shared{
		store: state.New(), changed: make(chan struct{}), beats: map[string]int{}, applied: map[string]uint64{}, acked: make(chan struct{}, 1), leader: names[0],
	}}
	for _, n := range names {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		w.addrs = append(w.addrs, l.Addr().String())
		w.shared.masters = append(w.shared.masters, object.Master{Name: n, API: l.Addr().String(), Alive: true, Voter: true})
		ring := keys
		if len(w.servers) > 0 { // every master has its own copy
			b, err := keys.Export()
			if err != nil {
				t.Fatal(err)
			}
			if ring, err = seal.Import("", b); err != nil {
				t.Fatal(err)
			}
			w.rings = append(w.rings, ring)
		}
		s, err := api.New(api.Config{
			Name: n, Version: "test", Cluster: member{w.shared, n}, CA: ca, Keys: ring, Identity: w.identity(n, "master"), Bookmark: 50 * time.Millisecond,
			Plan: func(ctx context.Context, v *state.Snapshot, p *object.Plan, now time.Time) (object.Forecast, error) {
				if w.plan != nil {
					return w.plan(ctx, v, p, now)
				}
				return object.Forecast{Index: v.Index(), Outcome: "healthy"}, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		w.servers[n] = s
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Serve(ctx, l) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}
	return w
}

// identity is a certificate of the world.
func (w *world) identity(name, role string) *pki.Identity {
	w.t.Helper()
	return identityBy(w.t, w.ca, name, role)
}

func identityBy(t *testing.T, ca *pki.CA, name, role string) *pki.Identity {
	t.Helper()
	key, csr, err := pki.NewRequest(name)
	if err != nil {
		t.Fatal(err)
	}
	r, err := pki.ParseRequest(csr)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := ca.Issue(r, name, role)
	if err != nil {
		t.Fatal(err)
	}
	id, err := pki.NewIdentity(chain, key, ca.CertPEM())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// as is a client with a certificate.
func (w *world) as(name, role string) *client.Client {
	w.t.Helper()
	return w.at(client.Config{Addrs: w.addrs, TLS: w.identity(name, role).ClientTLS(pki.RoleMaster, "")})
}

func (w *world) at(c client.Config) *client.Client {
	w.t.Helper()
	if c.Patience == 0 {
		c.Patience = -1
	}
	k, err := client.New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(k.Close)
	return k
}

func (w *world) admin() *client.Client { return w.as("admin", "admin") }

// write puts objects into the state past the API.
func (w *world) write(objects ...object.Object) {
	w.t.Helper()
	c := object.Changeset{Author: "test", Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	for _, o := range objects {
		c.Create(o)
	}
	w.propose(c)
}

func (w *world) propose(c object.Changeset) {
	w.t.Helper()
	if _, err := (member{w.shared, w.shared.leader}).Propose(context.Background(), c); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) get(r object.Ref) object.Object {
	w.t.Helper()
	o, ok := w.shared.store.Snapshot().Get(r)
	if !ok {
		w.t.Fatalf("%s does not exist", r)
	}
	return o
}

func wantCode(t *testing.T, err error, code object.Code) *object.Error {
	t.Helper()
	if !object.IsCode(err, code) {
		t.Fatalf("error %v has code %s, want %s", err, object.CodeOf(err), code)
	}
	var e *object.Error
	errors.As(err, &e)
	return e
}

func configMap(ns, name string, data map[string]string) *object.ConfigMap {
	return &object.ConfigMap{Meta: object.Meta{Kind: object.KindConfigMap, Namespace: ns, Name: name}, Spec: object.ConfigMapSpec{Data: data, Reload: "restart"}}
}

func contains(b []byte, s string) bool { return bytes.Contains(b, []byte(s)) }
