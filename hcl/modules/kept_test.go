package modules

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berthdev/berth/hcl"
)

// TestKept: what is pinned and not on this machine is refused with the cure, and git
// is not asked.
func TestKept(t *testing.T) {
	dir := t.TempDir()
	source := "git::file://" + filepath.ToSlash(dir) + "/nowhere?ref=v1"
	lock := hcl.FormatLock([]hcl.Locked{{Source: source, Ref: "v1", Commit: strings.Repeat("a", 40), Hash: "h1:" + strings.Repeat("A", 43) + "="}})
	if err := os.WriteFile(filepath.Join(dir, hcl.LockFile), lock, 0o644); err != nil {
		t.Fatal(err)
	}
	s := New(t.Context(), dir, Kept)
	s.Told = func(source string) { t.Errorf("%s is fetched", source) }
	if _, err := s.Find(source); err == nil || !strings.Contains(err.Error(), "is not on this machine") {
		t.Errorf("the error: %v", err)
	}
}
