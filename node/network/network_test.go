package network

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// TestMain runs the tests in a network namespace of their own, so that they
// neither see nor touch the machine's interfaces.
func TestMain(m *testing.M) {
	if os.Getuid() != 0 || os.Getenv("BERTH_TEST_NETNS") != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "BERTH_TEST_NETNS=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func openNetwork(t testing.TB, dir string) *Network {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	n, err := Open(Config{Dir: dir, Range: netip.MustParsePrefix("10.77.0.0/22")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// pinNamespace makes a network namespace and returns its path and a way to end it.
func pinNamespace(t testing.TB) (string, func()) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "net")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	errs := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			errs <- err
			return
		}
		errs <- unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	}()
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	gone := false
	end := func() {
		if !gone {
			unix.Unmount(path, unix.MNT_DETACH)
			gone = true
		}
	}
	t.Cleanup(end)
	return path, end
}

// within runs f in a network namespace.
func within(t testing.TB, path string, f func() error) {
	t.Helper()
	errs := make(chan error)
	go func() {
		runtime.LockOSThread()
		ns, err := netns.GetFromPath(path)
		if err == nil {
			if err = netns.Set(ns); err == nil {
				err = f()
			}
			ns.Close()
		}
		errs <- err
	}()
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
}

func linkNames(t *testing.T) map[string]bool {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, l := range links {
		names[l.Attrs().Name] = true
	}
	return names
}

func TestPodsReachEachOtherAndTheNode(t *testing.T) {
	before := linkNames(t) // of namespaces of other tests, which the kernel has yet to end
	dir := t.TempDir()
	n := openNetwork(t, dir)
	pathA, _ := pinNamespace(t)
	pathB, endB := pinNamespace(t)
	a, err := n.Attach("a", pathA)
	if err != nil {
		t.Fatal(err)
	}
	b, err := n.Attach("b", pathB)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := n.Attach("a", pathA); err != nil || again != a {
		t.Errorf("a second Attach: %s, %v", again, err)
	}
	var l net.Listener
	within(t, pathA, func() (err error) {
		l, err = net.Listen("tcp", net.JoinHostPort(a.String(), "80"))
		return err
	})
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	dial := func() error {
		c, err := net.Dial("tcp", net.JoinHostPort(a.String(), "80"))
		if err == nil {
			c.Close()
		}
		return err
	}
	within(t, pathB, dial)
	within(t, pathA, dial)
	if err := dial(); err != nil {
		t.Error("from the node:", err)
	}

	// Another process takes over and disturbs nothing.
	next := openNetwork(t, dir)
	if got, ok := next.Address("a"); !ok || got != a {
		t.Errorf("after a restart a has %s, %v", got, ok)
	}
	if err := next.Retain([]string{"a", "b"}); err != nil {
		t.Fatal(err)
	}
	within(t, pathB, dial)

	// The end of a namespace takes the veth pair along.
	if err := next.Detach("b"); err != nil {
		t.Fatal(err)
	}
	endB()
	if err := next.Retain([]string{"a"}); err != nil {
		t.Fatal(err)
	}
	if _, err := netlink.LinkByName(next.port("b")); err == nil {
		t.Error("the port of b is still there")
	}
	if got, err := next.Attach("c", pathB); err == nil {
		t.Errorf("attached to a namespace that is gone: %s", got)
	}
	if _, ok := next.Address("c"); ok || b == a {
		t.Error("a failed Attach keeps its address")
	}

	if err := next.Purge(); err != nil {
		t.Fatal(err)
	}
	for name := range linkNames(t) {
		if !before[name] {
			t.Errorf("%s is left behind", name)
		}
	}
}

// TestPodsHaveNoIPv6AddressesOfTheKernels looks at the setting, not at addresses: the
// kernel would give them only some time after the link is up.
func TestPodsHaveNoIPv6AddressesOfTheKernels(t *testing.T) {
	n := openNetwork(t, t.TempDir())
	defer n.Purge()
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		t.Skip("this kernel has no IPv6")
	}
	path, _ := pinNamespace(t)
	if _, err := n.Attach("a", path); err != nil {
		t.Fatal(err)
	}
	mode := func(link string) error {
		b, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + link + "/addr_gen_mode")
		if got := strings.TrimSpace(string(b)); err == nil && got != "1" {
			err = fmt.Errorf("%s: mode %s of making addresses, want 1, none", link, got)
		}
		return err
	}
	within(t, path, func() error { return mode(podInterface) })
	if err := mode(n.port("a")); err != nil {
		t.Error(err)
	}
}

func TestAForeignInterfaceIsNotTakenOver(t *testing.T) {
	n := openNetwork(t, t.TempDir())
	if err := n.Purge(); err != nil {
		t.Fatal(err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = n.bridge
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "peer"}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if l, err := netlink.LinkByName("peer"); err == nil {
			netlink.LinkDel(l)
		}
	}()
	if _, err := Open(n.cfg); err == nil {
		t.Error("a veth served as the bridge")
	}
}

func BenchmarkAttach(b *testing.B) {
	n := openNetwork(b, b.TempDir())
	defer n.Purge()
	paths, ends := make([]string, b.N), make([]func(), b.N)
	for i := range paths {
		paths[i], ends[i] = pinNamespace(b)
	}
	b.ResetTimer()
	for i := range paths {
		if _, err := n.Attach(fmt.Sprint(i), paths[i]); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	for _, end := range ends {
		end()
	}
}
