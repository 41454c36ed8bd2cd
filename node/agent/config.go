package agent

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/berthdev/berth/cluster/object"
)

// Config is what an Agent is made of. Node, Dir, Masters and the tools from
// Runtime to Prober are required.
type Config struct {
	Node   string            // name of the node
	Dir    string            // directory of the agent's own: the checkpoint, files of the pods
	Labels map[string]string // for the node's first registration
	// Status is what the node says of itself (see Machine); the agent fills in
	// the condition.
	Status object.NodeStatus

	Masters   Masters
	Runtime   Runtime
	Sandboxes Sandboxes
	Network   Network
	Volumes   Volumes
	Prober    Prober
	Firewall  Firewall  // may be nil
	HostPorts HostPorts // may be nil; then pods with host ports cannot run here
	// LeaveTime is the longest that a pod is kept from its stop signal because somebody
	// may still send it something new; default 1 s.
	LeaveTime time.Duration
	// Connections counts the connections that others have open to the network
	// namespace at a path; nil: a pod that stops is not asked whether it has any.
	Connections func(path string) (int, error)
	// Guard is, as a rule, also one of the Tools: that which applies policies. Without
	// it network policies hold for no pod of this node.
	Guard Guard
	// Traffic is what the node's ingress has answered since it began, by replica set;
	// nil: it has none.
	Traffic func() []object.SetTraffic
	// Tools put the cluster's network in force here, in this order; none: the node
	// is no part of it.
	Tools []NamedTool

	// Check adds a condition of the machine to those that the agent knows
	// (containers can be started, the disk has room); an error makes the node
	// not ready. May be nil.
	Check func() error
	// MinDisk is the free space in bytes below which the node takes no pods;
	// 0 is 256 MiB.
	MinDisk int64
	// Resolver is the address of the node's own name server, which knows the
	// cluster's names: pods ask it and nobody else. It is asked for each pod; nil or
	// the zero Addr: there is none.
	Resolver  func() netip.Addr
	Resolvers []string // DNS servers for pods without one; none: those of the machine
	Parallel  int      // pods set up and containers started at once; 0 is 4

	// Listener and TLS are of the node's own API; a nil Listener means none.
	Listener net.Listener
	TLS      *tls.Config
	// Metrics are those of the tools, told together with the agent's own. May be nil.
	Metrics prometheus.Gatherer

	Logger *slog.Logger // default: discard
}
