package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/pki"
)

// DefaultPort is the port of the masters' API.
const DefaultPort = "7400"

// Config tells where the masters are and who is asking.
type Config struct {
	// Addrs are the masters' API addresses, host or host:port.
	Addrs []string
	// TLS is who we are and whom we trust; see pki.Identity.ClientTLS. With nil, a
	// Token that pins the authority is enough.
	TLS *tls.Config
	// Token authenticates a client that has no certificate.
	Token string
	// Override is a reason to set soft policies aside; it is recorded with what is written.
	Override string
	// OverrideFreeze is the same for freezes.
	OverrideFreeze string
	// Patience is how long to go on trying while no master can answer; default
	// 15 s, negative: one round.
	Patience time.Duration
}

// Client speaks to the masters. It may be used by any number of goroutines.
type Client struct {
	config Config
	addrs  []string
	next   atomic.Uint32 // index of the master that answered last
	http   *http.Client
}

// New makes a client; it does not connect yet.
func New(c Config) (*Client, error) {
	if len(c.Addrs) == 0 {
		return nil, &object.Error{Code: object.CodeInvalid, Message: "no address of a master is known", Hint: "Set BERTH_ADDR, or write a context to ~/.berth/config (berth dev up does)."}
	}
	k := &Client{config: c}
	for _, a := range c.Addrs {
		addr, err := withPort(a)
		if err != nil {
			return nil, err
		}
		k.addrs = append(k.addrs, addr)
	}
	if c.Patience == 0 {
		k.config.Patience = 15 * time.Second
	}
	t := c.TLS
	if t == nil {
		token, err := pki.ParseToken(c.Token)
		if err != nil {
			return nil, &object.Error{Code: object.CodeInvalid, Message: "neither a certificate nor a good token is known: " + err.Error(), Hint: "Set BERTH_TOKEN, or write a context to ~/.berth/config (berth dev up does)."}
		}
		t = pki.PinnedTLS(token)
	}
	if len(k.addrs) > 1 {
		k.next.Store(rand.Uint32N(uint32(len(k.addrs)))) // spread clients over the masters
	}
	k.http = &http.Client{Transport: &http.Transport{
		TLSClientConfig:       t,
		DialContext:           (&net.Dialer{Timeout: 3 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   3 * time.Second,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       90 * time.Second,
		ResponseHeaderTimeout: 0, // contexts bound requests; a watch may be silent
		TLSNextProto:          map[string]func(string, *tls.Conn) http.RoundTripper{},
	}}
	return k, nil
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func withPort(a string) (string, error) {
	a = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(a), "https://"), "/")
	if a == "" || strings.ContainsAny(a, "/ ") {
		return "", object.Errorf(object.CodeInvalid, object.Ref{}, "%q is not the address of a master; write host or host:port", a)
	}
	if _, _, err := net.SplitHostPort(a); err != nil {
		return net.JoinHostPort(strings.Trim(a, "[]"), DefaultPort), nil
	}
	return a, nil
}

// call is one request, in a form that can be sent again.
type call struct {
	method, path string
	query        url.Values
	body         func() (io.ReadCloser, error) // nil: none
	contentType  string
	once         bool   // it must not be sent again after it may have arrived
	repeatable   bool   // twice is the same as once: where nobody knows whether it happened, it is sent again
	upgrade      string // the protocol that the connection is to speak from then on
}

// encode writes the body: plans in their own form, all else as JSON.
func (k *call) encode(in any) ([]byte, error) {
	k.contentType = object.PlanMediaType
	switch x := in.(type) {
	case *object.Plan:
		return object.EncodePlan(x, object.InOrder)
	case object.ApplyRequest:
		return object.EncodeApply(&x, object.InOrder)
	}
	k.contentType = "application/json"
	return json.Marshal(in)
}

// do sends a request to the master that answered last, and on to the others
// while they have no leader or cannot be reached, with growing, jittered pauses,
// until Patience is over. The caller closes the answer's body.
func (c *Client) do(ctx context.Context, k call) (*http.Response, error) {
	began := time.Now()
	deadline := began.Add(c.config.Patience)
	pause := 50 * time.Millisecond
	var last error
	for round := 0; ; round++ {
		for range c.addrs {
			i := c.next.Load() % uint32(len(c.addrs))
			r, err := c.send(ctx, c.addrs[i], k)
			if err == nil {
				return r, nil
			}
			if ctx.Err() != nil {
				return nil, contextError(ctx, last)
			}
			if last = err; !again(err) && !(k.repeatable && object.IsCode(err, object.CodeTimeout)) {
				return nil, err
			}
			c.next.CompareAndSwap(i, (i+1)%uint32(len(c.addrs)))
		}
		wait := pause/2 + rand.N(pause)
		if c.config.Patience < 0 || time.Now().Add(wait).After(deadline) {
			return nil, exhausted(last, len(c.addrs))
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, contextError(ctx, last)
		case <-t.C:
		}
		longest := 300 * time.Millisecond // an election is soon over
		if time.Since(began) > 5*time.Second {
			longest = 2 * time.Second
		}
		pause = min(pause*2, longest)
	}
}

func contextError(ctx context.Context, last error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		e := object.Errorf(object.CodeTimeout, object.Ref{}, "no answer in the time given: %w", ctx.Err())
		if last != nil {
			e.Message += " (" + last.Error() + ")"
		}
		return e
	}
	return ctx.Err()
}

func (c *Client) send(ctx context.Context, addr string, k call) (*http.Response, error) {
	u := url.URL{Scheme: "https", Host: addr, Path: k.path, RawQuery: k.query.Encode()}
	var body io.ReadCloser
	if k.body != nil {
		var err error
		if body, err = k.body(); err != nil {
			return nil, err
		}
	}
	sent := false
	trace := &httptrace.ClientTrace{WroteHeaders: func() { sent = true }}
	r, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), k.method, u.String(), nil)
	if err != nil {
		return nil, object.Errorf(object.CodeInvalid, object.Ref{}, "%w", err)
	}
	if body != nil {
		r.Body, r.GetBody = body, k.body
		r.Header.Set("Content-Type", k.contentType)
	}
	if c.config.Override != "" {
		r.Header.Set(object.OverrideHeader, url.PathEscape(c.config.Override))
	}
	if c.config.OverrideFreeze != "" {
		r.Header.Set(object.FreezeHeader, url.PathEscape(c.config.OverrideFreeze))
	}
	if k.upgrade != "" {
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", k.upgrade)
	}
	if c.config.Token != "" {
		r.Header.Set("Authorization", "Bearer "+c.config.Token)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		e := connectionError(addr, err, sent)
		if k.once && sent && e.Code == object.CodeUnavailable {
			e = object.Errorf(object.CodeTimeout, object.Ref{}, "the connection to %s broke; the request may or may not have been carried out", addr)
		}
		return nil, e
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, readError(resp)
	}
	return resp, nil
}

// exchange sends one JSON value (nil: none) and reads another (nil: ignored).
func (c *Client) exchange(ctx context.Context, method, path string, query url.Values, in, out any) error {
	return c.request(ctx, call{method: method, path: path, query: query, once: method == http.MethodPost}, in, out)
}

func (c *Client) request(ctx context.Context, k call, in, out any) error {
	if in != nil {
		b, err := k.encode(in)
		if err != nil {
			return object.Errorf(object.CodeInvalid, object.Ref{}, "%w", err)
		}
		k.body = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
	}
	r, err := c.do(ctx, k)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(r.Body).Decode(out); err != nil {
		if ctx.Err() != nil {
			return contextError(ctx, nil)
		}
		return object.Errorf(object.CodeUnavailable, object.Ref{}, "the answer to %s %s broke off or cannot be read: %w", k.method, k.path, err)
	}
	return nil
}
