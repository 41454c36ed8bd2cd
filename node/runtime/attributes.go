package runtime

import (
	"context"
	"time"
)

// Attributes say what the node runs containers with, for constraints and for
// people: containerd's version and the OCI runtime. A containerd that does not
// answer just now has none.
func (r *Runtime) Attributes() map[string]string {
	out := map[string]string{"runtime": r.cfg.RuntimeBinary}
	ctx, cancel := context.WithTimeout(r.ctx, 2*time.Second)
	defer cancel()
	if v, err := r.client.Version(ctx); err == nil {
		out["containerd"] = v.Version
	}
	return out
}
