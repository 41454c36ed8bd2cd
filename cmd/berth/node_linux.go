package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/pki"
	"github.com/berthdev/berth/node/agent"
	"github.com/berthdev/berth/node/network"
	"github.com/berthdev/berth/node/probe"
	"github.com/berthdev/berth/node/proxy"
	"github.com/berthdev/berth/node/runtime"
	"github.com/berthdev/berth/node/volume"
)

// Collecting garbage: images unused for a day go when the disk is four fifths
// full, logs of pods that are no more after a day.
var garbage = runtime.CollectPolicy{DiskPercent: 80, UnusedFor: 24 * time.Hour, LogsFor: 24 * time.Hour}

const garbageInterval = 10 * time.Minute

// Run is the node's life: join once, then keep the promises of the masters.
func (c *NodeRunCmd) Run(s *session) error {
	serverMemory()
	if os.Geteuid() != 0 {
		return &object.Error{Code: object.CodeForbidden, Message: "a node needs root: it runs containers and makes their network", Hint: "Run it again with sudo, or as a service."}
	}
	log := slog.New(slog.NewTextHandler(s.stderr, &slog.HandlerOptions{Level: c.LogLevel}))
	if err := c.complete(); err != nil {
		return err
	}
	files := pki.Files{Dir: filepath.Join(c.Data, "pki")}
	if !files.Joined() {
		if err := c.join(s.ctx, files); err != nil {
			return err
		}
	}
	identity, err := files.Identity()
	if err != nil {
		return fmt.Errorf("reading the certificate: %w", err)
	}
	masters, err := client.New(client.Config{Addrs: c.Join, TLS: identity.ClientTLS(pki.RoleMaster, "")})
	if err != nil {
		return err
	}
	defer masters.Close()
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return &object.Error{Code: object.CodeUnavailable, Message: fmt.Sprintf("cannot listen at %s: %v", c.Listen, err), Hint: "Choose another address with --listen."}
	}
	defer listener.Close()
	return c.serve(s.ctx, log, masters, identity, files, listener)
}

func (c *NodeRunCmd) complete() error {
	if c.Name == "" {
		name, err := os.Hostname()
		if err != nil {
			return err
		}
		c.Name = name
	}
	if err := pki.CheckName(c.Name); err != nil {
		return err
	}
	if len(c.Join) == 0 {
		return &object.Error{Code: object.CodeInvalid, Message: "a node needs masters", Hint: "Name them with --join HOST:PORT,HOST:PORT."}
	}
	if c.Advertise == "" {
		host, err := advertised(c.Listen)
		if err != nil {
			return err
		}
		c.Advertise = host
	}
	c.State = c.state()
	return nil
}

func (c *NodeRunCmd) join(ctx context.Context, files pki.Files) error {
	joined, key, err := joinCluster(ctx, object.RoleNode, c.Join, c.JoinToken, c.Name, c.Advertise)
	if err != nil {
		return err
	}
	if joined.Role != object.RoleNode {
		return &object.Error{Code: object.CodeForbidden, Message: fmt.Sprintf("the token is for a %s", joined.Role), Hint: "Make one with: berth token create --role node"}
	}
	if err := files.SaveRoot([]byte(joined.CA)); err != nil {
		return err
	}
	return files.SaveIdentity([]byte(joined.Certificate), key)
}

// state is the directory of sockets and mounts.
func (c *NodeRunCmd) state() string { return cmp.Or(c.State, filepath.Join(c.Data, "run")) }

// containers are the runtime's settings.
func (c *NodeRunCmd) containers() runtime.Config {
	return runtime.Config{
		Root: filepath.Join(c.Data, "containers"), State: c.state(),
		Socket: c.ContainerdSocket, RuntimeBinary: c.Runtime, Insecure: c.Insecure,
	}
}

// sweepNode takes away what a node has left that was killed and whose data goes.
func sweepNode(data string) error {
	return runtime.Sweep((&NodeRunCmd{Data: data}).containers())
}

// serve opens the tools, gives them to the agent, and lets it run.
func (c *NodeRunCmd) serve(ctx context.Context, log *slog.Logger, masters *client.Client, identity *pki.Identity, files pki.Files, listener net.Listener) error {
	cfg := c.containers()
	cfg.Logger = log
	containers, err := runtime.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer containers.Close()
	address := onHost(c.Advertise, c.Listen)
	status := func(podRange string) (object.NodeStatus, error) {
		return agent.Machine(agent.Capacity{CPU: c.CPU, Memory: c.Memory}, version, address, podRange, containers.Attributes())
	}
	given, err := c.nodeNetwork(ctx, log, masters, status)
	if ctx.Err() != nil {
		return nil // asked to end while it waited
	}
	if err != nil {
		return err
	}
	own, err := c.own(ctx)
	if err != nil {
		return err
	}
	pods, routes, err := c.openNetwork(given, own)
	if err != nil {
		return c.refuse(ctx, masters, status, err)
	}
	defer pods.Close()
	defer routes.Close()
	masquerade := &proxy.Masquerade{Range: given.Range, Keep: proxy.ClusterRanges(&given.Network)}
	volumes, err := volume.Open(filepath.Join(c.Data, "volumes"))
	if err != nil {
		return err
	}
	is, err := status(given.Range.String())
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	bridge, resolver := "", own
	built, ok := pods.(*network.Network)
	if ok {
		bridge, resolver = built.Bridge(), built.Gateway()
	}
	tools, end, err := c.tools(log, masters, registry, given, bridge, resolver)
	if err != nil {
		return err
	}
	defer end()
	config := agent.Config{
		Node: c.Name, Dir: filepath.Join(c.Data, "agent"), Labels: c.Label, Status: is,
		Masters: masters, Runtime: containers, Sandboxes: runtime.Sandboxes{Dir: filepath.Join(c.State, "ns")}, Network: pods, Volumes: volumes,
		Prober: prober{probe.New(0)}, Firewall: masquerade, Check: func() error { return errors.Join(routes.Check(), conntrackFull(proxy.Conntrack())) }, Connections: network.Connections, LeaveTime: c.LeaveTimeout.D(), Guard: tools.policies, Traffic: tools.traffic, Resolver: func() netip.Addr { return resolver }, Metrics: registry,
		Tools:    slices.Concat([]agent.NamedTool{{Name: "routes", NetworkTool: routes}, {Name: "masquerade", NetworkTool: proxy.Following{Masquerade: masquerade}}}, tools.list),
		Listener: listener, TLS: identity.MutualTLS(string(object.RoleMaster), string(object.RoleAdmin)), Logger: log,
	}
	if ok { // plugins have host ports of their own
		config.HostPorts = &proxy.HostPorts{Range: given.Range, Bridge: bridge}
	}
	a, err := agent.New(config)
	if err != nil {
		return err
	}
	log.Info("node is up", "name", c.Name, "api", address, "pods", given.Range)
	// The agent ends by Purge when the node is to leave nothing behind, else by
	// its context, which leaves the pods running.
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	g, gctx := errgroup.WithContext(running)
	g.Go(func() error {
		defer cancel()
		return a.Run(gctx)
	})
	g.Go(func() error {
		select {
		case <-ctx.Done():
			log.Info("node is stopping", "keep_pods", c.KeepPods)
			if c.KeepPods {
				cancel()
			} else {
				a.Purge()
			}
		case <-gctx.Done():
		}
		return nil
	})
	g.Go(func() error {
		for tick := time.NewTicker(garbageInterval); ; {
			select {
			case <-tick.C:
				if done, err := containers.Collect(gctx, garbage); err != nil {
					log.Warn("collecting garbage", "error", err)
				} else if len(done.Images)+done.Snapshots+done.Logs > 0 {
					log.Info("collected garbage", "images", done.Images, "snapshots", done.Snapshots, "logs", done.Logs)
				}
			case <-gctx.Done():
				tick.Stop()
				return nil
			}
		}
	})
	g.Go(func() error {
		err := renew(gctx, log, identity, files, []string{c.Advertise}, func(ctx context.Context, csr []byte) ([]byte, error) {
			joined, err := masters.Renew(ctx, csr)
			return []byte(joined.Certificate), err
		})
		if gctx.Err() != nil {
			return nil
		}
		return err
	})
	err = g.Wait()
	// Only a stop that was asked for ends the pods: a node that fails leaves them
	// to the next agent.
	if ctx.Err() != nil && !c.KeepPods {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if purgeErr := containers.Purge(stop); err == nil {
			err = purgeErr
		}
	}
	return err
}

// prober is probe.Prober with the agent's words.
type prober struct{ *probe.Prober }

func (p prober) Watch(ctx context.Context, key, address string, x object.Probe, exec func(context.Context, []string) error, verdict func(bool, string)) {
	p.Prober.Watch(ctx, key, address, x, exec, verdict)
}
