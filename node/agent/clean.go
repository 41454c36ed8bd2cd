package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/berthdev/berth/node/runtime/container"
)

func (a *Agent) removeOrphan(ctx context.Context, p container.Pod) {
	retry := backoff{first: time.Second, most: time.Minute}
	for {
		err := a.clean(ctx, p)
		if err == nil || ctx.Err() != nil {
			return
		}
		a.log.Warn("cannot be removed yet", "pod", p.String(), "error", err)
		if !sleep(ctx, retry.next()) {
			return
		}
	}
}

// sweep removes what belongs to no pod: left by a crash between two steps.
func (a *Agent) sweep(ids map[string]bool, orphans []container.Pod) {
	busy := slices.Collect(maps.Keys(ids))
	for _, p := range orphans {
		busy = append(busy, podID(p)) // they are being removed, in their order
	}
	var errs []error
	remove := func(list func() ([]string, error), del func(string) error) {
		pods, err := list()
		errs = append(errs, err)
		for _, p := range pods {
			if !slices.Contains(busy, p) {
				errs = append(errs, del(p))
			}
		}
	}
	remove(a.cfg.Sandboxes.Pods, a.cfg.Sandboxes.Remove)
	remove(a.cfg.Volumes.Pods, a.cfg.Volumes.Remove)
	remove(a.etcPods, func(id string) error { return os.RemoveAll(a.etcDir(id)) })
	errs = append(errs, a.cfg.Network.Retain(busy))
	if a.cfg.HostPorts != nil {
		errs = append(errs, a.cfg.HostPorts.Retain(busy))
	}
	if a.cfg.Guard != nil {
		errs = append(errs, a.cfg.Guard.Retain(busy))
	}
	if err := errors.Join(errs...); err != nil {
		a.log.Warn("left-overs cannot be removed", "error", err)
	}
}

func (a *Agent) etcPods() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(a.cfg.Dir, "etc"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out, err
}

// clean removes everything that was made for a pod, in the order in which
// nothing is in use any more. It may be repeated.
func (a *Agent) clean(ctx context.Context, p container.Pod) error {
	id := podID(p)
	if err := a.cfg.Runtime.RemovePod(ctx, p); err != nil {
		return err
	}
	var ports, guard error
	if a.cfg.HostPorts != nil {
		ports = a.cfg.HostPorts.Release(id) // before its address can be another's
	}
	if a.cfg.Guard != nil {
		guard = a.cfg.Guard.Release(id)
	}
	return errors.Join(
		ports, guard,
		a.cfg.Sandboxes.Remove(id),
		a.cfg.Network.Detach(id),
		a.cfg.Volumes.Remove(id),
		os.RemoveAll(a.etcDir(id)),
	)
}

// purgeAll stops every pod and waits for it; ctx cuts the wait short.
func (a *Agent) purgeAll(ctx, work context.Context) error {
	a.log.Info("removing everything from this machine")
	a.mu.Lock()
	a.leaving = true
	clear(a.waiting)
	workers := slices.Collect(maps.Values(a.workers))
	orphans := slices.Collect(maps.Keys(a.found))
	clear(a.found)
	a.mu.Unlock()
	a.judge() // nothing more is to be bound here
	for _, w := range workers {
		w.stop(errPurge)
	}
	for _, w := range workers {
		select {
		case <-w.done:
		case <-ctx.Done():
			return fmt.Errorf("interrupted while pod %s was being stopped", w.key)
		}
	}
	var errs []error
	for _, p := range orphans {
		errs = append(errs, a.clean(work, p))
	}
	return errors.Join(errs...)
}

// removeOwn removes what belongs to no single pod.
func (a *Agent) removeOwn() error {
	a.sweep(map[string]bool{}, nil)
	errs := []error{a.purgeTools(), a.cfg.Network.Purge(), a.cfg.Volumes.Purge()}
	if a.cfg.Firewall != nil {
		errs = append(errs, a.cfg.Firewall.Purge())
	}
	if a.cfg.HostPorts != nil {
		errs = append(errs, a.cfg.HostPorts.Purge())
	}
	return errors.Join(append(errs, os.RemoveAll(filepath.Join(a.cfg.Dir, "etc")), removeFile(a.checkpointPath()))...)
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
