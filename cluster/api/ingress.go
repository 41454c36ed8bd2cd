package api

import (
	"context"
	"maps"
	"slices"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// getIngressSecrets gives the certificates and passwords of an ingress to a node
// that serves ingresses. Which nodes do, is for administrators to say, by a label
// that nodes cannot give themselves: a node that is broken into must not be able to
// make itself one and read every key. What an ingress does not name, nobody gets
// here.
func (s *Server) getIngressSecrets(ctx context.Context, in *revealInput) (*answer[object.IngressSecrets], error) {
	who, v := identityOf(ctx), s.Cluster.Snapshot()
	ref := object.Ref{Kind: object.KindIngress, Namespace: in.Namespace, Name: in.Name}
	node, ok := state.Find[*object.Node](v, object.Ref{Kind: object.KindNode, Name: who.Name})
	if !ok || !node.ServesIngress() {
		e := object.Errorf(object.CodeForbidden, ref, "node %s does not serve ingresses", who.Name)
		e.Hint = `Give it the label berth/ingress = "true", or let it join by a token that does.`
		return nil, e
	}
	ingress, ok := state.Find[*object.Ingress](v, ref)
	if !ok {
		return nil, object.Errorf(object.CodeNotFound, ref, "does not exist")
	}
	out := object.IngressSecrets{Secrets: map[string]object.PlainSecret{}}
	for _, r := range ingress.SecretRefs() {
		secret, ok := state.Find[*object.Secret](v, r)
		if !ok {
			continue
		}
		plain := object.PlainSecret{Digest: object.ContentDigest(secret), Data: make(map[string]string, len(secret.Spec.Data))}
		for _, k := range slices.Sorted(maps.Keys(secret.Spec.Data)) {
			text, err := s.Keys.Reveal(r, k, secret.Spec.Data[k])
			if err != nil {
				s.Log.Error("a secret cannot be opened", "ingress", ref.String(), "secret", r.String(), "error", err)
				return nil, err
			}
			plain.Data[k] = text
		}
		out.Secrets[r.Name] = plain
	}
	return &answer[object.IngressSecrets]{Body: out}, nil
}
