package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/berthdev/berth/cluster/object"
)

func TestAnswersFromOutsideAreKept(t *testing.T) {
	out := newOutside(t, records(t, "www.example. 300 IN A 198.51.100.2", "now.example. 0 IN A 198.51.100.4"))
	w := newWorld(t, patient, out.addr)
	for range 3 {
		w.ask("udp", "www.example", dns.TypeA)
		w.ask("udp", "WWW.example", dns.TypeA)
		w.ask("udp", "no.example", dns.TypeA)
		w.ask("udp", "www.example", dns.TypeAAAA)
		w.ask("udp", "now.example", dns.TypeA)
	}
	for what, want := range map[string]int{
		"udp www.example. A": 1, "udp no.example. A": 1, "udp www.example. AAAA": 1,
		"udp now.example. A": 3, // its TTL is 0
	} {
		if got := out.count(what); got != want {
			t.Errorf("%s: asked %d times, want %d", what, got, want)
		}
	}
	if hits, misses := w.metric("berth_dns_cache_hits_total", ""), w.metric("berth_dns_cache_misses_total", ""); hits != 9 || misses != 6 {
		t.Errorf("%v hits and %v misses were counted", hits, misses)
	}
	if n := w.metric("berth_dns_queries_total", "NXDOMAIN"); n != 3 {
		t.Errorf("%v queries without a name were counted", n)
	}
	// Whoever wants DNSSEC records gets another answer, so another entry.
	m := new(dns.Msg)
	m.SetQuestion("www.example.", dns.TypeA)
	m.SetEdns0(4096, true)
	w.exchange("udp", m)
	if got := out.count("udp www.example. A"); got != 2 {
		t.Errorf("asked %d times", got)
	}
}

func message(t *testing.T, rcode int, question string, qtype uint16, answer, ns []string) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(question, qtype)
	m.Rcode = rcode
	parse := func(lines []string) (out []dns.RR) {
		for _, l := range lines {
			rr, err := dns.NewRR(l)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, rr)
		}
		return out
	}
	m.Answer, m.Ns = parse(answer), parse(ns)
	return m
}

func TestLifetimes(t *testing.T) {
	soa := "example. 900 IN SOA ns.example. who.example. 1 2 3 4 60"
	for _, c := range []struct {
		name       string
		rcode      int
		answer, ns []string
		want       time.Duration
	}{
		{"the least TTL", dns.RcodeSuccess, []string{"a.example. 100 IN CNAME b.example.", "b.example. 50 IN A 192.0.2.1"}, nil, 50 * time.Second},
		{"an hour at most", dns.RcodeSuccess, []string{"a.example. 86400 IN A 192.0.2.1"}, nil, time.Hour},
		{"no name: the SOA's minimum", dns.RcodeNameError, nil, []string{soa}, time.Minute},
		{"no name: the SOA's own TTL", dns.RcodeNameError, nil, []string{"example. 30 IN SOA ns.example. who.example. 1 2 3 4 60"}, 30 * time.Second},
		{"no name: five minutes at most", dns.RcodeNameError, nil, []string{"example. 9000 IN SOA ns.example. who.example. 1 2 3 4 9000"}, 5 * time.Minute},
		{"no record", dns.RcodeSuccess, nil, []string{soa}, time.Minute},
		{"no record behind an alias", dns.RcodeSuccess, []string{"a.example. 20 IN CNAME b.example."}, []string{soa}, 20 * time.Second},
		{"no SOA: not kept", dns.RcodeNameError, nil, nil, 0},
		{"a referral: not kept", dns.RcodeSuccess, nil, []string{"example. 900 IN NS ns.example."}, 0},
		{"a failure: not kept as an answer", dns.RcodeServerFailure, nil, []string{soa}, 0},
	} {
		if got := lifetime(message(t, c.rcode, "a.example.", dns.TypeA, c.answer, c.ns)); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestEntriesGrowOld: an answer is handed on with the time that it has left, and
// is gone after that.
func TestEntriesGrowOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, q := newCache(8), question{name: "a.example.", qtype: dns.TypeA}
		c.keep(q, message(t, dns.RcodeSuccess, "a.example.", dns.TypeA, []string{"a.example. 60 IN A 192.0.2.1"}, nil))
		none := question{name: "no.example.", qtype: dns.TypeA}
		c.keep(none, message(t, dns.RcodeNameError, "no.example.", dns.TypeA, nil, []string{"example. 900 IN SOA ns.example. who.example. 1 2 3 4 40"}))
		bad := question{name: "bad.example.", qtype: dns.TypeA}
		c.keepFailure(bad, "no answer")
		if e := c.get(bad); e == nil || e.reply().rcode != dns.RcodeServerFailure || e.reply().why != "no answer" {
			t.Errorf("the failure is %+v", e)
		}
		time.Sleep(25 * time.Second)
		if ttl := c.get(q).reply().answer[0].Header().Ttl; ttl != 35 {
			t.Errorf("TTL %d, want 35", ttl)
		}
		if ttl := c.get(none).reply().ns[0].Header().Ttl; ttl != 15 {
			t.Errorf("TTL of the SOA %d, want 15", ttl)
		}
		if c.get(bad) != nil {
			t.Error("a failure is kept for longer than a moment")
		}
		time.Sleep(15 * time.Second)
		if c.get(none) != nil {
			t.Error("the negative answer has outlived its SOA")
		}
		time.Sleep(20 * time.Second)
		if c.get(q) != nil {
			t.Error("the answer has outlived its TTL")
		}
	})
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache(16)
	for i := range 1000 {
		name := fmt.Sprintf("h%d.example.", i)
		c.keep(question{name: name, qtype: dns.TypeA}, message(t, dns.RcodeSuccess, name, dns.TypeA, []string{name + " 60 IN A 192.0.2.1"}, nil))
	}
	if n := c.lru.Len(); n != 16 {
		t.Errorf("%d entries", n)
	}
	large := message(t, dns.RcodeSuccess, "t.example.", dns.TypeTXT, nil, nil)
	for range 30 {
		large.Answer = append(large.Answer, &dns.TXT{Hdr: header("t.example.", dns.TypeTXT, 60), Txt: []string{strings.Repeat("x", 200)}})
	}
	q := question{name: "t.example.", qtype: dns.TypeTXT}
	if e := c.keep(q, large); e == nil || len(e.reply().answer) != 30 {
		t.Error("a large answer is not handed on")
	}
	if c.get(q) != nil {
		t.Error("a large answer is kept")
	}
}

// TestOneQuestionServesAll: what many ask at once is asked outside once.
func TestOneQuestionServesAll(t *testing.T) {
	const clients = 50
	open := make(chan struct{})
	out := newOutside(t, func(q, r *dns.Msg, n string) *dns.Msg {
		if !strings.HasSuffix(q.Question[0].Name, loopDomain) {
			<-open
		}
		return records(t, "www.example. 300 IN A 198.51.100.2")(q, r, n)
	})
	slow := patient
	slow.try, slow.total = 30*time.Second, 30*time.Second
	w := newWorld(t, slow, out.addr)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			if r := w.ask("tcp", "www.example", dns.TypeA); len(r.Answer) != 1 {
				t.Error(brief(r))
			}
		})
	}
	eventually(t, "all clients waiting", func() bool { return w.metric("berth_dns_cache_misses_total", "") == clients })
	close(open)
	wg.Wait()
	if n := out.count("udp www.example. A"); n != 1 {
		t.Errorf("asked outside %d times", n)
	}
}

func TestTruncatedAnswersAreFetchedOverTCP(t *testing.T) {
	var zone []string
	for i := range 100 {
		zone = append(zone, fmt.Sprintf("many.example. 300 IN A 198.51.100.%d", i+1))
	}
	all := records(t, zone...)
	out := newOutside(t, func(q, r *dns.Msg, network string) *dns.Msg {
		r = all(q, r, network)
		if network == "udp" {
			r.Truncate(512)
		}
		return r
	})
	w := newWorld(t, patient, out.addr)
	if r := w.ask("udp", "many.example", dns.TypeA); !r.Truncated || len(r.Answer) == 0 {
		t.Errorf("over UDP: truncated %v, %d records", r.Truncated, len(r.Answer))
	}
	if r := w.ask("tcp", "many.example", dns.TypeA); r.Truncated || len(r.Answer) != 100 {
		t.Errorf("over TCP: truncated %v, %d records", r.Truncated, len(r.Answer))
	}
	if u, c := out.count("udp many.example. A"), out.count("tcp many.example. A"); u != 1 || c != 1 {
		t.Errorf("asked %d times over UDP, %d over TCP", u, c)
	}
}

// silent is the address of a name server that takes questions and says nothing.
func silent(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().String()
}

func TestTheNextServerIsAsked(t *testing.T) {
	good := newOutside(t, records(t, "www.example. 300 IN A 198.51.100.2"))
	refusing := newOutside(t, func(_, r *dns.Msg, _ string) *dns.Msg { r.Rcode = dns.RcodeRefused; return r })
	old := newOutside(t, func(q, r *dns.Msg, n string) *dns.Msg {
		if q.IsEdns0() != nil {
			r.Rcode = dns.RcodeFormatError
			return r
		}
		return records(t, "www.example. 300 IN A 198.51.100.2")(q, r, n)
	})
	other := newOutside(t, func(_, r *dns.Msg, _ string) *dns.Msg { r.Question[0].Name = "evil.example."; return r })
	for what, servers := range map[string][]string{
		"silent": {silent(t), good.addr}, "refuses connections": {"127.0.0.1:1", good.addr},
		"refuses": {refusing.addr, good.addr}, "knows no EDNS": {old.addr}, "answers another question": {other.addr, good.addr},
	} {
		w := newWorld(t, impatient, servers...)
		if got := brief(w.ask("udp", "www.example", dns.TypeA)); got != "NOERROR | A 198.51.100.2" {
			t.Errorf("first server %s: %s", what, got)
		}
	}
}

// TestNoServerAnswers: the client is told so, and why; the node is told once, and
// once more when it is over.
func TestNoServerAnswers(t *testing.T) {
	var quiet atomic.Bool
	quiet.Store(true)
	good := records(t, "www.example. 300 IN A 198.51.100.2")
	out := newOutside(t, func(q, r *dns.Msg, n string) *dns.Msg {
		if quiet.Load() {
			return nil
		}
		return good(q, r, n)
	})
	w := newWorld(t, impatient, out.addr)
	ctx := context.Background()
	m := new(dns.Msg)
	m.SetQuestion("www.example.", dns.TypeA)
	m.SetEdns0(1232, false)
	r := w.exchange("udp", m)
	if r.Rcode != dns.RcodeServerFailure {
		t.Fatal(brief(r))
	}
	why := "names outside the cluster cannot be resolved: name server " + out.addr + " does not answer"
	ede := slices.IndexFunc(r.IsEdns0().Option, func(o dns.EDNS0) bool { return o.Option() == dns.EDNS0EDE })
	if ede < 0 || !strings.HasPrefix(r.IsEdns0().Option[ede].(*dns.EDNS0_EDE).ExtraText, why) {
		t.Errorf("the answer says %v", r.IsEdns0())
	}
	told := 0
	eventually(t, "the trouble is told", func() bool {
		_, err := w.s.Ensure(ctx)
		if err != nil {
			told++
			if !strings.HasPrefix(err.Error(), why) || !strings.Contains(err.Error(), `"upstream" of the network`) {
				t.Fatalf("it says %v", err)
			}
		}
		return told > 0
	})
	for i := range 5 { // now that it is down, nobody waits for it
		if r := w.ask("udp", fmt.Sprintf("h%d.example", i), dns.TypeA); r.Rcode != dns.RcodeServerFailure {
			t.Error(brief(r))
		}
		if _, err := w.s.Ensure(ctx); err != nil {
			t.Errorf("told again: %v", err)
		}
	}
	if n := w.log.count("a name server is down"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	quiet.Store(false)
	eventually(t, "it is told that all is well", func() bool {
		mended, err := w.s.Ensure(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(mended, func(s string) bool { return strings.HasPrefix(s, "names can be resolved again") })
	})
	eventually(t, "an answer", func() bool { return brief(w.ask("udp", "www.example", dns.TypeA)) == "NOERROR | A 198.51.100.2" })
	if n := w.log.count("answers again"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	if w.metric("berth_dns_upstream_failures_total", out.addr) == 0 {
		t.Error("no failure was counted")
	}
}

func TestThereIsNoServer(t *testing.T) {
	w := newWorld(t, patient)
	if r := w.ask("udp", "www.example", dns.TypeA); r.Rcode != dns.RcodeServerFailure {
		t.Error(brief(r))
	}
	w.s.told = ""
	if _, err := w.s.Ensure(context.Background()); err == nil || !strings.Contains(err.Error(), "there is no name server to ask") {
		t.Error(err)
	}
	// The machine gets one, as by DHCP.
	out := newOutside(t, records(t, "www.example. 300 IN A 198.51.100.2"))
	host, port, _ := net.SplitHostPort(out.addr)
	w.s.cfg.ResolvConf = w.conf
	if err := os.WriteFile(w.conf, []byte("search corp.example\nnameserver "+host+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.s.Ensure(context.Background()); err != nil {
		t.Error(err)
	}
	if got := w.s.asked; !slices.Equal(got, []string{host + ":53"}) {
		t.Errorf("port %s: it asks %v", port, got)
	}
}

// TestServersInACircle: a server whose own server is this one is found out, and
// what is asked meanwhile goes round once.
func TestServersInACircle(t *testing.T) {
	var home atomic.Pointer[string]
	var passed atomic.Int32
	relay := newOutside(t, func(q, _ *dns.Msg, _ string) *dns.Msg {
		to := home.Load()
		if to == nil {
			return nil
		}
		passed.Add(1)
		c := dns.Client{Timeout: 10 * time.Second}
		r, _, err := c.Exchange(q, *to)
		if err != nil {
			return nil
		}
		return r
	})
	w := newWorld(t, impatient)
	home.Store(&w.addr)
	w.apply(&view{upstream: []string{relay.addr}})
	eventually(t, "the circle is found", func() bool { return w.log.count("leads back to this node, so it is not asked") == 1 })
	if _, err := w.s.Ensure(context.Background()); err == nil || !strings.Contains(err.Error(), relay.addr+" leads back to this node") {
		t.Errorf("told: %v", err)
	}
	before := passed.Load()
	if r := w.ask("udp", "www.example", dns.TypeA); r.Rcode != dns.RcodeServerFailure {
		t.Error(brief(r))
	}
	if n := relay.count("udp www.example. A"); n != 0 {
		t.Errorf("it was asked %d times", n)
	}
	if passed.Load() > before+1 { // one more examination may be under way
		t.Error("questions go round")
	}
}

func TestAQuestionThatComesBackWaitsForItself(t *testing.T) {
	var home string
	ready := make(chan struct{})
	relay := newOutside(t, func(q, _ *dns.Msg, _ string) *dns.Msg {
		if strings.HasSuffix(q.Question[0].Name, loopDomain) {
			return nil // so that the circle is not found
		}
		<-ready
		c := dns.Client{Timeout: 10 * time.Second}
		r, _, err := c.Exchange(q, home)
		if err != nil {
			return nil
		}
		return r
	})
	w := newWorld(t, impatient)
	home = w.addr
	close(ready)
	w.apply(&view{upstream: []string{relay.addr}})
	if r := w.ask("udp", "www.example", dns.TypeA); r.Rcode != dns.RcodeServerFailure {
		t.Error(brief(r))
	}
	if n := relay.count("udp www.example. A"); n > maxTries {
		t.Errorf("the question went round %d times", n)
	}
}

func TestUpstreamAddrs(t *testing.T) {
	own := []netip.AddrPort{netip.MustParseAddrPort("10.78.1.1:53")}
	for _, c := range []struct {
		named, machine, want []string
	}{
		{nil, []string{"10.0.0.2", "127.0.0.53", "fe80::1%eth0"}, []string{"10.0.0.2:53", "127.0.0.53:53", "[fe80::1%eth0]:53"}},
		{[]string{"9.9.9.9", "10.0.0.3:5353"}, []string{"10.0.0.2"}, []string{"9.9.9.9:53", "10.0.0.3:5353"}},
		{nil, []string{"10.78.1.1", "10.0.0.2", "10.0.0.2"}, []string{"10.0.0.2:53"}},
		{[]string{"10.78.1.1", "::ffff:10.78.1.1"}, nil, nil},
		{nil, []string{"nonsense", "10.0.0.2"}, []string{"10.0.0.2:53"}},
	} {
		if got := upstreamAddrs(c.named, c.machine, own); !slices.Equal(got, c.want) {
			t.Errorf("%v %v: %v, want %v", c.named, c.machine, got, c.want)
		}
	}
}

// TestOtherServersOtherAnswers: what one network's servers said is not told to
// another's.
func TestOtherServersOtherAnswers(t *testing.T) {
	one := newOutside(t, records(t, "www.example. 300 IN A 198.51.100.1"))
	two := newOutside(t, records(t, "www.example. 300 IN A 198.51.100.2"))
	w := newWorld(t, patient, one.addr)
	if got := brief(w.ask("udp", "www.example", dns.TypeA)); got != "NOERROR | A 198.51.100.1" {
		t.Error(got)
	}
	w.apply(&view{upstream: []string{two.addr}})
	if got := brief(w.ask("udp", "www.example", dns.TypeA)); got != "NOERROR | A 198.51.100.2" {
		t.Error(got)
	}
	w.apply((&view{upstream: []string{two.addr}}).service("n", "s", object.ServiceSpec{Address: "10.79.0.1"}))
	w.ask("udp", "www.example", dns.TypeA)
	if n := two.count("udp www.example. A"); n != 1 {
		t.Errorf("a change inside the cluster emptied the cache: asked %d times", n)
	}
}
