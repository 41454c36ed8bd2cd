package planner

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/state"
)

// keyPair is a certificate for a host with its key, as a secret holds them.
func keyPair(t *testing.T, host string, until time.Time) (certificate, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}, NotBefore: until.Add(-365 * 24 * time.Hour), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: b}))
}

// A certificate that will not do is found before the apply, in the plan.
func TestCertificatesAreLookedAt(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	year := now.Add(300 * 24 * time.Hour)
	good, key := keyPair(t, "shop.example", year)
	_, otherKey := keyPair(t, "shop.example", year)
	other, otherHostKey := keyPair(t, "else.example", year)
	old, oldKey := keyPair(t, "shop.example", now.Add(-time.Hour))
	for _, c := range []struct{ name, certificate, key, says string }{
		{"good", good, key, ""},
		{"of another key", good, otherKey, "Not a key pair"},
		{"no certificate", "hello", key, "Not a key pair"},
		{"of another host", other, otherHostKey, "Certificate of another host"},
		{"expired", old, oldKey, "Certificate expired"},
	} {
		s := secret("tls", "x")
		s.Spec.Data = map[string]object.Sensitive{
			object.TLSCertificate: object.NewSensitive(c.certificate).WithDigest("c"), object.TLSKey: object.NewSensitive(c.key).WithDigest("k"),
		}
		in := entrance("shop", "web")
		in.Spec.TLS = &object.IngressTLS{Secret: "tls", Redirect: true}
		r := request(s, in)
		r.Now = now
		_, diags := Diff(state.New().Snapshot(), r)
		var text []string
		for _, d := range diags {
			text = append(text, d.Summary)
			if strings.Contains(d.Detail, "PRIVATE KEY") {
				t.Errorf("%s: the secret is in the message", c.name)
			}
		}
		if got := strings.Join(text, ", "); got != c.says {
			t.Errorf("%s: %q, want %q", c.name, got, c.says)
		}
	}
}
