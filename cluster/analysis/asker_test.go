package analysis

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

const token = `tok"en-8c1f`

// guarded is a server that answers only who shows the token or the password, and
// repeats what it was shown in every way that an answer can. elsewhere is a second one,
// to which the first leads; it counts who comes with a credential.
func guarded(t *testing.T) (h http.Handler, leaked *atomic.Int64) {
	t.Helper()
	leaked = new(atomic.Int64)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || r.Header.Get("X-Token") != "" {
			leaked.Add(1)
		}
		fmt.Fprint(w, `{"status": "success", "data": {"resultType": "scalar", "result": [1, "3"]}}`)
	}))
	t.Cleanup(elsewhere.Close)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown := r.Header.Get("Authorization")
		user, password, _ := r.BasicAuth()
		if shown != "Bearer "+token && (user != "me" || password != token) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		switch {
		case strings.HasPrefix(r.URL.Path, "/moved"):
			http.Redirect(w, r, elsewhere.URL+strings.TrimPrefix(r.URL.Path, "/moved"), http.StatusTemporaryRedirect)
		case r.URL.Path == "/echo":
			fmt.Fprintf(w, `{"got": %q, "agent": %q, "scope": %q}`, shown, r.UserAgent(), r.Header.Get("X-Scope"))
		case r.URL.Path == "/broken": // an error of the client quotes what came
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				fmt.Fprintf(c, "HTTP/1.1 %s\r\n\r\n", strings.TrimPrefix(shown, "Bearer "))
				c.Close()
			}
		case r.FormValue("query") == "refused":
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"status": "error", "errorType": "bad_data", "error": %q}`, strings.Repeat("x", 155)+" may not: "+shown)
		default:
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"status": "success", "data": {"resultType": "scalar", "result": [1, "3"]}}`)
		}
	}), leaked
}

// quietTLS says nothing of clients that do not trust it.
func quietTLS(h http.Handler) *httptest.Server {
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	return s
}

func TestCredentialsAreShownAndNotTold(t *testing.T) {
	h, leaked := guarded(t)
	plain, tls := httptest.NewServer(h), quietTLS(h)
	t.Cleanup(plain.Close)
	t.Cleanup(tls.Close)
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tls.Certificate().Raw}))
	bearer := map[string]object.Text{"Authorization": "Bearer ${secret.prom.data.token}", "X-Scope": "shop"}
	get := func(url, json string, success object.Condition, h object.HTTPSource) object.Check {
		h.URL, h.Method, h.JSON, h.Timeout = url, "GET", json, object.Duration(10*time.Second)
		return object.Check{SuccessCondition: success, HTTP: &h}
	}
	query := func(at, q string, p object.PrometheusSource) object.Check {
		p.Address, p.Query, p.Timeout = at, q, object.Duration(10*time.Second)
		return object.Check{SuccessCondition: "== 3", Prometheus: &p}
	}
	open := func(k object.SecretKey) (string, error) {
		switch k.Key {
		case "token":
			return token, nil
		case "lines":
			return token + "\n", nil
		}
		return "", errors.New("secret/prom has no key " + k.Key)
	}
	basic := object.HTTPSource{Username: "me", Password: "${secret.prom.data.token}"}
	s := NewSources()
	defer s.Close()
	for name, x := range map[string]struct {
		check  object.Check
		result object.CheckResult
		told   string // part of the message, or of the value
	}{
		"nothing to show":          {get(plain.URL, "", "", object.HTTPSource{}), object.ResultFailed, "status 401"},
		"a token":                  {get(plain.URL, "", "", object.HTTPSource{Headers: bearer}), object.ResultPassed, "status 200"},
		"basic":                    {get(plain.URL, "", "", basic), object.ResultPassed, "status 200"},
		"another user":             {get(plain.URL, "", "", object.HTTPSource{Username: "you", Password: basic.Password}), object.ResultFailed, "status 401"},
		"Prometheus, nothing":      {query(plain.URL, "q", object.PrometheusSource{}), object.ResultInconclusive, "401"},
		"Prometheus, a token":      {query(plain.URL, "q", object.PrometheusSource{Headers: bearer}), object.ResultPassed, "3"},
		"Prometheus, basic":        {query(plain.URL, "q", object.PrometheusSource{Username: "me", Password: basic.Password}), object.ResultPassed, "3"},
		"other headers":            {get(plain.URL+"/echo", "scope", "== shop", object.HTTPSource{Headers: bearer}), object.ResultPassed, `"shop"`},
		"Berth names itself":       {get(plain.URL+"/echo", "agent", "== berth", object.HTTPSource{Headers: bearer}), object.ResultPassed, `"berth"`},
		"what is repeated":         {get(plain.URL+"/echo", "got", "== other", object.HTTPSource{Headers: bearer}), object.ResultFailed, "(sensitive value) is not == other"},
		"repeated, no number":      {get(plain.URL+"/echo", "got", "< 1", object.HTTPSource{Headers: bearer}), object.ResultInconclusive, "(sensitive value) is not a number"},
		"repeated, basic":          {get(plain.URL+"/echo", "got", "== other", basic), object.ResultFailed, "(sensitive value)"},
		"repeated in an error":     {get(plain.URL+"/broken", "", "", object.HTTPSource{Headers: bearer}), object.ResultInconclusive, "cannot be asked: (sensitive value)"},
		"repeated, and cut off":    {query(plain.URL, "refused", object.PrometheusSource{Headers: bearer}), object.ResultInconclusive, "bad_data: (sensitive value)"},
		"a redirect":               {get(plain.URL+"/moved", "", "", object.HTTPSource{Headers: bearer}), object.ResultFailed, "status 307"},
		"Prometheus, a redirect":   {query(plain.URL+"/moved", "q", object.PrometheusSource{Headers: bearer}), object.ResultInconclusive, "307"},
		"a missing key":            {get(plain.URL, "", "", object.HTTPSource{Headers: map[string]object.Text{"X-Token": "${secret.prom.data.other}"}}), object.ResultInconclusive, "header X-Token: secret/prom has no key other"},
		"a line break":             {get(plain.URL, "", "", object.HTTPSource{Headers: map[string]object.Text{"X-Token": "${secret.prom.data.lines}"}}), object.ResultInconclusive, "header X-Token has a line break"},
		"an authority":             {get(tls.URL, "", "", object.HTTPSource{Headers: bearer, CA: ca}), object.ResultPassed, "status 200"},
		"Prometheus, an authority": {query(tls.URL, "q", object.PrometheusSource{Headers: bearer, CA: ca}), object.ResultPassed, "3"},
		"a stranger":               {get(tls.URL, "", "", object.HTTPSource{Headers: bearer}), object.ResultInconclusive, "unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			m := s.Measure(t.Context(), &x.check, object.Subject{Set: "web-2", Stable: "web-1"}, open)
			told := m.Message + " " + m.Value
			if m.Result != x.result || !strings.Contains(told, x.told) {
				t.Errorf("%s: %q %q, want %s with %q", m.Result, m.Value, m.Message, x.result, x.told)
			}
			for _, part := range []string{token[:5], base64.StdEncoding.EncodeToString([]byte("me:" + token))[:8]} {
				if strings.Contains(told, part) {
					t.Errorf("the secret is told: %q", told)
				}
			}
		})
	}
	if n := leaked.Load(); n > 0 {
		t.Errorf("%d credentials went where a redirect leads", n)
	}
}

// Who is trusted for one source is trusted for no other, even while connections are open.
func TestAuthoritiesAreOfOneSource(t *testing.T) {
	server := quietTLS(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(server.Close)
	check := object.Check{HTTP: &object.HTTPSource{URL: server.URL, Method: "GET", Timeout: object.Duration(10 * time.Second)}}
	trusting := check
	with := *check.HTTP
	with.CA = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	trusting.HTTP = &with
	s := NewSources()
	defer s.Close()
	for range 2 {
		if m := s.Measure(t.Context(), &trusting, object.Subject{}, nil); m.Result != object.ResultPassed {
			t.Errorf("%+v", m)
		}
		if m := s.Measure(t.Context(), &check, object.Subject{}, nil); m.Result != object.ResultInconclusive {
			t.Errorf("%+v", m)
		}
	}
}
