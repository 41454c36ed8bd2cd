package planner

import (
	"strings"
	"testing"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

func network(services string) *object.Network {
	n := &object.Network{Meta: meta(object.KindNetwork, object.NetworkName)}
	object.SetDefaults(&n.Spec)
	n.Spec.Pods, n.Spec.NodeBits, n.Spec.Services, n.Spec.NodePorts = "10.78.0.0/16", 24, services, "30000-30010"
	return n
}

func of(s *object.Service, change func(*object.ServiceSpec)) *object.Service {
	change(&s.Spec)
	return s
}

func entrance(name, service string) *object.Ingress {
	o := &object.Ingress{Meta: meta(object.KindIngress, name)}
	path := object.IngressPath{Path: "/", Service: service}
	object.SetDefaults(&path)
	o.Spec.Host, o.Spec.Paths = "shop.example", []object.IngressPath{path}
	return o
}

func nodePort(n int) func(*object.ServiceSpec) {
	return func(s *object.ServiceSpec) {
		s.Type = "node_port"
		s.Ports = []object.ServicePort{{Name: "http", Port: 80, Protocol: "tcp", NodePort: n}}
	}
}

// What one stack cannot know of the others is found with the whole cluster at hand.
func TestCheck(t *testing.T) {
	at := func(a string) func(*object.ServiceSpec) { return func(s *object.ServiceSpec) { s.Address = a } }
	node := &object.Node{Meta: meta(object.KindNode, "n1"), Spec: object.NodeSpec{PodRange: "10.78.3.0/24"}}
	hostPort := deployment("door", "i:1", 1, func(d *object.Deployment) {
		d.Spec.Pod.Containers[0].Ports = []object.ContainerPort{{Name: "http", Port: 80, HostPort: 30004, Protocol: "tcp"}}
	})
	for _, c := range []struct {
		name  string
		force []object.Object
		want  []object.Object
		says  []string // one for each diagnostic, in order
	}{
		{"nothing", nil, []object.Object{deployment("web", "i:1", 1), service("web")}, nil},
		{"an address that another stack has", []object.Object{of(service("old"), at("10.79.0.9"))}, []object.Object{deployment("web", "i:1", 1), of(service("web"), at("10.79.0.9"))},
			[]string{"error service.web Claimed twice: The address 10.79.0.9 is service/default/old's already"}},
		{"the same twice in one plan", nil, []object.Object{deployment("a", "i:1", 1), deployment("b", "i:1", 1), of(service("a"), nodePort(30003)), of(service("b"), nodePort(30003))},
			[]string{"error service.b Claimed twice: The node port tcp/30003 is service/default/a's already"}},
		{"outside", nil, []object.Object{deployment("web", "i:1", 1), of(of(service("web"), nodePort(99)), at("10.1.0.1"))},
			[]string{"error service.web Address outside the range: 10.1.0.1 is not of the services' range 10.79.0.0/16", "error service.web Node port outside the range: 99 is not of the node ports 30000-30010"}},
		{"a host port", []object.Object{hostPort}, []object.Object{deployment("web", "i:1", 1), of(service("web"), nodePort(30004))},
			[]string{"error service.web Node port is taken: Pods of deployment/default/door claim the node port tcp/30004"}},
		{"selects nothing", nil, []object.Object{service("web")}, []string{`warning service.web Selects nothing: No pods of namespace "default" carry these labels`}},
		{"no such port", nil, []object.Object{deployment("web", "i:1", 1), of(service("web"), func(s *object.ServiceSpec) {
			s.Ports = []object.ServicePort{{Name: "http", Port: 80, Target: "htp", Protocol: "tcp"}}
		})}, []string{`warning service.web No such port: None of the pods that the service selects has a port named "htp"`}},
		{"ranges that leave out", []object.Object{of(service("old"), at("10.79.0.9"))}, []object.Object{func() object.Object {
			n := network("10.80.0.0/16")
			n.Spec.Pods = "10.78.0.0/23"
			return n
		}()}, []string{"error network.cluster Node left out: The pods' range 10.78.0.0/23 leaves out node n1, which has 10.78.3.0/24", "error network.cluster Range leaves a service out: Service service/default/old has the address 10.79.0.9"}},
		{"a path that another stack's ingress has", []object.Object{func() object.Object { o := entrance("old", "web"); o.Created = 1; return o }()}, []object.Object{deployment("web", "i:1", 1), of(service("web"), nodePort(30003)), entrance("new", "web")},
			[]string{`error ingress.new Two ingresses claim one path: ingress.old in namespace default and ingress.new in namespace default both claim shop.example, path /`}},
		{"a secret that checks need is not there", nil, []object.Object{asking("web", "token")}, []string{`error deployment.web No such secret: There is no secret prom in the namespace default`}},
		{"nor its key", []object.Object{secret("prom", "x")}, []object.Object{asking("web", "token")}, []string{`error deployment.web No such key: The secret prom has no key "token"`}},
		{"it is there", []object.Object{secret("prom", "x")}, []object.Object{asking("web", "password")}, nil},
		{"it comes with the plan", nil, []object.Object{asking("web", "password"), secret("prom", "x")}, nil},
		{"an ingress to nowhere", nil, []object.Object{entrance("new", "wbe")}, []string{`error ingress.new Service does not exist: There is no service "wbe"`}},
		{"an ingress to a service without ports", nil, []object.Object{deployment("web", "i:1", 1), service("web"), entrance("new", "web")}, []string{`error ingress.new Port does not exist: `}},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := state.Load(1, append([]object.Object{network("10.79.0.0/16"), node}, c.force...)).Snapshot()
			p, diags := Diff(v, request(c.want...))
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			_, got := Check(v, &p)
			if len(got) != len(c.says) {
				t.Fatalf("%d found, want %d: %+v", len(got), len(c.says), got)
			}
			for i, d := range got {
				if text := string(d.Severity) + " " + d.Address + " " + d.Summary + ": " + d.Detail; !strings.HasPrefix(text, c.says[i]) {
					t.Errorf("%q\nwant %q", text, c.says[i])
				}
			}
		})
	}
}

// What the masters choose is in the plan, is kept by the next one, and does not
// change objects that others hold.
func TestCheckChoosesOnce(t *testing.T) {
	v := state.Load(1, []object.Object{network("10.79.0.0/16")}).Snapshot()
	r := request(deployment("web", "i:1", 1), of(service("web"), nodePort(0)))
	p, _ := Diff(v, r)
	assigned, diags := Check(v, &p)
	if len(diags) != 0 || len(assigned) != 1 || assigned[0].Address == "" || assigned[0].NodePorts["http"] == 0 {
		t.Fatalf("%+v %+v", assigned, diags)
	}
	before := p.Changes
	p.Assign(assigned)
	for i := range before {
		if s, ok := before[i].After.Object.(*object.Service); ok && s.Spec.Address != "" {
			t.Error("the caller's object was changed")
		}
	}
	var fixed object.Object
	for _, c := range p.Changes {
		if c.Ref.Kind == object.KindService {
			fixed = c.After.Object
		}
	}
	if s := fixed.(*object.Service); s.Spec.Address != assigned[0].Address || s.Spec.Ports[0].NodePort != assigned[0].NodePorts["http"] {
		t.Fatalf("%+v", s.Spec)
	}
	fixed.Head().Stack = "shop"
	v = state.Load(2, []object.Object{network("10.79.0.0/16"), fixed}).Snapshot()
	p, _ = Diff(v, request(of(service("web"), nodePort(0))))
	for _, c := range p.Changes {
		t.Errorf("%s changes: %+v", c.Address, c.Fields)
	}
}

// A configuration may adopt the network and leave its ranges as they were founded;
// when it forgets it, the network stays.
func TestTheNetworkIsAdoptedAndReleased(t *testing.T) {
	n := network("10.79.0.0/16")
	v := state.Load(1, []object.Object{n}).Snapshot()
	wish := &object.Network{Meta: meta(object.KindNetwork, object.NetworkName)}
	object.SetDefaults(&wish.Spec)
	wish.Spec.Mode = "vxlan"
	p, diags := Diff(v, request(wish))
	if diags.HasErrors() || len(p.Changes) != 1 || len(p.Changes[0].Fields) != 1 || p.Changes[0].Fields[0].Path != "mode" {
		t.Fatalf("%+v %v", p.Changes, diags)
	}
	n.Stack = "shop"
	v = state.Load(2, []object.Object{n}).Snapshot()
	p, _ = Diff(v, request())
	if len(p.Changes) != 1 || p.Changes[0].Reason != object.ReasonRelease || p.Changes[0].After.Object.Head().Stack != "" {
		t.Errorf("%+v", p.Changes)
	}
}
