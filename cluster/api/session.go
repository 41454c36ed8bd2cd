package api

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/pki"
	"github.com/berthdev/berth/cluster/state"
)

// session is what somebody is let in by, as far as it can end: with a date, with a
// login or token that somebody takes away, with a node that is removed.
type session struct {
	until  time.Time // zero: not known
	login  string    // by which a certificate came that cannot be renewed
	token  string    // the id of a token
	issued time.Time // of a node's certificate
}

// tokenLogin begins what a certificate says of the token that it was turned from. No
// identity provider has such a name.
const tokenLogin = "token:"

// certified completes who shows a certificate, or says why it is good no more.
func (s *Server) certified(who Identity, leaf *x509.Certificate) (Identity, error) {
	login := pki.LoginOf(leaf)
	if id, ok := strings.CutPrefix(login, tokenLogin); ok {
		t, ok := state.Find[*object.Token](s.Cluster.Snapshot(), object.Ref{Kind: object.KindToken, Name: id})
		if !ok || t.Spec.Role != who.Role {
			return Identity{}, errRevoked(id)
		}
		who = ofToken(t)
	}
	who.session.until = leaf.NotAfter
	if who.session.token == "" {
		who.session.login = login
	}
	if who.Role == object.RoleNode {
		who.session.issued = pki.IssuedAt(leaf)
	}
	return who, s.welcome(who)
}

func errRevoked(token string) error {
	return &object.Error{Code: object.CodeUnauthorized, Message: fmt.Sprintf("the token %s has been revoked, or expired long ago", token), Hint: "Make a new one with: berth token create"}
}

// inTime says that a token has expired, nil if it has not.
func (s *Server) inTime(t *object.Token) error {
	if s.Now().Before(t.Spec.Expires) {
		return nil
	}
	return &object.Error{Code: object.CodeUnauthorized, Message: "the token expired at " + moment(t.Spec.Expires), Hint: "Make a new one with: berth token create"}
}

// moment is a time as people are told it.
func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 MST") }

// welcome says why who was let in once would not be let in any more.
func (s *Server) welcome(who Identity) error {
	x := &who.session
	if !x.until.IsZero() && !s.Now().Before(x.until) {
		return &object.Error{Code: object.CodeUnauthorized, Message: fmt.Sprintf("what %s was let in by expired at %s", who.Name, moment(x.until)), Hint: "Log in again, or use another certificate or token."}
	}
	if x.token != "" {
		t, ok := state.Find[*object.Token](s.Cluster.Snapshot(), object.Ref{Kind: object.KindToken, Name: x.token})
		if !ok {
			return errRevoked(x.token)
		}
		if err := s.inTime(t); err != nil {
			return err
		}
	}
	if x.login != "" {
		return s.stillGood(x.login, who.Role)
	}
	if !x.issued.IsZero() {
		return s.revoked(s.Cluster.Snapshot(), who.Name, x.issued)
	}
	return nil
}

// lookEvery is how often a stream makes sure that it is welcome. Nodes have
// thousands of streams, and certificates for weeks.
func (i Identity) lookEvery() time.Duration {
	if i.Role == object.RoleNode || i.Role == object.RoleMaster {
		return 10 * time.Second
	}
	return time.Second
}

// brief reports whether somebody is let in for a while only, by what is not renewed.
func (i Identity) brief() bool { return i.session.login != "" || i.byToken }

// within bounds a token by what its maker was let in by: what comes out must not
// outlive what went in. Tokens that machines join by are made for them, not for
// their maker.
func (s *Server) within(who Identity, req *object.TokenRequest, ttl time.Duration) (time.Duration, error) {
	if !who.brief() || who.session.until.IsZero() || req.Role != object.RoleAdmin && req.Role != object.RolePlanner {
		return ttl, nil
	}
	left := who.session.until.Sub(s.Now())
	hint := "Let somebody with a certificate of their own make it."
	if req.Uses != 0 {
		return 0, &object.Error{Code: object.CodeForbidden, Message: "a token with a limited number of uses is turned into a certificate for a year, and its maker is let in for a while only", Hint: hint}
	}
	if req.TTL == 0 {
		return min(ttl, left), nil
	}
	if ttl > left {
		return 0, &object.Error{Code: object.CodeForbidden, Message: fmt.Sprintf("ttl: a token that %s makes ends with what %s was let in by, at %s, and cannot live for %s", who.author(), who.Name, moment(who.session.until), req.TTL), Hint: hint}
	}
	return ttl, nil
}

// String is the session as masters pass it on to one another.
func (x session) String() string {
	v := url.Values{}
	if !x.until.IsZero() {
		v.Set("until", strconv.FormatInt(x.until.UnixNano(), 10))
	}
	if x.login != "" {
		v.Set("login", x.login)
	}
	if x.token != "" {
		v.Set("token", x.token)
	}
	if !x.issued.IsZero() {
		v.Set("issued", strconv.FormatInt(x.issued.UnixNano(), 10))
	}
	return v.Encode()
}

// readSession reads what another master wrote; of an older one there is nothing.
func readSession(s string) session {
	v, err := url.ParseQuery(s)
	if err != nil {
		return session{}
	}
	at := func(name string) time.Time {
		n, err := strconv.ParseInt(v.Get(name), 10, 64)
		if err != nil {
			return time.Time{}
		}
		return time.Unix(0, n)
	}
	return session{until: at("until"), login: v.Get("login"), token: v.Get("token"), issued: at("issued")}
}
