// Package oidc checks identity tokens of other issuers, such as those by which a
// CI system says whose job it is.
//
// A token and what an identity provider says go in, the token's claims come out
// if its issuer signed it, for us, and it has not expired. It fetches and keeps
// the issuers' keys. What claims entitle to is for package api.
package oidc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	goidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/time/rate"

	"github.com/berthdev/berth/cluster/object"
)

const (
	// patience bounds one request to an issuer.
	patience = 10 * time.Second
	// kept is how long an issuer's own description is believed; its keys are looked
	// up again whenever a token names an unknown one.
	kept = time.Hour
	// largest is more than any token has.
	largest = 64 << 10
)

// Verifier knows the issuers that it has asked. It may be used by any number of
// goroutines.
type Verifier struct {
	now func() time.Time
	// tokens that cannot be judged without asking their issuer could be sent to make
	// us ask it all the time.
	asking *rate.Limiter

	mu    sync.Mutex
	known map[source]*issuer
}

// source is all that an issuer's keys depend on.
type source struct{ issuer, ca string }

type issuer struct {
	mu       sync.Mutex
	provider *goidc.Provider
	at       time.Time
}

// New makes a verifier that judges dates by a clock.
func New(now func() time.Time) *Verifier {
	return &Verifier{now: now, asking: rate.NewLimiter(10, 50), known: map[source]*issuer{}}
}

// IssuerOf is the issuer that a token names, unproven: good for finding whom to ask.
func IssuerOf(token string) (string, error) {
	parts := strings.Split(token, ".")
	if len(token) > largest || len(parts) != 3 {
		return "", unauthorized("the identity token is no JSON web token", "It has three parts with dots between; take it as the CI system gives it.")
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		Issuer string `json:"iss"`
	}
	if err != nil || json.Unmarshal(b, &claims) != nil || claims.Issuer == "" {
		return "", unauthorized("the identity token names no issuer", "Take it as the CI system gives it.")
	}
	return claims.Issuer, nil
}

// Verify is the claims of a token that the provider's issuer signed for the
// provider's audience and that has not expired. Errors carry code unauthorized,
// or unavailable if the issuer cannot be asked.
func (v *Verifier) Verify(ctx context.Context, p *object.IdentityProviderSpec, token string) (map[string]any, error) {
	if !v.asking.Allow() {
		return nil, &object.Error{Code: object.CodeUnavailable, Message: "too many log in by identity tokens just now", Hint: "Try again in a second."}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	provider, err := v.provider(ctx, p)
	if err != nil {
		return nil, err
	}
	t, err := provider.Verifier(&goidc.Config{ClientID: p.Audience, Now: v.now}).Verify(ctx, token)
	if err != nil {
		return nil, explain(p, err)
	}
	claims := map[string]any{}
	if err := t.Claims(&claims); err != nil {
		return nil, unauthorized("the claims of the identity token cannot be read: "+err.Error(), "")
	}
	return claims, nil
}

func unauthorized(message, hint string) error {
	return &object.Error{Code: object.CodeUnauthorized, Message: message, Hint: hint}
}

// explain says what is wrong with a token, in words that say what to do.
func explain(p *object.IdentityProviderSpec, err error) error {
	var expired *goidc.TokenExpiredError
	text := strings.TrimPrefix(err.Error(), "oidc: ")
	switch {
	case errors.As(err, &expired):
		return unauthorized(fmt.Sprintf("the identity token expired at %s", expired.Expiry.UTC().Format(time.RFC3339)), "Ask the CI system for a new one right before logging in.")
	case strings.Contains(text, "audience"):
		return unauthorized(fmt.Sprintf("the identity token is meant for somebody else: %s", text), fmt.Sprintf("Ask for one with the audience %q (berth login --audience).", p.Audience))
	case strings.Contains(text, "fetching keys"):
		return &object.Error{Code: object.CodeUnavailable, Message: fmt.Sprintf("the keys of %s cannot be fetched: %s", p.Issuer, text), Hint: "The masters must reach the issuer."}
	}
	return unauthorized("the identity token is not good: "+text, "")
}

// provider asks an issuer who it is, unless it has done so lately.
func (v *Verifier) provider(ctx context.Context, p *object.IdentityProviderSpec) (*goidc.Provider, error) {
	key := source{p.Issuer, p.CA}
	v.mu.Lock()
	known := v.known[key]
	if known == nil {
		known = &issuer{}
		v.known[key] = known
	}
	v.mu.Unlock()
	known.mu.Lock()
	defer known.mu.Unlock()
	if known.provider != nil && v.now().Sub(known.at) < kept {
		return known.provider, nil
	}
	client, err := clientFor(p)
	if err != nil {
		return nil, err
	}
	found, err := goidc.NewProvider(goidc.ClientContext(ctx, client), p.Issuer)
	if err != nil {
		return nil, &object.Error{Code: object.CodeUnavailable, Message: fmt.Sprintf("the issuer %s cannot be asked for its keys: %v", p.Issuer, err), Hint: "The masters must reach it and trust its certificate (ca); its address must be as its tokens name it."}
	}
	known.provider, known.at = found, v.now()
	return found, nil
}

// clientFor speaks to an issuer: without following it elsewhere, and reading no
// more than keys can be.
func clientFor(p *object.IdentityProviderSpec) (*http.Client, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	if p.CA != "" {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM([]byte(p.CA)) {
			return nil, &object.Error{Code: object.CodeInvalid, Message: "ca: there is no certificate in PEM", Hint: "Correct the identity provider."}
		}
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	}
	return &http.Client{Transport: bounded{t}, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error {
		return errors.New("it leads elsewhere, and is not followed")
	}}, nil
}

// bounded cuts answers off that are no keys.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, 1<<20), resp.Body}
	}
	return resp, err
}
