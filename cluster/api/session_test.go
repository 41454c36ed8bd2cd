package api_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/pki"
)

// only is a client of one master only.
func (w *world) only(master int, id *pki.Identity) *client.Client {
	return w.at(client.Config{Addrs: w.addrs[master : master+1], TLS: id.ClientTLS(pki.RoleMaster, "")})
}

// A token for requests that is turned into a certificate stays that token: with its
// end, its name in the histories, and without renewal. A token for joining does not.
func TestJoinByATokenForRequestsGivesNoMore(t *testing.T) {
	w, ctx := newWorld(t, "m1", "m2"), context.Background()
	tok := w.token(object.TokenRequest{Role: object.RoleAdmin, TTL: object.Duration(time.Hour)})
	out, key, err := w.join(tok.Token, "boss", object.RoleAdmin)
	if err != nil {
		t.Fatal(err)
	}
	id, err := pki.NewIdentity([]byte(out.Certificate), key, []byte(out.CA))
	if err != nil {
		t.Fatal(err)
	}
	if id.Expires().After(tok.Expires.Add(time.Second)) || out.Expires.After(tok.Expires.Add(time.Second)) {
		t.Errorf("the certificate is good until %s, the token until %s", id.Expires(), tok.Expires)
	}
	for master := range w.addrs {
		c := w.only(master, id)
		_, csr, err := pki.NewRequest("boss")
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Renew(ctx, csr)
		wantCode(t, err, object.CodeForbidden)
		written, err := c.Create(ctx, configMap("default", []string{"a", "b"}[master], nil))
		if err != nil {
			t.Fatal(err)
		}
		if by := written.Object.Head().ChangedBy; by != "token "+tok.ID {
			t.Errorf("by way of master %d it was %q", master, by)
		}
		// Nor is it turned into a token that lives longer.
		_, err = c.CreateToken(ctx, object.TokenRequest{Role: object.RolePlanner, TTL: object.Duration(2 * time.Hour)})
		wantCode(t, err, object.CodeForbidden)
		_, err = c.CreateToken(ctx, object.TokenRequest{Role: object.RoleAdmin, Uses: 1})
		wantCode(t, err, object.CodeForbidden)
		made, err := c.CreateToken(ctx, object.TokenRequest{Role: object.RoleAdmin})
		if err != nil || made.Expires.After(tok.Expires.Add(time.Second)) {
			t.Errorf("%+v %v", made, err)
		}
		if _, err := c.CreateToken(ctx, object.TokenRequest{Role: object.RoleNode, Uses: 1, TTL: object.Duration(2 * time.Hour)}); err != nil {
			t.Error(err)
		}
	}
	if err := w.admin().RevokeToken(ctx, tok.ID); err != nil {
		t.Fatal(err)
	}
	for master := range w.addrs {
		_, err = w.only(master, id).Status(ctx)
		wantCode(t, err, object.CodeUnauthorized)
	}

	once := w.token(object.TokenRequest{Role: object.RoleAdmin, Uses: 1})
	if out, _, err = w.join(once.Token, "ann", object.RoleAdmin); err != nil || time.Until(out.Expires) < 300*24*time.Hour {
		t.Errorf("a token for joining gives a certificate of its own: %s %v", out.Expires, err)
	}
}

// What a login lets in makes no token that outlives it, whichever master is asked.
func TestLoginMakesNoLongerToken(t *testing.T) {
	w, i, ctx := newWorld(t, "m1", "m2"), newIssuer(t), context.Background()
	w.write(i.provider())
	_, c, err := w.login(i.token(nil), "deploy")
	if err != nil {
		t.Fatal(err)
	}
	for range 4 { // the client goes round
		_, err = c.CreateToken(ctx, object.TokenRequest{Role: object.RoleAdmin, TTL: object.Duration(time.Hour)})
		wantCode(t, err, object.CodeForbidden)
	}
	made, err := c.CreateToken(ctx, object.TokenRequest{Role: object.RolePlanner})
	if err != nil || time.Until(made.Expires) > 10*time.Minute {
		t.Errorf("%+v %v", made, err)
	}
}

// A renewal is answered by the master whose TLS saw the certificate, and by no other:
// what a fellow master says of who asks is not what a certificate is made of.
func TestRenewalsAreNotForwarded(t *testing.T) {
	w, i := newWorld(t, "m1", "m2"), newIssuer(t)
	w.write(i.provider())
	for _, who := range []string{"admin/ann", "master/m2", "node/n1"} {
		status, b, _ := w.raw(w.identity("m2", "master"), w.addrs[0], "POST", "/v1/renew", []byte(`{"csr":""}`), "Berth-Forwarded", "m2", "Berth-Forwarded-For", who)
		if status != http.StatusForbidden || !strings.Contains(string(b), "passed on by none") {
			t.Errorf("for %s: %d %s", who, status, b)
		}
	}
	_, csr, err := pki.NewRequest("x")
	if err != nil {
		t.Fatal(err)
	}
	for master := range w.addrs { // the follower makes it itself
		if out, err := w.only(master, w.identity("ann", "admin")).Renew(context.Background(), csr); err != nil || out.Name != "ann" {
			t.Errorf("%+v %v", out, err)
		}
	}
	_, c, err := w.login(i.token(nil), "")
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		_, err = c.Renew(context.Background(), csr)
		wantCode(t, err, object.CodeForbidden)
	}
}

// watched runs a watch until it ends, and says when it has begun.
func watched(ctx context.Context, c *client.Client) (began chan struct{}, ended chan error) {
	began, ended = make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- c.Watch(ctx, client.WatchOptions{Kinds: []object.Kind{object.KindConfigMap}}, func(e object.WatchEvent) error {
			if e.Op == object.WatchSynced {
				close(began)
			}
			return nil
		})
	}()
	return began, ended
}

// A stream ends with what it was opened by: a login that is taken away, a token that
// is revoked or expires, on the leader and on a follower.
func TestStreamsEndWithWhatOpenedThem(t *testing.T) {
	w, i := newWorld(t, "m1", "m2"), newIssuer(t)
	w.write(i.provider())
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	revoked := w.token(object.TokenRequest{Role: object.RolePlanner})
	brief := pki.NewToken(w.ca.Hash())
	expires := &object.Token{Meta: object.Meta{Kind: object.KindToken, Name: brief.ID}, Spec: object.TokenSpec{Role: object.RolePlanner, Digest: brief.Digest(), Expires: time.Now().Add(time.Hour)}}
	w.write(expires)
	bearer := func(master int, token string) *client.Client {
		return w.at(client.Config{Addrs: w.addrs[master : master+1], Token: token})
	}
	var ends []chan error
	wait := func(c *client.Client) {
		began, ended := watched(ctx, c)
		select {
		case <-began:
		case err := <-ended:
			t.Fatal(err)
		}
		ends = append(ends, ended)
	}
	for master := range w.addrs {
		wait(bearer(master, revoked.Token))
		wait(bearer(master, brief.String()))
	}
	_, login, err := w.login(i.token(nil), "plan")
	if err != nil {
		t.Fatal(err)
	}
	wait(login)
	_, stays := watched(ctx, w.as("pat", "planner"))

	// The hour is over: a short one might be before all watches have begun.
	before, ok := w.shared.store.Snapshot().Get(expires.Ref())
	if !ok {
		t.Fatal("the token is gone")
	}
	over := before.Clone().(*object.Token)
	over.Spec.Expires = time.Now()
	c := object.Changeset{Author: "test", Time: time.Now()}
	c.Update(before, over)
	w.propose(c)
	if err := w.admin().RevokeToken(ctx, revoked.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := w.admin().Delete(ctx, i.provider().Ref(), 0); err != nil {
		t.Fatal(err)
	}
	for n, ended := range ends {
		select {
		case err := <-ended:
			if !object.IsCode(err, object.CodeUnauthorized) && !object.IsCode(err, object.CodeForbidden) {
				t.Errorf("watch %d: %v", n, err)
			}
		case err := <-stays:
			t.Fatalf("a watch by a certificate that is good ended: %v", err)
		}
	}
}

// A log that is followed ends as a watch does.
func TestLogsEndWithTheirToken(t *testing.T) {
	w, _, _ := secretWorld(t)
	ctx := context.Background()
	gone := make(chan struct{})
	w.write(readyNode("n1", w.agent("n1", func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(rw, "first\n")
		_ = http.NewResponseController(rw).Flush() // the client may be gone
		<-r.Context().Done()
		close(gone)
	})))
	tok := w.token(object.TokenRequest{Role: object.RolePlanner})
	log, err := w.at(client.Config{Addrs: w.addrs, Token: tok.Token}).Logs(ctx, object.Ref{Kind: object.KindPod, Namespace: "default", Name: "web-0"}, client.LogOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	b := make([]byte, 6)
	if _, err := io.ReadFull(log, b); err != nil || string(b) != "first\n" {
		t.Fatal(string(b), err)
	}
	if err := w.admin().RevokeToken(ctx, tok.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(log); err == nil {
		t.Error("the log ended as if it were complete")
	}
	<-gone // the node is asked no longer
}

// Why a policy or a freeze is set aside arrives at the leader, whoever was asked.
func TestOverridesAreForwarded(t *testing.T) {
	w, ctx := newWorld(t, "m1", "m2"), context.Background()
	w.write(&object.Policy{Meta: object.Meta{Kind: object.KindPolicy, Name: "p"}, Spec: object.PolicySpec{Source: "x"}},
		&object.Freeze{Meta: object.Meta{Kind: object.KindFreeze, Name: "always"}, Spec: object.FreezeSpec{Namespaces: []string{"default"}, From: time.Now().UTC().Add(-time.Hour).Format("2006-01-02 15:04"), To: time.Now().UTC().Add(24 * time.Hour).Format("2006-01-02 15:04"), TimeZone: "UTC"}})
	w.servers["m1"].Policies = refuses{object.PolicySoft}
	follower := func(override, thaw string) *client.Client {
		return w.at(client.Config{Addrs: w.addrs[1:], TLS: w.identity("ann", "admin").ClientTLS(pki.RoleMaster, ""), Override: override, OverrideFreeze: thaw})
	}
	_, err := follower("a good reason", "").Create(ctx, configMap("default", "a", nil))
	wantCode(t, err, object.CodeFrozen)
	_, err = follower("", "größer: 100 %").Create(ctx, configMap("default", "a", nil))
	wantCode(t, err, object.CodePolicy)
	if _, err := follower("a good reason", "größer: 100 %").Create(ctx, configMap("default", "a", nil)); err != nil {
		t.Fatal(err)
	}
	applied, err := func() (object.Applied, error) {
		p, err := follower("", "").Plan(ctx, cmPlan("settings"))
		if err != nil {
			return object.Applied{}, err
		}
		return follower("so it is", "no time").Apply(ctx, object.ApplyRequest{Plan: *p})
	}()
	if err != nil {
		t.Fatal(err)
	}
	if rev := w.get(applied.Revision).(*object.Revision); rev.Spec.Override != "so it is" || rev.Spec.Thaw != "no time" {
		t.Errorf("%+v", rev.Spec)
	}
	var said []string
	page, err := w.admin().List(ctx, object.KindEvent, client.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range page.Items {
		said = append(said, o.Object.(*object.Event).Spec.Message)
	}
	for _, want := range []string{"ann set aside p.none: a good reason", "ann set aside the freeze always: größer: 100 %"} {
		if !strings.Contains(strings.Join(said, "\n"), want) {
			t.Errorf("no event %q in %q", want, said)
		}
	}
}
