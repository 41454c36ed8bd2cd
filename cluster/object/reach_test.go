package object

import (
	"net/netip"
	"strings"
	"testing"
)

func TestValidateNetworkPolicy(t *testing.T) {
	web := map[string]string{"app": "web"}
	tcp := func(p PortRef, to int) PolicyPort { return PolicyPort{Port: p, To: to, Protocol: "tcp"} }
	for _, c := range []struct {
		name string
		spec NetworkPolicySpec
		want []string
	}{
		{"all at once", NetworkPolicySpec{Selector: web, Isolate: []string{"ingress", "egress"},
			Ingress: []IngressRule{{From: []PolicyPeer{{Selector: web, Namespaces: []string{"a"}, NamespaceSelector: web}, {CIDR: "10.0.0.0/8", Except: []string{"10.1.0.0/16"}}, {Nodes: true}}, Ports: []PolicyPort{tcp("80", 90), tcp("http", 0)}}},
			Egress:  []EgressRule{{To: []PolicyPeer{{Selector: web}}, Ports: []PolicyPort{tcp("http", 0)}}}}, nil},
		{"direction", NetworkPolicySpec{Isolate: []string{"egres"}}, []string{"isolate[0]: Unknown value"}},
		{"no peer", NetworkPolicySpec{Ingress: []IngressRule{{From: []PolicyPeer{{}}}}}, []string{"ingress[0].from[0]: Not one peer"}},
		{"two peers", NetworkPolicySpec{Ingress: []IngressRule{{From: []PolicyPeer{{Nodes: true, CIDR: "10.0.0.0/8"}, {Selector: web, Nodes: true}}}}}, []string{"ingress[0].from[0]: Not one peer", "ingress[0].from[1]: Not one peer"}},
		{"ranges", NetworkPolicySpec{Egress: []EgressRule{{To: []PolicyPeer{{CIDR: "10.0.0.1/8"}, {CIDR: "10.0.0.0/8", Except: []string{"11.0.0.0/16"}}, {Selector: web, Except: []string{"10.0.0.0/8"}}}}}},
			[]string{"egress[0].to[0].cidr: Wrong range", "egress[0].to[1].except[0]: Range outside", "egress[0].to[2].except: Superfluous attribute"}},
		{"ports", NetworkPolicySpec{Ingress: []IngressRule{{Ports: []PolicyPort{tcp("http", 80), tcp("80", 70), tcp("0", 0)}}}},
			[]string{"ingress[0].port[0].to: Run without a number", "ingress[0].port[1].to: Wrong run of ports", "ingress[0].port[2].port: Wrong port"}},
		{"a name that nobody gives", NetworkPolicySpec{Egress: []EgressRule{{Ports: []PolicyPort{tcp("http", 0)}}, {To: []PolicyPeer{{CIDR: "10.0.0.0/8"}}, Ports: []PolicyPort{tcp("80", 0), tcp("http", 0)}}}},
			[]string{"egress[0].port[0].port: Nobody names this port", "egress[1].port[1].port: Nobody names this port"}},
	} {
		var got []string
		for _, x := range Validate(&NetworkPolicy{Meta: Meta{Kind: KindNetworkPolicy, Namespace: "default", Name: "p"}, Spec: c.spec}) {
			got = append(got, x.Path+": "+x.Summary)
		}
		if strings.Join(got, "|") != strings.Join(c.want, "|") {
			t.Errorf("%s:\n got %q\nwant %q", c.name, got, c.want)
		}
	}
}

// What policies mean, in the words of the documentation.
func TestPolicySet(t *testing.T) {
	policy := func(ns, name string, spec NetworkPolicySpec) *NetworkPolicy {
		return &NetworkPolicy{Meta: Meta{Kind: KindNetworkPolicy, Namespace: ns, Name: name}, Spec: spec}
	}
	pod := func(ns, app, addr string) Party {
		return Party{Namespace: ns, Pod: app + "-0", Labels: map[string]string{"app": app}, Addresses: netip.MustParsePrefix(addr + "/32"), Ports: []ContainerPort{{Name: "http", Port: 8080}}}
	}
	web, db, far := pod("shop", "web", "10.1.0.1"), pod("shop", "db", "10.1.0.2"), pod("far", "web", "10.1.0.3")
	node, world := Party{Node: true, Addresses: netip.MustParsePrefix("192.0.2.1/32")}, Party{Addresses: netip.MustParsePrefix("198.51.100.1/32")}
	app := func(name string) map[string]string { return map[string]string{"app": name} }
	from := func(peers ...PolicyPeer) NetworkPolicySpec {
		return NetworkPolicySpec{Selector: app("db"), Ingress: []IngressRule{{From: peers}}}
	}
	isolated := &Namespace{Meta: Meta{Kind: KindNamespace, Name: "shop"}, Spec: NamespaceSpec{Isolate: []string{"ingress"}}}
	named := &Namespace{Meta: Meta{Kind: KindNamespace, Name: "far", Labels: map[string]string{"team": "x"}}}
	for _, c := range []struct {
		name     string
		spaces   []*Namespace
		policies []*NetworkPolicy
		from, to Party
		port     int
		want     bool
		by, at   string
	}{
		{"nothing isolates", nil, nil, web, db, 80, true, "", ""},
		{"a namespace isolates", []*Namespace{isolated}, nil, web, db, 80, false, "shop", "ingress"},
		{"not its other direction", []*Namespace{isolated}, nil, web, far, 80, true, "", ""},
		{"an empty policy is a default deny", nil, []*NetworkPolicy{policy("shop", "p", NetworkPolicySpec{})}, far, db, 80, false, "p", "ingress"},
		{"of ingress only", nil, []*NetworkPolicy{policy("shop", "p", NetworkPolicySpec{})}, db, far, 80, true, "", ""},
		{"of its own namespace only", nil, []*NetworkPolicy{policy("far", "p", NetworkPolicySpec{})}, web, db, 80, true, "", ""},
		{"a pod reaches itself", []*Namespace{isolated}, nil, db, db, 80, true, "", ""},
		{"any policy may allow", []*Namespace{isolated}, []*NetworkPolicy{policy("shop", "a", NetworkPolicySpec{}), policy("shop", "b", from(PolicyPeer{Selector: app("web")}))}, web, db, 80, true, "b", "ingress"},
		{"a selector means its own namespace", nil, []*NetworkPolicy{policy("shop", "p", from(PolicyPeer{Selector: app("web")}))}, far, db, 80, false, "p", "ingress"},
		{"or those that are named", nil, []*NetworkPolicy{policy("shop", "p", from(PolicyPeer{Selector: app("web"), Namespaces: []string{"far"}}))}, far, db, 80, true, "p", "ingress"},
		{"all in one peer has to hold", []*Namespace{named}, []*NetworkPolicy{policy("shop", "p", from(PolicyPeer{Namespaces: []string{"shop"}, NamespaceSelector: map[string]string{"team": "x"}}))}, far, db, 80, false, "p", "ingress"},
		{"by labels of the namespace", []*Namespace{named}, []*NetworkPolicy{policy("shop", "p", from(PolicyPeer{NamespaceSelector: map[string]string{"team": "x"}}))}, far, db, 80, true, "p", "ingress"},
		{"a range holds pods, too", nil, []*NetworkPolicy{policy("shop", "p", from(PolicyPeer{CIDR: "10.1.0.0/30"}))}, web, db, 80, true, "p", "ingress"},
		{"but for its holes", nil, []*NetworkPolicy{policy("shop", "p", from(PolicyPeer{CIDR: "10.1.0.0/30", Except: []string{"10.1.0.1"}}))}, web, db, 80, false, "p", "ingress"},
		{"nodes", nil, []*NetworkPolicy{policy("shop", "p", from(PolicyPeer{Nodes: true}))}, node, db, 80, true, "p", "ingress"},
		{"nodes are not the world", nil, []*NetworkPolicy{policy("shop", "p", from(PolicyPeer{Nodes: true}))}, world, db, 80, false, "p", "ingress"},
		{"both ends are asked", nil, []*NetworkPolicy{policy("shop", "p", from(PolicyPeer{Selector: app("web")})), policy("shop", "q", NetworkPolicySpec{Selector: app("web"), Isolate: []string{"egress"}})}, web, db, 80, false, "q", "egress"},
		{"a name is the receiver's", nil, []*NetworkPolicy{policy("shop", "p", NetworkPolicySpec{Ingress: []IngressRule{{Ports: []PolicyPort{{Port: "http", Protocol: "tcp"}}}}})}, far, db, 8080, true, "p", "ingress"},
		{"and no other number", nil, []*NetworkPolicy{policy("shop", "p", NetworkPolicySpec{Ingress: []IngressRule{{Ports: []PolicyPort{{Port: "http", Protocol: "tcp"}}}}})}, far, db, 80, false, "p", "ingress"},
		{"rules of a direction that is not isolated", nil, []*NetworkPolicy{policy("shop", "p", NetworkPolicySpec{Isolate: []string{"ingress"}, Egress: []EgressRule{{To: []PolicyPeer{{Nodes: true}}}}})}, web, world, 80, true, "", ""},
	} {
		s := PolicySet{Policies: c.policies, Namespaces: map[string]*Namespace{}}
		for _, n := range c.spaces {
			s.Namespaces[n.Name] = n
		}
		v := s.Allows(c.from, c.to, "tcp", c.port)
		if v.Allowed != c.want || v.By.Name != c.by || v.At != c.at {
			t.Errorf("%s: %+v, want %v by %q at %q", c.name, v, c.want, c.by, c.at)
		}
	}
}
