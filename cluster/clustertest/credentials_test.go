package clustertest

import (
	"bytes"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// lines is a log that several masters write.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// The leader opens a secret to ask with it, and nowhere else: neither the state, nor
// what is on disk, nor a log or an event has a byte of it. The value in force is what
// the next measurement shows, without a roll; a secret that is gone tells nothing.
func TestCheckAsksWithASecret(t *testing.T) {
	const first, second = "first-token-5b1d", "second-token-77aa"
	var wanted atomic.Value
	wanted.Store(first)
	source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+wanted.Load().(string) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprintf(w, `{"burn": 0.1, "shown": %q}`, r.Header.Get("Authorization"))
	}))
	defer source.Close()
	ask := func(name, json string, success object.Condition) object.Check {
		c := object.Check{Name: name, HTTP: &object.HTTPSource{}}
		object.SetDefaults(&c)
		object.SetDefaults(c.HTTP)
		c.Count, c.InconclusiveLimit, c.SuccessCondition, c.Interval = 1000, 1, success, object.Duration(time.Second)
		c.HTTP.URL, c.HTTP.JSON = source.URL, json
		c.HTTP.Headers = map[string]object.Text{"Authorization": "Bearer ${secret.prom.data.token}"}
		return c
	}
	log := &lines{}
	c := Start(t, Options{Masters: 1, Nodes: 2, Disk: true, Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	secret := func(plain string) *object.Secret {
		s := &object.Secret{Meta: object.Meta{Kind: object.KindSecret, Namespace: "default", Name: "prom"}}
		object.SetDefaults(&s.Spec)
		sealed, err := c.keys.Seal(s.Ref(), "token", plain)
		if err != nil {
			t.Fatal(err)
		}
		s.Spec.Data = map[string]object.Sensitive{"token": sealed}
		return s
	}
	propose := func(change func(*object.Changeset)) {
		t.Helper()
		cs := object.Changeset{Author: "test"}
		change(&cs)
		if _, err := c.Propose(t.Context(), cs); err != nil {
			t.Fatal(err)
		}
	}
	ref := secret("").Ref()
	held := func() object.Object { o, _ := c.Snapshot().Get(ref); return o }
	propose(func(cs *object.Changeset) { cs.Create(secret(first)) })

	v := func(image string) *object.Deployment {
		d := checkedDeployment(image, ask("slo", "burn", "< 1"))
		d.Spec.Update.Steps[0].Checks = append(d.Spec.Update.Steps[0].Checks, ask("told", "shown", "!= x"))
		return d
	}
	if _, err := c.Apply(t.Context(), c.Client(), "shop", v("app:1")); err != nil {
		t.Fatal(err)
	}
	c.Eventually("the first version is stable", func() bool {
		d, ok := state.Find[*object.Deployment](c.Snapshot(), object.Ref{Kind: object.KindDeployment, Namespace: "default", Name: "web"})
		return ok && d.Status.Phase == object.RolloutStable
	})
	if _, err := c.Apply(t.Context(), c.Client(), "shop", v("app:2")); err != nil {
		t.Fatal(err)
	}
	checks := func() []object.CheckStatus {
		d, ok := state.Find[*object.Deployment](c.Snapshot(), object.Ref{Kind: object.KindDeployment, Namespace: "default", Name: "web"})
		if !ok || d.Status.Canary == nil {
			return nil
		}
		return d.Status.Canary.Checks
	}
	c.Eventually("both passed with the token", func() bool {
		s := checks()
		return len(s) == 2 && s[0].Passed > 0 && s[1].Passed > 0
	})
	if s := checks()[1]; s.Value != "(sensitive value)" {
		t.Errorf("the answer repeats the token, and people see %q", s.Value)
	}
	_, before := c.checkOf("web")

	// Both change at once, as far as the check can see: while the server refuses the old
	// one a measurement of "told" tells nothing, and then the new one passes.
	wanted.Store(second)
	propose(func(cs *object.Changeset) { cs.Update(held(), secret(second)) })
	passed := 0
	if s := checks(); len(s) == 2 {
		passed = s[1].Passed
	}
	c.Eventually("the new value passes", func() bool { s := checks(); return len(s) == 2 && s[1].Passed > passed+1 })
	if _, st := c.checkOf("web"); st.Set != before.Set || st.Canary.Set != before.Canary.Set {
		t.Errorf("another value has rolled the pods: %+v", st)
	}

	propose(func(cs *object.Changeset) { cs.Delete(held()) })
	c.Eventually("the rollout is paused, and says why", func() bool {
		_, st := c.checkOf("web")
		return st.Reason == object.ReasonInconclusive && strings.Contains(st.Message, "secret/prom does not exist in namespace default")
	})
	propose(func(cs *object.Changeset) { cs.Create(secret(second)) })
	c.Eventually("it goes on when the secret is back", func() bool { _, st := c.checkOf("web"); return st.Reason == "" && st.Canary != nil })

	everything := append(c.Bytes("m1"), log.String()...)
	c.Stop("m1") // all of it is on disk then
	files := 0
	err := filepath.WalkDir(c.disk("m1"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		everything = append(everything, b...)
		files++
		return err
	})
	if err != nil || files == 0 || !bytes.Contains(everything, []byte("${secret.prom.data.token}")) {
		t.Fatalf("%d files were looked through: %v", files, err)
	}
	for _, plain := range []string{first, second} {
		if bytes.Contains(everything, []byte(plain)) {
			t.Errorf("%s is somewhere in the state, on disk or in the log", plain)
		}
	}
}
