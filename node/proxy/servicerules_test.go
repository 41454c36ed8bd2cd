package proxy

import (
	"flag"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/cluster/object"
)

var update = flag.Bool("update", false, "write the golden files anew")

var testLayout = layout{node: "n1", own: netip.MustParsePrefix("10.77.1.0/24"), pods: netip.MustParsePrefix("10.77.0.0/16"), services: netip.MustParsePrefix("10.79.0.0/16")}

func newService(name, addr string, ports ...object.ServicePort) *object.Service {
	s := &object.Service{Meta: object.Meta{Kind: object.KindService, Namespace: "shop", Name: name}}
	s.Spec = object.ServiceSpec{Type: "cluster", Address: addr, Affinity: "none", Ports: ports}
	for _, p := range ports {
		if p.NodePort != 0 {
			s.Spec.Type = "node_port"
		}
	}
	return s
}

func newEndpoints(name string, ready ...object.Endpoint) *object.Endpoints {
	return &object.Endpoints{Meta: object.Meta{Kind: object.KindEndpoints, Namespace: "shop", Name: name}, Spec: object.EndpointsSpec{Ready: ready}}
}

func endpoint(pod, node, addr string, ports map[string]int) object.Endpoint {
	return object.Endpoint{Pod: pod, Node: node, Address: addr, Ports: ports}
}

// shared is the endpoint as one of a share.
func shared(e object.Endpoint, share string) object.Endpoint { e.Share = share; return e }

// set builds rules without any memory.
func set(l layout, services []*object.Service, endpoints []*object.Endpoints) (ruleSet, *builder) {
	b := &builder{}
	out, _ := b.build(l, services, endpoints)
	return out, b
}

// A canary under way divides the connections as shares of the service's own would.
func TestServiceRulesOfACanary(t *testing.T) {
	http := map[string]int{"http": 8080}
	pods := []object.Endpoint{shared(endpoint("web-0", "n1", "10.77.1.2", http), "stable"), shared(endpoint("web-1", "n2", "10.77.2.2", http), "stable"), shared(endpoint("web-2", "n2", "10.77.2.3", http), "web-8f")}
	rules := func(own []object.ServiceShare, underWay []object.EndpointShare) string {
		svc, eps := newService("web", "10.79.0.5", object.ServicePort{Name: "http", Port: 80, Protocol: "tcp", NodePort: 30080}), newEndpoints("web", pods...)
		svc.Spec.Shares, eps.Spec.Shares = own, underWay
		all, _ := set(testLayout, []*object.Service{svc}, []*object.Endpoints{eps})
		script, _ := newRuleSet().script(all)
		return string(script)
	}
	want := rules([]object.ServiceShare{{Name: "web-8f", Weight: 5}, {Name: "stable", Weight: 95}}, nil)
	if got := rules(nil, []object.EndpointShare{{Name: "web-8f", Weight: 5}, {Name: "stable", Weight: 95}}); got != want || !strings.Contains(want, "10.77.2.3:8080") {
		t.Errorf("%s\nwith the service's own shares:\n%s", got, want)
	}
	if got := rules(nil, []object.EndpointShare{{Name: "web-8f", Weight: 0}, {Name: "stable", Weight: 100}}); strings.Contains(got, "10.77.2.3:8080") {
		t.Errorf("a canary without weight is led to:\n%s", got)
	}
}

func TestServiceRulesGolden(t *testing.T) {
	http := map[string]int{"http": 8080}
	web := []object.Endpoint{endpoint("web-0", "n1", "10.77.1.2", http), endpoint("web-1", "n2", "10.77.2.2", http), endpoint("web-2", "n2", "10.77.2.3", http)}
	port := object.ServicePort{Name: "http", Port: 80, Protocol: "tcp"}
	noded := port
	noded.NodePort = 30080
	with := func(s *object.Service, f func(*object.ServiceSpec)) *object.Service { f(&s.Spec); return s }
	canary := func(s *object.ServiceSpec) {
		s.Shares = []object.ServiceShare{{Name: "stable", Weight: 95}, {Name: "canary", Weight: 5}, {Name: "empty", Weight: 50}, {Name: "off", Weight: 0}}
	}
	for _, c := range []struct {
		name      string
		layout    layout
		services  []*object.Service
		endpoints []*object.Endpoints
	}{
		{"none", testLayout, nil, nil},
		{"cluster", testLayout, []*object.Service{newService("web", "10.79.0.5", port)}, []*object.Endpoints{newEndpoints("web", web...)}},
		{"node-port", testLayout, []*object.Service{newService("web", "10.79.0.5", noded)}, []*object.Endpoints{newEndpoints("web", web...)}},
		{"node-port-elsewhere", testLayout, []*object.Service{newService("web", "10.79.0.5", noded)}, []*object.Endpoints{newEndpoints("web", web[1:]...)}},
		{"shares", testLayout, []*object.Service{with(newService("web", "10.79.0.5", noded), canary)},
			[]*object.Endpoints{newEndpoints("web", shared(web[0], "stable"), shared(web[1], "stable"), shared(web[2], "canary"), endpoint("web-3", "n1", "10.77.1.3", http))}},
		{"affinity", testLayout, []*object.Service{with(newService("web", "10.79.0.5", port), func(s *object.ServiceSpec) {
			s.Affinity, s.AffinityTimeout = "client_ip", object.Duration(10*time.Minute)
		})}, []*object.Endpoints{newEndpoints("web", web[:2]...)}},
		{"no-endpoints", testLayout, []*object.Service{newService("web", "10.79.0.5", noded, object.ServicePort{Name: "dns", Port: 53, Protocol: "udp", NodePort: 30053})}, nil},
		{"ports", testLayout, []*object.Service{newService("db", "10.79.0.5", object.ServicePort{Name: "main", Port: 5432, Protocol: "tcp"},
			object.ServicePort{Name: "log", Port: 514, Protocol: "udp"}, object.ServicePort{Name: "link", Port: 2905, Protocol: "sctp"})},
			[]*object.Endpoints{newEndpoints("db", endpoint("db-0", "n1", "10.77.1.9", map[string]int{"main": 5432, "log": 1514, "link": 2905}),
				endpoint("db-1", "n2", "10.77.2.9", map[string]int{"main": 5432}))}},
		{"kinds", testLayout, []*object.Service{with(newService("a-headless", "", port), func(s *object.ServiceSpec) { s.Type = "headless" }),
			with(newService("b-external", "", port), func(s *object.ServiceSpec) { s.Type = "external" }), newService("c-unaddressed", "", port)},
			[]*object.Endpoints{newEndpoints("a-headless", web...), newEndpoints("c-unaddressed", web...)}},
		{"clash", testLayout, []*object.Service{newService("a", "10.79.0.5", noded), newService("b", "10.79.0.5", noded), newService("c", "10.80.0.1", port)},
			[]*object.Endpoints{newEndpoints("a", web...), newEndpoints("b", web...), newEndpoints("c", web[0])}},
		{"kernel-lacks", func() layout { l := testLayout; l.lacks = lacks{sctp: true, affinity: true}; return l }(),
			[]*object.Service{with(newService("web", "10.79.0.5", port, object.ServicePort{Name: "link", Port: 2905, Protocol: "sctp"}), func(s *object.ServiceSpec) { s.Affinity = "client_ip" })},
			[]*object.Endpoints{newEndpoints("web", web...)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			rules, b := set(c.layout, c.services, c.endpoints)
			script, _ := newRuleSet().script(rules)
			got := string(script)
			for _, p := range b.problems {
				got += "# " + p + "\n"
			}
			path := filepath.Join("testdata", "services", c.name+".golden")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
			}
		})
	}
}

// drawWorld makes services with endpoints, ordered by name.
func drawWorld(t *rapid.T) ([]*object.Service, []*object.Endpoints) {
	var services []*object.Service
	var endpoints []*object.Endpoints
	n := rapid.IntRange(0, 6).Draw(t, "services")
	for i := range n {
		if rapid.IntRange(0, 9).Draw(t, "left out") == 0 {
			continue
		}
		name := fmt.Sprintf("s%d", i)
		svc := newService(name, fmt.Sprintf("10.79.%d.%d", rapid.IntRange(0, 5).Draw(t, "third"), rapid.IntRange(0, 255).Draw(t, "fourth")))
		svc.Spec.Affinity = rapid.SampledFrom([]string{"none", "client_ip"}).Draw(t, "affinity")
		for j := range rapid.IntRange(1, 3).Draw(t, "ports") {
			p := object.ServicePort{Name: fmt.Sprintf("p%d", j), Port: rapid.IntRange(1, 90).Draw(t, "port"), Protocol: rapid.SampledFrom([]string{"tcp", "udp", "sctp"}).Draw(t, "protocol")}
			if rapid.Bool().Draw(t, "node port") {
				svc.Spec.Type, p.NodePort = "node_port", rapid.IntRange(30000, 30099).Draw(t, "number")
			}
			svc.Spec.Ports = append(svc.Spec.Ports, p)
		}
		for j := range rapid.IntRange(0, 3).Draw(t, "shares") {
			svc.Spec.Shares = append(svc.Spec.Shares, object.ServiceShare{Name: fmt.Sprintf("w%d", j), Weight: rapid.SampledFrom([]int{0, 1, 5, 95, 10000}).Draw(t, "weight")})
		}
		services = append(services, svc)
		if rapid.IntRange(0, 5).Draw(t, "without") == 0 {
			continue
		}
		eps := newEndpoints(name)
		for j := range rapid.IntRange(0, 12).Draw(t, "pods") {
			node := rapid.IntRange(1, 3).Draw(t, "node")
			e := endpoint(fmt.Sprintf("%s-%d", name, j), fmt.Sprintf("n%d", node), fmt.Sprintf("10.77.%d.%d", node, 10*i+j+2), map[string]int{})
			for _, p := range svc.Spec.Ports {
				if rapid.IntRange(0, 5).Draw(t, "lacks") > 0 {
					e.Ports[p.Name] = 1000 + p.Port
				}
			}
			if len(svc.Spec.Shares) > 0 {
				e.Share = rapid.SampledFrom([]string{"w0", "w1", "w2", ""}).Draw(t, "share")
			}
			if rapid.IntRange(0, 4).Draw(t, "ready") > 0 {
				eps.Spec.Ready = append(eps.Spec.Ready, e)
			} else {
				eps.Spec.NotReady = append(eps.Spec.NotReady, e)
			}
		}
		endpoints = append(endpoints, eps)
	}
	return services, endpoints
}

// restored is what iptables-restore --noflush makes of a script.
func restored(t *rapid.T, have ruleSet, script string) ruleSet {
	out := have.clone()
	var table map[string][]string
	for line := range strings.Lines(script) {
		line = strings.TrimSuffix(line, "\n")
		verb, rest, _ := strings.Cut(line, " ")
		switch {
		case line[0] == '*':
			table = out[line[1:]]
		case line[0] == ':':
			table[verb[1:]] = nil
		case verb == "-A":
			chain, rule, _ := strings.Cut(rest, " ")
			if _, ok := table[chain]; !ok {
				t.Fatalf("%s: no such chain", line)
			}
			if _, to, ok := strings.Cut(rule, "-j BERTH-"); ok {
				if _, ok := table["BERTH-"+to]; !ok {
					t.Fatalf("%s: no such target", line)
				}
			}
			table[chain] = append(slices.Clone(table[chain]), rule)
		case verb == "-X":
			for other, rules := range table {
				for _, r := range rules {
					if strings.HasSuffix(r, "-j "+rest) {
						t.Fatalf("%s: %s leads to it still", line, other)
					}
				}
			}
			if len(table[rest]) > 0 {
				t.Fatalf("%s: not empty", line)
			}
			delete(table, rest)
		}
	}
	return out
}

// TestServiceRulesChange holds that a builder with a memory says what one without
// says, and that the script between two sets of rules leads from one to the other.
func TestServiceRulesChange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, have := &builder{}, newRuleSet()
		services, endpoints := drawWorld(t)
		for range rapid.IntRange(1, 4).Draw(t, "steps") {
			fresh, other := set(testLayout, services, endpoints)
			want, changes := b.build(testLayout, services, endpoints)
			if !reflect.DeepEqual(norm(want), norm(fresh)) || !slices.Equal(b.problems, other.problems) {
				t.Fatalf("with a memory\n%v\nwithout\n%v", want, fresh)
			}
			script, written := have.script(want)
			have = restored(t, have, string(script))
			if !reflect.DeepEqual(norm(have), norm(want)) {
				t.Fatalf("%s\nled to\n%v\nnot\n%v", script, have, want)
			}
			if again, none := have.script(want); len(again) > 0 || len(none) > 0 {
				t.Fatalf("what is right would be written: %s", again)
			}
			if len(changes) == 0 && len(written) > 0 && len(b.memo) > 0 {
				t.Fatalf("nothing changed, but %v was written", written)
			}
			if _, none := b.build(testLayout, services, endpoints); len(none) > 0 {
				t.Fatalf("%d changes between two equal views", len(none))
			}
			next, nextEndpoints := drawWorld(t)
			for i, s := range next { // some stay the very same
				for _, old := range services {
					if old.Name == s.Name && rapid.Bool().Draw(t, "stays") {
						next[i] = old
						nextEndpoints = slices.DeleteFunc(nextEndpoints, func(e *object.Endpoints) bool { return e.Name == s.Name })
						for _, e := range endpoints {
							if e.Name == s.Name {
								nextEndpoints = append(nextEndpoints, e)
							}
						}
					}
				}
			}
			slices.SortFunc(nextEndpoints, func(a, b *object.Endpoints) int { return strings.Compare(a.Name, b.Name) })
			services, endpoints = next, nextEndpoints
		}
	})
}

// norm makes empty chains comparable.
func norm(s ruleSet) map[string]map[string]string {
	out := map[string]map[string]string{}
	for t, chains := range s {
		out[t] = map[string]string{}
		for c, rules := range chains {
			out[t][c] = strings.Join(rules, "\n")
		}
	}
	return out
}

var (
	destination = regexp.MustCompile(`--to-destination (\S+)$`)
	probability = regexp.MustCompile(`--probability (\S+) `)
)

// chances are the parts of new connections that the rules of a chain give to each
// destination.
func chances(t *rapid.T, rules []string) map[string]float64 {
	out, left := map[string]float64{}, 1.0
	for _, r := range rules {
		if strings.Contains(r, "-m recent --update") {
			continue // of clients that came before
		}
		to, p := destination.FindStringSubmatch(r)[1], 1.0
		if m := probability.FindStringSubmatch(r); m != nil {
			p, _ = strconv.ParseFloat(m[1], 64)
		}
		if _, twice := out[to]; twice {
			t.Fatalf("%s is in the chain twice", to)
		}
		out[to] = left * p
		left *= 1 - p
	}
	if left > 1e-9 {
		t.Fatalf("%g of the connections fall through", left)
	}
	return out
}

// TestServiceRulesFair holds that every ready pod is in its chain exactly once, and
// that the parts are those of the shares.
func TestServiceRulesFair(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		services, endpoints := drawWorld(t)
		for _, svc := range services {
			var eps *object.Endpoints
			for _, e := range endpoints {
				if e.Name == svc.Name {
					eps = e
				}
			}
			p := testLayout.part(svc, eps)
			for _, sp := range svc.Spec.Ports {
				weight, count := map[string]float64{}, map[string]float64{}
				sum := 0.0
				for _, s := range svc.Spec.Shares {
					weight[s.Name] = float64(s.Weight)
				}
				if len(svc.Spec.Shares) == 0 {
					weight[""] = 1
				}
				want := map[string]float64{}
				if eps != nil {
					for _, e := range eps.Spec.Ready {
						if e.Ports[sp.Name] != 0 {
							if count[e.Share]++; count[e.Share] == 1 {
								sum += weight[e.Share]
							}
						}
					}
					for _, e := range eps.Spec.Ready {
						if n := e.Ports[sp.Name]; n != 0 && weight[e.Share] > 0 {
							want[fmt.Sprintf("%s:%d", e.Address, n)] = weight[e.Share] / sum / count[e.Share]
						}
					}
				}
				name := "shop/" + svc.Name + ":" + sp.Name
				rules, ok := p.chains[leaf(prefixPods, p.addr, name)]
				if ok != (len(want) > 0) {
					t.Fatalf("%s: a chain is there: %t; pods: %v", name, ok, want)
				}
				if !ok {
					continue
				}
				got := chances(t, rules)
				if !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want))) {
					t.Fatalf("%s: pods %v, want %v", name, got, want)
				}
				for to, c := range want {
					if math.Abs(got[to]-c) > 1e-8 {
						t.Fatalf("%s: %s gets %.12f, not %.12f", name, to, got[to], c)
					}
				}
				if local, ok := p.chains[leaf(prefixLocal, p.addr, name)]; ok {
					for to := range chances(t, local) {
						if !strings.HasPrefix(to, "10.77.1.") {
							t.Fatalf("%s: %s is not of this node", name, to)
						}
					}
				}
			}
		}
	})
}

// TestServiceRulesLimits: names that the kernel cuts or refuses, and many pods.
func TestServiceRulesLimits(t *testing.T) {
	long := strings.Repeat("n", 253)
	svc := newService(long, "10.79.0.5", object.ServicePort{Name: long, Port: 80, Protocol: "tcp", NodePort: 30080})
	svc.Spec.Affinity = "client_ip"
	eps := newEndpoints(long)
	for i := range 1000 {
		eps.Spec.Ready = append(eps.Spec.Ready, endpoint(long+strconv.Itoa(i), "n"+strconv.Itoa(i%7), fmt.Sprintf("10.77.%d.%d", i%7, i/7), map[string]int{long: 80}))
	}
	rules, _ := set(testLayout, []*object.Service{svc}, []*object.Endpoints{eps})
	lists := map[string]bool{}
	for _, chains := range rules {
		for c, list := range chains {
			if len(c) > 28 {
				t.Errorf("chain %s has %d letters; the kernel takes 28", c, len(c))
			}
			for _, r := range list {
				if _, rest, ok := strings.Cut(r, "--comment "); ok && strings.Index(rest[1:], `"`) > 255 {
					t.Errorf("comment too long: %s", r)
				}
				if _, rest, ok := strings.Cut(r, "--name "); ok {
					name, _, _ := strings.Cut(rest, " ")
					if lists[name] = true; len(name) >= 200 {
						t.Errorf("list %s has %d bytes; the kernel takes 199", name, len(name))
					}
				}
			}
		}
	}
	if len(lists) != 1000 {
		t.Errorf("%d lists for 1000 pods", len(lists))
	}
	for _, c := range []struct {
		prefix string
		levels []int
	}{{"10.79.0.0/16", []int{22, 27}}, {"10.0.0.0/8", []int{12, 17, 22, 27}}, {"10.79.0.0/24", []int{27}}, {"10.79.0.0/28", []int{27}}, {"10.76.0.0/12", []int{17, 22, 27}}} {
		l := layout{services: netip.MustParsePrefix(c.prefix)}
		if got := l.addressLevels(); !slices.Equal(got, c.levels) {
			t.Errorf("%s: levels %v, want %v", c.prefix, got, c.levels)
		}
	}
}
