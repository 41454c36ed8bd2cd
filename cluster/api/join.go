package api

import (
	"context"
	"fmt"
	"maps"
	"net"
	"reflect"
	"slices"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/pki"
	"github.com/berthdev/berth/cluster/state"
)

// spent in TokenSpec.Uses says that no join is left; 0 would mean any number.
const spent = -1

type joinInput struct {
	Body body[object.JoinRequest]
}

// postJoin turns a token into a certificate and counts the token's use.
func (s *Server) postJoin(ctx context.Context, in *joinInput) (*answer[object.Joined], error) {
	req, err := in.Body.get()
	if err != nil {
		return nil, err
	}
	t, given, err := s.checkToken(s.Cluster.Snapshot(), req.Token)
	if err != nil {
		return nil, err
	}
	if err := s.mayJoin(t, &req); err != nil {
		return nil, err
	}
	out, err := s.issueFor(t, &req)
	if err != nil {
		return nil, err
	}
	// The use is counted before the certificate is handed out: of two that join by
	// the same last use at once, one finds it gone.
	_, err = s.propose(ctx, "token/"+t.Name, fmt.Sprintf("%s %q joined", t.Spec.Role, req.Name), func(v *state.Snapshot, c *object.Changeset) error {
		now, _, err := s.checkToken(v, given.String())
		if err != nil {
			return err
		}
		if now.Spec.Uses == spent {
			return errSpent()
		}
		n := now.Clone().(*object.Token)
		if n.Spec.Uses == 1 {
			n.Spec.Uses = spent
		} else if n.Spec.Uses > 0 {
			n.Spec.Uses--
		}
		if n.Spec.Role == object.RoleMaster && !slices.Contains(n.Spec.Joined, req.Name) {
			n.Spec.Joined = append(slices.Clone(n.Spec.Joined), req.Name)
		}
		if n.Spec.Role == object.RoleNode && len(n.Spec.Labels) > 0 {
			s.label(v, c, n, req.Name)
		}
		if !reflect.DeepEqual(n.Spec, now.Spec) {
			c.Update(now, n)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if t.Spec.Role == object.RoleMaster {
		key, err := s.CA.KeyPEM()
		if err != nil {
			return nil, err
		}
		ring, err := s.Keys.Export()
		if err != nil {
			return nil, err
		}
		out.CAKey, out.Keyring = string(key), string(ring)
	}
	s.Log.Info("joined", "name", req.Name, "role", t.Spec.Role, "token", t.Name)
	return &answer[object.Joined]{Body: *out}, nil
}

// issueFor makes the certificate that a token is good for. One that requests can be
// made with gets that token in another form: it ends with it, and its bearer is who
// the token's is. One that is only good for joining gets a certificate of its own.
func (s *Server) issueFor(t *object.Token, req *object.JoinRequest) (*object.Joined, error) {
	if !t.Spec.Asks() {
		return s.issue(req.CSR, req.Name, t.Spec.Role, "", pki.Lifetime(string(t.Spec.Role)))
	}
	left := min(t.Spec.Expires.Sub(s.Now()), pki.Lifetime(string(t.Spec.Role)))
	return s.issue(req.CSR, req.Name, t.Spec.Role, tokenLogin+t.Name, left)
}

// label gives the token's labels to the node that joins by it, or notes that they
// are its when it reports for the first time.
func (s *Server) label(v *state.Snapshot, c *object.Changeset, t *object.Token, name string) {
	was, ok := state.Find[*object.Node](v, object.Ref{Kind: object.KindNode, Name: name})
	if !ok {
		if !slices.Contains(t.Spec.Nodes, name) {
			t.Spec.Nodes = append(slices.Clone(t.Spec.Nodes), name)
		}
		return
	}
	if n := was.Clone().(*object.Node); !object.HasLabels(n.Labels, t.Spec.Labels) {
		n.Labels = maps.Clone(n.Labels)
		if n.Labels == nil {
			n.Labels = map[string]string{}
		}
		maps.Copy(n.Labels, t.Spec.Labels)
		c.Update(was, n)
	}
}

func errSpent() error {
	return &object.Error{Code: object.CodeForbidden, Message: "the token has been used as often as it may", Hint: "Make a new one with: berth token create"}
}

// mayJoin checks what a token entitles to.
func (s *Server) mayJoin(t *object.Token, req *object.JoinRequest) error {
	if req.Role != "" && req.Role != t.Spec.Role {
		return &object.Error{Code: object.CodeForbidden, Message: fmt.Sprintf("the token is for role %s, not for %s", t.Spec.Role, req.Role), Hint: fmt.Sprintf("Make one with: berth token create --role %s", req.Role)}
	}
	if t.Spec.Uses == spent {
		return errSpent()
	}
	if t.Spec.Name != "" && req.Name != t.Spec.Name {
		return &object.Error{Code: object.CodeForbidden, Message: fmt.Sprintf("the token is for %q only, not for %q", t.Spec.Name, req.Name)}
	}
	if err := pki.CheckName(req.Name); err != nil {
		return &object.Error{Code: object.CodeInvalid, Message: err.Error()}
	}
	if t.Spec.Role == object.RoleMaster {
		for _, m := range s.Cluster.Masters() {
			if m.Name == req.Name && m.Alive {
				return &object.Error{Code: object.CodeExists, Message: fmt.Sprintf("a master %q is running already, at %s", m.Name, m.API), Hint: "Give this one another name."}
			}
		}
	}
	return nil
}

// issue makes a certificate; login is that by which it came, empty for one of its own.
func (s *Server) issue(csr, name string, role object.Role, login string, lifetime time.Duration) (*object.Joined, error) {
	r, err := pki.ParseRequest([]byte(csr))
	if err != nil {
		return nil, &object.Error{Code: object.CodeInvalid, Message: err.Error()}
	}
	if role != object.RoleMaster {
		// A node must not be able to pass for a master to those who check nothing
		// but addresses.
		for _, m := range s.Cluster.Masters() {
			for _, a := range []string{m.API, m.Raft, m.Name} {
				if h, _, err := net.SplitHostPort(a); err == nil {
					a = h
				}
				if slices.Contains(r.Addresses, a) && !local(a) {
					return nil, object.Errorf(object.CodeForbidden, object.Ref{}, "%s is an address of master %s; a %s cannot have it in its certificate", a, m.Name, role)
				}
			}
		}
	}
	chain, err := s.CA.IssueLogin(r, name, string(role), login, lifetime)
	if err != nil {
		return nil, &object.Error{Code: object.CodeInvalid, Message: err.Error()}
	}
	return &object.Joined{
		Cluster: s.Keys.Cluster(), Name: name, Role: role,
		Certificate: string(chain), CA: string(s.CA.CertPEM()), Expires: s.Now().Add(lifetime).UTC(),
		Masters: s.Cluster.Masters(),
	}, nil
}

// local tells addresses that every machine has.
func local(a string) bool {
	ip := net.ParseIP(a)
	return a == "localhost" || ip != nil && ip.IsLoopback()
}

type renewInput struct {
	Body body[object.RenewRequest]
}

// postRenew issues to whoever holds a certificate another one of the same name
// and role. Bearers of tokens have none to renew.
func (s *Server) postRenew(ctx context.Context, in *renewInput) (*answer[object.Joined], error) {
	req, err := in.Body.get()
	if err != nil {
		return nil, err
	}
	who := identityOf(ctx)
	if who.byToken {
		return nil, &object.Error{Code: object.CodeForbidden, Message: "a token is not renewed, nor is a certificate that it was turned into", Hint: "Make a new one with: berth token create"}
	}
	if who.session.login != "" {
		return nil, &object.Error{Code: object.CodeForbidden, Message: "the certificate of a login is not renewed", Hint: "Log in again: berth login --oidc"}
	}
	out, err := s.issue(req.CSR, who.Name, who.Role, "", pki.Lifetime(string(who.Role)))
	if err != nil {
		return nil, err
	}
	return &answer[object.Joined]{Body: *out}, nil
}

// Limits of tokens: those of machines are for joining soon, those of people and
// programs may live as long as a certificate.
const (
	defaultTokenTTL = time.Hour
	longestJoinTTL  = 7 * 24 * time.Hour
	longestTokenTTL = 366 * 24 * time.Hour
)

type tokenInput struct {
	Body body[object.TokenRequest]
}

// postToken makes a token.
func (s *Server) postToken(ctx context.Context, in *tokenInput) (*answer[object.IssuedToken], error) {
	req, err := in.Body.get()
	if err != nil {
		return nil, err
	}
	longest := longestTokenTTL
	switch req.Role {
	case object.RoleNode, object.RoleMaster:
		longest = longestJoinTTL
	case object.RoleAdmin, object.RolePlanner:
	default:
		roles := []string{string(object.RoleAdmin), string(object.RolePlanner), string(object.RoleNode), string(object.RoleMaster)}
		return nil, &object.Error{Code: object.CodeInvalid, Message: fmt.Sprintf("role: there is no role %q", req.Role), Hint: fmt.Sprintf("Roles are %q.", roles)}
	}
	ttl := time.Duration(req.TTL)
	if ttl == 0 {
		ttl = defaultTokenTTL
	}
	if ttl < 0 || ttl > longest {
		return nil, &object.Error{Code: object.CodeInvalid, Message: fmt.Sprintf("ttl: a token of role %s may live for %s at most, not %s", req.Role, object.Duration(longest), req.TTL)}
	}
	if ttl, err = s.within(identityOf(ctx), &req, ttl); err != nil {
		return nil, err
	}
	if req.Uses < 0 {
		return nil, &object.Error{Code: object.CodeInvalid, Message: "uses: must not be negative; 0 means any number"}
	}
	if req.Name != "" {
		if err := pki.CheckName(req.Name); err != nil {
			return nil, &object.Error{Code: object.CodeInvalid, Message: "name: " + err.Error()}
		}
	}
	if len(req.Labels) > 0 && req.Role != object.RoleNode {
		return nil, &object.Error{Code: object.CodeInvalid, Message: fmt.Sprintf("labels: they are given to nodes, and the token is for role %s", req.Role)}
	}
	now := s.Now().UTC()
	made := pki.NewToken(s.CA.Hash())
	t := &object.Token{
		Meta: object.Meta{Kind: object.KindToken, Name: made.ID},
		Spec: object.TokenSpec{Role: req.Role, Digest: made.Digest(), Expires: now.Add(ttl), Uses: req.Uses, Name: req.Name, Comment: req.Comment, Labels: req.Labels},
	}
	_, err = s.propose(ctx, identityOf(ctx).author(), "token for role "+string(req.Role), func(_ *state.Snapshot, c *object.Changeset) error {
		c.Create(t)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &answer[object.IssuedToken]{Body: object.IssuedToken{ID: made.ID, Token: made.String(), Role: req.Role, Expires: t.Spec.Expires}}, nil
}
