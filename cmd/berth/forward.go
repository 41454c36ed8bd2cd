package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
)

// ForwardCmd is `berth port-forward`.
type ForwardCmd struct {
	NamespaceFlags
	Object string   `arg:"" complete:"pod|workload|service" help:"A pod, or service/NAME, deployment/NAME, replica_set/NAME: one of its ready pods for each connection."`
	Ports  []string `arg:"" help:"LOCAL:REMOTE, or REMOTE at both ends; of a service, a port of the service by number or name."`
	Listen string   `default:"127.0.0.1" placeholder:"ADDRESS" help:"Where to listen on this machine."`
}

// forwarding is one local port and where it leads.
type forwarding struct {
	local  int
	remote string
}

// Run listens until Ctrl-C.
func (c *ForwardCmd) Run(s *session) error {
	ref, err := s.reference(c.Object, c.NamespaceFlags, object.KindPod)
	if err != nil {
		return err
	}
	ports, err := forwardings(c.Ports)
	if err != nil {
		return err
	}
	cl, err := s.connect()
	if err != nil {
		return err
	}
	for _, p := range ports { // what cannot be is said before anything listens
		if _, _, err := target(s.ctx, cl, ref, p.remote); err != nil {
			return err
		}
	}
	g, ctx := errgroup.WithContext(s.ctx)
	for _, p := range ports {
		l, err := net.Listen("tcp", net.JoinHostPort(c.Listen, strconv.Itoa(p.local)))
		if err != nil {
			return &object.Error{Code: object.CodeUnavailable, Message: fmt.Sprintf("cannot listen at %s port %d: %v", c.Listen, p.local, err), Hint: "Choose another local port: LOCAL:REMOTE."}
		}
		fmt.Fprintf(s.stdout, "Forwarding %s to %s port %s\n", l.Addr(), ref.Address(), p.remote)
		stop := context.AfterFunc(ctx, func() { l.Close() })
		defer stop()
		g.Go(func() error { return s.forward(ctx, cl, l, ref, p.remote) })
	}
	err = g.Wait()
	if s.ctx.Err() != nil {
		return nil
	}
	return err
}

func forwardings(specs []string) ([]forwarding, error) {
	var out []forwarding
	for _, spec := range specs {
		local, remote, two := strings.Cut(spec, ":")
		if !two {
			remote = local
		}
		n, err := strconv.Atoi(local)
		if err != nil && !two {
			n, err = 0, nil // a name: any free port here
		}
		if err != nil || n < 0 || n > 65535 || remote == "" {
			return nil, &object.Error{Code: object.CodeInvalid, Message: fmt.Sprintf("%q is not a pair of ports", spec), Hint: "Write LOCAL:REMOTE, such as 8080:80, or one port for both."}
		}
		out = append(out, forwarding{n, remote})
	}
	return out, nil
}

// forward serves one listener.
func (s *session) forward(ctx context.Context, cl *client.Client, l net.Listener, ref object.Ref, remote string) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		go func() {
			defer conn.Close()
			if err := lead(ctx, cl, conn, ref, remote); err != nil && ctx.Err() == nil {
				fmt.Fprintf(s.stderr, "%s: %v\n", conn.RemoteAddr(), err)
			}
		}()
	}
}

// lead joins a connection to a pod until either side ends it.
func lead(ctx context.Context, cl *client.Client, conn net.Conn, ref object.Ref, remote string) error {
	pod, port, err := target(ctx, cl, ref, remote)
	if err != nil {
		return err
	}
	stream, err := cl.Forward(ctx, pod, port)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	done := make(chan struct{}, 2)
	for _, pair := range [][2]io.ReadWriter{{stream, conn}, {conn, stream}} {
		go func() {
			_, _ = io.Copy(pair[0], pair[1]) // however it ends, it has ended
			done <- struct{}{}
		}()
	}
	<-done
	return stream.Close()
}

// target is a ready pod, and the port's number there.
func target(ctx context.Context, cl *client.Client, ref object.Ref, remote string) (object.Ref, int, error) {
	if ref.Kind == object.KindService {
		return serviceTarget(ctx, cl, ref, remote)
	}
	pods := []*object.Pod{}
	if ref.Kind == object.KindPod {
		p, err := client.Get[*object.Pod](ctx, cl, ref)
		if err != nil {
			return object.Ref{}, 0, err
		}
		pods = append(pods, p)
	} else {
		owned, err := podsOfWorkload(ctx, cl, ref)
		if err != nil {
			return object.Ref{}, 0, err
		}
		for _, p := range owned {
			if p.Status.Ready {
				pods = append(pods, p)
			}
		}
	}
	if len(pods) == 0 {
		return object.Ref{}, 0, object.Errorf(object.CodeUnavailable, ref, "has no ready pod just now")
	}
	p := pods[rand.IntN(len(pods))]
	port, err := podPort(p, remote)
	return p.Ref(), port, err
}

// podsOfWorkload are the pods of a deployment or replica set, whole.
func podsOfWorkload(ctx context.Context, cl *client.Client, ref object.Ref) ([]*object.Pod, error) {
	if ref.Kind != object.KindDeployment && ref.Kind != object.KindReplicaSet {
		return nil, object.Errorf(object.CodeInvalid, ref, "has no pods; pods, replica sets, deployments and services lead to some")
	}
	if _, err := cl.Get(ctx, ref); err != nil {
		return nil, err
	}
	owners := map[object.Ref]bool{ref: true}
	sets, err := cl.List(ctx, object.KindReplicaSet, client.ListOptions{Namespace: ref.Namespace})
	if err != nil {
		return nil, err
	}
	for _, x := range sets.Items {
		if x.Object.Head().Owner == ref {
			owners[x.Ref()] = true
		}
	}
	page, err := cl.List(ctx, object.KindPod, client.ListOptions{Namespace: ref.Namespace})
	if err != nil {
		return nil, err
	}
	var out []*object.Pod
	for _, x := range page.Items {
		if p, ok := x.Object.(*object.Pod); ok && owners[p.Owner] {
			out = append(out, p)
		}
	}
	return out, nil
}

// podPort is a port of a pod by number or name.
func podPort(p *object.Pod, remote string) (int, error) {
	if n, err := strconv.Atoi(remote); err == nil {
		return n, nil
	}
	var names []string
	if p.Spec.Pod != nil {
		for i := range p.Spec.Pod.Containers {
			for _, x := range p.Spec.Pod.Containers[i].Ports {
				if x.Name == remote {
					return x.Port, nil
				}
				names = append(names, x.Name)
			}
		}
	}
	e := object.Errorf(object.CodeNotFound, p.Ref(), "has no port named %q", remote)
	e.Hint = object.DidYouMean(remote, names)
	return 0, e
}

// serviceTarget is one of a service's endpoints.
func serviceTarget(ctx context.Context, cl *client.Client, ref object.Ref, remote string) (object.Ref, int, error) {
	svc, err := client.Get[*object.Service](ctx, cl, ref)
	if err != nil {
		return object.Ref{}, 0, err
	}
	name := ""
	var known []string
	for _, p := range svc.Spec.Ports {
		if p.Name == remote || strconv.Itoa(p.Port) == remote {
			name = p.Name
		}
		known = append(known, p.Name, strconv.Itoa(p.Port))
	}
	if name == "" {
		e := object.Errorf(object.CodeNotFound, ref, "has no port %s", remote)
		if e.Hint = object.DidYouMean(remote, known); e.Hint == "" {
			e.Hint = fmt.Sprintf("It has %q.", known)
		}
		return object.Ref{}, 0, e
	}
	ends, err := client.Get[*object.Endpoints](ctx, cl, object.Ref{Kind: object.KindEndpoints, Namespace: ref.Namespace, Name: ref.Name})
	if err != nil && !object.IsCode(err, object.CodeNotFound) {
		return object.Ref{}, 0, err
	}
	if err != nil || len(ends.Spec.Ready) == 0 {
		return object.Ref{}, 0, object.Errorf(object.CodeUnavailable, ref, "has no ready pod just now")
	}
	e := ends.Spec.Ready[rand.IntN(len(ends.Spec.Ready))]
	port, ok := e.Ports[name]
	if !ok {
		return object.Ref{}, 0, object.Errorf(object.CodeInvalid, ref, "pod %s has no port for %q", e.Pod, name)
	}
	return object.Ref{Kind: object.KindPod, Namespace: ref.Namespace, Name: e.Pod}, port, nil
}
