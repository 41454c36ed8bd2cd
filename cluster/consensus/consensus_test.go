package consensus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// cluster is a few masters in memory.
type cluster struct {
	t       testing.TB
	net     *Network
	members []object.Master
	storage map[string]Storage
	nodes   map[string]*Node
	adjust  func(*Config)
}

func newCluster(t testing.TB, n int, storage func(id string) Storage, adjust func(*Config)) *cluster {
	c := &cluster{t: t, net: NewNetwork(), storage: map[string]Storage{}, nodes: map[string]*Node{}, adjust: adjust}
	for i := range n {
		id := fmt.Sprintf("m%d", i+1)
		c.members = append(c.members, object.Master{Name: id, Raft: id + ":7401", API: id + ":7400"})
		c.storage[id] = storage(id)
	}
	for _, m := range c.members {
		c.start(m.Name)
	}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			n.Kill()
		}
	})
	return c
}

func inMemory(string) Storage { return Memory() }

func (c *cluster) config(id string) Config {
	cfg := Config{ID: id, RaftAddress: id + ":7401", APIAddress: id + ":7400", Storage: c.storage[id], Network: c.net, Bootstrap: c.members, ElectionTimeout: 300 * time.Millisecond}
	if c.adjust != nil {
		c.adjust(&cfg)
	}
	return cfg
}

// patient is for tests that are not about elections, on a machine that may be busy.
func patient(c *Config) { c.ElectionTimeout = 2 * time.Second }

func (c *cluster) start(id string) *Node {
	c.t.Helper()
	n, err := Open(c.config(id))
	if err != nil {
		c.t.Fatal(err)
	}
	c.nodes[id] = n
	return n
}

func (c *cluster) kill(id string) {
	c.nodes[id].Kill()
	delete(c.nodes, id)
}

func (c *cluster) leader() *Node {
	c.t.Helper()
	var l *Node
	eventually(c.t, "a leader", func() bool {
		for _, n := range c.nodes {
			if n.Leading() {
				l = n
				return true
			}
		}
		return false
	})
	return l
}

func (c *cluster) follower() *Node {
	l := c.leader()
	for _, id := range slices.Sorted(maps.Keys(c.nodes)) {
		if n := c.nodes[id]; n != l {
			return n
		}
	}
	c.t.Fatal("there is no follower")
	return nil
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("still not so: %s", what)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func context10(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func configMap(name, value string) *object.ConfigMap {
	return &object.ConfigMap{Meta: object.Meta{Kind: object.KindConfigMap, Namespace: "default", Name: name}, Spec: object.ConfigMapSpec{Data: map[string]string{"v": value}}}
}

func create(objects ...object.Object) object.Changeset {
	c := object.Changeset{Author: "test"}
	for _, o := range objects {
		c.Create(o)
	}
	return c
}

func valueOf(v *state.Snapshot, name string) string {
	o, ok := state.Find[*object.ConfigMap](v, configMap(name, "").Ref())
	if !ok {
		return ""
	}
	return o.Spec.Data["v"]
}

func stateBytes(t testing.TB, n *Node) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := state.Encode(&b, n.Snapshot(), Parallel); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (c *cluster) converge() {
	c.t.Helper()
	index := c.leader().Snapshot().Index()
	for id, n := range c.nodes {
		eventually(c.t, id+" has everything", func() bool { return n.Snapshot().Index() >= index })
	}
	want := stateBytes(c.t, c.leader())
	for id, n := range c.nodes {
		if !bytes.Equal(want, stateBytes(c.t, n)) {
			c.t.Fatalf("%s has another state than the leader at index %d", id, index)
		}
	}
}

func TestThreeMastersAgree(t *testing.T) {
	c := newCluster(t, 3, inMemory, nil)
	l := c.leader()
	ctx := context10(t)
	index, err := l.Propose(ctx, create(configMap("a", "1")))
	if err != nil {
		t.Fatal(err)
	}
	if got := valueOf(l.Snapshot(), "a"); got != "1" || l.Snapshot().Index() != index {
		t.Fatalf("the proposer reads %q at %d, committed at %d", got, l.Snapshot().Index(), index)
	}
	if _, err := l.Propose(ctx, create(configMap("a", "2"))); !object.IsCode(err, object.CodeExists) {
		t.Fatalf("a second create: %v", err)
	}
	f := c.follower()
	if _, err := f.Propose(ctx, create(configMap("b", "1"))); !object.IsCode(err, object.CodeNoLeader) || !strings.Contains(err.Error(), l.ID()) {
		t.Fatalf("a follower answered: %v", err)
	}
	if err := f.Barrier(ctx); !object.IsCode(err, object.CodeNoLeader) {
		t.Fatalf("a follower's linearizable read: %v", err)
	}
	if id, api, self := f.Leader(); id != l.ID() || api != l.ID()+":7400" || self {
		t.Fatalf("the follower says %s %s %v leads", id, api, self)
	}
	c.converge()
	masters, err := l.Masters()
	if err != nil || len(masters) != 3 || !masters[0].Alive || !masters[1].Alive || !masters[2].Alive {
		t.Fatalf("%+v %v", masters, err)
	}
	if masters, err = f.Masters(); err != nil {
		t.Fatal(err)
	}
	for _, m := range masters {
		if known := m.Name == f.ID() || m.Name == l.ID(); m.Alive != known || m.Unknown == known {
			t.Errorf("a follower says of %s: %+v", m.Name, m)
		}
	}
}

// Each writer's refusal comes back to that writer, whatever was committed with it.
func TestGroupCommitKeepsAnswersApart(t *testing.T) {
	c := newCluster(t, 3, inMemory, patient)
	l := c.leader()
	ctx := context10(t)
	if _, err := l.Propose(ctx, create(configMap("n", ""))); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var won, lost atomic.Int64
	const writers, each = 16, 25
	for w := range writers {
		wg.Go(func() {
			for done := 0; done < each; {
				o, _ := state.Find[*object.ConfigMap](l.Snapshot(), configMap("n", "").Ref())
				next := o.Clone().(*object.ConfigMap)
				next.Spec.Data = map[string]string{"v": o.Spec.Data["v"] + string(rune('a'+w))}
				cs := object.Changeset{Author: fmt.Sprint("w", w)}
				cs.Update(o, next)
				_, err := l.Propose(ctx, cs)
				switch {
				case err == nil:
					done++
					won.Add(1)
				case object.IsCode(err, object.CodeConflict):
					lost.Add(1)
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	got := valueOf(l.Snapshot(), "n")
	if len(got) != writers*each {
		t.Fatalf("%d writes were acknowledged and %d are there", writers*each, len(got))
	}
	for w := range writers {
		if n := strings.Count(got, string(rune('a'+w))); n != each {
			t.Errorf("writer %d was acknowledged %d times and is there %d times", w, each, n)
		}
	}
	c.converge()
}

func TestLargeChangesetIsWhole(t *testing.T) {
	c := newCluster(t, 3, inMemory, func(c *Config) { patient(c); c.MaxEntry = 4 << 10 })
	l := c.leader()
	var objects []object.Object
	for i := range 400 {
		objects = append(objects, configMap(fmt.Sprintf("o%03d", i), strings.Repeat("x", 500)))
	}
	index, err := l.Propose(context10(t), create(objects...))
	if err != nil {
		t.Fatal(err)
	}
	for o := range l.Snapshot().List(object.KindConfigMap) {
		if o.Head().Version != index {
			t.Fatalf("%s became visible at %d, not at %d", o.Ref(), o.Head().Version, index)
		}
	}
	if n := l.Snapshot().Count(object.KindConfigMap); n != 400 {
		t.Fatalf("%d of 400 objects", n)
	}
	if _, err := l.Propose(context10(t), create(objects...)); !object.IsCode(err, object.CodeExists) {
		t.Fatalf("a refused large changeset: %v", err)
	}
	c.converge()
}

func TestWatchResumesAndTellsWhenItCannot(t *testing.T) {
	c := newCluster(t, 1, inMemory, func(c *Config) { c.History = 10 })
	l := c.leader()
	ctx := context10(t)
	start := l.Snapshot().Index()
	slow, err := l.Watch(start)
	if err != nil {
		t.Fatal(err)
	}
	var indexes []uint64
	for i := range 30 {
		x, err := l.Propose(ctx, create(configMap(fmt.Sprintf("o%02d", i), "")))
		if err != nil {
			t.Fatal(err)
		}
		indexes = append(indexes, x)
	}
	if _, err := slow.Next(ctx); !object.IsCode(err, object.CodeGone) {
		t.Fatalf("who lags by 30 of 10: %v", err)
	}
	if _, err := l.Watch(indexes[5]); !object.IsCode(err, object.CodeGone) {
		t.Fatalf("an old index: %v", err)
	}
	w, err := l.Watch(indexes[25])
	if err != nil {
		t.Fatal(err)
	}
	for i := 26; i < 30; i++ {
		b, err := w.Next(ctx)
		if err != nil || b.Index != indexes[i] || b.Events[0].Ref.Name != fmt.Sprintf("o%02d", i) {
			t.Fatalf("event %d: %+v %v", i, b, err)
		}
	}
	if b, err := w.Poll(); b != nil || err != nil {
		t.Fatalf("there is nothing new, but: %v %v", b, err)
	}
	short, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := w.Next(short); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestRestartFromDisk(t *testing.T) {
	dir := t.TempDir()
	c := newCluster(t, 1, func(id string) Storage { return Disk(filepath.Join(dir, id)) }, func(c *Config) { c.SnapshotEntries = 20 })
	ctx := context10(t)
	for i := range 60 {
		if _, err := c.leader().Propose(ctx, create(configMap(fmt.Sprintf("o%02d", i), "x"))); err != nil {
			t.Fatal(err)
		}
		if i == 30 {
			if err := c.leader().raft.Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := Open(c.config("m1")); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("a second master on one directory: %v", err)
	}
	want := stateBytes(t, c.leader())
	c.kill("m1")
	c.start("m1")
	if got := stateBytes(t, c.leader()); !bytes.Equal(got, want) {
		t.Fatal("another state after the restart")
	}
}

func TestFullDisk(t *testing.T) {
	var full atomic.Bool
	c := newCluster(t, 1, inMemory, func(c *Config) {
		c.fault = func(string) error {
			if full.Load() {
				return &syscallError{}
			}
			return nil
		}
	})
	ctx := context10(t)
	l := c.leader()
	if _, err := l.Propose(ctx, create(configMap("a", "1"))); err != nil {
		t.Fatal(err)
	}
	full.Store(true)
	_, err := l.Propose(ctx, create(configMap("b", "1")))
	if !object.IsCode(err, object.CodeUnavailable) || !strings.Contains(err.Error(), "no space left") {
		t.Fatalf("a proposal with a full disk: %v", err)
	}
	eventually(t, "the master gives up the leadership", func() bool { return !l.Leading() })
	if _, err := l.Propose(ctx, create(configMap("b", "1"))); !object.IsCode(err, object.CodeUnavailable) {
		t.Fatalf("the next proposal: %v", err)
	}
	full.Store(false)
	eventually(t, "it goes on when there is space", func() bool {
		_, err := l.Propose(ctx, create(configMap("c", "1")))
		return err == nil
	})
	if valueOf(l.Snapshot(), "a") != "1" {
		t.Fatal("an acknowledged write was lost")
	}
}

type syscallError struct{}

func (*syscallError) Error() string        { return "write raft.db: " + syscall.ENOSPC.Error() }
func (*syscallError) Is(target error) bool { return target == syscall.ENOSPC }

func TestSaveAndRestore(t *testing.T) {
	c := newCluster(t, 3, inMemory, patient)
	ctx := context10(t)
	l := c.leader()
	for i := range 600 {
		if _, err := l.Propose(ctx, create(configMap(fmt.Sprintf("o%03d", i), "saved"))); err != nil {
			t.Fatal(err)
		}
	}
	var saved bytes.Buffer
	b, err := l.Save(&saved, "test")
	if err != nil || b.Objects != 600 || b.Cluster != "test" {
		t.Fatalf("%+v %v", b, err)
	}
	want := stateBytes(t, l)
	if _, err := l.Propose(ctx, create(configMap("later", "x"))); err != nil {
		t.Fatal(err)
	}
	for _, damage := range []func([]byte) []byte{
		func(b []byte) []byte { return b[:len(b)-1] },
		func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		func(b []byte) []byte { return []byte("hello") },
		func(b []byte) []byte { return nil },
	} {
		if _, err := l.Restore(ctx, bytes.NewReader(damage(bytes.Clone(saved.Bytes())))); !object.IsCode(err, object.CodeInvalid) {
			t.Fatalf("a damaged file: %v", err)
		}
		if _, v, err := ReadBackup(bytes.NewReader(damage(bytes.Clone(saved.Bytes()))), t.TempDir()); !object.IsCode(err, object.CodeInvalid) || v != nil {
			t.Fatalf("a damaged file: %v", err)
		}
	}
	scratch := t.TempDir()
	if read, v, err := ReadBackup(bytes.NewReader(saved.Bytes()), scratch); err != nil || read != b || valueOf(v, "o599") != "saved" || valueOf(v, "later") != "" {
		t.Fatalf("%+v %v", read, err)
	}
	if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
		t.Fatalf("left behind: %v %v", left, err)
	}
	_, _, err = ReadBackup(strings.NewReader("berth cluster snapshot 2\n{}\n"), scratch)
	if err == nil || !strings.Contains(err.Error(), `has format "2" and this version of Berth knows only "1"`) {
		t.Fatalf("another format: %v", err)
	}
	if valueOf(l.Snapshot(), "later") != "x" {
		t.Fatal("a refused restore changed something")
	}
	w, err := l.Watch(l.Snapshot().Index())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Restore(ctx, bytes.NewReader(saved.Bytes())); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Next(ctx); !object.IsCode(err, object.CodeGone) {
		t.Fatalf("a watcher over a restore: %v", err)
	}
	if valueOf(l.Snapshot(), "later") != "" || valueOf(l.Snapshot(), "o599") != "saved" {
		t.Fatal("the state is not the saved one")
	}
	if len(stateBytes(t, l)) != len(want) { // all but the index
		t.Fatal("the restored state differs")
	}
	eventually(t, "all masters have it", func() bool {
		for _, n := range c.nodes {
			if n.Snapshot().Index() != l.Snapshot().Index() {
				return false
			}
		}
		return true
	})
	c.converge()
	if _, err := l.Propose(ctx, create(configMap("after", "x"))); err != nil {
		t.Fatal(err)
	}

	// And into another, new cluster whose log is much shorter.
	other := newCluster(t, 3, inMemory, patient)
	if _, err := other.leader().Restore(ctx, bytes.NewReader(saved.Bytes())); err != nil {
		t.Fatal(err)
	}
	if _, err := other.leader().Propose(ctx, create(configMap("after", "x"))); err != nil {
		t.Fatal(err)
	}
	other.converge()
	if valueOf(other.leader().Snapshot(), "o599") != "saved" {
		t.Fatal("the other cluster has not the saved state")
	}
	for _, m := range other.members {
		other.kill(m.Name)
	}
	for _, m := range other.members {
		other.start(m.Name)
	}
	other.converge()
	if valueOf(other.leader().Snapshot(), "after") != "x" {
		t.Fatal("a restart after a restore lost a write")
	}
}

func TestMembers(t *testing.T) {
	c := newCluster(t, 1, inMemory, nil)
	ctx := context10(t)
	for _, id := range []string{"m2", "m3"} {
		c.storage[id] = Memory()
		members := c.members
		c.members = nil // a master that joins founds nothing
		c.start(id)
		c.members = members
		if err := c.leader().AddVoter(ctx, object.Master{Name: id, Raft: id + ":7401", API: id + ":7400"}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.leader().Propose(ctx, create(configMap(id, "x"))); err != nil {
			t.Fatal(err)
		}
	}
	c.converge()
	if err := c.leader().Remove(ctx, "nobody"); !object.IsCode(err, object.CodeNotFound) {
		t.Fatal(err)
	}
	old := c.leader()
	if err := old.TransferLeadership(ctx, c.follower().ID()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another leads", func() bool { return !old.Leading() })
	if err := c.leader().Remove(ctx, old.ID()); err != nil {
		t.Fatal(err)
	}
	c.kill(old.ID())
	if _, err := c.leader().Propose(ctx, create(configMap("last", "x"))); err != nil {
		t.Fatal(err)
	}
	if m, _ := c.leader().Masters(); len(m) != 2 {
		t.Fatalf("%+v", m)
	}
	dead := c.follower().ID()
	c.kill(dead)
	l := c.leader()
	eventually(t, "the leader gives up without a quorum", func() bool { return !l.Leading() })
	if _, err := l.Propose(ctx, create(configMap("x", "x"))); !object.IsCode(err, object.CodeNoLeader) {
		t.Fatalf("without a quorum: %v", err)
	}
}
