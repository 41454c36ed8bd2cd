package runtime

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/berthdev/berth/node/runtime/container"
)

// oldestContainerd is the oldest release line that the whole test suite was seen
// to pass with; docs/operations.md names them all.
var oldestContainerd = release{1, 6}

// release is a line of containerd's releases, such as 1.7.
type release struct{ major, minor int }

func (r release) before(o release) bool {
	return r.major < o.major || r.major == o.major && r.minor < o.minor
}

func (r release) String() string { return fmt.Sprintf("%d.%d", r.major, r.minor) }

// parseRelease reads what containerd calls itself: "v2.1.4", "1.6.20~ds1",
// "1.7.35+unknown"; false for a build that gives no number.
func parseRelease(version string) (release, bool) {
	major, rest, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(version), "v"), ".")
	if !ok {
		return release{}, false
	}
	minor := rest
	if i := strings.IndexFunc(rest, func(c rune) bool { return c < '0' || c > '9' }); i >= 0 {
		minor = rest[:i]
	}
	a, err1 := strconv.Atoi(major)
	b, err2 := strconv.Atoi(minor)
	return release{a, b}, err1 == nil && err2 == nil
}

// checkVersion refuses a containerd that is too old.
func (r *Runtime) checkVersion(ctx context.Context) error {
	v, err := r.client.Version(ctx)
	if err != nil {
		return r.unavailable(err)
	}
	where := "at " + r.cfg.address()
	if r.daemon != nil {
		where = r.daemon.path
	}
	if err := newEnough(v.Version, where); err != nil {
		return err
	}
	r.log.Info("containerd", "version", v.Version, "where", where)
	return nil
}

// newEnough trusts one without a number, which is somebody's own build.
func newEnough(version, where string) error {
	if line, ok := parseRelease(version); !ok || !line.before(oldestContainerd) {
		return nil
	}
	return &container.UnavailableError{
		Message: fmt.Sprintf("containerd %s (%s) is too old: this node needs %s or newer", version, where, oldestContainerd),
		Hint:    "upgrade it, for example with: apt-get install containerd",
	}
}
