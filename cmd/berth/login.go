package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/pki"
)

// LoginCmd is `berth login`.
type LoginCmd struct {
	JSONFlag
	OIDC      bool   `name:"oidc" required:"" help:"By an identity token: of --token-file, of BERTH_OIDC_TOKEN, or as GitHub Actions gives it to jobs with the permission id-token: write."`
	Pin       string `env:"BERTH_PIN" placeholder:"HASH" help:"What pins the cluster, as berth token pin prints it. Default: that of the cluster in the client configuration."`
	As        string `placeholder:"LOGIN" help:"Which login block of the identity provider; default: the first that the token fits."`
	Audience  string `env:"BERTH_OIDC_AUDIENCE" default:"berth" help:"Whom to ask GitHub for a token for: the audience of the identity provider. Elsewhere, the token has it already."`
	TokenFile string `env:"BERTH_OIDC_TOKEN_FILE" complete:"file" placeholder:"FILE" help:"A file with the identity token."`
}

// Run gets a certificate and writes it beside the client configuration, whose
// current cluster it becomes. The key never leaves this machine.
func (c *LoginCmd) Run(s *session) error {
	path := client.ConfigPath(s.environ)
	file, err := client.ReadFile(path)
	if err != nil {
		return err
	}
	name := s.flags.Cluster
	if name == "" {
		name = file.Current
	}
	if name == "" {
		name = "ci"
	}
	if err := pki.CheckName(name); err != nil {
		return &object.Error{Code: object.CodeInvalid, Message: "--cluster: " + err.Error()}
	}
	x := file.Clusters[name]
	if s.flags.Address != "" {
		x.Addresses = client.Addresses(s.flags.Address)
	}
	if len(x.Addresses) == 0 {
		return &object.Error{Code: object.CodeInvalid, Message: "no address of a master is known", Hint: "Set BERTH_ADDR, or give --address."}
	}
	pin := strings.ToLower(strings.TrimSpace(c.Pin))
	if pin == "" {
		if pin, err = client.Pin(name, s.environ); err != nil {
			return &object.Error{Code: object.CodeInvalid, Message: "nothing pins the cluster, so anybody could pass for its masters", Hint: "Set BERTH_PIN to what berth token pin prints where the cluster is known."}
		}
	}
	if !pinForm.MatchString(pin) {
		return &object.Error{Code: object.CodeInvalid, Message: "the pin is no hash of 64 hexadecimal digits", Hint: "Copy the whole of what berth token pin prints."}
	}
	token, err := c.token(s)
	if err != nil {
		return err
	}
	cl, err := client.New(client.Config{Addrs: x.Addresses, TLS: pki.PinnedTLS(pki.Token{CAHash: pin})})
	if err != nil {
		return err
	}
	defer cl.Close()
	key, csr, err := pki.NewRequest("login") // the masters choose the name
	if err != nil {
		return err
	}
	joined, err := cl.Login(s.ctx, object.LoginRequest{Token: token, Login: c.As, CSR: string(csr)})
	if err != nil {
		return err
	}
	dir := filepath.Join("pki", "login-"+name)
	files := pki.Files{Dir: filepath.Join(filepath.Dir(path), dir)}
	if err := files.SaveRoot([]byte(joined.CA)); err != nil {
		return err
	}
	if err := files.SaveIdentity([]byte(joined.Certificate), key); err != nil {
		return err
	}
	file.Clusters[name] = client.Context{Addresses: x.Addresses, CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, "tls.pem")}
	file.Current = name
	if err := file.Write(path); err != nil {
		return err
	}
	if s.environ("BERTH_TOKEN") != "" {
		fmt.Fprintln(s.stderr, "Warning: BERTH_TOKEN is set, and goes before this login. Unset it.")
	}
	if c.JSON {
		return s.json(loggedIn{Name: joined.Name, Role: joined.Role, Expires: joined.Expires, Cluster: name})
	}
	fmt.Fprintf(s.stdout, "Logged in as %s (%s) until %s.\n", joined.Name, joined.Role, joined.Expires.UTC().Format("15:04:05 MST"))
	return nil
}

// loggedIn is what login prints for machines.
type loggedIn struct {
	Name    string      `json:"name"`
	Role    object.Role `json:"role"`
	Expires time.Time   `json:"expires"`
	Cluster string      `json:"cluster"`
}

var pinForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// token is the identity token of this job.
func (c *LoginCmd) token(s *session) (string, error) {
	if c.TokenFile != "" {
		b, err := os.ReadFile(c.TokenFile)
		return strings.TrimSpace(string(b)), err
	}
	if t := s.env("BERTH_OIDC_TOKEN"); t != "" {
		return strings.TrimSpace(t), nil
	}
	at, bearer := s.env("ACTIONS_ID_TOKEN_REQUEST_URL"), s.env("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
	if at == "" || bearer == "" {
		return "", &object.Error{Code: object.CodeInvalid, Message: "there is no identity token here",
			Hint: "In GitHub Actions, give the job permissions: { id-token: write }; in GitLab CI, id_tokens: { BERTH_OIDC_TOKEN: { aud: berth } }; elsewhere, set BERTH_OIDC_TOKEN or --token-file."}
	}
	return githubToken(s.ctx, at, bearer, c.Audience)
}

// githubToken asks the runner for the job's token.
func githubToken(ctx context.Context, at, bearer, audience string) (string, error) {
	u, err := url.Parse(at)
	if err != nil {
		return "", fmt.Errorf("ACTIONS_ID_TOKEN_REQUEST_URL: %w", err)
	}
	q := u.Query()
	q.Set("audience", audience)
	u.RawQuery = q.Encode()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", fmt.Errorf("ACTIONS_ID_TOKEN_REQUEST_URL: %w", err)
	}
	r.Header.Set("Authorization", "Bearer "+bearer)
	r.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", fmt.Errorf("asking GitHub for the job's identity token: %w", err)
	}
	defer resp.Body.Close()
	var out struct {
		Value string `json:"value"`
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("asking GitHub for the job's identity token: %s", resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&out); err != nil || out.Value == "" {
		return "", fmt.Errorf("asking GitHub for the job's identity token: the answer has none")
	}
	return out.Value, nil
}

// TokenPinCmd is `berth token pin`.
type TokenPinCmd struct{ JSONFlag }

// Run prints the pin alone on standard output, for scripts.
func (c *TokenPinCmd) Run(s *session) error {
	pin, err := client.Pin(s.flags.Cluster, s.environ)
	if err != nil {
		return err
	}
	if c.JSON {
		return s.json(map[string]string{"pin": pin})
	}
	fmt.Fprintln(s.stdout, pin)
	return nil
}
