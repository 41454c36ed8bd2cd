package network

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// cniConfig writes a configuration of a bridge of its own.
func cniConfig(t *testing.T, plugins string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "10-test.conflist"), []byte(`{"cniVersion": "1.0.0", "name": "berthtest", "plugins": [`+plugins+`]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func openCNI(t *testing.T, dir, config string) *CNI {
	t.Helper()
	n, err := OpenCNI(CNIConfig{Dir: dir, Config: config, Range: netip.MustParsePrefix("10.66.5.0/24")})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func needCNI(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if _, err := os.Stat("/usr/lib/cni/bridge"); err != nil {
		t.Skip("the CNI plugins are not installed: apt-get install containernetworking-plugins")
	}
}

func TestCNIPluginsAttachPods(t *testing.T) {
	needCNI(t)
	leases := t.TempDir()
	config := cniConfig(t, fmt.Sprintf(`{"type": "bridge", "bridge": "cnitest", "isGateway": true, "capabilities": {"ipRanges": true},
		"ipam": {"type": "host-local", "dataDir": %q, "routes": [{"dst": "0.0.0.0/0"}]}}`, leases))
	dir := t.TempDir()
	n := openCNI(t, dir, config)
	defer func() {
		if l, err := netlink.LinkByName("cnitest"); err == nil {
			netlink.LinkDel(l)
		}
	}()
	pathA, _ := pinNamespace(t)
	pathB, endB := pinNamespace(t)
	a, err := n.Attach("shop.web-0.7", pathA)
	if err != nil {
		t.Fatal(err)
	}
	b, err := n.Attach("shop.web-1.8", pathB)
	if err != nil {
		t.Fatal(err)
	}
	if r := netip.MustParsePrefix("10.66.5.0/24"); !r.Contains(a) || !r.Contains(b) || a == b {
		t.Fatalf("addresses %s and %s; want two of the node's range %s", a, b, r)
	}
	if again, err := n.Attach("shop.web-0.7", pathA); err != nil || again != a {
		t.Errorf("a second Attach: %s, %v", again, err)
	}
	var l net.Listener
	within(t, pathA, func() (err error) {
		l, err = net.Listen("tcp", net.JoinHostPort(a.String(), "80"))
		return err
	})
	defer l.Close()
	dial := func() error {
		c, err := net.Dial("tcp", l.Addr().String())
		if err == nil {
			c.Close()
		}
		return err
	}
	within(t, pathB, dial)
	within(t, pathA, func() error {
		c, err := net.Listen("tcp", "127.0.0.1:0") // localhost works
		if err == nil {
			c.Close()
		}
		return err
	})

	// Another process takes over; pods go with and without their namespaces.
	next := openCNI(t, dir, config)
	if got, ok := next.Address("shop.web-0.7"); !ok || got != a {
		t.Errorf("after a restart: %s, %v", got, ok)
	}
	within(t, pathB, dial)
	endB()
	if err := next.Retain([]string{"shop.web-0.7"}); err != nil {
		t.Fatal(err)
	}
	if _, ok := next.Address("shop.web-1.8"); ok {
		t.Error("a pod that is gone still has an address")
	}
	if err := next.Purge(); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(leases, "berthtest", "10.*"))
	if err != nil || len(left) > 0 {
		t.Errorf("leases are left: %v, %v", left, err)
	}
	within(t, pathA, func() error {
		if _, err := netlink.LinkByName("eth0"); err == nil {
			return fmt.Errorf("eth0 is left in the pod")
		}
		return nil
	})
}

func TestCNIFailuresLeaveNothing(t *testing.T) {
	needCNI(t)
	leases := t.TempDir()
	// The first plugin succeeds, the second cannot.
	config := cniConfig(t, fmt.Sprintf(`{"type": "bridge", "bridge": "cnitest2", "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.66.6.0/24"}]]}},
		{"type": "tuning", "sysctl": {"net.ipv4.no_such": "1"}}`, leases))
	n := openCNI(t, t.TempDir(), config)
	defer func() {
		if l, err := netlink.LinkByName("cnitest2"); err == nil {
			netlink.LinkDel(l)
		}
	}()
	path, _ := pinNamespace(t)
	if _, err := n.Attach("p", path); err == nil || !strings.Contains(err.Error(), "CNI network berthtest") {
		t.Errorf("Attach: %v", err)
	}
	if _, ok := n.Address("p"); ok || len(n.pods) > 0 {
		t.Errorf("left: %v", n.pods)
	}
	if left, _ := filepath.Glob(filepath.Join(leases, "berthtest", "10.*")); len(left) > 0 {
		t.Errorf("leases are left: %v", left)
	}
}

func TestCNIConfigurationMistakes(t *testing.T) {
	for name, x := range map[string]struct{ config, says string }{
		"none":      {t.TempDir(), "has no *.conflist on this node"},
		"no plugin": {cniConfig(t, `{"type": "no-such-plugin"}`), "install the plugin"},
		"damaged":   {cniConfig(t, `{"type"`), "10-test.conflist"},
	} {
		if _, err := OpenCNI(CNIConfig{Dir: t.TempDir(), Config: x.config, Range: netip.MustParsePrefix("10.66.5.0/24")}); err == nil || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
