package dns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/berthdev/berth/cluster/object"
)

// Config is what a Server is made of. Listen is required.
type Config struct {
	// Listen tells where to answer, over UDP and TCP. It is asked with every view
	// and every few seconds: the addresses may come later than the server.
	Listen func() []netip.AddrPort
	// ResolvConf has the machine's own name servers, for names outside the cluster
	// when the network names none. Default: /etc/resolv.conf.
	ResolvConf string
	Registerer prometheus.Registerer // of its counters; may be nil
	Logger     *slog.Logger          // default: discard
}

// Server answers names. It is a tool of the agent: Apply and Ensure are called
// one after the other; queries are answered all the while.
type Server struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	timing  timing

	zone    atomic.Pointer[zone]
	forward atomic.Pointer[forwarder]
	self    atomic.Pointer[[]netip.Addr] // where it listens

	mu      sync.Mutex // of all below
	sockets map[netip.AddrPort]*socket
	closed  bool
	named   []string // name servers of the network
	machine []string // name servers of the machine, as it said last
	asked   []string // name servers of the forwarder
	told    string   // the trouble that Ensure told last
}

// Open begins to answer, names outside the cluster at once, those of the cluster
// from the first view on. An address that cannot be had yet is no error: Ensure
// tries again and tells.
func Open(c Config) (*Server, error) { return open(c, patient) }

func open(c Config, t timing) (*Server, error) {
	if c.Listen == nil {
		return nil, errors.New("dns: Listen must be set")
	}
	c.ResolvConf = cmp.Or(c.ResolvConf, "/etc/resolv.conf")
	s := &Server{cfg: c, log: cmp.Or(c.Logger, slog.New(slog.DiscardHandler)), timing: t, sockets: map[netip.AddrPort]*socket{}}
	var err error
	if s.metrics, err = newMetrics(c.Registerer); err != nil {
		return nil, fmt.Errorf("dns: %w", err)
	}
	s.zone.Store(emptyZone())
	s.self.Store(&[]netip.Addr{})
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = s.listen() // Ensure tells
	s.refresh()
	return s, nil
}

// Close ends all answers.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if f := s.forward.Load(); f != nil {
		f.close() // first, so that nobody waits for others
	}
	for at, x := range s.sockets {
		x.close()
		delete(s.sockets, at)
	}
	return nil
}

// Purge ends all answers; nothing was ever made on the machine.
func (s *Server) Purge() error { return s.Close() }

// Apply answers from a view from now on.
func (s *Server) Apply(_ context.Context, v *object.NetworkView) error {
	next, notes := s.zone.Load().next(v)
	s.zone.Store(next)
	s.metrics.services.Set(float64(len(next.services)))
	for _, n := range notes {
		s.log.Warn("left out of the answers", "what", n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.named = nil
	if v.Network != nil {
		s.named = v.Network.Spec.Upstream
	}
	_, _ = s.listen() // who cannot be asked gives no wrong answer; Ensure tells
	s.refresh()
	return nil
}

// Ensure listens where it should and does not yet, follows changes of the
// machine's name servers, and finds out whether those that failed are back, which
// it does not wait for. A trouble is told once, and again when it has changed.
func (s *Server) Ensure(context.Context) (mended []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mended, err = s.listen()
	s.refresh()
	f := s.forward.Load()
	outside := f.trouble()
	f.examine(false)
	err = errors.Join(err, outside)
	now := ""
	if err != nil {
		now = err.Error()
	}
	was := s.told
	s.told = now
	switch {
	case now == was:
		return mended, nil
	case now == "":
		return append(mended, "names can be resolved again, inside the cluster and outside"), nil
	}
	return mended, err
}

// Addrs are the addresses that are answered at.
func (s *Server) Addrs() []netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []netip.AddrPort
	for _, x := range s.sockets {
		out = append(out, x.addr)
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return out
}

// listen opens what is to be listened at and is not, and closes the rest. s.mu is
// held.
func (s *Server) listen() (mended []string, err error) {
	if s.closed {
		return nil, nil
	}
	var errs []error
	want := s.cfg.Listen()
	for at, x := range s.sockets {
		if !slices.Contains(want, at) {
			x.close()
			delete(s.sockets, at)
		} else if x.ended() {
			x.close()
			delete(s.sockets, at)
			mended = append(mended, fmt.Sprintf("the name server at %s had stopped listening", at))
		}
	}
	for _, at := range want {
		if s.sockets[at] != nil || !at.Addr().IsValid() {
			continue
		}
		x, err := listen(at, s)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s.sockets[at] = x
		s.log.Info("answering names", "address", x.addr)
	}
	var self []netip.Addr
	for _, x := range s.sockets {
		self = append(self, x.addr.Addr())
	}
	slices.SortFunc(self, netip.Addr.Compare)
	self = slices.Compact(self)
	s.self.Store(&self)
	return mended, errors.Join(errs...)
}

// refresh makes another forwarder when there are other name servers to ask. s.mu
// is held.
func (s *Server) refresh() {
	if s.closed {
		return
	}
	if len(s.named) == 0 {
		if c, err := dns.ClientConfigFromFile(s.cfg.ResolvConf); err == nil {
			s.machine = c.Servers
		} else { // as while it is being replaced: those of before are likely still right
			s.log.Debug("the machine's name servers cannot be read", "error", err)
		}
	}
	own := s.cfg.Listen()
	for _, x := range s.sockets {
		own = append(slices.Clip(own), x.addr)
	}
	addrs := upstreamAddrs(s.named, s.machine, own)
	old := s.forward.Load()
	if old != nil && slices.Equal(addrs, s.asked) {
		return
	}
	s.asked = addrs
	f := newForwarder(addrs, s.timing, s.metrics, s.log)
	s.forward.Store(f)
	f.examine(true)
	if old != nil {
		// What is under way may still be answered by the servers of before.
		time.AfterFunc(s.timing.total, old.close)
	}
}

// ServeDNS answers one query.
func (s *Server) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	size := dns.MinMsgSize
	opt := q.IsEdns0()
	if opt != nil {
		m.SetEdns0(safeSize, opt.Do())
		size = min(max(size, int(opt.UDPSize())), safeSize)
	}
	if _, tcp := w.RemoteAddr().(*net.TCPAddr); tcp {
		size = dns.MaxMsgSize
	}
	r := s.answer(q, opt)
	r.into(m)
	s.metrics.answered(r.source, r.rcode)
	m.Truncate(size)
	if err := w.WriteMsg(m); err != nil {
		s.log.Debug("an answer cannot be sent", "to", w.RemoteAddr(), "question", q.Question[0].String(), "error", err)
		m.Answer, m.Ns, m.Extra, m.Rcode = nil, nil, nil, dns.RcodeServerFailure
		_ = w.WriteMsg(m)
	}
}

// into fills a message that replies to a query.
func (r *reply) into(m *dns.Msg) {
	opt := m.IsEdns0() // the only record so far
	m.Rcode = r.rcode
	m.Authoritative, m.AuthenticatedData = r.authoritative, r.authenticated
	m.Answer, m.Ns, m.Extra = r.answer, r.ns, r.extra
	if opt == nil {
		return
	}
	if r.why != "" {
		opt.Option = append(opt.Option, &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeNoReachableAuthority, ExtraText: r.why})
	}
	m.Extra = append(m.Extra, opt)
}

func (s *Server) answer(q *dns.Msg, opt *dns.OPT) reply {
	ask := q.Question[0]
	switch {
	case opt != nil && opt.Version() != 0:
		return reply{rcode: dns.RcodeBadVers, source: fromNowhere}
	case q.Opcode != dns.OpcodeQuery:
		return reply{rcode: dns.RcodeNotImplemented, source: fromNowhere}
	case ask.Qclass != dns.ClassINET, ask.Qtype == dns.TypeAXFR, ask.Qtype == dns.TypeIXFR:
		return reply{rcode: dns.RcodeRefused, source: fromNowhere}
	}
	do := opt != nil && opt.Do()
	r := s.resolve(ask, q.RecursionDesired, do, q.CheckingDisabled)
	r.authenticated = r.authenticated && (do || q.AuthenticatedData) // RFC 6840, 5.8
	return r
}

// resolve answers a question from one zone, and from outside where that leads.
func (s *Server) resolve(ask dns.Question, recurse, do, cd bool) reply {
	z, f, self := s.zone.Load(), s.forward.Load(), *s.self.Load()
	var aliases []dns.RR
	owner := ask.Name
	for range maxAliases {
		r, ok := z.lookup(owner, ask.Qtype, self)
		if !ok {
			name := strings.ToLower(owner)
			switch {
			case f.looped(name) || !recurse && len(aliases) == 0:
				return reply{rcode: dns.RcodeRefused, source: fromNowhere}
			case !recurse:
				r = reply{source: fromCluster} // the alias is all that is asked for
			default:
				r = f.resolve(question{name, ask.Qtype, do, cd})
			}
		}
		if len(aliases) > 0 {
			r.authoritative, r.authenticated = r.rcode != dns.RcodeServerFailure, false
		}
		if r.alias == "" {
			r.answer = append(aliases, r.answer...)
			return r
		}
		aliases = append(aliases, r.answer...)
		owner = r.alias
	}
	return failure(fromCluster, "external services lead to one another in a circle, or too far")
}
