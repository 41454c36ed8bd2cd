package object

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"
)

func ingressFor(namespace, name, host string, created uint64, paths ...IngressPath) *Ingress {
	return &Ingress{Meta: Meta{Kind: KindIngress, Namespace: namespace, Name: name, Created: created}, Spec: IngressSpec{Host: host, Paths: paths}}
}

func TestIngressConflicts(t *testing.T) {
	prefix := func(p string) IngressPath { return IngressPath{Path: p, Match: "prefix", Service: "x"} }
	exact := func(p string) IngressPath { return IngressPath{Path: p, Match: "exact", Service: "x"} }
	list := []*Ingress{
		ingressFor("a", "new", "shop.example", 0, prefix("/api/"), prefix("/")),
		ingressFor("a", "old", "shop.example", 7, prefix("/api"), exact("/api")),
		ingressFor("b", "other", "other.example", 3, prefix("/api")),
		ingressFor("b", "twice", "twice.example", 4, prefix("/x"), prefix("/x/")),
		ingressFor("b", "young", "shop.example", 9, exact("/api"), exact("/api/")),
	}
	var got Diagnostics
	for _, c := range IngressConflicts(list) {
		got = append(got, c.Diagnostic())
	}
	var text []string
	for _, d := range got {
		text = append(text, d.Address+" "+d.Path+": "+d.Summary+": "+d.Detail)
	}
	want := []string{
		`ingress.new path["/api"]: Two ingresses claim one path: ingress.old in namespace a and ingress.new in namespace a both claim shop.example, path /api; change the host or the path of one of them.`,
		`ingress.twice path["/x"]: Path twice: ingress.twice has twice.example, path /x twice; remove one of them.`,
		`ingress.young path["/api"]: Two ingresses claim one path: ingress.old in namespace a and ingress.young in namespace b both claim shop.example, exactly /api; change the host or the path of one of them.`,
	}
	if strings.Join(text, "\n") != strings.Join(want, "\n") || !got.HasErrors() {
		t.Errorf("got\n%s", strings.Join(text, "\n"))
	}
	if len(IngressConflicts(nil)) != 0 {
		t.Error("a conflict of nobody")
	}
}

func TestCheckDestinations(t *testing.T) {
	port := func(name string, n int, protocol string) ServicePort {
		return ServicePort{Name: name, Port: n, Protocol: protocol}
	}
	services := map[string]*Service{}
	for name, s := range map[string]ServiceSpec{
		"one": {Type: "cluster", Ports: []ServicePort{port("http", 80, "tcp")}}, "two": {Type: "cluster", Ports: []ServicePort{port("http", 80, "tcp"), port("admin", 81, "tcp")}},
		"none": {Type: "headless"}, "udp": {Type: "cluster", Ports: []ServicePort{port("dns", 53, "udp")}}, "far": {Type: "external", ExternalName: "db.example"},
	} {
		services[name] = &Service{Meta: Meta{Kind: KindService, Namespace: "a", Name: name}, Spec: s}
	}
	find := func(r Ref) *Service {
		if r.Namespace != "a" {
			return nil
		}
		return services[r.Name]
	}
	for _, c := range []struct {
		service string
		port    PortRef
		want    string // part of the detail; empty: nothing is wrong
	}{
		{"one", "", ""}, {"one", "http", ""}, {"one", "80", ""}, {"two", "admin", ""}, {"two", "81", ""},
		{"one", "https", `Service one has no port "https"; it has "http" (80).`},
		{"one", "8080", `no port "8080"`},
		{"two", "", `Service two has several ports; say which: "http" (80), "admin" (81).`},
		{"none", "http", "Service none has no ports; give it one"},
		{"gone", "", `There is no service "gone" in namespace "a"`},
		{"udp", "", `is for udp`},
		{"far", "", `another name for db.example`},
	} {
		for _, backend := range []bool{false, true} {
			p, path := IngressPath{Path: "/x", Service: c.service, Port: c.port}, `path["/x"].service`
			if backend {
				p, path = IngressPath{Path: "/x", Backends: []IngressBackend{{Service: c.service, Port: c.port}}}, `path["/x"].backend["`+c.service+`"]`
			}
			got := CheckDestinations(ingressFor("a", "shop", "", 1, p), find)
			switch {
			case c.want == "" && len(got) == 0:
			case c.want != "" && len(got) == 1 && strings.Contains(got[0].Detail, c.want) && got[0].Path == path && got[0].Address == "ingress.shop" && got.HasErrors():
			default:
				t.Errorf("%s %q: %+v", c.service, c.port, got)
			}
		}
	}
}

func TestCheckCertificate(t *testing.T) {
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	cert := func(key any, public any, from, to time.Time, hosts ...string) string {
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: hosts, NotBefore: from, NotAfter: to}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, public, key)
		return block("CERTIFICATE", der, err)
	}
	pkcs8 := func(key any) string {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		return block("PRIVATE KEY", der, err)
	}
	sec1, err := x509.MarshalECPrivateKey(ec)
	ecKey := block("EC PRIVATE KEY", sec1, err)
	year := now.AddDate(1, 0, 0)
	good := cert(ec, &ec.PublicKey, now.AddDate(0, -1, 0), year, "shop.example", "*.shop.example")
	for name, c := range map[string]struct {
		host, chain, key string
		severity         Severity // empty: nothing is wrong
		want             string
	}{
		"pkcs8":      {"shop.example", good, pkcs8(ec), "", ""},
		"sec1":       {"shop.example", good + good, "junk before\n" + ecKey, "", ""},
		"rsa":        {"shop.example", cert(rs, &rs.PublicKey, now, year, "shop.example"), block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rs), nil), "", ""},
		"ed25519":    {"shop.example", cert(ed, ed.Public(), now, year, "shop.example"), pkcs8(ed), "", ""},
		"wildcard":   {"*.shop.example", good, ecKey, "", ""},
		"other key":  {"shop.example", good, pkcs8(rs), SeverityError, `"key" is not the private key of the first certificate`},
		"swapped":    {"shop.example", ecKey, good, SeverityError, `"certificate" holds no certificate in PEM`},
		"no key":     {"shop.example", good, "", SeverityError, `has no key "key"`},
		"no chain":   {"shop.example", "", ecKey, SeverityError, `has no key "certificate"`},
		"no pem":     {"shop.example", good, "hunter2", SeverityError, `holds no private key in PEM`},
		"damaged":    {"shop.example", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", ecKey, SeverityError, "cannot be read"},
		"other host": {"other.example", good, ecKey, SeverityError, "is for shop.example, *.shop.example, not for other.example"},
		"deep":       {"*.a.shop.example", good, ecKey, SeverityError, "not for *.a.shop.example"},
		"no name":    {"shop.example", cert(ec, &ec.PublicKey, now, year), ecKey, SeverityError, "no host at all"},
		"expired":    {"shop.example", cert(ec, &ec.PublicKey, now.AddDate(-1, 0, 0), now.Add(-time.Hour), "shop.example"), ecKey, SeverityError, "ended at 2026-05-31 23:00 UTC"},
		"soon":       {"shop.example", cert(ec, &ec.PublicKey, now.AddDate(-1, 0, 0), now.AddDate(0, 0, 13), "shop.example"), ecKey, SeverityWarning, "ends at 2026-06-14"},
		"later":      {"shop.example", cert(ec, &ec.PublicKey, now.Add(time.Hour), year, "shop.example"), ecKey, SeverityWarning, "begins at 2026-06-01 01:00 UTC"},
	} {
		data := map[string]string{TLSCertificate: c.chain, TLSKey: c.key}
		got := CheckCertificate(c.host, data, now)
		switch {
		case c.severity == "" && len(got) == 0:
		case c.severity != "" && len(got) == 1 && got[0].Severity == c.severity && strings.Contains(got[0].Detail, c.want) && got[0].Path == "tls.secret":
		default:
			t.Errorf("%s: %+v", name, got)
		}
		for _, d := range got {
			if strings.Contains(d.Detail, "hunter2") || strings.Contains(d.Detail, "BEGIN PRIVATE") {
				t.Errorf("%s quotes the secret: %s", name, d.Detail)
			}
		}
	}
}
