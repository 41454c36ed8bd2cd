package object

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
)

func TestCredentials(t *testing.T) {
	check := func(name string, c Check) Check { c.Name = name; return c }
	d := &Deployment{Meta: Meta{Kind: KindDeployment, Namespace: "shop", Name: "web"}}
	d.Spec.Update = Update{
		Checks: []Check{
			check("a", Check{HTTP: &HTTPSource{Headers: map[string]Text{"X-B": "${secret.two.data.b}${secret.one.data.a}", "X-A": "plain"}}}),
			check("s", Check{Signal: &SignalSource{}}),
		},
		Steps: []CanaryStep{{Name: "try", Checks: []Check{check("b", Check{Prometheus: &PrometheusSource{Username: "me", Password: "${secret.one.data.p}"}})}}},
		BlueGreen: &BlueGreen{
			Checks:      []Check{check("c", Check{HTTP: &HTTPSource{Username: "${secret.one.data.u}"}})},
			ChecksAfter: []Check{check("c", Check{HTTP: &HTTPSource{Username: "${secret.one.data.v}"}})},
		},
	}
	var got []string
	for _, k := range d.Credentials() {
		if k.Secret != (Ref{Kind: KindSecret, Namespace: "shop", Name: k.Name}) {
			t.Errorf("%+v", k)
		}
		got = append(got, k.Path+" "+k.String())
	}
	want := []string{
		`update.check["a"].http.headers["X-B"] ${secret.two.data.b}`, `update.check["a"].http.headers["X-B"] ${secret.one.data.a}`,
		`update.step["try"].check["b"].prometheus.password ${secret.one.data.p}`, `update.blue_green.check["c"].http.username ${secret.one.data.u}`,
		`update.blue_green.check_after["c"].http.username ${secret.one.data.v}`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if reads := d.Spec.Pod.ReadRefs("shop"); len(reads) > 0 {
		t.Errorf("pods read %v, and would roll", reads)
	}
}

func TestValidateAccess(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	headers := func(kv ...string) Access {
		a := Access{URL: "https://a", Headers: map[string]Text{}}
		for i := 0; i < len(kv); i += 2 {
			a.Headers[kv[i]] = Text(kv[i+1])
		}
		return a
	}
	ofPrometheus := headers("Content-Type", "text/plain")
	ofPrometheus.prometheus = true
	for name, x := range map[string]struct {
		a    Access
		want string // empty: fine
	}{
		"nothing":              {Access{URL: "http://a"}, ""},
		"a token":              {headers("Authorization", "Bearer ${secret.prom.data.token}", "X-Scope-OrgID", "shop"), ""},
		"basic":                {Access{URL: "http://a", Username: "me", Password: "${secret.prom.data.p}"}, ""},
		"an authority":         {Access{URL: "https://a", CA: ca + ca}, ""},
		"an authority, {set}":  {Access{URL: "https://{set}.a", CA: ca}, ""},
		"no name":              {headers("a b", "x"), `http.headers["a b"]: Wrong header`},
		"an empty name":        {headers("", "x"), `http.headers[""]: Wrong header`},
		"a line break":         {headers("X-A", "a\r\nHost: b"), `http.headers["X-A"]: Wrong text`},
		"twice":                {headers("X-a", "1", "x-A", "2"), `http.headers["x-A"]: Duplicate header`},
		"the host":             {headers("host", "b"), `http.headers["host"]: Header that cannot be set`},
		"a type":               {headers("Content-Type", "text/plain"), ""},
		"a query's type":       {ofPrometheus, "Header that cannot be set"},
		"in the open":          {headers("authorization", "Bearer abc"), `http.headers["authorization"]: Password in the open`},
		"a password in clear":  {Access{URL: "http://a", Username: "me", Password: "abc"}, "http.password: Password in the open"},
		"no password":          {Access{URL: "http://a", Username: "me"}, "http.password: Missing attribute"},
		"no user":              {Access{URL: "http://a", Password: "${secret.p.data.p}"}, "http.username: Missing attribute"},
		"a colon":              {Access{URL: "http://a", Username: "a:b", Password: "${secret.p.data.p}"}, "http.username: Wrong text"},
		"two":                  {Access{URL: "http://a", Headers: map[string]Text{"Authorization": "${secret.p.data.p}"}, Username: "a", Password: "${secret.p.data.p}"}, "Two credentials"},
		"no PEM":               {Access{URL: "https://a", CA: "x"}, "http.ca: Wrong certificate"},
		"a key for a CA":       {Access{URL: "https://a", CA: ca + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}, "http.ca: Wrong certificate"},
		"a broken certificate": {Access{URL: "https://a", CA: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}, "http.ca: Wrong certificate"},
		"nobody to certify":    {Access{URL: "http://a", CA: ca}, "http.ca: Superfluous attribute"},
	} {
		t.Run(name, func(t *testing.T) {
			c := &checker{}
			x.a.check(c, &step{name: "http"})
			told := ""
			for _, f := range c.found {
				told += f.Path + ": " + f.Summary + "\n"
			}
			if x.want == "" && told != "" || !strings.Contains(told, x.want) || strings.Count(told, "\n") > 1 {
				t.Errorf("told:\n%swant %q", told, x.want)
			}
		})
	}
}
