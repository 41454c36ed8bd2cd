package api

import (
	"fmt"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/pki"
	"github.com/berthdev/berth/cluster/state"
)

// A certificate cannot be called back, and nothing but its absence would tell a
// node that was removed from one that has not reported yet. So removing a node
// leaves a mark: a token that nobody can join by, named for the node, which goes
// when the last certificate that it speaks of has expired. A node of the name
// that joins after that has a younger certificate.

// removedRef is the mark of a removed node.
func removedRef(node string) object.Ref {
	return object.Ref{Kind: object.KindToken, Name: "removed." + node}
}

// revoke adds to a changeset that deletes a node that the certificates issued to
// it until now open nothing any more.
func (s *Server) revoke(v *state.Snapshot, c *object.Changeset, node string) {
	t := &object.Token{
		Meta: object.Meta{Kind: object.KindToken, Name: removedRef(node).Name},
		Spec: object.TokenSpec{
			Role: object.RoleNode, Name: node, Uses: spent, Expires: s.Now().UTC().Add(pki.Lifetime(pki.RoleNode) + time.Hour),
			Comment: "node " + node + " was removed: its certificates are refused",
		},
	}
	if old, ok := v.Get(t.Ref()); ok {
		c.Update(old, t)
	} else {
		c.Create(t)
	}
}

// revoked says why a node's certificate is refused, nil if it is not.
func (s *Server) revoked(v *state.Snapshot, name string, issued time.Time) error {
	mark, ok := state.Find[*object.Token](v, removedRef(name))
	if !ok || issued.After(mark.ChangedAt) {
		return nil
	}
	return &object.Error{
		Code: object.CodeForbidden, Ref: object.Ref{Kind: object.KindNode, Name: name}, By: mark.ChangedBy, At: mark.ChangedAt,
		Message: fmt.Sprintf("was removed from the cluster at %s; its certificate opens nothing any more", moment(mark.ChangedAt)),
		Hint:    "To take it in again, delete its certificate and join with a new token: berth token create --role node",
	}
}
