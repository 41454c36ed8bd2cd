package dns

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

const (
	// safeSize is the largest answer over UDP, either way, that no link of today
	// has to cut into pieces.
	safeSize = 1232
	// loopDomain is where the names are with which a server finds out whether what
	// it asks comes back to it. Nobody has it.
	loopDomain = "berth-loop."
	// A name server is down after so many failures in a row over so long a time.
	// One that is merely lossy answers in between.
	downFailures = 3
	// trialPeriod is how often one question finds out whether a server that is
	// down is back.
	trialPeriod = time.Second
)

// timing is how long others are waited for. A client waits for 5 s as a rule: it
// is told of a failure before it gives up.
type timing struct {
	try   time.Duration // one question
	total time.Duration // all servers together
	down  time.Duration // of failures in a row until a server is down
}

var patient = timing{try: time.Second, total: 3 * time.Second, down: 2 * time.Second}

// upstream is one name server outside, and how it has fared.
type upstream struct {
	addr   string // ADDRESS:PORT
	probe  string // a name that only this server makes, to be asked here
	timing timing
	log    *slog.Logger

	mu      sync.Mutex
	fails   int       // since its last answer
	first   time.Time // of them
	trial   time.Time // when it may be tried next, if it is down
	down    bool
	looping bool   // what it is asked comes back here
	why     string // it failed last
	probing bool   // an examination is under way,
	back    bool   // and its question has come back
}

func newUpstream(addr string, t timing, log *slog.Logger) *upstream {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails, as documented
	return &upstream{addr: addr, probe: hex.EncodeToString(b[:]) + "." + loopDomain, timing: t, log: log}
}

// usable reports whether the server may be asked.
func (u *upstream) usable(now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.looping:
		return false
	case !u.down:
		return true
	case now.Before(u.trial):
		return false
	}
	u.trial = now.Add(trialPeriod)
	return true
}

func (u *upstream) ok() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.down {
		u.log.Info("a name server answers again", "server", u.addr)
	}
	u.fails, u.down, u.why = 0, false, ""
}

func (u *upstream) failed(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	if u.fails == 0 {
		u.first = now
	}
	u.fails++
	u.why = reason(err)
	if !u.down && u.fails >= downFailures && now.Sub(u.first) >= u.timing.down {
		u.down, u.trial = true, now.Add(trialPeriod)
		u.log.Warn("a name server is down", "server", u.addr, "why", u.why)
	}
}

// trouble says why the server is of no use, or nothing.
func (u *upstream) trouble() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.looping:
		return u.addr + " leads back to this node"
	case u.down:
		return u.addr + " " + u.why
	}
	return ""
}

// reason is an error without what differs from time to time, such as ports.
func reason(err error) string {
	var ne net.Error
	switch {
	case errors.As(err, &ne) && ne.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "does not answer"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refuses connections"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return "cannot be reached"
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return "fails: " + op.Err.Error()
	}
	return "fails: " + err.Error()
}

// ask asks the server once, over TCP if the answer is too large for UDP.
func (u *upstream) ask(ctx context.Context, q question) (*dns.Msg, error) {
	m := new(dns.Msg)
	m.SetQuestion(q.name, q.qtype)
	m.AuthenticatedData = true // RFC 6840: tell whether the answer has been checked
	m.CheckingDisabled = q.cd
	m.SetEdns0(safeSize, q.do)
	r, err := u.exchange(ctx, "udp", m)
	if err == nil && (r.Rcode == dns.RcodeFormatError || r.Rcode == dns.RcodeNotImplemented) && r.IsEdns0() == nil {
		m.Extra = nil // a server from before EDNS
		r, err = u.exchange(ctx, "udp", m)
	}
	if err == nil && r.Truncated {
		r, err = u.exchange(ctx, "tcp", m)
	}
	return r, err
}

func (u *upstream) exchange(ctx context.Context, network string, m *dns.Msg) (*dns.Msg, error) {
	c := dns.Client{Net: network, Timeout: u.timing.try}
	m.Id = dns.Id()
	conn, err := c.DialContext(ctx, u.addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	// The client honours a deadline of ctx, but not its end.
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	r, _, err := c.ExchangeWithConnContext(ctx, m, conn)
	switch {
	case err != nil:
		return nil, err
	case !r.Response || len(r.Question) > 1:
		return nil, errors.New("it sent something that is not an answer")
	case len(r.Question) == 1 && (!strings.EqualFold(r.Question[0].Name, m.Question[0].Name) || r.Question[0].Qtype != m.Question[0].Qtype):
		return nil, errors.New("it answered another question")
	}
	if len(r.Question) == 0 {
		if r.Rcode == dns.RcodeSuccess {
			return nil, errors.New("it answered no question")
		}
		r.Question = m.Question
	}
	return r, nil
}

// examine asks the server, in the background, for a name that nobody has. Any
// answer shows that it is there; if the question comes back to this very server,
// it leads in a circle. One examination runs at a time; done is called at its end.
func (u *upstream) examine(ctx context.Context, done func()) {
	u.mu.Lock()
	busy, was := u.probing, u.looping
	u.probing = true
	if !busy {
		u.back = false
	}
	u.mu.Unlock()
	if busy {
		done()
		return
	}
	go func() {
		defer done()
		_, err := u.ask(ctx, question{name: u.probe, qtype: dns.TypeTXT})
		u.mu.Lock()
		u.probing, u.looping = false, u.back
		loop := u.looping
		u.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return
		case loop && !was:
			u.log.Error("a name server leads back to this node, so it is not asked any more", "server", u.addr)
		case !loop && was:
			u.log.Info("a name server does not lead back to this node any more", "server", u.addr)
		}
		switch {
		case loop:
		case err != nil:
			u.failed(err)
		default:
			u.ok()
		}
	}()
}

// cameBack notes that a question to the server has come back.
func (u *upstream) cameBack() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.back, u.looping = true, true
}

// sick reports whether the server is worth examining again.
func (u *upstream) sick() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.looping || u.fails > 0
}

// errNoServers is a failure that says what is to be done.
func errNoServers(why string) error {
	return fmt.Errorf("names outside the cluster cannot be resolved: %s; name servers that work belong into \"upstream\" of the network, or into the node's own resolv.conf", why)
}
