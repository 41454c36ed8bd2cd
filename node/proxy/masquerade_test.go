package proxy

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/berthdev/berth/cluster/object"
)

// TestMain runs the tests in a network namespace of their own: iptables rules
// belong to the namespace.
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

func save(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", "iptables -S; iptables -t nat -S").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func TestMasquerade(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("iptables needs root")
	}
	if _, err := exec.LookPath("iptables"); err != nil {
		t.Skip("iptables is not installed")
	}
	// A rule of the machine's owner, which must survive everything.
	if out, err := exec.Command("iptables", "-A", "FORWARD", "-s", "192.0.2.1", "-j", "DROP").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	before := save(t)
	m := &Masquerade{Range: netip.MustParsePrefix("10.77.1.0/24"), Keep: []netip.Prefix{netip.MustParsePrefix("10.77.0.0/16")}}
	if err := m.Ensure(); err != nil {
		t.Fatal(err)
	}
	first := save(t)
	for _, want := range []string{
		"-A BERTH-MASQ -s 10.77.1.0/24 -d 10.77.0.0/16 -j RETURN",
		"-A BERTH-MASQ -s 10.77.1.0/24 -j MASQUERADE",
		"-A BERTH-FORWARD -d 10.77.1.0/24 -j ACCEPT",
	} {
		if !strings.Contains(first, want) {
			t.Errorf("no %q in\n%s", want, first)
		}
	}
	if err := m.Ensure(); err != nil {
		t.Fatal(err)
	}
	if again := save(t); again != first {
		t.Errorf("the second Ensure changed\n%s\nto\n%s", first, again)
	}
	// Somebody meddles: it is put right.
	if out, err := exec.Command("sh", "-c", "iptables -t nat -F BERTH-MASQ && iptables -D FORWARD 1").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := m.Ensure(); err != nil {
		t.Fatal(err)
	}
	if again := save(t); again != first {
		t.Errorf("not put right:\n%s\ninstead of\n%s", again, first)
	}
	for range 2 {
		if err := m.Purge(); err != nil {
			t.Fatal(err)
		}
		if after := save(t); after != before {
			t.Errorf("Purge left\n%s\ninstead of\n%s", after, before)
		}
	}
}

func TestMasqueradeFollowsTheNetwork(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("iptables needs root")
	}
	f := Following{&Masquerade{Range: netip.MustParsePrefix("10.77.1.0/24")}}
	defer f.Purge()
	if err := f.Masquerade.Ensure(); err != nil {
		t.Fatal(err)
	}
	v := &object.NetworkView{Network: &object.Network{Spec: object.NetworkSpec{Pods: "10.77.0.0/16", Services: "10.78.0.0/16"}}}
	if err := f.Apply(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	rules := save(t)
	for _, r := range []string{"10.77.0.0/16", "10.78.0.0/16"} {
		if !strings.Contains(rules, "-A BERTH-MASQ -s 10.77.1.0/24 -d "+r+" -j RETURN") {
			t.Errorf("pods would not be seen with their own addresses by %s:\n%s", r, rules)
		}
	}
	if mended, err := f.Ensure(t.Context()); err != nil || len(mended) > 0 {
		t.Errorf("mended %q, %v", mended, err)
	}
	if out, err := exec.Command("sh", "-c", "iptables -t nat -F BERTH-MASQ && iptables -D FORWARD 1").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	mended, err := f.Ensure(t.Context())
	if err != nil || strings.Join(mended, "; ") != "rules of chain BERTH-MASQ (nat); jump from FORWARD (filter)" {
		t.Errorf("mended %q, %v", mended, err)
	}
	if now := save(t); now != rules {
		t.Errorf("not put right:\n%s\ninstead of\n%s", now, rules)
	}
}
