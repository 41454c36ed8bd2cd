package pki

import (
	"crypto/x509"
	"time"
)

// IssueLogin makes a certificate for somebody who has shown who they are
// elsewhere. It says by which login they came, so that it ends with that login,
// and is not renewed: who wants another shows again who they are.
func (ca *CA) IssueLogin(r *Request, name, role, login string, lifetime time.Duration) ([]byte, error) {
	return ca.issue(r, name, role, login, lifetime)
}

// LoginOf is the login of a certificate that IssueLogin made, else empty.
func LoginOf(c *x509.Certificate) string {
	if len(c.Subject.OrganizationalUnit) == 1 {
		return c.Subject.OrganizationalUnit[0]
	}
	return ""
}
