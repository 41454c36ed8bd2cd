package object

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/textproto"
	"slices"
	"strings"
)

// Access is what a source of a check is asked with.
type Access struct {
	URL                string // of the server
	Headers            map[string]Text
	Username, Password Text
	CA                 string // in PEM

	prometheus bool
}

func (s *HTTPSource) access() Access {
	return Access{URL: s.URL, Headers: s.Headers, Username: s.Username, Password: s.Password, CA: s.CA}
}

func (s *PrometheusSource) access() Access {
	return Access{URL: s.Address, Headers: s.Headers, Username: s.Username, Password: s.Password, CA: s.CA, prometheus: true}
}

// Access is what the check's source is asked with, if it is one that is asked over
// the network.
func (c *Check) Access() Access {
	switch {
	case c.HTTP != nil:
		return c.HTTP.access()
	case c.Prometheus != nil:
		return c.Prometheus.access()
	}
	return Access{}
}

// texts are those that may refer to secrets, by where they stand in the source.
func (a *Access) texts(at *step) iter.Seq2[*step, Text] {
	return func(yield func(*step, Text) bool) {
		for _, name := range slices.Sorted(maps.Keys(a.Headers)) {
			if !yield(&step{up: at, name: "headers", label: name, key: true}, a.Headers[name]) {
				return
			}
		}
		if a.Username != "" && !yield(at.to("username"), a.Username) {
			return
		}
		if a.Password != "" {
			yield(at.to("password"), a.Password)
		}
	}
}

// Credential is a key of a secret that a check is asked with.
type Credential struct {
	Path   string // where the deployment refers to it
	Secret Ref
	SecretKey
}

// Credentials lists the secrets that the checks are asked with, in the order in which
// they are written. Pods do not read them: another value rolls nothing.
func (d *Deployment) Credentials() []Credential {
	var out []Credential
	u := &d.Spec.Update
	each := func(block string, up *step, list []Check) {
		for i := range list {
			source := "http"
			a := list[i].Access()
			if a.prometheus {
				source = "prometheus"
			}
			for at, text := range a.texts((&step{up: up, name: block, label: list[i].Name, key: true}).to(source)) {
				for _, k := range text.Secrets() {
					out = append(out, Credential{at.String(), Ref{Kind: KindSecret, Namespace: d.Namespace, Name: k.Name}, k})
				}
			}
		}
	}
	at := &step{name: "update"}
	each("check", at, u.Checks)
	for i := range u.Steps {
		each("check", &step{up: at, name: "step", label: u.Steps[i].Name, key: true}, u.Steps[i].Checks)
	}
	if u.BlueGreen != nil {
		each("check", at.to("blue_green"), u.BlueGreen.Checks)
		each("check_after", at.to("blue_green"), u.BlueGreen.ChecksAfter)
	}
	return out
}

// ownHeaders are not for anybody to set: they belong to the connection, or to how the
// answer is read.
var ownHeaders = []string{"Accept-Encoding", "Connection", "Content-Length", "Expect", "Host", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// secretHeaders are those that are nothing but a credential.
var secretHeaders = []string{"Authorization", "Cookie", "X-Api-Key", "Private-Token", "X-Vault-Token"}

func (a Access) check(c *checker, at *step) {
	given := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(a.Headers)) {
		here := &step{up: at, name: "headers", label: name, key: true}
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		switch before := given[canonical]; {
		case !headerName.MatchString(name):
			c.fail(here, "Wrong header", "%q is not the name of a header; they are of letters, digits and -: \"Authorization\".", name)
			continue
		case before != "":
			c.fail(here, "Duplicate header", "%s and %s are the same header: upper and lower case do not matter. Take one out.", before, name)
		case slices.Contains(ownHeaders, canonical) || a.prometheus && canonical == "Content-Type":
			c.fail(here, "Header that cannot be set", "Berth sets %s itself. Take it out.", name)
		case slices.Contains(secretHeaders, canonical) && len(a.Headers[name].Secrets()) == 0:
			c.fail(here, "Password in the open", "Everybody who may read the deployment would see it. Put it into a secret, and write \"Bearer ${secret.NAME.data.KEY}\".")
		case canonical == "Authorization" && (a.Username != "" || a.Password != ""):
			c.fail(here, "Two credentials", "username and password are sent in the header Authorization, too. Take out one or the other.")
		}
		given[canonical] = name
	}
	for here, text := range a.texts(at) {
		if Unprintable(string(text)) {
			c.fail(here, "Wrong text", "A header has no line breaks or other control characters.")
		}
	}
	switch {
	case a.Username != "" && a.Password == "":
		c.fail(at.to("password"), "Missing attribute", "With username goes password = secret.NAME.data.KEY.")
	case a.Username == "" && a.Password != "":
		c.fail(at.to("username"), "Missing attribute", "With password goes a username.")
	case a.Password != "" && len(a.Password.Secrets()) == 0:
		c.fail(at.to("password"), "Password in the open", "Everybody who may read the deployment would see it. Put it into a secret, and write secret.NAME.data.KEY.")
	case len(a.Username.Secrets()) == 0 && strings.Contains(string(a.Username), ":"):
		c.fail(at.to("username"), "Wrong text", "The user of basic authentication has no colon.")
	}
	if a.CA != "" {
		if _, err := Authorities(a.CA); err != nil {
			c.fail(at.to("ca"), "Wrong certificate", "%s.", strings.ToUpper(err.Error()[:1])+err.Error()[1:])
		}
		if strings.HasPrefix(a.URL, "http://") {
			c.fail(at.to("ca"), "Superfluous attribute", "Over http:// nobody shows a certificate. Write https:// or take out ca.")
		}
	}
}

// Unprintable reports whether a text cannot be the value of a header.
func Unprintable(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

// Authorities are the certificates of a text in PEM.
func Authorities(text string) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for rest := []byte(text); ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		if b.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("there is a %s among the certificates; only certificates belong here", strings.ToLower(b.Type))
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d cannot be read: %w", len(out)+1, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("there is no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----")
	}
	return out, nil
}
