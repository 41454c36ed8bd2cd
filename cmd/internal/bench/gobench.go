package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// goal says which benchmark answers which question. Metric is the unit in the
// benchmark's line; Scale turns it into Unit.
type goal struct {
	pkg, bench   string
	metric, unit string
	scale        float64
	name         string
	bound        float64
	higher       bool
	time         string // -benchtime; default 1s
	peer         string // Debian's package and program that it is compared with; without it the figure is left out
}

const (
	nsToMs = 1e-6
	nsToS  = 1e-9
)

var goals = []goal{
	{pkg: "hcl", bench: "LoadLiteral", metric: "ns/op", unit: "s", scale: nsToS, name: "load 10,000 blocks in 20 files"},
	{pkg: "hcl", bench: "LoadForEach", metric: "ns/op", unit: "s", scale: nsToS, name: "load 10,000 by for_each"},
	{pkg: "cmd/berth", bench: "Test100Runs", metric: "ns/op", unit: "s", scale: nsToS, name: "berth test: 100 runs of examples/shop", bound: 1},
	{pkg: "planner", bench: "Diff10000New", metric: "ns/op", unit: "ms", scale: nsToMs, name: "diff of 10,000 new deployments"},
	{pkg: "planner", bench: "Diff10000OneChanged", metric: "ns/op", unit: "ms", scale: nsToMs, name: "diff with one change among 10,000"},
	{pkg: "planner", bench: "Forecast1000Pods", metric: "ns/op", unit: "s", scale: nsToS, name: "forecast of a rollout of 1,000 pods", bound: 0.3},
	{pkg: "planner", bench: "Forecast10000Deployments", metric: "ns/op", unit: "s", scale: nsToS, name: "forecast of 10,000 new deployments with a pod each", time: "1x"},
	{pkg: "planner", bench: "Reachability/policy", metric: "ns/op", unit: "ms", scale: nsToMs, name: "reachability: one of 1,000 policies changes", bound: 200},
	{pkg: "planner", bench: "Reachability/namespace", metric: "ns/op", unit: "s", scale: nsToS, name: "reachability: 1,000 applications cut off at once", bound: 4, time: "1x"},
	{pkg: "cluster/scheduler", bench: "Kernel/classes=100", metric: "ns/op", unit: "s", scale: nsToS, name: "kernel: 1,000,000 placements on 10,000 nodes", bound: 1},
	{pkg: "cluster/scheduler", bench: "Place/pods=10000/nodes=5000/sets=100", metric: "ns/op", unit: "ms", scale: nsToMs, name: "scheduler: 10,000 pods onto 5,000 nodes"},
	{pkg: "cluster/consensus", bench: "Propose/writers=1", metric: "ns/op", unit: "ms", scale: nsToMs, name: "commit through three masters, one writer"},
	{pkg: "cluster/consensus", bench: "Propose/writers=100", metric: "commits/s", unit: "/s", scale: 1, name: "commits through three masters, 100 writers"},
	{pkg: "cluster/clustertest", bench: "Place10kPods", metric: "total-s", unit: "s", scale: 1, name: "10,000 pods onto 5,000 nodes through three masters", bound: 0.6, time: "2x"},
	{pkg: "node/proxy", bench: "Policies/first", metric: "ns/op", unit: "ms", scale: nsToMs, name: "policies: 100 pods under 10 policies of 500 peers, from nothing", bound: 1000, time: "5x"},
	{pkg: "node/proxy", bench: "Policies/change", metric: "ns/op", unit: "ms", scale: nsToMs, name: "policies: one more peer among 5,000", bound: 50},
	{pkg: "node/proxy", bench: "Policies/pod", metric: "ns/op", unit: "ms", scale: nsToMs, name: "policies: a pod held, and released again", bound: 100},
	{pkg: "node/ingress", bench: "KeepAlive", metric: "req/s", unit: "/s", scale: 1, name: "ingress: requests over keep-alive connections", time: "120000x"},
	{pkg: "node/ingress", bench: "KeepAlive", metric: "x-nginx", unit: "x", scale: 1, name: "ingress: requests against nginx", bound: 0.55, higher: true, time: "120000x", peer: "nginx"},
	{pkg: "node/ingress", bench: "KeepAlive", metric: "p99-x-nginx", unit: "x", scale: 1, name: "ingress: 99th percentile against nginx", bound: 2, time: "120000x", peer: "nginx"},
	{pkg: "node/ingress", bench: "Apply", metric: "ns/op", unit: "ms", scale: nsToMs, name: "ingress: one service of 5,000 changes", bound: 50},
	{pkg: "node/runtime", bench: "Pods/workers=1", metric: "ns/op", unit: "ms", scale: nsToMs, name: "runtime: one container started", bound: 250},
	{pkg: "node/runtime", bench: "Pods/workers=4", metric: "pods/s", unit: "pods/s", scale: 1, name: "runtime: pods started, four at a time", bound: 15, higher: true},
	{pkg: "node/network", bench: "Attach", metric: "ns/op", unit: "ms", scale: nsToMs, name: "network: a pod attached", bound: 5},
	{pkg: "node/network", bench: "AcrossNodes/route", metric: "of-veth", unit: "×", scale: 1, name: "network: pods of two nodes by routes, throughput of a veth pair's", bound: 0.9, higher: true, time: "15x"},
	{pkg: "node/network", bench: "AcrossNodes/route", metric: "added-us", unit: "µs", scale: 1, name: "network: added to a round trip by routes", bound: 50, time: "5x"},
	{pkg: "node/network", bench: "AcrossNodes/vxlan", metric: "of-veth", unit: "×", scale: 1, name: "network: pods of two nodes through VXLAN, throughput of a veth pair's", time: "15x"},
	{pkg: "node/network", bench: "AcrossNodes/vxlan", metric: "added-us", unit: "µs", scale: 1, name: "network: added to a round trip through VXLAN", bound: 50, time: "5x"},
	{pkg: "node/agent", bench: "Pods/one", metric: "ns/op", unit: "ms", scale: nsToMs, name: "agent: from bind to ready, one pod", bound: 250, time: "20x"},
	{pkg: "node/agent", bench: "Pods/wave", metric: "pods/s", unit: "pods/s", scale: 1, name: "agent: pods started per second, thirty bound at once", bound: 15, higher: true, time: "60x"},
	{pkg: "node/dns", bench: "Apply/first", metric: "ns/op", unit: "ms", scale: nsToMs, name: "names: first view, 5,000 services with ten pods each"},
	{pkg: "node/dns", bench: "Apply/one", metric: "ns/op", unit: "ms", scale: nsToMs, name: "names: a change of one service among 5,000", bound: 50},
	{pkg: "node/dns", bench: "Query/service", metric: "ns/op", unit: "ms", scale: nsToMs, name: "names: one query of a service"},
	{pkg: "node/dns", bench: "Burst", metric: "queries/s", unit: "/s", scale: 1, name: "names: a burst, answered without an error", bound: 20000, higher: true, time: "60000x"},
	{pkg: "node/dns", bench: "Flood", metric: "queries/s", unit: "/s", scale: 1, name: "names: as fast as they are answered", time: "60000x"},
	{pkg: "node/proxy", bench: "ServicesSync/services=5000", metric: "ns/op", unit: "s", scale: nsToS, name: "proxy: first sync of 5,000 services of 10 endpoints", bound: 3, time: "1x"},
	{pkg: "node/proxy", bench: "ServicesChange", metric: "ns/op", unit: "ms", scale: nsToMs, name: "proxy: one service of 5,000 changes", bound: 50, time: "20x"},
	{pkg: "node/proxy", bench: "ServicesConnect", metric: "worst/ten", unit: "x", scale: 1, name: "proxy: connect with 5,000 services against 10", bound: 1.1, time: "1x"},
	{pkg: "node/proxy", bench: "ServicesConnect", metric: "worst/direct", unit: "x", scale: 1, name: "proxy: connect through one of 5,000 services against direct", bound: 1.3, time: "1x"},
	{pkg: "node/proxy", bench: "ServicesMemory", metric: "MB", unit: "MB", scale: 1, name: "proxy: memory of a process with 1,000 services", bound: 60, time: "1x"},
	{pkg: "node/proxy", bench: "ServicesEnsure/quiet", metric: "ns/op", unit: "ms", scale: nsToMs, name: "proxy: looking after 5,000 services, nobody at them", time: "20x"},
}

// goBenchmarks runs each package's benchmarks once and picks the figures.
func goBenchmarks() ([]Figure, error) {
	var out []Figure
	var pkgs []string
	byPkg := map[string][]goal{}
	dir, err := os.MkdirTemp("", "berth-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	for _, g := range goals {
		if err := fetchPeer(dir, g.peer); err != nil {
			fmt.Fprintf(os.Stderr, "bench: without %s: %v\n", g.name, err)
			continue
		}
		if byPkg[g.pkg] == nil {
			pkgs = append(pkgs, g.pkg)
		}
		byPkg[g.pkg] = append(byPkg[g.pkg], g)
	}
	for _, pkg := range pkgs {
		lines := map[string]map[string]float64{}
		for _, g := range byPkg[pkg] {
			name := strings.ReplaceAll(g.bench, "/", "$/^") // -bench matches element by element
			if lines[g.bench] != nil {
				continue // another figure of the same run
			}
			if g.time == "" {
				g.time = "1s"
			}
			cmd := exec.Command("go", "test", "-run", "^$", "-bench", "^Benchmark"+name+"$", "-benchtime", g.time, "-timeout", "5m", "./"+pkg)
			cmd.Stderr = os.Stderr
			text, err := cmd.Output()
			if err != nil {
				return nil, fmt.Errorf("%s: %w\n%s", pkg, err, text)
			}
			for k, v := range parse(text) {
				lines[k] = v
			}
		}
		for _, g := range byPkg[pkg] {
			v, ok := lines[g.bench][g.metric]
			if !ok {
				return nil, fmt.Errorf("%s: Benchmark%s gave no %s", pkg, g.bench, g.metric)
			}
			out = append(out, Figure{Name: g.name, Value: v * g.scale, Unit: g.unit, Goal: g.bound, Higher: g.higher})
		}
	}
	return out, nil
}

// fetchPeer makes sure that a program is in PATH: one that is not installed is
// unpacked from Debian's package into the directory. Nothing is installed, for that
// would start services.
func fetchPeer(dir, name string) error {
	if name == "" {
		return nil
	}
	if _, err := exec.LookPath(name); err == nil {
		return nil
	}
	get := exec.Command("apt-get", "download", name)
	get.Dir = dir
	if text, err := get.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get download %s: %w: %s", name, err, bytes.TrimSpace(text))
	}
	packages, err := filepath.Glob(filepath.Join(dir, name+"_*.deb"))
	if err != nil || len(packages) != 1 {
		return fmt.Errorf("apt-get download %s left %d packages", name, len(packages))
	}
	if text, err := exec.Command("dpkg-deb", "-x", packages[0], dir).CombinedOutput(); err != nil {
		return fmt.Errorf("unpacking %s: %w: %s", name, err, bytes.TrimSpace(text))
	}
	if err := os.Setenv("PATH", os.Getenv("PATH")+":"+filepath.Join(dir, "usr/sbin")+":"+filepath.Join(dir, "usr/bin")); err != nil {
		return err
	}
	_, err = exec.LookPath(name)
	return err
}

// parse reads the result lines of `go test -bench`: name, runs, then pairs of
// value and unit.
func parse(text []byte) map[string]map[string]float64 {
	out := map[string]map[string]float64{}
	for sc := bufio.NewScanner(bytes.NewReader(text)); sc.Scan(); {
		f := strings.Fields(sc.Text())
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		name := strings.TrimPrefix(f[0], "Benchmark")
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			if _, err := strconv.Atoi(name[i+1:]); err == nil {
				name = name[:i]
			}
		}
		m := map[string]float64{}
		for i := 2; i+1 < len(f); i += 2 {
			if v, err := strconv.ParseFloat(f[i], 64); err == nil {
				m[f[i+1]] = v
			}
		}
		out[name] = m
	}
	return out
}
