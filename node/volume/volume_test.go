package volume

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berthdev/berth/cluster/object"
)

func open(t *testing.T) *Volumes {
	t.Helper()
	v, err := Open(filepath.Join(t.TempDir(), "volumes"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Purge(); err != nil {
			t.Error(err)
		}
		if m, _ := mountsBelow(v.root); len(m) > 0 {
			t.Errorf("left mounted: %v", m)
		}
	})
	return v
}

// A key may have any name that a file can have, even one that looks like ours.
func TestKeyLikeAFileUnderWay(t *testing.T) {
	v := open(t)
	files := map[string]string{"..new": "1", "a": "2", "z..new": "3"}
	paths, err := v.Prepare("p", []object.Volume{{Name: "c", ConfigMap: "x"}}, map[string]map[string]string{"c": files})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		if b, err := os.ReadFile(filepath.Join(paths["c"], name)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}

func TestConfigMap(t *testing.T) {
	v := open(t)
	vols := []object.Volume{{Name: "config", ConfigMap: "web"}}
	paths, err := v.Prepare("p1", vols, map[string]map[string]string{"config": {"app.toml": "a = 1", "other": ""}})
	if err != nil {
		t.Fatal(err)
	}
	check := func(name, want string) {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(paths["config"], name))
		if err != nil || string(b) != want {
			t.Errorf("%s: %q, %v; want %q", name, b, err, want)
		}
	}
	check("app.toml", "a = 1")
	check("other", "")
	if i, _ := os.Stat(filepath.Join(paths["config"], "app.toml")); i.Mode().Perm() != 0o444 {
		t.Errorf("mode %s", i.Mode())
	}
	if _, err := v.Prepare("p1", vols, map[string]map[string]string{"config": {"app.toml": "a = 2"}}); err != nil {
		t.Fatal(err)
	}
	check("app.toml", "a = 2")
	if _, err := os.Stat(filepath.Join(paths["config"], "other")); err == nil {
		t.Error("a key that is gone left its file")
	}
	if got, ok := v.Paths("p1", vols); !ok || got["config"] != paths["config"] {
		t.Errorf("Paths = %v, %v", got, ok)
	}
	if pods, _ := v.Pods(); len(pods) != 1 || pods[0] != "p1" {
		t.Errorf("Pods = %v", pods)
	}
	if err := v.Remove("p1"); err != nil {
		t.Fatal(err)
	}
	if _, ok := v.Paths("p1", vols); ok {
		t.Error("still there after Remove")
	}
	if err := v.Remove("p1"); err != nil {
		t.Error("second Remove:", err)
	}
}

func TestMistakes(t *testing.T) {
	v := open(t)
	tests := []struct {
		name  string
		vol   object.Volume
		files map[string]string
		want  string
	}{
		{"missing host path", object.Volume{Name: "h", HostPath: "/nowhere/at/all"}, nil, "volume h: host_path /nowhere/at/all does not exist on this node"},
		{"relative host path", object.Volume{Name: "h", HostPath: "data"}, nil, "is not absolute"},
		{"no source", object.Volume{Name: "h"}, nil, "none of config_map"},
		{"slash in a key", object.Volume{Name: "c", ConfigMap: "c"}, map[string]string{"../x": ""}, `key "../x" cannot be a file name`},
		{"slash in the name", object.Volume{Name: "../c", ConfigMap: "c"}, nil, "cannot be the name of a directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := v.Prepare("p", []object.Volume{tt.vol}, map[string]map[string]string{tt.vol.Name: tt.files})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if !object.IsCode(err, object.CodeInvalid) {
				t.Errorf("code %s", object.CodeOf(err))
			}
		})
	}
}

func TestMemory(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	v := open(t)
	vols := []object.Volume{
		{Name: "s", Secret: "db"},
		{Name: "m", EmptyDir: &object.EmptyDir{Memory: true, Size: 1 << 20}},
		{Name: "d", EmptyDir: &object.EmptyDir{}},
		{Name: "h", HostPath: "/etc"},
	}
	files := map[string]map[string]string{"s": {"password": "hunter2"}}
	paths, err := v.Prepare("p", vols, files)
	if err != nil {
		t.Fatal(err)
	}
	if !isMount(paths["s"]) || !isMount(paths["m"]) || isMount(paths["d"]) {
		t.Error("secrets and memory volumes are mounts of their own, others are not")
	}
	if paths["h"] != "/etc" {
		t.Errorf("host path %s", paths["h"])
	}
	if i, err := os.Stat(paths["d"]); err != nil || i.Mode().Perm() != 0o777 || i.Mode()&fs.ModeSticky == 0 {
		t.Errorf("empty_dir: %v %v", i.Mode(), err)
	}
	if err := os.WriteFile(filepath.Join(paths["m"], "big"), make([]byte, 2<<20), 0o600); err == nil {
		t.Error("2 MiB fit into 1 MiB")
	}
	// A second Prepare neither mounts again nor empties.
	if _, err := v.Prepare("p", vols, files); err != nil {
		t.Fatal(err)
	}
	if m, _ := mountsBelow(filepath.Join(v.root, "p")); len(m) != 2 {
		t.Errorf("mounts %v", m)
	}
	if _, err := os.Stat(filepath.Join(paths["m"], "big")); err != nil {
		t.Error("emptied:", err)
	}
	// After a reboot the directories are there and their contents are not.
	if err := unmountBelow(filepath.Join(v.root, "p")); err != nil {
		t.Fatal(err)
	}
	if _, ok := v.Paths("p", vols); ok {
		t.Error("Paths says that lost memory is there")
	}
}

func TestReplaceKeepsFilesThatAreMountedOneByOne(t *testing.T) {
	v := open(t)
	vols := []object.Volume{{Name: "config", ConfigMap: "web"}, {Name: "scratch", EmptyDir: &object.EmptyDir{}}}
	paths, err := v.Prepare("p1", vols, map[string]map[string]string{"config": {"a": "long before", "b": "1", "gone": "x"}})
	if err != nil {
		t.Fatal(err)
	}
	held := map[string]*os.File{}
	for _, name := range []string{"a", "b"} {
		f, err := os.Open(filepath.Join(paths["config"], name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		held[name] = f
	}
	if err := v.Replace("p1", vols, map[string]map[string]string{"config": {"a": "now", "b": "2"}}, map[string][]string{"config": {"a"}}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct{ file, held string }{"a": {"now", "now"}, "b": {"2", "1"}} {
		b, err := os.ReadFile(filepath.Join(paths["config"], name))
		if err != nil || string(b) != want.file {
			t.Errorf("%s: %q, %v; want %q", name, b, err, want.file)
		}
		old := make([]byte, 32)
		n, _ := held[name].ReadAt(old, 0)
		if string(old[:n]) != want.held {
			t.Errorf("%s, as it was opened: %q, want %q", name, old[:n], want.held)
		}
	}
	if _, err := os.Stat(filepath.Join(paths["config"], "gone")); err == nil {
		t.Error("a key that is gone left its file")
	}
}
