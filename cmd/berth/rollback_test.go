package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// TestRealRollback: on real nodes, a release whose new pods cannot run is put back
// by a person, and the containers that served all along are the same ones. The
// images were imported, so the nodes know what their tags stand for.
func TestRealRollback(t *testing.T) {
	c := startReal(t, "bsaved", "10.233.61.0/24", "10.237.0.0/16", "--masters", "1", "--nodes", "2")
	c.image("1", "")
	c.image("2", "-X main.broken=yes")
	first := filepath.Join(filepath.Dir(c.dir), "first.plan")
	out := c.must(0, "-C", c.shop, "plan", "--out", first)
	if !strings.Contains(out.stdout, "Images pinned: shop/web:1 @ sha256:") {
		t.Errorf("the nodes do not tell the image's digest:\n%s", out.stdout)
	}
	c.must(0, "apply", first)
	before := containers(append(c.pods("web"), c.pods("stock")...))
	if len(before) == 0 {
		t.Fatal("nothing runs")
	}
	c.must(exitFailed, "-C", c.shop, "apply", "--auto-approve", "--on-failure", "pause", "--var", "release=2")
	out = c.must(0, "-C", c.shop, "plan", "rollback", "1")
	if !strings.Contains(out.stdout, "0 to start") {
		t.Errorf("the way back starts pods:\n%s", out.stdout)
	}
	c.must(0, "-C", c.shop, "rollback", "1", "--auto-approve")
	if after := containers(append(c.pods("web"), c.pods("stock")...)); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("healthy containers were touched:\nbefore %v\nafter  %v", before, after)
	}
	out = c.must(0, "-C", c.shop, "show", "revision", "1")
	if !strings.Contains(out.stdout, "shop/web:1 @ sha256:") {
		t.Errorf("the revision does not have the digest:\n%s", out.stdout)
	}
	c.must(0, "-C", c.shop, "plan", "--detailed-exitcode")
}
