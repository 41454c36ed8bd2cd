package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/node/runtime/container"
)

// spec is everything about the next attempt of the container.
func (r *runner) spec(ctx context.Context, attempt int) (container.Spec, error) {
	c, w := r.c, r.w
	contents, err := w.known(ctx)
	if err != nil {
		return container.Spec{}, err
	}
	env, err := w.env(c, contents)
	if err != nil {
		return container.Spec{}, err
	}
	s := container.Spec{
		Pod: w.key, Name: c.Name, Attempt: attempt, Image: r.image(), Namespaces: w.namespaces,
		Command: c.Command, Args: c.Args, Env: env, WorkDir: c.WorkDir, User: c.User,
		Resources: container.Resources{
			CPU: int64(c.Resources.CPU), CPULimit: int64(c.Resources.Limits.CPU),
			Memory: int64(c.Resources.Memory), MemoryLimit: int64(c.Resources.Limits.Memory),
			PIDsLimit: int64(c.Resources.Limits.PIDs),
		},
		ReadOnlyRoot: c.ReadOnly, Privileged: c.Privileged, CapAdd: c.Caps.Add, CapDrop: c.Caps.Drop,
		Unconfined: c.Seccomp == "unconfined", StopSignal: c.StopSignal,
	}
	if w.namespaces.UTS == "" {
		s.Hostname = w.pod.Name
	}
	for _, m := range c.Mounts {
		source := w.paths[m.Volume]
		if m.File != "" {
			source = filepath.Join(source, m.File)
			if _, err := os.Stat(source); err != nil {
				return container.Spec{}, object.Errorf(object.CodeInvalid, object.Ref{}, "container %s mounts file %q of volume %s, which is not there", c.Name, m.File, m.Volume)
			}
		}
		s.Mounts = append(s.Mounts, container.Mount{Source: source, Target: m.Path, ReadOnly: m.ReadOnly || given(w.pod.Spec.Pod.Volumes, m.Volume)})
	}
	for _, f := range etcFiles {
		target := "/etc/" + f
		if !slices.ContainsFunc(c.Mounts, func(m object.Mount) bool { return m.Path == target || m.Path == "/etc" }) {
			s.Mounts = append(s.Mounts, container.Mount{Source: filepath.Join(w.etc, f), Target: target})
		}
	}
	return s, nil
}

// given reports whether a volume is a config map or a secret: no container may
// write into what the next one reads.
func given(volumes []object.Volume, name string) bool {
	return slices.ContainsFunc(volumes, func(v object.Volume) bool {
		return v.Name == name && (v.ConfigMap != "" || v.Secret != "")
	})
}

// env is the container's environment: what Berth tells every container, then
// whole config maps and secrets in order, then the single variables; later ones win.
func (w *worker) env(c *object.Container, contents map[string]map[string]string) ([]string, error) {
	vars := map[string]string{
		"BERTH_NODE": w.a.cfg.Node, "BERTH_NAMESPACE": w.pod.Namespace, "BERTH_POD": w.pod.Name, "BERTH_POD_ADDRESS": w.address,
	}
	for _, f := range c.EnvFrom {
		key := "config_map/" + f.ConfigMap
		if f.Secret != "" {
			key = "secret/" + f.Secret
		}
		data, ok := contents[key]
		if !ok {
			return nil, notPinned(key, "container "+c.Name)
		}
		for k, v := range data {
			if strings.ContainsAny(k, "=\x00") {
				return nil, object.Errorf(object.CodeInvalid, object.Ref{}, "container %s: key %q of %s cannot be the name of an environment variable", c.Name, k, key)
			}
			vars[f.Prefix+k] = v
		}
	}
	for _, k := range slices.Sorted(maps.Keys(c.Env)) {
		v, missing, ok := c.Env[k].Expand(func(s object.SecretKey) (string, bool) {
			v, ok := contents["secret/"+s.Name][s.Key]
			return v, ok
		})
		if !ok {
			return nil, object.Errorf(object.CodeInvalid, object.Ref{}, "container %s: env %s refers to key %q of secret %q, which does not exist", c.Name, k, missing.Key, missing.Name)
		}
		vars[k] = v
	}
	out := make([]string, 0, len(vars))
	for _, k := range slices.Sorted(maps.Keys(vars)) {
		out = append(out, k+"="+vars[k])
	}
	return out, nil
}

// known are the contents that the pod reads: what setup found or, for an adopted
// pod, what the masters tell again.
func (w *worker) known(ctx context.Context) (map[string]map[string]string, error) {
	w.mu.Lock()
	have, given := w.contents, w.reads
	w.mu.Unlock()
	if have != nil {
		return have, nil
	}
	have, err := w.a.contentsOf(ctx, w.pod.Namespace, w.versions(given))
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if maps.Equal(w.reads, given) {
		w.contents = have
	}
	return have, nil
}

// registryAuth are the credentials that the pod's images are pulled with.
func (w *worker) registryAuth(ctx context.Context) (*container.Auth, error) {
	name := w.pod.Spec.Pod.Credentials
	if name == "" {
		return nil, nil
	}
	contents, err := w.known(ctx)
	if err != nil {
		return nil, err
	}
	data, ok := contents["secret/"+name]
	if !ok {
		return nil, notPinned("secret/"+name, "registry_secret")
	}
	auth := &container.Auth{Username: data[object.RegistryUsername], Password: data[object.RegistryPassword], Registry: data[object.RegistryHost]}
	if auth.Username == "" || auth.Password == "" {
		return nil, object.Errorf(object.CodeInvalid, object.Ref{}, "secret %q holds no registry credentials: it needs the keys username and password", name)
	}
	return auth, nil
}

// contentsOf reads these versions, which a pod of the namespace reads, from memory,
// the checkpoint or the masters.
func (a *Agent) contentsOf(ctx context.Context, namespace string, reads map[string]string) (map[string]map[string]string, error) {
	out := map[string]map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(reads)) {
		kind, name, ok := strings.Cut(key, "/")
		if !ok {
			return nil, object.Errorf(object.CodeInvalid, object.Ref{}, "the template reads %q, which is neither a config_map nor a secret", key)
		}
		content := object.ContentName(object.Ref{Kind: object.Kind(kind), Namespace: namespace, Name: name}, reads[key])
		data, err := a.content(ctx, namespace, content)
		if err != nil {
			if object.IsCode(err, object.CodeNotFound) {
				return nil, object.Errorf(object.CodeNotFound, object.Ref{}, "%s %q: its version %s does not exist", strings.ReplaceAll(kind, "_", " "), name, reads[key])
			}
			return nil, fmt.Errorf("%s %q cannot be read from the masters: %w", strings.ReplaceAll(kind, "_", " "), name, asAway(err))
		}
		out[key] = data
	}
	return out, nil
}

// asAway marks errors without a code, which come from connections, as passing.
func asAway(err error) error {
	var e *object.Error
	if errors.As(err, &e) {
		return err
	}
	return object.Errorf(object.CodeUnavailable, object.Ref{}, "%w", err)
}

// content is one immutable content, cached.
func (a *Agent) content(ctx context.Context, namespace, name string) (map[string]string, error) {
	key := namespace + "/" + name
	a.mu.Lock()
	data, ok := a.contents[key]
	a.mu.Unlock()
	if ok {
		return data, nil
	}
	ctx, cancel := context.WithTimeout(ctx, masterTimeout)
	defer cancel()
	data, err := a.cfg.Masters.Content(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	a.contents[key] = data
	a.mu.Unlock()
	if strings.HasPrefix(name, string(object.KindConfigMap)+".") {
		a.touch()
	}
	return data, nil
}

// etcFiles are the files of /etc that the agent writes for each pod.
var etcFiles = []string{"hosts", "resolv.conf"}

func (a *Agent) etcDir(id string) string { return filepath.Join(a.cfg.Dir, "etc", id) }

// writeEtc makes the pod's /etc/hosts and /etc/resolv.conf.
func (a *Agent) writeEtc(id string, p *object.Pod, addr netip.Addr) (string, error) {
	dir := a.etcDir(id)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	hosts := "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n" + addr.String() + " " + p.Name + "\n"
	for f, text := range map[string]string{"hosts": hosts, "resolv.conf": a.resolvConf(p.Namespace)} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte(text), 0o644); err != nil { //nolint:gosec // every user of the pod reads it
			return "", err
		}
	}
	return dir, nil
}

// clusterResolvConf is for pods that ask the node's own name server, at the
// address and from the namespace.
//
// ndots:3 makes "service", "service.namespace" and "pod.service.namespace" names
// of the cluster first, for all C libraries: musl never tries the search path for
// names with as many dots. A name outside with fewer than three dots costs three
// answers of the same machine before; with Kubernetes' ndots:5
// nearly every name does. The machine's own search path is left out, so that a
// name means the same on every node. A lost packet is sent anew after 2 s, not 5.
const clusterResolvConf = `nameserver %[1]s
search %[2]s.svc.%[3]s svc.%[3]s %[3]s
options ndots:3 timeout:2 attempts:3
`

// resolvConf names the resolver that the pods of a namespace ask: that of the
// node. Without one they are those that the node was given, else the machine's,
// less those on its loopback, which a pod cannot reach.
func (a *Agent) resolvConf(namespace string) string {
	if a.cfg.Resolver != nil {
		if r := a.cfg.Resolver(); r.IsValid() {
			return fmt.Sprintf(clusterResolvConf, r, namespace, object.ClusterDomain)
		}
	}
	if len(a.cfg.Resolvers) > 0 {
		var b strings.Builder
		for _, r := range a.cfg.Resolvers {
			fmt.Fprintf(&b, "nameserver %s\n", r)
		}
		return b.String()
	}
	machine, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return ""
	}
	var b strings.Builder
	for line := range strings.Lines(string(machine)) {
		f := strings.Fields(line)
		if len(f) >= 2 && f[0] == "nameserver" {
			if ip := net.ParseIP(f[1]); ip == nil || ip.IsLoopback() {
				continue
			}
		}
		b.WriteString(line)
	}
	return b.String()
}

func isDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || strings.Contains(err.Error(), "no space left on device")
}
