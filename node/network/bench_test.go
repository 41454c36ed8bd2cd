package network

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// plainPair is two namespaces with nothing but a veth pair between them: what the
// network between pods is measured by.
func plainPair(l *lab) (a, b *labPod) {
	l.t.Helper()
	var pods []*labPod
	for i := range 2 {
		path, _ := pinNamespace(l.t)
		pods = append(pods, &labPod{l, path, netip.AddrFrom4([4]byte{203, 0, 113, byte(i + 1)})})
	}
	other, err := netns.GetFromPath(pods[1].path)
	l.must(err)
	defer other.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	l.must(l.handle(pods[0].path).LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(other)}))
	for _, p := range pods {
		l.address(l.handle(p.path), "eth0", p.addr.String()+"/24")
	}
	return pods[0], pods[1]
}

// tracked gives the nodes the connection tracking that they have in earnest.
func tracked(l *lab) {
	if _, err := exec.LookPath("iptables"); err != nil {
		return
	}
	for _, n := range l.nodes {
		within(l.t, n.path, func() error {
			out, err := exec.Command("iptables", "-t", "nat", "-A", "POSTROUTING", "-s", n.r.String(), "-d", "10.77.0.0/16", "-j", "RETURN").CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
	}
}

// acrossNodes is pods of two nodes on one segment, and the plain pair. The segment
// is a bridge: it passes large packets on whole between its ports, wrapped or not.
// A router between two bridges would cut wrapped ones up in software, as no real
// router has to, and that would be measured instead.
func acrossNodes(b *testing.B, mode string) (one, two *labPod, plain [2]*labPod) {
	b.Helper()
	l := newLab(b)
	tracked(l)
	l.spec.Mode = mode
	l.tell("n1", "n2")
	one, two = l.nodes["n1"].pod("p"), l.nodes["n2"].pod("p")
	plain[0], plain[1] = plainPair(l)
	return one, two, plain
}

// sink takes what comes to port 81 and says how much when the sender has ended.
func (p *labPod) sink() {
	p.lab.t.Helper()
	var l net.Listener
	within(p.lab.t, p.path, func() (err error) {
		l, err = net.Listen("tcp4", netip.AddrPortFrom(p.addr, 81).String())
		return err
	})
	p.lab.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				block := make([]byte, 1<<20) // as send writes; io.Discard reads in 8 KiB, and that would be measured
				for err == nil {
					_, err = c.Read(block)
				}
				c.Write([]byte{0})
			}()
		}
	}()
}

// send pushes bytes to the sink and says how long it took until all were there.
func (p *labPod) send(b *testing.B, to *labPod, size int) time.Duration {
	var c net.Conn
	within(b, p.path, func() (err error) {
		c, err = net.Dial("tcp4", netip.AddrPortFrom(to.addr, 81).String())
		return err
	})
	defer c.Close()
	block := make([]byte, 1<<20)
	began := time.Now()
	for left := size; left > 0; left -= len(block) {
		if _, err := c.Write(block); err != nil {
			b.Fatal(err)
		}
	}
	c.(*net.TCPConn).CloseWrite()
	if _, err := c.Read(block[:1]); err != nil {
		b.Fatal(err)
	}
	return time.Since(began)
}

// BenchmarkAcrossNodes compares pods of two nodes with two namespaces on a veth
// pair, in turn, because the machine has other things to do as well: the median
// of the ratios of throughput, and the median added to a round trip.
func BenchmarkAcrossNodes(b *testing.B) {
	for _, mode := range []string{"route", "vxlan"} {
		b.Run(mode, func(b *testing.B) {
			one, to, plain := acrossNodes(b, mode)
			to.sink()
			plain[1].sink()
			to.serve()
			plain[1].serve()
			const size = 256 << 20 // long against a connection's beginning
			var ratios, speeds []float64
			for b.Loop() {
				across := one.send(b, to, size/2) // half before and half after the other
				direct := plain[0].send(b, plain[1], size)
				across += one.send(b, to, size/2)
				ratios = append(ratios, direct.Seconds()/across.Seconds())
				speeds = append(speeds, size/across.Seconds()/(1<<20))
			}
			var added []float64
			for range 20 {
				added = append(added, float64(one.roundTrip(b, to)-plain[0].roundTrip(b, plain[1]))/float64(time.Microsecond))
			}
			b.ReportMetric(median(ratios), "of-veth")
			b.ReportMetric(median(speeds), "MiB/s")
			b.ReportMetric(median(added), "added-us")
		})
	}
}

// roundTrip is the median time that a byte takes there and back.
func (p *labPod) roundTrip(b *testing.B, to *labPod) time.Duration {
	c, err := p.dial(to, 5*time.Second)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	x := make([]byte, 1)
	var times []time.Duration
	for range 300 {
		began := time.Now()
		if _, err := c.Write(x); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Read(x); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	return times[len(times)/2]
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}
