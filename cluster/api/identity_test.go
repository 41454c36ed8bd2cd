package api_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/pki"
)

// join joins with a token, knowing nothing else, as a new machine does.
func (w *world) join(token, name string, role object.Role, addresses ...string) (object.Joined, []byte, error) {
	w.t.Helper()
	key, csr, err := pki.NewRequest(name, addresses...)
	if err != nil {
		w.t.Fatal(err)
	}
	c := w.at(client.Config{Addrs: w.addrs, Token: token})
	out, err := c.Join(context.Background(), object.JoinRequest{Token: token, Role: role, Name: name, CSR: string(csr)})
	return out, key, err
}

func (w *world) token(r object.TokenRequest) object.IssuedToken {
	w.t.Helper()
	out, err := w.admin().CreateToken(context.Background(), r)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func TestJoin(t *testing.T) {
	w := newWorld(t, "m1", "m2")
	tok := w.token(object.TokenRequest{Role: object.RoleNode, Uses: 2})
	out, key, err := w.join(tok.Token, "n1", object.RoleNode, "10.0.0.7:7410")
	if err != nil {
		t.Fatal(err)
	}
	if out.Role != object.RoleNode || out.CAKey != "" || out.Keyring != "" || out.Cluster != w.keys.Cluster() || len(out.Masters) != 2 {
		t.Errorf("%+v", out)
	}
	id, err := pki.NewIdentity([]byte(out.Certificate), key, []byte(out.CA))
	if err != nil {
		t.Fatal(err)
	}
	if id.Name() != "n1" || id.Role() != "node" {
		t.Errorf("%s %s", id.Name(), id.Role())
	}
	n1 := w.at(client.Config{Addrs: w.addrs, TLS: id.ClientTLS(pki.RoleMaster, "")})
	if _, err := n1.Report(context.Background(), object.Report{Node: "n1"}); err != nil {
		t.Error(err)
	}
	// The subject is the masters' choice, whatever the request says: a renewal has
	// the same.
	_, csr, err := pki.NewRequest("admin")
	if err != nil {
		t.Fatal(err)
	}
	renewed, err := n1.Renew(context.Background(), csr)
	if err != nil || renewed.Name != "n1" || renewed.Role != object.RoleNode {
		t.Errorf("%+v %v", renewed, err)
	}

	m := w.token(object.TokenRequest{Role: object.RoleMaster, Uses: 1, Name: "m3"})
	_, _, err = w.join(m.Token, "m4", object.RoleMaster)
	wantCode(t, err, object.CodeForbidden)
	out, _, err = w.join(m.Token, "m3", "")
	if err != nil || out.CAKey == "" || out.Keyring == "" {
		t.Errorf("a master needs the keys: %v", err)
	}
	m = w.token(object.TokenRequest{Role: object.RoleMaster})
	_, _, err = w.join(m.Token, "m1", object.RoleMaster)
	wantCode(t, err, object.CodeExists)
}

func TestTokenMisuse(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	once := w.token(object.TokenRequest{Role: object.RoleNode, Uses: 1})
	other := "ff"
	if once.Token[11:13] == other {
		other = "00"
	}
	for _, c := range []struct {
		name, token string
		role        object.Role
		code        object.Code
		says        string
	}{
		{"wrong role", once.Token, object.RoleMaster, object.CodeForbidden, "role node"},
		{"wrong secret", once.Token[:11] + other + once.Token[13:], object.RoleNode, object.CodeUnauthorized, "wrong"},
		{"unknown", pki.NewToken(w.ca.Hash()).String(), object.RoleNode, object.CodeUnauthorized, "not known"},
	} {
		_, _, err := w.join(c.token, "n1", c.role)
		if e := wantCode(t, err, c.code); !strings.Contains(e.Message, c.says) {
			t.Errorf("%s: %q", c.name, e.Message)
		}
	}
	if _, _, err := w.join(once.Token, "n1", object.RoleNode); err != nil {
		t.Fatal(err)
	}
	_, _, err := w.join(once.Token, "n2", object.RoleNode)
	if e := wantCode(t, err, object.CodeForbidden); !strings.Contains(e.Message, "used") {
		t.Errorf("%q", e.Message)
	}

	expired := pki.NewToken(w.ca.Hash())
	w.write(&object.Token{Meta: object.Meta{Kind: object.KindToken, Name: expired.ID}, Spec: object.TokenSpec{Role: object.RoleNode, Digest: expired.Digest(), Expires: time.Now().Add(-time.Minute)}})
	_, _, err = w.join(expired.String(), "n1", object.RoleNode)
	if e := wantCode(t, err, object.CodeUnauthorized); !strings.Contains(e.Message, "expired") {
		t.Errorf("%q", e.Message)
	}

	// A token of another cluster: the machine finds out before it sends anything.
	foreign, err := pki.NewCA("elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = w.join(pki.NewToken(foreign.Hash()).String(), "n1", object.RoleNode)
	if e := wantCode(t, err, object.CodeUnauthorized); !strings.Contains(e.Message, "not of the cluster") {
		t.Errorf("%q", e.Message)
	}

	revoked := w.token(object.TokenRequest{Role: object.RoleNode})
	if err := w.admin().RevokeToken(ctx, revoked.ID); err != nil {
		t.Fatal(err)
	}
	_, _, err = w.join(revoked.Token, "n1", object.RoleNode)
	wantCode(t, err, object.CodeUnauthorized)

	// A node cannot have a master's address.
	w.shared.mu.Lock()
	w.shared.masters = append(w.shared.masters, object.Master{Name: "m9", API: "10.9.9.9:7400"})
	w.shared.mu.Unlock()
	_, _, err = w.join(w.token(object.TokenRequest{Role: object.RoleNode}).Token, "n1", object.RoleNode, "10.9.9.9")
	wantCode(t, err, object.CodeForbidden)

	for _, r := range []object.TokenRequest{
		{Role: "root"}, {Role: object.RoleNode, TTL: object.Duration(365 * 24 * time.Hour)}, {Role: object.RoleNode, Uses: -1}, {Role: object.RoleNode, Name: "a b"},
	} {
		_, err := w.admin().CreateToken(ctx, r)
		wantCode(t, err, object.CodeInvalid)
	}
}

// TestLastUseIsGivenOnce joins many times at once by a token that is good for two.
func TestLastUseIsGivenOnce(t *testing.T) {
	w := newWorld(t, "m1")
	tok := w.token(object.TokenRequest{Role: object.RoleNode, Uses: 2})
	var mu sync.Mutex
	var wg sync.WaitGroup
	joined := 0
	for i := range 6 {
		wg.Go(func() {
			_, _, err := w.join(tok.Token, "n"+string(rune('a'+i)), object.RoleNode)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				joined++
			} else if !object.IsCode(err, object.CodeForbidden) {
				t.Errorf("%v", err)
			}
		})
	}
	wg.Wait()
	if joined != 2 {
		t.Errorf("%d joined", joined)
	}
}

func TestBearerTokens(t *testing.T) {
	w, ctx := newWorld(t, "m1", "m2"), context.Background()
	tok := w.token(object.TokenRequest{Role: object.RolePlanner, Name: "ci", TTL: object.Duration(30 * 24 * time.Hour)})
	for _, addr := range w.addrs { // leader and follower
		ci := w.at(client.Config{Addrs: []string{addr}, Token: tok.Token})
		if _, err := ci.List(ctx, object.KindDeployment, client.ListOptions{}); err != nil {
			t.Error(err)
		}
		_, err := ci.Create(ctx, configMap("default", "x", nil))
		if e := wantCode(t, err, object.CodeForbidden); !strings.Contains(e.Message, "ci has role planner") {
			t.Errorf("%q", e.Message)
		}
		_, csr, err := pki.NewRequest("ci")
		if err != nil {
			t.Fatal(err)
		}
		_, err = ci.Renew(ctx, csr)
		wantCode(t, err, object.CodeForbidden)
	}
	node := w.token(object.TokenRequest{Role: object.RoleNode})
	_, err := w.at(client.Config{Addrs: w.addrs, Token: node.Token}).Status(ctx)
	wantCode(t, err, object.CodeForbidden)
	unknown := w.at(client.Config{Addrs: w.addrs, Token: pki.NewToken(w.ca.Hash()).String()})
	_, err = unknown.Status(ctx)
	wantCode(t, err, object.CodeUnauthorized)

	tokens, err := w.admin().Tokens(ctx)
	if err != nil || len(tokens) != 2 {
		t.Fatalf("%v %v", tokens, err)
	}
	status, b, _ := w.raw(w.identity("ann", "admin"), w.addrs[0], "GET", "/v1/tokens", nil)
	if status != http.StatusOK || contains(b, strings.Split(tok.Token, ".")[1]) {
		t.Error("a listing shows a token's secret")
	}
}

func TestKeyRotation(t *testing.T) {
	w, ctx := newWorld(t, "m1", "m2", "m3"), context.Background()
	was := w.keys.Primary()
	id, err := w.admin().RotateKeys(ctx)
	if err != nil || id == was || w.keys.Primary() != id {
		t.Fatalf("%s %v", id, err)
	}
	ref := object.Ref{Kind: object.KindSecret, Namespace: "default", Name: "db"}
	s, err := w.keys.Seal(ref, "k", "v")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range w.rings {
		if plain, err := r.Reveal(ref, "k", s); err != nil || plain != "v" || r.Primary() != id {
			t.Errorf("%q %v", plain, err)
		}
	}
	// A master that cannot take the key stops the rotation before anything is
	// sealed by it.
	w.shared.mu.Lock()
	w.shared.masters = append(w.shared.masters, object.Master{Name: "m4", API: "127.0.0.1:1"})
	w.shared.mu.Unlock()
	_, err = w.admin().RotateKeys(ctx)
	wantCode(t, err, object.CodeUnavailable)
	if w.keys.Primary() != id {
		t.Error("promoted all the same")
	}
}
