package agent

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/berthdev/berth/cluster/object"
)

// What reload = "signal" does on a node: the masters give a running pod other
// versions of what it reads, the agent puts the new files into its volumes and
// then signals the containers that mount them. The checkpoint has the versions of
// which containers have been told, so one that an agent dies over is told again.

// reread takes the versions that the pod is given in place of its template's.
func (w *worker) reread(versions map[string]string) {
	w.mu.Lock()
	same := maps.Equal(w.reads, versions)
	if !same {
		w.reads, w.contents = versions, nil
	}
	w.mu.Unlock()
	if same {
		return
	}
	select {
	case w.rereads <- struct{}{}:
	default: // one look finds the newest
	}
}

// versions are what the pod reads, when it is given these.
func (w *worker) versions(given map[string]string) map[string]string {
	p := object.Pod{Spec: object.PodSpec{Reads: given}}
	return p.Versions(w.pod.Spec.Pod)
}

// told are the versions of which the containers know.
func (w *worker) told() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.applied
}

// inUse are all versions that the pod may still have to be given.
func (w *worker) inUse() []map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return []map[string]string{w.versions(w.applied), w.versions(w.reads)}
}

// reloads follows the versions until ctx ends.
func (w *worker) reloads(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.rereads:
		}
		w.persist(ctx, "new content", func() error { return w.reload(ctx) })
	}
}

// reload brings the volumes up to the newest versions and tells the containers.
func (w *worker) reload(ctx context.Context) error {
	w.mu.Lock()
	given, before := w.reads, w.versions(w.applied)
	w.mu.Unlock()
	after := w.versions(given)
	if maps.Equal(before, after) {
		return nil
	}
	contents, err := w.known(ctx)
	if err != nil {
		return err
	}
	files, err := w.files(contents)
	if err != nil {
		return err
	}
	if err := w.checkMounts(files); err != nil {
		return err
	}
	volumes := w.pod.Spec.Pod.Volumes
	fixed, changed := map[string][]string{}, map[string]bool{}
	for _, v := range volumes {
		key := contentKey(&v)
		changed[v.Name] = key != "" && before[key] != after[key]
	}
	for _, r := range w.runners {
		for _, m := range r.c.Mounts {
			if m.File != "" {
				fixed[m.Volume] = append(fixed[m.Volume], m.File)
			}
		}
	}
	if err := w.a.cfg.Volumes.Replace(w.id, volumes, files, fixed); err != nil {
		return err
	}
	for _, r := range w.runners {
		id := r.runningID()
		if id == "" || r.init || !slices.ContainsFunc(r.c.Mounts, func(m object.Mount) bool { return changed[m.Volume] }) {
			continue
		}
		signal := cmp.Or(r.c.ReloadSignal, "SIGHUP")
		if err := w.a.cfg.Runtime.Signal(ctx, id, signal); err != nil {
			return fmt.Errorf("container %s cannot be sent %s: %w", r.c.Name, signal, err)
		}
		w.log.Info("new content", "container", r.c.Name, "signal", signal)
	}
	w.mu.Lock()
	w.applied = given
	w.mu.Unlock()
	w.a.touch()
	return nil
}
