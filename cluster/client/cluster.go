package client

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// Status is the cluster at a glance.
func (c *Client) Status(ctx context.Context) (object.ClusterStatus, error) {
	var out object.ClusterStatus
	err := c.exchange(ctx, http.MethodGet, "/v1/status", nil, nil, &out)
	return out, err
}

// Join turns a token into a certificate.
func (c *Client) Join(ctx context.Context, r object.JoinRequest) (object.Joined, error) {
	var out object.Joined
	err := c.exchange(ctx, http.MethodPost, "/v1/join", nil, r, &out)
	return out, err
}

// Login gets a certificate for a while by an identity token of an issuer that the
// cluster trusts.
func (c *Client) Login(ctx context.Context, r object.LoginRequest) (object.Joined, error) {
	var out object.Joined
	err := c.exchange(ctx, http.MethodPost, "/v1/login", nil, r, &out)
	return out, err
}

// Renew gets a new certificate of the same name and role.
func (c *Client) Renew(ctx context.Context, csrPEM []byte) (object.Joined, error) {
	var out object.Joined
	err := c.exchange(ctx, http.MethodPost, "/v1/renew", nil, object.RenewRequest{CSR: string(csrPEM)}, &out)
	return out, err
}

// CreateToken makes a token. It is in the answer and nowhere else.
func (c *Client) CreateToken(ctx context.Context, r object.TokenRequest) (object.IssuedToken, error) {
	var out object.IssuedToken
	err := c.exchange(ctx, http.MethodPost, "/v1/tokens", nil, r, &out)
	return out, err
}

// Tokens lists the tokens, without their secrets.
func (c *Client) Tokens(ctx context.Context) ([]*object.Token, error) {
	return List[*object.Token](ctx, c, object.KindToken, ListOptions{})
}

// RevokeToken makes a token worthless. Certificates got by it stay good.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	_, err := c.Delete(ctx, object.Ref{Kind: object.KindToken, Name: id}, 0)
	return err
}

// RotateKeys makes the masters seal secrets by a new key from now on and returns
// its id. What is sealed already stays readable.
func (c *Client) RotateKeys(ctx context.Context) (string, error) {
	var out struct {
		Primary string `json:"primary"`
	}
	err := c.exchange(ctx, http.MethodPost, "/v1/keyring/rotate", nil, nil, &out)
	return out.Primary, err
}

// Masters lists the members of the control plane.
func (c *Client) Masters(ctx context.Context) ([]object.Master, error) {
	var out struct {
		Items []object.Master `json:"items"`
	}
	err := c.exchange(ctx, http.MethodGet, "/v1/masters", nil, nil, &out)
	return out.Items, err
}

// AddMaster makes a master a member, for the master itself to call.
func (c *Client) AddMaster(ctx context.Context, m object.Master) error {
	return c.exchange(ctx, http.MethodPost, "/v1/masters", nil, m, nil)
}

// RemoveMaster ends a master's membership.
func (c *Client) RemoveMaster(ctx context.Context, name string) error {
	return c.exchange(ctx, http.MethodDelete, "/v1/masters/"+name, nil, nil, nil)
}

// LogOptions choose what of a pod's log to read.
type LogOptions struct {
	Container string // empty: the pod's only one, or its first
	Follow    bool
	Tail      int  // the last lines; negative: all
	Previous  bool // of the container before its last restart
	Since     time.Duration
}

// Logs reads a pod's log from its node. The caller closes it.
func (c *Client) Logs(ctx context.Context, pod object.Ref, o LogOptions) (io.ReadCloser, error) {
	q := url.Values{}
	if o.Container != "" {
		q.Set("container", o.Container)
	}
	if o.Follow {
		q.Set("follow", "true")
	}
	if o.Tail >= 0 {
		q.Set("tail", strconv.Itoa(o.Tail))
	}
	if o.Previous {
		q.Set("previous", "true")
	}
	if o.Since > 0 {
		q.Set("since", o.Since.String())
	}
	p, err := path(pod)
	if err != nil {
		return nil, err
	}
	r, err := c.do(ctx, call{method: http.MethodGet, path: p + "/logs", query: q})
	if err != nil {
		return nil, err
	}
	return r.Body, nil
}

// Forward opens a stream to a port of a pod. The caller closes it.
func (c *Client) Forward(ctx context.Context, pod object.Ref, port int) (io.ReadWriteCloser, error) {
	p, err := path(pod)
	if err != nil {
		return nil, err
	}
	r, err := c.do(ctx, call{method: http.MethodGet, path: p + "/forward", query: url.Values{"port": {strconv.Itoa(port)}}, upgrade: object.ForwardProtocol})
	if err != nil {
		return nil, err
	}
	stream, ok := r.Body.(io.ReadWriteCloser)
	if !ok || r.StatusCode != http.StatusSwitchingProtocols {
		_ = r.Body.Close() // nobody reads it
		return nil, object.Errorf(object.CodeUnavailable, pod, "the master did not open a stream but answered %s", r.Status)
	}
	return stream, nil
}

// ImportImage gives an OCI or docker archive to every ready node. open is called
// once for each try.
func (c *Client) ImportImage(ctx context.Context, open func() (io.ReadCloser, error)) ([]object.NodeImages, error) {
	var out object.ImagesPage
	err := c.stream(ctx, http.MethodPost, "/v1/images", "application/x-tar", open, &out)
	return out.Items, err
}

// ResolveImages tells which content tags stand for in the cluster, in their order.
func (c *Client) ResolveImages(ctx context.Context, q object.ImageQuestion) (object.ImageAnswer, error) {
	var out object.ImageAnswer
	k := call{method: http.MethodPost, path: "/v1/images/resolve", repeatable: true}
	if err := c.request(ctx, k, q, &out); err != nil {
		return out, err
	}
	if len(out.Images) != len(q.Images) {
		return out, object.Errorf(object.CodeInternal, object.Ref{}, "the master answered for %d images of %d", len(out.Images), len(q.Images))
	}
	return out, nil
}

// Images lists the images of every ready node.
func (c *Client) Images(ctx context.Context) ([]object.NodeImages, error) {
	var out object.ImagesPage
	err := c.exchange(ctx, http.MethodGet, "/v1/images", nil, nil, &out)
	return out.Items, err
}

// SaveSnapshot writes the whole state of the masters, secrets sealed, to w.
func (c *Client) SaveSnapshot(ctx context.Context, w io.Writer) (int64, error) {
	r, err := c.do(ctx, call{method: http.MethodGet, path: "/v1/snapshot"})
	if err != nil {
		return 0, err
	}
	defer r.Body.Close()
	n, err := io.Copy(w, r.Body)
	if err != nil {
		return n, object.Errorf(object.CodeUnavailable, object.Ref{}, "the snapshot broke off after %d bytes: %w", n, err)
	}
	return n, nil
}

// RestoreSnapshot replaces the state of the masters by what SaveSnapshot wrote.
func (c *Client) RestoreSnapshot(ctx context.Context, open func() (io.ReadCloser, error)) error {
	return c.stream(ctx, http.MethodPut, "/v1/snapshot", "application/octet-stream", open, nil)
}

func (c *Client) stream(ctx context.Context, method, path, contentType string, open func() (io.ReadCloser, error), out any) error {
	r, err := c.do(ctx, call{method: method, path: path, body: open, contentType: contentType, once: true})
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(r.Body).Decode(out); err != nil {
		return object.Errorf(object.CodeUnavailable, object.Ref{}, "the answer to %s %s cannot be read: %w", method, path, err)
	}
	return nil
}
