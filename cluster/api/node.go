package api

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

type reportInput struct {
	Name string `path:"name"`
	Body body[object.Report]
}

// postReport takes a node's heartbeat and writes what has changed.
func (s *Server) postReport(ctx context.Context, in *reportInput) (*answer[object.ReportAnswer], error) {
	r, err := in.Body.get()
	if err != nil {
		return nil, err
	}
	who := identityOf(ctx)
	if who.Name != in.Name || (r.Node != "" && r.Node != in.Name) {
		return nil, object.Errorf(object.CodeForbidden, object.Ref{Kind: object.KindNode, Name: in.Name}, "node %s may report only for itself", who.Name)
	}
	s.Cluster.Heartbeat(in.Name, r.Applied)
	if r.Traffic != nil {
		s.Cluster.Traffic(in.Name, r.Traffic)
	}
	if !allKnown(s.Cluster.Snapshot(), in.Name, r.Pods) {
		// The node may follow a master that has applied more than this one.
		if err := s.catchUp(ctx); err != nil {
			return nil, err
		}
	}
	index, err := s.propose(ctx, who.author(), "", func(v *state.Snapshot, c *object.Changeset) error {
		t := &teller{v, c, who.author(), s.Now().UTC()}
		s.reportNode(t, in.Name, &r)
		for i := range r.Pods {
			reportPod(t, in.Name, &r.Pods[i])
		}
		t.report(in.Name, &r)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &answer[object.ReportAnswer]{Body: object.ReportAnswer{Index: index, Heartbeat: object.Duration(s.Heartbeat)}}, nil
}

// reportNode registers a node when it reports for the first time, or writes its
// status if that says anything new.
func (s *Server) reportNode(t *teller, name string, r *object.Report) {
	ref := object.Ref{Kind: object.KindNode, Name: name}
	v, c, now := t.v, t.c, t.now
	was, ok := state.Find[*object.Node](v, ref)
	if !ok {
		n := &object.Node{Meta: object.Meta{Kind: object.KindNode, Name: name, Labels: s.firstLabels(v, c, name, r.Labels)}}
		if r.Status != nil {
			n.Status = *r.Status
		}
		if n.Status.Condition == "" || n.Status.Condition == object.NodeLost {
			n.Status.Condition = object.NodeReady
		}
		n.Status.Since = now
		c.Create(n)
		return
	}
	if r.Status == nil {
		return // the masters' loop brings a lost node back by its heartbeat
	}
	n := was.Clone().(*object.Node)
	n.Status = *r.Status
	if n.Status.Condition == "" || n.Status.Condition == object.NodeLost {
		n.Status.Condition = object.NodeReady // being lost is not for a node to say
	}
	n.Status.Since = was.Status.Since
	if n.Status.Condition != was.Status.Condition {
		n.Status.Since = now
	}
	if !reflect.DeepEqual(n.Status, was.Status) {
		c.UpdateStatus(was, n)
		t.node(was, n)
	}
}

// firstLabels are those that a node says of itself, less the reserved ones, and
// those of the token by which it joined.
func (s *Server) firstLabels(v *state.Snapshot, c *object.Changeset, name string, own map[string]string) map[string]string {
	labels := make(map[string]string, len(own))
	for _, k := range slices.Sorted(maps.Keys(own)) {
		if strings.HasPrefix(k, object.ReservedLabels) {
			s.Log.Warn("a node may not give itself this label", "node", name, "label", k)
			continue
		}
		labels[k] = own[k]
	}
	for t := range state.All[*object.Token](v, object.KindToken) {
		if slices.Contains(t.Spec.Nodes, name) {
			maps.Copy(labels, t.Spec.Labels)
			n := t.Clone().(*object.Token)
			n.Spec.Nodes = slices.DeleteFunc(slices.Clone(n.Spec.Nodes), func(x string) bool { return x == name })
			c.Update(t, n)
		}
	}
	if len(labels) == 0 {
		return nil
	}
	return labels
}

// allKnown reports whether every pod that a node speaks of is there and on that
// node. One that is not is gone, or not there yet.
func allKnown(v *state.Snapshot, node string, pods []object.PodReport) bool {
	return !slices.ContainsFunc(pods, func(r object.PodReport) bool {
		p, ok := state.Find[*object.Pod](v, r.Ref)
		return !ok || p.Created != r.Created || p.Spec.Node != node
	})
}

// reportPod writes one pod's status, unless it speaks of a pod that is not there
// any more, not on this node, or given up for lost and replaced. One that nobody
// replaced is what its node says, once that can be heard again.
func reportPod(t *teller, node string, r *object.PodReport) {
	p, ok := state.Find[*object.Pod](t.v, r.Ref)
	if !ok || p.Created != r.Created || p.Spec.Node != node || p.Status.Phase == object.PodLost && !p.Returns() {
		return
	}
	n := p.Clone().(*object.Pod)
	n.Status = r.Status
	if !reflect.DeepEqual(n.Status, p.Status) {
		t.c.UpdateStatus(p, n)
		t.pod(p, n)
	}
}

type revealInput struct {
	Namespace string `path:"namespace"`
	Name      string `path:"name"`
	Stale     bool   `query:"stale" doc:"Answer with what this master knows, which may be behind."`
}

// getReveal gives a content in plain to a node that runs, or is to run, a pod
// that reads it.
func (s *Server) getReveal(ctx context.Context, in *revealInput) (*answer[object.Revealed], error) {
	who, v := identityOf(ctx), s.Cluster.Snapshot()
	ref := object.Ref{Kind: object.KindContent, Namespace: in.Namespace, Name: in.Name}
	if !reads(v, who.Name, ref) {
		return nil, object.Errorf(object.CodeForbidden, ref, "no pod on node %s reads it", who.Name)
	}
	c, ok := state.Find[*object.Content](v, ref)
	if !ok {
		return nil, object.Errorf(object.CodeNotFound, ref, "does not exist")
	}
	out := object.Revealed{Of: c.Spec.Of, Data: make(map[string]string, len(c.Spec.Data)+len(c.Spec.Keys))}
	maps.Copy(out.Data, c.Spec.Data)
	for _, k := range slices.Sorted(maps.Keys(c.Spec.Keys)) {
		plain, err := s.Keys.Reveal(c.Spec.Of, k, c.Spec.Keys[k])
		if err != nil {
			var e *object.Error
			if errors.As(err, &e) {
				s.Log.Error("a secret cannot be opened", "content", ref.String(), "error", err)
			}
			return nil, err
		}
		out.Data[k] = plain
	}
	return &answer[object.Revealed]{Body: out}, nil
}

// reads reports whether a pod on the node reads the content.
func reads(v *state.Snapshot, node string, content object.Ref) bool {
	for p := range v.PodsOn(node) {
		t := v.Template(p)
		if p.Namespace != content.Namespace || t == nil || p.Terminal() && !p.Returns() {
			continue
		}
		for of, digest := range p.Versions(t) {
			kind, name, _ := strings.Cut(of, "/")
			if object.ContentName(object.Ref{Kind: object.Kind(kind), Name: name}, digest) == content.Name {
				return true
			}
		}
	}
	return false
}
