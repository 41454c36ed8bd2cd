package network

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestAFileIsReplacedWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	inodes := map[uint64]bool{}
	for _, text := range []string{"first", strings.Repeat("long", 5000), "short", "", "last"} {
		if err := replace(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != text {
			t.Fatalf("%d bytes, %v; want the %d of %.9q", len(b), err, len(text), text)
		}
		s, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if s.Mode().Perm() != 0o600 {
			t.Errorf("others may read it: %s", s.Mode())
		}
		inodes[s.Sys().(*syscall.Stat_t).Ino] = true
	}
	if len(inodes) > 2 {
		t.Errorf("%d inodes for one file; two are to change places", len(inodes))
	}

	// What a crash left half written is not in the way.
	if err := os.WriteFile(spare(path), []byte("half of something that is longer"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := replace(path, []byte("whole")); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != "whole" {
		t.Errorf("%q", b)
	}
	if err := replace(filepath.Join(path, "y"), nil); err == nil {
		t.Error("wrote a file into a file")
	}
}
