package clustertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/consensus"
	"github.com/berthdev/berth/cluster/controller"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
	"github.com/berthdev/berth/node/fake"
)

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func configMap(name, value string) *object.ConfigMap {
	o := &object.ConfigMap{Meta: object.Meta{Kind: object.KindConfigMap, Namespace: "default", Name: name}}
	object.SetDefaults(&o.Spec)
	o.Spec.Data = map[string]string{"v": value}
	return o
}

func deployment(name, image string, replicas int) *object.Deployment {
	d := &object.Deployment{Meta: object.Meta{Kind: object.KindDeployment, Namespace: "default", Name: name}}
	object.SetDefaults(&d.Spec)
	d.Spec.Replicas = replicas
	d.Spec.Pod.Labels = map[string]string{"app": name}
	c := object.Container{Name: "main", Image: image}
	object.SetDefaults(&c)
	c.Resources.CPU, c.Resources.Memory = 100, 64<<20
	d.Spec.Pod.Containers = []object.Container{c}
	return d
}

func value(v *state.Snapshot, name string) string {
	o, ok := state.Find[*object.ConfigMap](v, configMap(name, "").Ref())
	if !ok {
		return ""
	}
	return o.Spec.Data["v"]
}

func phase(v *state.Snapshot, r object.Ref) object.RevisionPhase {
	o, ok := state.Find[*object.Revision](v, r)
	if !ok {
		return ""
	}
	return o.Status.Phase
}

// A watch begins with all that was acknowledged before it, wherever it is asked for.
func TestAWatchNeverBeginsInThePast(t *testing.T) {
	c := Start(t, Options{})
	ctx := testContext(t)
	behind := c.Follower()
	c.Partition(slices.DeleteFunc(c.Masters(), func(m string) bool { return m == behind }), []string{behind})
	cs := object.Changeset{}
	cs.Create(configMap("settings", "new"))
	if _, err := c.Propose(ctx, cs); err != nil {
		t.Fatal(err)
	}
	if value(c.Master(behind).Snapshot(), "settings") != "" {
		t.Fatal("the follower that was cut off is not behind")
	}
	seen, done := "", errors.New("done")
	watched := make(chan error, 1)
	go func() {
		watched <- c.Client(c.Address(behind)).Watch(ctx, client.WatchOptions{Kinds: []object.Kind{object.KindConfigMap}}, func(e object.WatchEvent) error {
			switch e.Op {
			case object.WatchSynced:
				return done
			case object.WatchCreate:
				seen = e.Ref.Name
			}
			return nil
		})
	}()
	c.Heal()
	if err := <-watched; !errors.Is(err, done) {
		t.Fatal(err)
	}
	if seen != "settings" {
		t.Errorf("the watch was synced without what had been acknowledged before: %q", seen)
	}
}

func TestApplyComesUpRollsAndReverts(t *testing.T) {
	c := Start(t, Options{Nodes: 3, Zones: 3, Script: fake.Script{"shop:broken": {Missing: true}}})
	ctx, k := testContext(t), c.Client()
	a, err := c.Apply(ctx, k, "shop", deployment("web", "shop:1", 4), configMap("settings", "1"))
	if err != nil {
		t.Fatal(err)
	}
	c.Eventually("revision 1 is healthy", func() bool { return phase(c.Snapshot(), a.Revision) == object.RevisionHealthy })
	if a, err = c.Apply(ctx, k, "shop", deployment("web", "shop:2", 4)); err != nil {
		t.Fatal(err)
	}
	c.Eventually("revision 2 is healthy", func() bool { return phase(c.Snapshot(), a.Revision) == object.RevisionHealthy })
	c.Eventually("four pods run, all of version 2", func() bool {
		n := 0
		for p := range state.All[*object.Pod](c.Snapshot(), object.KindPod) {
			if tmpl := c.Snapshot().Template(p); tmpl != nil && tmpl.Containers[0].Image == "shop:2" && p.Status.Ready {
				n++
			} else {
				return false
			}
		}
		return n == 4
	})
	if a, err = c.Apply(ctx, k, "shop", deployment("web", "shop:broken", 4)); err != nil {
		t.Fatal(err)
	}
	c.Eventually("the broken revision is put back", func() bool { return phase(c.Snapshot(), a.Revision) == object.RevisionReverted })
	d, _ := state.Find[*object.Deployment](c.Snapshot(), deployment("web", "", 0).Ref())
	if d.Spec.Pod.Containers[0].Image != "shop:2" {
		t.Errorf("after the revert the deployment has %s", d.Spec.Pod.Containers[0].Image)
	}
	c.SameEverywhere()
}

// Nothing that was acknowledged is lost, no revision is half there, and writes go
// on, however often the leader is killed in the middle.
func TestLeaderKilledWhileApplying(t *testing.T) {
	kills := 50
	if testing.Short() {
		kills = 8
	}
	killLeaders(t, kills, Options{Disk: true})
}

// The same with the election timeout and the sockets of real masters.
func TestLeaderKilledWhileApplyingInEarnest(t *testing.T) {
	killLeaders(t, 3, Options{Disk: true, Sockets: true, ElectionTimeout: consensus.DefaultElectionTimeout})
}

func killLeaders(t *testing.T, kills int, o Options) {
	c := Start(t, o)
	ctx, stop := context.WithCancel(testContext(t))
	defer stop()
	var mu sync.Mutex
	var acknowledged []object.Applied
	var newest time.Time // when the latest of them to be begun was begun
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(acknowledged) }
	var writers sync.WaitGroup
	for w := range 3 {
		k := c.Client()
		writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				stack := fmt.Sprintf("s%d-%d", w, i)
				begun := time.Now()
				a, err := c.Apply(ctx, k, stack, configMap(stack+"-a", stack), configMap(stack+"-b", stack))
				if err != nil && ctx.Err() == nil { // the client asks the next leader what has become of it
					t.Errorf("%s: %v", stack, err)
				}
				if err == nil {
					mu.Lock()
					acknowledged = append(acknowledged, a)
					if begun.After(newest) {
						newest = begun
					}
					mu.Unlock()
				}
			}
		})
	}
	const limit = 3 * time.Second // the promise; what it takes by rights is a third of it
	longest := time.Duration(0)
	for range kills {
		before := count()
		c.Eventually("applies go on", func() bool { return count() >= before+3 })
		name := c.Leader()
		killed := time.Now()
		c.Kill(name)
		dead := time.Now() // an answer to what was begun before may still have been on its way
		c.Eventually("a write begun without the old leader succeeds", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return newest.After(dead)
		})
		took := time.Since(killed)
		if longest = max(longest, took); took > limit {
			t.Errorf("the next write succeeded %s after the leader %s was killed", took, name)
		}
		c.Restart(name)
	}
	stop()
	writers.Wait()
	c.Eventually("the masters agree", func() bool { return c.LeaderNow() != "" })
	v := c.Snapshot()
	for _, a := range acknowledged {
		r, ok := state.Find[*object.Revision](v, a.Revision)
		if !ok || r.Created != a.Index {
			t.Errorf("%s was acknowledged at index %d and is not there", a.Revision, a.Index)
		}
	}
	for r := range state.All[*object.Revision](v, object.KindRevision) {
		s, ok := state.Find[*object.Stack](v, object.Ref{Kind: object.KindStack, Name: r.Spec.Stack})
		if !ok || s.Created != r.Created || len(r.Spec.Changes) != 2 {
			t.Errorf("%s is half there", r.Ref())
		}
	}
	// What was under way goes on under the last leader.
	c.Eventually("every revision ends healthy", func() bool {
		for r := range state.All[*object.Revision](c.Snapshot(), object.KindRevision) {
			if r.Status.Phase != object.RevisionHealthy {
				return false
			}
		}
		return true
	})
	for _, a := range acknowledged {
		if value(c.Snapshot(), a.Stack+"-a") != a.Stack || value(c.Snapshot(), a.Stack+"-b") != a.Stack {
			t.Errorf("%s was not carried out", a.Stack)
		}
	}
	c.SameEverywhere()
	t.Logf("%d applies were acknowledged over %d kills; the next write took %s at most", len(acknowledged), kills, longest)
}

func TestFollowerWithoutLeader(t *testing.T) {
	c := Start(t, Options{})
	ctx := testContext(t)
	alone := c.Follower()
	for _, m := range c.Masters() {
		if m != alone {
			c.Kill(m)
		}
	}
	c.Eventually("it has noticed", func() bool { return c.Master(alone).Leader().Name == "" })
	k, err := client.New(client.Config{Addrs: []string{c.Address(alone)}, TLS: c.identity.ClientTLS(string(object.RoleMaster), ""), Patience: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	_, err = k.Create(ctx, configMap("a", "1"))
	if !object.IsCode(err, object.CodeNoLeader) || !strings.Contains(err.Error(), "no leader") {
		t.Fatalf("a write: %v", err)
	}
	if _, err := k.Get(ctx, configMap("a", "1").Ref()); !object.IsCode(err, object.CodeNoLeader) {
		t.Fatalf("a linearizable read: %v", err)
	}
}

func TestWritesThroughAnyMaster(t *testing.T) {
	c := Start(t, Options{Sockets: true, Disk: true})
	ctx := testContext(t)
	for i, m := range c.Masters() {
		k := c.Client(c.Address(m))
		name := fmt.Sprintf("o%d", i)
		if _, err := k.Create(ctx, configMap(name, m)); err != nil {
			t.Fatalf("through %s: %v", m, err)
		}
		for _, other := range c.Masters() {
			o, err := client.Get[*object.ConfigMap](ctx, c.Client(c.Address(other)), configMap(name, "").Ref())
			if err != nil || o.Spec.Data["v"] != m {
				t.Fatalf("written through %s, read through %s: %v %v", m, other, o, err)
			}
		}
	}
	c.Admit("m9")
	if err := c.ClientOf(c.Identity("m9", object.RoleMaster)).AddMaster(ctx, object.Master{Name: "m9", Raft: c.freeAddress(), API: c.freeAddress()}); !object.IsCode(err, object.CodeUnavailable) || !strings.Contains(err.Error(), "m9") {
		t.Fatalf("a master that does not answer was taken in: %v", err)
	}
	old := c.Leader()
	c.Stop(old) // hands over
	if _, err := c.Client().Create(ctx, configMap("later", "x")); err != nil {
		t.Fatal(err)
	}
	c.Restart(old)
	c.SameEverywhere()
}

func TestSaveRestoreAndRestartOfAll(t *testing.T) {
	c := Start(t, Options{Disk: true, SnapshotEntries: 64})
	ctx, k := testContext(t), c.Client()
	for i := range 200 {
		_, err := c.Propose(ctx, create(configMap(fmt.Sprintf("o%03d", i), "saved")))
		for object.IsCode(err, object.CodeTimeout) { // the leader changed, on a busy machine: it may be there or not
			_, err = c.Propose(ctx, create(configMap(fmt.Sprintf("o%03d", i), "saved")))
		}
		if err != nil && !object.IsCode(err, object.CodeExists) {
			t.Fatal(err)
		}
	}
	var saved bytes.Buffer
	if _, err := k.SaveSnapshot(ctx, &saved); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Create(ctx, configMap("later", "x")); err != nil {
		t.Fatal(err)
	}
	open := func(b []byte) func() (io.ReadCloser, error) {
		return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
	}
	if err := k.RestoreSnapshot(ctx, open(saved.Bytes()[:saved.Len()/2])); !object.IsCode(err, object.CodeInvalid) {
		t.Fatalf("half a file: %v", err)
	}
	if err := k.RestoreSnapshot(ctx, open(saved.Bytes())); err != nil {
		t.Fatal(err)
	}
	if value(c.Snapshot(), "later") != "" || value(c.Snapshot(), "o199") != "saved" {
		t.Fatal("the state is not the saved one")
	}
	c.SameEverywhere()
	want := c.Bytes(c.Leader())
	all := c.Masters()
	for _, m := range all {
		c.Kill(m)
	}
	for _, m := range all {
		c.Restart(m)
	}
	c.Leader()
	c.SameEverywhere()
	if !bytes.Equal(want, c.Bytes(c.Leader())) {
		t.Fatal("after a restart of all masters the state is another")
	}
	if _, err := k.Create(ctx, configMap("after", "x")); err != nil {
		t.Fatal(err)
	}
}

func TestSilentNodeIsLostAndComesBack(t *testing.T) {
	c := Start(t, Options{Nodes: 3, NodeTimeout: 1500 * time.Millisecond})
	ctx, k := testContext(t), c.Client()
	a, err := c.Apply(ctx, k, "shop", deployment("web", "shop:1", 6))
	if err != nil {
		t.Fatal(err)
	}
	c.Eventually("it is healthy", func() bool { return phase(c.Snapshot(), a.Revision) == object.RevisionHealthy })
	bare := &object.Pod{Meta: object.Meta{Kind: object.KindPod, Namespace: "default", Name: "tool"}, Spec: object.PodSpec{Pod: &deployment("x", "shop:1", 1).Spec.Pod, Node: "n1"}}
	if _, err := k.Create(ctx, bare); err != nil {
		t.Fatal(err)
	}
	tool := func() *object.Pod { p, _ := state.Find[*object.Pod](c.Snapshot(), bare.Ref()); return p }
	c.Eventually("the bare pod runs", func() bool { return tool().Status.Ready })
	condition := func(name string) object.NodeCondition {
		n, _ := state.Find[*object.Node](c.Snapshot(), object.Ref{Kind: object.KindNode, Name: name})
		return n.Status.Condition
	}
	c.Node("n1").Stop()
	c.Eventually("n1 is lost", func() bool { return condition("n1") == object.NodeLost })
	c.Eventually("its pods run elsewhere", func() bool {
		ready := 0
		for p := range state.All[*object.Pod](c.Snapshot(), object.KindPod) {
			if p.Status.Ready && p.Spec.Node != "n1" {
				ready++
			}
		}
		return ready == 6
	})
	if condition("n2") != object.NodeReady || condition("n3") != object.NodeReady {
		t.Error("a node that was heard is not ready")
	}
	c.Eventually("the bare pod is lost", func() bool { return tool().Status.Phase == object.PodLost })
	c.Node("n1").Start()
	c.Eventually("n1 is back", func() bool { return condition("n1") == object.NodeReady })
	c.Eventually("and the bare pod with it", func() bool { return tool().Status.Ready })
	// A new leader has heard nobody yet and loses nobody for it.
	c.Kill(c.Leader())
	c.Leader()
	for _, n := range []string{"n1", "n2", "n3"} {
		if condition(n) != object.NodeReady {
			t.Errorf("%s is %s after a change of leader", n, condition(n))
		}
	}
}

func create(objects ...object.Object) object.Changeset {
	c := object.Changeset{Author: "tester"}
	for _, o := range objects {
		c.Create(o)
	}
	return c
}

// An idle leader hands a rehearsal its queue, in which nothing waits; what it cannot
// hand out exactly it does not.
func TestRehearsalsGetTheLeadersQueue(t *testing.T) {
	type seen struct {
		index uint64
		queue *controller.Queue
	}
	var mu sync.Mutex
	var last seen
	c := Start(t, Options{Masters: 1, Nodes: 1, Plan: func(ctx context.Context, v *state.Snapshot, waiting *controller.Queue, p *object.Plan, now time.Time) (object.Forecast, error) {
		mu.Lock()
		defer mu.Unlock()
		last = seen{v.Index(), waiting}
		return healthy(ctx, v, waiting, p, now)
	}})
	ctx := testContext(t)
	k := c.Client()
	if _, err := c.Apply(ctx, k, "shop", deployment("web", "web:1", 2)); err != nil {
		t.Fatal(err)
	}
	c.Eventually("a rehearsal begins with the leader's queue", func() bool {
		p := object.Plan{Stack: "other", Cause: "apply", Waves: 1}
		if _, err := k.Plan(ctx, &p); err != nil {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		return last.queue != nil && last.queue.Len() == 0
	})
}

// While a master is lost its ports stay its own: no other cluster stands at the
// same address. On a shared one, a client was once told that its master belongs
// to another cluster.
func TestEachClusterHasAnAddressOfItsOwn(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all of 127.0.0.0/8")
	}
	a, b := Start(t, Options{Masters: 1}), Start(t, Options{Masters: 1})
	for _, c := range []*Cluster{a, b} {
		if host, _, err := net.SplitHostPort(c.Addresses()[0]); err != nil || host != c.host.address {
			t.Errorf("a master at %s, of a cluster at %s: %v", c.Addresses()[0], c.host.address, err)
		}
	}
	if a.host.address == b.host.address {
		t.Errorf("two clusters stand at %s", a.host.address)
	}
}
