package agent

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	goruntime "runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthdev/berth/cluster/object"
)

// Capacity says how much of the machine is for pods. Zero values are found out.
type Capacity struct {
	CPU           object.CPU   // overrides what the machine has
	Memory        object.Bytes // overrides what the machine has
	ReserveCPU    object.CPU   // kept for the machine itself
	ReserveMemory object.Bytes // kept for the machine itself; 0: a twentieth, at least 128 MiB
	Pods          int          // default 110; never more than there are addresses
}

// Machine describes this machine as a node: what is for pods and its attributes.
// Extra attributes (containerd's version) are added as they are.
func Machine(c Capacity, version, address, podRange string, extra map[string]string) (object.NodeStatus, error) {
	memory := c.Memory
	if memory == 0 {
		total, err := totalMemory()
		if err != nil {
			return object.NodeStatus{}, fmt.Errorf("this machine's memory: %w", err)
		}
		reserve := c.ReserveMemory
		if reserve == 0 {
			reserve = max(total/20, 128<<20)
		}
		memory = max(total-reserve, 0)
	} else {
		memory = max(memory-c.ReserveMemory, 0)
	}
	cpu := c.CPU
	if cpu == 0 {
		cpu = object.CPU(goruntime.NumCPU() * 1000)
	}
	pods := c.Pods
	if pods == 0 {
		pods = 110
	}
	if r, err := netip.ParsePrefix(podRange); err == nil && r.Addr().BitLen()-r.Bits() < 16 {
		pods = min(pods, max(1<<(r.Addr().BitLen()-r.Bits())-3, 0)) // network, gateway and broadcast are not for pods
	}
	attrs := map[string]string{"os": goruntime.GOOS, "arch": goruntime.GOARCH, "kernel": kernel(), "berth": version}
	for k, v := range extra {
		attrs[k] = v
	}
	return object.NodeStatus{
		Address: address, CPU: max(cpu-c.ReserveCPU, 0), Memory: memory, Pods: pods,
		Attributes: attrs, PodRange: podRange, Version: version,
	}, nil
}

// totalMemory is the machine's memory, or less if this process may use less.
func totalMemory() (object.Bytes, error) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	var total int64
	s := bufio.NewScanner(bytes.NewReader(b))
	for s.Scan() {
		f := strings.Fields(s.Text())
		if len(f) >= 2 && f[0] == "MemTotal:" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return 0, err
			}
			total = kib << 10
		}
	}
	if total == 0 {
		return 0, fmt.Errorf("/proc/meminfo has no MemTotal")
	}
	for _, p := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		if b, err := os.ReadFile(p); err == nil {
			if limit, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && limit > 0 {
				total = min(total, limit)
			}
		}
	}
	return object.Bytes(total), nil
}

func kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// freeDisk is the space in bytes that is left below dir.
func freeDisk(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * s.Bsize, nil
}

// observe tells the masters how the machine is, and keeps its packet rules.
func (a *Agent) observe(ctx context.Context) {
	a.judge()
	rules := time.Now()
	for {
		period := checkPeriod
		if a.reports.unwell() {
			period = time.Second // ready again as soon as it is
		}
		if !sleep(ctx, period) {
			return
		}
		a.judge()
		if time.Since(rules) < rulesPeriod {
			continue
		}
		rules = time.Now()
		var errs []error
		if a.cfg.Firewall != nil {
			errs = append(errs, a.cfg.Firewall.Ensure())
		}
		if a.cfg.HostPorts != nil {
			errs = append(errs, a.cfg.HostPorts.Ensure())
		}
		if err := errors.Join(errs...); err != nil {
			a.log.Error("packet rules", "error", err)
		}
	}
}

// judge decides whether the node can take pods.
func (a *Agent) judge() {
	s := a.cfg.Status
	s.Condition = object.NodeReady
	if message := a.unfit(); message != "" {
		s.Condition, s.Message = object.NodeNotReady, message
	}
	a.reports.setStatus(s)
}

// unfit says why the node cannot take pods; empty if it can.
func (a *Agent) unfit() string {
	a.mu.Lock()
	leaving := a.leaving
	a.mu.Unlock()
	if leaving {
		return "the node is being stopped and emptied"
	}
	if err := a.cfg.Runtime.Health(); err != nil {
		return "containers cannot be started: " + err.Error()
	}
	free, err := freeDisk(a.cfg.Dir)
	if err != nil {
		return "the data directory cannot be used: " + err.Error()
	}
	if free < a.cfg.MinDisk {
		return fmt.Sprintf("the disk is full: %s free below %s, %s are needed; remove something or give it more space",
			object.Bytes(free).Human(), a.cfg.Dir, object.Bytes(a.cfg.MinDisk).Human())
	}
	if a.cfg.Check != nil {
		if err := a.cfg.Check(); err != nil {
			return err.Error()
		}
	}
	return ""
}
