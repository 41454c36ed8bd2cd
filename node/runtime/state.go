package runtime

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// stateSource marks in the table of mounts the file systems that stateInMemory made.
const stateSource = "berth-state"

// stateInMemory puts a state directory that lies on a disk onto a tmpfs. To start
// a container some thirty small files are made there by containerd, the shim and
// the OCI runtime; none is of use after a reboot, and a disk makes them dear (see
// docs/decisions/002). A directory with something in it is left as it is, for
// containers of an earlier agent may stand on that.
func stateInMemory(dir string) error {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	if s.Type == unix.TMPFS_MAGIC {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		return err
	}
	if err := unix.Mount(stateSource, dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0711,size=20%"); err != nil {
		return fmt.Errorf("state directory in memory: %w", err)
	}
	return nil
}

// releaseState undoes stateInMemory. What else is mounted there stays.
func releaseState(dir string) error {
	for slices.ContainsFunc(mounts(), func(m mount) bool { return m.path == dir && m.source == stateSource }) {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
	}
	return nil
}
