package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berthdev/berth/cluster/object"
)

// Services leads connections to virtual addresses and node ports to ready pods. The
// kernel's rules are its memory: they serve on while the process is away, and the
// first Apply of the next one writes only what differs.
type Services struct {
	Node   string       // name of this node
	Bridge string       // the interface behind which its pods are; the node itself calls services by it
	Range  netip.Prefix // this node's pods, where the masters have not told it
	Logger *slog.Logger // default: discard

	mu       sync.Mutex
	k        *kernel
	builder  builder
	have     ruleSet  // what our chains hold as far as we know; nil: they must be read
	want     ruleSet  // nil before the first Apply
	kept     []string // chains that are gone but cannot be removed
	printed  prints
	verified uint32     // the kernel's generation at which all was right
	known    bool       // whether verified says anything
	pending  [][]change // whose flows may still go on
	begun    bool       // whether flows of an earlier process have been looked at
	sessions sessions
	problems []string
	looked   time.Time       // when all rules were read
	rest     time.Duration   // until they may be read again: reading many takes a while
	settled  map[string]bool // settings of the machine that were put right once
	routed   bool            // whether the route was made once
}

// restMax is the longest pause between two looks at rules that somebody changes
// again and again.
const restMax = 4 * time.Second

const commentServices = "berth: services"

// serviceJumps are made in this order: those into the tree last, for from then on the
// kernel walks all of it whenever a rule is added.
var serviceJumps = []rule{
	{"nat", "POSTROUTING", []string{"-m", "comment", "--comment", commentServices, "-j", chainMasq}},
	{"nat", "PREROUTING", []string{"-m", "comment", "--comment", commentServices, "-j", chainServices}},
	{"nat", "OUTPUT", []string{"-m", "comment", "--comment", commentServices, "-j", chainServices}},
	{"filter", "FORWARD", []string{"-m", "comment", "--comment", commentServices, "-j", chainReject}},
	{"filter", "FORWARD", []string{"-m", "comment", "--comment", commentServices, "-j", chainPass}},
	{"filter", "OUTPUT", []string{"-m", "comment", "--comment", commentServices, "-j", chainReject}},
	{"filter", "INPUT", []string{"-m", "comment", "--comment", commentServices, "-j", chainClosed}},
}

// Apply puts the services and endpoints of a view in force. Before the masters have
// told of the network nothing is touched.
func (s *Services) Apply(ctx context.Context, v *object.NetworkView) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v.Network == nil {
		return nil
	}
	jumps, err := s.open(ctx)
	if err != nil {
		return err
	}
	l, err := s.layout(ctx, v)
	if err != nil {
		return err
	}
	want, changes := s.builder.build(l, v.Services, v.Endpoints)
	for _, name := range s.kept {
		if _, ok := want["nat"][name]; !ok {
			want["nat"][name] = nil
		}
	}
	s.want = want
	s.pending = append(s.pending, changes)
	if err := s.put(ctx); err != nil {
		return err
	}
	if jumps != nil { // only now: the chains are complete
		if _, err := s.lead(jumps); err != nil {
			s.have = nil // looked at again
			return err
		}
	}
	if err := s.forget(); err != nil {
		return err
	}
	_, problems := s.machine()
	s.report(append(problems, s.builder.problems...))
	return nil
}

// forget ends flows of UDP to pods that the changes since it last succeeded took
// away. The first time it ends those to addresses that no service has any more, too.
// Connections of TCP are for Drain and Ensure.
func (s *Services) forget() error {
	for _, changes := range s.pending {
		s.sessions.note(changes, time.Now())
	}
	flows := staleFlows(s.pending)
	if !s.begun {
		flows.services = s.builder.layout.services
	}
	if err := flows.forget(); err != nil {
		return err
	}
	s.pending, s.begun = nil, true
	return nil
}

// open finds the iptables programs and, unless that is known, what our chains hold
// and which jumps there are.
func (s *Services) open(ctx context.Context) (jumps map[string][]string, err error) {
	if s.k == nil {
		k, err := openKernel()
		if err != nil {
			return nil, err
		}
		if err := k.diagnose(ctx); err != nil {
			return nil, err
		}
		s.k = k
	}
	if s.have == nil {
		s.known = false
		s.have, jumps, err = s.k.read(ctx)
	}
	return jumps, err
}

// layout is what the view, and this machine, say besides services.
func (s *Services) layout(ctx context.Context, v *object.NetworkView) (layout, error) {
	l := layout{node: s.Node, own: s.Range.Masked()}
	l.pods, _ = object.Prefix(v.Network.Spec.Pods)
	l.services, _ = object.Prefix(v.Network.Spec.Services)
	if i, ok := slices.BinarySearchFunc(v.Nodes, s.Node, func(n *object.Node, name string) int { return strings.Compare(n.Name, name) }); ok {
		for _, text := range []string{v.Nodes[i].Spec.PodRange, v.Nodes[i].Status.PodRange} { // the latter is in force
			if own, ok := object.Prefix(text); ok {
				l.own = own
			}
		}
	}
	var err error
	for _, svc := range v.Services {
		if svc.Spec.Affinity == "client_ip" && !l.lacks.affinity {
			ok, e := s.k.supports(ctx, "-m recent --set --name BERTH-TRY --mask 255.255.255.255 --rsource")
			l.lacks.affinity, err = !ok, errors.Join(err, e)
		}
		for i := range svc.Spec.Ports {
			if svc.Spec.Ports[i].Protocol == "sctp" && !l.lacks.sctp {
				ok, e := s.k.supports(ctx, "-p sctp -m sctp --dport 1 -j DNAT --to-destination 192.0.2.1:1")
				l.lacks.sctp, err = !ok, errors.Join(err, e)
			}
		}
	}
	return l, err
}

// put writes what of s.want is not there.
func (s *Services) put(ctx context.Context) error {
	script, written := s.have.script(s.want)
	if len(script) == 0 {
		s.have = s.want
		return nil
	}
	before, counted := s.k.generation()
	err := s.k.write(ctx, script)
	if err != nil && ctx.Err() == nil && s.keep() {
		// Perhaps a rule that is not ours leads to a chain that is no longer wanted. Then
		// the chain stays, empty.
		script, _ = s.have.script(s.want)
		refusal := err
		if err = s.k.write(ctx, script); err == nil {
			s.log().Warn("chains of services that are gone cannot be removed; does a rule of somebody else lead to them?", "chains", s.kept, "error", refusal)
		}
	}
	if err != nil {
		s.have, s.kept = nil, nil
		return fmt.Errorf("rules of services: %w", err)
	}
	s.have = s.want
	// Each table is one change. If no more have been counted, nobody else has been
	// at the rules since all was found right.
	after, _ := s.k.generation()
	s.known = s.known && counted && before == s.verified && after == before+uint32(bytes.Count(script, []byte("COMMIT\n")))
	s.verified = after
	s.log().Debug("rules of services", "chains", len(written))
	return nil
}

// keep wants those of our chains that are not wanted to stay, without rules.
func (s *Services) keep() bool {
	n := len(s.kept)
	for table, chains := range s.have {
		for name := range chains {
			if _, ok := s.want[table][name]; !ok {
				s.want[table][name] = nil
				s.kept = append(s.kept, name)
			}
		}
	}
	return len(s.kept) > n
}

// lead puts the jumps into our chains where they are missing, and says which.
func (s *Services) lead(have map[string][]string) (mended []string, err error) {
	for _, j := range serviceJumps {
		line := "-A " + j.chain + " " + strings.Join(j.spec, " ")
		at := slices.Index(have[j.table], line)
		// What lets the pods' packets pass would let those for nobody pass, too.
		late := at >= 0 && slices.ContainsFunc(have[j.table][:at], func(other string) bool {
			return strings.HasPrefix(other, "-A "+j.chain+" ") && strings.HasSuffix(other, "-j "+chainForward)
		})
		if at >= 0 && !late {
			continue
		}
		s.known = false
		if late {
			if err := s.k.t.Delete(j.table, j.chain, j.spec...); err != nil {
				return mended, fmt.Errorf("iptables: %s %s: %w", j.table, j.chain, err)
			}
		}
		if err := s.k.t.Insert(j.table, j.chain, 1, j.spec...); err != nil {
			return mended, fmt.Errorf("iptables: %s %s: %w", j.table, j.chain, err)
		}
		if !late {
			mended = append(mended, fmt.Sprintf("the rule of %s %s that leads to the services was gone", j.table, j.chain))
		}
	}
	return mended, nil
}

// Ensure repairs rules that somebody else has changed, and settings of the machine.
// While nobody changes a rule it costs one question to the kernel (with the legacy
// backend: a reading of the tables); when rules do change, a tenth of the time at most.
//
// It also ends connections to pods that are gone, by one pass over all that the kernel
// knows, if there are such pods. Nobody waits for that, so Apply does not do it.
func (s *Services) Ensure(ctx context.Context) ([]string, error) {
	mended, err := s.repair(ctx)
	s.mu.Lock()
	k := s.sessions.next(time.Now(), true, s.builder.layout, s.builder.memo)
	s.mu.Unlock()
	if k != nil { // Drain may be at it, too; Apply is not, by contract
		err = errors.Join(err, s.look(k))
	}
	return mended, err
}

func (s *Services) repair(ctx context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.want == nil {
		return nil, nil
	}
	mended, problems := s.machine()
	s.report(append(problems, s.builder.problems...))
	at, counted := s.k.generation()
	if counted && s.known && at == s.verified || s.have != nil && time.Since(s.looked) < s.rest {
		return mended, nil
	}
	began := time.Now()
	have, jumps, err := s.k.read(ctx)
	if err != nil {
		return mended, err
	}
	s.looked = time.Now()
	s.rest = min(10*s.looked.Sub(began), restMax)
	s.printed.undo(have, s.want)
	s.have = have
	if _, wrong := have.script(s.want); len(wrong) > 0 {
		if err := s.put(ctx); err != nil {
			return mended, err
		}
		again, _, err := s.k.read(ctx)
		if err != nil {
			return mended, err
		}
		s.printed = notPrints(again, s.want)
		wrong = slices.DeleteFunc(wrong, func(chain string) bool {
			return slices.ContainsFunc(tables, func(t string) bool {
				before, there := have[t][chain]
				after, still := again[t][chain]
				return there && still && sameRules(before, after)
			})
		})
		if len(wrong) > 0 {
			mended = append(mended, s.describe(wrong))
		}
	}
	s.known, s.verified = counted, at
	led, err := s.lead(jumps)
	mended = append(mended, led...)
	if len(mended) > 0 {
		s.known = false // looked at once more: somebody is at work
	}
	return mended, err
}

// prints are the rules of chains as this version of iptables prints them, where its
// words are not ours.
type prints map[string]struct{ written, printed []string }

// notPrints are the differences right after writing.
func notPrints(have, want ruleSet) prints {
	p := prints{}
	for table := range want {
		for chain, rules := range want[table] {
			if !sameRules(have[table][chain], rules) {
				p[chain] = struct{ written, printed []string }{rules, have[table][chain]}
			}
		}
	}
	return p
}

// undo replaces the words of iptables by ours.
func (p prints) undo(have, want ruleSet) {
	for chain, words := range p {
		for table := range have {
			if rules, ok := have[table][chain]; ok && sameRules(rules, words.printed) && sameRules(want[table][chain], words.written) {
				have[table][chain] = words.written
			}
		}
	}
}

// describe tells whose chains had to be written anew.
func (s *Services) describe(chains []string) string {
	whose := map[string]string{}
	for _, m := range s.builder.memo {
		for chain := range m.part.chains {
			whose[chain] = m.svc.Namespace + "/" + m.svc.Name
		}
	}
	var names []string
	for _, c := range chains {
		if svc := whose[c]; svc != "" {
			c = "service " + svc
		}
		if !slices.Contains(names, c) {
			names = append(names, c)
		}
	}
	more := ""
	if n := len(names) - 3; n > 0 {
		names, more = names[:3], fmt.Sprintf(" and %d more", n)
	}
	return "somebody else had changed the iptables rules of " + strings.Join(names, ", ") + more
}

// Problems are what keeps services from working as they should on this node, each
// in words: a protocol that the kernel cannot forward, a port that two services claim.
func (s *Services) Problems() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.problems)
}

func (s *Services) report(problems []string) {
	for _, p := range problems {
		if !slices.Contains(s.problems, p) {
			s.log().Warn("services", "problem", p)
		}
	}
	s.problems = slices.Clone(problems)
}

func (s *Services) log() *slog.Logger {
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	return s.Logger
}

// Purge removes our chains, the jumps into them, and the route.
func (s *Services) Purge() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, err := openKernel()
	if err != nil {
		return err
	}
	ctx := context.Background()
	have, _, err := k.read(ctx)
	if err != nil {
		return err
	}
	for _, j := range slices.Backward(serviceJumps) {
		if _, ok := have[j.table][j.spec[len(j.spec)-1]]; !ok {
			continue // no chain, so no jump
		}
		for {
			if ok, err := k.t.Exists(j.table, j.chain, j.spec...); err != nil || !ok {
				break
			}
			if err := k.t.Delete(j.table, j.chain, j.spec...); err != nil {
				return fmt.Errorf("iptables: %s %s: %w", j.table, j.chain, err)
			}
		}
	}
	if script, _ := have.script(newRuleSet()); len(script) > 0 {
		if err := k.write(ctx, script); err != nil {
			return fmt.Errorf("removing the rules of services: %w", err)
		}
	}
	s.k, s.have, s.want, s.kept, s.printed, s.builder = nil, nil, nil, nil, nil, builder{}
	s.pending, s.begun, s.sessions = nil, false, sessions{}
	s.known, s.settled, s.routed, s.rest = false, nil, false, 0
	return removeServiceRoutes()
}
