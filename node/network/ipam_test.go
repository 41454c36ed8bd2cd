package network

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func newAllocator(t testing.TB, r string, c *clock) *allocator {
	t.Helper()
	a, err := openAllocator(filepath.Join(t.TempDir(), leaseFile), netip.MustParsePrefix(r), c.now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAddressesRestBeforeTheyAreUsedAgain(t *testing.T) {
	c := &clock{time.Unix(1000, 0)}
	a := newAllocator(t, "10.1.2.0/29", c) // .2 to .6
	take := func(pod, want string) {
		t.Helper()
		got, err := a.take(pod)
		if err != nil || got.String() != want {
			t.Fatalf("%s got %s, %v; want %s", pod, got, err, want)
		}
	}
	take("a", "10.1.2.2")
	take("b", "10.1.2.3")
	take("a", "10.1.2.2") // keeps it
	a.release("a")
	take("c", "10.1.2.4")
	take("d", "10.1.2.5")
	take("e", "10.1.2.6")
	take("f", "10.1.2.2") // resting, but the only one
	if _, err := a.take("g"); err == nil || !strings.Contains(err.Error(), "all 5 addresses of the pod range 10.1.2.0/29 are taken") {
		t.Errorf("full: %v", err)
	}
	a.release("d")
	c.t = c.t.Add(time.Second)
	a.release("b")
	take("h", "10.1.2.5") // the one that has rested longest
	c.t = c.t.Add(quarantine)
	take("i", "10.1.2.3")
}

func TestAllocationsSurvive(t *testing.T) {
	c := &clock{time.Unix(1000, 0)}
	a := newAllocator(t, "10.1.2.0/24", c)
	first, _ := a.take("a")
	again, err := openAllocator(a.path, a.r, c.now)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := again.take("a"); got != first {
		t.Errorf("%s became %s", first, got)
	}
	if got, _ := again.take("b"); got == first {
		t.Error("given twice")
	}
	if err := os.WriteFile(a.path, []byte("{damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	fresh, err := openAllocator(a.path, a.r, c.now)
	if err != nil {
		t.Fatal(err)
	}
	if !fresh.reserve("a", first) || fresh.reserve("x", first) {
		t.Error("an adopted pod keeps its address, and alone")
	}
	for _, bad := range []string{"10.1.2.0", "10.1.2.1", "10.1.2.255", "10.9.9.9"} {
		if fresh.reserve("y", netip.MustParseAddr(bad)) {
			t.Errorf("%s is not for pods", bad)
		}
	}
}

func TestRangeTooSmall(t *testing.T) {
	for _, r := range []string{"10.0.0.0/31", "fd00::/64"} {
		if _, err := openAllocator("", netip.MustParsePrefix(r), time.Now); err == nil {
			t.Errorf("%s is accepted", r)
		}
	}
}

// TestNoAddressTwice: whatever comes and goes, no two pods share an address, and
// a free one is always found.
func TestNoAddressTwice(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		c := &clock{time.Unix(1000, 0)}
		path := filepath.Join(dir, "a.json")
		os.Remove(path)
		a, err := openAllocator(path, netip.MustParsePrefix("10.1.2.0/28"), c.now)
		if err != nil {
			t.Fatal(err)
		}
		has := map[string]netip.Addr{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			pod := fmt.Sprint("p", rapid.IntRange(0, 19).Draw(t, "pod"))
			c.t = c.t.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "seconds")) * time.Second)
			if rapid.Bool().Draw(t, "release") {
				a.release(pod)
				delete(has, pod)
				continue
			}
			addr, err := a.take(pod)
			if err != nil {
				if len(has) < a.size() {
					t.Fatalf("%d of %d taken: %v", len(has), a.size(), err)
				}
				continue
			}
			for other, o := range has {
				if o == addr && other != pod {
					t.Fatalf("%s for %s and %s", addr, pod, other)
				}
			}
			has[pod] = addr
		}
	})
}

// TestManyPodsLeakNothing: ten thousand pods come and go; at most twenty are
// there at once, and no address is used again while it rests.
func TestManyPodsLeakNothing(t *testing.T) {
	c := &clock{time.Unix(1000, 0)}
	a := newAllocator(t, "10.1.2.0/24", c)
	gone := map[netip.Addr]time.Time{}
	var alive []string
	for i := range 10_000 {
		pod := fmt.Sprint("p", i)
		addr, err := a.take(pod)
		if err != nil {
			t.Fatalf("pod %d: %v", i, err)
		}
		if at, was := gone[addr]; was && c.t.Sub(at) < quarantine {
			t.Fatalf("%s is used again after %s", addr, c.t.Sub(at))
		}
		if alive = append(alive, pod); len(alive) > 20 {
			addr, ok := a.byPod[alive[0]]
			if !ok || !a.release(alive[0]) {
				t.Fatalf("%s has no address to give back", alive[0])
			}
			gone[addr] = c.t
			alive = alive[1:]
		}
		c.t = c.t.Add(200 * time.Millisecond)
	}
	for _, p := range alive {
		a.release(p)
	}
	if err := a.save(); err != nil {
		t.Fatal(err)
	}
	if len(a.byPod)+len(a.used) > 0 || len(a.freed) > a.size() {
		t.Errorf("left: %v %v, %d resting", a.byPod, a.used, len(a.freed))
	}
	if r, pods := Leased(filepath.Dir(a.path)); r != a.r || pods != 0 {
		t.Errorf("the file has %d pods of %s", pods, r)
	}
	c.t = c.t.Add(quarantine)
	for i := range a.size() { // every address can be had
		if _, err := a.take(fmt.Sprint("q", i)); err != nil {
			t.Fatalf("after %d: %v", i, err)
		}
	}
}
