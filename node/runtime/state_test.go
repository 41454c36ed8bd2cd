package runtime

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestStateInMemory mounts for real: a state directory on a disk goes into
// memory once, and what is there already stays in sight.
func TestStateInMemory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	root := onDisk(t)
	inMemory := func(dir string) bool {
		var s unix.Statfs_t
		if err := unix.Statfs(dir, &s); err != nil {
			t.Fatal(err)
		}
		return s.Type == unix.TMPFS_MAGIC
	}
	create := func(name string) (dir, file string) {
		dir = filepath.Join(root, name)
		if err := os.Mkdir(dir, 0o711); err != nil {
			t.Fatal(err)
		}
		return dir, filepath.Join(dir, "containerd.pid")
	}

	fresh, file := create("fresh")
	if err := stateInMemory(fresh); err != nil {
		t.Fatal(err)
	}
	if !inMemory(fresh) {
		t.Error("a fresh directory is not in memory")
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := stateInMemory(fresh); err != nil { // the next agent
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("the next agent does not see what the first one left: %v", err)
	}
	if err := releaseState(fresh); err != nil {
		t.Fatal(err)
	}
	if inMemory(fresh) {
		t.Error("still mounted")
	}

	used, file := create("used") // by an agent that kept its state on the disk
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := stateInMemory(used); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err != nil || inMemory(used) {
		t.Errorf("state in use was hidden: %v", err)
	}

	foreign, _ := create("foreign") // a tmpfs of the administrator's
	if err := unix.Mount("tmpfs", foreign, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if err := stateInMemory(foreign); err != nil {
		t.Fatal(err)
	}
	if err := releaseState(foreign); err != nil {
		t.Fatal(err)
	}
	if !inMemory(foreign) {
		t.Error("somebody else's mount was taken away")
	}
}

// onDisk is a directory that is not in memory; what is mounted below it goes
// with the test.
func onDisk(t *testing.T) string {
	t.Helper()
	for _, parent := range []string{os.TempDir(), "/var/tmp", "."} {
		var s unix.Statfs_t
		if unix.Statfs(parent, &s) != nil || s.Type == unix.TMPFS_MAGIC {
			continue
		}
		dir, err := os.MkdirTemp(parent, "berth-state-")
		if err != nil {
			continue
		}
		if dir, err = filepath.Abs(dir); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unmountBelow(dir); err != nil {
				t.Error(err)
			}
			if err := os.RemoveAll(dir); err != nil {
				t.Error(err)
			}
		})
		return dir
	}
	t.Skip("no directory on a disk here")
	return ""
}
