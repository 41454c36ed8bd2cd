package dns

import (
	"time"

	"github.com/hashicorp/golang-lru/v2"
	"github.com/miekg/dns"
)

const (
	// cacheEntries bounds the cache together with cacheable: 16 MiB on the wire.
	cacheEntries = 4096
	cacheable    = 4096 // bytes of an answer; larger ones are rare and asked for again

	maxTTL         = time.Hour       // however long the world may keep it
	maxNegativeTTL = 5 * time.Minute // a name that was forgotten may come soon
	failureTTL     = time.Second     // RFC 9520: a failure is not asked for again at once
)

// question is what an answer from outside depends on.
type question struct {
	name   string // lower case
	qtype  uint16
	do, cd bool // DNSSEC: records wanted, unchecked answers wanted
}

// entry is an answer from outside; it is not written into.
type entry struct {
	msg     *dns.Msg // without OPT
	stored  time.Time
	expires time.Time
	why     string // of a failure
}

// cache keeps the answers that were asked for last, as long as they hold.
type cache struct {
	lru *lru.Cache[question, *entry]
}

func newCache(entries int) *cache {
	l, err := lru.New[question, *entry](entries)
	if err != nil {
		panic(err) // a size that is not positive
	}
	return &cache{l}
}

func (c *cache) get(q question) *entry {
	e, ok := c.lru.Get(q)
	if !ok || !time.Now().Before(e.expires) {
		return nil
	}
	return e
}

// keep makes an entry of an answer, and stores it if it may be stored.
func (c *cache) keep(q question, m *dns.Msg) *entry {
	now := time.Now()
	life := lifetime(m)
	e := &entry{msg: m, stored: now, expires: now.Add(life)}
	if life > 0 && m.Len() <= cacheable {
		c.lru.Add(q, e)
	}
	return e
}

// keepFailure remembers for a moment that a question got no answer.
func (c *cache) keepFailure(q question, why string) *entry {
	m := new(dns.Msg)
	m.Rcode = dns.RcodeServerFailure
	now := time.Now()
	e := &entry{msg: m, stored: now, expires: now.Add(failureTTL), why: why}
	c.lru.Add(q, e)
	return e
}

// lifetime is how long an answer holds. What is not there holds as long as the
// zone's SOA record says (RFC 2308), which is cut down to that here; without one
// it does not hold at all.
func lifetime(m *dns.Msg) time.Duration {
	if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return 0
	}
	least, most := uint32(maxTTL/time.Second), uint32(maxNegativeTTL/time.Second)
	for _, rr := range m.Answer {
		least = min(least, rr.Header().Ttl)
	}
	if m.Rcode == dns.RcodeSuccess && answered(m) {
		for _, rr := range m.Ns {
			least = min(least, rr.Header().Ttl)
		}
		return time.Duration(least) * time.Second
	}
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			soa.Hdr.Ttl = min(soa.Hdr.Ttl, soa.Minttl, most)
			return time.Duration(min(least, soa.Hdr.Ttl)) * time.Second
		}
	}
	return 0
}

// answered reports whether there is a record of the type that was asked for, not
// only aliases on the way to it.
func answered(m *dns.Msg) bool {
	for _, rr := range m.Answer {
		if t := rr.Header().Rrtype; t == m.Question[0].Qtype || m.Question[0].Qtype == dns.TypeANY {
			return true
		}
	}
	return false
}

// records copies a section, older by the time that it was kept.
func (e *entry) records(section []dns.RR, now time.Time) []dns.RR {
	if len(section) == 0 {
		return nil
	}
	age := uint32(now.Sub(e.stored) / time.Second)
	out := make([]dns.RR, len(section))
	for i, rr := range section {
		c := dns.Copy(rr)
		h := c.Header()
		h.Ttl = min(h.Ttl, uint32(maxTTL/time.Second))
		h.Ttl -= min(h.Ttl, age)
		out[i] = c
	}
	return out
}

// reply is the entry as an answer of now.
func (e *entry) reply() reply {
	now := time.Now()
	return reply{
		rcode: e.msg.Rcode, answer: e.records(e.msg.Answer, now), ns: e.records(e.msg.Ns, now), extra: e.records(e.msg.Extra, now),
		authenticated: e.msg.AuthenticatedData, why: e.why, source: fromUpstream,
	}
}
