package runtime

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berthdev/berth/node/runtime/container"
	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// cgroups reads, and at the end removes, the control groups that the OCI runtime
// makes: /berth-<node>/<container>, on version 1 (a hierarchy for each
// controller, perhaps with an empty version 2 beside it) and on version 2.
type cgroups struct {
	unified bool
	parent  string // below each hierarchy
}

// cgroupParent tells nodes on one machine apart.
func (c Config) cgroupParent() string {
	return fmt.Sprintf("/berth-%x", sha256.Sum256([]byte(c.State)))[:len("/berth-")+10]
}

func detectCgroups(parent string) cgroups {
	var s unix.Statfs_t
	err := unix.Statfs(cgroupRoot, &s)
	return cgroups{unified: err == nil && s.Type == unix.CGROUP2_SUPER_MAGIC, parent: parent}
}

// path is what goes into the OCI spec.
func (c cgroups) path(id string) string { return c.parent + "/" + id }

// file is a control file of a container; controller only matters on version 1.
func (c cgroups) file(controller, id, name string) string {
	if c.unified {
		return filepath.Join(cgroupRoot, c.parent, id, name)
	}
	return filepath.Join(cgroupRoot, controller, c.parent, id, name)
}

// oomKills counts processes of the container that the kernel killed for memory.
func (c cgroups) oomKills(id string) int64 {
	name := "memory.oom_control"
	if c.unified {
		name = "memory.events"
	}
	n, _ := field(c.file("memory", id, name), "oom_kill")
	return n
}

func (c cgroups) stats(id string) (s container.Stats, err error) {
	if s.CPU, err = c.cpu(id); err != nil {
		return s, err
	}
	var cache int64
	if c.unified {
		s.Memory, err = number(c.file("", id, "memory.current"))
		cache, _ = field(c.file("", id, "memory.stat"), "inactive_file")
	} else {
		s.Memory, err = number(c.file("memory", id, "memory.usage_in_bytes"))
		cache, _ = field(c.file("memory", id, "memory.stat"), "total_inactive_file")
	}
	s.Memory = max(0, s.Memory-cache)
	s.PIDs, _ = number(c.file("pids", id, "pids.current"))
	s.OOMs = c.oomKills(id)
	return s, err
}

// cpu is the processor time that a container used.
func (c cgroups) cpu(id string) (time.Duration, error) {
	if c.unified {
		n, err := field(c.file("", id, "cpu.stat"), "usage_usec")
		return time.Duration(n) * time.Microsecond, err
	}
	n, err := number(c.file("cpuacct", id, "cpuacct.usage"))
	return time.Duration(n), err
}

// hierarchies are the mount points that may hold our groups.
func (c cgroups) hierarchies() []string {
	if c.unified {
		return []string{cgroupRoot}
	}
	entries, _ := os.ReadDir(cgroupRoot)
	var out []string
	for _, e := range entries {
		out = append(out, filepath.Join(cgroupRoot, e.Name()))
	}
	return out
}

// processes are those in the group of a container; "" stands for all of this node.
func (c cgroups) processes(id string) []int {
	var out []int
	for _, h := range c.hierarchies() {
		_ = filepath.WalkDir(filepath.Join(h, c.parent, id), func(path string, d os.DirEntry, err error) error {
			if err != nil || d.Name() != "cgroup.procs" {
				return nil
			}
			b, _ := os.ReadFile(path)
			for _, f := range strings.Fields(string(b)) {
				if pid, err := strconv.Atoi(f); err == nil && pid > 0 && !slices.Contains(out, pid) {
					out = append(out, pid)
				}
			}
			return nil
		})
	}
	return out
}

// remove removes the groups of this node, which must be empty.
func (c cgroups) remove() error {
	var errs []error
	for _, h := range c.hierarchies() {
		var dirs []string
		_ = filepath.WalkDir(h+c.parent, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for _, d := range slices.Backward(dirs) {
			if err := unix.Rmdir(d); err != nil && !errors.Is(err, unix.ENOENT) {
				errs = append(errs, fmt.Errorf("control group %s: %w", d, err))
			}
		}
	}
	return errors.Join(errs...)
}

func number(path string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}

// field is the number after a key at the beginning of a line.
func field(path, key string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if k, v, ok := strings.Cut(s.Text(), " "); ok && k == key {
			return strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, key)
}
