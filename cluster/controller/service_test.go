package controller

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

func network(services, ports string) *object.Network {
	return &object.Network{Meta: object.Meta{Kind: object.KindNetwork, Name: object.NetworkName}, Spec: object.NetworkSpec{Mode: "auto", Services: services, NodePorts: ports}}
}

func virtual(name, kind string, ports ...object.ServicePort) *object.Service {
	return &object.Service{Meta: object.Meta{Kind: object.KindService, Namespace: "default", Name: name}, Spec: object.ServiceSpec{Type: kind, Affinity: "none", Selector: map[string]string{"app": name}, Ports: ports}}
}

// settleServices lets the controller work on every service until it has nothing to
// do any more.
func settleServices(t interface{ Fatal(...any) }, s *state.Store) {
	for range 100 {
		quiet := true
		for svc := range state.All[*object.Service](s.Snapshot(), object.KindService) {
			r, err := services{}.Reconcile(s.Snapshot(), svc.Ref(), time.Unix(0, 0))
			if err != nil {
				t.Fatal(err)
			}
			if r.Changes.Empty() {
				continue
			}
			quiet = false
			if _, err := s.Apply(s.Snapshot().Index()+1, r.Changes); err != nil {
				t.Fatal(err)
			}
		}
		if quiet {
			return
		}
	}
	t.Fatal("the controller does not come to rest")
}

// Whatever comes, goes and claims: in the end nobody shares, and all is in range.
func TestServicesNeverShareWhatTheyClaim(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := state.Load(1, []object.Object{network("10.0.0.0/27", "30000-30009")})
		for step := range rapid.IntRange(1, 25).Draw(t, "steps") {
			var c object.Changeset
			name := fmt.Sprintf("s%d", rapid.IntRange(0, 12).Draw(t, "name"))
			svc := virtual(name, rapid.SampledFrom([]string{"cluster", "node_port", "headless"}).Draw(t, "type"), object.ServicePort{Name: "http", Port: 80, Protocol: "tcp"})
			if svc.Spec.Virtual() && rapid.Bool().Draw(t, "explicit") {
				svc.Spec.Address = fmt.Sprintf("10.0.0.%d", rapid.IntRange(1, 5).Draw(t, "address"))
			}
			switch old, ok := s.Snapshot().Get(svc.Ref()); {
			case !ok:
				c.Create(svc)
			case rapid.Bool().Draw(t, "delete"):
				c.Delete(old)
			default:
				c.Update(old, svc)
			}
			if _, err := s.Apply(s.Snapshot().Index()+1, c); err != nil {
				t.Fatal(step, err)
			}
			settleServices(t, s)
			holder := map[string]string{}
			for svc := range state.All[*object.Service](s.Snapshot(), object.KindService) {
				if open(svc) {
					t.Fatalf("%s is left open: %+v", svc.Name, svc.Spec)
				}
				for _, claim := range svc.Spec.Claims() {
					if other := holder[claim]; other != "" {
						t.Fatalf("%s and %s share %s", other, svc.Name, claim)
					}
					holder[claim] = svc.Name
				}
				if svc.Spec.Address != "" && !netip.MustParsePrefix("10.0.0.0/27").Contains(netip.MustParseAddr(svc.Spec.Address)) {
					t.Fatalf("%s is outside the range", svc.Spec.Address)
				}
			}
		}
	})
}

func TestAServiceWithoutRoomIsToldOnceAndServedLater(t *testing.T) {
	s := state.Load(1, []object.Object{network("10.0.0.0/30", ""), virtual("a", "cluster"), virtual("b", "cluster"), virtual("c", "cluster")})
	settleServices(t, s)
	var told []string
	for e := range state.All[*object.Event](s.Snapshot(), object.KindEvent) {
		told = append(told, e.Spec.Reason+" "+e.Spec.Message)
	}
	if len(told) != 1 || !strings.Contains(told[0], "no address is left in the services' range 10.0.0.0/30") {
		t.Fatalf("%q", told)
	}
	var c object.Changeset
	was, _ := s.Snapshot().Get(network("", "").Ref())
	c.Update(was, network("10.0.0.0/28", ""))
	events, err := s.Apply(s.Snapshot().Index()+1, c)
	if err != nil {
		t.Fatal(err)
	}
	keys := services{}.Inputs()[1].Keys(s.Snapshot(), events[0])
	if len(keys) != 1 {
		t.Fatalf("woken: %v", keys)
	}
	settleServices(t, s)
}

func TestChoicesFollowFromTheName(t *testing.T) {
	v := state.Load(1, []object.Object{network("10.0.0.0/16", "")}).Snapshot()
	one, _ := NewAllotment(v).Fill(virtual("web", "node_port", object.ServicePort{Name: "http", Port: 80, Protocol: "tcp"}))
	two, _ := NewAllotment(v).Fill(virtual("web", "node_port", object.ServicePort{Name: "http", Port: 80, Protocol: "tcp"}))
	if !one.Equal(two) || one.Address == "" || one.NodePorts["http"] == 0 {
		t.Errorf("%+v and %+v", one, two)
	}
}

func TestNothingIsChosenBeforeThereIsANetwork(t *testing.T) {
	s := state.Load(1, []object.Object{virtual("a", "cluster")})
	settleServices(t, s)
	if s.Snapshot().Count(object.KindEvent) != 0 {
		t.Error("it was told")
	}
}
