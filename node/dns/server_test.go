package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/berthdev/berth/cluster/object"
)

// TestListening: what cannot be had is told once, in words that say what to do,
// and had as soon as it can be.
func TestListening(t *testing.T) {
	ctx := context.Background()
	var where atomic.Pointer[[]netip.AddrPort]
	at := func(a ...netip.AddrPort) { where.Store(&a) }
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.LocalAddr().(*net.UDPAddr).AddrPort()
	at(port)
	s, err := Open(Config{Listen: func() []netip.AddrPort { return *where.Load() }, ResolvConf: "/dev/null"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out := newOutside(t, records(t))
	v := shop()
	v.upstream = []string{out.addr}
	if err := s.Apply(ctx, v.build()); err != nil {
		t.Fatalf("a view cannot be applied: %v", err)
	}
	ensure := func(want string) (mended []string) {
		t.Helper()
		mended, err := s.Ensure(ctx)
		switch {
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Fatalf("Ensure said %v, want %q", err, want)
		}
		return mended
	}
	ensure(fmt.Sprintf("port %d/udp of 127.0.0.1 is taken by another process; stop it", port.Port()))
	ensure("") // told already

	at(netip.MustParseAddrPort("192.0.2.1:53")) // an address for examples: nobody has it
	ensure("this machine has no address 192.0.2.1 (yet)")
	if got := s.Addrs(); len(got) != 0 {
		t.Errorf("it listens at %v", got)
	}

	taken.Close()
	at(port)
	if mended := ensure(""); len(mended) != 1 || !strings.HasPrefix(mended[0], "names can be resolved again") {
		t.Errorf("mended %v", mended)
	}
	ask := func(network, addr string) error {
		m := new(dns.Msg)
		m.SetQuestion("web.shop.svc.cluster.local.", dns.TypeA)
		c := dns.Client{Net: network, Timeout: 5 * time.Second}
		r, _, err := c.Exchange(m, addr)
		if err == nil && brief(r) != "NOERROR | A 10.79.0.10" {
			err = fmt.Errorf("it says %s", brief(r))
		}
		return err
	}
	for _, network := range []string{"udp", "tcp"} {
		if err := ask(network, port.String()); err != nil {
			t.Error(err)
		}
	}
	// A socket that fails is opened anew.
	s.mu.Lock()
	s.sockets[port].servers[0].PacketConn.Close()
	s.mu.Unlock()
	var mended []string
	eventually(t, "the socket is found closed", func() bool { mended = ensure(""); return len(mended) > 0 })
	if !strings.Contains(mended[0], "had stopped listening") {
		t.Errorf("mended %v", mended)
	}
	if err := ask("udp", port.String()); err != nil {
		t.Error(err)
	}
	// Another address takes the place of the first, and leaves nothing behind.
	second := freePort(t)
	at(second)
	ensure("")
	if err := ask("udp", second.String()); err != nil {
		t.Error(err)
	}
	if err := ask("tcp", port.String()); err == nil {
		t.Error("it still listens at the address of before")
	}
	if err := s.Purge(); err != nil {
		t.Error(err)
	}
	if err := ask("tcp", second.String()); err == nil {
		t.Error("it listens after Purge")
	}
	if err := s.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
}

// TestViewsUnderLoad: while one view takes the place of the other, every answer
// is that of one of them, whole; once Apply has returned it is the last one's.
func TestViewsUnderLoad(t *testing.T) {
	build := func(n int) *view {
		v := &view{index: uint64(n)}
		v.service("n", "address", object.ServiceSpec{Address: fmt.Sprintf("10.79.0.%d", n)})
		var pods []object.Endpoint
		for i := range 5 {
			pods = append(pods, ready(fmt.Sprintf("p-%d", i), fmt.Sprintf("10.78.%d.%d", n, i+1), nil))
		}
		v.service("n", "pods", object.ServiceSpec{Type: "headless"}, pods...)
		v.service("n", fmt.Sprintf("only-%d", n), object.ServiceSpec{Address: "10.79.1.1"})
		return v
	}
	w := newWorld(t, patient)
	w.apply(build(1))
	whole := func(n int) string {
		var all []string
		for i := range 5 {
			all = append(all, fmt.Sprintf("A 10.78.%d.%d", n, i+1))
		}
		return "NOERROR | " + strings.Join(all, " | ")
	}
	allowed := map[string]map[string]bool{
		"address.n.svc.cluster.local.":  {"NOERROR | A 10.79.0.1": true, "NOERROR | A 10.79.0.2": true},
		"pods.n.svc.cluster.local.":     {whole(1): true, whole(2): true},
		"only-1.n.svc.cluster.local.":   {"NOERROR | A 10.79.1.1": true, noSuch: true},
		"p-3.pods.n.svc.cluster.local.": {"NOERROR | A 10.78.1.4": true, "NOERROR | A 10.78.2.4": true},
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var asked atomic.Int64
	for name, answers := range allowed {
		wg.Go(func() {
			c, err := dns.Dial("udp", w.addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			m := new(dns.Msg)
			for {
				select {
				case <-stop:
					return
				default:
				}
				m.SetQuestion(name, dns.TypeA)
				r, _, err := (&dns.Client{Timeout: 5 * time.Second}).ExchangeWithConn(m, c)
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				if got := brief(r); !answers[got] {
					t.Errorf("%s: %s", name, got)
					return
				}
				asked.Add(1)
			}
		})
	}
	views := []*object.NetworkView{build(1).build(), build(2).build()}
	for i := 0; asked.Load() < 5000 && !t.Failed(); i++ {
		n := i % 2
		if err := w.s.Apply(context.Background(), views[n]); err != nil {
			t.Fatal(err)
		}
		if got, want := brief(w.ask("udp", "address.n.svc.cluster.local", dns.TypeA)), fmt.Sprintf("NOERROR | A 10.79.0.%d", n+1); got != want {
			t.Fatalf("after Apply: %s, want %s", got, want)
		}
	}
	close(stop)
	wg.Wait()
}

// TestManyAtOnce: a burst from many clients, of names inside and outside, over
// UDP and TCP, gets every answer.
func TestManyAtOnce(t *testing.T) {
	out := newOutside(t, records(t, world0...))
	w := newWorld(t, patient)
	v := shop()
	v.upstream = []string{out.addr}
	w.apply(v)
	cases := make([]int, 0, len(everyRecord))
	for i := range everyRecord {
		cases = append(cases, i)
	}
	var wg sync.WaitGroup
	for client := range 40 {
		wg.Go(func() {
			network := "udp"
			if client%4 == 0 {
				network = "tcp"
			}
			c, err := dns.Dial(network, w.addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			for i := range 100 { // a connection is good for 128
				x := everyRecord[cases[(i+client)%len(cases)]]
				m := new(dns.Msg)
				m.SetQuestion(dns.Fqdn(x.name), x.qtype)
				r, _, err := (&dns.Client{Net: network, Timeout: 5 * time.Second}).ExchangeWithConn(m, c)
				if err != nil {
					t.Errorf("%s over %s: %v", x.name, network, err)
					return
				}
				if got := brief(r); got != x.want {
					t.Errorf("%s over %s: %s, want %s", x.name, network, got, x.want)
				}
			}
		})
	}
	wg.Wait()
}

// TestClosingWhileBusy: nobody is waited for who waits for others.
func TestClosingWhileBusy(t *testing.T) {
	long := patient
	long.try, long.total = time.Hour, time.Hour
	w := newWorld(t, long, silent(t))
	answers := make(chan struct{})
	go func() {
		defer close(answers)
		m := new(dns.Msg)
		m.SetQuestion("www.example.", dns.TypeA)
		_, _, _ = (&dns.Client{Timeout: time.Minute}).Exchange(m, w.addr)
	}()
	eventually(t, "a question under way", func() bool { return w.metric("berth_dns_cache_misses_total", "") == 1 })
	if err := w.s.Close(); err != nil {
		t.Error(err)
	}
	<-answers
}
