package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc/oidctest"
	"github.com/rogpeppe/go-internal/testscript"
)

// ci stands for a CI system: it signs tokens for its jobs, publishes its key, and
// gives a job's token to who shows the job's own secret, as GitHub's runner does.
type ci struct {
	keys *oidctest.Server
	key  *ecdsa.PrivateKey
	url  string

	mu  sync.Mutex
	job map[string]any // the claims of the job that runs
}

const runnerSecret = "of-this-job"

// startCI is the script command `issuer`: it sets $ISSUER, and what GitHub's runner sets.
func (w *scriptWorld) startCI(ts *testscript.TestScript, neg bool, args []string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	c := &ci{key: key, keys: &oidctest.Server{PublicKeys: []oidctest.PublicKey{{PublicKey: key.Public(), KeyID: "k1", Algorithm: "ES256"}}, Algorithms: []string{"ES256"}}}
	server := httptest.NewServer(c)
	w.t.Cleanup(server.Close)
	c.url = server.URL
	c.keys.SetIssuer(c.url)
	w.ci = c
	ts.Setenv("ISSUER", c.url)
	ts.Setenv("ACTIONS_ID_TOKEN_REQUEST_URL", c.url+"/token?api-version=2.0")
	ts.Setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", runnerSecret)
}

func (c *ci) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/token" {
		c.keys.ServeHTTP(w, r)
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+runnerSecret {
		http.Error(w, "whose job?", http.StatusUnauthorized)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]string{"value": c.token(map[string]any{"aud": r.URL.Query().Get("audience")})})
}

func (c *ci) token(more map[string]any) string {
	claims := map[string]any{"iss": c.url, "aud": "berth", "exp": time.Now().Add(5 * time.Minute).Unix(), "iat": time.Now().Unix()}
	c.mu.Lock()
	maps.Copy(claims, c.job)
	c.mu.Unlock()
	maps.Copy(claims, more)
	b, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	return oidctest.SignIDToken(c.key, "k1", "ES256", string(b))
}

// runJob is `job CLAIM=VALUE…`: from now on another job runs. `job -expired …`
// gives it a token that is.
func (w *scriptWorld) runJob(ts *testscript.TestScript, neg bool, args []string) {
	job := map[string]any{}
	for _, a := range args {
		if a == "-expired" {
			job["exp"] = time.Now().Add(-time.Hour).Unix()
			continue
		}
		name, value, ok := strings.Cut(a, "=")
		if !ok {
			ts.Fatalf("usage: job CLAIM=VALUE…")
		}
		job[name] = value
	}
	w.ci.mu.Lock()
	w.ci.job = job
	w.ci.mu.Unlock()
}

// writeToken is `identity FILE`: the job's identity token.
func (w *scriptWorld) writeToken(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(w.ci.token(nil)+"\n"), 0o600))
}
