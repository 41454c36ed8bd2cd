package dns

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"
)

const (
	// maxUnderWay bounds the questions that wait for others.
	maxUnderWay = 1024
	maxTries    = 3
)

// forwarder asks name servers outside, each question once at a time, and keeps
// what they answer. Other servers mean another forwarder, with an empty cache.
type forwarder struct {
	upstreams []*upstream
	cache     *cache
	flights   singleflight.Group
	slots     chan struct{}
	timing    timing
	metrics   *metrics

	ctx  context.Context // of everything under way
	stop context.CancelFunc
	work sync.WaitGroup // examinations
}

func newForwarder(addrs []string, t timing, m *metrics, log *slog.Logger) *forwarder {
	f := &forwarder{cache: newCache(cacheEntries), slots: make(chan struct{}, maxUnderWay), timing: t, metrics: m}
	f.ctx, f.stop = context.WithCancel(context.Background())
	for _, a := range addrs {
		f.upstreams = append(f.upstreams, newUpstream(a, t, log))
	}
	return f
}

func (f *forwarder) close() {
	f.stop()
	f.work.Wait()
}

// examine finds out, in the background, about servers: all, or those that fail.
func (f *forwarder) examine(all bool) {
	for _, u := range f.upstreams {
		if all || u.sick() {
			f.work.Add(1)
			u.examine(f.ctx, f.work.Done)
		}
	}
}

// looped takes the names that examine asks for, should they come back.
func (f *forwarder) looped(name string) bool {
	if !strings.HasSuffix(name, "."+loopDomain) {
		return false
	}
	for _, u := range f.upstreams {
		if u.probe == name {
			u.cameBack()
			return true
		}
	}
	return false
}

// trouble is nil as long as some server may be asked.
func (f *forwarder) trouble() error {
	var why []string
	for _, u := range f.upstreams {
		t := u.trouble()
		if t == "" {
			return nil
		}
		why = append(why, t)
	}
	if len(why) == 0 {
		return errNoServers("there is no name server to ask")
	}
	return errNoServers("name server " + strings.Join(why, ", name server "))
}

// resolve answers from the cache or from outside.
func (f *forwarder) resolve(q question) reply {
	if e := f.cache.get(q); e != nil {
		f.metrics.hits.Inc()
		return e.reply()
	}
	f.metrics.misses.Inc()
	// One question serves all who ask the same while it is under way. If it comes
	// back here by way of others, it waits for itself and so ends after one round.
	v, _, _ := f.flights.Do(q.key(), func() (any, error) {
		if e := f.cache.get(q); e != nil { // of a flight that has just ended
			return e, nil
		}
		return f.fetch(q), nil
	})
	return v.(*entry).reply()
}

func (q question) key() string {
	flags := byte('0')
	if q.do {
		flags |= 1
	}
	if q.cd {
		flags |= 2
	}
	return string([]byte{byte(q.qtype >> 8), byte(q.qtype), flags}) + q.name
}

func (f *forwarder) fetch(q question) *entry {
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	default:
		return failed("too many questions to name servers outside are under way")
	}
	ctx, cancel := context.WithTimeout(f.ctx, f.timing.total)
	defer cancel()
	m, why := f.ask(ctx, q)
	switch {
	case ctx.Err() != nil && f.ctx.Err() != nil:
		return failed("this name server is stopping")
	case m == nil:
		return f.cache.keepFailure(q, why)
	}
	m.Extra = slices.DeleteFunc(m.Extra, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeOPT })
	return f.cache.keep(q, m)
}

// failed is an answer for now only.
func failed(why string) *entry {
	m := new(dns.Msg)
	m.Rcode = dns.RcodeServerFailure
	return &entry{msg: m, stored: time.Now(), why: why}
}

// ask asks one server after the other, in their order; a single one gets a
// second chance, for a packet may have been lost.
func (f *forwarder) ask(ctx context.Context, q question) (m *dns.Msg, why string) {
	now := time.Now()
	var able []*upstream
	for _, u := range f.upstreams {
		if u.usable(now) {
			able = append(able, u)
		}
	}
	if len(able) == 0 {
		if err := f.trouble(); err != nil {
			return nil, err.Error()
		}
		return nil, errNoServers("all name servers are down").Error()
	}
	refused := map[*upstream]bool{} // answered that it cannot: asking again is of no use
	for i := range min(maxTries, max(2, len(able))) {
		u := able[i%len(able)]
		if refused[u] || ctx.Err() != nil {
			continue
		}
		r, err := u.ask(ctx, q)
		if err != nil {
			if f.ctx.Err() != nil {
				return nil, ""
			}
			u.failed(err)
			f.metrics.failures.WithLabelValues(u.addr).Inc()
			why = errNoServers("name server " + u.addr + " " + reason(err)).Error()
			continue
		}
		u.ok()
		if r.Rcode == dns.RcodeSuccess || r.Rcode == dns.RcodeNameError {
			return r, ""
		}
		refused[u] = true
		f.metrics.failures.WithLabelValues(u.addr).Inc()
		why = "name server " + u.addr + " answered " + dns.RcodeToString[r.Rcode]
	}
	return nil, why
}

// upstreamAddrs are the servers to ask, as ADDRESS:PORT, in order: those that the
// network names, else those of the machine, never the server itself.
func upstreamAddrs(named, machine []string, own []netip.AddrPort) []string {
	list := named
	if len(list) == 0 {
		list = machine
	}
	var out []string
	for _, text := range list {
		at, err := netip.ParseAddrPort(text)
		if err != nil {
			a, err := netip.ParseAddr(text)
			if err != nil {
				continue // the network has been validated; of a resolv.conf the rest still counts
			}
			at = netip.AddrPortFrom(a, 53)
		}
		at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
		if slices.Contains(own, at) || slices.Contains(out, at.String()) {
			continue
		}
		out = append(out, at.String())
	}
	return out
}
