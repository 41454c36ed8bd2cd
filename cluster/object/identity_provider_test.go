package object

import (
	"strings"
	"testing"
	"time"
)

// Whatever would let more people in than was meant is refused.
func TestIdentityProviderCheck(t *testing.T) {
	const github = "https://token.actions.githubusercontent.com"
	login := func(claims map[string]string) []ProviderLogin {
		return []ProviderLogin{{Name: "x", Role: "planner", Claims: claims, TTL: Duration(time.Hour)}}
	}
	for _, c := range []struct {
		what  string
		spec  IdentityProviderSpec
		wants string // empty: good
	}{
		{"good", IdentityProviderSpec{Issuer: github, Audience: "a", Logins: login(map[string]string{"repository": "acme/shop", "ref": "refs/tags/*"})}, ""},
		{"an owner's", IdentityProviderSpec{Issuer: github, Audience: "a", Logins: login(map[string]string{"repository": "acme/*"})}, ""},
		{"by number", IdentityProviderSpec{Issuer: "https://gitlab.com", Audience: "a", Logins: login(map[string]string{"project_id": "42"})}, ""},
		{"one's own", IdentityProviderSpec{Issuer: "https://git.acme.example", Audience: "a", Logins: login(map[string]string{"ref": "main"})}, ""},
		{"a test's", IdentityProviderSpec{Issuer: "http://127.0.0.1:80/x", Audience: "a", Logins: login(map[string]string{"ref": "main"})}, ""},
		{"everybody", IdentityProviderSpec{Issuer: github, Audience: "a", Logins: login(map[string]string{"ref": "refs/heads/main"})}, `login["x"].claims: Everybody could log in`},
		{"everybody, with a slash", IdentityProviderSpec{Issuer: github + "/", Audience: "a", Logins: login(map[string]string{"ref": "refs/heads/main"})}, `login["x"].claims: Everybody could log in`},
		{"half an owner", IdentityProviderSpec{Issuer: github, Audience: "a", Logins: login(map[string]string{"repository": "ac*"})}, "Everybody could log in"},
		{"everybody who calls a workflow", IdentityProviderSpec{Issuer: github, Audience: "a", Logins: login(map[string]string{"job_workflow_ref": "acme/ci/.github/workflows/deploy.yml@refs/heads/main"})}, "Everybody could log in"},
		{"an owner's, by one workflow", IdentityProviderSpec{Issuer: github, Audience: "a", Logins: login(map[string]string{"job_workflow_ref": "acme/ci/.github/workflows/deploy.yml@refs/heads/main", "repository_owner": "acme"})}, ""},
		{"any subject", IdentityProviderSpec{Issuer: github, Audience: "a", Logins: login(map[string]string{"sub": "repo:*"})}, "Everybody could log in"},
		{"no claims", IdentityProviderSpec{Issuer: github, Audience: "a", Logins: login(nil)}, `"claims" is needed`},
		{"an empty list of claims", IdentityProviderSpec{Issuer: github, Audience: "a", Logins: login(map[string]string{})}, `login["x"].claims: Everybody could log in`},
		{"an empty list of claims, at one's own", IdentityProviderSpec{Issuer: "https://git.acme.example", Audience: "a", Logins: login(map[string]string{})}, `login["x"].claims: Everybody could log in`},
		{"any value", IdentityProviderSpec{Issuer: "https://x", Audience: "a", Logins: login(map[string]string{"ref": "*"})}, `login["x"].claims["ref"]: Wrong claim`},
		{"a * inside", IdentityProviderSpec{Issuer: "https://x", Audience: "a", Logins: login(map[string]string{"ref": "a*b"})}, "a * before its end"},
		{"without TLS", IdentityProviderSpec{Issuer: "http://git.acme.example", Audience: "a", Logins: login(map[string]string{"ref": "main"})}, "issuer: Wrong issuer"},
		{"no login", IdentityProviderSpec{Issuer: "https://x", Audience: "a"}, "Missing block"},
		{"too long", IdentityProviderSpec{Issuer: "https://x", Audience: "a", Logins: []ProviderLogin{{Name: "x", Role: "admin", Claims: map[string]string{"a": "b"}, TTL: Duration(13 * time.Hour)}}}, `login["x"].ttl: Wrong duration`},
		{"of a machine's role", IdentityProviderSpec{Issuer: "https://x", Audience: "a", Logins: []ProviderLogin{{Name: "x", Role: "master", Claims: map[string]string{"a": "b"}, TTL: Duration(time.Hour)}}}, `login["x"].role: Unknown value`},
	} {
		var lines []string
		for _, d := range Validate(&IdentityProvider{Meta: Meta{Kind: KindIdentityProvider, Name: "ci"}, Spec: c.spec}) {
			lines = append(lines, d.Path+": "+d.Summary+": "+d.Detail)
		}
		if all := strings.Join(lines, "\n"); c.wants == "" && all != "" || !strings.Contains(all, c.wants) {
			t.Errorf("%s: %q, want %q", c.what, all, c.wants)
		}
	}
}
