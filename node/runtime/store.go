package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/berthdev/berth/node/runtime/container"
)

// Labels of containers in containerd: how they are found again.
const (
	labelNamespace = "berth.dev/pod-namespace"
	labelPod       = "berth.dev/pod"
	labelCreated   = "berth.dev/pod-created"
	labelName      = "berth.dev/container"
	labelAttempt   = "berth.dev/attempt"
	labelImage     = "berth.dev/image"
	labelSignal    = "berth.dev/stop-signal"
	labelNode      = "berth.dev/node" // control group parent: nodes may share a containerd
)

func (r *Runtime) labels(s container.Spec, image, signal string) map[string]string {
	return map[string]string{
		labelNamespace: s.Pod.Namespace, labelPod: s.Pod.Name, labelCreated: strconv.FormatUint(s.Pod.Created, 10),
		labelName: s.Name, labelAttempt: strconv.Itoa(s.Attempt), labelImage: image, labelSignal: signal,
		labelNode: r.cgroups.parent,
	}
}

// statusOf reads the labels back; false if the container is not ours.
func (r *Runtime) statusOf(id string, l map[string]string) (container.Status, bool) {
	created, err1 := strconv.ParseUint(l[labelCreated], 10, 64)
	attempt, err2 := strconv.Atoi(l[labelAttempt])
	return container.Status{
		ID:  id,
		Pod: container.Pod{Namespace: l[labelNamespace], Name: l[labelPod], Created: created}, Name: l[labelName],
		Attempt: attempt, Image: l[labelImage], State: container.Created,
	}, err1 == nil && err2 == nil && l[labelNode] == r.cgroups.parent
}

func podHash(p container.Pod) string {
	return shortHash(p.Namespace, p.Name, strconv.FormatUint(p.Created, 10))
}

// containerID is the same for the same pod, container and attempt, so that a
// start that is repeated after a crash finds what the first one left.
func (r *Runtime) containerID(s container.Spec) string {
	return fmt.Sprintf("%s-%d-%s", s.Name[:min(len(s.Name), 40)], s.Attempt,
		shortHash(r.cgroups.parent, podHash(s.Pod), s.Name, strconv.Itoa(s.Attempt)))
}

// record is what containerd does not remember of a container once it has ended.
type record struct {
	PID      int       `json:"pid"`
	Digest   string    `json:"digest"`
	Started  time.Time `json:"started"`
	Direct   bool      `json:"direct,omitempty"` // started without the shim, which calls it created
	Exited   bool      `json:"exited,omitempty"`
	Finished time.Time `json:"finished,omitzero"`
	ExitCode int       `json:"exit_code,omitempty"`
	OOM      bool      `json:"oom,omitempty"`
}

// records keeps one file for each container. They need not survive a loss of
// power, for then the containers have not either; a missing record means that
// nobody saw the end.
type records struct{ dir string }

func (s records) file(id string) string { return filepath.Join(s.dir, id+".json") }

func (s records) load(id string) (record, bool) {
	var r record
	b, err := os.ReadFile(s.file(id))
	return r, err == nil && json.Unmarshal(b, &r) == nil
}

func (s records) save(id string, r record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	temp := s.file(id) + ".new"
	if err := os.WriteFile(temp, b, 0o600); err != nil {
		return fmt.Errorf("record of container %s: %w", id, err)
	}
	return os.Rename(temp, s.file(id))
}

// all are the ids of those with a record.
func (s records) all() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), ".json"); ok {
			out = append(out, id)
		}
	}
	return out, err
}

func (s records) remove(id string) error {
	if err := os.Remove(s.file(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
