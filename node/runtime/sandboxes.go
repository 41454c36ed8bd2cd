package runtime

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/berthdev/berth/node/runtime/container"
)

// Sandboxes keeps the namespaces of a node's pods, pinned below one directory by
// the pod's id.
type Sandboxes struct{ Dir string }

// Create makes and pins the namespaces of a pod; those there are kept.
func (s Sandboxes) Create(pod, hostname string, shares bool) (container.Namespaces, error) {
	return CreateNamespaces(filepath.Join(s.Dir, pod), hostname, shares)
}

// Remove unpins them. Removing what is not there succeeds.
func (s Sandboxes) Remove(pod string) error { return RemoveNamespaces(filepath.Join(s.Dir, pod)) }

// Pods lists who has namespaces, in order.
func (s Sandboxes) Pods() ([]string, error) {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out, err
}
