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
	if !same {
		w.look()
	}
}

// look has the versions looked at; one look finds the newest.
func (w *worker) look() {
	select {
	case w.rereads <- struct{}{}:
	default:
	}
}

// versions are what the pod reads, when it is given these.
func (w *worker) versions(given map[string]string) map[string]string {
	p := object.Pod{Spec: object.PodSpec{Reads: given}}
	return p.Versions(w.pod.Spec.Pod)
}

// told are the versions of which all containers know.
func (w *worker) told() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.runners {
		if !r.init && r.knows != nil && r.mounts(w.changed(r.knows, w.applied)) {
			return r.knows
		}
	}
	return w.applied
}

// changed are the volumes of the pod that differ between two versions of what it reads.
func (w *worker) changed(before, after map[string]string) map[string]bool {
	before, after = w.versions(before), w.versions(after)
	out := map[string]bool{}
	for _, v := range w.pod.Spec.Pod.Volumes {
		if key := contentKey(&v); key != "" && before[key] != after[key] {
			out[v.Name] = true
		}
	}
	return out
}

// mounts reports whether the container mounts one of the volumes.
func (r *runner) mounts(volumes map[string]bool) bool {
	return slices.ContainsFunc(r.c.Mounts, func(m object.Mount) bool { return volumes[m.Volume] })
}

// learn notes what a container finds that starts now, or has been told; worker.mu is
// held.
func (r *runner) learn(versions map[string]string) {
	if r.knows = versions; versions == nil {
		r.knows = map[string]string{}
	}
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

// reload brings the volumes up to the newest versions and tells the containers: all
// that run, and those that were just starting when a version came.
func (w *worker) reload(ctx context.Context) error {
	w.mu.Lock()
	given, before := w.reads, w.applied
	w.mu.Unlock()
	news := !maps.Equal(w.versions(before), w.versions(given))
	if news {
		if err := w.rewrite(ctx, given); err != nil {
			return err
		}
	}
	for _, r := range w.runners {
		w.mu.Lock()
		id, knows := r.running, r.knows
		w.mu.Unlock()
		if id == "" || r.init || !r.mounts(w.changed(knows, given)) {
			continue
		}
		signal := cmp.Or(r.c.ReloadSignal, "SIGHUP")
		if err := w.a.cfg.Runtime.Signal(ctx, id, signal); err != nil {
			return fmt.Errorf("container %s cannot be sent %s: %w", r.c.Name, signal, err)
		}
		w.mu.Lock()
		r.learn(given)
		w.mu.Unlock()
		news = true
		w.log.Info("new content", "container", r.c.Name, "signal", signal)
	}
	if news {
		w.mu.Lock()
		w.applied = given
		w.mu.Unlock()
		w.a.touch()
	}
	return nil
}

// rewrite puts the files of these versions into the pod's volumes.
func (w *worker) rewrite(ctx context.Context, given map[string]string) error {
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
	fixed := map[string][]string{}
	for _, r := range w.runners {
		for _, m := range r.c.Mounts {
			if m.File != "" {
				fixed[m.Volume] = append(fixed[m.Volume], m.File)
			}
		}
	}
	return w.a.cfg.Volumes.Replace(w.id, w.pod.Spec.Pod.Volumes, files, fixed)
}
