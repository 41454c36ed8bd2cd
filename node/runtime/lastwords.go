package runtime

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/ttrpc"
)

// Since 1.7 a containerd that starts throws away every task whose process has ended
// by then, and with it the exit code: a job that did its work while containerd was
// restarted, with its agent perhaps, would count as failed. The shims know the code
// until containerd asks them to forget it. So they are asked first, and are listened
// to until containerd listens again; what they say goes into the record.

const (
	shimAnswer = 2 * time.Second  // for a shim to say how a container is
	shimListen = 30 * time.Second // by then containerd is back, or others ask again
	shimBundle = "io.containerd.runtime.v2.task"
)

// lastWords listens to shims. Its zero value listens to none.
type lastWords struct {
	mu      sync.Mutex
	bundles string          // directory of our containers' bundles; empty: not known yet
	busy    map[string]bool // by container
}

// begin is true for one who may listen to a container's shim, with what to call
// afterwards.
func (l *lastWords) begin(id string) (bundle string, end func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bundles == "" || l.busy[id] {
		return "", nil, false
	}
	if l.busy == nil {
		l.busy = map[string]bool{}
	}
	l.busy[id] = true
	return filepath.Join(l.bundles, id), func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.busy, id)
	}, true
}

// findBundles learns from a running container where containerd keeps bundles: its
// parent, the shim, works in one of them. Of a private one it is known.
func (r *Runtime) findBundles(pid int) {
	l := &r.words
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bundles != "" {
		return
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	if f := strings.Fields(rest); len(f) > 1 {
		dir, err := os.Readlink(filepath.Join("/proc", f[1], "cwd"))
		if parent := filepath.Dir(dir); err == nil && parent != dir && filepath.Base(parent) == r.cfg.Namespace &&
			filepath.Base(filepath.Dir(parent)) == shimBundle {
			l.bundles = parent
		}
	}
}

// listenAll asks the shims of all containers that are not known to have ended, and
// returns when each has answered. Then it listens on.
func (r *Runtime) listenAll() {
	r.words.mu.Lock()
	dir := r.words.bundles
	r.words.mu.Unlock()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // nothing runs
	}
	var asked sync.WaitGroup
	for _, e := range entries {
		asked.Go(func() { r.listen(e.Name()) })
	}
	asked.Wait()
}

// listen asks the shim of one container, and listens on if that runs.
func (r *Runtime) listen(id string) {
	if rec, ok := r.records.load(id); !ok || rec.Exited {
		return
	}
	bundle, end, ok := r.words.begin(id)
	if !ok {
		return
	}
	shim, err := dialShim(bundle)
	if err != nil {
		end()
		return // it is gone, and what it knew
	}
	ctx, cancel := context.WithTimeout(r.ns(r.ctx), shimListen)
	done := func() { cancel(); shim.Close(); end() }
	ask, stop := context.WithTimeout(ctx, shimAnswer)
	defer stop()
	var state taskapi.StateResponse
	if err := shim.call(ask, "State", &taskapi.StateRequest{ID: id}, &state); err != nil || state.Status == task.Status_STOPPED {
		if err == nil {
			r.heard(id, int(state.ExitStatus), state.ExitedAt.AsTime())
		}
		done()
		return
	}
	r.work.Go(func() {
		defer done()
		var end taskapi.WaitResponse
		if err := shim.call(ctx, "Wait", &taskapi.WaitRequest{ID: id}, &end); err == nil {
			r.heard(id, int(end.ExitStatus), end.ExitedAt.AsTime())
		}
	})
}

// heard records an end.
func (r *Runtime) heard(id string, code int, at time.Time) {
	rec, ok := r.records.load(id)
	if !ok || rec.Exited {
		return
	}
	rec.Exited, rec.ExitCode, rec.Finished = true, code, at
	rec.OOM = code != 0 && r.cgroups.oomKills(id) > 0
	if err := r.records.save(id, rec); err != nil {
		r.log.Error("end of container not recorded", "container", id, "error", err)
	}
}

// lost is the end of a container whose task is gone: as its shim has told it, or
// else unknown.
func (r *Runtime) lost(m *monitor, announce bool) {
	if rec, ok := r.records.load(m.id); ok && rec.Exited {
		r.end(m, rec.ExitCode, rec.Finished, announce)
		return
	}
	r.end(m, -1, time.Now(), announce)
}

// shim is a connection to one.
type shim struct {
	*ttrpc.Client
	service string
}

func (s *shim) call(ctx context.Context, method string, ask, answer any) error {
	return s.Call(ctx, s.service, method, ask, answer)
}

// dialShim reaches the shim of a bundle. The two versions of its protocol differ in
// the service's name alone, as far as we go.
func dialShim(bundle string) (*shim, error) {
	said := shimAddress(bundle)
	path, ok := strings.CutPrefix(said.Address, "unix://")
	if !ok || said.Protocol != "ttrpc" {
		return nil, fmt.Errorf("no shim to speak to in %s", bundle)
	}
	conn, err := net.DialTimeout("unix", path, shimAnswer)
	if err != nil {
		return nil, err
	}
	return &shim{Client: ttrpc.NewClient(conn), service: fmt.Sprintf("containerd.task.v%d.Task", said.Version)}, nil
}

// shimSaid is what a shim has said when it started.
type shimSaid struct {
	Version  int    `json:"version"`
	Address  string `json:"address"`
	Protocol string `json:"protocol"`
}

// shimAddress reads it from a bundle. Before containerd 2.0 the address was in a
// file of its own.
func shimAddress(bundle string) (s shimSaid) {
	if b, err := os.ReadFile(filepath.Join(bundle, "bootstrap.json")); err == nil && json.Unmarshal(b, &s) == nil {
		return s
	}
	b, _ := os.ReadFile(filepath.Join(bundle, "address"))
	return shimSaid{Version: 2, Address: strings.TrimSpace(string(b)), Protocol: "ttrpc"}
}
