package api

import (
	"slices"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// checkRestore refuses what is no plan to restore stacks of this cluster.
func (s *Server) checkRestore(p *object.Plan) error {
	if own, from := s.Keys.Cluster(), p.Restore.Snapshot.Cluster; from != own {
		e := object.Errorf(object.CodeInvalid, object.Ref{}, "the snapshot is of cluster %q, but this is cluster %s", from, own)
		e.Hint = "Secrets in it could not be opened here, and its addresses are another network's. Take a snapshot of this cluster, or check the context."
		return e
	}
	if p.Stack != "" || len(p.Outputs) > 0 || len(p.OutputChanges) > 0 {
		return &object.Error{Code: object.CodeInvalid, Message: "a plan that restores has its stacks and their outputs under restore, and none besides"}
	}
	var names []string
	for _, x := range p.Restore.Stacks {
		if x.Stack == "" || slices.Contains(names, x.Stack) {
			return object.Errorf(object.CodeInvalid, object.Ref{}, "the plan restores the stack %q twice, or names none", x.Stack)
		}
		names = append(names, x.Stack)
	}
	for i := range p.Changes {
		c := &p.Changes[i]
		if !slices.Contains(names, c.Stack()) {
			return object.Errorf(object.CodeInvalid, c.Ref, "the plan changes it, but restores no stack %q", c.Stack())
		}
	}
	return nil
}

// unsealed opens the value that came out of the snapshot for a key of a secret. What
// was made for another one, or by other masters, does not open.
func (s *Server) unsealed(req *object.ApplyRequest, at object.SecretAt) (string, bool, error) {
	i := slices.IndexFunc(req.Sealed, func(x object.SealedValue) bool { return x.At == at })
	if i < 0 {
		return "", false, nil
	}
	text, err := s.Keys.Reveal(at.Ref, at.Key, req.Sealed[i].Value)
	return text, err == nil, err
}

// ended is the note of who deleted an object past one of a plan's stacks.
func ended(v *state.Snapshot, p *object.Plan, r object.Ref) *object.Drift {
	for _, stack := range p.Stacks() {
		if d := ender(v, stack, r); d != nil {
			return d
		}
	}
	return nil
}
