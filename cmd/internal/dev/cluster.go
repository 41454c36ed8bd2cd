//go:build linux

package dev

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Roles of hosts.
const (
	RoleMaster = "master"
	RoleNode   = "node"
)

// Host is one pretended machine.
type Host struct {
	Name     string  `json:"name"`
	Role     string  `json:"role"`
	Address  string  `json:"address"`
	Zone     string  `json:"zone,omitempty"`
	PodRange string  `json:"pod_range,omitempty"` // as the masters have given it
	Process  Process `json:"process,omitzero"`
	Stopped  bool    `json:"stopped,omitempty"` // by `dev stop`: `up` leaves it so
}

// File is dev.json: everything that was or is about to be made.
type File struct {
	Name   string `json:"name"`
	Bridge string `json:"bridge"`
	Ranges
	// Split are the zones whose nodes have a network segment of their own, and
	// Latency is how long packets take into each of them.
	Split   []string      `json:"split,omitempty"`
	Latency time.Duration `json:"latency,omitempty"`
	// NodeTimeout is how long a node may be silent, as the masters' flag has it.
	NodeTimeout string `json:"node_timeout,omitempty"`
	// LeaveTimeout is how long nodes wait for one another, as the nodes' flag has it.
	LeaveTimeout string `json:"leave_timeout,omitempty"`
	// ResolvConf is where the nodes' name servers stand, as the nodes' flag has it.
	ResolvConf string  `json:"resolv_conf,omitempty"`
	Hosts      []*Host `json:"hosts"`
}

// Ranges are the addresses of a cluster.
type Ranges struct {
	Subnet   string `json:"subnet"`              // of the hosts
	Pods     string `json:"pods"`                // the masters give each node a part of it
	NodeBits int    `json:"node_bits,omitempty"` // prefix of that part
	Services string `json:"services,omitempty"`
}

// Cluster is the development cluster of a directory.
type Cluster struct {
	Dir  string
	File File
}

// nameSyntax leaves room for "-m1" in the kernel's 15 letters.
var nameSyntax = regexp.MustCompile(`^[a-z][a-z0-9]{0,7}$`)

// ErrNone says that there is no cluster in the directory.
var ErrNone = errors.New("there is no development cluster here; make one with: berth dev up")

// Open reads the cluster of a directory, or returns ErrNone.
func Open(dir string) (*Cluster, error) {
	b, err := os.ReadFile(filepath.Join(dir, "dev.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNone
	}
	if err != nil {
		return nil, err
	}
	c := &Cluster{Dir: dir}
	if err := json.Unmarshal(b, &c.File); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w; remove the directory to start over", filepath.Join(dir, "dev.json"), err)
	}
	return c, nil
}

// New describes a cluster that does not exist yet. The name is that of the
// bridge and the beginning of the namespaces' names; the zones of split get a
// network segment each, which packets take latency to come into.
func New(dir, name string, r Ranges, split []string, latency time.Duration) (*Cluster, error) {
	if !nameSyntax.MatchString(name) {
		return nil, fmt.Errorf("%q cannot be the name of a development cluster: 1 to 8 lower-case letters and digits, beginning with a letter", name)
	}
	var all []netip.Prefix
	for _, p := range []string{r.Subnet, r.Pods, r.Services} {
		x, err := netip.ParsePrefix(p)
		if err != nil || !x.Addr().Is4() || x.Bits() > 24 || x.Masked() != x {
			return nil, fmt.Errorf("%q is not an IPv4 range of at least 256 addresses, such as 10.77.0.0/24", p)
		}
		for _, other := range all {
			if other.Overlaps(x) {
				return nil, fmt.Errorf("the ranges %s and %s overlap; choose others with --subnet, --pods and --services", other, x)
			}
		}
		all = append(all, x)
	}
	if len(split) > mostSplit {
		return nil, fmt.Errorf("%d zones cannot each have a segment of their own; %d can", len(split), mostSplit)
	}
	if latency > 0 && len(split) == 0 {
		return nil, errors.New("--latency is between segments; name the zones that have one of their own with --split")
	}
	return &Cluster{Dir: dir, File: File{Name: name, Bridge: name, Ranges: r, Split: split, Latency: latency}}, nil
}

// Add describes hosts until there are as many of the role as asked for. Zones
// are given out in turn.
func (c *Cluster) Add(role string, count int, zones []string) error {
	n := 0
	for _, h := range c.File.Hosts {
		if h.Role == role {
			n++
		}
	}
	for ; n < count; n++ {
		h := &Host{Name: fmt.Sprintf("%c%d", role[0], n+1), Role: role}
		if role == RoleNode && len(zones) > 0 {
			h.Zone = zones[n%len(zones)]
		}
		address, err := c.address(h)
		if err != nil {
			return err
		}
		h.Address = address.String()
		c.File.Hosts = append(c.File.Hosts, h)
	}
	return c.save()
}

func (c *Cluster) save() error {
	b, err := json.MarshalIndent(c.File, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(c.Dir, "logs"), 0o755); err != nil {
		return err
	}
	tmp := filepath.Join(c.Dir, "dev.json.new")
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(c.Dir, "dev.json"))
}

// DataDir is where a host's process keeps its data.
func (c *Cluster) DataDir(h *Host) string { return filepath.Join(c.Dir, h.Name) }

// LogFile is where a host's process writes.
func (c *Cluster) LogFile(h *Host) string { return filepath.Join(c.Dir, "logs", h.Name+".log") }

// Host finds a host by name.
func (c *Cluster) Host(name string) (*Host, error) {
	var names []string
	for _, h := range c.File.Hosts {
		if h.Name == name {
			return h, nil
		}
		names = append(names, h.Name)
	}
	return nil, fmt.Errorf("there is no host %q; there are %s", name, strings.Join(names, ", "))
}

// Network makes the segments and every host's network, or repairs them.
func (c *Cluster) Network() error {
	if err := c.RangesAreFree(); err != nil {
		return err
	}
	for _, s := range c.segments() {
		if err := c.ensureSegment(s); err != nil {
			return err
		}
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return fmt.Errorf("turning on forwarding: %w", err)
	}
	for _, h := range c.File.Hosts {
		if err := c.ensureHost(h); err != nil {
			return fmt.Errorf("host %s: %w", h.Name, err)
		}
	}
	return c.Routes()
}

// Given notes the range that the masters have given a node's pods, and lets this
// machine reach it.
func (c *Cluster) Given(h *Host, podRange string) error {
	h.PodRange = podRange
	if err := c.save(); err != nil {
		return err
	}
	return c.Routes()
}

// Start runs the host's process unless it runs already; env is added to this
// process's environment.
func (c *Cluster) Start(h *Host, argv, env []string) error {
	h.Stopped = false
	if h.Process.Alive() {
		return c.save()
	}
	return c.start(h, argv, env)
}

// Stop ends the host's process cleanly: a node stops its pods.
func (c *Cluster) Stop(ctx context.Context, h *Host) error {
	h.Stopped = true
	if err := c.save(); err != nil {
		return err
	}
	return h.Process.end(ctx, syscall.SIGTERM)
}

// Kill is a power cut: everything of the host is gone at once, unasked.
func (c *Cluster) Kill(h *Host) error {
	h.Stopped = true
	if err := c.save(); err != nil {
		return err
	}
	for range 3 { // what was being started while we looked
		pids := family(c.DataDir(h))
		if h.Process.Alive() {
			pids = append(pids, h.Process.PID)
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return err
			}
		}
		if len(pids) == 0 {
			break
		}
	}
	return nil
}

// Down ends every process, nodes first, and takes away all that was made. sweep does
// so with what a node that was killed has left elsewhere than in its data directory.
func (c *Cluster) Down(ctx context.Context, told func(string), sweep func(data string) error) error {
	var errs []error
	for _, role := range []string{RoleNode, RoleMaster} {
		done := make(chan error)
		n := 0
		for _, h := range c.File.Hosts {
			if h.Role != role {
				continue
			}
			n++
			told("stopping " + h.Name)
			go func() {
				ctx, cancel := context.WithTimeout(ctx, 45*time.Second)
				defer cancel()
				done <- h.Process.end(ctx, syscall.SIGTERM)
			}()
		}
		for range n {
			errs = append(errs, <-done)
		}
	}
	for _, h := range c.File.Hosts {
		errs = append(errs, c.Kill(h))
		if h.Role == RoleNode {
			errs = append(errs, sweep(c.DataDir(h)))
		}
		errs = append(errs, unmountBelow(c.DataDir(h)), c.removeHost(h))
	}
	for _, s := range c.segments() {
		errs = append(errs, c.removeBridge(s.bridge))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return os.RemoveAll(c.Dir)
}

// unmountBelow detaches every mount below a directory, the deepest first: what
// a node left that was killed.
func unmountBelow(dir string) error {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	lines := strings.Split(string(b), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		f := strings.Fields(lines[i])
		if len(f) > 4 && (f[4] == dir || strings.HasPrefix(f[4], dir+"/")) {
			if err := unix.Unmount(f[4], unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
				return fmt.Errorf("unmounting %s: %w", f[4], err)
			}
		}
	}
	return nil
}
