package client

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/pki"
)

func env(m map[string]string) func(string) string { return func(k string) string { return m[k] } }

// identityFiles puts a certificate into dir.
func identityFiles(t *testing.T, dir string) {
	t.Helper()
	ca, err := pki.NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	key, csr, err := pki.NewRequest("ann")
	if err != nil {
		t.Fatal(err)
	}
	r, err := pki.ParseRequest(csr)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := ca.Issue(r, "ann", "admin")
	if err != nil {
		t.Fatal(err)
	}
	f := pki.Files{Dir: dir}
	if err := f.SaveRoot(ca.CertPEM()); err != nil {
		t.Fatal(err)
	}
	if err := f.SaveIdentity(chain, key); err != nil {
		t.Fatal(err)
	}
}

func TestLoad(t *testing.T) {
	home := t.TempDir()
	identityFiles(t, filepath.Join(home, ".berth", "dev"))
	file := File{Current: "dev", Clusters: map[string]Context{
		"dev":    {Addresses: []string{"10.0.0.1", "10.0.0.2:7500"}, CA: "dev/ca.crt", Cert: "dev/tls.pem"},
		"prod":   {Addresses: []string{"berth.example"}, Token: "a.b.c"},
		"broken": {Addresses: []string{"x"}, CA: "dev/ca.crt", Cert: "nowhere.pem"},
	}}
	path := ConfigPath(env(map[string]string{"HOME": home}))
	if err := file.Write(path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	c, err := Load("", env(map[string]string{"HOME": home}))
	if err != nil || c.TLS == nil || len(c.Addrs) != 2 {
		t.Fatalf("%+v %v", c, err)
	}
	k, err := New(c)
	if err != nil || k.addrs[0] != "10.0.0.1:7400" || k.addrs[1] != "10.0.0.2:7500" {
		t.Errorf("%v %v", k, err)
	}
	c, err = Load("prod", env(map[string]string{"HOME": home}))
	if err != nil || c.TLS != nil || c.Token != "a.b.c" {
		t.Errorf("%+v %v", c, err)
	}
	c, err = Load("", env(map[string]string{"HOME": home, "BERTH_ADDR": "a, b:1", "BERTH_TOKEN": "x.y.z"}))
	if err != nil || strings.Join(c.Addrs, "|") != "a|b:1" || c.Token != "x.y.z" || c.TLS != nil {
		t.Errorf("%+v %v", c, err)
	}
	for name, hint := range map[string]string{"deb": `Did you mean "dev"?`, "elsewhere": "It has broken, dev, prod."} {
		_, err = Load(name, env(map[string]string{"HOME": home}))
		e, ok := err.(*object.Error)
		if !ok || e.Code != object.CodeNotFound || e.Hint != hint {
			t.Errorf("%v", err)
		}
	}
	if _, err = Load("broken", env(map[string]string{"HOME": home})); !object.IsCode(err, object.CodeInvalid) {
		t.Error(err)
	}
	if c, err = Load("", env(map[string]string{"HOME": t.TempDir()})); err != nil || len(c.Addrs) != 0 {
		t.Errorf("%+v %v", c, err)
	}
	if _, err := New(c); !object.IsCode(err, object.CodeInvalid) {
		t.Error(err)
	}
	bad := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(bad, []byte(`{"curent":"x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load("", env(map[string]string{"BERTH_CONFIG": bad})); !object.IsCode(err, object.CodeInvalid) || !strings.Contains(err.Error(), bad) {
		t.Error(err)
	}
}

func TestAddresses(t *testing.T) {
	for in, want := range map[string]string{"a": "a:7400", "a:1": "a:1", "https://a:1/": "a:1", "::1": "[::1]:7400", "[::1]": "[::1]:7400", "[::1]:2": "[::1]:2"} {
		if got, err := withPort(in); got != want || err != nil {
			t.Errorf("%s: %s %v", in, got, err)
		}
	}
	for _, bad := range []string{"", "a/b", "a b"} {
		if got, err := withPort(bad); err == nil {
			t.Errorf("%q: %s", bad, got)
		}
	}
}
