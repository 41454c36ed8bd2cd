package volume

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/cluster/object"
)

// Volumes keeps the volumes of a node's pods. Its methods may be called at once
// for different pods.
type Volumes struct{ root string }

// Open uses root (made if missing) for volumes. Only the owner can look into
// it: what containers may read inside is protected from the host's other users
// by this directory's mode, not by the modes of the files.
func Open(root string) (*Volumes, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("directory for volumes: %w", err)
	}
	if err := os.Chmod(root, 0o700); err != nil {
		return nil, fmt.Errorf("directory for volumes: %w", err)
	}
	return &Volumes{root: root}, nil
}

// secretLimit bounds the memory of one secret volume.
const secretLimit = 16 << 20

// Prepare makes the volumes of a pod and returns the host path of each by name.
// files has, by volume name, the contents of config map and secret volumes. It
// may be repeated: empty directories keep what is in them, files are written
// anew. Errors of the kind CodeInvalid can only be mended by changing the pod or
// the host (a missing host path, an impossible file name).
func (v *Volumes) Prepare(pod string, volumes []object.Volume, files map[string]map[string]string) (map[string]string, error) {
	paths := make(map[string]string, len(volumes))
	for _, vol := range volumes {
		path, err := v.prepare(pod, &vol, files[vol.Name])
		if err != nil {
			var e *object.Error
			if errors.As(err, &e) {
				return nil, object.Errorf(e.Code, object.Ref{}, "volume %s: %w", vol.Name, err)
			}
			return nil, fmt.Errorf("volume %s: %w", vol.Name, err)
		}
		paths[vol.Name] = path
	}
	return paths, nil
}

func (v *Volumes) prepare(pod string, vol *object.Volume, files map[string]string) (string, error) {
	dir, err := v.dir(pod, vol.Name)
	if err != nil {
		return "", err
	}
	if vol.HostPath != "" {
		return hostPath(vol.HostPath)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	switch {
	case vol.Secret != "":
		if err := tmpfs(dir, secretLimit, "0755"); err != nil {
			return "", err
		}
		return dir, writeFiles(dir, files)
	case vol.ConfigMap != "":
		return dir, writeFiles(dir, files)
	case vol.EmptyDir != nil && vol.EmptyDir.Memory:
		return dir, tmpfs(dir, int64(vol.EmptyDir.Size), "1777")
	case vol.EmptyDir != nil:
		return dir, os.Chmod(dir, 0o777|fs.ModeSticky) // any user of the pod's images may write there
	}
	return "", object.Errorf(object.CodeInvalid, object.Ref{}, "it has none of config_map, secret, empty_dir, host_path")
}

// Replace puts new contents into the config map and secret volumes of a running
// pod. A file is renamed over the one before, so that whoever reads it sees the
// whole of one or the other; those in fixed, by volume, are mounted one by one and
// are written in place, for such a mount holds on to the file that it was made of.
func (v *Volumes) Replace(pod string, volumes []object.Volume, files map[string]map[string]string, fixed map[string][]string) error {
	for _, vol := range volumes {
		if vol.ConfigMap == "" && vol.Secret == "" {
			continue
		}
		dir, err := v.dir(pod, vol.Name)
		if err == nil {
			err = writeInPlace(dir, files[vol.Name], fixed[vol.Name])
		}
		if err == nil {
			err = writeFiles(dir, files[vol.Name])
		}
		if err != nil {
			return fmt.Errorf("volume %s: %w", vol.Name, err)
		}
	}
	return nil
}

// writeInPlace gives the files another content, but no other file.
func writeInPlace(dir string, files map[string]string, names []string) error {
	for _, name := range names {
		path := filepath.Join(dir, name)
		text, wanted := files[name]
		if b, err := os.ReadFile(path); !wanted || err != nil || string(b) == text {
			continue
		}
		if err := os.WriteFile(path, []byte(text), 0o444); err != nil {
			return err
		}
	}
	return nil
}

// dir is a volume's own directory.
func (v *Volumes) dir(pod, volume string) (string, error) {
	for _, s := range []string{pod, volume} {
		if s == "" || s == "." || s == ".." || strings.ContainsAny(s, "/\x00") {
			return "", object.Errorf(object.CodeInvalid, object.Ref{}, "%q cannot be the name of a directory", s)
		}
	}
	return filepath.Join(v.root, pod, volume), nil
}

func hostPath(path string) (string, error) {
	if !filepath.IsAbs(path) {
		return "", object.Errorf(object.CodeInvalid, object.Ref{}, "host_path %q is not absolute", path)
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "", object.Errorf(object.CodeInvalid, object.Ref{}, "host_path %s does not exist on this node; create it, or use an empty_dir", path)
	} else if err != nil {
		return "", object.Errorf(object.CodeInvalid, object.Ref{}, "host_path: %w", err)
	}
	return path, nil
}

// Paths is what Prepare returned for the pod, if all of it is still there (a
// reboot empties memory).
func (v *Volumes) Paths(pod string, volumes []object.Volume) (map[string]string, bool) {
	paths := make(map[string]string, len(volumes))
	for _, vol := range volumes {
		path := vol.HostPath
		if path == "" {
			var err error
			if path, err = v.dir(pod, vol.Name); err != nil {
				return nil, false
			}
		}
		if _, err := os.Stat(path); err != nil {
			return nil, false
		}
		if (vol.Secret != "" || (vol.EmptyDir != nil && vol.EmptyDir.Memory)) && !isMount(path) {
			return nil, false
		}
		paths[vol.Name] = path
	}
	return paths, true
}

// underWay is a file that is being written. No key has a tilde.
const underWay = ".~"

// writeFiles makes dir hold exactly these files. They are readable by every user
// of the containers (see Open) and written by none.
func writeFiles(dir string, files map[string]string) error {
	for name := range files {
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") || len(name) > 255 {
			return object.Errorf(object.CodeInvalid, object.Ref{}, "key %q cannot be a file name", name)
		}
	}
	have, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range have {
		if _, ok := files[e.Name()]; !ok {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, name)
		if b, err := os.ReadFile(path); err == nil && string(b) == files[name] {
			continue
		}
		tmp := filepath.Join(dir, underWay)
		if err := os.WriteFile(tmp, []byte(files[name]), 0o444); err != nil {
			return err
		}
		if err := os.Chmod(tmp, 0o444); err != nil { // whatever the umask is
			return err
		}
		if err := os.Rename(tmp, path); err != nil {
			return err
		}
	}
	return nil
}

// tmpfs mounts memory at dir unless something is mounted there.
func tmpfs(dir string, size int64, mode string) error {
	if isMount(dir) {
		return nil
	}
	options := "mode=" + mode
	if size > 0 {
		options += ",size=" + strconv.FormatInt(size, 10)
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV)
	// noswap keeps secrets off the disk; kernels before 6.4 do not know it.
	err := unix.Mount("tmpfs", dir, "tmpfs", flags, options+",noswap")
	if errors.Is(err, unix.EINVAL) {
		err = unix.Mount("tmpfs", dir, "tmpfs", flags, options)
	}
	if err != nil {
		return fmt.Errorf("mounting tmpfs: %w", err)
	}
	return nil
}

// isMount reports whether path is on another file system than its parent.
func isMount(path string) bool {
	var a, b unix.Stat_t
	return unix.Lstat(path, &a) == nil && unix.Lstat(filepath.Dir(path), &b) == nil && a.Dev != b.Dev
}

// Remove unmounts and deletes the volumes of a pod; nothing to remove is no error.
func (v *Volumes) Remove(pod string) error {
	dir, err := v.dir(pod, "x")
	if err != nil {
		return err
	}
	dir = filepath.Dir(dir)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := unmountBelow(dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// unmountBelow unmounts all that is mounted at or below dir, the deepest first.
// A mount that is in use is detached: it goes with its last user.
func unmountBelow(dir string) error {
	mounts, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	slices.SortFunc(mounts, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	for _, m := range mounts {
		if err := unix.Unmount(m, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmounting %s: %w", m, err)
		}
	}
	return nil
}

var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

func mountsBelow(dir string) ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []string
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		fields := strings.Fields(s.Text())
		if len(fields) < 5 {
			continue
		}
		if m := unescape.Replace(fields[4]); m == dir || strings.HasPrefix(m, dir+"/") {
			out = append(out, m)
		}
	}
	return out, s.Err()
}

// Pods lists the pods that have volumes here, in order.
func (v *Volumes) Pods() ([]string, error) {
	entries, err := os.ReadDir(v.root)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out, nil
}

// Purge removes the volumes of every pod and the directory itself.
func (v *Volumes) Purge() error {
	if err := unmountBelow(v.root); err != nil {
		return err
	}
	return os.RemoveAll(v.root)
}
