package dns

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/berthdev/berth/cluster/object"
)

const (
	benchServices = 5000
	benchPods     = 10
)

func large() *object.NetworkView {
	v := &view{}
	for i := range benchServices {
		var pods []object.Endpoint
		for p := range benchPods {
			n := i*benchPods + p
			pods = append(pods, ready(fmt.Sprintf("s%04d-7f-%d", i, p), fmt.Sprintf("10.78.%d.%d", n/250, n%250), map[string]int{"http": 8080}))
		}
		spec := object.ServiceSpec{Address: fmt.Sprintf("10.79.%d.%d", i/250, i%250), Ports: []object.ServicePort{{Name: "http", Port: 80, Protocol: "tcp"}}}
		v.service(fmt.Sprintf("n%02d", i%50), fmt.Sprintf("s%04d", i), spec, pods...)
	}
	return v.build()
}

// BenchmarkApply is a view of 5,000 services with ten pods each: the first one,
// and one in which the pods of one service have changed.
func BenchmarkApply(b *testing.B) {
	ctx, v := context.Background(), large()
	b.Run("first", func(b *testing.B) {
		w := newWorld(b, patient)
		for b.Loop() {
			w.s.zone.Store(emptyZone())
			if err := w.s.Apply(ctx, v); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("one", func(b *testing.B) {
		w := newWorld(b, patient)
		if err := w.s.Apply(ctx, v); err != nil {
			b.Fatal(err)
		}
		next := *v
		next.Endpoints = slices.Clone(v.Endpoints)
		i := 0
		for b.Loop() {
			e := *next.Endpoints[i%benchServices]
			e.Spec.Ready, e.Spec.NotReady = e.Spec.Ready[1:], append(slices.Clone(e.Spec.NotReady), e.Spec.Ready[0])
			if len(e.Spec.Ready) == 0 {
				e.Spec.Ready, e.Spec.NotReady = e.Spec.NotReady, nil
			}
			next.Endpoints[i%benchServices] = &e
			if err := w.s.Apply(ctx, &next); err != nil {
				b.Fatal(err)
			}
			i += 7
		}
	})
}

// BenchmarkQuery is one client that asks and waits.
func BenchmarkQuery(b *testing.B) {
	out := newOutside(b, records(b, "www.example. 3600 IN A 198.51.100.2"))
	w := newWorld(b, patient)
	v := large()
	v.Network.Spec.Upstream = []string{out.addr}
	if err := w.s.Apply(context.Background(), v); err != nil {
		b.Fatal(err)
	}
	for what, name := range map[string]string{"service": "s0000.n00.svc.cluster.local.", "cached": "www.example."} {
		b.Run(what, func(b *testing.B) {
			c, err := dns.Dial("udp", w.addr)
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			m := new(dns.Msg)
			for b.Loop() {
				m.SetQuestion(name, dns.TypeA)
				if r, _, err := (&dns.Client{}).ExchangeWithConn(m, c); err != nil || len(r.Answer) != 1 {
					b.Fatal(r, err)
				}
			}
		})
	}
}

// BenchmarkBurst sends queries from sixteen sockets without waiting for answers,
// more than 20,000 a second, and counts those that got no right answer.
func BenchmarkBurst(b *testing.B) { burst(b, 22000) }

// BenchmarkFlood sends them as fast as it can with some hundred under way.
func BenchmarkFlood(b *testing.B) { burst(b, 0) }

func burst(b *testing.B, rate int) {
	const sockets = 16
	w := newWorld(b, patient)
	if err := w.s.Apply(context.Background(), large()); err != nil {
		b.Fatal(err)
	}
	query := new(dns.Msg)
	query.SetQuestion("s0000.n00.svc.cluster.local.", dns.TypeA)
	packet, err := query.Pack()
	if err != nil {
		b.Fatal(err)
	}
	var right atomic.Int64
	window := make(chan struct{}, 256)
	var readers sync.WaitGroup
	conns := make([]*dns.Conn, sockets)
	for i := range conns {
		if conns[i], err = dns.Dial("udp", w.addr); err != nil {
			b.Fatal(err)
		}
		c := conns[i].Conn
		raw, err := c.(*net.UDPConn).SyscallConn()
		if err != nil {
			b.Fatal(err)
		}
		if err := raw.Control(func(fd uintptr) { enlarge(int(fd)) }); err != nil { // it is the server's losses that count
			b.Fatal(err)
		}
		readers.Go(func() {
			buf := make([]byte, 512)
			for {
				n, err := c.Read(buf)
				if err != nil {
					return
				}
				// The code and the number of answers are in the header.
				if n > 12 && buf[3]&0xf == dns.RcodeSuccess && buf[7] == 1 {
					right.Add(1)
				}
				if rate == 0 {
					<-window
				}
			}
		})
	}
	b.ResetTimer()
	start := time.Now()
	for i := range b.N {
		if rate == 0 {
			window <- struct{}{}
		} else if ahead := time.Duration(i)*time.Second/time.Duration(rate) - time.Since(start); ahead > time.Millisecond {
			time.Sleep(ahead)
		}
		if _, err := conns[i%sockets].Conn.Write(packet); err != nil {
			b.Fatal(err)
		}
	}
	for end := time.Now().Add(3 * time.Second); right.Load() < int64(b.N) && time.Now().Before(end); {
		time.Sleep(100 * time.Microsecond)
	}
	took := time.Since(start)
	b.StopTimer()
	for _, c := range conns {
		c.Close()
	}
	readers.Wait()
	lost := int64(b.N) - right.Load()
	b.ReportMetric(float64(right.Load())/took.Seconds(), "queries/s")
	b.ReportMetric(float64(lost), "errors")
	if lost > 0 {
		b.Errorf("%d of %d queries got no right answer", lost, b.N)
	}
}
