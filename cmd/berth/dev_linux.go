package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cmd/internal/dev"
	"github.com/berthdev/berth/node/network"
)

// devUpTimeout bounds the wait for a cluster that should take seconds.
const devUpTimeout = 2 * time.Minute

func needRoot() error {
	if os.Geteuid() != 0 {
		return &object.Error{Code: object.CodeForbidden, Message: "a development cluster needs root: it makes network namespaces and runs containers",
			Hint: "Run it again with sudo."}
	}
	return nil
}

func (d *DevCmd) open() (*dev.Cluster, error) {
	if err := needRoot(); err != nil {
		return nil, err
	}
	c, err := dev.Open(d.Dir)
	if errors.Is(err, dev.ErrNone) {
		return nil, &object.Error{Code: object.CodeNotFound, Message: "there is no development cluster in " + d.Dir, Hint: "Make one with: berth dev up. One that was made elsewhere is found with --dir, or BERTH_DEV_DIR."}
	}
	return c, err
}

// Run makes what is missing and starts what is not running, except what
// `dev stop` has stopped.
func (c *DevUpCmd) Run(s *session, d *DevCmd) error {
	if err := needRoot(); err != nil {
		return err
	}
	if c.Masters != 1 && c.Masters != 3 && c.Masters != 5 {
		return &object.Error{Code: object.CodeInvalid, Message: fmt.Sprintf("%d masters cannot be: with an even number, one more failure is not survived", c.Masters), Hint: "Choose 1, 3 or 5."}
	}
	began := time.Now()
	if c.Latency > 0 {
		if err := dev.CanDelay(); err != nil {
			return &object.Error{Code: object.CodeInvalid, Message: err.Error()}
		}
	}
	cluster, err := dev.Open(d.Dir)
	if errors.Is(err, dev.ErrNone) {
		cluster, err = c.describe(d)
	} else if err == nil {
		err = c.same(cluster)
	}
	if err != nil {
		return err
	}
	cluster.File.NodeTimeout, cluster.File.ResolvConf, cluster.File.LeaveTimeout = c.NodeTimeout.String(), c.ResolvConf, c.LeaveTimeout.String()
	if err := cluster.Add(dev.RoleMaster, c.Masters, nil); err != nil {
		return err
	}
	if err := cluster.Add(dev.RoleNode, c.Nodes, c.zones(cluster.File.Split)); err != nil {
		return err
	}
	if err := cluster.Network(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, devUpTimeout)
	defer cancel()
	up := devUp{s: s, cluster: cluster}
	if err := up.masters(ctx); err != nil {
		return err
	}
	if err := up.nodes(ctx); err != nil {
		return err
	}
	if err := up.publish(); err != nil {
		return err
	}
	fmt.Fprintf(s.stdout, "The cluster is ready (%.1fs): %s\n", time.Since(began).Seconds(), up.addresses())
	return nil
}

// describe is a cluster as the flags want it.
func (c *DevUpCmd) describe(d *DevCmd) (*dev.Cluster, error) {
	for _, zone := range c.Split {
		if zones := c.zones(c.Split); !slices.Contains(zones, zone) {
			return nil, &object.Error{Code: object.CodeInvalid, Message: fmt.Sprintf("no node would be in zone %q of --split; the zones are %s", zone, strings.Join(zones, ", ")), Hint: "Name it in --zones, too."}
		}
	}
	r := dev.Ranges{Subnet: c.Subnet, Pods: c.Pods, NodeBits: c.NodeBits, Services: c.Services}
	if r.Services == "" {
		r.Services = freeServices(c.Subnet, c.Pods)
	}
	if _, err := object.FoundNetwork(object.NetworkSpec{Pods: r.Pods, NodeBits: r.NodeBits, Services: r.Services}); err != nil {
		return nil, err
	}
	cluster, err := dev.New(d.Dir, d.Name, r, c.Split, c.Latency.D())
	if err == nil {
		err = cluster.RangesAreFree() // before anything is written down
	}
	return cluster, err
}

// same refuses to make a cluster that is there into another.
func (c *DevUpCmd) same(cluster *dev.Cluster) error {
	f := cluster.File
	if len(c.Split) > 0 && !slices.Equal(c.Split, f.Split) || c.Latency > 0 && c.Latency.D() != f.Latency {
		return &object.Error{Code: object.CodeInvalid, Message: "the cluster is there already, and its segments are made when it is made", Hint: "End it first: berth dev down"}
	}
	return nil
}

func (c *DevUpCmd) zones(split []string) []string {
	switch {
	case len(c.Zones) > 0:
		return c.Zones
	case len(split) > 0:
		return split
	}
	return []string{"a", "b", "c"}
}

// freeServices is a range for services that nothing on this machine uses: several
// development clusters can be there at once.
func freeServices(others ...string) string {
	for i := 199; i < 255; i++ {
		r := fmt.Sprintf("10.%d.0.0/16", i)
		if i == 199 {
			r = object.ServicesDefault
		}
		p := netip.MustParsePrefix(r)
		taken := slices.ContainsFunc(others, func(s string) bool {
			o, ok := object.Prefix(s)
			return ok && o.Overlaps(p)
		})
		if !taken && network.InUse(p) == nil {
			return r
		}
	}
	return object.ServicesDefault // the check of all ranges says what is wrong with it
}

// devUp is one run of `dev up`.
type devUp struct {
	s       *session
	cluster *dev.Cluster
	client  *client.Client
}

func (u *devUp) of(role string) []*dev.Host {
	var out []*dev.Host
	for _, h := range u.cluster.File.Hosts {
		if h.Role == role {
			out = append(out, h)
		}
	}
	return out
}

func (u *devUp) addresses() string {
	var out []string
	for _, h := range u.of(dev.RoleMaster) {
		out = append(out, masterAPI(h))
	}
	return strings.Join(out, ",")
}

func masterAPI(h *dev.Host) string { return h.Address + ":7400" }

// masters starts the founder, then the others with a token each, one after the
// other as Raft changes its membership.
func (u *devUp) masters(ctx context.Context) error {
	hosts := u.of(dev.RoleMaster)
	founder := hosts[0]
	fresh := !u.joined(founder)
	if err := u.start(ctx, founder); err != nil {
		return err
	}
	admin := filepath.Join(u.cluster.DataDir(founder), "admin", "config")
	if err := u.await(ctx, founder, "to found the cluster", func() (string, bool) {
		_, err := os.Stat(admin)
		return "no " + admin, err == nil
	}); err != nil {
		return err
	}
	own, err := u.configure()
	if err != nil {
		return err
	}
	config, err := client.Load("", func(name string) string {
		if name == "BERTH_CONFIG" {
			return own
		}
		return ""
	})
	if err != nil {
		return err
	}
	if u.client, err = client.New(config); err != nil {
		return err
	}
	if !fresh { // the founder alone is no quorum
		for _, h := range hosts[1:] {
			if u.joined(h) {
				if err := u.start(ctx, h); err != nil {
					return err
				}
			}
		}
	}
	for i, h := range hosts {
		if err := u.start(ctx, h); err != nil {
			return err
		}
		if h.Stopped {
			fmt.Fprintf(u.s.stdout, "  master %s  stopped\n", h.Name)
			continue
		}
		if err := u.await(ctx, h, "to join the masters", func() (string, bool) {
			masters, err := u.client.Masters(ctx)
			if err != nil {
				return err.Error(), false
			}
			for _, m := range masters {
				if m.Name == h.Name && m.Alive && m.Voter {
					return "", true
				}
			}
			return "it is not among the members", false
		}); err != nil {
			return err
		}
		fmt.Fprintf(u.s.stdout, "  master %s  %s  (%d of %d)\n", h.Name, masterAPI(h), i+1, len(hosts))
	}
	return nil
}

func (u *devUp) nodes(ctx context.Context) error {
	hosts := u.of(dev.RoleNode)
	for _, h := range hosts {
		if err := u.start(ctx, h); err != nil {
			return err
		}
	}
	for i, h := range hosts {
		if h.Stopped {
			fmt.Fprintf(u.s.stdout, "  node   %s  stopped\n", h.Name)
			continue
		}
		podRange := ""
		if err := u.await(ctx, h, "to be ready", func() (string, bool) {
			o, err := u.client.Get(ctx, object.Ref{Kind: object.KindNode, Name: h.Name})
			if err != nil {
				return err.Error(), false
			}
			n := o.(*object.Node)
			podRange = n.Status.PodRange
			return string(n.Status.Condition) + " " + n.Status.Message, n.Status.Condition == object.NodeReady
		}); err != nil {
			return err
		}
		if err := u.cluster.Given(h, podRange); err != nil {
			return err
		}
		fmt.Fprintf(u.s.stdout, "  node   %s  %s  zone %s  pods %s  (%d of %d)\n", h.Name, h.Address, h.Zone, h.PodRange, i+1, len(hosts))
	}
	return nil
}

// await polls a condition of a host until it holds, the host's process ends, or
// ctx does.
func (u *devUp) await(ctx context.Context, h *dev.Host, what string, done func() (why string, ok bool)) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		why, ok := done()
		if ok {
			return nil
		}
		if !h.Stopped && !h.Process.Alive() {
			return fmt.Errorf("%s has ended by itself while we waited for it %s; its last words:\n%s", h.Name, what, u.lastWords(h))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waited too long for %s %s (%s); its last words:\n%s", h.Name, what, why, u.lastWords(h))
		}
	}
}

func (u *devUp) lastWords(h *dev.Host) string {
	b, err := os.ReadFile(u.cluster.LogFile(h))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return "  " + strings.Join(lines[max(0, len(lines)-8):], "\n  ") + "\n(more in " + u.cluster.LogFile(h) + ")"
}

func (u *devUp) joined(h *dev.Host) bool {
	_, err := os.Stat(filepath.Join(u.cluster.DataDir(h), "pki", "tls.pem"))
	return err == nil
}

// start runs a host's process; one that has not joined yet gets a token, in its
// environment, where other users cannot read it.
func (u *devUp) start(ctx context.Context, h *dev.Host) error {
	if h.Stopped && u.client != nil && !u.joined(h) {
		h.Stopped = false // its data was wiped: it can only join anew, and that is up's business
	}
	if h.Stopped || h.Process.Alive() {
		return nil
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	data := u.cluster.DataDir(h)
	var argv, env []string
	switch h.Role {
	case dev.RoleMaster:
		argv = []string{exe, "master", "run", "--name", h.Name, "--data", data, "--listen", masterAPI(h), "--raft", h.Address + ":7401"}
		if t := u.cluster.File.NodeTimeout; t != "" {
			argv = append(argv, "--node-timeout", t)
		}
		if h == u.of(dev.RoleMaster)[0] {
			argv = append(argv, "--bootstrap", "--pods", u.cluster.File.Pods)
			if f := u.cluster.File; f.Services != "" {
				argv = append(argv, "--services", f.Services, "--node-bits", strconv.Itoa(f.NodeBits))
			}
		} else {
			argv = append(argv, "--join", u.addresses())
		}
	case dev.RoleNode:
		cpu, memory := share(len(u.of(dev.RoleNode)))
		argv = []string{exe, "node", "run", "--name", h.Name, "--data", data, "--listen", h.Address + ":7410", "--join", u.addresses(),
			"--cpu", cpu.String(), "--memory", memory.String(), "--ingress", "--ingress-http", h.Address + ":80", "--ingress-https", h.Address + ":443"}
		if t := u.cluster.File.LeaveTimeout; t != "" {
			argv = append(argv, "--leave-timeout", t)
		}
		if f := u.cluster.File.ResolvConf; f != "" {
			argv = append(argv, "--resolv-conf", f)
		}
		if h.Zone != "" {
			argv = append(argv, "--label", "zone="+h.Zone)
		}
	}
	if u.client != nil && !u.joined(h) {
		r := object.TokenRequest{Role: object.Role(h.Role), Name: h.Name, Uses: 1, TTL: object.Duration(10 * time.Minute), Comment: "berth dev up"}
		if h.Role == dev.RoleNode {
			r.Labels = map[string]string{object.LabelIngress: "true"}
		}
		t, err := u.client.CreateToken(ctx, r)
		if err != nil {
			return fmt.Errorf("a token for %s: %w", h.Name, err)
		}
		env = append(env, "BERTH_JOIN_TOKEN="+t.Token)
	}
	return u.cluster.Start(h, argv, env)
}

// share is what each of n nodes says it has: every node all processors, for they
// are shared by time, and its part of three quarters of the memory.
func share(n int) (object.CPU, object.Bytes) {
	var info unix.Sysinfo_t
	memory := int64(4 << 30)
	if err := unix.Sysinfo(&info); err == nil {
		memory = int64(info.Totalram) * int64(info.Unit)
	}
	const step = 64 << 20
	return object.CPU(runtime.NumCPU() * 1000), object.Bytes(max(memory*3/4/int64(max(n, 1))/step*step, step))
}

// context is how to reach the cluster as its administrator.
func (u *devUp) context() client.Context {
	admin := filepath.Join(u.cluster.DataDir(u.of(dev.RoleMaster)[0]), "admin")
	return client.Context{Addresses: strings.Split(u.addresses(), ","),
		CA: filepath.Join(admin, "ca.crt"), Cert: filepath.Join(admin, "tls.pem"), Key: filepath.Join(admin, "tls.pem")}
}

// configure writes the client configuration in the cluster's own directory.
func (u *devUp) configure() (string, error) {
	path := filepath.Join(u.cluster.Dir, "config")
	name := u.cluster.File.Name
	return path, client.File{Current: name, Clusters: map[string]client.Context{name: u.context()}}.Write(path)
}

// publish adds the cluster to the person's client configuration, and makes it
// the current one unless another is.
func (u *devUp) publish() error {
	path := client.ConfigPath(u.s.environ)
	f, err := client.ReadFile(path)
	if err != nil {
		return err
	}
	name := u.cluster.File.Name
	f.Clusters[name] = u.context()
	if _, ok := f.Clusters[f.Current]; !ok {
		f.Current = name
	}
	if f.Current != name {
		fmt.Fprintf(u.s.stdout, "The current cluster of %s stays %s. To use this one: export BERTH_CLUSTER=%s\n", path, f.Current, name)
	}
	return f.Write(path)
}

// forget takes a cluster that is gone out of the client configuration.
func forget(path string, c *dev.Cluster) error {
	f, err := client.ReadFile(path)
	if err != nil {
		return err
	}
	x, ok := f.Clusters[c.File.Name]
	if !ok || !strings.HasPrefix(x.CA, c.Dir+"/") {
		return nil
	}
	delete(f.Clusters, c.File.Name)
	if f.Current == c.File.Name {
		f.Current = ""
	}
	if len(f.Clusters) == 0 {
		return os.Remove(path)
	}
	return f.Write(path)
}

// Run shows the hosts.
func (c *DevStatusCmd) Run(s *session, d *DevCmd) error {
	cluster, err := d.open()
	if err != nil {
		return err
	}
	if c.JSON {
		return s.json(cluster.File)
	}
	rows := [][]string{{"HOST", "ROLE", "ADDRESS", "ZONE", "STATE", "PID", "LOG"}}
	for _, h := range cluster.File.Hosts {
		state, pid := "dead", "-"
		switch {
		case h.Process.Alive():
			state, pid = "running", strconv.Itoa(h.Process.PID)
		case h.Stopped:
			state = "stopped"
		}
		rows = append(rows, []string{h.Name, h.Role, h.Address, h.Zone, state, pid, cluster.LogFile(h)})
	}
	return s.table(rows...)
}

// Run takes everything away.
func (c *DevDownCmd) Run(s *session, d *DevCmd) error {
	cluster, err := d.open()
	if object.IsCode(err, object.CodeNotFound) {
		fmt.Fprintf(s.stdout, "There is no development cluster in %s. One that was made elsewhere is found with --dir, or BERTH_DEV_DIR.\n", d.Dir)
		return nil
	}
	if err != nil {
		return err
	}
	if err := cluster.Down(s.ctx, func(what string) { fmt.Fprintln(s.stdout, " ", what) }, sweepNode); err != nil {
		return fmt.Errorf("%w\nSome of it is left; berth dev down can be run again", err)
	}
	if err := forget(client.ConfigPath(s.environ), cluster); err != nil {
		return err
	}
	fmt.Fprintln(s.stdout, "The cluster is gone.")
	return nil
}

// Run stops a host.
func (c *DevStopCmd) Run(s *session, d *DevCmd) error {
	cluster, err := d.open()
	if err != nil {
		return err
	}
	h, err := cluster.Host(c.Host)
	if err != nil {
		return &object.Error{Code: object.CodeNotFound, Message: err.Error()}
	}
	if c.Kill {
		if err := cluster.Kill(h); err != nil {
			return err
		}
		if err := cluster.Routes(); err != nil {
			return err
		}
		fmt.Fprintf(s.stdout, "%s has lost power.\n", h.Name)
		return nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, devUpTimeout)
	defer cancel()
	if err := cluster.Stop(ctx, h); err != nil {
		return err
	}
	if err := cluster.Routes(); err != nil {
		return err
	}
	fmt.Fprintf(s.stdout, "%s is stopped.\n", h.Name)
	return nil
}

// Run starts a host again, with the certificate that it has.
func (c *DevStartCmd) Run(s *session, d *DevCmd) error {
	cluster, err := d.open()
	if err != nil {
		return err
	}
	h, err := cluster.Host(c.Host)
	if err != nil {
		return &object.Error{Code: object.CodeNotFound, Message: err.Error()}
	}
	h.Stopped = false
	if err := cluster.Network(); err != nil {
		return err
	}
	up := devUp{s: s, cluster: cluster}
	if !up.joined(h) {
		return &object.Error{Code: object.CodeInvalid, Message: h.Name + " has never joined the cluster", Hint: "Run: berth dev up"}
	}
	if err := up.start(s.ctx, h); err != nil {
		return err
	}
	if err := cluster.Routes(); err != nil {
		return err
	}
	fmt.Fprintf(s.stdout, "%s is running.\n", h.Name)
	return nil
}
