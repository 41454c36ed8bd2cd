package object

import (
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/go-version"
)

// What the fields of a struct mean together, beside it in the order of the
// files that declare them.

// maxPods bounds what one set may be asked to keep: more is a slip of the keyboard.
const maxPods = 1_000_000

func (c *checker) replicas(n int, at *step) {
	if n > maxPods {
		c.fail(at.to("replicas"), "Too many pods", "replicas is %d; it is %d at most.", n, maxPods)
	}
}

func (s *ReplicaSetSpec) check(c *checker, at *step) { c.replicas(s.Replicas, at) }

func (s *DeploymentSpec) check(c *checker, at *step) {
	c.replicas(s.Replicas, at)
	u := s.Update
	for _, x := range []struct {
		name string
		n    int
	}{{"surge", u.Surge.N}, {"unavailable", u.Unavailable.N}} {
		if x.n < 0 || x.n > maxPods {
			c.fail(at.to("update").to(x.name), "Wrong number of pods", "%s is %d; it is 0 to %d, or a share of 0%% to 100%%.", x.name, x.n, maxPods)
		}
	}
	if u.Strategy == "rolling" && u.Surge.N == 0 && u.Unavailable.N == 0 {
		c.fail(at.to("update").to("surge"), "Update that cannot move", "With surge = 0 and unavailable = 0 no pod may be added and none taken away. Raise one of them, or write strategy = \"recreate\".")
	}
	u.checkSteps(c, at.to("update"))
	u.checkChecks(c, at.to("update"), &s.Pod)
	u.checkZones(c, at.to("update"))
	if u.ProgressDeadline <= 0 {
		c.fail(at.to("update").to("progress_deadline"), "No time to make progress", "progress_deadline is more than 0s; \"2m\" is the default.")
	}
	if u.ProgressDeadline > 0 && u.MinReadyTime >= u.ProgressDeadline {
		c.fail(at.to("update").to("min_ready_time"), "No time to make progress", "min_ready_time (%s) is shorter than progress_deadline (%s), or every rollout fails.", u.MinReadyTime, u.ProgressDeadline)
	}
}

func (u *Update) checkSteps(c *checker, at *step) {
	switch {
	case u.Strategy == "canary" && len(u.Steps) == 0:
		c.fail(at.to("step"), "No step", "A canary has one step at least: step \"NAME\" { weight = 10  pause = \"5m\" }.")
	case u.Strategy != "canary" && u.Strategy != "rolling" && len(u.Steps) > 0:
		c.fail(at.to("step"), "Superfluous block", "Steps belong to strategy = \"canary\", and as pauses to \"rolling\".")
	}
	if b := u.BlueGreen; b != nil {
		here := at.to("blue_green")
		switch {
		case u.Strategy != "blue_green":
			c.fail(here, "Superfluous block", "blue_green { … } belongs to strategy = \"blue_green\".")
		case b.Manual && b.After > 0:
			c.fail(here.to("after"), "Two ways to go on", "The connections go over after a time or when somebody promotes the new version, not both.")
		}
	}
	rolling := u.Strategy == "rolling"
	for i, s := range u.Steps {
		here := &step{up: at, name: "step", label: s.Name, key: true}
		switch {
		case rolling && s.Weight != 0:
			c.fail(here.to("weight"), "Superfluous attribute", "In a rolling update the connections go with the pods; weights belong to strategy = \"canary\".")
		case rolling && s.Scale == (Amount{}):
			c.fail(here.to("scale"), "Missing attribute", "scale says how many pods of the new version there are when the update pauses: scale = \"25%%\".")
		case s.Weight < 0 || s.Weight > 100:
			c.fail(here.to("weight"), "Wrong weight", "%d is not a percentage; it is 0 to 100.", s.Weight)
		case i > 0 && s.Weight < u.Steps[i-1].Weight:
			c.fail(here.to("weight"), "Weight that falls", "%d is less than the %d of the step before. To go back, abort the rollout.", s.Weight, u.Steps[i-1].Weight)
		}
		if s.Manual && s.Pause > 0 {
			c.fail(here.to("pause"), "Two pauses", "A step pauses for a time or until somebody promotes it, not both.")
		}
	}
}

func (t *PodTemplate) check(c *checker, at *step) {
	c.labels(t.Labels, at.to("labels"))
	if len(t.Containers) == 0 {
		c.fail(at.to("container"), "No container", "A pod has one container at least: container \"NAME\" { image = … }.")
	}
	names := map[string]bool{}
	for _, x := range t.Containers {
		names[x.Name] = true
	}
	for _, x := range t.Init {
		if names[x.Name] {
			c.fail(&step{up: at, name: "init", label: x.Name, key: true}, "Duplicate name", "There is a container and an init container of the name %q. Names must differ; rename one.", x.Name)
		}
	}
	t.checkPorts(c, at)
	var volumes []string
	for _, v := range t.Volumes {
		volumes = append(volumes, v.Name)
	}
	used := map[string]bool{}
	for _, list := range []struct {
		name string
		of   []Container
	}{{"init", t.Init}, {"container", t.Containers}} {
		for i := range list.of {
			here := &step{up: at, name: list.name, label: list.of[i].Name, key: true}
			list.of[i].checkMounts(c, here, volumes, used)
			if list.name == "init" {
				list.of[i].checkInit(c, here)
			}
		}
	}
	for _, v := range volumes {
		if !used[v] {
			c.warn(&step{up: at, name: "volume", label: v, key: true}, "Unused volume", "No container mounts the volume %q. Mount it, mount %q { path = … }, or take it out.", v, v)
		}
	}
}

// checkPorts finds ports that clash: containers of a pod share one address.
func (t *PodTemplate) checkPorts(c *checker, at *step) {
	type key struct {
		protocol string
		port     int
	}
	ports, hosts, names := map[key]string{}, map[key]string{}, map[string]string{}
	for _, x := range t.Containers {
		for _, p := range x.Ports {
			here := (&step{up: at, name: "container", label: x.Name, key: true}).port(p.Name)
			if other, ok := ports[key{p.Protocol, p.Port}]; ok && p.Port != 0 {
				c.fail(here.to("port"), "Port used twice", "Container %q listens on %s port %d too, and the containers of a pod share one address.", other, p.Protocol, p.Port)
			}
			ports[key{p.Protocol, p.Port}] = x.Name
			if other, ok := hosts[key{p.Protocol, p.HostPort}]; ok && p.HostPort != 0 {
				c.fail(here.to("host_port"), "Port used twice", "Container %q claims %s port %d of the node too.", other, p.Protocol, p.HostPort)
			}
			hosts[key{p.Protocol, p.HostPort}] = x.Name
			if other, ok := names[p.Name]; ok && other != x.Name {
				c.fail(here, "Duplicate name", "Container %q has a port of the name %q too; services could not tell them apart. Rename one.", other, p.Name)
			}
			names[p.Name] = x.Name
		}
	}
}

func (s *step) port(name string) *step { return &step{up: s, name: "port", label: name, key: true} }

func (x *Container) checkMounts(c *checker, at *step, volumes []string, used map[string]bool) {
	paths := map[string]bool{}
	for _, m := range x.Mounts {
		here := &step{up: at, name: "mount", label: m.Volume, key: true}
		used[m.Volume] = true
		if m.Volume != "" && !slices.Contains(volumes, m.Volume) {
			hint := DidYouMean(m.Volume, volumes)
			if hint == "" {
				hint = "Declare it in the pod: volume \"" + m.Volume + "\" { … }."
			}
			c.fail(here, "No such volume", "The pod has no volume %q. %s", m.Volume, hint)
		}
		if paths[m.Path] {
			c.fail(here.to("path"), "Path used twice", "Something is mounted at %s already.", m.Path)
		}
		paths[m.Path] = true
	}
}

// checkInit refuses what means nothing in a container that ends before the others start.
func (x *Container) checkInit(c *checker, at *step) {
	for _, p := range []struct {
		name  string
		probe *Probe
	}{{"readiness", x.Readiness}, {"liveness", x.Liveness}, {"startup", x.Startup}} {
		if p.probe != nil {
			c.fail(at.to(p.name), "Probe of an init container", "An init container runs to its end and is not probed. Take the %s block out.", p.name)
		}
	}
}

func (x *Container) check(c *checker, at *step) {
	if x.WorkDir != "" && !strings.HasPrefix(x.WorkDir, "/") {
		c.fail(at.to("work_dir"), "Relative path", "%q is not an absolute path.", x.WorkDir)
	}
	named := func(k string, _ Text) bool { return k != "" && !strings.ContainsAny(k, "=\x00") }
	if !every(x.Env, named) {
		for _, k := range sortedKeys(x.Env) {
			if !named(k, "") {
				c.fail(&step{up: at, name: "env", label: k, key: true}, "Wrong name", "%q cannot be the name of an environment variable.", k)
			}
		}
	}
	var ports []string
	for _, p := range x.Ports {
		ports = append(ports, p.Name)
	}
	for _, p := range []struct {
		name  string
		probe *Probe
	}{{"readiness", x.Readiness}, {"liveness", x.Liveness}, {"startup", x.Startup}} {
		if p.probe != nil {
			p.probe.checkPort(c, at.to(p.name), ports)
		}
	}
	x.checkNames(c, at)
}

func (e *EnvFrom) check(c *checker, at *step) {
	if (e.ConfigMap == "") == (e.Secret == "") {
		c.fail(at, "Not one source", "env_from has exactly one of config_map and secret.")
	}
}

func (p *ContainerPort) check(c *checker, at *step) {
	c.port(p.Port, at.to("port"))
	if p.HostPort != 0 {
		c.port(p.HostPort, at.to("host_port"))
	}
}

func (c *checker) port(n int, at *step) {
	if n < 1 || n > 65535 {
		if n != 0 { // 0 is missing, which has been said
			c.fail(at, "Wrong port", "%d is not a port; ports are 1 to 65535.", n)
		}
	}
}

func (r *Resources) check(c *checker, at *step) {
	if r.Limits.CPU > 0 && r.CPU > r.Limits.CPU {
		c.fail(at.to("cpu"), "More than the limit", "It asks for %s of cpu and may use %s at most. Raise the limit or ask for less.", r.CPU, r.Limits.CPU)
	}
	if r.Limits.Memory > 0 && r.Memory > r.Limits.Memory {
		c.fail(at.to("memory"), "More than the limit", "It asks for %s of memory and may use %s at most. Raise the limit or ask for less.", r.Memory, r.Limits.Memory)
	}
}

func (m *Mount) check(c *checker, at *step) {
	if m.Path != "" && !strings.HasPrefix(m.Path, "/") {
		c.fail(at.to("path"), "Relative path", "%q is not an absolute path.", m.Path)
	}
	if strings.HasPrefix(m.File, "/") || slices.Contains(strings.Split(m.File, "/"), "..") {
		c.fail(at.to("file"), "Wrong file", "%q is not the name of a file in the volume.", m.File)
	}
}

func (v *Volume) check(c *checker, at *step) {
	n := 0
	for _, set := range []bool{v.ConfigMap != "", v.Secret != "", v.EmptyDir != nil, v.HostPath != ""} {
		if set {
			n++
		}
	}
	if n != 1 {
		c.fail(at, "Not one source", "A volume has exactly one of config_map, secret, empty_dir and host_path; this has %d.", n)
	}
	if v.HostPath != "" && !strings.HasPrefix(v.HostPath, "/") {
		c.fail(at.to("host_path"), "Relative path", "%q is not an absolute path.", v.HostPath)
	}
}

func (p *Probe) check(c *checker, at *step) {
	n := 0
	for _, set := range []bool{p.HTTP != nil, p.TCP != nil, p.Exec != nil} {
		if set {
			n++
		}
	}
	if n != 1 {
		c.fail(at, "Not one way to probe", "A probe has exactly one of the blocks http, tcp and exec; this has %d.", n)
	}
	if p.Period < ShortestPeriod {
		c.fail(at.to("period"), "Wrong duration", "period is %s at least; \"5s\" is the default.", ShortestPeriod)
	}
	if p.Timeout <= 0 {
		c.fail(at.to("timeout"), "Wrong duration", "timeout is more than 0s; \"1s\" is the default.")
	}
	if p.Success < 1 || p.Failure < 1 {
		c.fail(at, "Wrong count", "success and failure are 1 at least.")
	}
}

// checkPort finds out whether the container has the port that its probe names.
func (p *Probe) checkPort(c *checker, at *step, ports []string) {
	check := func(ref PortRef, at *step) {
		if n, number := ref.Number(); number {
			c.port(n, at)
			return
		}
		if ref != "" && !slices.Contains(ports, string(ref)) {
			hint := DidYouMean(string(ref), ports)
			if hint == "" {
				hint = "Declare it, port \"" + string(ref) + "\" { port = … }, or give the number."
			}
			c.fail(at, "No such port", "The container has no port %q. %s", ref, hint)
		}
	}
	if p.HTTP != nil {
		check(p.HTTP.Port, at.to("http").to("port"))
	}
	if p.TCP != nil {
		check(p.TCP.Port, at.to("tcp").to("port"))
	}
}

func (e *ExecProbe) check(c *checker, at *step) {
	if e.Command != nil && len(e.Command) == 0 { // nil is missing, which has been said
		c.fail(at.to("command"), "Empty list", "Name a program: command = [\"/bin/check\"].")
	}
}

func (h *HTTPProbe) check(c *checker, at *step) {
	if !strings.HasPrefix(h.Path, "/") {
		c.fail(at.to("path"), "Wrong path", "%q does not begin with a slash.", h.Path)
	}
}

func (k *Constraint) check(c *checker, at *step) {
	switch k.Operator {
	case "in", "not_in":
		if len(k.Values) == 0 {
			c.fail(at.to("values"), "Missing attribute", "The operator %q needs values = [ … ].", k.Operator)
		}
	case "exists", "not_exists":
		if k.Value != "" || len(k.Values) > 0 {
			c.fail(at.to("value"), "Superfluous attribute", "The operator %q compares with nothing; take value and values out.", k.Operator)
		}
	default:
		if len(k.Values) > 0 {
			c.fail(at.to("values"), "Superfluous attribute", "values belongs to the operators in and not_in; %q takes value.", k.Operator)
		}
		if why := k.Unusable(); why != "" {
			c.fail(at.to("value"), "Wrong value", "%q is %s.", k.Value, why)
		}
	}
	c.weight(k.Prefer, 0, at.to("prefer"))
}

// Unusable is why nothing can be compared with the value, or "".
func (k *Constraint) Unusable() string {
	switch k.Operator {
	case "regexp":
		if _, err := regexp.Compile(k.Value); err != nil {
			return "not a regular expression"
		}
	case "version":
		if _, err := version.NewConstraint(k.Value); err != nil {
			return "not a version constraint; write for example \">= 1.2, < 2\""
		}
	}
	return ""
}

func (a *Avoid) check(c *checker, at *step)  { c.weight(a.Prefer, 0, at.to("prefer")) }
func (s *Spread) check(c *checker, at *step) { c.weight(s.Weight, 1, at.to("weight")) }

func (c *checker) weight(n, low int, at *step) {
	if n < low || n > 1000 {
		c.fail(at, "Wrong weight", "%d is not a weight; it is %d to 1000.", n, low)
	}
}

func (s *ConfigMapSpec) check(c *checker, at *step) { c.dataKeys(sortedKeys(s.Data), at) }
func (s *SecretSpec) check(c *checker, at *step)    { c.dataKeys(sortedKeys(s.Data), at) }

// dataKeys are names of files.
func (c *checker) dataKeys(keys []string, at *step) {
	for _, k := range keys {
		if !dataKey.matches(k) || k == "." || k == ".." {
			c.fail(&step{up: at, name: "data", label: k, key: true}, "Wrong key", "%q is not a key: each key is the name of a file, so use letters, digits and -_.", k)
		}
	}
}

// internal checks the kinds that only Berth writes: an administrator can write
// them, too, and what does not hold together would have to be expected everywhere.
func (c *checker) internal(o Object) {
	name, spec := &step{name: "name"}, &step{name: "spec"}
	switch x := o.(type) {
	case *Template:
		c.structure(reflect.ValueOf(&x.Spec).Elem(), nil)
		if want := Digest(x.Spec); x.Name != want {
			c.fail(name, "Wrong name", "A template is named by its digest, which is %s.", want)
		}
	case *Content:
		if of := x.Spec.Of; of.Kind != KindConfigMap && of.Kind != KindSecret || of.Namespace != x.Namespace {
			c.fail(spec.to("of"), "Wrong reference", "A content is a version of a config_map or secret of its namespace, not of %q.", of)
		} else if prefix := ContentName(of, ""); !strings.HasPrefix(x.Name, prefix) || x.Name == prefix {
			c.fail(name, "Wrong name", "A version of %s is named %sDIGEST.", of.Address(), prefix)
		}
	case *Stack:
		if x.Spec.Revision < 0 {
			c.fail(spec.to("revision"), "Negative number", "revision is %d; it may not be below 0.", x.Spec.Revision)
		}
	case *Revision:
		if want := RevisionName(x.Spec.Stack, x.Spec.Number); x.Name != want || x.Spec.Number < 1 {
			c.fail(name, "Wrong name", "Revision %d of stack %q is named %q; numbers begin with 1.", x.Spec.Number, x.Spec.Stack, want)
		}
		for i := range x.Spec.Changes {
			change := &x.Spec.Changes[i]
			here := &step{up: spec, name: "changes", index: i + 1}
			if change.Wave < 1 || change.Wave > maxPods {
				c.fail(here.to("wave"), "Wrong wave", "wave is %d; waves are numbered from 1.", change.Wave)
			}
			for _, side := range []Any{change.Before, change.After} {
				if !side.IsZero() && side.Ref() != change.Ref {
					c.fail(here, "Another object", "The change of %s speaks of %s.", change.Ref, side.Ref())
				}
			}
		}
	}
}
