package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// cniTimeout bounds one run of the plugins; one that hangs must not hang a pod's
// start for ever.
const cniTimeout = 30 * time.Second

// cniPlugins are where distributions and projects put the programs.
var cniPlugins = []string{"/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"}

// CNIConfig describes a pod network that CNI plugins make.
type CNIConfig struct {
	Dir    string       // the node's own: which pods are attached
	Config string       // directory with the CNI configuration: the first *.conflist by name is used
	Range  netip.Prefix // told to plugins with the capability ipRanges
}

// CNI attaches pods by running the plugins of a configuration. Its methods may be
// called at once.
type CNI struct {
	cfg     CNIConfig
	list    *libcni.NetworkConfigList
	plugins *libcni.CNIConfig

	mu   sync.Mutex
	pods map[string]cniPod
}

// cniPod is written down before the plugins run, so that what a crash left half
// done is taken back.
type cniPod struct {
	Namespace string     `json:"namespace"`
	Address   netip.Addr `json:"address,omitzero"`
}

// OpenCNI reads the configuration and finds its plugins.
func OpenCNI(c CNIConfig) (*CNI, error) {
	names, err := libcni.ConfFiles(c.Config, []string{".conflist"})
	if err != nil {
		return nil, fmt.Errorf("the network's cni directory: %w", err)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("the network's cni directory %s has no *.conflist on this node; put one there, or take \"cni\" out of the network", c.Config)
	}
	slices.Sort(names)
	list, err := libcni.NetworkConfFromFile(names[0])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", names[0], err)
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	path := append(filepath.SplitList(os.Getenv("CNI_PATH")), filepath.Join(c.Config, "bin"))
	n := &CNI{cfg: c, list: list, plugins: libcni.NewCNIConfigWithCacheDir(append(path, cniPlugins...), filepath.Join(c.Dir, "cni"), nil), pods: map[string]cniPod{}}
	ctx, cancel := context.WithTimeout(context.Background(), cniTimeout)
	defer cancel()
	if _, err := n.plugins.ValidateNetworkList(ctx, list); err != nil {
		return nil, fmt.Errorf("%s: %w; install the plugin (apt-get install containernetworking-plugins), or put it into %s", names[0], err, filepath.Join(c.Config, "bin"))
	}
	if err := sysctl("net/ipv4/ip_forward", "1"); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(n.file())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil {
		if err := json.Unmarshal(b, &n.pods); err != nil {
			return nil, fmt.Errorf("%s is damaged: %w; remove it when no pod runs here", n.file(), err)
		}
	}
	return n, nil
}

// cniFile is in the network's directory.
const cniFile = "cni.json"

func (n *CNI) file() string { return filepath.Join(n.cfg.Dir, cniFile) }

// Close is there for the caller's convenience; nothing is held.
func (n *CNI) Close() {}

func (n *CNI) runtime(pod, namespace string) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: pod, NetNS: namespace, IfName: podInterface, CapabilityArgs: map[string]any{
		"ipRanges": [][]map[string]string{{{"subnet": n.cfg.Range.Masked().String()}}},
	}}
}

// Attach runs the plugins for the network namespace. A pod that is attached
// already keeps what it has.
func (n *CNI) Attach(pod, namespace string) (netip.Addr, error) {
	n.mu.Lock()
	had, known := n.pods[pod]
	n.mu.Unlock()
	if known && had.Address.IsValid() && had.Namespace == namespace {
		return had.Address, nil
	}
	if known { // half of an earlier try
		if err := n.Detach(pod); err != nil {
			return netip.Addr{}, err
		}
	}
	if err := n.note(pod, &cniPod{Namespace: namespace}); err != nil {
		return netip.Addr{}, err
	}
	addr, err := n.add(pod, namespace)
	if err == nil {
		err = n.note(pod, &cniPod{Namespace: namespace, Address: addr})
	}
	if err != nil {
		return netip.Addr{}, fmt.Errorf("network of the pod: %w", errors.Join(err, n.Detach(pod)))
	}
	return addr, nil
}

func (n *CNI) add(pod, namespace string) (netip.Addr, error) {
	if err := loopback(namespace); err != nil {
		return netip.Addr{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), cniTimeout)
	defer cancel()
	r, err := n.plugins.AddNetworkList(ctx, n.list, n.runtime(pod, namespace))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("CNI network %s: %w", n.list.Name, err)
	}
	result, err := types100.GetResult(r)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("CNI network %s: %w", n.list.Name, err)
	}
	for _, ip := range result.IPs {
		if a, ok := netip.AddrFromSlice(ip.Address.IP); ok && a.Unmap().Is4() {
			return a.Unmap(), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("CNI network %s gave the pod no IPv4 address", n.list.Name)
}

// loopback switches on a namespace's loopback interface, which is not the
// plugins' business.
func loopback(namespace string) error {
	ns, err := netns.GetFromPath(namespace)
	if err != nil {
		return fmt.Errorf("namespace %s: %w", namespace, err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("namespace %s: %w", namespace, err)
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	return h.LinkSetUp(lo)
}

// Address is the address that a pod has, if it has one.
func (n *CNI) Address(pod string) (netip.Addr, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p, ok := n.pods[pod]
	return p.Address, ok && p.Address.IsValid()
}

// Detach runs the plugins' clean-up. The namespace may be gone already; then they
// give back what they keep outside of it.
func (n *CNI) Detach(pod string) error {
	n.mu.Lock()
	p, ok := n.pods[pod]
	n.mu.Unlock()
	if !ok {
		return nil
	}
	if !isNamespace(p.Namespace) {
		p.Namespace = ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), cniTimeout)
	defer cancel()
	if err := n.plugins.DelNetworkList(ctx, n.list, n.runtime(pod, p.Namespace)); err != nil {
		return fmt.Errorf("CNI network %s: giving back what pod %s has: %w", n.list.Name, pod, err)
	}
	return n.note(pod, nil)
}

// isNamespace reports whether a namespace is (still) pinned at a path.
func isNamespace(path string) bool {
	var s unix.Statfs_t
	return unix.Statfs(path, &s) == nil && (s.Type == unix.NSFS_MAGIC || s.Type == unix.PROC_SUPER_MAGIC)
}

// note writes down what a pod has, or that it has nothing any more.
func (n *CNI) note(pod string, p *cniPod) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p != nil {
		n.pods[pod] = *p
	} else {
		delete(n.pods, pod)
	}
	b, err := json.Marshal(n.pods)
	if err == nil {
		err = replace(n.file(), b)
	}
	if err != nil {
		return fmt.Errorf("saving which pods are attached: %w", err)
	}
	return nil
}

// Retain detaches all pods but these.
func (n *CNI) Retain(pods []string) error {
	n.mu.Lock()
	have := slices.Sorted(maps.Keys(n.pods))
	n.mu.Unlock()
	var errs []error
	for _, p := range have {
		if !slices.Contains(pods, p) {
			errs = append(errs, n.Detach(p))
		}
	}
	return errors.Join(errs...)
}

// Purge detaches every pod. What the plugins made for the node as a whole, such as
// a bridge, has no owner in CNI and stays.
func (n *CNI) Purge() error {
	if err := n.Retain(nil); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(filepath.Join(n.cfg.Dir, "cni")), os.RemoveAll(n.file()), os.RemoveAll(spare(n.file())))
}
