package probe

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// Exec runs a command in the probed container and returns nil when it ended
// with 0. It must end when its context does.
type Exec = func(ctx context.Context, command []string) error

// DefaultLimit is how many commands of a Prober run at once: an exec costs some
// 40 ms of processor time, and many at once would starve the pods. Requests and
// connections cost next to nothing, and are not held up by those that hang.
const DefaultLimit = 16

// Prober runs probes. Its methods may be called at once.
type Prober struct {
	slots chan struct{}
	// try makes one attempt; tests put theirs in.
	try func(ctx context.Context, address string, p *object.Probe, exec Exec) error
}

// New makes a Prober that runs at most limit commands at once; 0 means
// DefaultLimit.
func New(limit int) *Prober {
	if limit <= 0 {
		limit = DefaultLimit
	}
	return &Prober{slots: make(chan struct{}, limit), try: Try}
}

// Watch repeats the probe until ctx ends and calls verdict, from this
// goroutine, each time that the verdict changes: good after Success successes
// in a row, bad after Failure failures in a row, with the last failure's reason.
// Before the first verdict nothing is said.
//
// The ports of p must be numbers. The key spreads the attempts of many probes
// over their period. While nothing has succeeded yet, a failed first attempt is
// followed by a few quick ones within the first period, which do not count as
// failures: a container that comes up fast is seen to be up fast.
func (r *Prober) Watch(ctx context.Context, key, address string, p object.Probe, exec Exec, verdict func(good bool, why string)) {
	period := p.Period.D()
	if period <= 0 {
		period = 5 * time.Second
	}
	period = max(period, object.ShortestPeriod.D())
	var good, known bool
	var successes, failures int
	attempt := func(counts bool) bool {
		err := r.attempt(ctx, address, &p, exec)
		if ctx.Err() != nil {
			return false
		}
		if err == nil {
			successes, failures = successes+1, 0
			if successes >= max(p.Success, 1) && !(known && good) {
				good, known = true, true
				verdict(true, "")
			}
			return true
		}
		if counts {
			successes, failures = 0, failures+1
			if failures >= max(p.Failure, 1) && !(known && !good) {
				good, known = false, true
				verdict(false, err.Error())
			}
		}
		return false
	}
	if !wait(ctx, p.Delay.D()) {
		return
	}
	first := time.Now()
	if !attempt(true) {
		for _, share := range []time.Duration{20, 8, 4, 2} { // period/20 .. period/2 after the first
			if !waitUntil(ctx, first.Add(period/share)) {
				return
			}
			if attempt(false) {
				break
			}
		}
	}
	// The regular attempts are apart by exactly a period; the first of them
	// comes between half a period and a whole one after the start.
	next := first.Add(period/2 + spread(key, period/2))
	for {
		if late := time.Since(next); late >= 0 { // an attempt took longer than a period
			next = next.Add((late/period + 1) * period)
		}
		if !waitUntil(ctx, next) {
			return
		}
		attempt(true)
	}
}

// spread is a length between 0 and d that depends on the key alone.
func spread(key string, d time.Duration) time.Duration {
	sum := sha256.Sum256([]byte(key))
	return time.Duration(float64(d) * float64(binary.BigEndian.Uint32(sum[:])) / (1 << 32))
}

// attempt tries once within the probe's timeout; a command waits for its turn first.
func (r *Prober) attempt(ctx context.Context, address string, p *object.Probe, exec Exec) error {
	if p.Exec != nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r.slots <- struct{}{}:
		}
		defer func() { <-r.slots }()
	}
	timeout := p.Timeout.D()
	if timeout <= 0 {
		timeout = time.Second
	}
	tctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := r.try(tctx, address, p, exec)
	if err != nil && errors.Is(tctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %s", p.Timeout)
	}
	return err
}

// Try makes one attempt within ctx; nil is a success, an error says what was
// wrong in words for people.
func Try(ctx context.Context, address string, p *object.Probe, exec Exec) error {
	switch {
	case p.HTTP != nil:
		return tryHTTP(ctx, address, p.HTTP)
	case p.TCP != nil:
		return tryTCP(ctx, address, p.TCP)
	case p.Exec != nil:
		if exec == nil {
			return errors.New("an exec probe needs a container to run in")
		}
		if len(p.Exec.Command) == 0 {
			return errors.New("an exec probe needs a command to run")
		}
		return exec(ctx, p.Exec.Command)
	}
	return errors.New("the probe has none of http, tcp, exec")
}

// client never reuses a connection (a probe asks whether a new one works), never
// follows a redirect (it is an answer, and a good one) and does not verify
// certificates, as the reference of http probes says.
var client = &http.Client{
	Transport: &http.Transport{
		DisableKeepAlives: true,
		Proxy:             nil,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // documented: a pod's own certificate names a service, not its address
	},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func tryHTTP(ctx context.Context, address string, h *object.HTTPProbe) error {
	scheme := h.Scheme
	if scheme == "" {
		scheme = "http"
	}
	path := h.Path
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	u, err := url.Parse(scheme + "://" + net.JoinHostPort(address, string(h.Port)) + path)
	if err != nil {
		return fmt.Errorf("path %q is not part of a URL: %w", h.Path, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "berth-probe")
	for k, v := range h.Headers {
		if strings.EqualFold(k, "host") {
			req.Host = v
			continue
		}
		req.Header.Set(k, v)
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("GET %s: %w", u, unwrapURL(err))
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 256))
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		first, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
		if first != "" {
			return fmt.Errorf("GET %s answered %s: %s", u, resp.Status, first)
		}
		return fmt.Errorf("GET %s answered %s", u, resp.Status)
	}
	return nil
}

// unwrapURL drops the method and URL that net/http puts before its errors.
func unwrapURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func tryTCP(ctx context.Context, address string, t *object.TCPProbe) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(address, string(t.Port)))
	if err != nil {
		return err
	}
	return c.Close()
}

func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func waitUntil(ctx context.Context, t time.Time) bool { return wait(ctx, time.Until(t)) }
