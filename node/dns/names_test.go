package dns

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/berthdev/berth/cluster/object"
)

// shop is a network with a service of every kind.
func shop() *view {
	http := []object.ServicePort{{Name: "http", Port: 80, Target: "http", Protocol: "tcp"}, {Name: "status", Port: 90, Target: "nowhere", Protocol: "tcp"}, {Name: "voice", Port: 5060, Protocol: "udp"}}
	v := &view{}
	v.service("shop", "web", object.ServiceSpec{Ports: http, Address: "10.79.0.10"},
		ready("web-7f-0", "10.78.1.5", map[string]int{"http": 8080}), unready("web-7f-1", "10.78.2.5"))
	v.service("shop", "bare", object.ServiceSpec{Ports: http})
	v.service("shop", "outer", object.ServiceSpec{Type: "node_port", Address: "10.79.0.11"}, ready("web-7f-0", "10.78.1.5", nil))
	v.service("shop", "db", object.ServiceSpec{Type: "headless", Ports: http},
		ready("db-0", "10.78.1.6", map[string]int{"http": 8080, "voice": 5060}), ready("db-1", "10.78.2.6", map[string]int{"http": 8081}), unready("db-2", "10.78.3.6"))
	v.service("shop", "none", object.ServiceSpec{Type: "headless"}, unready("none-0", "10.78.1.7"))
	v.service("shop", "canary", object.ServiceSpec{
		Type: "headless", Ports: http, Shares: []object.ServiceShare{{Name: "old", Weight: 90}, {Name: "new", Weight: 10}, {Name: "off", Weight: 0}},
	},
		shared("old-0", "10.78.1.20", "old"), shared("old-1", "10.78.1.21", "old"), shared("new-0", "10.78.1.22", "new"), shared("off-0", "10.78.1.23", "off"), shared("lone-0", "10.78.1.24", ""))
	v.service("shop", "rollout", object.ServiceSpec{Type: "headless", Ports: http}, shared("old-0", "10.78.1.20", "stable"), shared("new-0", "10.78.1.22", "new"))
	v.endpoints[len(v.endpoints)-1].Spec.Shares = []object.EndpointShare{{Name: "new", Weight: 0}, {Name: "stable", Weight: 100}}
	v.service("shop", "pay", object.ServiceSpec{Type: "external", ExternalName: "pay.example", Ports: http})
	v.service("shop", "gone", object.ServiceSpec{Type: "external", ExternalName: "no.example"})
	v.service("shop", "near", object.ServiceSpec{Type: "external", ExternalName: "web.shop.svc.cluster.local"})
	v.service("shop", "number", object.ServiceSpec{Type: "external", ExternalName: "192.0.2.7", Ports: http})
	v.service("shop", "round", object.ServiceSpec{Type: "external", ExternalName: "trip.shop.svc.cluster.local"})
	v.service("shop", "trip", object.ServiceSpec{Type: "external", ExternalName: "round.shop.svc.cluster.local"})
	v.service("back", "web", object.ServiceSpec{Address: "10.79.0.12"})
	return v
}

func shared(name, address, share string) object.Endpoint {
	e := ready(name, address, map[string]int{"http": 8080})
	e.Share = share
	return e
}

const noSuch = "NXDOMAIN"

var everyRecord = []struct {
	name  string
	qtype uint16
	want  string
}{
	{"web.shop.svc.cluster.local", dns.TypeA, "NOERROR | A 10.79.0.10"},
	{"WEB.Shop.svc.Cluster.LOCAL", dns.TypeA, "NOERROR | A 10.79.0.10"},
	{"web.shop.svc.cluster.local", dns.TypeAAAA, "NOERROR"},
	{"web.shop.svc.cluster.local", dns.TypeTXT, "NOERROR"},
	{"web.shop.svc.cluster.local", dns.TypeANY, "NOERROR | A 10.79.0.10"},
	{"web.back.svc.cluster.local", dns.TypeA, "NOERROR | A 10.79.0.12"},
	{"outer.shop.svc.cluster.local", dns.TypeA, "NOERROR | A 10.79.0.11"},
	{"bare.shop.svc.cluster.local", dns.TypeA, "NOERROR"}, // has no address yet

	{"db.shop.svc.cluster.local", dns.TypeA, "NOERROR | A 10.78.1.6 | A 10.78.2.6"},
	{"db.shop.svc.cluster.local", dns.TypeAAAA, "NOERROR"},
	{"none.shop.svc.cluster.local", dns.TypeA, "NOERROR"},
	{"canary.shop.svc.cluster.local", dns.TypeA, "NOERROR | A 10.78.1.20 | A 10.78.1.21 | A 10.78.1.22"},
	{"rollout.shop.svc.cluster.local", dns.TypeA, "NOERROR | A 10.78.1.20"}, // a canary without weight yet
	{"db-0.db.shop.svc.cluster.local", dns.TypeA, "NOERROR | A 10.78.1.6"},
	{"db-0.db.shop.svc.cluster.local", dns.TypeAAAA, "NOERROR"},
	{"db-2.db.shop.svc.cluster.local", dns.TypeA, "NOERROR | A 10.78.3.6"}, // by its name also before it is ready
	{"db-3.db.shop.svc.cluster.local", dns.TypeA, noSuch},
	{"web-7f-0.web.shop.svc.cluster.local", dns.TypeA, "NOERROR | A 10.78.1.5"},
	{"web-7f-0.web.back.svc.cluster.local", dns.TypeA, noSuch},

	{"_http._tcp.web.shop.svc.cluster.local", dns.TypeSRV, "NOERROR | SRV 0 1 80 web.shop.svc.cluster.local."},
	{"_voice._udp.web.shop.svc.cluster.local", dns.TypeSRV, "NOERROR | SRV 0 1 5060 web.shop.svc.cluster.local."},
	{"_http._udp.web.shop.svc.cluster.local", dns.TypeSRV, noSuch},
	{"_ftp._tcp.web.shop.svc.cluster.local", dns.TypeSRV, noSuch},
	{"_http._tcp.web.shop.svc.cluster.local", dns.TypeA, "NOERROR"},
	{"_tcp.web.shop.svc.cluster.local", dns.TypeSRV, "NOERROR"}, // something is below it
	{"_sctp.web.shop.svc.cluster.local", dns.TypeSRV, noSuch},
	{"_http._tcp.db.shop.svc.cluster.local", dns.TypeSRV, "NOERROR | SRV 0 1 8080 db-0.db.shop.svc.cluster.local. | SRV 0 1 8081 db-1.db.shop.svc.cluster.local."},
	{"_voice._udp.db.shop.svc.cluster.local", dns.TypeSRV, "NOERROR | SRV 0 1 5060 db-0.db.shop.svc.cluster.local."},
	{"_status._tcp.db.shop.svc.cluster.local", dns.TypeSRV, "NOERROR"}, // no pod listens there
	{"_http._tcp.canary.shop.svc.cluster.local", dns.TypeSRV, "NOERROR | SRV 0 29490 8080 old-0.canary.shop.svc.cluster.local. | SRV 0 29490 8080 old-1.canary.shop.svc.cluster.local. | SRV 0 6553 8080 new-0.canary.shop.svc.cluster.local."},
	{"_http._tcp.pay.shop.svc.cluster.local", dns.TypeSRV, "NOERROR | SRV 0 1 80 pay.example."},
	{"_http._tcp.number.shop.svc.cluster.local", dns.TypeSRV, "NOERROR | SRV 0 1 80 number.shop.svc.cluster.local."},

	{"pay.shop.svc.cluster.local", dns.TypeA, "NOERROR | A 198.51.100.1 | CNAME front.example. | CNAME pay.example."},
	{"pay.shop.svc.cluster.local", dns.TypeAAAA, "NOERROR | CNAME front.example. | CNAME pay.example."},
	{"pay.shop.svc.cluster.local", dns.TypeCNAME, "NOERROR | CNAME pay.example."},
	{"gone.shop.svc.cluster.local", dns.TypeA, "NXDOMAIN | CNAME no.example."},
	{"near.shop.svc.cluster.local", dns.TypeA, "NOERROR | A 10.79.0.10 | CNAME web.shop.svc.cluster.local."},
	{"number.shop.svc.cluster.local", dns.TypeA, "NOERROR | A 192.0.2.7"},
	{"round.shop.svc.cluster.local", dns.TypeA, "SERVFAIL"},
	{"x.pay.shop.svc.cluster.local", dns.TypeA, noSuch},

	{"10.0.79.10.in-addr.arpa", dns.TypePTR, "NOERROR | PTR web.shop.svc.cluster.local."},
	{"6.1.78.10.in-addr.arpa", dns.TypePTR, "NOERROR | PTR db-0.db.shop.svc.cluster.local."},
	{"6.3.78.10.in-addr.arpa", dns.TypePTR, "NOERROR | PTR db-2.db.shop.svc.cluster.local."},
	{"5.1.78.10.in-addr.arpa", dns.TypePTR, "NOERROR | PTR web-7f-0.outer.shop.svc.cluster.local. | PTR web-7f-0.web.shop.svc.cluster.local."},
	{"5.1.78.10.in-addr.arpa", dns.TypeA, "NOERROR"},
	{"99.1.78.10.in-addr.arpa", dns.TypePTR, noSuch},
	{"x.5.1.78.10.in-addr.arpa", dns.TypePTR, noSuch},
	{"1.78.10.in-addr.arpa", dns.TypePTR, "NOERROR"},
	{"78.10.in-addr.arpa", dns.TypePTR, "NOERROR"},
	{"1.2.0.192.in-addr.arpa", dns.TypePTR, "NOERROR | PTR one.example."}, // not the cluster's
	{"1.200.79.10.in-addr.arpa", dns.TypePTR, noSuch},                     // outside answers so: beyond the /17

	{"cluster.local", dns.TypeSOA, "NOERROR | SOA ns.dns.cluster.local. hostmaster.cluster.local. 7 3600 600 86400 1"},
	{"cluster.local", dns.TypeNS, "NOERROR | NS ns.dns.cluster.local."},
	{"cluster.local", dns.TypeA, "NOERROR"},
	{"ns.dns.cluster.local", dns.TypeA, "NOERROR | A 127.0.0.1"},
	{"svc.cluster.local", dns.TypeA, "NOERROR"},
	{"shop.svc.cluster.local", dns.TypeA, "NOERROR"},
	{"nobody.svc.cluster.local", dns.TypeA, noSuch},
	{"web.nobody.svc.cluster.local", dns.TypeA, noSuch},
	{"nothing.shop.svc.cluster.local", dns.TypeA, noSuch},
	{"web.shop.pod.cluster.local", dns.TypeA, noSuch},
	{"www.example.shop.svc.cluster.local", dns.TypeA, noSuch}, // what a search path makes of names outside
	{`a\.web.shop.svc.cluster.local`, dns.TypeA, noSuch},
	{"a.b.c.d.e.f.cluster.local", dns.TypeA, noSuch},

	{"www.example", dns.TypeA, "NOERROR | A 198.51.100.2"},
	{"www.example", dns.TypeAAAA, "NOERROR"},
	{"no.example", dns.TypeA, noSuch},
	{"notcluster.local", dns.TypeA, "NOERROR | A 198.51.100.3"},
}

var world0 = []string{
	"pay.example. 300 IN CNAME front.example.", "front.example. 300 IN A 198.51.100.1", "www.example. 300 IN A 198.51.100.2",
	"notcluster.local. 300 IN A 198.51.100.3", "1.2.0.192.in-addr.arpa. 300 IN PTR one.example.",
}

func TestEveryRecord(t *testing.T) {
	out := newOutside(t, records(t, world0...))
	w := newWorld(t, patient, out.addr)
	v := shop()
	v.upstream = []string{out.addr}
	w.apply(v)
	for _, network := range []string{"udp", "tcp"} {
		for _, c := range everyRecord {
			r := w.ask(network, c.name, c.qtype)
			if got := brief(r); got != c.want {
				t.Errorf("%s %s over %s:\n got %s\nwant %s", c.name, dns.TypeToString[c.qtype], network, got, c.want)
			}
			negative := r.Rcode == dns.RcodeNameError || r.Rcode == dns.RcodeSuccess && !answered(&dns.Msg{Question: r.Question, MsgHdr: r.MsgHdr, Answer: r.Answer})
			if soa := len(r.Ns) == 1 && r.Ns[0].Header().Rrtype == dns.TypeSOA; soa != negative {
				t.Errorf("%s %s: negative %v, and the authority section is %v", c.name, dns.TypeToString[c.qtype], negative, r.Ns)
			} else if soa && !dns.IsSubDomain(r.Ns[0].Header().Name, lastName(r)) {
				t.Errorf("%s: %s cannot say what is not there", c.name, r.Ns[0].Header().Name)
			}
			if !r.RecursionAvailable || !r.Response || r.Truncated {
				t.Errorf("%s: header %v", c.name, r.MsgHdr)
			}
			if ours := strings.HasSuffix(strings.ToLower(c.name), ".cluster.local") || strings.HasSuffix(c.name, "78.10.in-addr.arpa"); ours != r.Authoritative &&
				c.name != "cluster.local" && r.Rcode != dns.RcodeServerFailure && c.name != "10.0.79.10.in-addr.arpa" {
				t.Errorf("%s: authoritative %v", c.name, r.Authoritative)
			}
		}
	}
	out.mu.Lock()
	defer out.mu.Unlock()
	for what := range out.seen {
		name := strings.Fields(what)[1]
		if name != "notcluster.local." && (strings.HasSuffix(name, "cluster.local.") || strings.HasSuffix(name, ".78.10.in-addr.arpa.")) {
			t.Errorf("asked outside for a name of the cluster: %s", what)
		}
	}
}

// lastName is the name at the end of the aliases in an answer.
func lastName(m *dns.Msg) string {
	name := m.Question[0].Name
	for _, rr := range m.Answer {
		if alias, ok := rr.(*dns.CNAME); ok {
			name = alias.Target
		}
	}
	return strings.ToLower(name)
}

func TestAddressesOfPortsComeAlong(t *testing.T) {
	w := newWorld(t, patient)
	w.apply(shop())
	r := w.ask("udp", "_http._tcp.db.shop.svc.cluster.local", dns.TypeSRV)
	got := map[string]string{}
	for _, rr := range r.Extra {
		got[rr.Header().Name] = rr.(*dns.A).A.String()
	}
	want := map[string]string{"db-0.db.shop.svc.cluster.local.": "10.78.1.6", "db-1.db.shop.svc.cluster.local.": "10.78.2.6"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestSearchPath resolves short names as libraries do with the resolv.conf that
// pods are given.
func TestSearchPath(t *testing.T) {
	out := newOutside(t, records(t, world0...))
	w := newWorld(t, patient)
	v := shop()
	v.upstream = []string{out.addr}
	w.apply(v)
	conf := dns.ClientConfig{Search: []string{"shop.svc.cluster.local", "svc.cluster.local", "cluster.local"}, Ndots: 3}
	for name, want := range map[string]string{
		"web": "10.79.0.10", "web.shop": "10.79.0.10", "web.back": "10.79.0.12", "web.shop.svc": "10.79.0.10", "web.shop.svc.cluster.local": "10.79.0.10",
		"db-1.db": "10.78.2.6", "db-1.db.shop": "10.78.2.6", "db-1.db.shop.svc": "10.78.2.6", "pay": "198.51.100.1", "www.example": "198.51.100.2",
	} {
		before, got := out.asked(), ""
		for _, full := range conf.NameList(name) {
			r := w.ask("udp", full, dns.TypeA)
			if r.Rcode == dns.RcodeSuccess && len(r.Answer) > 0 {
				got = r.Answer[len(r.Answer)-1].(*dns.A).A.String()
				break
			}
		}
		if got != want {
			t.Errorf("%s is %q, not %s", name, got, want)
		}
		if inside := strings.HasPrefix(want, "10.") && strings.Count(name, ".") < conf.Ndots; inside && out.asked() != before {
			t.Errorf("%s was asked for outside", name)
		}
	}
}

func TestBeforeTheMastersHaveTold(t *testing.T) {
	w := newWorld(t, patient)
	v := (&view{untold: true}).service("shop", "web", object.ServiceSpec{Address: "10.79.0.10"})
	w.apply(v)
	if got := brief(w.ask("udp", "web.shop.svc.cluster.local", dns.TypeA)); got != "NOERROR | A 10.79.0.10" {
		t.Error(got)
	}
	// Nobody can say yet that a name does not exist; a client would believe it.
	if got := brief(w.ask("udp", "api.shop.svc.cluster.local", dns.TypeA)); got != "SERVFAIL" {
		t.Error(got)
	}
}

// TestHeadlessIsFair: each ready pod comes first as often as any other.
func TestHeadlessIsFair(t *testing.T) {
	v, const10 := &view{}, 10
	var pods []object.Endpoint
	for i := range const10 {
		pods = append(pods, ready(fmt.Sprintf("p-%d", i), fmt.Sprintf("10.78.1.%d", i+1), nil))
	}
	z, _ := emptyZone().next(v.service("n", "s", object.ServiceSpec{Type: "headless"}, pods...).build())
	const rounds = 20000
	first := map[string]int{}
	for range rounds {
		r, _ := z.lookup("s.n.svc.cluster.local.", dns.TypeA, nil)
		if len(r.answer) != const10 {
			t.Fatal("a pod is missing")
		}
		first[r.answer[0].(*dns.A).A.String()]++
	}
	chi := 0.0
	for i := range const10 {
		d := float64(first[fmt.Sprintf("10.78.1.%d", i+1)]) - rounds/float64(const10)
		chi += d * d / (rounds / float64(const10))
	}
	if chi > 45 { // nine degrees of freedom: once in a million
		t.Errorf("chi square %.1f, counts %v", math.Round(chi), first)
	}
}

func TestLargeAnswersGoOverTCP(t *testing.T) {
	var pods []object.Endpoint
	for i := range 200 {
		pods = append(pods, ready(fmt.Sprintf("p-%03d", i), fmt.Sprintf("10.78.1.%d", i+1), nil))
	}
	w := newWorld(t, patient)
	w.apply((&view{}).service("n", "s", object.ServiceSpec{Type: "headless"}, pods...))
	for size, most := range map[uint16]int{0: 512, 900: 900, 4096: safeSize} {
		m := new(dns.Msg)
		m.SetQuestion("s.n.svc.cluster.local.", dns.TypeA)
		if size > 0 {
			m.SetEdns0(size, false)
		}
		r := w.exchange("udp", m)
		r.Compress = true // as it came
		if !r.Truncated || len(r.Answer) == 0 || r.Len() > most || (r.IsEdns0() != nil) != (size > 0) {
			t.Errorf("EDNS %d: truncated %v, %d records, %d bytes, OPT %v", size, r.Truncated, len(r.Answer), r.Len(), r.IsEdns0())
		}
	}
	if r := w.ask("tcp", "s.n.svc.cluster.local", dns.TypeA); r.Truncated || len(r.Answer) != 200 {
		t.Errorf("over TCP: truncated %v, %d records", r.Truncated, len(r.Answer))
	}
}

func TestWhatIsRefused(t *testing.T) {
	w := newWorld(t, patient)
	w.apply(shop())
	for what, c := range map[string]struct {
		change func(*dns.Msg)
		want   int
	}{
		"another class":             {func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }, dns.RcodeRefused},
		"a transfer":                {func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAXFR }, dns.RcodeRefused},
		"a notification":            {func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }, dns.RcodeNotImplemented},
		"an update":                 {func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }, dns.RcodeNotImplemented},
		"EDNS of another version":   {func(m *dns.Msg) { m.SetEdns0(1232, false); m.IsEdns0().SetVersion(1) }, dns.RcodeBadVers},
		"outside without recursion": {func(m *dns.Msg) { m.RecursionDesired = false; m.Question[0].Name = "www.example." }, dns.RcodeRefused},
		"inside without recursion":  {func(m *dns.Msg) { m.RecursionDesired = false }, dns.RcodeSuccess},
	} {
		m := new(dns.Msg)
		m.SetQuestion("web.shop.svc.cluster.local.", dns.TypeA)
		c.change(m)
		if r := w.exchange("tcp", m); r.Rcode != c.want {
			t.Errorf("%s: %s, want %s", what, dns.RcodeToString[r.Rcode], dns.RcodeToString[c.want])
		}
	}
	// A name too long to be sent is a failure, neither silence nor nonsense.
	long := strings.TrimSuffix(strings.Repeat(strings.Repeat("a", 60)+".", 5), ".")
	w.apply((&view{}).service("n", "s", object.ServiceSpec{Type: "external", ExternalName: long}))
	if r := w.ask("udp", "s.n.svc.cluster.local", dns.TypeCNAME); r.Rcode != dns.RcodeServerFailure {
		t.Error(brief(r))
	}
}

// TestEverythingInAViewResolves: whatever views follow one another, the last one
// alone says what resolves, and nothing else does.
func TestEverythingInAViewResolves(t *testing.T) {
	ask := func(z *zone, name string, qtype uint16) string {
		r, ok := z.lookup(name, qtype, nil)
		if !ok {
			return "outside"
		}
		return brief(&dns.Msg{MsgHdr: dns.MsgHdr{Rcode: r.rcode}, Answer: r.answer})
	}
	names := rapid.SampledFrom([]string{"a", "b", "c", "svc", "db-0"})
	rapid.Check(t, func(t *rapid.T) {
		z := emptyZone()
		known := map[string]*object.Service{} // objects that stay the same keep their pointers
		knownEps := map[string]*object.Endpoints{}
		for range rapid.IntRange(1, 4).Draw(t, "views") {
			v, want, addresses := &view{}, map[string]string{}, map[string][]string{}
			chosen := map[string]bool{}
			for range rapid.IntRange(0, 6).Draw(t, "services") {
				namespace, name := names.Draw(t, "namespace"), names.Draw(t, "name")
				id := namespace + "/" + name
				if chosen[id] {
					continue
				}
				chosen[id] = true
				if s := known[id]; s != nil && rapid.Bool().Draw(t, "same") {
					v.services = append(v.services, s)
					if e := knownEps[id]; e != nil {
						v.endpoints = append(v.endpoints, e)
					}
				} else {
					spec := object.ServiceSpec{Type: rapid.SampledFrom([]string{"cluster", "headless"}).Draw(t, "type")}
					if spec.Type == "cluster" {
						spec.Address = fmt.Sprintf("10.79.0.%d", rapid.IntRange(1, 9).Draw(t, "address"))
					}
					var pods []object.Endpoint
					for i := range rapid.IntRange(0, 3).Draw(t, "pods") {
						p := ready(fmt.Sprintf("db-%d", i), fmt.Sprintf("10.78.0.%d", rapid.IntRange(1, 9).Draw(t, "pod")), nil)
						if rapid.Bool().Draw(t, "unready") {
							p.Node = "unready"
						}
						pods = append(pods, p)
					}
					v.service(namespace, name, spec, pods...)
				}
				s := v.services[len(v.services)-1]
				e := v.endpoints[len(v.endpoints)-1]
				known[id], knownEps[id] = s, e
				host := s.Host() + "."
				all := dns.Msg{}
				add := func(name, address string) {
					addresses[address] = append(addresses[address], name)
				}
				if s.Spec.Address != "" {
					add(host, s.Spec.Address)
					rr, _ := dns.NewRR(host + " A " + s.Spec.Address)
					all.Answer = append(all.Answer, rr)
				}
				for _, list := range [][]object.Endpoint{e.Spec.Ready, e.Spec.NotReady} {
					for _, p := range list {
						add(p.Pod+"."+host, p.Address)
						want[p.Pod+"."+host] = "NOERROR | A " + p.Address
					}
				}
				if s.Spec.Type == "headless" {
					for _, p := range e.Spec.Ready {
						rr, _ := dns.NewRR(host + " A " + p.Address)
						all.Answer = append(all.Answer, rr)
					}
				}
				want[host] = brief(&all)
				want[namespace+".svc.cluster.local."] = "NOERROR"
			}
			z, _ = z.next(v.build())
			for _, a := range []string{"a", "b", "c", "svc", "db-0", "db-1", "db-2"} {
				for _, b := range []string{"", "a.", "b.", "c.", "svc.", "db-0."} {
					for _, c := range []string{"", "a.", "b.", "c.", "svc.", "db-0."} {
						name := a + "." + b + c + "svc.cluster.local."
						expect, ok := want[name]
						if !ok {
							expect = noSuch
						}
						if got := ask(z, name, dns.TypeA); got != expect {
							t.Fatalf("%s: %s, want %s", name, got, expect)
						}
					}
				}
			}
			for i := range 10 {
				for _, prefix := range []string{"10.78.0.", "10.79.0."} {
					address := fmt.Sprintf("%s%d", prefix, i)
					all := dns.Msg{}
					for _, n := range addresses[address] {
						all.Answer = append(all.Answer, &dns.PTR{Hdr: header(".", dns.TypePTR, 0), Ptr: n})
					}
					expect := brief(&all)
					if len(all.Answer) == 0 {
						expect = noSuch
					}
					arpa, _ := dns.ReverseAddr(address)
					if got := ask(z, arpa, dns.TypePTR); got != expect {
						t.Fatalf("%s: %s, want %s", address, got, expect)
					}
				}
			}
		}
	})
}

func TestAddressesThatAreNone(t *testing.T) {
	w := newWorld(t, patient)
	w.apply((&view{}).service("n", "s", object.ServiceSpec{Type: "headless"}, ready("p-0", "10.78.1.1", nil), ready("p-1", "soon", nil)))
	if got := brief(w.ask("udp", "s.n.svc.cluster.local", dns.TypeA)); got != "NOERROR | A 10.78.1.1" {
		t.Error(got)
	}
	if w.log.count(`the address \"soon\" of p-1 is none`) != 1 {
		t.Errorf("the log says %s", w.log.text.String())
	}
	if err := w.s.Apply(context.Background(), (&view{}).build()); err != nil {
		t.Error(err)
	}
}
