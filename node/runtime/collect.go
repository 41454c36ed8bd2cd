package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// CollectPolicy says what may go.
type CollectPolicy struct {
	// Images that no container uses and that were not used for UnusedFor are
	// removed, longest unused first, while their disk is fuller than
	// DiskPercent. 0 removes all such images.
	DiskPercent int
	UnusedFor   time.Duration
	// Logs of pods without containers are removed LogsFor after their last line.
	// Pods that are removed by RemovePod leave none.
	LogsFor time.Duration
}

// Collected is what went.
type Collected struct {
	Images    []string
	Snapshots int // of containers that a crash left half-made
	Logs      int // pods
}

// halfMade is how old a snapshot without a container is when it is nobody's.
const halfMade = 10 * time.Minute

// Collect removes what nothing needs any more. It may run at any time.
func (r *Runtime) Collect(ctx context.Context, p CollectPolicy) (Collected, error) {
	ctx = r.ns(ctx)
	var out Collected
	var err error
	if out.Snapshots, err = r.collectSnapshots(ctx, halfMade); err != nil {
		return out, r.unavailable(err)
	}
	if out.Images, err = r.collectImages(ctx, p); err != nil {
		return out, r.unavailable(err)
	}
	out.Logs, err = r.collectLogs(p.LogsFor)
	return out, err
}

// collectSnapshots removes snapshots that carry our mark but whose container
// does not exist and, at that age, is not being made.
func (r *Runtime) collectSnapshots(ctx context.Context, age time.Duration) (n int, err error) {
	sn := r.client.SnapshotService(r.snapshotter)
	var names []string
	err = sn.Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		if info.Kind == snapshots.KindActive && info.Labels[gcRoot] != "" && time.Since(info.Created) >= age {
			names = append(names, info.Name)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		if _, err := r.client.ContainerService().Get(ctx, name); !errdefs.IsNotFound(err) {
			continue
		}
		if err := sn.Remove(ctx, name); err != nil && !errdefs.IsNotFound(err) {
			return n, err
		}
		n++
	}
	return n, nil
}

func (r *Runtime) collectImages(ctx context.Context, p CollectPolicy) (removed []string, err error) {
	full := func() bool {
		used, err := diskPercent(r.imageDisk)
		return err == nil && used >= p.DiskPercent
	}
	if !full() {
		return nil, nil
	}
	list, err := r.client.ImageService().List(ctx)
	if err != nil {
		return nil, err
	}
	needed, err := r.neededImages(ctx)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	last := map[string]time.Time{}
	for _, img := range list {
		last[img.Name] = usedAt(img)
		if use := r.used[img.Name]; use.seen.After(last[img.Name]) {
			last[img.Name] = use.seen
		}
	}
	r.mu.Unlock()
	slices.SortFunc(list, func(a, b images.Image) int { return last[a.Name].Compare(last[b.Name]) })
	for _, img := range list {
		key := img.Target.Digest.String()
		if needed[key] || time.Since(last[img.Name]) < p.UnusedFor {
			continue
		}
		if !full() {
			break
		}
		if err := r.client.ImageService().Delete(ctx, img.Name, images.SynchronousDelete()); err != nil && !errdefs.IsNotFound(err) {
			return removed, err
		}
		r.mu.Lock()
		delete(r.configs, key)
		delete(r.used, img.Name)
		r.mu.Unlock()
		removed = append(removed, img.Name)
	}
	return removed, nil
}

// neededImages are the digests that containers were made of: also those of other
// nodes, where several share a containerd.
func (r *Runtime) neededImages(ctx context.Context) (map[string]bool, error) {
	list, err := r.client.ContainerService().List(ctx)
	if err != nil {
		return nil, err
	}
	needed := map[string]bool{}
	for _, c := range list {
		if _, digest, ok := strings.Cut(c.Labels[labelImage], "@"); ok {
			needed[digest] = true
		}
	}
	return needed, nil
}

// collectLogs removes logs of pods that nobody removed in order.
func (r *Runtime) collectLogs(age time.Duration) (n int, err error) {
	entries, err := os.ReadDir(r.logs.dir)
	if err != nil {
		return 0, err
	}
	live := map[string]bool{}
	r.mu.Lock()
	for _, m := range r.monitors {
		live[filepath.Base(r.logs.podDir(m.status.Pod))] = true
	}
	for p := range r.pods { // a container is being started
		live[filepath.Base(r.logs.podDir(p))] = true
	}
	r.mu.Unlock()
	var errs []error
	for _, e := range entries {
		if live[e.Name()] || time.Since(newest(filepath.Join(r.logs.dir, e.Name()))) < age {
			continue
		}
		errs = append(errs, r.logs.discard(filepath.Join(r.logs.dir, e.Name())))
		n++
	}
	return n, errors.Join(errs...)
}

// newest is the last change below a directory.
func newest(dir string) (t time.Time) {
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := d.Info(); err == nil && info.ModTime().After(t) {
			t = info.ModTime()
		}
		return nil
	})
	return t
}

// diskPercent is how full the file system is, as df counts it.
func diskPercent(path string) (int, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, fmt.Errorf("disk of %s: %w", path, err)
	}
	used := s.Blocks - s.Bfree
	if used+s.Bavail == 0 {
		return 0, nil
	}
	return int((used*100 + used + s.Bavail - 1) / (used + s.Bavail)), nil
}
