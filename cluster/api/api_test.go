package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/berthdev/berth/cluster/api"
	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/pki"
)

// raw sends a request as it is.
func (w *world) raw(id *pki.Identity, addr, method, path string, body []byte, header ...string) (int, []byte, http.Header) {
	w.t.Helper()
	r, err := http.NewRequest(method, "https://"+addr+path, bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	tr := &http.Transport{TLSClientConfig: pki.PinnedTLS(pki.Token{CAHash: w.ca.Hash()}), DisableKeepAlives: true}
	if id != nil {
		tr.TLSClientConfig = id.ClientTLS(pki.RoleMaster, "")
	}
	resp, err := tr.RoundTrip(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, b, resp.Header
}

func TestObjectsGoThere(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	c := w.admin()
	written, err := c.Create(ctx, configMap("default", "web", map[string]string{"a": "1"}))
	if err != nil {
		t.Fatal(err)
	}
	if got := written.Object.Head(); got.ChangedBy != "admin" || got.Version == 0 {
		t.Errorf("written as %+v", got)
	}
	_, err = c.Create(ctx, configMap("default", "web", nil))
	wantCode(t, err, object.CodeExists)

	got, err := client.Get[*object.ConfigMap](ctx, c, object.Ref{Kind: object.KindConfigMap, Namespace: "default", Name: "web"})
	if err != nil || got.Spec.Data["a"] != "1" {
		t.Fatalf("got %+v, %v", got, err)
	}
	old := got.Clone().(*object.ConfigMap)
	if _, err := client.Update(ctx, c, got.Ref(), func(o *object.ConfigMap) error {
		o.Spec.Data = map[string]string{"a": "2"}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	_, err = c.Put(ctx, old)
	if e := wantCode(t, err, object.CodeConflict); e.By != "admin" || e.At.IsZero() {
		t.Errorf("the conflict does not say who and when: %+v", e)
	}
	if _, err := c.Create(ctx, configMap("other", "web", nil)); err != nil {
		t.Fatal(err)
	}
	list, err := client.List[*object.ConfigMap](ctx, c, object.KindConfigMap, client.ListOptions{})
	if err != nil || len(list) != 2 || list[0].Namespace != "default" {
		t.Fatalf("listed %v, %v", list, err)
	}
	list, err = client.List[*object.ConfigMap](ctx, c, object.KindConfigMap, client.ListOptions{Namespace: "other"})
	if err != nil || len(list) != 1 {
		t.Fatalf("listed %v, %v", list, err)
	}
	_, err = c.Get(ctx, object.Ref{Kind: object.KindConfigMap, Namespace: "default", Name: "wep"})
	if e := wantCode(t, err, object.CodeNotFound); e.Hint != `Did you mean "web"?` {
		t.Errorf("hint %q", e.Hint)
	}
	if _, err := c.Delete(ctx, got.Ref(), 0); err != nil {
		t.Fatal(err)
	}
	_, err = c.Delete(ctx, got.Ref(), 0)
	wantCode(t, err, object.CodeNotFound)
}

func TestWrittenObjectsGetDefaultsAndClearErrors(t *testing.T) {
	w := newWorld(t, "m1")
	id := w.identity("admin", "admin")
	put := func(body string) (int, object.Error) {
		status, b, _ := w.raw(id, w.addrs[0], "PUT", "/v1/namespaces/default/deployments/web", []byte(body), "Content-Type", "application/json")
		var f struct{ Error object.Error }
		if status != 200 {
			if err := json.Unmarshal(b, &f); err != nil {
				t.Fatalf("%d %s: %v", status, b, err)
			}
		}
		return status, f.Error
	}
	status, e := put(`{"spec":{"replicas":0,"pod":{"containers":[{"name":"web","image":"web:1","resources":{"cpu":0.5},"ports":[{"name":"http","port":80}],"readiness":{"tcp":{"port":80}}}]}}}`)
	if status != 200 {
		t.Fatalf("%d %+v", status, e)
	}
	d := w.get(object.Ref{Kind: object.KindDeployment, Namespace: "default", Name: "web"}).(*object.Deployment)
	if d.Spec.Replicas != 0 || d.Spec.History != 10 || d.Spec.Update.Strategy != "rolling" || d.Spec.Pod.Restart != "always" {
		t.Errorf("defaults: %+v", d.Spec)
	}
	ct := d.Spec.Pod.Containers[0]
	if ct.Pull != "missing" || ct.Resources.CPU != 500 || ct.Readiness.Failure != 3 || ct.Ports[0].Protocol != "tcp" || ct.Readiness.TCP.Port != "80" {
		t.Errorf("defaults inside: %+v", ct)
	}
	for _, c := range []struct{ body, says, hint string }{
		{`{"spec":{"replica":3}}`, "spec.replica: Unknown field", `Did you mean "replicas"?`},
		{`{"spec":{"replicas":"3"}}`, "spec.replicas: Wrong type", "whole number"},
		{`{"spec":{"pod":{"containers":[{"name":"web","image":"x","resources":{"memory":512}}]}}}`, `spec.pod.containers[0].resources.memory`, "unit"},
		{`{"meta":{"name":"other"}}`, "meta.name", `"web"`},
		{`{"spec":`, "", ""},
		{`[]`, "Wrong type", "an object"},
	} {
		status, e := put(c.body)
		if status != 400 || e.Code != object.CodeInvalid || !strings.Contains(e.Message, c.says) || !strings.Contains(e.Hint, c.hint) {
			t.Errorf("%s: %d %q %q", c.body, status, e.Message, e.Hint)
		}
	}
}

func TestUnknownRoutes(t *testing.T) {
	w := newWorld(t, "m1")
	for path, hint := range map[string]string{"/v1/deploymnts": `"deployments"`, "/v1/apply": "POST /v1/apply", "/x": "openapi"} {
		status, b, _ := w.raw(w.identity("admin", "admin"), w.addrs[0], "GET", path, nil)
		if status != 404 || !strings.Contains(strings.ReplaceAll(string(b), `\"`, `"`), hint) {
			t.Errorf("%s: %d %s", path, status, b)
		}
	}
}

func TestErrorsRoundTrip(t *testing.T) {
	codes := []object.Code{
		object.CodeInvalid, object.CodeNotFound, object.CodeExists, object.CodeConflict, object.CodeStale, object.CodeGone, object.CodeUnauthorized,
		object.CodeForbidden, object.CodeUnplaceable, object.CodeNoLeader, object.CodeUnavailable, object.CodeTooLarge, object.CodeTimeout, object.CodeInternal,
	}
	for _, c := range codes {
		status := api.Status(c)
		if back := client.Code(status); back != c && !(c == object.CodeExists && back == object.CodeConflict) {
			t.Errorf("%s is sent as %d, which is read as %s", c, status, back)
		}
		if status == http.StatusInternalServerError && c != object.CodeInternal {
			t.Errorf("%s is not in api's table", c)
		}
	}
}

func TestOpenAPICoversEveryRoute(t *testing.T) {
	w := newWorld(t, "m1")
	status, b, _ := w.raw(nil, w.addrs[0], "GET", "/openapi.json", nil)
	var doc struct {
		OpenAPI    string                               `json:"openapi"`
		Paths      map[string]map[string]map[string]any `json:"paths"`
		Components struct{ Schemas map[string]any }     `json:"components"`
	}
	if err := json.Unmarshal(b, &doc); err != nil || status != 200 {
		t.Fatalf("%d %v", status, err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("version %s", doc.OpenAPI)
	}
	for _, r := range w.servers["m1"].Routes() {
		if doc.Paths[r.Path][strings.ToLower(r.Method)] == nil {
			t.Errorf("%s %s is not in the document", r.Method, r.Path)
		}
	}
	// Every reference leads somewhere.
	for part := range strings.SplitSeq(string(b), `"$ref":"#/components/schemas/`) {
		name, _, _ := strings.Cut(part, `"`)
		if strings.HasPrefix(part, "{") {
			continue // what is before the first reference
		}
		if _, ok := doc.Components.Schemas[name]; !ok {
			t.Errorf("schema %q is referred to and not there", name)
		}
	}
}

// Who has heard from a follower which master leads sends a plan there; the rest of
// what it asks stays where it was.
func TestPlansGoStraightToTheLeader(t *testing.T) {
	w, ctx := newWorld(t, "m1", "m2", "m3"), context.Background()
	passedOn := func(route string) int {
		sum := 0
		for _, addr := range w.addrs[1:] {
			_, b, _ := w.raw(w.identity("ann", "admin"), addr, "GET", "/metrics", nil)
			_, rest, _ := strings.Cut(string(b), `berth_api_requests_total{forwarded="true",method="POST",route="POST `+route+`",status="200"} `)
			text, _, _ := strings.Cut(rest, "\n")
			n, _ := strconv.Atoi(text) // none yet is none
			sum += n
		}
		return sum
	}
	for i, first := range w.addrs {
		c := w.at(client.Config{Addrs: slices.Concat([]string{first}, w.addrs), TLS: w.identity("ann", "admin").ClientTLS(pki.RoleMaster, "")})
		if _, err := c.Stack(ctx, "shop", nil); err != nil { // it may begin with any of them
			t.Fatal(err)
		}
		before := passedOn("/v1/plan")
		if _, err := c.Plan(ctx, &object.Plan{Stack: "shop"}); err != nil {
			t.Fatal(err)
		}
		if n := passedOn("/v1/plan") - before; n != 0 {
			t.Errorf("client %d: a plan went by way of a follower", i)
		}
	}
	follower := w.at(client.Config{Addrs: w.addrs[1:2], TLS: w.identity("ann", "admin").ClientTLS(pki.RoleMaster, "")})
	if _, err := follower.Stack(ctx, "shop", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := follower.Plan(ctx, &object.Plan{Stack: "shop"}); err != nil { // it knows of no other
		t.Fatal(err)
	}
	if passedOn("/v1/plan") != 1 {
		t.Error("the metrics do not tell what followers pass on")
	}
}

func TestFollowersForward(t *testing.T) {
	w, ctx := newWorld(t, "m1", "m2", "m3"), context.Background()
	follower := w.at(client.Config{Addrs: w.addrs[1:2], TLS: w.identity("ann", "admin").ClientTLS(pki.RoleMaster, "")})
	written, err := follower.Create(ctx, configMap("default", "web", nil))
	if err != nil {
		t.Fatal(err)
	}
	if by := written.Object.Head().ChangedBy; by != "ann" {
		t.Errorf("the leader took %q for the author", by)
	}
	if _, err := follower.List(ctx, object.KindConfigMap, client.ListOptions{}); err != nil {
		t.Error(err)
	}
	issued := w.token(object.TokenRequest{Role: object.RoleAdmin, Name: "ops-2"})
	byToken := w.at(client.Config{Addrs: w.addrs[1:2], Token: issued.Token})
	if written, err = byToken.Create(ctx, configMap("default", "token", nil)); err != nil {
		t.Fatal(err)
	}
	if by := written.Object.Head().ChangedBy; by != "token ops-2" {
		t.Errorf("the leader took %q for a token", by)
	}
	planner := w.at(client.Config{Addrs: w.addrs[1:2], TLS: w.identity("pat", "planner").ClientTLS(pki.RoleMaster, "")})
	_, err = planner.Create(ctx, configMap("default", "api", nil))
	wantCode(t, err, object.CodeForbidden)

	// Headers of a forward count from masters only.
	status, b, _ := w.raw(w.identity("pat", "planner"), w.addrs[0], "DELETE", "/v1/namespaces/default/config_maps/web", nil,
		"Berth-Forwarded", "m2", "Berth-Forwarded-For", "admin/ann")
	if status != http.StatusForbidden {
		t.Errorf("a planner passed for an admin: %d %s", status, b)
	}
	// Nor does a master that forwards for nobody become itself.
	status, _, _ = w.raw(w.identity("m2", "master"), w.addrs[0], "GET", "/v1/masters", nil, "Berth-Forwarded", "m2")
	if status != http.StatusUnauthorized {
		t.Errorf("a forward for nobody got %d", status)
	}

	w.shared.mu.Lock()
	w.shared.leader = ""
	w.shared.mu.Unlock()
	_, err = follower.Create(ctx, configMap("default", "api", nil))
	wantCode(t, err, object.CodeNoLeader)
	if _, err := follower.List(ctx, object.KindConfigMap, client.ListOptions{Stale: true}); err != nil {
		t.Errorf("stale reads need no leader: %v", err)
	}
	_, _, h := w.raw(w.identity("ann", "admin"), w.addrs[0], "GET", "/v1/pods", nil)
	if h.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	w.shared.mu.Lock()
	w.shared.leader = "m3"
	w.shared.mu.Unlock()
	if _, err := follower.Create(ctx, configMap("default", "api", nil)); err != nil {
		t.Errorf("after the election: %v", err)
	}
}

func TestClientFindsAnotherMaster(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	for range 4 { // whichever it begins with
		c := w.at(client.Config{Addrs: []string{"127.0.0.1:1", w.addrs[0]}, TLS: w.identity("a", "admin").ClientTLS(pki.RoleMaster, "")})
		if _, err := c.Status(ctx); err != nil {
			t.Fatal(err)
		}
	}
	c := w.at(client.Config{Addrs: []string{"127.0.0.1:1"}, TLS: w.identity("a", "admin").ClientTLS(pki.RoleMaster, "")})
	_, err := c.Status(ctx)
	wantCode(t, err, object.CodeUnavailable)
}

func TestWrongCertificates(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	foreign, err := pki.NewCA("elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	// A client of another cluster finds that out by itself.
	c := w.at(client.Config{Addrs: w.addrs, TLS: identityBy(t, foreign, "eve", "admin").ClientTLS(pki.RoleMaster, "")})
	_, err = c.Status(ctx)
	if e := wantCode(t, err, object.CodeUnauthorized); !strings.Contains(e.Message, "another cluster") || e.Hint == "" {
		t.Errorf("%q %q", e.Message, e.Hint)
	}
	// One that does not check is told by the master.
	eve := identityBy(t, foreign, "eve", "admin").ClientTLS(pki.RoleMaster, "")
	eve.VerifyConnection = nil
	c = w.at(client.Config{Addrs: w.addrs, TLS: eve})
	_, err = c.Status(ctx)
	if e := wantCode(t, err, object.CodeUnauthorized); !strings.Contains(e.Message, "another cluster") {
		t.Errorf("%q", e.Message)
	}
	// No certificate at all.
	status, b, _ := w.raw(nil, w.addrs[0], "GET", "/v1/status", nil)
	if status != http.StatusUnauthorized || !contains(b, "certificate") {
		t.Errorf("%d %s", status, b)
	}
}

func TestSnapshotAndMasters(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	c := w.admin()
	var b bytes.Buffer
	if n, err := c.SaveSnapshot(ctx, &b); err != nil || n == 0 {
		t.Fatalf("%d %v", n, err)
	}
	open := func(s string) func() (io.ReadCloser, error) {
		return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil }
	}
	if err := c.RestoreSnapshot(ctx, open(b.String())); err != nil {
		t.Fatal(err)
	}
	wantCode(t, c.RestoreSnapshot(ctx, open("junk")), object.CodeInvalid)

}

// A certificate outlives a membership, and a master that was removed must not
// come back by a mere restart, nor speak for others.
func TestRemovedMasterHasNoRightsUntilItJoinsAgain(t *testing.T) {
	w, ctx := newWorld(t, "m1", "m2"), context.Background()
	admin := w.at(client.Config{Addrs: w.addrs[:1], TLS: w.identity("ann", "admin").ClientTLS(pki.RoleMaster, "")})
	id := w.identity("m2", "master")
	m2 := w.at(client.Config{Addrs: w.addrs[:1], TLS: id.ClientTLS(pki.RoleMaster, "")})
	self := object.Master{Name: "m2", API: w.addrs[1], Raft: "x:7401"}
	if err := m2.AddMaster(ctx, self); err != nil {
		t.Fatalf("a member confirms its addresses: %v", err)
	}
	wantCode(t, m2.AddMaster(ctx, object.Master{Name: "m3", API: "x:7400", Raft: "x:7401"}), object.CodeForbidden)
	w.addrs = w.addrs[:1] // nobody asks a master that was removed
	for round := range 2 {
		if err := admin.RemoveMaster(ctx, "m2"); err != nil {
			t.Fatal(err)
		}
		wantCode(t, admin.RemoveMaster(ctx, "m2"), object.CodeNotFound)
		wantCode(t, m2.AddMaster(ctx, self), object.CodeForbidden)
		_, err := m2.Status(ctx)
		wantCode(t, err, object.CodeForbidden)
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+w.addrs[0]+"/v1/tokens", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Berth-Forwarded", "m2")
		r.Header.Set("Berth-Forwarded-For", "admin/ann")
		resp, err := (&http.Transport{TLSClientConfig: id.ClientTLS(pki.RoleMaster, ""), DisableKeepAlives: true}).RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadGateway {
			t.Errorf("it spoke for an admin: %s", resp.Status)
		}
		if round > 0 {
			break // what it joined by counts no more either
		}
		token := w.token(object.TokenRequest{Role: object.RoleMaster, Uses: 1})
		if _, _, err := w.join(token.Token, "m2", object.RoleMaster); err != nil {
			t.Fatal(err)
		}
		if err := m2.AddMaster(ctx, self); err != nil {
			t.Fatalf("after it joined again: %v", err)
		}
	}
}

// A follower does not know who else is alive, and does not say so: it asks the
// leader, or says that it does not know.
func TestStatusThroughAFollower(t *testing.T) {
	w, ctx := newWorld(t, "m1", "m2"), context.Background()
	follower := w.at(client.Config{Addrs: w.addrs[1:2], TLS: w.identity("ann", "admin").ClientTLS(pki.RoleMaster, "")})
	st, err := follower.Status(ctx)
	if err != nil || st.Self != "m1" {
		t.Errorf("answered by %q: %v", st.Self, err)
	}
	w.shared.mu.Lock()
	w.shared.leader = ""
	w.shared.mu.Unlock()
	if st, err = follower.Status(ctx); err != nil || st.Self != "m2" || st.Leader != "" {
		t.Errorf("without a leader: %q led by %q, %v", st.Self, st.Leader, err)
	}
}

func TestMetricsAndHealth(t *testing.T) {
	w := newWorld(t, "m1")
	status, _, _ := w.raw(nil, w.addrs[0], "GET", "/healthz", nil)
	if status != 200 {
		t.Errorf("health %d", status)
	}
	status, b, _ := w.raw(w.identity("prometheus", "planner"), w.addrs[0], "GET", "/metrics", nil)
	if status != 200 || !contains(b, `berth_api_requests_total{forwarded="false",method="GET",route="GET /healthz",status="200"} 1`) {
		t.Errorf("%d %s", status, b)
	}
}

func TestLargeBodiesAreRefused(t *testing.T) {
	w := newWorld(t, "m1")
	big := []byte(`{"token":"` + strings.Repeat("x", 2<<20) + `"}`)
	status, b, _ := w.raw(nil, w.addrs[0], "POST", "/v1/join", big, "Content-Type", "application/json")
	if status != http.StatusRequestEntityTooLarge || !contains(b, "too_large") {
		t.Errorf("%d %s", status, b)
	}
}
