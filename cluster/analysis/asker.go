package analysis

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/berthdev/berth/cluster/object"
)

// Open gives the value of a secret's key that is in force. Its errors are shown to
// people.
type Open func(object.SecretKey) (string, error)

// masked stands for a text that holds a secret.
const masked = "(sensitive value)"

// asker asks one question with what its source wants to see. Secrets are open in it
// alone, for as long as that takes.
type asker struct {
	client *http.Client
	close  func()
	opened []string // what nobody is shown
}

// asker opens the secrets that a source is asked with.
func (s *Sources) asker(a object.Access, open Open) (*asker, error) {
	by := &asker{close: func() {}}
	header := http.Header{"User-Agent": {"berth"}}
	for _, name := range slices.Sorted(maps.Keys(a.Headers)) {
		v, err := by.expand("header "+name, a.Headers[name], open)
		if err != nil {
			return nil, err
		}
		header.Set(name, v)
	}
	if a.Username != "" || a.Password != "" {
		user, err := by.expand("username", a.Username, open)
		if err == nil && strings.Contains(user, ":") {
			err = fmt.Errorf("username has a colon, which that of basic authentication cannot have")
		}
		if err != nil {
			return nil, err
		}
		password, err := by.expand("password", a.Password, open)
		if err != nil {
			return nil, err
		}
		pair := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
		by.opened = append(by.opened, pair)
		header.Set("Authorization", "Basic "+pair)
	}
	transport := s.transport
	if a.CA != "" {
		certificates, err := object.Authorities(a.CA)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		roots := x509.NewCertPool()
		for _, c := range certificates {
			roots.AddCert(c)
		}
		transport = connect(roots) // another's connections may be to a server that these do not vouch for
		by.close = transport.CloseIdleConnections
	}
	by.client = &http.Client{
		Transport:     bounded{transport, header},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return by, nil
}

func (by *asker) expand(what string, t object.Text, open Open) (string, error) {
	var why error
	text, _, _ := t.Expand(func(k object.SecretKey) (string, bool) {
		v, err := open(k)
		if err != nil && why == nil {
			why = err
		}
		if v != "" {
			by.opened = append(by.opened, v)
			if quoted := strings.Trim(strconv.Quote(v), `"`); quoted != v {
				by.opened = append(by.opened, quoted) // as errors quote what a server said
			}
		}
		return v, err == nil
	})
	switch {
	case why != nil:
		return "", fmt.Errorf("%s: %w", what, why)
	case object.Unprintable(text):
		return "", fmt.Errorf("%s has a line break or another control character; take it out of the secret, as trimspace() does", what)
	}
	return text, nil
}

// mask hides a text from outside that repeats what it was asked with.
func (by *asker) mask(text string) string {
	if slices.ContainsFunc(by.opened, func(s string) bool { return strings.Contains(text, s) }) {
		return masked
	}
	return text
}

// hide does so with a value: it is judged as it is, and not shown.
func (by *asker) hide(r object.Reading) object.Reading {
	text := r.Text
	if text == "" {
		text = strconv.FormatFloat(r.Number, 'f', -1, 64)
	}
	if by.mask(text) == masked {
		r.Words = masked
	}
	return r
}

// bounded puts the headers into requests, and cuts answers off that are too long.
type bounded struct {
	http.RoundTripper
	header http.Header
}

func (b bounded) RoundTrip(q *http.Request) (*http.Response, error) {
	q = q.Clone(q.Context()) // it belongs to who asks
	maps.Copy(q.Header, b.header)
	a, err := b.RoundTripper.RoundTrip(q)
	if err == nil {
		a.Body = cut{io.LimitReader(a.Body, maxBody+1), a.Body}
	}
	return a, err
}

type cut struct {
	io.Reader
	io.Closer
}
