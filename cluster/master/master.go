package master

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/cluster/analysis"
	"github.com/berthdev/berth/cluster/api"
	"github.com/berthdev/berth/cluster/consensus"
	"github.com/berthdev/berth/cluster/controller"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/pki"
	"github.com/berthdev/berth/cluster/scheduler"
	"github.com/berthdev/berth/cluster/seal"
	"github.com/berthdev/berth/cluster/state"
)

// Config is what a master is made of.
type Config struct {
	Version   string // of berth
	Consensus consensus.Config

	// Listener takes API connections; the server puts TLS on top. Without one the
	// master serves no API (simulations).
	Listener net.Listener
	CA       *pki.CA
	Identity *pki.Identity
	Keys     *seal.Keyring
	Check    api.CheckFunc // optional
	Plan     PlanFunc
	Policies api.Policies // optional
	Spool    string       // directory for image archives on their way; default the system's

	// NodeTimeout is how long a node may be silent before it is lost; Heartbeat is
	// how often nodes are told to report.
	NodeTimeout time.Duration // default 30s
	Heartbeat   time.Duration // default 5s

	// Network is made by the first leader of a cluster that has none; nil: never
	// (simulations).
	Network *object.Network

	Policy      scheduler.Policy        // default scheduler.SpreadPolicy
	Controllers []controller.Controller // default controller.All
	Metrics     *prometheus.Registry
	Log         *slog.Logger
	OnRequest   func(api.Request)
	Now         func() time.Time // default time.Now
}

// PlanFunc is an api.PlanFunc that is told what waits on the snapshot, if the leader
// knows it exactly: a queue to use up, or nil.
type PlanFunc func(ctx context.Context, v *state.Snapshot, waiting *controller.Queue, p *object.Plan, now time.Time) (object.Forecast, error)

// Master is one running master.
type Master struct {
	config        Config
	node          *consensus.Node
	api           *api.Server // nil without a listener
	beats         beats
	traffic       analysis.Traffic
	metrics       metrics
	queueRequests chan queueRequest // to the leader loop
	log           *slog.Logger

	once   sync.Once
	killed chan struct{}
}

// Open reads what this master's storage holds and joins the other masters. A
// master that was opened has to be Run, which closes it.
func Open(c Config) (*Master, error) {
	if c.NodeTimeout == 0 {
		c.NodeTimeout = 30 * time.Second
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = 5 * time.Second
	}
	if c.Policy.Name == "" {
		c.Policy = scheduler.SpreadPolicy()
	}
	if c.Controllers == nil {
		c.Controllers = controller.All()
	}
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Consensus.Logger == nil {
		c.Consensus.Logger = c.Log
	}
	node, err := consensus.Open(c.Consensus)
	if err != nil {
		return nil, err
	}
	m := &Master{config: c, node: node, log: c.Log, queueRequests: make(chan queueRequest), killed: make(chan struct{})}
	m.beats.heard = map[string]beat{}
	m.metrics = newMetrics(c.Metrics, node)
	if c.Listener != nil {
		m.api, err = api.New(api.Config{
			Name: c.Consensus.ID, Version: c.Version, Cluster: Cluster{m}, Check: c.Check, Plan: m.rehearse, Policies: c.Policies, CA: c.CA, Identity: c.Identity, Keys: c.Keys,
			Heartbeat: c.Heartbeat, Spool: c.Spool, Metrics: c.Metrics, Log: c.Log, OnRequest: c.OnRequest, Now: c.Now, Each: consensus.Parallel,
		})
		if err != nil {
			return nil, errors.Join(err, node.Kill())
		}
	}
	return m, nil
}

// Run serves and, while it is chosen to, leads, until ctx ends; then it hands
// leadership over, finishes what is being answered and closes the log. An error
// means that this master cannot go on, for example with a log it cannot read.
func (m *Master) Run(ctx context.Context) error {
	group, inner := errgroup.WithContext(context.WithoutCancel(ctx))
	inner, stop := context.WithCancel(inner)
	defer stop()
	group.Go(func() error {
		select {
		case <-ctx.Done():
			m.handOver(inner)
		case <-m.killed:
		case <-inner.Done():
		}
		stop()
		return nil
	})
	if m.api != nil {
		group.Go(func() error { return m.serve(inner) })
	}
	group.Go(func() error { return m.lead(inner) })
	group.Go(func() error {
		select {
		case <-m.node.Failed():
			return fmt.Errorf("master %s cannot go on: %w", m.node.ID(), m.node.Failure())
		case <-inner.Done():
			return nil
		}
	})
	err := group.Wait()
	return errors.Join(err, m.node.Close())
}

func (m *Master) serve(ctx context.Context) error {
	err := m.api.Serve(ctx, m.config.Listener)
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("the API on %s: %w", m.config.Listener.Addr(), err)
}

// handOver gives leadership away before anything stops, so that writes pause for
// milliseconds and not for an election.
func (m *Master) handOver(ctx context.Context) {
	if !m.node.Leading() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := m.node.TransferLeadership(ctx, ""); err != nil {
		m.log.Info("leadership could not be handed over", "error", err)
	}
}

// Kill ends the master as if its process had died: nothing is handed over,
// nothing is finished. For tests. Run returns after it.
func (m *Master) Kill() {
	m.once.Do(func() {
		_ = m.node.Kill() // nobody is left to tell
		close(m.killed)
	})
}

// lead follows this master's leaderships: at most one leader loop runs, and it
// has ended before the next begins.
func (m *Master) lead(ctx context.Context) error {
	end := func() {}
	defer func() { end() }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case l := <-m.node.Leaderships():
			end()
			end = func() {}
			if l.Leading {
				end = m.beginLeading(ctx, l.Term)
			}
		}
	}
}

// beginLeading starts the leader loop; end stops it and waits for it.
func (m *Master) beginLeading(ctx context.Context, term uint64) (end func()) {
	m.log.Info("this master leads", "master", m.node.ID(), "term", term)
	inner, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		newLeader(m).run(inner)
		m.log.Info("this master no longer leads", "master", m.node.ID(), "term", term)
	}()
	return func() { cancel(); <-done }
}

// Leading reports whether this master leads and has applied all that was
// committed before its term.
func (m *Master) Leading() bool { return m.node.Leading() }
