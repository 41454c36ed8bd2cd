package api_test

import (
	"testing"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
)

func TestTheNetworkKeepsItsNodes(t *testing.T) {
	w := newWorld(t, "m1")
	n, err := object.FoundNetwork(object.NetworkSpec{Pods: "10.1.0.0/16"})
	if err != nil {
		t.Fatal(err)
	}
	w.write(n, &object.Node{Meta: object.Meta{Kind: object.KindNode, Name: "n1"}, Spec: object.NodeSpec{PodRange: "10.1.7.0/24"}})
	cl := w.admin()
	change := func(pods, services string) error {
		_, err := client.Update(t.Context(), cl, n.Ref(), func(n *object.Network) error { n.Spec.Pods, n.Spec.Services = pods, services; return nil })
		return err
	}
	for _, x := range []struct{ pods, services string }{{"10.1.0.0/22", "10.79.0.0/16"}, {"10.2.0.0/16", "10.79.0.0/16"}, {"10.2.0.0/16", "10.1.0.0/16"}} {
		if err := change(x.pods, x.services); !object.IsCode(err, object.CodeInvalid) {
			t.Errorf("pods %s, services %s: %v", x.pods, x.services, err)
		}
	}
	if err := change("10.0.0.0/14", "10.79.0.0/16"); err != nil {
		t.Errorf("growing: %v", err)
	}
	if _, err := cl.Delete(t.Context(), n.Ref(), 0); !object.IsCode(err, object.CodeForbidden) {
		t.Errorf("delete: %v", err)
	}
}
