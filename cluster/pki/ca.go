package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"regexp"
	"slices"
	"time"
)

// Roles that the TLS configurations of this package ask for; others are only
// carried.
const (
	RoleMaster = "master"
	RoleNode   = "node"
)

const (
	caLifetime      = 10 * 365 * 24 * time.Hour
	machineLifetime = 30 * 24 * time.Hour
	personLifetime  = 365 * 24 * time.Hour
	// backdate makes a new certificate good on machines whose clock is behind.
	backdate = 5 * time.Minute
)

// Lifetime is how long a certificate of the role is good for. Machines renew
// theirs by themselves; people's last longer.
func Lifetime(role string) time.Duration {
	if role == RoleMaster || role == RoleNode {
		return machineLifetime
	}
	return personLifetime
}

// IssuedAt is when an authority of Berth made a certificate, to the second.
func IssuedAt(c *x509.Certificate) time.Time { return c.NotBefore.Add(backdate) }

// CA is the certificate authority of one cluster. It may be used by any number
// of goroutines.
type CA struct {
	cert    *x509.Certificate
	key     *ecdsa.PrivateKey
	certPEM []byte
	now     func() time.Time
}

// NewCA makes the authority of a new cluster.
func NewCA(cluster string) (*CA, error) { return newCA(cluster, time.Now) }

func newCA(cluster string, now func() time.Time) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	at := now()
	t := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "Berth cluster " + cluster},
		NotBefore:             at.Add(-backdate),
		NotAfter:              at.Add(caLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &CA{cert: cert, key: key, certPEM: encodeCert(der), now: now}, nil
}

// ParseCA reads an authority from its certificate and key in PEM.
func ParseCA(certPEM, keyPEM []byte) (*CA, error) {
	certs, err := parseCerts(certPEM)
	if err != nil {
		return nil, fmt.Errorf("the CA certificate: %w", err)
	}
	if !certs[0].IsCA {
		return nil, errors.New("the CA certificate is not one of a certificate authority")
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("the CA key: %w", err)
	}
	if !key.PublicKey.Equal(certs[0].PublicKey) {
		return nil, errors.New("the CA key does not belong to the CA certificate")
	}
	return &CA{cert: certs[0], key: key, certPEM: encodeCert(certs[0].Raw), now: time.Now}, nil
}

// CertPEM is the authority's certificate.
func (ca *CA) CertPEM() []byte { return bytes.Clone(ca.certPEM) }

// KeyPEM is the authority's key: only for the disk and for joining masters.
func (ca *CA) KeyPEM() ([]byte, error) { return encodeKey(ca.key) }

// Hash is what join tokens pin.
func (ca *CA) Hash() string { return Hash(ca.cert) }

// Hash is the SHA-256 of a certificate's public key (its SubjectPublicKeyInfo), in hex.
func Hash(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

var goodName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._@-]{0,61}[A-Za-z0-9])?$`)

// CheckName reports whether a name can stand in a certificate.
func CheckName(name string) error {
	if !goodName.MatchString(name) {
		return fmt.Errorf("%q cannot be a name; use up to 63 letters, digits, '.', '-', '_' and '@', with a letter or digit at both ends", name)
	}
	return nil
}

// Request is a certificate request whose signature has been checked.
type Request struct {
	key       crypto.PublicKey
	Addresses []string // host names and IP addresses that it asks for
}

// ParseRequest reads a PKCS #10 request in PEM. Its subject is ignored.
func ParseRequest(csrPEM []byte) (*Request, error) {
	b, _ := pem.Decode(csrPEM)
	if b == nil || b.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("not a certificate request in PEM")
	}
	csr, err := x509.ParseCertificateRequest(b.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the certificate request cannot be read: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the certificate request is not signed by its own key: %w", err)
	}
	if k, ok := csr.PublicKey.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P256() {
		return nil, errors.New("the certificate request must carry a P-256 key")
	}
	r := &Request{key: csr.PublicKey, Addresses: slices.Clone(csr.DNSNames)}
	for _, ip := range csr.IPAddresses {
		r.Addresses = append(r.Addresses, ip.String())
	}
	return r, nil
}

// Issue makes a certificate for the key of a request, in PEM: the leaf, then the
// authority. Certificates of machines carry the addresses that the request asks
// for beside their name, localhost and 127.0.0.1; those of people none.
func (ca *CA) Issue(r *Request, name, role string) ([]byte, error) {
	return ca.issue(r, name, role, "", Lifetime(role))
}

func (ca *CA) issue(r *Request, name, role, login string, lifetime time.Duration) ([]byte, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	if err := CheckName(role); err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	at := ca.now()
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name, Organization: []string{role}},
		NotBefore:    at.Add(-backdate),
		NotAfter:     at.Add(lifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if login != "" {
		t.Subject.OrganizationalUnit = []string{login}
	}
	if role == RoleMaster || role == RoleNode {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		t.DNSNames, t.IPAddresses = alternativeNames(append([]string{name, "localhost", "127.0.0.1", "::1"}, r.Addresses...))
	}
	if t.NotAfter.After(ca.cert.NotAfter) {
		t.NotAfter = ca.cert.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, t, ca.cert, r.key, ca.key)
	if err != nil {
		return nil, err
	}
	return append(encodeCert(der), ca.certPEM...), nil
}

// alternativeNames sorts addresses into names and IP addresses; a port is cut off.
func alternativeNames(addresses []string) (names []string, ips []net.IP) {
	for _, a := range addresses {
		if h, _, err := net.SplitHostPort(a); err == nil {
			a = h
		}
		if ip := net.ParseIP(a); ip != nil {
			if !slices.ContainsFunc(ips, ip.Equal) {
				ips = append(ips, ip)
			}
		} else if a != "" && !slices.Contains(names, a) {
			names = append(names, a)
		}
	}
	return names, ips
}

// NewRequest makes a key and the request for a certificate of it, both in PEM.
// Addresses are host names or IP addresses, with or without a port.
func NewRequest(name string, addresses ...string) (keyPEM, csrPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	t := &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}
	t.DNSNames, t.IPAddresses = alternativeNames(addresses)
	der, err := x509.CreateCertificateRequest(rand.Reader, t, key)
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err = encodeKey(key)
	if err != nil {
		return nil, nil, err
	}
	return keyPEM, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func parseKey(keyPEM []byte) (*ecdsa.PrivateKey, error) {
	b, _ := pem.Decode(keyPEM)
	if b == nil || b.Type != "PRIVATE KEY" {
		return nil, errors.New("not a private key in PEM (PKCS #8)")
	}
	k, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("a %T, but Berth's keys are ECDSA", k)
	}
	return key, nil
}

// parseCerts reads at least one certificate.
func parseCerts(b []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("no certificate in PEM")
	}
	return out, nil
}
