package clustertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/api"
	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/consensus"
	"github.com/berthdev/berth/cluster/controller"
	"github.com/berthdev/berth/cluster/master"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/pki"
	"github.com/berthdev/berth/cluster/seal"
	"github.com/berthdev/berth/cluster/state"
	"github.com/berthdev/berth/node/fake"
)

// Options describes a cluster. The zero value is three masters, no nodes.
type Options struct {
	Masters int // default 3
	Nodes   int
	Zones   int // nodes are spread over this many zones; 0: none
	Script  fake.Script

	Disk    bool // keep the logs on disk, as in earnest
	Sockets bool // Raft over loopback and mutual TLS; Partition does not work then
	NoAPI   bool // no API and no nodes: only Propose and Snapshot

	ElectionTimeout time.Duration   // default 150ms
	NodeTimeout     time.Duration   // default 30s
	Heartbeat       time.Duration   // default 100ms
	Check           api.CheckFunc   // default: nothing is found
	Policies        api.Policies    // default: none
	Plan            master.PlanFunc // default: everything is forecast to be healthy
	Controllers     []controller.Controller
	SnapshotEntries uint64
	Log             *slog.Logger
}

// Cluster is a running cluster. Its methods are for the test's goroutine unless
// they say otherwise.
type Cluster struct {
	t        testing.TB
	options  Options
	host     *host // of all its masters
	ca       *pki.CA
	keys     *seal.Keyring
	network  *consensus.Network
	members  []object.Master
	storage  map[string]consensus.Storage
	mu       sync.Mutex
	running  map[string]*running
	nodes    []*Node
	identity *pki.Identity
	dir      string
}

type running struct {
	master *master.Master
	door   *listener // nil without an API
	stop   context.CancelFunc
	done   chan error
}

// Node is a simulated node that can be stopped and started.
type Node struct {
	*fake.Node
	stop func()
	run  func()
}

// Stop ends the node's agent without a word; Start begins it again.
func (n *Node) Stop()  { n.stop() }
func (n *Node) Start() { n.run() }

// Start runs a cluster until the test ends, and returns when it has a leader and
// every node is ready.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	if o.Masters == 0 {
		o.Masters = 3
	}
	if o.ElectionTimeout == 0 {
		o.ElectionTimeout = 150 * time.Millisecond
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = 100 * time.Millisecond
	}
	if o.Plan == nil {
		o.Plan = healthy
	}
	c := &Cluster{t: t, options: o, host: ownHost(t), network: consensus.NewNetwork(), storage: map[string]consensus.Storage{}, running: map[string]*running{}}
	var err error
	if c.keys, err = seal.Generate(""); err != nil {
		t.Fatal(err)
	}
	if c.ca, err = pki.NewCA(c.keys.Cluster()); err != nil {
		t.Fatal(err)
	}
	c.identity = c.Identity("tester", object.RoleAdmin)
	c.dir = t.TempDir()
	for i := range o.Masters {
		name := fmt.Sprintf("m%d", i+1)
		m := object.Master{Name: name, Raft: name + ":7401", API: name + ":7400"}
		if !o.NoAPI {
			m.API = c.freeAddress()
		}
		if o.Sockets {
			m.Raft = c.freeAddress()
		}
		c.members = append(c.members, m)
		if c.storage[name] = consensus.Memory(); o.Disk {
			c.storage[name] = consensus.Disk(c.disk(name))
		}
	}
	t.Cleanup(c.close)
	for _, m := range c.members {
		c.Restart(m.Name)
	}
	c.Leader()
	for i := range o.Nodes {
		labels := map[string]string{}
		if o.Zones > 0 {
			labels["zone"] = fmt.Sprintf("z%d", i%o.Zones+1)
		}
		c.AddNode(fake.Config{Name: fmt.Sprintf("n%d", i+1), Labels: labels, Script: o.Script})
	}
	if o.Nodes > 0 {
		c.Eventually("every node is ready", func() bool {
			ready := 0
			for n := range state.All[*object.Node](c.Snapshot(), object.KindNode) {
				if n.Status.Condition == object.NodeReady {
					ready++
				}
			}
			return ready == o.Nodes
		})
	}
	return c
}

func healthy(_ context.Context, v *state.Snapshot, _ *controller.Queue, _ *object.Plan, _ time.Time) (object.Forecast, error) {
	return object.Forecast{Index: v.Index(), Outcome: "healthy"}, nil
}

// freeAddress is a loopback address that nobody listens at.
func (c *Cluster) freeAddress() string {
	c.t.Helper()
	a, err := c.host.free()
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

// disk is where a master keeps its state with Options.Disk.
func (c *Cluster) disk(name string) string { return filepath.Join(c.dir, name) }

// Identity is a certificate of this cluster's authority.
func (c *Cluster) Identity(name string, role object.Role) *pki.Identity {
	c.t.Helper()
	chain, key := c.issue(name, role)
	id, err := pki.NewIdentity(chain, key, c.ca.CertPEM())
	if err != nil {
		c.t.Fatal(err)
	}
	return id
}

// WriteIdentity makes a certificate and puts it into a directory, with the
// authority's: ca.crt and tls.pem, as the client's configuration names them.
func (c *Cluster) WriteIdentity(dir, name string, role object.Role) {
	c.t.Helper()
	chain, key := c.issue(name, role)
	files := pki.Files{Dir: dir}
	if err := errors.Join(files.SaveRoot(c.ca.CertPEM()), files.SaveIdentity(chain, key)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *Cluster) issue(name string, role object.Role) (chain, key []byte) {
	c.t.Helper()
	key, csr, err := pki.NewRequest(name, c.host.address)
	if err != nil {
		c.t.Fatal(err)
	}
	request, err := pki.ParseRequest(csr)
	if err != nil {
		c.t.Fatal(err)
	}
	if chain, err = c.ca.Issue(request, name, string(role)); err != nil {
		c.t.Fatal(err)
	}
	return chain, key
}

// Admit is what is left of a join as a master: it may become a member.
func (c *Cluster) Admit(name string) {
	c.t.Helper()
	var cs object.Changeset
	cs.Create(&object.Token{
		Meta: object.Meta{Kind: object.KindToken, Name: "of-" + name},
		Spec: object.TokenSpec{Role: object.RoleMaster, Uses: -1, Expires: time.Now().Add(time.Hour), Joined: []string{name}},
	})
	if _, err := c.Propose(context.Background(), cs); err != nil {
		c.t.Fatal(err)
	}
}

// Restart starts a master that does not run, with what its storage holds.
func (c *Cluster) Restart(name string) {
	c.t.Helper()
	i := slices.IndexFunc(c.members, func(m object.Master) bool { return m.Name == name })
	m, o := c.members[i], c.options
	id := c.Identity(name, object.RoleMaster)
	cfg := master.Config{
		Version: "test", CA: c.ca, Identity: id, Keys: c.keys, Check: o.Check, Plan: o.Plan, Policies: o.Policies,
		NodeTimeout: o.NodeTimeout, Heartbeat: o.Heartbeat, Controllers: o.Controllers, Log: o.Log,
		Consensus: consensus.Config{
			ID: name, RaftAddress: m.Raft, APIAddress: m.API, Storage: c.storage[name], Bootstrap: c.members,
			ElectionTimeout: o.ElectionTimeout, SnapshotEntries: o.SnapshotEntries,
		},
	}
	if o.Sockets {
		cfg.Consensus.Listener, cfg.Consensus.ServerTLS, cfg.Consensus.ClientTLS = c.listen(m.Raft), id.PeerTLS(), id.PeerTLS()
	} else {
		cfg.Consensus.Network = c.network
	}
	var door *listener
	if !o.NoAPI {
		door = &listener{Listener: c.listen(m.API), open: map[net.Conn]bool{}}
		cfg.Listener = door
	}
	run, err := master.Open(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{master: run, door: door, stop: cancel, done: make(chan error, 1)}
	go func() { r.done <- run.Run(ctx) }()
	c.mu.Lock()
	c.running[name] = r
	c.mu.Unlock()
}

// listen takes an address that the same master may just have left.
func (c *Cluster) listen(address string) net.Listener {
	c.t.Helper()
	var l net.Listener
	c.Eventually("the address is free: "+address, func() bool {
		var err error
		l, err = net.Listen("tcp", address)
		return err == nil
	})
	return l
}

func (c *Cluster) take(name string) *running {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.running[name]
	delete(c.running, name)
	return r
}

// Kill ends a master as if its process had died.
func (c *Cluster) Kill(name string) {
	if r := c.take(name); r != nil {
		if r.door != nil {
			r.door.cut()
		}
		r.master.Kill()
		r.stop()
		<-r.done
	}
}

// Stop ends a master as a person would: it hands over and finishes.
func (c *Cluster) Stop(name string) {
	c.t.Helper()
	if r := c.take(name); r != nil {
		r.stop()
		if err := <-r.done; err != nil {
			c.t.Errorf("master %s: %v", name, err)
		}
	}
}

// Partition cuts the masters' network into groups; Heal ends it.
func (c *Cluster) Partition(groups ...[]string) { c.network.Partition(groups...) }

// Heal ends a partition.
func (c *Cluster) Heal() { c.network.Heal() }

// Masters names the masters that run, in order.
func (c *Cluster) Masters() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.running))
}

// Addresses are the API addresses of all masters, running or not.
func (c *Cluster) Addresses() []string {
	var out []string
	for _, m := range c.members {
		out = append(out, m.API)
	}
	return out
}

// Master gives the cluster as a running master sees it, nil if it does not run.
// Safe for any goroutine.
func (c *Cluster) Master(name string) *master.Cluster {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.running[name]
	if r == nil {
		return nil
	}
	view := r.master.Cluster()
	return &view
}

// LeaderNow names the master that leads at this moment, or nobody. Safe for any
// goroutine.
func (c *Cluster) LeaderNow() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(c.running)) {
		if c.running[name].master.Leading() {
			return name
		}
	}
	return ""
}

// Leader waits for a leader and names it.
func (c *Cluster) Leader() string {
	c.t.Helper()
	name := ""
	c.Eventually("a leader", func() bool { name = c.LeaderNow(); return name != "" })
	return name
}

// Follower names a running master that does not lead.
func (c *Cluster) Follower() string {
	c.t.Helper()
	leader := c.Leader()
	for _, m := range c.Masters() {
		if m != leader {
			return m
		}
	}
	c.t.Fatal("no follower runs")
	return ""
}

// Snapshot is the leader's state, or while there is none some master's.
func (c *Cluster) Snapshot() *state.Snapshot {
	name := c.LeaderNow()
	if m := c.Master(name); m != nil {
		return m.Snapshot()
	}
	for _, name := range c.Masters() {
		if m := c.Master(name); m != nil {
			return m.Snapshot()
		}
	}
	return state.New().Snapshot()
}

// Propose commits through whoever leads, trying again while nobody does. Safe
// for any goroutine.
func (c *Cluster) Propose(ctx context.Context, cs object.Changeset) (uint64, error) {
	for {
		if m := c.Master(c.LeaderNow()); m != nil {
			index, err := m.Propose(ctx, cs)
			if code := object.CodeOf(err); err == nil || (code != object.CodeNoLeader && code != object.CodeUnavailable) {
				return index, err
			}
		}
		select {
		case <-ctx.Done():
			return 0, errors.New("no leader took the changeset")
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// Client is an administrator's, to all masters or to the given addresses.
func (c *Cluster) Client(addresses ...string) *client.Client {
	return c.ClientOf(c.identity, addresses...)
}

// ClientOf is a client with another identity.
func (c *Cluster) ClientOf(id *pki.Identity, addresses ...string) *client.Client {
	c.t.Helper()
	if len(addresses) == 0 {
		addresses = c.Addresses()
	}
	k, err := client.New(client.Config{Addrs: addresses, TLS: id.ClientTLS(string(object.RoleMaster), "")})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(k.Close)
	return k
}

// Address is a master's API address.
func (c *Cluster) Address(name string) string {
	for _, m := range c.members {
		if m.Name == name {
			return m.API
		}
	}
	return ""
}

// AddNode starts a simulated node.
func (c *Cluster) AddNode(cfg fake.Config) *Node {
	c.t.Helper()
	cfg.Masters = c.ClientOf(c.Identity(cfg.Name, object.RoleNode))
	n := &Node{Node: fake.New(cfg)}
	n.run = func() {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); _ = n.Run(ctx) }() // ends by its context
		n.stop = sync.OnceFunc(func() { cancel(); <-done })
	}
	n.run()
	c.nodes = append(c.nodes, n)
	return n
}

// Node is the simulated node with a name.
func (c *Cluster) Node(name string) *Node {
	for _, n := range c.nodes {
		if n.Name() == name {
			return n
		}
	}
	c.t.Fatalf("there is no node %s", name)
	return nil
}

// Apply plans the objects as a stack's changes against what is so now, applies
// that plan and returns what the masters acknowledged. Objects that exist are
// updated.
func (c *Cluster) Apply(ctx context.Context, k *client.Client, stack string, objects ...object.Object) (object.Applied, error) {
	p := object.Plan{Stack: stack, Cause: "apply", Waves: 1}
	for _, o := range objects {
		x := object.PlannedChange{Ref: o.Ref(), Address: o.Ref().Address(), Actions: []string{object.ActionCreate}, Wave: 1}
		o.Head().Stack = stack
		x.After.Object = o
		expect := object.Expectation{Ref: o.Ref()}
		before, err := k.Get(ctx, o.Ref())
		switch {
		case err == nil:
			x.Actions, x.Before.Object, expect.Version = []string{object.ActionUpdate}, before, before.Head().Version
		case !object.IsCode(err, object.CodeNotFound):
			return object.Applied{}, err
		}
		p.Changes, p.Expect = append(p.Changes, x), append(p.Expect, expect)
	}
	sealed, err := k.Plan(ctx, &p)
	if err != nil {
		return object.Applied{}, err
	}
	return k.Apply(ctx, object.ApplyRequest{Plan: *sealed})
}

// Bytes is a master's whole state, encoded.
func (c *Cluster) Bytes(name string) []byte {
	c.t.Helper()
	return Bytes(c.t, c.Master(name).Snapshot())
}

// Bytes is a state, encoded.
func Bytes(t testing.TB, v *state.Snapshot) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := state.Encode(&b, v, object.InOrder); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// SameEverywhere waits until all running masters stand at one index and fails
// the test if their states are not the same to the byte.
func (c *Cluster) SameEverywhere() {
	c.t.Helper()
	var views map[string]*state.Snapshot
	c.Eventually("all masters stand at one index", func() bool {
		views = map[string]*state.Snapshot{}
		indexes := map[uint64]bool{}
		for _, name := range c.Masters() {
			views[name] = c.Master(name).Snapshot()
			indexes[views[name].Index()] = true
		}
		return len(indexes) == 1
	})
	var first []byte
	for _, name := range slices.Sorted(maps.Keys(views)) {
		b := Bytes(c.t, views[name])
		if first == nil {
			first = b
		}
		if !bytes.Equal(first, b) {
			c.t.Errorf("at index %d the state of %s is another than that of the first master", views[name].Index(), name)
		}
	}
}

// Eventually waits for a condition and fails the test when it has not come true
// within a minute.
func (c *Cluster) Eventually(what string, ok func() bool) {
	c.t.Helper()
	Eventually(c.t, what, ok)
}

// Eventually waits for a condition and fails the test when it has not come true
// within a minute.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("after a minute it is still not so: %s", what)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (c *Cluster) close() {
	var wg sync.WaitGroup
	for _, n := range c.nodes {
		wg.Go(n.Stop)
	}
	wg.Wait()
	for _, name := range c.Masters() {
		wg.Go(func() { c.Kill(name) })
	}
	wg.Wait()
}

// Leads reports whether a master believes that it leads. In a partition two may,
// for a moment. Safe for any goroutine.
func (c *Cluster) Leads(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.running[name]
	return r != nil && r.master.Leading()
}
