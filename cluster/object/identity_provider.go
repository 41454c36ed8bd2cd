package object

import (
	"encoding/json"
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// IdentityProviderSpec trusts an issuer of identity tokens, such as the one by
// which a CI system says which repository and branch a job runs for.
type IdentityProviderSpec struct {
	Issuer   string          `json:"issuer" hcl:"issuer,required" effect:"in_place" doc:"Address of the issuer, as its tokens name it: \"https://token.actions.githubusercontent.com\" for GitHub Actions, \"https://gitlab.com\" for GitLab. The masters fetch its keys from there."`
	Audience string          `json:"audience" hcl:"audience,required" effect:"in_place" doc:"Whom tokens must be meant for. Choose a name of your own for each cluster; a token for another is refused."`
	CA       string          `json:"ca,omitempty" hcl:"ca" effect:"in_place" doc:"Certificates, in PEM, by which the issuer proves to be itself. Default: those that the masters' machines trust."`
	Logins   []ProviderLogin `json:"logins" hcl:"login,block" effect:"in_place" doc:"Who may log in, as what. Of several that a token fits, the first counts unless it is asked for another."`
}

// ProviderLogin turns tokens with certain claims into an identity of a role.
type ProviderLogin struct {
	Name      string            `json:"name" hcl:"name,label" doc:"Name of the login. With the provider's it is the name of who logs in: github-deploy."`
	Role      string            `json:"role" hcl:"role,required" enum:"admin,planner" doc:"What it entitles to. A planner sees everything but secrets, and plans; it writes nothing."`
	Claims    map[string]string `json:"claims" hcl:"claims,required" doc:"What a token must say, all of it: claim and value. A value may end in * for any continuation."`
	NameClaim string            `json:"name_claim,omitempty" hcl:"name_claim" doc:"A claim whose value is appended to the name, so that histories tell who it was: \"actor\" for GitHub, \"user_login\" for GitLab."`
	TTL       Duration          `json:"ttl" hcl:"ttl" default:"1h" doc:"How long one login is good for, 12h at most. It cannot be renewed."`
}

// IdentityProvider lets jobs of a CI system in without a stored secret.
type IdentityProvider struct {
	Meta `json:"meta"`
	Spec IdentityProviderSpec `json:"spec"`
}

func (o *IdentityProvider) SpecPtr() any   { return &o.Spec }
func (o *IdentityProvider) StatusPtr() any { return nil }
func (o *IdentityProvider) Clone() Object  { c := *o; return &c }

// longestLogin bounds a login: nobody can take the certificate back but by
// removing the login.
const longestLogin = 12 * time.Hour

// issuers are well-known ones that serve everybody in the world, and the claims
// that tell whose job it is. Without one of them anybody could log in. GitHub's
// job_workflow_ref is not among them: it names a reusable workflow, and anybody's
// repository may call one that is public.
var issuers = map[string][]string{
	"https://token.actions.githubusercontent.com": {"repository", "repository_id", "repository_owner", "repository_owner_id", "sub", "enterprise", "enterprise_id"},
	"https://gitlab.com":                          {"project_path", "project_id", "namespace_path", "namespace_id", "sub", "user_login", "user_id"},
}

var claimForm = regexp.MustCompile(`^[A-Za-z0-9_./:-]{1,200}$`)

func (s *IdentityProviderSpec) check(c *checker, at *step) {
	u, err := url.Parse(s.Issuer)
	if s.Issuer != "" && (err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname()))) {
		c.fail(at.to("issuer"), "Wrong issuer", "%q is no address that begins with https://. Keys that come without TLS could be anybody's.", s.Issuer)
	}
	if len(s.Logins) == 0 {
		c.fail(at.to("login"), "Missing block", "Without a login block nobody can log in: login \"NAME\" { … }.")
	}
	for i := range s.Logins {
		l := &s.Logins[i]
		here := &step{up: at, name: "login", label: l.Name, key: true}
		if l.TTL.D() < time.Minute || l.TTL.D() > longestLogin {
			c.fail(here.to("ttl"), "Wrong duration", "A login is good for 1m to 12h.")
		}
		if l.Claims == nil {
			continue // told already: it is required
		}
		if len(l.Claims) == 0 {
			c.fail(here.to("claims"), "Everybody could log in", "Every token of %s would do. Say what a token must tell, by one claim at least.", s.Issuer)
			continue
		}
		for _, name := range sortedKeys(l.Claims) {
			want := l.Claims[name]
			where := &step{up: here, name: "claims", label: name, key: true}
			if !claimForm.MatchString(name) {
				c.fail(where, "Wrong claim", "%q is not the name of a claim.", name)
			}
			if want == "" || want == "*" {
				c.fail(where, "Wrong claim", "%q lets every value pass. Leave the claim out, or say what it must be.", want)
			} else if i := strings.IndexByte(want, '*'); i >= 0 && i != len(want)-1 {
				c.fail(where, "Wrong claim", "%q has a * before its end. Only the end of a value can be left open: \"refs/tags/*\".", want)
			}
		}
		whose := issuers[strings.TrimSuffix(s.Issuer, "/")]
		if whose != nil && !slices.ContainsFunc(whose, func(claim string) bool { return tellsWhose(l.Claims[claim]) }) {
			c.fail(here.to("claims"), "Everybody could log in", "%s gives tokens to everybody who has an account there. Say whose jobs may log in, by one of the claims %s, with a value that names at least the owner: \"OWNER/REPO\" or \"OWNER/*\".", s.Issuer, strings.Join(whose, ", "))
		}
	}
}

// tellsWhose reports whether a claim's value leaves open at most what comes behind
// an owner: "acme/*", not "ac*".
func tellsWhose(want string) bool {
	before, open := strings.CutSuffix(want, "*")
	return before != "" && (!open || strings.HasSuffix(before, "/") && strings.Trim(before, "/") != "")
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// Unmet are the conditions that claims do not fulfil, as "ref is refs/heads/x", in
// order of their names. What a login wants instead is for its owner to know.
func (l *ProviderLogin) Unmet(claims map[string]any) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(l.Claims)) {
		if !claimFits(claims[name], l.Claims[name]) {
			said := "missing"
			if v, ok := claims[name]; ok {
				said = ClaimText(v)
			}
			out = append(out, name+" is "+said)
		}
	}
	return out
}

// claimFits compares a claim with a condition; of a list, one element is enough.
func claimFits(v any, want string) bool {
	if v == nil {
		return false
	}
	if list, ok := v.([]any); ok {
		return slices.ContainsFunc(list, func(x any) bool { return claimFits(x, want) })
	}
	text := ClaimText(v)
	if prefix, open := strings.CutSuffix(want, "*"); open {
		return strings.HasPrefix(text, prefix)
	}
	return text == want
}

// ClaimText is a claim as conditions see it: a text as it is, all else as JSON.
func ClaimText(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}

// LoginRequest turns an identity token into a certificate for a while.
type LoginRequest struct {
	Token string `json:"token"`           // a JWT of an issuer that an identity provider trusts
	Login string `json:"login,omitempty"` // which of the provider's logins; empty: the first that it fits
	CSR   string `json:"csr"`             // PEM, PKCS #10
}
