package api

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/oidc"
	"github.com/berthdev/berth/cluster/pki"
	"github.com/berthdev/berth/cluster/state"
)

type loginInput struct {
	Body body[object.LoginRequest]
}

// postLogin turns an identity token of an issuer that somebody trusts into a
// certificate. Nothing is written: what the certificate says is held against the
// identity provider at each request, so removing a login ends it at once.
func (s *Server) postLogin(ctx context.Context, in *loginInput) (*answer[object.Joined], error) {
	req, err := in.Body.get()
	if err != nil {
		return nil, err
	}
	if req.Token == "" || req.CSR == "" {
		return nil, &object.Error{Code: object.CodeInvalid, Message: "a login needs an identity token and a certificate request", Hint: "berth login --oidc sends both."}
	}
	r, err := pki.ParseRequest([]byte(req.CSR))
	if err != nil {
		return nil, &object.Error{Code: object.CodeInvalid, Message: err.Error()}
	}
	m, err := s.login(ctx, req.Token, req.Login)
	if err != nil {
		s.Log.Warn("a login was refused", "reason", err)
		return nil, err
	}
	chain, err := s.CA.IssueLogin(r, m.name, m.login.Role, m.id(), m.login.TTL.D())
	if err != nil {
		return nil, &object.Error{Code: object.CodeInvalid, Message: err.Error()}
	}
	s.Log.Info("logged in", "name", m.name, "role", m.login.Role, "login", m.id(), "subject", m.claims["sub"])
	return &answer[object.Joined]{Body: object.Joined{
		Cluster: s.Keys.Cluster(), Name: m.name, Role: object.Role(m.login.Role),
		Certificate: string(chain), CA: string(s.CA.CertPEM()), Expires: s.Now().Add(m.login.TTL.D()).UTC(),
		Masters: s.Cluster.Masters(),
	}}, nil
}

// match is a token and the login that it fits.
type match struct {
	provider string
	login    *object.ProviderLogin
	claims   map[string]any
	name     string
}

func (m match) id() string { return m.provider + "/" + m.login.Name }

// login finds what a token entitles to.
func (s *Server) login(ctx context.Context, token, asked string) (match, error) {
	issuer, err := oidc.IssuerOf(token)
	if err != nil {
		return match{}, err
	}
	var unmet []string
	var refused error
	trusted := false
	for p := range state.All[*object.IdentityProvider](s.Cluster.Snapshot(), object.KindIdentityProvider) {
		if p.Spec.Issuer != issuer {
			continue
		}
		trusted = true
		claims, err := s.tokens.Verify(ctx, &p.Spec, token)
		if err != nil {
			refused = err
			continue
		}
		for i := range p.Spec.Logins {
			l := &p.Spec.Logins[i]
			if asked != "" && asked != l.Name && asked != p.Name+"/"+l.Name {
				continue
			}
			if lacks := l.Unmet(claims); len(lacks) > 0 {
				unmet = append(unmet, fmt.Sprintf("%s/%s: %s", p.Name, l.Name, strings.Join(lacks, ", ")))
				continue
			}
			return match{provider: p.Name, login: l, claims: claims, name: loginName(p.Name, l, claims)}, nil
		}
	}
	switch {
	case !trusted:
		return match{}, &object.Error{Code: object.CodeUnauthorized, Message: "this cluster trusts no identity tokens of " + issuer, Hint: "An admin applies an identity_provider block with that issuer."}
	case len(unmet) > 0:
		return match{}, &object.Error{Code: object.CodeForbidden, Message: "the identity token is good, but fits no login: " + strings.Join(unmet, "; "), Hint: "The claims of the login blocks say whose jobs may log in; see: berth describe identity_provider"}
	case refused != nil:
		return match{}, refused
	}
	return match{}, &object.Error{Code: object.CodeNotFound, Message: fmt.Sprintf("no identity provider with issuer %s has a login %q", issuer, asked), Hint: "See: berth describe identity_provider"}
}

var unnameable = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// loginName is how histories call who logged in.
func loginName(provider string, l *object.ProviderLogin, claims map[string]any) string {
	name := provider + "-" + l.Name
	if v, ok := claims[l.NameClaim]; ok && l.NameClaim != "" {
		name += "@" + unnameable.ReplaceAllString(object.ClaimText(v), "-")
	}
	if len(name) > 63 {
		name = name[:63]
	}
	return strings.TrimRight(name, ".-_@")
}

// stillGood holds a certificate that came of a login against the login as it is
// now.
func (s *Server) stillGood(id string, role object.Role) error {
	provider, name, _ := strings.Cut(id, "/")
	p, ok := state.Find[*object.IdentityProvider](s.Cluster.Snapshot(), object.Ref{Kind: object.KindIdentityProvider, Name: provider})
	if ok {
		for i := range p.Spec.Logins {
			if l := &p.Spec.Logins[i]; l.Name == name && l.Role == string(role) {
				return nil
			}
		}
	}
	return &object.Error{Code: object.CodeUnauthorized, Message: fmt.Sprintf("the login %s, by which this certificate was made, is gone or of another role now", id), Hint: "Log in again: berth login --oidc"}
}
