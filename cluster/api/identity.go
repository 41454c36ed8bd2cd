package api

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/pki"
	"github.com/berthdev/berth/cluster/state"
)

// Identity is who asks. The zero value is nobody.
type Identity struct {
	Name string
	Role object.Role

	byToken bool
	session session
}

// Headers between masters. They count only from a client whose certificate says
// role master; from anybody else they are ignored.
const (
	forwardedHeader = "Berth-Forwarded"         // by which master
	identityHeader  = "Berth-Forwarded-For"     // role/name of who asked it; absent: as Authorization says
	sessionHeader   = "Berth-Forwarded-Session" // by which token or login, and till when
)

type identityKey struct{}

// identityOf is who asks, in a handler.
func identityOf(ctx context.Context) Identity {
	who, _ := ctx.Value(identityKey{}).(Identity) // absent on public routes only
	return who
}

var errUnknownToken = errors.New("unknown token")

// identify finds out who asks: what a fellow master vouches for, else a token,
// else the certificate.
func (s *Server) identify(r *http.Request) (Identity, error) {
	var peer Identity
	if r.TLS != nil {
		name, role, err := s.Identity.Authenticate(*r.TLS)
		if err != nil {
			var p *pki.Problem
			if errors.As(err, &p) {
				e := object.Errorf(object.CodeUnauthorized, object.Ref{}, "%s", p.Message)
				e.Hint = p.Hint
				return Identity{}, e
			}
			return Identity{}, object.Errorf(object.CodeUnauthorized, object.Ref{}, "%w", err)
		}
		peer = Identity{Name: name, Role: object.Role(role)}
		if len(r.TLS.PeerCertificates) > 0 {
			if peer, err = s.certified(peer, r.TLS.PeerCertificates[0]); err != nil {
				return Identity{}, err
			}
		}
	}
	passedOn := peer.Role == object.RoleMaster && r.Header.Get(forwardedHeader) != ""
	if !passedOn {
		r.Header.Del(forwardedHeader)
		r.Header.Del(identityHeader)
		r.Header.Del(sessionHeader)
	}
	if passedOn {
		if !s.member(peer.Name) {
			// Not the client's fault: another master will do.
			e := notMember(peer.Name)
			e.Code, e.Hint = object.CodeUnavailable, "Ask another master, and take this one out of your addresses."
			return Identity{}, e
		}
		if v := r.Header.Get(identityHeader); v != "" {
			role, name, _ := strings.Cut(v, "/")
			who := Identity{Name: name, Role: object.Role(role), session: readSession(r.Header.Get(sessionHeader))}
			who.byToken = who.session.token != ""
			return who, nil
		}
		peer = Identity{} // the master speaks for somebody it could not name, not for itself
	}
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return s.bearer(bearer)
	}
	return peer, nil
}

// author is how changes of an identity are signed.
func (i Identity) author() string {
	switch i.Role {
	case object.RoleNode, object.RoleMaster:
		return string(i.Role) + "/" + i.Name
	}
	if i.byToken {
		return "token " + strings.TrimPrefix(i.Name, "token-")
	}
	return i.Name
}

// bearer authenticates a client token.
func (s *Server) bearer(text string) (Identity, error) {
	t, _, err := s.checkToken(s.Cluster.Snapshot(), text)
	if err != nil {
		return Identity{}, err
	}
	if t.Spec.Role != object.RoleAdmin && t.Spec.Role != object.RolePlanner {
		return Identity{}, &object.Error{Code: object.CodeForbidden, Message: fmt.Sprintf("a token of role %s is for joining, not for requests", t.Spec.Role), Hint: "Join with it (POST /v1/join), or make a token of role admin or planner."}
	}
	if t.Spec.Uses != 0 {
		return Identity{}, &object.Error{Code: object.CodeForbidden, Message: "a token with a limited number of uses is for joining, not for requests", Hint: "Join with it (POST /v1/join), or make a token without a limit."}
	}
	return ofToken(t), nil
}

// ofToken is who asks by a token, in whatever form.
func ofToken(t *object.Token) Identity {
	name := t.Spec.Name
	if name == "" {
		name = "token-" + t.Name
	}
	return Identity{Name: name, Role: t.Spec.Role, byToken: true, session: session{until: t.Spec.Expires, token: t.Name}}
}

// checkToken finds the record of a token and checks its secret and date.
func (s *Server) checkToken(v *state.Snapshot, text string) (*object.Token, pki.Token, error) {
	given, err := pki.ParseToken(text)
	if err != nil {
		return nil, given, &object.Error{Code: object.CodeUnauthorized, Message: err.Error()}
	}
	if given.CAHash != s.CA.Hash() {
		return nil, given, &object.Error{Code: object.CodeUnauthorized, Message: "the token was made by another cluster", Hint: "Check the address and the token."}
	}
	t, ok := state.Find[*object.Token](v, object.Ref{Kind: object.KindToken, Name: given.ID})
	if !ok {
		e := object.Errorf(object.CodeUnauthorized, object.Ref{}, "the token is not known: %w", errUnknownToken)
		e.Message = "the token is not known: it has been revoked, or expired long ago"
		e.Hint = "Make a new one with: berth token create"
		return nil, given, e
	}
	if subtle.ConstantTimeCompare([]byte(t.Spec.Digest), []byte(given.Digest())) != 1 {
		return nil, given, &object.Error{Code: object.CodeUnauthorized, Message: "the token's secret is wrong", Hint: "Copy the whole token."}
	}
	return t, given, s.inTime(t)
}
