package object

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// FindPort is the port of the service that a reference means: by name, by number
// at the service, or the only one that there is if it names none. The error says
// what there is instead.
func (o *Service) FindPort(ref PortRef) (ServicePort, error) {
	ports := o.Spec.Ports
	if len(ports) == 0 {
		return ServicePort{}, fmt.Errorf("service %s has no ports; give it one, such as port \"http\" { port = 80 }", o.Name)
	}
	if ref == "" {
		if len(ports) > 1 {
			return ServicePort{}, fmt.Errorf("service %s has several ports; say which: %s", o.Name, portNames(ports))
		}
		return ports[0], nil
	}
	for _, p := range ports {
		if n, ok := ref.Number(); p.Name == string(ref) || ok && p.Port == n {
			return p, nil
		}
	}
	return ServicePort{}, fmt.Errorf("service %s has no port %q; it has %s", o.Name, ref, portNames(ports))
}

func portNames(ports []ServicePort) string {
	var out []string
	for _, p := range ports {
		out = append(out, fmt.Sprintf("%q (%d)", p.Name, p.Port))
	}
	return strings.Join(out, ", ")
}

// Destination is one service that a path leads to.
type Destination struct {
	Path    string // of the block in the configuration: path["/"].service
	Service Ref
	Port    PortRef
}

// Destinations lists every service that the ingress leads to, in the order of its
// paths.
func (o *Ingress) Destinations() []Destination {
	var out []Destination
	for i := range o.Spec.Paths {
		p := &o.Spec.Paths[i]
		at := fmt.Sprintf("path[%q]", p.Path)
		if p.Service != "" {
			out = append(out, Destination{at + ".service", Ref{Kind: KindService, Namespace: o.Namespace, Name: p.Service}, p.Port})
		}
		for _, b := range p.Backends {
			out = append(out, Destination{fmt.Sprintf("%s.backend[%q]", at, b.Service), Ref{Kind: KindService, Namespace: o.Namespace, Name: b.Service}, b.Port})
		}
	}
	return out
}

// CheckDestinations finds the services and ports that an ingress leads to and
// that are not there; find answers nil for what does not exist.
func CheckDestinations(o *Ingress, find func(Ref) *Service) Diagnostics {
	var out Diagnostics
	for _, d := range o.Destinations() {
		s := find(d.Service)
		if s == nil {
			out.Errorf(d.Path, "Service does not exist", "There is no service %q in namespace %q; declare it, or lead the path elsewhere.", d.Service.Name, d.Service.Namespace)
			continue
		}
		if s.Spec.Type == "external" {
			out.Errorf(d.Path, "Service without pods", "Service %q is another name for %s; an ingress leads to pods only.", s.Name, s.Spec.ExternalName)
			continue
		}
		p, err := s.FindPort(d.Port)
		switch {
		case err != nil:
			out.Errorf(d.Path, "Port does not exist", "%s.", sentence(err.Error()))
		case p.Protocol != "tcp":
			out.Errorf(d.Path, "Wrong protocol", "Port %q of service %q is for %s; an ingress speaks over tcp.", p.Name, s.Name, p.Protocol)
		}
	}
	for i := range out {
		out[i].Address = o.Ref().Address()
	}
	return out
}

func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// IngressClaim is a host with a path, which only one ingress can serve.
type IngressClaim struct{ Host, Path, Match string }

// String is the claim as people read it.
func (c IngressClaim) String() string {
	host := c.Host
	if host == "" {
		host = "any other host"
	}
	if c.Match == "exact" {
		return fmt.Sprintf("%s, exactly %s", host, c.Path)
	}
	return fmt.Sprintf("%s, path %s", host, c.Path)
}

// Claims lists what the ingress wants to serve. "/api/" and "/api" are the same
// prefix.
func (o *Ingress) Claims() []IngressClaim {
	out := make([]IngressClaim, 0, len(o.Spec.Paths))
	for i := range o.Spec.Paths {
		p := &o.Spec.Paths[i]
		out = append(out, IngressClaim{o.Spec.Host, p.CanonicalPath(), p.Match})
	}
	return out
}

// CanonicalPath is the path without a slash at its end, unless it matches exactly
// or is the root.
func (p *IngressPath) CanonicalPath() string {
	if p.Match == "exact" {
		return p.Path
	}
	if s := strings.TrimRight(p.Path, "/"); s != "" {
		return s
	}
	return "/"
}

// IngressConflict is a claim of two ingresses, or twice of one.
type IngressConflict struct {
	Claim IngressClaim
	// First keeps what it has: it is the older one, or the first by name.
	First, Second Ref
}

// IngressConflicts finds what more than one ingress claims, ordered by the second
// of the two.
func IngressConflicts(list []*Ingress) []IngressConflict {
	list = slices.Clone(list)
	slices.SortStableFunc(list, CompareIngresses)
	var out []IngressConflict
	owner := map[IngressClaim]Ref{}
	for _, o := range list {
		for _, c := range o.Claims() {
			if first, taken := owner[c]; taken {
				out = append(out, IngressConflict{c, first, o.Ref()})
				continue
			}
			owner[c] = o.Ref()
		}
	}
	slices.SortStableFunc(out, func(a, b IngressConflict) int { return a.Second.Compare(b.Second) })
	return out
}

// CompareIngresses orders ingresses by precedence: older ones first, those that
// are not created yet last, then by name.
func CompareIngresses(a, b *Ingress) int {
	age := func(o *Ingress) uint64 { return o.Created - 1 } // 0, not created yet, is the youngest
	if x, y := age(a), age(b); x != y {
		if x < y {
			return -1
		}
		return 1
	}
	return a.Ref().Compare(b.Ref())
}

// Diagnostic tells of the conflict: it is about the ingress that comes second and
// names both.
func (c IngressConflict) Diagnostic() Diagnostic {
	d := Diagnostic{Severity: SeverityError, Address: c.Second.Address(), Path: fmt.Sprintf("path[%q]", c.Claim.Path)}
	if c.First == c.Second {
		d.Summary = "Path twice"
		d.Detail = fmt.Sprintf("%s has %s twice; remove one of them.", c.Second.Address(), c.Claim)
		return d
	}
	d.Summary = "Two ingresses claim one path"
	d.Detail = fmt.Sprintf("%s in namespace %s and %s in namespace %s both claim %s; change the host or the path of one of them.",
		c.First.Address(), c.First.Namespace, c.Second.Address(), c.Second.Namespace, c.Claim)
	return d
}

// certificateWarning is how long before its end a certificate is warned of.
const certificateWarning = 14 * 24 * time.Hour

// CheckCertificate finds what is wrong with the certificate of a secret for a
// host: no key pair, another host, expired. What ends soon is a warning. No part
// of the secret is in what it says.
func CheckCertificate(host string, data map[string]string, now time.Time) Diagnostics {
	var out Diagnostics
	leaf, err := keyPair(data)
	if err != nil {
		out.Errorf("tls.secret", "Not a key pair", "%s.", sentence(err.Error()))
		return out
	}
	probe := host
	if rest, ok := strings.CutPrefix(host, "*."); ok {
		probe = "any." + rest
	}
	if err := leaf.VerifyHostname(probe); err != nil {
		out.Errorf("tls.secret", "Certificate of another host", "The certificate is for %s, not for %s.", certificateNames(leaf), host)
	}
	const day = "2006-01-02 15:04 MST"
	switch {
	case now.After(leaf.NotAfter):
		out.Errorf("tls.secret", "Certificate expired", "The certificate for %s ended at %s; put a new one into the secret.", host, leaf.NotAfter.UTC().Format(day))
	case now.Before(leaf.NotBefore):
		out = append(out, Diagnostic{Severity: SeverityWarning, Path: "tls.secret", Summary: "Certificate not valid yet", Detail: fmt.Sprintf("The certificate for %s begins at %s only.", host, leaf.NotBefore.UTC().Format(day))})
	case leaf.NotAfter.Sub(now) < certificateWarning:
		out = append(out, Diagnostic{Severity: SeverityWarning, Path: "tls.secret", Summary: "Certificate ends soon", Detail: fmt.Sprintf("The certificate for %s ends at %s; put a new one into the secret before.", host, leaf.NotAfter.UTC().Format(day))})
	}
	return out
}

func certificateNames(c *x509.Certificate) string {
	if names := slices.Concat(c.DNSNames, addresses(c)); len(names) > 0 {
		return strings.Join(names, ", ")
	}
	return "no host at all (it has no subject alternative name)"
}

func addresses(c *x509.Certificate) []string {
	var out []string
	for _, a := range c.IPAddresses {
		out = append(out, a.String())
	}
	return out
}

// keyPair reads the certificate of a secret and makes sure that its key belongs to
// it. Its texts never quote the secret.
func keyPair(data map[string]string) (*x509.Certificate, error) {
	for _, k := range []string{TLSCertificate, TLSKey} {
		if data[k] == "" {
			return nil, fmt.Errorf("the secret has no key %q; it needs %q with a chain in PEM and %q with its private key", k, TLSCertificate, TLSKey)
		}
	}
	var leaf *x509.Certificate
	for rest := []byte(data[TLSCertificate]); ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		if b.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%q holds a certificate that cannot be read: %w", TLSCertificate, err)
		}
		if leaf == nil {
			leaf = c
		}
	}
	if leaf == nil {
		return nil, fmt.Errorf("%q holds no certificate in PEM (-----BEGIN CERTIFICATE-----)", TLSCertificate)
	}
	public, err := publicKey(data[TLSKey])
	if err != nil {
		return nil, err
	}
	if k, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(public) {
		return nil, fmt.Errorf("%q is not the private key of the first certificate in %q", TLSKey, TLSCertificate)
	}
	return leaf, nil
}

func publicKey(text string) (crypto.PublicKey, error) {
	unusable := fmt.Errorf("%q holds no private key in PEM that can be read (RSA, ECDSA or Ed25519; PKCS #8, PKCS #1 or SEC 1; without a passphrase)", TLSKey)
	for rest := []byte(text); ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return nil, unusable
		}
		if b.Type != "PRIVATE KEY" && !strings.HasSuffix(b.Type, " PRIVATE KEY") {
			continue
		}
		key, err := privateKey(b.Bytes)
		if err != nil {
			return nil, unusable
		}
		return key.Public(), nil
	}
}

func privateKey(der []byte) (crypto.Signer, error) {
	if k, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		switch k := k.(type) {
		case *rsa.PrivateKey:
			return k, nil
		case *ecdsa.PrivateKey:
			return k, nil
		case ed25519.PrivateKey:
			return k, nil
		}
		return nil, errors.New("a key of an unknown kind")
	}
	if k, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return k, nil
	}
	return x509.ParseECPrivateKey(der)
}
