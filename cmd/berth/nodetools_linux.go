package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/node/agent"
	"github.com/berthdev/berth/node/dns"
	"github.com/berthdev/berth/node/ingress"
	"github.com/berthdev/berth/node/proxy"
)

// nodeTools are what follows the cluster's network on a node.
type nodeTools struct {
	list     []agent.NamedTool
	policies *proxy.Policies
	traffic  func() []object.SetTraffic // of the ingress; nil: there is none
}

// The access log of the ingress: a file of so many megabytes, and so many old ones.
const (
	accessLogMegabytes = 64
	accessLogFiles     = 5
)

// closeTime is how long an ingress may take to end what it is answering.
const closeTime = 10 * time.Second

// tools opens services, policies, names and, where it is asked for, the ingress.
// bridge is where the pods are, empty if plugins attach them; resolver is where they
// ask for names. The function that it answers ends the tools; what they made for
// the kernel stays.
func (c *NodeRunCmd) tools(log *slog.Logger, masters *client.Client, registry *prometheus.Registry, given nodeNetwork, bridge string, resolver netip.Addr) (*nodeTools, func(), error) {
	t := &nodeTools{policies: &proxy.Policies{Logger: log}}
	names, err := dns.Open(dns.Config{
		Listen:     func() []netip.AddrPort { return []netip.AddrPort{netip.AddrPortFrom(resolver, 53)} },
		ResolvConf: c.ResolvConf, Registerer: registry, Logger: log,
	})
	if err != nil {
		return nil, nil, err
	}
	closers := []io.Closer{names}
	end := func() {
		for _, x := range closers {
			if err := x.Close(); err != nil {
				log.Warn("ending", "error", err)
			}
		}
	}
	t.list = []agent.NamedTool{
		{Name: "policies", NetworkTool: t.policies}, // before what leads anybody to a pod
		{Name: "services", NetworkTool: services{&proxy.Services{Node: c.Name, Bridge: bridge, Range: given.Range, Logger: log}}},
		{Name: "dns", NetworkTool: names},
	}
	if !c.Ingress {
		return t, end, nil
	}
	access := ingress.LogFile(filepath.Join(c.Data, "ingress", "access.log"), accessLogMegabytes, accessLogFiles)
	entrance, err := ingress.Open(ingress.Config{
		HTTP: c.IngressHTTP, HTTPS: c.IngressHTTPS, Dir: filepath.Join(c.Data, "ingress"), Memory: filepath.Join(c.State, "ingress"),
		Secrets: masters, Access: access, Registry: registry, Logger: log,
	})
	if err != nil {
		end()
		return nil, nil, err
	}
	closers = append(closers, ending{entrance}, access)
	t.list, t.traffic = append(t.list, agent.NamedTool{Name: "ingress", NetworkTool: entrance}), entrance.Traffic
	return t, end, nil
}

// services is proxy.Services whose standing problems, such as a protocol that this
// kernel lacks, are told like any other failure: once.
type services struct{ *proxy.Services }

func (s services) Ensure(ctx context.Context) ([]string, error) {
	mended, err := s.Services.Ensure(ctx)
	for _, p := range s.Problems() {
		err = errors.Join(err, errors.New(p))
	}
	return mended, err
}

// conntrackFull is an error when the kernel can follow hardly any more connections:
// it then drops the packets of new ones, and a pod more would only make it worse.
func conntrackFull(used, most int, err error) error {
	if err != nil || most == 0 || used < most-most/20 {
		return nil // what cannot be read is not full
	}
	return fmt.Errorf("the kernel follows %d connections of %d at most, and drops new ones beyond that; raise net.netfilter.nf_conntrack_max, or find out who opens so many", used, most)
}

// ending closes a server in bounded time.
type ending struct{ *ingress.Server }

func (e ending) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	return e.Server.Close(ctx)
}
