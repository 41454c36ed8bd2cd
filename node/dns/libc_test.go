package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestTheCLibraryResolves asks as programs do: through the C library, with the
// search path that pods get, in a mount namespace with a resolv.conf of its own.
func TestTheCLibraryResolves(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: port 53 and a mount namespace")
	}
	for _, tool := range []string{"unshare", "getent", "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	// An address of the loopback that is nobody else's.
	pid := os.Getpid()
	at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 78, byte(pid >> 8), byte(pid)}), 53)
	s, err := Open(Config{Listen: func() []netip.AddrPort { return []netip.AddrPort{at} }, ResolvConf: "/dev/null"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if len(s.Addrs()) != 1 {
		_, err := s.Ensure(context.Background())
		t.Fatal(err)
	}
	out := newOutside(t, records(t, world0...))
	v := shop()
	v.upstream = []string{out.addr}
	if err := s.Apply(context.Background(), v.build()); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	text := fmt.Sprintf("nameserver %s\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:3 timeout:2 attempts:3\n", at.Addr())
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	lookup := func(database, name string) string {
		// Exit code 2 is a name that is not found.
		b, err := exec.Command("unshare", "--mount", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec getent "$1" "$2"`, conf, database, name).CombinedOutput()
		var exit *exec.ExitError
		if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 2) {
			t.Fatalf("getent %s %s: %v\n%s", database, name, err, b)
		}
		var got []string
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			got = append(got, f[0])
			if database == "hosts" {
				got = f[1:]
			}
		}
		slices.Sort(got)
		return strings.Join(slices.Compact(got), " ")
	}
	for name, want := range map[string]string{
		"web": "10.79.0.10", "web.back": "10.79.0.12", "web.shop.svc.cluster.local": "10.79.0.10", "db": "10.78.1.6 10.78.2.6", "db-1.db": "10.78.2.6",
		"db-1.db.shop": "10.78.2.6", "pay": "198.51.100.1", "www.example": "198.51.100.2", "nothing": "", "no.example": "", "none": "",
	} {
		if got := lookup("ahosts", name); got != want {
			t.Errorf("%s is %q, not %q", name, got, want)
		}
	}
	if got := lookup("hosts", "10.79.0.10"); got != "web.shop.svc.cluster.local" {
		t.Errorf("10.79.0.10 is %q", got)
	}
}
