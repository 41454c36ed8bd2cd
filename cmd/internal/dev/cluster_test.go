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
	c, err := New(dir, testName(), "10.231.7.0/24", "10.232.0.0/16")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Down(context.Background(), func(string) {}) })
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
	if n1.Zone != "a" || n2.Zone != "b" || n1.PodRange == n2.PodRange {
		t.Errorf("hosts %+v and %+v: want zones in turn and pod ranges of their own", n1, n2)
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

	if err := again.Down(context.Background(), func(string) {}); err != nil {
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
	c, err := New(filepath.Join(t.TempDir(), "dev"), testName(), "127.0.0.0/16", "10.232.0.0/16")
	if err != nil {
		t.Fatal(err)
	}
	err = c.Network()
	if err == nil || !strings.Contains(err.Error(), "choose another with --subnet") {
		t.Errorf("Network on the loopback range = %v", err)
	}
}

func TestRangesAreChecked(t *testing.T) {
	for _, x := range []struct{ name, subnet, pods, want string }{
		{"berth", "10.1.0.0/25", "10.2.0.0/16", "at least 256"},
		{"berth", "nonsense", "10.2.0.0/16", "not an IPv4 range"},
		{"berth", "10.1.0.0/24", "10.1.0.0/16", "overlap"},
		{"Berth!", "10.1.0.0/24", "10.2.0.0/16", "cannot be the name"},
	} {
		if _, err := New(t.TempDir(), x.name, x.subnet, x.pods); err == nil || !strings.Contains(err.Error(), x.want) {
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
