package runtime

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/berthdev/berth/node/runtime/container"
	"github.com/berthdev/berth/node/runtime/runtimetest"
)

// needContainers skips without root, and fails without containerd: make test
// installs it, so its absence is a mistake.
func needContainers(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("real containers need root")
	}
	for _, b := range []string{"containerd", "runc"} {
		if _, err := exec.LookPath(b); err != nil {
			t.Fatalf("%s is missing: apt-get install containerd runc", b)
		}
	}
}

var stateNumber atomic.Int64

// testConfig has directories of its own; when the test ends nothing may be left
// of what ran in them.
func testConfig(t testing.TB) Config {
	t.Helper()
	needContainers(t)
	c := Config{
		Root:  filepath.Join(t.TempDir(), "root"),
		State: "/run/berth-test-" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(stateNumber.Add(1), 10),
	}
	if testing.Verbose() {
		c.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	t.Cleanup(func() {
		if err := Purge(context.Background(), c); err != nil {
			t.Errorf("purge: %v", err)
		}
		expectNothingLeft(t, c)
	})
	return c
}

// expectNothingLeft looks for what Purge may have overlooked.
func expectNothingLeft(t testing.TB, c Config) {
	t.Helper()
	c, err := c.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{c.State, c.Root} {
		if m := mountsBelow(dir); len(m) > 0 {
			t.Errorf("mounts left: %v", m)
		}
	}
	if _, err := os.Stat(c.State); err == nil {
		t.Errorf("%s is left", c.State)
	}
	if p := shims(c); len(p) > 0 {
		t.Errorf("shims left: %v", p)
	}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && ourDaemon(pid, c) {
			t.Errorf("containerd left: process %d", pid)
		}
	}
	g := detectCgroups(c.cgroupParent())
	for _, h := range g.hierarchies() {
		if _, err := os.Stat(h + g.parent); err == nil {
			t.Errorf("control group left: %s", h+g.parent)
		}
	}
}

func open(t testing.TB, c Config) *Runtime {
	t.Helper()
	r, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func namespacesIn(state string) func(testing.TB, string) container.Namespaces {
	var n atomic.Int64
	return func(t testing.TB, hostname string) container.Namespaces {
		t.Helper()
		dir := filepath.Join(state, "ns", fmt.Sprint(n.Add(1)))
		ns, err := CreateNamespaces(dir, hostname, true)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := RemoveNamespaces(dir); err != nil {
				t.Error(err)
			}
		})
		return ns
	}
}

func TestConformance(t *testing.T) {
	c := testConfig(t)
	c.LogFiles = 20
	runtimetest.Suite(t, func(t *testing.T) container.Runtime {
		r := open(t, c)
		t.Cleanup(func() {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
		return r
	}, namespacesIn(c.State))
}
