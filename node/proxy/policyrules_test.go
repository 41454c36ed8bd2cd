package proxy

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/cluster/object"
)

func newRules(ns, name string, spec object.PolicyRulesSpec) *object.PolicyRules {
	return &object.PolicyRules{Meta: object.Meta{Kind: object.KindPolicyRules, Namespace: ns, Name: name}, Spec: spec}
}

func newGuarded(ns, name, addr string, labels map[string]string) guarded {
	return guarded{id: ns + "." + name + ".1", pod: object.Ref{Kind: object.KindPod, Namespace: ns, Name: name}, labels: labels, address: netip.MustParseAddr(addr),
		ports: []object.ContainerPort{{Name: "http", Port: 8080}, {Name: "dns", Port: 53, Protocol: "udp"}}}
}

func printChains(chains map[string][]string) []byte {
	var b bytes.Buffer
	for _, name := range sortedNames(chains) {
		b.WriteString(":" + name + "\n")
		for _, r := range chains[name] {
			b.WriteString("-A " + name + " " + r + "\n")
		}
	}
	return b.Bytes()
}

func tcp(from, to int) object.ResolvedPort {
	return object.ResolvedPort{Protocol: "tcp", From: from, To: to}
}

func TestPolicyRulesGolden(t *testing.T) {
	db, web := newGuarded("shop", "db-0", "10.77.1.2", map[string]string{"app": "db"}), newGuarded("shop", "web-0", "10.77.1.3", map[string]string{"app": "web"})
	other := newGuarded("tools", "x-0", "10.77.1.4", nil)
	closed := newGuarded("tools", "new-0", "10.77.1.5", nil)
	closed.closed = true
	var many []string
	for i := range 40 {
		many = append(many, fmt.Sprintf("10.77.%d.%d", i/20, 2*(i%20)))
	}
	selects := map[string]string{"app": "db"}
	for _, c := range []struct {
		name     string
		pods     []guarded
		policies []*object.PolicyRules
	}{
		{"nothing-holds", []guarded{other}, []*object.PolicyRules{newRules("shop", object.NamespaceRules, object.PolicyRulesSpec{Ingress: &object.PolicyRuleSet{}})}},
		{"namespace", []guarded{web, other, db}, []*object.PolicyRules{newRules("shop", object.NamespaceRules, object.PolicyRulesSpec{Ingress: &object.PolicyRuleSet{}, Egress: &object.PolicyRuleSet{}})}},
		{"union", []guarded{web, db}, []*object.PolicyRules{
			newRules("shop", "a", object.PolicyRulesSpec{Selector: selects, Ingress: &object.PolicyRuleSet{Rules: []object.PolicyRule{{Peers: []string{"10.77.1.3", "10.77.2.7"}, Ports: []object.ResolvedPort{tcp(5432, 5432)}}}}}),
			newRules("shop", "b", object.PolicyRulesSpec{Selector: selects, Ingress: &object.PolicyRuleSet{Rules: []object.PolicyRule{
				{Peers: []string{"10.77.2.7"}, Ports: []object.ResolvedPort{tcp(80, 90), {Protocol: "udp", From: 53, To: 53}}}, {Peers: []string{"192.0.2.0/24"}}}}}),
		}},
		{"except", []guarded{db}, []*object.PolicyRules{newRules("shop", "a", object.PolicyRulesSpec{Egress: &object.PolicyRuleSet{Rules: []object.PolicyRule{
			{Peers: []string{"0.0.0.0/0"}, Except: []string{"10.0.0.0/8", "192.0.2.1"}, Ports: []object.ResolvedPort{tcp(443, 443)}}}}})}},
		{"names", []guarded{db, web}, []*object.PolicyRules{newRules("shop", "a", object.PolicyRulesSpec{
			Ingress: &object.PolicyRuleSet{Rules: []object.PolicyRule{{Anybody: true, Ports: []object.ResolvedPort{{Protocol: "tcp", Name: "http"}, {Protocol: "udp", Name: "http"}, {Protocol: "tcp", Name: "none"}}}}},
			Egress:  &object.PolicyRuleSet{Rules: []object.PolicyRule{{Peers: []string{"10.77.1.2", "10.77.2.9"}, Ports: []object.ResolvedPort{{Protocol: "tcp", From: 1, To: 1, Addresses: []string{"10.77.1.2"}}, {Protocol: "tcp", From: 2, To: 2, Addresses: []string{"10.77.2.9"}}}}}},
		})}},
		{"closed", []guarded{closed}, nil},
		{"many-peers", []guarded{db}, []*object.PolicyRules{newRules("shop", "a", object.PolicyRulesSpec{Ingress: &object.PolicyRuleSet{Rules: []object.PolicyRule{{Peers: many, Ports: []object.ResolvedPort{tcp(5432, 5432)}}}}})}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b policyBuilder
			got := printChains(b.build(c.pods, c.policies))
			path := filepath.Join("testdata", "policies", c.name+".golden")
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s (%v): got\n%s", path, err, got)
			}
			for line := range strings.Lines(string(got)) {
				if name, ok := strings.CutPrefix(line, ":"); ok && len(strings.TrimSpace(name)) > 28 {
					t.Errorf("iptables refuses the name of chain %s", name)
				}
			}
		})
	}
}

// packet is the first of a connection.
type packet struct {
	src, dst netip.Addr
	protocol string
	port     int
}

// walk sends a packet through chains as the kernel would: false if it is dropped.
// looked counts the rules that were looked at.
func walk(t fataler, chains map[string][]string, entry string, p packet, looked *int) bool {
	type frame struct {
		chain string
		at    int
	}
	stack := []frame{{entry, 0}}
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		rules, ok := chains[top.chain]
		if !ok {
			t.Fatalf("no chain %s", top.chain)
		}
		if top.at == len(rules) {
			stack = stack[:len(stack)-1]
			continue
		}
		rule := rules[top.at]
		top.at++
		*looked++
		hit, verb, target := match(t, rule, p)
		switch {
		case !hit:
		case target == "DROP":
			return false
		case target == "RETURN":
			stack = stack[:len(stack)-1]
		case verb == "-g":
			*top = frame{target, 0} // does not come back here
		default:
			stack = append(stack, frame{target, 0})
		}
	}
	return true
}

type fataler interface{ Fatalf(string, ...any) }

func match(t fataler, rule string, p packet) (hit bool, verb, target string) {
	if i := strings.Index(rule, ` -m comment --comment "`); i >= 0 {
		j := strings.Index(rule[i+24:], `"`)
		rule = rule[:i] + rule[i+24+j+1:]
	} else if strings.HasPrefix(rule, `-m comment --comment "`) {
		rule = rule[strings.LastIndex(rule, `"`)+2:]
	}
	words := strings.Fields(rule)
	hit = true
	for len(words) > 1 {
		option, value := words[0], words[1]
		words = words[2:]
		switch option {
		case "-s":
			hit = hit && netip.MustParsePrefix(value).Contains(p.src)
		case "-d":
			hit = hit && netip.MustParsePrefix(value).Contains(p.dst)
		case "-p":
			hit = hit && value == p.protocol
		case "-m":
		case "--ctstate":
			hit = hit && strings.Contains(value, "NEW")
		case "--dport":
			hit = hit && value == strconv.Itoa(p.port)
		case "--dports":
			if strings.Count(value, ",")+strings.Count(value, ":") >= 15 {
				t.Fatalf("too many ports for multiport: %s", value)
			}
			hit = hit && slices.ContainsFunc(strings.Split(value, ","), func(s string) bool {
				a, b, run := strings.Cut(s, ":")
				first, _ := strconv.Atoi(a)
				last := first
				if run {
					last, _ = strconv.Atoi(b)
				}
				return first <= p.port && p.port <= last
			})
		case "-j", "-g":
			return hit, option, value
		default:
			t.Fatalf("unknown word %s in %s", option, rule)
		}
	}
	t.Fatalf("no target in %s", rule)
	return false, "", ""
}

// plainly judges a packet by going through the rules one by one.
func plainly(pods []guarded, policies []*object.PolicyRules, p packet) bool {
	in := func(list []string, a netip.Addr) bool {
		return slices.ContainsFunc(list, func(s string) bool { x, ok := object.Prefix(s); return ok && x.Contains(a) })
	}
	if p.src == p.dst {
		return true
	}
	for _, g := range pods {
		for _, egress := range []bool{true, false} {
			here, other := p.dst, p.src
			if egress {
				here, other = p.src, p.dst
			}
			if g.address != here {
				continue
			}
			if g.closed {
				return false
			}
			isolated, allowed := false, false
			for _, r := range policies {
				set := r.Spec.Ingress
				if egress {
					set = r.Spec.Egress
				}
				if r.Namespace != g.pod.Namespace || set == nil || !object.HasLabels(g.labels, r.Spec.Selector) {
					continue
				}
				isolated = true
				for _, rule := range set.Rules {
					who := rule.Anybody || in(rule.Peers, other) && !in(rule.Except, other)
					at := len(rule.Ports) == 0 || slices.ContainsFunc(rule.Ports, func(x object.ResolvedPort) bool {
						if x.Name != "" {
							return slices.ContainsFunc(g.ports, func(c object.ContainerPort) bool {
								return c.Name == x.Name && c.Port == p.port && c.Transport() == p.protocol && x.Protocol == p.protocol
							})
						}
						return x.Protocol == p.protocol && x.From <= p.port && p.port <= x.To && (len(x.Addresses) == 0 || in(x.Addresses, p.dst))
					})
					allowed = allowed || who && at
				}
			}
			if isolated && !allowed {
				return false
			}
		}
	}
	return true
}

// The chains let pass what the rules allow and nothing else, and whoever is looked
// for among thousands is found soon.
func TestPolicyChainsMeanTheRules(t *testing.T) {
	addr := func(n int) netip.Addr { return address(10<<24 | 77<<16 | uint32(n)) }
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string, lo, hi int) int { return rapid.IntRange(lo, hi).Draw(t, label) }
		var pods []guarded
		for i := range draw("pods", 1, 40) {
			g := newGuarded([]string{"shop", "tools"}[draw("ns", 0, 1)], fmt.Sprintf("p%d", i), addr(256+i).String(), nil)
			if draw("labelled", 0, 1) == 1 {
				g.labels = map[string]string{"app": "a"}
			}
			g.closed = draw("closed", 0, 15) == 0
			pods = append(pods, g)
		}
		ranges := func(label string) []string {
			var out []string
			for range draw(label, 0, 5) {
				switch draw("kind", 0, 3) {
				case 0:
					out = append(out, netip.PrefixFrom(addr(draw("n", 0, 1023)), draw("bits", 0, 32)).Masked().String())
				case 1: // a crowd
					first := draw("n", 0, 1023)
					for i := range draw("size", 1, 200) {
						out = append(out, addr(first+i*draw("gap", 1, 3)).String())
					}
				default:
					out = append(out, addr(draw("n", 240, 300)).String())
				}
			}
			return out
		}
		set := func(egress bool) *object.PolicyRuleSet {
			if draw("isolates", 0, 2) == 0 {
				return nil
			}
			s := &object.PolicyRuleSet{}
			for range draw("rules", 0, 3) {
				r := object.PolicyRule{Anybody: draw("anybody", 0, 9) == 0, Peers: ranges("peers"), Except: ranges("except")}
				for range draw("ports", 0, 20) / 4 * 4 {
					p := object.ResolvedPort{Protocol: []string{"tcp", "udp"}[draw("protocol", 0, 1)], From: draw("from", 1, 100)}
					p.To = p.From + draw("run", 0, 1)*draw("length", 0, 20)
					switch how := draw("how", 0, 5); {
					case how == 0 && egress:
						p.Addresses = ranges("receivers")
						if len(p.Addresses) == 0 {
							continue
						}
					case how == 1 && !egress:
						p.Name, p.From, p.To = []string{"http", "dns", "none"}[draw("name", 0, 2)], 0, 0
					}
					r.Ports = append(r.Ports, p)
				}
				s.Rules = append(s.Rules, r)
			}
			return s
		}
		var b policyBuilder
		var policies []*object.PolicyRules
		for i := range draw("policies", 0, 4) {
			r := newRules([]string{"shop", "tools"}[draw("ns", 0, 1)], fmt.Sprintf("r%d", i), object.PolicyRulesSpec{Ingress: set(false), Egress: set(true)})
			if draw("selects", 0, 1) == 1 {
				r.Spec.Selector = map[string]string{"app": "a"}
			}
			policies = append(policies, r)
			b.build(pods, policies) // what is remembered must not show
		}
		chains := b.build(pods, policies)
		var fresh policyBuilder
		if again := fresh.build(pods, policies); !bytes.Equal(printChains(chains), printChains(again)) {
			t.Fatalf("built step by step:\n%s\nat once:\n%s", printChains(chains), printChains(again))
		}
		for range 60 {
			p := packet{addr(draw("src", 200, 330)), addr(draw("dst", 200, 330)), []string{"tcp", "udp"}[draw("protocol", 0, 1)], []int{draw("port", 1, 120), 8080, 53}[draw("which", 0, 2)]}
			want, got, looked := plainly(pods, policies, p), true, 0
			if chains != nil {
				got = walk(t, chains, chainPolicy, p, &looked)
			}
			if got != want {
				t.Fatalf("%s -> %s %s/%d passes: %v, want %v\n%s", p.src, p.dst, p.protocol, p.port, got, want, printChains(chains))
			}
		}
	})
}

// Five thousand peers are a few dozen rules to a packet, and one more peer is a
// few chains to write.
func TestManyPeersAreFewRules(t *testing.T) {
	peers := func(n int) []string {
		var out []string
		for i := range n {
			out = append(out, address(10<<24|78<<16|uint32(i%250+2)|uint32(i/250)<<8).String())
		}
		return out
	}
	spec := func(n int) object.PolicyRulesSpec {
		list := peers(n)
		for i := range list { // every second is of another rule, so that nothing can be joined
			if i%2 == 1 {
				list[i] = strings.Replace(list[i], "10.78.", "10.79.", 1)
			}
		}
		return object.PolicyRulesSpec{Ingress: &object.PolicyRuleSet{Rules: []object.PolicyRule{{Peers: list, Ports: []object.ResolvedPort{tcp(5432, 5432)}}}}}
	}
	pods := []guarded{newGuarded("shop", "db-0", "10.77.1.2", nil)}
	var b policyBuilder
	before := b.build(pods, []*object.PolicyRules{newRules("shop", "a", spec(5000))})
	most := 0
	for _, src := range spec(5000).Ingress.Rules[0].Peers {
		looked := 0
		if !walk(t, before, chainPolicy, packet{netip.MustParseAddr(src), pods[0].address, "tcp", 5432}, &looked) {
			t.Fatalf("%s is not let in", src)
		}
		most = max(most, looked)
	}
	if most > 80 {
		t.Errorf("a packet meets %d rules", most)
	}
	after := b.build(pods, []*object.PolicyRules{newRules("shop", "a", spec(5001))})
	_, written := ruleSet{tablePolicies: before}.script(ruleSet{tablePolicies: after})
	if len(written) > 4 {
		t.Errorf("one more peer writes %d chains", len(written))
	}
	t.Logf("%d chains, at most %d rules for a packet, %d chains written for one more peer", len(before), most, len(written))
}
