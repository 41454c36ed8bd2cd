package runtime

import (
	"errors"
	"strings"
	"testing"

	"github.com/berthdev/berth/node/runtime/container"
)

func TestParseRelease(t *testing.T) {
	for version, want := range map[string]string{
		"1.6.20~ds1": "1.6", "v2.1.4": "2.1", "1.7.35+unknown": "1.7", "2.0.0-rc.1": "2.0", "v10.12.1": "10.12", "1.7": "1.7", " v1.5.18\n": "1.5",
	} {
		if got, ok := parseRelease(version); !ok || got.String() != want {
			t.Errorf("%q is of %s (%v), want %s", version, got, ok, want)
		}
	}
	for _, version := range []string{"", "unknown", "v2", "2.", "main.1", "a.b"} {
		if got, ok := parseRelease(version); ok {
			t.Errorf("%q is of %s, want nothing", version, got)
		}
	}
	for _, test := range []struct {
		a, b   release
		before bool
	}{
		{release{1, 5}, release{1, 6}, true}, {release{1, 6}, release{1, 6}, false}, {release{2, 0}, release{1, 6}, false},
		{release{0, 9}, release{1, 6}, true}, {release{1, 10}, release{1, 6}, false},
	} {
		if test.a.before(test.b) != test.before {
			t.Errorf("%s before %s: %v", test.a, test.b, !test.before)
		}
	}
}

func TestOldContainerd(t *testing.T) {
	for version, old := range map[string]bool{"1.4.13~ds1": true, "v1.5.18": true, "1.6.20~ds1": false, "v2.4.2": false, "v3.0.0": false, "my own": false} {
		err := newEnough(version, "/usr/bin/containerd")
		var u *container.UnavailableError
		if (err != nil) != old || old && (!errors.As(err, &u) || u.Hint == "" || !strings.Contains(err.Error(), version) || !strings.Contains(err.Error(), "1.6")) {
			t.Errorf("%s: %v", version, err)
		}
	}
}

func TestPickSnapshotter(t *testing.T) {
	for _, test := range []struct{ wanted, there, want, err string }{
		{"", "native overlayfs btrfs", "overlayfs", ""},
		{"", "btrfs native", "native", ""},
		{"btrfs", "btrfs native", "btrfs", ""},
		{"", "zfs btrfs", "", "no snapshotter overlayfs or native; it has btrfs, zfs"},
		{"zfs", "", "", "no snapshotter zfs; it has none"},
	} {
		got, err := pickSnapshotter(test.wanted, strings.Fields(test.there))
		if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%q of %q: %q, %v", test.wanted, test.there, got, err)
		}
	}
}

// TestPluginsOfAPrivateContainerd: whatever its release, it loads what is of use
// here, without a fault, and nothing that works on its own account.
func TestPluginsOfAPrivateContainerd(t *testing.T) {
	r := open(t, testConfig(t))
	defer r.Close()
	list, err := r.client.IntrospectionService().Plugins(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, p := range list.Plugins {
		if p.InitErr != nil && !strings.Contains(p.InitErr.Message, "skip plugin") {
			t.Errorf("%s.%s: %s", p.Type, p.ID, p.InitErr.Message)
		}
		there[p.ID] = there[p.ID] || p.InitErr == nil
	}
	for _, id := range []string{"cri", "podsandbox", "restart", "nri", "cgroups", "opt", "devmapper"} {
		if there[id] {
			t.Errorf("%s is loaded", id)
		}
	}
	if !there[r.snapshotter] {
		t.Errorf("%s is not loaded", r.snapshotter)
	}
}
