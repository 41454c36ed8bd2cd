package main

import (
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
)

// Run says where this machine, on which the cluster's hosts are, reaches a service
// or an ingress.
func (c *DevOpenCmd) Run(s *session) error {
	ref, err := s.reference(c.Object, c.NamespaceFlags, object.KindService)
	if err != nil {
		return err
	}
	cl, err := s.connect()
	if err != nil {
		return err
	}
	var address string
	switch ref.Kind {
	case object.KindService:
		address, err = serviceURL(s, cl, ref)
	case object.KindIngress:
		address, err = ingressURL(s, cl, ref)
	default:
		return object.Errorf(object.CodeInvalid, ref, "has no address; services and ingresses have")
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(s.stdout, address)
	browser, err := exec.LookPath("xdg-open")
	if c.Print || err != nil || s.environ("DISPLAY") == "" && s.environ("WAYLAND_DISPLAY") == "" {
		return nil
	}
	return exec.CommandContext(s.ctx, browser, address).Run()
}

func serviceURL(s *session, cl *client.Client, ref object.Ref) (string, error) {
	svc, err := client.Get[*object.Service](s.ctx, cl, ref)
	if err != nil {
		return "", err
	}
	if svc.Spec.Address == "" || len(svc.Spec.Ports) == 0 {
		e := object.Errorf(object.CodeInvalid, ref, "has no address or no port of its own")
		e.Hint = "berth port-forward reaches its pods."
		return "", e
	}
	return "http://" + net.JoinHostPort(svc.Spec.Address, strconv.Itoa(svc.Spec.Ports[0].Port)) + "/", nil
}

func ingressURL(s *session, cl *client.Client, ref object.Ref) (string, error) {
	in, err := client.Get[*object.Ingress](s.ctx, cl, ref)
	if err != nil {
		return "", err
	}
	page, err := cl.List(s.ctx, object.KindNode, client.ListOptions{})
	if err != nil {
		return "", err
	}
	for _, x := range page.Items {
		n, ok := x.Object.(*object.Node)
		if !ok || n.Labels[object.LabelIngress] != "true" || n.Status.Condition != object.NodeReady {
			continue
		}
		host, _, err := net.SplitHostPort(n.Status.Address)
		if err != nil {
			continue
		}
		if in.Spec.Host == "" {
			return "http://" + host + "/", nil
		}
		name := strings.Replace(in.Spec.Host, "*", "any", 1)
		fmt.Fprintf(s.stderr, "Node %s serves it for the host %s. If this machine does not know that name: curl --resolve %s:80:%s http://%s/\n", n.Name, in.Spec.Host, name, host, name)
		return "http://" + name + "/", nil
	}
	return "", object.Errorf(object.CodeUnavailable, ref, "no node that is ready serves ingresses")
}
