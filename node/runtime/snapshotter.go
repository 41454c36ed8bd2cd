package runtime

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// chooseSnapshotter tries an overlay mount where the snapshots will lie: some
// file systems, and containers inside containers, cannot carry one.
func chooseSnapshotter(root string, log *slog.Logger) string {
	if err := tryOverlay(root); err != nil {
		log.Warn("no overlay file systems here; images are copied, which is slower", "dir", root, "error", err)
		return "native"
	}
	return "overlayfs"
}

func tryOverlay(root string) error {
	dir, err := os.MkdirTemp(root, "overlay-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			return err
		}
	}
	merged := filepath.Join(dir, "merged")
	data := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", dir)
	if err := unix.Mount("overlay", merged, "overlay", 0, data); err != nil {
		return err
	}
	return unix.Unmount(merged, unix.MNT_DETACH)
}
