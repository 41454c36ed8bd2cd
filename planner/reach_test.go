package planner

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/cluster/object"
)

func policy(name string, spec object.NetworkPolicySpec) *object.NetworkPolicy {
	return &object.NetworkPolicy{Meta: meta(object.KindNetworkPolicy, name), Spec: spec}
}

func serving(name string, port int) *object.Service {
	s := service(name)
	s.Spec.Ports = []object.ServicePort{{Name: "main", Port: port, Protocol: "tcp"}}
	return s
}

func only(app, port string) []object.IngressRule {
	return []object.IngressRule{{From: []object.PolicyPeer{{Selector: map[string]string{"app": app}}}, Ports: []object.PolicyPort{{Port: object.PortRef(port), Protocol: "tcp"}}}}
}

func inSpace[T object.Object](o T, ns string) T {
	o.Head().Namespace = ns
	return o
}

func space(name string, isolate ...string) *object.Namespace {
	return &object.Namespace{Meta: meta(object.KindNamespace, name), Spec: object.NamespaceSpec{Isolate: isolate}}
}

// reachOf is what a plan says of reachability, a line for each change.
func reachOf(t testing.TB, have, want []object.Object) (lines []string, f object.Forecast) {
	t.Helper()
	s := world(t, "shop", have...)
	p, diags := Diff(s.Snapshot(), request(want...))
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	reachability(s.Snapshot(), &p, &f)
	for _, x := range f.Reach {
		word := map[bool]string{true: "allowed", false: "denied"}[x.Allowed]
		if !x.New {
			word = "newly " + word
		}
		lines = append(lines, fmt.Sprintf("%s -> %s:%d %s: %s", x.From.Name, x.To.Name, x.Port, word, x.Because))
	}
	return lines, f
}

func TestReachability(t *testing.T) {
	shop := func(more ...object.Object) []object.Object {
		return append([]object.Object{deployment("web", "web:1", 2), deployment("api", "api:1", 2), deployment("db", "db:1", 1), serving("db", 5432), serving("api", 80)}, more...)
	}
	db := map[string]string{"app": "db"}
	fromAPI := policy("db", object.NetworkPolicySpec{Selector: db, Ingress: only("api", "5432")})
	relabelled := deployment("web", "web:1", 2, func(d *object.Deployment) { d.Spec.Pod.Labels["app"] = "api" })
	door := of(serving("api", 80), nodePort(30001))
	way := &object.Ingress{Meta: meta(object.KindIngress, "shop")}
	object.SetDefaults(&way.Spec)
	way.Spec.Host, way.Spec.Paths = "shop.example", []object.IngressPath{{Path: "/", Service: "api"}}
	object.SetDefaults(&way.Spec.Paths[0])
	other := []object.Object{space("other"), inSpace(deployment("spy", "spy:1", 1), "other")}
	for _, c := range []struct {
		name       string
		have, want []object.Object
		says       []string
	}{
		{"nothing about policies", shop(), shop(deployment("more", "more:1", 1)), nil},
		{"only an image under a policy", shop(fromAPI), append([]object.Object{deployment("web", "web:2", 2)}, shop(fromAPI)[1:]...), nil},
		{"a new policy", shop(), shop(fromAPI), []string{
			"db -> db:5432 newly denied: network_policy.db isolates ingress, and nothing allows it",
			"web -> db:5432 newly denied: network_policy.db isolates ingress, and nothing allows it"}},
		{"a policy goes", shop(fromAPI), shop(), []string{"db -> db:5432 newly allowed: nothing isolates them any more", "web -> db:5432 newly allowed: nothing isolates them any more"}},
		{"another peer", shop(fromAPI), shop(policy("db", object.NetworkPolicySpec{Selector: db, Ingress: only("web", "5432")})), []string{
			"api -> db:5432 newly denied: network_policy.db isolates ingress, and nothing allows it", "web -> db:5432 newly allowed: network_policy.db allows it"}},
		{"another port", shop(fromAPI), shop(policy("db", object.NetworkPolicySpec{Selector: db, Ingress: only("api", "5433")})), []string{
			"api -> db:5432 newly denied: network_policy.db isolates ingress, and nothing allows it"}},
		{"other labels of a caller", shop(fromAPI), append([]object.Object{relabelled}, shop(fromAPI)[1:]...), []string{"web -> db:5432 newly allowed: network_policy.db allows it"}},
		{"egress", shop(), shop(policy("web", object.NetworkPolicySpec{Selector: map[string]string{"app": "web"}, Egress: []object.EgressRule{{To: []object.PolicyPeer{{Selector: map[string]string{"app": "api"}}}}}})), []string{
			"web -> outside:443 newly denied: network_policy.web isolates egress, and nothing allows it",
			"web -> db:5432 newly denied: network_policy.web isolates egress, and nothing allows it"}},
		{"a namespace isolates", append(shop(fromAPI), other...), append(shop(fromAPI), space("default", "ingress"), other[0], other[1]), []string{
			"api -> api:80 newly denied: namespace.default isolates ingress, and nothing allows it",
			"db -> api:80 newly denied: namespace.default isolates ingress, and nothing allows it",
			"spy -> api:80 newly denied: namespace.default isolates ingress, and nothing allows it",
			"web -> api:80 newly denied: namespace.default isolates ingress, and nothing allows it"}},
		{"a new caller", shop(fromAPI), shop(fromAPI, deployment("report", "report:1", 1)), []string{"report -> db:5432 denied: network_policy.db isolates ingress, and nothing allows it"}},
		{"a new caller in another namespace", shop(fromAPI), append(shop(fromAPI), other...), nil},
		{"a caller that goes", shop(), append(shop()[1:], policy("db", object.NetworkPolicySpec{Selector: db, Ingress: only("db", "5432")})), []string{
			"api -> db:5432 newly denied: network_policy.db isolates ingress, and nothing allows it"}},
		{"who comes from outside, or by an ingress", append(shop()[:4], door, way), append(shop()[:4], door, way, policy("api", object.NetworkPolicySpec{Selector: map[string]string{"app": "api"}, Ingress: []object.IngressRule{
			{From: []object.PolicyPeer{{CIDR: "10.0.0.0/8"}}}, {From: []object.PolicyPeer{{Selector: map[string]string{"app": "web"}}}}, {From: []object.PolicyPeer{{Nodes: true}}}}})), []string{
			"api -> api:80 newly denied: network_policy.api isolates ingress, and nothing allows it", "db -> api:80 newly denied: network_policy.api isolates ingress, and nothing allows it",
			"outside -> api:80 newly denied: network_policy.api isolates ingress, and nothing allows it"}},
		{"an ingress that is left out", append(shop(), way), shop(way, policy("api", object.NetworkPolicySpec{Selector: map[string]string{"app": "api"}, Ingress: []object.IngressRule{{From: []object.PolicyPeer{{Namespaces: []string{"default"}}}}}})), []string{
			"nodes -> api:80 newly denied: network_policy.api isolates ingress, and nothing allows it"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, f := reachOf(t, c.have, c.want)
			slices.Sort(got)
			slices.Sort(c.says)
			if !slices.Equal(got, c.says) {
				t.Errorf("it says\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(c.says, "\n  "))
			}
			if f.ReachMore != 0 || f.ReachCut {
				t.Errorf("%d more, cut: %v", f.ReachMore, f.ReachCut)
			}
		})
	}
}

// A plan tells of reachability beside its forecast.
func TestForecastTellsReachability(t *testing.T) {
	c := newCluster(t, 2)
	objects := []object.Object{deployment("web", "web:1", 1), deployment("db", "db:1", 1), serving("db", 5432)}
	if r := c.apply(c.plan(request(objects...)), 0); r.Status.Phase != object.RevisionHealthy {
		t.Fatal(r.Status)
	}
	f := c.plan(request(append(objects, policy("db", object.NetworkPolicySpec{Selector: map[string]string{"app": "db"}}))...)).Forecast
	if f.Outcome != OutcomeHealthy || len(f.Reach) != 2 || f.Reach[1].From.Name != "web" || f.Reach[1].Allowed {
		t.Errorf("%+v", f)
	}
}

// However many change, a plan lists some and counts the others.
func TestReachabilityIsBounded(t *testing.T) {
	var have []object.Object
	for i := range 60 {
		have = append(have, deployment(fmt.Sprintf("d%02d", i), "i:1", 1), serving(fmt.Sprintf("d%02d", i), 80))
	}
	_, f := reachOf(t, have, append(have, space("default", "ingress")))
	if len(f.Reach) != reachLines || f.ReachMore != 60*60-reachLines || f.Reach[49].From.Name != "d00" || f.Reach[49].To.Name != "d49" {
		t.Errorf("%d listed, %d more, the last %+v", len(f.Reach), f.ReachMore, f.Reach[len(f.Reach)-1])
	}
}

// What is told is what judging every pair one by one would tell.
func TestReachabilityIsWhatPairsSay(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		draw := func(label string, n int) int { return rapid.IntRange(0, n-1).Draw(rt, label) }
		spaces := []string{"default", "other"}
		labels := func() map[string]string {
			return map[string]string{"app": fmt.Sprintf("a%d", draw("app", 4)), "tier": fmt.Sprintf("t%d", draw("tier", 2))}
		}
		stack := func() []object.Object {
			var out []object.Object
			for _, ns := range spaces {
				n := space(ns, [][]string{nil, nil, nil, {"ingress"}, {"egress"}}[draw("isolate", 5)]...)
				n.Labels = map[string]string{"team": fmt.Sprint(draw("team", 2))}
				out = append(out, n)
				for i := range 4 {
					if draw("there", 5) == 0 {
						continue
					}
					l := labels()
					out = append(out, inSpace(deployment(fmt.Sprintf("w%d", i), "i:1", 1, func(d *object.Deployment) {
						d.Spec.Pod.Labels = l
						d.Spec.Pod.Containers[0].Ports = []object.ContainerPort{{Name: "main", Port: 80 + draw("number", 2), Protocol: "tcp"}}
					}), ns))
				}
				for i := range 2 {
					s := serving(fmt.Sprintf("s%d", i), 80+draw("port", 2))
					s.Spec.Selector = map[string]string{"app": fmt.Sprintf("a%d", draw("app", 4))}
					s.Spec.Ports[0].Target = []object.PortRef{"", "80", "main"}[draw("target", 3)]
					out = append(out, inSpace(s, ns))
				}
				for i := range draw("policies", 3) {
					peer := func() object.PolicyPeer {
						switch draw("peer", 4) {
						case 0:
							return object.PolicyPeer{Namespaces: []string{spaces[draw("ns", 2)]}}
						case 1:
							return object.PolicyPeer{NamespaceSelector: map[string]string{"team": fmt.Sprint(draw("team", 2))}, Selector: map[string]string{"tier": fmt.Sprintf("t%d", draw("tier", 2))}}
						case 2:
							return object.PolicyPeer{CIDR: "0.0.0.0/0"}
						}
						return object.PolicyPeer{Selector: map[string]string{"app": fmt.Sprintf("a%d", draw("app", 4))}}
					}
					ports := [][]object.PolicyPort{nil, {{Port: "80", Protocol: "tcp"}}, {{Port: "main", Protocol: "tcp"}}}
					spec := object.NetworkPolicySpec{Ingress: []object.IngressRule{{From: []object.PolicyPeer{peer()}, Ports: ports[draw("ports", 3)]}}}
					if draw("egress", 2) == 0 {
						spec.Egress = []object.EgressRule{{To: []object.PolicyPeer{peer()}, Ports: ports[draw("ports", 2)]}}
					}
					if draw("selects", 2) == 0 {
						spec.Selector = map[string]string{"app": fmt.Sprintf("a%d", draw("app", 4))}
					}
					out = append(out, inSpace(policy(fmt.Sprintf("p%d", i), spec), ns))
				}
			}
			return out
		}
		have, want := stack(), stack()
		kept := map[object.Ref]object.Object{}
		for _, o := range have {
			kept[o.Ref()] = o
		}
		for i, o := range want { // most of it stays as it is
			if old := kept[o.Ref()]; old != nil && draw("stays", 10) > 0 {
				want[i] = old
			}
		}
		s := world(t, "shop", have...)
		p, diags := Diff(s.Snapshot(), request(want...))
		if diags.HasErrors() {
			rt.Fatal(diags)
		}
		var f object.Forecast
		reachability(s.Snapshot(), &p, &f)
		got := f.Reach
		var plain []object.ReachChange
		before, after := pairs(have), pairs(want)
		for k, now := range after {
			was, there := before[k]
			if there && was != now || !there && !now && k.from.Namespace == k.to.Namespace {
				plain = append(plain, object.ReachChange{From: k.from, To: k.to, Port: k.port, Protocol: "tcp", Allowed: now, New: !there})
			}
		}
		slices.SortFunc(plain, func(a, b object.ReachChange) int {
			return cmp.Or(a.From.Compare(b.From), a.To.Compare(b.To), cmp.Compare(a.Port, b.Port))
		})
		if total := len(got) + f.ReachMore; total != len(plain) && !isOutside(got) {
			rt.Fatalf("%d changes, %d one by one", total, len(plain))
		}
		i := 0
		for _, x := range got {
			if x.To == object.ReachOutside {
				continue
			}
			x.Because = ""
			if i >= len(plain) || x != plain[i] {
				rt.Fatalf("it says %+v; one by one:\n%+v", x, plain)
			}
			i++
		}
	})
}

func isOutside(list []object.ReachChange) bool {
	return slices.ContainsFunc(list, func(x object.ReachChange) bool { return x.To == object.ReachOutside })
}

type pair struct {
	from, to object.Ref
	port     int
}

// pairs judges every workload against every port of every service, by all policies.
func pairs(objects []object.Object) map[pair]bool {
	set := object.PolicySet{Namespaces: map[string]*object.Namespace{}}
	var workloads []*object.Deployment
	for _, o := range objects {
		switch o := o.(type) {
		case *object.NetworkPolicy:
			set.Policies = append(set.Policies, o)
		case *object.Namespace:
			set.Namespaces[o.Name] = o
		case *object.Deployment:
			workloads = append(workloads, o)
		}
	}
	party := func(d *object.Deployment) object.Party {
		return object.Party{Namespace: d.Namespace, Labels: d.Spec.Pod.Labels, Ports: d.Spec.Pod.PortsOf()}
	}
	out := map[pair]bool{}
	for _, o := range objects {
		s, ok := o.(*object.Service)
		if !ok {
			continue
		}
		for _, from := range workloads {
			all, any := true, false
			for _, to := range workloads {
				if to.Namespace != s.Namespace || !object.HasLabels(to.Spec.Pod.Labels, s.Spec.Selector) {
					continue
				}
				port := targetPort(&s.Spec.Ports[0], &to.Spec.Pod)
				any = any || port != 0
				all = all && (port == 0 || set.Allows(party(from), party(to), "tcp", port).Allowed)
			}
			if any {
				out[pair{from.Ref(), s.Ref(), s.Spec.Ports[0].Port}] = all
			}
		}
	}
	return out
}

// A thousand applications, each with a policy of its own, in one namespace: nothing
// of it changes; one policy does; all are cut off at once.
func BenchmarkReachability(b *testing.B) {
	var have []object.Object
	for i := range 1000 {
		name := fmt.Sprintf("app-%d", i)
		have = append(have, deployment(name, "i:1", 1), serving(name, 80),
			policy(name, object.NetworkPolicySpec{Selector: map[string]string{"app": name}, Ingress: only(fmt.Sprintf("app-%d", (i+1)%1000), "80")}))
	}
	s := world(b, "shop", have...)
	run := func(name string, want []object.Object) {
		p, diags := Diff(s.Snapshot(), request(want...))
		if diags.HasErrors() {
			b.Fatal(diags)
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				var f object.Forecast
				reachability(s.Snapshot(), &p, &f)
				if f.ReachCut {
					b.Fatal("cut")
				}
			}
		})
	}
	image := slices.Clone(have)
	image[0] = deployment("app-0", "i:2", 1)
	run("image", image)
	one := slices.Clone(have)
	one[2] = policy("app-0", object.NetworkPolicySpec{Selector: map[string]string{"app": "app-0"}})
	run("policy", one)
	run("namespace", append(slices.Clone(have), space("default", "egress")))
}
