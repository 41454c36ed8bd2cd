package proxy

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berthdev/berth/cluster/object"
)

// TestServiceRestart: rules serve on while no process is there, the next one adopts
// them, and writes only what has changed meanwhile.
func TestServiceRestart(t *testing.T) {
	s := newSite(t)
	s.serveAll(t)
	other := newService("other", "10.79.3.1", portHTTP)
	s.apply(t, []*object.Service{other, web()}, []*object.Endpoints{newEndpoints("other", podB), newEndpoints("web", podA)})
	rules := save(t)
	s.services = newServices()
	if mended, err := s.services.Ensure(t.Context()); err != nil || len(mended) > 0 {
		t.Errorf("Ensure before the first view: %q, %v", mended, err)
	}
	if err := s.services.Apply(t.Context(), &object.NetworkView{}); err != nil { // the masters have not told
		t.Fatal(err)
	}
	if got := save(t); got != rules {
		t.Errorf("an empty view changed the rules to\n%s", got)
	}
	if got := s.pods[1].ask("tcp", "10.79.0.5:80"); got != "a 10.77.1.3" {
		t.Errorf("while nobody has applied anything: %s", got)
	}
	k, err := openKernel()
	if err != nil {
		t.Fatal(err)
	}
	at, counted := k.generation()
	s.apply(t, []*object.Service{other, web()}, []*object.Endpoints{newEndpoints("other", podB), newEndpoints("web", podA)})
	if now, _ := k.generation(); counted && now != at {
		t.Errorf("what is right was written again, in %d changes", now-at)
	}
	flow, err := s.pods[1].dial("udp", "10.79.0.5:53")
	if err != nil {
		t.Fatal(err)
	}
	defer flow.Close()
	if got := question(flow); got != "a 10.77.1.3" {
		t.Errorf("udp: %s", got)
	}
	// One pod changed while it was away; a service went.
	s.services = newServices()
	s.apply(t, []*object.Service{web()}, []*object.Endpoints{newEndpoints("web", podB)})
	if now, _ := k.generation(); counted && now != at+1 {
		t.Errorf("%d changes for one", now-at)
	}
	if got := s.pods[0].ask("tcp", "10.79.0.5:80"); got != "b 10.77.1.2" {
		t.Errorf("after a restart: %s", got)
	}
	if got := question(flow); !strings.HasPrefix(got, "b ") {
		t.Errorf("after a restart, a flow of UDP that goes on: %s", got)
	}
	if got := s.pods[0].ask("tcp", "10.79.3.1:80"); got != "connection refused" {
		t.Errorf("a service that went: %s", got)
	}
	have, _, err := k.read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if script, wrong := have.script(s.services.want); len(wrong) > 0 {
		t.Errorf("iptables prints rules in other words than ours:\n%s", script)
	}
}

// TestServiceRepair: what somebody else changes is put right and told; what is not
// ours stays.
func TestServiceRepair(t *testing.T) {
	s := newSite(t)
	s.serveAll(t)
	foreign := `iptables -t nat -A PREROUTING -d 192.0.2.77/32 -p tcp -j DNAT --to-destination 192.0.2.78; iptables -t nat -N BERTHOLD; iptables -N OTHER; iptables -A OTHER -j ACCEPT; iptables -A FORWARD -s 192.0.2.79/32 -j OTHER`
	s.node.sh(t, foreign)
	t.Cleanup(func() {
		s.node.sh(t, "iptables -t nat -D PREROUTING -d 192.0.2.77/32 -p tcp -j DNAT --to-destination 192.0.2.78; iptables -t nat -X BERTHOLD; iptables -D FORWARD -s 192.0.2.79/32 -j OTHER; iptables -F OTHER; iptables -X OTHER")
	})
	foreigners, original := save(t), s.machine
	s.apply(t, []*object.Service{web()}, []*object.Endpoints{newEndpoints("web", podA)})
	right := save(t)
	ensure := func() []string {
		t.Helper()
		s.services.rest = 0
		mended, err := s.services.Ensure(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return mended
	}
	for range 3 {
		if mended := ensure(); len(mended) > 0 {
			t.Errorf("mended what was right: %q", mended)
		}
	}
	if s.services.k.nft && !s.services.known {
		t.Error("each Ensure reads all rules though nobody changes any")
	}
	pods := leaf(prefixPods, netip.MustParseAddr("10.79.0.5"), "shop/web:http")
	for _, c := range []struct{ harm, told string }{
		{"iptables -t nat -F " + pods, "service shop/web"},
		{"iptables -t nat -I " + pods + " 1 -j RETURN", "service shop/web"},
		{"iptables -t nat -F BERTH-SERVICES", "BERTH-SERVICES"},
		{"iptables -t nat -D PREROUTING -m comment --comment \"berth: services\" -j BERTH-SERVICES", "nat PREROUTING"},
		{"iptables -F BERTH-SVC-REJECT", "BERTH-SVC-REJECT"},
		{"iptables -t nat -N BERTH-SVC-P-X; iptables -t nat -A BERTH-SVC-P-X -j ACCEPT", "BERTH-SVC-P-X"},
		{"echo 0 > /proc/sys/net/ipv4/ip_forward", "ip_forward"},
		{"echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables", "bridge-nf-call-iptables"},
		{"ip route del 10.79.0.0/16", "the route to the services"},
		{"iptables -t nat -D OUTPUT -m comment --comment \"berth: services\" -j BERTH-SERVICES; iptables -t nat -F BERTH-SVC-MASQ; iptables -D INPUT -m comment --comment \"berth: services\" -j BERTH-SVC-CLOSED; iptables -X BERTH-SVC-CLOSED", "BERTH-SVC-CLOSED"},
	} {
		s.node.sh(t, c.harm)
		if mended := ensure(); !strings.Contains(strings.Join(mended, "; "), c.told) {
			t.Errorf("%s: told %q, want %q in it", c.harm, mended, c.told)
		}
		if got := s.pods[0].ask("tcp", "10.79.0.5:80"); got != "a 10.77.1.1" {
			t.Errorf("%s: not repaired: %s", c.harm, got)
		}
		for range 2 {
			if mended := ensure(); len(mended) > 0 {
				t.Errorf("%s: mended again: %q", c.harm, mended)
			}
		}
	}
	sorted := func(rules string) string {
		lines := strings.Split(rules, "\n")
		slices.Sort(lines)
		return strings.Join(lines, "\n")
	}
	if got := save(t); sorted(got) != sorted(right) {
		t.Errorf("repaired, the rules are\n%s\nnot\n%s", got, right)
	}
	// Whoever lets the pods' packets pass may come first after a flush.
	s.node.sh(t, "iptables -D FORWARD -m comment --comment \"berth: services\" -j BERTH-SVC-REJECT; iptables -A FORWARD -m comment --comment \"berth: services\" -j BERTH-SVC-REJECT")
	ensure()
	if got := s.pods[0].ask("tcp", "10.79.7.7:80"); got != "connection refused" {
		t.Errorf("an address that no service has, with the jump too late: %s", got)
	}
	// A change between looks is applied and what is amiss found all the same.
	s.node.sh(t, "iptables -t nat -F BERTH-SVC-SELF")
	s.apply(t, []*object.Service{web()}, []*object.Endpoints{newEndpoints("web", podB)})
	s.apply(t, []*object.Service{web()}, []*object.Endpoints{newEndpoints("web", podA)})
	s.node.sh(t, "iptables -t nat -F BERTH-SVC-SELF")
	s.apply(t, []*object.Service{web()}, []*object.Endpoints{newEndpoints("web", podA, podFar)})
	if mended := ensure(); !strings.Contains(strings.Join(mended, "; "), "BERTH-SVC-SELF") {
		t.Errorf("told %q", mended)
	}
	// Somebody's rule leads to our chain: the service can go, the chain stays empty.
	s.node.sh(t, "iptables -t nat -A BERTHOLD -j "+pods)
	s.apply(t, nil, nil)
	if got := s.pods[1].ask("tcp", "10.79.0.5:80"); got != "connection refused" {
		t.Errorf("a service that went: %s", got)
	}
	s.apply(t, []*object.Service{web()}, []*object.Endpoints{newEndpoints("web", podB)})
	if got := s.pods[0].ask("tcp", "10.79.0.5:80"); got != "b 10.77.1.2" {
		t.Errorf("the service came back: %s", got)
	}
	s.node.sh(t, "iptables -t nat -F BERTHOLD")
	if err := s.services.Purge(); err != nil {
		t.Fatal(err)
	}
	if got := save(t); got != foreigners {
		t.Errorf("Purge left\n%s\nnot\n%s", got, foreigners)
	}
	s.machine = original
}

// TestServiceBackends: the other backend of iptables works, too, and rules of
// Berth in both are refused.
func TestServiceBackends(t *testing.T) {
	for _, tool := range []string{"iptables-legacy", "iptables-nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(tool + " is not installed")
		}
	}
	if out, err := exec.Command("iptables-legacy", "-t", "nat", "-S").CombinedOutput(); err != nil {
		t.Skipf("no legacy tables here: %s", out)
	}
	s := newSite(t)
	s.serveAll(t)
	s.apply(t, []*object.Service{web()}, []*object.Endpoints{newEndpoints("web", podA)})
	nft := s.services.k.nft
	other := map[bool]string{true: "legacy", false: "nft"}[nft]
	path := os.Getenv("PATH")
	turn := func() { // as update-alternatives does it
		dir := t.TempDir()
		for _, tool := range []string{"iptables", "iptables-save", "iptables-restore"} {
			target, err := exec.LookPath(strings.Replace(tool, "iptables", "iptables-"+other, 1))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(target, filepath.Join(dir, tool)); err != nil {
				t.Fatal(err)
			}
		}
		t.Setenv("PATH", dir+":"+path)
	}
	turn()
	v := *s.view
	v.Services, v.Endpoints = []*object.Service{web()}, []*object.Endpoints{newEndpoints("web", podA)}
	err := newServices().Apply(t.Context(), &v)
	if err == nil || !strings.Contains(err.Error(), "update-alternatives --set iptables") {
		t.Errorf("with rules in the other backend: %v", err)
	}
	t.Setenv("PATH", path)
	if err := s.services.Purge(); err != nil {
		t.Fatal(err)
	}
	s.node.sh(t, "iptables-save | grep -v BERTH- | iptables-restore")
	turn()
	second := newServices()
	if err := second.Apply(t.Context(), &v); err != nil {
		t.Fatal(err)
	}
	if second.k.nft == nft {
		t.Error("the backend did not change")
	}
	for range 2 {
		second.rest = 0
		if mended, err := second.Ensure(t.Context()); err != nil || len(mended) > 0 {
			t.Errorf("mended what was right: %q, %v", mended, err)
		}
	}
	for from, want := range map[*place]string{s.pods[0]: "a 10.77.1.1", s.pods[1]: "a 10.77.1.3", s.node: "a 10.77.1.1"} {
		if got := from.ask("tcp", "10.79.0.5:80"); got != want {
			t.Errorf("with the other backend: %q, want %q", got, want)
		}
	}
	s.node.sh(t, "iptables-"+other+" -t nat -F "+leaf(prefixPods, netip.MustParseAddr("10.79.0.5"), "shop/web:http"))
	second.rest = 0
	if mended, err := second.Ensure(t.Context()); err != nil || len(mended) != 1 {
		t.Errorf("mended %q, %v", mended, err)
	}
	if err := second.Purge(); err != nil {
		t.Fatal(err)
	}
	if out, _ := exec.Command("iptables-" + other + "-save").Output(); strings.Contains(string(out), "BERTH-") {
		t.Errorf("Purge left\n%s", out)
	}
	t.Setenv("PATH", path)
	masquerade := &Masquerade{Range: netip.MustParsePrefix("10.77.1.0/24"), Keep: []netip.Prefix{netip.MustParsePrefix("10.77.0.0/16")}}
	if err := masquerade.Ensure(); err != nil { // as newSite left it
		t.Fatal(err)
	}
}

func TestIptablesMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	s := newServices()
	err := s.Apply(context.Background(), &object.NetworkView{Network: &object.Network{}})
	if err == nil || !strings.Contains(err.Error(), "apt-get install iptables") {
		t.Errorf("without iptables: %v", err)
	}
}

func TestConntrack(t *testing.T) {
	used, most, err := Conntrack()
	if err != nil || used < 0 || used > most {
		t.Errorf("Conntrack: %d, %d, %v", used, most, err)
	}
	dir := t.TempDir() + "/"
	if used, most, err := conntrackAt(dir); used != 0 || most != 0 || err != nil {
		t.Errorf("a kernel that follows nothing: %d, %d, %v", used, most, err)
	}
	for name, text := range map[string]string{"nf_conntrack_count": "262144\n", "nf_conntrack_max": "262144\n"} {
		if err := os.WriteFile(dir+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if used, most, err := conntrackAt(dir); used != 262144 || most != 262144 || err != nil {
		t.Errorf("a full table: %d, %d, %v", used, most, err)
	}
}
