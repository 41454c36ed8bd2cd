// Package registries asks image registries which content a tag stands for, so that a
// plan can say so. It fetches no image and knows no cluster: names go in, digests or
// the reasons why there is none come out. It is the client's; nodes pull by
// node/runtime, with the credentials of the cluster.
package registries

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
)

// Answer is what a registry says of one image.
type Answer struct {
	Digest string
	Gone   bool   // the registry has no such image
	Why    string // there is no digest
}

// Bounds of one question, for a plan should not wait for a registry that is away.
const (
	together = 8
	most     = 200
)

// Digests asks for each image, until ctx ends. A registry that cannot be reached is
// not asked again.
func Digests(ctx context.Context, images []string) map[string]Answer {
	out := make(map[string]Answer, len(images))
	if len(images) > most {
		for _, image := range images[most:] {
			out[image] = Answer{Why: "there are too many images to ask for all"}
		}
		images = images[:most]
	}
	a := asker{resolver: resolver(Credentials()), away: map[string]bool{}}
	answers := make([]Answer, len(images))
	var wg sync.WaitGroup
	slots := make(chan struct{}, together)
	for i, image := range images {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			answers[i] = a.ask(ctx, image)
		})
	}
	wg.Wait()
	for i, image := range images {
		out[image] = answers[i]
	}
	return out
}

type asker struct {
	resolver remotes.Resolver

	mu   sync.Mutex
	away map[string]bool // hosts
}

func (a *asker) ask(ctx context.Context, image string) Answer {
	named, err := reference.ParseDockerRef(image)
	if err != nil {
		return Answer{Why: "it is no image reference"}
	}
	host := reference.Domain(named)
	unreachable := Answer{Why: "the registry " + host + " cannot be reached"}
	a.mu.Lock()
	away := a.away[host]
	a.mu.Unlock()
	if away {
		return unreachable
	}
	_, found, err := a.resolver.Resolve(ctx, named.String())
	var status remoteerrors.ErrUnexpectedStatus
	switch text := ""; {
	case err == nil:
		return Answer{Digest: found.Digest.String()}
	case ctx.Err() == nil && errdefs.IsNotFound(err):
		return Answer{Gone: true, Why: "the registry " + host + " has no such image"}
	case errors.As(err, &status) && (status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden),
		errors.Is(err, docker.ErrInvalidAuthorization):
		return Answer{Why: "the registry " + host + " wants credentials that are not here"}
	default:
		text = err.Error()
		if strings.Contains(text, "401 Unauthorized") || strings.Contains(text, "403 Forbidden") || strings.Contains(text, "insufficient_scope") {
			return Answer{Why: "the registry " + host + " wants credentials that are not here"}
		}
	}
	if !errors.As(err, &status) { // it does not even answer
		a.mu.Lock()
		a.away[host] = true
		a.mu.Unlock()
	}
	return unreachable
}

// resolver is the same as the nodes', with a person's credentials.
func resolver(known map[string]Login) remotes.Resolver {
	transport := docker.DefaultHTTPTransport(nil)
	transport.ResponseHeaderTimeout = 5 * time.Second
	client := &http.Client{Transport: transport}
	authorizer := docker.NewDockerAuthorizer(docker.WithAuthClient(client), docker.WithAuthCreds(func(host string) (string, string, error) {
		l := known[host]
		if host == "registry-1.docker.io" { // its API has another name than its images
			for _, name := range []string{"docker.io", "index.docker.io"} {
				if x, ok := known[name]; ok {
					l = x
				}
			}
		}
		return l.Username, l.Password, nil
	}))
	return docker.NewResolver(docker.ResolverOptions{Hosts: docker.ConfigureDefaultRegistries(
		docker.WithClient(client), docker.WithAuthorizer(authorizer),
		docker.WithPlainHTTP(func(host string) (bool, error) { return loopback(host), nil }),
	)})
}

func loopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Login is a name and password.
type Login struct{ Username, Password string }

// Credentials are those that docker login has left in plain: in
// $DOCKER_CONFIG/config.json or ~/.docker/config.json, by host. What cannot be read
// counts as none; the registry then says what it wants.
func Credentials() map[string]Login {
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil
		}
		dir = filepath.Join(home, ".docker")
	}
	b, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil
	}
	var file struct {
		Auths map[string]struct {
			Auth string `json:"auth"`
		} `json:"auths"`
	}
	if json.Unmarshal(b, &file) != nil {
		return nil
	}
	out := map[string]Login{}
	for host, a := range file.Auths {
		plain, err := base64.StdEncoding.DecodeString(a.Auth)
		if err != nil {
			continue
		}
		if name, password, ok := strings.Cut(string(plain), ":"); ok {
			host = strings.TrimPrefix(strings.TrimPrefix(host, "https://"), "http://")
			host, _, _ = strings.Cut(host, "/")
			out[host] = Login{name, password}
		}
	}
	return out
}
