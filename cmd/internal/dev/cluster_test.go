//go:build linux

package dev

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// testName is unlike that of any other run on this machine.
func testName() string { return fmt.Sprintf("bt%d", os.Getpid()%100000) }

// inNetns runs f inside a named network namespace.
func inNetns[T any](name string, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		ns, err := netns.GetFromName(name)
		if err == nil {
			defer ns.Close()
			err = netns.Set(ns)
		}
		var r result
		if r.err = err; err == nil {
			r.v, r.err = f()
		}
		done <- r
	}()
	r := <-done
	return r.v, r.err
}

func TestHostsReachEachOtherAndNothingIsLeft(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	dir := filepath.Join(t.TempDir(), "dev")
	c, err := New(dir, testName(), Ranges{Subnet: "10.231.7.0/24", Pods: "10.232.0.0/16", NodeBits: 24, Services: "10.233.0.0/16"}, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Down(context.Background(), func(string) {}, nothing) })
	if err := c.Add(RoleMaster, 1, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Add(RoleNode, 2, []string{"a", "b"}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it finds everything there
		if err := c.Network(); err != nil {
			t.Fatal(err)
		}
	}
	n1, _ := c.Host("n1")
	n2, _ := c.Host("n2")
	if n1.Zone != "a" || n2.Zone != "b" {
		t.Errorf("hosts %+v and %+v: want zones in turn", n1, n2)
	}

	listening, err := inNetns(c.netns("n2"), func() (net.Listener, error) { return net.Listen("tcp4", n2.Address+":0") })
	if err != nil {
		t.Fatal(err)
	}
	defer listening.Close()
	conn, err := inNetns(c.netns("n1"), func() (net.Conn, error) {
		return net.DialTimeout("tcp4", listening.Addr().String(), 5*time.Second)
	})
	if err != nil {
		t.Fatalf("n1 has no way to n2: %v", err)
	}
	defer conn.Close()
	if host, _, _ := net.SplitHostPort(conn.LocalAddr().String()); host != n1.Address {
		t.Errorf("n1 speaks from %s, want %s", host, n1.Address)
	}

	// A host's process survives us, is found again, and dies with its children.
	inside := filepath.Join(c.DataDir(n1), "x")
	if err := c.Start(n1, []string{"/bin/sh", "-c", "sleep 1000 & sleep 1000; : " + inside}, nil); err != nil {
		t.Fatal(err)
	}
	again, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	h, _ := again.Host("n1")
	if !h.Process.Alive() {
		t.Fatal("the process of n1 is not alive")
	}
	if err := again.Kill(h); err != nil {
		t.Fatal(err)
	}
	if h.Process.Alive() || !h.Stopped {
		t.Errorf("after the power cut: alive %v, stopped %v", h.Process.Alive(), h.Stopped)
	}
	if left := family(c.DataDir(n1)); len(left) > 0 {
		t.Errorf("processes %v outlived the power cut", left)
	}

	if err := again.Down(context.Background(), func(string) {}, nothing); err != nil {
		t.Fatal(err)
	}
	if _, err := netlink.LinkByName(c.File.Bridge); !errors.As(err, new(netlink.LinkNotFoundError)) {
		t.Errorf("the bridge is left: %v", err)
	}
	if _, err := os.Stat(filepath.Join(netnsDir, c.netns("n1"))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the namespace is left: %v", err)
	}
	if _, err := Open(dir); !errors.Is(err, ErrNone) {
		t.Errorf("Open after Down = %v, want ErrNone", err)
	}
}

func TestARangeInUseIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	c, err := New(filepath.Join(t.TempDir(), "dev"), testName(), Ranges{Subnet: "127.0.0.0/16", Pods: "10.232.0.0/16", Services: "10.233.0.0/16"}, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	err = c.Network()
	if err == nil || !strings.Contains(err.Error(), "choose another with --subnet") {
		t.Errorf("Network on the loopback range = %v", err)
	}
}

func TestRangesAreChecked(t *testing.T) {
	for _, x := range []struct {
		name, subnet, pods, want string
		split                    []string
		latency                  time.Duration
	}{
		{name: "berth", subnet: "10.1.0.0/25", pods: "10.2.0.0/16", want: "at least 256"},
		{name: "berth", subnet: "nonsense", pods: "10.2.0.0/16", want: "not an IPv4 range"},
		{name: "berth", subnet: "10.1.0.0/24", pods: "10.1.0.0/16", want: "overlap"},
		{name: "berth", subnet: "10.1.0.0/24", pods: "10.3.128.0/17", want: "the ranges 10.3.128.0/17 and 10.3.0.0/16 overlap"},
		{name: "Berth!", subnet: "10.1.0.0/24", pods: "10.2.0.0/16", want: "cannot be the name"},
		{name: "berth", subnet: "10.1.0.0/24", pods: "10.2.0.0/16", split: []string{"a", "b", "c", "d", "e"}, want: "5 zones cannot each"},
		{name: "berth", subnet: "10.1.0.0/24", pods: "10.2.0.0/16", latency: time.Second, want: "--latency is between segments"},
	} {
		if _, err := New(t.TempDir(), x.name, Ranges{Subnet: x.subnet, Pods: x.pods, Services: "10.3.0.0/16"}, x.split, x.latency); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("New(%q, %q, %q) = %v, want …%s…", x.name, x.subnet, x.pods, err, x.want)
		}
	}
}

func TestEndKillsWhatDoesNotListen(t *testing.T) {
	cmd := exec.Command("/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go cmd.Wait()
	out.Read(make([]byte, 6))
	start, err := startTime(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	p := Process{PID: cmd.Process.Pid, Start: start}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := p.end(ctx, 15); err != nil {
		t.Fatal(err)
	}
	if p.Alive() {
		t.Error("it is alive")
	}
	if other := (Process{PID: os.Getpid(), Start: "1"}); other.Alive() {
		t.Error("a pid that belongs to another process now counts as alive")
	}
}

func TestZonesWithSegmentsOfTheirOwn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	c, err := New(filepath.Join(t.TempDir(), "dev"), testName(), Ranges{Subnet: "10.231.8.0/24", Pods: "10.234.0.0/16", NodeBits: 24, Services: "10.235.0.0/16"}, []string{"a", "b"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Down(context.Background(), func(string) {}, nothing) })
	if err := errors.Join(c.Add(RoleMaster, 1, nil), c.Add(RoleNode, 4, []string{"a", "b", "c"})); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.Network(); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{"m1": "10.231.8.11", "n1": "10.231.8.130", "n2": "10.231.8.162", "n3": "10.231.8.101", "n4": "10.231.8.131"}
	for _, h := range c.File.Hosts {
		if h.Address != want[h.Name] {
			t.Errorf("%s has %s, want %s", h.Name, h.Address, want[h.Name])
		}
	}
	for to, near := range map[string]bool{"n4": true, "n2": false, "n3": false, "m1": false} {
		h, _ := c.Host(to)
		routes, err := inNetns(c.netns("n1"), func() ([]netlink.Route, error) { return netlink.RouteGet(net.ParseIP(h.Address)) })
		if err != nil || (routes[0].Gw == nil) != near {
			t.Errorf("from n1 to %s: %v, %v; on one segment: %v", to, routes, err, near)
		}
		l, err := inNetns(c.netns(to), func() (net.Listener, error) { return net.Listen("tcp4", h.Address+":0") })
		if err != nil {
			t.Fatal(err)
		}
		conn, err := inNetns(c.netns("n1"), func() (net.Conn, error) { return net.DialTimeout("tcp4", l.Addr().String(), 5*time.Second) })
		if err != nil {
			t.Errorf("from n1 to %s: %v", to, err)
		} else {
			conn.Close()
		}
		l.Close()
	}
	// This machine reaches the ranges, once they are given and somebody runs.
	n2, _ := c.Host("n2")
	if err := errors.Join(c.Start(n2, []string{"/bin/sleep", "1000"}, nil), c.Given(n2, "10.234.7.0/24")); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"10.234.7.9", "10.235.0.1"} {
		routes, err := netlink.RouteGet(net.ParseIP(to))
		if err != nil || routes[0].Gw.String() != n2.Address {
			t.Errorf("to %s: %v, %v", to, routes, err)
		}
	}
	if err := c.Down(context.Background(), func(string) {}, nothing); err != nil {
		t.Fatal(err)
	}
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, c.File.Bridge) {
			t.Errorf("%s is left", l.Attrs().Name)
		}
	}
}

// TestDelays says which of the two answers this kernel gives; both are fine.
func TestDelays(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if err := CanDelay(); err != nil && !strings.Contains(err.Error(), "it has no netem") {
		t.Error(err)
	}
}

// nothing is what these hosts leave elsewhere: their processes are no nodes.
func nothing(string) error { return nil }
