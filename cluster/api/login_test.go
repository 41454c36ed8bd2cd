package api_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc/oidctest"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/pki"
)

// issuer is an issuer of identity tokens on loopback.
type issuer struct {
	t      *testing.T
	server atomic.Pointer[oidctest.Server]
	http   *httptest.Server
	key    *ecdsa.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{t: t, key: newKey(t)}
	i.http = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { i.server.Load().ServeHTTP(w, r) }))
	t.Cleanup(i.http.Close)
	i.publish(i.key, "k1")
	return i
}

// publish makes a key the only one that the issuer tells of.
func (i *issuer) publish(key *ecdsa.PrivateKey, id string) {
	s := &oidctest.Server{PublicKeys: []oidctest.PublicKey{{PublicKey: key.Public(), KeyID: id, Algorithm: "ES256"}}, Algorithms: []string{"ES256"}}
	s.SetIssuer(i.http.URL)
	i.server.Store(s)
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// ca is the certificate by which the issuer proves to be itself.
func (i *issuer) ca() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.http.Certificate().Raw}))
}

// token is a job's, with some claims changed; nil takes a claim out.
func (i *issuer) token(changed map[string]any) string { return i.signed(i.key, "k1", changed) }

func (i *issuer) signed(key *ecdsa.PrivateKey, id string, changed map[string]any) string {
	i.t.Helper()
	claims := map[string]any{
		"iss": i.http.URL, "aud": "berth-test", "sub": "repo:acme/shop:ref:refs/heads/main", "exp": time.Now().Add(5 * time.Minute).Unix(), "iat": time.Now().Unix(),
		"repository": "acme/shop", "ref": "refs/heads/main", "actor": "ann lee", "protected": true, "groups": []string{"a", "b"},
	}
	maps.Copy(claims, changed)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	b, err := json.Marshal(claims)
	if err != nil {
		i.t.Fatal(err)
	}
	return oidctest.SignIDToken(key, id, "ES256", string(b))
}

func (i *issuer) provider() *object.IdentityProvider {
	return &object.IdentityProvider{
		Meta: object.Meta{Kind: object.KindIdentityProvider, Name: "ci"},
		Spec: object.IdentityProviderSpec{Issuer: i.http.URL, Audience: "berth-test", CA: i.ca(), Logins: []object.ProviderLogin{
			{Name: "deploy", Role: "admin", Claims: map[string]string{"repository": "acme/shop", "ref": "refs/heads/main", "protected": "true"}, NameClaim: "actor", TTL: object.Duration(10 * time.Minute)},
			{Name: "plan", Role: "planner", Claims: map[string]string{"repository": "acme/*", "groups": "b"}, TTL: object.Duration(30 * time.Minute)},
		}},
	}
}

// login logs in, knowing only where the masters are and what pins their authority.
func (w *world) login(token, as string) (object.Joined, *client.Client, error) {
	w.t.Helper()
	key, csr, err := pki.NewRequest("x")
	if err != nil {
		w.t.Fatal(err)
	}
	c := w.at(client.Config{Addrs: w.addrs, TLS: pki.PinnedTLS(pki.Token{CAHash: w.ca.Hash()})})
	out, err := c.Login(context.Background(), object.LoginRequest{Token: token, Login: as, CSR: string(csr)})
	if err != nil {
		return out, nil, err
	}
	id, err := pki.NewIdentity([]byte(out.Certificate), key, []byte(out.CA))
	if err != nil {
		w.t.Fatal(err)
	}
	if left := time.Until(id.Expires()); left > time.Until(out.Expires)+time.Second || left < time.Until(out.Expires)-time.Minute {
		w.t.Errorf("the certificate is good for %s, the answer says until %s", left, out.Expires)
	}
	return out, w.at(client.Config{Addrs: w.addrs, TLS: id.ClientTLS(pki.RoleMaster, "")}), nil
}

func TestLogin(t *testing.T) {
	w, i := newWorld(t, "m1", "m2"), newIssuer(t)
	w.write(i.provider())
	ctx := context.Background()

	out, c, err := w.login(i.token(nil), "")
	if err != nil {
		t.Fatal(err)
	}
	if out.Name != "ci-deploy@ann-lee" || out.Role != object.RoleAdmin || time.Until(out.Expires) > 10*time.Minute || out.CAKey != "" || out.Keyring != "" {
		t.Errorf("%+v", out)
	}
	if _, err := c.Tokens(ctx); err != nil {
		t.Errorf("an admin by login: %v", err)
	}
	// What it is asked for, and what a branch gets.
	for token, as := range map[string]string{i.token(nil): "plan", i.token(map[string]any{"iat": 1}): "ci/plan", i.token(map[string]any{"ref": "refs/pull/1/merge"}): ""} {
		out, _, err := w.login(token, as)
		if err != nil || out.Name != "ci-plan" || out.Role != object.RolePlanner {
			t.Errorf("%+v %v", out, err)
		}
	}
	// A login is for a while: it is not renewed, and no token counts as one.
	_, csr, err := pki.NewRequest("x")
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Renew(ctx, csr)
	wantCode(t, err, object.CodeForbidden)

	// It ends with the login that it came by.
	p := w.get(object.Ref{Kind: object.KindIdentityProvider, Name: "ci"}).(*object.IdentityProvider)
	n := p.Clone().(*object.IdentityProvider)
	n.Spec.Logins = n.Spec.Logins[1:]
	var change object.Changeset
	change.Update(p, n)
	w.propose(change)
	_, err = c.Tokens(ctx)
	if e := wantCode(t, err, object.CodeUnauthorized); !strings.Contains(e.Message, "ci/deploy") {
		t.Error(e.Message)
	}
}

func TestLoginRefused(t *testing.T) {
	w, i := newWorld(t, "m1"), newIssuer(t)
	w.write(i.provider())
	stranger := newIssuer(t)
	good := strings.Split(i.token(nil), ".")
	forged, err := json.Marshal(map[string]any{"iss": i.http.URL, "aud": "berth-test", "exp": time.Now().Add(time.Hour).Unix(), "repository": "acme/shop", "ref": "refs/heads/main", "protected": true})
	if err != nil {
		t.Fatal(err)
	}
	body := base64.RawURLEncoding.EncodeToString(forged)
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	for what, c := range map[string]struct {
		token, as string
		code      object.Code
		says      string
	}{
		"expired":                {i.token(map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}), "", object.CodeUnauthorized, "expired at"},
		"for another cluster":    {i.token(map[string]any{"aud": "other"}), "", object.CodeUnauthorized, "meant for somebody else"},
		"of another repository":  {i.token(map[string]any{"repository": "evil/shop"}), "", object.CodeForbidden, "ci/deploy: repository is evil/shop; ci/plan: repository is evil/shop"},
		"of another branch":      {i.token(map[string]any{"ref": "refs/heads/x"}), "deploy", object.CodeForbidden, "ref is refs/heads/x"},
		"of an owner alike":      {i.token(map[string]any{"repository": "acmeevil/shop"}), "plan", object.CodeForbidden, "repository is acmeevil/shop"},
		"without a claim":        {i.token(map[string]any{"protected": nil}), "deploy", object.CodeForbidden, "protected is missing"},
		"with a list that lacks": {i.token(map[string]any{"groups": []string{"c"}}), "plan", object.CodeForbidden, `groups is ["c"]`},
		"for no such login":      {i.token(nil), "nobody", object.CodeNotFound, `a login "nobody"`},
		"of a stranger":          {stranger.token(nil), "", object.CodeUnauthorized, "trusts no identity tokens of " + stranger.http.URL},
		"signed by a stranger":   {i.signed(stranger.key, "k1", nil), "", object.CodeUnauthorized, "not good"},
		"with an unknown key":    {i.signed(stranger.key, "k2", nil), "", object.CodeUnauthorized, "not good"},
		"with another's claims":  {good[0] + "." + body + "." + good[2], "", object.CodeUnauthorized, "not good"},
		"without a signature":    {none + "." + body + ".", "", object.CodeUnauthorized, "not good"},
		"no token":               {"x.y", "", object.CodeUnauthorized, "no JSON web token"},
		"a client's token":       {w.token(object.TokenRequest{Role: object.RolePlanner}).Token, "", object.CodeUnauthorized, "names no issuer"},
	} {
		_, _, err := w.login(c.token, c.as)
		if !object.IsCode(err, c.code) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %s %v; want %s, %q", what, object.CodeOf(err), err, c.code, c.says)
		}
		if err != nil && strings.Contains(err.Error(), "refs/heads/main") {
			t.Errorf("%s: the error tells what would be let in: %v", what, err)
		}
	}
}

// An issuer changes its keys, is away, or shows another certificate.
func TestLoginIssuer(t *testing.T) {
	w, i := newWorld(t, "m1"), newIssuer(t)
	w.write(i.provider())
	if _, _, err := w.login(i.token(nil), ""); err != nil {
		t.Fatal(err)
	}
	next := newKey(t)
	i.publish(next, "k2")
	if _, _, err := w.login(i.signed(next, "k2", nil), ""); err != nil {
		t.Errorf("after a change of keys: %v", err)
	}
	i.http.Close()
	if _, _, err := w.login(i.signed(next, "k2", nil), ""); err != nil {
		t.Errorf("keys that are known need no issuer: %v", err)
	}
	_, _, err := w.login(i.signed(newKey(t), "k3", nil), "")
	if e := wantCode(t, err, object.CodeUnavailable); !strings.Contains(e.Message, "cannot be fetched") {
		t.Error(e.Message)
	}

	other := newIssuer(t)
	p := other.provider()
	p.Name, p.Spec.CA = "other", ""
	w.write(p)
	_, _, err = w.login(other.token(nil), "")
	if e := wantCode(t, err, object.CodeUnavailable); !strings.Contains(e.Message, "certificate") {
		t.Error(e.Message)
	}
}
