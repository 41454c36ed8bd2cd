package consensus

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// A real file system that is really full: proposals are refused with the reason,
// nothing acknowledged is lost, and with space the master goes on, also after a
// restart.
func TestReallyFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("berth-test", dir, "tmpfs", 0, "size=6m"); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newCluster(t, 1, func(string) Storage { return Disk(filepath.Join(dir, "m1")) }, nil)
	ctx := context10(t)
	l := c.leader()
	written := 0
	var err error
	for ; written < 1000; written++ {
		if _, err = l.Propose(ctx, create(configMap(fmt.Sprintf("o%04d", written), strings.Repeat("x", 50_000)))); err != nil {
			break
		}
	}
	if !object.IsCode(err, object.CodeUnavailable) || !strings.Contains(err.Error(), "no space left on device") || !strings.Contains(err.Error(), dir) {
		t.Fatalf("after %d writes: %v", written, err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it goes on with space", func() bool {
		_, err := l.Propose(ctx, create(configMap("after", "x")))
		return err == nil || object.IsCode(err, object.CodeExists)
	})
	check := func(v *state.Snapshot) {
		t.Helper()
		for i := range written {
			if valueOf(v, fmt.Sprintf("o%04d", i)) == "" {
				t.Errorf("acknowledged write %d of %d is lost", i, written)
			}
		}
		if valueOf(v, "after") == "" {
			t.Error("the write after it is lost")
		}
	}
	check(l.Snapshot())
	c.kill("m1")
	c.start("m1")
	check(c.leader().Snapshot())
}
