package api

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// A node that does not say how long it can wait is answered within leaveTime.
const (
	leaveTime    = time.Second
	leaveTimeMax = 30 * time.Second
)

type leftInput struct {
	Namespace string `path:"namespace"`
	Name      string `path:"name"`
	Created   uint64 `query:"created" doc:"The pod's incarnation, meta.created."`
	Timeout   string `query:"timeout" doc:"How long to wait at most, such as 1s, the default."`
}

type leftAnswer struct {
	Left bool `json:"left"`
}

// getLeft answers the node of a pod that is to stop when nobody sends the pod
// anything new: it is out of the endpoints of all its services, and every node
// has put that in force. This is what makes a rolling update lose no request.
func (s *Server) getLeft(ctx context.Context, in *leftInput) (*answer[leftAnswer], error) {
	ref := object.Ref{Kind: object.KindPod, Namespace: in.Namespace, Name: in.Name}
	who := identityOf(ctx)
	wait := object.Duration(leaveTime)
	if in.Timeout != "" {
		if err := wait.UnmarshalText([]byte(in.Timeout)); err != nil {
			return nil, object.Errorf(object.CodeInvalid, ref, "timeout=%s: %w", in.Timeout, err)
		}
	}
	bound, cancel := context.WithTimeout(ctx, min(wait.D(), leaveTimeMax))
	defer cancel()
	index, err := s.outOfEndpoints(bound, ref, in.Created, who.Name)
	if err != nil {
		return nil, err
	}
	if waiting := s.Cluster.Acknowledged(bound, index); len(waiting) > 0 {
		const most = 5
		names := strings.Join(waiting[:min(len(waiting), most)], ", ")
		if more := len(waiting) - most; more > 0 {
			names += fmt.Sprintf(" and %d more", more)
		}
		return nil, object.Errorf(object.CodeTimeout, ref, "not acknowledged within %s by %s", wait, names)
	}
	return &answer[leftAnswer]{Body: leftAnswer{Left: true}}, nil
}

// outOfEndpoints waits until no service leads to the pod, and answers the index
// since when that is so.
func (s *Server) outOfEndpoints(ctx context.Context, ref object.Ref, created uint64, node string) (uint64, error) {
	v := s.Cluster.Snapshot()
	log, err := s.Cluster.Watch(v.Index())
	if err != nil {
		return 0, err
	}
	defer log.Close()
	for {
		p, ok := state.Find[*object.Pod](v, ref)
		if !ok || p.Created != created {
			return 0, nil // it is gone for good
		}
		if p.Spec.Node != node {
			return 0, object.Errorf(object.CodeForbidden, ref, "is not on node %s", node)
		}
		index, in := leads(v, p)
		if in == "" {
			return index, nil
		}
		if _, err := log.Next(ctx); err != nil {
			return 0, object.Errorf(object.CodeTimeout, ref, "is still among the endpoints of service %s", in)
		}
		v = s.Cluster.Snapshot()
	}
}

// leads names a service that leads to the pod, or says since which index none does.
func leads(v *state.Snapshot, p *object.Pod) (since uint64, service string) {
	for svc := range v.ServicesFor(p.Namespace, p.Labels) {
		e, ok := state.Find[*object.Endpoints](v, object.Ref{Kind: object.KindEndpoints, Namespace: svc.Namespace, Name: svc.Name})
		if !ok {
			continue
		}
		if slices.ContainsFunc(e.Spec.Ready, func(x object.Endpoint) bool { return x.Pod == p.Name && x.Address == p.Status.Address }) {
			return 0, svc.Name
		}
		since = max(since, e.Version)
	}
	return since, ""
}
