package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc/oidctest"

	"github.com/berthdev/berth/cluster/object"
)

// counted is an issuer that counts who asks it for what.
func counted(t *testing.T) (*object.IdentityProviderSpec, func(claims string) string, *atomic.Int32) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &oidctest.Server{PublicKeys: []oidctest.PublicKey{{PublicKey: key.Public(), KeyID: "k", Algorithm: "ES256"}}, Algorithms: []string{"ES256"}}
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		s.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s.SetIssuer(server.URL)
	sign := func(claims string) string {
		return oidctest.SignIDToken(key, "k", "ES256", fmt.Sprintf(`{"iss":%q,"aud":"a"%s}`, server.URL, claims))
	}
	return &object.IdentityProviderSpec{Issuer: server.URL, Audience: "a"}, sign, &asked
}

// The clock is the verifier's: a token ends when that says so. Keys are kept.
func TestDatesAndKeys(t *testing.T) {
	p, sign, asked := counted(t)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	v := New(func() time.Time { return now })
	token := sign(fmt.Sprintf(`,"exp":%d,"n":7`, now.Add(time.Minute).Unix()))
	for range 3 {
		claims, err := v.Verify(context.Background(), p, token)
		if err != nil || object.ClaimText(claims["n"]) != "7" {
			t.Fatal(claims, err)
		}
	}
	if n := asked.Load(); n != 2 { // its description and its keys
		t.Errorf("the issuer was asked %d times", n)
	}
	now = now.Add(2 * time.Minute)
	if _, err := v.Verify(context.Background(), p, token); !object.IsCode(err, object.CodeUnauthorized) || !strings.Contains(err.Error(), "expired at 2026-01-02T03:05:05Z") {
		t.Error(err)
	}
	// A token without an end never was good.
	if _, err := v.Verify(context.Background(), p, sign("")); !object.IsCode(err, object.CodeUnauthorized) {
		t.Error(err)
	}
}

// Whoever sends token after token does not make us ask the issuer each time.
func TestAskedTooOften(t *testing.T) {
	p, sign, _ := counted(t)
	v := New(time.Now)
	v.asking.SetLimit(0)
	for range 50 {
		if _, err := v.Verify(context.Background(), p, sign(`,"exp":1`)); !object.IsCode(err, object.CodeUnauthorized) {
			t.Fatal(err)
		}
	}
	if _, err := v.Verify(context.Background(), p, sign(`,"exp":1`)); !object.IsCode(err, object.CodeUnavailable) {
		t.Error(err)
	}
}

// An issuer that leads elsewhere is not followed: it could lead into our network.
func TestRedirect(t *testing.T) {
	server := httptest.NewServer(http.RedirectHandler("http://127.0.0.1:1/", http.StatusFound))
	t.Cleanup(server.Close)
	_, err := New(time.Now).Verify(context.Background(), &object.IdentityProviderSpec{Issuer: server.URL, Audience: "a"}, "x.y.z")
	if !object.IsCode(err, object.CodeUnavailable) || !strings.Contains(err.Error(), "leads elsewhere") {
		t.Error(err)
	}
}

func TestIssuerOf(t *testing.T) {
	for token, want := range map[string]string{
		"a.eyJpc3MiOiJodHRwczovL3gifQ.c": "https://x", "a.e30.c": "", "a.%.c": "", "a.b": "", "": "", "a." + strings.Repeat("e", largest) + ".c": "",
	} {
		got, err := IssuerOf(token)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%.40s: %q %v", token, got, err)
		}
	}
}
