package hcl

import (
	"path/filepath"

	"github.com/berthdev/berth/cluster/object"
)

// Identify reads only which stack a directory is, and its default namespace:
// commands that look at a cluster need no more of the configuration in the
// working directory, and it need not be valid. It is false for a directory
// without one.
func Identify(dir string) (stack, namespace string, ok bool) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", "", false
	}
	r := newRun(dir, Options{})
	r.stack, r.namespace = filepath.Base(abs), object.DefaultNamespace
	bodies := r.read()
	for i := range bodies {
		r.collect(&bodies[i])
	}
	r.berth()
	return r.stack, r.namespace, len(bodies) > 0
}
