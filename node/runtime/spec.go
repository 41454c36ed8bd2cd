package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/berthdev/berth/node/runtime/container"
	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// groupAnnotation makes all containers of a pod share one shim.
const groupAnnotation = "io.containerd.runc.v2.group"

// maxHostname is what the kernel takes, less one for programs that count the end.
const maxHostname = 63

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// ociSpec says in the OCI's words what a container is. The snapshot of rec must
// exist, for user names are looked up in it. Notes tell what was cut down.
func (r *Runtime) ociSpec(ctx context.Context, id string, s container.Spec, img ocispec.ImageConfig, rec *containers.Container) (*oci.Spec, []string, error) {
	args := commandLine(s, img)
	if len(args) == 0 {
		return nil, nil, errors.New("neither the image nor the configuration says what to run; set command")
	}
	env, err := environment(s.Env, img.Env)
	if err != nil {
		return nil, nil, err
	}
	mounts, err := ociMounts(s.Mounts)
	if err != nil {
		return nil, nil, err
	}
	caps, notes := r.limits.capabilities(s)
	opts := []oci.SpecOpts{
		oci.WithProcessArgs(args...),
		oci.WithProcessCwd(cmp.Or(s.WorkDir, img.WorkingDir, "/")),
		oci.WithoutRunMount, // it would hide what the image has in /run
		withUser(cmp.Or(s.User, img.User)),
		oci.WithCapabilities(caps),
		oci.WithAnnotations(map[string]string{groupAnnotation: podHash(s.Pod)}),
		oci.WithCgroup(r.cgroups.path(id)),
		withNamespaces(s.Namespaces),
	}
	if s.Privileged {
		opts = append(opts, oci.WithNewPrivileges, oci.WithHostDevices, oci.WithAllDevicesAllowed,
			oci.WithWriteableSysfs, oci.WithMaskedPaths(nil), oci.WithReadonlyPaths(nil))
	} else {
		opts = append(opts, oci.WithDefaultUnixDevices)
		if !s.Unconfined {
			opts = append(opts, withSeccomp) // reads the capabilities
		}
	}
	opts = append(opts, withCgroupMount(r.cgroups.unified, s.Privileged), oci.WithMounts(mounts))
	if s.ReadOnlyRoot {
		opts = append(opts, oci.WithRootFSReadonly())
	}
	if s.Hostname != "" && s.Namespaces.UTS == "" {
		opts = append(opts, oci.WithHostname(s.Hostname[:min(len(s.Hostname), maxHostname)]))
	}
	spec, err := oci.GenerateSpec(ctx, r.client, rec, opts...)
	if err != nil {
		return nil, nil, fmt.Errorf("container %s: %w", s.Name, err)
	}
	spec.Version = "1.0.2" // what the oldest supported runtimes know; nothing newer is used
	spec.Process.Env = env
	spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: r.limits.openFiles, Soft: min(r.limits.openFiles, 65536)}}
	if r.limits.openFiles < wantOpenFiles {
		notes = append(notes, fmt.Sprintf("open files are limited to %d, for this machine gives no more", r.limits.openFiles))
	}
	notes = append(notes, r.limits.resources(spec, s.Resources)...)
	return spec, notes, nil
}

// commandLine joins command, arguments and what the image says.
func commandLine(s container.Spec, img ocispec.ImageConfig) []string {
	switch {
	case len(s.Command) > 0:
		return slices.Concat(s.Command, s.Args)
	case len(s.Args) > 0:
		return slices.Concat(img.Entrypoint, s.Args)
	}
	return slices.Concat(img.Entrypoint, img.Cmd)
}

// environment is the image's with the container's on top, which wins.
func environment(own, image []string) ([]string, error) {
	out := []string{defaultPath}
	at := map[string]int{"PATH": 0}
	for _, kv := range slices.Concat(image, own) {
		key, _, ok := strings.Cut(kv, "=")
		if !ok || key == "" || strings.ContainsRune(kv, 0) {
			return nil, fmt.Errorf("environment variable %q is not KEY=value", key)
		}
		if i, ok := at[key]; ok {
			out[i] = kv
			continue
		}
		at[key] = len(out)
		out = append(out, kv)
	}
	return out, nil
}

// ociMounts puts mounts in an order in which none hides another.
func ociMounts(list []container.Mount) ([]specs.Mount, error) {
	var out []specs.Mount
	for _, m := range list {
		if !path.IsAbs(m.Target) {
			return nil, fmt.Errorf("mount path %q must begin with /", m.Target)
		}
		mode := "rw"
		if m.ReadOnly {
			mode = "ro"
		}
		if m.Tmpfs {
			options := []string{mode, "nosuid", "nodev", "mode=" + strconv.FormatUint(uint64(cmp.Or(m.Mode, 0o1777)), 8)}
			if m.Size > 0 {
				options = append(options, "size="+strconv.FormatInt(m.Size, 10))
			}
			out = append(out, specs.Mount{Destination: path.Clean(m.Target), Type: "tmpfs", Source: "tmpfs", Options: options})
			continue
		}
		if !filepath.IsAbs(m.Source) {
			return nil, fmt.Errorf("what is mounted at %s, %q, must begin with /", m.Target, m.Source)
		}
		if _, err := os.Stat(m.Source); err != nil {
			return nil, fmt.Errorf("cannot mount at %s: %w", m.Target, err)
		}
		out = append(out, specs.Mount{Destination: path.Clean(m.Target), Type: "bind", Source: m.Source, Options: []string{"rbind", "rprivate", mode}})
	}
	slices.SortStableFunc(out, func(a, b specs.Mount) int {
		return cmp.Compare(strings.Count(a.Destination, "/"), strings.Count(b.Destination, "/"))
	})
	return out, nil
}

// withUser looks names up in the image only where it must.
func withUser(user string) oci.SpecOpts {
	return func(ctx context.Context, c oci.Client, rec *containers.Container, s *oci.Spec) error {
		if user == "" || user == "0" || user == "root" || user == "0:0" {
			return nil
		}
		if err := oci.WithUser(user)(ctx, c, rec, s); err != nil {
			return fmt.Errorf("user %q: %w (give a uid:gid, or a name of the image's /etc/passwd)", user, err)
		}
		if name, _, grouped := strings.Cut(user, ":"); !grouped {
			return oci.WithAdditionalGIDs(name)(ctx, c, rec, s)
		}
		return nil
	}
}

func withNamespaces(n container.Namespaces) oci.SpecOpts {
	return func(ctx context.Context, c oci.Client, rec *containers.Container, s *oci.Spec) error {
		for _, ns := range []struct {
			kind specs.LinuxNamespaceType
			path string
		}{{specs.NetworkNamespace, n.Net}, {specs.IPCNamespace, n.IPC}, {specs.UTSNamespace, n.UTS}} {
			if ns.path == "" {
				continue
			}
			if !pinned(ns.path) {
				return fmt.Errorf("the pod's %s namespace %s is gone", ns.kind, ns.path)
			}
			if err := oci.WithLinuxNamespace(specs.LinuxNamespace{Type: ns.kind, Path: ns.path})(ctx, c, rec, s); err != nil {
				return err
			}
		}
		return nil
	}
}

// withSeccomp allows docker's system calls, but none of the x32 ABI, which next to
// no kernel offers: a call of it ends the thread. The OCI runtime compiles the
// filter at each start, 7 ms for each ABI.
func withSeccomp(ctx context.Context, c oci.Client, rec *containers.Container, s *oci.Spec) error {
	if err := seccomp.WithDefaultProfile()(ctx, c, rec, s); err != nil {
		return err
	}
	p := s.Linux.Seccomp
	p.Architectures = slices.DeleteFunc(p.Architectures, func(a specs.Arch) bool { return a == specs.ArchX32 })
	return nil
}

// withCgroupMount shows a container its own control group: language runtimes
// size themselves by its limits.
func withCgroupMount(unified, writable bool) oci.SpecOpts {
	return func(ctx context.Context, c oci.Client, rec *containers.Container, s *oci.Spec) error {
		mode := "ro"
		if writable {
			mode = "rw"
		}
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup",
			Options: []string{"nosuid", "noexec", "nodev", "relatime", mode}})
		if unified {
			return oci.WithLinuxNamespace(specs.LinuxNamespace{Type: specs.CgroupNamespace})(ctx, c, rec, s)
		}
		return nil
	}
}

// defaultCaps are docker's.
var defaultCaps = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// capabilities are those that the container gets; what this process does not
// have itself it cannot give.
func (l limits) capabilities(s container.Spec) (out, notes []string) {
	set := slices.Clone(defaultCaps)
	if s.Privileged || has(s.CapAdd, "ALL") {
		set = slices.Clone(l.caps)
	}
	if has(s.CapDrop, "ALL") {
		set = nil
	}
	for _, c := range s.CapDrop {
		set = slices.DeleteFunc(set, func(x string) bool { return x == capName(c) })
	}
	for _, c := range s.CapAdd {
		if name := capName(c); name != "CAP_ALL" && !slices.Contains(set, name) {
			set = append(set, name)
		}
	}
	for _, c := range set {
		if slices.Contains(l.caps, c) {
			out = append(out, c)
		} else {
			notes = append(notes, fmt.Sprintf("capability %s is not given, for this node does not have it", strings.TrimPrefix(c, "CAP_")))
		}
	}
	return out, notes
}

func capName(s string) string { return "CAP_" + strings.TrimPrefix(strings.ToUpper(s), "CAP_") }

func has(list []string, name string) bool {
	return slices.ContainsFunc(list, func(c string) bool { return capName(c) == capName(name) })
}

// cpuPeriod is the kernel's usual 100 ms, in microseconds.
const cpuPeriod = 100_000

// resources writes limits into the spec.
func (l limits) resources(spec *oci.Spec, r container.Resources) (notes []string) {
	res := spec.Linux.Resources
	shares := uint64(max(2, r.CPU*1024/1000))
	res.CPU = &specs.LinuxCPU{Shares: &shares}
	if r.CPULimit > 0 {
		quota, period := max(1000, r.CPULimit*cpuPeriod/1000), uint64(cpuPeriod)
		res.CPU.Quota, res.CPU.Period = &quota, &period
	}
	if r.MemoryLimit > 0 {
		limit := r.MemoryLimit
		res.Memory = &specs.LinuxMemory{Limit: &limit}
		if l.swap {
			res.Memory.Swap = &limit
		}
	}
	if r.PIDsLimit > 0 {
		res.Pids = &specs.LinuxPids{Limit: &r.PIDsLimit}
	}
	// Who asked for no memory is killed first when the node runs out of it.
	score := 1000
	if total := memoryBytes(); r.Memory > 0 && total > 0 {
		score = int(1000 - min(998, 1000*r.Memory/total))
		if r.MemoryLimit == r.Memory {
			score = -997
		}
	}
	if score < l.oomScore {
		score = l.oomScore
		notes = append(notes, fmt.Sprintf("the out-of-memory score is %d, for this node may not set a lower one", score))
	}
	spec.Process.OOMScoreAdj = &score
	return notes
}
