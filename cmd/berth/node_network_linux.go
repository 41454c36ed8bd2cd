package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/berthdev/berth/cluster/durable"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/node/agent"
	"github.com/berthdev/berth/node/network"
	"github.com/berthdev/berth/node/proxy"
)

const (
	// askTimeout bounds the question for a range that the node has already: with
	// masters away it goes on with that.
	askTimeout = 2 * time.Second
	askFirst   = 100 * time.Millisecond
	askMost    = time.Second
)

// nodeNetwork is the node's part of the cluster's network. It is kept on disk, so
// that the node starts while the masters are away.
type nodeNetwork struct {
	Range   netip.Prefix       `json:"range"` // addresses of its pods
	Network object.NetworkSpec `json:"network"`
}

// registry is the masters as a node needs them before its agent runs.
type registry interface {
	Report(context.Context, object.Report) (object.ReportAnswer, error)
	Get(context.Context, object.Ref) (object.Object, error)
}

func (c *NodeRunCmd) networkDir() string { return filepath.Join(c.Data, "network") }
func (c *NodeRunCmd) rangeFile() string  { return filepath.Join(c.networkDir(), "range.json") }

// nodeNetwork is what the masters have given this node. The first time it waits
// for it, as a node that is not ready. A range that pods have addresses of is kept
// whatever the masters say now; the agent then tells (see network.Routes.Check).
func (c *NodeRunCmd) nodeNetwork(ctx context.Context, log *slog.Logger, masters registry, status func(podRange string) (object.NodeStatus, error)) (nodeNetwork, error) {
	kept, err := c.readNetwork()
	if err != nil {
		return nodeNetwork{}, err
	}
	leased, pods := network.Leased(c.networkDir())
	if kept.Range.IsValid() {
		short, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		given, err := c.given(short, masters)
		switch {
		case err != nil:
			log.Warn("the masters do not answer; starting with what they said last", "pods", kept.Range, "error", err)
			return kept, ctx.Err()
		case !given.Range.IsValid() || pods > 0:
			given.Range = kept.Range
		}
		return given.nodeNetwork, c.saveNetwork(given.nodeNetwork)
	}
	// Pods from a time before the masters gave out ranges keep their addresses, if
	// that can be.
	has, old := "", pods > 0 && leased.IsValid()
	if old {
		has = leased.String()
	}
	given, err := c.await(ctx, log, masters, has, status)
	if err != nil {
		return nodeNetwork{}, err
	}
	if old {
		given.Range = leased
	}
	return given, c.saveNetwork(given)
}

// await registers the node and waits until it has a range.
func (c *NodeRunCmd) await(ctx context.Context, log *slog.Logger, masters registry, has string, status func(string) (object.NodeStatus, error)) (nodeNetwork, error) {
	s, err := status(has)
	if err != nil {
		return nodeNetwork{}, err
	}
	s.Condition, s.Message = object.NodeNotReady, "it waits for its pod range from the masters"
	var told string
	var next time.Time
	for pause := askFirst; ; pause = min(2*pause, askMost) {
		if s.Message != told || time.Now().After(next) {
			answer, err := masters.Report(ctx, object.Report{Node: c.Name, Labels: c.Label, Status: &s, Time: time.Now()})
			if ctx.Err() != nil {
				return nodeNetwork{}, ctx.Err()
			}
			if err != nil {
				log.Warn("the masters cannot be told that this node is here", "error", err)
			} else {
				if s.Message != told {
					log.Info("registered", "message", s.Message)
				}
				told, next = s.Message, time.Now().Add(answer.Heartbeat.D())
			}
		}
		given, err := c.given(ctx, masters)
		switch {
		case ctx.Err() != nil:
			return nodeNetwork{}, ctx.Err()
		case err != nil:
			log.Warn("no pod range yet", "error", err)
		case given.Range.IsValid():
			return given.nodeNetwork, nil
		case given.waiting:
			s.Message = fmt.Sprintf("no pod range is left: all /%d of %s are taken or held; give the network a larger range, or remove nodes that are no more", given.Network.NodeBits, given.Network.Pods)
		}
		select {
		case <-ctx.Done():
			return nodeNetwork{}, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// offer is what the masters say at the moment.
type offer struct {
	nodeNetwork
	waiting bool // no range is left
}

func (c *NodeRunCmd) given(ctx context.Context, masters registry) (o offer, err error) {
	node, err := masters.Get(ctx, object.Ref{Kind: object.KindNode, Name: c.Name})
	if err != nil && !object.IsCode(err, object.CodeNotFound) {
		return o, err
	}
	net, err := masters.Get(ctx, object.Ref{Kind: object.KindNetwork, Name: object.NetworkName})
	if err != nil {
		return o, err
	}
	network, ok := net.(*object.Network)
	if !ok {
		return o, fmt.Errorf("the masters answer with a %T for the network", net)
	}
	o.Network, o.waiting = network.Spec, network.Status.Waiting > 0
	n, ok := node.(*object.Node)
	if !ok || n.Spec.PodRange == "" {
		return o, nil
	}
	o.Range, err = netip.ParsePrefix(n.Spec.PodRange)
	return o, err
}

// podNetwork attaches pods: Berth's own bridge, or CNI plugins.
type podNetwork interface {
	agent.Network
	Close()
}

// openNetwork makes the node's part of the network. The agent's tools keep it.
func (c *NodeRunCmd) openNetwork(given nodeNetwork, own netip.Addr) (podNetwork, *network.Routes, error) {
	to := network.RoutesConfig{Node: c.Name, Address: own, Range: given.Range, Tag: network.Tag(c.networkDir())}
	var pods podNetwork
	if given.Network.CNI != "" {
		plugins, err := network.OpenCNI(network.CNIConfig{Dir: c.networkDir(), Config: given.Network.CNI, Range: given.Range})
		if err != nil {
			return nil, nil, err
		}
		pods = plugins
	} else {
		built, err := network.Open(network.Config{Dir: c.networkDir(), Range: given.Range, Cluster: proxy.ClusterRanges(&given.Network)})
		if err != nil {
			return nil, nil, err
		}
		pods, to.Source, to.PathMTU = built, built.Gateway(), built.SetPathMTU
	}
	routes, err := network.OpenRoutes(to)
	if err != nil {
		pods.Close()
		return nil, nil, err
	}
	return pods, routes, nil
}

// refuse ends the start over what keeps the node from having its network, and
// tells the masters why it does not come.
func (c *NodeRunCmd) refuse(ctx context.Context, masters registry, status func(string) (object.NodeStatus, error), cause error) error {
	var used *network.RangeInUse
	if !errors.As(cause, &used) {
		return cause
	}
	if s, err := status(""); err == nil {
		s.Condition, s.Message = object.NodeNotReady, cause.Error()
		short, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		_, _ = masters.Report(short, object.Report{Node: c.Name, Labels: c.Label, Status: &s, Time: time.Now()}) // as well as can be: the node ends anyway
	}
	return &object.Error{Code: object.CodeInvalid, Message: cause.Error(), Hint: "Remove that from this machine, or found the cluster with other ranges: berth master run --bootstrap --pods RANGE --services RANGE."}
}

// own is the node's address among the others, which its tunnels leave from.
func (c *NodeRunCmd) own(ctx context.Context) (netip.Addr, error) {
	if a, err := netip.ParseAddr(c.Advertise); err == nil {
		return a.Unmap(), nil
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", c.Advertise)
	if err != nil || len(found) == 0 {
		return netip.Addr{}, &object.Error{Code: object.CodeInvalid, Message: fmt.Sprintf("%s cannot be resolved: %v", c.Advertise, err), Hint: "Give this machine's address with --advertise."}
	}
	return found[0].Unmap(), nil
}

func (c *NodeRunCmd) readNetwork() (nodeNetwork, error) {
	b, err := os.ReadFile(c.rangeFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nodeNetwork{}, nil
	}
	if err != nil {
		return nodeNetwork{}, err
	}
	var p nodeNetwork
	if err := json.Unmarshal(b, &p); err != nil {
		return nodeNetwork{}, nil // damaged: the masters tell it again
	}
	return p, nil
}

func (c *NodeRunCmd) saveNetwork(p nodeNetwork) error {
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.networkDir(), 0o700); err != nil {
		return err
	}
	if err := durable.Replace(c.rangeFile(), b); err != nil {
		return fmt.Errorf("saving the pod range: %w", err)
	}
	return nil
}
