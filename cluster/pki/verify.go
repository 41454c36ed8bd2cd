package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Problem is why a certificate was refused: what is wrong, and what to do.
type Problem struct {
	Message string
	Hint    string
	cause   error
}

// Error is the message with the cure.
func (p *Problem) Error() string {
	if p.Hint == "" {
		return p.Message
	}
	return p.Message + "; " + p.Hint
}

// Unwrap gives the error of crypto/x509.
func (p *Problem) Unwrap() error { return p.cause }

// verify checks a peer's chain against an authority and returns its leaf.
func verify(state tls.ConnectionState, root *x509.Certificate, usage x509.ExtKeyUsage, now time.Time) (*x509.Certificate, error) {
	if len(state.PeerCertificates) == 0 {
		return nil, &Problem{Message: "the other side showed no certificate"}
	}
	leaf := state.PeerCertificates[0]
	pool := x509.NewCertPool()
	pool.AddCert(root)
	_, err := leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}})
	if err != nil {
		return nil, explain(err, leaf, root, now)
	}
	return leaf, nil
}

func explain(err error, leaf, root *x509.Certificate, now time.Time) error {
	who := fmt.Sprintf("the certificate of %s %q", roleOf(leaf), leaf.Subject.CommonName)
	stamp := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	// Whose it is comes first: a foreign certificate that has also expired is foreign.
	if leaf.CheckSignatureFrom(root) != nil {
		return &Problem{
			Message: who + " was issued by another cluster's authority (" + leaf.Issuer.CommonName + ", not " + root.Subject.CommonName + ")",
			Hint:    "check that the address, the certificate files and the context belong to the same cluster",
			cause:   err,
		}
	}
	var invalid x509.CertificateInvalidError
	switch {
	case now.Before(leaf.NotBefore):
		return &Problem{
			Message: fmt.Sprintf("%s is not valid before %s, but this machine's clock says %s", who, stamp(leaf.NotBefore), stamp(now)),
			Hint:    "set the clocks of both machines (NTP)",
			cause:   err,
		}
	case now.After(leaf.NotAfter):
		return &Problem{
			Message: fmt.Sprintf("%s expired at %s; this machine's clock says %s", who, stamp(leaf.NotAfter), stamp(now)),
			Hint:    "if the clock is right, join again with a new token (berth token create)",
			cause:   err,
		}
	case now.After(root.NotAfter):
		return &Problem{Message: "the cluster's authority expired at " + stamp(root.NotAfter), Hint: "check this machine's clock", cause: err}
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return &Problem{Message: who + " is not meant for this side of a connection", Hint: "use the certificate that was issued for this purpose", cause: err}
	}
	return &Problem{Message: who + " is not good: " + err.Error(), cause: err}
}

func roleOf(c *x509.Certificate) string {
	if len(c.Subject.Organization) == 1 {
		return c.Subject.Organization[0]
	}
	return ""
}

// expect checks who a verified leaf speaks for; an empty name means anyone of the role.
func expect(leaf *x509.Certificate, wantRole, wantName string) error {
	if r := roleOf(leaf); r != wantRole {
		return &Problem{
			Message: fmt.Sprintf("expected a %s, but the other side is %s %q", wantRole, r, leaf.Subject.CommonName),
			Hint:    "check the address",
		}
	}
	if n := leaf.Subject.CommonName; wantName != "" && n != wantName {
		return &Problem{
			Message: fmt.Sprintf("expected %s %q, but the other side is %q", wantRole, wantName, n),
			Hint:    "check the address",
		}
	}
	return nil
}

// PinnedTLS connects to a master knowing nothing but a token: the chain that the
// master sends must end in the authority that the token pins.
func PinnedTLS(t Token) *tls.Config { return pinnedTLS(t, time.Now) }

func pinnedTLS(t Token, now func() time.Time) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: protocols,
		// Go's own check needs the authority in advance; VerifyConnection does the
		// same once it has found, in what the master sent, the one that is pinned.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			for _, c := range s.PeerCertificates {
				if c.IsCA && Hash(c) == t.CAHash {
					leaf, err := verify(s, c, x509.ExtKeyUsageServerAuth, now())
					if err != nil {
						return err
					}
					return expect(leaf, RoleMaster, "")
				}
			}
			return &Problem{
				Message: "the master is not of the cluster that the token was made for",
				Hint:    "check the address and the token",
			}
		},
	}
}
