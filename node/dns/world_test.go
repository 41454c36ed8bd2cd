package dns

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/berthdev/berth/cluster/object"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// impatient is patient for tests of what does not answer.
var impatient = timing{try: 50 * time.Millisecond, total: 200 * time.Millisecond, down: 20 * time.Millisecond}

// world is a server on the loopback and the machine's name servers that it asks.
type world struct {
	testing.TB
	s        *Server
	addr     string
	conf     string // the resolv.conf
	log      *lines
	registry *prometheus.Registry
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), s)
}

func newWorld(t testing.TB, limits timing, upstream ...string) *world {
	t.Helper()
	w := &world{TB: t, conf: filepath.Join(t.TempDir(), "resolv.conf"), log: &lines{}, registry: prometheus.NewRegistry()}
	if err := os.WriteFile(w.conf, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := open(Config{
		Listen:     func() []netip.AddrPort { return []netip.AddrPort{netip.AddrPortFrom(loopback, 0)} },
		ResolvConf: w.conf, Registerer: w.registry, Logger: slog.New(slog.NewTextHandler(w.log, nil)),
	}, limits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	w.s = s
	eventually(t, "a port that is free for both UDP and TCP", func() bool {
		s.Ensure(context.Background())
		return len(s.Addrs()) == 1
	})
	w.addr = s.Addrs()[0].String()
	w.apply(&view{upstream: upstream})
	return w
}

func (w *world) apply(v *view) {
	w.Helper()
	if err := w.s.Apply(context.Background(), v.build()); err != nil {
		w.Fatal(err)
	}
}

// ask asks as a pod's resolver would.
func (w *world) ask(network, name string, qtype uint16) *dns.Msg {
	w.Helper()
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), qtype)
	return w.exchange(network, m)
}

func (w *world) exchange(network string, m *dns.Msg) *dns.Msg {
	w.Helper()
	c := dns.Client{Net: network, Timeout: 5 * time.Second}
	r, _, err := c.Exchange(m, w.addr)
	if err != nil {
		w.Fatalf("%s %s: %v", m.Question[0].Name, dns.TypeToString[m.Question[0].Qtype], err)
	}
	return r
}

// metric is the sum of a counter over those of its labels that have the value.
func (w *world) metric(name, label string) float64 {
	w.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		w.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			fits := label == ""
			for _, l := range m.GetLabel() {
				fits = fits || l.GetValue() == label
			}
			if fits {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !condition(); {
		if time.Now().After(end) {
			t.Fatalf("it never came: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// brief is the answer of a message in a form that is compared easily.
func brief(m *dns.Msg) string {
	out := []string{dns.RcodeToString[m.Rcode]}
	for _, rr := range m.Answer {
		h := rr.Header()
		out = append(out, dns.TypeToString[h.Rrtype]+" "+strings.TrimPrefix(rr.String(), h.String()))
	}
	slices.Sort(out[1:])
	return strings.Join(out, " | ")
}

// view describes a network in words.
type view struct {
	index     uint64
	untold    bool
	upstream  []string
	services  []*object.Service
	endpoints []*object.Endpoints
}

func (v *view) build() *object.NetworkView {
	out := &object.NetworkView{Index: cmp.Or(v.index, 7), Services: slices.Clone(v.services), Endpoints: slices.Clone(v.endpoints)}
	if !v.untold {
		out.Network = &object.Network{
			Meta: object.Meta{Kind: object.KindNetwork, Name: object.NetworkName},
			Spec: object.NetworkSpec{Pods: "10.78.0.0/16", Services: "10.79.0.0/17", Upstream: v.upstream},
		}
	}
	slices.SortFunc(out.Services, func(a, b *object.Service) int { return a.Ref().Compare(b.Ref()) })
	slices.SortFunc(out.Endpoints, func(a, b *object.Endpoints) int { return a.Ref().Compare(b.Ref()) })
	return out
}

func meta(kind object.Kind, namespace, name string) object.Meta {
	return object.Meta{Kind: kind, Namespace: namespace, Name: name}
}

func (v *view) service(namespace, name string, spec object.ServiceSpec, pods ...object.Endpoint) *view {
	spec.Type = cmp.Or(spec.Type, "cluster")
	v.services = append(v.services, &object.Service{Meta: meta(object.KindService, namespace, name), Spec: spec})
	if spec.Type != "external" {
		e := &object.Endpoints{Meta: meta(object.KindEndpoints, namespace, name)}
		for _, p := range pods {
			if p.Node == "unready" {
				e.Spec.NotReady = append(e.Spec.NotReady, p)
			} else {
				e.Spec.Ready = append(e.Spec.Ready, p)
			}
		}
		v.endpoints = append(v.endpoints, e)
	}
	return v
}

func ready(name, address string, ports map[string]int) object.Endpoint {
	return object.Endpoint{Pod: name, Node: "n1", Address: address, Ports: ports}
}

func unready(name, address string) object.Endpoint {
	return object.Endpoint{Pod: name, Node: "unready", Address: address}
}

// outside is a name server of the world outside.
type outside struct {
	addr string
	mu   sync.Mutex
	seen map[string]int // by "network name type"
}

func (o *outside) count(what string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seen[what]
}

// asked counts all questions of clients, not those of examinations.
func (o *outside) asked() (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for what, times := range o.seen {
		if !strings.Contains(what, loopDomain) {
			n += times
		}
	}
	return n
}

// newOutside answers with what answer fills in; nil is no answer at all.
func newOutside(t testing.TB, answer func(q, r *dns.Msg, network string) *dns.Msg) *outside {
	t.Helper()
	o := &outside{seen: map[string]int{}}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		network := w.RemoteAddr().Network()
		o.mu.Lock()
		o.seen[fmt.Sprintf("%s %s %s", network, q.Question[0].Name, dns.TypeToString[q.Question[0].Qtype])]++
		o.mu.Unlock()
		r := new(dns.Msg)
		r.SetReply(q)
		r.RecursionAvailable = true
		if r = answer(q, r, network); r != nil {
			w.WriteMsg(r)
		}
	})
	var x *socket
	eventually(t, "a port that is free for both UDP and TCP", func() (ok bool) {
		var err error
		x, err = listen(netip.AddrPortFrom(loopback, 0), handler)
		return err == nil
	})
	t.Cleanup(x.close)
	o.addr = x.addr.String()
	return o
}

// records answers from a list in the form of zone files; other names do not exist.
func records(t testing.TB, zone ...string) func(q, r *dns.Msg, network string) *dns.Msg {
	t.Helper()
	var all []dns.RR
	for _, line := range zone {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rr)
	}
	return func(q, r *dns.Msg, _ string) *dns.Msg {
		ask, exists := q.Question[0], false
		for name := ask.Name; name != ""; {
			next := ""
			for _, rr := range all {
				if h := rr.Header(); strings.EqualFold(h.Name, name) {
					exists = true
					if alias, ok := rr.(*dns.CNAME); ok {
						next = alias.Target
					}
					if h.Rrtype == ask.Qtype || h.Rrtype == dns.TypeCNAME {
						r.Answer = append(r.Answer, dns.Copy(rr))
					}
				}
			}
			name = next
		}
		if !exists {
			r.Rcode = dns.RcodeNameError
		}
		if !answered(r) {
			r.Ns = []dns.RR{&dns.SOA{Hdr: header(".", dns.TypeSOA, 900), Ns: "ns.example.", Mbox: "who.example.", Minttl: 60}}
		}
		return r
	}
}

// freePort is at an address of this process alone: on a shared one another test
// might take the port in the meantime.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	pid := os.Getpid()
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.1:0", 1+pid/256%254, pid%256))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}
