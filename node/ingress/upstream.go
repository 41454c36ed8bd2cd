package ingress

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// upstreamKey is everything that connections to a pod depend on.
type upstreamKey struct {
	pod      string // namespace/name
	address  string // host:port
	protocol string // http, h2c, https
	connect  time.Duration
	answer   time.Duration // for the first byte
}

// upstream is a port of a pod with the connections to it. It outlives tables: the
// same pod keeps its connections and counts from table to table, until the first
// table that does not lead to it.
type upstream struct {
	key       upstreamKey
	transport *http.Transport
	cookie    string // what a sticky client is given for it
	revision  string // the set that the pod is of

	users   int // compiled ingresses that lead here; under Server.mu
	active  atomic.Int64
	pending atomic.Int64
	left    atomic.Bool
	drained chan struct{} // closed once left and nothing pending
	once    sync.Once
}

func newUpstream(k upstreamKey) *upstream {
	sum := sha256.Sum256([]byte(k.pod))
	return &upstream{key: k, transport: newTransport(k), cookie: hex.EncodeToString(sum[:8]), revision: revisionOf(k.pod), drained: make(chan struct{})}
}

// revisionOf is the replica set of a pod, whose name is SET-ORDINAL; a bare pod is
// its own.
func revisionOf(pod string) string {
	name := pod[strings.IndexByte(pod, '/')+1:]
	if i := strings.LastIndexByte(name, '-'); i > 0 && strings.Trim(name[i+1:], "0123456789") == "" {
		return name[:i]
	}
	return name
}

func (u *upstream) namespace() string {
	namespace, _, _ := strings.Cut(u.key.pod, "/")
	return namespace
}

// acquire takes the pod for a request, unless it has left. Counting comes before
// the look at left, and retire does it the other way round: so either the request
// sees that the pod has left, or whoever drains sees the request.
func (u *upstream) acquire() bool {
	u.pending.Add(1)
	if u.left.Load() {
		u.settle()
		return false
	}
	u.active.Add(1)
	return true
}

// settle ends what a drain waits for.
func (u *upstream) settle() {
	if u.pending.Add(-1) == 0 && u.left.Load() {
		u.once.Do(func() { close(u.drained) })
	}
}

// retire gives the pod no new requests. Its idle connections are closed, those
// that are busy as soon as they are idle.
func (u *upstream) retire() {
	u.left.Store(true)
	if u.pending.Load() == 0 {
		u.once.Do(func() { close(u.drained) })
	}
	u.transport.CloseIdleConnections()
}

// connectError is the failure to connect: the pod has seen nothing of the request.
type connectError struct{ error }

func (e *connectError) Unwrap() error { return e.error }

// Timeout tells net.Error's users.
func (e *connectError) Timeout() bool {
	var n net.Error
	return errors.As(e.error, &n) && n.Timeout()
}

// newTransport is how a pod is spoken to. Every pod has a transport of its own, so
// that its connections can be closed when it leaves.
func newTransport(k upstreamKey) *http.Transport {
	d := net.Dialer{Timeout: k.connect, KeepAlive: 30 * time.Second}
	t := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := d.DialContext(ctx, network, address)
			if err != nil {
				return nil, &connectError{err}
			}
			return c, nil
		},
		DisableCompression:     true, // the client says what it takes
		MaxIdleConnsPerHost:    1024,
		IdleConnTimeout:        90 * time.Second,
		ResponseHeaderTimeout:  k.answer,
		TLSHandshakeTimeout:    k.connect,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 1 << 20,
		Protocols:              new(http.Protocols),
	}
	switch k.protocol {
	case "h2c":
		t.Protocols.SetUnencryptedHTTP2(true)
	case "https":
		t.Protocols.SetHTTP1(true)
		t.Protocols.SetHTTP2(true)
		// A pod is asked for by its address, which is in no certificate; the network
		// of the cluster vouches for who answers.
		t.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	default:
		t.Protocols.SetHTTP1(true)
	}
	return t
}
