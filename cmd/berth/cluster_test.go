//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// realCluster is a development cluster of this test alone, driven through the
// binary as a person would.
type realCluster struct {
	t    *testing.T
	name string // of its namespaces
	bin  string
	dir  string
	env  []string
	shop string
}

// output is what a command printed and how it ended.
type output struct {
	stdout, stderr string
	code           int
}

func (c *realCluster) run(args ...string) output {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute) // clean-up outlives the test
	defer cancel()
	cmd := exec.CommandContext(ctx, c.bin, args...)
	cmd.Env = c.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.t.Fatalf("berth %v: %v", args, err)
	}
	return output{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// must runs a command that has to end with the code.
func (c *realCluster) must(code int, args ...string) output {
	c.t.Helper()
	out := c.run(args...)
	if out.code != code {
		c.t.Fatalf("berth %v ended with %d, want %d\n%s\n%s%s", args, out.code, code, out.stdout, out.stderr, c.logs())
	}
	return out
}

// logs are the last lines of every host.
func (c *realCluster) logs() string {
	var b strings.Builder
	files, _ := filepath.Glob(filepath.Join(c.dir, "logs", "*.log"))
	for _, f := range files {
		text, _ := os.ReadFile(f)
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		fmt.Fprintf(&b, "== %s\n%s\n", filepath.Base(f), strings.Join(lines[max(0, len(lines)-6):], "\n"))
	}
	return b.String()
}

// grep is the lines of every host's log that have one of the texts.
func (c *realCluster) grep(texts ...string) string {
	var b strings.Builder
	files, _ := filepath.Glob(filepath.Join(c.dir, "logs", "*.log"))
	for _, f := range files {
		text, _ := os.ReadFile(f)
		for line := range strings.Lines(string(text)) {
			if slices.ContainsFunc(texts, func(t string) bool { return strings.Contains(line, t) }) {
				fmt.Fprintf(&b, "%s: %s", filepath.Base(f), line)
			}
		}
	}
	return b.String()
}

// nodesReady waits until all nodes are; "not_ready" is not.
func (c *realCluster) nodesReady() {
	c.t.Helper()
	c.eventually("all nodes are ready", func() (string, bool) {
		nodes := get[object.Node](c, "nodes")
		var at []string
		for _, n := range nodes {
			at = append(at, n.Name+" "+string(n.Status.Condition))
		}
		return strings.Join(at, ", "), len(at) == 3 && !slices.ContainsFunc(nodes, func(n object.Node) bool { return n.Status.Condition != object.NodeReady })
	})
}

// dev is a `berth dev` command of this cluster.
func (c *realCluster) dev(args ...string) []string {
	return append([]string{"dev", "--dir", c.dir, "--name", c.name}, args...)
}

func get[T any](c *realCluster, args ...string) []T {
	c.t.Helper()
	var page struct {
		Items []T `json:"items"`
	}
	out := c.must(0, append(append([]string{"get"}, args...), "--json")...)
	if err := json.Unmarshal([]byte(out.stdout), &page); err != nil {
		c.t.Fatalf("get %v: %v\n%s", args, err, out.stdout)
	}
	return page.Items
}

// pods are the running, ready pods of the shop's deployment.
func (c *realCluster) pods(deployment string) []object.Pod {
	return slices.DeleteFunc(get[object.Pod](c, "pods", "-n", "shop"), func(p object.Pod) bool {
		return !strings.HasPrefix(p.Name, deployment+"-") || p.Spec.Stop || !p.Status.Ready
	})
}

// eventually polls until ok, and fails with what it saw last.
func (c *realCluster) eventually(what string, ok func() (seen string, done bool)) {
	c.t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(90 * time.Second)
	for {
		seen, done := ok()
		if done {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			c.t.Fatalf("waited too long until %s; at last: %s\n%s", what, seen, c.logs())
		}
	}
}

// shopVersion asks a pod over its address what it is.
func (c *realCluster) shopVersion(p object.Pod) (string, error) {
	client := http.Client{Timeout: 5 * time.Second}
	r, err := client.Get("http://" + p.Status.Address + ":8080/")
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return "", err
	}
	var v struct {
		Version     string `json:"version"`
		PasswordSet bool   `json:"password_set"`
		Greeting    string `json:"greeting"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return "", err
	}
	if !v.PasswordSet || !strings.HasPrefix(v.Greeting, "Welcome to the shop:") {
		return "", fmt.Errorf("the pod lacks its secret or its configuration: %s", b)
	}
	return v.Version, nil
}

// host is a line of `dev status`.
func (c *realCluster) pid(host string) int {
	c.t.Helper()
	for line := range strings.Lines(c.must(0, c.dev("status")...).stdout) {
		if f := strings.Fields(line); len(f) > 5 && f[0] == host {
			for _, x := range f {
				if pid, err := strconv.Atoi(x); err == nil {
					return pid
				}
			}
		}
	}
	c.t.Fatalf("host %s has no process", host)
	return 0
}

func (c *realCluster) leader() string {
	c.t.Helper()
	var leader string
	c.eventually("the masters have a leader", func() (string, bool) {
		out := c.run("master", "list", "--json")
		var masters []object.Master
		if err := json.Unmarshal([]byte(out.stdout), &masters); err != nil {
			return out.stdout + out.stderr, false
		}
		for _, m := range masters {
			if m.Leader {
				leader = m.Name
			}
		}
		return out.stdout, leader != ""
	})
	return leader
}

// containers are the ids of the running containers by pod.
func containers(pods []object.Pod) map[string]string {
	out := map[string]string{}
	for _, p := range pods {
		for _, s := range p.Status.Containers {
			out[p.Name+"/"+s.Name] = s.ID
		}
	}
	return out
}

// processes with a word in their command line.
func processes(word string) []int {
	var out []int
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		args, err := os.ReadFile(f)
		if pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil && pid != os.Getpid() && strings.Contains(string(args), word) {
			out = append(out, pid)
		}
	}
	return out
}

// startReal starts a development cluster of its own for the test, as make setup has
// prepared the machine for, and takes it down at the end.
func startReal(t *testing.T, name, subnet, pods string, up ...string) *realCluster {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a whole cluster")
	}
	if os.Geteuid() != 0 {
		t.Skip("network namespaces and containers need root")
	}
	for _, tool := range []string{"containerd", "runc", "iptables"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed; make setup does it", tool)
		}
	}
	tmp := t.TempDir()
	c := &realCluster{t: t, name: name, bin: filepath.Join(tmp, "berth"), dir: filepath.Join(tmp, "dev")}
	c.env = append(os.Environ(), "BERTH_CONFIG="+filepath.Join(tmp, "config"), "HOME="+tmp, "NO_COLOR=1", "BERTH_CLUSTER=", "BERTH_ADDR=", "BERTH_PIN_IMAGES=cluster")
	c.shop, _ = filepath.Abs("../../examples/shop")
	c.build(c.bin, "", ".")
	t.Cleanup(func() {
		c.t = t
		if out := c.run(c.dev("down")...); out.code != 0 {
			t.Errorf("dev down: %s%s", out.stdout, out.stderr)
		}
	})
	c.must(0, c.dev(append([]string{"up", "--subnet", subnet, "--pods", pods, "--resolv-conf", "/dev/null"}, up...)...)...)
	return c
}

// build makes a program with linker flags.
func (c *realCluster) build(out, flags, pkg string) {
	c.t.Helper()
	cmd := exec.Command("go", "build", "-ldflags", flags, "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("go build %s: %v\n%s", pkg, err, b)
	}
}

// image gives a version of the demo's program to every node.
func (c *realCluster) image(version, flags string) {
	c.t.Helper()
	tmp := filepath.Dir(c.dir)
	program, archive := filepath.Join(tmp, "web"), filepath.Join(tmp, "web-"+version+".tar")
	c.build(program, "-X main.version="+version+" "+flags, "../../examples/shop/web")
	c.must(0, "image", "pack", program, "--tag", "shop/web:"+version, "--out", archive)
	c.must(0, "image", "import", archive)
}

// TestRealCluster is the evening with a new cluster: real masters, real
// nodes, real containers, and everything that can be killed is killed.
func TestRealCluster(t *testing.T) {
	groups := controlGroups(t)
	c := startReal(t, "bt", "10.233.7.0/24", "10.234.0.0/16", "--masters", "3", "--nodes", "3", "--node-timeout", "6s")
	tmp := filepath.Dir(c.dir)
	again := c.must(0, c.dev("up", "--masters", "3", "--nodes", "3")...)
	if !strings.Contains(again.stdout, "The cluster is ready") {
		t.Errorf("up again: %s", again.stdout)
	}
	c.image("1", "")
	c.image("2", "")
	c.image("3", "-X main.broken=yes")

	step := func(name string, f func(t *testing.T)) {
		if !t.Run(name, func(t *testing.T) { c.t = t; f(t) }) {
			t.FailNow() // what follows builds on it
		}
		c.t = t
	}
	versions := func(want string, pods []object.Pod) {
		c.t.Helper()
		for _, p := range pods {
			if v, err := c.shopVersion(p); err != nil || v != want {
				c.t.Errorf("%s at %s says version %q, %v; want %s", p.Name, p.Status.Address, v, err, want)
			}
		}
	}

	step("a saved plan is applied as it is", func(t *testing.T) {
		plan := filepath.Join(tmp, "v1.plan")
		out := c.must(2, "-C", c.shop, "plan", "-out="+plan, "-detailed-exitcode")
		if !strings.Contains(out.stdout, "Plan: 7 to add, 0 to change, 0 to destroy.") {
			t.Errorf("plan: %s", out.stdout)
		}
		if b, _ := os.ReadFile(plan); bytes.Contains(b, []byte("correct horse")) {
			t.Error("the plan file holds the password")
		}
		out = c.must(0, "apply", plan)
		if !strings.Contains(out.stdout, "Apply complete! Resources: 7 added, 0 changed, 0 destroyed.") || !strings.Contains(out.stdout, "The plan held: 6 of 6 placements") {
			t.Errorf("apply: %s", out.stdout)
		}
		pods := c.pods("web")
		if len(pods) != 4 {
			t.Fatalf("%d ready front ends, want 4", len(pods))
		}
		versions("1", pods)
		c.must(0, "-C", c.shop, "plan", "-detailed-exitcode")
	})
	step("logs of a pod and of a deployment", func(t *testing.T) {
		pods := c.pods("web")
		one := c.must(0, "logs", "-n", "shop", pods[0].Name)
		if !strings.Contains(one.stdout, "web version 1 starting as "+pods[0].Name) {
			t.Errorf("logs: %q", one.stdout)
		}
		all := c.must(0, "-C", c.shop, "logs", "deployment/web")
		for _, p := range pods {
			if !strings.Contains(all.stdout, p.Name+" | web version 1 starting") {
				t.Errorf("logs of the deployment lack %s:\n%s", p.Name, all.stdout)
			}
		}
	})
	step("a new version rolls", func(t *testing.T) {
		out := c.must(0, "-C", c.shop, "apply", "-auto-approve", "-var", "release=2")
		if !strings.Contains(out.stdout, "Apply complete! Resources: 0 added, 1 changed, 0 destroyed.") {
			t.Errorf("apply: %s", out.stdout)
		}
		versions("2", c.pods("web"))
	})
	step("a broken version is put back, and apply says why", func(t *testing.T) {
		before := containers(c.pods("web"))
		out := c.must(exitFailed, "-C", c.shop, "apply", "-auto-approve", "-var", "release=3")
		for _, want := range []string{"failed and was reverted", "prices.db: schema 7 expected, 6 found"} {
			if !strings.Contains(out.stdout+out.stderr, want) {
				t.Errorf("apply does not say %q:\n%s\n%s", want, out.stdout, out.stderr)
			}
		}
		c.must(0, "-C", c.shop, "plan", "-detailed-exitcode", "-var", "release=2")
		if after := containers(c.pods("web")); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("healthy pods were touched by the revert:\nbefore %v\nafter  %v", before, after)
		}
	})
	step("an image that does not exist is put back", func(t *testing.T) {
		out := c.must(exitFailed, "-C", c.shop, "apply", "-auto-approve", "-var", "release=nonsense")
		if !strings.Contains(out.stdout+out.stderr, "shop/web:nonsense") {
			t.Errorf("apply does not name the image:\n%s\n%s", out.stdout, out.stderr)
		}
	})
	step("a killed process is restarted in its pod", func(t *testing.T) {
		victim := c.pods("web")[0]
		pid := processOf(t, victim)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		c.eventually("the container runs again", func() (string, bool) {
			for _, p := range c.pods("web") {
				if p.Name == victim.Name {
					return fmt.Sprintf("%+v", p.Status), p.Status.Containers[len(p.Status.Containers)-1].Restarts == 1 && p.Created == victim.Created
				}
			}
			return "the pod is not ready", false
		})
	})
	step("a killed agent and a killed containerd disturb no container", func(t *testing.T) {
		before := containers(append(c.pods("web"), c.pods("stock")...))
		if err := syscall.Kill(c.pid("n1"), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		c.must(0, c.dev("start", "n1")...)
		for _, pid := range processes("containerd\x00--config\x00" + filepath.Join(c.dir, "n2")) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		c.eventually("all nodes are ready", func() (string, bool) {
			nodes := get[object.Node](c, "nodes")
			seen := ""
			ok := len(processes("containerd\x00--config\x00"+filepath.Join(c.dir, "n2"))) > 0
			for _, n := range nodes {
				seen += fmt.Sprintf("%s %s; ", n.Name, n.Status.Condition)
				ok = ok && n.Status.Condition == object.NodeReady
			}
			return seen, ok
		})
		after := containers(append(c.pods("web"), c.pods("stock")...))
		if fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("containers changed:\nbefore %v\nafter  %v", before, after)
		}
	})
	step("the leader's death is survived", func(t *testing.T) {
		leader := c.leader()
		c.must(0, c.dev("stop", leader, "--kill")...)
		out := c.must(0, "-C", c.shop, "apply", "-auto-approve", "-var", "release=2", "-var", "replicas=9")
		if !strings.Contains(out.stdout, "0 added, 1 changed") {
			t.Errorf("apply without %s: %s", leader, out.stdout)
		}
		if n := len(c.pods("web")); n != 9 {
			t.Errorf("%d front ends, want 9", n)
		}
		c.must(0, c.dev("start", leader)...)
		c.must(0, "-C", c.shop, "apply", "-auto-approve", "-var", "release=2")
	})
	step("a drained node has no pods left, and readiness holds", func(t *testing.T) {
		c.must(0, "node", "drain", "n1")
		for _, p := range append(c.pods("web"), c.pods("stock")...) {
			if p.Spec.Node == "n1" {
				t.Errorf("%s is on the drained node", p.Name)
			}
		}
		c.must(0, "node", "uncordon", "n1")
	})
	step("a dead node's pods are replaced, and it comes back empty", func(t *testing.T) {
		c.must(0, c.dev("stop", "n3", "--kill")...)
		c.eventually("the pods are elsewhere", func() (string, bool) {
			pods := c.pods("web")
			elsewhere := !slices.ContainsFunc(pods, func(p object.Pod) bool { return p.Spec.Node == "n3" })
			return fmt.Sprint(len(pods)), elsewhere && len(pods) == 4
		})
		versions("2", c.pods("web"))
		c.must(0, c.dev("start", "n3")...)
		c.nodesReady()
	})
	step("what fits nowhere is refused with the whole reason", func(t *testing.T) {
		dir := filepath.Join(tmp, "big")
		writeFile(t, filepath.Join(dir, "main.hcl"), `deployment "big" {
  pod {
    container "c" {
      image = "shop/web:1"
      resources { memory = "900Gi" }
    }
  }
}
`)
		c.nodesReady() // a machine that stands still for some seconds has them all lost
		out := c.must(exitUnplaceable, "-C", dir, "apply", "-auto-approve")
		if !strings.Contains(out.stdout, "0 of 3 nodes fit: 3 memory (asks 900Gi, ") {
			t.Errorf("apply: %s\n%s", out.stdout, out.stderr)
		}
	})
	step("rollback puts the whole stack back", func(t *testing.T) {
		c.must(0, "-C", c.shop, "rollback", "1", "--auto-approve")
		versions("1", c.pods("web"))
	})
	step("destroy and down leave nothing", func(t *testing.T) {
		c.must(0, "-C", c.shop, "destroy", "-auto-approve")
		if pods := get[object.Pod](c, "pods", "-A"); len(pods) > 0 {
			c.eventually("no pod is left", func() (string, bool) {
				pods := get[object.Pod](c, "pods", "-A")
				return fmt.Sprint(len(pods)), len(pods) == 0
			})
		}
		// One of the nodes has no agent any more that could clear away.
		if err := syscall.Kill(c.pid("n1"), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		c.must(0, c.dev("down")...)
		for _, g := range controlGroups(t) {
			if !slices.Contains(groups, g) {
				t.Errorf("a control group is left: %s", g)
			}
		}
		if left := processes(c.dir); len(left) > 0 {
			t.Errorf("processes are left: %v", left)
		}
		for what, cmd := range map[string][]string{
			"namespaces": {"ip", "netns", "list"}, "links": {"ip", "-o", "link"}, "mounts": {"cat", "/proc/self/mounts"}, "rules": {"iptables-save"},
		} {
			b, err := exec.Command(cmd[0], cmd[1:]...).Output()
			if err != nil {
				t.Errorf("%v: %v", cmd, err)
			}
			for line := range strings.Lines(string(b)) {
				if strings.Contains(line, c.dir) || strings.HasPrefix(line, "bt-") || strings.Contains(line, ": bt") || strings.Contains(line, "10.234.") {
					t.Errorf("%s are left: %s", what, line)
				}
			}
		}
	})
}

// controlGroups are those of nodes on this machine.
func controlGroups(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, pattern := range []string{"/sys/fs/cgroup/berth-*", "/sys/fs/cgroup/*/berth-*"} { // versions 2 and 1
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, found...)
	}
	return out
}

// processOf is the process of the demo server in a pod, found by its host name.
func processOf(t *testing.T, p object.Pod) int {
	t.Helper()
	for _, pid := range processes("/web\x00web") {
		// The UTS namespace is the pod's: its name is the pod's name.
		out, err := exec.Command("nsenter", "--uts", "--target", strconv.Itoa(pid), "hostname").Output()
		if err == nil && strings.TrimSpace(string(out)) == p.Name {
			return pid
		}
	}
	t.Fatalf("no process of %s is found", p.Name)
	return 0
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
