package api_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/pki"
	"github.com/berthdev/berth/cluster/state"
)

// streams of the matrix end by themselves except for these, which are ended by
// the request's own context.
func (w *world) status(id *pki.Identity, method, path string) int {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "https://"+w.addrs[0]+path, strings.NewReader("{}"))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	tr := &http.Transport{TLSClientConfig: pki.PinnedTLS(pki.Token{CAHash: w.ca.Hash()}), DisableKeepAlives: true}
	if id != nil {
		tr.TLSClientConfig = id.ClientTLS(pki.RoleMaster, "")
	}
	resp, err := tr.RoundTrip(r)
	if err != nil {
		w.t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// TestAuthorizationMatrix asks every route as every role. A role that may is
// answered with anything but 401 and 403 (404 and 400 are the rule here); one
// that may not with exactly these.
func TestAuthorizationMatrix(t *testing.T) {
	w := newWorld(t, "m1")
	roles := []object.Role{object.RoleAdmin, object.RolePlanner, object.RoleNode, object.RoleMaster, "stranger"}
	ids := map[object.Role]*pki.Identity{}
	for _, r := range roles {
		ids[r] = w.identity("x", string(r))
	}
	ids[object.RoleMaster] = w.identity("m1", string(object.RoleMaster)) // others are no members
	fill := strings.NewReplacer("{namespace}", "default", "{name}", "x")
	for _, r := range w.servers["m1"].Routes() {
		path := fill.Replace(r.Path)
		got := w.status(nil, r.Method, path)
		switch {
		case r.Path == "/v1/join": // public, but the body has no token
			if got != http.StatusUnauthorized {
				t.Errorf("%s %s as nobody: %d", r.Method, r.Path, got)
			}
		case r.Public != (got != http.StatusUnauthorized):
			t.Errorf("%s %s as nobody: %d", r.Method, r.Path, got)
		}
		for _, role := range roles {
			may := r.Public || slices.Contains(r.Roles, role)
			got := w.status(ids[role], r.Method, path)
			if r.Path == "/v1/join" {
				continue
			}
			// Rights within a route have tests of their own.
			if (strings.HasSuffix(r.Path, "/reveal") || strings.HasSuffix(r.Path, "/secrets")) && may || r.Method == "POST" && r.Path == "/v1/masters" && may {
				continue
			}
			if denied := got == http.StatusForbidden || got == http.StatusUnauthorized; denied == may {
				t.Errorf("%s %s as %s: %d, may = %v", r.Method, r.Path, role, got, may)
			}
		}
	}
}

// TestWhoMayWrite says in words what the matrix takes from the table.
func TestWhoMayWrite(t *testing.T) {
	w := newWorld(t, "m1")
	open := map[string][]object.Role{ // every write that is not for admins alone
		"POST /v1/plan":                  {object.RoleAdmin, object.RolePlanner},
		"POST /v1/digests":               {object.RoleAdmin, object.RolePlanner},
		"POST /v1/stacks/{name}/compare": {object.RoleAdmin, object.RolePlanner}, // it only reads
		"POST /v1/images/resolve":        {object.RoleAdmin, object.RolePlanner}, // so does this
		"POST /v1/nodes/{name}/report":   {object.RoleNode},
		"POST /v1/renew":                 {object.RoleAdmin, object.RolePlanner, object.RoleMaster, object.RoleNode},
		"POST /v1/masters":               {object.RoleMaster},
		"PUT /v1/keyring":                {object.RoleMaster},
	}
	for _, r := range w.servers["m1"].Routes() {
		if r.Method == "GET" || r.Public {
			continue
		}
		want, ok := open[r.Method+" "+r.Path]
		if !ok {
			want = []object.Role{object.RoleAdmin}
		}
		if !slices.Equal(r.Roles, want) {
			t.Errorf("%s %s is open to %v, want %v", r.Method, r.Path, r.Roles, want)
		}
	}
}

// secretWorld has a secret, its content, a pod on n1 that reads it, one on n2
// that does not, and a revision that wrote the secret.
func secretWorld(t *testing.T) (w *world, plain string, content object.Ref) {
	t.Helper()
	w, plain = newWorld(t, "m1"), "correct horse battery staple"
	ref := object.Ref{Kind: object.KindSecret, Namespace: "default", Name: "db"}
	sealed, err := w.keys.Seal(ref, "password", plain)
	if err != nil {
		t.Fatal(err)
	}
	secret := &object.Secret{Meta: object.Meta{Kind: object.KindSecret, Namespace: "default", Name: "db"}, Spec: object.SecretSpec{Data: map[string]object.Sensitive{"password": sealed}}}
	digest := object.ContentDigest(secret)
	content = object.Ref{Kind: object.KindContent, Namespace: "default", Name: object.ContentName(ref, digest)}
	reading := object.PodTemplate{Containers: []object.Container{{Name: "web", Image: "web:1"}}, Reads: map[string]string{"secret/db": digest}}
	plainTemplate := object.PodTemplate{Containers: []object.Container{{Name: "api", Image: "api:1"}}}
	template := func(p object.PodTemplate) *object.Template {
		return &object.Template{Meta: object.Meta{Kind: object.KindTemplate, Namespace: "default", Name: object.Digest(p)}, Spec: p}
	}
	pod := func(name, node string, p object.PodTemplate) *object.Pod {
		return &object.Pod{Meta: object.Meta{Kind: object.KindPod, Namespace: "default", Name: name}, Spec: object.PodSpec{Template: object.Digest(p), Node: node}}
	}
	w.write(
		secret,
		&object.Content{Meta: object.Meta{Kind: object.KindContent, Namespace: "default", Name: content.Name}, Spec: object.ContentSpec{Of: ref, Keys: secret.Spec.Data}},
		template(reading), template(plainTemplate),
		pod("web-0", "n1", reading), pod("api-0", "n2", plainTemplate),
		&object.Revision{Meta: object.Meta{Kind: object.KindRevision, Name: "shop-1"}, Spec: object.RevisionSpec{Stack: "shop", Number: 1, Changes: []object.RevisionChange{
			{Op: object.OpCreate, Ref: ref, Wave: 1, After: object.Any{Object: secret}},
		}}},
	)
	return w, plain, content
}

func TestPlannersNeverSeeSecrets(t *testing.T) {
	w, plain, _ := secretWorld(t)
	s := w.get(object.Ref{Kind: object.KindSecret, Namespace: "default", Name: "db"}).(*object.Secret).Spec.Data["password"]
	bytes := base64.StdEncoding.EncodeToString(s.Sealed)
	planner, admin := w.identity("pat", "planner"), w.identity("ann", "admin")
	fill := strings.NewReplacer("{namespace}", "default", "{name}", "db")
	paths := []string{"/v1/revisions/shop-1", "/v1/contents"}
	for _, r := range w.servers["m1"].Routes() {
		if r.Method == "GET" && r.Path != "/v1/watch" {
			paths = append(paths, fill.Replace(r.Path))
		}
	}
	for _, p := range paths {
		_, b, _ := w.raw(planner, w.addrs[0], "GET", p, nil)
		for what, x := range map[string]string{"the value": plain, "the ciphertext": bytes, "the digest": s.Digest} {
			if contains(b, x) {
				t.Errorf("GET %s shows a planner %s", p, what)
			}
		}
		_, b, _ = w.raw(admin, w.addrs[0], "GET", p, nil)
		if contains(b, plain) || contains(b, bytes) {
			t.Errorf("GET %s shows an admin the value or ciphertext", p)
		}
	}
	// Watches too, whatever an admin's watch has put into the cache.
	for _, id := range []*pki.Identity{admin, planner} {
		var all []byte
		c := w.at(client.Config{Addrs: w.addrs, TLS: id.ClientTLS(pki.RoleMaster, "")})
		done := io.EOF
		err := c.Watch(context.Background(), client.WatchOptions{}, func(e object.WatchEvent) error {
			b, err := json.Marshal(e)
			if err != nil {
				return err
			}
			all = append(all, b...)
			if e.Op == object.WatchSynced {
				return done
			}
			return nil
		})
		if err != done {
			t.Fatal(err)
		}
		if contains(all, plain) || contains(all, bytes) || (id == planner && contains(all, s.Digest)) {
			t.Errorf("a watch shows %s a secret", id.Role())
		}
	}
	// Yet a planner can know whether a secret would change.
	c := w.as("pat", "planner")
	at := object.SecretAt{Ref: object.Ref{Kind: object.KindSecret, Namespace: "default", Name: "db"}, Key: "password"}
	d, err := c.Compare(context.Background(), object.DigestRequest{Values: []string{plain, "wrong"}, At: []object.SecretAt{at, at}})
	if err != nil || !d.Same[0] || d.Same[1] {
		t.Errorf("%+v %v", d, err)
	}
}

func TestNodesSeeWhatTheyNeed(t *testing.T) {
	w, plain, content := secretWorld(t)
	ctx := context.Background()
	n1, n2 := w.as("n1", "node"), w.as("n2", "node")
	data, err := n1.Content(ctx, "default", content.Name)
	if err != nil || data["password"] != plain {
		t.Fatalf("%v %v", data, err)
	}
	_, err = n2.Content(ctx, "default", content.Name)
	wantCode(t, err, object.CodeForbidden)
	_, err = n1.Content(ctx, "other", content.Name)
	wantCode(t, err, object.CodeForbidden)

	pods, err := client.List[*object.Pod](ctx, n1, object.KindPod, client.ListOptions{})
	if err != nil || len(pods) != 1 || pods[0].Name != "web-0" || pods[0].Spec.Pod == nil {
		t.Fatalf("%v %v", pods, err)
	}
	_, err = n1.Get(ctx, object.Ref{Kind: object.KindPod, Namespace: "default", Name: "api-0"})
	wantCode(t, err, object.CodeNotFound)
	_, err = n1.List(ctx, object.KindPod, client.ListOptions{Node: "n2"})
	wantCode(t, err, object.CodeForbidden)
	_, err = n1.List(ctx, object.KindSecret, client.ListOptions{})
	wantCode(t, err, object.CodeForbidden)
	err = n1.WatchPods(ctx, "n2", 0, func(object.WatchEvent) error { return nil })
	wantCode(t, err, object.CodeForbidden)
	err = n1.Watch(ctx, client.WatchOptions{Kinds: []object.Kind{object.KindSecret}}, func(object.WatchEvent) error { return nil })
	wantCode(t, err, object.CodeForbidden)
}

func TestReports(t *testing.T) {
	w, _, _ := secretWorld(t)
	ctx := context.Background()
	n1 := w.as("n1", "node")
	pod := func(name string) *object.Pod {
		return w.get(object.Ref{Kind: object.KindPod, Namespace: "default", Name: name}).(*object.Pod)
	}
	running := object.PodStatus{Phase: object.PodRunning, Ready: true, Address: "10.1.0.2"}
	a, err := n1.Report(ctx, object.Report{
		Node: "n1", Labels: map[string]string{"zone": "a"}, Status: &object.NodeStatus{CPU: 4000, Address: "10.0.0.1:7410"},
		Pods: []object.PodReport{
			{Ref: pod("web-0").Ref(), Created: pod("web-0").Created, Status: running},
			{Ref: pod("api-0").Ref(), Created: pod("api-0").Created, Status: running},                    // another node's
			{Ref: object.Ref{Kind: object.KindPod, Namespace: "default", Name: "gone"}, Status: running}, // gone
		},
	})
	if err != nil || time.Duration(a.Heartbeat) != 5*time.Second || a.Index == 0 {
		t.Fatalf("%+v %v", a, err)
	}
	n := w.get(object.Ref{Kind: object.KindNode, Name: "n1"}).(*object.Node)
	if n.Status.Condition != object.NodeReady || n.Labels["zone"] != "a" || n.Status.CPU != 4000 || n.Status.Since.IsZero() {
		t.Errorf("%+v", n)
	}
	if p := pod("web-0"); !p.Status.Ready || p.Status.Address != "10.1.0.2" {
		t.Errorf("%+v", p.Status)
	}
	if p := pod("api-0"); p.Status.Ready {
		t.Error("a node reported for another's pod")
	}
	// Saying the same again writes nothing; an old incarnation is passed over.
	b, err := n1.Report(ctx, object.Report{Node: "n1", Status: &object.NodeStatus{CPU: 4000, Address: "10.0.0.1:7410"}, Pods: []object.PodReport{
		{Ref: pod("web-0").Ref(), Created: pod("web-0").Created, Status: running},
		{Ref: pod("web-0").Ref(), Created: 12345, Status: object.PodStatus{Phase: object.PodFailed}},
	}})
	if err != nil || b.Index != a.Index {
		t.Errorf("%+v %v", b, err)
	}
	if w.shared.beats["n1"] != 2 {
		t.Errorf("%d heartbeats", w.shared.beats["n1"])
	}
	_, err = n1.Report(ctx, object.Report{Node: "n2"})
	wantCode(t, err, object.CodeForbidden)
	// A pod given up for lost and replaced stays lost; one that nobody replaced is
	// itself again when its node says so.
	for _, replaced := range []bool{false, true} {
		lost := pod("web-0").Clone().(*object.Pod)
		lost.Status.Phase, lost.Spec.Stop = object.PodLost, replaced
		c := object.Changeset{}
		c.UpdateStatus(pod("web-0"), lost)
		if replaced {
			c.Update(pod("web-0"), lost)
		}
		w.propose(c)
		if _, err := n1.Report(ctx, object.Report{Node: "n1", Pods: []object.PodReport{{Ref: lost.Ref(), Created: lost.Created, Status: running}}}); err != nil {
			t.Fatal(err)
		}
		if p := pod("web-0"); (p.Status.Phase == object.PodLost) != replaced {
			t.Errorf("replaced %v: phase %s", replaced, p.Status.Phase)
		}
	}
}

// A node hears of its pods from any master, its report is written by the leading
// one, which may have yet to apply the entry that brought the pod there: what the
// node says must not be passed over as if the pod were gone.
func TestAReportOvertakesTheLeadersState(t *testing.T) {
	w, _, _ := secretWorld(t)
	ref := object.Ref{Kind: object.KindPod, Namespace: "default", Name: "web-1"}
	w.shared.behind = w.shared.store.Snapshot()
	c := object.Changeset{}
	c.Create(&object.Pod{Meta: object.Meta{Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name}, Spec: object.PodSpec{Node: "n1"}})
	w.propose(c)
	created := w.get(ref).Head().Created
	running := object.PodStatus{Phase: object.PodRunning, Ready: true, Address: "10.1.0.3"}
	if _, err := w.as("n1", "node").Report(context.Background(), object.Report{Node: "n1", Pods: []object.PodReport{{Ref: ref, Created: created, Status: running}}}); err != nil {
		t.Fatal(err)
	}
	if p := w.get(ref).(*object.Pod); !p.Status.Ready {
		t.Errorf("the report is lost: %+v", p.Status)
	}
}

func TestSecretsAreSealedBeforeTheLog(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	id := w.identity("ann", "admin")
	path := "/v1/namespaces/default/secrets/db"
	status, b, _ := w.raw(id, w.addrs[0], "PUT", path, []byte(`{"spec":{"data":{"password":"hunter2"}}}`), "Content-Type", "application/json")
	if status != 200 || contains(b, "hunter2") {
		t.Fatalf("%d %s", status, b)
	}
	ref := object.Ref{Kind: object.KindSecret, Namespace: "default", Name: "db"}
	stored := w.get(ref).(*object.Secret)
	if plain, err := w.keys.Reveal(ref, "password", stored.Spec.Data["password"]); err != nil || plain != "hunter2" {
		t.Fatalf("%q %v", plain, err)
	}
	// Putting back what a GET gave keeps the value, and may add others.
	got, err := client.Get[*object.Secret](ctx, w.at(client.Config{Addrs: w.addrs, TLS: id.ClientTLS(pki.RoleMaster, "")}), ref)
	if err != nil {
		t.Fatal(err)
	}
	back, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	body := strings.Replace(string(back), `"data":{`, `"data":{"user":"root",`, 1)
	if status, b, _ := w.raw(id, w.addrs[0], "PUT", path, []byte(body), "Content-Type", "application/json"); status != 200 {
		t.Fatalf("%d %s", status, b)
	}
	stored = w.get(ref).(*object.Secret)
	for k, want := range map[string]string{"password": "hunter2", "user": "root"} {
		if plain, err := w.keys.Reveal(ref, k, stored.Spec.Data[k]); err != nil || plain != want {
			t.Errorf("%s: %q %v", k, plain, err)
		}
	}
	// A digest alone gives nobody a value.
	other := fmt.Sprintf(`{"spec":{"data":{"password":{"digest":%q}}}}`, stored.Spec.Data["user"].Digest)
	if status, _, _ := w.raw(id, w.addrs[0], "PUT", path, []byte(other), "Content-Type", "application/json"); status != 400 {
		t.Errorf("%d", status)
	}
}

func TestDeclaredPodsKeepTheirTemplateApart(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	p := &object.Pod{Meta: object.Meta{Kind: object.KindPod, Namespace: "default", Name: "one"}, Spec: object.PodSpec{Pod: &object.PodTemplate{
		Grace: object.Duration(time.Second), Restart: "always", Containers: []object.Container{{Name: "a", Image: "a:1", Pull: "missing", StopSignal: "SIGTERM", Seccomp: "default", Resources: object.Resources{CPU: 100}}},
	}}}
	written, err := w.admin().Create(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	if written.Object.Object.(*object.Pod).Spec.Pod == nil {
		t.Error("the answer is not whole")
	}
	row := w.get(p.Ref()).(*object.Pod)
	if row.Spec.Pod != nil || row.Spec.Template == "" || row.Spec.CPU != 100 {
		t.Errorf("%+v", row.Spec)
	}
	if _, ok := state.Find[*object.Template](w.shared.store.Snapshot(), object.Ref{Kind: object.KindTemplate, Namespace: "default", Name: row.Spec.Template}); !ok {
		t.Error("no template")
	}
}
