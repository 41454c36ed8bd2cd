package runtime

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berthdev/berth/node/runtime/container"
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

const snapshotterType = "io.containerd.snapshotter.v1"

// foreignSnapshots asks a containerd that is not ours which snapshotter it can do,
// and where its images lie: that need not be the file system of Root.
func (r *Runtime) foreignSnapshots(ctx context.Context) error {
	if r.daemon != nil {
		return nil
	}
	list, err := r.client.IntrospectionService().Plugins(ctx, "type=="+snapshotterType)
	if err != nil {
		return r.unavailable(err)
	}
	roots := map[string]string{} // of those that work
	var names []string
	for _, p := range list.Plugins {
		if p.InitErr == nil {
			roots[p.ID] = p.Exports["root"]
			names = append(names, p.ID)
		}
	}
	r.snapshotter, err = pickSnapshotter(r.cfg.Snapshotter, names)
	if err != nil {
		return &container.UnavailableError{Message: "the containerd at " + r.cfg.address() + " " + err.Error(),
			Hint: "mend its configuration, or let the node run its own by leaving out --containerd-socket"}
	}
	if _, err := diskPercent(roots[r.snapshotter]); err == nil {
		r.imageDisk = roots[r.snapshotter]
	}
	return nil
}

// pickSnapshotter takes the one that is wanted, or the best that is there.
func pickSnapshotter(wanted string, there []string) (string, error) {
	slices.Sort(there)
	for _, s := range []string{"overlayfs", "native"} {
		if wanted == "" && slices.Contains(there, s) {
			return s, nil
		}
	}
	if wanted != "" && slices.Contains(there, wanted) {
		return wanted, nil
	}
	return "", fmt.Errorf("has no snapshotter %s; it has %s", cmp.Or(wanted, "overlayfs or native"), cmp.Or(strings.Join(there, ", "), "none"))
}
