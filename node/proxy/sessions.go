package proxy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// What the kernel says of a connection of TCP.
const (
	tcpSynSent  = 1
	tcpTimeWait = 7
)

const (
	// answerTime is how long a pod may take to answer the first packet of a
	// connection. It does so at once, unless the packet, or the answer, was lost.
	answerTime = 100 * time.Millisecond
	// goneTime is how long a pod must have been unknown before its connections are
	// cut off: a change may be taken back, and last packets may be under way.
	goneTime = 3 * time.Second
)

// sessions are the connections of TCP to pods that have left a service.
//
// The kernel leads every packet of a connection to the pod that its first one was
// led to, and knows a connection by the caller's address and port. It remembers one
// that was not ended in due form for up to two minutes, one that has said nothing
// yet included; a caller that takes the same port again in that time is led to the
// pod that is gone. So what it remembers is deleted as soon as nobody misses it:
//
//   - when a pod leaves, the callers that it has not answered, for they try again
//     and are led elsewhere. All others stay: one that is answered is about to be
//     established, and one that either side has closed may still carry what the other
//     has to say, or to say again.
//   - when a connection is reset, that one: by the kernel itself, see sysctlReset.
//   - when a pod is gone, all but those that ended in due form, of which there may be
//     tens of thousands: the kernel forgets such a one itself when its port is used again.
type sessions struct {
	fresh map[way]uint64    // pods that left, by which turn; their unanswered callers are to be looked for
	gone  map[way]time.Time // pods that the service does not know any more, and since when
	seen  map[caller]bool   // unanswered callers that the last look has met
	turn  uint64            // of notes
	began time.Time         // the first note
	begun bool              // whether connections of an earlier process have been looked for
}

// way is how callers get to a pod: by an address and port of a service or, without
// an address, by a node port.
type way struct{ by, pod netip.AddrPort }

// caller is one that a pod has not answered.
type caller struct {
	from netip.AddrPort
	way  way
}

// ways are the addresses of a port of TCP.
func (f *flow) ways() []netip.AddrPort {
	switch {
	case f.protocol != unix.IPPROTO_TCP:
		return nil
	case f.nodePort == 0:
		return []netip.AddrPort{netip.AddrPortFrom(f.addr, f.port)}
	}
	return []netip.AddrPort{netip.AddrPortFrom(f.addr, f.port), netip.AddrPortFrom(netip.Addr{}, f.nodePort)}
}

// note takes down whom changes that are in force made leave. To note them twice
// does no harm.
func (s *sessions) note(changes []change, now time.Time) {
	if s.fresh == nil {
		s.fresh, s.gone, s.began = map[way]uint64{}, map[way]time.Time{}, now
	}
	s.turn++
	after := map[netip.AddrPort]map[netip.AddrPort]bool{} // an address may go from one service to another
	each := func(p *part, do func(by netip.AddrPort, f *flow)) {
		if p == nil {
			return
		}
		for i := range p.flows {
			for _, by := range p.flows[i].ways() {
				do(by, &p.flows[i])
			}
		}
	}
	for _, c := range changes {
		each(c.before, func(by netip.AddrPort, _ *flow) { after[by] = nil })
	}
	for _, c := range changes {
		each(c.after, func(by netip.AddrPort, f *flow) {
			if other, ok := after[by]; ok && other == nil { // of two the first one has it
				after[by] = f.pods()
			}
		})
	}
	for _, c := range changes {
		each(c.before, func(by netip.AddrPort, f *flow) {
			for pod, led := range f.pods() {
				w := way{by, pod}
				_, known := after[by][pod]
				switch {
				case after[by] == nil: // no service: whether the pod is there nobody can say
					delete(s.gone, w)
				case !known && s.gone[w].IsZero():
					s.gone[w] = now
				}
				if led {
					s.fresh[w] = s.turn
				}
			}
		})
	}
	for by, pods := range after {
		for pod, led := range pods {
			delete(s.gone, way{by, pod})
			if led {
				delete(s.fresh, way{by, pod})
			}
		}
	}
}

// look is one pass over all connections that the kernel knows.
type look struct {
	fresh   map[way]uint64
	gone    map[way]bool
	seen    map[caller]bool
	all     map[netip.AddrPort]map[netip.AddrPort]bool // the pods behind each address: others are gone
	pods    netip.Prefix                               // the pods of all nodes
	own     map[netip.Addr]bool                        // this node's addresses
	waiting map[caller]bool                            // what it met: unanswered for the first time
}

// next is what to look for now, or nil. Those that are gone are left out unless
// whole, the first time also what an earlier process may have left behind.
func (s *sessions) next(now time.Time, whole bool, l layout, memo []remembered) *look {
	k := &look{fresh: maps.Clone(s.fresh), seen: s.seen, gone: map[way]bool{}, pods: l.pods, waiting: map[caller]bool{}}
	if whole {
		for w, since := range s.gone {
			if now.Sub(since) >= goneTime {
				k.gone[w] = true
			}
		}
		if s.fresh != nil && !s.begun && now.Sub(s.began) >= goneTime && l.pods.IsValid() {
			k.all = map[netip.AddrPort]map[netip.AddrPort]bool{}
			for _, m := range memo {
				for i := range m.part.flows {
					for _, by := range m.part.flows[i].ways() {
						if k.all[by] == nil { // of two the first one has it
							k.all[by] = m.part.flows[i].pods()
						}
					}
				}
			}
		}
	}
	if len(k.fresh)+len(k.gone) == 0 && k.all == nil {
		return nil
	}
	return k
}

// settle takes down what a look has done.
func (s *sessions) settle(k *look) {
	for w := range k.gone {
		delete(s.gone, w)
	}
	again := map[way]bool{}
	for who := range k.waiting {
		again[who.way] = true
	}
	for w, turn := range k.fresh {
		if s.fresh[w] == turn && !again[w] { // else it has left once more meanwhile
			delete(s.fresh, w)
		}
	}
	s.seen, s.begun = k.waiting, s.begun || k.all != nil
}

// ends reports whether the kernel is to forget a connection.
func (k *look) ends(c *connection) bool {
	if c.protocol != unix.IPPROTO_TCP || c.state == tcpTimeWait || c.to == c.pod {
		return false
	}
	by := c.to
	if k.own[by.Addr()] {
		by = netip.AddrPortFrom(netip.Addr{}, by.Port())
	}
	w := way{by, c.pod}
	if k.gone[w] {
		return true
	}
	if pods, ours := k.all[by]; ours && k.pods.Contains(c.pod.Addr()) {
		if _, known := pods[c.pod]; !known {
			return true
		}
	}
	if k.fresh[w] == 0 {
		return false
	}
	if c.state == tcpSynSent {
		who := caller{c.from, w}
		if k.seen[who] {
			return true
		}
		k.waiting[who] = true
	}
	return false
}

// run looks, and deletes.
func (k *look) run() (ended int, err error) {
	if k.own, err = ownAddresses(); err != nil {
		return 0, err
	}
	var doomed [][]byte
	request := func(kind, flags int) *nl.NetlinkRequest {
		r := nl.NewNetlinkRequest(netlink.ConntrackTable<<8|kind, flags)
		r.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_INET, Version: nl.NFNETLINK_V0})
		return r
	}
	// The library makes an object of each connection, which takes seven times as long
	// as this.
	err = request(nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP).ExecuteIter(unix.NETLINK_NETFILTER, 0, func(b []byte) bool {
		var c connection
		if c.read(b) && k.ends(&c) {
			doomed = append(doomed, b[nl.SizeofNfgenmsg:])
		}
		return true
	})
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) { // that one has met all that were there before
		return 0, fmt.Errorf("connections to pods that left a service: %w", err)
	}
	for _, b := range doomed {
		r := request(nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK)
		r.AddRawData(b) // with its number: not another one that has come in its place
		if _, err := r.Execute(unix.NETLINK_NETFILTER, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return ended, fmt.Errorf("ending a connection to a pod that left a service: %w", err)
		}
		ended++
	}
	return ended, nil
}

// connection is what matters of a message of the kernel about one.
type connection struct {
	protocol, state uint8
	from, to        netip.AddrPort // as the caller sees it
	pod             netip.AddrPort // where answers come from
}

// read takes a message apart; false if it is not about IPv4.
func (c *connection) read(b []byte) bool {
	if len(b) < nl.SizeofNfgenmsg {
		return false
	}
	attributes(b[nl.SizeofNfgenmsg:], func(kind uint16, v []byte) {
		switch kind {
		case nl.CTA_TUPLE_ORIG:
			c.from, c.to, c.protocol = tuple(v)
		case nl.CTA_TUPLE_REPLY:
			c.pod, _, _ = tuple(v)
		case nl.CTA_PROTOINFO:
			attributes(v, func(kind uint16, v []byte) {
				if kind != nl.CTA_PROTOINFO_TCP {
					return
				}
				attributes(v, func(kind uint16, v []byte) {
					if kind == nl.CTA_PROTOINFO_TCP_STATE && len(v) > 0 {
						c.state = v[0]
					}
				})
			})
		}
	})
	return c.to.IsValid() && c.pod.IsValid()
}

// tuple is one direction of a connection.
func tuple(b []byte) (from, to netip.AddrPort, protocol uint8) {
	var src, dst netip.Addr
	var sport, dport uint16
	attributes(b, func(kind uint16, v []byte) {
		switch kind {
		case nl.CTA_TUPLE_IP:
			attributes(v, func(kind uint16, v []byte) {
				switch {
				case kind == nl.CTA_IP_V4_SRC && len(v) == 4:
					src = netip.AddrFrom4([4]byte(v))
				case kind == nl.CTA_IP_V4_DST && len(v) == 4:
					dst = netip.AddrFrom4([4]byte(v))
				}
			})
		case nl.CTA_TUPLE_PROTO:
			attributes(v, func(kind uint16, v []byte) {
				switch {
				case kind == nl.CTA_PROTO_NUM && len(v) == 1:
					protocol = v[0]
				case kind == nl.CTA_PROTO_SRC_PORT && len(v) == 2:
					sport = binary.BigEndian.Uint16(v)
				case kind == nl.CTA_PROTO_DST_PORT && len(v) == 2:
					dport = binary.BigEndian.Uint16(v)
				}
			})
		}
	})
	return netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport), protocol
}

// attributes are netlink's: length, kind and value, each from a multiple of four.
func attributes(b []byte, do func(kind uint16, value []byte)) {
	for len(b) >= unix.SizeofNlAttr {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofNlAttr || n > len(b) {
			return
		}
		do(binary.NativeEndian.Uint16(b[2:])&nl.NLA_TYPE_MASK, b[unix.SizeofNlAttr:n])
		b = b[min((n+3)&^3, len(b)):]
	}
}

// Drain lets go of callers that a pod has not answered when it left, so that they
// are led to another: they try again after a second, when it may have stopped.
//
// This is not done in Apply, which must be quick, while a pass over a large table
// takes its time; nor later than this, for after the acknowledgement that waits for
// Drain, a second at most, the pod is told to stop. What fails here Ensure does.
func (s *Services) Drain(ctx context.Context) error {
	for ctx.Err() == nil {
		s.mu.Lock()
		k := s.sessions.next(time.Time{}, false, s.builder.layout, nil)
		s.mu.Unlock()
		if k == nil {
			return nil
		}
		// The lock is free meanwhile: the next change need not wait. If it makes a pod ready
		// again, there is no harm in its unanswered callers being led anew.
		if err := s.look(k); err != nil {
			return err
		}
		if len(k.waiting) == 0 {
			continue // perhaps others have left meanwhile
		}
		select {
		case <-ctx.Done():
		case <-time.After(answerTime):
		}
	}
	return ctx.Err()
}

// look runs one, and takes down what it has done.
func (s *Services) look(k *look) error {
	n, err := k.run()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions.settle(k)
	if n > 0 {
		s.log().Debug("connections to pods that left", "ended", n)
	}
	return nil
}
